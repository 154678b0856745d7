"""Pure: every kill for lack of memory, whoever made it, told once and joined with what is known.

The kernel log's reports become oom.kill; what the kernel counted and no line tells becomes
oom.unattributed; what others did kill.other. Remembers kills, and how far the counter is told.
Gives each event without the part that only the engine knows (its host, the boot that runs).
"""

import heapq
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from watchdog import procfs, words
from watchdog.facts import (
    COMM,
    PID,
    UNIT,
    CgroupKills,
    Earlier,
    Group,
    Host,
    KernelLine,
    LogState,
    Look,
    Looked,
    PastKill,
)  # fmt: skip
from watchdog.history.world import TICKS_PER_S, Gone, World
from watchdog.judge.attribution import GRACE_S, Balance, CgroupCounts
from watchdog.judge.diagnosis import identity, oom_kill_event
from watchdog.judge.others import Others
from watchdog.judge.past import (
    GROWERS_MAX,
    KILLS_MAX,
    NOTHING,
    Grower,
    Kill,
    Past,
    grower_of,
    growth_of,
    leak_of,
)
from watchdog.judge.places import place
from watchdog.judge.telling import Telling
from watchdog.oom_report.stream import Stream

if TYPE_CHECKING:
    from watchdog.oom_report.report import Report

FORGED = {
    "facility": "a program wrote this record into the kernel log; it is no kill of the kernel's",
    "place": "the text stands inside another record of the kernel's, a name that somebody gave",
}
# An hour is longer than any rule looks back at an OOM kill.
REMEMBERED_S = 3600.0
PAST_KILLS_MAX = 64
# Lines come within a second; only then is a rise worth a look at all cgroups, every 10 s at most.
LOOK_AFTER_S = 1.5
LOOK_EVERY_S = 10.0
# A journal that is read for longer than this is not waited for.
CATCH_UP_S = 60.0
VANISHED_MAX = 10
# Who grew much is large: the growth of so many of the largest is looked at, not of thousands.
GROWERS_LOOKED_AT = 64


class Kills:
    """One for each boot of a machine, like the engine."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.oom = Stream()
        self.balance = Balance()
        self.counts = CgroupCounts()
        self.others = Others()
        self.past: deque[PastKill] = deque(maxlen=PAST_KILLS_MAX)
        self.oom_killed: dict[str, float] = {}  # "unit:NAME" or "pid:start" -> when (our now)
        self.boot_id: str | None = None
        self._again: dict[str, int] = {}
        self._unproven: list[tuple[float, Mapping[str, Any]]] = []
        self._log = LogState(0.0, None, "live")
        self._census_up: deque[float] = deque(maxlen=16)
        self._looked_up: float | None = None
        self._asked_up: float | None = None

    # ---- facts -------------------------------------------------------------------------------

    def earlier(self, fact: Earlier) -> None:
        """What the runs before this one have told."""
        self.past.extend(fact.kills)
        self._again = dict(fact.again)
        if fact.counted is not None:
            self.balance.take(fact.counted)

    def log(self, fact: LogState) -> None:
        """How the kernel log is read from now on."""
        self._log = fact

    def line(self, line: KernelLine) -> list[Telling]:
        """A record of the kernel log."""
        return self._reports(self.oom.feed(line))

    def tick(self, t: float, up: float | None) -> list[Telling]:
        """Time has passed: what is over by quiet is told."""
        return self._reports(self.oom.tick(t, up, self._log.state in ("late", "catching up")))

    def flush(self) -> list[Telling]:
        """No more lines come: tell the report that is still open."""
        return self._reports(self.oom.flush())

    def settle(self) -> list[Telling]:
        """The daemon stops: tell the report whose kill line was seen."""
        return self._reports(self.oom.settle())

    def host(self, host: Host) -> list[Telling | Look]:
        """A reading of the machine, and of the kernel's own count of its kills."""
        now = host.t if host.up is None else host.up
        self.others.reading(host)
        if host.oom_kill is not None:
            self.balance.reading(host.oom_kill, host.t, host.up, host.boot_id)
            self._prove()
        out: list[Telling | Look] = [*self.tick(host.t, host.up)]
        if host.oom_kill is None:
            return [*out, *self.others.ask(now, self.balance.owed)]
        if not self.balance.owed and self.oom.idle:
            self.counts.clear()
        out += [*self._uncounted(host, now), *self._look(host.t, now)]
        return [*out, *self.others.ask(now, self.balance.owed)]

    def group(self, group: Group, before: Group | None) -> None:
        """A memory cgroup, and what it was when last read."""
        if group.cgroup is not None and group.events:
            self.counts.group(group.cgroup, group.events)
        self.others.group(group, before)

    def scanned(self, found: CgroupKills) -> None:
        """Every cgroup's own count of kills."""
        self.counts.scan(found)
        self._looked_up = found.t if found.up is None else found.up

    def census(self, gone: Iterable[Gone], t: float, up: float | None) -> list[Telling | Look]:
        """After each census: who is not there any more."""
        now = t if up is None else up
        gone = list(gone)
        self._census_up.append(now)
        self.others.vanished(gone, now)
        told = self.others.marked(gone, t, up)
        return [*told, *self.others.ask(now, self.balance.owed)]

    def looked(self, fact: Looked) -> list[Telling]:
        """The answer to a look."""
        return self.others.answered(fact)

    def ours(self, pid: int, now: float) -> None:
        """We killed it ourselves, and said so."""
        self.others.explained(pid, now)

    def forget(self, now: float) -> None:
        """Drop what is too old to matter."""
        recent = {key: at for key, at in self.oom_killed.items() if now - at < REMEMBERED_S}
        self.oom_killed = recent
        self.counts.forget(self.world.groups)

    # ---- reports -----------------------------------------------------------------------------

    def _reports(self, reports: "Iterable[Report]") -> list[Telling]:
        out = [self._report(report) for report in reports]
        for forged in self.oom.forged():
            name = str(forged.usec) if forged.usec is not None else f"{forged.t:.3f}"
            body = {"why": forged.why, "text": forged.text}
            because = (FORGED.get(forged.why, forged.why),)
            out.append(Telling("oom.forged", name, forged.t, forged.up, because, body))
        return out

    def _report(self, report: "Report") -> Telling:
        ours = report.boot_id is None or report.boot_id == self.boot_id
        past = self._past(report) if ours else NOTHING
        body, because, name = oom_kill_event(report, past)
        killed = int(report.victim is not None) + len(report.also_killed)
        cause, by = None, "kernel" if killed else None
        settled: list[str] = []
        if ours:
            known = self.world.known(report.victim.process, report.up) if report.victim else None
            cause = known[1].event if known else None
            now = report.t if report.up is None else report.up
            for pid in (one["pid"] for one in (body, *body["also_killed"]) if one["pid"]):
                self.others.explained(pid, now)
            # What an earlier run has told is not counted a second time.
            fresh = max(0, killed - self._again.pop(name, 0))
            proven = self.balance.covers(fresh, report.t, report.up)
            settled = self.balance.line(fresh, report.t, report.up)
            self.counts.line(report.task_cgroup, fresh)
            self._remember(report, body, name, killed)
            if settled or proven:
                self._killed(body, now)
            elif proven is None and (self.balance.read_up is None or self.balance.read_up < now):
                self._unproven.append((now, body))
                del self._unproven[:-PAST_KILLS_MAX]
            elif killed and proven is False:
                by = "unknown"
                because = (*because, "the kernel's own count of kills did not rise with it")
        if settled:
            because = (*because, f"this settles {settled[0]}: its line came late")
        body = {**body, "killed_by": by, "settles": settled[0] if settled else None}
        return Telling("oom.kill", name, report.t, report.up, because, body, cause, report.boot_id)

    def _prove(self) -> None:
        """The counter was read after lines whose kills it could not confirm so far."""
        waiting, self._unproven = self._unproven, []
        if self.balance.agreed:
            for at, body in waiting:
                self._killed(body, at)

    def _killed(self, body: Mapping[str, Any], now: float) -> None:
        """A kill that policies may act on: line, counter, and a process of our own census."""
        if body.get("start") is None:
            return
        if body.get("unit"):
            self.oom_killed[f"unit:{body['unit']}"] = now
        self.oom_killed[f"{body['pid']}:{body['start']}"] = now

    def _remember(self, report: "Report", body: Mapping[str, Any], name: str, killed: int) -> None:
        victim = report.victim
        if victim is None or any(one.identity == name for one in self.past):
            return
        parts = [part for part in (victim.anon, victim.shmem, victim.swap) if part is not None]
        start, up = body.get("start"), report.up
        lived = None if start is None or up is None else max(0.0, up - start / TICKS_PER_S)
        self.past.append(PastKill(
            report.t, report.boot_id or self.boot_id, name, killed, victim.pid, victim.comm,
            body.get("exe"), body.get("uid"), body.get("unit"), sum(parts) if parts else None,
            body.get("limit_bytes"), None if lived is None else round(lived, 1), report.cgroup,
        ))  # fmt: skip

    # ---- what is known of the dead -----------------------------------------------------------

    def _past(self, report: "Report") -> Past:
        """What is known of the dead, of the tasks beside it, and of the dead before it."""
        world = self.world
        found = world.known(report.victim.process, report.up) if report.victim else None
        entity, trend = found or (None, None)
        unit = world.unit_trends.get(entity.unit) if entity and entity.unit else None
        units = {}
        for row in report.rows:
            known = world.entity_of_pid(row.pid if row.tgid is None else row.tgid)
            if known is not None and known.unit:
                units[row.pid] = known.unit
        return Past(
            entity, growth_of(trend) if trend else None, leak_of(trend) if trend else None,
            growth_of(unit) if unit else None, leak_of(unit) if unit else None,
            tuple(self._growers(report)), tuple(self._kills_of(report)), units, world.since_t,
        )  # fmt: skip

    def _growers(self, report: "Report") -> list[Grower]:
        """Who grew most in the memory that ran out, the victim too."""
        world = self.world
        top = report.cgroup if report.scope == "memcg" else None
        found: list[Grower | None] = []
        largest = heapq.nlargest(
            GROWERS_LOOKED_AT, world.present, key=lambda one: (one.kib, one.ident)
        )
        for one in largest:
            who, row = one.who, one.row
            if _below(who.cgroup if who else None, top):
                found.append(grower_of(one, row[COMM] or "?", row[PID], row[UNIT]))
        for pid, gone in world.gone.items():
            if pid not in world.present.by_pid and report.victim and pid == report.victim.process:
                found.append(grower_of(gone.trend, gone.entity.comm or "?", pid, gone.entity.unit))
        for group in world.groups.values():
            own = world.unit_trends.get(group.unit or "")
            if group.unit and own is not None and _below(group.cgroup, top):
                found.append(grower_of(own, group.unit, None, group.unit))
        growers = [one for one in found if one is not None]
        growers.sort(key=lambda one: (-one.grew_bytes, one.name, one.pid or 0))
        return growers[:GROWERS_MAX]

    def _kills_of(self, report: "Report") -> list[Kill]:
        """Earlier OOM kills of the same unit, else of the same program."""
        victim = report.victim
        if victim is None:
            return []
        known = self.world.entity_of_pid(victim.process, report.up)
        unit, exe = (known.unit, known.exe) if known else (None, None)
        itself = identity(report)
        same = [
            one for one in self.past
            if one.t < report.t and one.identity != itself and (
                one.unit == unit if unit is not None
                # an interpreter runs many a program: the name and the limit must agree as well
                else one.unit is None and (one.comm, one.uid) == (victim.comm, victim.uid)
                and (one.exe == exe or None in (one.exe, exe))
                and _owner(one.cgroup) == _owner(report.cgroup)
            )
        ]  # fmt: skip
        return [
            Kill(one.t, one.pid, one.comm, one.size_bytes, one.limit_bytes, one.lived_s)
            for one in sorted(same, key=lambda one: one.t)[-KILLS_MAX:]
        ]

    # ---- what no line tells ------------------------------------------------------------------

    def _look(self, t: float, now: float) -> list[Look]:
        """Ask for all cgroups' counts, and for who vanished, soon after a rise without a line."""
        oldest = self.balance.oldest()
        if oldest is None or now - oldest < LOOK_AFTER_S or self._waits(now):
            return []
        if self._looked_up is not None and self._looked_up >= (self.balance.newest() or now):
            return []
        if self._asked_up is not None and now - self._asked_up < LOOK_EVERY_S:
            return []
        self._asked_up = now
        return [Look(f"counts-{now:.3f}", "counts", t)]

    def _waits(self, now: float) -> bool:
        """Lines of before are still being read."""
        since = self._log.t if self._log.up is None else self._log.up
        return self._log.state == "catching up" and now - since < CATCH_UP_S

    def _uncounted(self, host: Host, now: float) -> list[Telling]:
        """The kernel's own counter proves that no kill was missed, or tells that one was."""
        count = 0 if self._waits(now) else self.balance.due(now, self._looked_up)
        count -= self.oom.awaited  # the line of each is on its way
        if count <= 0:
            return []
        cgroups = self.counts.unexplained()
        since = self._census_before(self.balance.oldest() or now)
        vanished = [
            one for one in self.world.gone.values()
            if (since is None or one.up > since) and not self.others.is_explained(one, now)
        ]  # fmt: skip
        # Of a cgroup that counted one before any other; then told with the largest first.
        near = {one.entity.pid for one in vanished if any(_below(one.cgroup, f.cgroup)
                                                          for f in cgroups)}  # fmt: skip
        vanished.sort(key=lambda one: (one.entity.pid not in near, -one.resident_bytes))
        likeliest = vanished[0] if vanished else None
        vanished = sorted(vanished[:VANISHED_MAX], key=lambda one: -one.resident_bytes)
        body = {
            "count": count,
            "counter": host.oom_kill,
            "killed_by": "kernel",
            "cgroups": [
                {"cgroup": one.cgroup, "unit": procfs.place(one.cgroup).unit, "count": one.kills,
                 "below": one.below}
                for one in cgroups
            ],
            "vanished": [
                {"pid": one.entity.pid, "comm": one.entity.comm, "unit": one.entity.unit,
                 "cgroup": one.cgroup, "resident_bytes": one.resident_bytes}
                for one in vanished
            ],
        }  # fmt: skip
        because = [
            f"the kernel counted {words.count(count, 'OOM kill')} for which the kernel log held "
            f"no line within {words.duration(GRACE_S)}"
        ]
        if self._log.state == "off":
            because.append(f"the kernel log is not read: {self._log.why or 'no source'}")
        for found in cgroups[:3]:
            place = f"a cgroup below {found.cgroup} that is gone" if found.below else found.cgroup
            because.append(f"{place} counted {words.count(found.kills, 'kill')}")
        if likeliest is not None:
            first, size = likeliest.entity, words.size(likeliest.resident_bytes)
            because.append(
                f"{first.comm} (pid {first.pid}, {size}) vanished meanwhile: it may be it"
            )
        name = str(self.balance.after(count))
        event_id = f"oom.unattributed-{(self.boot_id or 'unknown')[:8]}-{name}"
        self.balance.told(count, event_id, host.t, host.up)
        self.others.unattributed([one.entity.pid for one in vanished], now)
        return [Telling("oom.unattributed", name, host.t, host.up, tuple(because), body)]

    def _census_before(self, up: float) -> float | None:
        """When everybody was last counted before that."""
        return max((one for one in self._census_up if one < up - LOOK_AFTER_S), default=None)


def _owner(cgroup: str | None) -> str | None:
    """Whose limit: in a pod containers come and go, and the pod stays."""
    return None if cgroup is None else place(cgroup).pod or cgroup


def _below(cgroup: str | None, top: str | None) -> bool:
    return top is None or (cgroup is not None and f"{cgroup}/".startswith(f"{top.rstrip('/')}/"))

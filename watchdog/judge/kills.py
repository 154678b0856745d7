"""Pure: the kernel log's reports and the kernel's counter, joined with what is known of the dead.

Holds the assembler, and what has to be remembered of kills. Gives each event without the part that
only the engine knows (its host, and the boot where it is the one that runs).
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from watchdog import words
from watchdog.facts import Host, KernelLine
from watchdog.history.world import World
from watchdog.judge.attribution import GRACE_S, KillCount
from watchdog.judge.diagnosis import oom_kill_event
from watchdog.judge.past import NOTHING, Past, growth_of, leak_of
from watchdog.oom_report.assemble import Assembler, Report

FORGED = {
    "facility": "a program wrote this record into the kernel log; it is no kill of the kernel's",
    "place": "the text stands inside another record of the kernel's, a name that somebody gave",
}
# An hour is longer than any rule looks back at an OOM kill.
REMEMBERED_S = 3600.0


class Telling(NamedTuple):
    """An event to be told. ``boot_id`` only where it is of another boot than the running one."""

    kind: str
    identity: str
    t: float
    up: float | None
    because: tuple[str, ...]
    body: Mapping[str, Any]
    cause: str | None = None
    boot_id: str | None = None


class Kills:
    """One for each boot of a machine, like the engine."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.oom = Assembler()
        self.counted = KillCount()
        self.oom_killed: dict[str, float] = {}  # "unit:NAME" or "pid:start" -> when (our now)

    def line(self, line: KernelLine, boot_id: str | None) -> list[Telling]:
        """A record of the kernel log; `boot_id` is the boot that runs."""
        return self._reports(self.oom.feed(line), boot_id)

    def tick(self, t: float, up: float | None, boot_id: str | None) -> list[Telling]:
        """Time has passed: what is over by quiet is told."""
        return self._reports(self.oom.tick(t, up), boot_id)

    def flush(self, boot_id: str | None) -> list[Telling]:
        """No more lines come: tell the report that is still open."""
        return self._reports(self.oom.flush(), boot_id)

    def settle(self, boot_id: str | None) -> list[Telling]:
        """The daemon stops: tell the report whose kill line was seen."""
        return self._reports(self.oom.settle(), boot_id)

    def counter(self, host: Host) -> list[Telling]:
        """The kernel's own counter proves that no kill was missed, or tells that one was."""
        if host.oom_kill is None:
            return []
        missed = self.counted.counter(host.oom_kill, host.t if host.up is None else host.up)
        if not missed:
            return []
        because = (
            f"the kernel counted {words.count(missed, 'OOM kill')} for which the kernel log held "
            f"no line within {words.duration(GRACE_S)}",
        )
        body = {"count": missed, "counter": host.oom_kill}
        return [
            Telling("oom.unattributed", str(host.oom_kill), host.t, host.up, because, body)
        ]  # fmt: skip

    def forget(self, now: float) -> None:
        """Drop what is too old to matter."""
        recent = {key: at for key, at in self.oom_killed.items() if now - at < REMEMBERED_S}
        self.oom_killed = recent

    def _reports(self, reports: Iterable[Report], boot_id: str | None) -> list[Telling]:
        out: list[Telling] = []
        for report in reports:
            ours = report.boot_id is None or report.boot_id == boot_id
            past = self._past(report) if ours else NOTHING
            body, because, identity = oom_kill_event(report, past)
            cause = self._cause_of(body) if ours else None
            if ours:
                self.counted.line(report.kill_lines)
                self._remember(body, report.up if report.up is not None else report.t)
            out.append(
                Telling("oom.kill", identity, report.t, report.up, because, body, cause,
                        report.boot_id)
            )  # fmt: skip
        for forged in self.oom.forged():
            identity = str(forged.usec) if forged.usec is not None else f"{forged.t:.3f}"
            body = {"why": forged.why, "text": forged.text}
            because = (FORGED.get(forged.why, forged.why),)
            out.append(Telling("oom.forged", identity, forged.t, forged.up, because, body))
        return out

    def _past(self, report: Report) -> Past:
        """What is known of the dead, and of the tasks beside it."""
        world = self.world
        ident = world.by_pid.get(report.victim.pid) if report.victim else None
        trend = world.trends.get(ident) if ident else None
        entity = world.entity(ident) if ident else None
        unit = world.unit_trends.get(entity.unit) if entity and entity.unit else None
        units = {}
        for row in report.rows:
            known = world.entity_of_pid(row.pid)
            if known is not None and known.unit:
                units[row.pid] = known.unit
        return Past(
            entity, growth_of(trend) if trend else None, leak_of(trend) if trend else None,
            growth_of(unit) if unit else None, leak_of(unit) if unit else None, units=units,
        )  # fmt: skip

    def _cause_of(self, body: Mapping[str, Any]) -> str | None:
        ident = self.world.by_pid.get(body.get("pid") or -1)
        trend = self.world.trends.get(ident) if ident else None
        return trend.event if trend else None

    def _remember(self, body: Mapping[str, Any], now: float) -> None:
        if body.get("unit"):
            self.oom_killed[f"unit:{body['unit']}"] = now
        if body.get("start") is not None:
            self.oom_killed[f"{body['pid']}:{body['start']}"] = now

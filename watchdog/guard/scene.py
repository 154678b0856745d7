"""What outlives a time of shortage: the watcher's word, earlier looks, who was struck."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from watchdog import words
from watchdog.act.kill import kill, kill_unit, shielded
from watchdog.guard.entities import whole
from watchdog.guard.looks import Look, Shared, grown, loss
from watchdog.guard.namesakes import BACK_S, Namesakes
from watchdog.guard.spent import Spent
from watchdog.guard_facts import DossierRow, Host
from watchdog.judge.candidates import LOSS_LEAST, Candidate, Loss, groups_of, least_told
from watchdog.policy.guard_when import Pressure
from watchdog.policy.ladder import Ladder
from watchdog.sense.fast import TICKS, Eyes, Reading

LOOKS_MAX = 64  # this many of the largest are read closely, and as many from the dossier
STALE_S = 60.0
GLANCE_S = 5.0  # between two looks at everybody while memory is near the mark
# Who lived so long before the watcher's word was known to it: it looks for newcomers every 5 s.
KNOWN_S = 30.0
FILES_S = 60.0  # what tmpfs mounts have taken is compared with what they held so long before
TMPFS_MAX = 64  # readings kept; then every other one
SLAB_TOLD = 16 << 20
AFTER_END_S = 1.0  # by then most of what somebody held has come back who has ended
DOUBLE = 1.5  # the cache that MemAvailable counts makes them differ by a quarter

Told = Callable[[str, str, tuple[str, ...], dict[str, Any]], None]
# Of a unit: its cgroup's folder, the folder's inode, and why it is never ended as a whole.
Place = tuple[str, int, str | None]


class Scene:
    """What outlives an incident: the dossier, the earlier looks, the budget, who is ours.

    `ask` sends the watcher a wish, for when all is over: a program to be started.
    """

    def __init__(
        self, eyes: Eyes, pressure: Pressure, told: Told, spent: Spent | None = None
    ) -> None:
        self.eyes = eyes
        self.pressure = pressure
        self.told = told
        self.kill: Callable[..., tuple[str, str]] = kill
        self.kill_unit: Callable[..., tuple[str, str]] = kill_unit
        self.ask: Callable[[tuple[Any, ...]], bool] = lambda _: False
        self.dossier: dict[tuple[int, int], DossierRow] = {}
        self.machine: Mapping[str, Any] = {}  # see sense/places.py
        self.by_pid: dict[int, DossierRow] = {}
        self.spared: Mapping[tuple[int, int], str] = {}  # who is protected, small ones too
        self.spared_whole = True
        self.namesakes = Namesakes(eyes)
        self.awaited = False  # the first word of a watcher that is being started
        self.shared = Shared()
        self.tmpfs: list[tuple[float, int]] = []  # (up, bytes that stay), where it moved
        self.dossier_up: float | None = None
        self.up = 0.0  # of the latest look or dossier
        self.history: bool | None = None
        self.ours: Collection[int] = ()
        self.units: Mapping[str, Place] = {}
        self.spent = spent or Spent(None, "", 0.0, 0.0)
        self.ladder = Ladder()
        self.earlier: Look | None = None
        self.recent: Look | None = None
        self.first: Look | None = None  # since memory is near the mark
        self.looks_from = 0.0  # up; see `ended`
        self.oom_kill: int | None = None
        self.shield: Callable[[int], str | None] = lambda pid: shielded(pid, eyes.root, self.ours)
        self.before_signal: Callable[[], None] = lambda: None
        self.enforcing: Callable[[], bool] = lambda: True

    def take_dossier(
        self, up: float, rows: Sequence[DossierRow], units: Mapping[str, Place] | None = None,
        shmem: int | None = None, history: bool | None = None,
    ) -> None:  # fmt: skip
        """The watcher's latest word on everybody who matters; `shmem` is the machine's then.

        `history`: see judge.blame.rank.
        """
        self.history = history
        sizes = {(row[0], row[1]): row[13] for row in rows if row[13]}
        self.shared = self.shared.then(shmem or 0, sizes)
        self.dossier = {(row[0], row[1]): row for row in rows}
        self.by_pid = {row[0]: row for row in rows}
        self.units = units or {}
        self.dossier_up = self.up = up
        self.namesakes.read()

    def take_spared(self, whole: bool, found: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        """Who is protected, by the reason; `whole`: all of them."""
        before = self.spared
        self.spared = {ident: why for why, idents in found.items() for ident in idents}
        self.namesakes.take(before, self.spared, self.up)
        self.spared_whole, self.awaited = whole, False

    def spares(self, pid: int, start: int, seen: Reading | None = None) -> str | None:
        """Why this process is protected, by the watcher's last word, or None.

        Who has no line in the dossier may be a fork of somebody who is protected, too young to be
        known. What runs another program is no fork: a container is a child of its runtime. Or it is
        a service that was started again, whose former process was protected.
        """
        row = self.dossier.get((pid, start))
        why = self.spared.get((pid, start)) or (row[7] if row else None)
        if why:
            return why
        seen = (seen or self.eyes.look(pid)) if self._new(start) else None
        if row is not None and (seen is None or seen.comm == row[2]):
            return None  # what the watcher saw, and not what it was before it ran its program
        if self.awaited:
            return "the watcher is being started and has not said yet who is protected"
        if not self.spared_whole:
            return "more are protected than could be told, and nothing is known of it"
        if seen is None:
            return None
        parent = self.eyes.look(seen.ppid) if seen.ppid > 2 else None
        if parent is not None:
            ident = parent.pid, parent.start
            why = self.spared.get(ident)
            if why and parent.comm == seen.comm:
                return f"it is a child of PID {parent.pid}: {why}"
            if not why and (ident in self.dossier or not self._new(parent.start)):
                return None  # the watcher knows who started it, and does not protect that one
        if self.up - (self.dossier_up or 0.0) > BACK_S:
            return None
        return self.namesakes.why(seen, self.spared, self.up)

    def _new(self, start: int) -> bool:
        """May it be too young for the watcher's last word?"""
        return start / TICKS >= (self.dossier_up or 0.0) - KNOWN_S

    def take_machine(self, up: float, machine: Mapping[str, Any]) -> None:
        """Where memory lies that no process owns."""
        self.machine = machine
        held = machine.get("stays", 0)
        if not self.tmpfs or self.tmpfs[-1][1] != held:
            self.tmpfs.append((up, held))
        if len(self.tmpfs) > TMPFS_MAX:
            del self.tmpfs[1:-1:2]

    def look(self, up: float, host: Host) -> Look:
        """At everybody, now."""
        self.up = up
        sizes = self.eyes.sizes()
        for pid in [pid for pid, size in sizes.items() if not size]:
            # Its main thread may have exited: the others hold what it has.
            del sizes[pid]
            seen = self.eyes.look(pid) if pid in self.by_pid else None
            if seen is not None and seen.start == self.by_pid[pid][1]:
                sizes[pid] = seen.private - seen.swap
        shared = {}
        for (pid, start), size in self.shared.now(host.shmem or 0).items():
            if self.eyes.start_of(pid) == start:
                shared[pid] = size
                sizes[pid] = sizes.get(pid, 0) + size
        files = max(0, (host.shmem or 0) - sum(shared.values()))
        free = host.swap_free or 0
        return Look(up, host.mem_available or 0, sizes, shared, files, host.slab or 0, free,
                    {} if free < (host.swap_total or 0) else None)  # fmt: skip

    def with_arc(self, host: Host) -> Host:
        """What the ARC of ZFS gives back under pressure is available, and not in MemAvailable.

        The watcher said how large it was, and may be stopped since. What it has given back by now
        is missing in the memory of which meminfo does not say who has it (`procfs.untold`), and it
        cannot be more than that: in a container that may be the ARC of the whole machine.
        """
        if "arc" not in self.machine:
            return host
        (size, least, then), now = self.machine["arc"], self.eyes.untold
        if host.mem_available is None or then is None or now is None:
            return host
        more = max(0, min(size - least - max(0, then - now), now))
        return host._replace(mem_available=host.mem_available + more)

    def unowned(self, now: Look | None = None) -> list[str]:
        """Where memory lies that no process owns, as far as it is known."""
        said = [
            f"tmpfs {mount} holds {words.size(used)}: its files go with nobody's end"
            for mount, used, _ in self.machine.get("tmpfs", ())
        ]
        if "sysv" in self.machine:
            said.append(
                f"System V segments hold {words.size(self.machine['sysv'])}: they stay until "
                "somebody removes them"
            )
        if now is not None and self.first is not None and self.first.slab:
            slab = now.slab - self.first.slab
            if slab >= SLAB_TOLD:
                said.append(f"the kernel's own slab took {words.size(slab)} meanwhile")
        return said

    def files(self, now: Look, before: Look | None) -> tuple[str, str]:
        """Sentences where more than half of what was lost went into files in memory, else "".

        They stay when everybody has ended, and what anybody's end gives back they may take next.
        The look before tells the first of them, or (where little was lost since) what was lost
        since the first look: so it holds once they have stopped to grow, and not where somebody
        else goes on. The second, of all since the first look, counts where no process does.
        """
        since = (now.up if self.first is None else self.first.up) - FILES_S
        while len(self.tmpfs) > 1 and self.tmpfs[1][0] <= since:
            del self.tmpfs[0]
        grown = self.tmpfs[-1][1] - self.tmpfs[0][1] if self.tmpfs else 0
        said = []
        for then in (before, self.first):
            if then is None or then.available - now.available < LOSS_LEAST:
                continue
            lost, filed = then.available - now.available, now.files - then.knowing(now).files
            took = filed * 2 > lost and grown * 4 >= filed
            said.append(
                f"of {words.size(lost)} lost in {words.duration(now.up - then.up)} files in "
                f"memory (tmpfs) took {words.size(min(lost, filed))}" if took else ""
            )  # fmt: skip
        return (said[0], said[-1]) if said else ("", "")

    def doubled(self, now: Look, before: Look | None) -> str:
        """A sentence where all together took clearly more than the machine lost, else ""."""
        for then in (before, self.first):
            lost = then.available - now.available if then is not None else 0
            if then is None or lost < LOSS_LEAST:
                continue
            known = then.knowing(now)
            took = sum(now.sizes.values()) - sum(known.sizes.values())
            # What files and the kernel gave back went to processes as well.
            given = max(0, known.files - now.files) + max(0, then.slab - now.slab)
            if took > DOUBLE * (lost + given):
                return (
                    f"the processes' figures rose by {words.size(took)} and the machine lost "
                    f"{words.size(lost)}: what forks share is counted more than once in them"
                )
        return ""

    def glance(self, up: float, host: Host, every_s: float) -> None:
        """Near the mark: remember how large everybody is, for the growth since."""
        killed, self.oom_kill = host.oom_kill != self.oom_kill, host.oom_kill
        if killed:
            self.killed(up, host)
        if up < self.looks_from:
            return
        if self.recent is None or up - self.recent.up >= every_s:
            self.earlier = self.recent
            self.recent = self.look(up, host)
            if self.recent.private is not None:
                seen = [self.eyes.look(pid) for pid in self._worth_reading(self.recent)]
                private = {one.pid: one.private for one in seen if one is not None}
                self.recent = self.recent._replace(private=private)
            if self.first is None:
                self.first = self.recent

    def killed(self, up: float, host: Host) -> None:
        """Somebody was, by the kernel: no look counts if more came back than was taken since.

        But at limits of their own containers may be killed, and give back, without end: after one
        of them there is time for looks that the next ones do not undo.
        """
        again = up >= self.looks_from + GLANCE_S
        if again and self.recent is not None and _there(host) > self.recent.there:
            self.ended(up)

    def ended(self, up: float) -> None:
        """Somebody has: what comes back hides what others take, so no look from before counts."""
        self.earlier = self.recent = None
        self.looks_from = up + AFTER_END_S

    def forget_looks(self) -> None:
        """Memory is plentiful: what was seen is of no use any more."""
        self.earlier = self.recent = self.first = None

    def reference(self, up: float, host: Host) -> Look | None:
        """The look to measure growth against.

        In the first minutes growth decides, so where too little was lost since a look it is that
        when memory came near the mark.
        """
        looks = [look for look in (self.earlier, self.recent) if look]
        found = next((look for look in looks if up - look.up <= 15.0), None)
        first, there = self.first, _there(host)
        if self.history is False and first is not None:
            available = host.mem_available or 0
            stalled = available >= self.pressure.begin_bytes  # see judge.blame.rank
            need = 0 if stalled else max(0, self.pressure.end_bytes - available)
            little = found is None or found.there - there < least_told(need)
            if little and first.there - there >= LOSS_LEAST:
                return first
        return found

    def _worth_reading(self, now: Look) -> Iterable[int]:
        """The largest, and whom the dossier blames."""
        largest = sorted(now.sizes, key=lambda pid: now.sizes[pid], reverse=True)[:LOOKS_MAX]
        blamed = sorted(
            (row for row in self.dossier.values() if row[5] or row[6]),
            key=lambda row: (row[6], row[5]), reverse=True,
        )[:LOOKS_MAX]  # fmt: skip
        return dict.fromkeys([*largest, *(row[0] for row in blamed)])

    def candidates(self, now: Look, before: Look | None) -> list[Candidate]:
        """The largest, and whom the dossier blames, each read afresh."""
        then = before.knowing(now) if before is not None else None
        found = []
        for pid in self._worth_reading(now):
            seen = self.eyes.look(pid)
            if seen is None:
                continue
            row = self.dossier.get((pid, seen.start))
            shared = now.shared.get(pid, 0) if row else 0
            one = Candidate(
                pid, seen.start, seen.comm, seen.uid, None, seen.private + shared,
                seen.frees + shared,
                grew=grown(seen.private, pid, seen.start / TICKS, now, then) if then else 0,
                protected=self.shield(pid) or self.spares(pid, seen.start, seen),
                seen=seen.private, shared=shared,
            ).with_dossier(row)  # fmt: skip
            parent = None if row else self._kin(seen)
            found.append(one if parent is None else self._joined(one, parent))
        return whole(found, self.dossier.values(), now.sizes, then.sizes if then else None,
                     lambda pid, start: self.eyes.start_of(pid) != start)  # fmt: skip

    def loss(self, now: Look, before: Look | None, found: list[Candidate]) -> Loss:
        """What the machine lost since the look before, and what everybody took of it."""
        if before is None:
            return Loss()
        own = {one.pid: one.use for one in found}
        pids: dict[str | None, list[int]] = {}
        for row in self.dossier.values():
            pids.setdefault(row[9], []).append(row[0])
        above = []
        for group in groups_of(found):
            everybody = (*group.members, *group.spared)
            # Of a newcomer whom nobody knows it is not known what he has proven.
            read = [one.pid for one in everybody if one.known or one.pid in before.sizes]
            above.append(({*read, *pids.get(everybody[0].entity, ())}, group.whole))
        return loss(now, before, own, above, lambda pid: self.eyes.start_of(pid) is not None)

    def account(self, now: Look, found: list[Candidate]) -> Loss:
        """The same since memory came near the mark: so it is held on when nothing is lost more."""
        return self.loss(now, self.first, found)

    def _kin(self, seen: Reading) -> DossierRow | None:
        """The row of a newcomer's parent, where both run the same program: a fork of it."""
        row = self.by_pid.get(seen.ppid)
        if row is None or row[2] != seen.comm or self.eyes.start_of(seen.ppid) != row[1]:
            return None
        return row

    def _joined(self, one: Candidate, parent: DossierRow) -> Candidate:
        """A fork belongs to its parent's entity, and what it began with is its parent's."""
        seen = self.eyes.look(parent[0])
        return one.without(seen.private if seen is not None else 0)._replace(
            unit=parent[3], protected=one.protected or parent[7], entity=parent[9],
            entity_proven=parent[10], entity_leak=parent[11], real=parent[12],
        )  # fmt: skip

    def dossier_age(self, up: float) -> str:
        """A sentence where the watcher's word is missing or old, else ""."""
        if self.dossier_up is None:
            return "the watcher has not been heard yet: judged by what is seen now"
        age = up - self.dossier_up
        return f"the watcher's last word is {words.duration(age)} old" if age > STALE_S else ""


def _there(host: Host) -> int:
    """What can still be had, in memory and swap."""
    return (host.mem_available or 0) + (host.swap_free or 0)

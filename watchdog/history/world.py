"""Pure: the machine as the facts so far tell it: who is there, how large, with what limit."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from watchdog.facts import (
    COMM,
    PID,
    RSS,
    SHARED,
    SHMEM,
    START,
    SWAP,
    UNIT,
    Entity,
    Group,
    Host,
    Ident,
    Row,
    Sweep,
    Who,
)  # fmt: skip
from watchdog.history import lives, sums
from watchdog.history.entities import NO_RING, STILL_CLOSES, Trend
from watchdog.history.lives import Program
from watchdog.history.present import Kind, Present, Process, Table
from watchdog.history.ring import MISSING, NOTHING, Closes, moment

# A line about a process may come so long after it was noticed to be gone. 128 x 3 KiB at the most.
GONE_S = 120.0
GONE_MAX = 128
TICKS_PER_S = 100  # USER_HZ: what /proc counts start times in, the same on every Linux


# So many have a history in full resolution, 3 KiB each; the rest the coarsest of it.
MOVING_MAX = 2000

# Who closed buckets, and at which levels.
Closed = tuple[Process, Closes]


def private_bytes(row: Row) -> int:
    """Anonymous memory and swap: what only this process's end gives back."""
    return max(0, row[RSS] - row[SHARED]) + (row[SWAP] or 0)


def placed(group: Group) -> Group:
    """One without a path (a trace need not tell it) is its unit's own, where `cgroup` looks."""
    if group.cgroup is not None or group.unit is None:
        return group
    return group._replace(cgroup=f"/{group.unit}")


def used_bytes(group: Group) -> int:
    """What a cgroup holds that reclaim cannot take away (page cache and slab can be reclaimed)."""
    return (group.anon or 0) + (group.shmem or 0) + (group.swap or 0) + (group.kernel or 0)


class Gone(NamedTuple):
    """A process that is not there any more: who it was, and its size when it was last seen.

    ``up`` is when it was noticed to be gone, ``seen_t`` and ``seen_up`` when it was last seen.
    """

    entity: Entity
    resident_bytes: int
    cgroup: str | None
    trend: Trend
    t: float
    up: float
    seen_t: float
    seen_up: float


def starts_over(trend: Trend, kib: int, renamed: bool) -> bool:
    """An exec starts over with little memory; a mere change of name does not."""
    fell = kib * (2 if renamed else 10) < trend.kib
    return fell and trend.stage == "none" and trend.kib > 4096


class World:
    """Facts in, the current state out; decides nothing."""

    def __init__(self) -> None:
        self.host: Host | None = None
        self.present = Present()
        self.rows: Mapping[Ident, Row] = Table(self.present, lambda one: one.row)
        self.trends: Mapping[Ident, Trend] = Table(self.present, lambda one: one)
        self.who: Mapping[Ident, Kind] = Table(self.present, lambda one: one.who)
        self.unit_trends: dict[str, Trend] = {}
        self.groups: dict[str, Group] = {}
        self.gone: dict[int, Gone] = {}  # by PID: of those who went just now the largest
        self.since_t: float | None = None  # when our history begins
        self.changed: list[Process] = []  # who holds another size than before, of the last sweep
        self.held: list[Process] = []  # of the last sweep: who has no rings, and was due for a look
        self.went: list[Process] = []  # who was forgotten since
        self.described: set[Process] = set()  # of whom something was told; emptied by who uses it
        self.shared: dict[Ident, int] = {}  # bytes of shared memory that go with them
        self._told: dict[Ident, Who] = {}  # who was described and not yet seen
        self.moving: set[Process] = set()  # whose trends have all rings; at most MOVING_MAX
        # Of a single level that closed a bucket only who rose by so much is told.
        self.least_kib = 0
        self.programs = lives.Programs()  # what their earlier lives did
        self.inherited = sums.Inherited()  # what children share with their parents

    def take_host(self, host: Host) -> None:
        self.host = host

    def take_who(self, who: Who) -> None:
        ident = (who.pid, who.start)
        process = self.present.get(ident)
        if process is None:
            self._told[ident] = who
            return
        known = process.who
        if known is None:  # the guard saw it before the watcher did
            self.present.describe(process, who)
            self._begun(process, who.t)
        elif who.exe != known.exe is not None:
            self.inherited.another(ident)
            if process.stage == "none":
                process.restart(who.t, _now(who))
        self.described.add(process)
        self.present.describe(process, who)

    def take_shared(self, shared: dict[Ident, int]) -> None:
        """What everybody has from now on; nobody else has any."""
        moved = (self.present.get(ident) for ident, _ in shared.items() ^ self.shared.items())
        self.described.update(process for process in moved if process is not None)
        self.shared = shared

    def take_group(self, group: Group) -> Closes:
        """Take a cgroup; the levels at which its unit's trend closed a bucket."""
        if group.cgroup is not None:
            self.groups[group.cgroup] = group
        if group.unit is None:
            return NOTHING
        return self._unit(group.unit, group.t, _now(group), used_bytes(group))

    def _unit(self, unit: str, t: float, now: float, size: int) -> Closes:
        trend = self.unit_trends.get(unit)
        if trend is None:
            trend = self.unit_trends[unit] = Trend(t, now)
        return trend.add(t, now, size >> 10)

    def add_up(self, t: float, up: float | None) -> Iterator[tuple[Group, Closes]]:
        """After a census: each unit of several processes that no cgroup tells of, as if one did.

        One process is its unit's sum, and is judged itself.
        """
        told = frozenset(group.unit for group in self.groups.values() if group.unit)
        for one in sums.sums(self.present, self.inherited, told):
            if one.members > 1 or one.unit in self.unit_trends:
                now = t if up is None else up
                closed = self._unit(one.unit, t, now, one.private + one.shmem)
                yield Group(t, up, one.unit, None, anon=one.private, shmem=one.shmem), closed

    def cgroup(self, ident: Ident) -> str | None:
        """The cgroup of a process: its own, or (where that was not told) its unit's."""
        who, row = self.who.get(ident), self.rows.get(ident)
        if who is not None and who.cgroup is not None:
            return who.cgroup
        unit = row[UNIT] if row is not None else None
        return f"/{unit}" if unit is not None else None

    def take_sweep(self, sweep: Sweep) -> tuple[list[Closed], list[Ident]]:
        """Take rows: (who closed buckets at which levels, who has gone since the last census)."""
        now = _now(sweep)
        if self.since_t is None:
            self.since_t = sweep.t
        t, at, least = sweep.t, moment(now), self.least_kib
        census = sweep.census
        closed: list[Closed] = []
        by_pid = self.present.by_pid
        self.changed = changed = []
        self.held = held = []
        self.went = []
        for row in sweep.rows:  # the hottest lines of the house: a microsecond a sample in all
            pid, start, _, rss, shared, swap, unit, _ = row
            kib = rss - shared if rss > shared else 0
            kib = (kib + swap if swap else kib) >> 10
            process = by_pid.get(pid)
            if process is None or process.row[START] != start:
                process = self._another(row, t, now, kib)
            if kib + kib < process.kib:
                self._fallen(process, row, kib, t, now)
            if unit is None and not census and process.row[UNIT] is not None:
                row = (*row[:UNIT], process.row[UNIT], row[SHMEM])  # it is not told, not gone
            process.row = row
            if process.low <= kib <= process.high and now < process.wake:
                process.last_t, process.last_up = t, now
                if kib != process.kib:  # else it keeps the number that it has: 32 bytes
                    process.kib = kib
                    changed.append(process)
                continue
            kib = kib if kib < MISSING else MISSING - 1
            before, still = process.last_up, process.fine
            process.last_t, process.last_up = t, now
            if kib != process.kib:
                process.kib = kib
                changed.append(process)
            levels = process.move(at, kib, before)
            if still and not process.fine:
                self._moves(process)
            if levels is STILL_CLOSES and process.fine == NO_RING and not process.open:
                held.append(process)
            elif len(levels) > 1 or (levels and process.tells(levels[0], least)):
                closed.append((process, levels))
        gone: list[Ident] = []
        if census:
            gone = [process.ident for process in self.present if process.last_up != now]
            if not self._told:
                self._told = {}  # a table that was emptied one by one keeps its size
        return closed, gone

    def resume(self, process: Process, trend: Trend) -> None:
        """Go on with a trend of an earlier run."""
        if trend is not process:
            process.become(trend)
        if not process.fine:
            self._moves(process)

    def _moves(self, process: Process) -> None:
        """One more with all its rings. If these are too many, a tenth lets go of the finer ones."""
        self.moving.add(process)
        if len(self.moving) <= MOVING_MAX:
            return
        self.moving = {one for one in self.moving if not one.fine}
        if len(self.moving) <= MOVING_MAX:
            return
        calm = [one for one in self.moving if one.stage == "none" and one is not process]
        calm.sort(key=lambda one: (one.risen_kib(), one.ident))
        for one in calm[: MOVING_MAX // 10]:
            one.press()
            self.moving.discard(one)

    def _another(self, row: Row, t: float, now: float, kib: int) -> Process:
        """Not who has this PID now: a newcomer, or who had it before and is told of once more."""
        ident = (row[PID], row[START])
        known = self.present.get(ident)
        if known is not None:
            return known
        process = Process(t, now, row)
        told = self._told.pop(ident, None)
        if told is not None:
            self.present.describe(process, told)
        self.present.add(process)
        self.described.add(process)
        self._begun(process, t)
        if self.age_s(ident, now) > 300:
            # It lived before our history begins: what it holds has been carried so far.
            process.proven_kib = kib
        return process

    def _fallen(self, process: Process, row: Row, kib: int, t: float, now: float) -> None:
        """An exec starts over with little memory; a mere change of name does not."""
        if starts_over(process, kib, row[COMM] != process.row[COMM]):
            process.restart(t, now)
            self.inherited.another(process.ident)

    def program(self, ident: Ident) -> lives.Program:
        """The program that runs there (see `Process.program`)."""
        process = self.present.get(ident)
        return ("", "") if process is None else process.program()

    def lives(self, ident: Ident) -> lives.Lives:
        """What earlier lives of the program that runs there did."""
        return self.programs.of(*self.program(ident))

    def _begun(self, process: Process, t: float) -> None:
        who, row = process.who, process.row
        if who is None:
            return
        if who.build is not None:
            self.programs.build(process.program(), who.build, t)
        parent = self.present.by_pid.get(who.ppid or 0)
        if parent is None or parent.row[UNIT] != row[UNIT]:
            return
        # Outside of units (LXC, Docker's own cgroup driver) its cgroup says whom it belongs to.
        if row[UNIT] is None and parent.who is not None and parent.who.cgroup != who.cgroup:
            return
        if sums.same_program(who, parent.who):
            self.inherited.born(
                process.ident, private_bytes(row), parent.ident, private_bytes(parent.row)
            )

    def life_over(self, ident: Ident) -> bool:
        """A process is gone (call before `forget`): keep what its life was, if it is to be kept."""
        trend, who = self.trends.get(ident), self.who.get(ident)
        if trend is None or not self.serves(ident):
            return False
        return self.lived(self.program(ident), who.build if who else None, ident, trend)

    def lived(self, program: Program, build: str | None, ident: Ident, trend: Trend) -> bool:
        """Keep a life of that program; whether it is remembered."""
        age_s = self.age_s(ident, trend.last_up)
        if age_s < lives.LEAST_LIFE_S:
            return False
        birth_t, points = trend.last_t - age_s, lives.points(trend, age_s)
        return self.programs.ended(program, build, points, birth_t, trend.last_t)

    def serves(self, ident: Ident) -> bool:
        """A worker of its parent's program, or the first process of its service; not a job.

        Jobs, such as the parts of a build, follow each other as well, and each grows until it is
        done. Whose child they are tells them apart; where that is not known, being in a unit.
        """
        row, who = self.rows.get(ident), self.who.get(ident)
        if who is None or who.ppid is None:
            return row is not None and row[UNIT] is not None
        if who.ppid <= 1:
            return True
        parent = self.present.by_pid.get(who.ppid)
        above = parent.who if parent else None
        if above is None:
            return row is not None and row[UNIT] is not None
        return above.exe == who.exe or above.cgroup != who.cgroup

    def forget(self, ident: Ident, t: float, now: float) -> None:
        """A process is gone; for a while it is remembered, for what is said of its end."""
        row, who, trend = self.rows.get(ident), self.who.get(ident), self.trends.get(ident)
        if row is not None and trend is not None:
            cgroup = who.cgroup if who else None
            seen = (trend.last_t, trend.last_up)
            self.remember(Gone(self.entity(ident), row[RSS], cgroup, trend, t, now, *seen))
        self.shared.pop(ident, None)
        process = self.present.drop(ident)
        self.inherited.gone(ident)
        if process is not None:
            self.went.append(process)
            self.moving.discard(process)
            self.described.discard(process)

    def remember(self, gone: Gone) -> None:
        """Keep somebody who is gone for two minutes, and not more than GONE_MAX of them."""
        if gone.entity.pid is None:
            return
        old = [pid for pid, one in self.gone.items() if gone.up - one.up > GONE_S]
        for pid in old:
            del self.gone[pid]
        self.gone[gone.entity.pid] = gone
        if len(self.gone) > GONE_MAX:
            del self.gone[min(self.gone, key=lambda pid: self.gone[pid].resident_bytes)]

    def forget_groups(self, before: float) -> list[tuple[str, Trend]]:
        """Drop the cgroups not seen since `before` (our now); the units that went with them."""
        old = [path for path, group in self.groups.items() if _now(group) < before]
        for path in old:
            del self.groups[path]
        units = [
            (unit, trend) for unit, trend in self.unit_trends.items() if trend.last_up < before
        ]
        for unit, _ in units:
            del self.unit_trends[unit]
        return units

    def age_s(self, ident: Ident, now: float) -> float:
        """Seconds since the process was started; where boot time is unknown, since first sight."""
        host = self.host
        born = ident[1] / TICKS_PER_S
        if host is not None and host.up is not None:
            return max(0.0, now - born)
        if host is not None and host.btime is not None:
            return max(0.0, now - host.btime - born)
        trend = self.trends.get(ident)
        return now - trend.first_up if trend else 0.0

    def entity(self, ident: Ident) -> Entity:
        """Who that is, as far as it is known."""
        row, who = self.rows.get(ident), self.who.get(ident)
        return Entity(
            ident[0],
            ident[1],
            row[COMM] if row else None,
            who.exe if who else None,
            who.uid if who else None,
            row[UNIT] if row else None,
            who.inner if who else None,
            who.container if who else None,
        )

    def known(self, pid: int, up: float | None = None) -> tuple[Entity, Trend] | None:
        """Whoever has that PID, or had it lately; at `up`, where the number was used again."""
        process, gone = self.present.by_pid.get(pid), self.gone.get(pid)
        if process is not None and gone is not None and up is not None:
            process = process if process.row[START] / TICKS_PER_S <= up else None
        if process is not None:
            return self.entity(process.ident), process
        return (gone.entity, gone.trend) if gone is not None else None

    def entity_of_pid(self, pid: int, up: float | None = None) -> Entity | None:
        """See `known`."""
        found = self.known(pid, up)
        return found[0] if found else None


def _now(fact: Host | Sweep | Who | Group) -> float:
    return fact.t if fact.up is None else fact.up

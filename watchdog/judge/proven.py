"""Pure: the level that an entity has proven the machine can carry, and its excess over that.

Blame goes by the excess, so that a big healthy database has none, and neither has a service that
warms up, a saw at its height, a nightly job or what was restarted just now. A level is proven

    by holding   a window in which the floor grew at no more than 30 % of the mean rate at which it
                 has risen above what was proven: the window is a fifth of that rise's time, at
                 least a minute, and twice as long after each rise that was proven before
    by coming    it fell from a peak by a tenth or more: what lies between the peak and the trough
    back         has been carried, on top of that part of the trough which is proven

and only while the machine is healthy and no leak of it is suspected. So a straight line from
nothing never proves itself, at any speed; a plateau, a saw and a nightly job do; and of a saw on a
rising floor only its teeth count.

The entity is a system unit; in a login what lies below (user unit, or program of a user); without
a unit the process. A unit's level outlives its processes, restarts of the daemon and reboots.
"""

from array import array
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from watchdog.facts import PID, START, UNIT, Ident, Sweep
from watchdog.history.entities import Trend
from watchdog.history.ring import LEVELS, MISSING
from watchdog.history.world import World, private_bytes, used_bytes

ALLOWANCE = 1.05
HELD_LEAST_S, HELD_PART, HELD_RATE = 60.0, 0.20, 0.30
# A window that has to be longer than this would never end between two deployments.
HELD_MOST_S = 4 * 3600.0
FALL = 0.10
# What begins a rise above the proven level: noise and small change do not.
RISE, RISE_KIB = 1.02, 1024
# So old at our first sight, it lived before our history begins.
OLD_S = 300.0
KEPT_MAX = 512
KEPT_LEAST_KIB = 4096
KEPT_S = 31 * 86400.0
# Many users' programs share these units; they are no entity.
SHARED_UNITS = ("user@", "session-", "init.scope")
_MINUTES = next(i for i, level in enumerate(LEVELS) if level.name == "1 min")
_HELD_BUCKETS = 10


class Level:
    """What one entity has proven, in KiB, and the little that is needed to go on; O(1) a sample.

    ``kib`` is the proven level, ``held`` the part of it that was proven by holding, ``rises`` how
    often that rose; ``since`` is when the rise above that began, from ``base`` (None: none has).
    """

    __slots__ = (
        "base", "floor", "held", "kib", "last", "peak", "rises", "since", "t", "trough", "until",
        "window",
    )  # fmt: skip

    def __init__(self, kib: int = 0) -> None:
        self.kib = self.held = self.base = kib
        self.rises = 0
        self.since: float | None = None
        self.window = HELD_LEAST_S
        self.until: float | None = None  # the end of the window that is open
        self.floor = -1  # of the open window; -1: it may prove nothing
        self.last = -1  # floor of the window before it
        self.peak = 0
        self.trough = -1  # -1: it has not fallen from the peak
        self.t = 0.0  # Unix seconds, when it was last seen

    def step(self, up: float, kib: int, fit: bool) -> None:
        """Take a use. `fit`: the machine is healthy and no leak of this entity is suspected."""
        if not fit:
            self.until = self.since = None
            self.floor = self.last = self.trough = -1
            self.peak = 0
            return
        self._come_back(kib)
        self._hold(up, kib)

    def _come_back(self, kib: int) -> None:
        if self.trough < 0:
            self.peak = max(self.peak, kib)
            if kib <= (1 - FALL) * self.peak:
                self.trough = kib
        elif kib < self.trough:
            self.trough = kib
        elif kib - self.trough > FALL * self.peak / 2:  # it rises again
            self.peak, self.trough = kib, -1
            return
        if self.trough >= 0:
            carried = min(self.trough, self.held) + self.peak - self.trough
            self.kib = max(self.kib, carried)

    def _hold(self, up: float, kib: int) -> None:
        if self.until is None:
            self._open(up, kib)
            return
        self.floor = min(self.floor, kib)
        if up < self.until:
            return
        floor = self.floor
        if floor <= self.held * RISE + RISE_KIB:
            self.since = None
        elif self.since is None or self.last < 0:
            self.since, self.base = self.until - self.window, self.last
        else:
            mean = (floor - self.base) / max(1.0, up - self.since)
            if (floor - self.last) / self.window <= HELD_RATE * mean:
                self.held = floor
                self.kib = max(self.kib, floor)
                self.rises += 1
                self.since = None
        self.last = floor
        self._open(up, kib)

    def _open(self, up: float, kib: int) -> None:
        least = HELD_LEAST_S * 2.0 ** min(self.rises, 10)
        rising = 0.0 if self.since is None else HELD_PART * (up - self.since)
        self.window = min(HELD_MOST_S, max(least, rising))
        self.until, self.floor = up + self.window, kib


class Levels:
    """The levels of all entities; `step` after each sweep. Who has not changed costs next to
    nothing: it is looked at again when its window ends.
    """

    def __init__(self) -> None:
        self.of: dict[str, Level] = {}
        self.uses: dict[str, int] = {}  # KiB, at the last step
        self.sums: dict[str, int] = {}  # KiB: the processes of the entity added up
        # Of each process its entity, KiB, and the unit that its row had.
        self.own: dict[Ident, tuple[str, int, str | None]] = {}
        self.began = False

    def step(
        self, world: World, sweep: Sweep, gone: Collection[Ident], suspects: Iterable[Ident],
        healthy: bool,
    ) -> None:  # fmt: skip
        """Add up every entity, and let each prove what it can."""
        t, now = sweep.t, sweep.t if sweep.up is None else sweep.up
        changed = self._add_up(world, sweep, gone)
        suspected = {self.own[i][0] for i in suspects
                     if i in self.own and world.trends[i].stage != "none"}  # fmt: skip
        if not self.began:
            self.began = True
            self._begin(world, now)
        for group in world.groups.values():
            unit = group.unit
            if unit is None or unit not in self.sums:
                continue
            kib = used_bytes(group) >> 10
            if self.uses.get(unit) != kib:
                self.uses[unit] = kib
                changed.add(unit)
            whole = world.unit_trends.get(unit)
            if whole is not None and whole.stage != "none":
                suspected.add(unit)
            if group.low:
                level = self._level(unit)
                level.kib = max(level.kib, group.low >> 10)
        for key in changed:
            self._level(key)
        for key, level in self.of.items():
            fit = healthy and key not in suspected
            if key in changed or not fit or level.until is None or now >= level.until:
                level.t = t
                level.step(now, self.uses.get(key, 0), fit)
        if sweep.census:
            self._forget(t)

    def _add_up(self, world: World, sweep: Sweep, gone: Collection[Ident]) -> set[str]:
        """The entities whose sum has changed."""
        own, sums = self.own, self.sums
        rows, trends, inherited = world.rows, world.trends, world.inherited
        shared = world.shared
        changed: set[str] = set()
        fresh = inherited.touched | world.described
        inherited.touched.clear()
        world.described.clear()
        if sweep.census:
            for row in sweep.rows:
                before = own.get((row[PID], row[START]))
                if before is None or before[2] != row[UNIT]:
                    fresh.add((row[PID], row[START]))
        for ident in world.changed:
            before = own.get(ident)
            if before is None or ident in fresh or ident in shared or inherited.size(ident):
                fresh.add(ident)
                continue
            kib = trends[ident].kib
            key = before[0]
            own[ident] = (key, kib, before[2])
            sums[key] += kib - before[1]
            changed.add(key)
        for ident in fresh:
            if ident not in rows:
                continue
            row = rows[ident]
            # what a fork began with is its parent's
            private = max(0, private_bytes(row) - inherited.size(ident))
            kib = (private + shared.get(ident, 0)) >> 10
            found = (key_of(world, ident), kib, row[UNIT])
            before = own.get(ident)
            if before == found:
                continue
            if before is not None:
                sums[before[0]] -= before[1]
                changed.add(before[0])
            own[ident] = found
            sums[found[0]] = sums.get(found[0], 0) + kib
            changed.add(found[0])
        for ident in gone:
            before = own.pop(ident, None)
            if before is not None:
                sums[before[0]] -= before[1]
                changed.add(before[0])
        for key in changed:
            self.uses[key] = sums[key]
        return changed

    def _begin(self, world: World, now: float) -> None:
        """Who lived before our history begins: what it holds has been carried so far.

        Not so who is known from before a restart of ours: then it is what it had proven.
        """
        first: dict[str, int] = {}
        for ident, (key, kib, _) in self.own.items():
            trend = world.trends[ident]
            if trend.first_up < now:
                first[key] = first.get(key, 0) + trend.proven_kib
            elif world.age_s(ident, now) > OLD_S:
                first[key] = first.get(key, 0) + kib
        for key, kib in first.items():
            if key not in self.of:
                self.of[key] = Level(kib)

    def _level(self, key: str) -> Level:
        level = self.of.get(key)
        if level is None:
            level = self.of[key] = Level()
        return level

    def _forget(self, t: float) -> None:
        """Processes that are gone, and units that nobody knows any more."""
        there = {key for key, _, _ in self.own.values()}
        for key in [key for key in self.of if key not in there]:
            self.uses.pop(key, None)
            self.sums.pop(key, None)
            if key[:1].isdigit() or t - self.of[key].t > KEPT_S:
                del self.of[key]

    def proven_bytes(self, key: str) -> int:
        """0 where nothing is known."""
        level = self.of.get(key)
        return 0 if level is None else level.kib << 10

    def real(self, key: str) -> int:
        """Thousandths of the sum of its processes that are really its own (what forks share)."""
        total = self.sums.get(key, 0)
        return min(1000, self.uses.get(key, 0) * 1000 // total) if total else 1000

    def kept(self) -> dict[str, Any]:
        """As JSON takes it: what a restart must not forget; the largest, and no single process."""
        named = [
            (key, level) for key, level in self.of.items()
            if not key[:1].isdigit() and max(level.kib, self.uses.get(key, 0)) >= KEPT_LEAST_KIB
        ]  # fmt: skip
        # Who holds much and has proven little as well: after a restart it must not begin as old.
        named.sort(key=lambda item: -max(item[1].kib, self.uses.get(item[0], 0)))
        return {key: [one.kib, one.held, one.rises, round(one.t)] for key, one in named[:KEPT_MAX]}

    def take(self, kept: Mapping[str, Any]) -> None:
        """Go on from `kept`; what is not as it writes it counts as nothing."""
        for key, value in kept.items():
            try:
                kib, held, rises, t = (int(one) for one in value)
            except (TypeError, ValueError):
                continue
            if 0 <= held <= kib < 1 << 40 and rises >= 0:
                level = self.of[str(key)] = Level(kib)
                level.held, level.rises, level.t = held, rises, float(t)


def key_of(world: World, ident: Ident) -> str:
    """The entity of a process: a unit, "unit/inner", "unit:uid:exe", or "pid:start"."""
    unit = world.rows[ident][UNIT]
    if unit is None:
        return f"{ident[0]}:{ident[1]}"
    if not unit.startswith(SHARED_UNITS):
        return unit
    who = world.who.get(ident)
    if who is not None and who.inner and who.inner.endswith((".service", ".scope")):
        return f"{unit}/{who.inner}"
    if who is not None and who.exe:
        return f"{unit}:{who.uid}:{who.exe}"
    return f"{ident[0]}:{ident[1]}"


def prove(trend: Trend, closed: list[int], healthy: bool) -> None:
    """One process inside its entity: ten level minutes prove its level."""
    if not healthy or not closed or trend.stage != "none" or trend.kib <= trend.proven_kib:
        return
    ring = trend.rings[_MINUTES]
    if ring is None:  # it moves so little that no minutes are kept
        if trend.last_up - trend.still_up >= _HELD_BUCKETS * LEVELS[_MINUTES].bucket_s:
            trend.proven_kib = trend.kib
        return
    if _MINUTES not in closed or len(ring.values) < _HELD_BUCKETS - 1:
        return
    window = ring.values[-_HELD_BUCKETS:]
    high = max(window)
    if high == MISSING:
        ages, floors = ring.known(_HELD_BUCKETS)
        if len(floors) < _HELD_BUCKETS - 2 or ages[0] < _HELD_BUCKETS - 1:
            return
        high, window = max(floors), array("I", floors)
    if high - min(window) < 0.02 * high:
        trend.proven_kib = max(trend.proven_kib, high)


def excess_bytes(proven_kib: int, kib: int) -> int:
    """Use above 1.05 times the proven level, in bytes; never negative."""
    return max(0, int((kib - ALLOWANCE * proven_kib) * 1024))

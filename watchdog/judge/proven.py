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
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from watchdog.facts import UNIT, Ident, Sweep
from watchdog.guard_facts import SHARED_UNITS
from watchdog.history.entities import Trend
from watchdog.history.present import Process
from watchdog.history.ring import LEVELS, MISSING, Closes
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
# So long after our first sight, or with what an earlier run left, we know who carries what.
HISTORY_S = 300.0
# A cgroup that was read so long before its processes says nothing of them now.
READ_TOGETHER_S = 1.0
KEPT_MAX = 512
KEPT_LEAST_KIB = 4096
KEPT_S = 31 * 86400.0
_MINUTES = next(i for i, level in enumerate(LEVELS) if level.name == "1 min")
_HELD_BUCKETS = 10


class Level:
    """What one entity has proven, in KiB, and the little that is needed to go on; O(1) a sample.

    ``kib`` is the proven level, ``held`` the part of it that was proven by holding, ``rises`` how
    often that rose; ``since`` is when the rise above that began, from ``base`` (None: none has).
    ``sum`` is what its ``members`` (processes) hold, and ``use`` what the entity does: less, where
    they share, and its cgroup tells so.
    """

    __slots__ = (
        "base", "floor", "held", "kib", "last", "members", "opened", "peak", "rises", "since",
        "sum", "trough", "use", "window",
    )  # fmt: skip

    def __init__(self, kib: int = 0) -> None:
        self.use = self.sum = self.members = 0
        self.kib = self.held = self.base = kib
        self.rises = 0
        self.since: float | None = None
        self.window = HELD_LEAST_S
        self.opened: float | None = None  # when the window began that is open
        self.floor = -1  # of the open window; -1: it may prove nothing
        self.last = 0  # floor of the window before it; -1: it is not known
        self.peak = 0
        self.trough = -1  # -1: it has not fallen from the peak

    def step(self, up: float, kib: int, fit: bool) -> None:
        """Take a use. `fit`: the machine is healthy and no leak of this entity is suspected."""
        if not fit:
            self.opened = self.since = None
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
        if self.opened is None:
            self._open(up, kib)
            return
        self.floor = min(self.floor, kib)
        if up - self.opened < self.window:
            return
        floor = self.floor
        if floor <= self.held * RISE + RISE_KIB:
            self.since = None
        elif self.since is None or self.last < 0:
            # What lies before is no rise of this time: a leak would be quick once, and then level.
            self.since, self.base = self.opened, floor if self.last < 0 else self.last
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
        least = HELD_LEAST_S * 2.0 ** min(self.rises, 10) if self.rises else HELD_LEAST_S
        rising = 0.0 if self.since is None else HELD_PART * (up - self.since)
        self.window = min(HELD_MOST_S, max(least, rising))
        self.opened, self.floor = up, kib


class NamedLevel(Level):
    """That of an entity with a name, which outlives its processes; a lone process has a plain one.

    ``t`` is when a census last saw it (Unix seconds); ``told`` are its use and its sum when its
    cgroup last told of it.
    """

    __slots__ = ("t", "told")

    def __init__(self, kib: int = 0) -> None:
        super().__init__(kib)
        self.t = 0.0
        self.told = (0, 0)

    def use_now(self) -> int:
        """By what its processes hold now, and how the cgroup's figure was to theirs."""
        use, then = self.told
        return self.sum + use - then if use >= then else self.sum * use // then


class Levels:
    """The levels of all entities; `step` after each sweep. Who has not changed costs next to
    nothing: it is looked at again when its window ends.
    """

    def __init__(self) -> None:
        self.of: dict[str, NamedLevel] = {}  # by name: see `key_of`
        self.own: list[Level] = []  # of the processes that have one for themselves
        self.known: set[Level] = set()  # from before a restart of ours
        self.began: float | None = None  # when the first census was taken
        self.took = False  # what an earlier run left

    def step(self, world: World, sweep: Sweep, suspects: Iterable[Ident], healthy: bool) -> None:
        """Add up every entity, and let each prove what it can."""
        now = sweep.t if sweep.up is None else sweep.up
        changed = self._add_up(world, sweep)
        suspected = {
            one.level for i in suspects if (one := world.present.get(i)) and one.stage != "none"
        }
        for group in world.groups.values():
            level = self.of.get(group.unit) if group.unit is not None else None
            if level is None or group.unit is None or not level.members:
                continue
            kib = used_bytes(group) >> 10
            if now - (group.t if group.up is None else group.up) > READ_TOGETHER_S:
                kib = level.use_now()  # between censuses few of them are read
            else:
                level.told = (kib, level.sum)
            if level.use != kib:
                level.use = kib
                changed.add(level)
            whole = world.unit_trends.get(group.unit)
            if whole is not None and whole.stage != "none":
                suspected.add(level)
            if group.low:
                level.kib = max(level.kib, group.low >> 10)
        if sweep.census and self.began is None:  # what the guard read may come first: a part of all
            self.began = now
            self._begin(world, now)
        for each in chain(self.of.values(), self.own):
            opened = each.opened
            over = opened is None or now - opened >= each.window
            fit = healthy and each not in suspected
            if over or not fit or each in changed:
                each.step(now, each.use, fit)
        if sweep.census:
            self._forget(sweep.t)

    def history(self, now: float) -> bool:
        """Whether what is proven comes of more than the first minutes."""
        return self.took or (self.began is not None and now - self.began >= HISTORY_S)

    def _add_up(self, world: World, sweep: Sweep) -> set[Level]:
        """The entities whose sum has changed."""
        inherited = world.inherited
        changed: set[Level] = set()
        heirs = inherited.sizes()
        shared = world.shared
        apart = bool(heirs or shared)
        fresh = world.described
        world.described = set()
        fresh.update(
            found for one in inherited.touched if (found := world.present.get(one)) is not None
        )
        inherited.touched.clear()
        if sweep.census:
            fresh.update([one for one in world.present if one.placed != one.row[UNIT]])
        for one in world.changed:
            level: Level | None = one.level
            if (
                level is None
                or one in fresh
                or (apart and (one.ident in heirs or one.ident in shared))
            ):
                fresh.add(one)
                continue
            others = level.sum - one.counted_kib
            level.sum = others + one.kib if others else one.kib  # one number for both
            one.counted_kib = one.kib
            changed.add(level)
        for one in fresh:
            level = self._level(one, sweep.t)
            # what a fork began with is its parent's
            private = max(0, private_bytes(one.row) - inherited.size(one.ident))
            kib = (private + shared.get(one.ident, 0)) >> 10
            one.placed = one.row[UNIT]
            if one.level is level and one.counted_kib == kib:
                continue
            changed.update(_leave(one))
            kib = one.kib if kib == one.kib else kib
            one.level, one.counted_kib = level, kib
            level.sum = level.sum + kib if level.sum else kib  # one number for both
            level.members += 1
            changed.add(level)
        for one in world.went:
            changed.update(_leave(one))
        for level in changed:
            level.use = level.sum
        return changed

    def _begin(self, world: World, now: float) -> None:
        """Who lived before our history begins: what it holds has been carried so far.

        Not so who is known from before a restart of ours: then it is what it had proven.
        """
        first: dict[Level, int] = {}
        for one in world.present:
            if one.first_up < now:
                carried = one.proven_kib
            elif world.age_s(one.ident, now) > OLD_S:
                carried = one.counted_kib
            else:
                continue
            before = first.get(one.level)
            first[one.level] = carried if before is None else before + carried
        for level, kib in first.items():
            if level in self.known:
                continue
            # where all are old, their cgroup's shared memory has been carried as well
            carried = max(kib, level.use) if kib == level.sum else kib
            level.kib = level.held = level.base = carried
        self.known.clear()

    def _level(self, one: Process, t: float) -> Level:
        name = named(one)
        if name is None:
            known: Level | None = one.level
            if known is not None and not isinstance(known, NamedLevel):
                return known
            own = Level()
            self.own.append(own)
            return own
        level = self.of.get(name)
        if level is None:
            level = self.of[name] = NamedLevel()
            level.t = t
        return level

    def _forget(self, t: float) -> None:
        """Processes that are gone, and units that nobody knows any more."""
        self.own = [level for level in self.own if level.members]
        for key, level in list(self.of.items()):
            if level.members:
                level.t = t
                continue
            level.use = level.sum = 0
            if t - level.t > KEPT_S or level.kib < KEPT_LEAST_KIB:
                del self.of[key]
        empty = [key for key, level in self.of.items() if not level.members]
        empty.sort(key=lambda key: self.of[key].t)
        for key in empty[:-KEPT_MAX]:
            del self.of[key]

    def kept(self) -> dict[str, Any]:
        """As JSON takes it, alike while nobody proves more; the largest, and no single process."""
        named = [
            (key, level) for key, level in self.of.items()
            if max(level.kib, level.use) >= KEPT_LEAST_KIB
        ]  # fmt: skip
        # Who holds much and has proven little as well: after a restart it must not begin as old.
        named.sort(key=lambda item: -max(item[1].kib, item[1].use))
        return {key: [one.kib, one.held, one.rises, int(one.t // 3600) * 3600]
                for key, one in sorted(named[:KEPT_MAX], key=lambda item: item[0])}  # fmt: skip

    def take(self, kept: Mapping[str, Any]) -> None:
        """Go on from `kept`; what is not as it writes it counts as nothing."""
        for key, value in kept.items():
            try:
                kib, held, rises, t = (int(one) for one in value)
            except (TypeError, ValueError):
                continue
            if 0 <= held <= kib < 1 << 40 and rises >= 0:
                level = self.of[str(key)] = NamedLevel(kib)
                self.known.add(level)
                self.took = True
                level.held, level.rises, level.t, level.last = held, rises, float(t), -1


def _leave(one: Process) -> tuple[Level, ...]:
    """It does not count to its entity any more; whose sum that changes."""
    level: Level | None = one.level
    if level is None:
        return ()
    level.sum -= one.counted_kib
    level.members -= 1
    one.level = None
    return (level,)


def proven_bytes(level: Level | None) -> int:
    """0 where nothing is known."""
    return 0 if level is None else level.kib << 10


def use_bytes(level: Level) -> int:
    """What the entity holds, by the same measure as what it has proven."""
    return level.use << 10


def real(level: Level | None) -> int:
    """Thousandths of the sum of its processes that are really its own, as its cgroup tells it."""
    if level is None or not level.sum:
        return 1000
    return min(1000, level.use * 1000 // level.sum)


def key_of(world: World, ident: Ident) -> str:
    """The entity of a process: a unit, "unit/inner", "unit:uid:exe", or "pid:start"."""
    one = world.present.get(ident)
    return (named(one) if one is not None else None) or f"{ident[0]}:{ident[1]}"


def named(one: Process) -> str | None:
    """The name of its entity; None where it is one by itself."""
    unit = one.row[UNIT]
    if unit is None or not unit.startswith(SHARED_UNITS):
        return unit
    who = one.who
    if who is not None and who.inner and who.inner.endswith((".service", ".scope")):
        return f"{unit}/{who.inner}"
    if who is not None and who.exe:
        return f"{unit}:{who.uid}:{who.exe}"
    return None


def prove(trend: Trend, closed: Closes, healthy: bool) -> None:
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

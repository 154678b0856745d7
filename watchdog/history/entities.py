"""Pure: what is remembered of one process or unit; `records` writes it down.

A trend belongs to one identity: (boot, pid, start ticks), or (boot, unit). Time is
CLOCK_BOOTTIME, so a trend goes on where it was when the daemon starts again on the same boot.
"""

from typing import Any

from watchdog.history.case import NO_CASE, OfCase
from watchdog.history.ring import (
    BUCKETS_S,
    CLOSES,
    LEVELS,
    MISSING,
    NOTHING,
    SLOTS,
    STILL_S,
    Closes,
    Moment,
    Ring,
    moment,
)

# Who moves by less holds still, and a ring of somebody who held still is not kept: what it held can
# be filled in again. A sixteenth of the least rise that is ever told of.
STILL_KIB = 1024
NO_RING = len(LEVELS)
_LARGEST = MISSING - 1  # a ring counts to 4 TiB, and says no more of what is larger
STILL_CLOSES = CLOSES[1][2]
_SEEN_LEAST = 3  # buckets; after a long gap nothing says that it held still
_NO_RINGS: list[Ring | None] = [None] * NO_RING
# Of all who have nothing to count.
NO_PASSES: tuple[int, ...] = (0,) * NO_RING


class Trend:
    """The history of one entity's private memory (anonymous + swap), in KiB.

    ``stage`` is none, suspected or confirmed, ``passes``, by level, the windows in a row that rose.
    ``proven_kib`` is the level that the entity has shown the machine can carry; see `Case` for the
    rest of what is told.

    Rings are kept from the level ``fine`` on: all of them while it moves, fewer the longer it
    holds still (`rest`), none at first and in the end. When it moves by more than ``still_kib``
    they are there again, filled with what it held since ``still_up`` (`unfold`). So most samples
    change nothing but ``kib`` and the times: those from ``low`` to ``high``, before ``wake``. Only
    the finest ring is fed with samples; each coarser one gets the floors that the one before it
    closes.
    """

    __slots__ = (
        "case", "fine", "first_t", "first_up", "high", "kib", "last_t",
        "last_up", "low", "passes", "proven_kib", "rings", "stage", "still_kib", "still_up", "wake",
    )  # fmt: skip
    advised = OfCase[bool]()
    since_t = OfCase[float | None]()
    base_kib = OfCase[int]()
    episode = OfCase[int]()
    peak_kib = OfCase[int]()
    high_up = OfCase[float]()
    quiet_s = OfCase[float]()
    verdict_up = OfCase[float]()
    rate = OfCase[float]()
    event = OfCase[str | None]()
    verdict = OfCase[Any]()

    def __init__(self, t: float, up: float) -> None:
        self.rings: list[Ring | None] = _NO_RINGS
        self.first_t = self.last_t = t
        self.first_up = self.last_up = up
        self.kib = 0
        self.stage = "none"
        self.case = NO_CASE
        self.passes: tuple[int, ...] = NO_PASSES
        self.proven_kib = 0
        self.fine = NO_RING
        self.low, self.high = MISSING, -1  # nothing was seen yet
        self.still_kib = STILL_KIB
        self.still_up = up
        self.wake = up + STILL_S

    def add(self, t: float, up: float, kib: int) -> Closes:
        """Take a value; the indices of the levels at which it closed a bucket."""
        kib = min(kib, _LARGEST)
        before = self.last_up
        self.last_t, self.last_up, self.kib = t, up, kib
        if self.low <= kib <= self.high and up < self.wake:
            return NOTHING
        return self.move(moment(up), kib, before)

    def move(self, at: Moment, kib: int, before: float) -> Closes:
        """The part of `add` that is not nothing; `before` is when it was seen before."""
        if self.fine:
            return self._slowly(at, kib, before)
        ring, coarser = self.rings[0], self.rings[1]
        if ring is None or coarser is None:
            return NOTHING
        buckets = at[1]
        bucket, now = buckets[0], ring.bucket
        if bucket <= now:
            if bucket == now and kib < ring.floor:
                ring.floor = self.low = kib
            return NOTHING
        floor = ring.floor
        ring.close(bucket, SLOTS[0])
        ring.bucket = bucket
        ring.floor = self.low = kib
        self.wake = at[2][0]
        if buckets[1] == coarser.bucket:
            coarser.floor = floor if floor < coarser.floor else coarser.floor  # min() is a call
            return CLOSES[0][0]
        return self._feed(0, floor, at, kib)

    def _feed(self, first: int, floor: int, at: Moment, kib: int) -> Closes:
        """Hand the floor that was closed at `first` to the coarser rings; all that closed."""
        buckets, last = at[1], first
        for level in range(first + 1, NO_RING):
            ring = self.rings[level]
            if ring is None:
                continue
            ring.floor = floor if floor < ring.floor else ring.floor
            if buckets[level] <= ring.bucket:
                break
            floor = ring.floor
            ring.close(buckets[level], SLOTS[level])
            ring.bucket, ring.floor = buckets[level], kib
            last = level
        if last >= min(first + 2, NO_RING - 2):
            self.rest()
        return CLOSES[first][last]

    def _slowly(self, at: Moment, kib: int, before: float) -> Closes:
        """`move` where the finest rings are not kept."""
        up, buckets, ends, later = at
        fine = self.fine
        if fine == NO_RING:
            low = kib if kib < self.low else self.low
            high = kib if kib > self.high else self.high
            if high - low <= self.still_kib:
                self.low, self.high = low, high
                if up < self.wake:
                    return NOTHING
                self.wake = later
                return STILL_CLOSES
        elif kib <= self.high:
            ring = self.rings[fine]
            if ring is None or buckets[fine] <= ring.bucket:
                if ring is not None and buckets[fine] == ring.bucket and kib < ring.floor:
                    ring.floor = self.low = kib
                return NOTHING
            floor = ring.floor
            ring.close(buckets[fine], SLOTS[fine])
            ring.bucket, ring.floor = buckets[fine], kib
            self.low, self.high = kib, max(kib, min(self.high, floor + self.still_kib))
            self.wake = ends[fine]
            return self._feed(fine, floor, at, kib)
        self.unfold(up, before)
        return self.move(at, kib, before)

    def unfold(self, up: float, before: float) -> None:
        """It moves: have all rings again, those that were not kept filled with what it held.

        It was seen `before`, and as often as it is seen now.
        """
        seen, since, floor = int(before), int(self.still_up), min(self.low, _LARGEST)
        self.rings = list(self.rings)
        for level, bucket_s in enumerate(BUCKETS_S):
            if self.rings[level] is None:
                bucket = seen // bucket_s
                count = max(0, min(SLOTS[level], bucket - since // bucket_s))
                stride = max(1, round((up - before) / bucket_s))
                self.rings[level] = Ring().filled(bucket, floor, count, stride)
        self.fine = 0
        self.still_kib = STILL_KIB
        self.high = _LARGEST
        self._settle()

    def rest(self) -> None:
        """Let go of the finest rings whose whole window it has held still."""
        if self.stage != "none" or any(self.passes):
            return
        low = high = self.kib
        fine = self.fine
        while fine < NO_RING:
            ring = self.rings[fine]
            if ring is None:
                fine += 1
                continue
            if high - ring.floor_of_all() > self.still_kib:  # most who move are done with here
                break
            seen = [value for value in (*ring.values, ring.floor) if value != MISSING]
            low, high = min(low, *seen), max(high, *seen)
            if high - low > self.still_kib or len(seen) < _SEEN_LEAST:
                break
            since = float((ring.bucket - len(ring.values)) * BUCKETS_S[fine])
            self.still_up = max(since, self.first_up)
            fine += 1
            self._keep(fine, low, high)

    def _keep(self, fine: int, low: int, high: int) -> None:
        """Keep only the rings from the level `fine` on; it was seen from `low` to `high`."""
        self.fine = fine
        if fine == NO_RING:
            self.rings, self.passes = _NO_RINGS, NO_PASSES
            self.low, self.high, self.wake = low, high, self.last_up + STILL_S
        else:
            self.rings = _NO_RINGS[:fine] + self.rings[fine:]
            self.high = max(self.kib, low + self.still_kib)
            self._settle()

    def press(self) -> None:
        """Too many move: keep the coarsest ring alone, until it moves by twice as much again."""
        low = high = self.kib
        for ring in self.rings:
            seen = [kib for kib in ring.values if kib != MISSING] if ring is not None else ()
            low, high = min(low, *seen, low), max(high, *seen, high)
        self.still_kib = max(STILL_KIB, 2 * (high - low))
        self.still_up = self.last_up
        self._keep(NO_RING - 1, low, high)

    def risen_kib(self) -> int:
        """How far it stands above the lowest that its rings remember."""
        return self.kib - min((r.floor_of_all() for r in self.rings if r is not None), default=0)

    def full(self) -> "Trend":
        """Itself where all rings are kept, else a copy that has them all, for who reads them."""
        if not self.fine or self.low == MISSING:
            return self
        found = self.copy()
        found.unfold(self.last_up, self.last_up)
        return found

    def take(self, rings: list[Ring | None]) -> None:
        """Go on with the rings of an earlier run. Raises ValueError where they are no set."""
        kept = [level for level, ring in enumerate(rings) if ring is not None]
        self.fine = kept[0] if kept else NO_RING
        if len(rings) != NO_RING or (kept and kept != list(range(self.fine, NO_RING))):
            raise ValueError("a ring is missing")
        self.rings = rings if kept else _NO_RINGS
        if not self.fine:
            self.high = _LARGEST
        self._settle()

    def _settle(self) -> None:
        """Work out `low` and `wake` from the finest ring."""
        ring = self.rings[self.fine] if self.fine < NO_RING else None
        if ring is not None:
            self.low, self.wake = ring.floor, float((ring.bucket + 1) * BUCKETS_S[self.fine])

    def tells(self, level: int, least_kib: int) -> bool:
        """Whether the bucket that closed at one level can matter: the cheapest of all gates."""
        if self.stage != "none" or self.passes[level]:
            return True
        ring = self.rings[level]
        return ring is not None and self.kib - least_kib >= ring.lowest

    def rises(self, closed: Closes, least_kib: int) -> bool:
        """Does it stand so far above the lowest bucket of one of these levels?"""
        edge = self.kib - least_kib
        for index in closed:
            ring = self.rings[index]
            if ring is not None and edge >= ring.lowest and edge >= ring.floor_of_all():
                return True
        return False

    @property
    def open(self) -> bool:
        """Whether something is told of it that is not over: a suspicion, or slow growth."""
        return self.stage != "none" or (self.case is not NO_CASE and self.advised)

    def restart(self, t: float, up: float) -> None:
        """Another program runs under this identity now: what was seen says nothing of it."""
        episode = self.episode
        Trend.__init__(self, t, up)
        self.episode = episode

    def copy(self) -> "Trend":
        """One that may change apart from it; the rings stay shared."""
        found = object.__new__(type(self))
        for one in type(self).__mro__[:-1]:
            for field in one.__dict__["__slots__"]:
                setattr(found, field, getattr(self, field))
        if self.case is not NO_CASE:
            found.case = self.case.copy()
        return found

    def become(self, other: "Trend") -> None:
        """Go on where another one was."""
        for field in Trend.__slots__:
            setattr(self, field, getattr(other, field))

    def passed(self, level: int, windows: int) -> None:
        """So many windows in a row have risen at that level."""
        if self.passes[level] != windows:
            passes = (*self.passes[:level], windows, *self.passes[level + 1 :])
            self.passes = passes if any(passes) else NO_PASSES

    def recent_rate(self) -> float | None:
        """Bytes a second over the finest ring (five minutes); None before there are two buckets."""
        if self.fine:  # it holds still
            return 0.0 if self.last_up - self.first_up >= 2 * BUCKETS_S[0] else None
        values = self.rings[0].values if self.rings[0] is not None else ()
        first, last = 0, len(values) - 1
        while first < last and values[first] == MISSING:
            first += 1
        while first < last and values[last] == MISSING:
            last -= 1
        if first >= last:
            return None
        return (values[last] - values[first]) * 1024 / ((last - first) * BUCKETS_S[0])

    def floor_ago(self, seconds: float) -> int | None:
        """Its size (bytes, a bucket's floor) about so long ago; None where nothing was seen."""
        for level, ring in zip(LEVELS, self.full().rings, strict=True):
            back = int(seconds // level.bucket_s)
            if ring is not None and 0 < back <= len(ring.values):
                kib = ring.values[-back]
                return None if kib == MISSING else kib * 1024
        return None

    def first_floor(self) -> int:
        """The oldest size that is remembered, in bytes."""
        for ring in reversed(self.full().rings):
            known = [kib for kib in ring.values if kib != MISSING] if ring is not None else []
            if known:
                return known[0] * 1024
        return self.kib * 1024


__all__ = ["MISSING", "Trend"]

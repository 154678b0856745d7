"""Pure: bucket minima at several resolutions, bounded by construction.

A bucket keeps the smallest value that was seen in it, in KiB: minima follow the floor that stays
after each garbage collection and ignore bursts shorter than a bucket. A bucket in which nothing
was seen holds MISSING. 4 bytes a bucket: a full set of rings is about 1.5 KiB an entity.
"""

from array import array
from collections.abc import Sequence
from itertools import compress
from typing import NamedTuple

MISSING = 0xFFFFFFFF


class Level(NamedTuple):
    """One resolution: `slots` buckets of `bucket_s` seconds."""

    name: str
    bucket_s: int
    slots: int


# Five minutes, an hour, six hours, two days, a week.
LEVELS = (
    Level("5 s", 5, 60),
    Level("1 min", 60, 60),
    Level("5 min", 300, 72),
    Level("30 min", 1800, 96),
    Level("2 h", 7200, 84),
)


BUCKETS_S = tuple(level.bucket_s for level in LEVELS)
SLOTS = tuple(level.slots for level in LEVELS)
# The indices of the levels at which something closed a bucket: always a run of them, and the same
# objects for everybody. By the first and the last.
Closes = tuple[int, ...]
NOTHING: Closes = ()
CLOSES: tuple[tuple[Closes, ...], ...] = tuple(
    tuple(tuple(range(first, last + 1)) for last in range(len(LEVELS)))
    for first in range(len(LEVELS))
)
# How often one without rings is looked at by those who learn from what is held.
STILL_S = 300.0
# A moment, worked out once a sweep: CLOCK_BOOTTIME, the number of the open bucket at each level,
# when that bucket ends, and STILL_S later. All who are seen at that moment share these objects.
Moment = tuple[float, tuple[int, ...], tuple[float, ...], float]
_GAP = array("I", [MISSING] * max(SLOTS))


def moment(up: float) -> Moment:
    """See Moment."""
    whole = int(up)
    buckets = tuple([whole // bucket_s for bucket_s in BUCKETS_S])
    ends = [float((b + 1) * bucket_s) for b, bucket_s in zip(buckets, BUCKETS_S, strict=True)]
    return up, buckets, tuple(ends), up + STILL_S


class Ring:
    """The last closed buckets of one level, oldest first, and the one that is still open.

    ``lowest`` is a bound: no closed bucket lies below it. It may lag behind (the lowest bucket
    leaves the ring in silence); `floor_of_all` sets it right.
    """

    __slots__ = ("bucket", "floor", "lowest", "values")

    def __init__(self) -> None:
        self.values = array("I")
        self.bucket = -1  # number of the open bucket: up // bucket_s
        self.floor = MISSING
        self.lowest = MISSING

    def add(self, level: Level, up: float, kib: int) -> bool:
        """Take a value; True if that closed a bucket. A value from the past is ignored."""
        bucket = int(up) // level.bucket_s
        if bucket == self.bucket:
            self.floor = min(self.floor, kib)
            return False
        if bucket < self.bucket:
            return False
        closed = self.bucket >= 0
        if closed:
            self.close(bucket, level.slots)
        self.bucket = bucket
        self.floor = kib
        return closed

    def close(self, bucket: int, slots: int) -> None:
        """Keep the open bucket, and the gap up to `bucket`, which the caller opens then."""
        values, floor, lowest = self.values, self.floor, self.lowest
        # Not min(), which is a call: this is done for every bucket of everybody.
        self.lowest = floor if floor < lowest else lowest
        full = len(values) == slots
        gap = bucket - self.bucket - 1
        if full and not gap:
            del values[0]  # first, so that the array has no reason to grow
            values.append(floor)
            return
        gap = min(gap, slots)
        excess = len(values) + 1 + gap - slots
        if excess > 0:
            del values[:excess]
        values.append(floor)
        if gap:
            values.extend(_GAP[:gap])
            if gap == slots:
                del values[0]
        if not full and len(values) == slots:
            self.values = values[:]  # without the room that it has grown into

    def clear(self) -> None:
        """Forget what was seen (after an exec)."""
        del self.values[:]
        self.bucket = -1
        self.floor = self.lowest = MISSING

    def filled(self, bucket: int, floor: int, count: int, stride: int) -> "Ring":
        """Open `bucket` after `count` others of `floor`, of which each `stride`-th was seen."""
        self.bucket, self.floor = bucket, floor
        if count:
            self.lowest = floor
            self.values = _GAP[:count]  # no larger than that
            for i in range(count - stride, -1, -stride):
                self.values[i] = floor
        return self

    def floor_of_all(self) -> int:
        """The smallest closed bucket; MISSING where there is none."""
        self.lowest = min(self.values, default=MISSING)
        return self.lowest

    def known(self, last: int) -> tuple[Sequence[int], Sequence[int]]:
        """(ages in buckets, values in KiB) of the closed buckets, oldest first, gaps left out.

        `last` bounds how many buckets back are looked at; the youngest closed bucket has age 1.
        """
        window = (self.values[-last:] if last else self.values[:0]).tolist()
        ages = range(len(window), 0, -1)
        if MISSING not in window:
            return ages, window
        seen = [value != MISSING for value in window]
        return list(compress(ages, seen)), list(compress(window, seen))

"""Pure: bucket minima at several resolutions, bounded by construction.

A bucket keeps the smallest value that was seen in it, in KiB: minima follow the floor that stays
after each garbage collection and ignore bursts shorter than a bucket. A bucket in which nothing
was seen holds MISSING. 4 bytes a bucket: a full set of rings is about 1.5 KiB an entity.
"""

from array import array
from collections.abc import Sequence
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


class Ring:
    """The last closed buckets of one level, oldest first, and the one that is still open."""

    __slots__ = ("bucket", "floor", "values")

    def __init__(self) -> None:
        self.values = array("I")
        self.bucket = -1  # number of the open bucket: up // bucket_s
        self.floor = MISSING

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
            self.values.append(self.floor)
            gap = min(bucket - self.bucket - 1, level.slots)
            if gap:
                self.values.extend([MISSING] * gap)
            excess = len(self.values) - level.slots
            if excess > 0:
                del self.values[:excess]
        self.bucket = bucket
        self.floor = kib
        return closed

    def clear(self) -> None:
        """Forget what was seen (after an exec)."""
        del self.values[:]
        self.bucket = -1
        self.floor = MISSING

    def floor_of_all(self) -> int:
        """The smallest closed bucket; MISSING where there is none."""
        return min(self.values, default=MISSING)

    def known(self, last: int) -> tuple[Sequence[int], Sequence[int]]:
        """(ages in buckets, values in KiB) of the closed buckets, oldest first, gaps left out.

        `last` bounds how many buckets back are looked at; the youngest closed bucket has age 1.
        """
        window = self.values[-last:] if last else self.values[:0]
        length = len(window)
        pairs = [(length - i, v) for i, v in enumerate(window) if v != MISSING]
        return [age for age, _ in pairs], [v for _, v in pairs]

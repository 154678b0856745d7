"""Pure: what is remembered of one process or unit, and how it is written down.

A trend belongs to one identity: (boot, pid, start ticks), or (boot, unit). Time is
CLOCK_BOOTTIME, so a trend goes on where it was when the daemon starts again on the same boot.
"""

import json
import sys
from array import array
from typing import Any, NamedTuple

from watchdog.facts import EntityRecord
from watchdog.history.ring import BUCKETS_S, LEVELS, MISSING, SLOTS, Ring

FORMAT = 1
# The fields of a trend that are written down as they are.
KEPT = (
    "kib", "stage", "since_t", "episode", "base_kib", "peak_kib", "passes",
    "high_up", "quiet_s", "rate", "proven_kib", "event",
)  # fmt: skip


class Trend:
    """The history of one entity's private memory (anonymous + swap), in KiB.

    ``stage`` is none, suspected or confirmed; ``since_t`` is when the rise began that is suspected
    (Unix seconds), ``episode`` counts suspicions, ``passes`` counts, by level, the
    windows in a row that rose. ``high_up`` is when it last reached a new height, and ``quiet_s``
    how long it may go without one before the suspicion ends. ``proven_kib`` is the level that the
    entity has shown the machine can carry.

    Most samples change nothing but ``kib`` and the times: those from ``low`` on, before ``wake``,
    when the finest open bucket ends. Only the finest ring is fed with samples; each coarser one
    gets the floors that the one before it closes.
    """

    __slots__ = (
        "base_kib", "episode", "event", "first_t", "first_up", "high_up", "kib",
        "last_t", "last_up", "low", "passes", "peak_kib", "proven_kib", "quiet_s", "rate",
        "rings", "since_t", "stage", "verdict", "verdict_up", "wake",
    )  # fmt: skip

    def __init__(self, t: float, up: float) -> None:
        self.rings: list[Ring | None] = [None] * len(LEVELS)
        self.first_t = self.last_t = t
        self.first_up = self.last_up = up
        self.kib = 0
        self.stage = "none"
        self.since_t: float | None = None
        self.episode = 0
        self.base_kib = 0
        self.peak_kib = 0
        self.passes = [0] * len(LEVELS)
        self.high_up = up
        self.quiet_s = 0.0
        self.verdict_up = up
        self.rate = 0.0
        self.proven_kib = 0
        self.event: str | None = None
        self.verdict: Any = None
        self.low = MISSING
        self.wake = up

    def add(self, t: float, up: float, kib: int) -> list[int]:
        """Take a value; the indices of the levels at which it closed a bucket."""
        kib = min(kib, MISSING - 1)  # a ring counts to 4 TiB, and says no more of what is larger
        self.last_t, self.last_up, self.kib = t, up, kib
        return self.move(up, kib) if kib < self.low or up >= self.wake else []

    def move(self, up: float, kib: int) -> list[int]:
        """The rings' part of `add`, where it is not nothing (see the class)."""
        closed: list[int] = []
        whole = int(up)
        carried = MISSING  # what the finer level has just closed
        for index, bucket_s in enumerate(BUCKETS_S):
            ring = self.rings[index]
            bucket = whole // bucket_s
            if ring is None:
                ring = self.rings[index] = Ring()
                ring.bucket, ring.floor = bucket, kib
                continue
            if bucket == ring.bucket and not closed:
                carried = kib
            ring.floor = min(ring.floor, carried)
            if bucket <= ring.bucket:
                break
            carried = ring.floor
            ring.close(bucket, SLOTS[index])
            ring.bucket, ring.floor = bucket, kib
            closed.append(index)
        self.settle()
        return closed

    def settle(self) -> None:
        """Work out `low` and `wake` from the rings."""
        ring = self.rings[0]
        if ring is not None:
            self.low, self.wake = ring.floor, float((ring.bucket + 1) * BUCKETS_S[0])

    def rises(self, closed: list[int], least_kib: int) -> bool:
        """Does it stand so far above the lowest bucket of one of these levels?"""
        edge = self.kib - least_kib
        for index in closed:
            ring = self.rings[index]
            if ring is not None and edge >= ring.lowest and edge >= ring.floor_of_all():
                return True
        return False

    def restart(self, t: float, up: float) -> None:
        """Another program runs under this identity now: what was seen says nothing of it."""
        episode = self.episode
        self.__init__(t, up)  # type: ignore[misc]
        self.episode = episode

    def recent_rate(self) -> float | None:
        """Bytes a second over the finest ring (five minutes); None before there are two buckets."""
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
        for level, ring in zip(LEVELS, self.rings, strict=True):
            back = int(seconds // level.bucket_s)
            if ring is not None and 0 < back <= len(ring.values):
                kib = ring.values[-back]
                return None if kib == MISSING else kib * 1024
        return None

    def first_floor(self) -> int:
        """The oldest size that is remembered, in bytes."""
        for ring in reversed(self.rings):
            known = [kib for kib in ring.values if kib != MISSING] if ring is not None else []
            if known:
                return known[0] * 1024
        return self.kib * 1024

    def dump(
        self, key: str, boot_id: str, comm: str | None = None, unit: str | None = None
    ) -> EntityRecord:
        """As the store keeps it: one line of JSON, then the rings as 4-byte little-endian words."""
        rings = [ring or Ring() for ring in self.rings]
        head = {field: getattr(self, field) for field in KEPT} | {
            "format": FORMAT, "first_up": self.first_up, "last_up": self.last_up, "comm": comm,
            "unit": unit, "rings": [[r.bucket, r.floor, len(r.values)] for r in rings],
        }  # fmt: skip
        blob = json.dumps(head, separators=(",", ":")).encode() + b"\n"
        blob += b"".join(_little_endian(ring.values) for ring in rings)
        return EntityRecord(key, boot_id, self.first_t, self.last_t, self.kib * 1024, blob)


def _check(trend: Trend) -> None:
    """Raise ValueError where a field is not of its kind: the judges would stumble over it."""
    counts = (
        trend.kib, trend.episode, trend.base_kib, trend.peak_kib,
        trend.proven_kib, *trend.passes,
    )  # fmt: skip
    since = 0.0 if trend.since_t is None else trend.since_t
    numbers = (trend.rate, trend.high_up, trend.quiet_s, since)
    if not (
        trend.stage in ("none", "suspected", "confirmed")
        and len(trend.passes) == len(LEVELS)
        and all(type(one) is int and -1 <= one <= MISSING for one in counts)
        and all(type(one) in (int, float) and abs(one) < float("inf") for one in numbers)
        and isinstance(trend.event, str | None)
    ):
        raise ValueError("a field is not of its kind")


def load(record: EntityRecord) -> Trend | None:
    """The trend of a record; None where it was written by something that we cannot read."""
    line, newline, rest = record.blob.partition(b"\n")
    try:
        head = json.loads(line)
        if not newline or head["format"] != FORMAT:
            return None
        trend = Trend(record.first_t, float(head["first_up"]))
        trend.last_t, trend.last_up = record.last_t, float(head["last_up"])
        for field in KEPT:
            setattr(trend, field, head[field])
        _check(trend)
        at = 0
        for index, (bucket, floor, length) in enumerate(head["rings"]):
            if not all(type(one) is int and one >= -1 for one in (bucket, floor, length)):
                return None
            ring = Ring()
            ring.bucket, ring.floor = bucket, floor
            ring.values = _words(rest[at : at + 4 * length])
            ring.floor_of_all()
            at += 4 * length
            trend.rings[index] = ring if bucket >= 0 else None
        trend.settle()
    except (KeyError, ValueError, TypeError, IndexError):
        return None
    return trend


def names(record: EntityRecord) -> tuple[str | None, str | None]:
    """(comm, unit) as they were written; None where that cannot be read."""
    try:
        head = json.loads(record.blob.partition(b"\n")[0])
        comm, unit = head.get("comm"), head.get("unit")
    except (ValueError, AttributeError):
        return None, None
    return comm if isinstance(comm, str) else None, unit if isinstance(unit, str) else None


class Sizes(NamedTuple):
    """What a record remembers of one entity: its names, and (t, up, KiB), the oldest first."""

    comm: str
    unit: str | None
    points: list[tuple[float, float, int]]


def sizes(record: EntityRecord) -> Sizes | None:
    """The sizes of a kept trend, each time from the finest ring that reaches back to it."""
    trend = load(record)
    if trend is None:
        return None
    head = json.loads(record.blob.partition(b"\n")[0])
    points: list[tuple[float, float, int]] = []
    finer = float("inf")
    for level, ring in zip(LEVELS, trend.rings, strict=True):
        if ring is None or not ring.values:
            continue
        first = ring.bucket - len(ring.values)
        for i, kib in enumerate(ring.values):
            up = float((first + i + 1) * level.bucket_s)
            if kib != MISSING and up < finer:
                points.append((trend.last_t - trend.last_up + up, up, kib))
        finer = min(finer, float((first + 1) * level.bucket_s))
    points.sort()
    return Sizes(head.get("comm") or "?", head.get("unit"), points)


def _words(raw: bytes) -> "array[int]":
    found = array("I", raw)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def _little_endian(values: "array[int]") -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


__all__ = ["MISSING", "Trend", "load"]

"""Pure: how a trend is written down, and read again."""

import json
import sys
from array import array
from typing import NamedTuple

from watchdog.facts import EntityRecord
from watchdog.history.entities import NO_PASSES, STILL_KIB, Trend
from watchdog.history.ring import LEVELS, MISSING, Ring

FORMAT = 2
# The fields of a trend that are written down as they are.
KEPT = (
    "kib", "stage", "since_t", "episode", "base_kib", "peak_kib", "passes",
    "high_up", "quiet_s", "rate", "proven_kib", "event", "advised", "low", "high", "still_kib",
    "still_up", "wake",
)  # fmt: skip


def dump(
    trend: Trend, key: str, boot_id: str, comm: str | None = None, unit: str | None = None,
    program: str | None = None,
) -> EntityRecord:  # fmt: skip
    """As the store keeps it: one line of JSON, then the rings as 4-byte little-endian words.

    `program` is what it runs, if its life is one of a service (see `lives`).
    """
    rings = [ring or Ring() for ring in trend.rings]
    head = {field: getattr(trend, field) for field in KEPT} | {
        "format": FORMAT, "first_up": trend.first_up, "last_up": trend.last_up, "comm": comm,
        "unit": unit, "program": program,
        "rings": [[r.bucket, r.floor, len(r.values)] for r in rings],
    }  # fmt: skip
    blob = json.dumps(head, separators=(",", ":")).encode() + b"\n"
    blob += b"".join(_little_endian(ring.values) for ring in rings)
    return EntityRecord(key, boot_id, trend.first_t, trend.last_t, trend.kib * 1024, blob)


class Kept(NamedTuple):
    """A trend as it was written down, and whose it is; `program` where its life is remembered."""

    trend: Trend
    comm: str | None
    unit: str | None
    program: str | None


def _check(trend: Trend) -> None:
    """Raise ValueError where a field is not of its kind: the judges would stumble over it."""
    counts = (
        trend.kib, trend.episode, trend.base_kib, trend.peak_kib,
        trend.proven_kib, trend.low, trend.high, *trend.passes,
    )  # fmt: skip
    since = 0.0 if trend.since_t is None else trend.since_t
    numbers = (trend.rate, trend.high_up, trend.quiet_s, since, trend.still_up, trend.wake)
    if not (
        trend.stage in ("none", "suspected", "confirmed")
        and len(trend.passes) == len(LEVELS)
        and type(trend.still_kib) is int
        and trend.still_kib >= STILL_KIB
        and all(type(one) is int and -1 <= one <= MISSING for one in counts)
        and all(type(one) in (int, float) and abs(one) < float("inf") for one in numbers)
        and isinstance(trend.event, str | None)
        and type(trend.advised) is bool
    ):
        raise ValueError("a field is not of its kind")


def load(record: EntityRecord) -> Trend | None:
    """The trend of a record; None where it was written by something that we cannot read."""
    found = read(record)
    return None if found is None else found.trend


def read(record: EntityRecord) -> Kept | None:
    """All that a record tells; None where it was written by something that we cannot read."""
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
        trend.passes = tuple(trend.passes) if any(trend.passes) else NO_PASSES
        at = 0
        rings: list[Ring | None] = []
        for bucket, floor, length in head["rings"]:
            if not all(type(one) is int and one >= -1 for one in (bucket, floor, length)):
                return None
            ring = Ring()
            ring.bucket, ring.floor = bucket, min(floor, MISSING)
            ring.values = _words(rest[at : at + 4 * length])
            ring.floor_of_all()
            at += 4 * length
            rings.append(ring if bucket >= 0 else None)
        trend.take(rings)
    except (KeyError, ValueError, TypeError, IndexError):
        return None
    told = (head.get(field) for field in ("comm", "unit", "program"))
    return Kept(trend, *(one if isinstance(one, str) else None for one in told))


class Sizes(NamedTuple):
    """What a record remembers of one entity: its names, and (t, up, KiB), the oldest first."""

    comm: str
    unit: str | None
    points: list[tuple[float, float, int]]


def sizes(record: EntityRecord) -> Sizes | None:
    """The sizes of a kept trend, each time from the finest ring that reaches back to it."""
    kept = read(record)
    if kept is None:
        return None
    trend = kept.trend.full()
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
    return Sizes(kept.comm or "?", kept.unit, points)


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

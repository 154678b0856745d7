"""Pure: the machine's own counters over time, the last reading of each bucket, as sar keeps them.

Buckets are those of the trends, by wall time, so that a year can be looked up by its dates. A
reading is {key: value} as /proc/meminfo names it, in bytes; what it holds is up to who reads.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from watchdog.facts import HostRecord


class Span(NamedTuple):
    """One resolution, and how far back it is kept."""

    bucket_s: int
    kept_s: int


HOUR, DAY = 3600, 86400
# 1,440 + 2,016 + 1,488 + 4,392 readings of some 500 bytes: 5 MB when the year is full.
SPANS = (
    Span(60, DAY), Span(300, 7 * DAY), Span(1800, 31 * DAY), Span(2 * HOUR, 366 * DAY),
)  # fmt: skip

# A quarter of an hour: a store that hangs longer loses readings, and we stay small.
CLOSED_MAX = 20


class Machine:
    """Takes readings as they come, and keeps the buckets that they closed until they are stored.

    Until a bucket closes its reading is kept as it came; `CLOSED_MAX` bounds what waits.
    """

    def __init__(self) -> None:
        self._open: dict[int, tuple[int, float, Mapping[str, int]]] = {}
        self._closed: list[HostRecord] = []

    def take(self, t: float, boot_id: str | None, reading: Mapping[str, int]) -> None:
        """A reading at Unix time `t`. Clock steps, back or forth, just begin another bucket."""
        for span in SPANS:
            bucket = int(t // span.bucket_s)
            before = self._open.get(span.bucket_s)
            if before is not None and before[0] != bucket:
                self._closed.append(_record(span, before, boot_id))
            self._open[span.bucket_s] = (bucket, t, reading)
        del self._closed[:-CLOSED_MAX]

    def end(self, boot_id: str | None) -> None:
        """The daemon stops: what the open buckets hold; the next run overwrites them."""
        for span in SPANS:
            if span.bucket_s in self._open:
                self._closed.append(_record(span, self._open[span.bucket_s], boot_id))
        self._open.clear()

    def take_closed(self) -> list[HostRecord]:
        """The buckets that closed since the last call, to be stored."""
        closed, self._closed = self._closed, []
        return closed


def _record(
    span: Span, one: tuple[int, float, Mapping[str, int]], boot_id: str | None
) -> HostRecord:
    bucket, t, reading = one
    most = span.kept_s // span.bucket_s
    return HostRecord(span.bucket_s, bucket, t, boot_id or "", encode(reading), most)


def encode(reading: Mapping[str, int]) -> bytes:
    """A reading as a blob: compressed JSON, so that a newer version may add keys."""
    return zlib.compress(json.dumps(dict(reading), separators=(",", ":")).encode(), 6)


def decode(blob: bytes) -> dict[str, int]:
    """The reading of a blob; empty where it is damaged."""
    try:
        found = json.loads(zlib.decompress(blob))
    except (zlib.error, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if type(value) is int}


def finest(since_s: float) -> Span:
    """The finest resolution that reaches `since_s` back."""
    return next((span for span in SPANS if span.kept_s >= since_s), SPANS[-1])


def thinned(times: Sequence[float], every_s: float) -> list[int]:
    """Indices of the readings to show at `every_s`: the last one of each period."""
    last: dict[int, int] = {}
    for index, t in enumerate(times):
        last[int(t // every_s)] = index
    return sorted(last.values())

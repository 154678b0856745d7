"""What the store knows of a report: its own event, the trends of the dead, earlier kills.

Read only, and only where it is certain that report and store are of one machine: the report was
read from this machine's own log, or the store holds an event of the same kernel time, PID and name.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from watchdog.cli import args as common
from watchdog.facts import Entity, EntityRecord
from watchdog.history import records
from watchdog.judge.past import (
    KILLS_MAX,
    NOTHING,
    Growth,
    Kill,
    Leak,
    Past,
    growth_of,
    leak_of,
)
from watchdog.oom_report.report import Report, Victim
from watchdog.store import place
from watchdog.store.entities import of_boot
from watchdog.store.events import Wanted, open_reader, read_events

EVENTS_MAX = 2000  # kills; older ones say nothing of the spacing of today's

# What a stored event knows better than its report alone: it was judged with the history.
JUDGED = (
    "headline", "verdict", "confidence", "verdict_because", "verdict_reasons", "culprit", "growth",
    "growers", "kills_before", "advice", "start", "exe", "unit", "inner", "container",
)  # fmt: skip


class Stored:
    """The OOM kills of one store, and the trends of its processes. Empty where there is none."""

    def __init__(self, events: list[dict[str, Any]], path: str | None = None) -> None:
        self.events = events
        self._path = path
        self._by_time: dict[tuple[int, int], list[dict[str, Any]]] = {}
        for event in events:
            at = event.get("kernel_time_s")
            if isinstance(at, int | float):
                self._by_time.setdefault((round(at * 1e6), _pid(event)), []).append(event)

    def event_of(self, report: Report) -> dict[str, Any] | None:
        """The event that the daemon made of this very report."""
        if report.usec is None:
            return None
        pid = report.victim.pid if report.victim else 0
        comm = report.victim.comm if report.victim else None
        for event in self._by_time.get((report.usec, pid), ()):
            same_boot = report.boot_id is None or event.get("boot_id") == report.boot_id
            if same_boot and event.get("comm") == comm:
                return event
        return None

    def past_of(self, report: Report, t: float, boot_id: str | None) -> Past:
        """Earlier kills and the trend of the victim, of a report of this machine at that time
        (Unix seconds)."""
        victim = report.victim
        if victim is None or t <= 0:
            return NOTHING
        trend = self._trend(victim, t, boot_id)
        unit = trend.unit if trend else None
        kills = tuple(self._kills(victim, t, unit, report.cgroup))
        if trend is None and not kills:
            return NOTHING
        who = Entity(victim.pid, None, victim.comm, None, victim.uid, unit)
        growth, leak = (trend.growth, trend.leak) if trend else (None, None)
        return Past(who, growth, leak, kills=kills)

    def _kills(self, victim: Victim, t: float, unit: str | None, cgroup: str | None) -> list[Kill]:
        found = []
        for event in self.events:
            # the name alone is no program: without a unit the limit must be the same as well
            same = event.get("comm") == victim.comm and event.get("cgroup") == cgroup
            if unit:
                same = event.get("unit") == unit
            # a kernel log's clock may be a second off ours
            if same and _t(event) < t - 2:
                found.append(kill_of(event))
        return found[-KILLS_MAX:]

    def _trend(self, victim: Victim, t: float, boot_id: str | None) -> "_Known | None":
        if self._path is None or boot_id is None:
            return None
        try:
            with contextlib.closing(open_reader(self._path)) as db:
                return _newest(of_boot(db, boot_id, f"{victim.pid}:"), victim, t)
        except (sqlite3.Error, place.StoreError, OSError):
            return None


class _Known(NamedTuple):
    unit: str | None
    growth: Growth
    leak: Leak | None


def _newest(found: Iterator[EntityRecord], victim: Victim, t: float) -> _Known | None:
    """The process that had this number then; trends are written every five minutes."""
    near = [one for one in found if one.first_t <= t + 60 and abs(one.last_t - t) < 900]
    record = max(near, key=lambda one: one.last_t, default=None)
    trend = records.load(record) if record is not None else None
    sizes = records.sizes(record) if record is not None else None
    if trend is None or sizes is None or sizes.comm != victim.comm:
        return None
    return _Known(sizes.unit, growth_of(trend), leak_of(trend))


def kill_of(event: Mapping[str, Any]) -> Kill:
    """An earlier kill, of its event."""
    victim = event.get("victim")
    told = victim if isinstance(victim, dict) else {}
    sizes = [told.get(key) for key in ("anon_bytes", "shmem_bytes", "swap_bytes")]
    known = [size for size in sizes if isinstance(size, int)]
    limit = event.get("limit_bytes")
    return Kill(
        _t(event), _pid(event) or None, str(event.get("comm") or "?"),
        sum(known) if known else None, limit if isinstance(limit, int) else None,
    )  # fmt: skip


def _t(event: Mapping[str, Any]) -> float:
    t = event.get("t")
    return float(t) if isinstance(t, int | float) else 0.0


def _pid(event: Mapping[str, Any]) -> int:
    pid = event.get("pid")
    return pid if isinstance(pid, int) else 0


def load(state: str | None) -> Stored:
    """The store of `--state`, else this machine's. A named one that cannot be read ends the
    command; where none was named it is as if there were none."""
    if state is not None:
        with common.history(state) as path:
            return _stored(path)
    try:
        return _stored(os.path.join(place.reading_dir(), place.DATABASE))
    except (FileNotFoundError, place.StoreError):
        return Stored([])


def _stored(path: str) -> Stored:
    return Stored(list(read_events(path, Wanted(kind="oom.kill"), EVENTS_MAX)), path)

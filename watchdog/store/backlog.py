"""What is to be written, how, and what waits in memory while the store does not work."""

import sqlite3
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from typing import NamedTuple

from watchdog.facts import EntityRecord, Event, HostRecord, Notice
from watchdog.store import entities, events, file, host, kept, outbox

BACKLOG_EVENTS = 1000
SEEN_MAX = 4096


class Job(NamedTuple):
    """Rows to write in one transaction; `seq` where an answer is waited for."""

    weight: int = 1
    seq: int | None = None
    events: Sequence[Event] = ()
    kept: Mapping[str, str] = {}
    entities: Sequence[EntityRecord] = ()
    host: Sequence[HostRecord] = ()
    told: Sequence[str] = ()
    notices: Sequence[Notice] = ()  # written only if one of the events is new
    arrived: Sequence[str] = ()
    ask: Callable[[sqlite3.Connection | None], None] | None = None


def write(
    db: sqlite3.Connection, group: Sequence[Job], held: Container[str] | None
) -> dict[int, list[str] | None]:
    """One transaction; for each `seq` the ids that are new.

    With `held` what earlier runs left was not read: these small values are not written over, and
    no trends, for theirs go farther back.
    """
    told = frozenset(one for job in group for one in job.told)
    fresh: dict[int, list[str] | None] = {}
    # In WAL, FULL syncs the log at each commit and NORMAL only when it is folded in.
    db.execute(f"PRAGMA synchronous = {'FULL' if any(j.events for j in group) else 'NORMAL'}")
    try:
        db.execute("BEGIN IMMEDIATE")
        for job in group:
            ids = events.insert(db, map(events.encode, job.events), told)
            if job.seq is not None:
                fresh[job.seq] = ids
            if job.kept:
                kept.put(db, job.kept, held or ())
            if job.notices and (ids or not job.events):
                outbox.put(db, job.notices)
            if job.arrived:
                outbox.drop(db, job.arrived)
            if held is None:
                entities.upsert(db, job.entities)
            host.upsert(db, job.host)
        if told:
            events.mark_told(db, told)
        db.execute("COMMIT")
    except (sqlite3.Error, ValueError, TypeError, OverflowError):
        file.rollback(db)
        raise
    return fresh


class Backlog:
    """Bounded: the oldest falls out."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self.clear()

    def clear(self) -> None:
        """All of it is written."""
        self.events.clear()
        self.kept: dict[str, str] = {}
        self.told: dict[str, None] = {}
        self.notices: dict[str, Notice] = {}
        self.arrived: dict[str, None] = {}

    def take(self, group: Sequence[Job]) -> int:
        """Keep what the store could not take; but trends, the next of which hold the former.

        How many events fell out.
        """
        for job in group:
            self.events.extend(job.events)
            self.kept.update(job.kept)
            self.told.update(dict.fromkeys(job.told))
            self.notices.update({one.id: one for one in job.notices})
            self.arrived.update(dict.fromkeys(job.arrived))
        for one in self.arrived:
            self.notices.pop(one, None)
        for bounded in (self.notices, self.arrived):
            while len(bounded) > BACKLOG_EVENTS:
                del bounded[next(iter(bounded))]
        dropped = max(0, len(self.events) - BACKLOG_EVENTS)
        for _ in range(dropped):
            self.events.popleft()
        while len(self.told) > SEEN_MAX:
            del self.told[next(iter(self.told))]
        return dropped

    def jobs(self) -> list[Job]:
        """It as rows to write; what is to be sent in a job of its own, for it is due anyway."""
        found = []
        if self.events or self.kept or self.told:
            found.append(Job(events=tuple(self.events), kept=self.kept, told=tuple(self.told)))
        if self.notices or self.arrived:
            notices, arrived = tuple(self.notices.values()), tuple(self.arrived)
            found.append(Job(notices=notices, arrived=arrived))
        return found

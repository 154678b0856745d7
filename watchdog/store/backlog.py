"""What is to be written, and what waits in memory while the store does not work."""

import sqlite3
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from watchdog.facts import EntityRecord, Event, HostRecord, Notice

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

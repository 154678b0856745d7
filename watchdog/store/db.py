"""The store as the watcher sees it: calls that never wait, one thread that writes, answers.

Laws of this file
- The connection lives in the writer's thread alone. A call puts a job on a bounded queue; what
  does not fit is counted in `dropped`.
- Each `put_events` gets exactly one answer, in order: the ids that were not known before, which
  are to be told. The answer is given after the commit, so an event that was told survives
  `kill -9`. Commits with events are synced to the disk; of the rest a power cut may take the last
  seconds.
- A store that fails answers from memory and keeps a bounded backlog, which `retry` writes once the
  store works again.
"""

import contextlib
import os
import signal
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from watchdog import words
from watchdog.facts import EntityRecord, Event, HostRecord, Notice, PastKill
from watchdog.store import entities, events, file, host, kept, outbox
from watchdog.store.place import LockHeldError, StoreError

__all__ = ["DEFAULT_MAX_BYTES", "LockHeldError", "Store", "StoreError"]

DEFAULT_MAX_BYTES = 64 * 1024 * 1024
QUEUE_MAX = 6000  # events and entities on the queue; about 12 MiB of entities at the worst
BACKLOG_EVENTS = 1000
SEEN_MAX = 4096
ASK_S = 10.0
CHUNK = 200  # entities a transaction: about 400 KiB of log

T = TypeVar("T")


class _Job(NamedTuple):
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


class _Waiting(NamedTuple):
    """A `put_events` whose answer was not given to the caller yet."""

    ids: list[str]
    lost: bool  # it did not fit the queue


class Store:
    """The history of one state folder. `path` is the database file.

    The constructor waits until the file is open or known to be unusable, and never raises: see
    `failed`. Not for more than one calling thread.
    """

    def __init__(self, path: str, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.path = path
        self.max_bytes = max(max_bytes, 256 * 1024)
        self.failed: str | None = None  #: one line that says why the store does not work, or None
        self.dropped = 0  #: how many events, entities and marks were never written
        self.answers_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  #: readable: `answers`
        self._lock = threading.Condition(threading.Lock())
        self._queue: deque[_Job] = deque()
        self._weight = 0
        self._seq = 0
        self._done: dict[int, list[str] | None] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._seen: dict[str, None] = {}
        self._kept: dict[str, str] = {}
        self._closing = False
        self._db: sqlite3.Connection | None = None
        self._backlog: deque[Event] = deque()
        self._backlog_kept: dict[str, str] = {}
        self._backlog_told: dict[str, None] = {}
        self._backlog_notices: dict[str, Notice] = {}
        self._backlog_arrived: dict[str, None] = {}
        opened = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(opened,), name="store", daemon=True)
        self._thread.start()
        opened.wait(ASK_S)

    # What the watcher calls. None of these waits for the disk.

    def put_events(
        self, batch: Sequence[Event], kept: Mapping[str, str] | None = None,
        notices: Sequence[Notice] = (),
    ) -> bool:  # fmt: skip
        """Store events (each id once), `kept` values and what is to be sent in one transaction.

        `notices` go into the outbox where an event of the batch is new. One answer follows
        through `answers`. False: the queue is full, they are not stored, and the answer comes
        from memory.
        """
        self._seq += 1
        job = _Job(
            len(batch) + 1, self._seq, tuple(batch), dict(kept or {}), notices=tuple(notices)
        )
        fits = self._put(job, len(batch))
        ids = [event.id for event in batch]
        self._waiting[self._seq] = _Waiting(ids, not fits)
        if not fits:
            self._wake()
        return fits

    def answers(self) -> list[tuple[list[str], list[str]]]:
        """For each `put_events` that is done, in order: its ids, and those that were new.

        Tell the new ones. To be called when `answers_fd` is readable. The answer of a disk that
        hangs may never come: the caller tells what it has waited for long enough.
        """
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.answers_fd)
        with self._lock:
            done, self._done = self._done, {}
        found = []
        for seq, waiting in list(self._waiting.items()):
            if seq in done:
                fresh = done.pop(seq)
            elif waiting.lost:
                fresh = None
            else:
                break
            del self._waiting[seq]
            if fresh is None:
                fresh = [one for one in dict.fromkeys(waiting.ids) if one not in self._seen]
            self._seen.update(dict.fromkeys(waiting.ids))
            found.append((waiting.ids, fresh))
        while len(self._seen) > SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        return found

    def mark_told(self, ids: Iterable[str]) -> bool:
        """These were told: after `kill -9` they are not in `untold`."""
        told = tuple(ids)
        return not told or self._put(_Job(1, told=told), len(told))

    def notices_over(self, ids: Iterable[str]) -> bool:
        """These have arrived or were given up: they leave the outbox."""
        over = tuple(ids)
        return not over or self._put(_Job(1, arrived=over), 0)

    def put_entities(self, records: Sequence[EntityRecord]) -> bool:
        """Write trends, a chunk a transaction; the newest record of a key and boot wins."""
        fits = True
        for start in range(0, len(records), CHUNK):
            chunk = tuple(records[start : start + CHUNK])
            fits = self._put(_Job(len(chunk), entities=chunk), len(chunk)) and fits
        return fits

    def put_host(self, records: Sequence[HostRecord]) -> bool:
        """Write buckets of the machine's own counters, in one transaction."""
        count = len(records)
        return not records or self._put(_Job(count, host=tuple(records)), count)

    def put_kept(self, values: Mapping[str, str]) -> bool:
        """Write small values by key, where they are others than the last time."""
        changed = {key: value for key, value in values.items() if self._kept.get(key) != value}
        if not changed:
            return True
        self._kept.update(changed)
        return self._put(_Job(1, kept=changed), len(changed))

    def retry(self) -> None:
        """Try a failed store again; once a minute is enough. `failed` tells how it went."""
        if self.failed is not None:
            self._put(_Job(0, ask=lambda db: None if db else self._reopen()), 0)

    @property
    def backlog(self) -> int:
        """How many events wait in memory for a store that failed."""
        return len(self._backlog)

    # What the start asks. These wait (10 s at the most) and answer nothing if the store failed.

    def untold(self) -> list[dict[str, Any]]:
        """Events that were stored and not told before the daemon died, as JSON objects."""
        return self._ask(events.untold, [])

    def load_entities(self, boot_id: str) -> list[EntityRecord]:
        """The trends of this boot that were alive when they were last written."""
        return self._ask(lambda db: entities.load(db, boot_id), [])

    def load_past_kills(self, boot_id: str) -> tuple[list[PastKill], dict[str, int]]:
        """See `events.past_kills`."""
        nothing: tuple[list[PastKill], dict[str, int]] = ([], {})
        return self._ask(lambda db: events.past_kills(db, boot_id), nothing)

    def load_outbox(self) -> list[Notice]:
        """Notifications that have not arrived yet."""
        return self._ask(outbox.load, [])

    def load_kept(self) -> dict[str, str]:
        """All small values."""
        return self._ask(kept.load, {})

    def flush(self, timeout_s: float = ASK_S) -> bool:
        """Wait until all that was put so far is written, or was found impossible to write."""
        return self._ask(lambda _: True, self.failed is not None, timeout_s)

    def close(self, timeout_s: float = 0.8) -> bool:
        """Write what is queued and close the file. False: the disk did not answer in time."""
        with self._lock:
            self._closing = True
            self._lock.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # Between the threads.

    def _put(self, job: _Job, count: int) -> bool:
        with self._lock:
            if self._closing or (self._weight + job.weight > QUEUE_MAX and self._queue):
                self.dropped += count
                return False
            self._queue.append(job)
            self._weight += job.weight
            self._lock.notify()
        return True

    def _ask(
        self, question: Callable[[sqlite3.Connection], T], nothing: T, timeout_s: float = ASK_S
    ) -> T:
        box: list[T] = []
        answered = threading.Event()

        def ask(db: sqlite3.Connection | None) -> None:
            try:
                if db is not None:
                    box.append(question(db))
            finally:
                answered.set()

        if self._put(_Job(0, ask=ask), 0):
            answered.wait(timeout_s)
        return box[0] if box else nothing

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self.answers_fd, 1)

    # The writer's thread.

    def _run(self, opened: threading.Event) -> None:
        # A signal that the kernel gives to this thread would not wake the main thread's poll().
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self._reopen()
        opened.set()
        while True:
            with self._lock:
                while not self._queue and not self._closing:
                    self._lock.wait()
                if not self._queue:
                    break
                jobs = list(self._queue)
                self._queue.clear()
                self._weight = 0
            self._work(jobs)
        if self._db is not None:
            self._db.close()

    def _work(self, jobs: list[_Job]) -> None:
        """Write a run of jobs in order; entities and questions stand alone."""
        group: list[_Job] = []
        for job in jobs:
            if job.ask is None and not job.entities:
                group.append(job)
                continue
            self._write(group)
            group = []
            if job.ask is None:
                self._write([job])
                continue
            try:
                job.ask(self._db)
            except sqlite3.Error as error:
                self._fail(error)
        self._write(group)

    def _write(self, group: list[_Job]) -> None:
        if not group:
            return
        fresh: dict[int, list[str] | None] | None = None
        if self._db is not None:
            try:
                fresh = self._transaction(self._db, group)
            except sqlite3.Error as error:
                self._fail(error)
            except (ValueError, TypeError, OverflowError):
                # A value that SQLite cannot hold: its batch is lost, the others are not.
                if len(group) > 1:
                    for job in group:
                        self._write([job])
                    return
                self.dropped += len(group[0].events) or 1
                fresh = {job.seq: None for job in group if job.seq is not None}
        if fresh is None:
            self._remember(group)
            fresh = {job.seq: None for job in group if job.seq is not None}
        if fresh:
            with self._lock:
                self._done.update(fresh)
            self._wake()
        if self._db is not None:
            try:
                file.thin(self._db, self.max_bytes)
            except sqlite3.Error as error:
                self._fail(error)

    def _transaction(
        self, db: sqlite3.Connection, group: list[_Job]
    ) -> dict[int, list[str] | None]:
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
                    kept.put(db, job.kept)
                if job.notices and (ids or not job.events):
                    outbox.put(db, job.notices)
                if job.arrived:
                    outbox.drop(db, job.arrived)
                entities.upsert(db, job.entities)
                host.upsert(db, job.host)
            if told:
                events.mark_told(db, told)
            db.execute("COMMIT")
        except (sqlite3.Error, ValueError, TypeError, OverflowError):
            file.rollback(db)
            raise
        return fresh

    def _remember(self, group: list[_Job]) -> None:
        """Keep what the store could not take; but trends, the next of which hold the former."""
        for job in group:
            self._backlog.extend(job.events)
            self._backlog_kept.update(job.kept)
            self._backlog_told.update(dict.fromkeys(job.told))
            self._backlog_notices.update({one.id: one for one in job.notices})
            self._backlog_arrived.update(dict.fromkeys(job.arrived))
        for one in self._backlog_arrived:
            self._backlog_notices.pop(one, None)
        for bounded in (self._backlog_notices, self._backlog_arrived):
            while len(bounded) > BACKLOG_EVENTS:
                del bounded[next(iter(bounded))]
        while len(self._backlog) > BACKLOG_EVENTS:
            self._backlog.popleft()
            self.dropped += 1
        while len(self._backlog_told) > SEEN_MAX:
            del self._backlog_told[next(iter(self._backlog_told))]

    def _fail(self, error: sqlite3.Error) -> None:
        self.failed = f"the store {words.safe(self.path)} failed: {file.explain(error)}"
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None
        self._wake()

    def _reopen(self) -> None:
        """Open the file, and write the backlog; `failed` says how it went."""
        try:
            db = file.open_database(self.path, self.max_bytes)
        except StoreError as error:
            self.failed = str(error)
            return
        try:
            late = _Job(
                events=tuple(self._backlog),
                kept=self._backlog_kept,
                told=tuple(self._backlog_told),
            )
            if late.events or late.kept or late.told:
                self._transaction(db, [late])
            if self._backlog_notices or self._backlog_arrived:
                late = _Job(
                    notices=tuple(self._backlog_notices.values()),
                    arrived=tuple(self._backlog_arrived),
                )
                self._transaction(db, [late])
            file.thin(db, self.max_bytes)
        except sqlite3.Error as error:
            self._db = db
            self._fail(error)
            return
        self._backlog.clear()
        self._backlog_kept = {}
        self._backlog_told = {}
        self._backlog_notices, self._backlog_arrived = {}, {}
        self._db, was_failed, self.failed = db, self.failed, None
        if was_failed:
            self._wake()

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
- The questions of a start wait for `ASK_S` in all. Where one of them had no answer, what the file
  holds of earlier runs is never written over: by `again` the caller hears that it can be read now,
  takes what it can go on from at once (`late`), and begins anew for the rest.
"""

import contextlib
import os
import signal
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from watchdog import words
from watchdog.facts import EntityRecord, Event, HostRecord, Notice, PastKill
from watchdog.store import entities, events, file, kept, outbox
from watchdog.store.backlog import SEEN_MAX, Backlog, Job, write
from watchdog.store.place import LockHeldError, StoreError

__all__ = ["DEFAULT_MAX_BYTES", "LockHeldError", "Store", "StoreError"]

DEFAULT_MAX_BYTES = 64 * 1024 * 1024
QUEUE_MAX = 6000  # events and entities on the queue; about 12 MiB of entities at the worst
ASK_S = 10.0
SLOW_S = 2.0  # to open a store and to ask it all that a start asks: then it is well again
CHUNK = 200  # entities a transaction: about 400 KiB of log

T = TypeVar("T")


class _Waiting(NamedTuple):
    """A `put_events` whose answer was not given to the caller yet."""

    ids: list[str]
    lost: bool  # it did not fit the queue


class Store:
    """The history of one state folder. `path` is the database file.

    The constructor waits until the file is open or known to be unusable, `ASK_S` at the most, and
    never raises: see `failed`. Not for more than one calling thread.
    """

    def __init__(self, path: str, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.path = path
        self.max_bytes = max(max_bytes, 256 * 1024)
        self.failed: str | None = None  #: one line that says why the store does not work, or None
        self.again = False  #: what the start could not read can be read now: begin anew
        self.dropped = 0  #: how many events, entities and marks were never written
        self.answers_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  #: readable: `answers`
        self._lock = threading.Condition(threading.Lock())
        self._queue: deque[Job] = deque()
        self._weight = 0
        self._seq = 0
        self._done: dict[int, list[str] | None] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._seen: dict[str, None] = {}
        self._kept: dict[str, str] = {}
        self._closing = False
        self._db: sqlite3.Connection | None = None
        self._backlog = Backlog()
        self._earlier: dict[str, str] | None = None  # what earlier runs kept; None: not known
        self._unread = False  # something perhaps, and a question of the start had no answer
        self._over: frozenset[str] = frozenset()  # keys that are written over all the same
        self._asked: list[Callable[[sqlite3.Connection], object]] = []  # what the start asked
        self._trying = False
        self._patience_s: float | None = ASK_S  # of the start; None: it is over
        opened = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(opened,), name="store", daemon=True)
        self._thread.start()
        if not self._wait(opened) or self.failed:
            self._miss()

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
        job = Job(len(batch) + 1, self._seq, tuple(batch), dict(kept or {}), notices=tuple(notices))
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
        return not told or self._put(Job(1, told=told), len(told))

    def notices_over(self, ids: Iterable[str]) -> bool:
        """These have arrived or were given up: they leave the outbox."""
        over = tuple(ids)
        return not over or self._put(Job(1, arrived=over), 0)

    def put_entities(self, records: Sequence[EntityRecord]) -> bool:
        """Write trends, a chunk a transaction; the newest record of a key and boot wins."""
        fits = True
        for start in range(0, len(records), CHUNK):
            chunk = tuple(records[start : start + CHUNK])
            fits = self._put(Job(len(chunk), entities=chunk), len(chunk)) and fits
        return fits

    def put_host(self, records: Sequence[HostRecord]) -> bool:
        """Write buckets of the machine's own counters, in one transaction."""
        count = len(records)
        return not records or self._put(Job(count, host=tuple(records)), count)

    def put_kept(self, values: Mapping[str, str]) -> bool:
        """Write small values by key, where they are others than the last time."""
        changed = {key: value for key, value in values.items() if self._kept.get(key) != value}
        if not changed:
            return True
        self._kept.update(changed)
        return self._put(Job(1, kept=changed), len(changed))

    def retry(self) -> None:
        """Try a failed store again; twice a minute is enough. `failed` tells how it went."""
        if self.failed is not None and not self._trying:
            self._trying = True
            if not self._put(Job(0, ask=self._try), 0):
                self._trying = False

    def late(self, keys: Iterable[str]) -> dict[str, str]:
        """After `again`: what earlier runs kept under these keys, once.

        The caller goes on from it, and what it puts there from now on is written over that.
        """
        new = [key for key in keys if key not in self._over]
        self._over |= frozenset(new)
        for key in new:
            self._kept.pop(key, None)
        return {key: value for key, value in (self._earlier or {}).items() if key in new}

    @property
    def backlog(self) -> int:
        """How many events wait in memory for a store that failed."""
        return len(self._backlog.events)

    # What the start asks. These wait (`ASK_S` at the most) and answer nothing if the store failed.

    def started(self) -> None:
        """The start has asked all that it had to know."""
        self._patience_s = None
        if not self._unread:
            self._asked, self._earlier = [], {}

    def untold(self) -> list[dict[str, Any]]:
        """Events that were stored and not told before the daemon died, as JSON objects."""
        return self._ask(events.untold, [])

    def load_entities(self, boot_id: str, now: float) -> list[EntityRecord]:
        """The trends of this boot that were alive when they were last written; see `entities`."""
        return self._ask(lambda db: entities.load(db, boot_id, now), [])

    def load_past_kills(self, boot_id: str) -> tuple[list[PastKill], dict[str, int]]:
        """See `events.past_kills`."""
        nothing: tuple[list[PastKill], dict[str, int]] = ([], {})
        return self._ask(lambda db: events.past_kills(db, boot_id), nothing)

    def load_outbox(self) -> list[Notice]:
        """Notifications that have not arrived yet."""
        return self._ask(outbox.load, [])

    def load_kept(self) -> dict[str, str]:
        """All small values."""
        found: dict[str, str] = self._ask(kept.load, {})
        self._over |= frozenset(found)  # the caller goes on from these
        return found

    def flush(self, timeout_s: float = ASK_S) -> bool:
        """Wait until all that was put so far is written, or was found impossible to write."""
        done = threading.Event()
        return self._put(Job(0, ask=lambda _: done.set()), 0) and done.wait(timeout_s)

    def close(self, timeout_s: float = 0.8) -> bool:
        """Write what is queued and close the file. False: the disk did not answer in time."""
        with self._lock:
            self._closing = True
            self._lock.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # Between the threads.

    def _put(self, job: Job, count: int) -> bool:
        with self._lock:
            if self._closing or (self._weight + job.weight > QUEUE_MAX and self._queue):
                self.dropped += count
                return False
            self._queue.append(job)
            self._weight += job.weight
            self._lock.notify()
        return True

    def _ask(self, question: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        box: list[T] = []
        answered = threading.Event()
        if self._patience_s is not None:
            self._asked.append(question)

        def ask(db: sqlite3.Connection | None) -> None:
            try:
                if db is not None:
                    box.append(question(db))
            finally:
                answered.set()

        if self._put(Job(0, ask=ask), 0):
            if self._patience_s is None:
                answered.wait(ASK_S)
            elif not self._wait(answered) or not box:
                self._miss()
        return box[0] if box else nothing

    def _wait(self, event: threading.Event) -> bool:
        """All that the start waits for has one deadline: the guard takes silence for a hang."""
        began = time.monotonic()
        done = event.wait(max(0.0, self._patience_s or 0.0))
        self._patience_s = (self._patience_s or 0.0) - (time.monotonic() - began)
        return done

    def _miss(self) -> None:
        """The start goes on without knowing what earlier runs have kept."""
        why = f"the store {words.safe(self.path)} did not answer within {ASK_S:.0f} s"
        with self._lock:
            self._unread = self._earlier != {}
            self.failed = self.failed or why

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

    def _work(self, jobs: list[Job]) -> None:
        """Write a run of jobs in order; entities and questions stand alone."""
        group: list[Job] = []
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

    def _write(self, group: list[Job]) -> None:
        if not group:
            return
        fresh: dict[int, list[str] | None] | None = None
        if self._db is not None:
            try:
                fresh = write(self._db, group, self._held())
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
            self.dropped += self._backlog.take(group)
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

    def _fail(self, error: sqlite3.Error) -> None:
        self.failed = f"the store {words.safe(self.path)} failed: {file.explain(error)}"
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None
        self._wake()

    def _held(self) -> Container[str] | None:
        """Keys of earlier runs that nobody has read: they are not written over. None: all was."""
        return (self._earlier or {}).keys() - self._over if self._unread else None

    def _try(self, _: sqlite3.Connection | None) -> None:
        try:
            self._reopen()
        finally:
            self._trying = False

    def _reopen(self) -> None:
        """Open the file, and write the backlog; `failed` says how it went."""
        began, unread = time.monotonic(), self._unread
        if self._db is not None:
            self._db.close()
            self._db = None
        try:
            self._db = db = file.open_database(self.path, self.max_bytes)
        except StoreError as error:
            self.failed = str(error)
            return
        try:
            if self._earlier is None:
                self._earlier = kept.load(db)
            if unread:
                for question in self._asked:
                    question(db)
            slow = time.monotonic() - began > SLOW_S
            for job in self._backlog.jobs():
                write(db, [job], self._held())
            file.thin(db, self.max_bytes)
        except sqlite3.Error as error:
            self._fail(error)
            return
        self._backlog.clear()
        with self._lock:
            self._unread = self._unread and self._earlier != {}
            if self._unread and (slow or not unread):
                return  # the start has given up meanwhile, or another one would
            self.again = self._unread
            was_failed, self.failed = self.failed, None
        if was_failed:
            self._wake()

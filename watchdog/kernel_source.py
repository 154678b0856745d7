"""The kernel log as one stream of lines: /dev/kmsg live, the journal for what it no longer holds.

Laws
- Lines come in the kernel's order. The two sources are never mixed: one ends where the other goes
  on (`sense.mark`), so a report is read from one of them, and is one event whichever it was.
- The ring of /dev/kmsg is emptied into our memory at every turn, whatever else is under way: it is
  short, and a storm does not wait. What it lost all the same is said, and looked for in the
  journal.
- Where /dev/kmsg cannot be read the journal is followed, and /dev/kmsg tried again each minute.
- Our place is kept only up to the last line that belongs to no open report: a report that a crash
  cuts in two is read again, whole.
"""

import select
import time
from collections.abc import Callable, Iterator, Mapping

from watchdog import words
from watchdog.child import Children
from watchdog.clock import Clock
from watchdog.facts import KernelLine, Tick
from watchdog.health import Health, Say
from watchdog.kernel_ring import KernelRing
from watchdog.oom_report.stream import CUT_OFF_S
from watchdog.sense import mark
from watchdog.sense.journal_reader import Gap, JournalReader, Message, Missed, Place, Said
from watchdog.sense.kernel_clock import KernelClock
from watchdog.sense.kernel_log import Record
from watchdog.sense.mark import Mark, Resume

KEPT = "kernel_log"
KILL = "illed process"
LINES_MAX = 1000  # a turn: beats and samples go on during a storm
DRAIN_EVERY = 50  # lines, so that the ring is emptied while reports are thought about
RETRY_S = 60.0
LOOK_AGAIN_S = 5.0  # between two looks into the journal for what the ring lost
MORE_S = 0.3  # for the rest of a report that the journal's reader is just printing
DRIFT_S = 5.0
MORE_MAX = 100  # pieces of one report
ONLY_RING = "kills while the daemon is down are told only as far as /dev/kmsg holds them"
WELL = "the journal can be read again"
ONLY_COUNTED = "until then an OOM kill is seen in the kernel's counter alone"


class KernelSource:
    """See the head of this file. `kept` holds what `cursors` gave in an earlier run."""

    def __init__(
        self, source: str, children: Children, kept: Mapping[str, str], boot_id: str | None,
        health: Health, say: Say, *,
        ring: KernelRing | None = None, journal: JournalReader | None = None,
        mono: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.boot_id = boot_id or "unknown"
        self.health = health
        self.say = say
        self.ring = ring or KernelRing()
        self.mono = mono
        self.children = children
        self.journal = journal or JournalReader(children)
        self.has_ring = source in ("auto", "kmsg")
        self.has_journal = source in ("auto", "journal")
        self.read = self.kept = mark.load(kept.get(KEPT))
        self.resume: Resume[Record] | None = None
        self.resume_journal: Resume[Message] | None = None
        self.mode = "off"  # then "ring", "catch-up", "journal" or "none"
        self.idle = True
        self.clock = KernelClock(mono)
        self.retry_at: float | None = None
        self.looked_at = -LOOK_AGAIN_S
        self.until: int | None = None
        self.asked = False  # the journal, which has not ended yet
        self.taken: list[Said] = []  # what it said, not yet given
        self.broken_off: float | None = None  # time of the last line of another boot

    # ---- which source -------------------------------------------------------------------------

    def begin(self, clock: Clock) -> None:
        """Choose where to read from; at the start, and again whenever a source comes or goes."""
        self.retry_at = None
        if not self.has_ring and not self.has_journal:
            return
        problem = self._open() if self.has_ring else None
        if problem is not None:
            self._say_unreadable(problem)
        if self.ring.log is not None:
            self._begin_ring(clock)
        elif self.has_journal:
            self._follow(clock)
        else:
            self._rest(clock)

    def prepare(self, clock: Clock) -> None:
        """Before the kernel's counter is read for the first time: what is logged from now on is
        ours, and what it counted before is not."""
        if self.read is not None or not (self.has_ring or self.has_journal):
            return
        if self.has_ring:
            self._open()
            while newest := self.ring.clear():
                self.read = self._mark(clock, newest)
                self.ring.drain()
        self.read = self.kept = self.read or self._now(clock)

    def _open(self) -> str | None:
        """Open the ring where it left off; why it cannot be."""
        last = self.read
        same = last is not None and last.boot_id == self.boot_id
        return self.ring.open(last.seq if last and same else -1)

    def _begin_ring(self, clock: Clock) -> None:
        self.health.recover("kernel_log", "/dev/kmsg can be read again")
        self.journal.stop()
        self.asked, self.taken = False, []
        if self.read is None:
            # What is in the ring already happened before anybody asked.
            self.prepare(clock)
            self.mode = "ring"
            self._probe()
            return
        first = self.ring.queue[0] if self.ring.queue else None
        same = self.read.boot_id == self.boot_id
        self.resume = Resume(self.read) if same and self.read.seq < 0 else None
        if self.read.usec < 0:
            # Nothing was read yet when the place was kept: what is older is none of ours. The
            # clocks may differ by seconds.
            since = self.read._replace(usec=max(0, int((self.read.mono - DRIFT_S) * 1e6)))
            self.resume = Resume(since) if same else None
            whole = same and (first is None or first.usec <= since.usec)
        elif self.read.seq >= 0:
            whole = same and (first is None or first.lost == 0)
        else:
            whole = same and (first is None or first.usec <= self.read.usec)
        if whole or not self.has_journal:
            self.mode = "ring"
            self._probe()
            return
        if first is not None:
            self.ring.queue[0] = first._replace(lost=0)
        self._catch_up(self.read, first.usec if first else None)

    def _catch_up(self, after: Mark, until: int | None) -> None:
        """The ring waits in the queue while the journal tells what came before it."""
        self.mode = "catch-up"
        self.until = until
        self._resume_journal()
        self.asked, self.taken = True, []
        self.journal.catch_up(after, until)

    def _follow(self, clock: Clock) -> None:
        self.mode = "journal"
        if self.read is None:
            self.read = self.kept = self._now(clock)
        self._resume_journal()
        self.asked, self.taken = True, []
        self.journal.follow(self.read)
        self.retry_at = self.retry_at or clock.boottime() + RETRY_S

    def _rest(self, clock: Clock) -> None:
        self.mode = "none"
        self.read = self.kept = self.read or self._now(clock)
        self.retry_at = clock.boottime() + RETRY_S

    def _resume_journal(self) -> None:
        self.resume_journal = Resume(self.read) if self.read else None

    def _probe(self) -> None:
        if self.has_journal:
            self.asked = True
            self.journal.probe()

    # ---- the loop -----------------------------------------------------------------------------

    def fds(self) -> dict[int, int]:
        """What to wait for."""
        return self.ring.fds()

    def due(self, up: float) -> float | None:
        """When `facts` must be called although nothing is ready (boottime)."""
        if self.mode == "ring" and self.ring.queue:
            return up
        return self.retry_at

    def look(self, clock: Clock) -> bool:
        """Take what there is into our memory; whether the line of a kill is among it."""
        before = len(self.ring.queue)
        self._drain_or_say(clock)
        self.taken += self.journal.take()
        new = [one.line for one in self.taken if isinstance(one, Message)]
        return any(KILL in line for line in [*new, *self.ring.newer(before)])

    def state(self) -> tuple[str, str]:
        """How the log is read now, as facts.LogState has it, and why not."""
        bad = self.health.bad
        if self.mode == "off":
            return "off", "kernel_log.source is off"
        if self.mode == "none" or (self.mode == "journal" and "journal" in bad):
            return "off", bad.get("kernel_log") or bad.get("journal") or "it cannot be read"
        done = self.clock.is_live or (self.mode == "ring" and not self.ring.queue)
        if not done or self.mode == "catch-up":
            return "catching up", ""
        return ("late" if self.mode == "journal" else "live"), ""

    def facts(self, clock: Clock) -> Iterator[KernelLine | Tick]:
        """The lines that are there. Call `settled` after each has been taken."""
        if self.retry_at is not None and clock.boottime() >= self.retry_at:
            self._retry(clock)
        if self.asked:
            yield from self._from_journal(clock)
        if self.mode == "ring":
            yield from self._from_ring(clock)

    def settled(self, idle: bool) -> None:
        """What was given so far has been taken; `idle`: and it belongs to no open report."""
        self.idle = idle
        if idle:
            self.kept = self.read

    def cursors(self) -> dict[str, str]:
        """What to keep, together with the events that these lines led to."""
        return {KEPT: self.kept.text()} if self.kept is not None else {}

    def _retry(self, clock: Clock) -> None:
        """The source that failed, once more."""
        self.retry_at = clock.boottime() + RETRY_S
        if self.mode == "none" or (self.mode == "journal" and not self.asked):
            self.begin(clock)
        elif self.mode == "journal" and self.has_ring and self.idle and self._open() is None:
            self.retry_at = None
            self._begin_ring(clock)

    # ---- /dev/kmsg ----------------------------------------------------------------------------

    def _drain_or_say(self, clock: Clock) -> None:
        problem = self.ring.drain()
        if problem is not None:
            self._say_unreadable(problem)
        if self.ring.log is None and self.mode == "ring" and not self.ring.queue:
            (self._follow if self.has_journal else self._rest)(clock)

    def _say_unreadable(self, problem: str) -> None:
        instead = "the journal is read instead" if self.has_journal else ONLY_COUNTED
        self.health.degrade("kernel_log", problem, instead)

    def _from_ring(self, clock: Clock) -> Iterator[KernelLine | Tick]:
        if self.ring.queue:
            yield from self._break()
        number = 0
        # A report of before we looked is taken whole: a sample in between would cut it off.
        while self.ring.queue and (number < LINES_MAX or not (self.idle or self.clock.is_live)):
            number += 1
            if number % DRAIN_EVERY == DRAIN_EVERY - 1:
                self._drain_or_say(clock)
            record = self.ring.pop()
            if record.lost and self._overran(record, clock):
                return
            new = [record]
            if self.resume is not None:
                new = self.resume.take(record, record.usec, record.line)
                new += self.resume.end() if not self.ring.queue else []
                self.resume = None if self.resume.done else self.resume
            for one in new:
                yield self._line(clock, one)
        if not self.ring.queue:
            self.clock.live()

    def _overran(self, record: Record, clock: Clock) -> bool:
        """Say it; True: what was lost is looked for in the journal first."""
        up = clock.boottime()
        look = self.has_journal and up >= self.looked_at + LOOK_AGAIN_S
        said = f"the kernel log overran: {words.count(record.lost, 'record')} lost"
        body = {"what": "kernel_log_overrun", "lost": record.lost}
        if self.read is None or not look:
            self.say("watchdog.degraded", [said], body)
            return False
        self.say("watchdog.degraded", [f"{said}, looking for them in the journal"], body)
        self.looked_at = up
        self.ring.put_back(record._replace(lost=0))
        self._catch_up(self.read, record.usec)
        return True

    def _line(self, clock: Clock, record: Record) -> KernelLine:
        ago = self.clock.ago(record.usec)
        self.read = self._mark(clock, record)
        return KernelLine(
            round(clock.wall() - ago, 3), round(clock.boottime() - ago, 3), record.line
        )

    def _mark(self, clock: Clock, record: Record) -> Mark:
        crc = mark.crc_of(record.line)
        return Mark(self.boot_id, clock.wall(), self.mono(), record.usec, crc, record.seq)

    def _now(self, clock: Clock) -> Mark:
        return Mark(self.boot_id, clock.wall(), self.mono())

    # ---- the journal --------------------------------------------------------------------------

    def _from_journal(self, clock: Clock) -> Iterator[KernelLine | Tick]:
        for _ in range(MORE_MAX):
            said, self.taken = self.taken + self.journal.take(), []
            for one in said:
                if isinstance(one, Message):
                    yield from self._message(clock, one)
                elif isinstance(one, Place):
                    yield from self._place(clock, one)
                elif isinstance(one, Gap):
                    self._say_gap(one)
                elif isinstance(one, Missed):
                    count = words.count(one.messages, "record")
                    self.say("watchdog.degraded", [f"journald missed {count} of the kernel"],
                             {"what": "journal_missed", "lost": one.messages})  # fmt: skip
            if said:
                self.health.recover("journal", WELL)
            if not self.journal.running:
                yield from self._known_new(clock)
                self._journal_over(clock)
                return
            if said:
                self._drain_or_say(clock)
            elif self.idle or not self._more(clock):
                return

    def _place(self, clock: Clock, place: Place) -> Iterator[KernelLine]:
        """The child is that far; what was held back is new."""
        yield from self._known_new(clock)
        if self.read is not None and place.cursor is not None:
            self.read = self.read._replace(cursor=place.cursor)
            self.settled(self.idle)
        if self.mode == "journal":
            self.clock.live()

    def _known_new(self, clock: Clock) -> Iterator[KernelLine]:
        held = self.resume_journal.end() if self.resume_journal is not None else []
        for one in held:
            yield self._from_entry(clock, one)

    def _more(self, clock: Clock) -> bool:
        """Wait a little for the rest of a report: samples in between would take it for cut off."""
        fd = self.journal.out_fd
        ready = fd >= 0 and bool(clock.wait({fd: select.POLLIN}, MORE_S))
        self.children.turn(clock.boottime())
        return ready

    def _message(self, clock: Clock, found: Message) -> Iterator[KernelLine | Tick]:
        ours = found.boot_id == self.boot_id
        if self.mode == "catch-up" and ours and self.until is not None and self.ring.queue:
            first = self.ring.queue[0]
            usec = found.usec or 0
            if usec > self.until or (
                usec == self.until and mark.crc_of(found.line) == mark.crc_of(first.line)
            ):
                return  # from here on the ring has it
        new = [found]
        if self.resume_journal is not None and not self.resume_journal.done:
            if found.boot_id != self.resume_journal.mark.boot_id:
                new = [*self.resume_journal.end(), found]
            else:
                new = self.resume_journal.take(found, found.usec, found.line)
        for one in new:
            if self.read is None or one.boot_id != self.read.boot_id:
                yield from self._break()
            yield self._from_entry(clock, one)

    def _from_entry(self, clock: Clock, found: Message) -> KernelLine:
        boot = found.boot_id or "unknown"
        usec = -1 if found.usec is None else found.usec
        self.read = Mark(
            boot, found.t, self.mono(), usec, mark.crc_of(found.line), -1, found.cursor
        )
        if boot != self.boot_id:
            self.broken_off = found.t
            return KernelLine(found.t, None if usec < 0 else usec / 1e6, found.line, boot)
        ago = self.clock.ago(usec) if usec >= 0 else 0.0
        return KernelLine(found.t, round(clock.boottime() - ago, 3), found.line)

    def _break(self) -> Iterator[Tick]:
        """Between two boots: what the first left open is over, and goes on in no other."""
        if self.broken_off is not None:
            at, self.broken_off = self.broken_off + CUT_OFF_S + 1.0, None
            yield Tick(at, None)

    def _journal_over(self, clock: Clock) -> None:
        """The child has ended: its time was over, it had nothing more, or it failed."""
        self.asked = False
        problem = self.journal.problem
        if problem is None:
            self.health.recover("journal", WELL)
        else:
            kills = ONLY_COUNTED if self.mode == "journal" else ONLY_RING
            self.health.degrade("journal", problem, kills)
        if self.mode == "catch-up":
            self.mode = "ring"
            self.resume = None
        elif self.mode == "journal" and problem is None:
            self._follow(clock)

    def _say_gap(self, gap: Gap) -> None:
        span = "since our last look"
        if gap.to is not None:
            span = f"for {words.duration(max(1.0, gap.to - gap.since))} after our last look"
        self.say(
            "watchdog.degraded",
            [f"neither /dev/kmsg nor the journal holds what the kernel wrote {span}",
             "OOM kills of that time may be missing"],
            {"what": "kernel_log_gap", "since": gap.since, "to": gap.to},
        )  # fmt: skip

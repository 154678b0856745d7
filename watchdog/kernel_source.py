"""The kernel log as one stream: what the journal kept while nobody looked, then /dev/kmsg live.

After a restart the ring of /dev/kmsg still holds what came meanwhile, unless it has wrapped or the
machine was booted: then the journal has it. Both give the same ids (boot and the kernel's own
time), so what both tell is told once. Our place in either is kept only up to the last line that
belongs to no open report: a report that a crash cuts in two is read again, whole.
"""

import json
import select
import sys
import time
from collections.abc import Iterator, Mapping

from watchdog import words
from watchdog.child import Child, Children
from watchdog.clock import Clock
from watchdog.facts import KernelLine
from watchdog.sense.kernel_log import KernelLog, KernelLogError

DEADLINE_S = 20.0
OUTPUT_MAX = 16 << 20


class KernelSource:
    """See the head of this file. `kept` holds the cursors of an earlier run."""

    def __init__(self, children: Children, kept: Mapping[str, str], boot_id: str | None) -> None:
        self.children = children
        self.boot_id = boot_id
        self.problem: str | None = None  # why the journal could not be read
        self.log: KernelLog | None = None
        self.child: Child | None = None
        self.journal_read = self.journal_kept = kept.get("journal")
        boot, _, seq = kept.get("kmsg", "").partition(" ")
        self.first_start = not boot
        self.catching_up = True  # what is in the ring came before we looked
        # Another boot: the ring is all new.
        same = boot == boot_id and seq.lstrip("-").isdigit()
        self.seq_read = self.seq_kept = int(seq) if same else -1

    def open(self, source: str) -> str | None:
        """Begin; why /dev/kmsg cannot be read, where it should be and cannot."""
        if source in ("auto", "journal"):
            self._ask_journal()
        if source not in ("auto", "kmsg"):
            return None
        try:
            self.log = KernelLog(after_seq=self.seq_read)
            if self.first_start:
                # What is in the ring already happened before anybody asked.
                while records := self.log.read():
                    self.seq_read = self.seq_kept = records[-1].seq
            self.log.lost = 0 if self.first_start else self.log.lost
        except KernelLogError as error:
            self.log = None
            return str(error)
        return None

    def fds(self) -> dict[int, int]:
        """What to wait for; the ring waits while older lines are read from the journal."""
        ready = self.log is not None and self.child is None
        return {self.log.fd: select.POLLIN} if self.log and ready else {}

    def facts(self, clock: Clock) -> Iterator[KernelLine]:
        """The lines that are there. Call `settled` after each has been taken."""
        if self.child is not None:
            if not self.child.done:
                return
            yield from self._from_journal(self.child)
            self.child = None
        if self.log is None:
            return
        t, up, now = clock.wall(), clock.boottime(), time.monotonic()
        try:
            records = self.log.read()
        except KernelLogError as error:
            self.problem, self.log = str(error), None
            return
        for record in records:
            self.seq_read = record.seq
            # The kernel's own clock drifts against ours: only what is old is dated by it.
            ago = max(0.0, now - record.usec / 1e6) if self.catching_up else 0.0
            yield KernelLine(round(t - ago, 3), round(up - ago, 3), record.line)
        self.catching_up = self.catching_up and bool(records)

    def state(self) -> tuple[str, str]:
        """How the log is read now, as facts.LogState has it, and why not."""
        if self.child is not None or (self.log is not None and self.catching_up):
            return "catching up", ""
        why = "" if self.log is not None else "kernel_log.source leaves out what could be read"
        return ("live", "") if self.log is not None else ("off", self.problem or why)

    def settled(self, idle: bool) -> None:
        """What was given so far has been taken; `idle`: and it belongs to no open report."""
        if idle:
            self.seq_kept, self.journal_kept = self.seq_read, self.journal_read

    def cursors(self) -> dict[str, str]:
        """What to keep, together with the events that these lines led to."""
        kept = {"journal": self.journal_kept} if self.journal_kept else {}
        return kept | {"kmsg": f"{self.boot_id} {self.seq_kept}"}

    def take_lost(self) -> int:
        """How many records were overwritten before we read them, since the last call."""
        if self.log is None or not self.log.lost:
            return 0
        lost, self.log.lost = self.log.lost, 0
        return lost

    def _ask_journal(self) -> None:
        argv = [sys.executable, "-I", "-m", "watchdog.sense.journal"]
        argv += ["--after-cursor", self.journal_read] if self.journal_read else ["--end"]
        try:
            self.child = self.children.start(argv, b"", DEADLINE_S, max_output=OUTPUT_MAX)
        except OSError as error:
            self.problem = f"the journal cannot be read: {error.strerror}"

    def _from_journal(self, child: Child) -> Iterator[KernelLine]:
        if child.failure():
            said = words.name(bytes(child.errors).strip().split(b"\n")[0])
            self.problem = said or f"reading the journal {child.failure()}"
        for raw in bytes(child.output).split(b"\n"):
            try:
                record = json.loads(raw) if raw else None
            except ValueError:
                continue  # the last line of an output that was cut
            if not isinstance(record, dict):
                continue
            self.journal_read = record.get("cursor") or self.journal_read
            if "line" in record:
                yield self._line(record)

    def _line(self, record: Mapping[str, object]) -> KernelLine:
        boot, usec, t = record.get("boot_id"), record.get("usec"), record.get("t")
        return KernelLine(
            float(t) if isinstance(t, int | float) else 0.0,
            usec / 1e6 if isinstance(usec, int | float) else None,
            str(record["line"]),
            str(boot) if boot and boot != self.boot_id else None,
        )

"""Starts the watcher, listens to it, and starts it again when it ends, hangs or grows too large.

It also keeps what the guard has to tell until a watcher has heard it.
"""

import os
import select
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from watchdog import wire, words
from watchdog.spawn import Process, spawn

BEAT_LATE_S = 60.0
RESIDENT_MAX = 64 << 20
RESIDENT_EVERY_S = 10.0
# A watcher that is asked to stop has this long before it is ended: one that has throttled units
# gives them back first, and one that writes evidence ends that (`deeds.PUT_BACK_S`), else it takes
# 0.1 s. systemd ends us after 10 s.
STOP_S = 6.5
STUCK_S = 10.0  # one that is ended and still there waits in the kernel, for a disk that hangs
ANEW = "the watcher was asked to begin anew"
ANEW_EVERY_S = 3600.0  # at most
BACK_OFF_S = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
# One that had come to work waits no longer than this, however often it was ended: without a journal
# the kernel's ring of 128 KiB is all there is, and 4 s of a storm of kills fill it.
WORKED_BACK_OFF_S = 2.0
# A fork takes memory, and time: while a signal is near it waits, for so long at the most.
PUT_OFF_S = 2.0
SOUND_AFTER_S = 60.0
REPORTS_MAX = 64

Report = tuple[Any, ...]


class Keeper:
    """One watcher at a time. All times are boottime."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        rules_fd: int,
        env: Mapping[str, str],
        oom_score_adj: int,
        resident: Callable[[int], int | None],
        trouble: Callable[[str], None],
    ) -> None:
        """`argv` lacks `--wire FD`; `trouble` is told in a sentence why one has to be replaced."""
        self.argv = list(argv)
        self.rules_fd = rules_fd
        self.env = dict(env)
        self.oom_score_adj = oom_score_adj
        self.resident = resident
        self.trouble = trouble
        self.process: Process | None = None
        self.fd: int | None = None
        self.started = self.last_beat = 0.0
        self.beats = 0
        self.start_at: float | None = None  # when the next one is to be started
        self.end_at: float | None = None  # when this one is killed if it has not stopped
        self.ended_for = ""  # why it had to end, where we know
        self.stuck = False  # it was ended and does not end, which was told
        self.failures = 0
        self.renewed: float | None = None  # when last
        self.checked = 0.0
        self.reports: list[list[Any]] = []  # [report, beats when it was sent or None]
        self.dropped = 0

    # ---- life --------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Start one; a failure is told and tried again later."""
        self.started = self.last_beat = now
        self.beats = 0
        self.start_at = self.end_at = None
        self.ended_for, self.stuck = "", False
        for entry in self.reports:
            entry[1] = None
        try:
            ours, theirs = wire.pair()
        except OSError as error:  # no descriptor, or no memory for one: later there is
            self._again(now, f"the watcher cannot be started: {error.strerror}")
            return
        argv = [*self.argv, "--wire", str(theirs)]
        try:
            self.process = spawn(
                argv, keep=(theirs, self.rules_fd), env=self.env, session=False,
                oom_score_adj=self.oom_score_adj,
            )  # fmt: skip
            self.fd = ours
        except OSError as error:
            os.close(ours)
            self._again(now, f"the watcher cannot be started: {error.strerror}")
        finally:
            os.close(theirs)

    def fds(self) -> dict[int, int]:
        """Descriptor -> poll mask."""
        wanted = {}
        if self.fd is not None:
            wanted[self.fd] = select.POLLIN
        if self.process is not None:
            wanted[self.process.pidfd] = select.POLLIN
        return wanted

    def turn(self, now: float, *, signal_near: bool = False) -> list[wire.Message]:
        """Hear it, look after it; its messages but for the beats. Never waits.

        `signal_near`: the guard is about to act, so that none is started if it can wait.
        """
        found = self.listen(now)
        self._deliver()
        if self.process is not None:
            self._look_after(self.process, now)
        put_off_s = PUT_OFF_S if signal_near else 0.0
        if self.process is None and self.start_at is not None and now >= self.start_at + put_off_s:
            self.start(now)
        return found

    def _look_after(self, process: Process, now: float) -> None:
        status = process.reap()
        if status is not None:
            self.process = None
            self._hang_up()
            if status == 0 and self.ended_for == ANEW:
                self.start_at = now
                return
            how = f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
            why = f"{self.ended_for} (it {how})" if self.ended_for else f"the watcher {how}"
            self._again(now, why)
        elif self.end_at is not None:
            if now >= self.end_at:
                self.ended_for = self.ended_for or "the watcher hung up and did not end"
                process.end()
            if now >= self.end_at + STUCK_S and not self.stuck:
                self.stuck = True
                self.trouble(
                    f"{self.ended_for}; it was killed and does not end, as one that waits for a "
                    "disk: until it does the guard is alone"
                )
        elif self.fd is None:
            self._end(now, "")  # it is about to end, and how says more
        elif now - self.last_beat > BEAT_LATE_S:
            self._end(now, f"no sign of life from the watcher for {words.duration(BEAT_LATE_S)}")
            process.end()
        elif now - self.checked >= RESIDENT_EVERY_S:
            self.checked = now
            resident = self.resident(process.pid) or 0
            if resident > RESIDENT_MAX:
                limit = words.size(RESIDENT_MAX)
                self._end(now, f"the watcher holds {words.size(resident)}, more than {limit}")
                self.send(("stop",))

    def forgive(self, now: float) -> None:
        """We ourselves were stopped or the machine slept: its silence says nothing."""
        self.last_beat = now
        if self.end_at is not None:
            self.end_at = max(self.end_at, now)

    def renew(self, now: float) -> None:
        """Put another one into its place, as it asks for itself; not too often."""
        soon = self.renewed is not None and now - self.renewed < ANEW_EVERY_S
        if not soon and self.end_at is None and self.send(("stop",)):
            self.renewed = now
            self._end(now, ANEW)

    def stop(self, now: float) -> None:
        """Ask it to stop; `kill` ends the waiting."""
        self.start_at = None
        self.end_at = now + STOP_S
        self.send(("stop",))

    def kill(self) -> None:
        """End it now."""
        if self.process is not None:
            self.process.end()

    def gone(self) -> bool:
        """Has it ended? (After `stop`.)"""
        if self.process is not None and self.process.reap() is not None:
            self.process = None
        return self.process is None

    def _end(self, now: float, why: str) -> None:
        self.ended_for = why
        self.end_at = now + STOP_S

    def _again(self, now: float, why: str) -> None:
        if now - self.started >= SOUND_AFTER_S and self.beats:
            self.failures = 0
        pause = BACK_OFF_S[min(self.failures, len(BACK_OFF_S) - 1)]
        if self.beats:
            pause = min(pause, WORKED_BACK_OFF_S)
        self.failures += 1
        self.start_at = now + pause
        self.trouble(f"{why}; it is started again in {words.duration(pause)}")

    def _hang_up(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
        self.fd = None

    # ---- messages ----------------------------------------------------------------------------

    def send(self, message: wire.Message) -> bool:
        """Send if it can be sent at once."""
        if self.fd is None:
            return False
        try:
            return wire.send(self.fd, message)
        except wire.ClosedError:
            self._hang_up()
            return False

    def report(self, report: Report) -> None:
        """Tell the watcher, now or when there is one that listens."""
        try:
            wire.pack(report)
        except wire.TooLargeError:
            self.dropped += 1  # it would stand in the way of all others
            return
        self.reports.append([report, None])
        if len(self.reports) > REPORTS_MAX:
            # The first of an incident says more than the last repetition of it.
            del self.reports[REPORTS_MAX // 2]
            self.dropped += 1
        self._deliver()

    def answered(self, report: Report) -> bool:
        """Has a watcher lived on after it was sent this?"""
        for kept, sent_at in self.reports:
            if kept is report:
                return sent_at is not None and self.beats > sent_at
        return True

    def listen(self, now: float) -> list[wire.Message]:
        """Only hear it: what may be done between a decision and its signal. Never forks."""
        if self.fd is None:
            return []
        try:
            messages = wire.receive(self.fd)
        except wire.ClosedError:
            self._hang_up()
            return []
        if messages:
            self.last_beat = now
        # Its first word is its rules; then it listens. A beat that was on its way when we sent
        # proves nothing: only the second one after a report says that the report was read.
        self.beats += sum(message[0] == "beat" for message in messages)
        self.reports = [r for r in self.reports if r[1] is None or self.beats < r[1] + 2]
        return [message for message in messages if message[0] != "beat"]

    def _deliver(self) -> None:
        for entry in self.reports:
            if entry[1] is None:
                if not self.send(entry[0]):
                    return
                entry[1] = self.beats

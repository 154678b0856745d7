"""Pure: the lines of a running kernel in, OOM reports out, at little cost until there is one.

Most machines never see an OOM report. What reads them costs half a MiB, and is loaded with the
first line that can be a part of one.
"""

from typing import TYPE_CHECKING

from watchdog.facts import KernelLine

if TYPE_CHECKING:
    from watchdog.oom_report.assemble import Assembler, Forged, Report

QUIET_S = 0.5  # after its kill line a report is over when nothing more of it came for so long
CUT_OFF_S = 10.0  # a dump without a kill line: slow consoles take 30 ms a line
# Whose reader is late brings the lines of one report in pieces, with samples in between. So late is
# a journald that is starved: after three minutes systemd's watchdog ends it.
LATE_S = 240.0

# A line that holds none of these can neither open a report nor count as a kill.
MARKS = (
    "oom", "invoked", "illed process", "ill process", "illed as a result", "ut of memory",
    "memory: usage", "emory cgroup", "OOM request",
    "pid ]", "pid  ]", "anual OOM", "imit reached of", "deadlocked on memory", '"MESSAGE":[',
    '"MESSAGE": [', '"MESSAGE" : [',
)  # fmt: skip


def interesting(line: str) -> bool:
    """Whether a line can matter while no report is open; quick, and never wrong about a report."""
    return any(mark in line for mark in MARKS)


class Stream:
    """An Assembler that begins with the first line that matters; see there."""

    def __init__(self) -> None:
        self._assembler: Assembler | None = None
        self._passed = 0  # lines before it began

    def feed(self, line: KernelLine) -> "list[Report]":
        """One line; the reports that are over with it."""
        if self._assembler is None:
            # What begins otherwise than a record does is saved text, and read in other ways.
            if line.line[:1].isdigit() and not interesting(line.line):
                self._passed += 1
                return []
            from watchdog.oom_report.assemble import Assembler

            self._assembler = Assembler()
            self._assembler.skip(self._passed)
        return self._assembler.feed(line)

    @property
    def idle(self) -> bool:
        """Whether nothing is open."""
        return self._assembler is None or self._assembler.idle

    @property
    def awaited(self) -> int:
        """How many reports are open that wait for their kill line."""
        return 0 if self._assembler is None else self._assembler.awaited

    def tick(self, t: float, up: float | None, late: bool = False) -> "list[Report]":
        """Time has passed: what is over by quiet is over. `late`: the reader may be."""
        return [] if self._assembler is None else self._assembler.tick(t, up, late)

    def flush(self) -> "list[Report]":
        """No more lines come: everything that is open is over."""
        return [] if self._assembler is None else self._assembler.flush()

    def settle(self) -> "list[Report]":
        """The reader stops: what has its kill line is over, what has not is read again later."""
        return [] if self._assembler is None else self._assembler.settle()

    def forged(self) -> "list[Forged]":
        """The forgeries since the last call."""
        return [] if self._assembler is None else self._assembler.forged()

"""Pure: what stands between saved text and the kernel's lines in it; loaded only for such text."""

from collections import deque
from collections.abc import Callable

from watchdog.oom_report import lines
from watchdog.oom_report.entries import Entries
from watchdog.oom_report.wrap import Unwrap

ECHO_MAX = 64
SHORT = 12  # shorter texts come again by themselves


class Saved:
    """`entries` finds the lines in entries with named fields, `wrap` puts broken ones together."""

    def __init__(self, unfinished: Callable[[str], bool], row: Callable[[str], bool]) -> None:
        self.entries = Entries()
        self.wrap = Unwrap(unfinished, row)
        self._echoes: deque[tuple[str, int | None]] = deque(maxlen=ECHO_MAX)

    @property
    def idle(self) -> bool:
        """Whether nothing is held back."""
        return self.wrap.idle and self.entries.idle

    def echoed(self, read: lines.Line) -> bool:
        """The line that just came, from another source: the one with a clock or both."""
        text, usec = read.text, read.usec
        if len(text) <= SHORT:
            return False
        again = any(
            text == before and (usec == clock if usec and clock else usec is not clock)
            for before, clock in self._echoes
        )
        if not again:
            self._echoes.append((text, usec))
        return again

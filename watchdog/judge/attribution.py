"""Pure: is every kill accounted for? The kernel's own line is the only witness so far.

`KillCount` compares the kernel's counter with the lines that were read, so that a kill without a
line (rate limit, overrun, a level filter) is noticed and not explained away.
"""

GRACE_S = 10.0


class KillCount:
    """vmstat's oom_kill against kill lines; both count a process that was printed twice twice."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._owed = 0
        self._since: float | None = None

    def line(self, count: int) -> None:
        """So many kill lines of this boot were read."""
        self._owed -= count

    def counter(self, value: int, up: float) -> int:
        """The counter now. How many kills have had no line for 10 s; each is told once."""
        if self._last is not None and value > self._last:
            self._owed += value - self._last
            self._since = up
        # The kernel counts before it prints: more lines than counts are lines of before our time.
        if self._last is None or self._owed <= 0:
            self._owed = 0
        self._last = value
        if self._owed == 0 or self._since is None or up - self._since < GRACE_S:
            return 0
        missed, self._owed = self._owed, 0
        return missed

"""The kernel's own clock, that of its log, against ours.

It drifts against CLOCK_MONOTONIC by seconds a week, so a record that was just written seems to be
of some seconds ago, or of the future. What came live tells by how much.
"""

from collections.abc import Callable

SLEW = 5e-4  # the two part by that much at the most (the limit of NTP's corrections)


class KernelClock:
    """Ages of records of this boot. `mono` is CLOCK_MONOTONIC in seconds."""

    def __init__(self, mono: Callable[[], float]) -> None:
        self.mono = mono
        self.is_live = False
        self._drift: float | None = None
        self._at = 0.0

    def live(self) -> None:
        """All that there was has been read: what comes from now on is new when it is read."""
        self.is_live = True

    def ago(self, usec: int) -> float:
        """How long ago a record was written (s): that of before `live` by the kernel's clock."""
        now = self.mono()
        lag = now - usec / 1e6
        # The smallest difference that was seen; since then it may only have grown slowly.
        grown = lag if self._drift is None else self._drift + SLEW * (now - self._at)
        self._drift, self._at = min(lag, grown), now
        return max(0.0, lag - self._drift if self.is_live else lag)

"""Time, as an argument: the real clock waits in poll(), the other one jumps.

Durations run on CLOCK_BOOTTIME, which goes on through suspend and never steps; the wall clock is
for telling only.
"""

import select
import time
from collections.abc import Mapping
from typing import Protocol


class Clock(Protocol):
    """What a loop may know of time."""

    def boottime(self) -> float:
        """Seconds since boot, suspend included."""

    def wall(self) -> float:
        """Unix seconds."""

    def wait(self, fds: Mapping[int, int], timeout_s: float | None) -> dict[int, int]:
        """Wait until one of `fds` (descriptor -> poll mask) is ready; {} when time is up."""


class RealClock:
    """CLOCK_BOOTTIME, CLOCK_REALTIME and poll(2)."""

    def boottime(self) -> float:
        return round(time.clock_gettime(time.CLOCK_BOOTTIME), 3)

    def wall(self) -> float:
        return round(time.time(), 3)

    def wait(self, fds: Mapping[int, int], timeout_s: float | None) -> dict[int, int]:
        poller = select.poll()
        for fd, mask in fds.items():
            poller.register(fd, mask)
        # A positive wait rounds up to 1 ms: rounding down would spin through the last moment.
        ms = None if timeout_s is None else max(0, int(timeout_s * 1000 + 0.999))
        return dict(poller.poll(ms))


class JumpClock:
    """A clock that stands still until somebody waits; a week passes in no time."""

    def __init__(self, wall: float = 1_700_000_000.0, up: float = 1000.0) -> None:
        self.up = up
        self.offset = wall - up

    def boottime(self) -> float:
        return round(self.up, 3)

    def wall(self) -> float:
        return round(self.up + self.offset, 3)

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self.up += seconds

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock, as an administrator or NTP does; boottime does not notice."""
        self.offset += seconds

    def wait(self, fds: Mapping[int, int], timeout_s: float | None) -> dict[int, int]:  # noqa: ARG002
        self.jump(timeout_s or 0.0)
        return {}

"""The kernel log as one stream: what was in the ring before we looked is dated as it happened."""

import time

import pytest

from watchdog.child import Children
from watchdog.clock import RealClock
from watchdog.kernel_source import KernelSource
from watchdog.sense.kernel_log import Record


class Ring:
    """A kernel log that gives these batches."""

    fd, lost = -1, 0

    def __init__(self, *batches):
        self.batches = list(batches)

    def read(self):
        return self.batches.pop(0) if self.batches else []


def test_only_what_came_before_we_looked_is_dated_by_the_kernels_clock():
    clock = RealClock()
    source = KernelSource(Children(), {"kmsg": "boot 1"}, "boot")
    old, drifted = (time.monotonic() - 3600) * 1e6, (time.monotonic() - 40) * 1e6
    first, live = Record(2, int(old), 6, "a"), Record(3, int(drifted), 6, "b")
    source.log = Ring([first], [], [live])
    (found,) = source.facts(clock)
    assert found.t == pytest.approx(clock.wall() - 3600, abs=1)
    assert found.up == pytest.approx(clock.boottime() - 3600, abs=1)
    assert not list(source.facts(clock))
    (found,) = source.facts(clock)
    assert found.t == pytest.approx(clock.wall(), abs=1)
    assert source.seq_read == 3

"""What the guard waits for and what it never waits for: its sleep, a trigger, a watcher's start."""

import os
import select
import signal
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from guard_world import Clock, World, row
from hypothesis import given
from hypothesis import strategies as st

from watchdog.clock import RealClock
from watchdog.guard.around import Options
from watchdog.guard.keeper import PUT_OFF_S
from watchdog.guard.loop import (
    FEED_WITHOUT_BEAT_S,
    FILL_RATE,
    SLEEP_LEAST_S,
    SLEEP_MOST_S,
    Guard,
)
from watchdog.guard_facts import Host
from watchdog.policy.guard_when import GuardRules, Mark
from watchdog.sense import fast


class House:
    """A guard over a machine in a folder, and when it started a watcher."""

    def __init__(self, root: Path, clock: Any = None, mode: str = "enforce") -> None:
        self.world = World(root)
        self.clock = clock or Clock()
        opts = Options(rules=-1, root=str(root), enforce_lock=f"{root}/lock")
        self.guard = guard = Guard(opts, self.clock, {})
        guard.pressure.rules = GuardRules(mode, Mark(0.10))
        guard.scene.kill, guard.scene.enforcing = self.world.kill, lambda: True
        guard._mode = lambda: mode  # type: ignore[method-assign]
        self.starts: list[float] = []
        guard.keeper.start = self.start  # type: ignore[method-assign]

    def start(self, now: float) -> None:
        self.guard.keeper.start_at = None
        self.starts.append(now)

    def tick(self, available: int, seconds: float = 0.1) -> None:
        self.clock.up = round(self.clock.up + seconds, 3)
        self.world.available = available
        self.world.files()
        self.guard._tick()

    def due(self) -> None:
        """The watcher has ended, and it is time for the next one."""
        self.guard.keeper.start_at = self.clock.up

    def hog(self) -> None:
        """Somebody of whom it is known that he grows, while memory is near the mark."""
        self.world.process(10, 300)
        self.guard.scene.take_dossier(self.clock.up, [row(10)])
        self.tick(105)
        self.world.process(10, 330)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


# ---- a watcher's start ---------------------------------------------------------------------------


def test_a_watcher_is_started_at_once_while_no_signal_is_near(house: House) -> None:
    for available in (900, 150):  # near the mark too: there is time
        house.due()
        house.tick(available)
    assert len(house.starts) == 2


def test_none_is_started_between_the_mark_and_the_first_signal(house: House) -> None:
    house.hog()
    house.due()
    house.tick(80, 1.0)
    assert house.world.signals == [(10, signal.SIGTERM)]
    house.tick(80)
    assert house.starts == [], "its SIGKILL may be needed any moment"
    house.tick(30)
    assert house.world.signals[1:] == [(10, signal.SIGKILL)]
    assert len(house.starts) == 1, "nothing more is to be sent"


def test_none_is_started_before_the_first_look_is_over(house: House) -> None:
    house.due()
    house.tick(80)
    assert house.guard.incident
    assert house.starts == []


def test_none_is_started_below_the_mark_while_swap_still_helps(house: House) -> None:
    house.world.swap = (1024, 900)
    house.due()
    house.tick(80)
    assert house.guard.incident is None
    assert house.starts == []
    house.tick(80, PUT_OFF_S)
    assert len(house.starts) == 1


@pytest.mark.parametrize("mode", ["observe", "enforce", "off"])
def test_a_start_is_never_put_off_for_long(tmp_path: Path, mode: str) -> None:
    """Nobody is taken where nobody can be: it may last for hours."""
    house = House(tmp_path, mode=mode)
    house.due()
    for _ in range(round(PUT_OFF_S / 0.1) + 1):
        house.tick(80)
    assert house.guard.incident
    assert len(house.starts) == 1
    house.due()
    house.tick(80, PUT_OFF_S)
    assert len(house.starts) == 2


def test_what_only_observes_has_nothing_to_wait_for_once_it_has_decided(tmp_path: Path) -> None:
    house = House(tmp_path, mode="observe")
    house.hog()
    house.tick(80, 1.0)
    assert house.guard.incident
    assert house.guard.incident.latched
    house.due()
    house.tick(80)
    assert len(house.starts) == 1


# ---- systemd's watchdog --------------------------------------------------------------------------


@pytest.mark.parametrize(("stuck", "fed"), [(False, 0), (True, 1)])
def test_a_watcher_that_no_restart_could_end_does_not_end_the_guard(
    house: House, stuck: bool, fed: int
) -> None:
    feeds: list[int] = []
    service: Any = SimpleNamespace(
        watchdog_s=60.0, feed=lambda: feeds.append(1), ready=lambda *_: True, status=lambda *_: True
    )
    guard = house.guard
    guard.service = service
    guard.keeper.beats, guard.keeper.stuck = 3, stuck
    guard.keeper.last_beat = house.clock.up + 15.0 - FEED_WITHOUT_BEAT_S
    house.tick(900)
    assert len(feeds) == 1
    house.tick(900, 9.0)
    guard.next_feed = 0.0
    house.tick(900, 9.0)
    assert len(feeds) == 1 + fed


# ---- how long it sleeps, and what wakes it -------------------------------------------------------


def slept(available: int | None, begin: int, incident: Any = None, **more: Any) -> float:
    it: Any = SimpleNamespace(
        incident=incident, pressure=SimpleNamespace(begin_bytes=begin),
        opts=SimpleNamespace(for_s=None), **more,
    )  # fmt: skip
    if "began" in more:
        it.opts.for_s = 10.0
    return Guard._sleep(it, Host(1.0, mem_available=available))


@given(st.integers(0, 1 << 44), st.integers(0, 1 << 42))
def test_it_never_sleeps_longer_than_the_mark_could_be_reached_in(
    available: int, begin: int
) -> None:
    found = slept(available, begin)
    assert SLEEP_LEAST_S <= found <= SLEEP_MOST_S
    assert found <= max(SLEEP_LEAST_S, (available - begin) / FILL_RATE)
    if SLEEP_LEAST_S < found < SLEEP_MOST_S:
        assert found == pytest.approx((available - begin) / FILL_RATE)


def test_it_looks_as_often_as_it_may_while_memory_is_short_or_unknown() -> None:
    assert slept(1 << 40, 0, incident=object()) == SLEEP_LEAST_S
    assert slept(None, 0) == SLEEP_LEAST_S
    assert slept(1 << 40, 0, began=100.0, last_up=109.75) == pytest.approx(0.25)
    assert slept(1 << 40, 0, began=100.0, last_up=111.0) == 0.0


class Waking(RealClock):
    """Waits as long as it takes, whatever was asked for; notes what ended it."""

    def __init__(self, each: list[Callable[[], None]]) -> None:
        self.each = each
        self.fds: list[Mapping[int, int]] = []
        self.woken: list[dict[int, int]] = []

    def wait(self, fds: Mapping[int, int], timeout_s: float | None) -> dict[int, int]:
        if not self.each:
            return {}
        self.each.pop(0)()
        self.fds.append(dict(fds))
        self.woken.append(super().wait(fds, 20.0 if self.each else 0.0))
        return self.woken[-1]


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Urgent data on it raises POLLPRI, as a PSI trigger does; a reset of it POLLERR."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near, _ = server.accept()
    with far, near:
        yield far, near


def run(house: House, trigger: int) -> None:
    guard = house.guard
    guard._put_on_armour = lambda: None  # type: ignore[method-assign]
    guard.eyes.trigger = trigger
    assert guard.run() == 0


def test_a_trigger_of_the_kernel_wakes_it_to_a_fresh_look(
    tmp_path: Path, line: tuple[socket.socket, socket.socket]
) -> None:
    far, near = line
    house = House(tmp_path, Waking([]))

    def squeeze() -> None:
        assert house.guard.incident is None
        house.world.available = 80
        house.world.files()
        far.send(b"!", socket.MSG_OOB)

    def stop() -> None:
        assert house.guard.incident is not None, "it was woken, and has looked"
        house.guard.stopping = True

    house.clock.each += [squeeze, stop]
    trigger = os.dup(near.fileno())
    run(house, trigger)
    assert house.clock.woken[0] == {trigger: select.POLLPRI}
    assert house.guard.eyes.trigger == trigger
    house.guard.eyes.close()


def test_a_trigger_that_the_kernel_takes_back_is_let_go(
    tmp_path: Path, line: tuple[socket.socket, socket.socket]
) -> None:
    far, near = line
    house = House(tmp_path, Waking([]))

    def reset() -> None:
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()

    def stop() -> None:
        house.guard.stopping = True

    house.clock.each += [reset, stop]
    trigger = os.dup(near.fileno())
    run(house, trigger)
    assert house.clock.woken[0][trigger] & select.POLLERR
    assert house.guard.eyes.trigger is None
    assert trigger not in house.clock.fds[1], "it goes on by time alone"
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(trigger)


@pytest.mark.parametrize("granted", [0, 1, 2])
def test_the_kernel_is_asked_for_a_trigger_and_once_more_for_a_lesser_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, granted: int
) -> None:
    opened: list[int] = []
    asked: list[bytes] = []
    really, flags_of = os.open, []

    def grant(fd: int, line: bytes) -> int:
        asked.append(line)
        if len(asked) <= granted:
            raise OSError(22, "Invalid argument")
        assert fd == opened[-1]
        return len(line)

    def give(path: str, flags: int) -> int:
        assert path == "/proc/pressure/memory"
        flags_of.append(flags)
        opened.append(really(tmp_path / "memory", os.O_RDWR | os.O_CREAT, 0o600))
        return opened[-1]

    with monkeypatch.context() as patched:
        patched.setattr(fast.os, "open", give)
        patched.setattr(fast.os, "write", grant)
        found = fast._trigger("/proc/pressure/memory")
    assert [line.split()[0] for line in asked] == [b"some"] * min(2, granted + 1)
    assert all(flags & os.O_NONBLOCK for flags in flags_of)
    assert (found is None) is (granted == 2)
    if found is not None:
        assert found == opened[-1]
        os.close(found)
    assert fast._trigger(str(tmp_path / "memory")) is None, "a recorded tree never answers"

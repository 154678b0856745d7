"""The guard on a clock that jumps: when its watcher is hurried, and what a sleep counts for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guard_world import Clock, World, row

from watchdog.guard import loop
from watchdog.guard.around import Options
from watchdog.guard.loop import HURRY_S, READY_S, Guard
from watchdog.policy.guard_when import GuardRules, Mark


class House:
    """A guard over a machine in a folder; its watcher is a list of what it was sent."""

    def __init__(self, root: Path) -> None:
        self.world = World(root)
        self.clock = Clock()
        self.guard = Guard(Options(rules=-1, root=str(root)), self.clock, {})
        self.guard.pressure.rules = GuardRules("observe", Mark(0.10))
        self.sent: list[tuple[Any, ...]] = []
        self.guard.keeper.send = lambda message: not self.sent.append(message)  # type: ignore

    def tick(self, available: int, seconds: float = 0.1) -> None:
        self.clock.up += seconds
        self.world.available = available
        self.world.files()
        self.guard._tick()

    def hurries(self) -> list[float]:
        return [message[1] for message in self.sent if message[0] == "hurry"]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.guard.eyes.close()


def test_the_watcher_is_hurried_while_memory_is_near_the_mark(house: House) -> None:
    for available in (900, 300, 290, 80, 70, 900):
        house.tick(available)
    assert house.hurries() == [HURRY_S, 0.0]


def test_one_that_is_started_in_an_incident_is_hurried_too(house: House) -> None:
    house.tick(80)
    assert house.guard.incident
    house.guard._take([("ready", "watching")])
    house.tick(80)
    house.tick(80)
    assert house.hurries() == [HURRY_S, HURRY_S]


def test_a_watcher_that_cannot_be_started_is_not_waited_for(house: House) -> None:
    house.tick(900)
    assert house.guard.scene.spares(10, 500)
    house.tick(900, READY_S)
    assert house.guard.scene.spares(10, 500) is None


def test_its_first_word_is_waited_for(house: House) -> None:
    house.tick(900)
    house.guard._take([("spared", True, {"why": [(10, 500)]})])
    assert (house.guard.scene.spares(10, 500), house.guard.scene.spares(11, 500)) == ("why", None)


@pytest.mark.parametrize("stuck", [False, True])
def test_what_no_watcher_will_hear_the_guard_says_by_itself(
    house: House, monkeypatch: pytest.MonkeyPatch, stuck: bool
) -> None:
    said: list[str] = []
    monkeypatch.setattr(loop, "say_alone", said.append)
    house.guard.keeper.stuck = stuck
    house.guard._trouble("it does not end")
    assert said == (["it does not end"] if stuck else [])


def test_a_sleep_is_no_time_in_which_somebody_could_have_ended(house: House) -> None:
    guard, world = house.guard, house.world
    guard.scene.kill = world.kill
    guard.scene.enforcing = lambda: True
    guard._mode = lambda: "enforce"  # type: ignore[method-assign]
    world.process(10, 300)
    guard.scene.take_dossier(1000.0, [row(10)])
    house.tick(105)
    world.process(10, 330)
    house.tick(80, 1.0)
    assert len(world.signals) == 1
    house.tick(80, 8 * 3600.0)
    assert len(world.signals) == 1
    for _ in range(31):
        house.tick(80)
    assert len(world.signals) == 2


def test_a_sleep_is_no_time_in_which_swap_took_nothing(house: House) -> None:
    pressure = house.guard.pressure
    host, _ = house.guard.eyes.host(1e9, 1000.0)
    host = host._replace(mem_available=80 << 20, swap_total=1 << 30, swap_free=1 << 30)
    assert pressure.step(host, 1000.0, 5) is None
    assert pressure.step(host, 1001.0, 5) is None
    pressure.slept(3600.0)
    assert pressure.step(host, 4601.0, 5) is None
    assert pressure.step(host, 4602.1, 5)

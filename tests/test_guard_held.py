"""The guard where memory goes to nobody: it holds on, whatever swap and healthy processes do."""

from pathlib import Path

import pytest
from guard_world import World, row

JVM, OTHER, IDLE = 10, 11, 12


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Three services that have proven what they hold, and a disk to swap to."""
    made = World(tmp_path, "enforce")
    made.swap = (600, 500)
    for pid, mib in ((JVM, 250), (OTHER, 250), (IDLE, 150)):
        made.process(pid, mib)
    made.scene.take_dossier(made.up, [
        row(JVM, "jvm.service", 300, use=250, own=250),
        row(OTHER, "other.service", 300, use=250, own=250),
        row(IDLE, "idle.service", 150, use=150, own=150),
    ])  # fmt: skip
    return made


@pytest.mark.parametrize("every_s", [0.1, 8.0])
def test_a_loss_that_is_nobodys_is_held_on_though_some_was_swapped(
    world: World, every_s: float
) -> None:
    """Huge pages are set aside at once, or a driver takes 1 MiB/s; then all stands still."""
    for tick in range(30):
        out = 40 * tick // 30
        world.swap = (600, 500 - out)
        world.process(IDLE, 150 - out, swap=out)
        world.tick(300 - 220 * tick // 30, every_s)
    for _ in range(200):
        world.tick(80, 0.5)
    assert world.signals == []
    assert world.outcomes() == [(None, "hold", "failed")]
    assert any("the processes took only 0 B" in text for text in world.told[0][2])
    for _ in range(11):
        world.tick(50)
    assert len(world.signals) == 1, "below half of the mark somebody goes"


def test_who_grows_into_swap_is_taken_whatever_was_lost_before(world: World) -> None:
    """Half a gibibyte of a leak lies in swap, and some of who is idle."""
    world.scene.take_dossier(world.up, [row(OTHER, "other.service", 100, use=250, own=250)])
    for tick in range(300):
        taken, pushed = 2 * tick, min(490, int(1.6 * tick))
        world.swap = (600, 500 - pushed)
        idle = min(50, pushed)
        world.process(IDLE, 150 - idle, swap=idle)
        world.process(OTHER, 250 + taken - (pushed - idle), swap=pushed - idle)
        world.tick(200 - taken + pushed, 0.4)
        if world.signals:
            break
    assert [pid for pid, _ in world.signals] == [OTHER]


@pytest.mark.parametrize("swap", [(0, 0), (600, 500)])
def test_one_that_rises_as_another_falls_hides_no_leak_of_the_kernel(
    world: World, swap: tuple[int, int]
) -> None:
    world.swap = swap
    for tenth in range(150):
        wave = int(120 * abs(tenth % 140 - 70) / 70)  # 120 MiB in 7 s, and back
        world.process(JVM, 250 - wave)
        world.process(OTHER, 130 + wave)
        world.slab = int(10 + 0.8 * tenth)
        world.tick(int(175 - 0.8 * tenth))
    assert world.available > 51, "more than half of the mark is left"
    assert world.signals == []
    assert world.outcomes() == [(None, "hold", "failed")]
    assert any("the kernel's own slab took" in text for text in world.told[0][2])


def test_neither_does_one_that_comes_back_from_swap(world: World) -> None:
    world.process(JVM, 120, swap=130)
    world.swap = (600, 30)
    for tenth in range(100):
        back = min(120, int(120 * tenth / 70))
        world.process(JVM, 120 + back, swap=130 - back)
        world.swap = (600, 30 + back)
        world.tick(260 - back - int(0.8 * tenth))
    assert world.signals == []
    assert world.outcomes() == [(None, "hold", "failed")]

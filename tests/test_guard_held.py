"""The guard where memory goes to nobody: it holds on, whatever swap and healthy processes do."""

import os
import signal
from pathlib import Path

import pytest
from guard_world import MIB, World, row

JVM, OTHER, IDLE, HEADLESS = 10, 11, 12, 30


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


@pytest.mark.parametrize("free", [600, 500])
def test_who_grows_though_its_main_thread_has_exited_is_taken(world: World, free: int) -> None:
    """Its own statm reads zeros, with nothing in swap and with something."""
    world.swap = (600, free)
    world.process(HEADLESS, 0, state="Z", threads=2)
    thread = world.root / str(HEADLESS) / "task" / "31"
    thread.mkdir(parents=True)
    for tenth in range(100):
        pages = (50 + tenth) * MIB // os.sysconf("SC_PAGE_SIZE")
        (thread / "statm").write_text(f"{pages} {pages} 0 1 0 1 0\n")
        (thread / "status").write_text("VmSwap:\t0 kB\n")
        if tenth % 20 == 0:
            rows = [*world.scene.dossier.values()][:3]
            mine = row(HEADLESS, "headless.service", use=50 + tenth, own=50 + tenth)
            world.scene.take_dossier(world.up, [*rows, mine])
        world.tick(160 - tenth)
        if world.signals:
            break
    assert world.signals == [(HEADLESS, signal.SIGTERM)]
    assert world.told[0][3]["candidates"][0]["rank"]["rate"] >= 90


@pytest.mark.parametrize("pid", [JVM, 99])
def test_whose_number_was_given_away_is_not_taken_for_it(world: World, pid: int) -> None:
    """Neither who holds next to nothing under it, nor who has ended."""
    world.scene.take_dossier(world.up, [row(pid, "old.service", use=90, own=90, start=400)])
    world.process(JVM, 0, swap=200)
    host, _ = world.eyes.host(1e9, world.up)
    assert set(world.scene.look(world.up, host).sizes) == {OTHER, IDLE}

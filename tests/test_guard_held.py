"""The guard where memory goes to nobody: it holds on, whatever swap and healthy processes do."""

import os
import signal
from pathlib import Path

import pytest
from guard_world import MIB, World, row

JVM, OTHER, IDLE, LEAK, WORKER, HEADLESS = 10, 11, 12, 13, 14, 30


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


def given_back(world: World, how: str) -> None:
    """95 MiB: a heap shrinks by them, or somebody ends who had so much."""
    if how == "shrinks":
        world.process(JVM, 155)
    else:
        world.gone(WORKER)


@pytest.mark.parametrize("seconds", [10, 60])
@pytest.mark.parametrize("how", ["shrinks", "ends"])
@pytest.mark.parametrize("swap", [(0, 0), (600, 500)])
def test_what_others_gave_back_hides_no_leak(
    world: World, how: str, seconds: int, swap: tuple[int, int]
) -> None:
    """Since memory is near the mark 95 MiB came back, the slab took 60, and a leak 120."""
    world.swap = swap
    world.process(LEAK, 10)
    world.process(WORKER, 95)
    world.process(IDLE, 270)  # it has as much above what it has proven as the leak will have
    world.scene.take_dossier(world.up, [
        *world.scene.dossier.values(), row(LEAK, "leak.service", 10, use=10, own=10),
        row(WORKER, "work.service", 95, use=95, own=95),
    ])  # fmt: skip
    world.tick(160)
    given_back(world, how)
    for tenth in range(seconds * 10 + 30):
        part = min(1.0, tenth / (seconds * 10))
        taken, slab = int(120 * part), int(60 * part)
        world.process(LEAK, 10 + taken)
        world.slab = 10 + slab
        world.tick(255 - taken - slab)
        if world.signals:
            break
    assert world.available > 51, "more than half of the mark is left"
    assert world.signals == [(LEAK, signal.SIGTERM)]


@pytest.mark.parametrize("swap", [(0, 0), (600, 500)])
def test_what_the_kernel_took_long_ago_delays_no_leak_of_now(
    world: World, swap: tuple[int, int]
) -> None:
    world.swap = swap
    world.process(LEAK, 10)
    mine = row(LEAK, "leak.service", 10, use=10, own=10)
    world.scene.take_dossier(world.up, [*world.scene.dossier.values(), mine])
    for mib in range(0, 91, 2):
        world.slab = 10 + mib
        world.tick(200 - mib, 1.0)
    for _ in range(200):
        world.tick(110, 1.0)
    for tenth in range(50):
        world.process(LEAK, 10 + tenth)
        world.tick(110 - tenth)
        if world.signals:
            break
    assert world.available > 51
    assert world.signals == [(LEAK, signal.SIGTERM)]


@pytest.mark.parametrize("swap", [(0, 0), (600, 500)])
def test_a_worker_that_is_started_anew_hides_no_loss_of_the_kernel(
    world: World, swap: tuple[int, int]
) -> None:
    """Its unit holds more than it has proven, but took nothing: one came as large as one went."""
    world.swap = swap
    rows = list(world.scene.dossier.values())
    for tenth in range(70):
        if tenth in (0, 35):
            pid = WORKER + tenth
            world.process(pid, 120)
            mine = row(pid, "work.service", 20, use=120, own=120)
            world.scene.take_dossier(world.up, [*rows, mine])
        if tenth == 35:
            world.gone(WORKER)
        world.slab = 10 + 2 * tenth
        world.tick(200 - 2 * tenth)
    assert world.available > 51
    assert world.signals == []
    assert world.outcomes() == [(None, "hold", "failed")]


def test_a_healthy_heap_that_rises_beside_an_old_loss_costs_nobody_his_life(world: World) -> None:
    """The kernel took 90 MiB long ago; now a heap takes back what it has proven to need."""
    world.swap = (0, 0)
    world.process(IDLE, 270)
    world.process(JVM, 200)
    for mib in range(0, 91, 2):
        world.slab = 10 + mib
        world.tick(200 - mib, 1.0)
    for tenth in range(80):
        world.process(JVM, 200 + min(40, tenth))
        world.tick(110 - min(40, tenth))
    assert world.signals == []
    assert world.outcomes() == [(None, "hold", "failed")]


def test_who_is_swapped_out_is_not_looked_at_each_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only whose statm reads zeros is: a read of 0.1 ms, and there may be hundreds."""
    world.process(IDLE, 0, swap=150)
    world.process(HEADLESS, 0, state="Z", threads=2)
    world.process(HEADLESS + 1, 0, state="Z", threads=2)
    mine = row(HEADLESS, "headless.service", use=50, own=50)
    world.scene.take_dossier(world.up, [*world.scene.dossier.values(), mine])
    host, _ = world.eyes.host(1e9, world.up)
    looked: list[int] = []
    monkeypatch.setattr(world.eyes, "look", looked.append)
    assert set(world.scene.look(world.up, host).sizes) == {JVM, OTHER}
    assert looked == [HEADLESS]

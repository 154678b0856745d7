"""The guard after an end: what comes back does not hide who goes on to take memory."""

import signal
from pathlib import Path

import pytest
from guard_world import World, row

DB, FIRST, SECOND, IDLE = 10, 11, 12, 13


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two hogs, of which the first has most of what it holds in swap, and somebody who is idle."""
    made = World(tmp_path, "enforce")
    made.swap = (600, 50)
    made.process(DB, 200)
    made.process(FIRST, 30, swap=400)
    made.process(SECOND, 40)
    made.process(IDLE, 300)
    made.scene.take_dossier(made.up, [
        row(DB, "db.service", 250, use=200, own=200),
        row(FIRST, "first.service", 20, 0.8, use=430, own=430),
        row(SECOND, "second.service", use=40, own=40),
        row(IDLE, "idle.service", use=300, own=300),
    ])  # fmt: skip
    made.tick(150)
    return made


def test_in_a_container_the_kills_of_the_whole_machine_hold_nothing_up(tmp_path: Path) -> None:
    (tmp_path / "run" / "systemd").mkdir(parents=True)
    (tmp_path / "run" / "systemd" / "container").write_text("lxc\n")
    (tmp_path / "proc").mkdir()
    made = World(tmp_path / "proc", "enforce")
    made.process(DB, 200)
    made.process(FIRST, 100)
    made.scene.take_dossier(made.up, [
        row(DB, "db.service", 250, use=200, own=200),
        row(FIRST, "first.service", 20, 0.8, use=100, own=100),
    ])  # fmt: skip
    made.tick(150)
    made.answers = [("changed", "memory had recovered")]
    for available in range(120, 60, -2):
        made.process(FIRST, 300 - available)
        made.oom_kills += 1
        made.tick(available)
    assert made.signals == [(FIRST, signal.SIGTERM)]


def second_grows(world: World) -> None:
    """By 20 MiB a second, in an incident that goes on, until somebody is signalled."""
    before = len(world.signals)
    for i in range(70):
        world.process(SECOND, 40 + 2 * i)
        world.tick(140 - 2 * i if i < 35 else 70)
        assert world.incident is not None
        if len(world.signals) > before:
            return


def test_what_the_first_one_had_in_swap_does_not_hide_the_second(world: World) -> None:
    world.process(FIRST, 90, swap=400)
    world.tick(90, 1.0)
    assert world.signals == [(FIRST, signal.SIGTERM)]
    world.gone(FIRST)
    world.swap = (600, 450)
    second_grows(world)
    assert world.signals[1:] == [(SECOND, signal.SIGTERM)]
    assert world.told[-1][3]["candidates"][0]["rank"]["rate"] == 100


def test_neither_does_what_a_kill_by_the_kernel_gives_back(world: World) -> None:
    world.answers = [("changed", "somebody was killed by the kernel in the meantime")]
    world.process(FIRST, 90, swap=400)
    world.tick(90, 1.0)
    world.oom_kills += 1
    world.tick(90)
    world.gone(FIRST)
    world.swap = (600, 450)
    second_grows(world)
    assert world.signals == [(SECOND, signal.SIGTERM)]


def test_nor_one_before_memory_is_short(world: World) -> None:
    """In a cgroup at its limit, while memory is near the mark."""
    world.process(FIRST, 40, swap=400)
    world.tick(140)
    world.oom_kills += 1
    world.gone(FIRST)
    world.swap = (600, 450)
    for i in range(60):
        world.process(SECOND, 40 + 2 * i)
        world.tick(170 - 2 * i)
        if world.signals:
            break
    assert world.signals == [(SECOND, signal.SIGTERM)]


def test_an_end_gives_memory_its_time_before_anybody_is_looked_at(world: World) -> None:
    world.process(FIRST, 90, swap=400)
    world.tick(90, 1.0)
    world.gone(FIRST)
    ended = world.up
    for _ in range(9):
        world.tick(95)
        assert world.scene.recent is None
    world.incident.slept(30.0)  # type: ignore[union-attr]
    world.tick(95, 30.0)
    assert world.scene.recent is None
    for _ in range(3):
        world.tick(95)
    assert world.scene.recent is not None
    assert world.scene.recent.up == pytest.approx(ended + 31.1, abs=0.11)
    assert world.scene.first is not None
    assert world.scene.first.up < ended


SHOP, LEAK, BOX = 20, 21, 22


@pytest.mark.parametrize("back", [0, 1, 12])
def test_kills_at_a_limit_of_their_own_hide_no_leak_in_the_first_minutes(
    tmp_path: Path, back: int
) -> None:
    """A container is killed at its limit every 2 s, and gives back so many MiB each time."""
    world = World(tmp_path, "enforce")
    world.process(SHOP, 480)
    rows = [row(SHOP, "shop.service", use=480, own=480), row(LEAK, "leak.service", use=100, own=99)]
    world.scene.take_dossier(world.up, rows, history=False)
    for tenth in range(400):
        held = back * (tenth % 20) / 20
        world.oom_kills += tenth % 20 == 0
        world.process(BOX, 10 + int(held), start=500 + tenth // 20)
        world.process(LEAK, int(100 + 0.4 * tenth))
        world.tick(int(160 - 0.4 * tenth - held))
        if world.signals:
            break
    assert world.signals == [(LEAK, signal.SIGTERM)]


def test_what_was_freed_long_ago_and_is_taken_now_hides_no_leak(tmp_path: Path) -> None:
    """Pages after MADV_FREE are resident until the kernel takes them, and were available before."""
    world = World(tmp_path, "enforce")
    rows = [row(SHOP, "shop.service", 200, use=200, own=200), row(LEAK, "leak.service", 20, 0.9)]
    world.scene.take_dossier(world.up, rows)
    for tenth in range(200):
        world.process(SHOP, int(200 - 0.6 * tenth))
        world.process(LEAK, int(100 + 0.6 * tenth))
        world.tick(int(150 - 0.6 * tenth))
        if world.signals:
            break
    assert world.signals == [(LEAK, signal.SIGTERM)]


def test_who_came_back_near_the_mark_is_not_blamed_for_it(tmp_path: Path) -> None:
    """A database is restarted near the mark in the first minutes, beside a leak of 2 MiB/s."""
    world = World(tmp_path, "enforce")
    rows = [row(SHOP, "db.service", 47, use=60, own=60), row(LEAK, "leak.service", use=120, own=99)]
    world.process(BOX, 200)
    for tenth in range(900):
        held = min(300.0, 200 + 3.75 * tenth)  # it is on its way up
        world.process(SHOP, int(held))
        world.process(LEAK, int(150 + 0.2 * tenth))
        world.scene.take_dossier(world.up, rows, history=False)
        world.tick(int(260 - 0.2 * tenth - held + 200))
        if world.signals:
            break
    assert world.signals == [(LEAK, signal.SIGTERM)]


@pytest.mark.parametrize("left", [70, 45])
@pytest.mark.parametrize("every", [1, 5, 20])
def test_kills_at_a_limit_of_their_own_are_waited_for_once_between_two_decisions(
    world: World, every: int, left: int
) -> None:
    """A container is killed every 0.1 to 2 s, and gives back nothing."""
    world.process(FIRST, 90, swap=400)
    world.tick(90, 1.0)
    assert world.signals == [(FIRST, signal.SIGTERM)]
    world.gone(FIRST)
    world.swap, ended = (600, 450), world.up
    for tenth in range(100):
        world.oom_kills += tenth % every == 0
        world.process(SECOND, 100 + 2 * tenth)
        world.tick(max(left, 110 - 2 * tenth))
        if len(world.signals) > 1:
            break
    assert [pid for pid, _ in world.signals] == [FIRST, SECOND]
    assert 3.0 <= world.up - ended <= 4.5
    # The next one is waited for again: it may have been for want of memory.
    world.gone(SECOND)
    world.tick()
    world.oom_kills += 1
    ended = world.up
    for _ in range(100):
        world.tick(left)
        if len(world.signals) > 2:
            break
    assert world.up - ended >= 3.0


def test_a_kill_of_long_ago_does_not_keep_it_from_waiting_for_the_next(world: World) -> None:
    """A container was killed between the mark and its end; an hour later the kernel kills again."""
    world.process(FIRST, 90, swap=400)
    world.answers = [("changed", "memory has recovered in the meantime")]
    world.tick(90, 1.0)
    world.oom_kills += 1
    world.tick(120)
    for _ in range(360):
        world.tick(120, 10.0)
    assert world.incident is not None
    world.process(SECOND, 90)
    world.oom_kills += 1
    for _ in range(29):
        world.tick(70)
    assert world.signals == [], "somebody was killed just now: two would die"
    for _ in range(10):
        world.tick(70)
    assert len(world.signals) == 1


@pytest.mark.parametrize("in_incident", [True, False])
@pytest.mark.parametrize("every", [3, 6, 12])
def test_containers_that_give_memory_back_keep_it_from_no_decision(
    world: World, every: int, in_incident: bool
) -> None:
    """Each time one is killed at its own limit 30 MiB come back, and are taken again."""
    world.tick(90 if in_incident else 130, 1.0)
    world.signals.clear()
    world.incident = world.incident if in_incident else None
    world.gone(FIRST)
    world.swap, short = (600, 50), None
    for tenth in range(150):
        phase = tenth % every
        world.oom_kills += phase == 0
        world.process(SECOND, 40 + 3 * tenth)
        left = max(60, 150 - 3 * tenth) + 30 - 30 * phase // every
        world.tick(left)
        if left <= 102 and short is None:
            short = world.up
        if world.signals:
            break
    assert [pid for pid, _ in world.signals] == [SECOND]
    assert short is not None
    assert world.up - short <= 4.5

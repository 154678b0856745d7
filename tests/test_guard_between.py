"""The guard between the mark and the end: who is taken there, and what is said."""

import signal
from pathlib import Path

import pytest
from guard_world import World, row

DB, LEAK, THIRD = 10, 11, 12
END = 154  # MiB; the mark of this machine of 1 GiB is 10 %


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, "enforce")
    for pid, mib in ((DB, 480), (LEAK, 120), (THIRD, 100)):
        made.process(pid, mib)
    rows = [row(DB, "db.service", 480), row(LEAK, "shop.service", 20, 0.8), row(THIRD, "x.service")]
    made.scene.take_dossier(1000.0, rows)
    return made


def take_the_leak(world: World) -> None:
    world.tick(105)
    world.process(LEAK, 140)
    world.tick(80, 1.0)
    assert world.signals == [(LEAK, signal.SIGTERM)]
    world.gone(LEAK)


def stalled(world: World, available: int, ticks: int, share: float = 1.0) -> None:
    for _ in range(ticks):
        world.full_us += int(share * 100_000)
        world.tick(available)


def looks(world: World) -> list[float]:
    """When everybody was looked at, from now on."""
    found: list[float] = []
    sizes = world.eyes.sizes

    def counted() -> dict[int, int]:
        found.append(world.up)
        return sizes()

    world.eyes.sizes = counted  # type: ignore[method-assign]
    return found


def test_memory_that_stays_between_mark_and_end_costs_nobody_and_is_not_said(world: World) -> None:
    take_the_leak(world)
    world.answers = [("ask", "")] * 1000
    seen = looks(world)
    for _ in range(200):
        world.tick(130)
    assert world.pressure.active
    assert world.outcomes() == [(LEAK, "terminate", "done")]
    assert len(seen) <= 5, "as often as near the mark, not ten times a second"
    assert world.scene.spent.left(world.pressure.rules.budget, world.up) == 5


def test_below_the_mark_again_the_next_one_is_taken_at_once(world: World) -> None:
    take_the_leak(world)
    for _ in range(300):
        world.tick(130)
    world.process(THIRD, 180)
    world.tick(95)
    assert world.signals[1:] == [(THIRD, signal.SIGTERM)]
    assert world.told[-1][2][0].startswith("95.0 MiB available, below the mark of")
    assert world.told[-1][3]["incident"] == world.told[0][3]["incident"]


def test_a_stall_that_is_over_takes_nobody_more(world: World) -> None:
    world.tick(135)
    world.process(LEAK, 150)
    stalled(world, 110, 25, 0.9)
    assert (world.pressure.by, world.signals) == ("stall", [(LEAK, signal.SIGTERM)])
    world.gone(LEAK)
    for _ in range(80):
        world.tick(130)
    assert (world.pressure.active, world.pressure.now_by) == (True, "")
    assert world.signals == [(LEAK, signal.SIGTERM)]


def test_a_stall_above_the_mark_takes_who_thrashes_and_not_a_small_leak(world: World) -> None:
    """23 MiB are missing to the end mark, and the leak has them; the third has ten times that."""
    rows = [row(DB, "db.service", 480), row(LEAK, "shop.service", 90, 0.8), row(THIRD, "x.service")]
    world.scene.take_dossier(1000.0, rows)
    world.process(THIRD, 270)
    world.tick(135)
    stalled(world, 130, 25)
    assert world.pressure.by == "stall"
    assert world.signals == [(THIRD, signal.SIGTERM)]


def test_in_the_first_minutes_a_stall_takes_who_grew_and_not_the_largest(world: World) -> None:
    """Little was lost in the last seconds, and much since memory came near the mark."""
    rows = [row(DB, "db.service"), row(LEAK, "shop.service"), row(THIRD, "x.service")]
    world.scene.take_dossier(1000.0, rows, history=False)
    for second in range(30):
        grown = min(60, 6 * second)
        world.process(LEAK, 120 + grown)
        world.tick(200 - grown, 1.0)
    for second in range(10):
        world.process(LEAK, 180 + second)
        world.tick(140 - second, 1.0)
    stalled(world, 130, 25)
    assert world.pressure.by == "stall"
    assert world.signals == [(LEAK, signal.SIGTERM)]


def test_a_victim_of_a_stall_that_is_over_is_not_killed_after_its_term(world: World) -> None:
    world.tick(135)
    world.process(LEAK, 150)
    world.answers = [("ask", "")] * 100
    stalled(world, 110, 25, 0.9)
    for _ in range(80):
        world.tick(130)
    assert world.signals == [(LEAK, signal.SIGTERM)]
    assert world.outcomes()[1:] == [(LEAK, "kill", "changed")]


@pytest.fixture
def deaf(world: World) -> World:
    """The leak was sent SIGTERM, lives on, and memory came back right before its SIGKILL."""
    world.scene.units = {"shop.service": ("/cg/shop.service", 7, None)}
    world.scene.kill_unit = lambda *place, **_: world.ended.append(place) or ("done", "sent")
    world.tick(105)
    world.process(LEAK, 140)
    world.tick(80, 1.0)
    world.answers = [("ask", "")] * 1000
    for _ in range(35):
        world.tick(130)
    assert world.outcomes() == [(LEAK, "terminate", "done"), (LEAK, "kill", "changed")]
    return world


def test_a_sigkill_that_was_withheld_comes_before_the_whole_unit(deaf: World) -> None:
    for _ in range(12):
        deaf.tick(80)
    assert deaf.signals == [(LEAK, signal.SIGTERM), (LEAK, signal.SIGKILL)]
    assert deaf.ended == []
    assert deaf.told[-1][2][-1] == "sent"
    assert "it has not ended of SIGTERM" in deaf.told[-1][2]
    assert deaf.told[-1][3]["decided_t"] == deaf.told[0][3]["decided_t"]
    assert deaf.scene.spent.left(deaf.pressure.rules.budget, deaf.up) == 5, "it is one deed"
    # It has come back: all of it goes.
    deaf.gone(LEAK)
    deaf.process(21, 140, start=99_990)
    known = [row(DB, "db.service", 480), row(21, "shop.service", 20, 0.8, start=99_990)]
    deaf.scene.take_dossier(deaf.up, known, deaf.scene.units)
    for _ in range(45):
        deaf.tick(80)
    assert deaf.ended == [("/cg/shop.service", 7)]


def test_so_it_does_in_the_next_incident_and_its_service_may_come_back(deaf: World) -> None:
    deaf.tick(600, 2.0)
    assert deaf.incident is None
    deaf.tick(105, 2.0)
    deaf.tick(80, 1.0)
    assert deaf.signals == [(LEAK, signal.SIGTERM), (LEAK, signal.SIGKILL)]
    assert deaf.incident is not None
    assert deaf.incident.terminated == [("shop.service", LEAK)]
    assert deaf.ended == []


def test_a_sigterm_of_long_ago_is_no_reason_not_to_ask_again(deaf: World) -> None:
    deaf.tick(600, 2.0)
    deaf.tick(105, 70.0)
    deaf.tick(80, 1.0)
    assert deaf.signals == [(LEAK, signal.SIGTERM)] * 2


def test_at_the_edge_its_sigkill_is_withheld_and_said_once(deaf: World) -> None:
    def recover() -> None:
        deaf.available = 140
        deaf.files()

    deaf.scene.before_signal = recover
    for _ in range(100):
        deaf.tick(100)
    assert deaf.signals == [(LEAK, signal.SIGTERM)]
    assert len(deaf.told) == 2
    deaf.answers = [("failed", "not permitted")]
    for _ in range(12):
        deaf.tick(100)
    assert deaf.outcomes()[2] == (LEAK, "kill", "failed")
    assert [pid for pid, _, _ in deaf.outcomes()[3:]].count(LEAK) == 0


def test_a_stall_is_seen_though_something_else_began_it(world: World) -> None:
    take_the_leak(world)
    world.process(THIRD, 150)
    stalled(world, 130, 40)
    assert (world.pressure.by, world.pressure.now_by) == ("available", "stall")
    assert [pid for pid, _ in world.signals] == [LEAK, THIRD]
    assert world.told[-1][2][0].startswith("everything waited for memory for")


def test_a_stall_counts_until_it_is_half(world: World) -> None:
    world.mode = "observe"
    stalled(world, 130, 30, 0.5)
    assert world.pressure.now_by == "stall"
    stalled(world, 130, 40, 0.25)
    assert world.pressure.now_by == "stall"
    stalled(world, 130, 40, 0.15)
    assert (world.pressure.active, world.pressure.now_by) == (True, "")
    stalled(world, 130, 40, 0.25)
    assert world.pressure.now_by == "", "to count again it takes all of it"
    stalled(world, END, 25, 0.15)
    assert not world.pressure.active


def test_at_the_edge_a_deed_that_is_not_needed_is_said_once(world: World) -> None:
    """Each reading is below the mark, and at each second look memory has recovered."""
    world.answers = [("ask", "")] * 1000

    def recover() -> None:
        world.available = 140
        world.files()

    world.scene.before_signal = recover
    world.tick(105)
    world.process(LEAK, 140)
    world.tick(100, 1.0)
    seen = looks(world)
    for _ in range(100):
        world.tick(100)
    assert world.outcomes() == [(LEAK, "terminate", "changed")]
    assert len(seen) <= 11
    assert world.scene.spent.left(world.pressure.rules.budget, world.up) == 6
    # What falls on is not waited for.
    world.scene.before_signal = lambda: None
    world.tick(45)
    assert world.signals == [(LEAK, signal.SIGKILL)]


def test_one_that_ended_right_before_sigkill_gives_memory_its_time(world: World) -> None:
    world.tick(105)
    world.process(LEAK, 140)
    world.tick(80, 1.0)
    world.answers = [("gone", "it ended")]
    world.tick(39)
    assert world.outcomes()[1:] == [(LEAK, "kill", "gone")]
    world.process(LEAK, 190)
    for _ in range(29):
        world.tick(60)
    assert world.signals == [(LEAK, signal.SIGTERM)]
    for _ in range(3):
        world.tick(60)
    assert len(world.signals) == 2


def test_swap_that_was_exhausted_is_so_until_clearly_more_is_free(world: World) -> None:
    pressure, moved = world.pressure, 0

    def read(free: int) -> str:
        nonlocal moved
        moved += 1  # it takes pages all the time
        world.up += 0.1
        host, _ = world.eyes.host(1e9, world.up)
        mib = 1 << 20
        host = host._replace(mem_available=80 * mib, swap_total=1000 * mib, swap_free=free * mib)
        pressure.step(host, world.up, moved)
        return pressure.now_by

    found = [read(free) for free in (110, 99, 110, 149, 151, 149, 101, 99)]
    assert found == ["", "available", "available", "available", "", "", "", "available"]
    assert pressure.active


def test_what_the_watcher_spends_right_before_a_refusal_stays_spent(world: World) -> None:
    """A full budget but for one, the watcher takes that one, and ours is not done."""
    rule, spent = world.pressure.rules.budget, world.scene.spent
    for number in range(rule[0] - 1):
        spent.spend(rule, 900.0 + number, 1e9 + number)
    world.answers = [("ask", "")]
    world.scene.enforcing = lambda: False
    world.scene.before_signal = lambda: spent.spend(rule, world.up, 1e9 + 500)
    world.tick(105)
    world.process(LEAK, 140)
    world.tick(80, 1.0)
    assert world.outcomes() == [(LEAK, "terminate", "protected")]
    assert spent.left(rule, world.up) == 0
    assert (world.up, 1e9 + 500) in spent.purse.spent
    assert len(spent.purse.spent) == rule[0]


def test_while_the_machine_sleeps_nobody_has_had_time_to_end(world: World) -> None:
    world.tick(105)
    world.process(LEAK, 140)
    world.tick(80, 1.0)
    assert world.incident
    world.incident.slept(3600.0)
    world.pressure.slept(3600.0)
    world.tick(80, 3600.0)
    for _ in range(28):
        world.tick(80)
    assert world.signals == [(LEAK, signal.SIGTERM)]
    for _ in range(3):
        world.tick(80)
    assert world.signals[1:] == [(LEAK, signal.SIGKILL)]

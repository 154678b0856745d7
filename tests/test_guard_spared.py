"""Who is protected stays so in the guard, also where the dossier has no line of it."""

import signal
from pathlib import Path
from typing import Any

import pytest
from guard_world import World, row

from watchdog.clock import RealClock
from watchdog.engine import Engine
from watchdog.facts import Group, Sweep, Who
from watchdog.guard.around import Options
from watchdog.guard.loop import Guard
from watchdog.policy import view
from watchdog.policy.match import weight
from watchdog.policy.rules import Rules, Selector

MIB = 1 << 20
DB, LEAK, SMALL = 10, 11, 20
WHY = "unit postgresql.service is protected (protect.unit postgresql*)"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Who held 3 MiB at the watcher's last word takes 200 since."""
    made = World(tmp_path, "enforce")
    made.process(DB, 300)
    made.process(LEAK, 50)
    made.process(SMALL, 3)
    rows = [row(DB, "db.service", 300), row(LEAK, "shop.service", 20, 0.8)]
    made.scene.take_dossier(1000.0, rows)
    return made


def squeeze(world: World) -> None:
    world.answers = [("ask", "")] * 100
    world.tick(250)
    world.process(SMALL, 200)
    world.process(LEAK, 60)
    world.tick(80, 1.0)


def test_a_small_one_that_grows_is_taken_where_nothing_protects_it(world: World) -> None:
    squeeze(world)
    assert world.signals == [(SMALL, signal.SIGTERM)]


def test_a_protected_one_is_never_signalled_however_small_it_was(world: World) -> None:
    world.scene.take_spared(True, {WHY: [(SMALL, 500)]})
    squeeze(world)
    for _ in range(200):
        world.tick(80)
    assert {pid for pid, _ in world.signals} <= {LEAK, DB}
    assert world.signals[0] == (LEAK, signal.SIGTERM)


def test_a_number_that_was_given_away_is_not_protected_for_it(world: World) -> None:
    world.scene.take_spared(True, {WHY: [(SMALL, 499)]})
    squeeze(world)
    assert world.signals == [(SMALL, signal.SIGTERM)]


def test_what_the_last_word_protects_is_not_signalled(world: World) -> None:
    world.scene.before_signal = lambda: world.scene.take_spared(True, {WHY: [(SMALL, 500)]})
    squeeze(world)
    assert world.signals == []
    assert world.outcomes()[0] == (SMALL, "terminate", "protected")
    assert world.told[0][2][-1] == WHY


def test_a_fresh_fork_of_a_protected_one_is_protected(world: World) -> None:
    world.scene.take_spared(True, {WHY: [(30, 100)]})
    fresh = 99_900  # 1 s before the watcher's word
    world.process(30, 3, start=100, comm="postgres")
    world.process(SMALL, 3, ppid=30, start=fresh, comm="postgres")
    assert world.scene.spares(SMALL, fresh) == f"it is a child of PID 30: {WHY}"
    world.tick(250)
    world.process(SMALL, 200, ppid=30, start=fresh, comm="postgres")
    world.process(LEAK, 60)
    world.tick(80, 1.0)
    assert world.signals == [(LEAK, signal.SIGTERM)]
    # The watcher knows it, and does not protect it.
    known = row(SMALL, "other.service", start=fresh, comm="postgres")
    world.scene.take_dossier(world.up, [known])
    assert world.scene.spares(SMALL, fresh) is None
    world.scene.take_dossier(world.up + 60, [])
    assert world.scene.spares(SMALL, fresh) is None
    # Another one has its parent's number now.
    world.scene.take_dossier(world.up, [])
    assert world.scene.spares(SMALL, fresh)
    world.process(30, 3, start=101, comm="postgres")
    assert world.scene.spares(SMALL, fresh) is None


def test_a_fresh_child_that_runs_another_program_is_no_fork(world: World) -> None:
    """A container is a child of its protected runtime, and may be a hog."""
    world.scene.take_spared(True, {WHY: [(30, 100)]})
    world.process(30, 3, start=100, comm="containerd-shim")
    world.tick(250)  # the watcher says nothing more
    world.process(SMALL, 200, ppid=30, start=110_000, comm="hog")
    world.process(LEAK, 60)
    world.tick(80, 1.0)
    assert world.signals == [(SMALL, signal.SIGTERM)]


def test_where_not_all_could_be_told_nobody_unknown_is_signalled(world: World) -> None:
    world.scene.take_spared(False, {WHY: [(99, 1)]})
    squeeze(world)
    assert world.signals == [(LEAK, signal.SIGTERM)]
    assert "nothing is known of it" in str(world.scene.spares(SMALL, 500))


def test_before_the_first_word_nobody_is_signalled_of_whom_there_is_none(world: World) -> None:
    world.scene.awaited = True
    world.scene.dossier.clear()
    squeeze(world)
    for _ in range(30):
        world.tick(80)
    assert (world.signals, world.outcomes()) == ([], [(None, "hold", "failed")])
    world.scene.take_spared(True, {WHY: [(DB, 500)]})
    for _ in range(11):
        world.tick(80)
    assert world.signals == [(SMALL, signal.SIGTERM)]


def test_a_unit_with_a_small_protected_member_is_not_ended_as_a_whole(world: World) -> None:
    world.scene.units = {"shop.service": ("/cg/shop.service", 7, None)}
    world.scene.ladder.strike("shop.service", "process", 999.0)
    world.scene.take_spared(True, {WHY: [(SMALL, 500)]})
    asked: list[str | None] = []

    def kill_unit(_folder: str, _inode: int, **asks: Any) -> tuple[str, str]:
        asked.append(asks["still_protected"](SMALL, 500))
        return "protected", str(asked[-1])

    world.scene.kill_unit = kill_unit
    world.tick(105)
    world.process(LEAK, 90)
    world.tick(80, 1.0)
    assert asked == [WHY]
    assert world.outcomes() == [(LEAK, "kill-unit", "protected")]


def test_the_guard_hears_who_is_spared(tmp_path: Path) -> None:
    guard = Guard(Options(rules=-1, root=str(tmp_path)), RealClock(), {})
    guard._take([("spared", True, {WHY: [(5, 6), (7, 8)]})])
    assert guard.scene.spared == {(5, 6): WHY, (7, 8): WHY}
    guard._take([("spared", False, {})])
    assert (guard.scene.spared, guard.scene.spared_whole) == ({}, False)


# ---- the watcher's side -------------------------------------------------------------------------


def engine(*rows: tuple[int, str, str | None]) -> Engine:
    made = Engine(Rules(protect=Selector(unit=("db.service",), name=("sshd",))), "box")
    made.feed(Sweep(1e9, 1000.0, tuple(
        (pid, pid, comm, 2 * MIB, MIB, None, unit, None) for pid, comm, unit in rows
    ), census=True))  # fmt: skip
    return made


def test_everybody_protected_is_told_whatever_its_size() -> None:
    one = engine((1, "db", "db.service"), (7, "db", "db.service"), (8, "x", "x.service"),
                 (9, "sshd", None))  # fmt: skip
    assert one.dossier() == []
    found = one.spared()
    assert list(found) == [(7, 7), (9, 9)]
    assert found[7, 7] == "unit db.service is protected (protect.unit db.service)"
    assert "who owns the executable is not known" in found[9, 9]


def test_what_becomes_known_or_changes_counts_at_once() -> None:
    one = engine((8, "x", "x.service"), (9, "sshd", None))
    assert list(one.spared()) == [(9, 9)]
    one.feed(Who(1e9, 1001.0, 9, 9, uid=1000, exe="/home/me/sshd", trusted=False))
    assert one.spared() == {}
    moved = (8, 8, "x", 2 * MIB, MIB, None, "db.service", None)
    one.feed(Sweep(1e9, 1002.0, (moved,), census=False))
    assert list(one.spared()) == [(8, 8)]
    one.set_rules(Rules(protect=Selector(unit=("x.service",))))
    assert one.spared() == {}


def test_what_root_said_to_systemd_oomd_counts_while_it_is_said() -> None:
    one = engine((7, "pg", "pg.service"), (8, "pg", "pg.service"), (9, "x", "x.service"))
    one.feed(Who(1e9, 1001.0, 8, 8, uid=33, cgroup="/system.slice/pg.service/worker"))
    own = Group(1e9, 1001.0, "pg.service", "/system.slice/pg.service", anon=1)
    one.feed(own._replace(cgroup=None, oomd="omit"))  # as a recording may tell it
    one.feed(own._replace(oomd="omit"))
    assert list(one.spared()) == [(7, 7), (8, 8)]
    assert one.spared()[8, 8].endswith("(ManagedOOMPreference=omit)")
    one.feed(own._replace(cgroup=None))
    one.feed(own._replace(oomd="avoid"))
    assert one.spared() == {}
    assert weight(one.rules, view.identified(one.world, (8, 8))) == -1


def test_what_protection_does_not_read_is_judged_once() -> None:
    one = engine(*((pid, "php", None) for pid in range(10, 30)))
    for pid in range(10, 30):
        one.feed(Who(1e9, 1001.0, pid, pid, uid=33, exe="/usr/bin/php", cgroup=f"/jobs/{pid}"))
    assert one.spared() == {}
    assert len(one.sparing._known) == 1


def test_no_more_is_remembered_than_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "ALIKE_MAX", 3)
    one = engine(*((pid, f"n{pid}", "db.service") for pid in range(10, 30)))
    assert len(one.spared()) == 20
    assert len(one.sparing._known) <= 3


# ---- what is heard of a unit right before it is ended -------------------------------------------


@pytest.fixture
def struck(world: World) -> World:
    """shop.service was struck a moment ago: the next rung is all of it."""
    world.scene.units = {"shop.service": ("/cg/shop.service", 7, None)}
    world.ended = []
    world.scene.kill_unit = lambda *place, **_: world.ended.append(place) or ("done", "sent")
    return world


def last_word(world: World, rung: str, units: dict[str, tuple[str, int, str | None]]) -> None:
    known = list(world.scene.dossier.values())
    world.scene.before_signal = lambda: world.scene.take_dossier(world.up, known, units)
    world.scene.ladder.strike("shop.service", rung, 999.0)
    world.tick(105)
    world.process(LEAK, 90)
    world.tick(80, 1.0)


@pytest.mark.parametrize("rung", ["process", "unit"])
def test_a_unit_that_is_not_known_any_more_is_left_alone(struck: World, rung: str) -> None:
    last_word(struck, rung, {})
    assert struck.ended == []
    assert struck.outcomes()[0][2] == "changed"
    assert struck.told[0][2][-1] == "the unit is not known any more"
    for _ in range(40):
        struck.tick(80)
    assert struck.signals == [(LEAK, signal.SIGTERM), (LEAK, signal.SIGKILL)], "one of it may go"


def test_a_unit_that_was_started_anew_is_left_alone(struck: World) -> None:
    last_word(struck, "process", {"shop.service": ("/cg/shop.service", 8, None)})
    assert (struck.ended, struck.outcomes()[0][2]) == ([], "changed")


def test_a_refusal_that_comes_in_time_is_heard(struck: World) -> None:
    refused = ("/cg/shop.service", 7, "PID 12 is in it: " + WHY)
    last_word(struck, "process", {"shop.service": refused})
    assert struck.ended == []
    assert struck.outcomes()[0] == (LEAK, "kill-unit", "protected")
    assert struck.told[0][2][-1] == "PID 12 is in it: " + WHY


def test_a_unit_is_stopped_by_the_folder_that_was_ended(struck: World) -> None:
    asked: list[tuple[Any, ...]] = []
    struck.scene.ask = lambda message: bool(asked.append(message)) or True
    last_word(struck, "unit", {"shop.service": ("/cg/shop.service", 7, None)})
    assert struck.ended == [("/cg/shop.service", 7)]
    wishes = [message for message in asked if message[0] == "stop_unit"]
    assert wishes == [("stop_unit", "shop.service", "/cg/shop.service", "host-1001.100")]

"""A protected service that was started again while the watcher says nothing."""

import signal
from pathlib import Path

import pytest
from guard_world import World, row

from watchdog.guard import namesakes
from watchdog.guard.namesakes import BACK_S

LEAK, DB, AGAIN, SHIM, SHELL = 11, 30, 40, 50, 60
WHY = "unit postgresql.service is protected (protect.unit postgresql*)"
SAID = f"it seems to be PID {DB} started again: {WHY}"
FRESH = 100_005  # ticks: 50 ms after the watcher's word


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The watcher has said once that the database is protected, and hangs."""
    made = World(tmp_path, "enforce")
    made.process(DB, 200, comm="postgres", uid=105)
    made.process(LEAK, 50)
    made.process(SHELL, 3, comm="bash")
    made.scene.take_spared(True, {WHY: [(DB, 500)]})
    rows = [row(DB, "postgresql.service", 200, protected=WHY), row(LEAK, "shop.service", 20, 0.8)]
    made.scene.take_dossier(1000.0, rows)
    made.answers = [("ask", "")] * 1000
    return made


def newcomer(world: World, mib: int = 3, *, comm: str = "postgres", uid: int = 105, ppid: int = 1,
             pid: int = AGAIN, start: int = FRESH) -> str | None:  # fmt: skip
    world.process(pid, mib, comm=comm, uid=uid, ppid=ppid, start=start)
    return world.scene.spares(pid, start)


def squeeze(world: World, comm: str = "postgres") -> None:
    """The newcomer takes 200 MiB in a second."""
    newcomer(world, comm=comm)
    world.tick(250)
    newcomer(world, 200, comm=comm)
    world.process(LEAK, 60)
    world.tick(80, 1.0)


def test_it_is_as_protected_as_before(world: World) -> None:
    world.gone(DB)
    squeeze(world)
    for _ in range(100):
        world.tick(80)
    assert {pid for pid, _ in world.signals} == {LEAK}
    assert newcomer(world, 200) == SAID


def test_what_the_watcher_saw_before_it_ran_its_program_says_nothing(world: World) -> None:
    """systemd's own child has the unit's name in brackets, and is nobody yet."""
    world.gone(DB)
    world.scene.take_dossier(1000.0, [row(AGAIN, "postgresql.service", 1, comm="(postgres)",
                                          start=FRESH)])  # fmt: skip
    assert newcomer(world, comm="(postgres)") is None
    assert newcomer(world) == SAID
    world.scene.take_dossier(1000.0, [row(AGAIN, "postgresql.service", 1, comm="postgres",
                                          start=FRESH)])  # fmt: skip
    assert newcomer(world) is None, "it was looked at, and is not protected any more"


def test_a_hog_is_taken_while_the_watcher_says_nothing(world: World) -> None:
    world.gone(DB)
    squeeze(world, comm="hog")
    assert world.signals == [(AGAIN, signal.SIGTERM)]


def test_a_name_alone_protects_nobody(world: World) -> None:
    assert newcomer(world) is None, "its namesake lives on"
    world.gone(DB)
    assert newcomer(world) == SAID
    assert newcomer(world, uid=1000) is None
    assert newcomer(world, comm="postgres2") is None
    assert newcomer(world, ppid=SHELL) is None, "somebody started it by hand"
    assert newcomer(world, ppid=LEAK) is None
    assert newcomer(world, start=90_000) is None, "the watcher has seen it, and does not protect it"


def test_what_a_newcomer_starts_may_be_it(world: World) -> None:
    """A container: the shim is as new as the database in it."""
    world.gone(DB)
    world.process(SHIM, 3, comm="containerd-shim", uid=0, start=FRESH)
    assert newcomer(world, ppid=SHIM) == SAID
    assert world.scene.spares(SHIM, FRESH) is None


def test_the_number_may_be_given_away_meanwhile(world: World) -> None:
    world.process(DB, 3, comm="postgres", uid=105, start=FRESH)
    assert world.scene.spares(DB, FRESH) == SAID


def test_it_holds_until_the_next_word(world: World) -> None:
    world.gone(DB)
    assert newcomer(world) == SAID
    world.scene.take_dossier(1002.0, [row(AGAIN, "other.service", start=FRESH, comm="postgres")])
    assert newcomer(world) is None
    world.scene.take_spared(True, {WHY: [(AGAIN, FRESH)]})
    assert newcomer(world) == WHY


def test_or_until_a_watcher_would_have_been_started_again(world: World) -> None:
    world.gone(DB)
    world.tick(250, BACK_S)
    assert newcomer(world) == SAID
    world.tick(250, 5.0)
    assert newcomer(world) is None
    for again in range(1, 4):
        world.tick(250, 60.0)
        fresh = int(world.up * 100)
        assert newcomer(world, start=fresh) is None, f"started {again} times more, and no watcher"
    world.scene.take_dossier(world.up, [])
    assert newcomer(world, start=int(world.up * 100)) == SAID


def test_a_word_that_misses_both_leaves_time_to_see_it(world: World) -> None:
    """The old one has ended, and the new one was not looked for yet or is still to come."""
    world.gone(DB)
    world.scene.take_spared(True, {})
    world.scene.take_dossier(1010.0, [])
    assert newcomer(world) == SAID
    assert newcomer(world, start=101_500) == SAID
    world.tick(250, 200.0)
    assert newcomer(world, start=112_500) is None, "whose place is it to take, so late?"
    world.scene.take_dossier(1200.0, [])
    world.scene.take_spared(True, {})
    assert world.scene.namesakes.ended == {}


def test_who_lost_its_protection_leaves_none(world: World) -> None:
    world.scene.take_spared(True, {})  # a reload
    world.gone(DB)
    assert newcomer(world) is None


def test_of_many_at_once_some_are_read_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namesakes, "READ_MAX", 2)
    found = {WHY: [(DB, 500), *((pid, 500) for pid in range(70, 73))]}
    for pid in range(70, 73):
        world.process(pid, 1)
    world.scene.take_spared(True, found)
    assert len(world.scene.namesakes.names) == 3
    world.scene.take_dossier(1002.0, [])
    assert set(world.scene.namesakes.names) == set(found[WHY])

"""One deed is one in the guard's budget and in the store's: the two ends of the wire together."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from guard_world import Clock, World, row

from watchdog import guard_line, wire
from watchdog.guard.spent import Spent
from watchdog.guard_line import GuardLine
from watchdog.health import Health
from watchdog.policy.rules import Rules

DB, LATE_S = 10, 1.5  # from a decision to its report, where a unit has many processes


class Watcher:
    """The watcher's end, over what is kept; `heard` hands it reports."""

    def __init__(self, kept: dict[str, str]) -> None:
        self.kept, self.fed = kept, 0
        ours, self.guard = wire.pair()
        nobody: Any = None
        self.line = GuardLine(
            ours, Clock(), Rules(), nobody, self, Health(nobody), kept.get(guard_line.KEPT),  # type: ignore[arg-type]
            self.feed, nobody, nobody, nobody,
        )  # fmt: skip

    def put_kept(self, kept: dict[str, str]) -> None:
        self.kept.update(kept)

    def feed(self, _fact: Any) -> None:
        self.fed += 1

    def heard(self, reports: list[wire.Message]) -> None:
        for report in reports:
            assert wire.send(self.guard, report)
            self.line.hear()


@pytest.fixture
def watcher() -> Iterator[Callable[[dict[str, str]], Watcher]]:
    made: list[Watcher] = []

    def make(kept: dict[str, str]) -> Watcher:
        made.append(Watcher(kept))
        return made[-1]

    yield make
    for one in made:
        os.close(one.guard)
        os.close(one.line.fd)


class Reporting(World):
    """It keeps its reports as the guard sends them."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, "enforce")
        self.reports: list[wire.Message] = []
        self.scene.told = self.tell
        self.process(DB, 480)

    def tell(self, *said: Any) -> None:
        self.reports.append(("report", 1e9 + self.up + LATE_S, self.up, *said))

    def leak(self, pid: int, deaf: bool) -> None:
        """It is sent SIGTERM, and where it is deaf to it SIGKILL; then memory is well."""
        self.process(pid, 120)
        known = [row(DB, "db.service", 480), row(pid, f"shop{pid}.service", 20, 0.8)]
        self.scene.take_dossier(self.up, known)
        self.tick(105, 60.0)
        self.process(pid, 140)
        self.tick(80, 1.0)
        for _ in range(32 if deaf else 0):
            self.tick(80)
        self.gone(pid)
        self.tick(600, 5.0)


@pytest.fixture
def world(tmp_path: Path) -> Reporting:
    return Reporting(tmp_path)


def test_sigterm_and_its_sigkill_are_one_for_the_store_too(
    world: Reporting, watcher: Callable[[dict[str, str]], Watcher]
) -> None:
    for pid in (11, 12, 13):
        world.leak(pid, deaf=True)
    rule, kept = world.pressure.rules.budget, {}
    assert [body["do"] for *_, body in world.reports] == ["terminate", "kill"] * 3
    assert world.scene.spent.left(rule, world.up) == 3
    watcher(kept).heard(world.reports)
    # Nobody knows that it heard the last ones: the next one is told again.
    again = watcher(kept)
    again.heard(world.reports[2:])
    assert (again.fed, len(again.line.spent)) == (4, 3)
    world.scene.spent.recall(again.line.spent, world.up, 1e9 + world.up)
    assert world.scene.spent.left(rule, world.up) == 3
    # The next boot, an hour of which has yet to pass.
    other = Spent(None, "boot-2", 10.0, 1e9 + world.up)
    other.recall(watcher(kept).line.spent, 10.0, 1e9 + world.up)
    assert other.left(rule, 10.0) == 3


def test_each_decision_counts(
    world: Reporting, watcher: Callable[[dict[str, str]], Watcher]
) -> None:
    world.leak(11, deaf=False)
    world.leak(12, deaf=True)
    world.answers = [("gone", "it ended by itself")]
    world.leak(13, deaf=False)
    one = watcher({})
    one.heard(world.reports)
    one.line.spend()
    assert len(one.line.spent) == 3
    assert world.scene.spent.left(world.pressure.rules.budget, world.up) == 4


def test_what_the_store_tells_twice_is_one() -> None:
    spent = Spent(None, "boot-1", 10.0, 1e9)
    spent.recall([1e9 - 60, 1e9 - 60, 1e9 - 30], 10.0, 1e9)
    assert len(spent.purse.spent) == 2


@pytest.mark.parametrize("store", [False, True])
def test_a_boot_before_the_clock_is_right_keeps_the_budget_no_longer_than_until_then(
    tmp_path: Path, store: bool
) -> None:
    """Without a clock of its own a machine begins in the past, until the network tells the time."""
    rule = (2, 3600.0)
    path = None if store else str(tmp_path / "spent")
    before = Spent(path, "boot-1", 5000.0, 1e9)
    before.spend(rule, 5000.0, 1e9)
    before.spend(rule, 5600.0, 1e9 + 600)
    spent = Spent(path, "boot-2", 10.0, 86400.0)
    if store:
        spent.recall([1e9, 1e9 + 600], 10.0, 86400.0)
    spent.turn(20.0, 86410.0)
    assert spent.left(rule, 20.0) == 0, "when that was is not known yet"
    spent.turn(30.0, 1e9 + 3000)
    assert spent.left(rule, 30.0) == 0
    spent.turn(700.0, 1e9 + 3670)
    assert spent.left(rule, 700.0) == 1
    if path:
        again = Spent(path, "boot-2", 700.0, 1e9 + 3670)
        assert [at for at, _ in again.purse.spent] == [-2970.0, -2370.0]

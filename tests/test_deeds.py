"""What takes more than a signal: orders of policies and wishes of the guard, and their answers."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from watchdog.act.unit import Unit
from watchdog.child import Children
from watchdog.clock import RealClock
from watchdog.deeds import KEPT, Deeds
from watchdog.engine import Engine
from watchdog.facts import Entity, Event, Host, Order, Said, Subject, Sweep, Who
from watchdog.policy.rules import Match, Policy, Rules, Selector
from watchdog.sense.cgroups import Cgroups
from watchdog.store.db import Store

MIB = 1 << 20
SHOP = "shop.service"


class FakeUnits:
    """PID 1, which does what it is asked; what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.former = "infinity"
        self.life: str | None = None
        self.outcome = ("done", "PID 1 did it")
        self.on_limit: Callable[[], None] = lambda: None

    def turn(self) -> None:
        pass

    def restart(self, unit: Unit, done: Callable[[str, str], None]) -> None:
        self.asked.append(("restart", unit.name, unit.members))
        self.life = unit.invocation
        done(*self.outcome)

    def stop(self, unit: Unit, done: Callable[[str, str], None]) -> None:
        self.asked.append(("stop", unit.name, unit.path))
        done(*self.outcome)

    def revive(self, unit: Unit, pid: int, done: Callable[[str, str], None], *, may: bool) -> None:
        self.asked.append(("revive", unit.name, pid))
        done(*self.outcome if may else ("budget", "it stays down"))

    def limit(
        self, unit: Unit, high: int | None, seen: Callable[[str], bool] | None,
        done: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        if seen is not None and not seen(self.former):
            done("failed", "it cannot be kept")
            return
        self.on_limit()
        self.asked.append(("limit", unit.name, high))
        done(*self.outcome)


class House:
    """A machine with one unit of two processes, in folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cg = folder / "cg" / "system.slice" / SHOP
        self.cg.mkdir(parents=True)
        (self.cg / "cgroup.procs").write_text("")
        (self.cg / "memory.current").write_text(f"{400 * MIB}\n")
        (self.cg / "memory.pressure").write_text("full avg10=0.00 total=1000\n")
        (self.cg / "memory.stat").write_text("anon 1\n")
        self.policy = Policy("throttler", do=("throttle",), cooldown_s=600.0)
        self.engine = Engine(Rules(policies=(self.policy,), protect=Selector(name=("db",))), "box")
        self.engine.feed(Host(1e9, 1000.0, "boot"))
        rows = []
        for pid, comm in ((900_007, "shop"), (900_008, "worker")):
            self.engine.feed(Who(1e9, 1000.0, pid, 50, ppid=1, uid=1000, exe=f"/usr/bin/{comm}",
                                 cgroup=f"/system.slice/{SHOP}", cmdline="x" * 900))  # fmt: skip
            rows.append((pid, 50, comm, 99 * MIB, 0, None, SHOP, None))
        self.engine.feed(Sweep(1e9, 1000.0, tuple(rows), True))
        self.store = Store(str(folder / "history.db"))
        self.cgroups = Cgroups(str(folder))
        self.cgroups.base, self.cgroups.v2 = str(folder / "cg"), True
        self.children = Children()
        self.answers: list[tuple[str, str, str]] = []
        self.events: list[Event] = []
        self.spent = 0
        self.deeds = self.made()

    def made(self) -> Deeds:
        def spend() -> None:
            self.spent += 1

        def feed(said: Said) -> None:
            self.events += [one for one in self.engine.feed(said) if isinstance(one, Event)]

        found = Deeds(
            RealClock(), self.children, self.cgroups, self.engine, self.store, str(self.folder),
            lambda order, outcome, said: self.answers.append((order.do, outcome, said)),
            feed, spend,
        )  # fmt: skip
        self.units = FakeUnits()
        found.units = self.units  # type: ignore[assignment]
        return found

    def order(self, do: str, entity: Entity | None = None) -> Order:
        entity = entity or Entity(unit=SHOP)
        subject = Subject(f"unit:{SHOP}", entity, entity.pid is None)
        return Order(f"o-{do}", "throttler", do, "enforce", subject, "i-1", None, ("why",), None)

    def kept(self) -> dict[str, str]:
        self.store.flush()
        found: dict[str, str] = json.loads(self.store.load_kept().get(KEPT, "{}"))
        return found


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.children.close()
    made.store.close()


def test_a_restart_is_asked_for_with_the_members_that_were_seen(house: House) -> None:
    house.deeds.carry_out(house.order("restart-unit"), "restart-unit")
    assert house.units.asked == [("restart", SHOP, ((900_007, 50), (900_008, 50)))]
    assert house.answers == [("restart-unit", "done", "PID 1 did it")]


def test_what_was_seen_is_the_life_that_is_meant(house: House) -> None:
    """PID 1 leaves the InvocationID of each unit in a link that anybody may read."""
    (house.cg / "cgroup.procs").write_text("")
    folder = house.folder / "units"
    folder.mkdir()
    house.deeds.invocations = str(folder)
    link = folder / f"invocation:{SHOP}"
    link.symlink_to("f00")
    house.deeds.note([SHOP, "gone.service"])
    assert house.deeds.lives == {SHOP: "f00"}
    link.unlink()
    link.symlink_to("ba5")  # it is started anew
    house.deeds.carry_out(house.order("restart-unit"), "restart-unit")
    assert house.units.life == "f00", "and PID 1 is asked for the one that was seen"
    house.deeds.carry_out(house.order("kill-unit"), "kill-unit")
    assert house.answers[-1][1] == "changed"
    house.deeds.note([SHOP])
    house.deeds.carry_out(house.order("kill-unit"), "kill-unit")
    assert house.answers[-1][1] != "changed"


def test_a_subject_without_a_unit_has_none_to_restart(house: House) -> None:
    order = house.order("restart-unit", Entity(pid=900_009, start=1))
    house.deeds.carry_out(order, "restart-unit")
    assert house.answers[0][1] == "failed"


def test_a_unit_is_not_ended_for_its_protected_member(house: House) -> None:
    house.engine.rules = house.engine.rules._replace(protect=Selector(name_unverified=("worker",)))
    house.deeds.carry_out(house.order("kill-unit"), "kill-unit")
    assert house.answers[0][1] == "protected"
    assert "worker" in house.answers[0][2]
    house.engine.rules = house.engine.rules._replace(protect=Selector())
    house.deeds.carry_out(house.order("kill-unit"), "kill-unit")
    assert house.answers[1][1] in ("done", "gone")  # its cgroup is a folder, with nobody in it


@pytest.mark.parametrize("do", ["restart-unit", "throttle"])
def test_only_who_names_the_unit_moves_one_that_holds_a_protected_process(
    house: House, do: str
) -> None:
    protect = Selector(name_unverified=("worker",))
    for pattern, outcome in (("shop*", "protected"), (SHOP, "done")):
        one = house.policy._replace(match=Match(unit=(pattern,)))
        house.engine.rules = house.engine.rules._replace(policies=(one,), protect=protect)
        house.deeds.carry_out(house.order(do), do)
        assert house.answers[-1][1] == outcome
    assert len(house.units.asked) == 1


def test_a_throttle_is_never_below_use_and_what_was_is_stored_first(house: House) -> None:
    house.units.former = "536870912"
    there: list[dict[str, str]] = []
    house.units.on_limit = lambda: there.append(house.kept())
    house.deeds.carry_out(house.order("throttle"), "throttle")
    assert house.units.asked == [("limit", SHOP, int(400 * MIB * 1.05))]
    assert there == [{SHOP: "536870912"}]
    assert house.answers[0][1] == "done"
    assert "put back in 10 min" in house.answers[0][2]
    deadline = house.deeds.deadline()
    assert deadline is not None
    # a crash of ours; the next start puts back what it was
    other = house.made()
    other.recall(house.kept())
    assert house.units.asked == [("limit", SHOP, 536870912)]
    assert house.kept() == {}


def test_a_throttle_ends_with_the_daemon_and_with_its_time(house: House) -> None:
    house.deeds.carry_out(house.order("throttle"), "throttle")
    house.deeds.stop()
    assert house.units.asked[1] == ("limit", SHOP, None)
    house.deeds.carry_out(house.order("throttle"), "throttle")
    held = house.deeds.held[SHOP]
    house.deeds.held[SHOP] = held._replace(until_t=time.time() - 1)
    house.deeds.turn()
    assert house.units.asked[3] == ("limit", SHOP, None)
    assert house.deeds.held == {}


def test_a_unit_that_stands_still_under_its_limit_is_let_go(house: House) -> None:
    house.deeds.carry_out(house.order("throttle"), "throttle")
    held = house.deeds.held[SHOP]
    (house.cg / "memory.pressure").write_text("full avg10=0.00 total=55001000\n")
    house.deeds.held[SHOP] = held._replace(check_up=0.001)
    house.deeds.turn()
    assert house.units.asked[-1] == ("limit", SHOP, None)
    (event,) = house.events
    assert (event.kind, event.body["outcome"]) == ("policy.action", "failed")
    assert "stood still for 92" in event.because[0]


def test_what_cannot_be_throttled_is_said(house: House) -> None:
    house.cgroups.v2 = False
    house.deeds.carry_out(house.order("throttle"), "throttle")
    assert house.answers[0][1] == "failed"
    assert "version 1" in house.answers[0][2]
    house.cgroups.v2 = True
    (house.cg / "memory.current").unlink()
    house.deeds.carry_out(house.order("throttle"), "throttle")
    assert house.answers[1][1:] == ("failed", "its cgroup is not known")
    assert house.units.asked == []


def test_evidence_of_a_process_and_of_a_unit(house: House) -> None:
    stat = Path(f"/proc/{os.getpid()}/stat").read_text()
    start = int(stat.rpartition(")")[2].split()[19])
    house.deeds.carry_out(
        house.order("evidence", Entity(os.getpid(), start, unit=SHOP)), "evidence"
    )
    until = time.monotonic() + 20
    while not house.answers and time.monotonic() < until:
        house.children.turn()
        house.deeds.turn()
        time.sleep(0.01)
    assert house.answers[0][1] == "done"
    found = json.loads((house.folder / "evidence" / "o-evidence.json").read_text())
    assert "VmRSS" in found["processes"][str(os.getpid())]["status"]
    assert found["cgroup"]["memory.stat"] == "anon 1"
    assert "Rss:" in found["smaps_rollup"] or "not read" in found["smaps_rollup"]
    # of a unit its largest processes; and nothing slow while memory is short
    house.engine.pressed = True
    house.deeds.carry_out(house.order("evidence"), "evidence")
    found = json.loads((house.folder / "evidence" / "o-evidence.json").read_text())
    assert set(found["processes"]) == {"900007", "900008"}
    assert len(found["processes"]["900007"]["cmdline"]) == 256
    assert "memory is short" in found["smaps_rollup"]


def come_due(house: House) -> None:
    assert house.deeds.deadline() is not None
    house.deeds.revivals = [(0.0, start) for _, start in house.deeds.revivals]
    house.deeds.turn()


def test_wishes_of_the_guard_become_events(house: House) -> None:
    house.deeds.stop_unit(SHOP, str(house.cg), "host-1")
    assert house.units.asked == [("stop", SHOP, f"/system.slice/{SHOP}")]
    house.deeds.revive(SHOP, 900_007, "host-1", may=True)
    house.deeds.revive(SHOP, 900_007, "host-2", may=False)  # the budget is spent
    house.deeds.turn()
    assert len(house.units.asked) == 1, "its victim may still be about to end"
    come_due(house)
    stop, revive, left = house.events
    assert (left.body["do"], left.body["outcome"]) == ("revive", "budget")
    assert (stop.body["do"], stop.body["outcome"]) == ("stop-unit", "done")
    assert (revive.body["do"], revive.body["restarts"]) == ("revive", False)
    assert house.spent == 1
    house.units.outcome = ("changed", "it is active")
    house.deeds.revive(SHOP, 900_007, "host-3", may=True)
    come_due(house)
    assert (len(house.events), house.spent) == (3, 1)

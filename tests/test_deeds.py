"""What takes more than a signal: orders of policies and wishes of the guard, and their answers."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from watchdog import evidence
from watchdog.act.unit import Unit
from watchdog.child import Children
from watchdog.clock import JumpClock
from watchdog.deeds import PUT_BACK_S, REVIVE_MOST_S, Deeds
from watchdog.engine import Engine
from watchdog.facts import Entity, Event, Host, Order, Said, Subject, Sweep, Who
from watchdog.policy.ledger import Standing
from watchdog.policy.rules import CHECK_S, Match, Policy, Rules, Selector
from watchdog.sense.cgroups import Cgroups
from watchdog.store.db import Store
from watchdog.throttle import AGAIN_S, AT_ONCE, KEPT

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
        self.late = False  # does it answer later, at `answer`?
        self.waiting: list[Callable[[], None]] = []

    def turn(self) -> None:
        pass

    def answer(self) -> None:
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one()

    def _answer(self, done: Callable[[str, str], None]) -> None:
        if self.late:
            self.waiting.append(lambda: done(*self.outcome))
        else:
            done(*self.outcome)

    def restart(self, unit: Unit, done: Callable[[str, str], None]) -> None:
        self.asked.append(("restart", unit.name, unit.members))
        self.life = unit.invocation
        done(*self.outcome)

    def stop(self, unit: Unit, done: Callable[[str, str], None]) -> None:
        self.asked.append(("stop", unit.name, unit.path))
        done(*self.outcome)

    def revive(
        self, unit: Unit, pid: int, done: Callable[[str, str], None], *, may: bool, of_policy: bool
    ) -> None:
        self.asked.append(("revive", unit.name, pid))
        self.of_policy = of_policy
        if may:
            self._answer(done)
        else:
            done("budget", "it stays down")

    def limit(
        self, unit: Unit, chosen: Callable[[str], int | tuple[str, str]],
        done: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        def shown() -> None:
            high = chosen(self.former)
            if not isinstance(high, int):
                done(*high)
                return
            self.on_limit()
            self.asked.append(("limit", unit.name, high))
            self._answer(done)

        if self.late:
            self.waiting.append(shown)
        else:
            shown()

    def put_back(
        self, name: str, former: str, ours: tuple[int, ...], within_s: float,
        done: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        self.within_s = within_s
        self.asked.append(("put back", name, former))
        self.ours = ours
        self._answer(done)


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
        self.clock = JumpClock(1e9, 1000.0)
        self.answers: list[tuple[str, str, str]] = []
        self.events: list[Event] = []
        self.spent = 0
        self.listens, self.owed = True, list[Any]()
        self.deeds = self.made()

    def made(self) -> Deeds:
        def spend() -> None:
            self.spent += 1

        def feed(said: Said) -> None:
            self.events += [one for one in self.engine.feed(said) if isinstance(one, Event)]

        found = Deeds(
            self.clock, self.children, self.cgroups, self.engine, self.store, str(self.folder),
            lambda order, outcome, said: self.answers.append((order.do, outcome, said)),
            feed, spend, self.owe,
        )  # fmt: skip
        self.units = FakeUnits()
        found.units = found.throttles.units = self.units  # type: ignore[assignment]
        found.comebacks.systemctl = str(self.folder / "no systemctl")
        return found

    def owe(self, *one: Any) -> bool:
        """Tell the guard, who may be behind."""
        if self.listens:
            self.owed.append(one)
        return self.listens

    def order(self, do: str, entity: Entity | None = None, policy: str = "throttler") -> Order:
        entity = entity or Entity(unit=SHOP)
        subject = Subject(f"unit:{SHOP}", entity, entity.pid is None)
        return Order(f"o-{do}", policy, do, "enforce", subject, "i-1", None, ("why",), None)

    def throttle(self, policy: str = "throttler") -> None:
        self.deeds.carry_out(self.order("throttle", policy=policy), "throttle")

    def use(self, mib: int) -> None:
        (self.cg / "memory.current").write_text(f"{mib * MIB}\n")

    def pass_by(self, seconds: float) -> None:
        self.clock.jump(seconds)
        self.deeds.turn()

    def stored(self) -> dict[str, Any]:
        self.store.flush()
        found: dict[str, Any] = json.loads(self.store.load_kept().get(KEPT, "{}"))
        return found

    def kept(self) -> dict[str, str]:
        found: dict[str, str] = self.stored().get("former", {})
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


class Lives:
    """The links in which PID 1 leaves the InvocationID of each unit; anybody may read them."""

    def __init__(self, house: House) -> None:
        self.deeds, self.folder = house.deeds, house.folder / "units"
        self.folder.mkdir()
        house.deeds.invocations = str(self.folder)

    def begin(self, life: str, t: float, unit: str = SHOP) -> None:
        link = self.folder / f"invocation:{unit}"
        link.unlink(missing_ok=True)
        link.symlink_to(life)
        os.utime(link, (t, t), follow_symlinks=False)

    def see(self, t: float, *units: str | None, census: bool = True) -> dict[str, str]:
        rows = tuple((n, 5, "x", MIB, 0, None, unit, None) for n, unit in enumerate(units, 50))
        self.deeds.note(Sweep(t, t, rows, census))
        return self.deeds.lives


def test_the_life_of_a_unit_is_that_of_the_sweep_that_tells_of_it(house: House) -> None:
    lives = Lives(house)
    lives.begin("f00", 100.0)
    lives.begin("0dd", 100.0, "odd.service")
    assert lives.see(110.0, SHOP, SHOP, None, "gone.service", "odd.service") == {
        SHOP: "f00", "odd.service": "0dd",
    }  # fmt: skip
    lives.begin("ba5", 115.0)
    assert lives.see(120.0, "odd.service", census=False)[SHOP] == "f00", "it is not told of"
    assert lives.see(130.0, SHOP, census=False) == {SHOP: "ba5", "odd.service": "0dd"}
    assert lives.see(140.0, SHOP) == {SHOP: "ba5"}
    lives.begin("ace", 150.05)
    assert lives.see(150.0, SHOP) == {SHOP: "ba5"}, "it began while that was read"
    lives.begin("new", 150.05, "new.service")
    assert lives.see(150.0, "new.service", census=False) == {SHOP: "ba5"}
    assert lives.see(160.0, SHOP, "new.service") == {SHOP: "ace", "new.service": "new"}
    lives.begin("d0e", 170.0)
    assert lives.see(100.0, SHOP) == {SHOP: "ace"}, "the clock was set back since"
    assert lives.see(110.0, SHOP) == {SHOP: "d0e"}, "and is still behind"


def test_what_was_seen_is_the_life_that_is_meant(house: House) -> None:
    (house.cg / "cgroup.procs").write_text("")
    lives = Lives(house)
    lives.begin("f00", 100.0)
    lives.see(110.0, SHOP)
    lives.begin("ba5", 115.0)
    house.deeds.carry_out(house.order("restart-unit"), "restart-unit")
    assert house.units.life == "f00", "and PID 1 is asked for the one that was seen"
    house.deeds.carry_out(house.order("kill-unit"), "kill-unit")
    assert house.answers[-1][1] == "changed"
    lives.see(120.0, SHOP)
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


LOGIN, APP = "user@1000.service", "app-x.scope"


@pytest.fixture
def logged_in(house: House) -> Iterator[tuple[House, Path, Order, subprocess.Popen[bytes]]]:
    """Somebody in a unit of his own inside his login, and the order to end that."""
    one = subprocess.Popen(["/bin/sleep", "60"])
    start = int(Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()[19])
    path = f"/user.slice/{LOGIN}/app.slice/{APP}"
    folder = house.folder / f"cg{path}"
    folder.mkdir(parents=True)
    (folder / "cgroup.procs").write_text(f"{one.pid}\n")
    house.engine.feed(Who(1e9, 1000.0, one.pid, start, uid=1000, exe="/bin/sleep", cgroup=path,
                          inner=APP))  # fmt: skip
    row = (one.pid, start, "sleep", MIB, 0, None, LOGIN, None)
    house.engine.feed(Sweep(1e9, 1001.0, (row,), False))
    order = house.order("kill-unit", Entity(one.pid, start, "sleep", unit=LOGIN, inner=APP))
    yield house, folder, order, one
    one.kill()
    one.wait()


@pytest.mark.parametrize("inner", [True, False])
def test_in_a_login_only_what_is_inside_it_is_ended(
    logged_in: tuple[House, Path, Order, subprocess.Popen[bytes]], inner: bool
) -> None:
    house, _, order, one = logged_in
    if not inner:  # nothing tells where: then it is the process alone
        house.cgroups.base = str(house.folder / "elsewhere")
    house.deeds.carry_out(order, "kill-unit")
    assert house.answers[0][1] == "done", house.answers
    assert (APP in house.answers[0][2]) is inner
    assert one.wait(5) == -signal.SIGKILL


def test_who_shares_the_unit_inside_a_login_with_a_protected_one_lives(
    logged_in: tuple[House, Path, Order, subprocess.Popen[bytes]],
) -> None:
    house, folder, order, one = logged_in
    (folder / "cgroup.procs").write_text(f"{one.pid}\n{os.getppid()}\n")
    house.deeds.carry_out(order, "kill-unit")
    assert house.answers[-1][1] == "protected", "we run below it"
    (folder / "cgroup.procs").write_text(f"{one.pid}\n")
    house.engine.rules = house.engine.rules._replace(protect=Selector(user=(1000,)))
    house.deeds.carry_out(order, "kill-unit")
    assert house.answers[-1][1] == "protected"
    (folder / "cgroup.procs").write_text("")
    house.engine.rules = house.engine.rules._replace(protect=Selector(name_unverified=("sleep",)))
    house.deeds.carry_out(order, "kill-unit")
    assert house.answers[-1][1] == "protected", "nor outside of it"
    assert one.poll() is None


def test_who_has_left_the_unit_inside_a_login_is_ended_alone(
    logged_in: tuple[House, Path, Order, subprocess.Popen[bytes]],
) -> None:
    house, folder, order, one = logged_in
    other = subprocess.Popen(["/bin/sleep", "60"])
    (folder / "cgroup.procs").write_text(f"{other.pid}\n")
    house.deeds.carry_out(order, "kill-unit")
    assert house.answers[-1][1] == "done"
    assert one.wait(5) == -signal.SIGKILL
    assert other.poll() is None
    other.kill()
    other.wait()


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
    house.units.former = str(600 * MIB)
    there: list[dict[str, str]] = []
    house.units.on_limit = lambda: there.append(house.kept())
    house.units.late = True
    house.throttle()
    house.use(500)  # it grows while PID 1 is being asked
    house.units.answer()
    assert house.units.asked == [("limit", SHOP, int(500 * MIB * 1.05))]
    assert there == [{SHOP: str(600 * MIB)}]
    house.units.answer()
    assert house.answers == [("throttle", "done", "MemoryHigh=525 MiB, put back in 10 min")]
    assert house.deeds.deadline() == 1000.0 + CHECK_S
    # a crash of ours; the next start puts back what it was
    other = house.made()
    other.throttles.recall(house.stored())
    assert house.units.ours == (int(500 * MIB * 1.05),)
    assert house.units.asked == [("put back", SHOP, str(600 * MIB))]
    assert house.kept() == {}


def test_another_boot_has_undone_all_of_them(house: House) -> None:
    house.throttle()
    stored = house.stored()
    other = house.made()
    other.throttles.recall(stored | {"boot_id": "another"})
    other.throttles.recall({})
    assert (house.units.asked, other.throttles.held) == ([], {})


def test_a_throttle_ends_with_its_time_whatever_the_wall_clock_says(house: House) -> None:
    house.throttle()
    house.clock.step_wall(86400.0)
    house.deeds.turn()
    assert len(house.units.asked) == 1
    for _ in range(9):
        house.pass_by(60.0)
    assert len(house.units.asked) == 1
    house.pass_by(60.0)
    assert house.units.asked[1:] == [("put back", SHOP, "infinity")]
    assert (house.deeds.throttles.held, house.kept()) == ({}, {})


def test_the_daemon_waits_a_moment_for_what_it_puts_back(house: House) -> None:
    """PID 1 answers some turns later."""
    house.throttle()
    house.units.late = True
    turns: list[int] = []
    house.units.turn = lambda: turns.append(1) if len(turns) < 3 else house.units.answer()  # type: ignore[method-assign]
    house.deeds.stop()
    assert house.units.asked[1:] == [("put back", SHOP, "infinity")]
    assert house.units.within_s < 1.0, "there is no time to wait for what PID 1 tells"
    assert (house.deeds.throttles.held, house.kept()) == ({}, {})
    house.throttle()
    house.units.answer()
    assert house.answers[-1] == ("throttle", "changed", "the daemon stops")


def test_what_is_not_put_back_while_the_daemon_stops_is_kept(house: House) -> None:
    house.throttle()
    house.units.outcome = ("failed", "no")
    house.deeds.stop()
    assert house.clock.boottime() < 1000.0 + PUT_BACK_S + 1.0
    assert len(house.units.asked) > 2, "it was tried again"
    assert house.kept() == {SHOP: "infinity"}


def test_a_throttle_under_way_when_the_daemon_stops_is_undone(house: House) -> None:
    house.units.late = True
    house.throttle()
    house.units.answer()  # it is stored, and PID 1 is about to set it
    house.units.turn = house.units.answer  # type: ignore[method-assign]
    house.deeds.stop()
    assert [one[0] for one in house.units.asked] == ["limit", "put back"]
    assert house.kept() == {}


def test_what_cannot_be_put_back_is_tried_again_and_never_forgotten(house: House) -> None:
    house.throttle()
    house.units.outcome = ("failed", "systemctl took longer than 10 s and was ended")
    house.pass_by(600.0)
    house.pass_by(0.0)
    assert len(house.units.asked) == 2
    assert house.deeds.throttles._keep()  # whoever writes next
    assert house.kept() == {SHOP: "infinity"}
    house.pass_by(AGAIN_S)
    assert len(house.units.asked) == 3
    house.units.outcome = ("gone", "PID 1 knows no unit")
    house.pass_by(AGAIN_S)
    assert (house.deeds.throttles.held, house.kept()) == ({}, {})


def test_many_are_put_back_a_few_at_a_time(house: House) -> None:
    former = {f"shop-{number}.service": str(number) for number in range(11)}
    house.units.late = True
    house.deeds.throttles.recall({"boot_id": "boot", "former": former})
    assert len(house.units.asked) == AT_ONCE
    due = house.deeds.deadline()
    assert due is not None and due > house.clock.boottime()
    for _ in range(3):
        house.units.answer()
        house.deeds.turn()
    assert sorted(house.units.asked) == sorted(("put back", *one) for one in former.items())
    assert house.kept() == {}


def test_a_limit_of_the_administrator_is_never_loosened(house: House) -> None:
    house.units.former = str(500 * MIB)
    house.use(495)
    house.throttle()
    assert house.units.asked == []
    assert house.answers[0][1] == "done"
    assert "MemoryHigh=500 MiB already" in house.answers[0][2]
    assert house.kept() == {}
    house.pass_by(600.0)
    assert (house.units.asked, house.events) == ([], []), "nothing is put back, nor said"
    assert house.deeds.throttles.held == {}


@pytest.mark.parametrize("raised", [False, True])
def test_a_limit_of_the_administrator_is_found_useless_as_ours_would_be(
    house: House, raised: bool
) -> None:
    standing = behind(house)
    house.units.former = str(500 * MIB)
    house.use(495)
    house.deeds.carry_out(house.order("throttle")._replace(incident=BEHIND), "throttle")
    (house.cg / "memory.high").write_text("max\n" if raised else f"{500 * MIB}\n")
    house.use(600)
    house.pass_by(CHECK_S)
    assert house.units.asked == []
    assert standing.left == (() if raised else ("kill-unit",))
    assert [one.body["outcome"] for one in house.events] == ([] if raised else ["failed"])


def test_a_limit_of_ours_that_is_lower_still_is_put_back_in_time(house: House) -> None:
    house.throttle()
    house.units.former = str(420 * MIB)
    house.use(415)
    house.throttle("other")
    assert house.answers[-1] == (
        "throttle", "done", "it has MemoryHigh=420 MiB already, and that stays",
    )  # fmt: skip
    house.pass_by(600.0)
    assert house.units.asked[1:] == [("put back", SHOP, "infinity")]


BEHIND = f"throttler-unit:{SHOP}-1000000"


def behind(house: House, *others: str) -> Standing:
    """An incident in which a unit is throttled, and killed if that is of no use."""
    policy = house.policy._replace(do=("throttle", "kill-unit"), mode="enforce")
    policies = [policy._replace(name=name) for name in (policy.name, *others)]
    house.engine.set_rules(house.engine.rules._replace(policies=tuple(policies)))
    table = house.engine.decider.ledger.standing
    for one in policies:
        standing = Standing(1000.0, None)
        standing.left, standing.later = (), ("kill-unit",)
        table[one.name, f"unit:{SHOP}"] = standing
    return table[policy.name, f"unit:{SHOP}"]


def due(house: House) -> list[str]:
    """The policies that have gone on to what stands behind their throttle."""
    table = house.engine.decider.ledger.standing
    return [name for (name, _), one in table.items() if one.left == ("kill-unit",)]


def throttle_for(house: House, policy: str) -> None:
    incident = BEHIND.replace("throttler", policy)
    order = house.order("throttle", policy=policy)._replace(incident=incident)
    house.deeds.carry_out(order, "throttle")


@pytest.mark.parametrize("lower", [False, True])
def test_a_throttle_of_two_policies_lets_both_go_on(house: House, lower: bool) -> None:
    behind(house, "second", "third")
    throttle_for(house, "throttler")
    house.units.former = str(420 * MIB)
    house.pass_by(CHECK_S / 2)
    if lower:
        house.use(300)
    throttle_for(house, "second")
    assert [one[1] for one in house.answers] == ["done", "done"]
    assert ("that stays" in house.answers[1][2]) is not lower
    limits = [("limit", SHOP, 420 * MIB), ("limit", SHOP, 316 * MIB)]
    assert house.units.asked == limits[: 1 + lower]
    assert house.kept() == {SHOP: "infinity"}
    house.use(450)
    house.pass_by(CHECK_S / 2)
    if lower:
        assert due(house) == [], "a lower limit has a minute of its own"
        house.pass_by(CHECK_S / 2)
    assert house.units.asked[1 + lower :] == [("put back", SHOP, "infinity")]
    assert due(house) == ["throttler", "second"]
    assert [(one.body["policy"], one.body["outcome"], one.because[-1]) for one in house.events] == [
        (name, "failed", "next, if it is still so: kill-unit") for name in ("throttler", "second")
    ]  # fmt: skip
    assert len({one.id for one in house.events}) == 2
    assert (house.deeds.throttles.held, house.kept()) == ({}, {})


def test_a_throttle_whose_time_is_over_is_not_judged_by_what_comes_after(house: House) -> None:
    behind(house, "second")
    a_minute(house)
    throttle_for(house, "throttler")
    house.units.former = str(420 * MIB)
    throttle_for(house, "second")
    house.pass_by(CHECK_S)
    assert len(house.units.asked) == 1, "the limit holds for the other"
    house.use(450)
    house.pass_by(CHECK_S)
    assert due(house) == ["second"]
    assert [one.body["policy"] for one in house.events] == ["second"]
    assert house.units.asked[1:] == [("put back", SHOP, "infinity")]


def test_a_limit_that_is_shared_holds_for_the_longest_of_the_times(house: House) -> None:
    policy = house.policy._replace(do=("throttle",), mode="enforce")
    times = {"throttler": 20.0, "second": 35.0}
    policies = tuple(policy._replace(name=name, cooldown_s=s) for name, s in times.items())
    house.engine.set_rules(house.engine.rules._replace(policies=policies))
    throttle_for(house, "throttler")
    house.units.former = str(420 * MIB)
    throttle_for(house, "second")
    house.pass_by(34.0)
    assert len(house.units.asked) == 1
    house.pass_by(1.0)
    assert house.units.asked[1:] == [("put back", SHOP, "infinity")]


def a_minute(house: House) -> None:
    """The first policy's throttle holds no longer than that."""
    first, *more = house.engine.rules.policies
    short = first._replace(cooldown_s=CHECK_S)
    house.engine.rules = house.engine.rules._replace(policies=(short, *more))


def test_a_throttle_that_gives_way_to_a_lower_one_is_judged_with_that(house: House) -> None:
    behind(house, "second")
    a_minute(house)
    throttle_for(house, "throttler")
    house.units.former = str(420 * MIB)
    house.pass_by(CHECK_S - 1.0)
    house.use(300)
    throttle_for(house, "second")
    assert house.answers[-1][2] == "MemoryHigh=316 MiB, put back in 10 min"
    house.units.former = str(316 * MIB)
    house.use(250)
    house.clock.jump(10.0)
    throttle_for(house, "throttler")
    assert house.answers[-1][2] == "MemoryHigh=266 MiB, put back in 9 min 50 s", "the other's time"
    house.pass_by(CHECK_S - 1.0)
    house.use(450)
    house.pass_by(1.0)
    assert sorted(due(house)) == ["second", "throttler"]


@pytest.mark.parametrize("raised", [False, True])
def test_a_limit_of_the_administrator_lets_all_go_on_who_found_it(
    house: House, raised: bool
) -> None:
    behind(house, "second")
    house.units.former = str(500 * MIB)
    house.use(495)
    throttle_for(house, "throttler")
    house.units.former = str((900 if raised else 500) * MIB)
    throttle_for(house, "second")
    (house.cg / "memory.high").write_text(f"{500 * MIB}\n")
    house.use(600)
    house.pass_by(CHECK_S)
    assert due(house) == ["throttler", "second"]
    assert len(house.events) == 2
    assert house.units.asked[1:] == ([("put back", SHOP, str(900 * MIB))] if raised else [])


def test_who_watched_a_limit_asks_again_where_ours_in_its_place_cannot_be_set(house: House) -> None:
    standing = behind(house, "second")
    house.units.former = str(500 * MIB)
    house.use(495)
    throttle_for(house, "throttler")
    house.units.former, house.units.outcome = str(900 * MIB), ("failed", "no")
    throttle_for(house, "second")
    assert house.answers[-1][1] == "failed"
    assert standing.left == ("throttle",)


def test_a_lower_limit_of_somebody_else_takes_the_place_of_ours(house: House) -> None:
    behind(house, "second")
    throttle_for(house, "throttler")
    house.units.former = str(410 * MIB)
    throttle_for(house, "second")
    assert house.kept() == {}, "there is nothing of ours to put back"
    (house.cg / "memory.high").write_text(f"{410 * MIB}\n")
    house.use(450)
    house.pass_by(CHECK_S)
    assert due(house) == ["throttler", "second"]
    assert len(house.units.asked) == 1, "and that limit stays"


@pytest.mark.parametrize("crash", [False, True])
def test_what_stands_behind_a_throttle_waits_for_another_after_a_restart(
    house: House, crash: bool
) -> None:
    standing = behind(house)
    house.deeds.carry_out(house.order("throttle")._replace(incident=BEHIND), "throttle")
    house.deeds.throttles.recall({})  # a store that was late: it holds still
    assert standing.left == ()
    if not crash:
        house.deeds.stop()
    house.made().throttles.recall(house.stored())
    assert house.units.asked == ([("put back", SHOP, "infinity")] if crash else [])
    assert (standing.left, standing.later) == (("throttle",), ("kill-unit",))


def test_a_throttle_of_a_minute_is_judged_before_it_ends(house: House) -> None:
    standing = behind(house)
    a_minute(house)
    house.deeds.carry_out(house.order("throttle")._replace(incident=BEHIND), "throttle")
    house.use(600)
    house.pass_by(CHECK_S)
    assert house.units.asked[1:] == [("put back", SHOP, "infinity")], "once"
    assert standing.left == ("kill-unit",)


def test_a_throttle_that_comes_at_the_wrong_moment_is_no_failure(house: House) -> None:
    house.units.late = True
    house.throttle()
    house.throttle("other")
    assert house.answers == [("throttle", "changed", "its limit is being changed already")]


@pytest.mark.parametrize("outcome", ["failed", "gone"])
def test_a_second_throttle_that_fails_leaves_the_first_one(house: House, outcome: str) -> None:
    house.throttle()
    first = house.deeds.throttles.held[SHOP]
    house.units.former = str(420 * MIB)
    house.use(300)
    house.units.outcome = (outcome, "no")
    house.throttle("other")
    assert house.answers[-1][1] == outcome
    ours = (420 * MIB, 316 * MIB)  # PID 1 may have set the second one all the same
    assert house.deeds.throttles.held == {SHOP: first._replace(ours=ours)}
    assert house.kept() == {SHOP: "infinity"}
    house.units.outcome = ("done", "")
    house.throttle("other")
    held = house.deeds.throttles.held[SHOP]
    assert (held.former, held.claims[0][0]) == ("infinity", "other")
    assert house.kept() == {SHOP: "infinity"}, "which is what it was before both"


@pytest.mark.parametrize("crash", [False, True])
def test_what_the_administrator_sets_meanwhile_stays_and_that_is_said(
    house: House, crash: bool
) -> None:
    house.throttle()
    stored = house.stored()
    other = house.made() if crash else house.deeds
    house.units.outcome = ("changed", "somebody else has set MemoryHigh=300 MiB, and that stays")
    if crash:
        other.throttles.recall(stored)
    else:
        house.pass_by(600.0)
    assert house.units.ours == (420 * MIB,)
    assert house.kept() == {}
    (event,) = house.events
    assert (event.body["policy"], event.body["incident"]) == ("throttler", "i-1")
    assert (event.body["outcome"], event.because) == ("changed", (house.units.outcome[1],))


def test_two_throttles_of_one_incident_end_in_two_events(house: House) -> None:
    for outcome in (("changed", "somebody else has set MemoryHigh=300 MiB, and that stays"),
                    ("done", "")):  # fmt: skip
        house.units.outcome = ("done", "")
        house.throttle()
        house.units.outcome = outcome
        house.use(400 if outcome[0] == "changed" else 600)
        house.pass_by(600.0)
    assert [one.body["outcome"] for one in house.events] == ["changed", "failed"]
    assert len({one.id for one in house.events}) == 2


def test_what_the_administrator_sets_between_two_throttles_is_put_back(house: House) -> None:
    house.throttle()
    house.units.former = str(900 * MIB)
    house.throttle("other")
    assert house.kept() == {SHOP: str(900 * MIB)}
    assert house.deeds.throttles.held[SHOP].ours == (420 * MIB,)


def test_a_throttle_that_may_have_been_set_is_undone(house: House) -> None:
    """systemctl was ended before it answered: PID 1 may have done it all the same."""
    house.units.outcome = ("failed", "systemctl took longer than 150 s and was ended")
    house.throttle()
    assert house.kept() == {SHOP: "infinity"}
    house.units.outcome = ("done", "")
    house.deeds.turn()
    assert house.units.asked[1:] == [("put back", SHOP, "infinity")]
    assert house.kept() == {}


@pytest.mark.parametrize("minutes", [0, 3])
def test_a_unit_that_stands_still_under_its_limit_is_let_go(house: House, minutes: int) -> None:
    house.throttle()
    for _ in range(minutes):
        house.pass_by(CHECK_S)
    (house.cg / "memory.pressure").write_text("full avg10=0.00 total=55001000\n")
    house.pass_by(CHECK_S)
    assert house.units.asked[-1] == ("put back", SHOP, "infinity")
    (event,) = house.events
    assert (event.kind, event.body["outcome"]) == ("policy.action", "failed")
    assert "stood still for 92" in event.because[0]


def test_a_unit_that_grows_beyond_its_limit_is_let_go(house: House) -> None:
    house.throttle()
    house.use(430)
    house.pass_by(CHECK_S)
    assert len(house.units.asked) == 1
    house.use(450)
    house.units.outcome = ("failed", "no")
    house.pass_by(CHECK_S)
    (event,) = house.events
    assert "grew to 450 MiB beyond a limit of 420 MiB" in event.because[0]
    house.units.outcome = ("done", "")
    house.pass_by(AGAIN_S)
    assert house.units.asked[1:] == [("put back", SHOP, "infinity")] * 2
    assert len(house.events) == 1, "it is said once"


def test_what_stands_behind_a_throttle_is_due_when_it_was_of_no_use(house: House) -> None:
    house.throttle()
    house.use(450)
    house.pass_by(CHECK_S)
    assert house.events[0].because[-1] == "nothing further is ordered"
    standing = behind(house)
    house.deeds.carry_out(house.order("throttle")._replace(incident=BEHIND), "throttle")
    house.use(650)
    house.pass_by(CHECK_S)
    assert house.events[1].because[-1] == "next, if it is still so: kill-unit"
    assert standing.left == ("kill-unit",)


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


def settle(house: House, count: int) -> None:
    """Until so many answers are there."""
    until = time.monotonic() + 30
    while len(house.answers) < count and time.monotonic() < until:
        house.children.turn()
        house.deeds.turn()
        time.sleep(0.01)
    assert len(house.answers) == count


def written(house: House, name: str = "o-evidence") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((house.folder / "evidence" / f"{name}.json").read_text())
    return found


def test_evidence_of_a_process_and_of_a_unit(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "SMAPS_S", 30.0)
    stat = Path(f"/proc/{os.getpid()}/stat").read_text()
    start = int(stat.rpartition(")")[2].split()[19])
    order = house.order("evidence", Entity(os.getpid(), start, unit=SHOP))
    house.deeds.carry_out(order, "evidence")
    settle(house, 1)
    assert house.answers[0][1] == "done"
    found = written(house)
    assert "VmRSS" in found["processes"][str(os.getpid())]["status"]
    assert found["cgroup"]["memory.stat"] == "anon 1"
    assert "Rss:" in found["smaps_rollup"]
    other = house.order("evidence", Entity(os.getpid(), start + 1, unit=SHOP))
    house.deeds.carry_out(other, "evidence")
    settle(house, 2)
    assert "not read" in written(house)["smaps_rollup"], "it is not the process that was meant"


def test_evidence_is_seen_at_once_and_written_when_memory_is_well(house: House) -> None:
    """Of a unit its largest processes; no program more while memory is short."""
    house.engine.pressed = True
    house.deeds.carry_out(house.order("evidence"), "evidence")
    (house.cg / "memory.stat").write_text("anon 2\n")
    house.deeds.turn()
    assert (house.children.running, house.answers) == ([], [])
    house.engine.pressed = False
    settle(house, 1)
    found = written(house)
    assert set(found["processes"]) == {"900007", "900008"}
    assert len(found["processes"]["900007"]["cmdline"]) == 256
    assert found["processes"]["900007"]["cgroup"] == f"/system.slice/{SHOP}"
    assert found["cgroup"]["memory.stat"] == "anon 1"
    assert "memory is short" in found["smaps_rollup"]


def test_evidence_of_the_guard_is_written_too_and_nobody_waits_for_it(house: House) -> None:
    body = {"incident": "host-1", "do": "hold", "outcome": "failed", "pid": None}
    house.deeds.incidents.heard(5.0, "guard.action", "host-1-1", ("why",), body)
    house.deeds.incidents.heard(9.0, "pressure.ended", "host-1", ("it is well",), {})
    while house.deeds.evidence.jobs:
        house.children.turn()
        house.deeds.turn()
        time.sleep(0.01)
    assert written(house, "guard-9-host-1")["decisions"][0]["because"] == ["why"]
    assert house.answers == []


def test_evidence_of_many_starts_few_programs_and_keeps_no_more_than_some(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "WAITING_MAX", 12_000)
    for number in range(60):
        order = house.order("evidence", Entity(os.getpid(), 1, unit=SHOP))
        house.deeds.carry_out(order._replace(id=f"o-{number}"), "evidence")
    assert len(house.children.running) == evidence.AT_ONCE
    assert 0 < len(house.deeds.evidence.waiting) < 58
    assert {(outcome, said) for _, outcome, said in house.answers} == {
        ("failed", "too much is waiting to be written already")
    }


@pytest.mark.parametrize("hangs", ["at once", "later", "not at all"])
def test_a_disk_that_hangs_holds_nobody_up(
    house: House, monkeypatch: pytest.MonkeyPatch, hangs: str
) -> None:
    program = house.folder / "writer"
    said = '[\\"done\\", \\"evidence in x\\"]'
    lines = {"at once": "", "later": f'echo "{said}"\n', "not at all": "exit 3\n"}[hangs]
    program.write_text(f"#!/bin/sh\n{lines}exec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(evidence, "ours", lambda *_, **__: [str(program)])
    monkeypatch.setattr(evidence, "WRITTEN_S", 0.3 if hangs == "at once" else 30.0)
    house.deeds.carry_out(house.order("evidence"), "evidence")
    settle(house, 1)
    assert (
        house.answers[0][1:]
        == {
            "at once": ("failed", "what writes it took longer than 0.3 s and was ended"),
            "later": ("done", "evidence in x; without smaps_rollup"),
            "not at all": ("failed", "what writes it ended with status 3"),
        }[hangs]
    )


def test_a_program_that_cannot_even_be_killed_is_not_waited_for(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits in the kernel, for the disk; two of them are enough."""
    started: list[Any] = []

    def start(*_: Any, **__: Any) -> Any:
        late = {"failure": lambda: "took longer than 5 s and was ended"}
        started.append(SimpleNamespace(done=False, timed_out=True, output=bytearray(), **late))
        return started[-1]

    monkeypatch.setattr(house.children, "start", start)
    for _ in range(3):
        house.deeds.carry_out(house.order("evidence"), "evidence")
    house.deeds.turn()
    house.deeds.turn()
    assert [outcome for _, outcome, _ in house.answers] == ["failed", "failed"]
    assert (len(started), house.deeds.evidence.jobs) == (2, [])
    started[0].done = True
    house.deeds.turn()
    assert len(started) == 3


def test_what_the_program_did_not_say_itself_is_no_outcome(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "ours", lambda *_, **__: ["/bin/echo", "a line of another"])
    house.deeds.carry_out(house.order("evidence"), "evidence")
    settle(house, 1)
    assert house.answers[0][1:] == ("failed", "what writes it said a line of another")


def test_wishes_of_the_guard_become_events(house: House) -> None:
    house.deeds.stop_unit(SHOP, str(house.cg), "host-1")
    assert house.units.asked == [("stop", SHOP, f"/system.slice/{SHOP}")]
    over: list[str] = []
    house.engine.pressed = True
    house.deeds.revive(SHOP, 900_007, "host-1", "", True, lambda: over.append("1"))
    assert len(house.units.asked) == 1, "nobody is started while memory is short again"
    assert over == []
    house.engine.pressed = False
    house.deeds.revive(SHOP, 900_007, "host-1", "", True, lambda: over.append("1"))
    house.deeds.revive(
        SHOP, 900_007, "host-2", "", False, lambda: over.append("2")
    )  # nothing is left
    assert over == ["1", "2"]
    stop, revive, left = house.events
    assert (left.body["do"], left.body["outcome"]) == ("revive", "budget")
    assert (stop.body["do"], stop.body["outcome"]) == ("stop-unit", "done")
    assert (revive.body["do"], revive.body["restarts"]) == ("revive", False)
    assert house.spent == 1
    house.units.outcome = ("changed", "it is active")
    house.deeds.revive(SHOP, 900_007, "host-3", "", True, lambda: over.append("3"))
    assert (len(house.events), house.spent, over[-1]) == (3, 1, "3")


def test_who_takes_long_to_end_is_started_again_when_he_has(house: House) -> None:
    over: list[str] = []

    def asked() -> None:
        house.deeds.revive(SHOP, 900_007, "host-1", "", True, lambda: over.append("over"))

    house.units.outcome, house.units.late = ("ending", "it is deactivating"), True
    asked()
    asked()
    assert len(house.units.asked) == 1, "PID 1 is being asked"
    house.units.answer()
    assert over == []
    house.clock.jump(60.0)
    house.units.outcome = ("done", "it is started again")
    asked()
    house.units.answer()
    assert (over, house.spent, len(house.events)) == (["over"], 1, 1)
    house.units.outcome = ("ending", "it is active")
    asked()
    house.units.answer()
    house.clock.jump(REVIVE_MOST_S)
    asked()
    house.units.answer()
    assert (over, house.spent, len(house.events)) == (["over"] * 2, 1, 1), "it lives on"


# ---- a service that stays down after a policy's SIGTERM ---------------------------------------


def told_by(house: House, pid: int) -> list[str | None]:
    """What is said of a policy's SIGTERM to that process of the unit."""
    said: list[str | None] = []
    house.deeds.terminated(house.order("terminate", Entity(pid, 50, unit=SHOP)), said.append)
    until = time.monotonic() + 20
    while not said and time.monotonic() < until:
        house.children.turn()
        house.deeds.turn()
        time.sleep(0.01)
    return said


def pid_1_says(house: House, restart: str, pid: int = 900_007, kind: str = "simple") -> None:
    program = house.folder / "systemctl"
    lines = (f"Restart={restart}", f"Type={kind}", f"ExecMainPID={pid}", f"Id={SHOP}", "",
             "Restart=no", "Id=x")  # fmt: skip
    program.write_text("#!/bin/sh\n" + "".join(f"echo {line}\n" for line in lines))
    program.chmod(0o755)
    house.deeds.comebacks.systemctl = str(program)


DOWN = f"it is the main process of {SHOP}, and Restart=on-failure does not follow a clean end"


def test_a_sigterm_of_a_policy_says_whether_its_service_stays_down(house: House) -> None:
    assert told_by(house, 900_007) == [None], "there is nobody to tell it"
    pid_1_says(house, "always")
    assert told_by(house, 900_007) == [None]
    pid_1_says(house, "on-failure")
    assert told_by(house, 900_008) == [None], "a worker is not its main process"
    pid_1_says(house, "no", kind="oneshot")
    assert told_by(house, 900_007) == [None], "nobody starts a job again"
    pid_1_says(house, "on-failure")
    assert told_by(house, 900_007) == [DOWN]
    house.engine.pressed = True
    pid_1_says(house, "always")
    assert told_by(house, 900_007) == [DOWN], "while memory is short nobody is asked again"
    assert house.owed == [(SHOP, pid, "i-1", "throttler") for pid in
                          (900_007, 900_007, 900_008, 900_007, 900_007, 900_007)]  # fmt: skip


def test_the_guard_hears_whom_a_policy_has_ended_also_where_it_is_behind(house: House) -> None:
    house.listens = False
    told_by(house, 900_007)
    house.deeds.turn()
    assert house.owed == []
    house.listens = True
    house.deeds.turn()
    house.deeds.turn()
    assert house.owed == [(SHOP, 900_007, "i-1", "throttler")]
    login = house.order("terminate", Entity(900_007, 50, unit="user@1000.service"))
    house.deeds.terminated(login, lambda _: None)
    assert len(house.owed) == 1, "nobody asked for a login"
    house.deeds.terminated(house.order("terminate", Entity(7, 50, unit="x.scope")), lambda _: None)
    assert len(house.owed) == 1, "nor starts anybody a scope again"


def test_an_outcome_is_told_although_pid_1_never_answers(house: House) -> None:
    program = house.folder / "systemctl"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    house.deeds.comebacks.systemctl = str(program)
    said: list[str | None] = []
    house.deeds.terminated(house.order("terminate", Entity(900_007, 50, unit=SHOP)), said.append)
    assert said == []
    house.deeds.stop()
    assert said == [None], "the daemon stops"
    house.deeds.terminated(house.order("terminate", Entity(900_007, 50, unit=SHOP)), said.append)
    house.children.running[-1].timed_out = True  # killed, and not dead: it hangs in the kernel
    house.deeds.turn()
    house.deeds.turn()
    assert said == [None, None], "once"
    assert len(house.deeds.comebacks.asked) == 1, "it is still one of those under way"


def test_what_a_sigterm_of_the_guard_leaves_down_is_known_before(house: House) -> None:
    pid_1_says(house, "on-failure")
    body = {"do": "terminate", "outcome": "done", "unit": SHOP, "pid": 900_007}
    assert house.deeds.left_down("guard.action", body) is None
    world, house.engine.world = house.engine.world, Engine(Rules(), None).world
    house.deeds.look_ahead()
    assert house.children.running == [], "nobody has been seen yet"
    house.engine.world = world
    house.deeds.look_ahead()
    house.deeds.look_ahead()
    assert len(house.children.running) == 1, "not again for ten minutes"
    until = time.monotonic() + 20
    while not house.deeds.comebacks.known and time.monotonic() < until:
        house.children.turn()
        house.deeds.turn()
        time.sleep(0.01)
    assert house.deeds.left_down("guard.action", body) == DOWN
    for other in ({"do": "kill"}, {"outcome": "gone"}, {"pid": 900_008}, {"unit": None}):
        assert house.deeds.left_down("guard.action", body | other) is None
    house.engine.pressed = True
    house.deeds.look_ahead()
    assert house.children.running == [], "no program more while memory is short"


def test_a_policy_pays_for_whom_it_has_ended_and_started_again(house: House) -> None:
    over: list[str] = []
    policy = house.policy._replace(budget=(2, 3600.0))
    house.engine.set_rules(house.engine.rules._replace(policies=(policy,)))
    ledger = house.engine.decider.ledger
    ledger.purses.clear()
    for number in range(3):
        house.deeds.revive(
            SHOP, 900_007, f"i-{number}", "throttler", False, lambda: over.append("over")
        )
    assert [(one.kind, one.body["policy"], one.body["incident"], one.body["outcome"])
            for one in house.events] == [
        ("policy.action", "throttler", "i-0", "done"),
        ("policy.action", "throttler", "i-1", "done"),
        ("policy.action", "throttler", "i-2", "budget"),
    ]  # fmt: skip
    assert {one.body["restarts"] for one in house.events} == {False}
    assert (over, house.spent, ledger.left(policy)) == (["over"] * 3, 0, 0)
    assert house.units.of_policy
    house.engine.set_rules(house.engine.rules._replace(policies=()))
    house.deeds.revive(SHOP, 900_007, "i-4", "throttler", False, lambda: None)
    assert house.events[-1].body["outcome"] == "done", "without the policy it is still our doing"


def test_revivals_of_a_policy_that_are_under_way_count(house: House) -> None:
    over: list[str] = []
    policy = house.policy._replace(budget=(2, 3600.0))
    house.engine.set_rules(house.engine.rules._replace(policies=(policy,)))
    house.engine.decider.ledger.purses.clear()
    house.units.late = True

    def wish(numbers: range) -> None:
        for number in numbers:
            house.deeds.revive(SHOP, number, f"i-{number}", "throttler", False,
                               lambda: over.append("over"))  # fmt: skip

    wish(range(5))
    assert len(house.units.asked) == 2
    house.units.outcome = ("changed", "it is up")
    house.units.answer()
    house.units.outcome = ("done", "started")
    wish(range(2, 5))  # nothing was used up: the guard asks again
    assert len(house.units.asked) == 4
    house.units.answer()
    wish(range(4, 5))
    assert [one.body["outcome"] for one in house.events] == ["done", "done", "budget"]
    assert len(over) == 5

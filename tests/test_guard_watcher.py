"""The guard on a clock that jumps: what its watcher is told, what outlives either of them."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from guard_world import Clock, World, row

from watchdog.guard import loop
from watchdog.guard.around import Options, flock
from watchdog.guard.keeper import ANEW_EVERY_S
from watchdog.guard.loop import HURRY_S, READY_S, RELOAD_S, REVIVE_S, Guard
from watchdog.guard.revivals import AGAIN_S, Revivals
from watchdog.guard_facts import OWED_MAX
from watchdog.handover import LOAD_S
from watchdog.policy.guard_when import GuardRules, Mark, guard_plain
from watchdog.spawn import ours


class House:
    """A guard over a machine in a folder; its watcher is a list of what it was sent."""

    def __init__(self, root: Path) -> None:
        self.world = World(root)
        self.clock = Clock()
        self.sent: list[tuple[Any, ...]] = []
        self.listens = True  # is there a watcher that takes what it is sent?
        self.begin()

    def begin(self) -> None:
        """A guard is started, perhaps in the place of one that has ended."""
        root = str(self.world.root)
        opts = Options(rules=-1, root=root, enforce_lock=f"{root}/lock")
        self.guard = Guard(opts, self.clock, {"RUNTIME_DIRECTORY": root})
        self.guard.pressure.rules = GuardRules("observe", Mark(0.10))
        self.guard.keeper.send = self.send  # type: ignore[method-assign]

    def send(self, message: tuple[Any, ...]) -> bool:
        if self.listens:
            self.sent.append(message)
        return self.listens

    def another_watcher(self) -> None:
        self.guard.keeper.started = self.clock.up
        self.sent.clear()

    def tick(self, available: int, seconds: float = 0.1) -> None:
        self.clock.up += seconds
        self.world.available = available
        self.world.files()
        self.guard._tick()

    def hurries(self) -> list[float]:
        return [message[1] for message in self.heard("hurry")]

    def heard(self, kind: str) -> list[tuple[Any, ...]]:
        return [message for message in self.sent if message[0] == kind]

    def told(self, kind: str) -> list[tuple[str, ...]]:
        """The sentences of what the guard reported."""
        reports = [report for report, _ in self.guard.keeper.reports]
        return [report[5] for report in reports if report[3] == kind]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_the_watcher_is_started_without_site_packages(house: House) -> None:
    assert house.guard.keeper.argv[:3] == ours("watchdog.watcher", bare=True)[:3]
    assert "-S" in house.guard.keeper.argv[:3]


def test_the_watcher_is_hurried_while_memory_is_near_the_mark(house: House) -> None:
    for available in (900, 300, 290, 80, 70, 900):
        house.tick(available)
    assert house.hurries() == [HURRY_S, 0.0]


def test_one_that_is_started_in_an_incident_is_hurried_too(house: House) -> None:
    house.tick(80)
    assert house.guard.incident
    house.guard._take([("ready", "watching")])
    house.tick(80)
    house.tick(80)
    assert house.hurries() == [HURRY_S, HURRY_S]


def test_a_watcher_that_cannot_be_started_is_not_waited_for(house: House) -> None:
    house.tick(900)
    assert house.guard.scene.spares(10, 500)
    house.tick(900, READY_S)
    assert house.guard.scene.spares(10, 500) is None


def test_its_first_word_is_waited_for(house: House) -> None:
    house.tick(900)
    house.guard._take([("spared", True, {"why": [(10, 500)]})])
    assert (house.guard.scene.spares(10, 500), house.guard.scene.spares(11, 500)) == ("why", None)


@pytest.mark.parametrize("stuck", [False, True])
def test_what_no_watcher_will_hear_the_guard_says_by_itself(
    house: House, monkeypatch: pytest.MonkeyPatch, stuck: bool
) -> None:
    said: list[str] = []
    monkeypatch.setattr(loop, "say_alone", said.append)
    house.guard.keeper.stuck = stuck
    house.guard._trouble("it does not end")
    assert said == (["it does not end"] if stuck else [])


def test_a_sleep_is_no_time_in_which_somebody_could_have_ended(house: House) -> None:
    guard, world = house.guard, house.world
    guard.scene.kill = world.kill
    guard.scene.enforcing = lambda: True
    guard._mode = lambda: "enforce"  # type: ignore[method-assign]
    world.process(10, 300)
    guard.scene.take_dossier(1000.0, [row(10)])
    house.tick(105)
    world.process(10, 330)
    house.tick(80, 1.0)
    assert len(world.signals) == 1
    house.tick(80, 8 * 3600.0)
    assert len(world.signals) == 1
    for _ in range(31):
        house.tick(80)
    assert len(world.signals) == 2


def test_a_sleep_is_no_time_in_which_swap_took_nothing(house: House) -> None:
    pressure = house.guard.pressure
    host, _ = house.guard.eyes.host(1e9, 1000.0)
    host = host._replace(mem_available=80 << 20, swap_total=1 << 30, swap_free=1 << 30)
    assert pressure.step(host, 1000.0, 5) is None
    assert pressure.step(host, 1001.0, 5) is None
    pressure.slept(3600.0)
    assert pressure.step(host, 4601.0, 5) is None
    assert pressure.step(host, 4602.1, 5)


# ---- who is down because of us -----------------------------------------------------------------

SHOP = ("shop.service", 11)
WISH = ("revive", *SHOP, "host-1000.100", "", True)


def end_shop(house: House) -> None:
    """By a SIGTERM; memory is still short."""
    house.tick(80)
    assert house.guard.incident
    house.guard.incident.terminated = [SHOP]
    house.tick(80)
    assert house.heard("revive") == []


def test_a_watcher_that_is_gone_when_memory_is_well_leaves_nobody_down(house: House) -> None:
    end_shop(house)
    house.listens = False
    house.tick(900)
    house.tick(900, REVIVE_S)
    house.listens = True
    house.tick(120)
    house.tick(900, REVIVE_S - 1.0)
    assert house.heard("revive") == [], "it is well only for a few seconds"
    house.tick(900, 1.0)
    house.tick(900)
    assert house.heard("revive") == [WISH]
    house.another_watcher()
    house.tick(900)
    assert house.heard("revive") == [WISH]
    house.guard.scene.spent.spend((1, 3600.0), house.clock.up, 1e9)
    house.guard.pressure.rules = house.guard.pressure.rules._replace(budget=(1, 3600.0))
    house.tick(900, AGAIN_S)
    assert house.heard("revive") == [WISH, (*WISH[:-1], False)], "its answer may be lost"
    house.guard._take([("revived", *SHOP)])
    house.another_watcher()
    house.tick(900)
    assert house.heard("revive") == []


def test_whom_a_policy_has_ended_is_handed_back_and_costs_the_guard_nothing(house: House) -> None:
    policys = ("web.service", 12, "leaks-12:5-1", "leaks")
    house.tick(900, REVIVE_S)
    house.guard._take([("ended", "leaks-12:5-1", [("web.service", 12)], "leaks")])
    house.tick(900)
    assert house.heard("revive") == [("revive", *policys, True)], "memory is well: at once"
    house.guard.revivals.note("host-1", [SHOP])
    budget = (1, 3600.0)
    house.guard.pressure.rules = house.guard.pressure.rules._replace(budget=budget)
    house.clock.up += 1.0
    house.another_watcher()
    house.tick(900)
    assert [one[-1] for one in house.heard("revive")] == [True, True]
    house.guard.scene.spent.spend(budget, house.clock.up, 1e9)
    house.clock.up += 1.0
    house.another_watcher()
    house.tick(900)
    assert [one[-1] for one in house.heard("revive")] == [True, False]
    house.guard._take([("revived", *policys[:2])])
    assert house.guard.revivals.left == [(*SHOP, "host-1", "")]


@pytest.mark.parametrize("well", [False, True])
def test_a_daemon_that_is_restarted_leaves_nobody_down(house: House, well: bool) -> None:
    end_shop(house)
    if well:
        house.tick(900)
    house.sent.clear()
    house.begin()
    house.tick(80)
    house.tick(900)
    assert house.heard("revive") == []
    house.tick(900, REVIVE_S)
    assert house.heard("revive") == [WISH]
    house.guard._take([("revived", *SHOP)])
    house.begin()
    house.sent.clear()
    house.tick(900, REVIVE_S)
    assert house.heard("revive") == []


def test_nobody_is_started_who_is_not_to_be_or_was_by_the_boot(house: House) -> None:
    end_shop(house)
    boot = house.world.root / "sys" / "kernel" / "random"
    boot.mkdir(parents=True)
    (boot / "boot_id").write_text("another\n")
    house.begin()
    assert house.guard.revivals.left == []
    end_shop(house)
    house.guard.pressure.rules = house.guard.pressure.rules._replace(revive=False)
    house.tick(900)
    house.tick(900, REVIVE_S)
    assert (house.heard("revive"), house.guard.revivals.left) == ([], [])


def test_what_stands_in_the_file_of_revivals_is_read_with_care(tmp_path: Path) -> None:
    path = str(tmp_path / "revive")
    one = Revivals(path, "boot")
    one.note("host-1", [("b.service", 6), ("a\nb.service", 7), (r"x\x2dy@\u00e9.service", 8)])
    assert Revivals(path, "boot").left == one.left == [
        ("b.service", 6, "host-1", ""), (r"x\x2dy@\u00e9.service", 8, "host-1", ""),
    ]  # fmt: skip
    one.note("host-2", [(f"{n}.service", n) for n in range(20)])
    assert len(Revivals(path, "boot").left) == OWED_MAX
    one.note("i", [("policy.service", 9)], "p")
    assert {incident for _, _, incident, _ in one.left} == {"host-2"}, "the guard's own come first"
    one.forget()
    one.note("p-unit:a\nb c-5", [(f"{n}.service", n) for n in range(20)], "p")
    one.note("host-3", [("b.service", 6)])
    assert [other[1:] for other in (one.left[0], one.left[-1])] == [
        (13, "p-unit:a\nb c-5", "p"), (6, "host-3", ""),
    ]  # fmt: skip
    read = Revivals(path, "boot").left
    assert [other[1:] for other in (read[0], read[-1])] == [
        (13, "p-unit:abc-5", "p"), (6, "host-3", ""),
    ]  # fmt: skip
    assert len(one.left) == OWED_MAX
    for raw in (b"", b"\xff", b"boot\n1\n2 \nx y z\n\n3 i \n", b"boot\n" + b"9" * 9000):
        (tmp_path / "revive").write_bytes(raw)
        assert Revivals(path, "boot").left == []
    assert Revivals(str(tmp_path / "no" / "revive"), "boot").left == []


def test_an_upgrade_in_between_leaves_nobody_down(tmp_path: Path) -> None:
    """What the file holds is read by those who came before, and the other way round."""
    held = b"boot\n6 host-1 b.service\n7 policy:p-1.a:p-1.a-12:5-1 web.service\n"
    (tmp_path / "revive").write_bytes(held)
    one = Revivals(str(tmp_path / "revive"), "boot")
    assert one.left == [
        ("b.service", 6, "host-1", ""), ("web.service", 7, "p-1.a-12:5-1", "p-1.a"),
    ]  # fmt: skip
    one.note("host-2", [("c.service", 8)])
    assert (tmp_path / "revive").read_bytes() == held + b"8 host-2 c.service\n"


def test_a_watcher_begins_anew_when_it_asks_for_it_but_not_in_an_incident(house: House) -> None:
    house.tick(80)
    house.guard._take([("again",)])
    assert house.heard("stop") == []
    house.tick(900)
    for _ in range(3):
        house.guard._take([("again",)])
        assert house.heard("stop") == [("stop",)]
        house.guard.keeper.end_at = None  # another one has been started, and has to ask as well
    house.tick(900, ANEW_EVERY_S)
    house.guard._take([("again",)])
    assert house.heard("stop") == [("stop",)] * 2


# ---- a reload ----------------------------------------------------------------------------------


class Manager:
    """systemd, as far as it is told of a reload."""

    watchdog_s = None

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.heard.append(name)


@pytest.fixture
def manager(house: House) -> Manager:
    made: Any = Manager()
    house.guard.service = made
    house.guard._take([("ready", "watching")])
    assert made.heard == ["ready"]
    made.heard.clear()
    return made  # type: ignore[no-any-return]


def hang_up(house: House) -> None:
    house.guard._signals(bytes([signal.SIGHUP]))
    house.tick(900)


def test_a_reload_is_over_when_the_last_request_is_answered(house: House, manager: Manager) -> None:
    hang_up(house)
    hang_up(house)
    house.tick(900)
    assert house.heard("reload") == [("reload", 1), ("reload", 2)]
    house.guard._take([("rules", {}), ("reloaded", 1)])
    assert manager.heard == ["reloading", "reloading"]
    house.guard._take([("rules", {}), ("reloaded", 2)])
    assert manager.heard == ["reloading", "reloading", "ready"]


def test_a_watcher_that_ends_leaves_its_reload_to_the_next(house: House, manager: Manager) -> None:
    hang_up(house)
    house.another_watcher()
    # Its first rules are the former ones.
    house.guard._take([("rules", {}), ("ready", "watching")])
    house.tick(900)
    assert house.heard("reload") == [("reload", 1)]
    assert manager.heard == ["reloading", "status"]
    house.guard._take([("reloaded", 1)])
    assert manager.heard[2:] == ["ready"]
    house.another_watcher()
    house.tick(900)
    assert house.heard("reload") == []


def test_a_reload_that_a_busy_watcher_did_not_take_is_sent_again(
    house: House, manager: Manager
) -> None:
    house.listens = False
    hang_up(house)
    house.listens = True
    house.tick(900)
    house.tick(900)
    assert house.heard("reload") == [("reload", 1)]
    assert manager.heard == ["reloading"]


def test_a_reload_that_nobody_answers_is_given_up_in_words(house: House, manager: Manager) -> None:
    hang_up(house)
    house.tick(900, 3600.0)  # the machine slept
    assert RELOAD_S > 2 * LOAD_S
    for _ in range(int(RELOAD_S / 5)):
        assert manager.heard == ["reloading"]
        house.tick(900, 5.0)
    assert manager.heard == ["reloading", "ready"]
    (because,) = house.told("watchdog.degraded")
    assert because[0].startswith("nobody has answered the reload for 1")
    house.another_watcher()
    house.tick(900)
    assert house.heard("reload") == []


# ---- what it answers to a watcher's rules --------------------------------------------------------


def test_a_watcher_hears_whether_memory_is_short(house: House) -> None:
    rules = ("rules", guard_plain(house.guard.pressure.rules))
    house.tick(900)
    house.guard._take([rules])
    assert house.heard("enforce") == [("enforce", False, None, False)]
    house.tick(80)
    house.another_watcher()
    house.listens = False  # it is sent what happened meanwhile, and no more fits
    house.guard._take([rules])
    house.listens = True
    house.tick(80)
    house.tick(80)
    assert house.heard("enforce") == [("enforce", False, None, True)]


def test_it_enforces_once_the_other_daemon_has_ended(house: House) -> None:
    other, _ = flock(house.guard.opts.enforce_lock)
    assert other is not None
    rules = guard_plain(house.guard.pressure.rules._replace(mode="enforce"))
    house.tick(900)
    house.guard._take([("rules", rules)])
    for _ in range(30):
        house.tick(900, 5.0)
    assert [answer[1] for answer in house.heard("enforce")] == [False]
    assert len(house.told("watchdog.degraded")) == 1
    os.close(other)
    for _ in range(30):
        house.tick(900, 5.0)
    assert [answer[1:] for answer in house.heard("enforce")[1:]] == [(True, None, False)]
    assert house.guard._mode() == "enforce"
    assert house.told("watchdog.recovered") == [("the lock is ours now: enforcing",)]
    house.guard._take([("rules", rules | {"mode": "observe"})])
    other, refused = flock(house.guard.opts.enforce_lock)
    assert refused is None, "who only observes leaves it to others"
    assert other is not None
    os.close(other)

"""The guard's decisions, on a made-up /proc and a clock that jumps: whom, when, and how often."""

import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from guard_world import MIB, World, row
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog.clock import RealClock
from watchdog.facts import Host
from watchdog.guard.around import Options
from watchdog.guard.looks import Look
from watchdog.guard.loop import REVIVE_S, Guard
from watchdog.guard.spent import Spent
from watchdog.policy.guard_when import GuardRules
from watchdog.sense.fast import Eyes


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A database of 480 MiB that has proven itself, and a leak that has not."""
    made = World(tmp_path)
    made.process(10, 480)
    made.process(11, 120)
    made.scene.take_dossier(1000.0, [row(10, "db.service", 480), row(11, "shop.service", 20, 0.8)])
    return made


def enforcing(world: World) -> World:
    world.mode = "enforce"
    return world


def squeeze(world: World, available: int = 80) -> None:
    """Two looks of which the second is short of memory."""
    world.tick(105)
    world.process(11, 140)
    world.tick(available, 1.0)


def test_observing_it_names_the_leak_once_and_touches_nobody(world: World) -> None:
    squeeze(world)
    for _ in range(50):
        world.tick()
    assert world.signals == []
    assert world.outcomes() == [(11, "terminate", "would")]
    kind, identity, because, body = world.told[0]
    assert (kind, identity) == ("guard.action", "host-1001.100-1")
    assert because[0].startswith("80.0 MiB available, below the mark of")
    assert any("its leak is confirmed" in text for text in because)
    assert body["victim"] == body["target"]
    assert body["victim"]["unit"] == "shop.service"
    assert (body["uid"], body["start"], body["mode"]) == (1000, 500, "observe")
    assert [one["entity"]["pid"] for one in body["candidates"]] == [11, 10]
    assert body["candidates"][0]["rank"]["blame"] == 3
    assert body["candidates"][0]["because"]


def test_the_next_incident_is_a_new_one(world: World) -> None:
    squeeze(world)
    world.tick(600, 5.0)
    assert world.incident is None
    world.tick(105, 60.0)
    world.tick(80, 1.0)
    assert len(world.told) == 2
    assert len({identity for _, identity, _, _ in world.told}) == 2


def test_enforcing_it_decides_the_same(world: World) -> None:
    squeeze(enforcing(world))
    assert world.signals == [(11, signal.SIGTERM)]
    assert world.outcomes() == [(11, "terminate", "done")]
    assert world.told[0][3]["mode"] == "enforce"


def test_term_then_kill_by_time_then_it_waits_for_memory(world: World) -> None:
    squeeze(enforcing(world))
    for _ in range(28):
        world.tick()
    assert world.signals == [(11, signal.SIGTERM)]
    for _ in range(3):
        world.tick()
    assert world.signals == [(11, signal.SIGTERM), (11, signal.SIGKILL)]
    assert "it has not ended of SIGTERM" in world.told[1][2]
    world.gone(11)
    for _ in range(25):
        world.tick()
    assert len(world.signals) == 2, "memory has three seconds to come back"
    world.tick(600)
    assert world.incident is None


def test_kill_follows_at_once_where_memory_keeps_falling(world: World) -> None:
    squeeze(enforcing(world))
    world.tick(39)
    assert world.signals[-1] == (11, signal.SIGKILL)
    assert any("keeps falling" in text for text in world.told[-1][2])


def test_below_half_of_the_mark_there_is_no_time_for_term(world: World) -> None:
    squeeze(enforcing(world), 40)
    assert world.signals == [(11, signal.SIGKILL)]


def test_if_it_was_not_enough_the_next_one_is_taken(world: World) -> None:
    squeeze(enforcing(world))
    world.gone(11)
    world.process(12, 200, start=99_900)
    for _ in range(40):
        world.tick(seconds=0.1)
    assert [pid for pid, _ in world.signals] == [11, 12]


def test_one_that_does_not_die_of_sigkill_is_left_alone(world: World) -> None:
    squeeze(enforcing(world), 40)
    world.process(12, 100, start=99_900)
    for _ in range(60):
        world.tick()
    assert [pid for pid, _ in world.signals][:2] == [11, 12]


def test_a_number_that_was_given_away_is_not_followed(world: World) -> None:
    squeeze(enforcing(world))
    world.process(11, 140, start=100_000)
    for _ in range(35):
        world.tick()
    assert world.signals[0] == (11, signal.SIGTERM)
    assert (11, signal.SIGKILL) not in world.signals[:2]


def test_it_looks_again_right_before_the_signal(world: World) -> None:
    enforcing(world)
    world.answers = [("ask", "")]
    world.scene.before_signal = lambda: world.scene.take_dossier(
        1001.0, [row(11, leak=0.8, protected="protected since a moment")]
    )
    squeeze(world)
    assert world.signals == []
    assert world.outcomes()[0] == (11, "terminate", "protected")
    assert world.told[0][2][-1] == "protected since a moment"


def test_a_kill_by_the_kernel_in_between_holds_it_back(world: World) -> None:
    enforcing(world)
    world.answers = [("ask", ""), ("ask", "")]

    def kernel_kills() -> None:
        world.oom_kills = 1
        world.files()

    world.scene.before_signal = kernel_kills
    squeeze(world)
    assert world.signals == []
    assert world.outcomes() == [(11, "terminate", "changed")]
    for _ in range(29):
        world.tick()
    assert world.signals == [], "after any kill memory has three seconds"
    for _ in range(3):
        world.tick()
    assert world.signals == [(11, signal.SIGTERM)]


def test_recovery_in_between_is_enough(world: World) -> None:
    enforcing(world)
    world.answers = [("ask", "")]

    def recover() -> None:
        world.available = 700
        world.files()

    world.scene.before_signal = recover
    squeeze(world)
    assert (world.signals, world.outcomes()) == ([], [(11, "terminate", "changed")])


def test_the_refused_are_not_asked_again(world: World) -> None:
    enforcing(world)
    world.answers = [("failed", "not permitted"), ("gone", "it ended"), ("done", "")]
    squeeze(world)
    for _ in range(45):
        world.tick()
    assert [pid for pid, _, _ in world.outcomes()[:3]] == [11, 10, 10]
    assert world.signals[0][0] == 10


def test_the_budget_ends_it(world: World) -> None:
    enforcing(world)
    world.pressure.rules = world.pressure.rules._replace(budget=(1, 3600.0))
    squeeze(world)
    world.gone(11)
    for _ in range(60):
        world.tick()
    assert world.told.pop()[0] == "watchdog.degraded"
    assert world.outcomes() == [(11, "terminate", "done"), (10, "terminate", "budget")]
    assert len(world.signals) == 1
    budget = Spent(None, "b", 0.0, 0.0)
    budget.spend((1, 10.0), 0.0, 1e9)
    assert not budget.left((1, 10.0), 9.9)
    assert budget.left((1, 10.0), 10.0)


def test_nobody_to_take_is_said_once(world: World) -> None:
    rows = [row(pid, protected="the configuration says so") for pid in (10, 11)]
    world.scene.take_dossier(1000.0, rows)
    squeeze(world)
    for _ in range(30):
        world.tick()
    assert world.outcomes() == [(None, "hold", "would")]
    assert world.told[0][3]["victim"] is None
    assert any("2 protected" in text for text in world.told[0][2])


def test_a_loss_without_an_owner_is_held_until_half_of_the_mark(world: World) -> None:
    world.tick(500)
    world.tick(80, 1.0)
    assert world.outcomes() == [(None, "hold", "would")]
    for _ in range(15):
        world.tick(40)
    assert world.outcomes()[1:] == [(11, "kill", "would")]
    assert world.told[1][3]["candidates"][0]["rank"]["blame"] == 3  # the leak is confirmed


def test_a_plunge_is_looked_at_twice_before_anybody_is_blamed(world: World) -> None:
    world.scene.forget_looks()
    world.tick(80)
    assert world.told == []
    world.process(11, 200)
    for _ in range(3):
        world.tick(75)
    assert world.outcomes() == [(11, "terminate", "would")]


def test_without_a_watcher_it_judges_by_what_it_sees(world: World) -> None:
    world.scene.dossier.clear()
    world.scene.dossier_up = None
    world.tick(300)
    world.process(11, 340)
    world.tick(80, 1.0)
    assert world.outcomes() == [(11, "terminate", "would")]
    assert any("not been heard yet" in text for text in world.told[0][2])
    assert any("low confidence" in text for text in world.told[0][2])


def test_an_old_word_of_the_watcher_is_used_and_its_age_is_said(world: World) -> None:
    world.scene.dossier_up = 800.0
    squeeze(world)
    assert world.outcomes() == [(11, "terminate", "would")]
    assert any("3 min 21 s old" in text for text in world.told[0][2])


def test_kernel_threads_zombies_ourselves_and_the_vanished_are_no_candidates(world: World) -> None:
    world.process(20, 600, flags=0x00200000)
    world.process(21, 600, state="Z")
    world.process(os.getpid(), 600)
    world.process(22, 600)
    (world.root / "22" / "stat").unlink()
    (world.root / "22" / "status").unlink()
    world.process(23, 600)
    world.scene.ours = (23,)
    squeeze(world)
    assert world.outcomes() == [(11, "terminate", "would")]
    assert {one["entity"]["pid"] for one in world.told[0][3]["candidates"]} == {10, 11}


def test_a_process_whose_main_thread_has_exited_is_read_through_another(world: World) -> None:
    world.process(30, 0, state="Z", threads=3)
    (world.root / "30" / "task" / "31").mkdir(parents=True)
    (world.root / "30" / "task" / "30").mkdir()
    pages = 300 * MIB // os.sysconf("SC_PAGE_SIZE")
    (world.root / "30" / "task" / "31" / "statm").write_text(f"{pages} {pages} 0 1 0 1 0\n")
    (world.root / "30" / "task" / "31" / "status").write_text("VmSwap:\t1024 kB\n")
    seen = world.eyes.look(30)
    assert seen is not None
    assert seen.private == 301 * MIB
    assert world.eyes.start_of(30) == 500
    world.process(30, 0, state="Z", threads=1)
    assert world.eyes.look(30) is None
    assert world.eyes.start_of(30) is None


def test_swap_counts_as_held(world: World) -> None:
    world.process(12, 30, swap=200)
    seen = world.eyes.look(12)
    assert seen is not None
    assert (seen.private, seen.frees) == (230 * MIB, 230 * MIB)


def test_the_eyes_answer_none_for_what_is_not_told(tmp_path: Path) -> None:
    eyes = Eyes(str(tmp_path / "nowhere"))
    host, pswpout = eyes.host(1.0, 2.0)
    assert host == Host(1.0, 2.0)
    assert pswpout is None
    assert eyes.sizes() == {}
    assert eyes.look(1) is None
    assert eyes.resident(1) is None
    assert eyes.trigger is None
    eyes.close()
    assert Eyes().sizes()


def test_by_size_takes_the_biggest(tmp_path: Path) -> None:
    made = World(tmp_path, victim="size")
    made.process(10, 480)
    made.process(11, 120)
    squeeze(made)
    assert made.outcomes() == [(10, "terminate", "would")]


def test_ten_refusals_are_enough(world: World) -> None:
    enforcing(world)
    for pid in range(40, 60):
        world.process(pid, 100, start=600)
    world.answers = [("failed", "not permitted")] * 30
    squeeze(world)
    for _ in range(60):
        world.tick()
    assert len(world.told) == 10
    assert world.signals == []


def test_rules_that_only_observe_hold_back_the_second_signal_too(world: World) -> None:
    enforcing(world)
    squeeze(world)
    assert world.signals == [(11, signal.SIGTERM)]
    # A reload between SIGTERM and SIGKILL: the machine's lock is given back with it.
    world.scene.enforcing = lambda: False
    world.mode = "observe"
    world.answers = [("ask", "")]
    for _ in range(40):
        world.tick()
    assert world.signals == [(11, signal.SIGTERM)]
    assert (11, "kill", "protected") in world.outcomes()


def test_a_service_that_is_revived_and_grows_again_ends_in_words(world: World) -> None:
    """SIGTERM keeps it down, so it is started again, and takes all memory again after minutes."""
    enforcing(world)
    world.pressure.rules = world.pressure.rules._replace(budget=(6, 3600.0))
    for life in range(5):
        pid = 11 + life
        world.process(pid, 120)
        known = [row(10, "db.service", 480), row(pid, "shop.service", 20, 0.8)]
        world.scene.take_dossier(world.up, known)
        world.tick(105, 150.0)
        world.process(pid, 140)
        world.tick(80, 1.0)
        if world.signals[-1:] != [(pid, signal.SIGTERM)]:
            break
        world.gone(pid)
        world.tick(500, 10.0)
        # What loop.Guard does once memory is well, and PID 1 has been asked.
        assert world.scene.spent.left(world.pressure.rules.budget, world.up)
        world.scene.spent.spend(world.pressure.rules.budget, world.up, 1e9 + life)
    assert [pid for pid, _ in world.signals] == [11, 12, 13], "three blows and three revivals"
    assert world.told[-1][0] == "watchdog.degraded"
    assert world.told[-2][3]["outcome"] == "budget"


def test_figures_that_are_counted_twice_are_said_to_be(world: World) -> None:
    """A database forks: the figures rise by all of it, and the machine loses what is written."""
    world.tick(105)
    world.process(11, 140)
    world.process(12, 480)
    world.tick(65, 1.0)
    assert any("forks share is counted more than once" in text for text in world.told[0][2])


def test_figures_that_fit_to_what_was_lost_are_not(world: World) -> None:
    squeeze(world)
    assert not any("counted more than once" in text for text in world.told[0][2])


def test_revivals_of_one_incident_share_what_is_left_of_the_budget(world: World) -> None:
    guard = Guard(Options(rules=-1, root=str(world.root)), RealClock(), {})
    sent: list[tuple[Any, ...]] = []
    guard.keeper.send = lambda message: not sent.append(message)  # type: ignore[method-assign]
    guard.pressure.rules = GuardRules("enforce", budget=(4, 3600.0))
    budget, now = guard.pressure.rules.budget, guard.clock.boottime()
    guard.scene.spent.spend(budget, now, 1e9)
    guard.scene.spent.spend(budget, now, 1e9)
    guard.revivals.note("i", [("a.service", 5), ("b.service", 6), ("c.service", 7)])
    guard._revive(Host(1e9, now), now + REVIVE_S)
    assert [(unit, may) for _, unit, _, _, _, may in sent] == [
        ("a.service", True), ("b.service", True), ("c.service", False),
    ]  # fmt: skip
    # Two are started in the same second, and both count.
    guard._take([("spend", 1e9 + 9), ("spend", 1e9 + 9.1)])
    assert guard.scene.spent.left(budget, guard.clock.boottime()) == 0


# ---- the ladder, the budget, newcomers ---------------------------------------------------------


def with_unit(world: World, refused: str | None = None) -> list[tuple[str, int]]:
    """shop.service may be ended as a whole (or not); what was ended so."""
    ended: list[tuple[str, int]] = []

    def kill_unit(folder: str, inode: int, **_: Any) -> tuple[str, str]:
        ended.append((folder, inode))
        return "done", "sent SIGKILL to 2 processes of shop.service"

    world.scene.kill_unit = kill_unit
    world.scene.units = {"shop.service": ("/cg/shop.service", 7, refused)}
    return ended


def come_back(world: World, pid: int, proven: int = 20) -> None:
    """The unit was started again under a new PID, and memory is short again at once."""
    world.process(pid, 200, start=int(world.up * 100))
    known = [row(10, "db.service", 480),
             row(pid, "shop.service", proven, 0.8, start=int(world.up * 100))]  # fmt: skip
    world.scene.take_dossier(world.up, known, world.scene.units)
    for _ in range(45):
        world.tick()


def test_a_unit_that_comes_back_goes_up_the_ladder(world: World) -> None:
    enforcing(world)
    ended = with_unit(world)
    asked: list[tuple[Any, ...]] = []
    world.scene.ask = lambda message: bool(asked.append(message)) or True
    squeeze(world)
    assert world.signals == [(11, signal.SIGTERM)]
    world.gone(11)
    for pid in (21, 22, 23):
        come_back(world, pid)
        if (world.root / str(pid)).exists():
            world.gone(pid)
    done = [(do, outcome) for _, do, outcome in world.outcomes()]
    assert done == [("terminate", "done"), ("kill-unit", "done"), ("stop-unit", "done"),
                    ("hold", "failed")]  # fmt: skip
    assert ended == [("/cg/shop.service", 7)] * 2
    wishes = [message for message in asked if message[0] == "stop_unit"]
    assert wishes == [("stop_unit", "shop.service", "/cg/shop.service", "host-1001.100")]
    assert "came back within minutes" in world.told[-1][2][-1]


def test_a_unit_with_a_protected_member_is_never_ended_as_a_whole(world: World) -> None:
    enforcing(world)
    ended = with_unit(world, "PID 12 is in it: it is protected")
    squeeze(world)
    world.gone(11)
    come_back(world, 21)
    assert ended == []
    assert [do for _, do, _ in world.outcomes()][:2] == ["terminate", "terminate"]


def test_an_excess_that_is_spread_takes_the_unit_at_once(world: World) -> None:
    enforcing(world)
    ended = with_unit(world)
    for pid in range(30, 36):
        world.process(pid, 20)
    known = [row(10, "db.service", 480), row(11, "x.service", 120)]
    known += [row(pid, "shop.service", 20) for pid in range(30, 36)]
    world.scene.take_dossier(1000.0, known, world.scene.units)
    world.tick(105)
    for pid in range(30, 36):
        world.process(pid, 34)
    world.tick(80, 1.0)
    assert ended == [("/cg/shop.service", 7)]
    assert world.signals == []


def test_the_same_first_decision_in_both_modes(tmp_path: Path) -> None:
    told = []
    for mode in ("observe", "enforce"):
        root = tmp_path / mode
        root.mkdir()
        made = World(root, mode)
        made.process(10, 480)
        made.process(11, 120)
        made.scene.take_dossier(1000.0, [row(10, "db.service", 480), row(11, "a.service", 20, 0.8)])
        squeeze(made)
        body = dict(made.told[0][3])
        told.append((made.told[0][2][:-1], {k: body[k] for k in sorted(body)
                     if k not in ("mode", "outcome")}))  # fmt: skip
    assert told[0][1] == told[1][1]


def test_what_a_decision_saw_is_handed_on_as_facts(world: World) -> None:
    asked: list[tuple[Any, ...]] = []
    world.scene.ask = lambda message: bool(asked.append(message)) or True
    squeeze(world)
    kind, host, rows = asked[0]
    assert kind == "inputs"
    assert Host(*host).mem_available == 80 * MIB
    assert {(one[0], one[3]) for one in rows} == {(10, 480 * MIB), (11, 140 * MIB)}


def test_a_fork_of_who_is_known_is_no_newcomer(world: World) -> None:
    """A healthy database forks to write itself down just as memory ends."""
    world.tick(105)
    world.process(11, 140)
    folder = world.root / "50"
    world.process(50, 480, start=99_990)
    stat = (folder / "stat").read_text().replace("50 (p50) S 1 ", "50 (p10) S 10 ")
    (folder / "stat").write_text(stat)
    world.tick(80, 1.0)
    assert world.outcomes() == [(11, "terminate", "would")]
    ranked = world.told[0][3]["candidates"]
    assert [one["entity"]["unit"] for one in ranked] == ["shop.service", "db.service"]


def test_the_budget_outlives_the_guard_and_a_reboot(tmp_path: Path) -> None:
    path, rule = str(tmp_path / "spent"), (2, 3600.0)
    first = Spent(path, "boot-1", 1000.0, 5e8)
    first.spend(rule, 1000.0, 5e8)
    first.spend(rule, 1100.0, 5e8 + 100)
    again = Spent(path, "boot-1", 1101.0, 5e8 + 101)
    assert not again.left(rule, 1101.0)
    assert again.left(rule, 1000.0 + 3601)
    # Another boot counts from zero, and half an hour has passed by the wall clock.
    other = Spent(path, "boot-2", 30.0, 5e8 + 1900)
    assert not other.left(rule, 30.0)
    assert other.left(rule, 30.0 + 1801)
    # What the store remembers of the same deeds is not counted twice.
    other.recall([5e8, 5e8 + 100], 30.0, 5e8 + 1900)
    assert len(other.purse.spent) == 2
    for raw in (b"", b"\xff\n", b"boot-1\nx y\n1\n", b"boot-1\n" + b"9" * 9000):
        (tmp_path / "spent").write_bytes(raw)
        assert Spent(path, "boot-1", 1.0, 1.0).left(rule, 1.0)
    assert Spent(str(tmp_path / "no" / "spent"), "b", 0.0, 0.0).left(rule, 0.0)


SPENDING = st.lists(st.tuples(
    st.floats(0.0, 4000.0), st.sampled_from(["", "restart", "reboot", "clock"]),
    st.floats(-1e5, 1e5),
), max_size=40)  # fmt: skip


@given(SPENDING)
@settings(max_examples=60, deadline=None)
def test_no_sequence_of_restarts_and_clock_steps_spends_more_than_the_budget(
    steps: list[tuple[float, str, float]],
) -> None:
    """In any hour of a boot at most three deeds, whatever happens to us and to the wall clock."""
    rule = (3, 3600.0)
    with tempfile.TemporaryDirectory() as folder:
        path, boot, up, wall = f"{folder}/spent", 0, 100.0, 1e9
        spent, deeds = Spent(path, "0", up, wall), []
        for pause, what, jump in steps:
            up, wall = up + pause, wall + pause
            if what == "reboot":
                boot, up, deeds = boot + 1, 1.0, []
            if what == "clock":
                wall += jump
            if what in ("restart", "reboot"):
                spent = Spent(path, str(boot), up, wall)
            if spent.left(rule, up):
                spent.spend(rule, up, wall)
                deeds.append(up)
            assert sum(up - at < rule[1] for at in deeds) <= rule[0]


def test_what_files_and_the_kernel_gave_back_is_not_counted_twice(world: World) -> None:
    before, now = Look(0.0, 900 * MIB, {}), Look(1.0, 300 * MIB, {11: 1000 * MIB})
    assert "more than once" in world.scene.doubled(now, before)
    assert world.scene.doubled(now, before._replace(slab=now.slab + 400 * MIB)) == ""
    assert world.scene.doubled(now, before._replace(files=now.files + 400 * MIB)) == ""

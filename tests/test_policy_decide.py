"""What the policies order: timers, cooldowns, budgets, protection, restarts, reboots."""

from typing import Any

import pytest
from policy_world import MIB, T0, World, policy, process, rules, unit

from watchdog.facts import Mute, Subject
from watchdog.policy.budget import Purse
from watchdog.policy.conditions import all_hold, conditions
from watchdog.policy.decide import OPEN_MAX, Decider
from watchdog.policy.ledger import COOLDOWNS_MAX, Ledger
from watchdog.policy.rules import (
    Hook,
    Match,
    Rules,
    Selector,
    Watch,
    When,
    default_rules,
)
from watchdog.words import duration

DONE = [("log", None), ("kill", None)]


def test_without_policies_nothing_is_looked_at() -> None:
    assert Decider(default_rules()).step(T0, 1.0, "b", None, iter([process()])) == []


def test_an_incident_is_decided_once_and_again_after_recovery() -> None:
    world = World(rules(policy(cooldown_s=0.0)))
    assert world.see(process(leak="suspected")) == []
    assert world.see(process()) == DONE
    assert world.see(process()) == []
    # a short dip is the same incident
    assert world.see(process(leak="none")) == []
    assert world.see(process(leak="none"), after=30) == []
    assert world.see(process()) == []
    assert world.see(process(leak="none")) == []
    assert world.see(process(leak="none"), after=60) == []
    assert world.see(process()) == DONE
    # a long one that nobody looked into is over, too
    assert world.see(process(leak="none")) == []
    assert world.see(process(), after=60) == DONE
    assert len({one.id for one in world.orders}) == len(world.orders)


def test_an_order_says_why() -> None:
    world = World(rules(policy(for_s=60, when=When(leak="suspected", resident_above=MIB))))
    world.step(process())
    order = world.step(process(cause="leak-1"), after=60)[1]
    assert order.id == "p-7:1-1010000-kill"
    assert order.incident == "p-7:1-1010000"
    assert (order.policy, order.mode, order.cause) == ("p", "enforce", "leak-1")
    assert order.because == (
        "name shop matches shop", "a leak is confirmed",
        "100 MiB resident (asked: above 1.0 MiB)", "this has held for 1 min",
    )  # fmt: skip


def test_for_counts_only_while_it_holds_and_somebody_looks() -> None:
    world = World(rules(policy(for_s=60)))
    assert world.see(process()) == []
    assert world.see(process(), after=50) == []
    assert world.see(process(leak="none")) == []
    assert world.see(process()) == []
    assert world.see(process(), after=59) == []
    assert world.see(process(), after=1) == DONE
    # a gap begins the timer anew
    other = World(rules(policy(for_s=60)))
    other.see(process())
    assert other.see(process(), after=91) == []
    assert other.see(process(), after=60) == DONE


def test_the_timer_runs_between_looks_that_are_far_apart() -> None:
    world = World(rules(policy(for_s=7200.0), watch=Watch(3600.0)))
    assert world.see(process(), after=3600) == []
    assert world.see(process(), after=3600) == []
    assert world.see(process(), after=3600) == DONE
    # two looks in a row that were not made are a gap all the same
    other = World(rules(policy(for_s=7200.0), watch=Watch(3600.0)))
    other.see(process())
    assert other.see(process(), after=9001) == []


def test_the_timer_outlives_a_restart() -> None:
    world = World(rules(policy(for_s=60)))
    world.see(process())
    world.restart()
    assert world.see(process(), after=30) == []
    world.restart()
    assert world.see(process(), after=30) == DONE
    world.restart()
    assert world.see(process()) == []
    # a long absence of the daemon does not open a decided incident
    world.restart()
    assert world.see(process(), after=3600) == []


def test_a_cooldown_is_said_once_and_then_over() -> None:
    world = World(rules(policy()))
    assert world.see(process()) == DONE
    world.see(process(leak="none"))
    world.see(process(leak="none"), after=60)
    assert world.see(process()) == [("kill", "cooldown")]
    assert world.orders[-1].because[-1] == "cooldown: 8 min 40 s to go"
    assert world.see(process()) == []
    world.restart()
    assert world.see(process(), after=100) == []
    # the incident still lasts when it ends
    for _ in range(4):
        assert world.see(process(), after=100) == []
    assert world.see(process(), after=100) == DONE
    assert len({one.id for one in world.orders}) == len(world.orders)


def test_a_cooldown_holds_for_its_subject_alone() -> None:
    world = World(rules(policy()))
    assert world.see(process(7), process(8)) == DONE + DONE


def test_a_spent_budget_leaves_the_telling() -> None:
    world = World(rules(policy(budget=(2, 3600.0), do=("log", "notify:ops", "kill"))))
    for pid in (1001, 1002):
        world.step(process(pid))
    assert world.see(process(1003)) == [("log", None), ("notify:ops", None), ("kill", "budget")]
    assert "budget of 2 per 1 h is spent; free again in 59 min" in world.orders[-1].because[-1]
    assert world.see(process(1003)) == []
    world.restart()
    for _ in range(35):
        assert world.see(process(1003), after=100) == []
    # only what was held back is left to be done
    assert world.see(process(1003), after=100) == [("kill", None)]
    assert len({one.id for one in world.orders}) == len(world.orders)


def test_the_budget_of_who_only_tells_counts_the_telling() -> None:
    world = World(rules(policy(budget=(1, 3600.0), do=("log", "notify:ops"))))
    assert world.see(process(7)) == [("log", None), ("notify:ops", None)]
    assert world.see(process(8)) == [("log", None), ("notify:ops", "budget")]
    # and a policy that only logs has none
    world = World(rules(policy(budget=(1, 3600.0), do=("log",))))
    assert world.see(process(7), process(8)) == [("log", None), ("log", None)]


def test_observing_decides_the_same_and_only_says_it() -> None:
    does = ("log", "notify:ops", "run:dump", "evidence", "kill")
    said = World(rules(policy(mode="observe", do=does)))
    done = World(rules(policy(do=does)))
    steps = [process(), process(leak="none"), process(leak="none", age_s=1.0), process()]
    for s in steps:
        said.step(s, after=60)
        done.step(s, after=60)
    assert [(o.id, o.do) for o in said.orders] == [(o.id, o.do) for o in done.orders]
    assert [o.outcome for o in said.orders] == [None, None, "would", None, "would", "cooldown"]
    assert [o.outcome for o in done.orders] == [None] * 5 + ["cooldown"]


def test_a_change_of_mode_begins_anew() -> None:
    world = World(rules(policy(mode="observe", budget=(1, 3600.0))))
    assert world.see(process()) == [("log", None), ("kill", "would")]
    world.restart(rules(policy(budget=(1, 3600.0))))
    assert world.see(process()) == DONE
    world.restart(rules(policy("other")))
    assert world.see(process()) == [("log", None)] or world.orders[-1].policy == "other"


@pytest.mark.parametrize("restarted", [False, True])
def test_what_was_done_outlives_a_while_without_the_lock(restarted: bool) -> None:
    world = World(rules(policy(budget=(1, 3600.0))))

    def lock(granted: bool) -> None:
        if restarted:
            world.restart()
        world.decider.granted = granted

    assert world.see(process(7)) == DONE
    lock(False)
    assert world.see(process(7), process(8)) == [("log", None), ("kill", "would")]
    assert {one.mode for one in world.orders[-2:]} == {"observe"}
    assert world.see(process(7), process(8)) == []
    lock(True)
    assert world.see(process(7), process(8)) == [("kill", "budget")]
    lock(False)
    lock(True)
    for _ in range(39):
        world.see(process(7), process(8), after=90)
    assert world.see(process(7), process(8), after=90) == [("kill", None)]
    assert [one.subject.entity.pid for one in world.orders if one.outcome is None][-1] == 8
    assert len({one.id for one in world.orders}) == len(world.orders)


@pytest.mark.parametrize("do", ["kill", "run:dump", "restart-unit"])
def test_what_was_only_said_for_want_of_the_lock_is_done_when_it_is_there(do: str) -> None:
    world = World(rules(policy(do=("log", do), budget=(1, 3600.0))))
    world.decider.granted = False
    assert world.see(process()) == [("log", None), (do, "would")]
    assert world.decider.waiting()["p"][0] == "7:1: only said: another daemon holds the lock"
    # as long as it is not, cooldown and budget run for what is said
    assert world.see(process(8, unit="u8")) == [("log", None), (do, "budget")]
    world.see(process(leak="none"), after=60)
    world.see(process(leak="none"), after=60)
    assert world.see(process()) == [(do, "cooldown")]
    world.decider.granted = True
    assert world.see(process()) == [("log", None), (do, None)]
    assert world.orders[-1].mode == "enforce"
    assert len({one.id for one in world.orders}) == len(world.orders)


def test_what_is_done_in_any_mode_waits_for_no_lock() -> None:
    world = World(rules(policy(do=("notify:ops",), budget=(1, 3600.0))))
    world.decider.granted = False
    assert world.see(process()) == [("notify:ops", None)]
    world.decider.granted = True
    assert world.see(process(), process(8)) == [("notify:ops", "budget")]


def test_protection_bars_kills_and_nothing_else() -> None:
    guarded = Rules(
        policies=(policy(do=("log", "kill", "throttle", "run:dump")),),
        protect=Selector(unit=("shop.service",)),
    )
    world = World(guarded)
    assert world.see(process()) == [
        ("log", None), ("kill", "protected"), ("throttle", "protected"), ("run:dump", None),
    ]  # fmt: skip
    assert world.orders[1].because[-1] == (
        "unit shop.service is protected (protect.unit shop.service)"
    )
    # nothing was killed, and the next incident waits for the cooldown all the same
    assert world.decider.kept()["cool"]


def test_a_unit_named_without_a_wildcard_may_be_restarted_though_protected() -> None:
    for pattern, outcome in (("shop.service", None), ("shop*", "protected")):
        named = policy(match=Match(unit=(pattern,)), per="unit", do=("restart-unit",))
        world = World(Rules(policies=(named,), protect=Selector(unit=("shop.service",))))
        assert world.see(unit()) == [("restart-unit", outcome)]


def test_a_barred_kill_spends_no_budget() -> None:
    world = World(Rules(policies=(policy(budget=(1, 3600.0)),),
                        protect=Selector(user=(33,))))  # fmt: skip
    for pid in (7, 8, 9):
        assert world.see(process(pid)) == [("log", None), ("kill", "protected")]


BY_UNIT = policy(match=Match(unit=("shop*",)), per="unit", do=("log", "terminate"))


def test_in_a_unit_the_worst_process_is_hit() -> None:
    world = World(rules(BY_UNIT))
    found = world.step(
        process(7, "a", leak="none", resident=900), process(8, "b", resident=100),
        process(9, "c", resident=200), process(10, "d", unit="other.service"), unit(),
    )  # fmt: skip
    log, terminate = found
    assert log.subject.is_unit
    assert terminate.subject.entity.pid == 9
    assert terminate.because[-1] == "of the unit's processes this one goes first"
    assert terminate.incident == log.incident == "p-unit:shop.service-1010000"


def test_in_a_unit_the_avoided_one_comes_later() -> None:
    world = World(rules(BY_UNIT, avoid=Selector(name=("b",))))
    found = world.step(process(8, "b", resident=900), process(9, "c", resident=200), unit())
    assert found[1].subject.entity.pid == 9


def test_a_unit_whose_processes_are_protected_or_gone() -> None:
    world = World(Rules(policies=(BY_UNIT,), protect=Selector(name_unverified=("shop",))))
    assert world.see(process(), unit()) == [("log", None), ("terminate", "protected")]
    assert world.orders[-1].because[-1].startswith("all of its processes are protected: name shop")
    world = World(rules(BY_UNIT))
    assert world.see(unit()) == [("log", None), ("terminate", "gone")]


def test_one_destructive_action_an_entity_at_a_time() -> None:
    world = World(rules(policy("a"), policy("b", do=("terminate",)), policy("c", do=("log",))))
    found = world.step(process())
    assert [(o.policy, o.do) for o in found] == [("a", "log"), ("a", "kill"), ("c", "log")]
    assert world.see(process(), after=5) == []
    assert [(o.policy, o.do) for o in world.step(process(), after=5)] == [("b", "terminate")]


def test_an_observing_policy_does_not_hold_up_one_that_enforces() -> None:
    world = World(rules(policy("a", mode="observe"), policy("b")))
    assert world.see(process()) == [("log", None), ("kill", "would"), *DONE]


@pytest.mark.parametrize("do", ["kill", "kill-unit", "terminate"])
def test_a_kill_that_failed_is_tried_again_ever_more_seldom_and_costs_nothing(do: str) -> None:
    world = World(rules(policy(budget=(2, 3600.0), do=("log", do), cooldown_s=20.0)))
    _, first = world.step(process())
    last, began, gaps = first, world.up, []
    for tries in range(1, 9):
        told = world.decider.settle(last, "failed")
        at = world.up
        while not (found := world.step(process(), after=1.0)):
            if tries % 2:
                world.restart()
        (last,) = found
        assert (last.id, last.outcome) == (f"{first.id}-{tries}", None)
        gaps.append(world.up - at)
        assert told == f"tried again in {duration(gaps[-1])} if it still lasts"
    assert gaps == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    # others are not blamed for it, and what is done in the end is paid
    assert world.up - began < 3600.0
    world.decider.settle(last, "done")
    other = process(9, unit="b.service")
    assert world.see(process(), other) == [("log", None), (do, None)]
    assert world.see(process(10, unit="c.service")) == [("log", None), (do, "budget")]


def test_a_unit_that_cannot_be_ended_is_tried_as_often_whoever_of_it_it_is_decided_for() -> None:
    world = World(rules(policy(do=("kill-unit",))))
    tried = 0
    for _ in range(30):
        for order in world.step(*map(process, range(7, 12)), after=1.0):
            if order.outcome is None:
                tried += 1
                world.decider.settle(order, "failed")
    assert tried == 4  # after 0, 2, 6 and 14 s


@pytest.mark.parametrize("outcome", ["gone", "changed", "protected"])
def test_a_kill_that_reached_nobody_is_not_paid(outcome: str) -> None:
    world = World(rules(policy(budget=(1, 3600.0), cooldown_s=0.0)))
    world.decider.settle(world.step(process())[1], outcome)
    assert world.see(process(), after=100) == []
    assert world.see(process(8)) == DONE
    assert world.see(process(9)) == [("log", None), ("kill", "budget")]


@pytest.mark.parametrize(("cooldown", "least"), [(0.0, 500.0), (900.0, 900.0)])
def test_a_restart_that_failed_is_tried_again_ever_more_seldom(
    cooldown: float, least: float
) -> None:
    world = World(rules(policy(do=("restart-unit",), cooldown_s=cooldown, budget=(1, 9e5))))
    (last,) = world.step(process())
    gaps = []
    for _ in range(10):
        at = world.up
        told = world.decider.settle(last, "failed")
        while not (found := world.step(process(), after=2.0)):
            pass
        (last,) = found
        gaps.append(world.up - at)
        assert told == f"tried again in {duration(gaps[-1])} if it still lasts"
    assert gaps == sorted(gaps)
    assert gaps[-1] >= least
    assert world.see(process(8, unit="b.service")) == [("restart-unit", "budget")], "paid once"


@pytest.mark.parametrize("do", [("run:x", "kill"), ("restart-unit",)])
def test_what_was_done_in_part_is_paid_once(do: tuple[str, ...]) -> None:
    hooks = {"x": Hook(("/bin/true",))}
    world = World(rules(policy(budget=(2, 9e5), do=do, cooldown_s=30.0), run=hooks))
    last = world.step(process())[-1]
    for _ in range(4):
        world.decider.settle(last, "failed")
        world.restart()
        while not (found := [one for one in world.step(process()) if one.outcome is None]):
            pass
        (last,) = found
        assert last.do == do[-1]
    one, another = process(8, unit="b.service"), process(9, unit="c.service")
    assert {o for _, o in world.see(one)} == {None}
    assert {o for _, o in world.see(another)} == {"budget"}


def test_other_outcomes_close_the_incident() -> None:
    world = World(rules(policy(), policy("q", do=("terminate",))))
    log, kill = world.step(process())
    world.decider.settle(log, "done")
    world.decider.settle(kill, "done")
    # it was signalled, and has ten seconds before another may touch it
    assert world.see(process(), after=1) == []
    assert world.see(process(), after=9) == [("terminate", None)]
    world.decider.settle(kill, "failed")  # told twice: nothing happens
    assert world.see(process()) == []


def test_a_hook_is_run_at_most_so_often() -> None:
    hooks = {"dump": Hook(("/bin/true",), at_most=(1, 3600.0)), "free": Hook(("/bin/true",))}
    world = World(rules(policy(do=("run:dump", "run:free"), budget=(9, 3600.0)), run=hooks))
    assert world.see(process(7)) == [("run:dump", None), ("run:free", None)]
    world.restart()
    assert world.see(process(8)) == [("run:dump", "budget"), ("run:free", None)]
    said = "budget of 1 per 1 h of run:dump is spent; free again in 59 min"
    assert [one.because[-1].startswith(said) for one in world.orders[-2:]] == [True, False]


def test_a_kill_by_the_kernel_is_an_incident_of_its_own() -> None:
    world = World(rules(policy(when=When(oom_kill=True), cooldown_s=0.0, do=("log",))))
    assert world.see(process()) == []
    assert world.see(process(oom_killed_up=1019.0)) == [("log", None)]
    assert world.see(process(oom_killed_up=1019.0)) == []
    assert world.see(process(oom_killed_up=1039.5)) == [("log", None)]
    assert world.see(process(oom_killed_up=1039.5), after=70) == []


def test_a_new_boot_keeps_budgets_and_forgets_the_rest() -> None:
    world = World(rules(policy(budget=(1, 3600.0))))
    assert world.see(process()) == DONE
    kept = world.decider.kept()
    world.decider = Decider(world.rules, kept)
    world.boot, world.up = "b2", 5.0
    assert world.see(process()) == [("log", None), ("kill", "budget")]
    assert world.decider.kept()["cool"] == []
    world.up, world.t = world.up + 3600, world.t + 3600
    assert world.see(process()) == [("kill", None)]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_boot_before_the_clock_is_right_keeps_a_budget_no_longer_than_until_then(
    restarts: bool,
) -> None:
    """Without a clock of its own a machine begins in the past, until the network tells the time."""
    world = World(rules(policy(budget=(1, 900.0), cooldown_s=0.0)))
    assert world.see(process(7)) == [("log", None), ("kill", None)]
    world.boot, world.up, world.t = "b2", 5.0, 86400.0
    assert world.see(process(8))[-1] == ("kill", "budget")
    if restarts:
        world.restart()
    world.t = T0 + 800
    assert world.see(process(9))[-1] == ("kill", "budget")
    assert world.see(process(10), after=100)[-1] == ("kill", None)


def test_a_clock_that_is_set_back_and_right_again_gives_no_budget_back() -> None:
    purse = Purse().spend(2, 100.0, 10.0, T0)
    assert purse.overtaken(T0 - 5000, 20.0, T0 + 10) == purse
    assert purse.overtaken(T0 - 5000, 90.0, T0 + 10) == purse
    assert purse.overtaken(T0 + 1, 20.0, T0 + 9e6) == purse
    assert purse.overtaken(T0 - 1, 20.0, T0 + 80).spent == ((-60.0, T0),)


def test_what_was_kept_can_be_learned_later() -> None:
    """The store had no answer for the start, and has one now."""
    held = rules(policy(budget=(3, 9000.0)))
    earlier = World(held)
    assert earlier.see(process(7)) == DONE
    kept = earlier.decider.kept()
    late = World(held)
    late.up, late.t = earlier.up + 100, earlier.t + 100
    late.decider.ledger.join(kept, held)
    assert late.see(process(7)) == [], "it is decided, and cools down"
    late = World(held)
    late.up, late.t = earlier.up + 100, earlier.t + 100
    assert late.see(process(8)) == DONE, "nothing was known yet"
    late.decider.ledger.join(kept, held)
    late.restart()
    assert late.see(process(7)) == late.see(process(8)) == []
    spent = late.decider.ledger.purses["p"].spent
    assert [t for _, t in spent] == [earlier.t, earlier.t + 110]
    late = World(held)
    late.boot, late.up, late.t = "b2", 50.0, earlier.t + 100
    late.see(process(8))
    late.decider.ledger.join(kept, held)
    assert [at for at, _ in late.decider.ledger.purses["p"].spent] == [-50.0, 60.0]
    assert late.see(process(7)) == DONE, "a new boot has no cooldowns"


def test_a_clock_that_goes_back_without_a_boot_id_is_a_new_boot() -> None:
    world = World(rules(policy()), boot=None)
    assert world.see(process()) == DONE
    world.up = 0.0
    assert world.see(process()) == DONE


def test_a_wall_clock_that_is_set_moves_everything() -> None:
    decider = Decider(rules(policy(cooldown_s=100.0)))
    assert len(decider.step(T0, None, None, None, [process()])) == 2
    assert decider.step(T0 - 5000, None, None, None, [process(leak="none")]) == []
    assert decider.step(T0 - 4940, None, None, None, [process(leak="none")]) == []
    assert [o.outcome for o in decider.step(T0 - 4930, None, None, None, [process()])] == [
        "cooldown"
    ]
    # from then on with boot time: another scale, and still the same cooldown
    assert decider.step(T0 - 4920, 50.0, None, None, [process()]) == []
    assert len(decider.step(T0 - 4820, 150.0, None, None, [process()])) == 2


def test_who_is_gone_is_forgotten() -> None:
    world = World(rules(policy(cooldown_s=60.0)))
    world.see(*(process(pid) for pid in range(100, 400)))
    assert len(world.decider.kept()["standing"]) == 300
    for _ in range(13):
        world.see()
    assert world.decider.kept()["standing"] == []
    assert world.decider.kept()["cool"] == []
    assert world.decider.timers._looked == {}


def test_the_tables_are_bounded() -> None:
    world = World(rules(policy(do=("kill",), budget=(9999, 3600.0))))
    world.see(*(process(pid) for pid in range(100, 100 + COOLDOWNS_MAX + 50)))
    assert len(world.decider.kept()["cool"]) == COOLDOWNS_MAX
    assert len(world.decider._open) == OPEN_MAX


def test_an_exec_is_looked_at_anew() -> None:
    world = World(rules(policy()))
    assert world.see(process(comm="sh")) == []
    assert world.see(process(comm="shop")) == DONE


def test_what_changes_all_the_time_is_looked_at_all_the_time() -> None:
    match = Match(name=("shop",), min_resident=50 * MIB)
    world = World(rules(policy(match=match)))
    assert world.see(process(resident=10 * MIB)) == []
    assert world.see(process(resident=90 * MIB)) == DONE


def test_what_is_missing_is_said_once() -> None:
    world = World(rules(
        policy("a", match=Match(user=(0,))), policy("b", when=When(pressure=True)),
        policy("c", match=Match(min_age_s=5)), BY_UNIT,
        policy("d", match=Match(user=(0,)), when=When(leak="confirmed", oom_kill=True)),
    ))  # fmt: skip
    s = process(age_s=None)
    nobody = s._replace(entity=s.entity._replace(uid=None))
    for _ in range(3):
        assert world.see(nobody) == []
    assert sorted(world.decider.timers.unjudged()) == [
        "policy a cannot be judged from this trace: uid missing",
        "policy b cannot be judged from this trace: pressure missing",
        "policy c cannot be judged from this trace: age missing",
        "policy p cannot be judged from this trace: group missing",
    ]
    assert world.decider.timers.unjudged() == []
    world.see(nobody)
    assert world.decider.timers.unjudged() == []


def test_units_that_come_later_are_not_missing() -> None:
    world = World(rules(BY_UNIT))
    world.see(process(), unit())
    assert world.decider.timers.unjudged() == []
    world.see(process(), unit())
    assert world.decider.timers.unjudged() == []


def test_pressure_is_the_machines() -> None:
    world = World(rules(policy(when=When(pressure=True))))
    assert world.see(process(), pressure=False) == []
    assert world.see(process(), pressure=True) == DONE


@pytest.mark.parametrize(
    ("when", "s", "holds", "said"),
    [
        (When(leak="suspected"), process(leak="none"), False, "no leak is seen"),
        (When(leak="suspected"), process(leak=None), None, "no leak is seen"),
        (When(leak="suspected"), process(leak="what"), False, "no leak is seen"),
        (When(exhausts_within_s=60), process(), False, "memory is not seen to end"),
        (When(exhausts_within_s=60), process(exhausts_in_s=59.0), True,
         "memory ends in 59 s (asked: within 1 min)"),
        (When(resident_above=MIB), process(resident=None), None, "0 B resident"),
        (When(growth_above=1024.0), process(), False, "grows by 0 B/d"),
        (When(growth_above=1024.0 * 1024), process(growth_bytes_per_s=2.0 * MIB), True,
         "grows by 2.0 MiB/s (asked: above 1.0 MiB/s)"),
        (When(limit_above=0.9), process(), False, "it has no limit of its own"),
        (When(limit_above=0.9), process(untold=("limit",)), None, ""),
        (When(growth_above=1024.0), process(untold=("growth",)), None, ""),
        (When(exhausts_within_s=60), process(untold=("headroom",)), None, ""),
        (When(limit_above=0.9), process(limit_share=0.95), True,
         "95 % of its own limit (asked: above 90 %)"),
        (When(oom_kill=True), process(oom_killed_up=60.0), True,
         "the kernel killed it for lack of memory 40 s ago"),
        (When(oom_kill=True), process(), False, "the kernel has not killed it"),
        (When(), process(), True, ""),
    ],
)  # fmt: skip
def test_conditions_say_what_they_see(
    when: When, s: Subject, holds: bool | None, said: str
) -> None:
    found = conditions(when, s, None, 100.0)
    assert all_hold(found) is holds
    assert said in "".join(one.said for one in found)


def test_what_it_waits_for_is_told() -> None:
    world = World(rules(policy("a", for_s=60), policy("b", budget=(1, 9.0)), policy("c")))
    world.see(process())
    world.see(process(), after=5)
    assert world.decider.waiting() == {
        "a": ["7:1: its conditions hold; decides in 55 s"],
        "b": ["7:1: decided; nothing more until its conditions end",
              "7:1: cooldown, 9 min 55 s to go"],
        "c": ["7:1: held back by another action on it"],
    }  # fmt: skip
    world.see(process(8), after=1)
    assert (
        "8:1: held back: budget of 1 per 9 s is spent; free again in 3 s"
        in (world.decider.waiting()["b"])
    )
    assert Decider(rules(policy())).waiting() == {"p": []}


def test_a_deed_that_fails_after_its_incident_arms_no_other() -> None:
    world = World(rules(policy(for_s=60, cooldown_s=20.0)))
    world.see(process())
    kill = world.step(process(), after=60)[1]
    world.see(process(leak="none"))
    world.see(process(leak="none"), after=60)
    assert world.see(process()) == [], "another incident, which has to last as long"
    assert world.decider.settle(kill, "failed") is None
    assert world.see(process(), after=59) == []
    assert world.see(process(), after=1) == DONE


def test_what_holds_it_back_is_said_in_words() -> None:
    world = World(rules(policy()))
    world.decider.settle(world.step(process())[1], "failed")
    assert world.decider.waiting()["p"] == [
        "7:1: kill came to nothing; tried again after the cooldown", "7:1: cooldown, 2 s to go",
    ]  # fmt: skip
    world.see(process(8))
    world.decider.ledger.standing.clear()
    world.see(process(8))
    assert "8:1: held back by the cooldown" in world.decider.waiting()["p"]
    world.decider.granted = False
    world.see(process(9))
    assert "9:1: only said: another daemon holds the lock" in world.decider.waiting()["p"]
    world.decider.mutes = (Mute("m", "silence", "shop.service", world.t + 99),)
    world.see(process(10))
    assert "10:1: muted" in world.decider.waiting()["p"]


@pytest.mark.parametrize(
    "kept",
    [{"modes": 5}, {"modes": {}, "standing": [[1]]}, {"x": 1},
     {"modes": {}, "standing": [], "cool": 7}],
)  # fmt: skip
def test_what_was_not_kept_by_us_counts_as_nothing(kept: dict[str, Any]) -> None:
    world = World(rules(policy()))
    world.decider = Decider(world.rules, kept)
    assert world.see(process()) == DONE


def test_a_ledger_that_was_never_used_can_be_kept() -> None:
    empty = Ledger()
    assert empty.kept(rules())["now"] is None
    again = Ledger()
    again.take(empty.kept(rules()), rules())
    assert again.advance(T0, None, None) == T0


def test_an_action_that_a_reload_took_away_is_not_done_any_more() -> None:
    world = World(rules(policy(budget=(1, 900.0), do=("log", "kill"), cooldown_s=0.0)))
    world.see(process(7))
    assert world.see(process(8)) == [("log", None), ("kill", "budget")]
    world.restart(rules(policy(budget=(1, 900.0), do=("log",), cooldown_s=0.0)))
    for _ in range(20):
        assert world.see(process(8), after=60) == []


# ---- budgets -----------------------------------------------------------------------------------


def test_a_purse_says_when_it_is_free_again() -> None:
    purse = Purse().spend(2, 100.0, 10.0, T0).spend(2, 100.0, 30.0, T0)
    assert purse.left(2, 100.0, 50.0) == 0
    assert purse.free_in(2, 100.0, 50.0) == 60.0
    assert purse.free_in(3, 100.0, 50.0) == 0.0
    assert purse.free_in(1, 100.0, 50.0) == 80.0
    assert Purse().free_in(0, 100.0, 50.0) == float("inf")
    assert purse.moved(5.0, T0 - 50).spent == ((5.0, T0), (5.0, T0))

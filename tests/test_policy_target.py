"""Whom the actions of a policy hit, what bars them, and what is spent for it."""

from typing import Any

import pytest
from policy_world import World, policy, process, rules, unit

from watchdog.facts import Subject
from watchdog.policy.decide import Decider
from watchdog.policy.ledger import Standing
from watchdog.policy.rules import Match, Policy, Rules, Selector

SHOP = "shop.service"


def on_unit(do: str, by: str = "shop*", **more: Any) -> Policy:
    return policy(match=Match(unit=(by,)), per="unit", do=(do,))._replace(**more)


def guarded(*policies: Policy) -> Rules:
    return Rules(policies=policies, protect=Selector(unit=(SHOP,)))


# ---- what is spent is what is done -------------------------------------------------------------


def incidents(world: World, count: int) -> list[str | None]:
    """The outcomes of so many incidents of a unit, one after the other."""
    found: list[str | None] = []
    for _ in range(count):
        found += [outcome for _, outcome in world.see(unit())]
        world.see(unit(leak="none"))
        world.see(unit(leak="none"), after=60)
    return found


def test_a_protected_unit_that_is_named_has_a_budget_as_well() -> None:
    named = on_unit("restart-unit", SHOP, cooldown_s=0.0, budget=(2, 36000.0))
    assert incidents(World(guarded(named)), 20) == [None] * 2 + ["budget"] * 18


@pytest.mark.parametrize("do", ["throttle", "restart-unit", "kill-unit"])
def test_what_is_barred_spends_nothing(do: str) -> None:
    barred = on_unit(do, cooldown_s=0.0, budget=(2, 36000.0))
    world = World(guarded(barred))
    assert incidents(world, 5) == ["protected"] * 5
    assert world.decider.kept()["purses"] == {}


def test_a_unit_in_which_nobody_is_left_costs_nothing() -> None:
    world = World(rules(on_unit("terminate", cooldown_s=0.0)))
    assert incidents(world, 3) == ["gone"] * 3
    assert world.decider.kept()["purses"] == {}


def test_a_restart_that_failed_waits_for_its_cooldown() -> None:
    """PID 1 that gives up after 150 s has stopped the unit, or half of it."""
    world = World(rules(on_unit("restart-unit", budget=(60, 3600.0))))
    restarts = 0
    for _ in range(60):
        for order in world.step(unit(), after=60):
            if order.outcome is None:
                restarts += 1
                world.decider.settle(order, "failed")
    assert restarts == 6


# ---- who is inside -----------------------------------------------------------------------------


INSIDE = Rules(protect=Selector(name_unverified=("db",)))


@pytest.mark.parametrize("mode", ["observe", "enforce"])
@pytest.mark.parametrize("do", ["restart-unit", "throttle", "kill-unit"])
@pytest.mark.parametrize("per", ["unit", "process"])
def test_a_protected_process_bars_what_is_done_to_its_unit(mode: str, do: str, per: str) -> None:
    one = policy(match=Match(unit=("shop*",)), per=per, do=(do,), mode=mode)
    world = World(INSIDE._replace(policies=(one,)))
    found = world.step(process(7), process(8, "db", leak="none"), unit())
    assert [(order.do, order.outcome) for order in found] == [(do, "protected")]
    assert "PID 8 is in it: name db is protected" in found[0].because[-1]
    elsewhere = process(8, "db", leak="none", unit="db.service")
    world = World(INSIDE._replace(policies=(one,)))
    outcome = None if mode == "enforce" else "would"
    assert world.see(process(7), elsewhere, unit()) == [(do, outcome)]


def test_who_is_inside_is_asked_of_everybody() -> None:
    """The subjects of a step may be only those of interest."""
    world = World(INSIDE._replace(policies=(on_unit("restart-unit"),)))
    found = world.decider.step(
        world.t, world.up, world.boot, None, iter([unit()]), lambda: [unit(), process(8, "db")]
    )
    assert [order.outcome for order in found] == ["protected"]


@pytest.mark.parametrize(("do", "outcome"), [("restart-unit", None), ("kill-unit", "protected")])
def test_a_unit_that_is_named_is_restarted_whoever_is_inside(do: str, outcome: str | None) -> None:
    world = World(INSIDE._replace(policies=(on_unit(do, SHOP),)))
    assert world.see(unit(), process(8, "db")) == [(do, outcome)]


@pytest.mark.parametrize("name", ["user@1000.service", "session-2.scope", "init.scope"])
@pytest.mark.parametrize("mode", ["observe", "enforce"])
def test_a_login_is_no_unit_to_restart_and_its_processes_may_be_killed(
    name: str, mode: str
) -> None:
    for do, outcome in (("restart-unit", "protected"), ("throttle", "protected"), ("kill", "")):
        one = policy(match=Match(unit=(name,)), per="process", do=(do,), mode=mode)
        found = World(rules(one)).step(process(unit=name))
        assert [(order.outcome or "").replace("would", "") for order in found] == [outcome]


@pytest.mark.parametrize("mode", ["observe", "enforce"])
def test_who_is_in_no_unit_has_none_to_restart(mode: str) -> None:
    one = policy(do=("kill-unit",), cooldown_s=0.0, mode=mode)
    world = World(rules(one))
    assert world.see(process(unit=None)) == [("kill-unit", "failed")]
    assert world.orders[0].because[-1] == "it belongs to no unit"
    assert world.see(process(unit=None)) == [], "and it is not tried again"


LOGIN = "user@1000.service"


def inside(pid: int, inner: str | None, unit: str = LOGIN, **more: Any) -> Subject:
    one = process(pid, unit=unit, **more)
    return one._replace(entity=one.entity._replace(inner=inner))


@pytest.mark.parametrize("mode", ["observe", "enforce"])
@pytest.mark.parametrize("inner", ["app-x.scope", None])
def test_in_a_login_kill_unit_means_the_unit_inside_it_or_the_process(
    inner: str | None, mode: str
) -> None:
    outcome = None if mode == "enforce" else "would"
    one = policy(do=("kill-unit",), mode=mode)
    elsewhere = inside(8, "db.scope", comm="db", leak="none")
    world = World(INSIDE._replace(policies=(one,)))
    found = world.step(inside(7, inner), elsewhere)
    assert [(one.subject.entity.pid, one.outcome) for one in found] == [(7, outcome)]
    together = inside(8, inner, comm="db", leak="none")
    world = World(INSIDE._replace(policies=(one,)))
    assert world.see(inside(7, inner), together) == [
        ("kill-unit", "protected" if inner else outcome)
    ]


def test_of_a_login_kill_unit_takes_the_worst_with_the_unit_that_it_is_in() -> None:
    one = policy(match=Match(unit=("user@*",)), per="unit", do=("kill-unit",))
    spared = inside(9, "b.scope", comm="db", leak="none")
    calm = (inside(7, "a.scope", leak="none"), inside(10, None, leak="none"))
    here = (*calm, inside(8, "b.scope"), spared)
    (order,) = World(rules(one)).step(unit(LOGIN), *here)
    assert (order.subject.entity.pid, order.subject.entity.inner) == (8, "b.scope")
    barred = World(INSIDE._replace(policies=(one,)))
    assert barred.see(unit(LOGIN), *here) == [("kill-unit", "protected")]
    assert "PID 9 is in it" in barred.orders[0].because[-1]
    alone = World(Rules(policies=(one,), protect=Selector(user=(33,))))
    assert alone.see(unit(LOGIN), *here) == [("kill-unit", "protected")]
    assert "all of its processes are protected" in alone.orders[0].because[-1]
    assert World(rules(one)).see(unit(LOGIN)) == [("kill-unit", "gone")]
    scope = policy(match=Match(unit=("init.scope",)), do=("kill-unit",))
    assert World(rules(scope)).see(process(unit="init.scope")) == [("kill-unit", "protected")]


def test_two_units_inside_a_login_are_two_and_each_is_ended_once() -> None:
    one = policy(do=("kill-unit",), budget=(9, 3600.0))
    here = (inside(7, "a.scope"), inside(8, "a.scope"), inside(9, "b.scope"), inside(10, None))
    found = [(one.subject.entity.pid, one.outcome) for one in World(rules(one)).step(*here)]
    assert found == [(7, None), (8, "cooldown"), (9, None), (10, None)]
    other = policy("q", do=("kill",), match=Match(name=("db",)))
    for inner, second in (("a.scope", []), ("b.scope", [("q", "kill")])):
        both = World(rules(one, other)).step(inside(7, "a.scope"), inside(8, inner, comm="db"))
        assert [(one.policy, one.do) for one in both] == [("p", "kill-unit"), *second]


# ---- one at a time -----------------------------------------------------------------------------


def workers() -> list[Subject]:
    return [process(7), process(8), process(9, unit="other.service")]


@pytest.mark.parametrize("do", ["restart-unit", "kill-unit", "throttle"])
def test_two_workers_of_a_unit_do_not_restart_it_twice(do: str) -> None:
    world = World(rules(policy(do=(do,), budget=(9, 3600.0))))
    found = [(one.subject.entity.pid, one.outcome) for one in world.step(*workers())]
    assert found == [(7, None), (8, "cooldown"), (9, None)]
    assert world.see(*workers(), after=500) == []
    # when it is over the second has its turn, if it is still there
    assert world.see(process(8), after=100) == [(do, None)]


def test_two_policies_do_not_restart_one_unit_together() -> None:
    world = World(rules(
        policy("a", do=("restart-unit",)), on_unit("kill-unit", name="b"), policy("c"),
    ))  # fmt: skip
    found = world.step(process(7), unit())
    assert [(one.policy, one.do) for one in found] == [("a", "restart-unit")]
    assert [one.policy for one in world.step(process(7), unit())] == ["b"]
    assert [one.policy for one in world.step(process(7), unit())] == ["c", "c"]


@pytest.mark.parametrize("mode", ["observe", "enforce"])
@pytest.mark.parametrize("do", ["restart-unit", "kill-unit", "kill"])
def test_a_unit_and_a_process_in_it_are_not_touched_together(do: str, mode: str) -> None:
    one = policy("b", do=("terminate",), mode=mode)
    for whole in (on_unit(do, name="a", mode=mode), on_unit(do, name="c", mode=mode)):
        world = World(rules(one, whole))
        first, second = sorted([one, whole])
        here = (process(7), process(8, leak="none"), process(9, unit="other.service"), unit())
        found = [(order.policy, order.subject.entity.unit) for order in world.step(*here)]
        assert sorted(found) == sorted([(first.name, SHOP), ("b", "other.service")])
        assert world.step(*here, after=9) == []
        assert [order.policy for order in world.step(*here, after=1)] == [second.name]


def test_two_processes_of_a_unit_may_be_ended_together() -> None:
    world = World(rules(policy(do=("kill",)), on_unit("restart-unit", name="z")))
    first, second = world.step(process(7), process(8), unit())
    world.decider.settle(first, "gone")
    assert world.see(process(7, leak="none"), process(8), unit(), after=1) == [], "8 is under way"
    world.decider.settle(second, "done")
    assert world.see(unit(), after=9) == [("restart-unit", None)]


@pytest.mark.parametrize("outcome", ["done", "would"])
def test_an_action_has_its_time_after_it_was_done(outcome: str) -> None:
    """Observing decides when enforcing does."""
    world = World(rules(policy("a", do=("terminate",)), policy("b", do=("kill",))))
    (first,) = world.step(process())
    world.decider.settle(first, outcome)
    assert world.see(process(), after=1) == []
    assert world.see(process(), after=9) == [("kill", None)]


@pytest.mark.parametrize("outcome", ["gone", "protected", "changed"])
def test_what_was_not_done_holds_nobody_up(outcome: str) -> None:
    world = World(rules(policy("a", do=("terminate",)), policy("b", do=("kill",))))
    (first,) = world.step(process())
    world.decider.settle(first, outcome)
    assert world.see(process(), after=1) == [("kill", None)]


# ---- a throttle that is of no use ---------------------------------------------------------------


THEN = on_unit("throttle", budget=(1, 36000.0))._replace(do=("log", "throttle", "kill-unit"))


@pytest.mark.parametrize("failed", [True, False])
def test_what_ends_a_unit_comes_after_a_throttle_that_was_of_no_use(failed: bool) -> None:
    world = World(rules(THEN))
    first = world.step(unit())
    assert [(order.do, order.outcome) for order in first] == [("log", None), ("throttle", None)]
    assert first[1].because[-1] == "if that is of no use: kill-unit"
    assert world.see(unit()) == []
    assert world.decider.waiting()["p"][0].endswith("if the limit is of no use kill-unit")
    if failed:  # it could not be set, or was lifted, also by a watcher that was started since
        world.decider.settle(first[1], "failed")
    else:
        world.decider.settle(first[1], "done")
        world.restart()
        assert world.decider.ledger.moves_on(first[1].incident)
    (then,) = world.step(unit())
    assert (then.do, then.outcome, then.incident) == ("kill-unit", None, first[1].incident)
    assert world.see(unit()) == [], "once"
    assert not world.decider.ledger.moves_on(first[1].incident)
    world.decider.settle(then, "failed")
    assert world.see(unit(), after=1) == []
    assert world.see(unit(), after=1) == [("kill-unit", None)], "the throttle has paid for it"
    assert world.decider.ledger.left(THEN) == 0


@pytest.mark.parametrize("outcome", ["changed", "gone"])
def test_a_throttle_that_came_to_nothing_is_tried_again_and_nothing_ends_for_it(
    outcome: str,
) -> None:
    world = World(rules(THEN._replace(budget=(2, 36000.0))))
    first = world.step(unit())[1]
    world.decider.settle(first, outcome)
    assert world.see(unit()) == [("throttle", "cooldown")]
    world.restart()
    (second,) = world.step(unit(), after=600)
    assert (second.do, second.outcome) == ("throttle", None)
    assert second.id != first.id
    world.decider.settle(second, outcome)
    assert world.see(unit(), after=600) == [("throttle", "budget")]


def test_what_was_paid_for_stays_so_while_the_lock_is_refused() -> None:
    world = World(rules(THEN))
    throttle = world.step(unit())[1]
    world.decider.settle(throttle, "failed")
    world.decider.granted = False
    assert world.see(unit()) == [("kill-unit", "would")]
    world.decider.granted = True
    assert world.see(unit()) == [("kill-unit", None)]


def test_only_who_enforces_throttles_again_what_an_earlier_run_has() -> None:
    for mode, left in (("enforce", ("throttle",)), ("observe", ())):
        world = World(rules(THEN._replace(mode=mode)))
        world.step(unit())
        ledger = world.decider.ledger
        assert ledger.lifted(world.rules, ()) is (mode == "enforce")
        assert [one.left for one in ledger.standing.values()] == [left]


def test_nothing_follows_a_throttle_that_has_helped_or_is_only_said() -> None:
    world = World(rules(THEN))
    order = world.step(unit())[1]
    for _ in range(9):
        assert world.see(unit(leak="none")) == []
    assert not world.decider.ledger.moves_on(order.incident)
    world = World(rules(THEN._replace(mode="observe")))
    assert world.see(unit()) == [("log", None), ("throttle", "would")]
    world.decider.settle(world.orders[1], "would")
    assert world.see(unit()) == []


def test_a_throttle_that_is_barred_is_passed_over_within_the_budget() -> None:
    do = ("run:x", "throttle", "terminate")
    one = policy(match=Match(unit=("shop*",), name=("shop",)), do=do[1:], budget=(1, 36000.0))
    world = World(INSIDE._replace(policies=(one,)))
    here = (process(7), process(8, "db", leak="none"))
    assert world.see(*here) == [("throttle", "protected"), ("terminate", None)]
    assert len(world.decider.kept()["purses"]["p"]) == 1
    assert world.see(*here) == []
    one = policy(do=do, budget=(1, 36000.0), cooldown_s=0.0)
    world = World(rules(one))
    found = [world.see(process(pid, unit=LOGIN)) for pid in (7, 8, 8, 9)]
    barred = ("throttle", "protected")
    assert found[0] == [("run:x", None), barred, ("terminate", None)]
    assert found[1] == [("run:x", "budget"), barred, ("terminate", "budget")]
    assert found[2:] == [[], found[1]]
    assert world.see(process(9, unit=LOGIN), after=36000) == [("run:x", None), ("terminate", None)]


def test_a_decision_that_goes_on_is_held_back_by_nothing() -> None:
    world = World(rules(THEN))
    throttle = world.step(unit())[1]
    world.decider.settle(throttle, "failed")
    assert world.decider.waiting()["p"][0].endswith("held back by another action on it")


def test_what_stands_behind_a_throttle_is_kept_so_that_older_versions_read_the_rest() -> None:
    world = World(rules(THEN))
    throttle = world.step(unit())[1]
    kept = world.decider.kept()
    assert [len(one) for *_, one in kept["standing"]] == [7]
    world.restart()
    (standing,) = world.decider.ledger.standing.values()
    assert (standing.left, standing.later, standing.moved) == ((), ("kill-unit",), False)
    world.decider.settle(throttle, "failed")
    kept = world.decider.kept()
    world.restart()
    (standing,) = world.decider.ledger.standing.values()
    assert (standing.left, standing.later, standing.moved) == (("kill-unit",), (), True)
    assert standing.said == ()
    assert kept["standing"][0][2][3] == ["moved on"], "where those look for it"
    for flaw in (None, 5, [["p"]], [["p", "k", None]]):
        assert Decider(rules(THEN), kept | {"behind": flaw}).ledger.standing == {}


@pytest.mark.parametrize("moved", [False, True])
def test_what_an_older_version_kept_of_a_throttle_is_read(moved: bool) -> None:
    plain = [5.0, 5.0, ["kill-unit"] if moved else [], ["moved on"] if moved else [], None, None, 0]
    one = Standing.of(plain if moved else [*plain, ["kill-unit"]])
    assert (one.moved, one.later) == (moved, () if moved else ("kill-unit",))
    assert (one.said, one.plain()) == ((), plain)

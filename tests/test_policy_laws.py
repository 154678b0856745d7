"""Laws of the policies, over any sequence of events, restarts and clock steps."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from policy_world import World, policy, process, unit

from watchdog.facts import Order, Subject
from watchdog.policy.decide import Decider
from watchdog.policy.rules import DESTRUCTIVE, Match, Rules, Selector, verb

COOLDOWN, TIMES, PER = 100.0, 3, 400.0
NAMES = ("shop", "sshd", "db")
LAWS = Rules(
    policies=(
        policy("a", match=Match(name=("*",)), cooldown_s=COOLDOWN, budget=(TIMES, PER)),
        policy("b", match=Match(name=("shop",)), for_s=20.0, do=("log", "terminate", "run:x"),
               cooldown_s=COOLDOWN, budget=(TIMES, PER)),
        policy("c", match=Match(unit=("u*",)), per="unit", do=("kill",), cooldown_s=COOLDOWN,
               budget=(TIMES, PER)),
        policy("d", match=Match(name=("shop",)), mode="observe", cooldown_s=COOLDOWN,
               budget=(TIMES, PER)),
        policy("e", match=Match(unit=("u2",)), per="unit", do=("restart-unit",),
               cooldown_s=COOLDOWN, budget=(TIMES, PER)),
        policy("f", match=Match(unit=("u*",)), do=("restart-unit",), cooldown_s=COOLDOWN,
               budget=(TIMES, PER)),
    ),
    protect=Selector(name_unverified=("sshd",), unit=("u2",)),
)  # fmt: skip

subjects = st.lists(
    st.tuples(st.integers(3, 6), st.sampled_from(NAMES), st.sampled_from(("u1", "u2")),
              st.sampled_from(("none", "confirmed"))),
    max_size=4, unique_by=lambda one: one[0],
)  # fmt: skip
events = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.floats(0.5, 150), subjects),
        st.tuples(st.just("restart"), st.just(0.0), st.just([])),
        st.tuples(st.just("wall"), st.floats(-5000, 5000), st.just([])),
        st.tuples(st.just("failed"), st.just(0.0), st.just([])),
        st.tuples(st.just("lock"), st.floats(0, 1), st.just([])),
    ),
    max_size=40,
)


def build(rows: list[tuple[int, str, str, str]]) -> list[Subject]:
    found = [process(pid, comm, leak, unit=name) for pid, comm, name, leak in rows]
    return found + [unit(name, "confirmed") for name in sorted({row[2] for row in rows})]


@settings(max_examples=200, deadline=None)
@given(events, st.booleans())
def test_laws(steps: list[tuple[str, float, Any]], fail: bool) -> None:
    """Nothing protected is ordered killed; budgets and cooldowns hold; nothing is decided twice."""
    world = World(LAWS)
    carried: list[tuple[float, Order]] = []
    ids: set[str] = set()
    failed: set[str] = set()
    free: set[str] = set()  # orders that the budget did not pay in the end
    tried: dict[str, tuple[float, int]] = {}  # by incident: the last that did nothing, how many
    for kind, amount, rows in steps:
        if kind == "restart":
            granted = world.decider.granted
            world.restart()
            world.decider.granted = granted
        elif kind == "lock":
            world.decider.granted = amount < 0.5
        elif kind == "wall":
            world.t += amount
        elif kind == "failed" and fail and carried:
            last = carried[-1][1]
            opened = last.id in world.decider._open
            world.decider.settle(last, "failed")
            failed.add(last.incident)
            if opened and last.do == "kill":
                free.add(last.id)
                tried[last.incident] = (world.up, tried.get(last.incident, (0.0, 0))[1] + 1)
        elif kind == "step":
            present = build(rows)
            for order in world.step(*present, after=amount):
                assert order.id not in ids
                ids.add(order.id)
                assert order.because
                assert order.subject in present
                entity = order.subject.entity
                if order.do in ("kill", "terminate") and order.outcome in (None, "would"):
                    assert entity.comm != "sshd"
                    assert entity.unit != "u2"
                    assert order.subject.entity.pid is not None
                if order.policy == "f" and order.outcome in (None, "would"):
                    inside = [one for one in present if one.entity.unit == entity.unit]
                    assert "sshd" not in {one.entity.comm for one in inside}
                    assert entity.unit != "u2"
                if order.policy != "c":
                    assert order.subject.leak == "confirmed"
                assert (order.mode == "observe") is (
                    order.policy == "d" or not world.decider.granted
                )
                if order.outcome is None and order.mode == "observe":
                    assert order.do == "log"
                is_done = order.outcome is None or (order.outcome, order.policy) == ("would", "d")
                if is_done and verb(order.do) in DESTRUCTIVE:
                    if order.outcome is None and order.incident in tried:
                        failed_at, count = tried[order.incident]
                        assert world.up - failed_at >= min(2.0**count, COOLDOWN) - 1e-6
                    carried.append((world.up, order))
    for name in "abcdef":
        paid: dict[str, float] = {}  # once an incident
        for up, order in carried:
            if order.policy == name and order.id not in free:
                paid.setdefault(order.incident, up)
        times = list(paid.values())
        for first, last in zip(times, times[TIMES:], strict=False):
            assert last - first >= PER
        by_subject: dict[str, tuple[float, Order]] = {}
        for up, order in carried:
            key = order.incident.rpartition("-")[0]
            if order.policy != name:
                continue
            if name == "f":  # of a unit at whichever of its processes
                key = str(order.subject.entity.unit)
            before = by_subject.get(key)
            if before and (before[1].incident not in failed or order.do == "restart-unit"):
                assert up - before[0] >= COOLDOWN
            by_subject[key] = (up, order)


@settings(max_examples=100, deadline=None)
@given(events)
def test_a_restart_between_any_two_steps_changes_nothing(
    steps: list[tuple[str, float, Any]],
) -> None:
    """Nor where whatever is done to an odd PID fails."""
    plain, restarted = World(LAWS), World(LAWS)
    for kind, amount, rows in steps:
        if kind == "step":
            amount = min(amount, 60.0)
            restarted.restart()
            # Everybody is always there: who is gone while nobody looks is remembered longer.
            everybody = {pid: (pid, "shop", "u1", "none") for pid in range(3, 7)}
            always = [(7, "db", "u1", "none"), (8, "db", "u2", "none")]
            present = build([*(everybody | {row[0]: row for row in rows}).values(), *always])
            found = plain.step(*present, after=amount)
            # which policy waits for another's action (10 s) is not kept
            if amount >= 10:
                assert restarted.step(*present, after=amount) == found
                for order in found:
                    if order.outcome is None and (order.subject.entity.pid or 0) % 2:
                        for world in (plain, restarted):
                            world.decider.settle(order, "failed")
            else:
                restarted.step(*present, after=amount)
                restarted.decider = Decider(LAWS, plain.decider.kept())


@settings(max_examples=100, deadline=None)
@given(events)
def test_observing_decides_what_enforcing_does(steps: list[tuple[str, float, Any]]) -> None:
    """The same orders at the same moments, but for mode and outcome; all that is done succeeds."""
    said, done = (
        World(LAWS._replace(policies=tuple(one._replace(mode=mode) for one in LAWS.policies)))
        for mode in ("observe", "enforce")
    )
    for kind, amount, rows in steps:
        if kind == "step":
            found = [world.step(*build(rows), after=amount) for world in (said, done)]
            for order in found[1]:
                if order.outcome is None:
                    done.decider.settle(order, "done")
            plain = [
                [(o.id, o.do, o.subject, o.because, "" if o.outcome == "would" else o.outcome or "")
                 for o in orders]
                for orders in found
            ]  # fmt: skip
            assert plain[0] == plain[1]
        elif kind == "wall":
            said.t += amount
            done.t += amount

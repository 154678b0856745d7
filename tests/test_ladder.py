"""The guard's rungs: one member, the unit, the unit stopped, and then only words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.policy.ladder import LONGEST_S, Ladder


@pytest.mark.parametrize(("before", "age", "then"), [
    ("process", 59, "unit"), ("process", 61, "process"), ("unit", 299, "stop"),
    ("unit", 301, "process"), ("stop", 299, "none"), ("stop", 301, "process"),
])  # fmt: skip
def test_the_table(before: str, age: float, then: str) -> None:
    ladder = Ladder()
    ladder.strike("a.service", before, 1000.0)
    assert ladder.rung("a.service", 1000.0 + age, whole=False, possible=True) == then
    assert ladder.rung("b.service", 1000.0 + age, whole=False, possible=True) == "process"


def test_the_whole_unit_at_once_where_it_is_asked_for_and_may_be() -> None:
    ladder = Ladder()
    assert ladder.rung("a", 0.0, whole=True, possible=True) == "unit"
    assert ladder.rung("a", 0.0, whole=True, possible=False) == "process"


def test_who_lives_on_after_sigterm_gets_sigkill_before_the_unit_does() -> None:
    ladder, who = Ladder(), (11, 500)
    ladder.strike("a", "process", 1000.0)
    ladder.ask(who, 1000.0, 1e9)

    def rung(up: float, whole: bool = False, possible: bool = True) -> str:
        asked = ladder.asked_of(who, up) is not None
        return ladder.rung("a", up, whole=whole, possible=possible, asked=asked)

    assert ladder.asked_of(who, 1005.0) == (1000.0, 1e9)
    assert rung(1005.0) == "process"
    assert rung(1005.0, whole=True) == "unit", "it has come to light that it is all of it"
    assert rung(1005.0, whole=True, possible=False) == "process"
    assert ladder.asked_of(who, 1061.0) is None
    ladder.ask((12, 500), 1061.0, 1e9)
    assert list(ladder.asked) == [(12, 500)]
    ladder.strike("a", "unit", 1062.0)
    assert ladder.rung("a", 1063.0, whole=False, possible=True, asked=True) == "stop"


@given(st.lists(st.tuples(st.floats(0.1, 400.0), st.booleans(), st.booleans()), max_size=40))
def test_no_sequence_ends_a_unit_that_may_not_be(steps: list[tuple[float, bool, bool]]) -> None:
    ladder, up = Ladder(), 0.0
    order = ("process", "unit", "stop", "none")
    last = ""
    for pause, whole, possible in steps:
        up += pause
        rung = ladder.rung("a", up, whole=whole, possible=possible)
        assert rung in order
        assert possible or rung in ("process", "none")
        if rung != "none":
            # within the longest time it never steps back to where it already was, but for
            # what may not be ended as a whole
            if possible and last in ("unit", "stop") and pause <= LONGEST_S:
                assert order.index(rung) > order.index(last)
            ladder.strike("a", rung, up)
            last = rung
        else:
            last = ""
    assert len(ladder.struck) <= 1


def test_while_nobody_ran_it_had_no_time_to_end() -> None:
    ladder = Ladder()
    ladder.ask((7, 500), 100.0, 1e9)
    ladder.slept(3600.0)
    assert ladder.asked_of((7, 500), 3703.0) == (3700.0, 1e9)

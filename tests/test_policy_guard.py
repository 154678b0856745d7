"""When memory is short: begin, end, swap, stall."""

import marshal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.facts import Host
from watchdog.policy.guard_when import (
    GuardRules,
    Mark,
    Pressure,
    guard_from_plain,
    guard_plain,
    sentence,
)
from watchdog.policy.rules import Rules

MIB = 1 << 20
GIB = 1 << 30


def host(up: float, available: int, **more: Any) -> Host:
    base = Host(t=1.7e9 + up, up=up, mem_total=GIB, mem_available=available, swap_total=0,
                swap_free=0, psi_full_us=0)  # fmt: skip
    return base._replace(**more)


def test_a_mark_is_the_smaller_of_share_and_bytes_and_at_most_half() -> None:
    assert Mark(0.05).of(GIB) == int(0.05 * GIB)
    assert Mark(0.05, 10 * MIB).of(GIB) == 10 * MIB
    assert Mark(0.05, 400 * MIB).of(GIB) == int(0.05 * GIB)
    assert Mark(None, 4 * GIB).of(GIB) == GIB // 2


def test_it_begins_below_the_mark_and_ends_at_one_and_a_half_times() -> None:
    pressure = Pressure(GuardRules())
    mark = int(0.05 * GIB)
    assert pressure.step(host(1, mark)) is None
    begun = pressure.step(host(2, mark - 1))
    assert begun
    assert (begun.kind, begun.by, begun.up) == ("begun", "available", 2)
    assert begun.because == ("51.2 MiB available, below the mark of 51.2 MiB", "there is no swap")
    assert pressure.active
    assert pressure.since == 2
    assert (pressure.begin_bytes, pressure.end_bytes) == (mark, int(mark * 1.5))
    assert pressure.step(host(3, mark + 1)) is None
    assert pressure.step(host(4, pressure.end_bytes - 1)) is None
    ended = pressure.step(host(5, pressure.end_bytes))
    assert ended
    assert (ended.kind, ended.by) == ("ended", "available")
    assert ended.because[1] == "memory was short for 3 s"
    assert not pressure.active


def test_swap_that_is_free_and_moves_holds_it_off() -> None:
    pressure = Pressure(GuardRules())
    free = 512 * MIB
    for up in range(10):  # it takes pages all the time
        free -= 10 * MIB
        assert pressure.step(host(up, 40 * MIB, swap_total=512 * MIB, swap_free=free)) is None
    # less than 10 % of it is left
    found = pressure.step(host(10, 40 * MIB, swap_total=512 * MIB, swap_free=50 * MIB))
    assert found
    assert found.because[1] == "50.0 MiB of swap free, below the mark of 51.2 MiB"


def test_swap_that_takes_nothing_does_not_help() -> None:
    pressure = Pressure(GuardRules())
    swap = {"swap_total": 512 * MIB, "swap_free": 512 * MIB}
    assert pressure.step(host(0, 500 * MIB, **swap)) is None
    assert pressure.step(host(100, 40 * MIB, **swap)) is None  # below only from here on
    assert pressure.step(host(101, 40 * MIB, **swap)) is None
    found = pressure.step(host(102, 40 * MIB, **swap))
    assert found
    assert found.because[1] == "swap has taken nothing for 2 s"


def test_the_kernels_own_counter_is_believed_before_swap_free() -> None:
    pressure = Pressure(GuardRules())
    swap = {"swap_total": 512 * MIB, "swap_free": 512 * MIB}
    for up in range(5):
        assert pressure.step(host(up, 40 * MIB, **swap), pswpout=up) is None
    assert pressure.step(host(6, 40 * MIB, **swap), pswpout=4)


def test_half_of_the_mark_does_not_wait_for_swap() -> None:
    pressure = Pressure(GuardRules())
    found = pressure.step(host(1, 20 * MIB, swap_total=512 * MIB, swap_free=512 * MIB))
    assert found
    assert found.because[1].startswith("less than half of the mark")


def test_a_reading_without_numbers_changes_nothing() -> None:
    pressure = Pressure(GuardRules())
    assert pressure.step(host(1, 0, mem_total=None)) is None
    assert pressure.step(host(1, 0, mem_available=None)) is None
    assert not pressure.still(host(1, 0, mem_available=None))
    unknown = pressure.step(host(2, 0, swap_total=None))
    assert unknown
    assert unknown.because[1] == "nothing is known of swap"


def test_time_may_come_from_the_wall_clock() -> None:
    pressure = Pressure(GuardRules())
    found = pressure.step(Host(5.0, mem_total=GIB, mem_available=0, swap_total=0))
    assert found
    assert found.up == 5.0


def stalls(pressure: Pressure, available: int, share: float, start: float, count: int) -> list[str]:
    found = []
    for step in range(count):
        up = start + step * 0.5
        one = pressure.step(host(up, available, psi_full_us=int((up - start) * share * 1e6)))
        found += [f"{one.kind} {one.by}"] if one else []
    return found


def test_a_stall_counts_near_the_mark_only() -> None:
    assert stalls(Pressure(GuardRules()), 150 * MIB, 0.5, 0, 10) == ["begun stall"]
    assert stalls(Pressure(GuardRules()), 150 * MIB, 0.3, 0, 10) == []
    # 20 % of the memory is free: cgroups at their own limits
    assert stalls(Pressure(GuardRules()), 300 * MIB, 0.9, 0, 10) == []
    assert stalls(Pressure(GuardRules(stalled_above=None)), 150 * MIB, 0.9, 0, 10) == []


def test_a_stall_is_measured_over_its_window() -> None:
    pressure = Pressure(GuardRules())
    assert pressure.step(host(0, 150 * MIB, psi_full_us=0)) is None
    assert pressure.step(host(1, 150 * MIB, psi_full_us=900_000)) is None  # one second only
    found = pressure.step(host(2, 150 * MIB, psi_full_us=900_000))
    assert found
    assert found.because[0].startswith("everything waited for memory for 45 % of the last 2 s")
    assert pressure.still(host(2, 150 * MIB))
    assert not pressure.still(host(2, 300 * MIB))
    # it ends when the stall has gone, or when memory is plenty
    assert pressure.step(host(3, 150 * MIB, psi_full_us=1_400_000)) is None
    ended = pressure.step(host(6, 150 * MIB, psi_full_us=1_400_000))
    assert ended
    assert ended.by == "stall"


def test_a_stall_ends_where_memory_is_plenty() -> None:
    pressure = Pressure(GuardRules())
    stalls(pressure, 150 * MIB, 0.9, 0, 6)
    assert pressure.active
    assert pressure.step(host(3, 600 * MIB, psi_full_us=2_700_000))


def test_a_counter_that_goes_back_begins_anew() -> None:
    pressure = Pressure(GuardRules())
    stalls(pressure, 150 * MIB, 0.1, 0, 6)
    assert pressure.step(host(3, 150 * MIB, psi_full_us=0)) is None
    assert pressure.step(host(3, 150 * MIB, psi_full_us=0)) is None
    assert pressure.step(host(4, 150 * MIB, psi_full_us=None)) is None
    assert not pressure.active


def test_right_before_a_signal_it_is_asked_again() -> None:
    pressure = Pressure(GuardRules())
    pressure.step(host(1, 40 * MIB))
    assert pressure.still(host(1.1, 40 * MIB))
    assert not pressure.still(host(1.1, 52 * MIB))


def test_the_start_line_says_what_it_waits_for() -> None:
    seen = host(1, 500 * MIB)
    assert sentence(GuardRules(), seen) == (
        "guard would act (observing) below 51.2 MiB of 1.0 GiB available (there is no swap), or "
        "stalled above 40 % for 2 s"
    )
    assert "acts below" in sentence(GuardRules(mode="enforce"), seen)
    assert sentence(GuardRules(mode="off"), seen) == "guard off"
    with_swap = sentence(GuardRules(), host(1, 1, swap_total=GIB, psi_full_us=None))
    assert "less than 102 MiB of 1.0 GiB swap free" in with_swap
    assert with_swap.endswith("this kernel tells no memory pressure")
    assert "unknown" in sentence(GuardRules(), host(1, 1, mem_total=None))
    off = sentence(GuardRules(stalled_above=None), host(1, 1, swap_total=None))
    assert off.endswith("of 1.0 GiB available")


@pytest.mark.parametrize(
    "rules",
    [
        GuardRules(),
        GuardRules("enforce", Mark(0.1, MIB), Mark(None, 5), None, "size", "unit", (1, 2.0)),
    ],
)
def test_the_rules_go_over_the_wire(rules: GuardRules) -> None:
    plain = guard_plain(rules)
    assert guard_from_plain(marshal.loads(marshal.dumps(plain))) == rules
    assert guard_plain(Rules(guard=rules)) == plain
    assert guard_from_plain({}) == GuardRules()


readings = st.lists(
    st.tuples(st.floats(0.1, 5), st.integers(0, GIB), st.integers(0, GIB), st.floats(0, 1)),
    max_size=60,
)


@given(readings, st.integers(0, 1))
def test_begin_and_end_alternate_and_are_apart(
    steps: list[tuple[float, int, int, float]], swap: int
) -> None:
    pressure = Pressure(GuardRules())
    up, full, kind = 0.0, 0.0, "ended"
    for passed, available, free, share in steps:
        up += passed
        full += passed * share * 1e6
        seen = host(up, available, swap_total=swap * GIB, swap_free=swap * free,
                    psi_full_us=int(full))  # fmt: skip
        found = pressure.step(seen)
        if found is None:
            continue
        assert found.kind != kind
        assert found.because
        kind = found.kind
        assert pressure.active is (kind == "begun")
        if kind == "begun":
            assert available < pressure.near_bytes(GIB)
        else:
            assert available >= pressure.end_bytes

"""The leak judge: what is a leak, what is only growth, and when it says so."""

import math
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog.history.entities import Trend
from watchdog.history.ring import LEVELS, MISSING
from watchdog.judge import leak, proven, stage
from watchdog.judge.leak import confidence, verdict
from watchdog.judge.rise import GATES, Growth, growth, measured, rise
from watchdog.judge.stage import Ending, step

MIB = 1024  # KiB
FAR = Ending(1 << 50, "on this machine")


def near(mib):
    return Ending(int(mib * 1024 * 1024), "below the limit of /shop")


def watch(kib_at, seconds, interval=1.0, ending=None, limit_mib=None, start=10.0):
    """Feed a trend as the engine does; the changes with the seconds at which they came."""
    trend = Trend(1000.0, start)
    changes = []
    at = 0.0
    while at <= seconds:
        kib = int(kib_at(at))
        closed = trend.add(1000.0 + at, start + at, kib)
        left = Ending(max(0, limit_mib * MIB - kib) * 1024, "below it") if limit_mib else ending
        change = step(trend, closed, at, left or FAR)
        if change:
            changes.append((at, change))
        at += interval
    return trend, changes


def kinds(changes):
    return [change.kind for _, change in changes]


def test_a_process_that_keeps_appending_is_suspected_then_confirmed():
    trend, changes = watch(lambda s: 12 * MIB + 2 * MIB * s, 200, limit_mib=512)
    assert kinds(changes) == ["leak.suspected", "leak.confirmed"]
    suspected_at, confirmed_at = (at for at, _ in changes)
    assert suspected_at <= 60
    assert 12 + 2 * confirmed_at < 512 / 2
    found = changes[1][1].found
    assert found.growth.rate == pytest.approx(2 * 1024 * 1024, rel=0.1)
    ends = (512 - 12 - 2 * confirmed_at) / 2
    assert found.exhausts_in_low_s <= ends <= found.exhausts_in_high_s
    assert 0 < found.confidence < 1 and all(found.because)
    assert trend.stage == "confirmed"


def test_far_from_any_limit_it_is_at_most_suspected():
    _, changes = watch(lambda s: 12 * MIB + 2 * MIB * s, 128, limit_mib=23 * 1024)
    assert "leak.confirmed" not in kinds(changes)


def test_no_known_limit_is_at_most_suspected():
    _, changes = watch(lambda s: 2 * MIB * s, 128, ending=Ending(None, ""))
    assert kinds(changes) in ([], ["leak.suspected"])


@pytest.mark.parametrize(
    "shape",
    [
        lambda s: 312 * MIB if s > 20 else 12 * MIB,
        lambda s: 12 * MIB + min(s, 20) * 15 * MIB,
        lambda s: 300 * MIB,
        lambda s: 100 * MIB + (s % 20) * 5 * MIB,
        lambda s: 100 * MIB + 60 * MIB * math.sin(s / 30),
        lambda s: 300 * MIB * (1 - math.exp(-s / 40)),
        lambda s: 200 * MIB + random.Random(int(s)).randint(-10, 10) * MIB,
    ],
    ids=["once", "quick start", "flat", "saw", "waves", "warm-up", "noise"],
)
def test_what_is_no_leak_is_not_confirmed(shape):
    _, changes = watch(shape, 900, limit_mib=512)
    assert "leak.confirmed" not in kinds(changes)


def test_one_allocation_of_300_mib_is_silent():
    _, changes = watch(lambda s: 312 * MIB if s > 60 else 12 * MIB, 600, limit_mib=512)
    assert changes == []


def test_a_saw_whose_floor_rises_is_a_leak():
    _, changes = watch(lambda s: 50 * MIB + s * 500 + (s % 25) * MIB, 3600, 5.0, limit_mib=2000)
    assert "leak.confirmed" in kinds(changes)


def test_a_leak_that_begins_late_is_found():
    _, changes = watch(lambda s: 100 * MIB + max(0, s - 1800) * MIB, 2100, limit_mib=512)
    assert kinds(changes) == ["leak.suspected", "leak.confirmed"]
    assert all(at > 1800 for at, _ in changes)


def test_slow_growth_is_advised_once_and_ended_when_it_stops():
    """3 MiB an hour below 60 GiB: no end in sight, and nothing that would ever page."""

    def shape(s):
        return 100 * MIB + 3 * MIB * min(s, 4 * 86400) / 3600

    trend, changes = watch(shape, 9 * 86400, 60.0, limit_mib=60000)
    assert kinds(changes) == ["leak.advisory", "leak.cleared"]
    (at, change), (ended, over) = changes
    assert 86400 <= at < 3 * 86400 and ended > 4 * 86400
    assert change.found.growth.rate == pytest.approx(3 * 1024 * 1024 / 3600, rel=0.1)
    assert change.found.exhausts_in_s > 10**6
    assert over.because == ("it does not grow any more",)
    assert trend.stage == "none" and not trend.advised


def test_slow_growth_that_meets_its_end_is_suspected_after_all():
    trend, changes = watch(lambda s: 100 * MIB + 3 * MIB * s / 3600, 8 * 86400, 60.0, limit_mib=900)
    assert kinds(changes)[-1] == "leak.confirmed" and not trend.advised


def test_giving_half_of_it_back_clears_and_a_new_rise_is_a_new_episode():
    def shape(s):
        return 12 * MIB + 2 * MIB * (s if s < 150 else 0 if s < 600 else s - 600)

    trend, changes = watch(shape, 800, limit_mib=512)
    assert kinds(changes)[:3] == ["leak.suspected", "leak.confirmed", "leak.cleared"]
    assert "gave back" in changes[2][1].because[0]
    assert trend.episode == 2


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (
            70 * MIB,
            r"it gave back [\d.]+ MiB of the [\d.]+ MiB by which it had grown: it was in use",
        ),
        # a unit whose processes were ended and started again holds less than the rise found it with
        (0, r"it gave back all of the [\d.]+ MiB by which it had grown, or began anew"),
    ],
)
def test_nobody_gives_back_more_than_he_had_grown(after, said):
    _, changes = watch(lambda s: after if s > 150 else 12 * MIB + 2 * MIB * s, 300, limit_mib=512)
    assert kinds(changes)[:3] == ["leak.suspected", "leak.confirmed", "leak.cleared"]
    assert re.fullmatch(said, changes[2][1].because[0]), changes[2][1].because[0]


def test_a_rise_that_stops_is_cleared_after_a_rest():
    _, changes = watch(lambda s: 12 * MIB + 2 * MIB * min(s, 130), 600, limit_mib=512)
    assert kinds(changes) == ["leak.suspected", "leak.confirmed", "leak.cleared"]
    assert "not grown" in changes[2][1].because[0]


def test_a_leak_that_stops_is_cleared_soon_and_its_end_is_forgotten_sooner():
    def shape(s):
        return 100 * MIB + min(s, 7200) * 50

    _, changes = watch(shape, 14400, 5.0, limit_mib=700)
    assert kinds(changes)[-1] == "leak.cleared"
    grew = changes[-2][1].found.growth.window_s
    assert changes[-1][0] <= 7200 + max(150, grew)


def test_since_stays_the_same_while_it_lasts():
    trend, _ = watch(lambda s: 12 * MIB + 2 * MIB * s, 200, limit_mib=512)
    assert trend.since_t == pytest.approx(1000.0, abs=10)


def test_a_first_rise_strong_enough_is_confirmed_at_once():
    trend = Trend(0.0, 0.0)
    trend.passes = (99,) * len(LEVELS)
    for second in range(120):
        trend.add(second, second, 2 * MIB * second)
    change = step(trend, [0], 90000.0, near(100))
    assert change.kind == "leak.confirmed"


@pytest.mark.parametrize(
    ("floors", "why"),
    [
        ([1] * 5, "too little seen"),
        ([100000] * 20, "no part of it rises"),
        ([0] * 7 + [50000] * 13, "no rise from third to third"),
        (
            [i * 10 for i in range(10)]
            + [90000 + i * 10 for i in range(10)]
            + [180000 + i * 10 for i in range(10)],
            "one or two steps",
        ),
        (
            [i * 3000 - (60000 if i in (25, 26) else 0) for i in range(30)],
            "third to third|falls back",
        ),
        ([int(90000 * (1 - math.exp(-i / 6))) for i in range(30)], "levels off"),
    ],
)
def test_each_gate_names_its_reason(floors, why):
    import re

    found = growth(range(len(floors), 0, -1), floors, 60, GATES[0])
    assert isinstance(found, str) and re.search(why, found), found


def test_falling_back_while_rising_is_no_leak():
    floors = [i * 4000 + (40000 if i % 5 == 4 else 0) for i in range(30)]
    assert growth(range(30, 0, -1), floors, 60, GATES[0]) == "falls back as it rises"


def test_a_rise_in_disorder_is_no_steady_trend():
    order = random.Random(3)
    floors = [int(1000 * i + order.gauss(0, 9000)) + 200000 for i in range(60)]
    assert isinstance(growth(range(60, 0, -1), floors, 60, GATES[0]), str)


def straight(n=30, bucket_s=60, first=0):
    return growth(range(n, 0, -1), [first + 4000 * i for i in range(n)], bucket_s, GATES[1])


def said(found, left_of_window, **more):
    """What is said of a rise that leaves memory for so many times its window."""
    usual = {
        "age_s": 1e6, "watched_s": 43200.0, "headroom_of": "x", "passes": 9, "agreeing": 2,
        "headroom": int(found.rate * left_of_window * found.window_s),
    }  # fmt: skip
    return verdict(found, GATES[1], **(usual | more))


def test_the_horizon_is_relative_to_the_evidence():
    found = straight()
    assert isinstance(found, Growth)
    assert said(found, 1.4).stage == "confirmed"
    assert said(found, 5.1).stage == "suspected"
    assert said(found, 1.4, passes=1).stage == "suspected"
    assert said(found, 13) == "its end is too far away"
    assert said(found, 1.4, headroom=None).exhausts_in_s is None


def test_the_younger_the_more_must_lie_behind():
    found = straight()
    ages = (600.0, 3600.0, 3 * 3600.0, 12 * 3600.0)
    furthest = [
        max(k / 20 for k in range(1, 80) if said(found, k / 20, age_s=age, watched_s=age).stage
            == "confirmed")
        for age in ages
    ]  # fmt: skip
    assert furthest == sorted(furthest) and furthest[0] < 1.3 < furthest[-1]


def test_who_has_only_doubled_has_a_longer_way_to_go():
    """A cache that fills evenly is mostly of the order of what the program began with."""
    several, doubled = (straight(first=first) for first in (20000, 100000))
    assert several.times > 3.5 and 2 < doubled.times < 2.5
    for watched in (3600.0, 4 * 3600.0, 12 * 3600.0):
        assert leak.least_share(watched, several.times) < leak.least_share(watched, doubled.times)
    assert said(several, 3.1, watched_s=43200.0).stage == "confirmed"
    assert said(doubled, 3.1, watched_s=43200.0).stage == "suspected"


@given(
    st.floats(1, 3e6), st.floats(1, 3e6), st.floats(1, 50), st.floats(1, 50),
)  # fmt: skip
def test_the_larger_it_has_become_and_the_longer_watched_the_less_is_asked(one, two, size, other):
    early, late, small, large = min(one, two), max(one, two), min(size, other), max(size, other)
    assert leak.least_share(late, large) <= leak.least_share(late, small)
    if early > 3600:
        assert leak.least_share(late, small) <= leak.least_share(early, small) + 1e-9
    assert 0.18 - 1e-9 <= leak.least_share(late, small) <= 0.5 + 1e-9


def every_slope(ages, floors):
    pairs = [(i, j) for j in range(len(floors)) for i in range(j)]
    return sorted((floors[j] - floors[i]) / (ages[i] - ages[j]) for i, j in pairs)


@settings(max_examples=200)
@given(st.lists(st.integers(-2000, 30000), min_size=20, max_size=96), st.sets(st.integers(1, 95)))
def test_a_rise_is_found_without_its_rates_as_with_them(steps, gaps):
    """The counts of pairs decide what all slopes in order would; the bound is one."""
    floors = [100000 + max(0, sum(steps[: i + 1])) for i in range(len(steps))]
    ages = [age for age in range(len(floors) + len(gaps), 0, -1) if age not in gaps][: len(floors)]
    floors = floors[: len(ages)]
    found = rise(ages, floors, 60, GATES[1])
    slopes = every_slope(ages, floors)
    if isinstance(found, str):
        return
    half = len(floors) // 2
    of_late = every_slope(ages[half:], floors[half:])
    rates = measured(found)
    middle = min(slopes[len(slopes) // 2], of_late[len(of_late) // 2])
    assert rates.rate == pytest.approx(middle * 1024 / 60) and rates.rate_low > 0
    rises, falls = sum(one > 0 for one in slopes), sum(one < 0 for one in slopes)
    assert found.tau == (rises - falls) / len(slopes)
    for headroom in (0, 1 << 24, 1 << 30, 1 << 34, 1 << 40):
        ends = headroom / rates.rate
        share = rates.window_s / (rates.window_s + ends)
        assert leak.may_end(found, headroom) or share < leak.SUSPECT_SHARE


def a_walk(steps, interval):
    """A trend after these steps (MiB), each for some samples, and the levels that closed last."""
    trend, kib, at = Trend(0.0, 0.0), 60 * MIB, 0.0
    for step_mib, samples in steps:
        for _ in range(samples):
            kib = max(MIB, kib + step_mib * MIB)
            at += interval
            closed = trend.add(at, at, kib)
            if closed:
                yield trend, closed


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-3, 4), st.integers(1, 30)), min_size=4, max_size=20),
    st.sampled_from((5.0, 10.0, 60.0, 400.0)),
)
def test_the_cheap_gates_pass_over_nothing_that_rises(steps, interval):
    for trend, closed in a_walk(steps, interval):
        rises = stage.look(trend, closed)
        for index in closed:
            ring = trend.rings[index]
            far = ring is not None and trend.kib - ring.floor_of_all() >= GATES[index].least_kib
            assert (index in rises) == (far and not isinstance(stage.rising(trend, index), str))
            older = [
                kib
                for level, one in list(zip(LEVELS, trend.rings, strict=True))[index:]
                if one is not None
                for kib in one.values[: max(0, len(one.values) - math.ceil(900 / level.bucket_s))]
                if kib != MISSING
            ]
            assert stage.known_top(trend, index, 900.0) == max(older, default=0)


def test_confidence_follows_the_evidence():
    found = straight()
    sure = [confidence(found, share / 10, 43200.0, 1) for share in range(1, 10)]
    assert sure == sorted(sure) and 0.05 <= sure[0] < sure[-1] <= 0.97
    usual = confidence(found, 0.3, 43200.0, 1)
    assert confidence(found._replace(bend=0.6), 0.3, 43200.0, 1) < usual
    assert confidence(found._replace(fresh=0.5), 0.3, 43200.0, 1) < usual
    assert confidence(found._replace(jump=0.6), 0.3, 43200.0, 1) < usual
    assert confidence(found, 0.3, 43200.0, 2) > usual
    assert confidence(found, 0.0, 43200.0, 0) < 0.5


def test_a_suspicion_is_never_surer_than_a_confirmation():
    assert said(straight(), 1.4, passes=1).confidence < said(straight(), 1.4).confidence


@pytest.mark.parametrize(
    ("floors", "how"),
    [
        ([4000 * i for i in range(30)], "steadily"),
        ([3000 * i + 120 * i * i for i in range(30)], "faster and faster"),
        ([60000 * (i // 6) + 10 * i for i in range(30)], "in steps"),
        ([4000 * i - (22000 if i % 5 == 4 else 0) for i in range(30)], "each fall ends higher"),
    ],
)
def test_the_manner_of_a_rise_is_named(floors, how):
    found = growth(range(30, 0, -1), floors, 60, GATES[1])
    assert isinstance(found, Growth), found
    because = said(found, 1.0).because
    assert how in because[1] and "of 10 spans" in because[0]


def test_a_wave_that_comes_back_is_no_leak_the_second_time():
    """Up for six hours, down again, each day: named once at the most, and never from then on."""

    def shape(s):
        hour = s / 3600 % 24
        return 500 * MIB + 2000 * MIB * max(0, min(hour / 6, 1, (14 - hour) / 6))

    _, changes = watch(shape, 4 * 86400, 60.0, limit_mib=4096)
    assert all(at < 86400 for at, change in changes if change.kind == "leak.confirmed")


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 400), min_size=60, max_size=240),
    st.integers(0, 10**6),
    st.integers(20, 4000),
)
def test_a_shift_of_time_changes_nothing(values, shift, limit):
    steady = [sum(values[: i + 1]) * 100 for i in range(len(values))]

    def run(start):
        def at(s):
            return steady[min(int(s) // 2, len(steady) - 1)]

        return [
            (when, change.kind, change.because)
            for when, change in watch(at, len(values) * 2, 2.0, limit_mib=limit, start=start)[1]
        ]

    assert run(7200.0) == run(7200.0 + shift * 7200.0)


@given(st.integers(0, 400), st.integers(100, 500))
def test_flat_memory_is_never_a_leak(noise, base):
    order = random.Random(noise)
    _, changes = watch(lambda s: base * MIB + order.randint(0, noise), 700, 5.0, limit_mib=base + 1)
    assert changes == []


def test_a_plateau_is_proven_and_a_straight_line_is_not():
    flat, line = Trend(0.0, 0.0), Trend(0.0, 0.0)
    for second in range(0, 1500, 10):
        proven.prove(flat, flat.add(second, second, 100 * MIB), healthy=True)
        proven.prove(line, line.add(second, second, 100 * second), healthy=True)
    assert flat.proven_kib == 100 * MIB
    assert line.proven_kib == 0
    assert proven.excess_bytes(flat.proven_kib, 100 * MIB) == 0
    assert proven.excess_bytes(100, 205) == 100 * 1024


@pytest.mark.parametrize(("healthy", "mood"), [(False, "none"), (True, "suspected")])
def test_nothing_is_proven_under_pressure_or_suspicion(healthy, mood):
    trend = Trend(0.0, 0.0)
    trend.stage = mood
    for second in range(0, 1500, 10):
        proven.prove(trend, trend.add(second, second, 100 * MIB), healthy=healthy)
    assert trend.proven_kib == 0


def test_recent_rate_needs_two_buckets():
    trend = Trend(0.0, 0.0)
    assert trend.recent_rate() is None
    trend.add(0, 0, 0)
    assert trend.recent_rate() is None
    for second in range(0, 31, 5):
        trend.add(second, second, second * 100)
    assert trend.recent_rate() == pytest.approx(100 * 1024)


def test_rising_says_too_little_without_a_ring():
    assert stage.rising(Trend(0.0, 0.0), 0) == "too little seen"

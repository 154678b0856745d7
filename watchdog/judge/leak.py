"""Pure: is this rise a leak? How fast, how sure, and when does it end?

The horizon decides more than any test of trend: of the way from where the rise was first seen to
where memory ends, which share lies behind us? A long extrapolation needs long evidence. What the
share is worth is weighed with the rise's shape by a logistic function, whose value is the
confidence.
"""

import math
from bisect import bisect_right
from operator import mul
from typing import NamedTuple

from watchdog import words
from watchdog.judge.rise import Gate, Growth, Rise

# The least share of the way to the end that must lie behind: (seconds that we have watched, share
# of who has become several times as large, of who has about doubled), between them in proportion
# to logarithms. A start and its caches fill memory for minutes to hours, a daily load climbs for a
# day; both are mostly of the order of what was there before. A rise of two days is neither.
LEAST = (
    (1200.0, 0.45, 0.45),
    (3600.0, 0.40, 0.50),
    (28800.0, 0.18, 0.50),
    (86400.0, 0.18, 0.25),
    (172800.0, 0.18, 0.18),
)
SEVERAL_TIMES, ABOUT_DOUBLED = 3.5, 2.5
LONG_S, LEAST_SHARE_LONG = 2 * 86400.0, 0.15
CONFIRM_AT = 0.82
# Of the confidence, by `evidence`; `./dev bench leaks --fit` works them out again.
WEIGHTS = (6.02, 1.50, 0.37, -3.96, -0.95, -1.17, -5.17, 0.90, -0.80, -0.87, -1.19)
# A suspicion costs one line.
SUSPECT_SHARE, SUSPECT_SHARE_LONG = 0.08, 0.04
# Of what never comes near an end.
SLOW_S, SLOW_PASSES = 86400.0, 3
# The point estimate held within these factors in 80 % of the leaks of bench/leaks; Sen's own
# interval only in half, so the wider of the two is told.
ENDS_LOW, ENDS_HIGH = 0.6, 1.3


class Verdict(NamedTuple):
    """What is said of one entity at one level; ``because`` is never empty where that is news.

    The times to exhaustion are seconds from now, None where nothing is known to end.
    """

    stage: str  # "suspected" | "confirmed" | "advisory"
    growth: Growth
    confidence: float
    exhausts_in_s: float | None
    exhausts_in_low_s: float | None
    exhausts_in_high_s: float | None
    because: tuple[str, ...]


def may_end(found: Rise, headroom: int | None) -> bool:
    """Whether any of its rates could bring it near enough to an end to be suspected.

    Half of the slopes are no less than the median m. One over d buckets stays within the span, so
    that m d is at most that; and as at most n - 1 pairs lie d apart, some d of that half is n / 4
    or more: m is at most four spans in n buckets. Nor is any slope steeper than the steepest step.
    """
    if headroom is None:
        return True
    fastest = min(4.01 * found.span_kib / len(found.floors), 1.01 * found.steepest_kib)
    ends = headroom * found.bucket_s / (fastest * 1024)
    long = found.window_s >= LONG_S
    least = SUSPECT_SHARE_LONG if long else SUSPECT_SHARE
    return found.window_s / (found.window_s + ends) >= least


def may_be_slow(found: Rise, passes: int) -> bool:
    """Whether it is long, even and new enough to be advised (see `advisory`)."""
    return (
        found.window_s >= SLOW_S and passes >= SLOW_PASSES
        and found.tau >= 0.75 and 0.7 <= found.bend <= 2 and found.fresh >= 0.7
    )  # fmt: skip


def verdict(
    found: Growth,
    gate: Gate,
    *,
    age_s: float,
    watched_s: float,
    headroom: int | None,
    headroom_of: str,
    passes: int,
    agreeing: int,
    standing: str = "none",
) -> Verdict | str:
    """Hold a rise against the memory that is left.

    `headroom` is in bytes, None where no limit is known; `headroom_of` says whose it is.
    `watched_s` is how long we have seen the entity, `age_s` how long it has lived. `passes` counts
    the windows in a row that rose, this one included, `agreeing` the other levels that rise. A str
    is why nothing is said. What changes nothing in the stage where it is `standing` has no reasons.
    """
    ends = None if headroom is None else max(0.0, headroom / found.rate)
    share = 0.0 if ends is None else found.window_s / (found.window_s + ends)
    long = found.window_s >= LONG_S
    if ends is not None and share < (SUSPECT_SHARE_LONG if long else SUSPECT_SHARE):
        return "its end is too far away"
    least = LEAST_SHARE_LONG if long else least_share(watched_s, found.times)
    sure = confidence(found, share, watched_s, agreeing)
    confirmed = (
        sure >= CONFIRM_AT and share >= least
        and passes >= gate.passes and found.buckets >= gate.confirm_n
    )  # fmt: skip
    if not confirmed:
        # What is only suspected is never told surer than what is confirmed.
        sure = min(sure, CONFIRM_AT - 0.01)
    stage = "confirmed" if confirmed else "suspected"
    because: tuple[str, ...] = ()
    if standing not in ("confirmed", stage):
        because = _because(found, ends, headroom, headroom_of, age_s, agreeing)
    return _verdict(stage, found, sure, headroom, because)


def least_share(watched_s: float, times: float) -> float:
    """What is asked after so long of who has become so many times as large (see LEAST)."""
    after = bisect_right(LEAST, (watched_s,))
    begins, large, small = LEAST[max(0, after - 1)]
    until, larger, smaller = LEAST[min(after, len(LEAST) - 1)]
    if begins < watched_s <= until:
        part = math.log(watched_s / begins) / math.log(until / begins)
        large, small = large + part * (larger - large), small + part * (smaller - small)
    grown = math.log(max(1.0, times / ABOUT_DOUBLED)) / math.log(SEVERAL_TIMES / ABOUT_DOUBLED)
    return small + min(1.0, grown) * (large - small)


def advisory(found: Growth, *, age_s: float, headroom: int | None, headroom_of: str) -> Verdict:
    """Slow and steady growth whose end is too far away for a suspicion; it never pages.

    A day and more of it, in a nearly straight line, at heights that are new (`may_be_slow`).
    """
    ends = None if headroom is None else max(0.0, headroom / found.rate)
    because = _because(found, ends, headroom, headroom_of, age_s, 0)
    return _verdict("advisory", found, 0.5, headroom, because)


def _verdict(
    stage: str, found: Growth, sure: float, headroom: int | None, because: tuple[str, ...]
) -> Verdict:
    ends = low = high = None
    if headroom is not None:
        ends = max(0.0, headroom / found.rate)
        low = min(ENDS_LOW * ends, headroom / found.rate_high)
        high = max(ENDS_HIGH * ends, headroom / found.rate_low)
    return Verdict(stage, found, round(sure, 2), ends, low, high, because)


def _because(
    found: Growth, ends: float | None, headroom: int | None, headroom_of: str,
    age_s: float, agreeing: int,
) -> tuple[str, ...]:  # fmt: skip
    because = [_rose(found), f"its floor over {words.duration(found.bucket_s)} {_manner(found)}"]
    if ends is None:
        because.append("no limit is known that it would reach")
    else:
        because.append(
            f"{words.size(headroom or 0)} left {headroom_of}: at this rate for "
            f"{words.duration(max(ends, 1))}"
        )
    if agreeing:
        because.append(f"{words.count(agreeing, 'other window')} of another length agree")
    if age_s < 86400:
        because.append(f"it is only {words.duration(max(age_s, 1))} old")
    return tuple(because)


def confidence(found: Growth, share: float, watched_s: float, agreeing: int) -> float:
    """How likely a rise is a leak, 0.05..0.97, where three of five that are watched do leak.

    Logistic regression over the kinds of bench/leaks that judges are tuned on (bench/leaks/fit.py):
    at each share of the way to the end the first window that shows it, of leaks and of benign
    growth. What speaks against a leak most is a rise that slows down, and heights that were reached
    before.
    """
    if share <= 0:
        return 0.3
    odds = sum(map(mul, WEIGHTS, evidence(found, share, watched_s, agreeing)))
    return max(0.05, min(0.97, 1 / (1 + math.exp(-odds))))


def evidence(found: Growth, share: float, watched_s: float, agreeing: int) -> tuple[float, ...]:
    """What the confidence weighs, in the order of WEIGHTS."""
    return (
        1.0,
        math.log(share / max(1e-6, 1 - share)),
        math.log(found.window_s / 3600),
        max(0.0, 1 - found.bend),
        max(0.0, min(found.bend, 2.5) - 1.2),
        min(1.0, found.jump),
        1 - min(1.0, found.fresh),
        min(2, agreeing),
        min(5.0, math.log1p(watched_s / 3600)),
        min(3.0, (found.rate_high - found.rate_low) / found.rate),
        min(1.0, found.window_s / max(1.0, watched_s)),
    )


def _rose(found: Growth) -> str:
    span = words.duration(found.window_s / 10)
    return (
        f"rose by {words.size(found.rise_kib * 1024)} in {words.duration(found.window_s)}, in "
        f"{found.rose} of 10 spans of {span}, with no plateau"
    )


def _manner(found: Growth) -> str:
    """How it rises: a saw, a staircase, ever faster, or evenly."""
    grows = f"grows {words.rate(found.rate)}"
    if found.fallen >= 0.12:
        return f"{grows}, and each fall ends higher than the one before"
    if found.jump >= 0.4:
        return f"{grows}, in steps"
    if found.bend >= 1.6:
        return f"{grows}, faster and faster"
    return f"{grows}, steadily (tau {found.tau:.2f})"

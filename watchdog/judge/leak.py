"""Pure: is this growth a leak? How fast, how sure, and when does it end?

The judge sees only floors (bucket minima) and their ages. Gates run cheapest first and the first
that fails ends the matter; the robust statistics (Mann-Kendall's tau and the Theil-Sen slope, both
from one pass over all pairs) are only for what is left. Then the horizon, which decides more than
any test of trend: a rise counts only if memory would end within K times the time in which it was
seen, so that a long extrapolation needs long evidence.

Sources: H. B. Mann 1945 and M. G. Kendall 1955 (tau, variance); P. K. Sen 1968 (slope).
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from watchdog import words

KIB = 1024


class Gate(NamedTuple):
    """What one level asks for before it speaks.

    ``suspect_n`` and ``confirm_n`` are closed buckets, ``passes`` how many windows in a row must
    rise to confirm, ``least_kib`` and ``least_share`` the smallest rise worth a word, ``horizon``
    and ``horizon_young`` (entity younger than a day) the K of the module's text.
    """

    suspect_n: int
    confirm_n: int
    passes: int
    least_kib: int
    least_share: float
    horizon: float
    horizon_young: float


# By level of history.ring.LEVELS. A first day's ramp cannot be told from the climb of a daily
# load, so it needs nearer an end. Warm-ups and cache fills live in the first two levels.
GATES = (
    Gate(8, 16, 6, 16 * KIB, 0.05, 4.0, 3.0),
    Gate(20, 30, 5, 24 * KIB, 0.05, 4.0, 3.0),
    Gate(30, 36, 3, 16 * KIB, 0.04, 8.0, 3.0),
    Gate(28, 32, 2, 16 * KIB, 0.03, 10.0, 6.0),
    Gate(30, 36, 1, 16 * KIB, 0.03, 12.0, 12.0),
)
# A suspicion costs one line, so it may look this much farther ahead than a confirmation.
SUSPECT_FURTHER = 5.0
LEVELS_OFF = "levels off"


class Growth(NamedTuple):
    """A rise that passed every gate but the horizon. Rates in bytes a second."""

    rate: float
    rate_low: float
    rate_high: float
    rise_kib: int
    window_s: float
    tau: float
    buckets: int
    bucket_s: int


class Verdict(NamedTuple):
    """What is said of one entity at one level; ``because`` is never empty.

    The times to exhaustion are seconds from now, None where nothing is known to end.
    """

    stage: str  # "suspected" | "confirmed"
    growth: Growth
    confidence: float
    exhausts_in_s: float | None
    exhausts_in_low_s: float | None
    exhausts_in_high_s: float | None
    because: tuple[str, ...]


def growth(ages: Sequence[int], floors: Sequence[int], bucket_s: int, gate: Gate) -> Growth | str:
    """The rise in these floors (KiB, oldest first), or in a few words why it is none."""
    n = len(floors)
    if n < gate.suspect_n:
        return "too little seen"
    sixth = n // 6
    third = n // 3
    rise = _median(floors[-sixth:]) - _median(floors[:sixth])
    if rise < max(gate.least_kib, gate.least_share * _median(floors)):
        return "no rise to speak of"
    # Cheap and deadly: each third's floor must lie above the one before.
    low, middle, high = min(floors[:third]), min(floors[third:-third]), min(floors[-third:])
    if not low < middle < high:
        return "no rise from third to third"
    steps = sorted((b - a for a, b in itertools.pairwise(floors)), reverse=True)
    if (floors[-1] - floors[0]) - steps[0] - steps[1] < 0.3 * rise:
        return "one or two steps, level between"
    if _drawdown(floors) > 0.35 * rise:
        return "falls back as it rises"
    q = [_median(part) for part in _split(floors, 6)]
    early, late = q[2] - q[0], q[5] - q[3]
    # Warm-ups and filling caches slow down; a leak's last part rises like its first.
    if q[5] - q[4] < 0.3 * rise / 5 or late < max(0.5 * early, 0.6 * rise / 5):
        return LEVELS_OFF
    if min(early, q[4] - q[2]) < 0.6 * rise / 5:
        return "rises only of late"
    tau, slopes = _pairs(ages, floors)
    if tau < 0.55:
        return "no steady trend"
    kib_to_rate = 1024 / bucket_s
    middle_slope = slopes[len(slopes) // 2]
    half = n // 2
    of_late = _pairs(ages[half:], floors[half:])[1]
    slope = min(middle_slope, of_late[len(of_late) // 2])
    spread = _sen_spread(n)
    lowest = slopes[max(0, int((len(slopes) - spread) / 2))]
    highest = slopes[min(len(slopes) - 1, int((len(slopes) + spread) / 2))]
    if slope <= 0 or lowest <= 0:
        return "no steady trend"
    return Growth(
        rate=slope * kib_to_rate,
        rate_low=min(lowest, slope) * kib_to_rate,
        rate_high=max(highest, slope) * kib_to_rate,
        rise_kib=int(rise),
        window_s=float((ages[0] - ages[-1] + 1) * bucket_s),
        tau=tau,
        buckets=n,
        bucket_s=bucket_s,
    )


def verdict(
    found: Growth,
    gate: Gate,
    *,
    age_s: float,
    headroom: int | None,
    headroom_of: str,
    passes: int,
    agreeing: int,
) -> Verdict | str:
    """Hold a rise against the memory that is left.

    `headroom` is in bytes, None where no limit is known; `headroom_of` says whose it is. `passes`
    counts the windows in a row that rose, this one included, `agreeing` the other levels that
    rise. A str is why nothing is said.
    """
    young = age_s < 86400
    horizon = (gate.horizon_young if young else gate.horizon) * found.window_s
    ends = None if headroom is None else max(0.0, headroom / found.rate)
    if ends is not None and ends > horizon * SUSPECT_FURTHER:
        return "would end only in " + words.duration(ends)
    confirmed = (
        ends is not None and ends <= horizon and passes >= gate.passes
        and found.buckets >= gate.confirm_n
    )  # fmt: skip
    because = [
        f"rose by {words.size(found.rise_kib * 1024)} in {words.duration(found.window_s)}, "
        f"steadily (tau {found.tau:.2f}), with no plateau",
        f"its floor over {words.duration(found.bucket_s)} grows {words.rate(found.rate)}",
    ]
    if ends is None:
        because.append("no limit is known that it would reach")
    else:
        because.append(
            f"{words.size(headroom or 0)} left {headroom_of}: at this rate for "
            f"{words.duration(max(ends, 1))}"
        )
    if agreeing:
        because.append(f"{words.count(agreeing, 'other window')} of another length agree")
    if young:
        because.append(f"it is only {words.duration(max(age_s, 1))} old")
    low = high = None
    if ends is not None:
        # The point estimate held within x0.5 to x1.5 in 80 % of synthetic leaks; Sen's own
        # interval only in half, so the wider of the two is told.
        low = min(0.5 * ends, (headroom or 0) / found.rate_high)
        high = max(1.5 * ends, (headroom or 0) / found.rate_low)
    return Verdict(
        "confirmed" if confirmed else "suspected",
        found,
        _confidence(found, confirmed, young, passes / gate.passes, agreeing, ends, horizon),
        ends,
        low,
        high,
        tuple(because),
    )


def _confidence(
    found: Growth,
    confirmed: bool,
    young: bool,
    passed: float,
    agreeing: int,
    ends: float | None,
    horizon: float,
) -> float:
    """0..1. Start values, from the order in which the features told leaks from growth."""
    sure = 0.3 + 0.15 * min(1.0, passed) + 0.1 * min(2, agreeing) + 0.25 * (found.tau - 0.55) / 0.45
    if ends is not None and ends <= horizon:
        sure += 0.1
    if confirmed:
        sure += 0.15
    if young:
        sure -= 0.05
    return round(max(0.05, min(0.97, sure)), 2)


def _median(values: Sequence[int]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    if not ordered:
        return 0.0
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _split(values: Sequence[int], parts: int) -> list[Sequence[int]]:
    edges = [len(values) * i // parts for i in range(parts + 1)]
    return [values[a:b] for a, b in itertools.pairwise(edges)]


def _drawdown(values: Sequence[int]) -> int:
    top = deepest = 0
    for value in values:
        top = max(top, value)
        deepest = max(deepest, top - value)
    return deepest


def _pairs(ages: Sequence[int], values: Sequence[int]) -> tuple[float, list[float]]:
    """(Kendall's tau, all pairwise slopes in order) in KiB a bucket; O(n^2), n <= 96."""
    slopes = []
    score = 0
    for i, (age, value) in enumerate(zip(ages, values, strict=True)):
        for j in range(i):
            rise = value - values[j]
            score += (rise > 0) - (rise < 0)
            slopes.append(rise / (ages[j] - age))
    slopes.sort()
    return score / max(1, len(slopes)), slopes


def _sen_spread(n: int) -> float:
    """Width, in ranks of the pairwise slopes, of Sen's 95 % interval (no ties)."""
    return float(1.96 * (n * (n - 1) * (2 * n + 5) / 18) ** 0.5)

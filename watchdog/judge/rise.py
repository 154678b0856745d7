"""Pure: do these floors rise, and how?

Seen are only floors (bucket minima) and their ages. Gates run cheapest first and the first that
fails ends the matter; the robust statistics (Mann-Kendall's tau, then the Theil-Sen slope of all
pairs) are only for what is left. Whether a rise is a leak is for `judge.leak` to say.

Sources: H. B. Mann 1945 and M. G. Kendall 1955 (tau, variance); P. K. Sen 1968 (slope).
"""

import functools
import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from operator import sub, truediv
from typing import NamedTuple

KIB = 1024


class Gate(NamedTuple):
    """What one level asks for before it speaks.

    ``suspect_n`` and ``confirm_n`` are closed buckets, ``passes`` how many windows in a row must
    rise to confirm, ``least_kib`` and ``least_share`` the smallest rise worth a word.
    """

    suspect_n: int
    confirm_n: int
    passes: int
    least_kib: int
    least_share: float


# By level of history.ring.LEVELS.
GATES = (
    Gate(8, 16, 6, 16 * KIB, 0.05),
    Gate(20, 30, 5, 24 * KIB, 0.05),
    Gate(30, 36, 3, 16 * KIB, 0.04),
    Gate(14, 18, 3, 16 * KIB, 0.03),
    Gate(30, 36, 1, 16 * KIB, 0.03),
)
LEVELS_OFF = "levels off"
NO_RISE = "no rise to speak of"
LEVEL = "no part of it rises"
FALLS_BACK = "falls back as it rises"
FALLEN_MOST = 0.35  # the deepest fall, as a part of the rise


class Rise(NamedTuple):
    """A rise that passed every gate but the horizon, before its rates are known (see Growth).

    ``span_kib`` lies between the lowest and the highest floor, ``steepest_kib`` is the largest rise
    from one to the next.
    """

    ages: Sequence[int]
    floors: Sequence[int]
    span_kib: int
    steepest_kib: int
    rise_kib: int
    window_s: float
    tau: float
    bucket_s: int
    bend: float
    jump: float
    fallen: float
    times: float
    fresh: float = 1.0


class Growth(NamedTuple):
    """A rise that passed every gate but the horizon. Rates in bytes a second.

    ``bend`` is how fast its last part rises, as a multiple of the first; ``jump`` the part of the
    rise that its two largest steps make; ``rose`` in how many of ten equal spans it rose;
    ``fallen`` the deepest fall as a part of the rise; ``times`` how many times as large it is now;
    ``fresh`` the part of the rise that lies higher than anything remembered from before.
    """

    rate: float
    rate_low: float
    rate_high: float
    rise_kib: int
    window_s: float
    tau: float
    buckets: int
    bucket_s: int
    bend: float
    jump: float
    rose: int
    fallen: float
    times: float
    fresh: float = 1.0


def growth(ages: Sequence[int], floors: Sequence[int], bucket_s: int, gate: Gate) -> Growth | str:
    """The rise in these floors (KiB, oldest first), or in a few words why it is none."""
    found = rise(ages, floors, bucket_s, gate)
    return found if isinstance(found, str) else measured(found)


def rise(ages: Sequence[int], floors: Sequence[int], bucket_s: int, gate: Gate) -> Rise | str:
    """The same without its rates, which cost ten times as much as all the rest."""
    n = len(floors)
    if n < gate.suspect_n:
        return "too little seen"
    lowest, highest = min(floors), max(floors)
    span = highest - lowest
    if span < gate.least_kib or span < gate.least_share * lowest:
        return LEVEL
    # Implied by the fall that is allowed below, as what it rose by is no more than that.
    if highest - floors[-1] > (FALLEN_MOST + 0.01) * span:
        return FALLS_BACK
    third = n // 3
    # Cheap and deadly: each third's floor must lie above the one before.
    middle, low = min(floors[third:-third]), lowest
    if middle == lowest or min(floors[-third:]) <= middle:
        return "no rise from third to third"
    ordered = sorted(floors)
    even = ordered == floors  # then each part of it is in order as well
    sixths, ends, half = _parts(n)
    q = _medians(floors, sixths, even)
    first, last = _medians(floors, ends, even) if ends else (q[0], q[5])
    risen = last - first
    if risen < gate.least_kib or (
        risen < gate.least_share * highest
        and risen < gate.least_share * ((ordered[half[2]] + ordered[half[3]]) / 2)
    ):
        return NO_RISE
    steps = list(map(sub, floors[1:], floors))
    straight = even and min(steps) > 0
    steepest = max(steps)
    steps.remove(steepest)
    jumps = steepest + max(steps)
    if (floors[-1] - floors[0]) - jumps < 0.3 * risen:
        return "one or two steps, level between"
    fallen = 0.0
    if not even:
        fallen = max(map(sub, itertools.accumulate(floors, max), floors)) / risen
        if fallen > FALLEN_MOST:
            return FALLS_BACK
    early, late = q[2] - q[0], q[5] - q[3]
    # Warm-ups and filling caches slow down; a leak's last part rises like its first.
    if q[5] - q[4] < 0.3 * risen / 5 or late < max(0.5 * early, 0.6 * risen / 5):
        return LEVELS_OFF
    if min(early, q[4] - q[2]) < 0.6 * risen / 5:
        return "rises only of late"
    tau = 1.0 if straight else _tau(floors)
    if tau is None:
        return "no steady trend"
    return Rise(
        ages=ages,
        floors=floors,
        span_kib=span,
        steepest_kib=steepest,
        rise_kib=int(risen),
        window_s=float((ages[0] - ages[-1] + 1) * bucket_s),
        tau=tau,
        bucket_s=bucket_s,
        bend=min(9.0, late / early),
        jump=jumps / risen,
        fallen=fallen,
        times=floors[-1] / max(1, low),
    )


def measured(found: Rise) -> Growth:
    """With its rates: O(n^2), n <= 96."""
    rate, low, high = _rates(found)
    floors = found.floors
    return Growth(
        rate=rate,
        rate_low=low,
        rate_high=high,
        rise_kib=found.rise_kib,
        window_s=found.window_s,
        tau=found.tau,
        buckets=len(floors),
        bucket_s=found.bucket_s,
        bend=found.bend,
        jump=found.jump,
        rose=10 if found.tau == 1 and len(floors) >= 11 else _rose(floors),
        fallen=found.fallen,
        times=found.times,
        fresh=found.fresh,
    )


def _rates(found: Rise) -> tuple[float, float, float]:
    """The slope and the bounds of Sen's interval, in bytes a second."""
    ages, floors, n = found.ages, found.floors, len(found.floors)
    of_late: list[float] = []
    slopes: list[float] = []
    half, even = n // 2, ages[0] - ages[-1] == n - 1
    for lag in range(1, n):
        apart = itertools.repeat(lag) if even else map(sub, ages, ages[lag:])
        slopes += map(truediv, map(sub, floors[lag:], floors), apart)
        if lag < n - half:
            of_late += slopes[half + lag - n :]
    slopes.sort()
    of_late.sort()
    slope = min(slopes[len(slopes) // 2], of_late[len(of_late) // 2])
    spread = _sen_spread(n)
    lowest = slopes[max(0, int((len(slopes) - spread) / 2))]
    highest = slopes[min(len(slopes) - 1, int((len(slopes) + spread) / 2))]
    kib_to_rate = 1024 / found.bucket_s
    return slope * kib_to_rate, min(lowest, slope) * kib_to_rate, max(highest, slope) * kib_to_rate


def _rose(floors: Sequence[int]) -> int:
    return sum(b > a for a, b in itertools.pairwise(map(_median, _split(floors, 11))))


def _median(values: Sequence[int]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    if not ordered:
        return 0.0
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


# A part of some floors: where it begins and ends, and which two are its median where it is sorted.
_Part = tuple[int, int, int, int]


@functools.cache
def _parts(n: int) -> tuple[tuple[_Part, ...], tuple[_Part, ...], _Part]:
    """Of n floors: the sixths, first and last of them where these are not as long, and all."""
    edges = [n * i // 6 for i in range(7)]
    sixths = tuple(map(_part, edges, edges[1:]))
    ends = (_part(0, n // 6), _part(n - n // 6, n)) if n % 6 else ()
    return sixths, ends, _part(0, n)


def _part(a: int, b: int) -> _Part:
    return a, b, (a + b - 1) // 2, (a + b) // 2


def _medians(floors: Sequence[int], parts: Iterable[_Part], even: bool) -> list[float]:
    if even:
        return [(floors[i] + floors[j]) / 2 for _, _, i, j in parts]
    return [_median(floors[a:b]) for a, b, _, _ in parts]


def _split(values: Sequence[int], parts: int) -> list[Sequence[int]]:
    edges = [len(values) * i // parts for i in range(parts + 1)]
    return [values[a:b] for a, b in itertools.pairwise(edges)]


def _tau(floors: Sequence[int]) -> float | None:
    """Kendall's tau; None where it shows no trend, or where the slopes above nothing are so few
    that Sen's lower bound is not, or the median of the last half."""
    n = len(floors)
    pairs, half = n * (n - 1) // 2, n // 2
    rises, falls = _order(floors)
    tau = (rises - falls) / max(1, pairs)
    if tau < 0.55 or pairs - rises > max(0, int((pairs - _sen_spread(n)) / 2)):
        return None
    of_late = (n - half) * (n - half - 1) // 2
    if pairs - rises > of_late // 2 and of_late - _order(floors[half:])[0] > of_late // 2:
        return None
    return tau


def _order(values: Sequence[int]) -> tuple[int, int]:
    """How many pairs rise and how many fall: all that Kendall's tau needs."""
    ordered: list[int] = []
    rises = falls = 0
    for count, value in enumerate(values):
        at = bisect_left(ordered, value)
        rises += at
        if at < count:
            falls += count - bisect_right(ordered, value, at)
            ordered.insert(at, value)
        else:
            ordered.append(value)
    return rises, falls


def _sen_spread(n: int) -> float:
    """Width, in ranks of the pairwise slopes, of Sen's 95 % interval (no ties)."""
    return float(1.96 * (n * (n - 1) * (2 * n + 5) / 18) ** 0.5)

"""The detectors that others run or have published, each as its source has it, online.

Every one sees the same samples and the same limit as our judge, at each evaluation only what came
before it. Where a source leaves a setting open it stands here, with its reason. An alarm episode
begins when a condition has held for its `for`, and ends after an hour without it.

Sources: Prometheus' `predict_linear` and `deriv` (least squares over the samples of a range; four
hours ahead, and for the six-hour range also a day ahead as many published rules have it, for 15
minutes; not in the first hour, as the careful rules have it); Coroot (memory auditor, 2026); the
Mann-Kendall test with Sen's slope (Mann 1945, Sen 1968) and with the variance of Hamed and Rao
(1998); linear backward regression and Precog (J. Li et al. 2021, and the authors' code).
"""

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from bench.leaks.series import Series

HOUR_S = 3600.0
AGAIN_S = 3600.0  # an episode is over after so long without its condition
Episodes = list[float]


def episodes(truths: Sequence[tuple[float, bool]], hold_s: float) -> Episodes:
    """When each episode begins; `truths` are (time, does the condition hold)."""
    out: Episodes = []
    since: float | None = None
    last_true = -math.inf
    firing = False
    for t, holds in truths:
        if holds:
            since = t if since is None else since
            last_true = t
            if not firing and t - since >= hold_s:
                firing = True
                out.append(t)
        else:
            since = None
            if firing and t - last_true >= AGAIN_S:
                firing = False
    return out


class Seen:
    """The samples with prefix sums, so that a regression over any range costs little."""

    def __init__(self, series: Series, limit_factor: float) -> None:
        self.series = series
        self.limit_factor = limit_factor
        self.h = [t / HOUR_S for t in series.t]
        self.y = series.mib
        mean = self.y[0]
        self.mean = mean
        centred = [value - mean for value in self.y]
        add = itertools.accumulate
        self.s1 = [0.0, *add(self.h)]
        self.sy = [0.0, *add(centred)]
        self.shh = [0.0, *add(h * h for h in self.h)]
        self.shy = [0.0, *add(h * y for h, y in zip(self.h, centred, strict=True))]

    def limit(self, h: float) -> float:
        return self.series.limit_at(h * HOUR_S) * self.limit_factor

    def fit(self, a: int, b: int) -> tuple[float, float] | None:
        """(MiB an hour, MiB at the sample b - 1) of the line through samples a to b - 1."""
        n = b - a
        if n < 2:
            return None
        sh, sy = self.s1[b] - self.s1[a], self.sy[b] - self.sy[a]
        hh = self.shh[b] - self.shh[a] - sh * sh / n
        if hh <= 1e-9:
            return None
        slope = (self.shy[b] - self.shy[a] - sh * sy / n) / hh
        return slope, self.mean + sy / n + slope * (self.h[b - 1] - sh / n)

    def evaluations(self, every_s: float, first_s: float) -> list[int]:
        """How many samples have come at each evaluation."""
        out, due = [], first_s
        for i, t in enumerate(self.series.t):
            if t >= due:
                out.append(i + 1)
                due = t - t % every_s + every_s
        return out


class Buckets:
    """Medians of five minutes, gaps filled evenly: what the slower methods work on."""

    WIDTH_H = 1 / 12

    def __init__(self, seen: Seen) -> None:
        raw: list[float | None] = []
        index = 0
        for number, group in itertools.groupby(
            range(len(seen.h)), lambda i: int(seen.h[i] / self.WIDTH_H)
        ):
            while index < number:
                raw.append(None)
                index += 1
            raw.append(median(seen.y[i] for i in group))
            index += 1
        self.values = _filled(raw)
        # Rolling median of an hour, as Precog smooths.
        self.smooth = [median(self.values[max(0, i - 11) : i + 1]) for i in range(len(self.values))]


def _filled(raw: Sequence[float | None]) -> list[float]:
    out: list[float] = []
    for value in raw:
        if value is None:
            out.append(math.nan)
            continue
        gap = 0
        while gap < len(out) and math.isnan(out[-1 - gap]):
            gap += 1
        if gap:
            before = out[-1 - gap] if gap < len(out) else value
            for i in range(gap):
                out[len(out) - gap + i] = before + (value - before) * (i + 1) / (gap + 1)
        out.append(value)
    return out


# ---- rules over the raw samples ------------------------------------------------------------------

QUARTER_S = 900.0


def _over_range(
    range_h: float, verdict: Callable[[Seen, float, float, float], bool]
) -> Callable[[Seen], Episodes]:
    def scan(seen: Seen) -> Episodes:
        truths = []
        for b in seen.evaluations(300, HOUR_S):
            now = seen.h[b - 1]
            line = seen.fit(bisect_left(seen.h, now - range_h, 0, b), b)
            truths.append((seen.series.t[b - 1], line is not None and verdict(seen, now, *line)))
        return episodes(truths, QUARTER_S)

    return scan


def _predict(range_h: float, ahead_h: float) -> Callable[[Seen], Episodes]:
    return _over_range(
        range_h, lambda seen, now, slope, value: value + slope * ahead_h > seen.limit(now)
    )


def threshold(seen: Seen) -> Episodes:
    """90 % of the limit, for five minutes."""
    truths = [
        (seen.series.t[b - 1], seen.y[b - 1] > 0.9 * seen.limit(seen.h[b - 1]))
        for b in seen.evaluations(60, 0)
    ]
    return episodes(truths, 300)


def coroot(seen: Seen) -> Episodes:
    """An hour's line over the longest run without a fall by half; its last quarter must rise at
    least 0.3 times as fast; 5 % of the limit (or 50 MiB) and more than 10 % an hour, 15 min."""
    falls = [i for i in range(1, len(seen.y)) if seen.y[i] < 0.5 * seen.y[i - 1]]
    truths = []
    for b in seen.evaluations(300, HOUR_S):
        a = bisect_left(seen.h, seen.h[b - 1] - 1, 0, b)
        edges = [a, *falls[bisect_right(falls, a) : bisect_left(falls, b)], b]
        a, end = max(itertools.pairwise(edges), key=lambda run: run[1] - run[0])
        holds = False
        line = seen.fit(a, end)
        tail = seen.fit(end - max(2, (end - a) // 4), end)
        if line and tail and end - a >= 8:
            slope, value = line
            start = value - slope
            least = max(0.05 * seen.limit(seen.h[b - 1]), 50.0)
            holds = slope >= least and slope > 0.1 * max(1.0, start) and tail[0] >= 0.3 * slope
        truths.append((seen.series.t[b - 1], holds))
    return episodes(truths, QUARTER_S)


# ---- Mann-Kendall --------------------------------------------------------------------------------

MK_WINDOW = 72  # six hours of five-minute medians
MK_Z = 2.326  # one-sided, 1 %
MK_END_H = 168.0  # Sen's slope reaches the limit within a week, as Precog asks


class Trend(NamedTuple):
    """What the test says of one window; `end_mib` is what it would have risen to in a week."""

    now_h: float
    end_mib: float
    significant: bool
    corrected: bool


def mann_kendall(buckets: Buckets) -> list[Trend]:
    """The test on six hours, each half hour; with and without the variance of Hamed and Rao."""
    out = []
    for at in range(36, len(buckets.values) + 1, 6):
        window = buckets.values[max(0, at - MK_WINDOW) : at]
        n, now = len(window), at * Buckets.WIDTH_H
        up = sum(later > early for early, later in itertools.combinations(window, 2))
        down = sum(later < early for early, later in itertools.combinations(window, 2))
        score, variance = up - down, n * (n - 1) * (2 * n + 5) / 18
        if (score - 1) / variance**0.5 <= MK_Z:
            out.append(Trend(now, 0.0, False, False))
            continue
        slopes = sorted((window[j] - window[i]) / (j - i) for j in range(n) for i in range(j))
        step = slopes[len(slopes) // 2]
        factor = _hamed_rao([y - step * i for i, y in enumerate(window)])
        corrected = (score - 1) / (variance * factor) ** 0.5 > MK_Z
        end = window[-1] + step / Buckets.WIDTH_H * MK_END_H
        out.append(Trend(now, end, step > 0, step > 0 and corrected))
    return out


def _ends(seen: Seen, trends: Sequence[Trend], corrected: bool) -> Episodes:
    """Significant, and Sen's line reaches the limit within a week."""
    return episodes(
        [
            (
                one.now_h * HOUR_S,
                (one.corrected if corrected else one.significant)
                and one.end_mib > seen.limit(one.now_h),
            )
            for one in trends
        ],
        0,
    )


def _hamed_rao(residuals: Sequence[float]) -> float:
    """By how much autocorrelation of the ranks inflates the variance (lags at the 5 % level)."""
    n = len(residuals)
    ranks = [0.0] * n
    for rank, i in enumerate(sorted(range(n), key=lambda i: residuals[i])):
        ranks[i] = rank - (n - 1) / 2
    whole = sum(r * r for r in ranks)
    total = 0.0
    for lag in range(1, n - 2):
        rho = sum(a * b for a, b in zip(ranks, ranks[lag:], strict=False)) / whole
        if abs(rho) > 1.96 / n**0.5:
            total += (n - lag) * (n - lag - 1) * (n - lag - 2) * rho
    return max(1.0, 1 + 2 * total / (n * (n - 1) * (n - 2)))


# ---- Precog --------------------------------------------------------------------------------------

SIX_H = 72
PRECOG_R2, PRECOG_END_H, PRECOG_LEAST = 0.8, 168.0, 40.0


class _Line:
    """Prefix sums over evenly spaced values: slope a step, R2 and length of any stretch."""

    def __init__(self, values: Sequence[float]) -> None:
        add = itertools.accumulate
        self.y = [0.0, *add(values)]
        self.yy = [0.0, *add(v * v for v in values)]
        self.iy = [0.0, *add(i * v for i, v in enumerate(values))]

    def fit(self, a: int, b: int) -> tuple[float, float]:
        """(slope a step, R2) over a to b - 1."""
        n = b - a
        sy = self.y[b] - self.y[a]
        ii = n * (n * n - 1) / 12
        iy = (self.iy[b] - self.iy[a]) - sy * (a + b - 1) / 2
        yy = self.yy[b] - self.yy[a] - sy * sy / n
        if ii <= 0 or yy <= 1e-12:
            return 0.0, 0.0
        return iy / ii, iy * iy / (ii * yy)


def _change_points(values: Sequence[float], start: int, end: int) -> list[int]:
    """Where a step is an outlier (modified z-score over 3.5), six hours apart; and both ends."""
    steps = [abs(b - a) for a, b in itertools.pairwise(values[start:end])]
    if not steps:
        return [start, end - 1]
    middle = median(steps)
    spread = median(abs(step - middle) for step in steps)
    cut = 3.5 * spread / 0.6745
    out = [start]
    for i, step in enumerate(steps, start + 1):
        if spread > 0 and abs(step - middle) > cut and i - out[-1] >= SIX_H:
            out.append(i)
    if end - 1 - out[-1] >= SIX_H:
        out.append(end - 1)
    return [*out, end - 1]


def precog(seen: Seen, buckets: Buckets, trained: bool) -> Episodes:
    """Evaluated once an hour. Trained: on the first day, with the filter of maxima (PrecogMF)."""
    values, line = buckets.smooth, _Line(buckets.smooth)
    train = 288 if trained else 0
    found: list[tuple[float, int]] = []  # (slope, length) of the trends of the training
    slope_max, length_max, peak = 0.0, SIX_H, 0.0
    percent = 100 / seen.limit(0)
    if trained and len(values) > train:
        peak = median(sorted(values[:train])[-10:]) * percent
        marks = _change_points(values, 0, train)
        for i, a in enumerate(marks[:-1]):
            best: tuple[float, float, int, int] | None = None
            for b in marks[i + 1 :]:
                slope, r2 = line.fit(a, b) if b - a >= SIX_H else (0.0, 0.0)
                if r2 > PRECOG_R2 and slope > 0 and (
                    best is None or (slope >= best[0] and r2 >= best[1] and b - a >= best[2])
                ):  # fmt: skip
                    best = (slope, r2, b - a, b)
            if best and best[3] < train - 1 and _left(seen, values, best[3], best[0]):
                found.append((best[0], best[2]))
                slope_max, length_max = max(slope_max, best[0]), max(length_max, best[2])
    truths = []
    for end in range(train + SIX_H + 1, len(values) + 1, 12):
        now = end * Buckets.WIDTH_H
        percent = 100 / seen.limit(now)
        holds = False
        if buckets.values[end - 1] * percent >= PRECOG_LEAST:
            marks = _change_points(values, train, end)
            for a in reversed(marks[:-1]):
                slope, r2 = line.fit(a, end) if end - 1 - a >= SIX_H else (0.0, 0.0)
                if r2 > PRECOG_R2 and _left(seen, values, end - 1, slope) and (
                    (slope >= slope_max and end - 1 - a >= length_max)
                    or any(slope >= s and end - 1 - a >= n for s, n in found)
                ):  # fmt: skip
                    holds = True
            if holds and trained:
                last = [value * percent for value in values[marks[-2] : end]]
                holds = all(top >= 95 or top >= peak for top in sorted(last)[-10:])
        truths.append((now * HOUR_S, holds))
    return episodes(truths, 0)


def _left(seen: Seen, values: Sequence[float], at: int, slope: float) -> bool:
    """Whether that slope (a step) reaches the limit within the critical time."""
    left = seen.limit(at * Buckets.WIDTH_H) - values[at]
    return slope > 0 and left < slope * PRECOG_END_H / Buckets.WIDTH_H


# ---- linear backward regression ------------------------------------------------------------------


def backward(buckets: Buckets) -> Episodes:
    """Windows that grow backwards by 50 points from 60; smoothed over each of the ten strongest
    periods; R2 over 0.8 and a rise. It asks for no limit. Evaluated every six hours."""
    truths = []
    for end in range(SIX_H, len(buckets.values) + 1, SIX_H):
        holds = any(
            _rises_smoothly(buckets.values[end - length : end]) for length in range(60, end + 1, 50)
        )
        truths.append((end * Buckets.WIDTH_H * HOUR_S, holds))
    return episodes(truths, 0)


def _rises_smoothly(window: Sequence[float]) -> bool:
    slope, r2 = _Line(window).fit(0, len(window))
    if slope <= 0:
        return False
    if r2 > PRECOG_R2:
        return True
    sums = [0.0, *itertools.accumulate(window)]
    for period in _periods(window):
        if 1 < period < len(window) // 2:
            trend = [(b - a) / period for a, b in zip(sums, sums[period:], strict=False)]
            slope, r2 = _Line(trend).fit(0, len(trend))
            if slope > 0 and r2 > PRECOG_R2:
                return True
    return False


def _periods(window: Sequence[float]) -> list[int]:
    """The ten strongest lines of the spectrum (as the authors' code takes them: their numbers),
    of the window averaged down to 64 points."""
    edges = [len(window) * i // 64 for i in range(65)]
    points = [sum(window[a:b]) / (b - a) if b > a else window[a] for a, b in
              itertools.pairwise(edges)]  # fmt: skip
    power = [(abs(sum(v * _TURNS[k * i % 64] for i, v in enumerate(points))), k) for k in range(32)]
    return [k for _, k in sorted(power, reverse=True)[:10]]


_TURNS = [complex(math.cos(math.tau * i / 64), -math.sin(math.tau * i / 64)) for i in range(64)]

NAMES = {
    "precog": "Precog, untrained",
    "precog_mf": "PrecogMF, trained on the first day",
    "mk": "Mann-Kendall and Sen, 6 h",
    "mk_hr": "Mann-Kendall, Hamed-Rao, 6 h",
    "lbr": "linear backward regression",
    "predict_1h": "predict_linear[1h], 4 h ahead",
    "predict_6h": "predict_linear[6h], 4 h ahead",
    "predict_6h_24h": "predict_linear[6h], 24 h ahead",
    "deriv": "deriv[1h] > 10 MiB/h",
    "coroot": "Coroot",
    "threshold": "90 % of the limit",
}
RAW: dict[str, Callable[[Seen], Episodes]] = {
    "predict_1h": _predict(1, 4),
    "predict_6h": _predict(6, 4),
    "predict_6h_24h": _predict(6, 24),
    "deriv": _over_range(1, lambda _seen, _now, slope, _value: slope > 10),
    "coroot": coroot,
    "threshold": threshold,
}


def scan(series: Series, factors: Sequence[float]) -> list[dict[str, Episodes]]:
    """Every detector's episodes on the series, for each factor by which the limit is wrong."""
    buckets: Buckets | None = None
    trends: list[Trend] = []
    smooth: Episodes = []
    out = []
    for factor in factors:
        seen = Seen(series, factor)
        if buckets is None:
            buckets = Buckets(seen)
            trends, smooth = mann_kendall(buckets), backward(buckets)
        said = {name: rule(seen) for name, rule in RAW.items()}
        said["mk"] = _ends(seen, trends, corrected=False)
        said["mk_hr"] = _ends(seen, trends, corrected=True)
        said["precog"] = precog(seen, buckets, trained=False)
        said["precog_mf"] = precog(seen, buckets, trained=True)
        said["lbr"] = smooth
        out.append(said)
    return out

"""The judge of the daemon, fed as the engine feeds it: Trend.add, then stage.step at each close."""

import random
from typing import NamedTuple

from bench.leaks.series import Series
from watchdog.history.entities import Trend
from watchdog.judge.stage import Ending, step

KIB = 1024


class Alarm(NamedTuple):
    """One `leak.confirmed`; the times to exhaustion are seconds from then."""

    t: float
    confidence: float
    ends_low_s: float
    ends_s: float
    ends_high_s: float
    window_s: float
    bucket_s: int


class Said(NamedTuple):
    confirmed: list[Alarm]
    suspected: list[float]


def judge(series: Series, limit_factor: float = 1.0, whole: bool = False) -> Said:
    """What it says of the series; of a leak only up to the first alarm after its onset.

    `limit_factor` is how wrong the limit is that the judge is told; `whole` goes on to the end.
    """
    # Boot happened before the entity did, at no round time.
    up0 = random.Random("up:" + series.seed).uniform(1e5, 2e6) + series.age_s
    trend = Trend(up0, up0)
    said = Said([], [])
    limit_kib = series.limits[0][1] * KIB * limit_factor
    moves = list(series.limits[1:])
    for t, mib in zip(series.t, series.mib, strict=True):
        while moves and moves[0][0] <= t:
            limit_kib = moves.pop(0)[1] * KIB * limit_factor
        kib = int(mib * KIB)
        closed = trend.add(up0 + t, up0 + t, kib)
        if not closed:
            continue
        ending = Ending(int(max(0.0, limit_kib - kib)) * KIB, "below its limit")
        change = step(trend, closed, series.age_s + t, ending)
        if change is None:
            continue
        if change.kind == "leak.confirmed" and change.found is not None:
            found = change.found
            ends = found.exhausts_in_s or 0.0
            said.confirmed.append(
                Alarm(
                    t, found.confidence, found.exhausts_in_low_s or 0.0, ends,
                    found.exhausts_in_high_s or 0.0, found.growth.window_s, found.growth.bucket_s,
                )
            )  # fmt: skip
            if series.kind.leak and t >= series.onset_s and not whole:
                break
        elif change.kind == "leak.suspected":
            said.suspected.append(t)
    return said

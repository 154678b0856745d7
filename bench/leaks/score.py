"""What counts as found, as missed and as crying wolf; and how many of each."""

import itertools
from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

from bench.leaks.ours import Alarm
from bench.leaks.series import DAY_S, Series

# A leak counts as found only if it is named before this share of the time that it leaves.
IN_TIME = 0.95


class Outcome(NamedTuple):
    """One detector on one series. `delay` is the share of the time to exhaustion that had passed;
    `false_episodes` are alarms without a leak, in `clean_days` without one."""

    code: str
    leak: bool
    found: bool
    false: bool
    delay: float | None
    false_episodes: int
    clean_days: float


def outcome(series: Series, alarms: Sequence[float]) -> Outcome:
    """`alarms` are when episodes began. An alarm before a leak's onset is false, and as it then
    stands already the leak counts as missed."""
    code = series.kind.code
    if series.ends_s is None:
        return Outcome(code, False, False, bool(alarms), None, len(alarms), series.days)
    before = sum(t < series.onset_s for t in alarms)
    left = series.ends_s - series.onset_s
    shares = [(t - series.onset_s) / left for t in alarms if t >= series.onset_s]
    found = not before and bool(shares) and shares[0] <= IN_TIME
    delay = shares[0] if found else None
    return Outcome(code, True, found, before > 0, delay, before, series.onset_s / DAY_S)


class Score(NamedTuple):
    precision: float
    recall: float
    f1: float
    delay: float | None
    false_a_day: float
    clean_days: float


def score(outcomes: Iterable[Outcome]) -> Score:
    """Over all series; precision as the suite's own mixture of leaks and benign growth has it."""
    those = list(outcomes)
    found = sum(one.found for one in those)
    false = sum(one.false for one in those)
    leaks = sum(one.leak for one in those)
    precision = found / (found + false) if found + false else 0.0
    recall = found / leaks if leaks else 0.0
    both = precision + recall
    delays = [one.delay for one in those if one.delay is not None]
    days = sum(one.clean_days for one in those)
    return Score(
        precision,
        recall,
        2 * precision * recall / both if both else 0.0,
        median(delays) if delays else None,
        sum(one.false_episodes for one in those) / days if days else 0.0,
        days,
    )


class Forecast(NamedTuple):
    """A first alarm of ours: its interval of the time to exhaustion, and the truth (None: none)."""

    code: str
    alarm: Alarm
    truth_s: float | None


def coverage(forecasts: Iterable[Forecast]) -> tuple[int, float, float]:
    """(leaks, share whose end lay within the interval, median of width over truth)."""
    ends = [(one.alarm, one.truth_s) for one in forecasts if one.truth_s is not None]
    if not ends:
        return 0, 0.0, 0.0
    inside = sum(alarm.ends_low_s <= truth <= alarm.ends_high_s for alarm, truth in ends)
    widths = [(alarm.ends_high_s - alarm.ends_low_s) / max(1.0, truth) for alarm, truth in ends]
    return len(ends), inside / len(ends), median(widths)


class Reliability(NamedTuple):
    """Alarms whose confidence lay in a range; `rare` is the share of leaks where one entity in
    `ONE_IN` leaks and the others are all of the suite's benign kinds."""

    low: float
    high: float
    alarms: int
    stated: float
    leaks: float
    rare: float


ONE_IN = 500
EDGES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01)


def reliability(forecasts: Sequence[Forecast], leaks: int, benign: int) -> list[Reliability]:
    """By ranges of confidence, of the first alarm of each series, over so many series."""
    out = []
    for low, high in itertools.pairwise(EDGES):
        those = [one for one in forecasts if low <= one.alarm.confidence < high]
        if not those:
            continue
        true = sum(one.truth_s is not None for one in those)
        a_leak, a_benign = true / max(1, leaks), (len(those) - true) / max(1, benign)
        weighed = a_leak / ONE_IN + a_benign * (1 - 1 / ONE_IN)
        stated = sum(one.alarm.confidence for one in those) / len(those)
        rare = a_leak / ONE_IN / weighed if weighed else 0.0
        out.append(Reliability(low, high, len(those), stated, true / len(those), rare))
    return out

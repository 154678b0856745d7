"""The weights of the judge's confidence, fitted again: `./dev bench leaks --fit [--seeds N]`.

Of each series, at each share of SHARES of the way to the end, the first window that shows it and
has passed all other gates is a row; a series counts once, however many rows it has. Logistic
regression by Newton's method, with a slight pull of the weights towards nothing. The seeds and the
kinds of bench/leaks/training.py are in no table of the documentation.
"""

import math
import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import mul
from typing import Any, NamedTuple

from bench.leaks import kinds, ours, training
from bench.leaks.series import make
from watchdog.judge import leak, stage
from watchdog.judge.rise import Gate, Growth

SEEDS = "tune2"
SHARES = (0.1, 0.14, 0.18, 0.22, 0.26, 0.3, 0.35, 0.4, 0.5)
PULL, STEPS = 0.02, 40
NAMES = (
    "constant", "share, log odds", "window, log h", "slows down", "speeds up", "jump", "not fresh",
    "agreeing", "watched, log h", "spread of rates", "window of life",
)  # fmt: skip


KINDS = {kind.code: kind for kind in kinds.KINDS + training.KINDS}


class Row(NamedTuple):
    evidence: tuple[float, ...]
    leak: bool
    weight: float


def rows_of(task: tuple[str, int]) -> list[Row]:
    """The rows of one series: (code of its kind, number of its seed)."""
    kind = KINDS[task[0]]
    series = make(kind, SEEDS, task[1])
    with _asked() as asked:
        ours.judge(series, whole=True)
    shown: dict[float, Row] = {}
    for found, gate, share, watched_s, passes, agreeing in asked:
        if passes < gate.passes or found.buckets < gate.confirm_n or not 0 < share < 1:
            continue
        row = leak.evidence(found, share, watched_s, agreeing)
        leaks = kind.leak and watched_s >= series.onset_s
        for least in SHARES:
            if share >= least:
                shown.setdefault(least, Row(row, leaks, 1.0))
    return [row._replace(weight=1 / len(shown)) for row in shown.values()]


@contextmanager
def _asked() -> Iterator[list[Any]]:
    """What the judge weighs meanwhile, while it goes on as ever."""
    asked: list[Any] = []

    def spy(found: Growth, gate: Gate, **known: Any) -> leak.Verdict | str:
        left = known["headroom"] / found.rate
        share = found.window_s / (found.window_s + left)
        asked.append((found, gate, share, known["watched_s"], known["passes"], known["agreeing"]))
        return leak.verdict(found, gate, **known)

    vars(stage)["verdict"] = spy
    try:
        yield asked
    finally:
        vars(stage)["verdict"] = leak.verdict


def fit(rows: Sequence[Row]) -> list[float]:
    """The weights that make the rows likeliest. Raises ValueError where they decide nothing."""
    size = len(rows[0].evidence)
    weights = [0.0] * size
    for _ in range(STEPS):
        slope = [-PULL * weight if i else 0.0 for i, weight in enumerate(weights)]
        curve = [[PULL if i == j else 0.0 for j in range(size)] for i in range(size)]
        for row in rows:
            odds = max(-30.0, min(30.0, sum(map(mul, weights, row.evidence))))
            likely = 1 / (1 + math.exp(-odds))
            off, bend = row.weight * (row.leak - likely), row.weight * likely * (1 - likely)
            for i, one in enumerate(row.evidence):
                slope[i] += off * one
                line, part = curve[i], bend * one
                for j, other in enumerate(row.evidence):
                    line[j] += part * other
        weights = [weight + more for weight, more in zip(weights, solve(curve, slope), strict=True)]
    return weights


def solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """x of matrix x = right, by elimination with pivots."""
    size = len(right)
    lines = [[*line, value] for line, value in zip(matrix, right, strict=True)]
    for at in range(size):
        best = max(range(at, size), key=lambda i: abs(lines[i][at]))
        lines[at], lines[best] = lines[best], lines[at]
        if not lines[at][at]:
            raise ValueError("the rows decide nothing")
        for i in range(size):
            if i != at:
                part = lines[i][at] / lines[at][at]
                lines[i] = [a - part * b for a, b in zip(lines[i], lines[at], strict=True)]
    return [line[size] / line[i] for i, line in enumerate(lines)]


def report(seeds: int, jobs: int) -> str:
    """The fitted weights beside those of the judge."""
    tasks = [(code, number) for code in KINDS for number in range(seeds)]
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        rows = [row for those in pool.imap(rows_of, tasks, 4) for row in those]
    lines = [f"{len(rows)} rows of {len(tasks)} series, seeds {SEEDS}:KIND:0 to {seeds - 1}"]
    for name, fitted, used in zip(NAMES, fit(rows), leak.WEIGHTS, strict=True):
        lines.append(f"{name:16} {fitted:6.2f}  (in use {used:5.2f})")
    return "\n".join(lines)

"""One entity's memory over time, with the truth about it; and the ways a detector may see it.

A series is made from a seed that is a name: "report:L01:3" is the same on every machine. Sizes are
MiB, times seconds from the first sample.
"""

import random
from array import array
from collections.abc import Callable, Iterator
from typing import NamedTuple

LIMIT_MIB = 4096.0
DAY_S = 86400.0
# Sets of seeds by name: what is tuned on one is reported on another.
TUNING, REPORTING = "tune", "report"


class Plan:
    """The draws that every series needs, and what its shape has decided so far."""

    def __init__(self, name: str) -> None:
        self.r = random.Random(name)
        self.base = self.log_uniform(50, 1200)
        self.limit = LIMIT_MIB
        self.dt_s = 60.0
        self.onset_s = 0.0
        self.days = self.r.uniform(3, 7)  # how long a benign series is watched
        self.fresh = False  # its shape is that of a start: it cannot be old at first sight
        self.limits: list[tuple[float, float]] = []  # (from when, MiB) where it changes
        self.asleep: tuple[float, float] | None = None  # no samples between these two
        self.tightness: tuple[float, float] | None = None  # limit as a multiple of the peak

    def log_uniform(self, low: float, high: float) -> float:
        return float(low * (high / low) ** self.r.random())

    def hours(self, low: float, high: float) -> float:
        return self.log_uniform(low, high)

    @property
    def dt_h(self) -> float:
        return self.dt_s / 3600


Shape = Callable[[Plan], Iterator[float]]


class Kind(NamedTuple):
    code: str
    name: str
    leak: bool
    shape: Shape


class Series(NamedTuple):
    """`ends_s`: when the limit is reached (None: never); a leak begins at `onset_s`."""

    kind: Kind
    seed: str
    dt_s: float
    age_s: float  # how long it had lived when it was first seen
    onset_s: float
    ends_s: float | None
    limits: tuple[tuple[float, float], ...]
    t: "array[float]"
    mib: "array[float]"

    def limit_at(self, t: float) -> float:
        return next(limit for since, limit in reversed(self.limits) if since <= t)

    @property
    def days(self) -> float:
        return float(self.t[-1] - self.t[0]) / DAY_S


def make(kind: Kind, which: str, number: int) -> Series:
    """The series of that kind and seed."""
    seed = f"{which}:{kind.code}:{number}"
    plan = Plan(seed)
    r = plan.r
    shape = kind.shape(plan)
    first = next(shape)  # a generator decides its plan before it yields
    phi, sigma = r.uniform(0.5, 0.97), r.uniform(0.002, 0.02) * plan.base
    kick = sigma * (1 - phi * phi) ** 0.5
    noise = r.gauss(0, sigma)
    times, sizes = array("d"), array("d")
    ends = None
    steps = 60 * 24 * 60 if kind.leak else int(plan.days * DAY_S / plan.dt_s)
    value: float | None = first
    for step in range(steps):
        t = step * plan.dt_s
        if plan.asleep and plan.asleep[0] <= t < plan.asleep[1]:
            continue  # nothing runs, so nothing grows
        if value is None:
            break
        noise = phi * noise + r.gauss(0, kick)
        size = max(1.0, value + noise)
        if kind.leak:
            limit = next((lim for since, lim in reversed(plan.limits) if since <= t), plan.limit)
            if size >= limit:
                ends = t
                break
        times.append(t)
        sizes.append(size)
        value = next(shape, None)
    if plan.tightness and not kind.leak:
        plan.limit = max(sizes) * plan.log_uniform(*plan.tightness)
    if not kind.leak:
        for i, size in enumerate(sizes):
            sizes[i] = min(size, plan.limit - 1)
    elif ends is None:
        raise ValueError(f"{seed}: a leak that never ends")
    age = 0.0 if plan.fresh or r.random() < 0.5 else r.uniform(1, 30) * DAY_S
    limits = ((0.0, plan.limit), *plan.limits)
    return Series(kind, seed, plan.dt_s, age, plan.onset_s, ends, limits, times, sizes)


def thinned(series: Series) -> Series:
    """The same as a busy daemon sees it: three samples in ten missing, some gaps, uneven times."""
    r = random.Random("missing:" + series.seed)
    last = series.t[-1]
    gaps = [
        (start, start + min(r.uniform(600, 5400), 0.1 * last))
        for start in (r.uniform(0, last) for _ in range(r.randint(2, 5)))
    ]
    times, sizes = array("d"), array("d")
    for t, size in zip(series.t, series.mib, strict=True):
        late = t + r.uniform(0, 0.4 * series.dt_s)
        if r.random() >= 0.3 and not any(a <= t < b for a, b in gaps):
            times.append(late)
            sizes.append(size)
    if not times:
        return series
    return series._replace(t=times, mib=sizes)

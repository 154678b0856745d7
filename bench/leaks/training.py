"""More kinds to tune on, so that the suite itself is not fitted: under limits loose and tight."""

import math
from collections.abc import Iterator

from bench.leaks.holdout import tight
from bench.leaks.kinds import along, day, rate, saw
from bench.leaks.series import Kind, Plan

# ---- leaks -------------------------------------------------------------------------------------


def under_noise(p: Plan) -> Iterator[float]:
    """A leak below a load that wanders."""
    r, phi, sigma, off = rate(p, 12, 80), 0.995, 0.05 * p.base, 0.0
    for line in along(p, lambda h: p.base + r * h):
        yield line + off
        off = phi * off + p.r.gauss(0, sigma * (1 - phi * phi) ** 0.5)


def on_and_off(p: Plan) -> Iterator[float]:
    """Leaks while some feature is used: for hours, then rests for hours."""
    r, value = rate(p, 12, 60) * 2, p.base
    while True:
        for busy in (True, False):
            for _ in range(int(p.r.uniform(0.5, 5) / p.dt_h)):
                yield value
                value += r * p.dt_h if busy else 0.0


def by_request(p: Plan) -> Iterator[float]:
    """A little for each failed request; these come by day, and in clusters."""
    r, wave, value, cluster = rate(p, 15, 90), day(p), p.base, 1.0
    for load in along(p, lambda h: 1 + 0.7 * wave(h)):
        yield value
        if p.r.random() < 0.02:
            cluster = p.r.expovariate(1)
        value += r * load * cluster * p.dt_h


def trimmed(p: Plan) -> Iterator[float]:
    """Every few hours the allocator gives a part of the last hours' growth back."""
    r, every, part = rate(p, 12, 80), p.r.uniform(2, 8), p.r.uniform(0.1, 0.35)
    return along(p, lambda h: p.base + r * (h + (h % every) * part / (1 - part)))


def fast_and_late(p: Plan) -> Iterator[float]:
    r, onset = rate(p, 1, 6), p.r.uniform(8, 30)
    p.onset_s = onset * 3600
    return along(p, lambda h: p.base + r * max(0.0, h - onset))


def tight_by_day(p: Plan) -> Iterator[float]:
    """A small limit, a daily load, a saw and a leak."""
    p.limit = p.base * p.r.uniform(1.6, 4)
    r, swing, wave = (p.limit - p.base) / p.hours(16, 90), 0.08 * (p.limit - p.base), day(p)
    teeth = saw(p, p.r.uniform(3, 30) / 60, 0.1 * (p.limit - p.base))
    return (p.base + r * i * p.dt_h + swing * wave(i * p.dt_h) + t for i, t in enumerate(teeth))


def doubling(p: Plan) -> Iterator[float]:
    """A table that doubles: new pages are touched evenly, and a copy is held while it moves."""
    r, size = rate(p, 10, 80), p.base * 0.3
    for line in along(p, lambda h: r * h):
        moving = line > size
        size = size * 2 if moving else size
        yield p.base + line + (0.2 * min(line, p.limit - p.base - line) if moving else 0.0)


# ---- benign ------------------------------------------------------------------------------------


def scheduled(p: Plan) -> Iterator[float]:
    """A machine on which a scheduler starts jobs while there is room; it is mostly full."""
    p.tightness = (1.03, 1.2)
    p.base = 1500.0
    online, wave, room = p.r.uniform(500, 1500), day(p), p.r.uniform(2500, 3500)
    jobs: list[tuple[float, float, float, float]] = []  # MiB, begun, hours of ramp, end
    for h in along(p, lambda h: h - 48):  # it has run for two days when it is first seen
        jobs = [job for job in jobs if h < job[3]]
        if p.r.random() < 4 * p.dt_h and online + sum(job[0] for job in jobs) < room:
            jobs.append((p.log_uniform(10, 400), h, p.hours(0.02, 1.5), h + p.hours(0.1, 20)))
        held = sum(size * min(1.0, (h - begun) / ramp) for size, begun, ramp, _ in jobs)
        if h >= 0:
            yield 200 + held + online * (1 + 0.1 * wave(h))


def java_start(p: Plan) -> Iterator[float]:
    """A quick start, slow logarithmic growth, and now and then a full collection."""
    tight(p)
    p.fresh = True
    start, slow, every = p.hours(0.05, 0.7), p.base * p.r.uniform(0.05, 0.15), p.r.uniform(5, 40)
    size = p.base * p.r.uniform(0.3, 1.5)

    def curve(h: float) -> float:
        return p.base + size * min(1.0, h / start) + slow * math.log1p((h % every) * 2)

    return along(p, curve)


def import_job(p: Plan) -> Iterator[float]:
    """A job that reads into memory for hours, works on it, and lets go; at odd times."""
    tight(p)
    size = p.base * p.r.uniform(0.4, 2)
    while True:
        for _ in range(int(p.r.uniform(4, 40) / p.dt_h)):
            yield p.base
        up, height = int(p.r.uniform(0.5, 8) / p.dt_h), size * p.r.uniform(0.5, 1)
        for i in range(up):
            yield p.base + height * i / up
        for _ in range(int(p.r.uniform(0.1, 5) / p.dt_h)):
            yield p.base + height


def filled_by_day(p: Plan) -> Iterator[float]:
    """A cache with a cap that fills while there is load: some days until it is full."""
    tight(p)
    p.fresh = True
    size, wave, value = p.base * p.r.uniform(0.3, 1.5), day(p), 0.0
    per_h = size / p.hours(4, 60)
    for load in along(p, lambda h: 1 + wave(h)):
        yield p.base + value
        value = min(size, value + per_h * load * p.dt_h)


def pool_warms(p: Plan) -> Iterator[float]:
    """A buffer pool: the fewer pages are missing, the fewer are read in."""
    tight(p)
    p.fresh = True
    size, wave, value = p.base * p.r.uniform(0.5, 2), day(p), 0.0
    tau = p.hours(1, 24)
    for load in along(p, lambda h: 1 + 0.6 * wave(h)):
        yield p.base + value
        value += (size - value) * load * p.dt_h / tau


def pareto_teeth(p: Plan) -> Iterator[float]:
    """Merges of very unlike sizes: most small, some large; each grows as long as it runs."""
    tight(p)
    per_h = p.base * p.log_uniform(0.1, 2)
    while True:
        size = p.base * min(2.0, 0.05 * p.r.paretovariate(1.1))
        for i in range(max(1, int(size / per_h / p.dt_h))):
            yield p.base + per_h * i * p.dt_h
        for _ in range(int(p.r.uniform(0.1, 2) / p.dt_h)):
            yield p.base


def blocks(p: Plan) -> Iterator[float]:
    """A time series head: two hours, then cut; the number of series finds its level."""
    tight(p)
    p.fresh = True
    tau, size = p.hours(4, 20), p.base * p.r.uniform(0.3, 1)

    def curve(h: float) -> float:
        return p.base + size * (1 - 0.7 * math.exp(-h / tau)) * (0.5 + 0.5 * (h % 2) / 2)

    return along(p, curve)


def long_walk(p: Plan) -> Iterator[float]:
    """Wanders around its mean over hours to days."""
    tight(p)
    tau, sigma = p.hours(4, 40), p.base * p.r.uniform(0.05, 0.2)
    keep, off = math.exp(-p.dt_h / tau), 0.0
    while True:
        yield max(0.3 * p.base, p.base + off)
        off = keep * off + p.r.gauss(0, sigma * (1 - keep * keep) ** 0.5)


def cleaned_weekly(p: Plan) -> Iterator[float]:
    tight(p)
    p.days = p.r.uniform(9, 14)
    size, phase = p.base * p.r.uniform(0.2, 0.8), p.r.random() * 168
    return along(p, lambda h: p.base + size * ((h + phase) % 168) / 168)


def deploys_level(p: Plan) -> Iterator[float]:
    """Deploys at odd times; each warms up to a level of its own."""
    tight(p)
    while True:
        level, tau = p.base * p.r.uniform(0.8, 1.5), p.hours(0.1, 4)
        for i in range(int(p.r.uniform(6, 40) / p.dt_h)):
            yield level * (0.5 + 0.5 * (1 - math.exp(-i * p.dt_h / tau)))


def office(p: Plan) -> Iterator[float]:
    """Connections come in the morning and go in the evening."""
    tight(p)
    size, start = p.base * p.r.uniform(0.2, 1.2), p.r.random() * 24
    come, stay = p.r.uniform(1, 5), p.r.uniform(6, 9)

    def curve(h: float) -> float:
        since = (h + start) % 24
        return p.base + size * max(0.0, min(1.0, since / come, 1 - (since - come - stay) / 2))

    return along(p, curve)


def epochs(p: Plan) -> Iterator[float]:
    """Training: each epoch fills and empties; now and then the batches get larger."""
    tight(p)
    teeth = saw(p, p.hours(0.3, 8), p.base * p.r.uniform(0.2, 0.8), 0.02)
    level, left = 1.0, 0.0
    for tooth in teeth:
        if left <= 0:
            level, left = p.r.uniform(0.8, 1.3), p.r.uniform(5, 50)
        left -= p.dt_h
        yield level * (p.base + tooth)


KINDS = (
    Kind("TL01", "below a wandering load", True, under_noise),
    Kind("TL02", "on and off", True, on_and_off),
    Kind("TL03", "by failed request", True, by_request),
    Kind("TL04", "trimmed now and then", True, trimmed),
    Kind("TL05", "fast, after hours of rest", True, fast_and_late),
    Kind("TL06", "tight limit, daily load, saw", True, tight_by_day),
    Kind("TL07", "doubling table", True, doubling),
    Kind("TB01", "a scheduler's machine", False, scheduled),
    Kind("TB02", "Java's start", False, java_start),
    Kind("TB03", "import job", False, import_job),
    Kind("TB04", "cache filled by day", False, filled_by_day),
    Kind("TB05", "buffer pool warms", False, pool_warms),
    Kind("TB06", "merges of unlike sizes", False, pareto_teeth),
    Kind("TB07", "time series head", False, blocks),
    Kind("TB08", "wanders for days", False, long_walk),
    Kind("TB09", "cleaned weekly", False, cleaned_weekly),
    Kind("TB10", "deploys find their level", False, deploys_level),
    Kind("TB11", "office hours", False, office),
    Kind("TB12", "training epochs", False, epochs),
)

"""Kinds that nothing was tuned on: what pods and servers do, under limits loose and tight.

Here the limit of a benign series is 1.1 to 8 times its peak: well-behaved services run close below
theirs, and a detector that leans on headroom alone meets them here.
"""

import math
from collections.abc import Iterator

from bench.leaks import kinds
from bench.leaks.kinds import along, bursts, day, rate, saw
from bench.leaks.series import Kind, Plan


def tight(p: Plan) -> None:
    p.tightness = (1.1, 8)


def clock(p: Plan) -> float:
    """The hour of the week at which it starts (0: Monday, midnight)."""
    return p.r.random() * 168


# ---- leaks -------------------------------------------------------------------------------------


def by_day_only(p: Plan) -> Iterator[float]:
    """Leaks in working hours, every day; rests at night."""
    r, start, value = rate(p, 30, 90) * 2, p.r.random() * 24, p.base
    for hour in along(p, lambda h: (h + start) % 24):
        yield value
        value += r * p.dt_h if 8 <= hour < 20 else 0.0


def deploys(p: Plan) -> Iterator[float]:
    """Restarted with each deploy, until one does not come: the last life reaches the limit."""
    whole, every, lives = p.hours(30, 80), p.r.uniform(12, 28), p.r.randint(2, 4)
    r = (p.limit - p.base) / whole
    return along(p, lambda h: p.base + r * (h - every * min(lives - 1, h // every)))


def rare_jumps(p: Plan) -> Iterator[float]:
    """Single requests that lose much: one to six an hour, of unlike sizes."""
    r, per_h, value = rate(p, 10, 80), p.r.uniform(1, 6), p.base
    while True:
        yield value
        if p.r.random() < per_h * p.dt_h:
            value += r / per_h * p.r.expovariate(1)


def cron(p: Plan) -> Iterator[float]:
    """A job each hour or each few hours forks, works, and leaves something behind."""
    r, every, size = rate(p, 20, 96), p.r.choice((1, 1, 2, 3, 6)), p.base * p.r.uniform(0.1, 0.8)
    length = p.r.uniform(0.05, 0.3)

    def curve(h: float) -> float:
        return p.base + r * every * (h // every) + (size if h % every < length else 0.0)

    return along(p, curve)


def by_unique_keys(p: Plan) -> Iterator[float]:
    """A map of keys ever seen: new ones get rarer, and it still reaches the limit."""
    whole, power = p.hours(12, 96), p.r.uniform(0.7, 0.9)
    return along(p, lambda h: p.base + (p.limit - p.base) * (h / whole) ** power)


def collector_pace(p: Plan) -> Iterator[float]:
    """The live heap leaks, and the collector lets garbage grow in proportion to it (GOGC)."""
    live, pace, at = p.base * 0.6, p.r.uniform(0.5, 1), 0.0
    r = (p.limit / (1 + pace) - live) / p.hours(10, 80)
    allocates = p.base * p.log_uniform(0.5, 20)  # MiB an hour
    while True:
        yield live + at
        live += r * p.dt_h
        at += allocates * p.dt_h
        if at > pace * live:
            at = 0.0


def rough(p: Plan) -> Iterator[float]:
    """Heavy-tailed noise on a leak: single samples far off, up and down."""
    r = rate(p, 8, 96)
    for line in along(p, lambda h: p.base + r * h):
        z = p.r.gauss(0, 1) / max(0.15, p.r.gammavariate(1.5, 1 / 1.5)) ** 0.5
        yield max(0.5 * p.base, min(line + 0.02 * p.base * z, 0.5 * (line + p.limit)))


def deployed_late(p: Plan) -> Iterator[float]:
    """Daily load for one or two days; then a new version leaks, under the same load."""
    r, swing, wave = rate(p, 15, 80), p.base * p.r.uniform(0.1, 0.3), day(p)
    onset = p.r.uniform(20, 50)
    p.onset_s = onset * 3600
    return along(p, lambda h: p.base + swing * wave(h) + r * max(0.0, h - onset))


def behind_a_cache(p: Plan) -> Iterator[float]:
    r, size, tau = rate(p, 12, 90), p.base * p.r.uniform(0.3, 1.5), p.hours(1, 10)
    p.fresh = True
    return along(p, lambda h: p.base + r * h + size * min(1.0, h / tau))


def changing_rate(p: Plan) -> Iterator[float]:
    r, value = rate(p, 10, 80), p.base
    while True:
        factor = p.log_uniform(0.3, 3)
        for _ in range(int(p.r.uniform(1, 8) / p.dt_h)):
            yield value
            value += r * factor * p.dt_h


def old_heap(p: Plan) -> Iterator[float]:
    """A leak below a collector that runs every few hours only."""
    r, teeth = rate(p, 40, 120), saw(p, p.r.uniform(1.5, 6), p.base * p.r.uniform(0.3, 1))
    return (p.base + r * i * p.dt_h + tooth for i, tooth in enumerate(teeth))


def tight_pod(p: Plan) -> Iterator[float]:
    """A small pod that leaks under a tight limit, with its saw."""
    p.limit = p.base * p.r.uniform(1.5, 3)
    r = (p.limit - p.base) / p.hours(6, 72)
    teeth = saw(p, p.r.uniform(2, 20) / 60, 0.15 * (p.limit - p.base))
    return (p.base + r * i * p.dt_h + tooth for i, tooth in enumerate(teeth))


# ---- benign ------------------------------------------------------------------------------------


def ttl_cache(p: Plan) -> Iterator[float]:
    """Entries live 6 to 48 hours: until the first expire it only grows."""
    tight(p)
    size, ttl, wave = p.base * p.r.uniform(0.3, 1.5), p.hours(6, 48), day(p)
    p.fresh = True
    swing = 0.05 * size
    return along(p, lambda h: p.base + size * min(1.0, h / ttl) + swing * wave(h))


def pool_to_cap(p: Plan) -> Iterator[float]:
    """Connections are opened when all are busy, never closed, and capped."""
    tight(p)
    cap, now = p.r.randint(8, 100), 1
    each, chance = p.base * p.r.uniform(0.3, 1.5) / cap, p.log_uniform(0.05, 0.5)
    while True:
        yield p.base + each * now
        if p.r.random() < chance * p.dt_h * 10 * (1 - now / cap):
            now += 1


def heap_to_max(p: Plan) -> Iterator[float]:
    """A runtime's heap is extended step by step up to its own maximum, and then only collected."""
    tight(p)
    heap, top, every = p.base, p.base * p.r.uniform(1.5, 3), p.r.uniform(0.2, 2)
    at = 0.0
    while True:
        yield heap * (0.75 + 0.25 * at / every)
        at += p.dt_h
        if at >= every:
            at, heap = 0.0, min(top, heap * p.r.uniform(1.0, 1.15))


def compaction(p: Plan) -> Iterator[float]:
    """Small flushes, larger merges, and now and then one of everything."""
    tight(p)
    scales = [(p.r.uniform(0.2, 0.6), 0.1), (p.r.uniform(1, 3), 0.2), (p.r.uniform(8, 14), 0.4)]
    teeth = [saw(p, period, p.base * size, 0.3) for period, size in scales]
    while True:
        yield p.base + sum(next(one) for one in teeth)


def ratchet(p: Plan) -> Iterator[float]:
    """Arenas keep the highest number of requests that ever ran at once."""
    tight(p)
    each, top, wave = p.base * p.r.uniform(0.01, 0.05), 0.0, day(p)
    for load in along(p, lambda h: 10 + 6 * wave(h)):
        top = max(top, p.r.gauss(load, load**0.5))
        yield p.base + each * top


def forks(p: Plan) -> Iterator[float]:
    """Jobs by the hour, by the day: forked, gone."""
    tight(p)
    hourly, daily = p.base * p.r.uniform(0.1, 0.5), p.base * p.r.uniform(0.3, 1.2)
    start = p.r.random() * 24

    def curve(h: float) -> float:
        return (
            p.base + (hourly if h % 1 < 0.1 else 0.0) + (daily if (h + start) % 24 < 1.5 else 0.0)
        )

    return along(p, curve)


def after_backup(p: Plan) -> Iterator[float]:
    """A nightly backup fills memory in an hour; it is given back over the day."""
    tight(p)
    size, start, tau = p.base * p.r.uniform(0.3, 1.5), p.r.random() * 24, p.r.uniform(2, 6)

    def curve(h: float) -> float:
        since = (h + start) % 24
        return p.base + size * (since if since < 1 else math.exp(-(since - 1) / tau))

    return along(p, curve)


def pace_by_day(p: Plan) -> Iterator[float]:
    """A collector's saw over a live heap that follows the day."""
    tight(p)
    swing, wave, at = p.r.uniform(0.1, 0.5), day(p), 0.0
    allocates = p.base * p.log_uniform(0.5, 30)
    for live in along(p, lambda h: 0.6 * p.base * (1 + swing * wave(h))):
        yield live + at
        at += allocates * p.dt_h
        if at > live:
            at = 0.0


def three_days_up(p: Plan) -> Iterator[float]:
    """A slow ramp over two to four days, then level."""
    tight(p)
    p.days = p.r.uniform(6, 9)
    size, whole = p.base * p.r.uniform(0.2, 0.8), p.r.uniform(48, 96)
    return along(p, lambda h: p.base + size * min(1.0, h / whole))


def two_plateaus(p: Plan) -> Iterator[float]:
    tight(p)
    a, b = p.base * p.r.uniform(0.2, 0.8), p.base * p.r.uniform(0.2, 0.8)
    first, second = p.r.uniform(0, 20), p.r.uniform(24, 70)
    up = p.r.uniform(0.2, 4)

    def part(h: float) -> float:
        return max(0.0, min(1.0, h / up))

    return along(p, lambda h: p.base + a * part(h - first) + b * part(h - second))


def weekly(p: Plan) -> Iterator[float]:
    """Working days busier than the weekend, each a little more than the last."""
    tight(p)
    p.days = p.r.uniform(8, 14)
    start, swing, rise = clock(p), p.r.uniform(0.1, 0.4), p.r.uniform(0.02, 0.08)
    load = p.base

    for hour in along(p, lambda h: (h + start) % 168):
        weekday, clock_h = divmod(hour, 24)
        busy = 0.3 if weekday >= 5 else 1 + rise * weekday
        aim = p.base * (1 + swing * busy * max(0.0, math.sin((clock_h - 6) * math.pi / 14)))
        load += (aim - load) * p.dt_h
        yield load


def long_wave(p: Plan) -> Iterator[float]:
    tight(p)
    p.days = p.r.uniform(6, 12)
    swing, period, phase = p.r.uniform(0.2, 0.6), p.r.uniform(36, 96), p.r.random()
    return along(p, lambda h: p.base * (1 + swing * math.sin((h / period + phase) * math.tau)))


def deployed_daily(p: Plan) -> Iterator[float]:
    """A new version each day, each of which warms up."""
    tight(p)
    size, tau, start = p.base * p.r.uniform(0.3, 1), p.hours(0.5, 6), p.r.random() * 24
    return along(p, lambda h: p.base + size * (1 - math.exp(-((h + start) % 24) / tau)))


def rush(p: Plan) -> Iterator[float]:
    """An event: load climbs for hours, stays for hours, and goes."""
    tight(p)
    size, start = p.base * p.r.uniform(0.5, 1.5), p.r.uniform(5, 60)
    up, hold, down = p.r.uniform(3, 10), p.r.uniform(4, 12), p.r.uniform(2, 10)

    def curve(h: float) -> float:
        since = h - start
        return p.base + size * max(0.0, min(1.0, since / up, 1 - (since - up - hold) / down))

    return along(p, curve)


def saturated(p: Plan) -> Iterator[float]:
    """A machine that is always nearly full, and breathes."""
    p.tightness = (1.02, 1.12)
    swing, wave = p.r.uniform(0.005, 0.05), day(p)
    walk = kinds.wandering(p)
    extra = bursts(p, p.base * 0.05)
    while True:
        for load in along(p, lambda h: 1 + swing * wave(h)):
            yield p.base * load + 0.2 * (next(walk) - p.base) + next(extra)


def tight_saw(p: Plan) -> Iterator[float]:
    """A collector that lets the heap fill to just below the limit, again and again."""
    p.tightness = (1.03, 1.3)
    return saw_between(p, p.hours(0.2, 30))


def saw_between(p: Plan, period_h: float) -> Iterator[float]:
    teeth = saw(p, period_h, p.base * p.r.uniform(0.5, 2), 0.25)
    return (p.base + tooth for tooth in teeth)


KINDS = (
    Kind("HL01", "leaks by day only", True, by_day_only),
    Kind("HL02", "hidden by deploys", True, deploys),
    Kind("HL03", "rare large losses", True, rare_jumps),
    Kind("HL04", "cron leaves some behind", True, cron),
    Kind("HL05", "unique keys (concave)", True, by_unique_keys),
    Kind("HL06", "collector paced by live heap", True, collector_pace),
    Kind("HL07", "heavy-tailed noise", True, rough),
    Kind("HL08", "deployed late, daily load", True, deployed_late),
    Kind("HL09", "behind a filling cache", True, behind_a_cache),
    Kind("HL10", "changing rate", True, changing_rate),
    Kind("HL11", "old generation above a leak", True, old_heap),
    Kind("HL12", "small pod, tight limit", True, tight_pod),
    Kind("HB01", "cache with a TTL", False, ttl_cache),
    Kind("HB02", "connection pool to its cap", False, pool_to_cap),
    Kind("HB03", "heap up to its maximum", False, heap_to_max),
    Kind("HB04", "compaction at three scales", False, compaction),
    Kind("HB05", "arena ratchet", False, ratchet),
    Kind("HB06", "forking jobs", False, forks),
    Kind("HB07", "balloon after backup", False, after_backup),
    Kind("HB08", "collector pace, by day", False, pace_by_day),
    Kind("HB09", "three days up, then level", False, three_days_up),
    Kind("HB10", "two plateaus", False, two_plateaus),
    Kind("HB11", "working week", False, weekly),
    Kind("HB12", "waves of days", False, long_wave),
    Kind("HB13", "deployed daily, warms up", False, deployed_daily),
    Kind("HB14", "rush of hours", False, rush),
    Kind("HB15", "saturated machine", False, saturated),
    Kind("HB16", "saw up to the limit", False, tight_saw),
)

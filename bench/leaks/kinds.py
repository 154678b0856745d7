"""The kinds of leak (L) and of benign growth (B): each a generator of MiB without noise.

A shape draws what it needs from its plan, then yields one value for each step of `plan.dt_s`.
Bases are log-uniform in 50 to 1,200 MiB below a limit of 4,096 MiB; a leak would reach the limit
after the drawn number of hours.
"""

import math
from collections.abc import Callable, Iterator

from bench.leaks.series import Kind, Plan

Curve = Callable[[float], float]


def along(p: Plan, curve: Curve) -> Iterator[float]:
    """A function of the hours since the start."""
    step = 0
    while True:
        yield curve(step * p.dt_h)
        step += 1


def rate(p: Plan, low_h: float, high_h: float) -> float:
    """MiB an hour that use up what is left below the limit in so many hours."""
    return (p.limit - p.base) / p.hours(low_h, high_h)


def saw(p: Plan, period_h: float, size: float, spread: float = 0.15) -> Iterator[float]:
    """Fills evenly and is emptied, each time after about the same while."""
    at, length = p.r.random() * period_h, period_h
    while True:
        yield size * at / length
        at += p.dt_h
        if at >= length:
            at, length = 0.0, period_h * p.r.uniform(1 - spread, 1 + spread)


def bursts(p: Plan, size: float) -> Iterator[float]:
    """One burst in 150 samples, each of 2 to 60 minutes."""
    left, height = 0.0, 0.0
    while True:
        if left <= 0 and p.r.random() < 1 / 150:
            left, height = p.log_uniform(2 / 60, 1.0), size * p.r.uniform(0.2, 1.0)
        yield height if left > 0 else 0.0
        left -= p.dt_h


def day(p: Plan) -> Curve:
    """-1 to 1 over a day, from a phase of its own."""
    phase = p.r.random() * 24
    return lambda h: math.sin((h + phase) * math.tau / 24)


def warm_up(p: Plan) -> Curve:
    size, tau = p.base * p.r.uniform(0.3, 2), p.hours(0.3, 8)
    p.fresh = True
    return lambda h: size * (1 - math.exp(-h / tau))


# ---- leaks -------------------------------------------------------------------------------------


def linear(p: Plan) -> Iterator[float]:
    r = rate(p, 8, 96)
    return along(p, lambda h: p.base + r * h)


def fast(p: Plan) -> Iterator[float]:
    r = rate(p, 0.75, 4)
    return along(p, lambda h: p.base + r * h)


def fast_10s(p: Plan) -> Iterator[float]:
    p.dt_s = 10.0
    return fast(p)


def with_load(p: Plan) -> Iterator[float]:
    r, swing, wave = rate(p, 24, 96), p.r.uniform(0.5, 0.95), day(p)
    value = p.base
    for load in along(p, lambda h: 1 + swing * wave(h)):
        yield value
        value += r * load * p.dt_h


def staircase(p: Plan) -> Iterator[float]:
    r, period = rate(p, 8, 96), p.r.uniform(0.25, 1.5)
    return along(p, lambda h: p.base + r * period * (h // period))


def saw_and_floor(p: Plan) -> Iterator[float]:
    r, teeth = rate(p, 8, 96), saw(p, p.r.uniform(4, 45) / 60, p.base * p.r.uniform(0.2, 0.9))
    return (p.base + r * i * p.dt_h + tooth for i, tooth in enumerate(teeth))


def accelerating(p: Plan) -> Iterator[float]:
    whole, bend = p.hours(8, 96), p.r.uniform(1.5, 3)
    scale = (p.limit - p.base) / math.expm1(bend)
    return along(p, lambda h: p.base + scale * math.expm1(min(20.0, bend * h / whole)))


def late(p: Plan) -> Iterator[float]:
    r, onset = rate(p, 8, 96), p.r.uniform(12, 30)
    p.onset_s = onset * 3600
    return along(p, lambda h: p.base + r * max(0.0, h - onset))


def warm_up_then(p: Plan) -> Iterator[float]:
    r, warm = rate(p, 8, 96), warm_up(p)
    return along(p, lambda h: p.base + warm(h) + r * h)


def with_bursts(p: Plan) -> Iterator[float]:
    r, extra = rate(p, 8, 96), bursts(p, p.base * p.r.uniform(0.3, 1.5))
    for i, burst in enumerate(extra):
        floor = p.base + r * i * p.dt_h
        # A burst that would not fit fails, and the service lives on: the leak ends it, no burst.
        yield floor + min(burst, 0.5 * max(0.0, p.limit - floor))


def drifted_walk(p: Plan) -> Iterator[float]:
    r, value = rate(p, 8, 96), p.base
    kick = 0.002 * p.base
    while True:
        yield max(1.0, value)
        value += r * p.dt_h + p.r.gauss(0, kick)


def nightly(p: Plan) -> Iterator[float]:
    days, length = p.r.uniform(4, 7), p.r.uniform(0.5, 2)
    each, start = (p.limit - p.base) / days, p.r.uniform(1, 20)
    p.onset_s = start * 3600

    def curve(h: float) -> float:
        nights, into = divmod(h - start, 24)
        return p.base + each * max(0.0, nights + min(1.0, into / length))

    return along(p, curve)


def leak_and_day(p: Plan) -> Iterator[float]:
    r, swing, wave = rate(p, 24, 96), p.base * p.r.uniform(0.1, 0.3), day(p)
    return along(p, lambda h: p.base + r * h + swing * wave(h))


def slow(p: Plan) -> Iterator[float]:
    r, teeth = rate(p, 120, 168), saw(p, p.r.uniform(4, 45) / 60, p.base * p.r.uniform(0.2, 0.9))
    return (p.base + r * i * p.dt_h + tooth for i, tooth in enumerate(teeth))


def partly_freed(p: Plan) -> Iterator[float]:
    """Batches of requests; four fifths of each is given back half an hour later."""
    gross = rate(p, 8, 96) * 5
    chance = p.r.uniform(0.05, 0.6)  # of a batch in a step
    delay, value = int(0.5 / p.dt_h), p.base
    due = [0.0] * delay
    step = 0
    while True:
        yield value
        batch = gross * p.dt_h / chance * p.r.uniform(0.5, 1.5) if p.r.random() < chance else 0.0
        value += batch - due[step % delay]
        due[step % delay] = 0.8 * batch
        step += 1


def swapped(p: Plan) -> Iterator[float]:
    """Resident memory is held down, and swap grows instead: resident and swap together."""
    r, cap = rate(p, 8, 96), p.base * p.r.uniform(1.1, 2)
    back = 0.0
    for h in along(p, lambda h: h):
        whole = p.base + r * h
        # Some of what lies in swap is read in again now and then, and stays there as well.
        back = 0.98 * back + (p.r.uniform(0, 0.01) * max(0.0, whole - cap))
        yield whole + min(back, 0.1 * p.base)


def recycled(p: Plan) -> Iterator[float]:
    """A unit: the parent leaks, its workers grow and are replaced, each in its own time."""
    r, workers = rate(p, 8, 96), p.r.randint(3, 8)
    size = p.base * p.r.uniform(0.05, 0.15)
    teeth = [saw(p, p.r.uniform(0.3, 2), size, 0.3) for _ in range(workers)]
    step = 0
    while True:
        yield p.base + r * step * p.dt_h + sum(next(one) for one in teeth)
        step += 1


def restarted(p: Plan) -> Iterator[float]:
    """A unit that is restarted in the middle, and leaks on."""
    whole = p.hours(8, 96)
    r, again = (p.limit - p.base) / whole, whole * p.r.uniform(0.2, 0.7)
    return along(p, lambda h: p.base + r * (h if h < again else h - again))


def suspended(p: Plan) -> Iterator[float]:
    whole = p.hours(8, 96)
    r, when = (p.limit - p.base) / whole, 3600 * whole * p.r.uniform(0.1, 0.6)
    p.asleep = (when, when + 7200)
    return along(p, lambda h: p.base + r * h)


def limit_moves(p: Plan) -> Iterator[float]:
    whole = p.hours(8, 96)
    r, when = (p.limit - p.base) / whole, whole * p.r.uniform(0.1, 0.5)
    at_least = 1.3 * (p.base + r * when)
    p.limits.append((when * 3600, max(at_least, p.limit * p.log_uniform(0.5, 2))))
    return along(p, lambda h: p.base + r * h)


def real_rates(p: Plan) -> Iterator[float]:
    """5 to 500 MiB an hour, as bug reports tell them, under a limit 8 to 240 hours away; the
    service is of a size that its leak shows."""
    r, whole = p.log_uniform(5, 500), p.hours(8, 240)
    p.base = min(p.base, 2 * r * whole)
    p.limit = p.base + r * whole
    return along(p, lambda h: p.base + r * h)


# ---- benign ------------------------------------------------------------------------------------


def flat(p: Plan) -> Iterator[float]:
    return along(p, lambda _h: p.base)


def warming(p: Plan) -> Iterator[float]:
    warm = warm_up(p)
    return along(p, lambda h: p.base + warm(h))


def cache_to_cap(p: Plan) -> Iterator[float]:
    size, tau = p.base * p.r.uniform(0.3, 2), p.hours(0.3, 8)
    p.fresh = True
    return along(p, lambda h: p.base + size * min(1.0, h / tau))


def daily(p: Plan) -> Iterator[float]:
    swing, wave = p.r.uniform(0.1, 0.5), day(p)
    return along(p, lambda h: p.base * (1 + swing * wave(h)))


def collected(p: Plan) -> Iterator[float]:
    teeth = saw(p, p.r.uniform(4, 60) / 60, p.base * p.r.uniform(0.2, 1.5))
    return (p.base + tooth for tooth in teeth)


def one_step(p: Plan) -> Iterator[float]:
    size, when = p.base * p.r.uniform(0.2, 1.5), p.r.uniform(1, p.days * 20)
    return along(p, lambda h: p.base + (size if h >= when else 0.0))


def steps(p: Plan) -> Iterator[float]:
    count = p.r.randint(3, 7)
    at = sorted(p.r.uniform(0, p.days * 24) for _ in range(count))
    levels = [1.0] + [p.r.uniform(0.7, 1.8) for _ in range(count)]
    return along(p, lambda h: p.base * levels[sum(h >= one for one in at)])


def bursting(p: Plan) -> Iterator[float]:
    extra = bursts(p, p.base * p.r.uniform(0.3, 1.5))
    return (p.base + burst for burst in extra)


def wandering(p: Plan) -> Iterator[float]:
    phi, sigma = p.r.uniform(0.99, 0.999), p.base * p.r.uniform(0.03, 0.12)
    off, kick = p.r.gauss(0, sigma), sigma * (1 - phi * phi) ** 0.5
    while True:
        yield p.base + off
        off = phi * off + p.r.gauss(0, kick)


def bounded_walk(p: Plan) -> Iterator[float]:
    off, kick, bound = 0.0, p.base * p.r.uniform(0.002, 0.01), 0.3 * p.base
    while True:
        yield p.base + off
        off += p.r.gauss(0, kick)
        if abs(off) > bound:
            off = math.copysign(2 * bound, off) - off


def batches(p: Plan) -> Iterator[float]:
    size = p.base * p.r.uniform(0.3, 1.5)
    while True:
        for _ in range(int(p.r.uniform(0.2, 6) / p.dt_h)):
            yield p.base
        length, height = int(p.r.uniform(20, 180) / 60 / p.dt_h), size * p.r.uniform(0.6, 1)
        for i in range(length):
            yield p.base + height * i / length


def arenas(p: Plan) -> Iterator[float]:
    size, tau = p.base * p.r.uniform(0.1, 0.4), p.hours(0.5, 4)
    p.fresh = True
    return along(p, lambda h: p.base + size * math.log1p(h / tau))


def memtable(p: Plan) -> Iterator[float]:
    teeth = saw(p, p.r.uniform(1, 6), p.base * p.r.uniform(0.2, 1))
    return (p.base + tooth for tooth in teeth)


def sessions(p: Plan) -> Iterator[float]:
    """Sessions that come more often by day and stay a while; each holds a little."""
    usual, stay, swing, wave = (
        p.log_uniform(30, 500),
        p.hours(0.2, 6),
        p.r.uniform(0.3, 0.9),
        day(p),
    )
    each, count = p.base * p.r.uniform(0.3, 1) / usual, usual
    for busy in along(p, lambda h: 1 + swing * wave(h)):
        yield p.base + each * count
        come, go = usual / stay * busy * p.dt_h, count / stay * p.dt_h
        count = max(0.0, count + come - go + p.r.gauss(0, (come + go) ** 0.5))


def old_generation(p: Plan) -> Iterator[float]:
    teeth = saw(p, p.r.uniform(6, 24), p.base * p.r.uniform(0.3, 1.5))
    return (p.base + tooth for tooth in teeth)


def reset_at_night(p: Plan) -> Iterator[float]:
    size, phase = p.base * p.r.uniform(0.2, 0.8), p.r.random() * 24
    return along(p, lambda h: p.base + size * ((h + phase) % 24) / 24)


KINDS = (
    Kind("L01", "linear", True, linear),
    Kind("L02", "fast (0.75 to 4 h), 60 s", True, fast),
    Kind("L02b", "fast, 10 s", True, fast_10s),
    Kind("L03", "with the load", True, with_load),
    Kind("L04", "staircase", True, staircase),
    Kind("L05", "sawtooth, floor rises", True, saw_and_floor),
    Kind("L06", "accelerating", True, accelerating),
    Kind("L07", "late onset", True, late),
    Kind("L08", "warm-up, then leak", True, warm_up_then),
    Kind("L09", "leak and bursts", True, with_bursts),
    Kind("L10", "drifted random walk", True, drifted_walk),
    Kind("L11", "nightly job", True, nightly),
    Kind("L12", "leak and daily load", True, leak_and_day),
    Kind("L13", "slow (120 to 168 h), saw", True, slow),
    Kind("L14", "partly freed", True, partly_freed),
    Kind("L15", "masked by swap", True, swapped),
    Kind("L16", "recycled workers, parent leaks", True, recycled),
    Kind("L17", "restarted in the middle", True, restarted),
    Kind("L18", "two hours of suspend", True, suspended),
    Kind("L19", "limit changed meanwhile", True, limit_moves),
    Kind("L20", "rates of bug reports", True, real_rates),
    Kind("B01", "flat", False, flat),
    Kind("B02", "exponential warm-up", False, warming),
    Kind("B03", "cache to its cap", False, cache_to_cap),
    Kind("B04", "daily load", False, daily),
    Kind("B05", "garbage collection", False, collected),
    Kind("B06", "one step", False, one_step),
    Kind("B07", "steps up and down", False, steps),
    Kind("B08", "bursts", False, bursting),
    Kind("B09", "wandering (AR 0.99)", False, wandering),
    Kind("B10", "bounded random walk", False, bounded_walk),
    Kind("B11", "batch ramps", False, batches),
    Kind("B12", "logarithmic (arenas)", False, arenas),
    Kind("B13", "memtable", False, memtable),
    Kind("B14", "sessions", False, sessions),
    Kind("B15", "old generation, 6 to 24 h", False, old_generation),
    Kind("B16", "daily ramp, nightly reset", False, reset_at_night),
)

"""Random machines that run out of memory, with the truth: who leaks.

A machine has memory enough for its work: without the leak a seventh of it or more would always be
available. So whatever the healthy ones do (warm up, swing, restart, start late, fork), the leak is
to blame. A world is made from a seed that is a name: "report:17" is the same on every machine.
Sizes are MiB, times seconds from the first look.
"""

import math
import random
from collections.abc import Iterator
from typing import NamedTuple

TUNING, REPORTING = "tune", "report"
# The healthy ones never use more than this part of the machine.
FIT = 0.86
MARK = 0.05


class Proc(NamedTuple):
    """One process at a moment. ``born`` < 0: before the first look. ``key`` is its life."""

    key: str
    unit: str
    exe: str
    born: float
    size: float  # private, as statm tells it
    parent: str | None = None


class Service:
    """A unit. `procs(t)` are its processes; `real(t)` is what it takes from the machine."""

    leaks = False

    def __init__(self, name: str, r: random.Random, size: float, end: float) -> None:
        self.unit = f"{name}.service"
        self.exe = f"/usr/bin/{name}"
        self.r, self.size, self.end = r, size, end
        self.noise = r.choice((0.0, 0.002, 0.01, 0.03))
        self.seed = r.random()
        self.start = -log_uniform(r, 400, 1e6)

    def wobble(self, t: float) -> float:
        """Noise that belongs to the moment, so that one moment is the same whenever it is asked."""
        x = math.sin(t * 12.9898 + self.seed * 78.233) * 43758.5453
        return 1 + self.noise * (2 * (x - math.floor(x)) - 1)

    def level(self, t: float) -> float:  # noqa: ARG002  others need it
        return self.size

    def real(self, t: float) -> float:
        return self.level(t) * self.wobble(t) if t >= self.start else 0.0

    def procs(self, t: float) -> Iterator[Proc]:
        if t >= self.start:
            yield Proc(f"{self.unit}@{self.start:.0f}", self.unit, self.exe, self.start,
                       self.real(t))  # fmt: skip

    def peak(self) -> float:
        return self.size * (1 + self.noise)


class Steady(Service):
    """A database, a web server: level from its start on."""


class WarmUp(Service):
    """A cache that fills: quick at first, ever slower."""

    def __init__(self, name: str, r: random.Random, size: float, end: float) -> None:
        super().__init__(name, r, size, end)
        self.tau = log_uniform(r, 20, 3 * 3600)
        if r.random() < 0.6:
            self.start = r.uniform(0, end)

    def level(self, t: float) -> float:
        return self.size * (0.1 + 0.9 * (1 - math.exp(-(t - self.start) / self.tau)))


class LateRiser(Service):
    """Starts while memory is getting short already, and grows to its size within minutes."""

    def __init__(self, name: str, r: random.Random, size: float, end: float) -> None:
        super().__init__(name, r, size, end)
        self.start = end - log_uniform(r, 5, max(10.0, min(end / 3, 1800)))
        self.ramp = log_uniform(r, 2, 300)

    def level(self, t: float) -> float:
        return self.size * min(1.0, 0.05 + (t - self.start) / self.ramp)


class Saw(Service):
    """A collected heap: rises evenly and falls, over and over."""

    def __init__(self, name: str, r: random.Random, size: float, end: float) -> None:
        super().__init__(name, r, size, end)
        self.period = log_uniform(r, 15, 1800)
        self.low = r.uniform(0.25, 0.7)

    def level(self, t: float) -> float:
        phase = (t / self.period + self.seed) % 1
        return self.size * (self.low + (1 - self.low) * phase)


class Restarted(Service):
    """A database that is restarted once, perhaps just now: a new process that fills again."""

    def __init__(self, name: str, r: random.Random, size: float, end: float) -> None:
        super().__init__(name, r, size, end)
        ago = log_uniform(r, 5, end)
        self.at = end - ago
        self.ramp = log_uniform(r, 5, 600)

    def level(self, t: float) -> float:
        return self.size if t < self.at else self.size * min(1.0, 0.05 + (t - self.at) / self.ramp)

    def procs(self, t: float) -> Iterator[Proc]:
        if t < self.start:
            return
        born = self.start if t < self.at else self.at
        yield Proc(f"{self.unit}@{born:.0f}", self.unit, self.exe, born, self.real(t))


class Job(Service):
    """A job that comes again and again, each time a new process; it may run when memory ends."""

    def __init__(self, name: str, r: random.Random, size: float, end: float) -> None:
        super().__init__(name, r, size, end)
        self.period = log_uniform(r, 900, 86400)
        self.lasts = min(self.period * 0.5, log_uniform(r, 30, 1800))
        # Its phase: half of them are running at the end.
        self.offset = end - self.lasts * r.random() if r.random() < 0.5 else r.random() * end

    def _run(self, t: float) -> float | None:
        began = self.offset + math.floor((t - self.offset) / self.period) * self.period
        return began if t - began < self.lasts else None

    def real(self, t: float) -> float:
        began = self._run(t)
        if began is None:
            return 0.0
        return self.size * min(1.0, 0.05 + (t - began) / (0.4 * self.lasts)) * self.wobble(t)

    def procs(self, t: float) -> Iterator[Proc]:
        began = self._run(t)
        if began is not None:
            yield Proc(f"{self.unit}@{began:.0f}", self.unit, self.exe, began, self.real(t))


class Bursts(Service):
    """Level, with bursts of some seconds to minutes at random times."""

    def __init__(self, name: str, r: random.Random, size: float, end: float) -> None:
        super().__init__(name, r, size, end)
        self.lasts = log_uniform(r, 3, 120)
        self.every = self.lasts * log_uniform(r, 4, 100)
        self.base = r.uniform(0.3, 0.8)

    def level(self, t: float) -> float:
        slot = math.floor(t / self.every)
        x = math.sin(slot * 91.7 + self.seed * 47.1) * 7919
        begin = (x - math.floor(x)) * (self.every - self.lasts)
        inside = 0 <= t - slot * self.every - begin < self.lasts
        return self.size * (1.0 if inside else self.base)


class Workers(Service):
    """A pool of workers whose number follows the load, up to what is configured."""

    def __init__(self, name: str, r: random.Random, size: float, end: float) -> None:
        super().__init__(name, r, size, end)
        self.most = r.randint(4, 16)
        self.period = log_uniform(r, 120, 86400)

    def _count(self, t: float) -> int:
        swing = 0.5 + 0.5 * math.sin(t / self.period * math.tau + self.seed * 7)
        return max(1, round(self.most * (0.3 + 0.7 * swing)))

    def real(self, t: float) -> float:
        return self._count(t) * self.size / self.most * self.wobble(t)

    def procs(self, t: float) -> Iterator[Proc]:
        count = self._count(t)
        for i in range(count):
            # The first ones live on; the others come and go with the load.
            born = self.start if i == 0 else self._since(t, i)
            yield Proc(f"{self.unit}#{i}@{born:.0f}", self.unit, self.exe, born,
                       self.real(t) / count)  # fmt: skip

    def _since(self, t: float, i: int) -> float:
        """When the load last called for the worker `i`, to a sixtieth of the period."""
        step = self.period / 60
        at = math.floor(t / step) * step
        for _ in range(60):
            if at < 0 or self._count(at) <= i:
                return at
            at -= step
        return self.start


class Snapshots(Service):
    """Forks now and then to write itself down (Redis): the child looks as large as its parent."""

    def __init__(self, name: str, r: random.Random, size: float, end: float) -> None:
        super().__init__(name, r, size, end)
        self.every = log_uniform(r, 300, 7200)
        self.lasts = min(self.every / 3, log_uniform(r, 10, 120))
        if r.random() < 0.5:
            self.every = max(self.every, self.lasts * 3)
            self.seed = (end - self.lasts * r.random()) / self.every % 1

    def _child(self, t: float) -> float | None:
        begin = (math.floor(t / self.every - self.seed) + self.seed) * self.every
        return begin if 0 <= t - begin < self.lasts else None

    def real(self, t: float) -> float:
        begin = self._child(t)
        copied = 0.0 if begin is None else 0.1 * (t - begin) / self.lasts
        return self.size * (1 + copied) * self.wobble(t)

    def procs(self, t: float) -> Iterator[Proc]:
        parent = f"{self.unit}@{self.start:.0f}"
        yield Proc(parent, self.unit, self.exe, self.start, self.size * self.wobble(t))
        begin = self._child(t)
        if begin is not None:
            yield Proc(f"{self.unit}~{begin:.0f}", self.unit, self.exe, begin, self.size, parent)

    def peak(self) -> float:
        return self.size * 1.1 * (1 + self.noise)


# ---- who leaks ---------------------------------------------------------------------------------


class Leak(Service):
    """`size` is its base, `leaked` what it has taken at `end`, from `onset` on."""

    leaks = True

    def __init__(self, name: str, r: random.Random, size: float, end: float) -> None:
        super().__init__(name, r, size, end)
        self.leaked = 0.0
        self.fills = log_uniform(r, 8, max(20.0, end))
        self.onset = end - self.fills
        if r.random() < 0.5:  # it leaks from its birth
            self.start = self.onset

    def grown(self, t: float) -> float:
        """What it has leaked at `t`; it goes on beyond the end."""
        return max(0.0, self.leaked * (t - self.onset) / self.fills)

    def level(self, t: float) -> float:
        return self.size + self.grown(t)

    def real(self, t: float) -> float:
        if t < self.start:
            return 0.0
        return self.size * self.wobble(t) + self.level(t) - self.size


class Linear(Leak):
    pass


class Quickening(Leak):
    """Slow at first (each request holds on to a little more)."""

    def grown(self, t: float) -> float:
        return float(self.leaked * max(0.0, (t - self.onset) / self.fills) ** 1.8)


class Stepwise(Leak):
    """Leaks a chunk at a time, as requests come."""

    def grown(self, t: float) -> float:
        steps = 6 + int(self.seed * 34)
        part = max(0.0, (t - self.onset) / self.fills)
        return self.leaked * math.floor(part * steps) / steps + self.leaked / steps / 2


class LeakingSaw(Leak):
    """A collected heap whose floor rises."""

    def level(self, t: float) -> float:
        period = 20 + self.seed * 600
        return self.size * (0.5 + 0.5 * ((t / period) % 1)) + self.grown(t)


class LeakingPool(Leak):
    """One worker of a pool leaks."""

    def procs(self, t: float) -> Iterator[Proc]:
        if t < self.start:
            return
        for i in range(6):
            size = self.size * self.wobble(t) / 6 + (self.grown(t) if i == 3 else 0.0)
            yield Proc(f"{self.unit}#{i}", self.unit, self.exe, self.start, size)


class EvenPool(Leak):
    """All workers of a pool leak together, each a little."""

    def procs(self, t: float) -> Iterator[Proc]:
        if t < self.start:
            return
        for i in range(12):
            yield Proc(f"{self.unit}#{i}", self.unit, self.exe, self.start, self.real(t) / 12)


class Moving(Leak):
    """Replaces its worker every so often, and the next one is larger."""

    def procs(self, t: float) -> Iterator[Proc]:
        if t < self.start:
            return
        life = 10 + self.seed * 50
        born = self.start + math.floor((t - self.start) / life) * life
        yield Proc(f"{self.unit}@{born:.1f}", self.unit, self.exe, max(born, self.start),
                   self.real(t))  # fmt: skip


HEALTHY = (Steady, Steady, WarmUp, LateRiser, Saw, Restarted, Job, Bursts, Workers, Snapshots)
LATE = (LateRiser, Restarted, Job, Bursts, Saw, Snapshots)
LEAKS = (Linear, Linear, Quickening, Stepwise, LeakingSaw, LeakingPool, EvenPool, Moving)


class World:
    """One machine: `services` (the last leaks), `memory` in MiB, `end`: when it is about full."""

    def __init__(self, seed: str) -> None:
        r = random.Random(seed)
        self.seed = seed
        self.end = log_uniform(r, 600, 86400)
        self.memory = log_uniform(r, 1024, 64 * 1024)
        self.cgroups = r.random() < 0.5
        kinds = [r.choice(HEALTHY) for _ in range(r.randint(4, 11))]
        kinds[0] = r.choice(LATE)  # something is always going on when memory ends
        parts = [log_uniform(r, 0.2, 6) for _ in kinds]
        self.services: list[Service] = [
            kind(f"{kind.__name__.lower()}{i}", r, part, self.end)
            for i, (kind, part) in enumerate(zip(kinds, parts, strict=True))
        ]
        leak = r.choice(LEAKS)
        self.leak: Leak = leak("culprit", r, 1.0, self.end)
        # So large that the healthy ones, all at their peak, leave what a machine should have left.
        share = r.uniform(0.35, FIT) - 0.03
        scale = share * self.memory / sum(one.peak() for one in self.services)
        for one in self.services:
            one.size *= scale
        self.leak.size = self.memory * log_uniform(r, 0.003, 0.03)
        others = sum(one.real(self.end) for one in self.services)
        full = self.memory * (1 - MARK) - others - self.leak.size
        self.leak.leaked = max(full, self.memory * 0.05)
        self.services.append(self.leak)

    def available(self, t: float) -> float:
        return self.memory - sum(one.real(t) for one in self.services)

    def procs(self, t: float) -> list[Proc]:
        return [proc for one in self.services for proc in one.procs(t) if proc.size > 0]


def log_uniform(r: random.Random, low: float, high: float) -> float:
    return float(low * (high / low) ** r.random())

"""Who is healthy on a machine: each kind of service, and what it holds at every moment."""

import math
import random
from collections.abc import Iterator
from typing import NamedTuple


class Proc(NamedTuple):
    """One process at a moment. ``born`` < 0: before the first look. ``key`` is its life."""

    key: str
    unit: str
    exe: str
    born: float
    size: float  # private, as statm tells it
    parent: str | None = None
    contained: bool = False  # in a container that has no unit


class Service:
    """A unit. `procs(t)` are its processes; `real(t)` is what it takes from the machine."""

    leaks = False
    files = 0.0  # the part that `filed` tells of

    def __init__(self, name: str, r: random.Random, size: float, end: float) -> None:
        self.unit = f"{name}.service"
        self.exe = f"/usr/bin/{name}"
        self.r, self.size, self.end = r, size, end
        self.noise = r.choice((0.0, 0.002, 0.01, 0.03))
        self.seed = r.random()
        self.start = -log_uniform(r, 400, 1e6)
        self.contained = False

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
                       self.real(t) - self.filed(t), contained=self.contained)  # fmt: skip

    def filed(self, t: float) -> float:
        """What of it lies in files in memory, and in none of its processes."""
        return self.real(t) * self.files

    def peak(self) -> float:
        return self.size * (1 + self.noise)


class Steady(Service):
    """A database, a web server: level from its start on."""


class Cache(Service):
    """Keeps a part of what it has in files of a tmpfs, and is charged for them."""

    def __init__(self, name: str, r: random.Random, size: float, end: float) -> None:
        super().__init__(name, r, size, end)
        self.files = r.uniform(0.2, 0.8)


class Crowd(Service):
    """A unit of more processes than the guard reads one by one."""

    def __init__(self, name: str, r: random.Random, size: float, end: float) -> None:
        super().__init__(name, r, size, end)
        self.many = r.randint(80, 300)

    def procs(self, t: float) -> Iterator[Proc]:
        if t < self.start:
            return
        for i in range(self.many):
            yield Proc(f"{self.unit}#{i}", self.unit, self.exe, self.start,
                       self.real(t) / self.many)  # fmt: skip


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
        self.contained = r.random() < 0.5
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
        yield Proc(parent, self.unit, self.exe, self.start, self.size * self.wobble(t),
                   contained=self.contained)  # fmt: skip
        begin = self._child(t)
        if begin is not None:
            yield Proc(f"{self.unit}~{begin:.0f}", self.unit, self.exe, begin, self.size, parent,
                       self.contained)  # fmt: skip

    def peak(self) -> float:
        return self.size * 1.1 * (1 + self.noise)


def log_uniform(r: random.Random, low: float, high: float) -> float:
    return float(low * (high / low) ** r.random())

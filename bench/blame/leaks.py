"""Who leaks: at once or later, evenly or not, in one process or in many."""

import math
import random
from collections.abc import Iterator

from bench.blame.services import Proc, Service, log_uniform


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


class LeakingCrowd(Leak):
    """So many leak together that the guard does not read them all."""

    def __init__(self, name: str, r: random.Random, size: float, end: float) -> None:
        super().__init__(name, r, size, end)
        self.start = -log_uniform(r, 400, 1e6)

    def procs(self, t: float) -> Iterator[Proc]:
        if t < self.start:
            return
        many = 100 + int(self.seed * 200)
        for i in range(many):
            yield Proc(f"{self.unit}#{i}", self.unit, self.exe, self.start, self.real(t) / many)


class LeakingCache(Leak):
    """Has had files in memory for long, perhaps more than it leaks."""

    def __init__(self, name: str, r: random.Random, size: float, end: float) -> None:
        super().__init__(name, r, size, end)
        self.start = -log_uniform(r, 400, 1e6)
        self.files = 0.9

    def filed(self, t: float) -> float:
        return self.size * self.files if t >= self.start else 0.0


class Moving(Leak):
    """Replaces its worker every so often, and the next one is larger."""

    def procs(self, t: float) -> Iterator[Proc]:
        if t < self.start:
            return
        life = 10 + self.seed * 50
        born = self.start + math.floor((t - self.start) / life) * life
        yield Proc(f"{self.unit}@{born:.1f}", self.unit, self.exe, max(born, self.start),
                   self.real(t))  # fmt: skip

"""Random machines that run out of memory, with the truth: who leaks.

A machine has memory enough for its work: without the leak a seventh of it or more would always be
available. So whatever the healthy ones do (warm up, swing, restart, start late, fork), the leak is
to blame. A world is made from a seed that is a name: "report:17" is the same on every machine.
Sizes are MiB, times seconds from the first look.
"""

import random

from bench.blame.leaks import (
    EvenPool,
    Leak,
    LeakingCache,
    LeakingCrowd,
    LeakingPool,
    LeakingSaw,
    Linear,
    Moving,
    Quickening,
    Stepwise,
)
from bench.blame.services import (
    Bursts,
    Cache,
    Crowd,
    Job,
    LateRiser,
    Proc,
    Restarted,
    Saw,
    Service,
    Snapshots,
    Steady,
    WarmUp,
    Workers,
    log_uniform,
)

TUNING, REPORTING = "tune", "report"
# The healthy ones never use more than this part of the machine.
FIT = 0.86
MARK = 0.05

HEALTHY = (Steady, Steady, WarmUp, LateRiser, Saw, Restarted, Job, Bursts, Workers, Snapshots,
           Cache, Crowd)  # fmt: skip
LATE = (LateRiser, Restarted, Job, Bursts, Saw, Snapshots)
LEAKS = (Linear, Linear, Quickening, Stepwise, LeakingSaw, LeakingPool, EvenPool, Moving,
         LeakingCrowd, LeakingCache)  # fmt: skip
# Who leaks beside much that has been carried for long.
CARRYING = (LeakingCrowd, LeakingCache)


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
        for one in self.services:
            if one.contained:  # what the machine is there for
                one.size *= 6
        leak = r.choice(LEAKS)
        self.leak: Leak = leak("culprit", r, 1.0, self.end)
        # So large that the healthy ones, all at their peak, leave what a machine should have left.
        share = r.uniform(0.35, FIT) - 0.03
        part = log_uniform(r, 0.003, 0.03)
        if leak in CARRYING:
            part = r.uniform(0.1, 0.35)
            share = r.uniform(0.6, FIT) - part
        scale = share * self.memory / sum(one.peak() for one in self.services)
        for one in self.services:
            one.size *= scale
        self.leak.size = self.memory * part
        others = sum(one.real(self.end) for one in self.services)
        full = self.memory * (1 - MARK) - others - self.leak.size
        self.leak.leaked = max(full, self.memory * 0.05)
        self.services.append(self.leak)

    def available(self, t: float) -> float:
        return self.memory - sum(one.real(t) for one in self.services)

    def procs(self, t: float) -> list[Proc]:
        return [proc for one in self.services for proc in one.procs(t) if proc.size > 0]

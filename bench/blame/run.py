"""How often the right one is chosen: `./dev bench blame [--seeds N] [--tune] [--misses] [--write]`.

Makes machines from their seeds, shows each to the daemon's own engine as its senses would, and,
when memory falls below the mark, lets the guard's own code choose: its condition, its looks, its
account of what was lost, its rank. Beside it choose three simpler rules. Nothing is read from the
machine.
"""

import argparse
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from bench.blame.guard import Guard
from bench.blame.machine import Machine
from bench.blame.worlds import MARK, REPORTING, TUNING, World
from bench.leaks.tables import write

RULES = ("size", "growth since healthy", "growth in 60 s", "ours")
PAGE = Path(__file__).parents[2] / "docs" / "blame.md"
HEALTHY_ABOVE = 2 * MARK


class Result(NamedTuple):
    seed: str
    kind: str
    fills_s: float
    chosen: dict[str, str]  # rule -> unit
    how: str
    said: tuple[str, ...]
    cgroups: bool


def steps(world: World) -> list[float]:
    """When the watcher looks: every 5 to 60 s, so that a long history has some 1,500 looks."""
    every = min(60.0, max(5.0, world.end / 1500))
    found, t = [], 0.0
    # the last minutes as they are lived: every 10 s
    while t < world.end * 1.5:
        found.append(t)
        t += every if t < world.end - 900 or every < 10 else 10.0
    return found


def run(seed: str) -> Result | None:
    """One world up to its decision; None where memory did not end."""
    world = World(seed)
    machine = Machine(world)
    guard = Guard(machine)
    healthy: dict[str, float] = {}
    times = steps(world)
    for i, t in enumerate(times):
        machine.show(t)
        if world.available(t) > HEALTHY_ABOVE * world.memory:
            healthy = by_unit(machine, t)
        found = guard.watch(t, times[i + 1] if i + 1 < len(times) else t)
        if found is not None:
            now = by_unit(machine, found.at)
            before = by_unit(machine, max(0.0, found.at - 60))
            return Result(seed, type(world.leak).__name__, world.leak.fills, {
                "size": largest(machine, found.at),
                "growth since healthy": grown(now, healthy),
                "growth in 60 s": grown(now, before),
                "ours": machine.owner[found.pid],
            }, found.how, found.said, world.cgroups)  # fmt: skip
    return None


def by_unit(machine: Machine, t: float) -> dict[str, float]:
    found: dict[str, float] = {}
    for _, _, proc in machine.look(t):
        found[proc.unit] = found.get(proc.unit, 0.0) + proc.size
    return found


def grown(now: dict[str, float], before: dict[str, float]) -> str:
    return max(now, key=lambda unit: (now[unit] - before.get(unit, 0.0), unit))


def largest(machine: Machine, t: float) -> str:
    """As earlyoom and the kernel: the largest process."""
    return max(machine.look(t), key=lambda row: (row[2].size, row[0]))[2].unit


# ---- tables ------------------------------------------------------------------------------------


def table(results: list[Result]) -> str:
    """Shares of right choices, in all and by kind and speed of the leak."""
    rows = [("all", results)]
    kinds = sorted({one.kind for one in results})
    rows += [(kind, [one for one in results if one.kind == kind]) for kind in kinds]
    speeds = (("in less than a minute", 0, 60), ("in 1 to 10 min", 60, 600),
              ("in 10 min to 2 h", 600, 7200), ("in more than 2 h", 7200, 1e9))  # fmt: skip
    rows += [(f"full {name}", [one for one in results if low <= one.fills_s < high])
             for name, low, high in speeds]  # fmt: skip
    rows += [("units' sizes from cgroups", [one for one in results if one.cgroups]),
             ("from processes alone", [one for one in results if not one.cgroups])]  # fmt: skip
    head = f"| worlds | of them | {' | '.join(RULES)} |\n|---|---|{'---|' * len(RULES)}\n"
    lines = []
    for name, some in rows:
        if some:
            parts = [f"{sum(right(one, rule) for one in some) / len(some):.1%}" for rule in RULES]
            lines.append(f"| {name} | {len(some)} | {' | '.join(parts)} |\n")
    return head + "".join(lines)


def right(one: Result, rule: str) -> bool:
    return one.chosen[rule] == "culprit.service"


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev bench blame", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds (1000)")
    parser.add_argument("--tune", action="store_true", help="the worlds that the rule was tuned on")
    parser.add_argument("--misses", action="store_true", help="print each wrong choice of ours")
    parser.add_argument("--write", action="store_true", help="put the table into docs/blame.md")
    options = parser.parse_args()
    which = TUNING if options.tune else REPORTING
    began = time.monotonic()
    seeds = [f"{which}:{i}" for i in range(options.seeds)]
    with multiprocessing.Pool(min(2, os.cpu_count() or 1)) as pool:
        found = pool.map(run, seeds, chunksize=4)
    results = [one for one in found if one is not None]
    if options.misses:
        for one in results:
            if not right(one, "ours"):
                print(one.seed, one.kind, f"{one.fills_s:.0f} s", one.chosen["ours"], one.how,
                      *one.said, sep="\n    ")  # fmt: skip
    text = table(results)
    print(text)
    print(f"{len(results)} of {len(seeds)} worlds ran out of memory; "
          f"{time.monotonic() - began:.0f} s", file=sys.stderr)  # fmt: skip
    if options.write:
        write(PAGE, "tables", text.rstrip("\n"), "bench blame")
    return 0


if __name__ == "__main__":
    sys.exit(main())

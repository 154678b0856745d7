"""How often the right one is chosen: `./dev bench blame [--seeds N] [--tune] [--misses] [--write]`.

Makes machines from their seeds, shows each to the daemon's own engine as its senses would, and,
when memory falls below the mark, lets `judge.blame` choose from the dossier and a fresh look, as
the guard does. Beside it choose three simpler rules. Nothing is read from the machine.
"""

import argparse
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from bench.blame.services import Proc
from bench.blame.worlds import MARK, REPORTING, TUNING, World
from bench.leaks.tables import write
from watchdog.engine import Engine
from watchdog.facts import Group, Host, Row, Sweep, Who
from watchdog.guard.scene import Scene
from watchdog.judge.blame import rank
from watchdog.policy.guard_when import GuardRules, Pressure
from watchdog.policy.rules import default_rules
from watchdog.sense.fast import LEAST_BYTES, Reading

MIB = 1 << 20
RULES = ("size", "growth since healthy", "growth in 60 s", "ours")
PAGE = Path(__file__).parents[2] / "docs" / "blame.md"
T0, UP0 = 1_700_000_000.0, 2_000_000.0
SHARED = 4 * MIB
HEALTHY_ABOVE = 2 * MARK
GLANCE_S = 10.0


class Result(NamedTuple):
    seed: str
    kind: str
    fills_s: float
    chosen: dict[str, str]  # rule -> unit
    how: str
    said: tuple[str, ...]
    cgroups: bool


class Machine:
    """A world as the daemon sees it: pids, facts, looks."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.engine = Engine(default_rules(), None)
        self.pids: dict[str, tuple[int, int]] = {}
        self.said: set[tuple[int, int]] = set()
        self.owner: dict[int, str] = {}

    def ident(self, proc: Proc) -> tuple[int, int]:
        found = self.pids.get(proc.key)
        if found is None:
            found = (100 + len(self.pids), max(1, int((UP0 + proc.born) * 100)))
            self.pids[proc.key] = found
            self.owner[found[0]] = proc.unit
        return found

    def look(self, t: float) -> list[tuple[int, int, Proc]]:
        return [(*self.ident(proc), proc) for proc in self.world.procs(t)]

    def host(self, t: float) -> Host:
        return Host(
            T0 + t, UP0 + t, boot_id="b", btime=T0 - UP0, mem_total=int(self.world.memory * MIB),
            mem_available=max(1, int(self.world.available(t) * MIB)), swap_total=0, swap_free=0,
            psi_some_us=0, psi_full_us=0, oom_kill=0,
        )  # fmt: skip

    def show(self, t: float) -> None:
        """A census, as the watcher takes it."""
        wall, up, w = T0 + t, UP0 + t, self.world
        self.engine.feed(self.host(t))
        rows: list[Row] = []
        for pid, start, proc in self.look(t):
            if (pid, start) not in self.said:
                self.said.add((pid, start))
                parent = self.pids[proc.parent][0] if proc.parent else 1
                where = f"/lxc/{proc.unit}" if proc.contained else f"/system.slice/{proc.unit}"
                self.engine.feed(Who(wall, up, pid, start, ppid=parent, uid=0, exe=proc.exe,
                                     cgroup=where))  # fmt: skip
            size = int(proc.size * MIB)
            name = proc.unit[:15]
            unit = None if proc.contained else proc.unit
            rows.append((pid, start, name, size + SHARED, SHARED, None, unit, None))
        if w.cgroups:
            for one in w.services:
                used, filed = int(one.real(t) * MIB), int(one.filed(t) * MIB)
                if used and not one.contained:
                    path = f"/system.slice/{one.unit}"
                    group = Group(wall, up, one.unit, path, anon=used - filed, shmem=filed)
                    self.engine.feed(group)
        self.engine.feed(Sweep(wall, up, tuple(rows), True))


class Eyes:
    """The guard's view of a world at the moment `t`."""

    root = ""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.there: dict[int, Reading] = {}

    def at(self, t: float) -> Host:
        self.there = {}
        for pid, start, proc in self.machine.look(t):
            size = int(proc.size * MIB)
            parent = self.machine.pids[proc.parent][0] if proc.parent else 1
            self.there[pid] = Reading(pid, start, proc.unit[:15], 0, size, size, parent)
        return self.machine.host(t)

    def sizes(self) -> dict[int, int]:
        return {pid: one.private for pid, one in self.there.items() if one.private >= LEAST_BYTES}

    def look(self, pid: int) -> Reading | None:
        return self.there.get(pid)

    def start_of(self, pid: int) -> int | None:
        return self.there[pid].start if pid in self.there else None


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
    mark = MARK * world.memory
    healthy: dict[str, float] = {}
    times = steps(world)
    for i, t in enumerate(times):
        machine.show(t)
        if world.available(t) > HEALTHY_ABOVE * world.memory:
            healthy = by_unit(machine, t)
        until = times[i + 1] if i + 1 < len(times) else t
        # The guard looks ten times a second; memory that falls below the mark is seen at once.
        at = crossing(world, t, until, mark)
        if at is not None and at > 0:
            found = decide(machine, at, until + 60, mark)
            if found is None:
                continue
            at, chosen, how, said = found
            now, before = by_unit(machine, at), by_unit(machine, max(0.0, at - 60))
            return Result(seed, type(world.leak).__name__, world.leak.fills, {
                "size": largest(machine, at),
                "growth since healthy": grown(now, healthy),
                "growth in 60 s": grown(now, before),
                "ours": chosen,
            }, how, said, world.cgroups)  # fmt: skip
    return None


def crossing(world: World, t: float, until: float, mark: float) -> float | None:
    pieces = 20
    for i in range(pieces):
        at = t + (until - t) * i / pieces
        if world.available(at) < mark:
            return at
    return None


def decide(
    machine: Machine, at: float, until: float, mark: float
) -> tuple[float, str, str, tuple[str, ...]] | None:
    """As guard/incident.py: fresh sizes, growth since a look some seconds ago, blame; again
    where it holds back. None where memory came back by itself."""
    world, engine, eyes = machine.world, machine.engine, Eyes(machine)
    scene = Scene(eyes, Pressure(GuardRules()), lambda *_: None)  # type: ignore[arg-type]
    scene.shield = lambda _: None
    scene.take_dossier(UP0 + at, engine.dossier(), history=engine.levels.history(UP0 + at))
    while at < until:
        available = world.available(at)
        if available >= 1.5 * mark:
            return None
        earlier = at - min(GLANCE_S, max(0.3, at))
        before = scene.look(UP0 + earlier, eyes.at(earlier))
        now = scene.look(UP0 + at, eyes.at(at))
        found = scene.candidates(now, before)
        need = int((1.5 * mark - available) * MIB)
        blame = rank(found, need, loss=scene.loss(now, before, found), deep=available < mark / 2,
                     history=scene.history)  # fmt: skip
        if blame.chosen is not None:
            said = [f"{one.candidate.comm} {tuple(one.rank)}" for one in blame.ranked]
            pid = blame.chosen.candidate.pid
            return at, machine.owner[pid], blame.how, (*blame.because, *said)
        at += 0.5
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

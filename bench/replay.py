"""How fast recordings are judged: `./dev bench replay [--rows N] [--processes N] [--interval S]`.

Makes traces on the fly, always the same: processes (half of them below 8 MiB, one in forty above
128) that are idle (60 %), noisy (24 %), have a garbage collector (5 %), climb to a plateau, step or
follow the load (10 %), or leak (1 %); with a host reading and a dozen cgroups a sweep, a census
every third sweep. Then it prints

  replay   rows a second of `oom-watchdog replay TRACE.jsonl.gz`, start included, under the shipped
           configuration and under one with three policies; its largest resident size for the trace
           and for one four times as long, which must not differ by more than noise
  judge    samples a second of `engine.feed` alone, on sweeps that are in memory already
           (census of all every 10 s, every 60 s; where every row changes every time; and, without
           a mark, where all are large, so that one in eight rises enough to be looked at closely)

Times are of the processor, so that a busy machine does not count; on an idle one they are those of
the clock. Exit status 1 where a figure misses its mark.
"""

import argparse
import gc
import gzip
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from watchdog import trace
from watchdog.engine import Engine
from watchdog.facts import Fact, Group, Host, Row, Sweep, Who
from watchdog.policy.rules import default_rules

MIB = 1 << 20
T0, UP0, BOOT = 1_700_000_000.0, 90_000.0, "b0b0b0b0-0000-4000-8000-000000000000"
UNITS = 12
ROWS_A_SECOND, SAMPLES_A_SECOND = 120_000, 1_000_000
GROWS_AT_MOST_MIB = 3.0
POLICIES = """
[policies.leaks]
match = { unit = "app-*.service" }
when = { leak = "confirmed", exhausts_within = "30min" }
for = "1min"
do = ["log"]

[policies.large]
match = { user = "0" }
when = { resident_above = "20GiB" }
do = ["log"]

[policies.fast]
match = { name = "worker*" }
when = { growth_above = "200MiB/s" }
do = ["log"]
"""
SHAPES = "flat " * 60 + "noise " * 24 + "saw " * 5 + "warm " * 4 + "step " * 3 + "day " * 3
KINDS = (SHAPES + "leak " * 1).split()
# One unit has a limit that its leaks reach, so that the whole way to a confirmation is walked.
TIGHT_LEFT = 256 * MIB


class Made:
    """`processes` of mixed shapes; `rows(at)` are their rows at so many seconds."""

    def __init__(
        self, processes: int, seed: str = "bench", busy: bool = False, large: bool = False
    ) -> None:
        self.chance = random.Random(seed)
        self.kinds = ["noise" if busy else self.chance.choice(KINDS) for _ in range(processes)]
        if not busy:
            self.kinds[0] = "leak"
        # As on a server: half of all hold less than 8 MiB, one in forty more than 128.
        powers = [self.chance.gauss(3.0, 2.0) for _ in range(processes)]
        if large:
            powers = [self.chance.uniform(0.0, 9.0) for _ in range(processes)]
        self.base = [int(2 ** min(12.0, power) * MIB) for power in powers]
        self.phase = [self.chance.random() for _ in range(processes)]

    def unit(self, index: int) -> str:
        return f"app-{index % UNITS}.service"

    def who(self, t: float, up: float) -> Iterator[Who]:
        for index in range(len(self.kinds)):
            unit = self.unit(index)
            yield Who(
                t, up, 1000 + index, 5_000_000 + index, 1, 1000, "/usr/bin/worker",
                f"/system.slice/{unit}", None, None, 0, f"/usr/bin/worker --number={index}", False,
            )  # fmt: skip

    def rows(self, at: float) -> tuple[Row, ...]:
        return tuple(
            (1000 + index, 5_000_000 + index, f"worker-{index % 40}", 3 * MIB + size, 3 * MIB,
             None, self.unit(index), None)
            for index, size in ((index, self._size(index, at)) for index in range(len(self.kinds)))
        )  # fmt: skip

    def _size(self, index: int, at: float) -> int:
        kind, base, phase = self.kinds[index], self.base[index], self.phase[index]
        if kind == "flat":
            return base
        if kind == "noise":
            return int(base * (1 + 0.02 * self.chance.random())) & ~4095
        if kind == "saw":
            return int(base * (1 + 0.5 * (at / (120 + 600 * phase) % 1.0))) & ~4095
        if kind == "warm":
            return int(base * (2 - math.exp(-at / (600 + 3600 * phase)))) & ~4095
        if kind == "step":
            return base if at < 3600 * phase else base + 40 * MIB
        if kind == "day":
            return int(base * (1.2 + 0.2 * math.sin(at / 13751 + 6.28 * phase))) & ~4095
        return (base + int(at * (5 + 200 * phase) * 1024)) & ~4095


def facts(made: Made, sweeps: int, interval: float) -> Iterator[Fact]:
    tight = 0
    for number in range(sweeps):
        at = number * interval
        t, up = T0 + at, UP0 + at
        yield Host(t, up, BOOT, T0 - UP0, 256 << 30, 200 << 30, 0, 0, 0, 0, 0)
        if number == 0:
            yield from made.who(t, up)
        rows = made.rows(at)
        used = [0] * UNITS
        for index, row in enumerate(rows):
            used[index % UNITS] += row[3] - row[4]
        for index, anon in enumerate(used):
            unit = made.unit(index)
            limit = 128 << 30
            if index == 0:
                limit = tight = tight or anon + TIGHT_LEFT
            yield Group(t, up, unit, f"/system.slice/{unit}", anon, 0, 0, 0, 0, anon, limit)
        yield Sweep(t, up, rows, number % 3 == 0)


def write(path: Path, made: Made, sweeps: int, interval: float) -> None:
    with gzip.open(path, "wt", encoding="ascii", compresslevel=6) as file:
        file.write(trace.header_line("bench", acted=False) + "\n")
        for fact in facts(made, sweeps, interval):
            file.write(trace.line(fact) + "\n")


def replay(path: Path, config: Path | None) -> tuple[float, float, str]:
    """(seconds, largest resident size in MiB, the last line) of one run of the command."""
    program = Path(sys.executable).with_name("oom-watchdog")
    argv = [str(program), "replay", str(path), *(["--config", str(config)] if config else [])]
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    said = child.stderr.read().strip().splitlines()
    _, status, usage = os.wait4(child.pid, 0)
    took = usage.ru_utime + usage.ru_stime
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 1):
        raise SystemExit(f"replay failed: {said}")
    return took, usage.ru_maxrss / 1024, said[-1] if said else ""


def judge(made: Made, rows: int, interval: float) -> float:
    """Samples a second of the engine alone. The first sweep, which makes everybody, counts too."""
    sweeps = max(10, rows // len(made.kinds))
    all_facts = list(facts(made, sweeps, interval))
    engine = Engine(default_rules(), "bench")
    gc.collect()
    gc.freeze()  # the rows are not the engine's: neither daemon nor replay holds so many at a time
    began = time.process_time()
    for fact in all_facts:
        engine.feed(fact)
    took = time.process_time() - began
    gc.unfreeze()
    return sweeps * len(made.kinds) / took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=600_000, help="rows of the shorter trace")
    parser.add_argument("--processes", type=int, default=1000)
    parser.add_argument("--interval", type=float, default=10.0, help="seconds between sweeps")
    parser.add_argument("--only", choices=["replay", "judge"])
    asked = parser.parse_args()
    good = True
    if asked.only != "judge":
        with tempfile.TemporaryDirectory(prefix="oom-watchdog-bench-") as folder:
            good = _replay(asked, Path(folder))
    if asked.only != "replay":
        for title, interval, busy, large in (
            ("a census every 10 s", 10.0, False, False),
            ("a census every 60 s", 60.0, False, False),
            ("every 10 s, every row changes every time", 10.0, True, False),
            ("every 10 s, all of them large", 10.0, False, True),
        ):
            made = Made(asked.processes, busy=busy, large=large)
            rate = max(judge(made, asked.rows, interval) for _ in range(2))
            mark = "" if large else f" (mark {SAMPLES_A_SECOND:,})"
            good &= large or rate >= SAMPLES_A_SECOND
            print(f"judge: {rate:,.0f} samples/s: {title}{mark}", flush=True)
    return 0 if good else 1


def _replay(asked: argparse.Namespace, folder: Path) -> bool:
    sweeps = asked.rows // asked.processes
    short, long, policies = folder / "a.jsonl.gz", folder / "b.jsonl.gz", folder / "c.toml"
    policies.write_text(POLICIES)
    write(short, Made(asked.processes), sweeps, asked.interval)
    write(long, Made(asked.processes), 4 * sweeps, asked.interval)
    good = True
    largest = []
    for title, path, count, config in (
        ("shipped configuration", short, asked.rows, None),
        ("three policies", short, asked.rows, policies),
        ("four times as long", long, 4 * asked.rows, None),
    ):
        took, resident, said = min(replay(path, config) for _ in range(2))
        good &= count / took >= ROWS_A_SECOND
        largest.append(resident)
        print(f"replay: {count / took:,.0f} rows/s, {resident:.1f} MiB: {title} ({said})",
              f"(mark {ROWS_A_SECOND:,})", flush=True)  # fmt: skip
    return good and largest[2] - largest[0] <= GROWS_AT_MOST_MIB


if __name__ == "__main__":
    sys.exit(main())

"""What a history of so many processes takes: `python -I -m bench.hold`, started by bench.cost.

Nothing is loaded but what the watcher loads, and it sheds what only the start needed, as that does.
"""

import os
import sys

import watchdog.watcher  # noqa: F401
from watchdog.act import armour
from watchdog.engine import Engine
from watchdog.facts import Host, Sweep, Who
from watchdog.policy.rules import default_rules

# As our own reader of /proc hands them out: one object for each name and number.
PROGRAMS = [f"program{i}" for i in range(200)]
UNITS = [f"unit{i}.service" for i in range(100)]
EXES = [f"/usr/bin/{name}" for name in PROGRAMS]
CGROUPS = [f"/system.slice/{unit}" for unit in UNITS]
MIB = 1 << 20
DAY_S = 86400


def resident_mib() -> float:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def hold(count: int, moving: int, units: bool) -> float:
    """The resident size of this process once it holds so many, in MiB."""
    engine = Engine(default_rules(), "bench")
    pids, starts = list(range(10_000, 10_000 + count)), list(range(8_000_000, 8_000_000 + count))

    def row(i: int, step: int) -> tuple[int, int, str, int, int, None, str | None, None]:
        moved = (i * 7919 + step * 104_729) % 997 * 16_384 if step else 0
        return (pids[i], starts[i], PROGRAMS[i % 200], 50 * MIB + i * 4096 + moved, 3 * MIB,
                None, UNITS[i % 100] if units else None, None)  # fmt: skip

    # Who is as before has the same row, the same objects, as our own reader of /proc does it.
    still = [row(i, 0) for i in range(moving, count)]
    armour.shed()
    # A week, in which the coarsest rings fill as well; all but its last day is sampled coarsely.
    times = [*range(0, 6 * DAY_S, 300), *range(6 * DAY_S, 7 * DAY_S, 30)]
    for step, at in enumerate(times if count else times[:1]):
        t, up = 1.7e9 + at, 90_000.0 + at
        engine.feed(Host(t, up, "boot", 1.0, 64 << 30, 50 << 30, 0, 0, 0, 0, 0))
        if not step:
            for i in range(count):
                engine.feed(Who(
                    t, up, pids[i], starts[i], 1, 1000, EXES[i % 200], CGROUPS[i % 100],
                    None, None, 0,
                    f"/usr/bin/program{i % 200} --id {i} --config /etc/program.conf", False,
                ))  # fmt: skip
        rows = tuple(row(i, step) for i in range(moving))
        census = not at % 600 or not moving  # who holds still is seen in censuses alone
        engine.feed(Sweep(t, up, (*rows, *still) if census else rows, census))
    return resident_mib()


if __name__ == "__main__":
    print(hold(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "units"))

"""The duel: `./dev duel [--missing] [--budget 50min] [--cells DAEMON:SCENARIO,…] [--write]`.

Boots the duel's virtual machine, lets each daemon meet each scenario in it (cells.py), keeps what
came out by image, peers' packages, scenario and (for ours) commit, and prints the table.
`--missing` goes on where the last run stopped; without it the cells that are named are run anew. A
cell during which the host did something else with more than 15 % of a CPU keeps who died, and loses
its times: they are not printed.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[2]
PAGE = TOP / "docs" / "duel.md"
BEGIN, END = "<!-- begin of the tables -->", "<!-- end of the tables -->"
CACHE = Path(os.environ.get("OOM_WATCHDOG_CACHE", "/var/cache/oom-watchdog-ci")) / "duel-cells"
OURS = "oom-watchdog"
DAEMONS = ("none", "earlyoom", "nohang", OURS)
SCENARIOS = ("hog", "leak", "late-riser", "stubborn", "respawn", "plateau", "cache")
BUSY = 0.15
RUNS = {OURS: 3}
PER_BOOT = 4  # a machine that was short of memory is not as new: boot again after so many
CELL_S = 330
Cell = dict[str, Any]


def key_of(image: str, daemon: str, scenario: str) -> str:
    """Cells are comparable where this is the same."""
    said = [image, scenario]
    said += [(HERE / name).read_text() for name in ("cells.py", "load.py")]
    if daemon == OURS:
        log = ["git", "-C", str(TOP), "log", "-1", "--format=%h", "--", "watchdog"]
        said.append(subprocess.run(log, capture_output=True, text=True, check=False).stdout)
    digest = hashlib.sha256("\0".join(said).encode()).hexdigest()[:12]
    return f"{daemon}-{scenario}-{digest}"


def kept(image: str, daemon: str, scenario: str) -> list[Cell]:
    found = []
    for path in sorted(CACHE.glob(key_of(image, daemon, scenario) + "-*.json")):
        with contextlib.suppress(ValueError):
            found.append(json.loads(path.read_text()))
    return found


class Host:
    """How busy the host is with other things than the machine that we booted."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []
        self.stopped = False

    def watch(self, pid: int) -> None:
        """Note every two seconds: (time, CPUs that others use)."""
        last: tuple[float, float, float] | None = None
        tick = os.sysconf("SC_CLK_TCK")
        while not self.stopped:
            fields = [
                int(one) for one in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
            ]
            busy = (sum(fields) - fields[3] - fields[4]) / tick
            own = sum(_cpu(one) for one in _tree(pid)) / tick
            now = time.time()
            if last is not None and now > last[0]:
                others = (busy - last[1]) - (own - last[2])
                self.samples.append((now, max(0.0, others / (now - last[0]))))
            last = (now, busy, own)
            time.sleep(2)


def _cpu(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])


def _tree(pid: int) -> list[int]:
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        with contextlib.suppress(OSError):
            todo += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
    return found


def boot(names: list[tuple[str, str]], keep: Path) -> tuple[list[Cell], float]:
    """Run these cells in one machine; what came out, and how busy the host was beside it."""
    cells = " ".join(f"{daemon}:{scenario}" for daemon, scenario in names)
    env = dict(os.environ, OOM_WATCHDOG_VM_IMAGE=str(HERE / "image"),
               OOM_WATCHDOG_VM_KEEP=str(keep),
               OOM_WATCHDOG_VM_LIMIT=str(CELL_S * len(names) + 400))  # fmt: skip
    argv = [str(TOP / "tests/vm/run"), "trixie", f"exec python3 -u duel/cells.py {cells}"]
    host = Host()
    process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    thread = threading.Thread(target=host.watch, args=(process.pid,), daemon=True)
    thread.start()
    process.wait()
    host.stopped = True
    thread.join()
    busy = statistics.fmean(one for _, one in host.samples) if host.samples else 1.0
    path = keep / "cells.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines], busy


def table(image: str) -> str:
    """The table as the page has it."""
    head = f"| | {' | '.join(SCENARIOS)} |\n|---|{'---|' * len(SCENARIOS)}\n"
    rows = []
    for daemon in DAEMONS:
        parts = [shown(kept(image, daemon, scenario)) for scenario in SCENARIOS]
        rows.append(f"| **{daemon}** | {' | '.join(parts)} |\n")
    return head + "".join(rows)


def shown(cells: Iterable[Cell]) -> str:
    """One cell: who died, in which order, and the longest stall; its runs one below another."""
    said = []
    for one in cells:
        guilty, deaths = set(one["guilty"]), [name for _, name in one["deaths"]]
        innocent = [name for name in deaths if name not in guilty]
        if innocent:
            text = f"**innocent died** ({', then '.join(dict.fromkeys(deaths))})"
        elif deaths:
            text = "culprit" if len(deaths) == 1 else f"culprit, {len(deaths)} times"
        else:
            text = "nobody died"
        if one["oom_kills"]:
            text += f", {one['oom_kills']} by the kernel"
        if guilty and one["relieved_s"] is None:
            text += ", no relief"
        if not one["host_busy"]:
            text += f"; stall {one['stall_s']:.2f} s"
            if one["relieved_s"] is not None and one["pressed_s"] is not None:
                text += f", relief after {one['relieved_s'] - one['pressed_s']:.1f} s"
        said.append(text)
    return "<br>".join(said) or "not run"


def seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+)(s|min|h)?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected a time such as 50min, found {text}")
    return int(found[1]) * {"s": 1, "min": 60, "h": 3600, None: 1}[found[2]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev duel", description=__doc__)
    parser.add_argument("--missing", action="store_true", help="only what was not run yet")
    parser.add_argument("--budget", type=seconds, default=3600.0, help="start no cell after this")
    parser.add_argument("--cells", help="such as earlyoom:leak,oom-watchdog:leak")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--write", action="store_true", help="put the table into docs/duel.md")
    options = parser.parse_args()
    make = [str(HERE / "image"), "trixie"]
    done = subprocess.run(make, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return 1
    image = Path(done.stdout.strip().splitlines()[-1]).name
    wanted = [(d, s) for s in SCENARIOS for d in DAEMONS]
    if options.cells:
        named = [tuple(one.split(":")) for one in options.cells.split(",")]
        wanted = [(one[0], one[1]) for one in named]
    if options.missing:
        wanted = [one for one in wanted if not kept(image, *one)]
    else:
        wanted = [one for one in wanted for _ in range(RUNS.get(one[0], 1))]
    if options.table:
        wanted = []
    began = time.monotonic()
    CACHE.mkdir(parents=True, exist_ok=True)
    while wanted and time.monotonic() - began < options.budget:
        some, wanted = wanted[:PER_BOOT], wanted[PER_BOOT:]
        keep = CACHE / f"boot-{time.strftime('%Y%m%d-%H%M%S')}"
        cells, busy = boot(some, keep)
        for one in cells:
            if "void" in one:
                print(f"{one['daemon']}:{one['scenario']}: void: {one['void']}")
                continue
            one |= {"host_busy": busy > BUSY, "host_others": round(busy, 2),
                    "date": time.strftime("%Y-%m-%d")}  # fmt: skip
            name = key_of(image, one["daemon"], one["scenario"])
            (CACHE / f"{name}-{time.time_ns()}.json").write_text(json.dumps(one))
            print(f"{one['daemon']}:{one['scenario']}: {shown([one])} (host: {busy:.2f} CPUs busy)")
        if len(cells) < len(some):
            print(f"{len(some) - len(cells)} cells left no result: {keep}", file=sys.stderr)
    text = table(image)
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        head, _, rest = page.partition(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n{text}{END}{rest.partition(END)[2]}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The duel: `./dev duel [--missing] [--budget 50min] [--cells DAEMON:SCENARIO,…] [--write]`.

Lets each daemon meet each scenario in a virtual machine, keeps what came out, prints the table.
A cell is kept under its image, its scenario and, for ours, the package (the content of watchdog/,
systemd/, debian/ and config/), so nothing is run again that cannot have changed. `--missing` goes
on where the last run stopped, and may be stopped at any moment; without it the cells that are
named are run anew. A cell during which the host did something else with more than 15 % of a CPU
counts as missing; how many those were, and which of them were not right, stands below the table.
"""

import argparse
import contextlib
import fcntl
import inspect
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[2]
sys.path[:0] = [str(TOP), str(HERE)]

import cells  # noqa: E402
import load  # noqa: E402
from saved import States, VoidError, digest  # noqa: E402
from scenarios import SCENARIOS, WARM, Role  # noqa: E402

from bench.leaks import tables  # noqa: E402

PAGE = TOP / "docs" / "duel.md"
CACHE = Path(os.environ.get("OOM_WATCHDOG_CACHE", "/var/cache/oom-watchdog-ci"))
CELLS = CACHE / "duel-cells"
OURS = "oom-watchdog"
PEERS = ("none", "earlyoom", "nohang", "systemd-oomd", "oomd")
DAEMONS = (*PEERS, OURS)
BUSY = 0.15
RUNS = {OURS: 3}
FIRST = ("hog", "leak", "leak-swap")  # where peers are looked at before anything is repeated
CI = ("hog", "memfd", "imposter", "cache-tight")  # one warm state; about 6 minutes in all
PACKAGE = ("watchdog", "systemd", "debian", "config")
Cell = dict[str, Any]


class Job(NamedTuple):
    """One cell that is to be run."""

    daemon: str
    scenario: str

    @property
    def warm(self) -> str:
        return SCENARIOS[self.scenario].warm


# ---- what is kept ------------------------------------------------------------------------------


def package() -> str:
    """The content of what is packaged, as it stands in the working folder."""
    listed = subprocess.run(["git", "-C", str(TOP), "ls-files", "-z", "--", *PACKAGE],
                            capture_output=True, check=True).stdout.split(b"\0")  # fmt: skip
    parts = []
    for name in sorted(filter(None, listed)):
        with contextlib.suppress(OSError):
            parts.append(name.hex() + (TOP / os.fsdecode(name)).read_bytes().hex())
    return digest("\0".join(parts))


def loads(roles: Iterable[Role]) -> str:
    """The source of what these services do."""
    kinds = {word for role in roles for word in role.load.split() if word in load.KINDS}
    return "".join(inspect.getsource(load.KINDS[kind]) for kind in sorted(kinds))


def warm_key(name: str) -> str:
    return digest(repr(WARM[name]) + loads(WARM[name].roles) + inspect.getsource(cells.warm))


class Kept:
    """The cells on disk that are comparable with a run of now."""

    def __init__(self, image: str) -> None:
        self.image = image
        self.package = package()
        CELLS.mkdir(parents=True, exist_ok=True)

    def key(self, daemon: str, scenario: str) -> str:
        it = SCENARIOS[scenario]._replace(says="")
        said = [self.image, repr(it), loads(it.roles), warm_key(it.warm), str(cells.METHOD)]
        said += [self.package] if daemon == OURS else []
        return f"{daemon}-{scenario}-{digest(chr(0).join(said))}"

    def of(self, daemon: str, scenario: str) -> list[Cell]:
        """The newest first."""
        return [one for one in self._all(daemon, scenario) if not one["host_busy"]]

    def busy(self, daemon: str, scenario: str) -> list[Cell]:
        """Those beside which the host did something else: they are no measurement."""
        return [one for one in self._all(daemon, scenario) if one["host_busy"]]

    def _all(self, daemon: str, scenario: str) -> list[Cell]:
        found = []
        for path in sorted(CELLS.glob(self.key(daemon, scenario) + "-*.json"), reverse=True):
            with contextlib.suppress(ValueError):
                found.append(json.loads(path.read_text()))
        return found

    def shown(self, daemon: str, scenario: str) -> list[Cell]:
        """As many as count for times, and every other one in which it was not right."""
        found, most = self.of(daemon, scenario), RUNS.get(daemon, 1)
        return found[:most] + [one for one in found[most:] if not right(one)]

    def add(self, one: Cell) -> None:
        path = CELLS / f"{self.key(one['daemon'], one['scenario'])}-{time.time_ns()}.json"
        path.with_suffix(".part").write_text(json.dumps(one))
        path.with_suffix(".part").rename(path)


# ---- how busy the host is ----------------------------------------------------------------------


class Host:
    """How busy the host is with other things than the machine that we run."""

    def __init__(self) -> None:
        self.samples: list[float] = []
        self.pid = 0
        threading.Thread(target=self._sample, daemon=True).start()

    def watch(self, pid: int) -> None:
        """From now on, beside this process."""
        self.pid, self.samples = pid, []

    @property
    def others(self) -> float:
        """CPUs; 1 where there was no time to look."""
        return statistics.fmean(self.samples) if self.samples else 1.0

    def _sample(self) -> None:
        last: tuple[int, float, float, float] | None = None
        tick = os.sysconf("SC_CLK_TCK")
        while True:
            text = Path("/proc/stat").read_text().split("\n")[0]
            fields = [int(one) for one in text.split()[1:9]]
            busy, pid = (sum(fields) - fields[3] - fields[4]) / tick, self.pid
            own = (_cpu(pid) + _cpu(os.getpid())) / tick
            now = time.monotonic()
            if last is not None and last[0] == pid and now > last[1]:
                others = (busy - last[2]) - (own - last[3])
                self.samples.append(max(0.0, others / (now - last[1])))
            last = (pid, now, busy, own)
            time.sleep(1)


def _cpu(pid: int) -> int:
    """Of a process and the children that it has waited for; `nice` became qemu by exec."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))


# ---- judging and showing -----------------------------------------------------------------------


def innocents(one: Cell) -> list[str]:
    """Who died and should not have, in the order of their deaths: services of the scenario, their
    workers, and then those of the system that do not run any more or were restarted.
    """
    names = [*(name for _, name in one["deaths"]), *one["lost"]]
    names = [name for name in names if name not in one["guilty"]]
    return list(dict.fromkeys([*names, *one.get("system", ())]))


def right(one: Cell) -> bool:
    """Nobody innocent died, and where somebody had to go, memory came back by that."""
    needed = one["guilty"] and not SCENARIOS[one["scenario"]].quiet_s
    return not innocents(one) and (not needed or one["relieved_s"] is not None)


def shown(cells: Iterable[Cell]) -> str:
    """One cell: who died, and the longest stall; its runs one below another."""
    said = []
    for one in cells:
        deaths = [name for _, name in one["deaths"] if name in one["guilty"]]
        times = len(deaths) + sum(one["lost"].values())
        if innocents(one):
            alive = one["alive"]
            names = (name + ("" if alive.get(name, True) else ", not back")
                     for name in innocents(one))  # fmt: skip
            order = ""  # of a service's workers and of the system's units no time is known
            if any(name not in one["guilty"] for _, name in one["deaths"]):
                order = " later" if one["deaths"][0][1] in one["guilty"] else " first"
            text = f"**innocent died{order}** ({'; '.join(names)})"
        elif one["lost"]:
            text = f"culprit ({times} processes)" if times > 1 else "culprit"
        elif deaths and len(set(deaths)) == 1:
            text = "culprit" if times == 1 else f"culprit, {times} times"
        elif deaths:
            text = "culprits"
        else:
            text = "nobody died"
        if one["oom_kills"]:
            text += f", {one['oom_kills']} by the kernel"
        if one["guilty"] and not SCENARIOS[one["scenario"]].quiet_s and one["relieved_s"] is None:
            text += ", no relief"
        text += f"; stall {one['stall_s']:.2f} s, scarce {one['scarce_s']:.1f} s"
        if one["relieved_s"] is not None:
            text += f", relief {one['relieved_s'] - one['pressed_s']:.1f} s"
        said.append(text)
    return "<br>".join(said) or "not run"


def table(kept: Kept) -> str:
    """As the page has it: a row for each scenario, the runs of ours below one another."""
    rows = []
    for scenario in SCENARIOS:
        runs = {daemon: kept.shown(daemon, scenario) for daemon in DAEMONS}
        rows.append([f"`{scenario}`", *(shown(runs[daemon]) for daemon in (OURS, *PEERS))])
    return tables.table(["", f"**{OURS}**", *PEERS], rows)


def summary(kept: Kept) -> str:
    """Right cells, stalls and footprints of each daemon; ours also where that daemon ran, too."""
    rows = []
    for daemon in (OURS, *PEERS):
        cells = [one for name in SCENARIOS for one in kept.of(daemon, name)]
        quiet = {name: stalls for name in SCENARIOS if (stalls := _stalls(kept, daemon, name))}
        sizes = [one["footprint_bytes"] for one in cells if one["footprint_bytes"]]
        rows.append([
            f"**{daemon}**" if daemon == OURS else daemon,
            f"{sum(map(right, cells))} of {len(cells)}",
            str(sum(bool(innocents(one)) for one in cells)),
            _seconds(statistics.median, chain(*quiet.values())),
            _seconds(statistics.median, chain(*(_stalls(kept, OURS, name) for name in quiet))),
            _seconds(max, chain(*quiet.values())),
            f"{statistics.median(sizes) / 2**20:.1f} MiB" if sizes else "-",
        ])  # fmt: skip
    head = ["", "right", "innocent died", "median stall", "ours in the same scenarios",
            "longest stall", "PSS"]  # fmt: skip
    return tables.table(head, rows)


def _stalls(kept: Kept, daemon: str, scenario: str) -> list[float]:
    """Of the runs that count for times."""
    return [one["stall_s"] for one in kept.of(daemon, scenario)[: RUNS.get(daemon, 1)]]


def _seconds(of: Callable[[list[float]], float], stalls: Iterable[float]) -> str:
    known = list(stalls)
    return f"{of(known):.2f} s" if known else "-"


def result(kept: Kept, image: Path) -> str:
    cells = [one for d in DAEMONS for s in SCENARIOS for one in kept.of(d, s)]
    if not cells:
        return "Not measured yet with this version."
    dates = sorted({one["date"] for one in cells})
    commits = sorted({one.get("commit", "") for one in cells if one["daemon"] == OURS} - {""})
    versions = [line for line in (image / "versions").read_text().splitlines() if line]
    said = (
        f"Measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))} by `./dev duel --missing`, "
        f"with {', '.join(versions)}, and {OURS} of {', '.join(commits) or 'no commit'}."
    )
    return f"{said}\n\n{summary(kept)}\n\n{table(kept)}\n\n{left_out(kept)}"


def left_out(kept: Kept) -> str:
    """What the host disturbed is no measurement; but a wrong one is not hidden by that."""
    cells = [one for d in (OURS, *PEERS) for s in SCENARIOS for one in kept.busy(d, s)]
    wrong = Counter(f"{one['daemon']}:{one['scenario']}" for one in cells if not right(one))
    said = f"Left out, because the host was busy beside them: {len(cells)} cells"
    if wrong:
        named = (f"`{name}`" + (f" {times} times" if times > 1 else "")
                 for name, times in wrong.items())  # fmt: skip
        said += f", not right among them {', '.join(named)}"
    return f"{said}."


# ---- running -----------------------------------------------------------------------------------


def plan(daemons: Sequence[str], scenarios: Sequence[str]) -> list[Job]:
    """Every cell with its repetitions, in the order in which they tell most."""
    ordered = sorted(scenarios, key=lambda one: list(WARM).index(SCENARIOS[one].warm))
    ours = [Job(OURS, one) for one in ordered] if OURS in daemons else []
    peers = [Job(daemon, one) for daemon in daemons if daemon != OURS for one in ordered
             if not SCENARIOS[one].kill_daemon_at]  # fmt: skip
    return [
        *ours,
        *(job for job in peers if job.scenario in FIRST),
        *ours * (RUNS[OURS] - 1),
        *(job for job in peers if job.scenario not in FIRST),
    ]


def missing(jobs: Iterable[Job], kept: Kept, *, busy_ok: bool) -> list[Job]:
    """Without those that a kept cell already stands for."""
    have: dict[Job, int] = {}
    wanted = []
    for job in jobs:
        if job not in have:
            have[job] = len(kept.of(*job)) + (len(kept.busy(*job)) if busy_ok else 0)
        have[job] -= 1
        if have[job] < 0:
            wanted.append(job)
    return wanted


def run(job: Job, states: States, host: Host, kept: Kept) -> Cell | None:
    """One cell, kept and printed; None if there is none."""
    began = time.monotonic()
    try:
        warm = states.warm(job.daemon, job.warm, warm_key(job.warm))
        made = time.monotonic()
        one = states.cell(warm, job.daemon, job.scenario)
        if "void" in one:
            raise VoidError(one["void"])
    except VoidError as error:
        print(f"{job.daemon}:{job.scenario}: void: {error}", flush=True)
        return None
    log = ["git", "-C", str(TOP), "log", "-1", "--format=%h"]
    commit = subprocess.run(log, capture_output=True, text=True, check=False).stdout.strip()
    one |= {"host_busy": host.others > BUSY, "host_others": round(host.others, 2),
            "date": time.strftime("%Y-%m-%d"), "commit": commit,
            "real_s": round(time.monotonic() - made, 1)}  # fmt: skip
    kept.add(one)
    took = f"state {made - began:.0f} s, cell {one['real_s']:.0f} s, of {one['end_s']:.0f} s there"
    verdict = f"{'' if right(one) else ' WRONG'} {shown([one])}"
    said = f"{time.strftime('%H:%M:%S')} {job.daemon}:{job.scenario}:{verdict}"
    print(f"{said} (host: {host.others:.2f} CPUs busy; {took})", flush=True)
    return one


def run_all(jobs: list[Job], image: Path, kept: Kept, end: float, *, again: bool) -> list[Cell]:
    """One after the other, and no two duels at a time: each would be the other's busy host.

    `again`: a cell beside which the host was busy comes once more, at the end.
    """
    planned = len(jobs)
    lock = (CACHE / "duel-states.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("another duel runs; this one waits for its end", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    host = Host()
    states = States(image, CACHE, kept.package, host.watch)
    done = []
    for index, job in enumerate(jobs):
        if time.monotonic() > end:
            print(f"the time is up; {len(jobs) - index} cells are left: --missing goes on")
            break
        one = run(job, states, host, kept)
        if one is not None:
            done.append(one)
            if again and one["host_busy"] and index < planned:
                jobs.append(job)
        rest = [(other.daemon, other.warm) for other in jobs[index + 1 :]]
        if job.daemon != OURS and (job.daemon, job.warm) not in rest:
            states.forget(job.daemon, job.warm, warm_key(job.warm))  # half a gigabyte each
    return done


def seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+)(s|min|h)?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected a time such as 50min, found {text}")
    return int(found[1]) * {"s": 1, "min": 60, "h": 3600, None: 1}[found[2]]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev duel", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--missing", action="store_true", help="only what was not run yet")
    parser.add_argument("--budget", type=seconds, default=1e9, help="start no cell after this")
    parser.add_argument("--cells", help="such as earlyoom:leak,oom-watchdog:leak")
    parser.add_argument("--daemons", default=",".join(DAEMONS), help="only these")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help="only these")
    parser.add_argument("--once", action="store_true", help="ours once too, not three times")
    parser.add_argument("--busy-ok", action="store_true", help="such beside a busy host count, too")
    parser.add_argument("--ci", action="store_true", help="four of ours; who died has to be right")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--write", action="store_true", help="put the table into docs/duel.md")
    return parser.parse_args()


def image_folder() -> Path:
    """Where the image is; it is made if it is not there, and so are the programs to run it."""
    need = "need qemu-system-x86_64=qemu-system-x86 qemu-img=qemu-utils mke2fs=e2fsprogs >&2"
    make = ["bash", "-c", f'. "$0"/.ci/lib.sh; {need}; exec "$1" trixie', str(TOP)]
    make += [str(HERE / "image")]
    done = subprocess.run(make, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return Path(done.stdout.strip().splitlines()[-1])


def main() -> int:
    chosen = options()
    image = image_folder()
    kept = Kept(image.name)
    jobs = plan(chosen.daemons.split(","), chosen.scenarios.split(","))
    if chosen.once:
        jobs = list(dict.fromkeys(jobs))
    if chosen.ci:
        jobs = [Job(OURS, name) for name in CI]
    elif chosen.cells:
        jobs = [Job(*one.split(":")) for one in chosen.cells.split(",")]
    if chosen.missing:
        jobs = missing(jobs, kept, busy_ok=chosen.busy_ok)
    if chosen.table or chosen.write:
        jobs = jobs if chosen.missing or chosen.cells else []
    if jobs:
        print(f"{len(jobs)} cells", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the machine ends with us
    again = not (chosen.ci or chosen.busy_ok)
    end = time.monotonic() + chosen.budget
    done = run_all(jobs, image, kept, end, again=again) if jobs else []
    if chosen.ci:
        wrong = [one for one in done if not right(one)]
        print(f"{len(done) - len(wrong)} passed, {len(jobs) - len(done) + len(wrong)} failed")
        return int(bool(wrong) or len(done) < len(jobs))
    text = result(kept, image)
    print(text)
    if chosen.write:
        listed = [[f"`{name}`", it.says] for name, it in SCENARIOS.items()]
        tables.write(PAGE, "scenarios", tables.table(["scenario", "what happens"], listed), "duel")
        tables.write(PAGE, "cells", text, "duel")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the daemon costs beside pidstat: `./dev bench cost [--processes N] [--seconds T]`.

Starts N real idle processes, then the daemon and `pidstat -r -p ALL 10` (package sysstat) side by
side on this same crowd, and prints the CPU time of each: all of pidstat's, and all of guard and
watcher, with the daemon's start and without. With `--memory` it asks instead what the history
costs in memory: the resident size of a process that has loaded what the watcher loads, and holds an
engine, fed with a made census of 0, 1,000, 2,000 and 10,000 processes that are described as in
/proc, of which 2,000 move all the time and the rest are idle, in units or each alone; for a week of
made time, so that the rings have filled.

Exit status 1 where a figure misses its mark. CPU time is of the processor, not of the clock.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.footprint import CONFIG, children, kilobytes

SHARE_OF_PIDSTAT = 0.3
MIB = 1 << 20
ALL_MIB, FIRST_MIB, FURTHER_MIB = 32.0, 3.0, 1.5


@contextlib.contextmanager
def crowd(count: int) -> Iterator[None]:
    """`count` processes that sleep."""
    pids = [
        os.posix_spawn("/bin/sleep", ["sleep", "1000000"], {}, setpgroup=0) for _ in range(count)
    ]
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)


def cpu_ns(pids: list[int]) -> int:
    """CPU time of all their threads so far, as the scheduler counts it."""
    return sum(
        int(Path(path, "schedstat").read_text().split()[0])
        for pid in pids
        for path in Path(f"/proc/{pid}/task").iterdir()
    )


def beside_pidstat(processes: int, seconds: int) -> bool:
    program = shutil.which("pidstat")
    if program is None:
        raise SystemExit("bench cost: no pidstat: apt-get install sysstat")
    with crowd(processes), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "config.toml"
        config.write_text(CONFIG.format(interval="10s"))
        argv = [str(Path(sys.executable).with_name("oom-watchdog")), "run", "--config"]
        argv += [str(config), "--state", str(folder / "state")]
        quiet = subprocess.DEVNULL
        environ = {**os.environ, "RUNTIME_DIRECTORY": name}
        daemon = subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet, cwd="/",
                                  env=environ)  # fmt: skip
        try:
            time.sleep(20)
            pids = [daemon.pid, *children(daemon.pid)]
            start = cpu_ns(pids)
            other = subprocess.Popen(
                [program, "-r", "-p", "ALL", "10", str(seconds // 10)], stdout=quiet
            )
            _, _, usage = os.wait4(other.pid, 0)
            other.returncode = 0
            split = {pid: cpu_ns([pid]) for pid in pids}
            used = (sum(split.values()) - start) / 1e9
            held = {pid: kilobytes(pid, "status", "VmRSS") / MIB for pid in pids}
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(20)
    theirs = usage.ru_utime + usage.ru_stime
    share = used / theirs
    print(f"{processes} idle processes beside those that run here, {seconds} s, every 10 s")
    print(f"  pidstat -r -p ALL 10:   {theirs:.2f} s of CPU")
    print(f"  guard and watcher:      {used:.2f} s: {share:.2f} of pidstat's "
          f"(mark {SHARE_OF_PIDSTAT}), {100 * used / seconds:.2f} % of a core")  # fmt: skip
    print(f"  the first 20 s of both: {start / 1e9:.2f} s more")
    print("  guard, watcher so far:  " + ", ".join(f"{ns / 1e9:.2f} s" for ns in split.values()))
    print("  resident:               " + ", ".join(f"{mib:.1f} MiB" for mib in held.values()))
    return share <= SHARE_OF_PIDSTAT


def memory() -> bool:
    sizes = {}
    crowds = [(count, 0, units) for units in (True, False) for count in (1000, 2000, 10_000)]
    crowds += [(2000, 2000, True), (10_000, 2000, True), (10_000, 2000, False)]
    for crowd_ in [(0, 0, True), *crowds]:
        count, moving, units = crowd_
        argv = [sys.executable, "-m", "bench.hold", str(count), str(moving)]
        argv.append("units" if units else "alone")
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        sizes[crowd_] = float(said)
        where = "in 100 units" if units else "without units"
        print(
            f"  {count:6,} processes, {moving:5,} moving, {where}: {float(said):.1f} MiB",
            flush=True,
        )
    good = True
    for units in (True, False):
        first = sizes[1000, 0, units] - sizes[0, 0, True]
        further = (sizes[10_000, 0, units] - sizes[1000, 0, units]) / 9
        where = "in" if units else "without"
        print(f"  {where} units: the first 1,000 {first:.1f} MiB (mark {FIRST_MIB}), "
              f"each further 1,000 {further:.2f} MiB (mark {FURTHER_MIB})")  # fmt: skip
        good = good and first <= FIRST_MIB and further <= FURTHER_MIB
    return good and max(sizes.values()) <= ALL_MIB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=3000)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--memory", action="store_true", help="what the history takes instead")
    asked = parser.parse_args()
    return (
        0 if (memory() if asked.memory else beside_pidstat(asked.processes, asked.seconds)) else 1
    )


if __name__ == "__main__":
    sys.exit(main())

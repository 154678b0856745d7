"""What the daemon costs beside pidstat: `./dev bench cost [--processes N] [--seconds T]`.

Starts N real idle processes, then the daemon and `pidstat -r -p ALL 10` (package sysstat) side by
side on this same crowd, and prints the CPU time of each: all of pidstat's, and all of guard and
watcher, with the daemon's start and without. With `--memory` it asks instead what the history
costs in memory: the resident size of a process that holds an engine and nothing else, fed with a
made census of 0, 1,000, 2,000 and 10,000 processes that are described as in /proc, of which 2,000
move all the time and the rest are idle; for a day of made time, so that the rings have filled.

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
# As our own reader of /proc hands them out: one object for each name.
PROGRAMS = [f"program{i}" for i in range(200)]
UNITS = [f"unit{i}.service" for i in range(100)]
EXES = [f"/usr/bin/{name}" for name in PROGRAMS]
CGROUPS = [f"/system.slice/{unit}" for unit in UNITS]
MIB = 1 << 20
ALL_MIB, FIRST_MIB, FURTHER_MIB = 32.0, 3.0, 1.5
DAY_S = 86400


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


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def hold(count: int, moving: int) -> float:
    """The resident size of this process once it holds so many, in MiB."""
    from watchdog.engine import Engine
    from watchdog.facts import Host, Sweep, Who
    from watchdog.policy.rules import default_rules

    engine = Engine(default_rules(), "bench")
    # Who is as before has the same row, the same objects, as our own reader of /proc does it.
    still = [row(i, 0) for i in range(moving, count)]
    for step in range(DAY_S // 30 if count else 1):
        at = step * 30
        t, up = 1.7e9 + at, 90_000.0 + at
        engine.feed(Host(t, up, "boot", 1.0, 64 << 30, 50 << 30, 0, 0, 0, 0, 0))
        if not step:
            for i, (pid, start, *_) in enumerate(still, moving):
                engine.feed(Who(
                    t, up, pid, start, 1, 1000, EXES[i % 200], CGROUPS[i % 100],
                    None, None, 0,
                    f"/usr/bin/program{i % 200} --id {i} --config /etc/program.conf", False,
                ))  # fmt: skip
        if step % 20 and count > 1000 and moving < count:
            rows = tuple(row(i, step) for i in range(moving))  # the rest is seen in censuses
            engine.feed(Sweep(t, up, rows, False))
        else:
            engine.feed(Sweep(t, up, (*(row(i, step) for i in range(moving)), *still), True))
    return resident_mib()


def row(i: int, step: int) -> tuple[int, int, str, int, int, None, str, None]:
    moved = (i * 7919 + step * 104_729) % 997 * 16_384 if step else 0
    return (10_000 + i, 8_000_000 + i, PROGRAMS[i % 200], 50 * MIB + i * 4096 + moved, 3 * MIB,
            None, UNITS[i % 100], None)  # fmt: skip


def memory() -> bool:
    sizes = {}
    for count, moving in ((0, 0), (1000, 0), (2000, 0), (10_000, 0), (2000, 2000), (10_000, 2000)):
        argv = [sys.executable, "-m", "bench.cost", "--hold", f"{count}:{moving}"]
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        sizes[count, moving] = float(said)
        print(f"  {count:6,} processes, {moving:5,} moving: {float(said):.1f} MiB", flush=True)
    first = sizes[1000, 0] - sizes[0, 0]
    further = (sizes[10_000, 0] - sizes[1000, 0]) / 9
    print(f"  the first 1,000: {first:.1f} MiB (mark {FIRST_MIB}); each further 1,000: "
          f"{further:.2f} MiB (mark {FURTHER_MIB})")  # fmt: skip
    return first <= FIRST_MIB and further <= FURTHER_MIB and sizes[10_000, 2000] <= ALL_MIB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=3000)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--memory", action="store_true", help="what the history takes instead")
    parser.add_argument("--hold", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.hold:
        count, _, moving = asked.hold.partition(":")
        print(hold(int(count), int(moving)))
        return 0
    return (
        0 if (memory() if asked.memory else beside_pidstat(asked.processes, asked.seconds)) else 1
    )


if __name__ == "__main__":
    sys.exit(main())

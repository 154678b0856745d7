"""What the daemon costs: `./dev bench [--processes N] [--seconds T] [--interval D]`.

Starts the daemon beside N idle processes, waits T seconds, and prints the memory of both its
processes, the CPU time they used, the size of the store, and what was written to the disk (with
now.json in memory, as under systemd). Exit status 1 where a figure is above its mark. Reads /proc
only; run it on an idle machine.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MIB = 1024 * 1024
GUARD_RSS_MAX = 12 * MIB
BOTH_PSS_MAX = 22 * MIB
TICKS = os.sysconf("SC_CLK_TCK")
CONFIG = '[watch]\ninterval = "{interval}"\n[kernel_log]\nsource = "auto"\n'


def kilobytes(pid: int, file: str, key: str) -> int:
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0


def cpu_s(pid: int) -> float:
    """User and system time of a process and the children it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(word) for word in fields[11:15]) / TICKS


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def written(pids: list[int]) -> int:
    """Bytes sent to the disk so far: the store's rows are rewritten, so its size says little."""
    found = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("write_bytes:"):
                found += int(line.split()[1])
    return found


def size_of(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def idle(count: int) -> subprocess.Popen[bytes] | None:
    """`count` processes that sleep, below one that ends them all when its input closes."""
    if not count:
        return None
    script = "i=0; while [ $i -lt $0 ]; do sleep 100000 & i=$((i+1)); done; read x; kill 0"
    return subprocess.Popen(
        ["sh", "-c", script, str(count - 1)], stdin=subprocess.PIPE, start_new_session=True
    )


def measure(seconds: float, interval: str, folder: Path, runtime: Path) -> int:
    config = folder / "config.toml"
    config.write_text(CONFIG.format(interval=interval))
    state = folder / "state"
    program = Path(sys.executable).with_name("oom-watchdog")
    argv = [str(program), "run", "--config", str(config), "--state", str(state)]
    environ = {**os.environ, "RUNTIME_DIRECTORY": str(runtime)}
    quiet = subprocess.DEVNULL
    daemon = subprocess.Popen(argv, stdin=quiet, stdout=quiet, cwd="/", env=environ)
    try:
        time.sleep(min(10.0, seconds / 3))  # the start costs more than the running
        pids = [daemon.pid, *children(daemon.pid)]
        began, stored = time.monotonic(), written(pids)
        before = {pid: cpu_s(pid) for pid in pids}
        time.sleep(seconds - min(10.0, seconds / 3))
        pids = [daemon.pid, *children(daemon.pid)]
        took = time.monotonic() - began
        used = sum(cpu_s(pid) - before.get(pid, 0.0) for pid in pids)
        rss = kilobytes(daemon.pid, "status", "VmRSS")
        pss = {pid: kilobytes(pid, "smaps_rollup", "Pss") for pid in pids}
        grown = written(pids) - stored
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(10)
    both = sum(pss.values())
    running = sum(name.isdigit() for name in os.listdir("/proc"))
    print(f"{running} processes, {seconds:.0f} s, interval {interval}")
    for pid, size in pss.items():
        print(
            f"  PSS of {'the guard' if pid == daemon.pid else 'the watcher'}: {size / MIB:.1f} MiB"
        )
    print(f"  PSS of both: {both / MIB:.1f} MiB (mark {BOTH_PSS_MAX // MIB})")
    print(f"  VmRSS of the guard: {rss / MIB:.1f} MiB (mark {GUARD_RSS_MAX // MIB})")
    print(f"  CPU: {100 * used / took:.2f} % of one core")
    print(f"  store: {size_of(state) / MIB:.2f} MiB")
    print(f"  written to the disk: {grown / took * 86400 / MIB:.0f} MiB a day")
    return 1 if both > BOTH_PSS_MAX or rss > GUARD_RSS_MAX else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=300, help="idle ones to start (300)")
    parser.add_argument("--seconds", type=float, default=300.0, help="how long to watch (300)")
    parser.add_argument("--interval", default="10s", help="[watch] interval (10s)")
    asked = parser.parse_args()
    crowd = idle(asked.processes)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="oom-watchdog-bench-") as folder,
            tempfile.TemporaryDirectory(prefix="oom-watchdog-bench-", dir="/dev/shm") as runtime,
        ):
            return measure(asked.seconds, asked.interval, Path(folder), Path(runtime))
    finally:
        if crowd is not None:
            crowd.communicate()


if __name__ == "__main__":
    sys.exit(main())

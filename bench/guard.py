"""What one look of the guard takes among many processes: `bench/guard.py [--processes N]`.

Starts N idle processes, and lets the guard's own parts decide on this machine as if memory were
short, again and again: the host, everybody's size, a close look at the largest and at those of the
watcher's word (512 of them), the rank. Nobody is signalled.
"""

import argparse
import os
import signal
import statistics
import time

from watchdog.facts import DossierRow
from watchdog.guard.incident import Incident
from watchdog.guard.scene import Scene
from watchdog.policy.guard_when import GuardRules, Mark, Pressure
from watchdog.sense.fast import Eyes

ROWS = 512


def idle(count: int) -> list[int]:
    """So many processes that wait; each holds a little of its own."""
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            kept = bytearray(1 << 20)
            kept[::4096] = b"x" * len(kept[::4096])
            while True:
                signal.pause()
        pids.append(pid)
    return pids


def row(pid: int, start: int) -> DossierRow:
    return (pid, start, f"p{pid}", f"u{pid}.service", 1 << 20, 1 << 20, 0.0, None, 0,
            f"u{pid}.service", 1 << 20, 0.0, 1000, 0)  # fmt: skip


def percentiles(name: str, took: list[float]) -> None:
    took.sort()
    found = (statistics.median(took), took[int(len(took) * 0.9) - 1], took[-1])
    median, most, longest = (seconds * 1e3 for seconds in found)
    print(
        f"{name:<34} median {median:6.1f} ms, 90th percentile {most:6.1f}, longest {longest:6.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What one look of the guard takes.")
    parser.add_argument("--processes", type=int, default=3000)
    parser.add_argument("--times", type=int, default=50)
    options = parser.parse_args()
    pids = idle(options.processes)
    try:
        eyes = Eyes()
        pressure = Pressure(GuardRules("observe", Mark(0.05)))
        told: list[str] = []
        scene = Scene(eyes, pressure, lambda *said: told.append(said[0]))
        starts = [(pid, eyes.start_of(pid)) for pid in pids[:ROWS]]
        scene.take_dossier(0.0, [row(pid, start) for pid, start in starts if start])
        calm, deciding, cpu = [], [], []
        for number in range(options.times):
            up = time.clock_gettime(time.CLOCK_BOOTTIME)
            began = time.perf_counter()
            host, pswpout = eyes.host(0.0, up)
            pressure.step(host, up, pswpout)
            calm.append(time.perf_counter() - began)
            scene.forget_looks()
            scene.glance(up - 1.0, host, 0.0)
            incident = Incident(scene, up, host, ("a measurement",))
            began, busy = time.perf_counter(), time.process_time()
            host, _ = eyes.host(0.0, up)
            incident.step(host, up, "observe")
            deciding.append(time.perf_counter() - began)
            cpu.append(time.process_time() - busy)
            assert len(told) == number + 1
        print(f"{len(os.listdir('/proc'))} entries in /proc, a word of {ROWS} rows")
        percentiles("a look at the machine", calm)
        percentiles("a decision, from look to order", deciding)
        percentiles("the same, CPU time", cpu)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main()

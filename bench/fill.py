"""How fast memory fills here: `./dev bench fill [--size MIB] [--rounds N]`.

One process, and then one for each CPU at once, writes to anonymous memory that it has just mapped,
with pages of 4 KiB and with huge ones: what a program does that takes memory as fast as it can. The
guard sleeps no longer than until its mark could be reached at FILL_RATE; this says what the machine
reaches. Nothing is filled that is not there: a quarter of what is available at the most, and each
process asks the kernel's killer to take it first. Run it on an idle machine; no figure is a mark.
"""

import argparse
import ctypes
import mmap
import os
import struct
import sys
import time

from watchdog.guard.loop import FILL_RATE, SLEEP_LEAST_S

MIB, GIB = 1 << 20, 1 << 30
HUGE = 2 * MIB  # of x86-64, and of the others with pages of 4 KiB


def available() -> int:
    with open("/proc/meminfo", "rb") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(b"MemAvail"))


def fill(size: int, huge: bool, ready: int, go: int, told: int) -> None:
    """In a child: map, say so, wait for the word, write, tell from when to when."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    memory = mmap.mmap(-1, size + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        memory.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    except OSError:
        if huge:
            os._exit(3)  # this kernel has none; of the others there are only small ones then
    at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    at += -at % HUGE
    os.write(ready, b"r")
    os.close(ready)
    os.read(go, 1)
    began = time.monotonic()
    ctypes.memset(at, 1, size)
    os.write(told, struct.pack("dd", began, time.monotonic()))


def rate(size: int, count: int, huge: bool) -> float | None:
    """Bytes a second that `count` processes fill together, from the first begin to the last end."""
    ready, go, told = os.pipe(), os.pipe(), os.pipe()
    children = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            try:
                fill(size, huge, ready[1], go[0], told[1])
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    os.close(ready[1])
    os.close(told[1])
    while os.read(ready[0], 1):  # until each has said it, or ended
        pass
    os.write(go[1], b"g" * count)
    times = b""
    while more := os.read(told[0], 4096):
        times += more
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    for fd in (ready[0], *go, told[0]):
        os.close(fd)
    if any(status == 3 for status in statuses):
        return None
    if any(statuses):
        sys.exit(f"fill: a process ended with {statuses}")
    found: list[tuple[float, float]] = list(struct.iter_unpack("dd", times))
    return size * count / (max(end for _, end in found) - min(began for began, _ in found))


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev bench fill")
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="of one process")
    parser.add_argument("--rounds", type=int, default=5, help="the best of so many is told")
    args = parser.parse_args()
    cpus = len(os.sched_getaffinity(0))
    print(f"{'processes':>9}  {'pages':<5}  {'MiB each':>8}  {'GiB/s':>6}")
    best = 0.0
    for count in dict.fromkeys((1, cpus)):
        size = min(args.size * MIB, available() // 4 // count) // HUGE * HUGE
        for huge in (False, True):
            rates = [one for _ in range(args.rounds) if (one := rate(size, count, huge))]
            said = f"{max(rates) / GIB:6.2f}" if rates else "  none"
            pages = "huge" if huge else "4 KiB"
            print(f"{count:>9}  {pages:<5}  {size // MIB:>8}  {said}", flush=True)
            best = max([best, *rates])
    tick = best * SLEEP_LEAST_S
    print(f"\nthe guard counts on {FILL_RATE / GIB:.0f} GiB/s; the fastest of these fills "
          f"{tick / MIB:.0f} MiB in a tick of {SLEEP_LEAST_S * 1000:.0f} ms: the shipped mark of a "
          f"machine of {tick * 20 / GIB:.1f} GiB")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())

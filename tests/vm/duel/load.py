"""A service of the duel: load.py FILE KIND [SIZE [RATE]], in MiB and MiB/s; our PID goes to FILE.

steady N · grow N R · stubborn N R (ignores SIGTERM) · warm N SECONDS · cache N · beat
"""

import mmap
import os
import signal
import sys
import time

MIB = 1 << 20
CHUNK = b"\xa5" * MIB


def hold(into: list[mmap.mmap], mib: float) -> None:
    """Take so many MiB more, and write to every page of them."""
    for _ in range(int(mib)):
        piece = mmap.mmap(-1, MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        piece[:] = CHUNK
        into.append(piece)


def beat(path: str) -> None:
    """The longest time for which an ordinary process stood still, in seconds."""
    longest = 0.0
    last = time.monotonic()
    while True:
        time.sleep(0.02)
        now = time.monotonic()
        if now - last - 0.02 > longest:
            longest = now - last - 0.02
            with open(path, "w") as file:
                file.write(f"{longest:.4f}")
        last = now


def main(path: str, kind: str, *more: str) -> None:
    if kind == "beat":
        beat(path)
    if kind == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(path + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(path + ".new", path)
    size = float(more[0])
    held: list[mmap.mmap] = []
    if kind == "cache":
        big = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "big")
        while True:
            with open(big, "rb", buffering=0) as file:
                while file.read(MIB):
                    pass
    if kind == "steady":
        hold(held, size)
        while True:  # a service at work: it uses what it holds
            for piece in held:
                piece[0] = 1
                piece[2 * 4096] = 1
            time.sleep(0.5)
    if kind == "warm":
        seconds = float(more[1])
        for _ in range(int(size)):
            hold(held, 1)
            time.sleep(seconds / size)
        while True:
            time.sleep(1)
    rate = float(more[1])
    hold(held, size)
    begin, taken = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - begin) * rate) - taken
        if due > 0:
            hold(held, min(due, 8))
            taken += min(due, 8)
        else:
            time.sleep(0.02)


if __name__ == "__main__":
    main(*sys.argv[1:])

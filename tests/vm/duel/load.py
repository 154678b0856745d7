"""A service of the duel: load.py FILE [--comm NAME] [--adj N] [--below GROUP] KIND [NUMBERS].

Its PID goes to FILE, how many workers it lost to FILE.lost; in MiB and MiB/s.
--below: move to a control group of that name below the unit's own. The kinds are in KINDS.
"""

import contextlib
import ctypes
import itertools
import mmap
import os
import random
import signal
import struct
import sys
import time
from collections.abc import Callable
from typing import NoReturn

MIB = 1 << 20
CHUNK = b"\xa5" * MIB
BIG = "/big/big"
Held = list[mmap.mmap]


def hold(into: Held, mib: float) -> None:
    """Take so many MiB more, and write to every page of them."""
    for _ in range(int(mib)):
        piece = mmap.mmap(-1, MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        piece[:] = CHUNK
        into.append(piece)


def at_rate(rate: float, take: Callable[[int], object]) -> NoReturn:
    """Call `take` with the MiB that are due, for ever."""
    begin, taken = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - begin) * rate) - taken
        if due > 0:
            take(min(due, 8))
            taken += min(due, 8)
        else:
            time.sleep(0.02)


def beat(path: str) -> NoReturn:
    """The longest time for which an ordinary process stood still, in seconds, goes to `path`; when
    it last came round to `path`.at, for what stands still when somebody looks.

    It does a little of what every service does: takes 128 KiB and gives them back, uses a page of
    a program file of 7 MiB, which the kernel may have thrown away meanwhile, and twice a second
    runs a small program, as a login would.
    """
    with open("/usr/bin/python3", "rb") as file:
        program = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    with open(path + ".at", "w+b") as file:
        file.truncate(4096)
        at = mmap.mmap(file.fileno(), 4096)
    longest = 0.0
    last = time.monotonic()
    for beats in itertools.count(1):
        time.sleep(0.02)
        if not beats % 25:
            os.waitpid(os.posix_spawn("/usr/bin/true", ["true"], {}), 0)
        with mmap.mmap(-1, 128 << 10, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as piece:
            for page in range(0, len(piece), 4096):
                piece[page] = 1
        program[random.randrange(len(program))]
        now = time.monotonic()
        if now - last - 0.02 > longest:
            longest = now - last - 0.02
            with open(path, "w") as file:
                file.write(f"{longest:.4f}")
        last = now
        struct.pack_into("d", at, 0, now)
    raise AssertionError


def steady(_: str, size: float) -> NoReturn:
    """A service at work: it uses what it holds."""
    held: Held = []
    hold(held, size)
    while True:
        for piece in held:
            piece[0] = 1
            piece[2 * 4096] = 1
        time.sleep(0.5)


def grow(_: str, size: float, rate: float) -> NoReturn:
    held: Held = []
    hold(held, size)
    at_rate(rate, lambda mib: hold(held, mib))


def stubborn(path: str, size: float, rate: float) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    grow(path, size, rate)


def warm(_path: str, size: float, seconds: float) -> NoReturn:
    held: Held = []
    for _ in range(int(size)):
        hold(held, 1)
        time.sleep(seconds / size)
    while True:
        time.sleep(1)


def memfd(_: str, rate: float) -> NoReturn:
    fd = os.memfd_create("cache")
    at_rate(rate, lambda mib: [os.write(fd, CHUNK) for _ in range(mib)])


def shm(_: str, rate: float) -> NoReturn:
    noreserve = 0x4000  # the kernel refuses what is larger than all memory without it
    flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | noreserve
    whole = mmap.mmap(-1, 2048 * MIB, flags=flags)
    at_rate(rate, lambda mib: [whole.write(CHUNK) for _ in range(mib)])


def tmpfs(_: str, rate: float) -> NoReturn:
    fd = os.open("/dev/shm/spool", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):  # it is full
        at_rate(rate, lambda mib: [os.write(fd, CHUNK) for _ in range(mib)])
    while True:
        time.sleep(1)


def cache(_: str) -> NoReturn:
    while True:
        with open(BIG, "rb", buffering=0) as file:
            while file.read(MIB):
                pass


def mapread(_: str, size: float, available: float) -> NoReturn:
    """Random reads over `size` MiB of a mapped file, or so many times what is available now."""
    length = int(size * MIB)
    if available:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":") for line in file)
        length = int(available * int(lines["MemAvailable"].split()[0]) * 1024)
    with open(BIG, "rb") as file:
        whole = mmap.mmap(file.fileno(), length, prot=mmap.PROT_READ)
    while True:
        whole[random.randrange(length)]


def lost(path: str, count: int) -> None:
    with open(path + ".lost", "w") as file:
        file.write(str(count))


def forkers(path: str, count: float, rate: float) -> NoReturn:
    """So many workers, each growing at the rate; one that dies is not replaced."""
    for _ in range(int(count)):
        if not os.fork():
            grow(path, 0, rate)
    gone = 0
    while gone < count:
        os.wait()
        gone += 1
        lost(path, gone)
    while True:
        time.sleep(1)


def moving(path: str, rate: float, period: float) -> NoReturn:
    """A worker at a time, each beginning with what the last one held."""
    begin, gone = time.monotonic(), 0
    while True:
        born = time.monotonic()
        pid = os.fork()
        if not pid:
            grow(path, (born - begin) * rate, rate)
        while time.monotonic() - born < period:
            if os.waitpid(pid, os.WNOHANG)[0]:
                begin, gone = time.monotonic(), gone + 1  # somebody ended it: from nothing again
                lost(path, gone)
                break
            time.sleep(0.1)
        else:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)


def cow(path: str, size: float, wait: float, seconds: float) -> NoReturn:
    """After `wait` s: for so long, each second a child that writes to a twentieth and lives 4 s."""
    held: Held = []
    hold(held, size)
    time.sleep(wait)
    end = time.monotonic() + seconds
    gone = children = 0
    while True:
        if time.monotonic() < end:
            if not os.fork():
                for piece in held[::20]:
                    piece[:] = CHUNK
                time.sleep(4)
                os._exit(0)
            children += 1
        while children and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            children -= 1
            if os.WIFSIGNALED(ended[1]):
                gone += 1
                lost(path, gone)
        time.sleep(1)


KINDS: dict[str, Callable[..., NoReturn]] = {
    "beat": beat, "steady": steady, "grow": grow, "stubborn": stubborn, "warm": warm,
    "memfd": memfd, "shm": shm, "tmpfs": tmpfs, "cache": cache, "mapread": mapread,
    "forkers": forkers, "moving": moving, "cow": cow,
}  # fmt: skip


def move(below: str) -> None:
    """Into a new control group below our own; each level gets the memory controller."""
    with open("/proc/self/cgroup") as file:
        own = "/sys/fs/cgroup" + file.read().split("0::")[1].split("\n")[0]
    group = f"{own}/{below}"
    os.makedirs(group)
    with open(f"{group}/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
    while group != own:
        own_next = f"{own}/{group[len(own) + 1 :].partition('/')[0]}"
        with contextlib.suppress(OSError), open(f"{own}/cgroup.subtree_control", "w") as file:
            file.write("+memory")
        own = own_next


def main(path: str, *words: str) -> None:
    rest = list(words)
    while rest[0].startswith("--"):
        flag, value = rest.pop(0), rest.pop(0)
        if flag == "--comm":
            ctypes.CDLL(None).prctl(15, value.encode(), 0, 0, 0)
        elif flag == "--adj":
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write(value)
        else:
            move(value)
    kind = rest.pop(0)
    if kind != "beat":
        with open(path + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(path + ".new", path)
    KINDS[kind](path, *map(float, rest))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Effect: what one process holds, by part, as one line of JSON. A program that ends soon.

    python -I -m watchdog.sense.parts --pid PID --start TICKS

smaps costs about 20 ms for each resident GiB, and while the kernel walks one mapping, faults of
that process may wait: of a 3 GiB one in a single mapping the longest of 20,000 faults took 0.2 s,
on two busy processors. So it is read in pieces, half a second and 4 MiB at the most, and not at
all of whom holds more than 4 GiB; then status alone is told, and smaps_rollup where smaps was too
long. Nothing of it is read of a process that is not the one that was meant.
"""

import json
import os
import sys
import time
from typing import Any

from watchdog import parts, procfs

READ_S = 0.5
TEXT_MAX = 4 << 20
PIECE = 64 << 10
RESIDENT_MAX = 4 << 30


def main(argv: list[str]) -> int:
    """Tell it; status 1 where the process is gone or will not be read."""
    found = look("/proc", int(argv[1]), int(argv[3]))
    if found is None:
        return 1
    print(json.dumps(found))
    return 0


def look(root: str, pid: int, start: int) -> dict[str, Any] | None:
    """The keys of facts.Parts that could be read; None where it is not (or no longer) that one."""
    base = f"{root}/{pid}"
    status = procfs.parse_kb(_read(f"{base}/status") or b"")
    if "RssAnon" not in status or _start(base) != start:
        return None
    found: dict[str, Any] = {
        "anon": status["RssAnon"] + status.get("VmSwap", 0),
        "shmem": status.get("RssShmem"),
        "swap": status.get("VmSwap"),
        "pagetables": status.get("VmPTE"),
        "hugetlb": status.get("HugetlbPages"),
        "threads": status.get("Threads"),
        "descriptors": _descriptors(f"{base}/fd"),
    }
    if status.get("VmRSS", 0) <= RESIDENT_MAX:
        text, whole = _pieces(f"{base}/smaps")
        if whole and text:
            said = parts.sort_out(parts.parse_smaps(text))._asdict()
            found |= said | {"libraries": list(said["libraries"])}
        elif text:
            rollup = procfs.parse_kb(_read(f"{base}/smaps_rollup") or b"")
            found["thp"] = rollup.get("AnonHugePages")
    return found if _start(base) == start else None


def _start(base: str) -> int | None:
    stat = procfs.parse_stat(_read(f"{base}/stat") or b"")
    return stat.start_ticks if stat else None


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 16)
    except OSError:
        return None


def _pieces(path: str) -> tuple[bytes, bool]:
    """(the text, whether it is whole)."""
    end = time.monotonic() + READ_S
    text = bytearray()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b"", False
    try:
        while len(text) < TEXT_MAX and time.monotonic() < end:
            piece = os.read(fd, PIECE)
            if not piece:
                return bytes(text), True
            text += piece
    except OSError:
        pass
    finally:
        os.close(fd)
    return bytes(text), False


def _descriptors(path: str) -> int | None:
    """How many are open: the size of the folder since Linux 6.2, else by listing it."""
    try:
        size = os.stat(path).st_size
        return size or len(os.listdir(path))
    except OSError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Effect: all that a machine tells of its memory, for the account of it. Slow (milliseconds), so
only commands use it; the daemon reads `sense.host`."""

import os
import re
import time
from collections.abc import Callable

from watchdog import host_memory, procfs, words
from watchdog.host_memory import Memory, Mount, Pool, Zram

Used = Callable[[bytes], tuple[int, int] | None]
TRIES = 5
PAUSE_S = 0.005  # a process of some hundred MiB is gone within that
SKEW = 2000  # as a part of the memory
MOVING = ("MemFree", "AnonPages", "Cached")
PAGE = os.sysconf("SC_PAGE_SIZE")
_POOL = re.compile(r"hugepages-(\d{1,12})kB")


def used(path: bytes) -> tuple[int, int] | None:
    """(used, size) bytes of the file system there; None where it cannot be asked."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return (found.f_blocks - found.f_bfree) * found.f_frsize, found.f_blocks * found.f_frsize


def read(
    t: float,
    up: float | None,
    proc: str = "/proc",
    sys: str = "/sys",
    ask: Used = used,
    page: int = PAGE,
) -> Memory:
    """One reading, from /proc and /sys or from recorded trees (then `ask` has to know the mounts,
    and `page` is the size of a page there). What is missing or refused is None.
    """
    told, vmstat, pcp = _counters(proc)
    own = host_memory.mounted(_slurp(f"{proc}/self/mountinfo"))
    arc = host_memory.kstat(_slurp(f"{proc}/spl/kstat/zfs/arcstats"))
    arc.update(host_memory.kstat(_slurp(f"{proc}/spl/kstat/zfs/abdstats")))

    def pages(key: str) -> int | None:
        return vmstat[key] * page if key in vmstat else None

    return Memory(
        t,
        up,
        page,
        meminfo={**dict.fromkeys(host_memory.MEMINFO), **told},
        events=host_memory.events(vmstat),
        settings={key: _number(f"{proc}/sys/vm/{key}") for key in host_memory.SETTINGS},
        thp={
            key: host_memory.chosen(_text(f"{sys}/kernel/mm/transparent_hugepage/{key}"))
            for key in host_memory.THP
        },
        free_pcp=None if pcp is None else pcp * page,
        isolated_anon=pages("nr_isolated_anon"),
        isolated_file=pages("nr_isolated_file"),
        zspages=pages("nr_zspages"),
        memmap=pages("nr_memmap_pages"),
        pools=_pools(f"{sys}/kernel/mm/hugepages"),
        zram=_zram(f"{sys}/block"),
        arc=arc or None,
        mounts=_mounts(proc, ask),
        confined=any(point == b"/proc/meminfo" for point, _, _ in own),
    )


def _counters(proc: str) -> tuple[dict[str, int], dict[str, int], int | None]:
    """meminfo, vmstat and the pages that the CPUs keep, of nearly one moment.

    They are read one right after the other, and again where much came free or was taken
    meanwhile: a process that ends in between moves its pages from one file to another. Of several
    tries the calmest counts.
    """
    tries: list[tuple[int, dict[str, int], list[bytes]]] = []
    while len(tries) < TRIES:
        if tries:
            time.sleep(PAUSE_S)
        raw = [_slurp(f"{proc}/{name}") for name in ("meminfo", "zoneinfo", "vmstat", "meminfo")]
        told, later = procfs.parse_kb(raw[0]), procfs.parse_kb(raw[3])
        moved = max(abs(later.get(key, 0) - told.get(key, 0)) for key in MOVING)
        tries.append((moved, told, raw))
        if moved * SKEW <= told.get("MemTotal", 0):
            break
    _, told, raw = min(tries, key=lambda one: one[0])
    return told, procfs.parse_counters(raw[2]), host_memory.per_cpu_pages(raw[1])


def page_tables(proc: str = "/proc") -> tuple[tuple[str, int, int], ...]:
    """(program, processes, bytes) of the page tables of each, the largest first."""
    sums: dict[str, tuple[int, int]] = {}
    for pid in _list(proc):
        if pid.isdigit():
            status = _slurp(f"{proc}/{pid}/status")
            size = procfs.parse_kb(status).get("VmPTE")
            if size:  # kernel threads have none
                name = words.name(status.partition(b"\n")[0].partition(b":")[2].strip())
                count, before = sums.get(name, (0, 0))
                sums[name] = count + 1, before + size
    return tuple(sorted(((n, *found) for n, found in sums.items()), key=lambda one: -one[2]))


def slabs(proc: str = "/proc", sys: str = "/sys") -> tuple[tuple[str, int], ...]:
    """(cache, bytes) of the caches that cannot be reclaimed, the largest first; root only."""
    found = host_memory.slabs(_slurp(f"{proc}/slabinfo"), PAGE)
    largest = sorted(found.items(), key=lambda one: -one[1])[:64]
    return tuple(
        (words.safe(name), size)
        for name, size in largest
        if size and "/" not in name and _number(f"{sys}/kernel/slab/{name}/reclaim_account") != 1
    )


def _pools(folder: str) -> tuple[Pool, ...]:
    """HugeTLB, by size (Documentation, hugetlbpage.rst)."""
    out = []
    for name in sorted(_list(folder)):
        found = _POOL.fullmatch(name)
        numbers = [
            _number(f"{folder}/{name}/{key}")
            for key in ("nr_hugepages", "free_hugepages", "resv_hugepages", "surplus_hugepages")
        ]
        if found and None not in numbers:
            total, free, reserved, surplus = (number or 0 for number in numbers)
            out.append(Pool(int(found[1]) * 1024, total, free, reserved, surplus))
    return tuple(sorted(out))


def _zram(folder: str) -> tuple[Zram, ...]:
    out = []
    for name in sorted(_list(folder)):
        if name.startswith("zram"):
            disk = f"{folder}/{name}"
            found = host_memory.mm_stat(name, _slurp(f"{disk}/disksize"), _slurp(f"{disk}/mm_stat"))
            if found is not None:
                out.append(found)
    return tuple(out)


def _mounts(proc: str, ask: Used) -> tuple[Mount, ...]:
    """Every tmpfs once, by its shortest path, the fullest first.

    The first process's mounts are the machine's; a sandbox of our own hides some. Those of other
    mount namespaces (containers) are in the shared memory without a mount.
    """
    first = _slurp(f"{proc}/1/mountinfo")
    shortest: dict[bytes, bytes] = {}
    for point, kind, device in host_memory.mounted(first or _slurp(f"{proc}/self/mountinfo")):
        if kind in (b"tmpfs", b"devtmpfs"):
            known = shortest.get(device)
            if known is None or len(point) < len(known):
                shortest[device] = point
    out = []
    for point in shortest.values():
        inside = os.fsencode(f"{proc}/1/root") + point
        found = (ask(inside) if first else None) or ask(point)
        if found is not None:
            out.append(Mount(words.name(point), found[0], found[1] or None))
    return tuple(sorted(out, key=lambda mount: (-mount.used, mount.path)))


def _slurp(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _text(path: str) -> str:
    return words.name(_slurp(path).strip())


def _number(path: str) -> int | None:
    text = _slurp(path).strip()
    return int(text) if text.isdigit() else None


def _list(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []

"""Pure: one reading of /proc/meminfo in the terms of `free` and of `sar -r ALL`.

The formulas are those of procps-ng from 4.0 and of sysstat from 12 on, so that the figures are
the ones that those programs print: https://man7.org/linux/man-pages/man1/free.1.html and
https://man7.org/linux/man-pages/man1/sar.1.html. A key that the kernel does not tell counts as 0
there, and therefore here.
"""

from collections.abc import Iterable, Mapping, Sequence

KEYS = (
    "MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "SReclaimable", "Shmem",
    "SwapTotal", "SwapFree", "Committed_AS", "Active", "Inactive", "Dirty", "AnonPages", "Slab",
    "KernelStack", "PageTables", "VmallocUsed",
)  # fmt: skip


def available(info: Mapping[str, int]) -> int:
    """MemAvailable as `free` takes it; a container's files may tell more than there is."""
    total, told = info.get("MemTotal", 0), info.get("MemAvailable", 0)
    return told if 0 < told <= total else info.get("MemFree", 0)


def free(info: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """{"Mem": columns, "Swap": columns} in bytes, of meminfo in bytes."""
    get = info.get
    total, left = get("MemTotal", 0), available(info)
    used = total - left if total >= left else total - get("MemFree", 0)
    swap, swap_free = get("SwapTotal", 0), get("SwapFree", 0)
    return {
        "Mem": {
            "total": total,
            "used": used,
            "free": get("MemFree", 0),
            "shared": get("Shmem", 0),
            "buff/cache": get("Buffers", 0) + get("Cached", 0) + get("SReclaimable", 0),
            "available": left,
        },
        "Swap": {"total": swap, "used": max(0, swap - swap_free), "free": swap_free},
    }


def sar(info: Mapping[str, int]) -> dict[str, int | float]:
    """The columns of `sar -r ALL`: KiB, and two shares in per cent (two places)."""
    kib = {key: info.get(key, 0) // 1024 for key in KEYS}
    total = kib["MemTotal"]
    unused = kib["MemFree"] + kib["Buffers"] + kib["Cached"] + kib["Slab"]
    used = total - min(unused, total)
    whole = total + kib["SwapTotal"]
    return {
        "kbmemfree": kib["MemFree"],
        "kbavail": kib["MemAvailable"],
        "kbmemused": used,
        "%memused": _per_cent(used, total),
        "kbbuffers": kib["Buffers"],
        "kbcached": kib["Cached"],
        "kbcommit": kib["Committed_AS"],
        "%commit": _per_cent(kib["Committed_AS"], whole),
        "kbactive": kib["Active"],
        "kbinact": kib["Inactive"],
        "kbdirty": kib["Dirty"],
        "kbanonpg": kib["AnonPages"],
        "kbslab": kib["Slab"],
        "kbkstack": kib["KernelStack"],
        "kbpgtbl": kib["PageTables"],
        "kbvmused": kib["VmallocUsed"],
    }


def average(readings: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The mean of each key over several readings, to the KiB, as sar's last line has it."""
    keys: Iterable[str] = dict.fromkeys(key for one in readings for key in one)
    count = len(readings)
    kib = {key: sum(one.get(key, 0) for one in readings) / count / 1024 for key in keys}
    return {key: round(value) * 1024 for key, value in kib.items()}


def _per_cent(part: int, whole: int) -> float:
    return round(part * 100 / whole, 2) if whole else 0.0

"""Pure: all that a live machine and its processes tell of memory, and the text that tells it.

Apart from `memory`, because the daemon never reads so much: only commands load this.
"""

from collections.abc import Mapping
from typing import NamedTuple

# Every line of /proc/meminfo that some kernel from 5.10 to 7.0 prints (fs/proc/meminfo.c,
# mm/hugetlb.c, arch/*); which of them there are depends on the configuration too.
MEMINFO = (
    "MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "SwapCached", "Active", "Inactive",
    "Active(anon)", "Inactive(anon)", "Active(file)", "Inactive(file)", "Unevictable", "Mlocked",
    "HighTotal", "HighFree", "LowTotal", "LowFree", "MmapCopy", "SwapTotal", "SwapFree", "Zswap",
    "Zswapped", "Dirty", "Writeback", "AnonPages", "Mapped", "Shmem", "KReclaimable", "Slab",
    "SReclaimable", "SUnreclaim", "KernelStack", "ShadowCallStack", "PageTables", "SecPageTables",
    "NFS_Unstable", "Bounce", "WritebackTmp", "CommitLimit", "Committed_AS", "VmallocTotal",
    "VmallocUsed", "VmallocChunk", "Percpu", "EarlyMemtestBad", "HardwareCorrupted",
    "AnonHugePages", "ShmemHugePages", "ShmemPmdMapped", "FileHugePages", "FilePmdMapped",
    "CmaTotal", "CmaFree", "Unaccepted", "Balloon", "GPUActive", "GPUReclaim", "HugePages_Total",
    "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp", "Hugepagesize", "Hugetlb", "DirectMap4k",
    "DirectMap2M", "DirectMap4M", "DirectMap1G",
)  # fmt: skip
# Counters of /proc/vmstat since the boot; allocstall is the sum over the zones (allocstall_normal).
EVENTS = (
    "oom_kill", "allocstall", "pgfault", "pgmajfault", "pswpin", "pswpout", "pgsteal_kswapd",
    "pgsteal_direct", "pgscan_kswapd", "pgscan_direct", "workingset_refault_anon",
    "workingset_refault_file", "workingset_activate_anon", "workingset_activate_file",
    "thp_fault_alloc", "thp_fault_fallback", "thp_collapse_alloc", "thp_collapse_alloc_failed",
    "thp_split_page", "thp_swpout", "thp_swpout_fallback", "compact_stall", "compact_fail",
    "compact_success", "zswpin", "zswpout", "swap_ra",
)  # fmt: skip
# /proc/sys/vm, as it stands there (min_free_kbytes in KiB, overcommit_ratio in percent).
SETTINGS = (
    "overcommit_memory", "overcommit_ratio", "overcommit_kbytes", "panic_on_oom",
    "oom_kill_allocating_task", "oom_dump_tasks", "swappiness", "min_free_kbytes",
    "watermark_scale_factor", "admin_reserve_kbytes", "user_reserve_kbytes", "nr_hugepages",
    "nr_overcommit_hugepages", "vfs_cache_pressure", "max_map_count",
)  # fmt: skip
# /sys/kernel/mm/transparent_hugepage: the word in brackets is the one in force.
THP = ("enabled", "defrag", "shmem_enabled", "use_zero_page", "khugepaged/defrag",
       "khugepaged/max_ptes_none")  # fmt: skip


class Held(NamedTuple):
    """What one process holds, in parts; bytes, None where this kernel does not tell.

    ``cgroup`` is its path in the memory hierarchy. ``thp`` (huge pages that the kernel gave by
    itself), ``pss`` (its share of what it shares), ``pss_anon`` (that of anonymous memory) and
    ``uss`` (what nobody else maps) are None unless they were asked for.
    """

    pid: int
    start: int
    comm: str
    uid: int | None
    unit: str | None
    container: str | None
    cgroup: str | None
    virtual: int
    resident: int
    anon: int | None
    file: int | None
    shmem: int | None
    swap: int | None
    pagetables: int | None
    hugetlb: int | None
    thp: int | None = None
    pss: int | None = None
    uss: int | None = None
    pss_anon: int | None = None


class Pool(NamedTuple):
    """HugeTLB pages of one size; pages, but `page` in bytes. `surplus` is part of `total`."""

    page: int
    total: int
    free: int
    reserved: int
    surplus: int


class Zram(NamedTuple):
    """One compressed RAM disk, of its mm_stat; bytes. `used` is what it costs, all in all."""

    name: str
    disksize: int
    data: int
    compressed: int
    used: int


class Mount(NamedTuple):
    """A tmpfs; bytes. `used` may be swapped out in part; `size` is None without a limit."""

    path: str
    used: int
    size: int | None


class Memory(NamedTuple):
    """All that a live machine tells of its memory; bytes, None where this kernel does not tell.

    `meminfo`, `events`, `settings` and `thp` have all keys of MEMINFO, EVENTS, SETTINGS and THP;
    meminfo those of later kernels too. `arc` is ZFS's arcstats and abdstats, None without ZFS.
    `confined`: /proc/meminfo is not the kernel's but a container's (lxcfs).
    """

    t: float
    up: float | None
    page: int
    meminfo: Mapping[str, int | None]
    events: Mapping[str, int | None]
    settings: Mapping[str, int | None]
    thp: Mapping[str, str | None]
    free_pcp: int | None = None
    isolated_anon: int | None = None
    isolated_file: int | None = None
    zspages: int | None = None
    memmap: int | None = None
    pools: tuple[Pool, ...] = ()
    zram: tuple[Zram, ...] = ()
    arc: Mapping[str, int] | None = None
    mounts: tuple[Mount, ...] = ()
    confined: bool = False


def events(vmstat: Mapping[str, int]) -> dict[str, int | None]:
    """The counters of EVENTS. Before 5.9 the refaults of both kinds were one counter: no key."""
    found: dict[str, int | None] = {key: vmstat.get(key) for key in EVENTS}
    stalls = [count for key, count in vmstat.items() if key.startswith("allocstall_")]
    if stalls:
        found["allocstall"] = sum(stalls)
    return found


def per_cpu_pages(zoneinfo: bytes) -> int | None:
    """Free pages that the CPUs keep for themselves: "count:" of the pagesets of /proc/zoneinfo.

    MemFree leaves them out. None where the text has no such line.
    """
    counts = [
        int(words[1])
        for line in zoneinfo.split(b"\n")
        if (words := line.split())[:1] == [b"count:"] and words[1:2] and words[1].isdigit()
    ]
    return sum(counts) if counts else None


def chosen(text: str) -> str | None:
    """The word in brackets of "always [madvise] never"; a plain word or number as it stands."""
    left, right = text.find("["), text.find("]")
    if 0 <= left < right:
        return text[left + 1 : right]
    return text.strip() or None


def mm_stat(name: str, disksize: bytes, text: bytes) -> Zram | None:
    """orig_data_size, compr_data_size, mem_used_total, … (Documentation, zram.rst)."""
    fields = [*text.split(), *disksize.split()]
    if len(fields) < 4 or not all(field.isdigit() for field in fields):
        return None
    size = int(fields[-1]) if disksize.strip() else 0
    return Zram(name, size, int(fields[0]), int(fields[1]), int(fields[2]))


def kstat(text: bytes) -> dict[str, int]:
    """The lines "name type data" of /proc/spl/kstat/zfs/*, type 4 being a number."""
    found: dict[str, int] = {}
    for line in text.split(b"\n")[2:]:
        fields = line.split()
        if len(fields) == 3 and fields[2].isdigit():
            found[fields[0].decode("ascii", "replace")] = int(fields[2])
    return found


def mounted(mountinfo: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """(mount point, type, device) of /proc/PID/mountinfo; of several at one point only the last,
    which hides the others. Octal escapes (\\040) are undone. See proc(5)."""
    found: dict[bytes, tuple[bytes, bytes, bytes]] = {}
    for line in mountinfo.split(b"\n"):
        left, dash, right = line.partition(b" - ")
        fields, kind = left.split(b" "), right.split(b" ")[0]
        if dash and len(fields) >= 6:
            point = _unescaped(fields[4])
            found[point] = point, kind, fields[2]
    return list(found.values())


def _unescaped(text: bytes) -> bytes:
    first, *rest = text.split(b"\\")
    out = [first]
    for part in rest:
        code = part[:3]
        if len(code) == 3 and all(48 <= digit < 56 for digit in code) and int(code, 8) < 256:
            out.append(bytes([int(code, 8)]) + part[3:])
        else:
            out.append(b"\\" + part)
    return b"".join(out)


def slabs(slabinfo: bytes, page: int) -> dict[str, int]:
    """Bytes of each cache of /proc/slabinfo (2.1): its slabs times the pages of one."""
    found: dict[str, int] = {}
    for line in slabinfo.split(b"\n"):
        left, colon, right = line.partition(b": slabdata ")
        fields, data = left.split(), right.split()
        if colon and len(fields) >= 6 and len(data) >= 2:
            per, count = fields[5], data[1]
            if fields[5].isdigit() and count.isdigit() and per.isdigit():
                found[fields[0].decode("ascii", "replace")] = int(per) * int(count) * page
    return found

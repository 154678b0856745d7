"""Pure: what a machine or a cgroup tells of its memory, in bytes, whoever told it.

An OOM report and a live /proc name the same counters of the kernel, in other words and units;
`Counters` and `Group` are what both are read into, and `judge.account` adds them up.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Counters(NamedTuple):
    """The counters of a whole machine; bytes, None where this kernel or this source has none.

    The names are those of the kernel (enum node_stat_item, zone_stat_item). `total` is the memory
    that the kernel manages (MemTotal; "pages RAM" less "reserved"). `lru_anon` and `lru_file` are
    the active, inactive and isolated pages of each list; what is unevictable is on neither.
    `anon` is mapped anonymous memory (AnonPages) and `cached` the page cache with tmpfs and shared
    memory in it, without the swap cache: only a live machine tells both. `partial` names counters
    of which a part alone was told (an OOM report leaves out memory nodes that were not allowed).
    """

    total: int
    free: int | None = None
    free_pcp: int | None = None
    free_cma: int | None = None
    lru_anon: int | None = None
    lru_file: int | None = None
    unevictable: int | None = None
    mlocked: int | None = None
    anon: int | None = None
    anon_thp: int | None = None
    cached: int | None = None
    swapcache: int | None = None
    shmem: int | None = None
    mapped: int | None = None
    dirty: int | None = None
    writeback: int | None = None
    writeback_tmp: int | None = None
    slab: int | None = None  # both kinds in one: 2.6.31 and before
    slab_reclaimable: int | None = None
    slab_unreclaimable: int | None = None
    kernel_misc_reclaimable: int | None = None
    pagetables: int | None = None
    sec_pagetables: int | None = None
    kernel_stack: int | None = None
    percpu: int | None = None
    vmalloc: int | None = None
    bounce: int | None = None
    hugepages: int | None = None
    hugepages_free: int | None = None
    hugepages_reserved: int | None = None
    zspages: int | None = None
    zram: int | None = None
    zswap: int | None = None
    arc: int | None = None
    balloon: int | None = None
    gpu_active: int | None = None
    gpu_reclaim: int | None = None
    hwpoisoned: int | None = None
    memmap: int | None = None
    partial: tuple[str, ...] = ()


class Group(NamedTuple):
    """The counters of a cgroup at its limit: usage, memory.stat, and kmem of cgroup v1; bytes.

    `summed`: the statistics are those of each cgroup of the subtree, added up here (before 5.3).
    `cut`: the kernel's record was too short for all of them.
    """

    usage: int
    stats: Mapping[str, int]
    kmem: int | None = None
    summed: bool = False
    cut: bool = False


# What processes, the page cache and reserved pools hold, by the names of /proc/meminfo. The lists
# hold all anonymous and file pages once, tmpfs and the swap cache with them.
_OWNED = (
    "MemFree", "Active(anon)", "Inactive(anon)", "Active(file)", "Inactive(file)", "Unevictable",
    "Hugetlb", "HardwareCorrupted", "Balloon", "GPUActive", "GPUReclaim",
)  # fmt: skip


def unowned(meminfo: Mapping[str, int], compressed: int = 0, arc: int = 0) -> int | None:
    """What no process and no cache holds: the kernel's own memory, and what no counter names.

    In bytes: unreclaimable slab, page tables, stacks, per-CPU and vmalloc memory, drivers; what
    cgroups are charged of it is in it. `compressed` is what zram and zswap hold (vmstat's
    nr_zspages), `arc` the cache of ZFS. None where meminfo does not tell the lists (before 2.6.28)
    or is made by others.
    """
    total = meminfo.get("MemTotal")
    if total is None or any(key not in meminfo for key in _OWNED[:6]):
        return None
    reclaimable = meminfo.get("KReclaimable", meminfo.get("SReclaimable", 0))
    pools = max(compressed, meminfo.get("Zswap", 0)) + arc
    huge = 0
    if "Hugetlb" not in meminfo:  # before 4.16
        huge = meminfo.get("HugePages_Total", 0) * meminfo.get("Hugepagesize", 0)
    owned = sum(meminfo.get(key, 0) for key in _OWNED)
    return max(0, total - owned - reclaimable - pools - huge)

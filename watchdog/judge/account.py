"""Pure: all of a memory added up without overlap, from an OOM report or from a live machine.

What no counter names is `unaccounted`; together with the parts it is exactly the total. On a
machine without special drivers it lies between -0.5 and 3 % of the total: the kernel has no counter
for pages that drivers take directly, for the swap's compressed pages (zram, before 6.18 in a
report), for a hypervisor's balloon (before 6.18), and in a report none for per-CPU memory and
vmalloc.

Overlaps, of the kernel's sources (mm/vmstat.c, fs/proc/meminfo.c, mm/show_mem.c):

- Shared memory and tmpfs lie on the anonymous lists, and in Cached, and in pagecache pages.
- The unevictable list holds anonymous, file and shared pages alike; no page is on two lists.
- A page in the swap cache is often mapped, then it is in AnonPages too.
- Kernel stacks are taken from vmalloc (VMAP_STACK, the default of the 64-bit architectures).
- free_cma and what is unaccepted are part of free; mapped, dirty, writeback of file (and shmem).
- zswap's pool is zspages; ARC's buffers are pages without a counter, but its small ones are slab.
- A balloon is taken off MemTotal by some drivers, not by others.
"""

from typing import NamedTuple

from watchdog.memory import Counters, Group
from watchdog.oom_report.report import Report

KERNEL = frozenset({
    "slab", "slab_reclaimable", "slab_unreclaimable", "kernel_misc_reclaimable", "pagetables",
    "sec_pagetables", "kernel_stack", "percpu", "vmalloc", "bounce", "writeback_tmp", "memmap",
    "kernel", "sock",
})  # fmt: skip
# Kernel memory that shrinks by itself when memory is short.
GIVEN_BACK = frozenset({"slab_reclaimable", "kernel_misc_reclaimable", "gpu_reclaim", "arc"})

_LABELS = {
    "anon": "anonymous", "file": "page cache", "shmem": "shared and tmpfs",
    "unevictable": "locked", "swapcache": "swap cache", "free": "free",
    "free_pcp": "free, kept by a CPU", "slab": "slab", "slab_reclaimable": "slab, reclaimable",
    "slab_unreclaimable": "slab, unreclaimable", "pagetables": "page tables",
    "kernel_misc_reclaimable": "kernel, reclaimable", "sec_pagetables": "page tables of guests",
    "kernel_stack": "kernel stacks", "percpu": "per-CPU", "vmalloc": "vmalloc", "bounce": "bounce",
    "writeback_tmp": "FUSE writeback", "hugepages": "huge pages", "zspages": "compressed swap",
    "arc": "ZFS cache", "balloon": "balloon", "gpu_active": "GPU", "gpu_reclaim": "GPU, kept",
    "hwpoisoned": "broken", "memmap": "memory map", "kernel": "kernel", "sock": "sockets",
    "zswap": "compressed swap", "unaccounted": "in no counter",
}  # fmt: skip
_LISTS = ("active_anon", "inactive_anon", "active_file", "inactive_file", "unevictable")


class Account(NamedTuple):
    """A memory added up; bytes. total = the sum of `parts` + `unaccounted`.

    `parts` are the largest first and never negative; only `unaccounted` can be, where the kernel
    read its counters at different moments. `within` are shares of the parts ("file_dirty"), and of
    all of them together ("unevictable", on a live machine). `partial` names parts that hold more
    than was told: the rest of them is in `unaccounted`. `cgroup`: of a cgroup, not of a machine.
    """

    total: int
    parts: tuple[tuple[str, int], ...]
    unaccounted: int
    within: dict[str, int]
    partial: tuple[str, ...] = ()
    cgroup: bool = False

    def get(self, key: str) -> int:
        """A part, 0 where there is none."""
        return next((size for name, size in self.parts if name == key), 0)

    @property
    def kernel(self) -> int:
        """What the kernel itself holds, less what it gives back by itself."""
        return sum(size for key, size in self.parts if key in KERNEL and key not in GIVEN_BACK)


def label(key: str) -> str:
    """A part in words."""
    return _LABELS.get(key, key.replace("_", " "))


def body(account: Account) -> dict[str, int]:
    """As an event has it: total_bytes, one key a part, unaccounted_bytes."""
    out = {"total_bytes": account.total}
    for key, size in account.parts:
        out[key + "_bytes"] = size
    out["unaccounted_bytes"] = account.unaccounted
    return out


def of_report(report: Report) -> Account | None:
    """The account of an OOM report; None where it does not tell enough."""
    if report.memory is None:
        return None
    return group(report.memory) if isinstance(report.memory, Group) else machine(report.memory)


def machine(c: Counters) -> Account:
    """The account of a whole machine."""
    parts: dict[str, int] = {}
    within: dict[str, int] = {}
    if c.anon is not None and c.cached is not None:
        _mapped_pages(c, parts, within)
    else:
        _listed_pages(c, parts)
    own = (
        "free", "free_pcp", "slab", "slab_reclaimable", "slab_unreclaimable",
        "kernel_misc_reclaimable", "pagetables", "sec_pagetables", "kernel_stack", "percpu",
        "bounce", "writeback_tmp", "hugepages", "memmap", "gpu_active", "gpu_reclaim", "hwpoisoned",
    )  # fmt: skip
    parts.update({key: size for key in own if (size := getattr(c, key)) is not None})
    if c.vmalloc is not None:
        # smaller than the stacks, it cannot hold them: no VMAP_STACK (or 4.4 to 5.2: always 0)
        stacks = c.kernel_stack or 0
        parts["vmalloc"] = c.vmalloc - stacks if c.vmalloc >= stacks else c.vmalloc
    pools = [size for size in (c.zram, c.zswap) if size is not None]
    if c.zspages is not None or pools:
        # a zswap that does not keep its pages in zsmalloc (before 6.18) is not in zspages
        parts["zspages"] = max(c.zspages or 0, sum(pools))
    for key, size in (("arc", c.arc), ("balloon", c.balloon)):
        if size is not None:
            parts[key] = max(0, min(size, c.total - sum(parts.values())))
    file = parts.get("file", 0)
    for key, size, most in (
        ("file_dirty", c.dirty, file), ("file_writeback", c.writeback, file),
        ("file_mapped", c.mapped, file), ("anon_thp", c.anon_thp, parts.get("anon", 0)),
        ("free_cma", c.free_cma, c.free or 0), ("mlocked", c.mlocked, c.total),
        ("hugepages_free", c.hugepages_free, c.hugepages or 0),
        ("hugepages_reserved", c.hugepages_reserved, c.hugepages_free or 0),
    ):  # fmt: skip
        if size is not None:
            within[key] = min(size, most)
    return _account(c.total, parts, within, c.partial)


def _mapped_pages(c: Counters, parts: dict[str, int], within: dict[str, int]) -> None:
    """A live machine: what is anonymous and what is cached are counters of their own."""
    anon, cached, shmem = c.anon or 0, c.cached or 0, c.shmem or 0
    parts["anon"] = anon
    parts["shmem"] = shmem
    parts["file"] = max(0, cached - shmem)
    if c.swapcache is not None and c.lru_anon is not None and c.lru_file is not None:
        lists = c.lru_anon + c.lru_file + (c.unevictable or 0)
        # what is on a list and neither mapped nor cached is on its way to the swap or back
        parts["swapcache"] = min(c.swapcache, max(0, lists - anon - cached))
    if c.unevictable is not None:
        within["unevictable"] = c.unevictable


def _listed_pages(c: Counters, parts: dict[str, int]) -> None:
    """A report: the kernel's lists. Locked pages are on a list of their own."""
    anon, shmem = c.lru_anon or 0, c.shmem or 0
    parts["anon"] = max(0, anon - shmem)
    if c.shmem is not None:
        parts["shmem"] = shmem
    if c.lru_file is not None:
        parts["file"] = c.lru_file
    if c.unevictable is not None:
        # more shared memory than anonymous pages: the rest of it is locked
        parts["unevictable"] = max(0, c.unevictable - max(0, shmem - anon))


def group(g: Group) -> Account:
    """The account of a cgroup (memory.stat of v1 and v2).

    Pages that the kernel has charged ahead (up to 64 a CPU) are unaccounted.
    """
    stats, total_of = g.stats, "total_" if "total_rss" in g.stats else ""

    def stat(key: str) -> int | None:
        return stats.get(total_of + key)

    parts: dict[str, int] = {}
    within: dict[str, int] = {}
    v1 = "anon" not in stats
    anon = (stat("rss") if v1 else stat("anon")) or 0
    cached = (stat("cache") if v1 else stat("file")) or 0
    shmem, swapcached = stat("shmem"), stat("swapcached") or 0
    parts["anon"] = anon
    parts["file"] = max(0, cached - (shmem or 0) - swapcached)
    if shmem is not None or not v1:
        parts["shmem"] = shmem or 0
    lists = [stat(name) for name in _LISTS]
    if swapcached and None not in lists:
        listed = sum(size or 0 for size in lists)
        parts["swapcache"] = min(swapcached, max(0, listed - sum(parts.values())))
    kernel = None if v1 else stat("kernel")
    if kernel is not None:
        parts["kernel"] = max(0, kernel - (stat("zswap") or 0))  # charged as kernel memory
    elif g.kmem is not None:
        parts["kernel"] = g.kmem
    elif not v1:
        keys = ("kernel_stack", "pagetables", "sec_pagetables", "percpu", "slab")
        parts["kernel"] = sum(stat(key) or 0 for key in keys)
    for key in ("sock", "zswap", "hugetlb"):
        size = stat(key)
        if size:
            parts["hugepages" if key == "hugetlb" else key] = size
    for key, told, most in (
        ("file_dirty", ("file_dirty", "dirty"), parts["file"]),
        ("file_writeback", ("file_writeback", "writeback"), parts["file"]),
        ("file_mapped", ("file_mapped", "mapped_file"), parts["file"]),
        ("anon_thp", ("anon_thp", "rss_huge"), anon),
        ("unevictable", ("unevictable",), g.usage),
    ):
        size = next((found for name in told if (found := stat(name)) is not None), None)
        if size is not None:
            within[key] = min(size, most)
    for key in ("slab_reclaimable", "slab_unreclaimable", "kernel_stack", "pagetables",
                "sec_pagetables", "percpu", "vmalloc"):  # fmt: skip
        size = stat(key)
        if size and "kernel" in parts:
            within["kernel_" + key.removeprefix("kernel_")] = min(size, parts["kernel"])
    partial = ("kernel",) if g.cut or "kernel" not in parts else ()
    return _account(g.usage, parts, within, partial)._replace(cgroup=True)


def _account(
    total: int, parts: dict[str, int], within: dict[str, int], partial: tuple[str, ...]
) -> Account:
    ordered = tuple(sorted(parts.items(), key=lambda part: (-part[1], part[0])))
    return Account(total, ordered, total - sum(parts.values()), within, partial)

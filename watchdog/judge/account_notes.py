"""Pure: what matters in an account of memory, one plain sentence for each part that stands out.

A part matters from a share of the total that ordinary machines stay well below; each threshold has
its reason beside it. The sentences are ordered by size, the largest part first.
"""

from collections.abc import Sequence
from typing import NamedTuple

from watchdog import words
from watchdog.judge.account import Account, of_report
from watchdog.oom_report.report import Report

# The entries that map memory in pages of 4 KiB are 0.2 % of it. Ten times as much is memory that
# many processes map, each with entries of its own, or maps of which little is used.
PAGE_TABLES = 0.02
# Ordinary machines: unreclaimable slab 1 to 3 %, stacks (16 KiB a thread) and per-CPU below 0.5 %.
SLAB = 0.10
KERNEL_SMALL = 0.03
# An account without special drivers leaves at most 3 %.
UNACCOUNTED = 0.03
# The rest is what one would want to know of any memory: a tenth of it, of what lies idle a
# hundredth.
MUCH = 0.10
IDLE = 0.01
SMALL = 1 << 20
# The kernel keeps 1 to 3 % free for itself (the watermarks).
FREE = 0.05
# With pages of 4 KiB a huge page takes the place of 512 entries.
ENTRIES = 512
MIB = 1 << 20


class Owners(NamedTuple):
    """Who holds the parts, where it is known; bytes, the largest first.

    `tables`: (program, how many processes, bytes) of page tables. `slabs`: (cache, bytes).
    `sites`: (place in the kernel's source, bytes). `mounts`: (path, bytes) of tmpfs. `swapped`:
    what lies in the swap. `page`: the size of a page.
    """

    tables: Sequence[tuple[str, int, int]] = ()
    slabs: Sequence[tuple[str, int]] = ()
    sites: Sequence[tuple[str, int]] = ()
    mounts: Sequence[tuple[str, int]] = ()
    swapped: int | None = None
    page: int | None = 4096


NOBODY = Owners()


def of_oom_report(report: Report) -> tuple[str, ...]:
    """What matters of the memory of an OOM report; nothing where it told no account."""
    account = of_report(report)
    if account is None:
        return ()
    swapped = None
    if report.swap_total is not None and report.swap_free is not None:
        swapped = max(0, report.swap_total - report.swap_free)
    owners = Owners(
        tables=_rows_tables(report),
        slabs=sorted(((name, size) for name, _, size in report.slabs), key=lambda one: -one[1]),
        sites=sorted(((place, size) for size, place in report.allocations), key=lambda o: -o[1]),
        swapped=swapped,
        page=report.page_size,
    )
    return notes(account, owners, ended=True)


def _rows_tables(report: Report) -> list[tuple[str, int, int]]:
    page, sums = report.page_size, dict[str, tuple[int, int]]()
    factor = 1 if report.pagetables_are_bytes else page
    for row in report.rows:
        if row.pagetables is not None and factor is not None:
            count, size = sums.get(row.name, (0, 0))
            sums[row.name] = count + 1, size + row.pagetables * factor
    return sorted(((name, *found) for name, found in sums.items()), key=lambda one: -one[2])


def notes(account: Account, owners: Owners = NOBODY, ended: bool = False) -> tuple[str, ...]:
    """The sentences. `ended`: of a moment that is past, when memory had run out."""
    be = "was" if ended else "is"
    found = [
        *_programs(account, owners, ended, be),
        *_tables(account, owners, be),
        *_kernel(account, owners, be),
        *_huge(account, be),
        *_rest(account, owners, ended, be),
    ]
    found.sort(key=lambda one: -one[0])
    return tuple(text for size, text in found if size >= SMALL)


_Found = list[tuple[int, str]]


def _programs(account: Account, owners: Owners, ended: bool, be: str) -> _Found:
    """Page cache, shared memory, what is locked or swapped."""
    out: _Found = []
    much = account.total * MUCH
    file, shmem = account.get("file"), account.get("shmem")
    if file >= much:
        out.append((file, _cache(account, file, ended)))
    if shmem >= much:
        out.append((shmem, _shared(shmem, owners, be)))
    locked = max(account.get("unevictable"), account.within.get("unevictable", 0))
    if locked >= much:
        out.append((locked, f"{words.size(locked)} {be} locked in memory, never to be swapped"))
    swap = account.get("zspages") + account.get("zswap")
    if swap >= much:
        of = f" ({words.size(owners.swapped)} of it before)" if owners.swapped else ""
        out.append((swap, f"{words.size(swap)} {be} swapped memory, compressed{of}"))
    return out


def _cache(account: Account, file: int, ended: bool) -> str:
    size = words.size(file)
    if not ended:
        return f"{size} is page cache: the kernel gives it back by itself when programs need it"
    busy = account.within.get("file_dirty", 0) + account.within.get("file_writeback", 0)
    if busy * 2 >= file:
        return f"{size} was page cache, {words.size(min(busy, file))} of it not yet on the disk"
    return f"{size} was page cache, which the kernel as a rule gives back by itself"


def _shared(shmem: int, owners: Owners, be: str) -> str:
    text = f"{words.size(shmem)} {be} shared memory and tmpfs, which stays until it is deleted"
    told = [f"{words.size(size)} in {path}" for path, size in owners.mounts if size * 10 >= shmem]
    rest = shmem - sum(size for _, size in owners.mounts)
    if told and rest * 10 >= shmem:
        told.append(f"{words.size(rest)} in no mount (programs share it)")
    return f"{text}: {', '.join(told[:4])}" if told else text


def _tables(account: Account, owners: Owners, be: str) -> _Found:
    tables = account.get("pagetables") or account.within.get("kernel_pagetables", 0)
    if tables < account.total * PAGE_TABLES:
        return []
    text = f"{words.size(tables)} {be} in page tables"
    name, count, size = owners.tables[0] if owners.tables else ("", 1, 0)
    size = min(size, tables)
    if size * 2 < tables:
        return [(tables, text)]
    whose = words.count(count, f"{name} process")
    if size * 10 >= tables * 9:
        text = f"{words.size(size)} {be} in page tables of {whose}"
    else:
        text += f", {words.size(size)} of it of {whose}"
    # every process has some 100 KiB of them, which huge pages would not spare
    if owners.page == 4096 and size >= count * MIB:
        few = words.size(-(-size // ENTRIES // MIB) * MIB).replace(".0 ", " ")
        text += f": huge pages would make that {few}"
    return [(tables, text)]


_OWN = (
    ("kernel_stack", KERNEL_SMALL, "in kernel stacks, some 16 KiB for each thread"),
    ("percpu", KERNEL_SMALL, "per-CPU memory of the kernel"),
    ("vmalloc", KERNEL_SMALL, "taken by the kernel in large pieces (vmalloc)"),
    ("sock", KERNEL_SMALL, "in the buffers of sockets"),
    ("sec_pagetables", KERNEL_SMALL, "in page tables of virtual machines and devices"),
    ("hwpoisoned", IDLE, "broken: the hardware reported errors there"),
    ("bounce", KERNEL_SMALL, "in bounce buffers of devices"),
    ("gpu_active", MUCH, "in use by a GPU"),
    ("gpu_reclaim", MUCH, "kept for a GPU, which gives it back when it is needed"),
    ("arc", MUCH, "the cache of ZFS, which gives it back more slowly than the page cache"),
    ("balloon", IDLE, "taken back by the host of this virtual machine (balloon)"),
)


def _kernel(account: Account, owners: Owners, be: str) -> _Found:
    """Slab, and the rest of what the kernel holds."""
    out: _Found = []
    total, within = account.total, account.within
    slab = account.get("slab_unreclaimable") + account.get("slab")
    slab = slab or within.get("kernel_slab_unreclaimable", 0)
    if slab >= total * SLAB:
        text = f"{words.size(slab)} {be} kernel memory that cannot be reclaimed (slab)"
        named = [f"{name} {words.size(size)}" for name, size in owners.slabs if size * 20 >= slab]
        out.append((slab, f"{text}: {', '.join(named[:3])}" if named else text))
    back = account.get("slab_reclaimable") or within.get("kernel_slab_reclaimable", 0)
    if back >= total * MUCH:
        out.append((back, f"{words.size(back)} {be} the kernel's cache of names and inodes (slab)"))
    for key, least, what in _OWN:
        size = account.get(key) or within.get("kernel_" + key.removeprefix("kernel_"), 0)
        if size >= total * least:
            out.append((size, f"{words.size(size)} {be} {what}"))
    return out


def _huge(account: Account, be: str) -> _Found:
    """Huge pages: those that nobody uses serve nobody else either."""
    have, free = account.get("hugepages"), account.within.get("hugepages_free", 0)
    idle = free - account.within.get("hugepages_reserved", 0)
    size = words.size(have)
    if have and idle >= account.total * IDLE:
        if idle == have:
            are, uses = ("were", "used") if be == "was" else ("are", "uses")
            return [(have, f"{size} of huge pages {are} reserved and nobody {uses} them")]
        return [(idle, f"{words.size(idle)} of {size} of huge pages {be} used by nobody")]
    if have >= account.total * MUCH:
        return [(have, f"{size} {be} in huge pages, which only those who ask for them can use")]
    return []


def _rest(account: Account, owners: Owners, ended: bool, be: str) -> _Found:
    """What no counter names, and what is free."""
    out: _Found = []
    rest, free = account.unaccounted, account.get("free") + account.get("free_pcp")
    if rest >= account.total * UNACCOUNTED:
        text = f"{words.size(rest)} {be} in no counter of the kernel"
        out.append((rest, f"{text}: {_guess(account, owners)}"))
    if ended and free >= account.total * FREE:
        text = f"{words.size(free)} was free all the same"
        cma = account.within.get("free_cma", 0)
        if cma * 2 >= free:
            text += f", {words.size(cma)} of it kept for devices (CMA)"
        out.append((free, text))
    return out


def _guess(account: Account, owners: Owners) -> str:
    """Where memory without a counter may be; a proof only where the kernel names who took it."""
    rest = account.unaccounted
    if account.partial:
        return "the report does not tell all of them"
    if account.cgroup:
        return "charged ahead, or of a kind that this kernel does not tell"
    drivers = [one for one in owners.sites if not one[0].startswith("mm/")]
    if drivers and drivers[0][1] * 10 >= rest:
        return f"{drivers[0][0]} took {words.size(drivers[0][1])}"
    if owners.swapped and owners.swapped > rest and not account.get("zspages"):
        # neither keeps its pages in a counter of a report before 6.18
        return "perhaps compressed swap (zswap, zram), perhaps a driver that takes pages directly"
    return "perhaps a driver (GPU, network, file system), perhaps a virtual machine's balloon"

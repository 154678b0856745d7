"""Pure: the memory of a live machine added up, and in one line whether it is short, and why."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from watchdog import words
from watchdog.host_memory import Memory
from watchdog.judge import account_notes
from watchdog.judge.account import Account, machine
from watchdog.memory import Counters


def of_host(m: Memory) -> Account | None:
    """The account of a live machine; None where meminfo does not tell the total."""
    found = counters(m)
    return None if found is None else machine(found)


def counters(m: Memory) -> Counters | None:
    """What a live machine tells, in the kernel's terms.

    In a container with a meminfo of its own (lxcfs) what is left of the host is left out.
    """
    get = m.meminfo.get
    total = get("MemTotal")
    if total is None:
        return None
    slab = get("SReclaimable")
    found = Counters(
        total,
        free=get("MemFree"),
        free_cma=get("CmaFree"),
        lru_anon=_sum(get("Active(anon)"), get("Inactive(anon)")),
        lru_file=_sum(get("Active(file)"), get("Inactive(file)")),
        unevictable=get("Unevictable"),
        mlocked=get("Mlocked"),
        anon=get("AnonPages"),
        anon_thp=get("AnonHugePages"),
        cached=_sum(get("Cached"), get("Buffers")),
        swapcache=get("SwapCached"),
        shmem=get("Shmem"),
        mapped=get("Mapped"),
        dirty=get("Dirty"),
        writeback=get("Writeback"),
        slab=get("Slab") if slab is None else None,
        slab_reclaimable=slab,
        slab_unreclaimable=get("SUnreclaim"),
    )
    if m.confined:
        return found
    reclaimable = get("KReclaimable")
    misc = None if reclaimable is None or slab is None else max(0, reclaimable - slab)
    pools = [pool for pool in m.pools if pool.total]
    size = get("Hugepagesize") or 0
    huge, free, kept = (get(f"HugePages_{key}") for key in ("Total", "Free", "Rsvd"))
    return found._replace(
        free_pcp=m.free_pcp,
        lru_anon=None if found.lru_anon is None else found.lru_anon + (m.isolated_anon or 0),
        lru_file=None if found.lru_file is None else found.lru_file + (m.isolated_file or 0),
        writeback_tmp=get("WritebackTmp"),
        kernel_misc_reclaimable=misc,
        pagetables=get("PageTables"),
        sec_pagetables=get("SecPageTables"),
        # on arm64 the shadow stacks are taken from vmalloc as the stacks are
        kernel_stack=_sum(get("KernelStack"), get("ShadowCallStack")),
        percpu=get("Percpu"),
        vmalloc=get("VmallocUsed"),
        bounce=get("Bounce"),
        hugepages=get("Hugetlb") if get("Hugetlb") is not None else _times(huge, size),
        hugepages_free=(
            sum(pool.free * pool.page for pool in pools) if pools else _times(free, size)
        ),
        hugepages_reserved=(
            sum(pool.reserved * pool.page for pool in pools) if pools else _times(kept, size)
        ),
        zspages=m.zspages,
        zram=sum(disk.used for disk in m.zram) if m.zram else None,
        zswap=get("Zswap"),
        arc=None if m.arc is None else _arc(m.arc),
        balloon=get("Balloon"),
        gpu_active=get("GPUActive"),
        gpu_reclaim=get("GPUReclaim"),
        hwpoisoned=get("HardwareCorrupted"),
        memmap=m.memmap,
    )


def _sum(*sizes: int | None) -> int | None:
    told = [size for size in sizes if size is not None]
    return sum(told) if told else None


def _times(count: int | None, size: int) -> int | None:
    return None if count is None else count * size


def _arc(stats: Mapping[str, int]) -> int | None:
    """The buffers of ARC that are pages of their own; headers and small buffers are slab."""
    pages = stats.get("scatter_data_size")  # abdstats
    if pages is not None:
        return pages + stats.get("scatter_chunk_waste", 0)
    return _sum(stats.get("data_size"), stats.get("metadata_size")) or stats.get("size")


# Twice the mark of the guard's default ([guard] available_below): there is still time to act.
SHORT = 0.10
# What may still be promised, where promises are limited (vm.overcommit_memory = 2).
COMMIT = 0.05
# The kernel's own memory and what no counter names: an ordinary machine stays below a tenth.
KERNEL = 0.30
HUGE_SHARE, HUGE_MUCH = 0.5, 0.05
# The kernel's reserve is 1 to 3 % of a large machine, and most of what an idle one calls used.
RESERVE, RESERVE_MUCH = 0.25, 0.01


class Headline(NamedTuple):
    """Whether memory is short, and by what: "work", "leak", "kernel" or "settings"; one line."""

    short: bool
    cause: str | None
    text: str


def headline(m: Memory, leak: str | None = None) -> Headline | None:
    """The answer in one line; None where meminfo tells too little.

    `leak` is what the leak judge says, as a sentence: it goes before all other causes.
    """
    account, available = of_host(m), _available(m)
    if account is None or available is None:
        return None
    room = f"{words.size(available)} of {words.size(account.total)} available"
    if available >= account.total * SHORT:
        refused = _refused(m)
        if refused:
            return Headline(True, "settings", f"{refused}, while {room}")
        also = f"; {leak}" if leak else ""
        return Headline(False, None, f"memory is not short: {room}{also}")
    cause, why = _cause(m, account, account.total * SHORT - available, leak)
    return Headline(True, cause, f"memory is short: {room}; {why}")


def _available(m: Memory) -> int | None:
    """MemAvailable; a meminfo made by others may lack it."""
    available, free, cached = (m.meminfo.get(k) for k in ("MemAvailable", "MemFree", "Cached"))
    if available is not None or free is None:
        return available
    return free + max(0, (cached or 0) - (m.meminfo.get("Shmem") or 0))


def _refused(m: Memory) -> str | None:
    most, promised = m.meminfo.get("CommitLimit"), m.meminfo.get("Committed_AS")
    if m.settings.get("overcommit_memory") != 2 or not most or promised is None:
        return None
    if most - promised >= most * COMMIT:
        return None
    return (
        f"programs are refused memory: {words.size(promised)} of the {words.size(most)} that "
        "vm.overcommit_memory = 2 allows is promised"
    )


def _cause(m: Memory, account: Account, need: float, leak: str | None) -> tuple[str, str]:
    """Why memory is short by `need` bytes: the first that explains it."""
    if leak:
        return "leak", leak
    idle = account.within.get("hugepages_free", 0) - account.within.get("hugepages_reserved", 0)
    if idle >= need:
        return "settings", f"{words.size(idle)} of huge pages are reserved and nobody uses them"
    kept = (m.settings.get("min_free_kbytes") or 0) * 1024
    if kept >= account.total * SHORT / 2:
        return "settings", f"vm.min_free_kbytes keeps {words.size(kept)} free"
    work = account.get("anon") + account.get("shmem")
    kernel = account.kernel + max(0, account.unaccounted)
    if kernel >= account.total * KERNEL or kernel > work:
        return "kernel", f"the kernel and its drivers hold {words.size(kernel)}"
    return "work", f"programs hold {words.size(work)}"


def notes(
    m: Memory,
    tables: Sequence[tuple[str, int, int]] = (),
    slabs: Sequence[tuple[str, int]] = (),
    huge: tuple[int, int, int] | None = None,
) -> tuple[str, ...]:
    """What matters of where the memory is, one sentence each.

    `tables` and `slabs` as `sense.host_memory` reads them. `huge`: how many processes hold so many
    bytes in transparent huge pages, of so many resident.
    """
    account = of_host(m)
    if account is None:
        return ()
    total, free = m.meminfo.get("SwapTotal"), m.meminfo.get("SwapFree")
    owners = account_notes.Owners(
        tables=tables,
        slabs=slabs,
        mounts=[(mount.path, mount.used) for mount in m.mounts],
        swapped=None if total is None or free is None else max(0, total - free),
        page=m.page,
    )
    found = account_notes.notes(account, owners)
    thp = _thp(m, account, huge)
    # a mount over the file: what lxcfs leaves of the host's kernel is not in it
    own = (
        "/proc/meminfo is this container's own (lxcfs): the total is its limit, and what the host "
        "and its kernel hold is not told"
    )
    more = [text for text in (thp, _reserve(m, account)) if text]
    return (*found, *more, *([own] if m.confined else []))


def _reserve(m: Memory, account: Account) -> str | None:
    """Why `used` of free is more than anybody holds: MemAvailable leaves out the watermarks."""
    available = m.meminfo.get("MemAvailable")
    if available is None or m.confined:
        return None
    loose = ("free", "file", "slab_reclaimable", "kernel_misc_reclaimable")
    reserve = sum(map(account.get, loose)) - available
    used = account.total - available
    if reserve < account.total * RESERVE_MUCH or reserve < used * RESERVE:
        return None
    return (
        f"{words.size(reserve)} of the {words.size(used)} that free calls used is a reserve that "
        "the kernel keeps for itself; programs, the kernel and its drivers hold "
        f"{words.size(used - reserve)}"
    )


def _thp(m: Memory, account: Account, huge: tuple[int, int, int] | None) -> str | None:
    """A sparse heap on huge pages holds up to 512 times of what it uses."""
    if huge is None or m.thp.get("enabled") != "always":
        return None
    count, size, resident = huge
    if size < account.total * HUGE_MUCH or not resident or size < resident * HUGE_SHARE:
        return None
    hold = "holds" if count == 1 else "hold"
    return (
        f"THP is `always`, and {words.count(count, 'process')} {hold} {words.size(size)} in huge "
        f"pages, {words.share(min(1.0, size / resident))} of the resident memory there: "
        "try `madvise`"
    )

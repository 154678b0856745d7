"""Pure: why there was no memory at that moment: the limit, the zones, swap, and what held it.

Zones and watermarks as in __zone_watermark_ok() and gfp_zone() of the kernel: a request can use the
zones that its flags allow, each down to its floor ("min"), and an order above 0 needs a free block
that large.
"""

from typing import NamedTuple

from watchdog import words
from watchdog.judge import account, account_notes, request
from watchdog.judge.places import place, said, short
from watchdog.memory import Group
from watchdog.oom_report.mem_info import Zone
from watchdog.oom_report.report import Report

# Below this share of the memory in question a holder explains nothing.
MUCH = 0.2
COSTLY = 3  # PAGE_ALLOC_COSTLY_ORDER: above it the kernel would rather fail than kill


class Held(NamedTuple):
    """Where the memory was, in bytes; None where no counter told. `kernel` is slab, stacks, page
    tables and what else is the kernel's own, `slab` the unreclaimable part of it."""

    total: int
    free: int | None = None
    anon: int | None = None
    file: int | None = None
    shmem: int | None = None
    kernel: int | None = None
    slab: int | None = None
    pagetables: int | None = None
    locked: int | None = None
    hugepages: int | None = None
    unaccounted: int | None = None
    free_cma: int | None = None

    def share(self, part: int | None) -> float:
        """0..1 of the total; 0 where it is not known."""
        return (part or 0) / self.total if self.total > 0 else 0.0


def held(report: Report) -> Held | None:
    """The account of a report; None where it told none."""
    found = account.of_report(report)
    if found is None or found.total <= 0:
        return None
    told = dict(found.parts)
    within = found.within
    group = isinstance(report.memory, Group)
    kernel = any(key in account.KERNEL for key in told)
    return Held(
        total=found.total,
        free=told.get("free"),
        anon=told.get("anon"),
        file=told.get("file"),
        shmem=told.get("shmem"),
        kernel=found.kernel if kernel else None,
        slab=within.get("kernel_slab_unreclaimable") if group else told.get("slab_unreclaimable"),
        pagetables=within.get("kernel_pagetables") if group else told.get("pagetables"),
        locked=within.get("unevictable", told.get("unevictable")),
        hugepages=told.get("hugepages"),
        # what a cgroup's statistics leave out is no riddle: they may have been cut short
        unaccounted=None if group else found.unaccounted,
        free_cma=within.get("free_cma"),
    )


# -- zones ----------------------------------------------------------------------------------------


class Zones(NamedTuple):
    """What the request met. `kind` is "short" (below the floors), "pieces" (enough, but no block
    that large), "wrong" (free memory of a kind that the request cannot use), "enough" (memory was
    not short) or None (not told)."""

    kind: str | None
    sentence: str | None


def zones(report: Report) -> Zones:
    """The zones and watermarks in one sentence."""
    if not report.zones or report.scope == "memcg":
        return Zones(None, None)
    usable = [zone for zone in report.zones if _usable(zone.name, request.flags(report))]
    free = sum(zone.free for zone in report.zones)
    if not usable:
        names = ", ".join(sorted({zone.name for zone in report.zones}))
        return Zones(
            "wrong",
            f"{words.size(free)} were free there, all of it in zone {names}, which this request "
            "cannot use",
        )
    order = report.invoker.order if report.invoker else None
    # where the size was not told: the floor grows with it
    main = max(usable, key=lambda zone: (zone.managed or 0, zone.min))
    if order is not None and order > 0:
        found = _pieces(report, usable, order)
        if found is not None:
            return found
    # up to "low": the counters are read a moment after the request has failed
    short_ones = [
        zone
        for zone in usable
        if zone.free <= max(zone.min, zone.low or 0) + _reserved(report, zone, usable)
    ]
    if main in short_ones or len(short_ones) == len(usable):
        return Zones("short", _short(report, main, usable, short_ones))
    room = sum(zone.free - zone.min for zone in usable if zone not in short_ones)
    cma = sum(zone.cma or 0 for zone in usable)
    if cma and cma * 10 >= room * 9 and "GFP_HIGHUSER_MOVABLE" not in request.flags(report):
        return Zones(
            "wrong",
            f"of {words.size(free)} free {words.size(cma)} belonged to CMA, kept for devices and "
            "for memory that can be moved",
        )
    return Zones("enough", f"{words.size(free)} were free, {words.size(room)} above the floors")


def _usable(name: str, flags: frozenset[str]) -> bool:
    """Whether a request with these flags may take from a zone; all of them where none are told."""
    if not flags:
        return True
    if flags & {"GFP_DMA", "__GFP_DMA"}:
        return name == "DMA"
    if flags & {"GFP_DMA32", "__GFP_DMA32"}:
        return name in ("DMA", "DMA32")
    movable = flags & {"GFP_HIGHUSER_MOVABLE", "GFP_TRANSHUGE", "GFP_TRANSHUGE_LIGHT"} or (
        "__GFP_MOVABLE" in flags and flags & {"__GFP_HIGHMEM", "GFP_HIGHUSER"}
    )
    if name == "Movable":
        return bool(movable)
    if name == "HighMem":
        return bool(movable or flags & {"GFP_HIGHUSER", "__GFP_HIGHMEM"})
    return True


_ORDER = ("DMA", "DMA32", "Normal", "HighMem", "Movable")


def _reserved(report: Report, zone: Zone, usable: list[Zone]) -> int:
    """What a lower zone keeps back from requests that could use a higher one (lowmem_reserve)."""
    if not zone.reserves:
        return 0
    if "GFP_HIGHUSER_MOVABLE" in request.flags(report):
        return max(zone.reserves)
    seen = [name for name in _ORDER if any(z.name == name for z in report.zones)]
    places = [seen.index(z.name) for z in usable if z.name in seen]
    highest = max(places, default=0)
    return zone.reserves[highest] if highest < len(zone.reserves) else 0


def _pieces(report: Report, usable: list[Zone], order: int) -> Zones | None:
    """Order above 0: was there a block that large in a zone that may give some away?"""
    page = report.page_size
    if page is None:
        return None
    wanted = page << order
    # the kernel takes all but one page of the request off before it looks at the floor
    above = [
        zone
        for zone in usable
        if zone.free - (wanted - page) > zone.min + _reserved(report, zone, usable)
    ]
    sizes = [size for zone in above for size, count in zone.blocks.items() if count]
    if not sizes or max(sizes) >= wanted:
        return None
    free, where = sum(zone.free for zone in above), ", ".join(dict.fromkeys(z.name for z in above))
    return Zones(
        "pieces",
        f"{words.size(free)} of zone {where} were free, above its floor, but in pieces of at most "
        f"{words.size(max(sizes))}; it needed {words.size(wanted)} in one",
    )


def _short(report: Report, main: Zone, usable: list[Zone], short_ones: list[Zone]) -> str:
    nodes = {zone.node for zone in report.zones}
    of = f" of node {main.node}" if len(nodes) > 1 else ""
    low = f"{words.size(main.free)} of zone {main.name}{of} were free, "
    if main.free < main.min:
        low += f"below its floor of {words.size(main.min)}"
    else:
        low += f"hardly above its floor of {words.size(main.min)}"
    rest = [zone for zone in usable if zone is not main]
    if not rest:
        return low
    others = sum(zone.free for zone in rest)
    if others and len(short_ones) < len(usable):
        names = ", ".join(dict.fromkeys(zone.name for zone in rest))
        return f"{low}; {words.size(others)} in {names} are kept back for the kernel"
    return f"{low}, and the other zones likewise" if len(short_ones) > 1 else low


# -- swap -----------------------------------------------------------------------------------------


def swap(report: Report) -> str | None:
    """No swap, full, or free and of no help."""
    total, free = report.swap_total, report.swap_free
    if report.scope == "memcg":
        return _group_swap(report)
    if total is None:
        return None
    if total == 0:
        return "no swap"
    if free is None:
        return None
    if free * 50 <= total:
        return f"swap full ({words.size(total)})"
    if free * 4 >= total:
        return f"{words.size(free)} of {words.size(total)} swap free, which did not help"
    return f"{words.size(free)} of {words.size(total)} swap left"


def _group_swap(report: Report) -> str | None:
    own = report.limits.get("swap")
    if own is None:
        return None
    if own.limit == 0:
        return "it may not use swap (memory.swap.max 0)"
    if own.limit is not None and own.usage * 50 >= own.limit * 49:
        return f"its swap limit of {words.size(own.limit)} is used up as well"
    if own.usage:
        return f"{words.size(own.usage)} of it is in swap besides"
    return None


# -- whose limit ----------------------------------------------------------------------------------


def limit(report: Report) -> str:
    """Which memory was out: a limit and whose, some nodes, or the whole machine."""
    if report.scope == "memcg":
        return _group_limit(report)
    if report.scope == "cpuset":
        text = f"the memory nodes of cpuset {_cpuset(report)} were full"
        return _nodes(report, text)
    if report.scope == "mempolicy":
        nodes = short(report.nodemask or "?", 20)
        return _nodes(report, f"the memory nodes {nodes} of its memory policy were full")
    if report.scope is None:
        return "the log does not say whose memory was out"
    if report.manual:
        return "a human asked for it by SysRq-f; memory need not have been short"
    return _machine(report)


def _nodes(report: Report, text: str) -> str:
    found = zones(report)
    if found.kind in ("wrong", "enough"):
        text = text.replace(" were full", " gave out")
    if found.sentence:
        text += f": {found.sentence}"
    return f"{text}; the machine's other nodes are not shown"


def _cpuset(report: Report) -> str:
    name = report.cpuset
    if not name:
        return "?"
    found = said("/" + name)
    return found if not found.startswith("/") else short(name, 40)


def _group_limit(report: Report) -> str:
    owner, task = report.cgroup, report.task_cgroup
    text = f"the limit of {said(owner)} was reached" if owner else (
        "the limit of its cgroup, which the log does not name, was reached"
    )  # fmt: skip
    both, memory = report.limits.get("memory+swap"), report.limits.get("memory")
    if both and both.limit is not None and both.usage >= both.limit:
        text += f": {words.size(both.limit)} of memory and swap"
    elif memory and memory.limit is not None:
        text += f": {words.size(memory.limit)}"
    if owner and task and task != owner and task.startswith(owner.rstrip("/") + "/"):
        text += _inner(owner, task)
    more = _group_swap(report)
    return f"{text}; {more}" if more else text


def _inner(owner: str, task: str) -> str:
    """The victim's own cgroup, where the limit is one above it."""
    above, own = place(owner), place(task)
    if said(task) == said(owner):
        return ""
    if own.kind == "container" and above.kind == "pod" and own.pod == above.pod:
        return f"; the limit is the pod's, the victim was in its container {own.name[:12]}"
    return f"; the limit is one above the victim's own cgroup ({said(task)})"


def _machine(report: Report) -> str:
    found = zones(report)
    account = held(report)
    if found.kind == "enough" and _false_alarm(report):
        return (
            f"memory was not short: {found.sentence}; the kernel acted on a page fault that failed "
            "for another reason, as at a cgroup's own limit"
        )
    text = "the whole machine was out of memory"
    if found.kind in ("pieces", "wrong"):
        text = "the whole machine had no memory of the kind that was asked for"
    if account is not None and account.free is not None:
        text += f": {words.size(account.free)} of {words.size(account.total)} free"
    more = [part for part in (swap(report), None if found.kind == "enough" else found.sentence)
            if part]  # fmt: skip
    if more and account is not None and account.free is not None:
        return f"{text}, {'; '.join(more)}"
    return f"{text}: {'; '.join(more)}" if more else text


def _false_alarm(report: Report) -> bool:
    """Much free, and no request that could have failed for want of it."""
    account = held(report)
    if account is None or report.path == "allocation":
        return False
    return account.share(account.free) >= MUCH


# -- what held it ---------------------------------------------------------------------------------


def holders(report: Report) -> list[str]:
    """What else than processes held much of it, the largest first."""
    notes = account_notes.of_oom_report(report)
    # what was free stands with the zones already
    out = [note for note in notes if not note.partition(",")[0].endswith("was free all the same")]
    account = held(report)
    if report.allocations and account is not None:
        first = sorted(report.allocations, reverse=True)[:2]
        if account.share(first[0][0]) >= 0.1:
            told = ", ".join(f"{short(where, 44)} {words.size(size)}" for size, where in first)
            out.append(f"the code that took the most: {told}")
    return out


# -- what the kill gave ---------------------------------------------------------------------------


def freed(report: Report) -> str | None:
    """What the kill freed, where that is less than one would think."""
    out = []
    if report.stuck:
        out.append("the victim is stuck in the kernel and still holds its memory")
    if report.pinned_by is not None:
        pid, comm = report.pinned_by
        out.append(f"{short(comm, 15)} (pid {pid}) uses the same memory and may not die: it stays")
    if report.reaped_left and report.reaped_left >= 1 << 20:
        out.append(f"{words.size(report.reaped_left)} of it could not be given back at once")
    return "; ".join(out) or None

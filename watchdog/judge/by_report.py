"""Pure: the rules of the verdict that go by the report itself.

What the kernel's own figures prove, and what they only hint at. Each rule answers None where it has
nothing to say.
"""

from watchdog import words
from watchdog.judge import shortage
from watchdog.judge.places import short
from watchdog.judge.ruling import Verdict, small
from watchdog.oom_report.report import Report


def false_alarm(report: Report) -> Verdict | None:
    """Much was free in the zones that the request could use."""
    if report.scope != "global" or shortage.zones(report).kind != "enough":
        return None
    account = shortage.held(report)
    if account is None or account.share(account.free) < shortage.MUCH:
        return None
    return Verdict(
        "unknown", 0.0,
        f"{words.size(account.free or 0)} of {words.size(account.total)} were free: the machine "
        "was not short of memory", short=False,
    )  # fmt: skip


def no_process(report: Report) -> Verdict | None:
    """A panic while the machine starts."""
    if report.victim or report.rows or report.outcome not in ("panic", "no-victim"):
        return None
    if "tasks" in report.missing or report.unread or report.scope != "global":
        return None
    return Verdict(
        "too-small", 0.4,
        "no process was there yet: the machine is too small for its kernel and what is loaded",
    )  # fmt: skip


def fragmentation(report: Report) -> Verdict | None:
    """Free memory, but no block of the size that was asked for."""
    found = shortage.zones(report)
    order = report.invoker.order if report.invoker else None
    if found.kind == "pieces" and found.sentence:
        # the lists of free blocks prove it
        return Verdict("fragmentation", 0.85, found.sentence)
    untold = found.kind is None and report.scope != "memcg"
    if untold and report.fragmented and order and order > 0:
        return Verdict(
            "fragmentation", 0.6,
            f"no free block of {words.count(1 << order, 'page')} was left, while smaller ones were",
        )  # fmt: skip
    return None


def kernel(report: Report) -> Verdict | None:
    """The kernel held most of it, or somebody without a counter."""
    account = shortage.held(report)
    if account is None:
        return None
    share, tables = account.share(account.kernel), account.share(account.pagetables)
    names = tuple(shortage.holders(report))
    if tables > 0.3 and tables * 2 > share:
        return Verdict(
            "kernel-memory", 0.8, f"{words.share(min(1.0, tables))} of the memory was page tables: "
            "somebody maps much more than it uses", names,
        )  # fmt: skip
    if share > 0.5:
        return Verdict(
            "kernel-memory", 0.8, f"{words.share(min(1.0, share))} of the memory was the kernel's "
            "own, which killing processes hardly frees", names,
        )  # fmt: skip
    processes = account.share((account.anon or 0) + (account.shmem or 0))
    if share >= 0.3 and share > processes:
        return Verdict(
            "kernel-memory", 0.6,
            f"the kernel held more ({words.share(share)}) than all processes did", names,
        )  # fmt: skip
    lost = account.share(account.unaccounted)
    if lost >= 0.4 and lost > processes:
        return Verdict(
            "kernel-memory", 0.4,
            f"{words.share(lost)} is in no counter: a driver, a balloon or a device holds it",
        )  # fmt: skip
    return None


# -- the report alone -----------------------------------------------------------------------------


def reserved(report: Report) -> Verdict | None:
    """Huge pages that nobody uses."""
    account, free = shortage.held(report), report.huge_free or 0
    if account is None or account.share(free) < 0.25:
        return None
    return Verdict(
        "kernel-memory", 0.5,
        f"{words.size(free)} ({words.share(account.share(free))}) were reserved as huge pages and "
        "not in use",
    )  # fmt: skip


def nodes(report: Report) -> Verdict | None:
    """The nodes of a cpuset or of a memory policy were full."""
    if report.scope not in ("cpuset", "mempolicy"):
        return None
    # a set of nodes is a limit that somebody chose
    what = "cpuset" if report.scope == "cpuset" else "memory policy"
    found = shortage.zones(report)
    if found.kind == "wrong":
        return Verdict(
            "limit-too-low", 0.5,
            f"its {what} leaves it no memory of the kind that was asked for",
        )  # fmt: skip
    return Verdict("limit-too-low", 0.4, f"the nodes of its {what} were full, others may not be")


def workers(report: Report) -> Verdict | None:
    """Many of the same name and size, none of which stands out: the sum is too much."""
    account, page = shortage.held(report), report.page_size
    if account is None or page is None or not report.rows:
        return None
    sums: dict[str, list[int]] = {}
    for row in report.rows:
        sums.setdefault(row.name, []).append((row.anon if row.anon is not None else row.rss) * page)
    comm, sizes = max(sums.items(), key=lambda item: sum(item[1]))
    large = [size for size in sizes if size * 8 >= max(sizes)]
    total = sum(sizes)
    # six of a kind that hold most of it: a pool, sized by its administrator
    if len(large) < 6 or total < account.total * 0.5 or max(sizes) > 0.35 * account.total:
        return None
    held = words.size(total)
    return Verdict(
        small(report), 0.4,
        f"{len(sizes)} processes named {short(comm, 15)} hold {held} together and none stands out: "
        "there are more of them than fit",
    )  # fmt: skip


def shared(report: Report) -> Verdict | None:
    """Shared memory and files in a tmpfs held most of it."""
    account = shortage.held(report)
    if account is None or account.share(account.shmem) < 0.5:
        return None
    return Verdict(
        small(report), 0.35,
        f"{words.share(account.share(account.shmem))} of it is shared memory or files in a tmpfs, "
        "which no kill frees",
    )  # fmt: skip


def fills_limit(report: Report) -> Verdict | None:
    """One process holds (nearly) all that its cgroup may have."""
    memory = report.limits.get("memory")
    if report.scope != "memcg" or memory is None or not memory.limit:
        return None
    victim, page = report.victim, report.page_size
    size = (victim.anon or 0) + (victim.shmem or 0) if victim else 0
    if page is not None and report.rows:
        size = max(size, max(row.anon if row.anon is not None else row.rss
                             for row in report.rows) * page)  # fmt: skip
    part = size / memory.limit
    if part < 0.9:
        return None
    # it would take more, and whether it would ever end the report cannot say
    return Verdict(
        "limit-too-low", 0.3,
        f"one process holds {words.share(min(1.0, part))} of the limit: it needs more than it may "
        "have, or it leaks",
    )  # fmt: skip


def largest(report: Report) -> tuple[str, float]:
    """The largest process, and its share (0..1) of the memory in question; ("", 0) if unknown."""
    page, account = report.page_size, shortage.held(report)
    if page is None or account is None or not report.rows:
        return "", 0.0
    row = max(report.rows, key=lambda r: r.rss)
    return short(row.name, 15), row.rss * page / account.total

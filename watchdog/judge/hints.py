"""Pure: where in a process the growth lies, what bounds it, and what to run next.

Two looks at the parts of a process (facts.Parts), one when it is suspected and one later, make a
difference; one alone says only where most of it lies. Nothing here decides whether it leaks.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from watchdog import words
from watchdog.facts import Group, Parts, Who
from watchdog.judge import runtimes

PARTS = ("heap", "arenas", "stacks", "mappings", "files")
NAMES = {
    "heap": "the heap (brk)", "arenas": "the arenas of the C library",
    "stacks": "the stacks of its threads", "mappings": "other anonymous mappings",
    "files": "private copies of pages of files", "shmem": "shared memory (shmem)",
    "anonymous": "anonymous memory", "kernel": "memory of the kernel on its behalf",
}  # fmt: skip
ARENAS_MANY = 8
DESCRIPTORS_MORE = 16
THREADS_MORE = 4
BESIDE = 0.1  # of what it holds; page tables of a dense process are 0.002 of it
MIB = 1 << 20


class Hints(NamedTuple):
    """``body`` is the event's `hints`; ``grown``: it says by how much a part grew."""

    body: dict[str, Any]
    because: tuple[str, ...]
    grown: bool


def of_process(
    looks: Sequence[Parts], who: Who | None, comm: str | None, limit: int | None, total: int | None
) -> Hints | None:
    """`looks`, the oldest first; `limit` is the tightest above it, `total` the machine's memory."""
    if not looks:
        return None
    first, last = looks[0], looks[-1]
    kind = runtimes.runtime(who, comm, last)
    cmdline = who.cmdline if who else None
    sizes, before = _sizes(last), _sizes(first)
    if sizes.keys() != before.keys():  # one of them could not be told apart
        sizes, before = _coarse(last), _coarse(first)
    more = {part: size - before[part] for part, size in sizes.items()}
    grew = len(looks) > 1 and max(more.values(), default=0) > 0
    part = max(more, key=more.__getitem__) if grew else max(sizes, key=sizes.__getitem__)
    took_s = _now(last) - _now(first)
    because = [_where(part, sizes, more, took_s, grew, kind)]
    because += _threads(first, last, part)
    because += _arenas(last)
    because += _huge(first, last, more, grew)
    because += _beside(first, last, sum(sizes.values()))
    bound = runtimes.cap(kind, cmdline, limit or total, part)
    if bound is not None:
        because.append(_bound(bound, sizes[part], limit))
    tools = runtimes.tools(kind, last.pid, part, cmdline)
    because.append(f"to see what it keeps: {tools[0]}")
    body = {
        "part": part,
        "part_bytes": sizes[part],
        "grew_bytes": more[part] if grew else None,
        "grew_in_s": round(took_s, 1) if grew else None,
        "runtime": kind,
        "heap_cap_bytes": bound.bytes if bound else None,
        "heap_cap_from": bound.said_by if bound else None,
        "threads": last.threads,
        "descriptors": last.descriptors,
        "arenas": last.arena_count,
        "thp_bytes": last.thp,
        "next": tools,
    }
    return Hints(body, tuple(because), grew)


def plateau(last: Parts | None, who: Who, limit: int | None, held: int) -> tuple[str, ...]:
    """Why it may have stopped to grow: it holds about what its heap may."""
    kind = runtimes.runtime(who, None, last)
    bound = runtimes.cap(kind, who.cmdline, limit, "mappings")
    if bound is None or not 0.8 * bound.bytes <= held <= 1.5 * bound.bytes:
        return ()
    return (f"its heap may hold {words.size(bound.bytes)} ({bound.said_by}), and it is full",)


def of_unit(first: Group, last: Group, unit_plain: str | None) -> Hints | None:
    """Which part of a unit's cgroup grew between two readings; the engine has them anyway."""
    more = {
        part: (size or 0) - (was or 0)
        for part, size, was in (
            ("anonymous", _sum(last.anon, last.swap), _sum(first.anon, first.swap)),
            ("shmem", last.shmem, first.shmem),
            ("kernel", last.kernel, first.kernel),
        )
    }
    part = max(more, key=more.__getitem__)
    all_more = sum(size for size in more.values() if size > 0)
    if more[part] <= 0:
        return None
    took_s = _now(last) - _now(first)
    tools = {
        "shmem": ["findmnt -t tmpfs  # then, of the one that grows: du -ax DIR | sort -n | tail",
                  "ipcs -m -p"],
        "kernel": ["slabtop -o -s c"],
        "anonymous": ["oom-watchdog memory --processes"]
        + ([f"systemd-cgls -u {unit_plain}"] if unit_plain else []),
    }[part]  # fmt: skip
    size = {"shmem": last.shmem, "kernel": last.kernel, "anonymous": last.anon}[part]
    because = (
        f"{NAMES[part]} of the unit grew by {words.size(more[part])} of {words.size(all_more)} in "
        f"{words.duration(max(took_s, 1))}",
        f"to see what it is: {tools[0]}",
    )
    body: dict[str, Any] = {
        "part": part, "part_bytes": size, "grew_bytes": more[part],
        "grew_in_s": round(took_s, 1), "runtime": None, "heap_cap_bytes": None,
        "heap_cap_from": None, "threads": None, "descriptors": None, "arenas": None,
        "thp_bytes": None, "next": tools,
    }  # fmt: skip
    return Hints(body, because, True)


def _sizes(one: Parts) -> dict[str, int]:
    """By part; coarse where smaps was not read."""
    known = {part: getattr(one, part) for part in PARTS}
    if any(size is None for size in known.values()):
        return _coarse(one)
    return {**known, "shmem": one.shmem or 0}


def _coarse(one: Parts) -> dict[str, int]:
    return {"anonymous": one.anon or 0, "shmem": one.shmem or 0}


def _where(
    part: str, sizes: Mapping[str, int], more: Mapping[str, int], took_s: float, grew: bool,
    kind: str,
) -> str:  # fmt: skip
    name = NAMES[part]
    own = runtimes.OWN_MAPPINGS.get(kind)
    if own and part == "mappings":
        name = f"the anonymous mappings, where {own} own heap lies,"
    elif own and part in ("heap", "arenas") and runtimes.outside(kind, part):
        name += f", outside of {own} own heap,"
    if not grew:
        return f"most of it, {words.size(sizes[part])}, is {name.rstrip(',')}"
    all_more = sum(size for size in more.values() if size > 0)
    text = f"{name} grew by {words.size(more[part])}"
    if more[part] < all_more:
        text += f" of {words.size(all_more)}"
    return f"{text} in {words.duration(max(took_s, 1))}"


def _threads(first: Parts, last: Parts, part: str) -> list[str]:
    found = []
    threads, descriptors = last.threads or 0, last.descriptors or 0
    more = threads - (first.threads or threads)
    if more >= THREADS_MORE:
        found.append(f"it has {words.count(threads, 'thread')}, {more} more than when suspected")
    elif part == "stacks":
        found.append(f"it has {words.count(threads, 'thread')}")
    opened = descriptors - (first.descriptors or descriptors)
    if opened >= DESCRIPTORS_MORE:
        found.append(
            f"it holds {words.count(descriptors, 'open descriptor')}, {opened} more than when "
            "suspected"
        )
    return found


def _arenas(last: Parts) -> list[str]:
    count, held, anon = last.arena_count or 0, last.arenas or 0, last.anon or 0
    if count < ARENAS_MANY or held < anon / 4 or held < 16 * MIB:
        return []
    return [
        f"{count} arenas of the C library hold {words.size(held)} for "
        f"{words.count(last.threads or 0, 'thread')}: started with MALLOC_ARENA_MAX=2, it shows "
        "whether they keep what was freed"
    ]


def _huge(first: Parts, last: Parts, more: Mapping[str, int], grew: bool) -> list[str]:
    if last.thp is None or not last.thp:
        return []
    gained = last.thp - (first.thp or 0)
    if grew and gained >= max(MIB, sum(size for size in more.values() if size > 0) // 2):
        return [
            f"{words.size(gained)} of it came as transparent huge pages, which hold what is not "
            "used beside what is"
        ]
    return []


def _beside(first: Parts, last: Parts, held: int) -> list[str]:
    """What it takes beside its own memory, where that is a relevant share of it."""
    found = []
    for size, before, what in (
        (last.pagetables, first.pagetables, "page tables, which the kernel keeps for it"),
        (last.hugetlb, first.hugetlb, "huge pages of hugetlbfs, which no resident size counts"),
    ):
        if size is None or size < max(16 * MIB, held * BESIDE):
            continue
        more = size - (size if before is None else before)
        grown = f" ({words.size(more)} more than when suspected)" if more >= MIB else ""
        found.append(f"beside that it has {words.size(size)} of {what}{grown}")
    return found


def _bound(bound: runtimes.Cap, held: int, limit: int | None) -> str:
    most = words.size(bound.bytes)
    if limit is not None and bound.bytes >= limit:
        return (
            f"it may hold {most} of it ({bound.said_by}), beyond the limit of "
            f"{words.size(limit)}: the limit comes first"
        )
    if held > bound.bytes + max(64 * MIB, bound.bytes // 4):
        return f"that is beyond the {most} of its heap ({bound.said_by}): the rest lies outside"
    return f"it may hold {most} of it ({bound.said_by}): it levels off there, or fails by itself"


def _sum(one: int | None, other: int | None) -> int:
    return (one or 0) + (other or 0)


def _now(fact: Parts | Group) -> float:
    return fact.t if fact.up is None else fact.up

"""How `oom-watchdog memory` shows what it read: tables for people, objects for programs."""

import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from watchdog import words
from watchdog.host_memory import EVENTS, Held, Memory
from watchdog.judge import account, columns, holders, host_account
from watchdog.judge.account import Account
from watchdog.judge.holders import Holder, Limit
from watchdog.judge.host_account import Headline

# --sort: what people type -> the field of a process, of a unit
SORTS = {
    "resident": ("resident", "total"),
    "anon": ("anon", "anon"),
    "file": ("file", "file"),
    "shmem": ("shmem", "shmem"),
    "swap": ("swap", "swap"),
    "tables": ("pagetables", "kernel"),
    "huge": ("hugetlb", "total"),
    "thp": ("thp", "total"),
    "virtual": ("virtual", "virtual"),
    "pss": ("pss", "total"),
    "uss": ("uss", "total"),
    "kernel": ("pagetables", "kernel"),
}
PART, PARTS = 0.005, 8  # smaller parts, and more of them, are added up in the last line
LABEL = 60  # what a part's label has room for, of 80 columns
WHEN = 15  # "11-23 08:27:01 "


class Moment(Protocol):
    """A reading: when, of which boot, and the counters of /proc/meminfo in bytes."""

    @property
    def t(self) -> float: ...
    @property
    def boot(self) -> str: ...
    @property
    def info(self) -> Mapping[str, int]: ...


Row = TypeVar("Row", Held, Holder)


def largest(rows: Sequence[Row], key: str, top: int) -> list[Row]:
    """The first `top` (0: all) by a column of SORTS, what is not known last."""

    def size(row: Row) -> int:
        return getattr(row, SORTS[key][isinstance(row, Holder)]) or 0

    found = sorted(rows, key=size, reverse=True)
    return found[:top] if top else found


# ---- the machine -------------------------------------------------------------------------------


Programs = Sequence[tuple[str, int, int]]


def overview(
    memory: Memory, headline: Headline | None, notes: Sequence[str], whose: Programs = ()
) -> Iterator[str]:
    """The answer, what `free` says, all of it added up, and what matters in that. `whose`: whose
    the anonymous memory is (holders.programs)."""
    if headline:
        yield from _wrapped(headline.text[:1].upper() + headline.text[1:])
        yield ""
    yield from free_table({key: size for key, size in memory.meminfo.items() if size is not None})
    found = host_account.of_host(memory)
    if found is None:
        return
    yield ""
    yield f"All of it, {words.size(found.total)}, added up:"
    shown = [one for one in found.parts if one[1] >= found.total * PART][:PARTS]
    small = found.total - found.unaccounted - sum(size for _, size in shown)
    rows = [(_label(key, found, memory), size) for key, size in shown]
    rows += [("all the rest", small), (account.label("unaccounted"), found.unaccounted)]
    for label, size in rows:
        yield _part(label, size, found.total)
    if whose:
        yield ""
        yield "The anonymous memory by program, what several share in fair parts (PSS):"
        yield from _programs(whose, found.get("anon"), found.total)
    if notes:
        yield ""
        for sentence in notes:
            yield from _wrapped(sentence)


def _part(label: str, size: int, total: int) -> str:
    return f"  {words.size(size):>8}  {words.share(size / total):>6}  {label}"


def _label(part: str, found: Account, memory: Memory) -> str:
    """A part in words, with what it consists of: "shared and tmpfs: 1.0 GiB in /dev/shm"."""
    within = found.within
    told: list[tuple[int, str]] = []
    if part == "anon":
        told = [(within.get("anon_thp", 0), "in huge pages (THP)")]
    elif part == "file":
        told = [(within.get(f"file_{what}", 0), what) for what in ("dirty", "mapped")]
    elif part == "shmem":
        held = [mount for mount in memory.mounts if mount.used * 10 >= found.get("shmem")]
        told = [(mount.used, f"in {_cut(mount.path, 20)}") for mount in held[:2]]
    elif part == "hugepages" and "hugepages_free" in within:
        free, kept = within["hugepages_free"], within.get("hugepages_reserved", 0)
        told = [(found.get(part) - free, "used"), (kept, "reserved"), (free - kept, "idle")]
    label, before = account.label(part), ": "
    for size, what in told:
        more = f"{before}{words.size(size)} {what}"
        if size and len(label + more) <= LABEL:
            label, before = label + more, ", "
    return label


def _programs(whose: Programs, anon: int, total: int) -> Iterator[str]:
    shown = [one for one in whose if one[2] >= total * PART][:PARTS] or whose[:PARTS]
    for name, count, size in shown:
        yield _part(words.count(count, f"{name} process"), size, total)
    small = sum(size for _, _, size in whose) - sum(size for _, _, size in shown)
    if len(whose) > len(shown):
        yield _part(words.count(len(whose) - len(shown), "other program"), small, total)
    # not yet given back by who has just ended, or of processes that may not be read
    nobody = anon - sum(size for _, _, size in whose)
    if nobody > 0:
        yield _part("in no process that could be read", nobody, total)


def _wrapped(sentence: str) -> list[str]:
    return textwrap.wrap(words.safe(sentence), 79, subsequent_indent="  ")


def machine_json(
    memory: Memory, headline: Headline | None = None, notes: Sequence[str] = (),
    whose: Programs | None = None,
) -> dict[str, Any]:  # fmt: skip
    """All of one reading; sizes in bytes, but for the columns of sar, which are in KiB."""
    info = {key: size for key, size in memory.meminfo.items() if size is not None}
    found = host_account.of_host(memory)
    return {
        "t": memory.t, "free": columns.free(info), "sar": columns.sar(info),
        "account": account.body(found) if found else None,
        "within": {f"{key}_bytes": size for key, size in found.within.items()} if found else None,
        "anon_by_program": None if whose is None else [
            {"name": name, "processes": count, "pss_anon_bytes": size}
            for name, count, size in whose
        ],
        "short": headline.short if headline else None,
        "cause": headline.cause if headline else None,
        "because": ([headline.text] if headline else []) + list(notes),
        "meminfo": dict(memory.meminfo), "events": dict(memory.events),
        "settings": dict(memory.settings), "thp": dict(memory.thp),
        "hugepages": [pool._asdict() for pool in memory.pools],
        "zram": [disk._asdict() for disk in memory.zram],
        "tmpfs": [mount._asdict() for mount in memory.mounts],
    }  # fmt: skip


def past_json(one: Moment) -> dict[str, Any]:
    """A reading of the history: as `machine_json`, as far as it was kept."""
    counted = {key: count for key, count in one.info.items() if key in EVENTS}
    told = {key: size for key, size in one.info.items() if key not in EVENTS}
    return {"t": one.t, "boot_id": one.boot or None, "free": columns.free(told),
            "sar": columns.sar(told), "meminfo": told, "events": counted}  # fmt: skip


def free_table(info: Mapping[str, int]) -> Iterator[str]:
    """What `free` prints, figure for figure (KiB)."""
    found = columns.free(info)
    yield _columns("KiB", found["Mem"])
    for name, row in found.items():
        yield _columns(f"{name}:", (value // 1024 for value in row.values()))


def _columns(label: str, values: Iterable[object]) -> str:
    return f"{label:<8}" + "".join(f"{value:>12}" for value in values)


def free_rows(
    readings: Sequence[Moment], head: bool = True, gap_s: float | None = None
) -> Iterator[str]:
    """One line a reading, in the terms of free (KiB)."""
    if head:
        names = [*list(columns.free({})["Mem"])[1:], "swap used"]
        yield f"{'KiB':<{WHEN}}" + "".join(f"{name:>11}" for name in names)
    for when, one in _with_gaps(readings, gap_s):
        if one is None:
            yield when
            continue
        found = columns.free(one.info)
        values = [*list(found["Mem"].values())[1:], found["Swap"]["used"]]
        yield f"{when:<{WHEN}}" + "".join(f"{value // 1024:>11}" for value in values)


def sar_rows(
    readings: Sequence[Moment], head: bool = True, gap_s: float | None = None
) -> Iterator[str]:
    """One line a reading, in the columns of `sar -r ALL`."""
    if head:
        yield " " * WHEN + "".join(f"{name:>10}" for name in columns.sar({}))
    for when, one in _with_gaps(readings, gap_s):
        yield when if one is None else f"{when:<{WHEN}}{_sar(one.info)}"


def sar_average(readings: Sequence[Moment]) -> str:
    """The last line of sar: the mean of each column."""
    return f"{'Average:':<{WHEN}}{_sar(columns.average([one.info for one in readings]))}"


def _sar(info: Mapping[str, int]) -> str:
    return "".join(
        f"{value:>10.2f}" if isinstance(value, float) else f"{value:>10}"
        for value in columns.sar(info).values()
    )


def _with_gaps(
    readings: Sequence[Moment], gap_s: float | None
) -> Iterator[tuple[str, Moment | None]]:
    """Each reading with its time; of the past (with `gap_s`) also what happened in between."""
    before: Moment | None = None
    for one in readings:
        if gap_s is not None and before is not None:
            for line in _between(before, one, gap_s):
                yield f"  {line}", None
        day = time.strftime("%m-%d ", time.localtime(one.t)) if gap_s is not None else ""
        yield day + time.strftime("%H:%M:%S", time.localtime(one.t)), one
        before = one


def _between(before: Moment, one: Moment, gap_s: float) -> Iterator[str]:
    if one.t - before.t > gap_s:
        yield f"nothing recorded for {words.duration(one.t - before.t)}"
    if one.boot != before.boot:
        yield "the machine was started anew"
        return
    killed = one.info.get("oom_kill", 0) - before.info.get("oom_kill", 0)
    if killed > 0:
        yield words.count(killed, "OOM kill")


# ---- processes and units -----------------------------------------------------------------------


def processes(shown: Sequence[Held], count: int, shares: bool) -> Iterator[str]:
    """A table; `shares` adds PSS and USS in the place of the parts of resident."""
    head = ["PID", "RES"]
    head += ["PSS", "USS"] if shares else ["ANON", "FILE", "SHM"]
    head += ["SWAP", "TABLES", "HUGE", "THP", "VIRT", "UNIT", "NAME"]
    rows = []
    for one in shown:
        parts = (one.pss, one.uss) if shares else (one.anon, one.file, one.shmem)
        sizes = (one.resident, *parts, one.swap, one.pagetables, one.hugetlb, one.thp, one.virtual)
        named = one.unit or one.container
        where = holders.called(one.unit, one.container, one.cgroup) if named else "-"
        rows.append([str(one.pid), *map(short, sizes), _cut(where.split(" (")[0], 24), one.comm])
    yield from words.table(head, rows, right=range(len(head) - 2)).split("\n")
    if count > len(shown):
        yield f"{len(shown)} of {words.count(count, 'process')} (--top 0 shows all)"


def units(shown: Sequence[Holder], count: int) -> Iterator[str]:
    """A table of units and containers, with the limit that is nearest to each."""
    head = ["TOTAL", "ANON", "FILE", "SHM", "KERNEL", "SWAP", "VIRT", "PROCS", "LIMIT", "UNIT"]
    rows = []
    for one in shown:
        sizes = (one.total, one.anon, one.file, one.shmem, one.kernel, one.swap, one.virtual)
        name = one.name if one.counted else one.name + " *"
        rows.append([*map(short, sizes), str(one.processes), _limit(one.limit), _cut(name, 40)])
    yield from words.table(head, rows, right=range(9)).split("\n")
    if any(not one.counted for one in shown):
        yield "* added up over its processes, which counts twice what they share"
    if count > len(shown):
        yield f"{len(shown)} of {count} (--top 0 shows all)"


def process_json(one: Held) -> dict[str, Any]:
    """A process; sizes in bytes."""
    plain = ("pid", "start", "comm", "uid", "unit", "container", "pod", "cgroup")
    found = one._asdict()
    found["pod"] = holders.pod(one.cgroup)
    return {key if key in plain else f"{key}_bytes": value for key, value in found.items()}


def holder_json(one: Holder) -> dict[str, Any]:
    """A unit or container; sizes in bytes."""
    limit = one.limit
    return {
        "name": one.name, "unit": one.unit, "container": one.container, "pod": one.pod,
        "processes": one.processes,
        "total_bytes": one.total, "anon_bytes": one.anon, "file_bytes": one.file,
        "shmem_bytes": one.shmem, "kernel_bytes": one.kernel, "swap_bytes": one.swap,
        "virtual_bytes": one.virtual, "counted": one.counted,
        "limit_bytes": limit.bytes if limit else None,
        "left_bytes": limit.left if limit else None,
        "limit_of": limit.cgroup if limit else None,
        "limit_kind": limit.what if limit else None,
    }  # fmt: skip


def short(count: int | None) -> str:
    """As words.size, in at most five characters: "1.4G"; "-" where it is not known."""
    if count is None:
        return "-"
    return words.size(count).replace(" ", "").replace("iB", "").removesuffix("B")


def _limit(limit: Limit | None) -> str:
    if limit is None:
        return "-"
    used = 1 - limit.left / limit.bytes if limit.bytes else 1.0
    return f"{words.share(used)} of {short(limit.bytes)}"


def _cut(text: str, width: int) -> str:
    """A long name keeps both ends: what kind it is stands at its end."""
    if len(text) <= width:
        return text
    tail = width // 2 - 1
    return f"{text[: width - tail - 1]}…{text[-tail:]}"

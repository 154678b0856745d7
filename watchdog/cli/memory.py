"""`oom-watchdog memory`: where the memory is, now, again and again, or over the past."""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from watchdog import words
from watchdog.cli import args as common
from watchdog.cli import memory_view as view
from watchdog.cli import status
from watchdog.history import machine
from watchdog.host_memory import Held, Memory
from watchdog.judge import holders, host_account
from watchdog.sense import host_memory
from watchdog.sense.breakdown import Breakdown
from watchdog.sense.cgroups import Cgroups
from watchdog.store import now, place
from watchdog.store.host import read_host

TOP = 20
DEFAULT_EVERY_S = 1.0
HISTORY_ROWS = 20  # how many rows --since shows where no --every says otherwise
# A bucket that is missing is a gap: the daemon did not run.
GAP_BUCKETS = 2.5


class Reading(NamedTuple):
    """The counters of one moment: Unix seconds, {key of /proc/meminfo: bytes}, the boot's id."""

    t: float
    info: Mapping[str, int]
    boot: str = ""


def main(argv: list[str]) -> int:
    """Run the command; its exit status."""
    return common.quietly(_main, argv)


FORMULAS = (
    "used = MemTotal - MemAvailable; buff/cache = Buffers + Cached + SReclaimable; "
    "kbmemused = MemTotal - MemFree - Buffers - Cached - Slab; %commit = Committed_AS / "
    "(MemTotal + SwapTotal); all others are keys of /proc/meminfo (shared: Shmem, kbavail: "
    "MemAvailable)."
)


def _parser() -> argparse.ArgumentParser:
    found = common.parser(
        "memory", "Where the memory is: as free tells it, all added up, explained."
    )
    found.usage = "oom-watchdog memory [OPTION…]"
    found.epilog = f"{FORMULAS} example: oom-watchdog memory --units"
    add = found.add_argument
    what = found.add_mutually_exclusive_group()
    what.add_argument("--sar", action="store_true", help="in the columns of sar -r ALL")
    what.add_argument("--processes", action="store_true", help="what each process holds, in parts")
    what.add_argument("--units", action="store_true", help="what each unit and container holds")
    add("--sort", metavar="KEY", help=", ".join(view.SORTS))
    add("--top", metavar="N", type=_positive, default=TOP, help=f"so many rows ({TOP}; 0: all)")
    add("--pss", action="store_true", help="what several share in fair parts (PSS): slow")
    add("--every", metavar="D", type=common.duration, help='again and again: "1s"')
    add("--count", metavar="N", type=_positive, help="so many times")
    add("--since", metavar="T", type=common.when, help='the past, as the daemon kept it: "1d"')
    return found


def _main(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    wrong = _wrong(options)
    if wrong:
        common.complain(wrong)
        return common.USAGE
    if options.since is not None:
        return _past(options)
    if options.processes or options.units:
        return _tables(options)
    return _now(options)


def _wrong(options: argparse.Namespace) -> str | None:
    tables = options.processes or options.units
    if options.sort is not None:
        if not tables:
            return "--sort is for --processes and --units"
        if options.sort not in view.SORTS:
            near = words.nearest(options.sort, view.SORTS)
            keys = "" if near else f" (there are {', '.join(view.SORTS)})"
            return f"--sort: no column {words.safe(options.sort)}{near}{keys}"
    repeated = options.every is not None or options.count is not None
    if options.pss and (options.units or options.sar or options.since is not None):
        return "--pss is for processes and for the machine now"
    if options.pss and repeated and not options.processes:
        return "--pss is slow: together with --every or --count only for --processes"
    if options.since is not None and (tables or options.count):
        return "--since shows the machine as a whole; --every says how finely"
    if options.every is not None and options.every <= 0:
        return "--every: expected a time above zero"
    return None


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) > 10**9:
        raise argparse.ArgumentTypeError(f'expected a whole number, found "{words.safe(text)}"')
    return int(text)


# ---- the machine now ---------------------------------------------------------------------------


def _now(options: argparse.Namespace) -> int:
    if options.every is None and options.count is None:
        memory = host_memory.read(time.time(), None)
        if not memory.meminfo.get("MemTotal"):
            common.complain("/proc/meminfo tells nothing here")
            return common.USAGE
        if options.sar and not options.json:
            print("\n".join(view.sar_rows([_reading(memory)])))
            return 0
        leak = _leak(options.state)
        headline = host_account.headline(memory, leak)
        breakdown = Breakdown()
        whose = holders.programs(map(breakdown.rollup, breakdown.all())) if options.pss else None
        notes = _notes(memory)
        if options.json:
            print(json.dumps(view.machine_json(memory, headline, notes, whose)))
        else:
            print("\n".join(view.overview(memory, headline, notes, whose or ())))
        _complain_of_refused(breakdown)
        return 0
    seen: list[Reading] = []
    for number, memory in enumerate(_again(options.every, options.count)):
        if options.json:
            print(json.dumps(view.machine_json(memory)))
        else:
            rows = view.sar_rows if options.sar else view.free_rows
            print("\n".join(rows([_reading(memory)], head=number % 20 == 0)))
        if options.count:
            seen.append(_reading(memory))
        sys.stdout.flush()
    if options.sar and len(seen) > 1 and not options.json:
        print(view.sar_average(seen))
    return 0


def _notes(memory: Memory) -> tuple[str, ...]:
    """What matters; huge pages are counted by process only where there are many."""
    huge = None
    told = memory.meminfo.get("AnonHugePages") or 0
    if told >= (memory.meminfo.get("MemTotal") or 0) * host_account.HUGE_MUCH:
        breakdown = Breakdown()
        largest = view.largest(list(breakdown.all()), "anon", TOP)
        held = [one for one in map(breakdown.rollup, largest) if (one.thp or 0) >= 2 << 20]
        huge = (len(held), sum(one.thp or 0 for one in held), sum(one.resident for one in held))
    tables, slabs = host_memory.page_tables(), host_memory.slabs()
    return host_account.notes(memory, tables, slabs, huge)


def _leak(state: str | None) -> str | None:
    """What the daemon says of leaks, where it runs and may be read."""
    try:
        found = now.read_now(place.now_dirs(state))
    except place.StoreError:
        return None
    return None if found is None or found.old else status.leak(found.data)


def _again(every_s: float | None, count: int | None) -> Iterator[Memory]:
    every_s = every_s or DEFAULT_EVERY_S
    due = time.monotonic()
    number = 0
    while True:
        yield host_memory.read(time.time(), None)
        number += 1
        if count and number >= count:
            return
        due = max(due + every_s, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def _reading(memory: Memory) -> Reading:
    told = {key: value for key, value in memory.meminfo.items() if value is not None}
    return Reading(memory.t, told)


# ---- the past ----------------------------------------------------------------------------------


def _past(options: argparse.Namespace) -> int:
    until = time.time()
    span = machine.finest(until - options.since)
    with common.history(options.state) as path:
        records = read_host(path, span.bucket_s, options.since, until)
    found = [Reading(record.t, machine.decode(record.blob), record.boot_id) for record in records]
    if not found:
        common.complain(f"nothing was recorded in {os.path.dirname(path)} since then")
        return common.NOTHING
    buckets = math.ceil((until - found[0].t) / HISTORY_ROWS / span.bucket_s)
    every = options.every or buckets * span.bucket_s
    shown = [found[i] for i in machine.thinned([one.t for one in found], every)]
    if options.json:
        for reading in shown:
            print(json.dumps(view.past_json(reading)))
        return 0
    gap_s = GAP_BUCKETS * max(span.bucket_s, every)
    rows = view.sar_rows if options.sar else view.free_rows
    print("\n".join(rows(shown, gap_s=gap_s)))
    if options.sar and len(shown) > 1:
        print(view.sar_average(shown))
    return 0


# ---- processes and units -----------------------------------------------------------------------


def _tables(options: argparse.Namespace) -> int:
    number = 0
    while True:
        breakdown = Breakdown()
        held = list(breakdown.all())
        if options.processes:
            _processes(options, breakdown, held)
        else:
            _units(options, held)
        number += 1
        once = options.every is None and options.count is None
        if once or (options.count and number >= options.count):
            return 0
        if not options.json:
            print()
        sys.stdout.flush()
        time.sleep(options.every or DEFAULT_EVERY_S)


def _processes(options: argparse.Namespace, breakdown: Breakdown, held: list[Held]) -> None:
    key = options.sort or ("pss" if options.pss else "resident")
    if options.pss or key in ("pss", "uss", "thp"):
        held = [breakdown.rollup(one) for one in held]
    shown = view.largest(held, key, options.top)
    if not options.pss:
        shown = [breakdown.rollup(one) for one in shown]
    if options.json:
        for one in shown:
            print(json.dumps(view.process_json(one)))
    else:
        print("\n".join(view.processes(shown, len(held), options.pss)))
    _complain_of_refused(breakdown)


def _complain_of_refused(breakdown: Breakdown) -> None:
    if breakdown.refused:
        whose = words.count(breakdown.refused, "process")
        hint = " (try as root)" if os.geteuid() else ""  # some refuse even root
        common.complain(f"huge pages and PSS of {whose} may not be read{hint}")


def _units(options: argparse.Namespace, held: Sequence[Held]) -> None:
    paths = {one.cgroup for one in held if one.cgroup}
    groups = Cgroups().read(time.time(), 0.0, paths)
    found = holders.holders(held, groups)
    shown = view.largest(found, options.sort or "resident", options.top)
    if options.json:
        for one in shown:
            print(json.dumps(view.holder_json(one)))
    else:
        print("\n".join(view.units(shown, len(found))))

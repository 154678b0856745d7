"""`oom-watchdog history`: how one process or unit has grown, as the daemon kept it."""

import argparse
import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from watchdog import words
from watchdog.cli import args as common
from watchdog.facts import EntityRecord
from watchdog.history import machine, records
from watchdog.store import entities as store
from watchdog.store.events import Wanted, open_reader, read_events
from watchdog.tell import terminal

ROWS = 20  # where no --every says otherwise
BAR = 30
# A step without a reading is a gap where it is that much longer than the one before it.
GAP = 3.0
UNIT = "unit:"
SUFFIX = ".service"


class Past(NamedTuple):
    """One process or unit of one boot; points are (Unix seconds, bytes), the oldest first."""

    pid: int | None
    start: int | None
    comm: str | None
    unit: str | None
    boot_id: str
    stage: str
    since_t: float | None
    rate: float
    points: list[tuple[float, int]]


def main(argv: list[str]) -> int:
    """Run the command; its exit status."""
    return common.quietly(_main, argv)


def _parser() -> argparse.ArgumentParser:
    found = common.parser(
        "history",
        "How a process or a unit has grown: its anonymous memory and swap, the smallest value of "
        "each step, with what was told of it in between. Finer steps are kept for the last minutes "
        "and hours, two hours for a week. Written every five minutes.",
        "oom-watchdog history shop.service --since 1d",
    )
    add = found.add_argument
    add("who", metavar="PID|UNIT", help='"4242", "shop.service" or "shop"')
    add("--since", metavar="T", type=common.when, help='"10min" ago, "2026-11-01 08:00", "@UNIX"')
    add("--every", metavar="D", type=common.duration, help='no finer than this: "5min"')
    return found


def _main(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    if options.every is not None and options.every <= 0:
        common.complain("--every: expected a time above zero")
        return common.USAGE
    with common.history(options.state) as path:
        found, hint = _find(path, options.who)
        found = [part for one in found if (part := _cut(one, options.since)).points]
        if not found:
            common.complain(f"nothing is kept of {options.who}{hint}")
            return common.NOTHING
        if options.json:
            for one in found:
                _print_json(one, options.every)
            return 0
        first = min(one.points[0][0] for one in found)
        told = list(read_events(path, _wanted(found[0], first)))
    print("\n\n".join("\n".join(_table(one, told, options.every)) for one in found))
    return 0


def _find(path: str, who: str) -> tuple[list[Past], str]:
    """(what is kept of it, by process and boot, the oldest first; what else may be meant)."""
    keys = [f"{who}:"] if who.isdigit() else [UNIT + who, UNIT + who + SUFFIX]
    with contextlib.closing(open_reader(path)) as db:
        records = list(store.of_keys(db, keys, begin=who.isdigit()))
        hint = ""
        if not records and who.isdigit():
            hint = " (processes are kept from 1 MiB on, and written every five minutes)"
        elif not records:
            units = [key.removeprefix(UNIT) for key in store.keys(db, UNIT)]
            stems = [unit.removesuffix(SUFFIX) for unit in units]
            hint = words.nearest(who, [*stems, *units])
    return [past for record in records if (past := _past(record)) is not None], hint


def _past(record: EntityRecord) -> Past | None:
    trend, sizes = records.load(record), records.sizes(record)
    if trend is None or sizes is None:
        return None
    points = [(t, kib * 1024) for t, _, kib in sizes.points if t <= record.last_t]
    points.append((record.last_t, trend.kib * 1024))  # of the step that is still open
    pid, _, start = record.key.partition(":")
    process = pid.isdigit() and start.isdigit()
    return Past(
        int(pid) if process else None, int(start) if process else None,
        sizes.comm if process else None, sizes.unit, record.boot_id, trend.stage, trend.since_t,
        trend.rate, points,
    )  # fmt: skip


def _cut(past: Past, since: float | None) -> Past:
    if since is None:
        return past
    return past._replace(points=[point for point in past.points if point[0] >= since])


def _wanted(past: Past, since: float) -> Wanted:
    if past.pid is not None:
        return Wanted(since=since, pid=past.pid)
    return Wanted(since=since, unit=past.unit)


def _print_json(past: Past, every_s: float | None) -> None:
    who = {"pid": past.pid, "start": past.start, "comm": past.comm, "unit": past.unit,
           "boot_id": past.boot_id}  # fmt: skip
    for t, size in _thinned(past.points, every_s):
        print(json.dumps({"t": round(t, 3), **who, "private_bytes": size}))


def _thinned(points: Sequence[tuple[float, int]], every_s: float | None) -> list[tuple[float, int]]:
    if not every_s:
        return list(points)
    return [points[i] for i in machine.thinned([t for t, _ in points], every_s)]


def _table(past: Past, told: Sequence[dict[str, Any]], every_s: float | None) -> Iterator[str]:
    """What it is, and a line for each step with a bar, and what was told in between."""
    points = past.points
    yield from _head(past)
    every_s = every_s or (points[-1][0] - points[0][0]) / ROWS
    shown = _thinned(points, every_s)
    if shown[0] != points[0]:
        shown.insert(0, points[0])
    most = max(size for _, size in shown) or 1
    about = [event for event in told if _concerns(event, past)]
    before: float | None = None
    step = every_s
    for t, size in shown:
        while about and float(about[0]["t"]) <= t:
            event = about.pop(0)
            yield f"  {_time(float(event['t']))}  {terminal.message(event)}"
        if before is not None:
            if t - before > GAP * max(step, every_s):
                yield f"  nothing recorded for {words.duration(t - before)}"
            step = t - before
        bar = "█" * round(size / most * BAR)
        yield f"{_time(t)}  {words.size(size):>8}  {bar}".rstrip()
        before = t
    for event in about:
        yield f"  {_time(float(event['t']))}  {terminal.message(event)}"


def _concerns(event: dict[str, Any], past: Past) -> bool:
    """Is it of this very process, of this boot? A PID is used again."""
    who = terminal.about(event)
    start = who.get("start")
    if past.start is not None and start is not None and start != past.start:
        return False
    return bool(event.get("boot_id") == past.boot_id)


def _head(past: Past) -> Iterator[str]:
    first, last = past.points[0], past.points[-1]
    who = terminal.who({"pid": past.pid, "comm": past.comm, "unit": past.unit})
    grown = last[1] - first[1]
    span = last[0] - first[0]
    yield words.safe(who)
    text = f"  {words.size(last[1])} at {_time(last[0])}"
    if span > 0:
        sign = "+" if grown >= 0 else ""
        text += f", {sign}{words.size(grown)} in {words.duration(span)}"
    if past.stage != "none":
        text += f"; leak {past.stage}, {words.rate(past.rate)}"
        if past.since_t is not None:
            text += f" since {_time(past.since_t)}"
    yield text


def _time(t: float) -> str:
    return time.strftime("%m-%d %H:%M:%S", time.localtime(t))

"""The terminal view of one OOM report, and the sum of many."""

import textwrap
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from watchdog import words
from watchdog.facts import Event
from watchdog.judge import account, account_notes, sentences
from watchdog.oom_report.report import Report

WIDTH = 79
LABEL = 10
PARTS = 5


def screen(report: Report, event: Event, number: int, count: int, full: bool) -> str:
    """One report, at most 24 lines of 79 characters; `full` adds the memory and the tasks."""
    out = [_head(report, event, number, count), ""]
    rows = [
        ("who", sentences.who(report)),
        ("limit", sentences.limit(report)),
        ("why it", sentences.why(report)),
        ("asked", sentences.asked(report)),
        ("memory", _memory(report)),
        ("largest", _largest(event.body)),
        ("also", _also(report)),
        ("verdict", _verdict(event.body)),
        ("next", "\n".join(event.body["advice"])),
        ("missing", ", ".join(report.missing)),
    ]
    for label, text in rows:
        if text:
            out += _row(label, text)
    if full:
        out += _full(report)
    return "\n".join(out)


def brief(report: Report, event: Event, number: int) -> str:
    """One line, where there are too many for a screen each."""
    victim = report.victim
    name = f"{victim.comm or '?'} (pid {victim.pid})" if victim else report.outcome
    where = report.cgroup or report.scope or "scope unknown"
    return words.safe(f"{number:4}  {_when(report, event)}  {name}  {where}")


def summed(reports: Iterable[tuple[Report, Event]]) -> str:
    """Who died how often, and by which limits."""
    who: Counter[str] = Counter()
    limits: Counter[str] = Counter()
    kills = without = 0
    for report, _ in reports:
        dead = [other.comm or "?" for other in report.also_killed if not other.again]
        if report.victim is not None:
            dead.append(report.victim.comm or "?")
        else:
            without += 1
        kills += len(dead)
        who.update(dead)
        limits[_place(report)] += 1
    head = f"{words.count(kills, 'process')} killed"
    if without:
        head += f", {words.count(without, 'report')} without a kill"
    out = [head]
    out += _row("who", ", ".join(_times(who)))
    out += _row("limits", ", ".join(_times(limits)))
    return "\n".join(out)


def _times(found: Counter[str]) -> Iterator[str]:
    for name, count in found.most_common(8):
        yield f"{name} ×{count}" if count > 1 else name
    if len(found) > 8:
        yield f"and {len(found) - 8} more"


def _place(report: Report) -> str:
    if report.scope == "memcg":
        return report.cgroup or "a cgroup that is not named"
    return {"global": "the whole machine", None: "unknown"}.get(report.scope, str(report.scope))


def _head(report: Report, event: Event, number: int, count: int) -> str:
    what = {
        "killed": "OOM kill", "panic": "OOM panic", "no-victim": "OOM without a victim",
        "selected": "OOM kill, half seen",
    }.get(report.outcome, "OOM report, cut off")  # fmt: skip
    of = f" {number} of {count}" if count > 1 else ""
    kernel = f" · kernel {report.kernel_version}" if report.kernel_version else ""
    return words.safe(f"{what}{of} · {_when(report, event)}{kernel}")


def _when(report: Report, event: Event) -> str:
    if event.t > 0:
        try:
            return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.t))
        except (ValueError, OverflowError, OSError):
            pass
    if report.stamp:
        return report.stamp
    if report.usec is not None:
        return f"{report.usec / 1e6:.6f} s after boot"
    return f"line {report.lines[0]}"


def _row(label: str, text: str) -> list[str]:
    out: list[str] = []
    for part in text.split("\n"):
        out += textwrap.wrap(
            words.safe(part), WIDTH, initial_indent=" " * LABEL, subsequent_indent=" " * LABEL,
            break_on_hyphens=False,
        )  # fmt: skip
    if out:
        out[0] = f"{label:{LABEL}}" + out[0][LABEL:]
    return out


def _memory(report: Report) -> str | None:
    found = account.of_report(report)
    if found is None:
        return None
    parts = [
        f"{words.size(size)} {account.label(key)}"
        for key, size in found.parts
        if size and size * 200 >= found.total
    ]
    if abs(found.unaccounted) * 50 >= found.total:
        parts.append(f"{words.size(found.unaccounted)} in no counter")
    return f"{words.size(found.total)}: {', '.join(parts[:7])}"


def _largest(body: Mapping[str, Any]) -> str | None:
    tasks = body["tasks"]
    if not tasks:
        return None
    told = [
        f"{one['comm']}{' ×' + str(one['count']) if one['count'] > 1 else ''}"
        f" {words.size(one['resident_bytes'])}"
        for one in tasks["by_name"][:PARTS]
    ]
    return ", ".join(told)


def _also(report: Report) -> str | None:
    others = [other for other in report.also_killed if not other.again]
    if not others:
        return None
    told = [f"{other.comm or '?'} (pid {other.pid})" for other in others[:6]]
    return ", ".join(told) + (f" and {len(others) - 6} more" if len(others) > 6 else "")


def _verdict(body: Mapping[str, Any]) -> str:
    sure = f" (confidence {body['confidence']:.1f})" if body["confidence"] else ""
    return f"{body['verdict']}{sure}: {body['verdict_because']}"


def _full(report: Report) -> list[str]:
    out = ["", f"lines     {report.lines[0]} to {report.lines[1]}"]
    for name, limit in report.limits.items():
        most = "no limit" if limit.limit is None else words.size(limit.limit)
        out.append(
            f"{name:13} {words.size(limit.usage):>9} of {most}, failed {limit.failcnt:,} times"
        )
    found = account.of_report(report)
    if found is not None:
        out += ["", f"memory {words.size(found.total)}"]
        out += [
            f"  {words.size(size):>9}  {account.label(key)}"
            for key, size in (*found.parts, ("unaccounted", found.unaccounted))
            if size or key == "unaccounted"
        ]
        for note in account_notes.of_oom_report(report):
            out += textwrap.wrap(
                words.safe(note), WIDTH, initial_indent="  ", subsequent_indent="    "
            )
    if report.swap_total is not None:
        free = "?" if report.swap_free is None else words.size(report.swap_free)
        out.append(f"  swap {words.size(report.swap_total)}, {free} free")
    for zone in report.zones:
        low = "" if zone.low is None else f", low {words.size(zone.low)}"
        out.append(
            words.safe(
                f"  zone {zone.name} of node {zone.node}: free {words.size(zone.free)}, "
                f"min {words.size(zone.min)}{low}"
            )
        )
    page = report.page_size
    if report.rows and page:
        out += ["", _table(report, page)]
    return out


def _table(report: Report, page: int) -> str:
    rows = sorted(report.rows, key=lambda row: -row.rss)
    return words.table(
        ("pid", "uid", "resident", "swap", "adj", "name"),
        [
            (
                str(row.pid), _or(row.uid), words.size(row.rss * page),
                "-" if row.swap is None else words.size(row.swap * page),
                _or(row.oom_score_adj), row.name,
            )
            for row in rows
        ],
        right=(0, 1, 2, 3, 4),
    )  # fmt: skip


def _or(value: int | None) -> str:
    return "-" if value is None else str(value)

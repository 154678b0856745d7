"""The terminal view of one OOM report: the answer first, on one screen, or at full length."""

import textwrap
import time
from collections.abc import Mapping
from typing import Any

from watchdog import words
from watchdog.facts import Event
from watchdog.judge import account, account_notes, badness, request, sentences, shortage
from watchdog.judge.places import said, short
from watchdog.memory import Group
from watchdog.oom_report.report import Report

WIDTH = 79
HEIGHT = 23  # of 24 lines one is the prompt's
LABEL = 10
PARTS = 5

# Rows in their order: how many lines each may have, and how many when the screen is short.
_LINES = {
    "who": (2, 2), "why now": (4, 3), "why it": (3, 2), "asked": (2, 1), "memory": (3, 2),
    "largest": (2, 1), "also": (2, 1), "before": (2, 1), "verdict": (4, 2), "next": (5, 4),
    "missing": (1, 1),
}  # fmt: skip


def screen(report: Report, event: Event, number: int, count: int, full: bool) -> str:
    """One report, at most 24 lines of 79 characters; `full` leaves nothing out."""
    body = event.body
    out = [_head(report, event, number, count)]
    out += [*_wrapped(words.safe(body["headline"] + "."), WIDTH, 99 if full else 3), ""]
    rows = [
        ("who", sentences.who(report)),
        ("why now", _why_now(report, body)),
        ("why it", body["why_victim"]),
        ("asked", request.asked(report)),
        ("memory", _memory(report)),
        ("largest", _largest(body)),
        ("also", _also(report)),
        ("before", _before(body)),
        ("verdict", _verdict(body)),
        ("next", "\n".join(body["advice"])),
        ("missing", ", ".join(report.missing)),
    ]
    shown = [(label, text) for label, text in rows if text]
    if full:
        for label, text in shown:
            out += _row(label, text, 99)
        return "\n".join(out + _full(report, event))
    order = report.invoker.order if report.invoker else None
    return "\n".join(out + _fitted(shown, HEIGHT - len(out), keep_asked=bool(order)))


def _fitted(rows: list[tuple[str, str]], room: int, keep_asked: bool) -> list[str]:
    """All rows in so many lines: the less telling ones shrink first. Where a large block was asked
    for, the request is what matters."""
    most = {label: _LINES[label][0] for label, _ in rows}
    shrink = ("largest", "also", "memory", "asked", "before", "why it", "verdict", "why now",
              "next")  # fmt: skip
    lines = {label: _row(label, text, most[label]) for label, text in rows}
    for label in shrink:
        if label == "asked" and keep_asked:
            continue
        if sum(map(len, lines.values())) <= room:
            break
        text = next((text for key, text in rows if key == label), None)
        if text is not None:
            lines[label] = _row(label, text, _LINES[label][1])
    return [line for label, _ in rows for line in lines[label]]


def _wrapped(text: str, width: int, most: int, indent: str = "") -> list[str]:
    """Lines of that width; what is too much ends with an ellipsis."""
    lines = textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
    if len(lines) > most:
        last = lines[most - 1]
        lines = [*lines[: most - 1], last[: width - 2].rstrip(" ,;:") + " …"]
    return lines


def _commands(advice: str, most: int) -> list[str]:
    """One command a line, whole, since it is there to be copied; what it is for beside it, or
    below where there is room for that."""
    told = [words.safe(part).partition("  # ") for part in advice.split("\n")][:most]
    room = most - len(told)
    out: list[str] = []
    for command, mark, comment in told:
        # a long one begins further left; one that is longer still is broken by the terminal alone
        indent = LABEL if len(command) + LABEL <= WIDTH else max(2, WIDTH - len(command))
        out.append(" " * indent + command)
        if mark and len(out[-1]) + len(comment) + 4 <= WIDTH:
            out[-1] += mark + comment
        elif mark and room:
            room -= 1
            out += _wrapped("# " + comment, WIDTH, 1, " " * LABEL)
    return out


def _row(label: str, text: str, most: int) -> list[str]:
    if label == "next":
        out = _commands(text, most)
        if len(out[0]) - len(out[0].lstrip()) < LABEL:
            return [label, *out]
        return [f"{label:{LABEL}}" + out[0][LABEL:], *out[1:]]
    out = []
    for part in text.split("\n"):
        out += _wrapped(words.safe(part), WIDTH, most, " " * LABEL)
    if len(out) > most:
        out = out[:most]
        if not out[-1].endswith("…"):
            out[-1] = out[-1][: WIDTH - 2] + " …"
    if out:
        out[0] = f"{label:{LABEL}}" + out[0][LABEL:]
    return out


# -- the rows -------------------------------------------------------------------------------------


def _head(report: Report, event: Event, number: int, count: int) -> str:
    what = {
        "killed": "OOM kill", "panic": "OOM panic", "no-victim": "OOM without a victim",
        "selected": "OOM kill, half seen",
    }.get(report.outcome, "OOM report, cut off")  # fmt: skip
    of = f" {number} of {count}" if count > 1 else ""
    text = words.safe(f"{what}{of} · {when(report, event)}")
    if report.host and len(text) + len(report.host) < WIDTH - 30:
        text += f" · {words.safe(report.host)}"
    if report.kernel_version and len(text) < WIDTH - 20:
        text += f" · kernel {short(report.kernel_version, WIDTH - len(text) - 10)}"
    return text


def when(report: Report, event: Event) -> str:
    """When it was, as exactly as the log tells."""
    if event.t > 0:
        try:
            return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.t))
        except (ValueError, OverflowError, OSError):
            pass
    if report.stamp:
        return short(report.stamp, 32)
    if report.usec is not None:
        return f"{report.usec / 1e6:.6f} s after boot"
    return f"line {report.lines[0]}"


def _why_now(report: Report, body: Mapping[str, Any]) -> str:
    return "; ".join([*body["why_now"], *filter(None, [shortage.freed(report)])])


def _memory(report: Report) -> str | None:
    found = account.of_report(report)
    if found is None:
        return None
    parts = [
        f"{words.size(size)} {account.label(key).replace(', ', ' ')}"
        for key, size in found.parts
        if size and size * 200 >= found.total
    ]
    if abs(found.unaccounted) * 50 >= found.total:
        parts.append(f"{words.size(found.unaccounted)} in no counter")
    return f"{words.size(found.total)}: {', '.join(parts[:7])}"


def _largest(body: Mapping[str, Any]) -> str | None:
    tasks = body["tasks"]
    if not tasks or tasks["count"] < 2:
        return None
    told = [
        f"{short(one['comm'], 15)}{' ×' + str(one['count']) if one['count'] > 1 else ''}"
        f" {words.size(one['resident_bytes'])}"
        for one in tasks["by_name"][:PARTS]
    ]
    return ", ".join(told)


def _also(report: Report) -> str | None:
    others = [other for other in report.also_killed if not other.again]
    if not others:
        return None
    told = [f"{short(other.comm or '?', 15)} (pid {other.pid})" for other in others[:5]]
    return ", ".join(told) + (f" and {len(others) - 5} more" if len(others) > 5 else "")


def _before(body: Mapping[str, Any]) -> str | None:
    """Earlier kills, and how it grew, where history tells."""
    told = []
    kills, growth = body.get("kills_before") or (), body.get("growth")
    if kills:
        sizes = [words.size(kill["size_bytes"]) for kill in kills[-4:] if kill["size_bytes"]]
        at = f", at {', '.join(sizes)}" if sizes else ""
        told.append(f"{words.count(len(kills), 'earlier OOM kill')} of it{at}")
    if growth:
        told.append(
            f"{words.size(growth['first_bytes'])} when first seen "
            f"{words.duration(max(1.0, growth['watched_s']))} before, "
            f"{words.size(growth['last_bytes'])} at last"
        )
    return "; ".join(told) or None


def _verdict(body: Mapping[str, Any]) -> str:
    sure = f" (confidence {body['confidence']:.1f})" if body["confidence"] else ""
    seen = " ".join(body["why_now"])
    first = body["verdict_because"]
    more = [one for one in body["verdict_reasons"] if one != first and one not in seen]
    return f"{body['verdict']}{sure}: {'; '.join([first, *more])}"


# -- at full length -------------------------------------------------------------------------------


def _full(report: Report, event: Event) -> list[str]:
    out = ["", f"lines     {report.lines[0]} to {report.lines[1]}"]
    for label, path in (("limit of", report.cgroup), ("task in", report.task_cgroup)):
        if path:
            out.append(words.safe(f"{label:{LABEL}}{path}"))
    if report.cpuset:
        out.append(words.safe(f"cpuset    {report.cpuset}"))
    if report.invoker is not None and report.invoker.gfp_mask:
        flags = f" {report.invoker.gfp_flags}" if report.invoker.gfp_flags else ""
        out.append(words.safe(f"gfp mask  {report.invoker.gfp_mask}{flags}"))
    if report.freed_bytes is not None:
        out.append(f"freed     {words.size(report.freed_bytes)}")
    for name, limit in report.limits.items():
        most = "no limit" if limit.limit is None else words.size(limit.limit)
        out.append(
            f"{name:13} {words.size(limit.usage):>9} of {most}, failed {limit.failcnt:,} times"
        )
    if report.protection is not None and any(report.protection):
        low = f"min {words.size(report.protection[0])}, low {words.size(report.protection[1])}"
        out.append(f"protected     {low}")
    out += _account(report) + _zones(report) + _kernel(report)
    out += ["", "because", *(f"  {words.safe(text)}" for text in event.because)]
    if isinstance(report.memory, Group) and report.memory.stats:
        out += ["", "memory.stat"]
        out += [f"  {value:>20,}  {key}" for key, value in report.memory.stats.items()]
    if report.also_killed:
        out += ["", "killed with it"]
        out += [
            words.safe(f"  {other.pid:>8}  {other.comm or '?'}")
            for other in report.also_killed
            if not other.again
        ]
    if report.rows and report.page_size:
        out += ["", _table(report, report.page_size)]
    return out


def _account(report: Report) -> list[str]:
    out: list[str] = []
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
    return out


def _zones(report: Report) -> list[str]:
    out = []
    for zone in report.zones:
        low = "" if zone.low is None else f", low {words.size(zone.low)}"
        free = [f"{count}×{words.size(size)}" for size, count in zone.blocks.items() if count]
        blocks = f"; free blocks {', '.join(free)}" if free else ""
        out.append(
            words.safe(
                f"  zone {zone.name} of node {zone.node}: free {words.size(zone.free)}, "
                f"min {words.size(zone.min)}{low}{blocks}"
            )
        )
    return out


def _kernel(report: Report) -> list[str]:
    out = []
    if report.slabs:
        out += ["", "kernel caches that cannot be reclaimed"]
        largest = sorted(report.slabs, key=lambda slab: -slab[2])
        out += [
            words.safe(f"  {words.size(total):>9}  {name} ({words.size(used)} in use)")
            for name, used, total in largest
        ]
    if report.allocations:
        out += ["", "allocated by"]
        out += [words.safe(f"  {words.size(size):>9}  {where}")
                for size, where in report.allocations]  # fmt: skip
    return out


def _table(report: Report, page: int) -> str:
    """All processes; the score where it can be followed, in thousandths as the kernel shows it."""
    ranking = badness.rank(report)
    scores: dict[int, int | None] = {}
    if ranking is not None:
        scores = {c.row.pid: ranking.thousandths(c.points) for c in ranking.candidates}
    rows = sorted(report.rows, key=lambda row: -row.rss)
    return words.table(
        ("pid", "uid", "resident", "swap", "adj", "score", "name"),
        [
            (
                str(row.pid), _or(row.uid), words.size(row.rss * page),
                "-" if row.swap is None else words.size(row.swap * page),
                _or(row.oom_score_adj), _or(scores.get(row.pid)), row.name,
            )
            for row in rows
        ],
        right=(0, 1, 2, 3, 4, 5),
    )  # fmt: skip


def _or(value: int | None) -> str:
    return "-" if value is None else str(value)


def place(report: Report) -> str:
    """Whose memory was out, in a few words."""
    if report.scope == "memcg":
        return said(report.cgroup) if report.cgroup else "a cgroup that is not named"
    return {"global": "the whole machine", None: "not told"}.get(report.scope, str(report.scope))

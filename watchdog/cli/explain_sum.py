"""Many OOM reports summed up: who died how often, by which limits, and how far apart."""

import itertools
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from watchdog import words
from watchdog.cli.explain_view import place, when
from watchdog.facts import Event
from watchdog.judge.places import short
from watchdog.oom_report.report import Report

LISTED_MAX = 8
RUNS_MAX = 30


class _Limit(NamedTuple):
    """All reports of one limit."""

    reports: list[tuple[Report, Event]]
    who: Counter[str]


def runs(found: list[tuple[Report, Event]]) -> Iterator[str]:
    """A line for each run of the same victim in the same place; of very many the last ones."""
    lines: list[str] = []
    start = 0
    for number in range(1, len(found) + 1):
        if number < len(found) and _same(found[number][0], found[start][0]):
            continue
        lines.append(_run(found, start, number))
        start = number
    if len(lines) > RUNS_MAX:
        yield f"({words.count(len(lines) - RUNS_MAX, 'line')} before these left out)"
    yield from lines[-RUNS_MAX:]


def _same(one: Report, other: Report) -> bool:
    return (_victim(one), place(one), one.outcome) == (_victim(other), place(other), other.outcome)


def _victim(report: Report) -> str:
    return short(report.victim.comm or "?", 15) if report.victim else report.outcome


def _run(found: list[tuple[Report, Event]], start: int, end: int) -> str:
    first, event = found[start]
    count = end - start
    numbers = f"{start + 1}" if count == 1 else f"{start + 1}-{end}"
    who = _victim(first) + (f" ×{count}" if count > 1 else f" (pid {first.victim.pid})"
                            if first.victim else "")  # fmt: skip
    line = f"{numbers:>9}  {when(first, event)}  {who}  {place(first)}"
    return words.safe(line if len(line) <= 79 else line[:78] + "…")


def summed(found: Iterable[tuple[Report, Event]]) -> str:
    """Who died how often, by which limits, when first and last, how far apart."""
    reports = list(found)
    limits: dict[str, _Limit] = {}
    kills = without = 0
    for report, event in reports:
        dead = [short(o.comm or "?", 15) for o in report.also_killed if not o.again]
        if report.victim is not None:
            dead.insert(0, _victim(report))
        else:
            without += 1
        kills += len(dead)
        limit = limits.setdefault(place(report), _Limit([], Counter()))
        limit.reports.append((report, event))
        limit.who.update(dead)
    head = f"{words.count(len(reports), 'report')}: {words.count(kills, 'process')} killed"
    if without:
        head += f", {words.count(without, 'report')} without a kill"
    span = _span(reports)
    out = [head]
    out += _row("time", span)
    who = sum((limit.who for limit in limits.values()), Counter[str]())
    out += _row("who", ", ".join(_times(who)))
    ordered = sorted(limits.items(), key=lambda item: -len(item[1].reports))
    told = [_limit(name, limit) for name, limit in ordered[:LISTED_MAX]]
    if len(ordered) > LISTED_MAX:
        told.append(f"and {len(ordered) - LISTED_MAX} more limits")
    for index, text in enumerate(told):
        out += _row("limits" if index == 0 else "", text)
    verdicts = Counter(str(event.body["verdict"]) for _, event in reports)
    out += _row("verdicts", ", ".join(_times(verdicts)))
    name, most = ordered[0]
    if len(most.reports) >= 3 and len(most.reports) * 2 > len(reports) and name != "not told":
        out += _row("again", f"the same again and again: {name}, "
                    f"{len(most.reports)} of {len(reports)} reports")  # fmt: skip
    return "\n".join(out)


def _limit(name: str, limit: _Limit) -> str:
    count = len(limit.reports)
    text = name + (f" ×{count}" if count > 1 else "")
    apart = _apart(limit.reports)
    return text + (f", {apart} apart" if apart else "")


def _times(found: Counter[str]) -> Iterator[str]:
    for name, count in found.most_common(LISTED_MAX):
        yield f"{name} ×{count}" if count > 1 else name
    if len(found) > LISTED_MAX:
        yield f"and {len(found) - LISTED_MAX} more"


def _moments(reports: list[tuple[Report, Event]]) -> list[float]:
    """When they were, on one clock; empty where no clock is common to them."""
    if all(event.t > 0 for _, event in reports):
        return sorted(event.t for _, event in reports)
    if all(report.usec is not None for report, _ in reports):
        boots = {report.boot_id for report, _ in reports}
        if len(boots) == 1:
            return sorted((report.usec or 0) / 1e6 for report, _ in reports)
    return []


def _span(reports: list[tuple[Report, Event]]) -> str:
    moments = _moments(reports)
    if len(moments) < 2 or moments[-1] - moments[0] < 0.001:
        return ""
    first = next(one for one in reports if _moments([one]) == [moments[0]])
    last = next(one for one in reversed(reports) if _moments([one]) == [moments[-1]])
    return f"first {when(*first)}, last {when(*last)} ({words.duration(moments[-1] - moments[0])})"


def _apart(reports: list[tuple[Report, Event]]) -> str:
    """The usual distance: the middle one."""
    moments = _moments(reports)
    gaps = sorted(b - a for a, b in itertools.pairwise(moments))
    return words.duration(gaps[len(gaps) // 2]) if gaps else ""


def _row(label: str, text: str) -> list[str]:
    lines = textwrap.wrap(
        words.safe(text), 79, initial_indent=" " * 10, subsequent_indent=" " * 10,
        break_on_hyphens=False,
    )  # fmt: skip
    if lines:
        lines[0] = f"{label:10}" + lines[0][10:]
    return lines

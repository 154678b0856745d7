"""Pure: the kernel's own choice, computed again from the task table of a report.

The rules by version, told apart by the shape of the table first (distributions backport):

    up to 2.6.35   a heuristic of its own (run time, nice, children): not followed
    2.6.36 to 3.5  thousandths of all memory; the table shows neither swap nor page tables, so it
                   is followed only where there was no swap, and then nearly
    3.6 to 3.9     pages: resident + swap + page tables + oom_score_adj thousandths of all memory;
                   root has 30 thousandths less
    3.10 to 4.16   the same, but root has 3 % of its own pages less
    4.17 to 5.8    no bonus for root; no score below 1
    from 5.9       scores may be negative, so that a size still counts below the adjustment

Source: oom_badness() and select_bad_process() in mm/oom_kill.c of these versions. Who scores less
than 1 where that is the floor ties with the others, and among equals the first in the table dies.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from watchdog.oom_report.report import Report
from watchdog.oom_report.tasks import Row

PROTECTED = -1000
_VERSION = re.compile(r"(\d+)\.(\d+)")


class Candidate(NamedTuple):
    """One row and its score in pages; protected ones never die and have no score."""

    row: Row
    points: int | None


class Ranking(NamedTuple):
    """All candidates, the highest score first, as the kernel chose among them.

    `chosen` is the candidate whom the kernel chose, `place` where it stands (1 is the first) and
    `ties` how many others have its score. `total_pages` is what scores are a share of; None where
    it is not known, or (`exact` False) where a part of the score is an estimate.
    """

    candidates: tuple[Candidate, ...]
    chosen: Candidate | None
    place: int | None
    ties: int
    total_pages: int | None
    exact: bool

    def thousandths(self, points: int | None) -> int | None:
        """A score as the kernel shows it in /proc/PID/oom_score and in its lines."""
        if points is None or not self.total_pages:
            return None
        return points * 1000 // self.total_pages


class _Era(NamedTuple):
    """How a kernel counts: root's bonus in thousandths of all, or in % of its own; a floor."""

    root_thousandths: int = 0
    root_percent: int = 0
    floor: bool = False
    exact: bool = True


def rank(report: Report) -> Ranking | None:
    """The kernel's ranking; None where it cannot be followed, or does not lead to its choice."""
    rows = report.rows
    if not rows or report.page_size is None or report.tasks_count > len(rows):
        return None
    if all(row.oom_score_adj is None for row in rows):
        return None
    adjusted = any(row.oom_score_adj for row in rows if row.oom_score_adj != PROTECTED)
    if adjusted and report.total_pages is None:
        return None
    first: Ranking | None = None
    for era in _eras(report):
        found = _ranked(report, era)
        if found.place == 1:
            return found
        first = first or found
    # Another choice than the highest score: a claim only where all of the score is known.
    return first if first and (first.exact or first.chosen is None) else None


def _eras(report: Report) -> list[_Era]:
    """The rules that fit the table, the likeliest first."""
    rows = report.rows
    version = _version(report.kernel_version)
    if all(row.pagetables is None for row in rows):
        # 2.6.36 to 3.5 print neither swap nor page tables
        if report.swap_total == 0:
            return [_Era(root_thousandths=30, floor=True, exact=False)]
        return []
    if not report.pagetables_are_bytes:
        old = _Era(root_thousandths=30, floor=True)
        new = _Era(root_percent=3, floor=True)
        if version is not None:
            return [old if version < (3, 10) else new]
        return [new._replace(exact=False), old._replace(exact=False)]
    if version is not None and version[0] >= 3:
        if version < (4, 17):
            return [_Era(root_percent=3, floor=True)]
        # el8 (4.18) has had later rules backported
        below = _Era(floor=True)
        return [below, _Era()] if version < (5, 9) else [_Era()]
    return [_Era(), _Era(floor=True), _Era(root_percent=3, floor=True, exact=False)]


def _version(text: str | None) -> tuple[int, int] | None:
    found = _VERSION.match(text or "")
    return (int(found[1]), int(found[2])) if found else None


def _ranked(report: Report, era: _Era) -> Ranking:
    candidates = [Candidate(row, points) for row, points in _scored(report, era)]
    # the highest first, those without a score last; equals stay in the order of the table
    candidates.sort(key=_height, reverse=True)
    chosen = _chosen(report, candidates)
    place, ties = None, 0
    if chosen is not None and chosen.points is not None:
        scores = [candidate.points for candidate in candidates]
        place, ties = scores.index(chosen.points) + 1, scores.count(chosen.points) - 1
    exact = era.exact and not _bonus_guessed(report, era) and _total_known(report)
    total = report.total_pages if _total_known(report) else None
    return Ranking(tuple(candidates), chosen, place, ties, total, exact)


def _height(candidate: Candidate) -> float:
    return float("-inf") if candidate.points is None else candidate.points


def _scored(report: Report, era: _Era) -> Iterator[tuple[Row, int | None]]:
    """Each row and its points. There may be thousands, so nothing is worked out twice."""
    total = report.total_pages or 0
    unit = (report.page_size or 4096) if report.pagetables_are_bytes else 1
    for row in report.rows:
        adj = row.oom_score_adj or 0
        if adj == PROTECTED:
            yield row, None
            continue
        points = row.rss + (row.swap or 0) + (row.pagetables or 0) // unit
        if row.uid == 0:
            points -= points * era.root_percent // 100
            adj -= era.root_thousandths
        if adj:
            points += adj * total // 1000
        yield row, max(1, points) if era.floor else points


def _bonus_guessed(report: Report, era: _Era) -> bool:
    """Root's bonus goes by CAP_SYS_ADMIN, which a table of user ids does not show."""
    return bool(era.root_percent or era.root_thousandths) and any(r.uid == 0 for r in report.rows)


def _total_known(report: Report) -> bool:
    """A cgroup may use swap without a limit: how much there is, its report does not tell."""
    if report.total_pages is None:
        return False
    swap = report.limits.get("swap") or report.limits.get("memory+swap")
    return report.scope != "memcg" or swap is None or swap.limit is not None


def _chosen(report: Report, candidates: list[Candidate]) -> Candidate | None:
    """Whom the kernel chose: what its lines call selected, else the victim; also by a thread."""
    pids = [report.selected[0]] if report.selected is not None else []
    pids += [report.victim.pid] if report.victim is not None else []
    for pid in pids:
        for candidate in candidates:
            if pid in (candidate.row.pid, candidate.row.tgid):
                return candidate
    return None

"""Pure: the kernel's own choice, computed again from the task table of a report.

From 3.6 on a process scores its resident, swapped and page-table pages, plus oom_score_adj
thousandths of all the memory in question; the highest dies. Before that other rules held, which
the table does not let us follow: then nothing is claimed.
"""

from typing import NamedTuple

from watchdog.oom_report.report import Report
from watchdog.oom_report.tasks import Row

PROTECTED = -1000


class Candidate(NamedTuple):
    """One row and its score in pages; protected ones never die and have no score."""

    row: Row
    points: int | None


def rank(report: Report) -> list[Candidate] | None:
    """All candidates, the highest score first; None where the scores cannot be followed."""
    rows = report.rows
    if not rows or report.page_size is None or any(row.pagetables is None for row in rows):
        return None
    adjusted = any(row.oom_score_adj for row in rows if row.oom_score_adj != PROTECTED)
    if adjusted and report.total_pages is None:
        return None
    found = [Candidate(row, _points(row, report)) for row in rows]
    found.sort(key=lambda c: (c.points is None, -(c.points or 0)))
    return found


def _points(row: Row, report: Report) -> int | None:
    if row.oom_score_adj == PROTECTED:
        return None
    tables = row.pagetables or 0
    if report.pagetables_are_bytes:
        tables //= report.page_size or 4096
    points = row.rss + (row.swap or 0) + tables
    if not report.pagetables_are_bytes and row.uid == 0:
        points -= points * 3 // 100  # root's bonus, 3.10 to 4.16
    return points + (row.oom_score_adj or 0) * (report.total_pages or 0) // 1000

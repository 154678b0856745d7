"""Pure: what a verdict on an OOM report is, and what all of its rules need."""

from typing import NamedTuple

from watchdog.judge.choice import row_of
from watchdog.judge.past import Grower
from watchdog.oom_report.report import Report

MIB = 1 << 20


class Verdict(NamedTuple):
    """leak, too-small, spike, limit-too-low, kernel-memory, fragmentation or unknown; 0..1.

    `reason` is the sentence that decided, `reasons` all that was weighed, the decisive one first.
    `culprit` is who grew where it was not the victim. `alone`: from the report without history.
    `short` is False where memory was not short at all.
    """

    verdict: str
    confidence: float
    reason: str
    reasons: tuple[str, ...] = ()
    culprit: Grower | None = None
    alone: bool = True
    short: bool = True


def small(report: Report) -> str:
    """What "too small" is called: a limit that somebody set, or the machine."""
    return "too-small" if report.scope in ("global", None) else "limit-too-low"


def size_of(report: Report) -> int:
    """What the victim itself held when it died: files do not count, they can be dropped."""
    victim = report.victim
    if victim is None:
        return 0
    own = (victim.anon or 0) + (victim.shmem or 0) + (victim.swap or 0)
    if own:
        return own
    row, page = row_of(report, victim.pid), report.page_size
    return 0 if row is None or page is None else ((row.anon or 0) + (row.swap or 0)) * page

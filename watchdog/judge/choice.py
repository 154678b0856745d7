"""Pure: why this process and no other, as the kernel chose it."""

from watchdog import words
from watchdog.judge import badness
from watchdog.judge.badness import Candidate, Ranking
from watchdog.judge.places import short
from watchdog.oom_report.report import Report
from watchdog.oom_report.tasks import Row


def name(comm: str | None, pid: int | None) -> str:
    """A process as a person says it."""
    if not comm:
        return "a process" if pid is None else f"pid {pid}"
    return short(comm) if pid is None else f"{short(comm)} (pid {pid})"


def why(report: Report, ranking: Ranking | None) -> str | None:
    """One or two sentences; None where nothing of the report tells."""
    parts = [text for text in (_why(report, ranking), _protected(report)) if text]
    return "; ".join(parts) or None


def _why(report: Report, ranking: Ranking | None) -> str | None:
    victim = report.victim
    if victim is None:
        return _nobody(report)
    if report.allocating:
        setting = "vm.oom_kill_allocating_task is set: it asked, so it died"
        child = _child(report)
        return f"{setting}; {child}" if child else setting
    parts = [text for text in (_child(report), _by_size(report, ranking)) if text]
    return "; ".join(parts) or None


def _nobody(report: Report) -> str | None:
    if report.outcome in ("panic", "no-victim") and not report.rows:
        empty = "tasks" not in report.missing and not report.unread
        return "there was no process that it could have killed" if empty else None
    if report.rows and all(row.oom_score_adj == badness.PROTECTED for row in report.rows):
        return "every process that was left is protected by oom_score_adj -1000"
    return None


def _child(report: Report) -> str | None:
    """The kernel chose one and killed another: a thread's process, or (up to 5.0) a child."""
    victim, selected = report.victim, report.selected
    if victim is None or selected is None or selected[0] == victim.pid:
        return None
    pid, comm, score = selected
    chosen = next((row for row in report.rows if row.pid == pid), None)
    dead = row_of(report, victim.pid)
    if chosen is not None and dead is not None and chosen.tgid != dead.tgid:
        return (
            f"the kernel chose {name(comm, pid)} and sacrificed this child of it, as kernels up to "
            "5.0 do"
        )
    if pid == victim.tgid:
        return f"the line names its thread {victim.pid}: the first one, {pid}, had ended before"
    if report.rows and chosen is None:
        return f"the kernel chose its thread {pid}"
    if score is None and comm == victim.comm:
        return f"the kernel chose its thread {pid}"
    return f"the kernel chose {name(comm, pid)} and killed this thread or child of it"


def row_of(report: Report, pid: int) -> Row | None:
    """The row of a process, also by its thread group."""
    exact = next((row for row in report.rows if row.pid == pid), None)
    return exact or next((row for row in report.rows if row.tgid == pid), None)


def _by_size(report: Report, ranking: Ranking | None) -> str | None:
    victim = report.victim
    row = row_of(report, victim.pid) if victim else None
    chosen = ranking.chosen if ranking else None
    if row is None and chosen is not None:
        row = chosen.row
    if row is None:
        return None
    if report.tasks_count == 1:
        if report.scope == "memcg" and not report.unread:
            return "it was the only process there"
        score = report.selected[2] if report.selected else None
        return None if score is None else f"the kernel gave it a score of {score}"
    larger = [other for other in report.rows if other.rss > row.rss]
    many = words.count(report.tasks_count, "process")
    if ranking is not None and ranking.place == 1 and ranking.ties and larger:
        return _tie(report, ranking, larger)
    if not larger:
        if ranking is not None and ranking.place is not None and ranking.place > 1:
            return f"it was the largest of {many}" + _passed_over(report, ranking, row)
        return (
            f"it was the largest of {many}{_scores(report, ranking, row)}{_adjusted(report, row)}"
        )
    return _smaller(report, ranking, row, larger)


def _scores(report: Report, ranking: Ranking | None, row: Row) -> str:
    """The kernel's score and the runner-up's, where both can be followed."""
    if ranking is None or ranking.chosen is None or ranking.place != 1:
        return ""
    printed = report.selected[2] if report.selected else None
    score = ranking.thousandths(ranking.chosen.points) if printed is None else printed
    following = next(
        (c for c in ranking.candidates if c is not ranking.chosen and c.points is not None), None
    )
    if score is None or ranking.chosen.row.pid != row.pid:
        return ""
    sure = ranking.exact or printed is not None
    text = f", the kernel's score {'' if sure else 'about '}{score}"
    if following is not None and ranking.total_pages:
        behind = ranking.thousandths(following.points)
        text += f" (next: {short(following.row.name, 15)}, {max(0, behind or 0)})"
    return text


def _adjusted(report: Report, row: Row) -> str:
    """What oom_score_adj did to a victim that was the largest anyway."""
    adj = row.oom_score_adj or 0
    second = max((r for r in report.rows if r is not row), key=lambda r: r.rss, default=None)
    if second is not None and (second.oom_score_adj or 0) == adj:
        return ""
    if adj > 0:
        return f"; its oom_score_adj {adj} put it forward besides"
    if adj < 0:
        return f"; its oom_score_adj {adj} was not enough to save it"
    return ""


def _held(report: Report, row: Row) -> str:
    return f" held {words.size(row.rss * report.page_size)}" if report.page_size else " was larger"


def _tie(report: Report, ranking: Ranking, larger: list[Row]) -> str:
    biggest = max(larger, key=lambda r: r.rss)
    same = ranking.ties + 1
    adjusted = sorted({r.oom_score_adj or 0 for r in report.rows})
    text = f"not the biggest: {name(biggest.name, biggest.pid)}{_held(report, biggest)}, but "
    if ranking.chosen and ranking.chosen.points == 1 and adjusted[0] < 0:
        span = f"{adjusted[0]}" if len(adjusted) == 1 else f"{adjusted[0]} to {adjusted[-1]}"
        return (
            f"{text}oom_score_adj {span} put all {same} at the lowest score, and among equals the "
            "first in the list dies"
        )
    return f"{text}{same} had the same score, and among equals the first in the list dies"


def _smaller(report: Report, ranking: Ranking | None, row: Row, larger: list[Row]) -> str:
    biggest = max(larger, key=lambda r: r.rss)
    text = f"not the biggest: {name(biggest.name, biggest.pid)}{_held(report, biggest)}"
    theirs, mine = biggest.oom_score_adj, row.oom_score_adj or 0
    if theirs == badness.PROTECTED:
        return f"{text} and may not be killed (oom_score_adj -1000){_scores(report, ranking, row)}"
    chosen_first = ranking is not None and ranking.place == 1
    if ranking is not None and ranking.place is not None and ranking.place > 1:
        return text + _passed_over(report, ranking, row)
    if theirs is not None and theirs < 0 and theirs < mine:
        return f"{text} and was protected by {theirs}{_scores(report, ranking, row)}"
    if mine > (theirs or 0):
        there = f", {theirs} there" if theirs else ""
        told = f"oom_score_adj {mine} put this one forward{there}"
        return f"{text}, but {told}{_scores(report, ranking, row)}"
    if chosen_first:
        swap = (row.swap or 0) > (biggest.swap or 0)
        what = "swap" if swap else "page tables"
        return f"{text}; with {what} added this one scored higher{_scores(report, ranking, row)}"
    if theirs is None and row.oom_score_adj is None:
        return f"{text}; kernels up to 2.6.35 go by run time and children as well"
    return f"{text} and lived"


def _passed_over(report: Report, ranking: Ranking, row: Row) -> str:
    """Somebody scored higher and lived: the kernel leaves out who is dying already."""
    top = ranking.candidates[0].row
    biggest = top.rss > row.rss and all(other.rss <= top.rss for other in report.rows)
    who = "it" if biggest else name(top.name, top.pid)
    return f"; {who} scored higher and was passed over, as one that is dying already"


def _protected(report: Report) -> str | None:
    """What oom_score_adj -1000 keeps from the kernel, where that is much."""
    rows = [row for row in report.rows if row.oom_score_adj == badness.PROTECTED]
    page = report.page_size
    if not rows or page is None or len(rows) == len(report.rows):
        return None
    held = sum(row.rss for row in rows) * page
    everything = (report.total_pages or sum(row.rss for row in report.rows)) * page
    # a tenth: below that it changed nothing for the others
    if held * 10 < everything or held == 0:
        return None
    return f"{words.count(len(rows), 'process')} with {words.size(held)} may not be killed (-1000)"


def facts(report: Report, ranking: Ranking | None) -> dict[str, object] | None:
    """The same for machines: score, rank, ties, the runner-up and what is protected."""
    if ranking is None or ranking.chosen is None:
        return None
    others = [c for c in ranking.candidates if c is not ranking.chosen]
    page = report.page_size or 0
    kept = [c.row for c in others if c.points is None]
    return {
        "pid": ranking.chosen.row.pid,
        "points_bytes": None if ranking.chosen.points is None else ranking.chosen.points * page,
        "score": ranking.thousandths(ranking.chosen.points),
        "rank": ranking.place,
        "of": report.tasks_count,
        "ties": ranking.ties,
        "exact": ranking.exact,
        "next": _one(ranking, next((c for c in others if c.points is not None), None), page),
        "protected_count": len(kept),
        "protected_bytes": sum(row.rss for row in kept) * page,
    }


def _one(ranking: Ranking, candidate: Candidate | None, page: int) -> dict[str, object] | None:
    if candidate is None:
        return None
    row = candidate.row
    return {
        "pid": row.pid, "comm": row.name, "resident_bytes": row.rss * page,
        "oom_score_adj": row.oom_score_adj, "score": ranking.thousandths(candidate.points),
    }  # fmt: skip

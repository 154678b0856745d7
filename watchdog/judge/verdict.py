"""Pure: too small or leaking? The verdict on one OOM report, its confidence and its reasons.

With history the growth before the kill decides, what the leak judge had said, and earlier kills of
the same unit. Without history the report alone can only hint: then no confidence is above
ALONE_MAX, and the reasons say so. The rules stand in the order of `_rules`; the first that speaks
is the verdict.
"""

from collections.abc import Iterator

from watchdog import words
from watchdog.judge import by_history, by_report, shortage
from watchdog.judge.past import Past
from watchdog.judge.ruling import MIB, Verdict
from watchdog.oom_report.report import Report

ALONE_MAX = 0.5


def judge(report: Report, past: Past) -> Verdict:
    """The verdict, of what the report tells and of what was known before it."""
    known = _known(past)
    found = _first(report, past, known)
    confidence = found.confidence if known else min(found.confidence, ALONE_MAX)
    reasons = [found.reason, *found.reasons, *_besides(report, past)]
    if not known and found.verdict != "unknown" and not report.manual:
        reasons.append("this is from the report alone, without history")
    unique = tuple(dict.fromkeys(reasons))
    return found._replace(confidence=round(confidence, 2), reasons=unique, alone=not known)


def _known(past: Past) -> bool:
    """Whether there is any history to judge by."""
    told = (past.growth, past.leak, past.unit_growth, past.unit_leak, past.growers, past.kills)
    return any(told)


def _first(report: Report, past: Past, known: bool) -> Verdict:
    if report.manual:
        return Verdict("unknown", 0.0, "somebody asked for this kill by SysRq-f")
    for found in _rules(report, past, known):
        if found is not None:
            return found
    return _unknown(report, known)


def _rules(report: Report, past: Past, known: bool) -> Iterator[Verdict | None]:
    yield by_report.false_alarm(report)
    yield by_report.no_process(report)
    yield by_report.fragmentation(report)
    yield by_history.leak(report, past)
    yield by_report.kernel(report)
    if known:
        yield by_history.other_grew(report, past)
        yield by_history.repeated(report, past)
        yield by_history.spike(report, past)
        yield by_history.steady(report, past)
        yield by_history.peaks(report, past)
        yield by_history.ramp(past)
        yield by_history.unseen(report, past)
    yield by_report.reserved(report)
    yield by_report.nodes(report)
    yield by_report.shared(report)
    yield by_report.fills_limit(report)
    yield by_report.workers(report)


def _unknown(report: Report, known: bool) -> Verdict:
    small = "too little memory" if report.scope in ("global", None) else "a limit that is too low"
    reason = f"a leak or {small}, the log alone cannot tell"
    if not known:
        reason += " and nothing is known of its growth"
    else:
        reason = f"a leak or {small}: what is known of its growth does not tell"
    return Verdict("unknown", 0.0, f"{reason}{_alone_held(report)}")


def _alone_held(report: Report) -> str:
    """The share of the largest process, where it is most of the memory."""
    name, part = by_report.largest(report)
    return f"; {name} alone held {words.share(min(1.0, part))}" if part > 0.4 else ""


def _besides(report: Report, past: Past) -> Iterator[str]:
    """What was weighed as well, or helps to understand."""
    if past.kills:
        story = by_history.history(report, past)
        if story:
            yield story
    sizes = [kill.size_bytes for kill in past.kills if kill.size_bytes]
    if len(sizes) >= 2:
        yield f"before it died at {', '.join(words.size(size) for size in sizes[-4:])}"
    growth = past.growth
    if growth is not None and growth.watched_s >= 1 and not by_history.level(growth):
        yield by_history.growth_words(past)
    grown = [g for g in past.growers if not by_history.is_victim(g, past)][:1]
    if grown and grown[0].grew_bytes >= 16 * MIB:
        yield f"beside it grew {by_history.grown(grown[0]).replace(', which grew', ' by')}"
    memory = report.limits.get("memory")
    if memory is not None and memory.failcnt >= 1000 and report.scope == "memcg":
        yield f"the limit had been reached {memory.failcnt:,} times by then"
    yield from shortage.holders(report)

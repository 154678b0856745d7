"""Pure: who died, and the one sentence that stands above a report."""

from watchdog import words
from watchdog.judge.choice import name
from watchdog.judge.past import Past
from watchdog.judge.places import said, short
from watchdog.judge.ruling import Verdict
from watchdog.oom_report.report import Report


def who(report: Report) -> str:
    """Who died, or why nobody did."""
    victim = report.victim
    if victim is None:
        return _nobody(report)
    held = [
        f"{words.size(part)} {what}"
        for part, what in (
            (victim.anon, "anonymous"), (victim.shmem, "shared"), (victim.file, "of files"),
            (victim.swap, "in swap"),
        )
        if part
    ]  # fmt: skip
    text = f"{name(victim.comm, victim.pid)} was killed"
    if victim.anon is not None and not held:
        text += ", which freed nothing: it held no memory any more"
    elif held:
        text += f", holding {', '.join(held)}"
    if victim.witness != "kill line":
        text += "; its kill line is missing, the kernel's reaper tells of it"
    others = sum(not other.again for other in report.also_killed)
    if others:
        more = words.count(others, "other process")
        text += f"; {more} died with it" + (" (memory.oom.group)" if report.group else "")
    return text


def _nobody(report: Report) -> str:
    if report.panic is not None:
        return f"the kernel gave up: {short(report.panic, 90)}"
    if report.outcome == "no-victim":
        return "the kernel found nobody that it may kill"
    if report.selected is not None:
        return f"{name(*report.selected[1::-1])} was chosen; the log does not show its death"
    return "the report is cut off before it says who died"


_VERDICTS = {
    "leak": "it leaks",
    "too-small": "the machine is too small for its work",
    "limit-too-low": "its limit is too low",
    "spike": "it took the memory all at once",
    "kernel-memory": "the kernel itself held the memory",
}


def headline(report: Report, past: Past, found: Verdict) -> str:
    """The answer in one sentence: who, by which limit, and the verdict."""
    if report.victim is None and report.panic is not None:
        setting = " as vm.panic_on_oom is set" if "panic_on_oom" in report.panic else (
            ", as nobody could be killed"
        )  # fmt: skip
        if not found.short:
            return f"The kernel panicked{setting}, though the machine was not short of memory"
        return f"The kernel panicked{setting}: {_limit(report)}{_judged(report, found)}"
    if found.verdict == "fragmentation":
        sure = "" if found.confidence >= 0.8 else " (it seems)"
        return f"{_subject(report, past)} memory was free, but in pieces too small{sure}"
    return f"{_subject(report, past)} {_limit(report)}{_judged(report, found)}"


def _subject(report: Report, past: Past) -> str:
    victim = report.victim
    if victim is None:
        if report.outcome == "no-victim":
            return "Nobody could be killed:"
        if report.selected is not None:
            return f"{name(*report.selected[1::-1])} was chosen to die:"
        return "The report is cut off before it names a victim:"
    size = sum(part or 0 for part in (victim.anon, victim.shmem, victim.file))
    unit = past.victim.unit if past.victim else None
    about = [part for part in (
        f"pid {victim.pid}", short(unit) if unit else None, words.size(size) if size else None,
    ) if part]  # fmt: skip
    comm = short(victim.comm, 24) if victim.comm else "A process"
    others = sum(not other.again for other in report.also_killed)
    more = f" and {words.count(others, 'other process')}" if others else ""
    were = "were" if others else "was"
    return f"{comm} ({', '.join(about)}){more} {were} killed:"


def _limit(report: Report) -> str:
    if report.manual:
        return "a human asked for it (SysRq-f)"
    if report.scope == "memcg":
        if report.cgroup is None:
            return "its cgroup was at its limit"
        memory, both = report.limits.get("memory"), report.limits.get("memory+swap")
        limit = memory.limit if memory else None
        if both and both.limit is not None and both.usage >= both.limit:
            limit = both.limit
        size = f" of {words.size(limit)}" if limit else ""
        return f"{said(report.cgroup)} was at its limit{size}"
    if report.scope == "cpuset":
        return "the memory nodes of its cpuset gave out"
    if report.scope == "mempolicy":
        return "the nodes of its memory policy gave out"
    if report.scope == "global":
        return "the machine was out of memory"
    return "whose memory was out is not told"


def _judged(report: Report, found: Verdict) -> str:
    if report.manual:
        return ""
    if found.verdict == "unknown":
        if not found.short:
            return ", as the kernel thought; it was not short of memory"
        if report.outcome not in ("killed", "selected"):
            return ""
        if found.alone:
            return "; whether it leaks or has too little, the log alone cannot tell"
        return "; whether it leaks or has too little is not clear"
    text = _VERDICTS[found.verdict]
    if found.verdict == "limit-too-low" and report.scope != "memcg":
        text = "it may use too few nodes"
    if found.culprit is not None:
        culprit = short(found.culprit.name)
        text = {
            "leak": f"{culprit} leaks", "spike": f"{culprit} took the memory all at once",
        }.get(found.verdict, text)  # fmt: skip
    # the words go with the figure, which stands beside the verdict
    sure = "" if found.confidence >= 0.8 else "probably " if found.confidence > 0.5 else "perhaps "
    return f"; {sure}{text}"

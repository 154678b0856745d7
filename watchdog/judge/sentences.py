"""Pure: what a report proves, one sentence at a time. None where it proves nothing."""

from watchdog import words
from watchdog.judge import badness
from watchdog.memory import Counters
from watchdog.oom_report.report import Report


def _name(comm: str | None, pid: int | None) -> str:
    if comm is None:
        return "a process" if pid is None else f"pid {pid}"
    return comm if pid is None else f"{comm} (pid {pid})"


def who(report: Report) -> str:
    """Who died, or why nobody did."""
    victim = report.victim
    if victim is None:
        if report.panic is not None:
            return f"the kernel gave up: {report.panic}"
        if report.outcome == "no-victim":
            return "the kernel found nobody that it may kill"
        if report.selected is not None:
            return f"{_name(*report.selected[1::-1])} was chosen; the log does not show its death"
        return "the report is cut off before it says who died"
    held = [
        f"{words.size(part)} {name}"
        for part, name in (
            (victim.anon, "anonymous"), (victim.shmem, "shared"), (victim.file, "of files"),
        )
        if part
    ]  # fmt: skip
    text = f"{_name(victim.comm, victim.pid)} was killed"
    if victim.anon is not None and not held:
        text += ", which freed nothing: it held no memory any more"
    elif held:
        text += f", holding {', '.join(held)}"
    others = sum(not other.again for other in report.also_killed)
    if others:
        more = words.count(others, "other process")
        text += f"; {more} died with it" + (" (memory.oom.group)" if report.group else "")
    return text


def limit(report: Report) -> str:
    """Which memory was out."""
    place = report.cgroup or "its cgroup (the log does not name it)"
    if report.scope == "memcg":
        text = f"the limit of {place} was reached"
        both = report.limits.get("memory+swap")
        memory = report.limits.get("memory")
        if both and both.limit is not None and both.usage >= both.limit:
            return f"{text}: {words.size(both.limit)} of memory and swap"
        return text + (f": {words.size(memory.limit)}" if memory and memory.limit else "")
    if report.scope == "cpuset":
        return f"the memory nodes of cpuset {report.cpuset or '?'} were full"
    if report.scope == "mempolicy":
        return f"the memory nodes {report.nodemask or '?'} of its memory policy were full"
    if report.scope is None:
        return "the log does not say whose memory was out"
    if report.manual:
        return "somebody asked for it by SysRq-f; memory need not have been short"
    text = "the whole machine was out of memory"
    machine = report.memory
    if isinstance(machine, Counters):
        if machine.free is not None:
            text += f": {words.size(machine.free)} of {words.size(machine.total)} free"
        if report.swap_total == 0:
            text += ", no swap"
        elif report.swap_total and report.swap_free is not None:
            text += f", {words.size(report.swap_free)} of {words.size(report.swap_total)} swap free"
    return text


def why(report: Report) -> str | None:
    """Why this one: the kernel's score, and who was larger and lived."""
    victim = report.victim
    if victim is None:
        return None
    if report.selected is not None and report.selected[2] is not None:
        pid, comm, _ = report.selected
        if pid != victim.pid and not any(row.tgid == pid for row in report.rows):
            return f"the kernel chose {_name(comm, pid)} and killed this thread or child of it"
    ranked = badness.rank(report)
    row = next((r for r in report.rows if victim.pid in (r.pid, r.tgid)), None)
    if row is None:
        return None
    larger = [r for r in report.rows if r.rss > row.rss]
    if not larger:
        if report.tasks_count == 1:
            return "there was nobody else"
        return f"it was the largest of {words.count(report.tasks_count, 'process')}"
    biggest = max(larger, key=lambda r: r.rss)
    page = report.page_size
    held = f" with {words.size(biggest.rss * page)}" if page else ""
    text = f"not the largest: {_name(biggest.name, biggest.pid)}{held} lived"
    adj = biggest.oom_score_adj
    if adj == badness.PROTECTED:
        return f"{text}, protected by oom_score_adj -1000"
    if (row.oom_score_adj or 0) != (adj or 0):
        return f"{text}, as oom_score_adj was {adj or 0} there and {row.oom_score_adj or 0} here"
    if ranked and ranked[0].row.pid == row.pid:
        return f"{text}; with swap and page tables this one scored higher"
    return text


def asked(report: Report) -> str | None:
    """Who asked for the memory that was not there; a bystander more often than not."""
    asked = report.invoker
    if asked is None:
        return None
    same = report.victim is not None and report.victim.pid == asked.pid
    asker = "it asked itself" if same else f"{_name(asked.comm, asked.pid)} asked"
    if asked.order is None or asked.order < 0:
        return f"{asker} for memory" if not report.manual else None
    page = report.page_size
    amount = words.count(1 << asked.order, "page") if asked.order < 20 else "pages"
    text = f"{asker} for {amount}" + (f" ({words.size(page << asked.order)})" if page else "")
    if asked.gfp_flags:
        text += f", {gfp_words(asked.gfp_flags)}"
    elif asked.gfp_flags == "" and asked.gfp_mask == "0x0":
        text += ", in a page fault"
    return text


_GFP = (
    ("GFP_NOFS", "for a file system"),
    ("GFP_NOIO", "for input and output"),
    ("GFP_ATOMIC", "and could not wait"),
    ("__GFP_ACCOUNT", "for the kernel's own use on its behalf"),
    ("GFP_HIGHUSER_MOVABLE", "for its own memory or a file"),
    ("GFP_HIGHUSER", "for its own memory"),
    ("GFP_USER", "for its own memory"),
    ("GFP_KERNEL", "charged by the kernel"),
)


def gfp_words(flags: str) -> str:
    """What an allocation was for, in words; the names of flags are stable, their bits are not."""
    given = set(flags.split("|"))
    told = next((text for flag, text in _GFP if flag in given), "for a use unknown here")
    return f"{told} ({flags})"

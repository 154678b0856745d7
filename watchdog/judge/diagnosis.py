"""Pure: an OOM report -> the oom.kill event: who died, by which limit, why that one, who asked.

Sentences say what the report proves. Where it proves nothing they say that; a unit is taken from
our own census alone, because anybody can name a cgroup.
"""

from typing import Any, NamedTuple

from watchdog import words
from watchdog.facts import Entity
from watchdog.judge import account, sentences
from watchdog.judge.past import NOTHING, Growth, Leak, Past
from watchdog.oom_report import cgroup
from watchdog.oom_report.report import Report, Victim
from watchdog.oom_report.tasks import Row

TOP = 10
STEADY_S = 600.0


class Verdict(NamedTuple):
    """leak, too-small, spike, limit-too-low, kernel-memory, fragmentation or unknown; 0..1."""

    verdict: str
    confidence: float
    reason: str


def oom_kill_event(
    report: Report, past: Past = NOTHING
) -> tuple[dict[str, Any], tuple[str, ...], str]:
    """(body, because, identity) of the event of one report, and of what was known before it."""
    victim = report.victim
    entity = past.victim
    if victim is None or (entity is not None and not _same(entity, victim)):
        # nobody died, or the number has been used again: what is known is of another
        past = Past(growers=past.growers, units=past.units, since_t=past.since_t)
        entity = None
    leak = leak_words(past.leak) if past.leak else None
    found = verdict(report, leak, past.growth)
    because = tuple(_because(report, leak, found))
    return _body(report, entity, past, found), because, identity(report)


def leak_words(leak: Leak) -> str:
    """What was known of a leak before the kill, as one sentence."""
    return (
        f"a leak of it was {leak.stage} ({words.rate(leak.rate)}, for {words.duration(leak.for_s)})"
    )


def identity(report: Report) -> str:
    """The same for the same report from whichever source: the kernel's clock and the pid."""
    pid = report.victim.pid if report.victim else 0
    if report.usec is not None:
        return f"{report.usec}-{pid}"
    return f"{report.stamp or report.lines[0]}-{pid}"


def _same(entity: Entity, victim: Victim) -> bool:
    """A census may know a thread's other name, but never another user's process."""
    return entity.uid is None or victim.uid is None or entity.uid == victim.uid


# -- the body -------------------------------------------------------------------------------------


def _body(report: Report, entity: Entity | None, past: Past, found: Verdict) -> dict[str, Any]:
    victim = report.victim
    memory_limit = report.limits.get("memory")
    memory = account.of_report(report)
    known = entity or Entity()
    return {
        "pid": victim.pid if victim else None,
        "start": known.start,
        "comm": victim.comm if victim else None,
        "exe": known.exe,
        "uid": victim.uid if victim and victim.uid is not None else known.uid,
        "unit": known.unit,
        "inner": known.inner,
        "container": known.container or cgroup.container(report.task_cgroup or report.cgroup),
        "outcome": report.outcome,
        "kernel_time_s": None if report.usec is None else report.usec / 1e6,
        "stamp": report.stamp,
        "scope": report.scope,
        "cgroup": report.cgroup,
        "task_cgroup": report.task_cgroup,
        "cpuset": report.cpuset,
        "nodemask": report.nodemask,
        "victim": None if victim is None else _victim(victim, known),
        "selected": _selected(report),
        "invoker": None if report.invoker is None else report.invoker._asdict(),
        "also_killed": [other._asdict() for other in report.also_killed],
        "kill_lines": report.kill_lines,
        "group": report.group,
        "manual": report.manual,
        "panic": report.panic,
        "limit_bytes": memory_limit.limit if memory_limit else None,
        "usage_bytes": memory_limit.usage if memory_limit else None,
        "limits": {key: value._asdict() for key, value in report.limits.items()} or None,
        "swap": _swap(report),
        "tasks": _tasks(report, past),
        "memory": None if memory is None else account.body(memory),
        "left_bytes": report.reaped_left,
        "suppressed": report.suppressed,
        "verdict": found.verdict,
        "confidence": found.confidence,
        "verdict_because": found.reason,
        "advice": list(advice(report, known, found)),
        "kernel_version": report.kernel_version,
        "complete": report.complete,
        "missing": list(report.missing),
    }


def _victim(victim: Victim, known: Entity) -> dict[str, Any]:
    return {
        "pid": victim.pid,
        "start": known.start,
        "comm": victim.comm,
        "exe": known.exe,
        "uid": victim.uid,
        "unit": known.unit,
        "anon_bytes": victim.anon,
        "file_bytes": victim.file,
        "shmem_bytes": victim.shmem,
        "total_vm_bytes": victim.total_vm,
        "pagetables_bytes": victim.pagetables,
        "swap_bytes": victim.swap,
        "oom_score_adj": victim.oom_score_adj,
        "witness": victim.witness,
    }


def _selected(report: Report) -> dict[str, Any] | None:
    if report.selected is None:
        return None
    pid, comm, score = report.selected
    return {"pid": pid, "comm": comm, "score": score}


def _swap(report: Report) -> dict[str, int | None] | None:
    if report.swap_total is None:
        return None
    return {"total_bytes": report.swap_total, "free_bytes": report.swap_free}


def _tasks(report: Report, past: Past) -> dict[str, Any] | None:
    """The largest, and all added up by name and by unit (shared pages count in every sharer)."""
    page = report.page_size
    if page is None or not report.rows:
        return None
    largest = sorted(report.rows, key=lambda row: -row.rss)[:TOP]
    names: dict[str, list[int]] = {}
    units: dict[str, list[int]] = {}
    for row in report.rows:
        _add(names, row.name, row)
        unit = past.units.get(row.pid)
        if unit:
            _add(units, unit, row)
    return {
        "count": report.tasks_count,
        "resident_bytes": sum(row.rss for row in report.rows) * page,
        "top": [
            {
                "pid": row.pid, "comm": row.name, "uid": row.uid, "resident_bytes": row.rss * page,
                "swap_bytes": None if row.swap is None else row.swap * page,
                "oom_score_adj": row.oom_score_adj,
            }
            for row in largest
        ],
        "by_name": _summed("comm", names, page),
        "by_unit": _summed("unit", units, page),
    }  # fmt: skip


def _add(sums: dict[str, list[int]], key: str, row: Row) -> None:
    found = sums.setdefault(key, [0, 0, 0])
    found[0] += 1
    found[1] += row.rss
    found[2] += row.swap or 0


def _summed(label: str, sums: dict[str, list[int]], page: int) -> list[dict[str, Any]]:
    largest = sorted(sums.items(), key=lambda item: (-item[1][1], item[0]))[:TOP]
    return [
        {label: key, "count": n, "resident_bytes": rss * page, "swap_bytes": swap * page}
        for key, (n, rss, swap) in largest
    ]


def _because(report: Report, leak: str | None, found: Verdict) -> list[str]:
    told = [
        sentences.who(report),
        sentences.limit(report),
        sentences.why(report),
        sentences.asked(report),
    ]
    if leak:
        told.append(leak)
    if found.verdict != "unknown" and found.reason != leak:
        told.append(found.reason)
    if report.reaped_left:
        told.append(f"{words.size(report.reaped_left)} of it could not be given back at once")
    if report.suppressed:
        told.append(
            f"the kernel held back {words.count(report.suppressed, 'more report')} before this one"
        )
    return [sentence for sentence in told if sentence]


# -- the verdict ----------------------------------------------------------------------------------


def verdict(report: Report, leak: str | None = None, growth: Growth | None = None) -> Verdict:
    """Too small or leaking: from history where there is one, else from the report alone."""
    if report.manual:
        return Verdict("unknown", 0.0, "somebody asked for this kill by SysRq-f")
    if leak:
        return Verdict("leak", 0.9 if "confirmed" in leak else 0.6, leak)
    order = report.invoker.order if report.invoker else None
    if report.fragmented and order and order > 0:
        return Verdict(
            "fragmentation", 0.8,
            f"no free block of {1 << order} pages was left, while smaller ones were",
        )  # fmt: skip
    kernel = _kernel_share(report)
    if kernel is not None and kernel > 0.5:
        return Verdict(
            "kernel-memory", 0.7, f"{words.share(kernel)} of the memory was the kernel's own"
        )
    if growth is not None:
        found = _by_growth(report, growth)
        if found is not None:
            return found
    small = "a limit that is too low" if report.scope == "memcg" else "too little memory"
    reason = f"a leak or {small}, the log alone cannot tell"
    if growth is None:
        reason += " and nothing is known of its growth"
    return Verdict("unknown", 0.0, f"{reason}{_held(report)}")


def _held(report: Report) -> str:
    """The share of the largest process, where it is most of the memory."""
    page, memory = report.page_size, account.of_report(report)
    if page is None or memory is None or not report.rows or not memory.total:
        return ""
    row = max(report.rows, key=lambda r: r.rss)
    part = row.rss * page / memory.total
    return f"; {row.name} alone held {words.share(min(1.0, part))}" if part > 0.4 else ""


def _kernel_share(report: Report) -> float | None:
    memory = account.of_report(report)
    return memory.kernel / memory.total if memory and memory.total else None


def _by_growth(report: Report, growth: Growth) -> Verdict | None:
    size, before = growth.last_bytes, growth.minute_ago_bytes
    victim = report.victim
    if victim is not None:
        size = max(size, (victim.anon or 0) + (victim.shmem or 0))
    if before is not None and size >= 2 * before and size - before >= 16 << 20:
        return Verdict(
            "spike", 0.8,
            f"it grew from {words.size(before)} to {words.size(size)} within the last minute",
        )  # fmt: skip
    if growth.watched_s >= STEADY_S and size <= growth.first_bytes * 1.1:
        steady = f"it was steady at {words.size(size)} for {words.duration(growth.watched_s)}"
        small = "limit-too-low" if report.scope == "memcg" else "too-small"
        return Verdict(small, 0.7, steady)
    return None


def advice(report: Report, known: Entity, found: Verdict) -> list[str]:
    """What to do next: one to three lines, with the command to type."""
    told = []
    memory = report.limits.get("memory")
    if found.verdict == "leak" and known.unit:
        look = f"oom-watchdog events --unit {known.unit}"
        told.append(f"until it is fixed, restart it in time; how it grew: {look}")
    if report.scope == "memcg" and known.unit and memory and memory.limit:
        more = words.size(memory.limit * 3 // 2).replace(" ", "").removesuffix("iB")
        told.append(f"if it needs more: systemctl set-property {known.unit} MemoryMax={more}")
    elif report.scope == "memcg" and report.cgroup:
        told.append(f"see who set the limit of {report.cgroup}, and raise it if that is too low")
    if found.verdict == "fragmentation":
        told.append("keep more memory free for large blocks: sysctl vm.min_free_kbytes")
    elif found.verdict == "kernel-memory":
        told.append("see what the kernel holds: slabtop -o -s c")
    elif report.scope == "global" and report.swap_total == 0:
        told.append("there is no swap: a little of it turns sudden death into a warning")
    if not told and report.victim is not None:
        told.append("watch its growth from now on: oom-watchdog run")
    return told[:3]

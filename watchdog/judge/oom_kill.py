"""Pure: the body of an oom.kill event, and its reasons: the rooms of the diagnosis put together.

Sentences say what the report proves. Where it proves nothing they say that; a unit is taken from
our own census alone, because anybody can name a cgroup.
"""

from collections.abc import Iterator
from typing import Any

from watchdog import words
from watchdog.facts import Entity
from watchdog.judge import account, badness, choice, request, sentences, shortage
from watchdog.judge.advice import advice
from watchdog.judge.past import Grower, Past
from watchdog.judge.ruling import Verdict
from watchdog.judge.verdict import judge
from watchdog.oom_report import cgroup
from watchdog.oom_report.report import Report, Victim
from watchdog.oom_report.tasks import Row

TOP = 10


def told(report: Report, past: Past) -> tuple[dict[str, Any], tuple[str, ...]]:
    """(body, because) of the event of one report."""
    victim = report.victim
    entity = past.victim
    if victim is None or (entity is not None and not _same(entity, victim)):
        # nobody died, or the number has been used again: what is known is of another
        past = Past(growers=past.growers, units=past.units, since_t=past.since_t)
    found = judge(report, past)
    ranking = badness.rank(report)
    why = choice.why(report, ranking)
    because = tuple(_because(report, found, why))
    return _body(report, past, found, ranking, why), because


def _same(entity: Entity, victim: Victim) -> bool:
    """A census may know a thread's other name, but never another user's process."""
    return entity.uid is None or victim.uid is None or entity.uid == victim.uid


# -- the body -------------------------------------------------------------------------------------


def _body(
    report: Report, past: Past, found: Verdict, ranking: badness.Ranking | None, why: str | None
) -> dict[str, Any]:
    victim = report.victim
    memory_limit = report.limits.get("memory")
    memory = account.of_report(report)
    known = past.victim or Entity()
    return {
        "pid": (victim.process if past.victim else victim.pid) if victim else None,
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
        "killed_by": None if victim is None else "kernel",
        "settles": None,
        "group": report.group,
        "manual": report.manual,
        "panic": report.panic,
        "limit_bytes": memory_limit.limit if memory_limit else None,
        "usage_bytes": memory_limit.usage if memory_limit else None,
        "limits": {key: value._asdict() for key, value in report.limits.items()} or None,
        "swap": _swap(report),
        "tasks": _tasks(report, past),
        "memory": None if memory is None else account.body(memory),
        "freed_bytes": report.freed_bytes,
        "left_bytes": report.reaped_left,
        "stuck": report.stuck,
        "suppressed": report.suppressed,
        "headline": sentences.headline(report, past, found),
        "verdict": found.verdict,
        "confidence": found.confidence,
        "verdict_because": found.reason,
        "verdict_reasons": list(found.reasons),
        "culprit": None if found.culprit is None else _grower(found.culprit),
        "why_victim": why,
        "why_now": [shortage.limit(report), *shortage.holders(report)],
        "request": request.purpose(report),
        "choice": choice.facts(report, ranking),
        "growth": None if past.growth is None else past.growth._asdict(),
        "growers": [_grower(one) for one in past.growers],
        "kills_before": [kill._asdict() for kill in past.kills],
        "advice": advice(report, past, found),
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
        "tgid": victim.tgid,
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


def _grower(grower: Grower) -> dict[str, Any]:
    return grower._asdict() | {"leak": None if grower.leak is None else grower.leak._asdict()}


def _because(report: Report, found: Verdict, why: str | None) -> Iterator[str]:
    yield sentences.who(report)
    yield shortage.limit(report)
    told = [why, request.asked(report)]
    if found.verdict != "unknown":
        told.append(found.reason)
    told.append(shortage.freed(report))
    if report.suppressed:
        told.append(
            f"the kernel held back {words.count(report.suppressed, 'more report')} before this one"
        )
    yield from (sentence for sentence in told if sentence)

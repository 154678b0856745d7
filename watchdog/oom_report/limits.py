"""Pure: the lines that say by which limit: of which cgroup, or of the whole machine.

A cgroup's name is nearly any path, and may hold what stands around it: it is read from both ends.
"""

import re
from typing import NamedTuple

from watchdog import words
from watchdog.oom_report.kill import COMM_MAX


class Summary(NamedTuple):
    """oom-kill:constraint=…: the one line that names both cgroups."""

    constraint: str
    nodemask: str | None
    cpuset: str | None
    oom_memcg: str | None
    task_memcg: str | None
    is_global: bool
    comm: str | None
    pid: int | None
    uid: int | None


_TASK_IN = re.compile(r"(?:Task in (.*?))? ?killed as a result of limit of (.*)", re.DOTALL)
_GROUP = re.compile(r"Tasks in (.*?)\s{1,2}are going to be killed due\s{0,2}(?:to|$)", re.DOTALL)
_CONSTRAINT = re.compile(r"oom-kill:\s?constraint=([A-Z_]{1,40})")
_SUMMARY_END = re.compile(r",pid=(\d{1,10}),uid=?(\d{1,10})\s*$")

SCOPES = {
    "CONSTRAINT_NONE": "global",
    "CONSTRAINT_MEMCG": "memcg",
    "CONSTRAINT_CPUSET": "cpuset",
    "CONSTRAINT_MEMORY_POLICY": "mempolicy",
}


def task_in(text: str) -> tuple[str | None, str] | None:
    """(cgroup of the task, cgroup of the limit), up to 4.20."""
    found = _TASK_IN.match(text)
    if found is None or (found[1] is None and not text.lstrip().startswith("killed")):
        return None
    task = words.safe(found[1].strip()) if found[1] else None
    return task, words.safe(found[2].strip())


def task_in_complete(text: str) -> bool:
    """Whether the line names both cgroups."""
    found = task_in(text)
    return found is not None and found[1].startswith("/")


def group(text: str) -> str | None:
    """The cgroup whose memory.oom.group takes all of it along."""
    found = _GROUP.match(text)
    return None if found is None else words.safe(found[1].strip())


def is_summary(text: str, exact: bool) -> bool:
    """Whether `summary` can read it."""
    return (_CONSTRAINT.match if exact else _CONSTRAINT.search)(text) is not None


def summary_complete(text: str) -> bool:
    """Whether it has its end; another CPU may have split it, a mail wrapped it."""
    return _SUMMARY_END.search(text) is not None


def summary(text: str, comm: str | None, owner: str | None) -> Summary | None:
    """Read from both ends. `comm` of the kill line and `owner`, the cgroup of the statistics,
    settle what a cgroup named "a,task=x,pid=1" makes ambiguous."""
    start = _CONSTRAINT.search(text)
    if start is None:
        return None
    body = text[start.end() :]
    pid = uid = None
    name: str | None = None
    end = _SUMMARY_END.search(body)
    if end is not None:
        pid, uid = int(end[1]), int(end[2])
        body, name = _split_task(body[: end.start()], comm)
    nodemask = _between(
        body, ",nodemask=", (",cpuset=", ",oom_memcg=", ",global_oom", ",task_memcg=")
    )
    cpuset = _between(body, ",cpuset=", (",mems_allowed=",))
    is_global, oom_memcg, task_memcg = _memcgs(body, owner)
    if end is None and name is None:  # cut off: of the last value only a part may be there
        task_memcg, oom_memcg = None, oom_memcg if task_memcg is not None else None
    return Summary(
        start[1], None if nodemask == "(null)" else nodemask, _safe(cpuset), _safe(oom_memcg),
        _safe(task_memcg), is_global, _safe(name), pid, uid,
    )  # fmt: skip


def _safe(text: str | None) -> str | None:
    return None if text is None else words.safe(text)


def _between(body: str, left: str, rights: tuple[str, ...]) -> str | None:
    start = body.find(left)
    if start < 0:
        return None
    start += len(left)
    ends = [at for at in (body.find(right, start) for right in rights) if at >= 0]
    return body[start : min(ends)] if ends else body[start:]


def _split_task(body: str, comm: str | None) -> tuple[str, str | None]:
    mark = ",task="
    if comm is not None and words.safe(body).endswith(mark + comm):
        at = len(body)
        while at >= 0:
            at = body.rfind(mark, 0, at)
            if at >= 0 and words.safe(body[at + len(mark) :]) == comm:
                return body[:at], body[at + len(mark) :]
    at = body.find(mark)
    while at >= 0:  # the leftmost that leaves room for a comm: a comm may hold the mark too
        rest = body[at + len(mark) :]
        if len(rest.encode("utf-8", "surrogateescape")) <= COMM_MAX:
            return body[:at], rest
        at = body.find(mark, at + 1)
    return body, None


def _memcgs(body: str, owner: str | None) -> tuple[bool, str | None, str | None]:
    """(global?, cgroup of the limit, cgroup of the task)."""
    mark, task_mark = ",oom_memcg=", ",task_memcg="
    starts = _all(body, mark)
    best: tuple[str, str] | None = None
    for start in starts:
        pair = body[start + len(mark) :]
        for at in _all(pair, task_mark):
            limit, task = pair[:at], pair[at + len(task_mark) :]
            if owner is not None and words.safe(limit) == owner:
                return False, limit, task
            # the task lies in the cgroup of the limit or below it
            below = task == limit or task.startswith(limit.rstrip("/") + "/")
            if below and best is None:
                best = limit, task
    if best is not None:
        return False, best[0], best[1]
    if starts:
        limit, found, task = body[starts[0] + len(mark) :].partition(task_mark)
        return False, limit, task if found else None
    is_global = ",global_oom" in body
    at = body.find(task_mark)
    return is_global, None, body[at + len(task_mark) :] if at >= 0 else None


def _all(text: str, mark: str) -> list[int]:
    found: list[int] = []
    at = text.find(mark)
    while at >= 0 and len(found) < 32:
        found.append(at)
        at = text.find(mark, at + 1)
    return found

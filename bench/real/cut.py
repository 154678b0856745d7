"""Pure: of a recording of the whole machine, the lines that are about one unit.

What is left: the machine's own readings, the unit's cgroup, its processes, and the kernel's report
of its own end. The counter of OOM kills is taken off the readings: it counts the others' as well.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

# The machine is told every so often; nothing else of it is needed.
HOST_EVERY_S = 5.0


def cut(lines: Iterable[str], cgroup: str, begin: float, end: float) -> Iterator[str]:
    """The lines of the unit whose memory cgroup is `cgroup`, between two times (Unix seconds)."""
    ours: set[tuple[int, int]] = set()
    host_t = 0.0
    report: list[str] = []
    for text in lines:
        fact: dict[str, Any] = json.loads(text)
        kind = fact["type"]
        if kind == "trace":
            yield _line(fact | {"acted": False})
            continue
        if not begin <= fact["t"] <= end:
            continue
        if kind == "host" and fact["t"] - host_t >= HOST_EVERY_S:
            host_t = fact["t"]
            yield _line({key: part for key, part in fact.items() if key != "oom_kill"})
        elif kind == "who" and _within(fact.get("cgroup"), cgroup):
            ours.add((fact["pid"], fact["start"]))
            yield _line(fact)
        elif kind == "group" and _within(fact.get("cgroup"), cgroup):
            yield _line(fact)
        elif kind in ("procs", "sweep"):
            rows = [row for row in fact["rows"] if (row[0], row[1]) in ours]
            if rows or kind == "procs":
                yield _line(fact | {"rows": rows})
        elif kind == "parts" and (fact.get("pid"), fact.get("start")) in ours:
            yield _line(fact)
        elif kind == "kmsg":
            if "invoked oom-killer" in fact["line"]:
                report = []
            report.append(_line(fact))
            if "Killed process" in fact["line"]:
                pid = fact["line"].partition("Killed process ")[2].partition(" ")[0]
                if any(f"oom_memcg={cgroup}," in line for line in report):
                    yield from report
                elif pid.isdigit() and int(pid) in {one for one, _ in ours}:
                    yield report[-1]  # so many reports that the kernel left the rest of it out
                report = []


def _within(path: str | None, cgroup: str) -> bool:
    return path is not None and f"{path}/".startswith(f"{cgroup}/")


def _line(fact: dict[str, Any]) -> str:
    return json.dumps(fact, separators=(",", ":"))

"""Evidence of the guard: one file for each time of shortage, written when memory is well again.

The guard itself reads and writes none of it. A file holds what was told of each decision, what that
had seen, and one look at `status` of whom it took and at memory.stat of his unit, of the moment at
which the watcher heard of it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from watchdog import procfs, targets
from watchdog.act import evidence
from watchdog.engine import Engine
from watchdog.facts import Host
from watchdog.sense.cgroups import Cgroups

DECISIONS_MAX = 6  # of one incident: the first say most, and they fit into a file


class Incidents:
    """`saw` and `heard` are called with what the guard sends; `keep` writes a file of that name."""

    def __init__(
        self, engine: Engine, cgroups: Cgroups, keep: Callable[[str, dict[str, Any]], None],
        proc: str = "/proc",
    ) -> None:  # fmt: skip
        self.engine = engine
        self.cgroups = cgroups
        self.keep = keep
        self.proc = proc
        self.incident = ""
        self.decisions: list[dict[str, Any]] = []
        self.inputs: tuple[Host, Sequence[tuple[Any, ...]]] | None = None

    def saw(self, host: Host, rows: Sequence[tuple[Any, ...]]) -> None:
        """What a decision that is told next has seen: the machine, and everybody read closely."""
        self.inputs = host, rows

    def heard(
        self, t: float, kind: str, identity: str, because: Sequence[str], body: Mapping[str, Any]
    ) -> None:
        """A report of the guard."""
        if kind == "guard.action":
            self._decided(t, because, body)
        elif kind == "pressure.ended" and identity == self.incident:
            self._write(t, because)

    def _decided(self, t: float, because: Sequence[str], body: Mapping[str, Any]) -> None:
        if body.get("incident") != self.incident:
            self.incident, self.decisions = str(body.get("incident")), []
        if len(self.decisions) >= DECISIONS_MAX:
            return
        found: dict[str, Any] = {"t": t, "because": list(because), **body}
        inputs, self.inputs = self.inputs, None
        if inputs is not None and inputs[0].t == body.get("decided_t"):
            host, rows = inputs
            found["host"] = {key: one for key, one in host._asdict().items() if one is not None}
            # (pid, start, comm, private bytes, unit)
            found["read"] = [[*row[:4], row[6]] for row in rows]
        found["meminfo"] = evidence.text(f"{self.proc}/meminfo")
        found |= self._seen(body.get("pid"), body.get("start"), body.get("unit"))
        self.decisions.append(found)

    def _seen(self, pid: int | None, start: int | None, unit: str | None) -> dict[str, Any]:
        """Of whom it took: nothing is read of somebody else who has his number by now."""
        if pid is None or start is None:
            return {}
        found: dict[str, Any] = {}
        stat = procfs.parse_stat(evidence.text(f"{self.proc}/{pid}/stat").encode())
        if stat is not None and stat.start_ticks == start:
            found["status"] = evidence.text(f"{self.proc}/{pid}/status")
        one = self.engine.world.present.get((pid, start))
        if one is None or one.who is None:
            return found
        found["cmdline"] = (one.cmdline or "")[: evidence.CMDLINE_MAX]
        folder = targets.folder_of(self.cgroups, one.who.cgroup, unit) if unit else None
        if folder is not None:
            found["memory.stat"] = evidence.text(f"{folder}/memory.stat")
        return found

    def _write(self, t: float, because: Sequence[str]) -> None:
        found = {"incident": self.incident, "t": t, "because": list(because)}
        found["decisions"], self.decisions = self.decisions, []
        if found["decisions"]:
            self.keep(f"guard-{t:.0f}-{self.incident}", found)

"""The guard over a recording: the same conditions, the same choice, and nobody is signalled.

It is guard/incident.py itself, with eyes that see the recording instead of /proc. What it reads
fresh is the latest sweep of the recording; the dossier is the engine's at that moment. The machine
goes on as it did, so there is one decision an incident, as in observe: what comes after a kill (the
next rung, the next victim) is not seen. Under `enforce` the budget is counted all the same.
"""

from collections.abc import Iterator
from typing import Any

from watchdog import targets, words
from watchdog.act.kill import SPARED_ADJ
from watchdog.engine import Engine
from watchdog.facts import COMM, RSS, SHARED, START, SWAP, Host, Memfds, Said, Sweep
from watchdog.guard.incident import Incident
from watchdog.guard.scene import Place, Scene
from watchdog.history.world import private_bytes
from watchdog.judge.proven import key_of
from watchdog.policy.guard_when import Pressure
from watchdog.policy.rules import Rules
from watchdog.sense.fast import Reading

GLANCE_S = 5.0


class _Eyes:
    """guard.scene's view of a recorded machine."""

    root = ""

    def __init__(self, engine: Engine) -> None:
        self.world = engine.world
        self.latest = Host(0.0)

    def host(self, _t: float, _up: float) -> tuple[Host, int | None]:
        return self.latest, None

    def sizes(self) -> dict[int, int]:
        rows = {pid: one.row for pid, one in self.world.present.by_pid.items()}
        return {pid: max(0, row[RSS] - row[SHARED]) for pid, row in rows.items()}

    def look(self, pid: int) -> Reading | None:
        one = self.world.present.by_pid.get(pid)
        if one is None:
            return None
        who, row = one.who, one.row
        size = private_bytes(row)
        return Reading(pid, row[START], row[COMM], who.uid if who else None, size, size,
                       (who.ppid if who else None) or 0, row[SWAP] or 0)  # fmt: skip

    def start_of(self, pid: int) -> int | None:
        one = self.world.present.by_pid.get(pid)
        return one.row[START] if one else None


class ReplayGuard:
    """`take` each fact after the engine has; what the guard would say, as facts for the engine."""

    def __init__(self, engine: Engine, rules: Rules) -> None:
        self.engine = engine
        self.rules = rules
        self.said: list[Said] = []
        self.eyes = _Eyes(engine)
        self.pressure = Pressure(rules.guard)
        self.scene = Scene(self.eyes, self.pressure, self._tell)  # type: ignore[arg-type]
        self.scene.shield = self._shield
        self.incident: Incident | None = None
        self.lacks: str | None = "mem_available"  # what no reading of the host has told yet
        self.swept: float | None = None  # when first
        self.t = 0.0
        self.up: float | None = None

    def unjudged(self) -> str | None:
        """Why nothing is said of the guard; None where it was judged, or is off."""
        if self.lacks is None or self.rules.guard.mode == "off":
            return None
        return f"the guard cannot be judged from this trace: {self.lacks} missing"

    def _shield(self, pid: int) -> str | None:
        """As act/kill.shielded, by what the recording tells."""
        if pid <= 2:
            return f"PID {pid} is never signalled"
        one = self.engine.world.present.by_pid.get(pid)
        adj = one.who.oom_score_adj if one is not None and one.who is not None else None
        return f"its oom_score_adj is {adj}" if adj is not None and adj <= SPARED_ADJ else None

    def take(self, fact: Host | Sweep | Memfds) -> Iterator[Said]:
        """Judge a reading of the machine, and look at everybody after each sweep."""
        self.t, self.up = fact.t, fact.up
        now = fact.t if fact.up is None else fact.up
        if isinstance(fact, Host):
            self._host(fact, now)
        elif self.rules.guard.mode == "off":
            pass  # it says when memory is short, and looks at nobody
        elif isinstance(fact, Memfds):
            self._stays(fact.files, now)
        elif self.eyes.latest.mem_available is not None:
            self._sweep(now)
        found, self.said = self.said, []
        yield from found

    def _host(self, host: Host, now: float) -> None:
        if host.arc and host.mem_available is not None:
            host = host._replace(mem_available=host.mem_available + host.arc)
        before = self.eyes.latest
        if host.boot_id and before.boot_id and host.boot_id != before.boot_id:
            spent = self.scene.spent  # a clock that has begun anew, as the guard's own has
            spent.purse = spent.purse.moved(now, host.t)
        if host.oom_kill is None:  # what the guard itself read for a decision says nothing of it
            host = host._replace(oom_kill=self.eyes.latest.oom_kill)
        self.eyes.latest = host
        if self.lacks is not None and host.mem_available is not None:
            self.lacks = None if host.mem_total else "mem_total"
        change = self.pressure.step(host, now)
        if change is None:
            return
        body: dict[str, Any] = {"scope": "host", "by": change.by,
                                "available_bytes": host.mem_available}  # fmt: skip
        identity = self.incident.id if self.incident else f"host-{now:.3f}"
        if change.kind == "ended" and self.incident is not None:
            body["lowest_bytes"] = self.incident.lowest
            body["lasted_s"] = round(now - self.incident.begun_up, 3)
        self.incident = None
        if change.kind == "begun":
            self.incident = Incident(self.scene, now, host, change.because)
        self._tell(f"pressure.{change.kind}", identity, change.because, body)

    def _stays(self, files: int, now: float) -> None:
        """What lies in files in memory. It is told from the first sweep on, unless it is little."""
        if not self.scene.tmpfs and self.swept is not None and self.swept < now:
            self.scene.take_machine(self.swept, {})
        self.scene.take_machine(now, {"stays": files})

    def _sweep(self, now: float) -> None:
        self.swept = now if self.swept is None else self.swept
        host = self.eyes.latest
        if host.mem_available is None or not host.mem_total:
            return
        if self.incident is not None:
            self.scene.spared = self.engine.spared()
            history = self.engine.levels.history(now)
            rows, places = self.engine.dossier(), self._places()
            self.scene.take_dossier(now, rows, places, host.shmem, history)
            self.incident.step(host, now, "observe")
        if host.mem_available < self.pressure.near_bytes(host.mem_total):
            self.scene.glance(now, host, GLANCE_S)
        else:
            self.scene.forget_looks()

    def _places(self) -> dict[str, Place]:
        """Which units may be ended as a whole; there are no folders in a recording."""
        world = self.engine.world
        members: dict[str, list[tuple[int, int]]] = {}
        for one in world.present:
            members.setdefault(key_of(world, one.ident), []).append(one.ident)
        found: dict[str, Place] = {}
        for entity, idents in members.items():
            name = targets.leaf(world, entity, idents)
            if name is not None:
                found[entity] = ("", 0, targets.refusal(world, self.rules, name, idents))
        return found

    def _tell(
        self, kind: str, identity: str, because: tuple[str, ...], body: dict[str, Any]
    ) -> None:
        if kind == "guard.action" and self.rules.guard.mode == "enforce":
            body = {**body, "mode": "enforce"}
            if body["outcome"] == "would" and body["do"] != "hold" and not self._spend():
                times, per_s = self.rules.guard.budget
                body["outcome"] = "budget"
                spent = f"{times} in {words.duration(per_s)} are used up"
                because = (*because, f"the guard's budget: {spent}: the kernel decides")
        self.said.append(Said(self.t, self.up, kind, identity, because, body))

    def _spend(self) -> bool:
        """Whether the budget allows one more, which it counts as done; nobody ends here."""
        now, rule = self.t if self.up is None else self.up, self.rules.guard.budget
        if not self.scene.spent.left(rule, now):
            return False
        self.scene.spent.spend(rule, now, self.t)
        return True

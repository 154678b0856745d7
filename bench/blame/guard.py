"""The guard over a random machine: its condition, its looks, its dossier, guard/incident.py itself.

Only who looks is another: the world at a moment stands for /proc, and nobody is signalled.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from bench.blame.machine import MIB, UP0, Machine
from bench.blame.worlds import MARK, World
from watchdog.facts import Host
from watchdog.guard.incident import Incident
from watchdog.guard.scene import GLANCE_S, Scene
from watchdog.policy.guard_when import GuardRules, Mark, Pressure
from watchdog.sense.fast import LEAST_BYTES, Reading

# The guard looks ten times a second while memory is short; what holds it back lasts a second.
STEP_S = 0.5
PIECES = 20


class Decision(NamedTuple):
    """Who is chosen, and when; `how` and `said` tell why."""

    at: float
    pid: int
    how: str
    said: tuple[str, ...]


class Eyes:
    """The guard's view of a world at the moment that was named last."""

    root = ""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.t = 0.0
        self._there: dict[int, Reading] | None = None

    def at(self, t: float) -> Host:
        self.t, self._there = t, None
        return self.machine.host(t)

    def host(self, _t: float, _up: float) -> tuple[Host, int | None]:
        return self.machine.host(self.t), None

    @property
    def there(self) -> dict[int, Reading]:
        if self._there is not None:
            return self._there
        found: dict[int, Reading] = {}
        for pid, start, proc in self.machine.look(self.t):
            size = int(proc.size * MIB)
            parent = self.machine.pids[proc.parent][0] if proc.parent else 1
            found[pid] = Reading(pid, start, proc.unit[:15], 0, size, size, parent)
        self._there = found
        return found

    def sizes(self) -> dict[int, int]:
        return {pid: one.private for pid, one in self.there.items() if one.private >= LEAST_BYTES}

    def look(self, pid: int) -> Reading | None:
        return self.there.get(pid)

    def start_of(self, pid: int) -> int | None:
        return self.there[pid].start if pid in self.there else None


class Guard:
    """`watch` after each look of the watcher."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.eyes = Eyes(machine)
        self.pressure = Pressure(GuardRules(available_below=Mark(MARK)))
        self.scene = Scene(self.eyes, self.pressure, self._told)  # type: ignore[arg-type]
        self.scene.shield = lambda _: None
        self.incident: Incident | None = None
        self.body: Mapping[str, Any] | None = None
        self.because: tuple[str, ...] = ()

    def watch(self, t: float, until: float) -> Decision | None:
        """From the watcher's look at `t` to its next one; None where nobody is chosen."""
        host = self.eyes.at(t)
        stays = host.shmem or 0
        self.scene.take_machine(UP0 + t, {"stays": stays})
        at: float | None = t
        if self.incident is None:
            if not self._near(host):
                self.scene.forget_looks()
            elif self.scene.first is None:
                self.scene.glance(UP0 + t, host, GLANCE_S)
            at = crossing(self.machine.world, t, until)
        if at is None or at <= 0:
            return None
        for ago in (2 * GLANCE_S, GLANCE_S) if self.incident is None else ():
            self._approach(at - ago)
        engine = self.machine.engine
        history = engine.levels.history(UP0 + t)
        self.scene.take_dossier(UP0 + t, engine.dossier(), shmem=stays, history=history)
        while at < until:
            self._step(self.eyes.at(at), UP0 + at)
            if self.body is not None:
                said = [f"{one['entity']['comm']} {tuple(one['rank'].values())}"
                        for one in self.body["candidates"]]  # fmt: skip
                pid = self.body["victim"]["pid"]
                return Decision(at, pid, self.body["how"], (*self.because, *said))
            at += STEP_S
        return None

    def _step(self, host: Host, up: float) -> None:
        change = self.pressure.step(host, up)
        if change is not None:
            begun = change.kind == "begun"
            self.incident = Incident(self.scene, up, host, change.because) if begun else None
            if not begun:
                self.scene.forget_looks()
        if self.incident is not None:
            self.incident.step(host, up, "observe")

    def _near(self, host: Host) -> bool:
        return (host.mem_available or 0) < self.pressure.near_bytes(host.mem_total or 0)

    def _approach(self, t: float) -> None:
        """It looks every 5 s near the mark, but only the first look and the last two count."""
        host, recent = self.eyes.at(t), self.scene.recent
        if t >= 0 and self._near(host) and (recent is None or UP0 + t >= recent.up + GLANCE_S):
            self.scene.glance(UP0 + t, host, GLANCE_S)

    def _told(
        self, kind: str, _identity: str, because: tuple[str, ...], body: dict[str, Any]
    ) -> None:
        if kind == "guard.action" and body["victim"] is not None:
            self.body, self.because = body, because


def crossing(world: World, t: float, until: float) -> float | None:
    """When memory falls below the mark, which the guard sees at once."""
    for i in range(PIECES):
        at = t + (until - t) * i / PIECES
        if world.available(at) < MARK * world.memory:
            return at
    return None

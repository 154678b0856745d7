"""Effect: what takes more than a signal: a unit restarted, stopped, throttled, ended; evidence.

The desk hands orders of policies here, the guard its wishes. Each ends in one answer, through the
order's outcome or as an event; nothing waits.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from watchdog import targets, words
from watchdog.act import evidence
from watchdog.act.kill import kill_unit
from watchdog.act.unit import INVOCATIONS, Unit, Units, invocation
from watchdog.child import Child, Children, ours
from watchdog.clock import Clock
from watchdog.engine import Engine
from watchdog.facts import Entity, Order, Said
from watchdog.policy.match import protected
from watchdog.policy.target import names_unit
from watchdog.policy.view import identified
from watchdog.sense.cgroups import Cgroups
from watchdog.store.db import Store

SMAPS_S = 0.5
SMAPS_MAX = 64 << 10
MEMBERS_SHOWN = 5
# Throttled, and after so long still stalling for most of the time: the limit is of no use.
THROTTLE_CHECK_S = 60.0
STALLED = 0.8
# Whoever got SIGTERM may still be about to end when memory is well again, and PID 1 to notice it.
REVIVE_S = 8.0
# MemoryHigh never lies below what is in use: PID 1 itself would have to reclaim it.
HIGH_FACTOR, HIGH_LEAST = 1.05, 16 << 20
KEPT = "throttled"

Answer = Callable[[Order, str, str], None]


class _Held(NamedTuple):
    """A unit under a MemoryHigh of ours: what it was before, and until when (Unix seconds)."""

    former: str
    until_t: float
    check_up: float
    stalled_us: int | None
    policy: str
    incident: str


class Deeds:
    """`answer` takes the outcome of an order, `feed` an event."""

    def __init__(
        self, clock: Clock, children: Children, cgroups: Cgroups, engine: Engine, store: Store,
        state: str, answer: Answer, feed: Callable[[Said], None], spend: Callable[[], None],
    ) -> None:  # fmt: skip
        self.clock = clock
        self.children = children
        self.cgroups = cgroups
        self.engine = engine
        self.store = store
        self.state = state
        self.answer = answer
        self.feed = feed
        self.spend = spend
        self.units = Units(children)
        self.invocations = INVOCATIONS  # a folder
        self.lives: dict[str, str] = {}  # of units, as they were last seen
        self.held: dict[str, _Held] = {}
        self.revivals: list[tuple[float, Callable[[], None]]] = []
        self.smaps: list[tuple[Order, Child, dict[str, Any]]] = []

    # ---- life --------------------------------------------------------------------------------

    def recall(self, kept: Mapping[str, Any]) -> None:
        """A run before this one left units throttled: put back what they had."""
        for name, value in kept.items():
            if isinstance(value, str):
                self.held[name] = _Held(value, 0.0, 0.0, None, "", "")
        self.turn()

    def turn(self) -> None:
        """Go on with what has ended, and with what is due."""
        self.units.turn()
        for due in [one for one in self.revivals if self.clock.boottime() >= one[0]]:
            self.revivals.remove(due)
            due[1]()
        over = [one for one in self.smaps if one[1].done]
        self.smaps = [one for one in self.smaps if not one[1].done]
        for order, child, found in over:
            failure = child.failure()
            text = bytes(child.output).decode("ascii", "replace")
            found["smaps_rollup"] = f"not read: it {failure}" if failure else text
            self._write(order, found)
        t, up = self.clock.wall(), self.clock.boottime()
        for name, one in list(self.held.items()):
            if t >= one.until_t:
                self._put_back(name, one, "")
            elif one.check_up and up >= one.check_up:
                self._check(name, one)

    def deadline(self) -> float | None:
        """When `turn` has to be called at the latest (boottime)."""
        now, t = self.clock.boottime(), self.clock.wall()
        dues = [now + max(1.0, one.until_t - t) for one in self.held.values()]
        dues += [one.check_up for one in self.held.values() if one.check_up]
        return min([*dues, *(due for due, _ in self.revivals)], default=None)

    def stop(self) -> None:
        """The daemon stops: put back what was throttled; what does not end in time is kept."""
        for name, one in list(self.held.items()):
            self._put_back(name, one, "")

    def note(self, units: Iterable[str]) -> None:
        """Remember which life of each is seen; what is decided from now on means that one."""
        found = ((name, invocation(name, self.invocations)) for name in units)
        self.lives = {name: life for name, life in found if life is not None}

    # ---- orders of policies ------------------------------------------------------------------

    def carry_out(self, order: Order, verb: str) -> None:
        """One of kill-unit, restart-unit, throttle, evidence."""
        if verb == "evidence":
            self._evidence(order)
            return
        unit = targets.unit_of(self.engine.world, order.subject)
        if unit is None:
            self.answer(order, "failed", "it belongs to no unit")
            return
        unit = unit._replace(invocation=self.lives.get(unit.name))
        reason = None if verb == "kill-unit" else self._barred(order, unit)
        if reason is not None:
            self.answer(order, "protected", reason)
        elif verb == "restart-unit":
            self.units.restart(unit, lambda outcome, said: self.answer(order, outcome, said))
        elif verb == "kill-unit":
            self.answer(order, *self._kill_unit(unit))
        else:
            self._throttle(order, unit)

    def _barred(self, order: Order, unit: Unit) -> str | None:
        """Why the whole unit is not touched by who does not name it; asked again at the last."""
        world, rules = self.engine.world, self.engine.rules
        policy = next((one for one in rules.policies if one.name == order.policy), None)
        if policy is not None and names_unit(policy, unit.name):
            return None
        return targets.refusal(world, rules, unit.name, unit.members)

    def _kill_unit(self, unit: Unit) -> tuple[str, str]:
        world, rules = self.engine.world, self.engine.rules
        reason = targets.refusal(world, rules, unit.name, unit.members)
        folder = self._folder(unit)
        if reason is not None:
            return "protected", reason
        if folder is None:
            return "failed", "its cgroup is not known"
        inode = targets.inode(folder)
        if unit.invocation not in (None, invocation(unit.name, self.invocations)):
            return "changed", "it was started anew in the meantime"

        def still_protected(pid: int, start: int) -> str | None:
            known = world.rows.get((pid, start))
            return protected(rules, identified(world, (pid, start))) if known else None

        return kill_unit(folder, inode, still_protected=still_protected)

    def _folder(self, unit: Unit) -> str | None:
        """The unit's own cgroup, by what the census saw of its members."""
        for ident in unit.members:
            who = self.engine.world.who.get(ident)
            folder = targets.folder_of(self.cgroups, who.cgroup if who else None, unit.name)
            if folder is not None and targets.inode(folder):
                return folder
        return None

    def _throttle(self, order: Order, unit: Unit) -> None:
        folder = self._folder(unit)
        if not self.cgroups.v2:
            self.answer(order, "failed", "a cgroup of version 1 has no MemoryHigh")
            return
        current = targets.number(f"{folder}/memory.current") if folder else None
        if current is None:
            self.answer(order, "failed", "its cgroup is not known")
            return
        high = max(int(current * HIGH_FACTOR), current + HIGH_LEAST)
        policy = next((p for p in self.engine.rules.policies if p.name == order.policy), None)
        lasts = policy.cooldown_s if policy else THROTTLE_CHECK_S

        def seen(former: str) -> bool:
            known = self.held.get(unit.name)
            until, check = self.clock.wall() + lasts, self.clock.boottime() + THROTTLE_CHECK_S
            self.held[unit.name] = _Held(
                known.former if known else former, until, check, targets.stalled(folder),
                order.policy, order.incident,
            )  # fmt: skip
            return self._keep()

        def done(outcome: str, said: str) -> None:
            if outcome != "done":
                self.held.pop(unit.name, None)
                self._keep()
            else:
                said += f", put back in {words.duration(lasts)}"
            self.answer(order, outcome, said)

        self.units.limit(unit, high, seen, done)

    def _keep(self) -> bool:
        """Before anything is changed it is written down what it was."""
        former = {name: one.former for name, one in self.held.items()}
        self.store.put_kept({KEPT: json.dumps(former)})
        return self.store.flush(1.0) and self.store.failed is None

    def _check(self, name: str, one: _Held) -> None:
        self.held[name] = one._replace(check_up=0.0)
        unit = Unit(name, _members(self.engine, name))
        now = targets.stalled(self._folder(unit))
        if one.stalled_us is None or now is None:
            return
        share = (now - one.stalled_us) / 1e6 / THROTTLE_CHECK_S
        if share > STALLED:
            self._put_back(name, one, f"it stood still for {words.share(share)} of the last "
                           f"{words.duration(THROTTLE_CHECK_S)} under the limit")  # fmt: skip

    def _put_back(self, name: str, one: _Held, why: str) -> None:
        def done(outcome: str, said: str) -> None:
            if outcome == "done":
                self._keep()
            if why:
                entity = Entity(unit=name)._asdict()
                body = {**entity, "policy": one.policy, "do": "throttle", "mode": "enforce",
                        "target": entity, "outcome": "failed"}  # fmt: skip
                body["incident"] = one.incident
                self._say("policy.action", f"{one.incident}-throttle-lifted", (why, said), body)

        self.held.pop(name, None)
        former = int(one.former) if one.former.isdigit() and len(one.former) < 19 else None
        self.units.limit(Unit(name), former, None, done)

    def _evidence(self, order: Order) -> None:
        entity, world = order.subject.entity, self.engine.world
        found: dict[str, Any] = {"order": order.id, "t": self.clock.wall()}
        found |= {"entity": entity._asdict(), "because": list(order.because)}
        unit = targets.unit_of(world, order.subject)
        found["cgroup"] = evidence.of_cgroup(self._folder(unit) if unit else None)
        idents: list[tuple[int, int]] = []
        if entity.pid is not None and entity.start is not None:
            idents = [(entity.pid, entity.start)]
        elif unit is not None:
            rows = world.rows
            idents = sorted(unit.members, key=lambda one: -rows[one][3])[:MEMBERS_SHOWN]
        found["processes"] = {
            str(pid): {
                "cmdline": (one.cmdline or "")[: evidence.CMDLINE_MAX]
                if (one := world.present.get((pid, start))) and one.who else None,
                **evidence.of_process(pid),
            }
            for pid, start in idents
        }  # fmt: skip
        if self.engine.pressed or not idents:
            found["smaps_rollup"] = "not read: memory is short" if self.engine.pressed else None
            self._write(order, found)
            return
        pid, start = idents[0]
        argv = [*ours("watchdog.act.smaps"), str(pid), str(start)]
        try:
            child = self.children.start(argv, b"", SMAPS_S, max_output=SMAPS_MAX)
        except OSError:
            self._write(order, found)
            return
        self.smaps.append((order, child, found))

    def _write(self, order: Order, found: dict[str, Any]) -> None:
        self.answer(order, *evidence.write(self.state, order.id, found))

    # ---- wishes of the guard -----------------------------------------------------------------

    def stop_unit(self, entity: str, folder: str, incident: str) -> None:
        """Its processes, which were in `folder`, were ended; now it is to stay down."""

        def done(outcome: str, said: str) -> None:
            self._guard_said(entity, "stop-unit", incident, outcome, (said,), {})

        base = self.cgroups.base or ""
        self.units.stop(Unit(entity, (), folder.removeprefix(base)), done)

    def revive(self, unit: str, pid: int, incident: str, may: bool) -> None:
        """Start a service again that stays down because of the guard's SIGTERM."""

        def done(outcome: str, said: str) -> None:
            if outcome == "changed":
                return  # it is up, or was not its service: nothing is to be said
            if outcome == "done":
                self.spend()
            self._guard_said(unit, "revive", incident, outcome, (said,), {"restarts": False})

        due = self.clock.boottime() + REVIVE_S
        self.revivals.append((due, lambda: self.units.revive(Unit(unit), pid, done, may=may)))

    def _guard_said(
        self, unit: str, do: str, incident: str, outcome: str, because: tuple[str, ...],
        more: dict[str, Any],
    ) -> None:  # fmt: skip
        entity = Entity(unit=unit)._asdict()
        body = {**entity, "policy": "guard", "do": do, "mode": "enforce", "target": entity,
                "incident": incident, "outcome": outcome, "victim": None, "candidates": [],
                **more}  # fmt: skip
        self._say("guard.action", f"{incident}-{do}-{unit}", because, body)

    def _say(
        self, kind: str, identity: str, because: tuple[str, ...], body: dict[str, Any]
    ) -> None:
        self.feed(Said(self.clock.wall(), self.clock.boottime(), kind, identity, because, body))


def _members(engine: Engine, name: str) -> tuple[tuple[int, int], ...]:
    return tuple(ident for ident, row in engine.world.rows.items() if row[6] == name)

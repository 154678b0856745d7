"""Effect: what takes more than a signal: a unit restarted, stopped, throttled, ended; evidence.

The desk hands orders of policies here, the guard its wishes. Each ends in one answer, through the
order's outcome or as an event; nothing waits.
"""

import heapq
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from watchdog import targets
from watchdog.act.comebacks import Comebacks
from watchdog.act.kill import kill, kill_unit
from watchdog.act.unit import INVOCATIONS, Unit, Units, invocation
from watchdog.child import Children
from watchdog.clock import Clock
from watchdog.engine import Engine
from watchdog.evidence import Evidence
from watchdog.facts import RSS, UNIT, Entity, Order, Said, Sweep
from watchdog.guard_facts import OWED_MAX
from watchdog.incidents import Incidents
from watchdog.policy.match import protected
from watchdog.policy.rules import CHECK_S
from watchdog.policy.target import names_unit
from watchdog.policy.view import identified
from watchdog.procfs import is_login, never
from watchdog.sense.cgroups import Cgroups
from watchdog.store.db import Store
from watchdog.throttle import Answer, Throttles

# Whoever got SIGTERM may still be ending when memory is well; PID 1 gives a service 90 s for that.
REVIVE_MOST_S = 180.0
# A daemon that stops waits so long for what it puts back (on a busy
# machine two of ten were left after 2 s); the guard ends it a second and a half later.
PUT_BACK_S = 5.0
TICK_S = 0.01  # by so much at the most the time of a file lags behind the clock
AHEAD_EVERY_S = 600.0  # some machines are always near it
AHEAD_MAX = 32  # processes, whose units PID 1 is asked about


class Deeds:
    """`answer` takes the outcome of an order, `feed` an event."""

    def __init__(
        self, clock: Clock, children: Children, cgroups: Cgroups, engine: Engine, store: Store,
        state: str, answer: Answer, feed: Callable[[Said], None], spend: Callable[[], None],
        owe: Callable[[str, int, str, str], bool],
    ) -> None:  # fmt: skip
        self.clock = clock
        self.children = children
        self.cgroups = cgroups
        self.engine = engine
        self.answer = answer
        self.feed = feed
        self.spend = spend
        self.owe = owe
        self.owing: list[tuple[str, int, str, str]] = []  # not taken by the guard yet
        self.comebacks = Comebacks(children)
        self.ahead_from = 0.0  # then PID 1 may be asked about the largest again
        self.units = Units(children)
        self.invocations = INVOCATIONS  # a folder
        self.lives: dict[str, str] = {}  # of units, as they were last seen
        self.young: dict[str, str] = {}  # lives that began while a sweep was read, or seem to have
        self.throttles = Throttles(
            clock, self.units, engine, store, self._folder, answer, self._say
        )
        self.revivals: dict[tuple[str, int], float] = {}  # (unit, PID), since when
        self.asking: dict[tuple[str, int], str] = {}  # PID 1, about these, for a policy or ""
        self.evidence = Evidence(clock, children, engine, state, answer)
        self.incidents = Incidents(engine, cgroups, self.evidence.keep)

    # ---- life --------------------------------------------------------------------------------

    def turn(self) -> None:
        """Go on with what has ended, and with what is due."""
        self.units.turn()
        self.comebacks.turn()
        self.owing = [one for one in self.owing if not self.owe(*one)]
        self.evidence.turn()
        self.throttles.turn()

    def deadline(self) -> float | None:
        """When `turn` has to be called at the latest (boottime)."""
        return self.throttles.deadline()

    def stop(self) -> None:
        """What was throttled gets back what it had; what takes too long is for the next start."""
        self.throttles.stop()
        self.comebacks.stop()
        until = self.clock.boottime() + PUT_BACK_S
        while (self.throttles.held or self.evidence.jobs) and self.clock.boottime() < until:
            self.clock.wait(self.children.fds(), 0.1)
            self.children.turn()
            self.turn()

    def note(self, sweep: Sweep) -> None:
        """Remember which life of each unit is seen there: what is decided of it means that one.

        One that began while the sweep was read is not what it tells of; the next one tells of it,
        also where a clock that was set back says that it has yet to begin.
        """
        found, young = ({}, {}) if sweep.census else (self.lives, self.young)
        for name in {row[UNIT] for row in sweep.rows if row[UNIT] is not None}:
            life, before = invocation(name, self.invocations), self.lives.get(name)
            if life is None:
                continue
            if life not in (before, self.young.get(name)) and not self._began_before(name, sweep.t):
                young[name], life = life, before
            if life is not None:
                found[name] = life
        self.lives, self.young = found, young

    def _began_before(self, unit: str, t: float) -> bool:
        """Was the life of it that runs now there at that time?"""
        try:
            return os.lstat(f"{self.invocations}/invocation:{unit}").st_mtime < t - TICK_S
        except OSError:
            return True  # it has ended

    # ---- orders of policies ------------------------------------------------------------------

    def carry_out(self, order: Order, verb: str) -> None:
        """One of kill-unit, restart-unit, throttle, evidence."""
        unit = targets.unit_of(self.engine.world, order.subject)
        if verb == "evidence":
            folder = self._folder(unit) if unit is not None else None
            self.evidence.take(order, folder, unit.members if unit is not None else ())
            return
        if unit is None:
            self.answer(order, "failed", "it belongs to no unit")
            return
        if verb == "kill-unit" and is_login(unit.name):
            self.answer(order, *self._kill_inside(order))
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
        policy = rules.policy(order.policy)
        if policy is not None and names_unit(policy, unit.name):
            return None
        return targets.refusal(world, rules, unit.name, unit.members)

    def _kill_inside(self, order: Order) -> tuple[str, str]:
        """Of a login the unit inside it that the process is in, or else that process alone."""
        subject, world = order.subject, self.engine.world
        pid, start = subject.entity.pid, subject.entity.start
        if pid is None or start is None:
            return "gone", "nobody is left in it"
        unit = targets.inside(world, (pid, start))
        folder = self._folder(unit) if unit is not None else None
        if unit is None or folder is None or not targets.holds(folder, (pid, start)):
            return kill(
                pid, start, signal.SIGKILL,
                still_protected=lambda: protected(self.engine.rules, subject),
            )  # fmt: skip
        return self._kill_unit(unit)

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
        if not self.cgroups.v2:
            self.answer(order, "failed", "a cgroup of version 1 has no MemoryHigh")
            return
        policy = self.engine.rules.policy(order.policy)
        self.throttles.throttle(order, unit, policy.cooldown_s if policy else CHECK_S)

    def terminated(self, order: Order, told: Callable[[str | None], None]) -> None:
        """A policy's SIGTERM was sent; `told` gets a sentence where its service stays down for it.

        If it does, it is started again as after the guard's, and the policy's budget pays.
        """
        unit, pid = order.subject.entity.unit, order.subject.entity.pid
        if unit is None or pid is None or not unit.endswith(".service") or never(unit) is not None:
            told(None)
            return
        one = unit, pid, order.incident, order.policy
        if not self.owe(*one):
            self.owing = [*self.owing, one][-OWED_MAX:]

        def asked() -> None:
            told(self.comebacks.stays_down(unit, pid))

        if self.engine.pressed or not self.comebacks.ask([unit], asked):
            asked()

    # ---- wishes of the guard -----------------------------------------------------------------

    def look_ahead(self) -> None:
        """Memory is near the mark: ask who of the largest stays down if the guard ends it."""
        up = self.clock.boottime()
        if self.engine.pressed or up < self.ahead_from:
            return
        rows = heapq.nlargest(AHEAD_MAX, self.engine.world.rows.values(), key=lambda row: row[RSS])
        units = {row[UNIT]: None for row in rows if row[UNIT] is not None}
        if self.comebacks.ask(units, lambda: None):
            self.ahead_from = up + AHEAD_EVERY_S

    def left_down(self, kind: str, body: Mapping[str, Any]) -> str | None:
        """A sentence where a report of the guard is of a SIGTERM that leaves a service down."""
        if (kind, body.get("do"), body.get("outcome")) != ("guard.action", "terminate", "done"):
            return None
        return self.comebacks.stays_down(body.get("unit"), body.get("pid"))

    def stop_unit(self, entity: str, folder: str, incident: str) -> None:
        """Its processes, which were in `folder`, were ended; now it is to stay down."""

        def done(outcome: str, said: str) -> None:
            self._guard_said(entity, "stop-unit", incident, outcome, (said,), {})

        base = self.cgroups.base or ""
        self.units.stop(Unit(entity, (), folder.removeprefix(base)), done)

    def revive(
        self, unit: str, pid: int, incident: str, policy: str, may: bool, over: Callable[[], None]
    ) -> None:
        """Start a service again that stays down because of a SIGTERM of ours; then `over`.

        Where it was a policy's ("": the guard's), that one's budget counts in place of `may`.
        Nothing is done while memory is short again, nor for some minutes while it is still ending:
        the guard asks until it is over.
        """
        if policy:
            ruled = self.engine.rules.policy(policy)
            left = 1 if ruled is None else self.engine.decider.ledger.left(ruled)
            may = left > 0
            if may and ruled is not None and left <= list(self.asking.values()).count(policy):
                return  # what is under way may need all that is left
        one, up = (unit, pid), self.clock.boottime()
        if self.engine.pressed or one in self.asking:
            return
        since = self.revivals.setdefault(one, up)

        def done(outcome: str, said: str) -> None:
            del self.asking[one]
            if outcome == "ending" and self.clock.boottime() - since < REVIVE_MOST_S:
                return
            self.revivals.pop(one, None)
            if outcome == "done" and not policy:
                self.spend()
            if outcome in ("changed", "ending"):  # it is up, or was not its service
                pass
            elif policy:
                entity = Entity(unit=unit)._asdict()
                body = {**entity, "policy": policy, "do": "revive", "mode": "enforce",
                        "target": entity, "incident": incident, "outcome": outcome,
                        "restarts": False}  # fmt: skip
                self._say("policy.action", f"{incident}-revive-{unit}", (said,), body)
            else:
                self._guard_said(unit, "revive", incident, outcome, (said,), {"restarts": False})
            over()

        self.asking[one] = policy
        self.units.revive(Unit(unit), pid, done, may=may, of_policy=bool(policy))

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

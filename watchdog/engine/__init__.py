"""Pure: the one composition. Facts in, events and orders out, live and replayed alike.

history remembers, judge decides what is true, policy decides what is to be done about it. This
room only lets them meet: it knows the order in which a fact passes through them.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from watchdog.engine.leaks import LEAST_KIB, Leaks
from watchdog.engine.resume import Resume
from watchdog.facts import (
    CgroupKills,
    DossierRow,
    Earlier,
    Entity,
    EntityRecord,
    Event,
    Fact,
    Group,
    Host,
    Ident,
    KernelLine,
    LogState,
    Look,
    Looked,
    Memfds,
    Muted,
    Order,
    Outcome,
    Parts,
    Said,
    Subject,
    Sweep,
    Tick,
    Who,
)
from watchdog.history.world import Closed, World, placed
from watchdog.judge import shared
from watchdog.judge.exhaustion import Exhaustion
from watchdog.judge.kills import Kills
from watchdog.judge.proven import Levels
from watchdog.judge.telling import Telling
from watchdog.policy import view
from watchdog.policy.decide import Decider
from watchdog.policy.rules import Rules
from watchdog.policy.target import SIGNALLED

PENDING_ORDERS_MAX = 1000
# What comes out: what is to be told, what is to be done, what is to be looked at.
Out = Event | Order | Look
JUDGED_EVERY_S = 0.25
US = "oom-watchdog"  # in `killed_by`
# A cgroup that no census has read for this long is gone.
GROUP_UNSEEN_S = 180.0


class Engine:
    """See `feed`. One engine is one boot of one machine (a new boot id starts afresh)."""

    def __init__(self, rules: Rules, host: str | None, kept: dict[str, Any] | None = None) -> None:
        self.rules = rules
        self.host = host
        self.world = World()
        self.world.least_kib = LEAST_KIB
        self.levels = Levels()
        self.kills = Kills(self.world)
        self.exhaustion = Exhaustion(self.world)
        self.leaks = Leaks(self.world, self._event)
        self.series = self.leaks.series
        self.resume = Resume(self.world, self.leaks, self.exhaustion)
        self.decider = Decider(rules, kept)
        self.sparing = view.Spared(rules)
        self.unseen_s = view.unseen_s(rules.watch.interval_s)
        self.healthy = True
        self.was_short = False  # at some time since the last sweep
        self.judged: Host | None = None  # the reading that health was last judged from
        self.pressed: bool | None = None  # the guard's word; None in a trace without it
        self.pending: dict[str, Order] = {}

    def set_rules(self, rules: Rules) -> None:
        """Go on under other rules; what is remembered stays, cooldowns and budgets too."""
        before = self.decider
        self.decider = Decider(rules, before.kept())
        self.decider.mutes, self.decider.granted = before.mutes, before.granted
        self.sparing = view.Spared(rules)
        self.unseen_s = view.unseen_s(rules.watch.interval_s)
        self.rules = rules

    def grant(self, may_enforce: bool) -> None:
        """Without the right to it policies that enforce only say what they would do."""
        self.decider.granted = may_enforce

    def feed(self, fact: Fact) -> list[Out]:
        """Take one fact; what is to be told, done and looked at, in that order."""
        if isinstance(fact, Sweep):
            return self._sweep(fact)
        if isinstance(fact, Host):
            return self._host(fact)
        if isinstance(fact, Group):
            return self._group(fact)
        if isinstance(fact, Who):
            self.world.take_who(fact)
            self.leaks.filling.take(fact)
            return []
        if isinstance(fact, Memfds):
            self.world.take_shared(shared.attribute(self.world, fact))
            return []
        if isinstance(fact, KernelLine):
            return [
                *self._told(self.kills.line(fact)),
                *self._exhausted(self.exhaustion.refusals.line(fact)),
            ]
        if isinstance(fact, Tick):
            refused = self._exhausted(self.exhaustion.refusals.tick(fact.t, fact.up))
            return [*self._told(self.kills.tick(fact.t, fact.up)), *refused]
        if isinstance(fact, Outcome):
            return self._outcome(fact)
        if isinstance(fact, Said):
            return self._said(fact)
        if isinstance(fact, Muted):
            self.decider.mutes = fact.rows
            return []
        if isinstance(fact, Parts):
            return self._told(self.leaks.looking.take(fact))
        return self._of_kills(fact)

    def went(self, idents: Iterable[Ident], t: float, up: float | None) -> list[Out]:
        """Processes of which it is known, without a census, that they are gone."""
        here = [one for one in idents if self.world.present.get(one) is not None]
        now = t if up is None else up
        return [*self.leaks.ended(here, Sweep(t, up, (), census=False), now)]

    def is_muted(self, entity: Entity) -> bool:
        """Has somebody asked not to be told of it?"""
        host = self.world.host
        key = f"unit:{entity.unit}" if entity.pid is None else f"{entity.pid}:{entity.start}"
        subject = Subject(key, entity, is_unit=entity.pid is None)
        return self.decider.muted(subject, host.t if host else 0.0) is not None

    def finish(self) -> list[Out]:
        """The recording ends: tell the report that was still open."""
        return [*self._told(self.kills.flush()), *self._exhausted(self.exhaustion.refusals.flush())]

    def settle(self) -> list[Out]:
        """The daemon stops: tell the report whose kill line was seen."""
        return [
            *self._told(self.kills.settle()),
            *self._exhausted(self.exhaustion.refusals.flush()),
        ]

    @property
    def boot_id(self) -> str | None:
        """The boot that runs; None before it is known."""
        return self.kills.boot_id

    @boot_id.setter
    def boot_id(self, boot_id: str | None) -> None:
        self.kills.boot_id = boot_id

    @property
    def idle(self) -> bool:
        """Whether no report of the kernel log is open."""
        return self.kills.oom.idle

    # ---- facts -------------------------------------------------------------------------------

    def _host(self, host: Host) -> list[Out]:
        if host.boot_id is not None:
            self.boot_id = host.boot_id
        self.world.take_host(host)
        before, self.judged = self.judged, self.judged or host
        if before and host.up is not None and before.up is not None:
            passed_us = (host.up - before.up) * 1e6
            if 0 <= passed_us < JUDGED_EVERY_S * 1e6:
                before = None  # read for its counter's sake: too short a time to tell a stall
        if before:
            self.judged = host
        if before and host.up is not None and before.up is not None and host.mem_available:
            full = (host.psi_full_us or 0) - (before.psi_full_us or 0)
            stalled = passed_us > 0 and full / passed_us >= 0.05
            total = host.mem_total or 0
            mark = min(2 * self.rules.guard.available_below.of(total), total // 2)
            self.healthy = host.mem_available + (host.arc or 0) > mark and not stalled
        return [*self._told(self.kills.host(host)), *self._exhausted(self.exhaustion.host(host))]

    def _of_kills(self, fact: CgroupKills | LogState | Earlier | Looked) -> list[Out]:
        if isinstance(fact, Looked):
            return self._told(self.kills.looked(fact))
        if isinstance(fact, CgroupKills):
            self.kills.scanned(fact)
        elif isinstance(fact, LogState):
            self.kills.log(fact)
        else:
            self.kills.earlier(fact)
        return []

    def _group(self, group: Group) -> list[Out]:
        group = placed(group)
        self.kills.group(group, self.world.groups.get(group.cgroup or ""))
        # No sweep came since it was last due: a recording of units alone.
        out: list[Out] = [*self.leaks.units()] if group.unit in self.leaks.units_due else []
        out += self._exhausted(self.exhaustion.limits.group(group))
        closed = self.world.take_group(group)
        self.series.group(group)
        if group.unit is not None:
            self.leaks.unit(group.unit, group, self.resume.unit(group.unit, closed))
        return out

    def _sweep(self, sweep: Sweep) -> list[Out]:
        world, leaks = self.world, self.leaks
        now = sweep.t if sweep.up is None else sweep.up
        out = self._told(self.kills.tick(sweep.t, sweep.up))
        closed, gone = world.take_sweep(sweep)
        if leaks.waiting:
            closed = self._resumed(sweep, closed)
        calm = self.healthy and not self.pressed
        out += leaks.step(closed, sweep, now, self.healthy, calm)
        out += leaks.ended(gone, sweep, now)
        if sweep.census:
            out += leaks.lost(sweep, now)
            for group, levels in world.add_up(sweep.t, sweep.up):
                self.series.group(group)
                if group.unit:
                    leaks.unit(group.unit, group, self.resume.unit(group.unit, levels))
        self.series.machine(sweep.t, now)
        out += leaks.units()
        self.levels.step(world, sweep, leaks.suspects, self.healthy and not self.was_short)
        self.was_short = bool(self.pressed)
        if sweep.census:
            went = [world.gone[pid] for pid, _ in gone if pid in world.gone]
            out += self._told(self.kills.census(went, sweep.t, sweep.up))
            out += self._forget(sweep.t, sweep.up, now)
        return out if sweep.inputs else out + self._decide(sweep.t, sweep.up)

    def _resumed(self, sweep: Sweep, closed: list[Closed]) -> list[Closed]:
        """Who closed buckets now, with those that a kept trend left open."""
        resumed = self.resume.processes(sweep)
        for process, _ in resumed:
            self.leaks.resumed(process)
        known = {process for process, _ in resumed}
        fresh = [one for one in closed if one[0] not in known]
        return fresh + [one for one in resumed if one[1]]

    def _said(self, said: Said) -> list[Out]:
        if said.kind in ("pressure.begun", "pressure.lasts", "pressure.ended"):
            self.pressed = said.kind != "pressure.ended"
            self.was_short = True  # whoever fell since the last sweep may have been made to
        if said.kind == "pressure.lasts":
            return []  # it was told when it began
        body = said.body
        if said.kind == "guard.action":
            done = body.get("outcome") == "done"
            victim = body.get("victim")
            if done and isinstance(victim, Mapping) and victim.get("pid") is not None:
                self.kills.ours(victim["pid"], said.t if said.up is None else said.up)
            body = {**body, "killed_by": US if done else None}
        elif (body.get("do"), body.get("outcome")) == ("throttle", "failed"):  # it was lifted
            self.decider.changed |= self.decider.ledger.moves_on(str(body.get("incident")))
        elif body.get("do") == "revive" and body.get("outcome") == "done":
            policy = self.rules.policy(str(body.get("policy")))
            if policy is not None:
                self.decider.ledger.pay(policy, said.t)
                self.decider.changed = True
        return [self._event(said.kind, said.identity, said.t, said.up, said.because, body)]

    # ---- policies ----------------------------------------------------------------------------

    def _decide(self, t: float, up: float | None) -> list[Out]:
        if not self.rules.policies:
            return []
        now = t if up is None else up
        world, killed, decider = self.world, self.kills.oom_killed, self.decider
        counted = world.host is not None and world.host.oom_kill is not None
        near = decider.of_interest(self.pressed, counted)
        known = (world, killed, self.exhaustion, now)
        subjects = view.subjects(*known, near, decider.held(), self.unseen_s)
        orders = decider.step(
            t, up, self.boot_id, self.pressed, subjects,
            lambda: view.subjects(*known, unseen_s=self.unseen_s),
        )  # fmt: skip
        out: list[Out] = []
        for order in orders:
            if order.outcome is not None:
                out.append(self._action(order, order.outcome, "", t, up))
            elif len(self.pending) < PENDING_ORDERS_MAX:
                self.pending[order.id] = order
                out.append(order)
        return out

    def _outcome(self, outcome: Outcome) -> list[Out]:
        order = self.pending.pop(outcome.order_id, None)
        if order is None:
            return []
        again = self.decider.settle(order, outcome.outcome)
        detail = "; ".join(one for one in (outcome.detail, again) if one)
        pid = order.subject.entity.pid
        if pid is not None and order.do in SIGNALLED and outcome.outcome == "done":
            self.kills.ours(pid, outcome.t if outcome.up is None else outcome.up)
        event = self._action(order, outcome.outcome, detail, outcome.t, outcome.up)
        if outcome.restarts is False:
            event = event._replace(body={**event.body, "restarts": False})
        return [event]

    def begun(self, order: Order, t: float, up: float | None) -> dict[str, Any]:
        """The event that will tell of the order, before its end: all but the outcome (None)."""
        return self._action(order, "done", "", t, up).flat() | {"outcome": None}

    def _action(self, order: Order, outcome: str, detail: str, t: float, up: float | None) -> Event:
        entity = order.subject.entity
        body = {
            **entity._asdict(),
            "policy": order.policy, "do": order.do, "mode": order.mode,
            "target": entity._asdict(), "incident": order.incident, "outcome": outcome,
            "killed_by": US if outcome == "done" and order.do in SIGNALLED else None,
        }  # fmt: skip
        because = order.because + ((detail,) if detail else ())
        return self._event("policy.action", order.id, t, up, because, body, order.cause)

    # ---- what others ask of it ---------------------------------------------------------------

    def dossier(self) -> list[DossierRow]:
        """The guard's view, the largest first: see facts.DossierRow."""
        return view.dossier(self.world, self.rules)

    def spared(self) -> dict[Ident, str]:
        """Everybody whom the rules protect, and why: whom the dossier leaves out too."""
        return self.sparing.of(self.world)

    def dump(self, urgent: bool = False) -> list[EntityRecord]:
        """The trends worth keeping; with `urgent` only those under suspicion."""
        return list(chain.from_iterable(self.pieces(urgent)))

    def pieces(self, urgent: bool = False) -> Iterator[list[EntityRecord]]:
        """The same, a few hundred at a time; other facts may be fed in between."""
        return self.resume.pieces(self.boot_id or "", urgent)

    def load(self, records: Iterable[EntityRecord]) -> None:
        """Trends of an earlier run on this boot: each goes on when its entity is seen again."""
        self.resume.load(records)

    # ---- small ones --------------------------------------------------------------------------

    def _forget(self, t: float, up: float | None, now: float) -> list[Out]:
        before = now - GROUP_UNSEEN_S
        out: list[Out] = [*self.leaks.forget(t, before, self.resume.lost_units(before))]
        self.kills.forget(now)
        return out + self._exhausted(self.exhaustion.limits.forget(t, up, before))

    def _exhausted(self, tellings: list[Telling]) -> list[Out]:
        out: list[Out] = []
        for one in tellings:
            event = self._event(*one)
            self.exhaustion.told(one, event.id)
            out.append(event)
        return out

    def _told(self, tellings: Iterable[Telling | Look]) -> list[Out]:
        return [one if isinstance(one, Look) else self._event(*one) for one in tellings]

    def _event(
        self, kind: str, identity: str, t: float, up: float | None,
        because: tuple[str, ...], body: Mapping[str, Any], cause: str | None = None,
        boot_id: str | None = None,
    ) -> Event:  # fmt: skip
        boot = boot_id or self.boot_id
        event_id = f"{kind}-{(boot or 'unknown')[:8]}-{identity}"
        return Event(kind, event_id, cause, t, up, boot, self.host, because, body)

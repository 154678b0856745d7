"""Pure: the one composition. Facts in, events and orders out, live and replayed alike.

history remembers, judge decides what is true, policy decides what is to be done about it. This
room only lets them meet: it knows the order in which a fact passes through them.
"""

import copy
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from watchdog.facts import (
    COMM,
    RSS,
    UNIT,
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
)  # fmt: skip
from watchdog.history import entities, lives
from watchdog.history.entities import Trend
from watchdog.history.world import (
    GONE_MAX,
    Closed,
    Gone,
    World,
    placed,
    starts_over,
    used_bytes,
)  # fmt: skip
from watchdog.judge import hidden, leak_told, shared, stage
from watchdog.judge.exhaustion import Exhaustion
from watchdog.judge.filling import Filling
from watchdog.judge.kills import Kills
from watchdog.judge.leak import GATES
from watchdog.judge.looking import Looking
from watchdog.judge.proven import Levels, prove
from watchdog.judge.series import KEY as PART
from watchdog.judge.series import Series
from watchdog.judge.telling import Telling
from watchdog.policy import view
from watchdog.policy.decide import SIGNALLED, Decider
from watchdog.policy.rules import Rules

PENDING_ORDERS_MAX = 1000
# What comes out: what is to be told, what is to be done, what is to be looked at.
Out = Event | Order | Look
JUDGED_EVERY_S = 0.25
US = "oom-watchdog"  # in `killed_by`
# Who holds less begins anew after a restart; most processes of a server hold less, and writing all
# of them every five minutes would be most of what we write.
KEPT_LEAST_KIB = 1024
EXHAUSTION = "exhaustion:"  # the key of its state among the records
# Who rose by less is not worth a look at any level.
LEAST_KIB = min(gate.least_kib for gate in GATES)
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
        self.looking = Looking(self.world)
        self.series = Series(self.world)
        self.filling = Filling(self.world)
        self.decider = Decider(rules, kept)
        self.healthy = True
        self.judged: Host | None = None  # the reading that health was last judged from
        self.pressed: bool | None = None  # the guard's word; None in a trace without it
        self.pending: dict[str, Order] = {}
        self.waiting: dict[Ident, EntityRecord] = {}
        self.waiting_units: dict[str, EntityRecord] = {}
        self.units_due: dict[str, tuple[Group, list[int]]] = {}
        self.suspects: set[Ident] = set()  # processes whose trend has a stage or a rate

    def set_rules(self, rules: Rules) -> None:
        """Go on under other rules; what is remembered stays, cooldowns and budgets too."""
        mutes = self.decider.mutes
        self.decider = Decider(rules, self.decider.kept())
        self.decider.mutes = mutes
        self.rules = rules

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
            self.filling.take(fact)
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
            return self._told(self.looking.take(fact))
        return self._of_kills(fact)

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
            mark = 0.10 * (host.mem_total or 0)  # twice the shipped guard mark
            self.healthy = host.mem_available > mark and not stalled
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
        out = self._units() if group.unit in self.units_due else []
        out += self._exhausted(self.exhaustion.limits.group(group))
        closed = self.world.take_group(group)
        self.series.group(group)
        if group.unit is None:
            return out
        closed = self._resume_unit(group.unit, closed)
        if closed:
            self.units_due[group.unit] = (group, closed)
        return out

    def _resume_unit(self, unit: str, closed: list[int]) -> list[int]:
        record = self.waiting_units.pop(unit, None)
        if record is None:
            return closed
        trend, closed = self._resume(record, self.world.unit_trends[unit])
        self.world.unit_trends[unit] = trend
        return closed

    def _units(self) -> list[Out]:
        """Judge the units that closed a bucket; after their processes, which are named first.

        Then what no process owns.
        """
        if not self.units_due and not self.series.due:
            return []
        world = self.world
        named = {
            world.rows[ident][UNIT] for ident in self.suspects
            if world.trends[ident].stage != "none"
        }  # fmt: skip
        out: list[Out] = []
        rates = self._rates()
        for unit, (group, closed) in sorted(self.units_due.items()):
            trend = world.unit_trends[unit]
            if lives.OBSERVED in closed:
                suspected = unit in named or trend.open
                world.programs.observe((unit, ""), group.t, trend.kib, suspected)
            if trend.stage == "none" and (unit in named or self.series.named(unit)):
                continue  # who is named already speaks for the unit
            ending = self._ending(group.cgroup, trend, rates)
            if self.filling.unit(unit):
                ending = stage.Ending(None, "")
            change = stage.step(trend, closed, trend.last_up - trend.first_up, ending)
            key, entity = f"unit:{unit}", Entity(unit=unit)
            part = "anon"
            if change and change.found:
                part = self.series.part_of(unit, change.found.growth)
                change = change._replace(because=change.because + self.series.said_of(part))
            out += self._leak(change, trend, key, entity, used_bytes(group), group.t, part)
            if trend.stage != "none":
                self.looking.unit(unit, trend, group)
        self.units_due.clear()
        for found in self.series.step(lambda cgroup, trend: self._ending(cgroup, trend, rates)):
            name, trend = found.name, found.trend
            out += self._leak(
                found.change, trend, found.identity, found.entity, trend.kib << 10, trend.last_t,
                name.part,
            )  # fmt: skip
        return out

    def _sweep(self, sweep: Sweep) -> list[Out]:
        world = self.world
        now = sweep.t if sweep.up is None else sweep.up
        out = self._told(self.kills.tick(sweep.t, sweep.up))
        closed, gone = world.take_sweep(sweep)
        if self.waiting:
            closed, ended = self._resume_all(sweep, now, closed)
            out += ended
        rates = self._rates()  # for all of this sweep, so that their order does not matter
        for ident, trend, levels in sorted(self._worth_a_look(closed, sweep.t), key=_by_ident):
            ending = self._ending(world.cgroup(ident), trend, rates)
            if self.filling.below(ident, trend.kib):
                ending = stage.Ending(None, "")
            change = stage.step(trend, levels, world.age_s(ident, now), ending)
            if trend.stage != "none" or trend.rate > 0:
                self.suspects.add(ident)
            else:
                self.suspects.discard(ident)
            if lives.OBSERVED in levels:
                self._observe(ident, trend, sweep.t)
            if change:
                row = world.rows[ident]
                out += self._leak(
                    change, trend, f"{ident[0]}-{ident[1]}", world.entity(ident), row[RSS], sweep.t
                )
            if trend.stage != "none":
                calm = self.healthy and not self.pressed
                out += self.looking.step(ident, trend, sweep.t, calm)
        for ident in sorted(gone, key=lambda one: (one[1], world.trends[one].kib)):
            trend, entity = world.trends[ident], world.entity(ident)
            out += self._life_over(ident, trend, entity, sweep)
            world.forget(ident, sweep.t, now)
            self.suspects.discard(ident)
            self.filling.forget(ident)
            if trend.open:
                # What was known of it stays as it was: a line about its end may still come.
                trend = copy.copy(trend)
                key = f"{ident[0]}-{ident[1]}"
                change = stage.clear(trend, "the process is gone")
                out += self._leak(change, trend, key, entity, None, sweep.t)
        if sweep.census:
            for group, levels in world.add_up(sweep.t, sweep.up):
                self.series.group(group)
                if group.unit and (found := self._resume_unit(group.unit, levels)):
                    self.units_due[group.unit] = (group, found)
        self.series.machine(sweep.t, now)
        out += self._units()
        self.levels.step(world, sweep, self.suspects, self.healthy)
        if sweep.census:
            went = [world.gone[pid] for pid, _ in gone if pid in world.gone]
            out += self._told(self.kills.census(went, sweep.t, sweep.up))
            out += self._forget(sweep.t, sweep.up, now)
        return out + self._decide(sweep.t, sweep.up)

    def _said(self, said: Said) -> list[Out]:
        if said.kind in ("pressure.begun", "pressure.ended"):
            self.pressed = said.kind == "pressure.begun"
        body = said.body
        if said.kind == "guard.action":
            done = body.get("outcome") == "done"
            victim = body.get("victim")
            if done and isinstance(victim, Mapping) and victim.get("pid") is not None:
                self.kills.ours(victim["pid"], said.t if said.up is None else said.up)
            body = {**body, "killed_by": US if done else None}
        return [self._event(said.kind, said.identity, said.t, said.up, said.because, body)]

    # ---- leaks -------------------------------------------------------------------------------

    def _rates(self) -> float:
        """Bytes a second of all who are seen to grow, whatever their order."""
        trends = self.world.trends
        grow = math.fsum(trends[ident].rate for ident in self.suspects)
        return grow + self.series.rate()

    def _worth_a_look(self, closed: list[Closed], t: float) -> Iterator[Closed]:
        """Who may have a change of stage: most have not risen, and are passed over here."""
        healthy = self.healthy
        for one in closed:
            ident, trend, levels = one
            if trend.kib > trend.proven_kib:
                prove(trend, levels, healthy)
            if trend.open or any(trend.passes) or trend.rises(levels, LEAST_KIB):
                yield one
            elif lives.OBSERVED in levels:
                self._observe(ident, trend, t)

    def _observe(self, ident: Ident, trend: Trend, t: float) -> None:
        if trend.kib >= lives.LEAST_KIB:
            programs, suspected = self.world.programs, trend.open
            programs.observe(self.world.program(ident), t, trend.kib, suspected)

    def _ending(self, cgroup: str | None, trend: Trend, rates: float) -> stage.Ending:
        left = self.world.headroom(cgroup, trend.rate, rates)
        return stage.Ending(left.bytes, left.of) if left else stage.Ending(None, "")

    def _leak(
        self, change: stage.Change | None, trend: Trend, identity: str, entity: Entity,
        resident: int | None, t: float, part: str = "anon",
    ) -> list[Out]:  # fmt: skip
        if change is None:
            return []
        if change.found is not None and part == "anon":
            ident = (entity.pid, entity.start or 0) if entity.pid is not None else None
            known = self.world.lives(ident) if ident else self.world.programs.of(entity.unit, None)
            found = hidden.with_lives(change.found, known, trend.kib)
            more = found.because[len(change.found.because) :]
            change = change._replace(found=found, because=change.because + more)
            trend.verdict = found
        body = leak_told.body(change, trend, entity, resident, part)
        up = None if self.world.host is not None and self.world.host.up is None else trend.last_up
        event = self._event(
            change.kind, f"{identity}-{trend.episode}", t, up, change.because, body, trend.event
        )
        ident = None if entity.pid is None else (entity.pid, entity.start or 0)
        if change.kind == "leak.confirmed":
            hints = self.looking.confirmed(ident, entity.unit, trend, event.id)
            event = event._replace(
                because=change.because + (hints.because if hints else ()),
                body=body | {"hints": hints.body if hints else None},
            )
        elif change.kind == "leak.cleared":
            why = self.looking.plateau(ident, trend)
            event = event._replace(because=change.because + why)
            self.looking.forget(ident, entity.unit)
        trend.event = None if change.kind == "leak.cleared" else event.id
        return [event]

    def _life_over(self, ident: Ident, trend: Trend, entity: Entity, sweep: Sweep) -> list[Out]:
        """A process is gone: what its program's last lives have in common."""
        program = self.world.program(ident)
        if not self.world.life_over(ident):
            return []
        return self._lived(program, trend, entity, sweep.t, sweep.up)

    def _lived(
        self, program: lives.Program, trend: Trend, entity: Entity, t: float, up: float | None
    ) -> list[Out]:
        unit = self.world.unit_trends.get(program[0])
        named = trend.stage != "none" or (unit is not None and unit.stage != "none")
        programs = self.world.programs
        out: list[Out] = []
        for one in hidden.life_over(programs, program, entity, named, t, up):
            event = self._event(*one)
            hidden.told(programs, program, event.kind, event.id)
            out.append(event)
        return out

    # ---- policies ----------------------------------------------------------------------------

    def _decide(self, t: float, up: float | None) -> list[Out]:
        if not self.rules.policies:
            return []
        now = t if up is None else up
        world, killed, decider = self.world, self.kills.oom_killed, self.decider
        counted = world.host is not None and world.host.oom_kill is not None
        near = decider.of_interest(self.pressed, counted)
        subjects = view.subjects(world, killed, self.exhaustion, now, near, decider.held())
        orders = decider.step(
            t, up, self.boot_id, self.pressed, subjects,
            lambda: view.subjects(world, killed, self.exhaustion, now),
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
        self.decider.settle(order, outcome.outcome)
        pid = order.subject.entity.pid
        if pid is not None and order.do in SIGNALLED and outcome.outcome == "done":
            self.kills.ours(pid, outcome.t if outcome.up is None else outcome.up)
        return [self._action(order, outcome.outcome, outcome.detail, outcome.t, outcome.up)]

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

    def dump(self, urgent: bool = False) -> list[EntityRecord]:
        """The trends worth keeping; with `urgent` only those under suspicion."""
        boot = self.boot_id or ""
        world = self.world

        def kept(trend: Trend) -> bool:
            return trend.stage != "none" or (not urgent and trend.kib >= KEPT_LEAST_KIB)

        found = [
            trend.dump(
                f"{ident[0]}:{ident[1]}", boot, row[COMM], row[UNIT],
                world.program(ident)[1] if world.serves(ident) else None,
            )
            for ident, row in world.rows.items()
            if kept(trend := world.trends[ident])
        ]  # fmt: skip
        found += [
            trend.dump(f"unit:{unit}", boot, None, unit)
            for unit, trend in world.unit_trends.items()
            if kept(trend)
        ]
        return found + self._dump_rest(urgent)

    def _dump_rest(self, urgent: bool) -> list[EntityRecord]:
        found = [] if urgent else self.world.programs.dump()
        found += self.series.dump(self.boot_id or "", urgent)
        host = self.world.host
        if host is not None and (self.exhaustion.open or not urgent):
            blob = json.dumps(self.exhaustion.kept(), separators=(",", ":")).encode()
            found.append(EntityRecord(EXHAUSTION, self.boot_id or "", host.t, host.t, 0, blob))
        return found

    def load(self, records: Iterable[EntityRecord]) -> None:
        """Trends of an earlier run on this boot: each goes on when its entity is seen again."""
        for record in records:
            head, _, tail = record.key.partition(":")
            if record.key == EXHAUSTION:
                self._resume_exhaustion(record)
            elif record.key.startswith(PART):
                self.series.load(record)
            elif head == "life":
                self.world.programs.load(record)
            elif head == "unit":
                self.waiting_units[tail] = record
            elif head.isdigit() and tail.isdigit():
                self.waiting[(int(head), int(tail))] = record

    def _resume_exhaustion(self, record: EntityRecord) -> None:
        try:
            kept = json.loads(record.blob)
        except ValueError:
            return
        if isinstance(kept, dict):
            self.exhaustion.take(kept)

    def _resume_all(
        self, sweep: Sweep, now: float, closed: list[Closed]
    ) -> tuple[list[Closed], list[Out]]:
        """Hand the kept trends to who is still there; after a census the rest are gone.

        (Who closed buckets now, with those that a kept trend left open; whose suspicion has ended.)
        """
        out: list[Out] = []
        resumed: dict[Ident, Closed] = {}
        for row in sweep.rows:
            ident = (row[0], row[1])
            record = self.waiting.pop(ident, None)
            if record:
                trend, levels = self._resume(record, self.world.trends[ident], row[COMM])
                trend = self.world.resume(ident, trend)
                resumed[ident] = (ident, trend, levels)
                if trend.stage != "none":
                    self.suspects.add(ident)
        if sweep.census:
            out = self._remember_dead(sweep, now)
            self.waiting.clear()
        fresh = [one for one in closed if one[0] not in resumed]
        return fresh + [one for one in resumed.values() if one[2]], out

    def _remember_dead(self, sweep: Sweep, now: float) -> list[Out]:
        """Who went while nobody looked: lines about their end may be read just now."""
        out: list[Out] = []
        t = sweep.t
        dead = sorted(self.waiting.items(), key=lambda item: (-item[1].size_bytes, item[0][1]))
        for ident, record in dead[:GONE_MAX]:
            trend = entities.load(record)
            if trend is not None:
                comm, unit = entities.names(record)
                entity, seen = Entity(*ident, comm, unit=unit), (trend.last_t, trend.last_up)
                self.world.remember(Gone(entity, record.size_bytes, None, trend, t, now, *seen))
                ran = entities.program(record)
                if ran is not None and self.world.lived((unit or "", ran), None, ident, trend):
                    out += self._lived((unit or "", ran), trend, entity, t, sweep.up)
                if trend.open:
                    key = f"{ident[0]}-{ident[1]}"
                    trend = copy.copy(trend)
                    change = stage.clear(trend, "the process is gone")
                    out += self._leak(change, trend, key, entity, None, t)
        return out

    def _resume(
        self, record: EntityRecord, fresh: Trend, comm: str | None = None
    ) -> tuple[Trend, list[int]]:
        """The kept trend with what was just seen, and the levels that closed a bucket by it.

        `comm` is the name of a process now: an exec while nobody looked is one as well.
        """
        kept = entities.load(record)
        if kept is None:
            return fresh, []
        if comm is not None and fresh.kib * 2 < kept.kib:
            before = entities.names(record)[0]
            if starts_over(kept, fresh.kib, before is not None and before != comm):
                fresh.episode = kept.episode
                return fresh, []
        closed = kept.add(fresh.last_t, fresh.last_up, fresh.kib)
        self.world.since_t = min(kept.first_t, self.world.since_t or kept.first_t)
        return kept, closed

    def _forget(self, t: float, up: float | None, now: float) -> list[Out]:
        out: list[Out] = []
        before = now - GROUP_UNSEEN_S
        for unit, trend in self.world.forget_groups(before):
            if trend.open:
                change = stage.clear(trend, "the unit is gone")
                out += self._leak(change, trend, f"unit:{unit}", Entity(unit=unit), None, t)
        for found in self.series.forget(before):
            out += self._leak(
                found.change, found.trend, found.identity, found.entity, None, t, found.name.part
            )
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


def _by_ident(one: Closed) -> Ident:
    return one[0]

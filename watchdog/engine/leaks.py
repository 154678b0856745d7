"""Pure: what grows. Trends of processes, units and the machine are judged, named and told."""

import math
from collections.abc import Callable, Iterator

from watchdog.facts import RSS, UNIT, Entity, Event, Group, Ident, Look, Sweep
from watchdog.history import lives
from watchdog.history.entities import NO_PASSES, NO_RING, STILL_CLOSES, Trend
from watchdog.history.headroom import headroom
from watchdog.history.present import Process
from watchdog.history.records import Kept
from watchdog.history.ring import Closes
from watchdog.history.world import GONE_MAX, Closed, Gone, World, used_bytes
from watchdog.judge import hidden, leak_told, stage
from watchdog.judge.filling import Filling
from watchdog.judge.looking import Looking
from watchdog.judge.proven import prove
from watchdog.judge.rise import GATES
from watchdog.judge.series import Series

# Who rose by less is not worth a look at any level.
LEAST_KIB = min(gate.least_kib for gate in GATES)
Told = list[Event | Look]


class Leaks:
    """One machine's trends under judgement; `event` makes an event of its parts (see Engine)."""

    def __init__(self, world: World, event: Callable[..., Event]) -> None:
        self.world = world
        self.event = event
        self.looking = Looking(world)
        self.series = Series(world)
        self.filling = Filling(world)
        self.units_due: dict[str, tuple[Group, Closes]] = {}
        self.suspects: set[Ident] = set()  # processes whose trend has a stage or a rate
        self.waiting: dict[Ident, Kept] = {}  # of an earlier run, not seen again yet

    # ---- processes ---------------------------------------------------------------------------

    def step(
        self, closed: list[Closed], sweep: Sweep, now: float, healthy: bool, calm: bool
    ) -> Told:
        """Judge who closed buckets; `calm`: there is time for a closer look."""
        world = self.world
        out: Told = []
        rates = self._rates()  # for all of this sweep, so that their order does not matter
        for held in world.held:
            prove(held, STILL_CLOSES, healthy)
            self._observe(held.ident, held, sweep.t)
        worth = self._worth_a_look(closed, sweep.t, healthy)
        for trend, levels in sorted(worth, key=_by_ident):
            ident = trend.ident
            rises = stage.look(trend, levels)
            ending = stage.Ending(None, "")
            if rises and not self.filling.below(ident, trend.kib):
                ending = self._ending(world.cgroup(ident), trend, rates)
            change = stage.step(trend, levels, world.age_s(ident, now), ending, rises)
            if trend.stage != "none" or trend.rate > 0:
                self.suspects.add(ident)
            else:
                self.suspects.discard(ident)
            if lives.OBSERVED in levels:
                self._observe(ident, trend, sweep.t)
            if change:
                entity, resident = world.entity(ident), world.rows[ident][RSS]
                out += self._leak(change, trend, _key(ident), entity, resident, sweep.t)
            if trend.stage != "none":
                out += self.looking.step(ident, trend, sweep.t, calm)
        return out

    def ended(self, gone: list[Ident], sweep: Sweep, now: float) -> Told:
        """Processes that a census no longer found."""
        world = self.world
        out: Told = []
        for ident in sorted(gone, key=lambda one: (one[1], world.trends[one].kib)):
            trend, entity = world.trends[ident], world.entity(ident)
            program = world.program(ident)
            if world.life_over(ident):
                out += self._lived(program, trend, entity, sweep.t, sweep.up)
            world.forget(ident, sweep.t, now)
            self.suspects.discard(ident)
            self.filling.forget(ident)
            out += self._gone(ident, trend, entity, sweep.t)
        return out

    def resumed(self, process: Process) -> None:
        """A trend of an earlier run goes on."""
        if process.stage != "none" or process.rate > 0:
            self.suspects.add(process.ident)

    def lost(self, sweep: Sweep, now: float) -> Told:
        """Who went while nobody looked: the largest, and all of whom something is told."""
        out: Told = []
        dead = sorted(self.waiting.items(), key=lambda item: (-item[1].trend.kib, item[0][1]))
        self.waiting.clear()
        for number, (ident, (trend, comm, unit, ran)) in enumerate(dead):
            if number >= GONE_MAX and not trend.open:
                continue
            # lines about its end may be read just now
            entity, seen = Entity(*ident, comm, unit=unit), (trend.last_t, trend.last_up)
            size = trend.kib << 10
            self.world.remember(Gone(entity, size, None, trend, sweep.t, now, *seen))
            if ran is not None and self.world.lived((unit or "", ran), None, ident, trend):
                out += self._lived((unit or "", ran), trend, entity, sweep.t, sweep.up)
            out += self._gone(ident, trend, entity, sweep.t)
        return out

    def _gone(self, ident: Ident, trend: Trend, entity: Entity, t: float) -> Told:
        if not trend.open:
            return []
        # What was known of it stays as it was: a line about its end may still come.
        trend = trend.copy()
        change = stage.clear(trend, "the process is gone")
        return self._leak(change, trend, _key(ident), entity, None, t)

    def _worth_a_look(self, closed: list[Closed], t: float, healthy: bool) -> Iterator[Closed]:
        """Who may have a change of stage: most have not risen, and are passed over here."""
        for one in closed:
            trend, levels = one
            if trend.kib > trend.proven_kib:
                prove(trend, levels, healthy)
            if (
                trend.passes is not NO_PASSES or trend.open
                or (trend.fine < NO_RING and trend.rises(levels, LEAST_KIB))
            ):  # fmt: skip
                yield one
            elif lives.OBSERVED in levels:
                self._observe(trend.ident, trend, t)

    def _observe(self, ident: Ident, trend: Trend, t: float) -> None:
        if trend.kib >= lives.LEAST_KIB:
            programs, suspected = self.world.programs, trend.open
            programs.observe(self.world.program(ident), t, trend.kib, suspected)

    def _lived(
        self, program: lives.Program, trend: Trend, entity: Entity, t: float, up: float | None
    ) -> Told:
        """A process is gone: what its program's last lives have in common."""
        unit = self.world.unit_trends.get(program[0])
        named = trend.stage != "none" or (unit is not None and unit.stage != "none")
        programs = self.world.programs
        out: Told = []
        for one in hidden.life_over(programs, program, entity, named, t, up):
            event = self.event(*one)
            hidden.told(programs, program, event.kind, event.id)
            out.append(event)
        return out

    # ---- units and the machine ---------------------------------------------------------------

    def unit(self, unit: str, group: Group, closed: Closes) -> None:
        """A unit closed buckets: judged by `units`, when its processes have been."""
        if closed:
            self.units_due[unit] = (group, closed)

    def units(self) -> Told:
        """Judge the units that are due, and then what no process owns."""
        if not self.units_due and not self.series.due:
            return []
        world = self.world
        named = {
            world.rows[ident][UNIT] for ident in self.suspects
            if world.trends[ident].stage != "none"
        }  # fmt: skip
        out: Told = []
        rates = self._rates()
        for unit, (group, closed) in sorted(self.units_due.items()):
            trend = world.unit_trends[unit]
            if lives.OBSERVED in closed:
                suspected = unit in named or trend.open
                world.programs.observe((unit, ""), group.t, trend.kib, suspected)
            if trend.stage == "none" and (unit in named or self.series.named(unit)):
                continue  # who is named already speaks for the unit
            rises = stage.look(trend, closed)
            ending = stage.Ending(None, "")
            if rises and not self.filling.unit(unit):
                ending = self._ending(group.cgroup, trend, rates)
            change = stage.step(trend, closed, trend.last_up - trend.first_up, ending, rises)
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

    def forget(self, t: float, before: float, lost: list[tuple[str, Trend]]) -> Told:
        """Cgroups not read since `before`, on the boot's clock; `lost`: since an earlier run."""
        out: Told = []
        for unit, trend in [*self.world.forget_groups(before), *lost]:
            if trend.open:
                change = stage.clear(trend, "the unit is gone")
                out += self._leak(change, trend, f"unit:{unit}", Entity(unit=unit), None, t)
        for found in self.series.forget(before):
            out += self._leak(
                found.change, found.trend, found.identity, found.entity, None, t, found.name.part
            )
        return out

    # ---- both --------------------------------------------------------------------------------

    def _rates(self) -> float:
        """Bytes a second of all who are seen to grow, whatever their order.

        Who died unseen counts until the next census, whether the daemon was restarted or not.
        """
        trends = self.world.trends
        rates = [trends[ident].rate for ident in self.suspects]
        rates += [kept.trend.rate for kept in self.waiting.values()]
        return math.fsum(rates) + self.series.rate()

    def _ending(self, cgroup: str | None, trend: Trend, rates: float) -> stage.Ending:
        left = headroom(self.world, cgroup, trend.rate, rates)
        return stage.Ending(left.bytes, left.of) if left else stage.Ending(None, "")

    def _leak(
        self, change: stage.Change | None, trend: Trend, identity: str, entity: Entity,
        resident: int | None, t: float, part: str = "anon",
    ) -> Told:  # fmt: skip
        if change is None:
            return []
        ident = None if entity.pid is None else (entity.pid, entity.start or 0)
        if ident is None:  # a unit that comes back was forgotten, and is another
            identity += f"-{int(trend.first_up)}"
        if change.found is not None and part == "anon":
            known = self.world.lives(ident) if ident else self.world.programs.of(entity.unit, None)
            found = hidden.with_lives(change.found, known, trend.kib)
            more = found.because[len(change.found.because) :]
            change = change._replace(found=found, because=change.because + more)
            trend.verdict = found
        body = leak_told.body(change, trend, entity, resident, part)
        up = None if self.world.host is not None and self.world.host.up is None else trend.last_up
        event = self.event(
            change.kind, f"{identity}-{trend.episode}", t, up, change.because, body, trend.event
        )
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


def _by_ident(one: Closed) -> Ident:
    return one[0].ident


def _key(ident: Ident) -> str:
    return f"{ident[0]}-{ident[1]}"

"""Pure: when to look at the parts of who is suspected, and what the looks say once it is confirmed.

The first look is asked for at the suspicion, the second when it has grown by a visible part since,
or is confirmed: two looks an episode, and none while memory is short. A confirmation waits for
nobody: what is known by then is in it, and a difference that comes later is told as `leak.hints`.
"""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from watchdog.facts import COMM, Group, Ident, Look, Parts, Who
from watchdog.history.entities import Trend
from watchdog.history.headroom import chain
from watchdog.history.world import World
from watchdog.judge.places import is_plain
from watchdog.judge.telling import Telling

if TYPE_CHECKING:  # 100 KiB, and of no use before somebody is suspected
    from watchdog.judge.hints import Hints

GROWN_KIB = 16 << 10
GROWN_SHARE = 0.05
APART_S = 15.0
# A look costs 0.1 s of CPU in all. When many are suspected at once, the confirmed come first.
FIRST_MOST = 8
FIRST_S = 240.0
SUSPECTS_MAX = 512


class _Suspect:
    __slots__ = ("asked", "episode", "kib", "looks", "owed")

    def __init__(self, trend: Trend) -> None:
        self.episode = trend.episode
        self.kib = trend.kib
        self.asked = 0
        self.looks: list[Parts] = []
        self.owed: str | None = None  # the confirmation that a difference is still owed to


class Looking:
    """Knows who is suspected, by identity and episode."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.suspects: dict[Ident, _Suspect] = {}
        self.units: dict[str, tuple[int, Group]] = {}
        self.firsts: deque[float] = deque(maxlen=FIRST_MOST)  # when the last first looks were asked

    def step(self, ident: Ident, trend: Trend, t: float, calm: bool) -> list[Look]:
        """Somebody under suspicion closed a bucket: the look that is due, if any."""
        one = self._suspect(ident, trend)
        if one is None or not calm or one.asked == 2:
            return []
        if one.asked == 1:
            grown = trend.kib - one.kib >= max(GROWN_KIB, GROWN_SHARE * one.kib)
            waited = bool(one.looks) and t - one.looks[0].t >= APART_S
            if not waited or not (grown or trend.stage == "confirmed"):
                return []
        elif trend.stage != "confirmed":
            if len(self.firsts) == FIRST_MOST and 0 <= t - self.firsts[0] < FIRST_S:
                return []
            self.firsts.append(t)
        one.asked += 1
        name = f"parts-{ident[0]}-{ident[1]}-{one.episode}-{one.asked}"
        return [Look(name, "parts", t, process=ident)]

    def unit(self, unit: str, trend: Trend, group: Group) -> None:
        """A unit under suspicion: what its cgroup held when that began."""
        known = self.units.get(unit)
        if known is None or known[0] != trend.episode:
            self.units[unit] = (trend.episode, group)

    def take(self, parts: Parts) -> Iterator[Telling]:
        """An answer; if a confirmation was told without it, the event that tells it now."""
        ident = (parts.pid, parts.start)
        one = self.suspects.get(ident)
        name = f"parts-{ident[0]}-{ident[1]}-"
        if one is None or not parts.look_id.startswith(f"{name}{one.episode}-"):
            return
        one.looks = [*one.looks, parts][-2:]
        found = self._process(ident, one) if one.owed else None
        if found is None or not found.grown:
            return
        cause, one.owed = one.owed, None
        body: dict[str, Any] = {
            **self.world.entity(ident)._asdict(), "scope": "process", "hints": found.body,
        }  # fmt: skip
        identity = f"{ident[0]}-{ident[1]}-{one.episode}"
        yield Telling("leak.hints", identity, parts.t, parts.up, found.because, body, cause)

    def confirmed(
        self, ident: Ident | None, unit: str | None, trend: Trend, event_id: str
    ) -> "Hints | None":
        """What is known as it is confirmed, of a process or else of a unit."""
        from watchdog.judge import hints

        if ident is None:
            known, group = self.units.get(unit or ""), self._group(unit)
            if known is None or group is None:
                return None
            return hints.of_unit(known[1], group, unit if unit and is_plain(unit) else None)
        one = self._suspect(ident, trend)
        found = self._process(ident, one) if one else None
        if one is not None and (found is None or not found.grown):
            one.owed = event_id
        return found

    def plateau(self, ident: Ident | None, trend: Trend) -> tuple[str, ...]:
        """The suspicion of a process ends: the cap of its heap, if it has come up to that."""
        process = self.world.present.get(ident) if ident is not None else None
        who = process.told() if process else None
        one = self.suspects.get(ident) if ident is not None else None
        if who is None or one is None:
            return ()
        from watchdog.judge import hints

        looks = one.looks[-1] if one.looks else None
        return hints.plateau(looks, who, self._limit(who), trend.kib << 10)

    def forget(self, ident: Ident | None, unit: str | None) -> None:
        """The suspicion has ended."""
        if ident is not None:
            self.suspects.pop(ident, None)
        elif unit is not None:
            self.units.pop(unit, None)

    def _suspect(self, ident: Ident, trend: Trend) -> _Suspect | None:
        one = self.suspects.get(ident)
        if one is None or one.episode != trend.episode:
            if one is None and len(self.suspects) >= SUSPECTS_MAX:
                return None
            one = self.suspects[ident] = _Suspect(trend)
        return one

    def _process(self, ident: Ident, one: _Suspect) -> "Hints | None":
        from watchdog.judge import hints

        world, process = self.world, self.world.present.get(ident)
        who, comm = (process.told(), process.row[COMM]) if process else (None, None)
        total = world.host.mem_total if world.host else None
        return hints.of_process(one.looks, who, comm, self._limit(who), total)

    def _limit(self, who: Who | None) -> int | None:
        """The tightest limit above a process."""
        above = chain(self.world, who.cgroup if who else None)
        return min((group.limit for group in above if group.limit is not None), default=None)

    def _group(self, unit: str | None) -> Group | None:
        return next((g for g in self.world.groups.values() if unit and g.unit == unit), None)

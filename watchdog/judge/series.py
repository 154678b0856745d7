"""Pure: the series of memory that no process owns.

Of a unit its shared memory (tmpfs files with it) and its kernel memory, apart from what it holds in
all; of the machine the shared memory and the kernel's own that no unit holds. Each is a trend, and
the same judge looks at it. A unit speaks once: where the growth of all that it holds is told, the
part that grows is named in it, and its shared memory is judged alone only where that is not told.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from watchdog import words
from watchdog.facts import Entity, EntityRecord, Group
from watchdog.history import records
from watchdog.history.entities import Trend
from watchdog.history.ring import Closes
from watchdog.history.world import World
from watchdog.judge import stage
from watchdog.judge.rise import Growth
from watchdog.judge.stage import Change, Ending

KEY = "part:"
# Who holds less of it has no series of it: most units have no shared memory worth a ring.
LEAST_KIB = 16 << 10
HOST = "host"
_SAID = {
    ("unit", "shmem"): "it is shared memory or files in a tmpfs: they stay when the process ends, "
    "until somebody removes them",
    ("unit", "kernel"): "it is memory that the kernel holds for it: page tables, sockets, its own "
    "objects",
    ("host", "shmem"): "no unit that runs holds it: files in a tmpfs or shared memory that stayed; "
    "df -t tmpfs and ipcs -m show them",
    ("host", "kernel"): "no process and no unit owns it",
}


class Name(NamedTuple):
    """``scope`` is "unit" or "host", ``part`` "shmem", "kernel" or (to name a cause) "slab"."""

    scope: str
    part: str
    unit: str = ""


class Found(NamedTuple):
    """A change of stage of one series, ready to be told."""

    name: Name
    change: Change
    trend: Trend
    entity: Entity
    identity: str


EndingOf = Callable[[str | None, Trend], Ending]


class Series:
    """Fed with cgroups and, at each sweep, with the machine as the world knows it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.trends: dict[Name, Trend] = {}
        self.waiting: dict[Name, Trend] = {}  # of an earlier run, not seen again yet
        self.due: dict[Name, Closes] = {}

    def group(self, group: Group) -> None:
        """A unit's cgroup as it is now."""
        if group.unit is None:
            return
        now = group.t if group.up is None else group.up
        for part, size in (("shmem", group.shmem), ("kernel", group.kernel)):
            if size is not None:
                self._add(Name("unit", part, group.unit), group.t, now, size >> 10)

    def machine(self, t: float, now: float) -> None:
        """A sweep is over: the machine at its last reading."""
        host = self.world.host
        if host is None:
            return
        units = [group for group in self.world.groups.values() if group.unit]
        if host.shmem is not None:
            held = sum(one.shmem or 0 for one in units)
            self._add(Name(HOST, "shmem"), t, now, max(0, host.shmem - held) >> 10)
        if host.kernel is not None:
            held = sum(one.kernel or 0 for one in units)
            self._add(Name(HOST, "kernel"), t, now, max(0, host.kernel - held) >> 10)
        if host.slab is not None:
            self._add(Name(HOST, "slab"), t, now, host.slab >> 10)

    def _add(self, name: Name, t: float, now: float, kib: int) -> None:
        trend = self.trends.get(name)
        if trend is None:
            trend = self.waiting.pop(name, None)
            if trend is None:
                if kib < LEAST_KIB:
                    return
                trend = Trend(t, now)
            self.trends[name] = trend
        closed = trend.add(t, now, kib)
        if closed:
            self.due[name] = closed

    def step(self, ending_of: EndingOf) -> Iterator[Found]:
        """Judge what closed a bucket; after the units, which are named first."""
        due, self.due = self.due, {}
        for name, closed in sorted(due.items()):
            trend = self.trends[name]
            if (name.scope, name.part) not in _OWN_VERDICT:
                continue
            whole = self.world.unit_trends.get(name.unit)
            if trend.stage == "none" and whole is not None and whole.stage != "none":
                continue
            host = self.world.host
            known = name.scope == HOST and host is not None and host.up is not None
            age_s = trend.last_up - (0.0 if known else trend.first_up)
            change = stage.step(trend, closed, age_s, ending_of(self._cgroup(name), trend))
            if change is not None:
                yield self._found(name, change, trend)

    def forget(self, before: float) -> Iterator[Found]:
        """Drop the series of units that were not seen since `before` (our now)."""
        for name, trend in [*self.trends.items(), *self.waiting.items()]:
            if name.scope == "unit" and trend.last_up < before:
                self.trends.pop(name, None)
                self.waiting.pop(name, None)
                self.due.pop(name, None)
                if trend.open:
                    yield self._found(name, stage.clear(trend, "the unit is gone"), trend)

    def _found(self, name: Name, change: Change, trend: Trend) -> Found:
        if change.found is not None:
            said = [*change.because, _SAID[name.scope, name.part]]
            if name == Name(HOST, "kernel"):
                said[-1] = self._kernel(change.found.growth)
            change = change._replace(because=tuple(said))
        identity = f"{name.scope}:{name.part}" + (f":{name.unit}" if name.unit else "")
        return Found(name, change, trend, Entity(unit=name.unit or None), identity)

    def _kernel(self, growth: Growth) -> str:
        """Which of the kernel's counters grew with it."""
        said = _SAID[HOST, "kernel"]
        slab = self._rise(Name(HOST, "slab"), growth.window_s)
        if slab is not None and slab >= growth.rise_kib / 2:
            more = words.size(slab * 1024)
            return f"{said}: unreclaimable slab rose by {more}; slabtop -s c shows which cache"
        return f"{said}, and slab did not grow with it: a driver, vmalloc, or what no counter names"

    def named(self, unit: str) -> bool:
        """Whether the shared memory of that unit is told of already."""
        trend = self.trends.get(Name("unit", "shmem", unit))
        return trend is not None and trend.stage != "none"

    def part_of(self, unit: str, growth: Growth | None) -> str:
        """Which part of a unit grew most in the window of that rise."""
        if growth is None:
            return "anon"
        shmem = self._rise(Name("unit", "shmem", unit), growth.window_s) or 0
        kernel = self._rise(Name("unit", "kernel", unit), growth.window_s) or 0
        anon = growth.rise_kib - shmem - kernel
        return max((anon, "anon"), (shmem, "shmem"), (kernel, "kernel"))[1]

    def said_of(self, part: str) -> tuple[str, ...]:
        """The sentence that goes with a part of a unit; none for private memory."""
        return () if part == "anon" else (_SAID["unit", part],)

    def _rise(self, name: Name, seconds: float) -> int | None:
        """By how much it rose in so long (KiB); None where it is not followed."""
        trend = self.trends.get(name)
        if trend is None:
            return None
        before = trend.floor_ago(seconds)
        first = trend.first_floor() if before is None else before
        # It is followed from LEAST_KIB on: what came before is most of that.
        young = trend.last_up - trend.first_up < seconds
        return trend.kib - (0 if young and name.scope == "unit" else first >> 10)

    def rate(self) -> float:
        """Bytes a second by which the machine's own series are seen to grow."""
        grow = (
            trend.rate for name, trend in (*self.trends.items(), *self.waiting.items())
            if name.part != "slab" and trend.rate > 0
        )  # fmt: skip
        return math.fsum(grow)

    def _cgroup(self, name: Name) -> str | None:
        groups = self.world.groups.values()
        return next((one.cgroup for one in groups if name.unit and one.unit == name.unit), None)

    # ---- a restart -----------------------------------------------------------------------------

    def dump(self, boot_id: str, urgent: bool) -> list[EntityRecord]:
        """As the store keeps them; with `urgent` only those under suspicion."""
        return [
            records.dump(
                trend, f"{KEY}{name.scope}:{name.part}:{name.unit}", boot_id, None, name.unit
            )
            for name, trend in self.trends.items()
            if trend.stage != "none" or not urgent
        ]

    def load(self, record: EntityRecord) -> None:
        """The inverse, for one: it goes on when it is seen again."""
        scope, _, rest = record.key[len(KEY) :].partition(":")
        part, _, unit = rest.partition(":")
        trend = records.load(record)
        if trend is not None:
            self.waiting[Name(scope, part, unit)] = trend


_OWN_VERDICT = frozenset({("unit", "shmem"), (HOST, "shmem"), (HOST, "kernel")})

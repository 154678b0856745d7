"""Pure: what was known of a victim, and of those beside it, before the kernel killed it.

Values only, for the verdict; the engine fills them from the world as it stands, `explain` from the
store. Everything may be missing: a report of another machine has no past at all. Sizes are bytes of
private memory (anonymous + swap) of a process, and of a unit what reclaim cannot take from it.
"""

from collections.abc import Mapping
from typing import NamedTuple

from watchdog.facts import Entity
from watchdog.history.entities import Trend
from watchdog.history.ring import MISSING

GROWERS_MAX = 8
KILLS_MAX = 32


class Growth(NamedTuple):
    """How one entity's memory went. The sizes of before are floors of a bucket, None where it was
    not yet seen; `rate` is bytes a second over the last five minutes at the most."""

    watched_s: float
    first_bytes: int
    last_bytes: int
    minute_ago_bytes: int | None = None
    ten_minutes_ago_bytes: int | None = None
    highest_bytes: int | None = None
    rate: float | None = None


class Leak(NamedTuple):
    """What the leak judge said of it: "suspected" or "confirmed"; bytes a second, for how long the
    rise had lasted, and its confidence (None where the judge had not spoken since a restart)."""

    stage: str
    rate: float
    for_s: float
    confidence: float | None = None


class Grower(NamedTuple):
    """One that grew beside the victim, or the victim itself: `pid` for a process, None for a unit.
    `name` is its comm or the unit's name, `unit` the unit that it belongs to or is."""

    name: str
    pid: int | None
    unit: str | None
    grew_bytes: int
    over_s: float
    last_bytes: int
    leak: Leak | None = None


class Kill(NamedTuple):
    """An earlier OOM kill of the same unit or program; `t` is Unix seconds, `size_bytes` what the
    victim held (anonymous, shared and swap), `lived_s` the age of the process, where known."""

    t: float
    pid: int | None = None
    comm: str | None = None
    size_bytes: int | None = None
    limit_bytes: int | None = None
    lived_s: float | None = None


class Past(NamedTuple):
    """`victim` is who our own census knew under that PID (never what the log says of it); `growth`
    and `leak` are its own, `unit_growth` and `unit_leak` its unit's.

    `growers` grew most in the memory that ran out (below the cgroup of the limit, or on the whole
    machine), the largest growth first, at most GROWERS_MAX; the victim and its unit may be among
    them. `kills` are the earlier OOM kills of the same unit, else of the same exe or comm,
    the oldest first, this one left out, at most the last KILLS_MAX. `units` maps the PIDs of the
    report's task table to units of our census. `since_t`: when our history begins (Unix seconds).
    """

    victim: Entity | None = None
    growth: Growth | None = None
    leak: Leak | None = None
    unit_growth: Growth | None = None
    unit_leak: Leak | None = None
    growers: tuple[Grower, ...] = ()
    kills: tuple[Kill, ...] = ()
    units: Mapping[int, str] = {}
    since_t: float | None = None


NOTHING = Past()


def growth_of(trend: Trend) -> Growth:
    """A trend, as the verdict needs it."""
    known = [
        kib
        for ring in trend.full().rings
        if ring is not None
        for kib in ring.values
        if kib != MISSING
    ]
    return Growth(
        watched_s=max(0.0, trend.last_up - trend.first_up),
        first_bytes=trend.first_floor(),
        last_bytes=trend.kib * 1024,
        minute_ago_bytes=trend.floor_ago(60.0),
        ten_minutes_ago_bytes=trend.floor_ago(600.0),
        highest_bytes=max([trend.kib, *known]) * 1024,
        rate=trend.recent_rate(),
    )


def leak_of(trend: Trend) -> Leak | None:
    """What the leak judge says of it; None where it is under no suspicion."""
    if trend.stage == "none":
        return None
    since = trend.last_t if trend.since_t is None else trend.since_t
    confidence = trend.verdict.confidence if trend.verdict is not None else None
    return Leak(trend.stage, trend.rate, max(1.0, trend.last_t - since), confidence)


def grower_of(
    trend: Trend, name: str, pid: int | None, unit: str | None, over_s: float = 7200.0
) -> Grower | None:
    """Its growth over the last `over_s` seconds, or since it was first seen; None without any."""
    watched = max(0.0, trend.last_up - trend.first_up)
    before, span = trend.first_floor(), watched
    if watched > over_s:
        floor = trend.floor_ago(over_s)
        if floor is not None:
            before, span = floor, over_s
    grew = trend.kib * 1024 - before
    if grew <= 0 or span <= 0:
        return None
    return Grower(name, pid, unit, grew, span, trend.kib * 1024, leak_of(trend))

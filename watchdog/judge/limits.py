"""Pure: a cgroup that is pinned at its memory.high or at its limit, and lives by reclaim.

calm --pinned, and running into it, for a while--> begun --not for two minutes--> calm
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from watchdog import procfs, words
from watchdog.facts import Entity, Group
from watchdog.history.headroom import chain
from watchdog.history.world import World
from watchdog.judge.telling import Telling

# At a limit: so near that the kernel reclaims for every page. It charges in batches of 64 pages a
# CPU, so that usage hovers a little below.
AT_LIMIT = 0.98
HELD_S, HELD_READINGS = 50.0, 2
OVER_S = 120.0
PAUSE_S = 35.0  # what is reclaimed in one go may leave room for a reading or two
# What reclaim can take without harm keeps a unit at its limit for ever: a backup reads files. Only
# where little of that is left, or where everybody waits for memory, is it exhaustion.
CACHE_SHARE, STALLED = 0.25, 0.05
EPISODES_MAX = 1024


class Bound(NamedTuple):
    """What a cgroup runs into: its memory.high ("high") or its limit ("max"), in bytes."""

    name: str
    bytes: int
    times: int  # how often it did, since it was made


class _Pinned:
    """One cgroup near its limit."""

    __slots__ = (
        "count", "event", "last_t", "last_up", "name", "pinned_up", "readings", "since_count",
        "since_t", "since_up", "stall_us", "waited", "waited_s",
    )  # fmt: skip

    def __init__(self, bound: Bound, group: Group) -> None:
        self.name = bound.name
        self.count = self.since_count = bound.times
        self.stall_us = group.stall_us
        self.last_t = self.since_t = group.t
        self.last_up = self.since_up = self.pinned_up = _now(group)
        self.readings = 0
        self.waited = self.waited_s = 0.0
        self.event: str | None = None


class Limits:
    """Cgroups in, tellings out."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.pinned: dict[str, _Pinned] = {}
        self.episodes: dict[str, int] = {}

    def pressed(self, cgroup: str | None) -> bool | None:
        """Whether a cgroup or one above it is pinned; None where none of them is known."""
        above = chain(self.world, cgroup)
        first = next(above, None)
        if first is None:
            return None
        if not self.pinned:
            return False
        paths = (group.cgroup or "" for group in (first, *above))
        return any(path in self.pinned and self.pinned[path].event for path in paths)

    def group(self, group: Group) -> list[Telling]:
        """A memory cgroup as it is now."""
        path = group.cgroup or group.unit
        if path is None:
            return []
        bound, one = _bound(group), self.pinned.get(path)
        if bound is None:
            if one is not None and one.event is not None:
                return self._eased(path, one, group, "it has no limit any more")
            self.pinned.pop(path, None)
            return []
        used = _usage(group)
        if one is None or one.name != bound.name or bound.times < one.count:
            if one is not None and one.event is not None:
                return self._eased(path, one, group, "its limit is another one now")
            self.pinned.pop(path, None)
            if used >= AT_LIMIT * bound.bytes:
                self.pinned[path] = _Pinned(bound, group)
            return []
        now = _now(group)
        pressing = used >= AT_LIMIT * bound.bytes and bound.times > one.count
        passed = now - one.last_up
        stalled = _share(one.stall_us, group.stall_us, passed)
        if pressing and _harmless(group, bound, stalled):
            pressing = False
        one.count, one.stall_us, one.last_t, one.last_up = (
            bound.times, group.stall_us, group.t, now
        )  # fmt: skip
        if stalled is not None:
            one.waited, one.waited_s = one.waited + stalled * passed, one.waited_s + passed
        if pressing:
            one.pinned_up = now
            one.readings += 1
            held = one.readings >= HELD_READINGS and now - one.since_up >= HELD_S
            if held and one.event is None:
                return [self._pressed(path, one, group, bound, used)]
        elif one.event is not None:
            if now - one.pinned_up >= OVER_S:
                still = words.duration(now - one.pinned_up)
                return self._eased(path, one, group, f"it has not run into it for {still}")
        elif now - one.pinned_up > PAUSE_S:
            del self.pinned[path]
            if used >= AT_LIMIT * bound.bytes:
                self.pinned[path] = _Pinned(bound, group)
        return []

    def forget(self, t: float, up: float | None, before: float) -> list[Telling]:
        """After the world forgot the cgroups that were not seen since `before` (our now)."""
        out = []
        for path, one in list(self.pinned.items()):
            if path in self.world.groups or one.last_up >= before:
                continue
            if one.event is None:
                del self.pinned[path]
            else:
                out += self._eased(path, one, Group(t, up, None, path), "the cgroup is gone")
        if len(self.episodes) > EPISODES_MAX:
            self.episodes = {
                path: count for path, count in self.episodes.items()
                if path in self.world.groups
            }  # fmt: skip
        return out

    def _pressed(self, path: str, one: _Pinned, group: Group, bound: Bound, used: int) -> Telling:
        self.episodes[path] = self.episodes.get(path, 0) + 1
        times = bound.times - one.since_count
        held = words.duration(max(1.0, one.last_up - one.since_up))
        name = "memory.high" if bound.name == "high" else "its limit"
        where = "above" if used > (2 - AT_LIMIT) * bound.bytes else "within 2 % of"
        because = [
            f"{where} {name} ({words.size(bound.bytes)}) for {held}: {words.size(used)} used",
            f"it ran into it {words.count(times, 'time')} meanwhile",
        ]
        fixed = (group.anon or 0) + (group.shmem or 0)
        if group.anon is not None:
            because.append(
                f"{words.size(fixed)} are anonymous and shared memory, which only swap can take; "
                f"{words.size(_cache(group))} are files"
            )
        stalled = one.waited / one.waited_s if one.waited_s > 0 else None
        if stalled is not None and stalled >= 0.01:
            because.append(
                f"all of it waits for memory {words.share(min(1.0, stalled))} of the time"
            )
        because.append(
            "it is slowed down so that it stays there" if bound.name == "high"
            else "the next larger request may get a process of it killed"
        )  # fmt: skip
        body = _about(path, one) | {
            "state": "begun", "limit_bytes": bound.bytes, "usage_bytes": used,
            "anon_bytes": group.anon, "shmem_bytes": group.shmem, "file_bytes": group.file,
            "times": times,
            "stalled": None if stalled is None else round(min(1.0, stalled), 3),
        }  # fmt: skip
        return Telling(
            "limit.pressed",
            f"{path}-{self.episodes[path]}",
            group.t,
            group.up,
            tuple(because),
            body,
        )

    def _eased(self, path: str, one: _Pinned, group: Group, why: str) -> list[Telling]:
        del self.pinned[path]
        body = _about(path, one) | {
            "state": "ended", "limit_bytes": None, "usage_bytes": _usage(group) or None,
            "anon_bytes": group.anon, "shmem_bytes": group.shmem, "file_bytes": group.file,
            "times": one.count - one.since_count, "stalled": None,
        }  # fmt: skip
        identity = f"{path}-{self.episodes.get(path, 1)}-ended"
        return [Telling("limit.pressed", identity, group.t, group.up, (why,), body, one.event)]

    def told(self, path: str, begun: str | None) -> None:
        """What was told to have begun has this id; None: it has ended."""
        if path in self.pinned:
            self.pinned[path].event = begun

    @property
    def open(self) -> bool:
        """Whether something was told to have begun that is not over."""
        return any(one.event for one in self.pinned.values())

    def kept(self) -> dict[str, Any]:
        """What a restart on the same boot needs, as JSON takes it."""
        pinned = {
            path: {name: getattr(one, name) for name in _Pinned.__slots__}
            for path, one in self.pinned.items()
        }
        return {"pinned": pinned, "episodes": self.episodes}

    def take(self, kept: Mapping[str, Any]) -> None:
        """The inverse of `kept`; what is not of its kind is passed over."""
        pinned, episodes = kept.get("pinned"), kept.get("episodes")
        if isinstance(episodes, Mapping):
            self.episodes = {str(k): v for k, v in episodes.items() if type(v) is int}
        for path, plain in pinned.items() if isinstance(pinned, Mapping) else ():
            one = _pinned(plain)
            if one is not None:
                self.pinned[path] = one


def _about(path: str, one: _Pinned) -> dict[str, Any]:
    place = procfs.place(path) if path.startswith("/") else procfs.Place(path, None, None)
    entity = Entity(unit=place.unit, inner=place.inner, container=place.container)
    return {
        **entity._asdict(), "cgroup": path, "at": one.name, "since": round(one.since_t, 3),
    }  # fmt: skip


def _pinned(plain: Any) -> _Pinned | None:
    try:
        bound = Bound(str(plain["name"]), 0, int(plain["count"]))
        one = _Pinned(bound, Group(float(plain["last_t"]), float(plain["last_up"]), None))
        for name in ("since_t", "since_up", "pinned_up", "waited", "waited_s"):
            setattr(one, name, float(plain[name]))
        one.since_count, one.readings = int(plain["since_count"]), int(plain["readings"])
        stall, event = plain["stall_us"], plain["event"]
        one.stall_us = None if stall is None else int(stall)
        one.event = event if isinstance(event, str) else None
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    return one


def _now(fact: Group) -> float:
    return fact.t if fact.up is None else fact.up


def _bound(group: Group) -> Bound | None:
    """What the cgroup would run into first; None where it has no limit or nothing is counted."""
    events = group.events or {}
    if group.high is not None and (group.limit is None or group.high <= group.limit):
        return Bound("high", group.high, events["high"]) if "high" in events else None
    if group.limit is not None and "max" in events:
        return Bound("max", group.limit, events["max"])
    return None


def _usage(group: Group) -> int:
    """What counts against the limit; where the sum is not told, its parts (file holds shmem)."""
    if group.usage is not None:
        return group.usage
    return (group.anon or 0) + max(group.file or 0, group.shmem or 0) + (group.kernel or 0)


def _cache(group: Group) -> int:
    """Files that reclaim can take: shared memory is counted with them, and cannot be taken."""
    return max(0, (group.file or 0) - (group.shmem or 0))


def _harmless(group: Group, bound: Bound, stalled: float | None) -> bool:
    return (
        group.file is not None
        and _cache(group) > CACHE_SHARE * bound.bytes
        and (stalled is None or stalled < STALLED)
    )


def _share(before: int | None, after: int | None, passed_s: float) -> float | None:
    if before is None or after is None or passed_s <= 0 or after < before:
        return None
    return (after - before) / (passed_s * 1e6)

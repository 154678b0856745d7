"""Pure: what is left before memory ends: below the limits of cgroups, and on the whole machine."""

from collections.abc import Iterator
from typing import NamedTuple

from watchdog import procfs
from watchdog.facts import Group
from watchdog.history.world import World, used_bytes


class Headroom(NamedTuple):
    """Bytes that are left before somebody's memory ends, and in words whose they are."""

    bytes: int
    of: str


def chain(world: World, cgroup: str | None) -> Iterator[Group]:
    """The cgroup and those above it, as far as we know them."""
    path = cgroup or ""
    while path:
        group = world.groups.get(path)
        if group is not None:
            yield group
        path = path.rpartition("/")[0]


def limit_left(world: World, cgroup: str | None) -> Headroom | None:
    """What the tightest limit above a cgroup leaves; None where none limits it."""
    best: tuple[int, Group] | None = None
    for group in chain(world, cgroup):
        if group.limit is not None:
            left = max(0, group.limit - used_bytes(group))
            if best is None or left < best[0]:
                best = left, group
    if best is None:
        return None
    group = best[1]
    of = group.unit or procfs.place(group.cgroup).unit or group.cgroup
    return Headroom(best[0], f"below the limit of {of}")


def host_left(world: World) -> int | None:
    """What the machine can still hand out: available memory and free swap."""
    host = world.host
    if host is None or host.mem_available is None:
        return None
    return host.mem_available + (host.swap_free or 0)


def headroom(world: World, cgroup: str | None, rate: float, all_rates: float) -> Headroom | None:
    """The nearest end of who grows by `rate` bytes/s, of `all_rates` on the whole machine.

    The machine's headroom is shared by all who grow: each has the part that its rate has.
    """
    limit, host = limit_left(world, cgroup), host_left(world)
    if host is None:
        return limit
    part = min(1.0, rate / all_rates) if all_rates > 0 < rate else 1.0
    shared = Headroom(int(host * part), "on this machine")
    return shared if limit is None or shared.bytes < limit.bytes else limit

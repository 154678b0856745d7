"""Pure: whose the shared memory is, where somebody's end gives it back.

A memfd that nobody maps is in no process's resident size; one that is mapped, and a shared
anonymous mapping, is in RssShmem of all who map it. So are files in a named tmpfs and System V
segments, but these stay when everybody has ended.
"""

from watchdog.facts import SHMEM, UNIT, Ident, Memfds
from watchdog.history.world import World

LEAST_BYTES = 4 << 20


def attribute(world: World, memfds: Memfds) -> dict[Ident, int]:
    """Bytes of each process that has at least LEAST_BYTES.

    What several hold is divided among them, and together those of a cgroup have no more than is
    charged to it; where no cgroup tells, a unit maps as much as the one of it that maps most. All
    together have no more than the machine, less what lies in files of tmpfs mounts and in System V
    segments. Who has a memfd open has it, whatever others map: that may be such a file.
    """
    opened = _opened(memfds)
    found: dict[str, dict[Ident, int]] = {}
    for ident, row in world.rows.items():
        if max(row[SHMEM] or 0, opened.get(ident, 0)) >= LEAST_BYTES:
            place = world.cgroup(ident)
            if place is None or place not in world.groups:
                place = row[UNIT] or str(ident)
            found.setdefault(place, {})[ident] = row[SHMEM] or 0
    held: dict[Ident, int] = {}
    mapped: dict[Ident, int] = {}
    for place, members in found.items():
        own = {ident: opened.get(ident, 0) for ident in members}
        more = {ident: max(0, size - own[ident]) for ident, size in members.items()}
        group = world.groups.get(place)
        limit = group.shmem if group is not None else None
        if limit is None:
            limit = max(*members.values(), sum(own.values()))
        held |= _at_most(limit, own)
        mapped |= _at_most(max(0, limit - sum(own.values())), more)
    if world.host is not None and world.host.shmem is not None:
        limit = max(0, world.host.shmem - memfds.files)
        held = _at_most(limit, held)
        mapped = _at_most(max(0, limit - sum(held.values())), mapped)
    parts = {ident: size + mapped[ident] for ident, size in sorted(held.items())}
    return {ident: size for ident, size in parts.items() if size >= LEAST_BYTES}


def _opened(memfds: Memfds) -> dict[Ident, int]:
    """What each has open of memfds, where several have one a part of it."""
    holders: dict[int, set[Ident]] = {}
    sizes: dict[int, int] = {}
    for pid, start, inode, size in memfds.rows:
        holders.setdefault(inode, set()).add((pid, start))
        sizes[inode] = max(size, sizes.get(inode, 0))
    opened: dict[Ident, int] = {}
    for inode, idents in holders.items():
        for ident in idents:
            opened[ident] = opened.get(ident, 0) + sizes[inode] // len(idents)
    return opened


def _at_most(limit: int, parts: dict[Ident, int]) -> dict[Ident, int]:
    total = sum(parts.values())
    if total <= limit:
        return parts
    return {ident: size * limit // total for ident, size in parts.items()}

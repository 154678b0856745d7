"""Pure: what each unit and container holds: from its cgroup, or, where none counts, from processes.

A cgroup counts each page once and kernel memory too; sums of processes count twice what forks
share, so they are only the way out, and are marked as such.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from watchdog import procfs
from watchdog.facts import Group, Held

NO_UNIT = "(no unit)"


class Limit(NamedTuple):
    """The tightest limit above an entity: bytes, what is left below it, and whose it is."""

    bytes: int
    left: int
    cgroup: str
    what: str  # "max" or "high"


class Holder(NamedTuple):
    """One unit or container; bytes, None where nobody tells. `counted` is False where the figures
    are sums over its processes."""

    name: str
    container: str | None
    processes: int
    anon: int | None
    file: int | None
    shmem: int | None
    kernel: int | None
    swap: int | None
    virtual: int
    limit: Limit | None
    counted: bool

    @property
    def total(self) -> int:
        """All of it that lies in memory."""
        return sum(part or 0 for part in (self.anon, self.file, self.shmem, self.kernel))


def holders(members: Iterable[Held], groups: Sequence[Group]) -> list[Holder]:
    """One row a unit, a container outside of any unit, and one for all that have neither."""
    by_path = {group.cgroup: group for group in groups if group.cgroup}
    by_unit = {group.unit: group for group in groups if group.unit}
    together: dict[str, list[Held]] = {}
    for member in members:
        name = member.unit or (f"container {member.container}" if member.container else NO_UNIT)
        together.setdefault(name, []).append(member)
    out = []
    for name, found in together.items():
        first = found[0]
        names = {member.container for member in found}
        container = first.container if len(names) == 1 else None
        group = by_unit.get(first.unit) if first.unit else None
        if first.unit is None and container:
            group = by_path.get(_own_path(first.cgroup, container))
        out.append(_holder(name, container, found, group, by_path))
    return out


def _holder(
    name: str, container: str | None, members: list[Held], group: Group | None,
    by_path: Mapping[str, Group],
) -> Holder:  # fmt: skip
    virtual = sum(one.virtual for one in members)
    if group is None or group.anon is None:
        return Holder(
            name, container, len(members), _sum(one.anon for one in members),
            _sum(one.file for one in members), _sum(one.shmem for one in members),
            _sum(one.pagetables for one in members), _sum(one.swap for one in members), virtual,
            tightest(members[0].cgroup if len(members) == 1 else None, by_path), False,
        )  # fmt: skip
    # the kernel's "file" is all of the page cache, shmem included
    file = None if group.file is None else max(0, group.file - (group.shmem or 0))
    return Holder(
        name, container, len(members), group.anon, file, group.shmem, group.kernel, group.swap,
        virtual, tightest(group.cgroup, by_path), True,
    )  # fmt: skip


def tightest(path: str | None, by_path: Mapping[str, Group]) -> Limit | None:
    """The limit of a cgroup or of one above it that is nearest to being reached."""
    found: Limit | None = None
    while path and path != "/":
        group = by_path.get(path)
        if group is not None and group.usage is not None:
            for limit, what in ((group.limit, "max"), (group.high, "high")):
                if limit is not None:
                    one = Limit(limit, limit - group.usage, path, what)
                    found = one if found is None or one.left < found.left else found
        path = path.rpartition("/")[0]
    return found


def _own_path(path: str | None, container: str) -> str:
    """The part of a path that ends with the container's own component."""
    parts = (path or "").split("/")
    for end in range(2, len(parts) + 1):
        head = "/".join(parts[:end])
        if procfs.place(head).container == container:
            return head
    return ""


def _sum(parts: Iterable[int | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known else None

"""Pure: what each unit and container holds: from its cgroup, or, where none counts, from processes.

A cgroup counts each page once and kernel memory too; sums of processes count twice what forks
share, so they are only the way out, and are marked as such.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from watchdog import procfs
from watchdog.facts import Group
from watchdog.host_memory import Held

NO_UNIT = "(no unit)"
# What stands before a container's name or id in its path, and what its owners call such a thing.
_KINDS = (
    ("docker-", "docker"), ("docker/", "docker"), ("libpod-", "podman"), ("nerdctl-", "nerdctl"),
    ("cri-containerd-", "containerd"), ("cri-containerd:", "containerd"), ("crio-", "cri-o"),
    ("lxc/", "lxc"), ("lxc.payload.", "lxc"), ("lxc.payload/", "lxc"),
    ("systemd-nspawn@", "nspawn"), ("machine-", "machine"),
)  # fmt: skip
_POD = re.compile(
    r"kubepods.*?[-/]pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?![0-9a-f])"
)


class Limit(NamedTuple):
    """The tightest limit above an entity: bytes, what is left below it, and whose it is."""

    bytes: int
    left: int
    cgroup: str
    what: str  # "max" or "high"


class Holder(NamedTuple):
    """One unit or container; bytes, None where nobody tells. `counted` is False where the figures
    are sums over its processes. `name` is what people call it, `pod` the uid of its Kubernetes pod,
    `usage` what the kernel counts in all, slab and sockets too."""

    name: str
    unit: str | None
    container: str | None
    pod: str | None
    processes: int
    anon: int | None
    file: int | None
    shmem: int | None
    kernel: int | None
    swap: int | None
    virtual: int
    limit: Limit | None
    counted: bool
    usage: int | None = None

    @property
    def total(self) -> int:
        """All of it that lies in memory: what `systemctl status` shows, where a cgroup counts."""
        if self.usage is not None:
            return self.usage
        return sum(part or 0 for part in (self.anon, self.file, self.shmem, self.kernel))


def holders(members: Iterable[Held], groups: Sequence[Group]) -> list[Holder]:
    """One row a unit, one a container, and one for all processes that have neither.

    A container whose unit is not its own (user@1000.service, with podman below it) counts in both.
    """
    by_path = {group.cgroup: group for group in groups if group.cgroup}
    by_unit = {group.unit: group for group in groups if group.unit}
    together: dict[tuple[str | None, str | None], list[Held]] = {}  # by unit and container's path
    for member in members:
        if member.unit is not None or member.container is None:
            together.setdefault((member.unit, None), []).append(member)
        if member.container is not None and not (member.unit and _is_own(member)):
            own = _own_path(member.cgroup, member.container)
            together.setdefault((member.unit, own), []).append(member)
    out = []
    for (unit, path), found in together.items():
        first = found[0]
        if path is not None:
            container, group = first.container, by_path.get(path)
        else:
            container = first.container if _is_own(first) else None
            group = by_unit.get(unit) if unit else None
        out.append(_holder(unit, container, found, group, by_path))
    return out


def programs(members: Iterable[Held]) -> list[tuple[str, int, int]]:
    """(name, processes, bytes) of each program's anonymous memory in fair parts (PSS), the largest
    first; who may not be read is left out."""
    sums: dict[str, tuple[int, int]] = {}
    for one in members:
        if one.pss_anon is not None:
            count, size = sums.get(one.comm, (0, 0))
            sums[one.comm] = count + 1, size + one.pss_anon
    return sorted(((name, *found) for name, found in sums.items()), key=lambda row: -row[2])


def _is_own(member: Held) -> bool:
    """Is the unit the container's own, or is there no container?"""
    return member.container is None or member.container in (member.unit or "")


def called(unit: str | None, container: str | None, cgroup: str | None) -> str:
    """What people call it: a container as its own tools do, with the first 8 of its pod's uid."""
    if container is None:
        return unit or NO_UNIT
    kinds = (kind for before, kind in _KINDS if before + container in (cgroup or ""))
    name = f"{next(kinds, 'container')} {container}"
    within = pod(cgroup)
    return f"{name} (pod {within[:8]})" if within else name


def pod(cgroup: str | None) -> str | None:
    """The uid of the Kubernetes pod that a cgroup belongs to."""
    found = _POD.search(cgroup or "")
    return found[1].replace("_", "-") if found else None


def _holder(
    unit: str | None, container: str | None, members: list[Held], group: Group | None,
    by_path: Mapping[str, Group],
) -> Holder:  # fmt: skip
    first = members[0].cgroup
    name = called(unit, container, first)
    if unit and container and not _is_own(members[0]):
        name = f"{unit}: {name}"
    whose = (name, unit, container, pod(first) if container else None, len(members))
    virtual = sum(one.virtual for one in members)
    if group is None or group.anon is None:
        return Holder(
            *whose, _sum(one.anon for one in members),
            _sum(one.file for one in members), _sum(one.shmem for one in members),
            _sum(one.pagetables for one in members), _sum(one.swap for one in members), virtual,
            tightest(first if len(members) == 1 else None, by_path), False,
        )  # fmt: skip
    # the kernel's "file" is all of the page cache, shmem included
    file = None if group.file is None else max(0, group.file - (group.shmem or 0))
    return Holder(
        *whose, group.anon, file, group.shmem, group.kernel, group.swap,
        virtual, tightest(group.cgroup, by_path), True, group.usage,
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

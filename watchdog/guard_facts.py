"""The values that both processes know. The guard loads this, and not `facts`.

NamedTuple rather than dataclass: the guard must stay below 12 MiB resident; importing
``dataclasses`` costs 0.9 MiB and each object twice the time. A NamedTuple's class takes 8 KiB, so
what only the watcher knows is a fifth of a MiB that the guard does without.
"""

from typing import NamedTuple


class Entity(NamedTuple):
    """Who an event is about. A unit has no pid; a field that does not apply or is unknown is None.

    ``unit`` is the outermost component of the systemd hierarchy that is no slice; ``inner`` and
    ``container`` lie below it and are never used to act on a system unit.
    """

    pid: int | None = None
    start: int | None = None
    comm: str | None = None
    exe: str | None = None
    uid: int | None = None
    unit: str | None = None
    inner: str | None = None
    container: str | None = None


class Host(NamedTuple):
    """One reading of the machine; None where this kernel or this trace does not tell.

    ``psi_some_us`` and ``psi_full_us`` are the ``total=`` counters of /proc/pressure/memory,
    ``oom_kill`` that of /proc/vmstat, ``btime`` the boot in Unix seconds. ``overcommit`` is
    vm.overcommit_memory, ``committed`` what is promised of ``commit_limit``. ``shmem`` is shared
    memory and tmpfs, ``slab`` the unreclaimable part of the kernel's, ``kernel`` all that neither a
    process nor the page cache holds (`memory.unowned`), ``arc`` what the cache of ZFS gives back
    when memory is short (it is not in ``mem_available``).
    """

    t: float
    up: float | None = None
    boot_id: str | None = None
    btime: float | None = None
    mem_total: int | None = None
    mem_available: int | None = None
    swap_total: int | None = None
    swap_free: int | None = None
    psi_some_us: int | None = None
    psi_full_us: int | None = None
    oom_kill: int | None = None
    commit_limit: int | None = None
    committed: int | None = None
    overcommit: int | None = None
    shmem: int | None = None
    slab: int | None = None
    kernel: int | None = None
    arc: int | None = None


# Many users' programs share these units, so they are no entity: each program counts alone.
SHARED_UNITS = ("user@", "session-", "init.scope")

# So many whom a SIGTERM may have ended for good are remembered: by the guard, and by the watcher
# while it cannot tell the guard, who would keep no more of them.
OWED_MAX = 8

# One line of the dossier that the watcher hands to the guard after each sweep (plain tuple):
# (pid, start, comm, unit, proven_bytes, excess_bytes, leak_confidence, protected, weight,
#  entity, entity_proven_bytes, entity_leak_confidence, real, shared_bytes, entity_use_bytes,
#  own_bytes, inherited_bytes)
# protected is None or the reason in words; weight is -1 (avoid), 0 or 1 (prefer). The entity is
# whose processes are judged together: entity_use_bytes is what it held, measured as what it has
# proven was; of the sum of its processes `real` thousandths are really theirs. own_bytes is what
# the process held of that, with shared_bytes of shared memory that goes with it, and without the
# inherited_bytes that a fork shares with its parent.
DossierRow = tuple[
    int, int, str, str | None, int, int, float, str | None, int, str, int, float, int, int, int,
    int, int,
]  # fmt: skip
DOSSIER_ROWS_MAX = 512

"""The values that flow through the house: sense -> history -> judge -> policy -> act -> tell.

Law of this room: it reads nothing, it decides nothing. All values are immutable. Sizes are bytes,
``t`` is Unix seconds (float, rounded to milliseconds where it is sensed), ``up`` is CLOCK_BOOTTIME
in seconds and is None in a trace that does not carry it. Here stands what the engine is fed. What
it answers is defined in `answers`, and what the guard knows too in `guard_facts`; everybody else
has both from here.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from watchdog.answers import EntityRecord as EntityRecord
from watchdog.answers import Event as Event
from watchdog.answers import HostRecord as HostRecord
from watchdog.answers import Notice as Notice
from watchdog.answers import Order as Order
from watchdog.answers import Subject as Subject
from watchdog.guard_facts import DOSSIER_ROWS_MAX as DOSSIER_ROWS_MAX
from watchdog.guard_facts import DossierRow as DossierRow
from watchdog.guard_facts import Entity as Entity
from watchdog.guard_facts import Host as Host

# Hot rows are plain tuples, the same in memory and in the trace:
# (pid, start_ticks, comm, rss_bytes, shared_bytes, swap_bytes, unit, shmem_bytes)
Row = tuple[int, int, str, int, int, int | None, str | None, int | None]
PID: Final = 0
START: Final = 1
COMM: Final = 2
RSS: Final = 3
SHARED: Final = 4
SWAP: Final = 5
UNIT: Final = 6
SHMEM: Final = 7

Ident = tuple[int, int]  # (pid, start_ticks): with the boot id, one process for ever


class Sweep(NamedTuple):
    """Rows of processes. In a census who is missing has gone; else absence means nothing.

    Outside a census a row without a unit does not tell that there is none. ``inputs``: what a
    decision of the guard saw; it knows less of each than a reading of ours, so no policy is decided
    on it.
    """

    t: float
    up: float | None
    rows: tuple[Row, ...]
    census: bool
    inputs: bool = False


class Memfds(NamedTuple):
    """Who has files open that lie in memory and have no name; all of them, as far as we may look.

    Rows are (pid, start_ticks, inode, bytes). Nobody need map one, so it is in no resident size.
    ``files`` is what lies in files of tmpfs mounts and in System V segments instead, which stay
    when everybody has ended.
    """

    t: float
    up: float | None
    rows: tuple[tuple[int, int, int, int], ...]
    files: int = 0


class Who(NamedTuple):
    """What is known of one identity; told once, and again after an exec.

    ``trusted``: the executable is an absolute path owned by root that nobody else may write, and
    the process runs as root or a system account (design of protection by name). ``build`` tells
    one build of the executable from the next (inode and time of change).
    """

    t: float
    up: float | None
    pid: int
    start: int
    ppid: int | None = None
    uid: int | None = None
    exe: str | None = None
    cgroup: str | None = None
    inner: str | None = None
    container: str | None = None
    oom_score_adj: int | None = None
    cmdline: str | None = None
    trusted: bool | None = None
    build: str | None = None


class Group(NamedTuple):
    """One memory cgroup. ``usage`` is what counts against ``limit``, page cache included.

    ``cgroup`` is the path in the memory (or unified) hierarchy, ``unit`` the outermost systemd
    unit if the cgroup is that unit's own. ``limit``, ``low``, ``high`` are None where unlimited.
    ``events`` are the kernel's counts: on v2 memory.events, on v1 "oom_kill" and, as "max", how
    often the limit was run into (memory.failcnt). ``stall_us`` is how long all of it has waited for
    memory (PSI full), read only near a limit. ``oomd`` is what ManagedOOMPreference= says of the
    unit, "omit" or "avoid".
    """

    t: float
    up: float | None
    unit: str | None
    cgroup: str | None = None
    anon: int | None = None
    shmem: int | None = None
    file: int | None = None
    kernel: int | None = None
    swap: int | None = None
    usage: int | None = None
    limit: int | None = None
    low: int | None = None
    high: int | None = None
    events: Mapping[str, int] | None = None
    stall_us: int | None = None
    oomd: str | None = None


class KernelLine(NamedTuple):
    """One record of the kernel log: a raw /dev/kmsg record, or a line of text of any origin.

    ``boot_id`` only where the record is of another boot than the one that is running.
    """

    t: float
    up: float | None
    line: str
    boot_id: str | None = None


class Tick(NamedTuple):
    """Time has passed and nothing was read; lets what waits for quiet go on."""

    t: float
    up: float | None


class Outcome(NamedTuple):
    """What became of an order: done, gone, protected, changed or failed, with one sentence.

    ``restarts`` is False where a service stays down for it.
    """

    t: float
    up: float | None
    order_id: str
    outcome: str
    detail: str
    restarts: bool | None = None


class Said(NamedTuple):
    """An event that another room has already judged: the guard's, or the daemon's own life.

    The engine gives it its id, its boot and its host, and nothing else.
    """

    t: float
    up: float | None
    kind: str
    identity: str
    because: tuple[str, ...]
    body: Mapping[str, Any]


class CgroupKills(NamedTuple):
    """All memory cgroups that ever counted an OOM kill: (path, own count, count of its subtree).

    The last is None where the kernel counts for each cgroup alone (cgroup v1, and v2 before 5.2).
    ``whole``: none was left out.
    """

    t: float
    up: float | None
    rows: tuple[tuple[str, int, int | None], ...]
    whole: bool


class LogState(NamedTuple):
    """How the kernel log is read from now on: "live", "late", "catching up" or "off".

    ``why`` says more. While it catches up, a kill that has no line yet is no riddle. "late": the
    journal brings it, and a line may come minutes after it was written.
    """

    t: float
    up: float | None
    state: str
    why: str | None = None


class Missing(NamedTuple):
    """An oom.unattributed event: kills of it that still have no line, and when it was told."""

    id: str
    kills: int
    t: float
    up: float | None


class Counted(NamedTuple):
    """Up to which value of the kernel's counter every kill was told, and which without a line."""

    boot_id: str
    value: int
    missing: tuple[Missing, ...] = ()


class PastKill(NamedTuple):
    """An oom.kill that was told: what later ones are compared with. Unknown is None.

    ``size_bytes`` is what the victim held (anonymous, shared and swap), ``lived_s`` its age,
    ``lines`` how many kills the kernel counted for it, ``identity`` the last part of its id,
    ``cgroup`` whose limit it was.
    """

    t: float
    boot_id: str | None
    identity: str
    lines: int
    pid: int | None = None
    comm: str | None = None
    exe: str | None = None
    uid: int | None = None
    unit: str | None = None
    size_bytes: int | None = None
    limit_bytes: int | None = None
    lived_s: float | None = None
    cgroup: str | None = None


class Earlier(NamedTuple):
    """What a start is told of the runs before it: the last kills, and how far the count was told.

    ``again`` holds identities and lines of those of this boot that may be read a second time.
    """

    t: float
    up: float | None
    kills: tuple[PastKill, ...] = ()
    counted: Counted | None = None
    again: tuple[tuple[str, int], ...] = ()


class Looked(NamedTuple):
    """The answer to a Look for claims: what the journal holds, and what PID 1 says of the units.

    An entry is {"t", "unit", "comm", "uid", "pid", "about", "text"}: the first of them written by
    journald itself, ``about`` and ``text`` by the program.
    """

    t: float
    up: float | None
    look_id: str
    entries: tuple[Mapping[str, Any], ...] = ()
    units: Mapping[str, Mapping[str, str]] = {}
    problem: str | None = None


class Parts(NamedTuple):
    """The answer to a Look for parts: what one process holds, in bytes; None where it is not known.

    ``anon`` is all anonymous memory and swap; ``heap`` (that brk moves), ``arenas`` (glibc's
    others), ``stacks``, ``mappings`` (other anonymous ones) and ``files`` (private copies of pages
    of files) add up to it. ``thp`` lies in all of them; ``shmem``, ``pagetables`` and ``hugetlb``
    (huge pages of hugetlbfs) beside them. ``go``: it has the heap of a Go program; ``libraries``
    are those that tell a runtime.
    """

    t: float
    up: float | None
    look_id: str
    pid: int
    start: int
    anon: int | None = None
    shmem: int | None = None
    swap: int | None = None
    pagetables: int | None = None
    thp: int | None = None
    heap: int | None = None
    arenas: int | None = None
    stacks: int | None = None
    mappings: int | None = None
    files: int | None = None
    threads: int | None = None
    descriptors: int | None = None
    arena_count: int | None = None
    stack_count: int | None = None
    maps: int | None = None
    go: bool | None = None
    libraries: tuple[str, ...] = ()
    hugetlb: int | None = None


class Mute(NamedTuple):
    """Somebody asked to be told nothing about these until then (Unix seconds).

    ``kind`` is "silence" or "ack". ``keys`` are subjects ("pid:start", "unit:NAME"); a silence
    without them goes by ``match``, a glob of unit, name or executable. ``tail`` is that of the id
    of the event that was acknowledged.
    """

    id: str
    kind: str
    match: str
    until: float
    reason: str = ""
    by: str = "root"
    keys: tuple[str, ...] = ()
    tail: str = ""


class Muted(NamedTuple):
    """All mutes that hold from now on."""

    t: float
    up: float | None
    rows: tuple[Mute, ...]


Fact = (
    Host | Sweep | Memfds | Who | Group | KernelLine | Tick | Outcome | Said
    | CgroupKills | LogState | Earlier | Looked | Parts | Muted
)  # fmt: skip


class Look(NamedTuple):
    """What the engine asks for: facts, not deeds.

    ``what`` is "counts" (a census and all cgroups' kill counts, which come as ordinary facts),
    "claims" (answered by a Looked with this ``id``; the journal from ``since_t`` on, and the state
    of ``units``) or "parts" (answered by a Parts about ``process``, if it is still there).
    """

    id: str
    what: str
    since_t: float
    units: tuple[str, ...] = ()
    process: Ident | None = None

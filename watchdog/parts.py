"""Pure: the text of /proc/PID/smaps -> how much anonymous memory lies in which part of a process.

A mapping is known by its name, its rights and its neighbours: glibc's malloc puts an arena at a
multiple of 64 MiB and reserves the rest up to the next (malloc/arena.c, HEAP_MAX_SIZE), a thread's
stack lies right above a small guard without rights (nptl/allocatestack.c; the JVM does the same),
and Go's heap begins at 0xc000000000 (runtime/malloc.go). Names of anonymous mappings are there from
Linux 5.17 on, where the program gives them. https://docs.kernel.org/filesystems/proc.html
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

ARENA = 64 << 20
GUARD_MOST = 1 << 20
GO_HEAP = 0xC0  # its address >> 32
SHMEM = (b"/memfd:", b"/dev/shm/", b"/SYSV", b"/dev/zero", b"[anon_shmem:")
# What tells a runtime or an allocator by the libraries that it maps.
LIBRARIES = (
    "libjvm", "libpython", "libruby", "libperl", "libcoreclr", "libnode", "libphp", "libjemalloc",
    "libtcmalloc", "libmimalloc", "ld-musl",
)  # fmt: skip


class Mapping(NamedTuple):
    """One mapping; ``anon`` is anonymous memory and swap, ``shmem`` what is resident of shmem."""

    start: int
    end: int
    rights: bytes
    name: bytes
    anon: int
    shmem: int
    thp: int


class Sums(NamedTuple):
    """Bytes of anonymous memory and swap by part, and what was counted on the way.

    ``heap`` is the one that brk moves, ``arenas`` glibc's others, ``mappings`` what is anonymous
    and none of the named, ``files`` private copies of pages of files. ``thp`` lies in all of them.
    """

    heap: int
    arenas: int
    stacks: int
    mappings: int
    files: int
    shmem: int
    thp: int
    arena_count: int
    stack_count: int
    maps: int
    libraries: tuple[str, ...]
    go: bool


def parse_smaps(raw: bytes) -> list[Mapping]:
    """Every mapping that is whole; what was cut off at the end is left out."""
    found: list[Mapping] = []
    start = end = anon = rss = thp = 0
    rights = name = b""
    for line in raw.split(b"\n"):
        if not line:
            continue
        if not 65 <= line[0] <= 90:  # a key begins with a capital letter, an address never does
            fields = line.split(None, 5)
            try:
                low, _, high = fields[0].partition(b"-")
                start, end = int(low, 16), int(high, 16)
            except (IndexError, ValueError):
                end = 0
                continue
            rights = fields[1] if len(fields) > 1 else b""
            name = fields[5].strip() if len(fields) > 5 else b""
            anon = rss = thp = 0
        elif line.startswith((b"Anonymous:", b"Swap:")):
            anon += _kb(line)
        elif line.startswith(b"Rss:"):
            rss = _kb(line)
        elif line.startswith((b"AnonHugePages:", b"ShmemPmdMapped:")):
            thp += _kb(line)
        elif line.startswith(b"VmFlags:") and end:
            shared = name.startswith(SHMEM)
            found.append(Mapping(start, end, rights, name, anon, rss if shared else 0, thp))
            end = 0
    return found


def sort_out(mappings: Sequence[Mapping]) -> Sums:
    """Which part each mapping belongs to, summed up."""
    sums = dict.fromkeys(("heap", "arenas", "stacks", "mappings", "files", "shmem"), 0)
    counts = {"arenas": 0, "stacks": 0}
    for at, one in enumerate(mappings):
        below = mappings[at - 1] if at else None
        above = mappings[at + 1] if at + 1 < len(mappings) else None
        part = _part(one, below, above)
        if part == "shmem":
            sums["shmem"] += one.shmem
            continue
        sums[part] += one.anon
        if part == "arenas":
            counts[part] += -(-(one.end - one.start) // ARENA)
        elif part == "stacks":
            counts[part] += 1
    return Sums(
        **sums, thp=sum(one.thp for one in mappings), arena_count=counts["arenas"],
        stack_count=counts["stacks"], maps=len(mappings),
        libraries=_libraries(one.name for one in mappings),
        go=any(one.start >> 32 == GO_HEAP and one.start & (ARENA - 1) == 0 for one in mappings),
    )  # fmt: skip


def _part(one: Mapping, below: Mapping | None, above: Mapping | None) -> str:
    name = one.name
    if name.startswith(SHMEM):
        return "shmem"
    if name == b"[heap]":
        return "heap"
    if name.startswith(b"[stack"):
        return "stacks"
    if name.startswith(b"/"):
        return "files"
    if name or not one.rights.startswith(b"rw"):
        return "mappings"
    if _is_arena(one, above):
        return "arenas"
    guarded = (
        below is not None and below.end == one.start and below.rights.startswith(b"---")
        and not below.name and below.end - below.start <= GUARD_MOST
    )  # fmt: skip
    return "stacks" if guarded else "mappings"


def _is_arena(one: Mapping, above: Mapping | None) -> bool:
    low = one.start >> 36 == 0 or one.start >> 32 == GO_HEAP  # a JVM's heap, or Go's
    if low or one.start % ARENA:
        return False
    if one.end % ARENA == 0:
        return one.end - one.start == ARENA
    rest = above is not None and above.start == one.end and above.rights.startswith(b"---")
    return rest and above is not None and above.end % ARENA == 0 and above.end - one.end < ARENA


def _libraries(names: Iterable[bytes]) -> tuple[str, ...]:
    bases = {name.rpartition(b"/")[2].decode("ascii", "replace") for name in names if b"/" in name}
    return tuple(one for one in LIBRARIES if any(base.startswith(one) for base in bases))


def _kb(line: bytes) -> int:
    fields = line.split()
    return int(fields[1]) << 10 if len(fields) > 1 and fields[1].isdigit() else 0

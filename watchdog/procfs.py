"""Pure: the text of /proc files -> numbers. Names stay bytes until `words.name` makes them safe.

Every function answers None (or leaves a key out) where the text is not what a kernel writes; a
process that vanishes half-way is ordinary.
"""

from typing import NamedTuple

from watchdog import words

# System accounts by Debian's convention (adduser, FIRST_UID); all others are people's.
SYSTEM_UID_BELOW = 1000


class Stat(NamedTuple):
    """The fields of /proc/PID/stat that identify; never its rss, which kernels misreport."""

    comm: bytes
    state: str
    ppid: int
    start_ticks: int
    kernel_thread: bool
    threads: int


def parse_stat(raw: bytes) -> Stat | None:
    """comm stands between the first "(" and the last ")" and may hold either."""
    left, right = raw.find(b"("), raw.rfind(b")")
    if left < 0 or right < left:
        return None
    rest = raw[right + 2 :].split()
    try:
        # PF_KTHREAD 0x00200000 of field 9 (flags); start is field 22, both counted from pid = 1
        return Stat(raw[left + 1 : right], rest[0].decode("ascii"), int(rest[1]), int(rest[19]),
                    bool(int(rest[6]) & 0x00200000), int(rest[17]))  # fmt: skip
    except (IndexError, ValueError):
        return None


def parse_statm(raw: bytes) -> tuple[int, int] | None:
    """(resident, shared) in pages; zeros are a zombie, a kernel thread or a dead main thread."""
    fields = raw.split(None, 3)
    try:
        return int(fields[1]), int(fields[2])
    except (IndexError, ValueError):
        return None


def parse_kb(raw: bytes) -> dict[str, int]:
    """Lines "Key:  123 kB" of meminfo, status and smaps_rollup -> {key: bytes}.

    A value without kB is kept as it stands (HugePages_Total, Threads); other lines are left out.
    """
    found: dict[str, int] = {}
    for line in raw.split(b"\n"):
        key, colon, value = line.partition(b":")
        words = value.split()
        if colon and words and words[0].isdigit():
            factor = 1024 if words[1:2] == [b"kB"] else 1
            found[key.decode("ascii", "replace")] = int(words[0]) * factor
    return found


# Of meminfo: what is free, what processes and the page cache hold (each page is on one list), and
# what else has a line of its own and may move by much.
_TOLD = (
    "MemFree", "Active", "Inactive", "Unevictable", "SReclaimable", "KernelStack", "PageTables",
    "Hugetlb", "Zswap",
)  # fmt: skip


def untold(meminfo: dict[str, int]) -> int | None:
    """Bytes of which no line of meminfo says who has them: there lies the ARC of ZFS, and what
    it gives back is missing there at once. None where meminfo does not tell the lists.
    """
    if any(key not in meminfo for key in ("MemTotal", *_TOLD[:4])):
        return None
    return max(0, meminfo["MemTotal"] - sum(meminfo.get(key, 0) for key in _TOLD))


def parse_uid(raw: bytes) -> int | None:
    """The effective user of /proc/PID/status: the second of its Uid line."""
    _, line, rest = raw.partition(b"\nUid:")
    fields = rest.split(b"\n", 1)[0].split()
    return int(fields[1]) if line and len(fields) > 1 and fields[1].isdigit() else None


def parse_counters(raw: bytes) -> dict[str, int]:
    """Lines "key 123" of vmstat, memory.stat and memory.events."""
    found: dict[str, int] = {}
    for line in raw.split(b"\n"):
        key, _, value = line.partition(b" ")
        if value.isdigit():
            found[key.decode("ascii", "replace")] = int(value)
    return found


def parse_pressure(raw: bytes) -> dict[str, int]:
    """{"some": total_us, "full": total_us} of a PSI file; avg10 lags by seconds, so only totals."""
    found: dict[str, int] = {}
    for line in raw.split(b"\n"):
        kind, _, rest = line.partition(b" ")
        total = rest.rpartition(b"total=")[2]
        if total.isdigit():
            found[kind.decode("ascii", "replace")] = int(total)
    return found


class Cgroups(NamedTuple):
    """The two paths of /proc/PID/cgroup that matter; None where the hierarchy is not mounted.

    ``systemd`` names the unit, ``memory`` is where the memory controller (or, on cgroup v2,
    everything) accounts the process.
    """

    systemd: str | None
    memory: str | None


def parse_cgroup(raw: bytes) -> Cgroups:
    """/proc/PID/cgroup on cgroup v1, v2 and hybrid; paths are safe text, "(deleted)" cut off."""
    unified = named = memory = None
    for line in raw.split(b"\n"):
        number, _, rest = line.partition(b":")
        controllers, colon, raw_path = rest.partition(b":")
        if not colon:
            continue
        path = words.name(raw_path.removesuffix(b" (deleted)"))
        if number == b"0":
            unified = path
        elif controllers == b"name=systemd":
            named = path
        elif b"memory" in controllers.split(b","):
            memory = path
    # In the hybrid layout both trees carry the units; "/" in one of them says nothing.
    systemd = named if named not in (None, "/") else unified or named
    return Cgroups(systemd, memory if memory is not None else unified)


class Place(NamedTuple):
    """Where a cgroup path puts a process: system unit, what lies below it, container."""

    unit: str | None
    inner: str | None
    container: str | None


# What has no life of its own: a login, a slice, everybody's scope.
_NEVER = (".slice", "init.scope")
_LOGINS = ("session-", "user@")
_NEVER_STARTS = (*_LOGINS, "user-runtime-dir@")
UNIT_SUFFIXES = (".service", ".scope", ".socket", ".mount", ".swap", ".automount")
# What a runtime puts before the id of a container, and before the name that somebody gave it.
_ID_PREFIXES = ("docker-", "cri-containerd-", "crio-", "libpod-", "nerdctl-")
_NAME_PREFIXES = (("lxc.payload.", ""), ("machine-", ".scope"), ("systemd-nspawn@", ".service"))


def place(path: str | None) -> Place:
    """The outermost component that is no slice is the unit, if systemd could have named it.

    Whoever owns a delegated subtree may give any name to what lies below, so nothing there is
    ever a unit: it is `inner`. A path that leaves our cgroup namespace ("/..") has no unit.
    """
    if not path or path == "/" or path.startswith("/.."):
        return Place(None, None, None)
    parts = [part for part in path.split("/") if part]
    outer = next((i for i, part in enumerate(parts) if not part.endswith(".slice")), None)
    if outer is None:
        return Place(None, None, None)
    unit = parts[outer] if parts[outer].endswith(UNIT_SUFFIXES) else None
    below = [part for part in parts[outer + 1 :] if not part.endswith(".slice")]
    return Place(unit, below[-1] if below else None, _container(parts))


def is_login(unit: str) -> bool:
    """Does a unit of this name hold what one person started, in units of his own?"""
    return unit.startswith(_LOGINS)


def never(unit: str) -> str | None:
    """Why a unit of this name is never restarted, stopped, throttled or ended as a whole."""
    if unit.endswith(_NEVER) or unit.startswith(_NEVER_STARTS):
        return f"{words.safe(unit)} is a login or a slice, and holds what is not meant"
    return None


def _container(parts: list[str]) -> str | None:
    """The container's id (12 figures) or name from docker, podman, CRI, LXC and nspawn paths."""
    for part in reversed(parts):
        # containerd's own driver without systemd: kubepods-…:cri-containerd:ID
        last = part.removesuffix(".scope").rpartition(":")[2]
        for prefix in _ID_PREFIXES:
            last = last.removeprefix(prefix)
        if _is_hex_id(last):
            return last[:12]
        for prefix, suffix in _NAME_PREFIXES:
            if part.startswith(prefix) and part.endswith(suffix):
                return part.removeprefix(prefix).removesuffix(suffix)
    if parts[0] in ("lxc", "lxc.payload") and len(parts) > 1:
        return parts[1]
    return None


def _is_hex_id(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)

"""Effect: memory cgroups, on cgroup v1, v2 and hybrid: use by kind, limits, the kernel's counts.

A unit's use is read from its cgroup, and only there: the sums of its processes count twice what
forks share. Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of Linux.
"""

import os
from collections.abc import Iterable

from watchdog import procfs, words
from watchdog.facts import CgroupKills, Group

# v1 writes "no limit" as the largest multiple of the page size below 2^63.
UNLIMITED_BYTES = 1 << 60
# A look at every cgroup's kill count is bounded (20 us each): past this the rest is left out.
SCAN_MAX = 10_000
NEAR = 0.9
# systemd-oomd counts here what it killed in a cgroup (src/oom/oomd-util.c of systemd).
OOMD_XATTR = "user.oomd_kill"
# What PID 1 leaves there of ManagedOOMPreference= (src/core/cgroup.c); the first one counts.
PREFERENCES = (("omit", "user.oomd_omit"), ("avoid", "user.oomd_avoid"))
_YES = (b"1", b"yes", b"y", b"true", b"t", b"on")


class Cgroups:
    """Finds the memory hierarchy once; `base` is None where there is none to read."""

    def __init__(self, proc: str = "/proc", sys_root: str = "") -> None:
        self.base: str | None = None
        self.v2 = False
        # v1 does not tell which part of a cgroup's kernel memory can be reclaimed: that of the
        # machine's is taken, so that a search through many files is no leak.
        self.reclaimable = 0.0
        unified = None
        try:
            with open(f"{proc}/self/mountinfo", "rb") as file:
                mounts = file.read().split(b"\n")
        except OSError:
            mounts = []
        for line in mounts:
            left, _, right = line.partition(b" - ")
            fields, kind = left.split(), right.split()
            if len(fields) < 5 or len(kind) < 3:
                continue
            point = sys_root + fields[4].decode("utf-8", "surrogateescape")
            if kind[0] == b"cgroup" and b"memory" in kind[2].split(b","):
                self.base = point
            elif kind[0] == b"cgroup2" and unified is None and self._has_memory(point):
                # The first that is a hierarchy: a protected unit has single files of it bound over.
                unified = point
        if self.base is None and unified is not None:
            self.base, self.v2 = unified, True

    def read(self, t: float, up: float, paths: Iterable[str]) -> list[Group]:
        """The cgroups of these paths and those above them; who is gone is left out."""
        if self.base is None:
            return []
        wanted: set[str] = set()
        for path in paths:
            while path and path != "/" and path not in wanted:
                wanted.add(path)
                path = path.rpartition("/")[0]
        read = self._read_v2 if self.v2 else self._read_v1
        found = (read(t, up, path) for path in sorted(wanted))
        return [group for group in found if group is not None]

    def kills(self, t: float, up: float) -> CgroupKills | None:
        """The kill counts of all cgroups that have any; None where there is no hierarchy."""
        if self.base is None:
            return None
        rows = []
        todo = [""]
        seen = 0
        while todo and seen < SCAN_MAX:
            raw = todo.pop()
            seen += 1
            name = "memory.events" if self.v2 else "memory.oom_control"
            counts = procfs.parse_counters(self._file(raw, name) or b"")
            total = counts.get("oom_kill", 0)
            if total:
                own, tree = self._own_kills(raw, total) if self.v2 else (total, None)
                rows.append((words.safe(raw) or "/", own, tree))
            try:
                with os.scandir(f"{self.base}{raw}") as entries:
                    todo += [
                        f"{raw}/{entry.name}"
                        for entry in entries
                        if entry.is_dir(follow_symlinks=False)
                    ]
            except OSError:  # it went meanwhile
                continue
        return CgroupKills(t, up, tuple(sorted(rows)), not todo)

    def _own_kills(self, path: str, total: int) -> tuple[int, int | None]:
        """(own, subtree); before 5.2 memory.events held a cgroup's own counts alone."""
        raw = self._file(path, "memory.events.local") if total else b"oom_kill 0"
        if raw is None:
            return total, None
        return procfs.parse_counters(raw).get("oom_kill", 0), total

    def _events(self, path: str) -> dict[str, int]:
        found = procfs.parse_counters(self._file(path, "memory.events") or b"")
        if "oom_kill" in found:
            own, tree = self._own_kills(path, found["oom_kill"])
            if tree is not None:
                found["oom_kill_local"] = own
        try:
            killed = os.getxattr(f"{self.base}{path}", OOMD_XATTR)
        except (OSError, ValueError):
            return found
        if killed.isdigit():
            found["oomd_kill"] = int(killed)
        return found

    def _preference(self, path: str) -> str | None:
        """What ManagedOOMPreference= says of a unit: "omit", "avoid", or None.

        A login owns its folder and could write there what it likes: only root's word counts.
        """
        folder = f"{self.base}{path}"
        try:
            found = os.stat(folder)
        except (OSError, ValueError):
            return None
        if found.st_uid != 0 or found.st_mode & 0o022:
            return None
        for said, name in PREFERENCES:
            try:
                if os.getxattr(folder, name).strip().lower() in _YES:
                    return said
            except OSError:  # it is not set, or cannot be
                continue
        return None

    def _has_memory(self, base: str) -> bool:
        try:
            with open(f"{base}/cgroup.controllers", "rb") as file:
                return b"memory" in file.read().split()
        except OSError:
            return False

    def _file(self, path: str, name: str) -> bytes | None:
        try:
            fd = os.open(f"{self.base}{path}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, ValueError):
            return None
        try:
            return os.read(fd, 65536)
        except OSError:
            return None
        finally:
            os.close(fd)

    def _number(self, path: str, name: str) -> int | None:
        """A count of bytes; "max", and v1's largest number, are None."""
        raw = self._file(path, name)
        value = int(raw) if raw and raw.strip().isdigit() else None
        return None if value is None or value >= UNLIMITED_BYTES else value

    def _read_v2(self, t: float, up: float, path: str) -> Group | None:
        raw = self._file(path, "memory.stat")
        if raw is None:
            return None
        stat = procfs.parse_counters(raw)
        kernel = stat.get("kernel")
        if kernel is None:  # before 5.18 the parts are told, not the sum
            parts = ("kernel_stack", "pagetables", "percpu", "sock", "slab")
            kernel = sum(stat.get(key, 0) for key in parts)
        usage, limit = self._number(path, "memory.current"), self._number(path, "memory.max")
        high = self._number(path, "memory.high")
        near = is_near(usage, limit) or is_near(usage, high)
        unit = _own_unit(path)
        return Group(
            t, up, unit, path,
            anon=stat.get("anon"),
            shmem=stat.get("shmem"),
            file=stat.get("file"),
            kernel=max(0, kernel - stat.get("slab_reclaimable", 0)),
            swap=self._number(path, "memory.swap.current"),
            usage=usage,
            limit=limit,
            low=max(self._number(path, f"memory.{key}") or 0 for key in ("low", "min")) or None,
            high=high,
            events=self._events(path),
            stall_us=self._stall(path) if near else None,
            oomd=self._preference(path) if unit else None,
        )  # fmt: skip

    def _stall(self, path: str) -> int | None:
        return procfs.parse_pressure(self._file(path, "memory.pressure") or b"").get("full")

    def _read_v1(self, t: float, up: float, path: str) -> Group | None:
        raw = self._file(path, "memory.stat")
        if raw is None:
            return None
        stat = procfs.parse_counters(raw)
        kernel = self._number(path, "memory.kmem.usage_in_bytes")
        control = procfs.parse_counters(self._file(path, "memory.oom_control") or b"")
        counts = {"oom_kill": control.get("oom_kill"), "max": self._number(path, "memory.failcnt")}
        events = {key: count for key, count in counts.items() if count is not None}
        return Group(
            t, up, _own_unit(path), path,
            anon=stat.get("total_rss"),
            shmem=stat.get("total_shmem"),
            file=stat.get("total_cache"),
            kernel=None if kernel is None else int(kernel * (1 - self.reclaimable)),
            swap=stat.get("total_swap"),
            usage=self._number(path, "memory.usage_in_bytes"),
            limit=self._number(path, "memory.limit_in_bytes"),
            events=events or None,
        )  # fmt: skip


def is_near(usage: int | None, bound: int | None) -> bool:
    """Whether a cgroup is so near its limit that it is looked at more often."""
    return usage is not None and bound is not None and usage >= NEAR * bound


def _own_unit(path: str) -> str | None:
    """The unit, if this cgroup is the unit's own and not one below it."""
    place = procfs.place(path)
    return place.unit if place.unit and words.safe(path.rpartition("/")[2]) == place.unit else None

"""Effect: /proc/PID -> rows. A census of all, and a sweep of the few hundred that matter.

A kept statm descriptor answers ESRCH once its process is reaped, and still does when the PID is
used again, so it is an identity as a path is not. It costs 4.4 KiB of kernel memory each, which is
why only the hot ones are kept. Measured at 3,000 processes: 3.6 us a kept pread, 12 us for open,
read and close. RSS is never read from stat: kernels from 6.2 on misreport it there.
"""

import heapq
import os
import resource
from bisect import bisect_left

from watchdog import procfs, words
from watchdog.facts import COMM, PID, RSS, SHARED, UNIT, Row, Sweep, Who
from watchdog.sense import wide

HOT_MAX = 512
FILES_FOR_OTHERS = 100
# Newcomers stay hot for two minutes: a leak that has just begun is small. Where all places are
# taken they have a quarter of them.
NEWCOMER_S = 120.0
NEWCOMERS_EVERY_S = 5.0
# VmSwap and RssShmem cost 15 us each: read for the large and the growing, and for all once the host
# swaps.
STATUS_LEAST_BYTES = 32 << 20
GROWN_BYTES = 1 << 20
# In a census who holds what it held is not looked at closely, but for one in so many: a change of
# name alone shows nowhere else.
CLOSE_LOOK_EVERY = 16
PLACES_MAX = 4096
_PROCFS_ROOT = 1  # inode number of the root of every procfs (PROC_ROOT_INO)


_NOWHERE = procfs.Place(None, None, None)


class _Seen:
    """What is kept of one identity between censuses."""

    __slots__ = (
        "base", "born_up", "cgroup", "inode", "place", "row", "shmem", "start", "swap",
    )  # fmt: skip

    def __init__(self, start: int, now: float) -> None:
        self.start = start
        self.born_up = now
        self.place = _NOWHERE
        self.cgroup: str | None = None  # its path in the memory hierarchy
        self.row: Row | None = None
        self.inode = -1  # of its statm: another process, also one of the same PID, has another
        self.swap: int | None = None
        self.shmem: int | None = None
        self.base: Row | None = None  # its row at the last census

    def grown(self) -> int:
        """Private bytes more than at the last census."""
        if self.base is None or self.base is self.row:
            return 0
        return _private(self.row) - _private(self.base)


class Processes:
    """Reads one /proc tree. `refused` counts reads that permission forbade."""

    def __init__(self, root: str = "/proc", hot_max: int = HOT_MAX) -> None:
        self.root = root
        # Under a low limit of open files fewer are kept: a census needs some, and so do others.
        open_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.hot_max = (
            hot_max if open_max < 0 else min(hot_max, max(1, open_max - FILES_FOR_OTHERS))
        )
        self.page = os.sysconf("SC_PAGE_SIZE")
        self.seen: dict[int, _Seen] = {}
        self.kernel: dict[int, int] = {}  # kernel threads: pid -> start
        self.hot: dict[int, int] = {}  # pid -> kept statm descriptor
        self.fresh: list[int] = []  # seen once: perhaps between fork and exec, as somebody else
        self.looked_up = -1e9
        self.newcomers_every_s = NEWCOMERS_EVERY_S
        self.censuses = 0
        self.places: dict[str | None, procfs.Place] = {}
        try:
            self.real = os.stat(root).st_ino == _PROCFS_ROOT  # elsewhere inodes identify nobody
        except OSError:
            self.real = False
        self.swapping = False
        self.refused = 0

    def close(self) -> None:
        """Let go of the kept descriptors."""
        for fd in self.hot.values():
            os.close(fd)
        self.hot.clear()

    def census(self, t: float, up: float) -> tuple[Sweep, list[Who]]:
        """Look at every process once; who is new, or runs another program now, is described."""
        self.looked_up = up
        told: list[Who] = []
        rows: list[Row] = []
        present = self._pids()
        self.fresh.clear()  # the exec of who was seen before shows in its memory
        self.censuses += 1
        for number, pid in enumerate(present, self.censuses):
            seen = self.seen.get(pid)
            if seen is not None and number % CLOSE_LOOK_EVERY and self._as_before(pid, seen):
                rows.append(seen.row)  # type: ignore[arg-type]
                continue
            row, who = self._look(pid, t, up, full=True)
            if who:
                told.append(who)
            if row:
                rows.append(row)
        if len(rows) != len(self.seen):  # a set of thousands only where some have gone
            alive = {row[PID] for row in rows}
            for pid in [pid for pid in self.seen if pid not in alive]:
                self._forget(pid)
        self.kernel = {pid: start for pid, start in self.kernel.items() if _holds(present, pid)}
        self._choose_hot(up)
        return Sweep(t, up, tuple(rows), census=True), told

    def sweep(self, t: float, up: float) -> tuple[Sweep, list[Who]]:
        """Look for newcomers, then read the hot ones through their kept descriptors."""
        rows: list[Row] = []
        told: list[Who] = []
        fresh, self.fresh = self.fresh, []
        new: list[int] = []
        due = up - self.looked_up >= self.newcomers_every_s
        if due:
            self.looked_up = up
            new = [pid for pid in self._pids() if pid not in self.seen and pid not in self.kernel]
            rows += self._newcomers(new, t, up, told)
        for pid in fresh:
            if self._is_another(pid):
                _, who = self._look(pid, t, up, full=False)
                if who:
                    told.append(who)
        gone: list[int] = []
        looked_at = set(new)
        for pid, fd in list(self.hot.items()):
            if pid in looked_at:
                continue
            row = self._hot_row(pid, fd)
            if row is None:
                self._forget(pid)
                gone.append(pid)
            else:
                rows.append(row)
        if due:  # its number may be a newcomer's already
            rows += self._newcomers(gone, t, up, told)
        rows.sort()
        return Sweep(t, up, tuple(rows), census=False), told

    def _newcomers(self, pids: list[int], t: float, up: float, told: list[Who]) -> list[Row]:
        """Look at who was not seen before, and follow them from now on."""
        rows: list[Row] = []
        for pid in pids:
            row, who = self._look(pid, t, up, full=False)
            if who:
                told.append(who)
            if row:
                rows.append(row)
        for pid in self._make_room([row[PID] for row in rows], up):
            self._keep(pid)
        return rows

    def _pids(self) -> list[int]:
        return sorted(int(entry) for entry in os.listdir(self.root) if entry.isdigit())

    def _read(self, path: str) -> bytes | None:
        """A small file below the root; None where the process has gone or will not show it."""
        try:
            fd = os.open(f"{self.root}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            self.refused += 1
            return None
        except OSError:
            return None
        try:
            return os.read(fd, 65536)
        except PermissionError:
            self.refused += 1
            return None
        except OSError:  # ESRCH comes from read() as well
            return None
        finally:
            os.close(fd)

    def _look(self, pid: int, t: float, up: float, full: bool) -> tuple[Row | None, Who | None]:
        raw = self._read(f"{pid}/stat")
        stat = procfs.parse_stat(raw) if raw else None
        if stat is None:
            return None, None
        if stat.kernel_thread:
            self.kernel[pid] = stat.start_ticks
            return None, None
        seen = self.seen.get(pid)
        new = seen is None or seen.start != stat.start_ticks
        if new and seen is not None:
            self._forget(pid)
        memory = self._memory(pid, stat)
        if memory is None:
            return None, None
        if new or seen is None:
            seen = self.seen[pid] = _Seen(stat.start_ticks, up)
            self.fresh.append(pid)
        comm = wide.same(words.name(stat.comm))
        who = None
        if new or seen.row is None or comm != seen.row[COMM]:
            paths = procfs.parse_cgroup(self._read(f"{pid}/cgroup") or b"")
            seen.place = self._place(paths.systemd)
            seen.cgroup = wide.same(paths.memory) if paths.memory else None
            who = wide.who(self.root, t, up, pid, stat, seen.cgroup, seen.place)
        resident, shared = memory
        private = resident - shared
        grows = seen.base is not None and private - _private(seen.base) >= GROWN_BYTES
        if full and (self.swapping or resident >= STATUS_LEAST_BYTES or grows or seen.swap):
            self._status(pid, seen)
        return self._row(pid, seen, comm, resident, shared), who

    def _is_another(self, pid: int) -> bool:
        """Whether what was seen a moment ago has become another program since."""
        seen, stat = self.seen.get(pid), procfs.parse_stat(self._read(f"{pid}/stat") or b"")
        if seen is None or seen.row is None or stat is None:
            return False
        return seen.start == stat.start_ticks and seen.row[COMM] != words.name(stat.comm)

    def _place(self, path: str | None) -> procfs.Place:
        """Where that is; the same object for the same path, as most processes share theirs."""
        found = self.places.get(path)
        if found is None:
            if len(self.places) >= PLACES_MAX:
                self.places.clear()
            found = self.places[path] = procfs.place(path)
        return found

    def _as_before(self, pid: int, seen: _Seen) -> bool:
        """Whether it is the same process and holds what it held: one small file tells both."""
        row = seen.row
        if row is None or seen.swap or self.swapping or not self.real:
            return False
        try:
            fd = os.open(f"{self.root}/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            memory = procfs.parse_statm(os.read(fd, 128))
            inode = os.fstat(fd).st_ino
        except OSError:
            return False
        finally:
            os.close(fd)
        known, seen.inode = seen.inode, inode
        return (
            inode == known and memory is not None and memory[0] > 0
            and memory[0] * self.page == row[RSS] and memory[1] * self.page == row[SHARED]
            and seen.grown() < GROWN_BYTES
        )  # fmt: skip

    def _status(self, pid: int, seen: _Seen) -> None:
        status = procfs.parse_kb(self._read(f"{pid}/status") or b"")
        if "VmSwap" in status:
            seen.swap, seen.shmem = status["VmSwap"], status.get("RssShmem")

    def _memory(self, pid: int, stat: procfs.Stat) -> tuple[int, int] | None:
        """(resident, shared) in bytes; of another thread where the main thread has exited."""
        found = procfs.parse_statm(self._read(f"{pid}/statm") or b"")
        if found is not None and found[0] == 0 and stat.threads > 1:
            try:
                others = os.listdir(f"{self.root}/{pid}/task")
            except OSError:
                return None
            for tid in others:
                found = procfs.parse_statm(self._read(f"{pid}/task/{tid}/statm") or b"")
                if found and found[0]:
                    break
        return (found[0] * self.page, found[1] * self.page) if found else None

    def _row(self, pid: int, seen: _Seen, comm: str, resident: int, shared: int) -> Row:
        row: Row = (pid, seen.start, comm, resident, shared,
                    seen.swap, seen.place.unit, seen.shmem)  # fmt: skip
        if row == seen.row:
            return seen.row
        seen.row = row
        return row

    def _hot_row(self, pid: int, fd: int) -> Row | None:
        try:
            memory = procfs.parse_statm(os.pread(fd, 128, 0))
        except OSError:
            return None
        seen = self.seen.get(pid)
        if memory is None or seen is None or seen.row is None:
            return None
        if memory[0] == 0 and seen.row[RSS]:
            # A zombie, or a dead main thread: the census looks closer. Not gone, and not zero.
            return seen.row
        row = seen.row
        resident, shared = memory[0] * self.page, memory[1] * self.page
        if resident == row[RSS] and shared == row[SHARED]:
            return row
        moved = abs(row[RSS] - row[SHARED] - (resident - shared))
        swaps = moved >= GROWN_BYTES and (self.swapping or seen.swap)
        if swaps or shared - row[SHARED] >= GROWN_BYTES:
            # What has left memory may lie in swap now: it is not given back, and must not look so.
            # And what is shared may be files, or memory that ends with it.
            self._status(pid, seen)
        seen.row = (*row[:3], resident, shared, seen.swap, row[UNIT], seen.shmem)
        return seen.row

    def _choose_hot(self, up: float) -> None:
        """Newcomers, then the fastest growing, then the largest, up to `hot_max`."""
        rows = self.seen
        new = [pid for pid, seen in rows.items() if up - seen.born_up < NEWCOMER_S]
        new.sort(key=lambda pid: -rows[pid].born_up)
        growing = [pid for pid, seen in rows.items() if seen.grown() > 0]
        growing.sort(key=lambda pid: -rows[pid].grown())
        large = heapq.nlargest(self.hot_max, rows, key=lambda pid: _held(rows[pid]))
        quarter = self.hot_max // 4
        chosen = dict.fromkeys(new[:quarter])
        chosen.update(dict.fromkeys(growing[:quarter]))
        for pid in large:
            if len(chosen) >= self.hot_max:
                break
            chosen[pid] = None
        for pid in [pid for pid in self.hot if pid not in chosen]:
            os.close(self.hot.pop(pid))
        for pid in chosen:
            self._keep(pid)
        for seen in rows.values():
            seen.base = seen.row

    def _make_room(self, new: list[int], up: float) -> list[int]:
        """Which newcomers are followed; where there is no place left the smallest give way to them.

        The young may have a quarter of all places, and more only as everybody else: by their size.
        """
        if len(self.hot) + len(new) <= self.hot_max:
            return new
        rows, everybody = self.seen, [*new, *self.hot]
        young = (pid for pid in everybody if up - rows[pid].born_up < NEWCOMER_S)
        quarter = heapq.nlargest(self.hot_max // 4, young, key=lambda pid: _held(rows[pid]))
        stay = set(quarter)
        others = (pid for pid in everybody if pid not in stay)
        stay.update(heapq.nlargest(
            self.hot_max - len(quarter), others,
            key=lambda pid: (rows[pid].grown() >= GROWN_BYTES, _held(rows[pid])),
        ))  # fmt: skip
        for pid in [pid for pid in self.hot if pid not in stay]:
            os.close(self.hot.pop(pid))
        return [pid for pid in new if pid in stay]

    def _keep(self, pid: int) -> None:
        """Open the descriptor that follows this process; it must be the one that we mean."""
        if pid in self.hot or len(self.hot) >= self.hot_max:
            return
        try:
            fd = os.open(f"{self.root}/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        stat = procfs.parse_stat(self._read(f"{pid}/stat") or b"")
        if stat is None or stat.start_ticks != self.seen[pid].start:
            os.close(fd)
            return
        self.hot[pid] = fd

    def _forget(self, pid: int) -> None:
        self.seen.pop(pid, None)
        fd = self.hot.pop(pid, None)
        if fd is not None:
            os.close(fd)


def _held(seen: _Seen) -> int:
    return _private(seen.row) + (seen.shmem or 0)


def _holds(numbers: list[int], number: int) -> bool:
    """Whether a sorted list holds it."""
    at = bisect_left(numbers, number)
    return at < len(numbers) and numbers[at] == number


def _private(row: Row | None) -> int:
    return row[RSS] - row[SHARED] if row else 0

"""Effect: the guard's eyes. It reads meminfo, pressure, vmstat, stat, statm, status, and no more.

None of these waits for anybody: the longest statm beside a forking 3 GiB process took 0.2 ms,
cmdline 65, smaps_rollup 292, and /proc/PID/cgroup stands behind a mutex.
"""

import os
from typing import NamedTuple

from watchdog import procfs, words
from watchdog.guard_facts import Host
from watchdog.sense import container

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
# Whoever holds less is of no help and is not remembered.
LEAST_BYTES = 1 << 20
# The wish: half a second's notice of 150 ms of stall in one second. A window that is no multiple
# of two seconds needs CAP_SYS_RESOURCE; without it the second line is what the kernel grants.
_TRIGGERS = (b"some 150000 1000000\0", b"some 200000 2000000\0")


class Reading(NamedTuple):
    """One process, read afresh; sizes in bytes. ``private`` is anonymous memory and ``swap``."""

    pid: int
    start: int
    comm: str
    uid: int | None
    private: int
    frees: int
    ppid: int = 0
    swap: int = 0


class Eyes:
    """Reads one /proc tree through descriptors that stay open."""

    def __init__(self, root: str = "/proc") -> None:
        self.root = root
        self._meminfo = _open(f"{root}/meminfo")
        self._pressure = _open(f"{root}/pressure/memory")
        self._vmstat = _open(f"{root}/vmstat")
        self.trigger = _trigger(f"{root}/pressure/memory")
        self.untold: int | None = None  # see procfs; of the last `host`
        # There vmstat counts the kills of the whole machine: those of others hold nothing up here.
        self.counts = container.inside(root) is None

    def host(self, t: float, up: float) -> tuple[Host, int | None]:
        """The machine now, and vmstat's pswpout."""
        memory = procfs.parse_kb(_kept(self._meminfo, 4096))
        self.untold = procfs.untold(memory)
        stalls = procfs.parse_pressure(_kept(self._pressure, 512))
        vmstat = _kept(self._vmstat, 16384)
        host = Host(
            t, up,
            mem_total=memory.get("MemTotal"), mem_available=memory.get("MemAvailable"),
            swap_total=memory.get("SwapTotal"), swap_free=memory.get("SwapFree"),
            psi_some_us=stalls.get("some"), psi_full_us=stalls.get("full"),
            oom_kill=_counter(vmstat, b"\noom_kill ") if self.counts else None,
            shmem=memory.get("Shmem"), slab=memory.get("SUnreclaim"),
        )  # fmt: skip
        return host, _counter(vmstat, b"\npswpout ")

    def sizes(self) -> dict[int, int]:
        """pid -> private resident bytes of everybody above LEAST_BYTES: one statm each.

        0 for whose statm reads zeros: a main thread that has exited, or no memory of its own.
        """
        found: dict[int, int] = {}
        try:
            names = os.listdir(self.root)
        except OSError:
            return found
        for name in names:
            if not name.isdigit():
                continue
            pages = procfs.parse_statm(_read(f"{self.root}/{name}/statm", 256))
            if pages is not None and (not pages[0] or (pages[0] - pages[1]) * PAGE >= LEAST_BYTES):
                found[int(name)] = (pages[0] - pages[1]) * PAGE
        return found

    def look(self, pid: int) -> Reading | None:
        """One process closely; None where it has vanished, or is a kernel thread or a zombie."""
        base = f"{self.root}/{pid}"
        stat = procfs.parse_stat(_read(f"{base}/stat", 1024))
        if stat is None or stat.kernel_thread:
            return None
        if stat.state in ("Z", "X"):
            if stat.threads < 2:
                return None
            # Its main thread has exited and reads zeros; the others still hold the memory.
            base = _living_thread(base, pid)
        pages = procfs.parse_statm(_read(f"{base}/statm", 256)) or (0, 0)
        raw = _read(f"{base}/status", 4096)
        status = procfs.parse_kb(raw)
        swap = status.get("VmSwap", 0)
        private = max(0, pages[0] - pages[1]) * PAGE + swap
        frees = status.get("RssAnon", max(0, private - swap)) + swap
        return Reading(pid, stat.start_ticks, words.name(stat.comm), _uid(raw), private, frees,
                       stat.ppid, swap)  # fmt: skip

    def start_of(self, pid: int) -> int | None:
        """Start ticks of whoever has this number and has not ended; None where nobody has."""
        stat = procfs.parse_stat(_read(f"{self.root}/{pid}/stat", 1024))
        if stat is None or (stat.state in ("Z", "X") and stat.threads < 2):
            return None
        return stat.start_ticks

    def resident(self, pid: int) -> int | None:
        """VmRSS of one process, in bytes."""
        return procfs.parse_kb(_read(f"{self.root}/{pid}/status", 4096)).get("VmRSS")

    def drop_trigger(self) -> None:
        """The kernel has taken it back: go on by time alone."""
        if self.trigger is not None:
            os.close(self.trigger)
        self.trigger = None

    def close(self) -> None:
        """Let go of the descriptors."""
        for fd in (self._meminfo, self._pressure, self._vmstat):
            if fd is not None:
                os.close(fd)
        self._meminfo = self._pressure = self._vmstat = None
        self.drop_trigger()


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _trigger(path: str) -> int | None:
    """A descriptor that poll answers with POLLPRI when tasks wait for memory; None: not granted."""
    if not path.startswith("/proc/"):
        return None  # a recorded tree: an ordinary file would take the line and never answer
    for line in _TRIGGERS:
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            os.write(fd, line)
        except OSError:
            os.close(fd)
            continue
        return fd
    return None


def _kept(fd: int | None, most: int) -> bytes:
    if fd is None:
        return b""
    try:
        return os.pread(fd, most, 0)
    except OSError:  # PSI that is compiled in and switched off answers EOPNOTSUPP
        return b""


def _read(path: str, most: int) -> bytes:
    """b"" for what has vanished, between open and read too."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, most)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _counter(raw: bytes, key: bytes) -> int | None:
    """One value of vmstat; parsing its 190 lines would cost ten times as much."""
    at = raw.find(key)
    if at < 0:
        return None
    value = raw[at + len(key) :].split(None, 1)[:1]
    return int(value[0]) if value and value[0].isdigit() else None


def _uid(status: bytes) -> int | None:
    """The real uid, from status."""
    at = status.find(b"\nUid:")
    fields = status[at + 5 : at + 80].split(None, 1) if at >= 0 else []
    return int(fields[0]) if fields and fields[0].isdigit() else None


def _living_thread(base: str, pid: int) -> str:
    try:
        threads = os.listdir(f"{base}/task")
    except OSError:
        return base
    return next((f"{base}/task/{tid}" for tid in threads if tid != str(pid)), base)

"""Effect: the machine as a whole, through descriptors that stay open (meminfo 11 us, PSI 4)."""

import os

from watchdog import procfs
from watchdog.facts import Host
from watchdog.memory import unowned

# Of vmstat, what the machine's history keeps beside all of meminfo: counters since the boot.
EVENTS = (
    "oom_kill", "pgfault", "pgmajfault", "pswpin", "pswpout", "workingset_refault_anon",
    "workingset_refault_file", "thp_fault_alloc", "thp_fault_fallback", "thp_collapse_alloc",
    "thp_split_page", "thp_swpout", "compact_stall",
)  # fmt: skip
ARC = "spl/kstat/zfs/arcstats"
FILES = ("meminfo", "pressure/memory", "vmstat", "sys/vm/overcommit_memory", ARC)


class HostFiles:
    """Reads one /proc tree; a file that this kernel lacks answers None for its fields."""

    def __init__(self, root: str = "/proc") -> None:
        self._root = root
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._fds = {name: self._open(name) for name in FILES}
        self.told: dict[str, int] = {}  #: all that meminfo and vmstat said at the last reading
        self.boot_id = self._text("sys/kernel/random/boot_id")
        self.btime = procfs.parse_counters(self._slurp("stat")).get("btime")

    def close(self) -> None:
        """Let go of the descriptors."""
        for fd in self._fds.values():
            if fd is not None:
                os.close(fd)
        self._fds = dict.fromkeys(self._fds)

    def read(self, t: float, up: float) -> Host:
        """One reading."""
        memory = procfs.parse_kb(self._kept("meminfo"))
        pressure = procfs.parse_pressure(self._kept("pressure/memory"))
        vmstat = procfs.parse_counters(self._kept("vmstat"))
        mode = self._kept("sys/vm/overcommit_memory").strip()
        self.told = memory | {key: vmstat[key] for key in EVENTS if key in vmstat}
        stalls = [count for key, count in vmstat.items() if key.startswith("allocstall_")]
        if stalls:  # one a zone
            self.told["allocstall"] = sum(stalls)
        held, gives_back = self._arc()
        untold = procfs.untold(memory)
        if gives_back is not None and untold is not None:  # a container sees the machine's
            gives_back = min(gives_back, untold)
        return Host(
            t,
            up,
            boot_id=self.boot_id,
            btime=self.btime,
            mem_total=memory.get("MemTotal"),
            mem_available=memory.get("MemAvailable"),
            swap_total=memory.get("SwapTotal"),
            swap_free=memory.get("SwapFree"),
            psi_some_us=pressure.get("some"),
            psi_full_us=pressure.get("full"),
            oom_kill=vmstat.get("oom_kill"),
            commit_limit=memory.get("CommitLimit"),
            committed=memory.get("Committed_AS"),
            overcommit=int(mode) if mode.isdigit() else None,
            shmem=memory.get("Shmem"),
            slab=memory.get("SUnreclaim"),
            kernel=unowned(memory, vmstat.get("nr_zspages", 0) * self._page, held),
            arc=gives_back,
        )

    def _arc(self) -> tuple[int, int | None]:
        """What the cache of ZFS holds (its headers are slab), and what it gives back; 0 without."""
        if self._fds[ARC] is None:
            return 0, None
        parts = (line.split() for line in self._kept(ARC).split(b"\n"))
        held = {one[0]: int(one[2]) for one in parts if len(one) == 3 and one[2].isdigit()}
        back = max(0, held.get(b"size", 0) - held.get(b"c_min", 0))
        return held.get(b"data_size", 0) + held.get(b"metadata_size", 0), back or None

    def _open(self, name: str) -> int | None:
        try:
            return os.open(f"{self._root}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None

    def _kept(self, name: str) -> bytes:
        fd = self._fds[name]
        if fd is None:
            return b""
        try:
            return os.pread(fd, 65536, 0)
        except OSError:  # PSI compiled in and switched off answers EOPNOTSUPP
            return b""

    def _slurp(self, name: str) -> bytes:
        try:
            with open(f"{self._root}/{name}", "rb") as file:
                return file.read()
        except OSError:
            return b""

    def _text(self, name: str) -> str | None:
        return self._slurp(name).decode("ascii", "replace").strip() or None

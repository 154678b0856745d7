"""Effect: who has memfds open. A memfd that nobody maps is in no process's resident size.

Only where there is enough shared memory to matter, and then at a census or once it has grown: the
list of a process's descriptors costs 10 us, each link in it 2. Another user's are shown to who has
CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE. Only links that name a memfd are followed: a file on a dead
server would hang.
"""

import contextlib
import os
from collections.abc import Mapping

from watchdog.facts import Memfds
from watchdog.sense.processes import Processes

MACHINE_LEAST, GROUP_LEAST, GROWN = 64 << 20, 16 << 20, 4 << 20
TOLD_LEAST = 1 << 20
LOOKS_MAX, LINKS_MAX, TOLD_MAX = 256, 1024, 256
_LINK = "/memfd:"

_Row = tuple[int, int, int, int]


class MemfdFiles:
    """Remembers who had any: these are looked at first."""

    def __init__(self, root: str = "/proc") -> None:
        self.root = root
        self.rows: tuple[_Row, ...] = ()
        self.last = 0  # the machine's shared memory when everybody was last looked at
        self.next_pid = 0  # where the next round among too many begins
        self.device: int | None = None

    def due(self, total: int | None, census: bool) -> bool:
        """Is it time to look again? `total` is the machine's shared memory."""
        now = total if total is not None and total >= MACHINE_LEAST else 0
        is_due = now - self.last >= GROWN or (census and now > 0) or (not now and self.last > 0)
        self.last = now if is_due else min(self.last, now)
        return is_due

    def read(
        self, t: float, up: float, processes: Processes, charged: Mapping[str, int], files: int
    ) -> Memfds:
        """`charged` is the shared memory of each cgroup, `files` what nobody's end gives back."""
        if not self.last:
            self.rows = ()
            return Memfds(t, up, (), files)
        wanted = [
            pid for pid, seen in processes.seen.items()
            if charged.get(seen.cgroup or "", GROUP_LEAST) >= GROUP_LEAST
        ]  # fmt: skip
        rows: list[_Row] = []
        for pid in self._first(wanted):
            rows += self._open_in(pid, processes.seen[pid].start)
        rows.sort(key=lambda row: (-row[3], row))
        self.rows = tuple(rows[:TOLD_MAX])
        return Memfds(t, up, self.rows, files)

    def _first(self, wanted: list[int]) -> list[int]:
        """Who had some, the newest, and the next of the rest: LOOKS_MAX of them."""
        if len(wanted) <= LOOKS_MAX:
            return wanted
        known = set(wanted)
        wanted = sorted(wanted)
        chosen = dict.fromkeys(row[0] for row in self.rows if row[0] in known)
        chosen.update(dict.fromkeys(wanted[-LOOKS_MAX // 4 :]))
        at = next((i for i, pid in enumerate(wanted) if pid >= self.next_pid), 0)
        for pid in wanted[at:] + wanted[:at]:
            if len(chosen) >= LOOKS_MAX:
                self.next_pid = pid
                break
            chosen[pid] = None
        return list(chosen)

    def _open_in(self, pid: int, start: int) -> list[_Row]:
        found: dict[int, _Row] = {}  # one file may be open twice
        try:
            with os.scandir(f"{self.root}/{pid}/fd") as entries:
                for number, entry in enumerate(entries):
                    if number >= LINKS_MAX:
                        break
                    with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                        if os.readlink(entry.path).startswith(_LINK):
                            file = os.stat(entry.path)
                            size = file.st_blocks * 512
                            if size >= TOLD_LEAST and file.st_dev == self._device():
                                found[file.st_ino] = (pid, start, file.st_ino, size)
        except OSError:  # it has ended, or will not show them
            pass
        return list(found.values())

    def _device(self) -> int:
        """That of all memfds but those in huge pages, whose memory is set aside anyway."""
        if self.device is None:
            fd = os.memfd_create("oom-watchdog")
            self.device = os.fstat(fd).st_dev
            os.close(fd)
        return self.device

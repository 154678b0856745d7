"""Effect: what each process holds, split into its parts. For a person who asks, not for a loop.

VSZ and RSS are VmSize and VmRSS of /proc/PID/status, which `ps aux` shows too. The proportional
set (PSS), what is held alone (USS) and huge pages stand in smaps_rollup only, which costs about
20 ms for each resident GiB and stops the process's own page faults meanwhile: it is read for whom
it is asked for. https://docs.kernel.org/filesystems/proc.html
"""

import os
from collections.abc import Iterator

from watchdog import procfs, words
from watchdog.host_memory import Held


class Breakdown:
    """Reads one /proc tree. `refused` counts processes whose smaps permission forbade."""

    def __init__(self, root: str = "/proc") -> None:
        self.root = root
        self.refused = 0

    def all(self) -> Iterator[Held]:
        """Every process that has memory of its own; kernel threads and zombies have none."""
        for pid in sorted(int(entry) for entry in os.listdir(self.root) if entry.isdigit()):
            held = self.one(pid)
            if held is not None:
                yield held

    def one(self, pid: int) -> Held | None:
        """One process; None where it is gone or is no user process."""
        stat = procfs.parse_stat(self._read(pid, "stat") or b"")
        status = procfs.parse_kb(self._read(pid, "status") or b"")
        if stat is None or "VmSize" not in status:
            return None
        paths = procfs.parse_cgroup(self._read(pid, "cgroup") or b"")
        place = procfs.place(paths.systemd)
        get = status.get
        return Held(
            pid, stat.start_ticks, words.name(stat.comm), get("Uid"), place.unit,
            place.container or procfs.place(paths.memory).container, paths.memory,
            status["VmSize"], get("VmRSS", 0), get("RssAnon"), get("RssFile"), get("RssShmem"),
            get("VmSwap"), get("VmPTE"), get("HugetlbPages"),
        )  # fmt: skip

    def rollup(self, held: Held) -> Held:
        """The same with its huge pages, PSS and USS; unchanged where they cannot be read."""
        raw = self._read(held.pid, "smaps_rollup")
        if raw is None:
            return held
        found = procfs.parse_kb(raw)
        if "Pss" not in found:
            return held
        alone = found.get("Private_Clean", 0) + found.get("Private_Dirty", 0)
        return held._replace(
            thp=found.get("AnonHugePages", 0) + found.get("ShmemPmdMapped", 0),
            pss=found["Pss"],
            uss=alone + found.get("Private_Hugetlb", 0),
            pss_anon=found.get("Pss_Anon"),
        )

    def _read(self, pid: int, name: str) -> bytes | None:
        try:
            with open(f"{self.root}/{pid}/{name}", "rb") as file:
                return file.read()
        except PermissionError:
            self.refused += name == "smaps_rollup"
            return None
        except OSError:
            return None

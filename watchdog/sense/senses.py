"""Effect: what is due is read. The two cadences of processes, the host, and the memory cgroups."""

from collections.abc import Iterator
from typing import Any

from watchdog.clock import Clock
from watchdog.facts import CgroupKills, Fact, Group, Host
from watchdog.sense import container
from watchdog.sense.cgroups import Cgroups, is_near
from watchdog.sense.host import HostFiles
from watchdog.sense.memfd import MACHINE_LEAST, MemfdFiles
from watchdog.sense.places import Places
from watchdog.sense.processes import NEWCOMERS_EVERY_S, Processes

CENSUS_S = 30.0
# Cgroups between censuses: those of the hot processes, at most so many (13 us a file, 8 files).
HOT_GROUPS_MAX = 64
NEAR_GROUPS_MAX = 32
GROWN_BYTES = 1 << 20  # since a cgroup was last read


class Senses:
    """`due` yields host, who, groups, rows (what explains comes first), and who has memfds."""

    def __init__(self, clock: Clock, interval_s: float, proc: str = "/proc") -> None:
        self.clock = clock
        self.interval_s = interval_s
        self.processes = Processes(proc)
        self.host = HostFiles(proc)
        self.cgroups = Cgroups(proc)
        # There vmstat counts the kills of the whole machine, most of which are out of sight.
        self.container = container.inside(proc)
        self.near: set[str] = set()  # cgroups that are looked at between censuses
        self.shmem: dict[str, int] = {}  # of each cgroup at its last reading
        self.memfds = MemfdFiles(proc)
        self.places = Places(proc)
        self.hidden: dict[str, Any] = {}  # where memory lies that no process owns
        self.next_up = clock.boottime()
        self.next_census = self.next_up

    def close(self) -> None:
        """Let go of all descriptors."""
        self.processes.close()
        self.host.close()

    def due(self) -> Iterator[Fact]:
        """Read what is due now, and set `next_up`; nothing where nothing is due."""
        up = self.clock.boottime()
        if up < self.next_up:
            return
        t = self.clock.wall()
        # After a suspend or a long stall one reading is made, not all that were missed.
        self.next_up = max(self.next_up + self.interval_s, up + self.interval_s / 2)
        host = self.read_host(t, up)
        self.processes.swapping = bool(
            host.swap_total and host.swap_free is not None and host.swap_free < host.swap_total
        )
        yield host
        census = up >= self.next_census
        self.processes.newcomers_every_s = min(NEWCOMERS_EVERY_S, self.interval_s)
        if census:
            self.next_census = up + max(CENSUS_S, self.interval_s) - self.interval_s / 2
            sweep, told = self.processes.census(t, up)
        else:
            sweep, told = self.processes.sweep(t, up)
        yield from told
        shares = self.memfds.due(host.shmem, census)
        before = self.shmem
        if census or shares:
            paths = {seen.cgroup for seen in self.processes.seen.values() if seen.cgroup}
        else:
            # What is new may have been said to be spared, and it grows before the next census.
            new = {who.cgroup for who in told if who.cgroup and who.cgroup not in self.shmem}
            paths = self._hot_paths() | self.near | set(sorted(new)[:HOT_GROUPS_MAX])
        if census:
            self.near.clear()
            self.shmem = {}
        self.cgroups.reclaimable = reclaimable(self.host.told)
        lying = self._lying() if self.processes.swapping else None
        for group in self.cgroups.read(t, up, paths):
            self._watch(group, before)
            if group.swap is None and lying is not None:
                group = group._replace(swap=lying.get(group.cgroup or "", 0))
            yield group
        yield sweep
        self.hidden = self.places.read(self._containers(host.shmem or 0))
        if shares:
            stays = self.hidden.get("stays", 0)
            yield self.memfds.read(t, up, self.processes, self.shmem, stays)

    def read_host(self, t: float, up: float) -> Host:
        """The machine now, as far as it is ours."""
        return self.own(self.host.read(t, up))

    def own(self, host: Host) -> Host:
        """A reading by whomever; in a container without what is the whole machine's."""
        if not self.container:
            return host
        return host._replace(oom_kill=None, shmem=None, slab=None, kernel=None)

    def count_kills(self) -> CgroupKills | None:
        """Every cgroup's kill count now, and a census at the next reading."""
        self.next_up = self.next_census = up = self.clock.boottime()
        return self.cgroups.kills(self.clock.wall(), up)

    def _lying(self) -> dict[str, int]:
        """What the processes of each cgroup have in swap, for a kernel that does not count that."""
        found: dict[str, int] = {}
        for seen in self.processes.seen.values():
            path = seen.cgroup if seen.swap else None
            while path and path != "/":
                found[path] = found.get(path, 0) + (seen.swap or 0)
                path = path.rpartition("/")[0]
        return found

    def _watch(self, group: Group, before: dict[str, int]) -> None:
        """A cgroup near its limit, or whose shared memory grows, is read at each sweep as well."""
        path, shmem = group.cgroup or "", group.shmem or 0
        grows = shmem - before.get(path, shmem) >= GROWN_BYTES
        self.shmem[path] = shmem
        near = is_near(group.usage, group.limit) or is_near(group.usage, group.high)
        if (near or grows) and len(self.near) < NEAR_GROUPS_MAX:
            self.near.add(path)

    def _containers(self, shmem: int) -> dict[str, int]:
        """Of each the PID of somebody in it; none where there is too little shared memory."""
        found: dict[str, int] = {}
        for pid, seen in self.processes.seen.items() if shmem >= MACHINE_LEAST else ():
            if seen.place.container is not None:
                found.setdefault(seen.place.container, pid)
        return found

    def _hot_paths(self) -> set[str]:
        hot: dict[str, None] = {}
        for pid, seen in self.processes.seen.items():
            if pid in self.processes.hot and seen.grown() > 0 and seen.cgroup:
                hot[seen.cgroup] = None
            if len(hot) >= HOT_GROUPS_MAX:
                break
        return set(hot)


def reclaimable(meminfo: dict[str, int]) -> float:
    """Which share of the kernel memory that is charged to cgroups can be reclaimed: 0..1."""
    kept = sum(meminfo.get(key, 0) for key in ("SUnreclaim", "KernelStack", "PageTables", "Percpu"))
    given = meminfo.get("SReclaimable", 0)
    return given / (kept + given) if given else 0.0

"""A random machine as the daemon sees it: who is there, and what its senses read."""

from bench.blame.services import Proc
from bench.blame.worlds import World
from watchdog.engine import Engine
from watchdog.facts import Group, Host, Row, Sweep, Who
from watchdog.policy.rules import default_rules

MIB = 1 << 20
T0, UP0 = 1_700_000_000.0, 2_000_000.0
SHARED = 4 * MIB


class Machine:
    """A world as the daemon sees it: pids, facts, looks."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.engine = Engine(default_rules(), None)
        self.pids: dict[str, tuple[int, int]] = {}
        self.said: set[tuple[int, int]] = set()
        self.owner: dict[int, str] = {}

    def ident(self, proc: Proc) -> tuple[int, int]:
        found = self.pids.get(proc.key)
        if found is None:
            found = (100 + len(self.pids), max(1, int((UP0 + proc.born) * 100)))
            self.pids[proc.key] = found
            self.owner[found[0]] = proc.unit
        return found

    def look(self, t: float) -> list[tuple[int, int, Proc]]:
        return [(*self.ident(proc), proc) for proc in self.world.procs(t)]

    def host(self, t: float) -> Host:
        return Host(
            T0 + t, UP0 + t, boot_id="b", btime=T0 - UP0, mem_total=int(self.world.memory * MIB),
            mem_available=max(1, int(self.world.available(t) * MIB)), swap_total=0, swap_free=0,
            psi_some_us=0, psi_full_us=0, oom_kill=0,
            shmem=int(sum(one.filed(t) for one in self.world.services) * MIB),
        )  # fmt: skip

    def show(self, t: float) -> None:
        """A census, as the watcher takes it."""
        wall, up, w = T0 + t, UP0 + t, self.world
        self.engine.feed(self.host(t))
        rows: list[Row] = []
        for pid, start, proc in self.look(t):
            if (pid, start) not in self.said:
                self.said.add((pid, start))
                parent = self.pids[proc.parent][0] if proc.parent else 1
                where = f"/lxc/{proc.unit}" if proc.contained else f"/system.slice/{proc.unit}"
                self.engine.feed(Who(wall, up, pid, start, ppid=parent, uid=0, exe=proc.exe,
                                     cgroup=where))  # fmt: skip
            size = int(proc.size * MIB)
            name = proc.unit[:15]
            unit = None if proc.contained else proc.unit
            rows.append((pid, start, name, size + SHARED, SHARED, None, unit, None))
        if w.cgroups:
            for one in w.services:
                used, filed = int(one.real(t) * MIB), int(one.filed(t) * MIB)
                if used and not one.contained:
                    path = f"/system.slice/{one.unit}"
                    group = Group(wall, up, one.unit, path, anon=used - filed, shmem=filed)
                    self.engine.feed(group)
        self.engine.feed(Sweep(wall, up, tuple(rows), True))

"""Four forged names, as real cgroups and processes: nothing of the real unit is touched.

Whoever owns a delegated subtree may give any name to what lies in it, and any process may call
itself what it likes. The unit is the outermost component that is no slice, and it alone.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from watchdog import procfs, targets
from watchdog.act.kill import kill_unit
from watchdog.act.unit import Unit, Units
from watchdog.child import Children
from watchdog.clock import RealClock
from watchdog.engine import Engine
from watchdog.facts import Host, Order
from watchdog.history.world import World
from watchdog.policy.rules import (
    Match,
    Policy,
    Rules,
    Selector,
    When,
)  # fmt: skip
from watchdog.sense.cgroups import Cgroups
from watchdog.sense.processes import Processes

REAL = "postgresql.service"
FORGED = (
    "user@1000.service/app.slice/postgresql.service",
    "user@1000.service/system.slice/postgresql.service",
    "user@1000.service/a,task_memcg=/system.slice/postgresql.service,task=x,pid=1",
    "user@1000.service/init.scope",  # no forged unit, but a process that calls itself sshd
)
CODE = (
    "import os, sys; open('/proc/self/comm', 'w').write(sys.argv[1]); os.setuid(int(sys.argv[2])); "
    "b = bytearray(24 << 20); b[::4096] = b'x' * len(b[::4096]); print(flush=True); input()"
)


def hierarchies() -> list[Path]:
    """Where a process is to be put: the memory controller, and what names the unit."""
    v1 = [Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/systemd")]
    return [path for path in v1 if path.is_dir()] or [Path("/sys/fs/cgroup")]


class Forgery:
    """A real postgresql.service and the four, side by side in a slice of our own."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.stack = stack
        self.slice = f"oomwforged{os.getpid()}.slice"
        self.made: list[Path] = []
        self.real = self.start(REAL, "postgres", 0)
        names = ("postgres", "postgres", "postgres", "sshd")
        self.forged = [self.start(path, name) for path, name in zip(FORGED, names, strict=True)]

    def start(self, path: str, comm: str, uid: int = 1000) -> subprocess.Popen[bytes]:
        one = subprocess.Popen([sys.executable, "-I", "-S", "-c", CODE, comm, str(uid)],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
        self.stack.enter_context(one)
        self.stack.callback(one.kill)
        assert one.stdout
        one.stdout.readline()
        for base in hierarchies():
            folder = base / self.slice
            for part in ("", *path.split("/")):
                folder = folder / part
                if not folder.is_dir():
                    folder.mkdir()
                    self.made.append(folder)
            (folder / "cgroup.procs").write_text(str(one.pid))
        return one

    def engine(self, rules: Rules) -> tuple[Engine, list[Order]]:
        """What the daemon's own senses see of it, and what the policies order."""
        engine, clock = Engine(rules, None), RealClock()
        t, up = clock.wall(), clock.boottime()
        engine.feed(Host(t, up, mem_total=1 << 40, mem_available=1 << 39))
        senses, out = Processes(), []
        sweep, told = senses.census(t, up)
        for fact in told:
            engine.feed(fact)
        for group in Cgroups().read(t, up, {w.cgroup for w in told if w.cgroup}):
            engine.feed(group)
        out += engine.feed(sweep)
        senses.close()
        return engine, [one for one in out if isinstance(one, Order)]


@pytest.fixture
def forgery() -> Iterator[Forgery]:
    if os.geteuid() != 0 or not all((base / "cgroup.procs").exists() for base in hierarchies()):
        pytest.skip("cgroup: needs root and a hierarchy")
    made: list[Path] = []
    with contextlib.ExitStack() as stack:
        try:
            one = Forgery(stack)
            made = one.made
        except OSError as error:
            pytest.skip(f"cgroup: none can be made here ({error.strerror})")
        yield one
    for folder in sorted(made, key=lambda path: len(path.parts), reverse=True):
        for _ in range(100):
            try:
                folder.rmdir()
                break
            except OSError:
                continue


def ident(world: World, one: subprocess.Popen[bytes]) -> tuple[int, int]:
    (found,) = [ident for ident in world.rows if ident[0] == one.pid]
    return found


def test_what_a_forger_calls_itself_is_inner_and_nothing_more(forgery: Forgery) -> None:
    engine, orders = forgery.engine(Rules(
        protect=Selector(unit=(REAL,), name=("sshd",)),
        policies=(
            Policy("kills", Match(unit=(REAL,)), When(resident_above=1), do=("kill-unit",),
                   mode="enforce", per="unit"),
            Policy("ends", Match(unit=(REAL,)), When(resident_above=1), do=("kill",),
                   mode="enforce", per="process"),
        ),
    ))  # fmt: skip
    world = engine.world
    assert world.entity(ident(world, forgery.real)).unit == REAL
    for one in forgery.forged:
        entity = world.entity(ident(world, one))
        assert entity.unit == "user@1000.service"
        assert not {order.subject.entity.pid for order in orders} & {one.pid}
    rows = {row[0]: row for row in engine.dossier()}
    # Protected is the real one, by its unit. Of the forged none is: not by a unit's name, and not
    # by a comm without the executable that goes with it.
    assert rows[forgery.real.pid][7]
    for one in forgery.forged:
        assert rows[one.pid][7] is None
    # None of them is of the real one's entity, so it is never judged by what they hold.
    assert rows[forgery.real.pid][9] == REAL
    assert REAL not in {rows[one.pid][9] for one in forgery.forged}


def test_ending_a_forged_unit_ends_only_what_is_in_it(forgery: Forgery) -> None:
    engine, _ = forgery.engine(Rules(protect=Selector()))
    rows = [row for row in engine.dossier() if row[0] in {one.pid for one in forgery.forged}]
    places = targets.places(engine.world, engine.rules, Cgroups(), rows)
    may = [place for place in places.values() if place[2] is None]
    assert may
    for place in may:
        assert f"{forgery.slice}/user@1000.service" in place[0]
        assert kill_unit(place[0], place[1])[0] == "done"
    assert forgery.forged[0].wait(5) == -signal.SIGKILL
    assert forgery.real.poll() is None


def test_pid_1_is_asked_for_nothing_under_a_forged_name(forgery: Forgery, tmp_path: Path) -> None:
    """PID 1 knows the real unit; the processes that we mean are elsewhere."""
    said, asked = tmp_path / "asked", []
    program = tmp_path / "systemctl"
    group = f"/{forgery.slice}/{REAL}"
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{said}\n'
        f"echo Id={REAL}\necho LoadState=loaded\necho ActiveState=active\n"
        f"echo ControlGroup={group}\necho InvocationID=1\n"
    )
    program.chmod(0o755)
    children = Children()
    units = Units(children, systemctl=str(program))
    for one in forgery.forged[:3]:
        stat = procfs.parse_stat(Path(f"/proc/{one.pid}/stat").read_bytes())
        assert stat
        unit = Unit(REAL, ((one.pid, stat.start_ticks),))
        units.restart(unit, lambda outcome, text: asked.append((outcome, text)))
    clock = RealClock()
    for _ in range(200):
        children.turn(clock.boottime())
        units.turn()
        if len(asked) == 3:
            break
        clock.wait({}, 0.02)
    assert {outcome for outcome, _ in asked} == {"protected"}
    assert all("forged" in text for _, text in asked)
    assert "restart" not in said.read_text()
    assert forgery.real.poll() is None

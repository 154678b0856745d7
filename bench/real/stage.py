"""Builds the programs, gives each its own unit and limit, starts it and sees how it ended.

Needs root and a memory hierarchy of cgroup v1 beside systemd's named one. Touches no cgroup but
those below SLICE, which it makes and removes.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.real.programs import POSTGRES, SOURCES, Place, Program

SLICE = "oomwreal.slice"
MEMORY = Path("/sys/fs/cgroup/memory") / SLICE
NAMED = Path("/sys/fs/cgroup/systemd") / SLICE
SHIM = """
for place in "$1" "$2"; do echo $$ >"$place/cgroup.procs" || exit 99; done; shift 2; exec "$@"
"""


class Running(NamedTuple):
    program: Program
    process: subprocess.Popen[bytes]
    load: subprocess.Popen[bytes] | None
    begun_t: float


class End(NamedTuple):
    """`how` is "oom kill", "exit STATUS" or "stopped" (by us); `t` in Unix seconds."""

    how: str
    t: float


def unit(program: Program) -> str:
    return f"{program.name}.service"


def build(folder: Path, programs: Sequence[Program]) -> Place:
    """Everything that is run, in one folder that says nothing of where this checkout lies."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    for source in SOURCES.iterdir():
        if source.is_file():
            shutil.copy(source, folder)
    for name in ("leak_malloc", "leak_threads", "arenas", "sparse_thp"):
        _run(folder, "gcc", "-O1", "-pthread", "-o", name, f"{name}.c")
    runtimes = {program.runtime for program in programs}
    if "JVM" in runtimes:
        _run(folder, "javac", "-d", ".", "LeakMap.java", "LeakDirect.java", "SteadyG1.java")
    if "Go" in runtimes:
        for name in ("leak_goroutines", "steady_go"):
            _run(folder, "go", "build", "-o", name, f"{name}.go")
    names_of = {program.name for program in programs}
    if "sort-file" in names_of and not (folder / "lines.txt").exists():
        with (folder / "lines.txt").open("wb") as file:
            for _ in range(320):
                file.write(os.urandom(524288).hex("\n", 24).encode())
    if "mmap-scan" in names_of and not (folder / "data.bin").exists():
        with (folder / "data.bin").open("wb") as file:
            for _ in range(400):
                file.write(os.urandom(1 << 20))
    if "py-tmpfs" in names_of:
        (folder / "tmpfs").mkdir(exist_ok=True)
    if "postgres-warm" in names_of:
        _make_database(folder / "postgres")
    return Place(folder, 0.0)


def _make_database(data: Path) -> None:
    if data.exists():
        return
    data.mkdir()
    shutil.chown(data, "postgres", "postgres")
    who = ("setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups")
    _run(data, *who, str(POSTGRES / "initdb"), "-D", str(data), "--no-sync")
    control = (str(POSTGRES / "pg_ctl"), "-D", str(data), "-w", "-o",
               f"-k {data} -p 25433 -c listen_addresses= -c fsync=off")  # fmt: skip
    _run(data, *who, *control, "start")
    try:
        there = ("-h", str(data), "-p", "25433")
        _run(data, *who, str(POSTGRES / "createdb"), *there, "bench")
        _run(data, *who, str(POSTGRES / "pgbench"), *there, "-i", "-s", "14", "bench")
    finally:
        _run(data, *who, *control, "stop")


def _run(folder: Path, *argv: str) -> None:
    done = subprocess.run(argv, cwd=folder, check=False, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{argv[0]} {argv[-1]}: {done.stderr.decode(errors='replace').strip()}")


@contextlib.contextmanager
def slices() -> Iterator[None]:
    """Our own slice in both hierarchies, for the time of a run."""
    for base in (MEMORY, NAMED):
        base.mkdir(exist_ok=True)
    try:
        yield
    finally:
        for base in (MEMORY, NAMED):
            _remove(base)


def start(program: Program, place: Place, log: Path) -> Running:
    """Start it inside of its own unit, under its own limit."""
    for base in (MEMORY, NAMED):
        (base / unit(program)).mkdir()
    (MEMORY / unit(program) / "memory.limit_in_bytes").write_text(str(program.limit << 20))
    if program.unit_only:
        mount = ["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", place.file("tmpfs")]
        subprocess.run(mount, check=True)
    argv = list(program.argv(place))
    if program.user:
        argv = ["setpriv", "--reuid", program.user, "--regid", program.user,
                "--clear-groups", *argv]  # fmt: skip
    places = [str(base / unit(program)) for base in (MEMORY, NAMED)]
    with log.open("ab") as out:
        process = subprocess.Popen(
            ["sh", "-c", SHIM, "sh", *places, *argv],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd="/",
        )  # fmt: skip
        load = None
        if program.load:
            load = subprocess.Popen(
                list(program.load(place)), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, cwd="/",
            )  # fmt: skip
    return Running(program, process, load, time.time())


def ended(one: Running) -> End | None:
    """How it ended; None while it runs."""
    status = one.process.poll()
    if status is None:
        return None
    kills = (MEMORY / unit(one.program) / "memory.oom_control").read_text()
    killed = "oom_kill 0" not in kills and status in (-signal.SIGKILL, 137)
    return End("oom kill" if killed else f"exit {status}", time.time())


def stop(one: Running, place: Place) -> None:
    """End what is left of it, and take its cgroups away."""
    for process in (one.load, one.process):
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for _ in range(50):
        left = (MEMORY / unit(one.program) / "cgroup.procs").read_text().split()
        if not left:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.1)
    if one.program.unit_only:
        subprocess.run(["umount", place.file("tmpfs")], check=False)


def _remove(base: Path) -> None:
    for below in base.iterdir() if base.exists() else ():
        if below.is_dir():
            _remove(below)
    with contextlib.suppress(OSError):
        base.rmdir()

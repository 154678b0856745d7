"""Saved states of the duel's machine, and what is run from them. On the host.

    base    the image, booted; our package and the peers' settings in it (cells.py prepare)
    warm    from base: one daemon, and innocents that are steady
    a cell  from warm; the machine is thrown away afterwards

A state is a folder: the disk's changes since its parent (qcow2), and the memory (what qemu's
migrate writes). The clocks of a machine stand still in it. What it is asked to do, and what it
found, pass through two small raw disks (agent.py).
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[2]
GUEST = ("cells.py", "load.py", "scenarios.py")
MIB = 1 << 20
MEMORY_MIB = 1024
BLOCK = 4096
ORDERS_MIB, RESULTS_MIB, BIG_MIB = 8, 4, 1200
BASE_LIMIT_S, ORDER_LIMIT_S = 900.0, 700.0
# As tests/vm/run; qemu 7.2 corrupts flags with cx16.
CPU = ("-accel", os.environ.get("OOM_WATCHDOG_VM_ACCEL", "tcg,thread=multi"),
       "-cpu", "max,cx16=off", "-smp", "2", "-m", str(MEMORY_MIB))  # fmt: skip
# As rented machines have it; from the host's memory what was thrown away is back at once.
DISK = "throttling.iops-total=3000,throttling.bps-total=131072000"
APPEND = "root=/dev/vda rw console=ttyS0 psi=1 quiet systemd.show_status=0 no_timer_check panic=-1"


class VoidError(Exception):
    """The machine gave no result, and why."""


def tar_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def big(cache: Path) -> Path:
    """A file system with one file that cannot be made smaller, for those who read much."""
    image = cache / f"duel-big-{BIG_MIB}.img"
    if not image.exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            with open(f"{folder}/big", "wb") as file:
                for _ in range(BIG_MIB):
                    file.write(os.urandom(MIB))
            part = image.with_suffix(".part")
            make = [
                "mke2fs",
                "-q",
                "-F",
                "-t",
                "ext4",
                "-d",
                folder,
                str(part),
                f"{BIG_MIB + 200}M",
            ]
            path = os.environ["PATH"] + ":/usr/sbin:/sbin"
            subprocess.run(make, check=True, env=dict(os.environ, PATH=path))
            part.rename(image)
    return image


class Machine:
    """One qemu, in a folder of its own; `watch` is called with its PID."""

    def __init__(self, image: Path, big_image: Path, parent: Path, watch: Callable[[int], None],
                 memory: Path | None = None, first: bytes = b"") -> None:  # fmt: skip
        self.folder = Path(tempfile.mkdtemp(prefix="oom-watchdog-duel-"))
        try:
            self._start(image, big_image, parent, memory, first)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        watch(self.process.pid)

    def _start(self, image: Path, big_image: Path, parent: Path, memory: Path | None,
               first: bytes) -> None:  # fmt: skip
        self.disk = self.folder / "disk.qcow2"
        kind = "qcow2" if parent.suffix == ".qcow2" else "raw"
        make = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", kind, "-b", str(parent)]
        subprocess.run([*make, str(self.disk)], check=True)
        self.orders, self.results = self.folder / "orders", self.folder / "results"
        for path, size in ((self.orders, ORDERS_MIB), (self.results, RESULTS_MIB)):
            with path.open("wb") as file:
                file.write(first if path == self.orders else b"")
                file.truncate(size * MIB)
        # Nothing has to outlive a power cut, and waiting for the host's disk would be measured.
        drive = f"if=virtio,cache=unsafe,{DISK},format"
        argv = ["nice", "-n", "5", "qemu-system-x86_64", *CPU,
                "-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd.img"),
                "-append", APPEND,
                "-drive", f"{drive}=qcow2,file={self.disk}",
                "-drive", f"{drive}=raw,file={self.orders}",
                "-drive", f"{drive}=raw,file={self.results}",
                "-drive", f"{drive}=raw,readonly=on,file={big_image}",
                "-nic", "none", "-display", "none", "-serial", f"file:{self.folder}/console",
                "-qmp", f"unix:{self.folder}/qmp,server=on,wait=off", "-no-reboot"]  # fmt: skip
        if memory is not None:
            argv += ["-incoming", f"exec:cat {memory}"]
        with open(self.folder / "qemu", "wb") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def answer(self, order: str, limit_s: float) -> bytes:
        """What the machine found when it had carried out that order."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            with self.results.open("rb") as file:
                words = file.read(100).split()
                if words[:2] == [b"duel", order.encode()]:
                    file.seek(BLOCK)
                    return file.read(int(words[2]))
            if self.process.poll() is not None:
                raise VoidError(f"qemu ended: {self._console()}")
            time.sleep(0.2)
        raise VoidError(f"no answer within {limit_s:.0f} s: {self._console()}")

    def _console(self) -> str:
        said = b""
        for name in ("qemu", "console"):
            with contextlib.suppress(OSError):
                said += (self.folder / name).read_bytes()[-1500:]
        return said.decode(errors="replace")

    @contextlib.contextmanager
    def _monitor(self) -> Iterator[Callable[..., Any]]:
        """Ask qemu: `ask("stop")`."""
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as qmp:
            qmp.connect(str(self.folder / "qmp"))
            stream = qmp.makefile("rw")
            json.loads(stream.readline())

            def ask(command: str, **arguments: Any) -> Any:
                stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
                stream.flush()
                while True:  # events come in between
                    found = json.loads(stream.readline())
                    if "error" in found:
                        raise VoidError(f"{command}: {found['error']}")
                    if "return" in found:
                        return found["return"]

            ask("qmp_capabilities")
            yield ask

    def go_on(self) -> None:
        """It was saved while it stood still, and stands still when it is there again."""
        end = time.monotonic() + 60
        while not (self.folder / "qmp").exists() and time.monotonic() < end:
            time.sleep(0.05)
        with self._monitor() as ask:
            while ask("query-status")["status"] == "inmigrate" and time.monotonic() < end:
                time.sleep(0.05)
            ask("cont")

    def save(self, into: Path) -> None:
        """Disk and memory; the machine ends with it."""
        into.mkdir(parents=True)
        with self._monitor() as ask:
            ask("stop")
            ask("migrate", uri=f"exec:cat >{into}/memory")
            while (state := ask("query-migrate")["status"]) in ("setup", "active", "device"):
                time.sleep(0.1)
            if state != "completed":
                raise VoidError(f"the machine could not be saved: {state}")
            ask("quit")
        self.process.wait()
        shutil.move(self.disk, into / "disk.qcow2")
        (into / "complete").touch()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class States:
    """The saved machines of one image and one package; what is missing is made."""

    def __init__(
        self, image: Path, cache: Path, package: str, watch: Callable[[int], None]
    ) -> None:
        self.image, self.cache, self.watch = image, cache, watch
        self.big = big(cache)
        said = package + (HERE / "agent.py").read_text()
        said += (HERE / "cells.py").read_text().partition("def prepare")[2].partition("\ndef ")[0]
        self.top = cache / "duel-states"
        self.folder = self.top / f"{image.name}-{digest(said)}"

    def base(self) -> Path:
        folder = self.folder / "base"
        if (folder / "complete").exists():
            return folder
        if self.top.exists():  # of other packages: each takes a gigabyte
            for old in self.top.iterdir():
                shutil.rmtree(old)
        with tempfile.TemporaryDirectory() as out:
            made = subprocess.run([str(TOP / ".ci/deb"), "trixie", out], capture_output=True,
                                  text=True, check=False)  # fmt: skip
            if made.returncode:
                raise VoidError(f"the package could not be built: {made.stderr[-2000:]}")
            deb = Path(made.stdout.split()[-1])
            files = {deb.name: deb.read_bytes(), "agent.py": (HERE / "agent.py").read_bytes(),
                     "limit": b"10000000", "start": _START}  # fmt: skip
        files |= {name: (HERE / name).read_bytes() for name in GUEST}
        disk = self.image / "disk.img"
        with self._running(
            Machine(self.image, self.big, disk, self.watch, None, tar_of(files))
        ) as m:
            m.answer("ready", BASE_LIMIT_S)
            m.save(folder)
        return folder

    def warm(self, daemon: str, name: str, key: str) -> Path:
        """The state of that name; `key` says what it depends on besides the base."""
        folder = self.folder / f"{daemon}-{name}-{key}"
        if (folder / "complete").exists():
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        base = self.base()
        with self._from(base) as machine:
            found = json.loads(self._order(machine, ("warm", daemon, name)))
            if "void" in found:
                raise VoidError(found["void"])
            machine.save(folder)
        return folder

    def forget(self, daemon: str, name: str, key: str) -> None:
        shutil.rmtree(self.folder / f"{daemon}-{name}-{key}", ignore_errors=True)

    def cell(self, warm: Path, daemon: str, scenario: str) -> dict[str, Any]:
        with self._from(warm) as machine:
            data = self._order(machine, ("cell", daemon, scenario))
        try:
            found: dict[str, Any] = json.loads(data)
        except ValueError:
            raise VoidError(data.decode(errors="replace")) from None
        return found

    @contextlib.contextmanager
    def _from(self, state: Path) -> Iterator[Machine]:
        disk, memory = state / "disk.qcow2", state / "memory"
        with self._running(Machine(self.image, self.big, disk, self.watch, memory)) as machine:
            machine.go_on()
            yield machine

    @contextlib.contextmanager
    def _running(self, machine: Machine) -> Iterator[Machine]:
        try:
            yield machine
        finally:
            machine.close()

    def _order(self, machine: Machine, words: Sequence[str]) -> bytes:
        order = "-".join(words)
        files = {name: (HERE / name).read_bytes() for name in GUEST}
        files["start"] = f"exec python3 -u cells.py {' '.join(words)}\n".encode()
        data = tar_of(files)
        with machine.orders.open("r+b") as file:
            file.seek(BLOCK)
            file.write(data)
            file.flush()
            file.seek(0)
            file.write(f"duel {order} {len(data)} ".encode())
        return machine.answer(order, ORDER_LIMIT_S)


_START = b"#!/bin/sh\npython3 -u cells.py prepare && exec python3 -u agent.py\n"


def digest(text: str) -> str:
    """Short, and different for different texts."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]

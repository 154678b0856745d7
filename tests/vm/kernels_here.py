"""Record OOM kills of the kernel that runs here: kernels_here.py RECORDINGS, as root.

For machines without a virtual one: everything happens in memory cgroups of its own (v1 or v2),
which are removed again. Writes what tests/vm/kernels writes of a boot, as the folder RECORDINGS/
kernels-here/memcg, for kernels_collect.py. Nothing else may be killed for memory meanwhile.
"""

import contextlib
import ctypes
import io
import mmap
import os
import platform
import signal
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

MIB = 1 << 20
V1 = Path("/sys/fs/cgroup/memory")
BASE = V1 if (V1 / "memory.limit_in_bytes").exists() else Path("/sys/fs/cgroup")
LIMIT = "memory.limit_in_bytes" if BASE == V1 else "memory.max"
PR_SET_NAME = 15
LIBC = ctypes.CDLL(None)

NAMES = {
    "name-kill-line": b"x) total-vm:0kB, anon-rss:0kB (",
    "name-newline": b"a\nb",
    "name-forged-line": b"\nKilled process",
    "name-task": b",task=sshd,pid=1",
    "name-bytes": b"\xff\xfe\x80\xc3",
    "name-cut-utf8": "café größe €".encode(),
    "name-escape": b"\x1b[31mred\x1b[0m\x07",
    "name-brackets": b"(a) [12] (b) c)",
    "name-blanks": b"  two  words  ",
    "name-empty": b"",
    "name-backslash": b"a\\x0ab\\",
    "name-invoked": b"invoked oom-kil",
    "name-digits": b"123  456  789 0",
}
CGROUPS = {
    "cgroup-summary": b"/a,task_memcg=/system.slice/ssh.service,task=x,pid=1",
    "cgroup-escaped": b"/system.slice/dev-disk\\x2dby\\x2duuid.service",
    "cgroup-global": b"/g,global_oom,task_memcg=/x,task=y,pid=2,uid=0",
    "cgroup-bytes": b"/\xff\xc3\x28\x1b[31m",
    "cgroup-blanks": b"/two words (and) brackets",
    "cgroup-group": b"/x are going to be killed due to memory.oom.group set",
    "cgroup-stats": b"/Memory cgroup stats for ,",
}
Work = Callable[[], None]


def escape(raw: bytes) -> str:
    return "".join(chr(c) if 0x20 < c < 0x7F and c not in b"\\:" else f"\\x{c:02x}" for c in raw)


def oom_kills() -> int:
    lines = Path("/proc/vmstat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def take(mib: int) -> mmap.mmap:
    memory = mmap.mmap(-1, mib * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, mib * MIB, 4096):
        memory[at] = 1
    return memory


def hold(mib: int) -> Work:
    def work() -> None:
        kept = take(mib)
        while kept:
            signal.pause()

    return work


def hog(after_s: float = 0.0) -> Work:
    def work() -> None:
        time.sleep(after_s)
        kept = []
        while True:
            kept.append(take(1))

    return work


def family() -> None:
    for number in range(3):
        if os.fork() == 0:
            LIBC.prctl(PR_SET_NAME, b"child-%d" % number, 0, 0, 0)
            hold(4)()
    hog(0.5)()


class Scenario:
    """One situation, from here to `end`; `cgroup` is where the limit stands."""

    def __init__(self, name: str, cgroup: bytes, limit_mib: int) -> None:
        self.name, self.cgroup = name, cgroup
        self.groups: list[bytes] = []
        self.children: dict[int, tuple[bytes, int]] = {}
        self.dead: list[str] = []
        self.group(cgroup)
        (self.path(cgroup) / LIMIT).write_text(str(limit_mib * MIB))
        self.log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self.log, 0, os.SEEK_END)
        self.before = oom_kills()

    @staticmethod
    def path(cgroup: bytes) -> Path:
        return Path(os.fsdecode(bytes(BASE) + cgroup))

    def group(self, cgroup: bytes) -> None:
        parts = cgroup.split(b"/")[1:]
        for depth in range(1, len(parts) + 1):
            one = b"/" + b"/".join(parts[:depth])
            self.path(one).mkdir(exist_ok=depth < len(parts))
            if one not in self.groups:
                self.groups.append(one)

    def start(
        self, comm: bytes, work: Work, uid: int = 0, adj: int = 0, cgroup: bytes = b""
    ) -> None:
        into = cgroup or self.cgroup
        ready_in, ready_out = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(ready_in)
                (self.path(into) / "cgroup.procs").write_text("0")
                Path("/proc/self/oom_score_adj").write_text(str(adj))
                os.setresuid(uid, uid, uid)
                LIBC.prctl(PR_SET_NAME, comm[:15], 0, 0, 0)
                os.close(ready_out)
                work()
            finally:
                os._exit(1)
        os.close(ready_out)
        os.read(ready_in, 1)
        os.close(ready_in)
        time.sleep(0.05)
        self.children[pid] = into, uid

    def bury(self) -> None:
        while self.children:
            info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if info is None:
                return
            pid = info.si_pid
            cgroup, uid = self.children.pop(pid)
            comm = Path(f"/proc/{pid}/comm").read_bytes()[:-1]
            assert (info.si_code, info.si_status) == (os.CLD_KILLED, signal.SIGKILL)
            self.dead.append(f"dead\t{pid}\t{escape(comm)}\t{uid}\t{escape(cgroup)}")
            os.waitpid(pid, 0)

    def end(self, expected: int = 1) -> tuple[bytes, bytes]:
        until = time.monotonic() + 20
        while len(self.dead) < expected and time.monotonic() < until:
            self.bury()
            time.sleep(0.02)
        time.sleep(0.4)
        self.bury()
        rise = oom_kills() - self.before
        log = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                log += os.read(self.log, 16384)
        os.close(self.log)
        for group in reversed(self.groups):
            for _ in range(100):
                for member in (self.path(group) / "cgroup.procs").read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(member), signal.SIGKILL)
                try:
                    self.path(group).rmdir()
                    break
                except OSError:
                    time.sleep(0.05)
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)  # if it is not dead by now; ours until it is waited for
            os.waitpid(pid, 0)
        if len(self.dead) != rise:
            raise SystemExit(f"{self.name}: {len(self.dead)} of {rise} were ours; try again")
        print(
            f"{self.name}: {len(self.dead)} died, counter +{rise}, {len(log)} bytes",
            file=sys.stderr,
        )
        truth = ["scope\tmemcg", f"cgroup\t{escape(self.cgroup)}", *self.dead, f"rise\t{rise}", ""]
        return log, "\n".join(truth).encode()


def plain(name: str, comm: bytes, cgroup: bytes) -> Scenario:
    one = Scenario(name, cgroup, 40)
    one.start(b"bystander", hold(3))
    one.start(comm, hog(), uid=1000)
    return one


def scenarios() -> dict[str, tuple[bytes, bytes]]:
    top = b"/oom-watchdog-kernels"
    out = {"memcg": plain("memcg", b"worker", top).end()}

    one = Scenario("memcg-parent", top, 48)
    for child in (b"/db", b"/web"):
        one.group(top + child)
    one.start(b"db", hold(6), uid=105, cgroup=top + b"/db")
    one.start(b"web", hog(), uid=33, cgroup=top + b"/web")
    out["memcg-parent"] = one.end()

    one = Scenario("memcg-children", top, 64)
    one.start(b"parent", family)
    out["memcg-children"] = one.end()

    one = Scenario("memcg-volunteer", top, 80)  # below 0 needs a right that a container has not
    one.start(b"database", hold(24), uid=105)
    one.start(b"volunteer", hold(2), uid=1000, adj=900)
    one.start(b"helper", hold(2), uid=1000, adj=300)
    one.start(b"worker", hog(0.3), uid=1000)
    out["memcg-volunteer"] = one.end(2)
    time.sleep(5)  # dumps are rate-limited: ten in five seconds

    for name, comm in NAMES.items():
        out[name] = plain(name, comm, top).end()
        time.sleep(0.3)
    for name, path in CGROUPS.items():
        out[name] = plain(name, b"worker", top + path).end()
        time.sleep(0.3)

    time.sleep(5)
    one = Scenario("memcg-storm", top, 16)
    for number in range(16):
        one.start(b"storm-%02d" % number, hog(0.02))
    out["memcg-storm"] = one.end(16)
    return out


def main(folder: Path) -> None:
    boot = folder / "kernels-here" / "memcg"
    boot.mkdir(parents=True, exist_ok=True)
    (boot / "console").write_bytes(b"")
    files = {"release": platform.release().encode()}
    for name, (log, truth) in scenarios().items():
        files |= {f"{name}.kmsg": log, f"{name}.truth": truth}
    with tarfile.open(boot / "results", "w") as tar:
        for name, data in files.items():
            head = tarfile.TarInfo(name)
            head.size = len(data)
            tar.addfile(head, io.BytesIO(data))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

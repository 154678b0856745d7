"""Where kills are read from, on this very kernel: a storm, no /dev/kmsg, a journald beside it.

journald runs as a process of the test's own, in mount namespaces of its own: it reads the real
/dev/kmsg and writes real journal files, and nothing of the machine's is touched.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).parents[1]
STORM = TOP / "bench" / "storm.py"
MIB = 1 << 20
MEMORY = Path("/sys/fs/cgroup/memory")
JOURNALD = Path("/lib/systemd/systemd-journald")
PROGRAM = [sys.executable, "-I", "-m", "watchdog"]
JOURNALD_CONF = "[Journal]\nAudit=no\nReadKMsg=yes\nStorage=persistent\nForwardToSyslog=no\n"
START_JOURNALD = """
set -eu
mount -t tmpfs -o mode=755 tmpfs /run
mount --bind "$1" /var/log
mkdir -p /run/systemd/journal /run/systemd/journald.conf.d /var/log/journal
printf '%s' "$2" >/run/systemd/journald.conf.d/own.conf
: >/run/systemd/journal/flushed   # else it waits for a /var in its own /run
exec "$3"
"""


def test_a_storm_is_told_each_kill_once_whoever_is_killed_meanwhile(tmp_path: Path) -> None:
    """Sixty kills in six seconds: guard and watcher killed and restarted, hostile names."""
    argv = [sys.executable, str(STORM), "--kills", "60", "--seconds", "6",
            "--work", str(tmp_path / "storm")]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip().removeprefix("cannot be done here: "))
    assert done.returncode == 0, done.stdout + done.stderr


# -- a journald of our own ------------------------------------------------------------------------


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[int]:
    """The PID of a journald in namespaces of its own; its files are in tmp_path/log/journal."""
    if os.geteuid() != 0:
        pytest.skip("needs root for a mount namespace, /dev/kmsg and a cgroup")
    if not JOURNALD.exists():
        pytest.skip("systemd: no journald to run")
    if not (MEMORY / "cgroup.procs").exists() or not os.access("/dev/kmsg", os.R_OK):
        pytest.skip("cgroup: needs a v1 memory hierarchy, and /dev/kmsg")
    log = tmp_path / "log"
    log.mkdir()
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", START_JOURNALD, "-",
            str(log), JOURNALD_CONF, str(JOURNALD)]  # fmt: skip
    running = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    socket = Path(f"/proc/{running.pid}/root/run/systemd/journal/socket")
    for _ in range(200):
        if running.poll() is not None:
            assert running.stderr
            why = running.stderr.read().decode().strip()
            pytest.skip(f"systemd: journald does not run in a namespace here: {why}")
        if socket.exists() and list(log.rglob("*.journal")):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("journald does not write within 10 s")
    yield running.pid
    running.terminate()
    running.wait(10)
    assert running.stderr
    running.stderr.close()


class Daemon:
    """`oom-watchdog run` beside that journald; `before` is done first, in a namespace below it."""

    def __init__(self, journald: int, folder: Path, before: str) -> None:
        self.folder, self.journald = folder, journald
        config = folder / "config.toml"
        config.write_text('[watch]\ninterval = "500ms"\n')
        script = f'set -e\n{before}\nexec "$@"'
        argv = ["nsenter", "--target", str(journald), "--mount", "unshare", "--mount",
                "--propagation", "private", "sh", "-c", script, "-", *PROGRAM, "run", "--json",
                "--config", str(config), "--state", str(folder / "state")]  # fmt: skip
        self.out = folder / "out"
        with self.out.open("ab") as out:
            self.process = subprocess.Popen(argv, stdout=out, stderr=subprocess.PIPE, cwd="/")

    def events(self, kind: str) -> list[dict[str, Any]]:
        whole = self.out.read_bytes().rpartition(b"\n")[0].splitlines()
        found = [json.loads(line) for line in whole]
        return [one for one in found if one["event"] == kind]

    def until(self, kind: str, **having: Any) -> dict[str, Any]:
        end = time.monotonic() + 15
        while time.monotonic() < end:
            for one in self.events(kind):
                if all(one.get(key) == value for key, value in having.items()):
                    return one
            time.sleep(0.05)
        raise AssertionError(f"no {kind} with {having}: {self.out.read_text()}")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(10)
        assert self.process.stderr
        said = self.process.stderr.read().decode()
        self.process.stderr.close()
        assert "Traceback" not in said


Start = Callable[..., Daemon]


@pytest.fixture
def daemon(journald: int, tmp_path: Path) -> Iterator[Start]:
    made: list[Daemon] = []

    def start(before: str = "") -> Daemon:
        made.append(Daemon(journald, tmp_path, before))
        count = len(made)
        for _ in range(300):
            if len(made[-1].events("watchdog.started")) >= count:
                break
            time.sleep(0.05)
        return made[-1]

    yield start
    for one in made:
        if one.process.stderr and not one.process.stderr.closed:
            one.stop()


@pytest.fixture
def kill() -> Iterator[Callable[..., int]]:
    """Makes an OOM kill of a process with this name, in a cgroup of this name."""
    made: list[Path] = []

    def one(comm: bytes = b"victim", name: str = "plain") -> int:
        group = MEMORY / f"oom-watchdog-live-{os.getpid()}" / name
        if not group.exists():
            group.mkdir(parents=True)
            made.append(group)
        (group / "memory.limit_in_bytes").write_text(str(24 * MIB))
        program = (
            f"import sys; open({str(group / 'cgroup.procs')!r}, 'w').write('0'); "
            f"open('/proc/self/comm', 'wb').write({comm!r}); keep = bytearray(b'x' * (64 << 20))"
        )
        child = subprocess.Popen([sys.executable, "-I", "-c", program])
        assert child.wait(20) == -signal.SIGKILL
        return child.pid

    yield one
    top = MEMORY / f"oom-watchdog-live-{os.getpid()}"
    for group in made:
        while group != MEMORY:
            for _ in range(50):
                with contextlib.suppress(OSError):
                    group.rmdir()
                    break
                if any(child.is_dir() for child in group.iterdir()):
                    break
                time.sleep(0.05)
            group = group.parent
    assert not top.exists()


def forge() -> None:
    """What user space writes; without its line feed the kernel would keep it for a continuation."""
    line = (b"<3>Out of memory: Killed process 1 (init) total-vm:1kB, anon-rss:1kB, file-rss:0kB, "
            b"shmem-rss:0kB, UID:0 pgtables:1kB oom_score_adj:0\n")  # fmt: skip
    fd = os.open("/dev/kmsg", os.O_WRONLY)
    os.write(fd, line)
    os.close(fd)


def whats(found: Daemon) -> list[str]:
    """What is said of the sources; a CI machine lacks other things."""
    degraded = [one["what"] for one in found.events("watchdog.degraded")]
    return [what for what in degraded if what.startswith(("kernel_log", "journal"))]


def test_hostile_names_and_a_forged_line(daemon: Start, kill: Callable[..., int]) -> None:
    running = daemon()
    hostile = "a,task_memcg=/system.slice/ssh.service,task=x,pid=1"
    pid = kill(b"x) total-vm:0kB", hostile)
    event = running.until("oom.kill", pid=pid)
    assert event["victim"]["comm"] == "x) total-vm:0kB"
    assert event["victim"]["anon_bytes"] > 10 * MIB
    assert event["cgroup"].endswith(hostile) and event["task_cgroup"].endswith(hostile)
    assert (event["unit"], event["scope"]) == (None, "memcg")
    forge()
    forged = running.until("oom.forged", why="facility")
    assert "Killed process 1 (init)" in forged["text"]
    time.sleep(1.5)
    assert [one["pid"] for one in running.events("oom.kill")] == [pid]
    assert whats(running) == []


@pytest.mark.parametrize(
    "before", ["mount --bind /dev/null /dev/kmsg", "mount -t tmpfs tmpfs /dev; :>/dev/null"]
)
def test_the_journal_serves_where_kmsg_cannot_be_read(
    daemon: Start, kill: Callable[..., int], before: str, journald: int
) -> None:
    first = daemon(before)
    degraded = first.until("watchdog.degraded", what="kernel_log")
    assert "the journal is read instead" in degraded["because"]
    pids = [kill(b"a\nb"), kill(b"\xff\x1b[31m"), kill()]
    events = [first.until("oom.kill", pid=pid) for pid in pids]
    assert [one["victim"]["comm"] for one in events] == ["a\\x0ab", "\\xff\\x1b[31m", "victim"]
    assert all(one["complete"] and one["limit_bytes"] == 24 * MIB for one in events)
    forge()
    assert first.until("oom.forged")["why"] == "facility"
    first.stop()
    pids.append(kill())  # while nobody looks
    second = daemon()  # and now with /dev/kmsg: the ring goes on where the journal ended
    pids += [kill(), kill()]
    for pid in pids:
        second.until("oom.kill", pid=pid)
    second.stop()
    third = daemon(before)  # and back
    pids.append(kill())
    third.until("oom.kill", pid=pids[-1])
    os.kill(journald, signal.SIGUSR2)  # rotates its files
    pids.append(kill())
    third.until("oom.kill", pid=pids[-1])
    third.stop()
    assert [one["pid"] for one in third.events("oom.kill")] == pids
    assert whats(third) == ["kernel_log", "kernel_log"]


def test_kmsg_serves_where_the_journal_cannot_be_read(
    daemon: Start, kill: Callable[..., int]
) -> None:
    import importlib.util

    found = importlib.util.find_spec("systemd.journal")
    hide = f"mount -t tmpfs tmpfs {Path(found.origin).parent}" if found and found.origin else ":"
    first = daemon(hide)
    degraded = first.until("watchdog.degraded", what="journal")
    assert "the journal cannot be read" in degraded["because"][0]
    pids = [kill()]
    first.until("oom.kill", pid=pids[0])
    first.stop()
    pids.append(kill())
    second = daemon(hide)
    second.until("oom.kill", pid=pids[1])
    second.stop()
    assert [one["pid"] for one in second.events("oom.kill")] == pids
    assert whats(second) == ["journal", "journal"]

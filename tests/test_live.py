"""The daemon as a newcomer starts it, on this very kernel: real processes, real OOM kills."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

MIB = 1 << 20
V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")
EAT = "import time\nkeep = []\nwhile True:\n    keep.append(bytearray(b'x' * 4000000))\n"
PROGRAM = [sys.executable, "-I", "-m", "watchdog"]


def _memory_base():
    """Where a memory cgroup of our own can be made, or why none can."""
    if os.geteuid() != 0:
        return "needs root to make a cgroup"
    if (V1 / "memory.limit_in_bytes").exists():
        return V1
    controllers = V2 / "cgroup.subtree_control"
    if controllers.exists() and "memory" in controllers.read_text().split():
        return V2
    return "no memory cgroup hierarchy that we could use"


@pytest.fixture
def kill():
    """Makes one genuine OOM kill in a cgroup of our own; the pid that died."""
    base = _memory_base()
    if isinstance(base, str):
        pytest.skip(f"cgroup: {base}")
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        pytest.skip(f"/dev/kmsg: {error.strerror}")
    group = base / f"omw-test-{os.getpid()}"
    group.mkdir()
    limit = "memory.limit_in_bytes" if base == V1 else "memory.max"
    (group / limit).write_text(str(32 * MIB))

    def one():
        join = f"open('{group}/cgroup.procs', 'w').write('0')\n"
        child = subprocess.Popen([sys.executable, "-c", join + EAT])
        assert child.wait(20) == -signal.SIGKILL
        return child.pid

    yield one
    for _ in range(50):
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return


class Daemon:
    """`oom-watchdog run` with a state folder of its own."""

    def __init__(self, folder, *options, config='[watch]\ninterval = "500ms"\n'):
        self.folder = folder
        self.config = folder / "config.toml"
        self.config.write_text(config)
        self.process = subprocess.Popen(
            [*PROGRAM, "run", "--config", str(self.config), "--state", str(folder / "state"),
             "--json", *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
        )  # fmt: skip
        os.set_blocking(self.process.stdout.fileno(), False)
        self.lines, self.rest = [], b""

    def until(self, kind, seconds=10, pid=None):
        """Read lines until an event of that kind came (about `pid`: others may die meanwhile)."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.read()
            for event in self.lines:
                if event["event"] == kind and pid in (None, event.get("pid")):
                    return event
            time.sleep(0.02)
        raise AssertionError(f"no {kind} within {seconds} s: {self.lines}")

    def read(self):
        """Take what it has written."""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self.process.stdout.fileno(), 65536):
                self.rest += piece
        *whole, self.rest = self.rest.split(b"\n")
        self.lines += [json.loads(line) for line in whole]

    def stop(self, number=signal.SIGTERM):
        """End it, and read what it still said."""
        self.process.send_signal(number)
        self.process.wait(10)
        self.read()
        self.close()

    def close(self):
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def daemon(tmp_path):
    made = []

    def start(*options, **more):
        made.append(Daemon(tmp_path, *options, **more))
        made[-1].until("watchdog.started")
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.stop(signal.SIGKILL)
        one.close()


def tell(*argv):
    done = subprocess.run(
        [*PROGRAM, *argv], check=False, capture_output=True, text=True, cwd="/", timeout=30
    )
    return done.returncode, done.stdout, done.stderr


def stored(folder, kind, pid):
    status, out, _ = tell("events", "--state", str(folder / "state"), "--json", "--kind", kind)
    assert status in (0, 1)
    found = [json.loads(line) for line in out.splitlines()]
    return [event for event in found if event["pid"] == pid]


def watcher_of(daemon):
    children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children")
    return int(children.read_text().split()[0])


def test_an_oom_kill_is_told_and_replayed_the_same(daemon, kill, tmp_path, valid_event):
    trace = tmp_path / "trace.jsonl"
    running = daemon("--record", str(trace))
    pid = kill()
    event = running.until("oom.kill", pid=pid)
    victim = event["victim"]
    assert (victim["pid"], victim["uid"]) == (pid, 0) and victim["comm"].startswith("python")
    assert event["scope"] == "memcg" and "omw-test" in event["cgroup"]
    assert event["limit_bytes"] == 32 * MIB and victim["anon_bytes"] > 20 * MIB
    valid_event(event)
    running.stop()
    assert [one["id"] for one in stored(tmp_path, "oom.kill", pid)] == [event["id"]]

    status, out, problems = tell("replay", "--json", str(trace))
    assert status == 0 and "could not be read" not in problems
    live = [one for one in running.lines if not one["event"].startswith("watchdog.")]
    assert [json.loads(line) for line in out.splitlines()] == live


def test_a_kill_while_nobody_looked_is_told_once_after_the_restart(daemon, kill, tmp_path):
    first = daemon()
    first.process.send_signal(signal.SIGKILL)
    first.process.wait(5)
    time.sleep(0.5)  # the watcher sees the end of file and goes
    pid = kill()
    second = daemon()
    second.until("oom.kill", pid=pid)
    second.stop()
    third = daemon()
    time.sleep(1.5)
    third.stop()
    told = [e for one in (first, second, third) for e in one.lines if e["event"] == "oom.kill"]
    assert [e["pid"] for e in told].count(pid) == 1
    assert len(stored(tmp_path, "oom.kill", pid)) == 1


def test_a_killed_watcher_is_started_again_and_tells_what_comes(daemon, kill):
    running = daemon()
    before = watcher_of(running)
    os.kill(before, signal.SIGKILL)
    running.until("watchdog.degraded")
    pid = kill()
    running.until("oom.kill", pid=pid)
    assert watcher_of(running) != before
    running.stop()


DEED = """
[watch]
interval = "500ms"
[run.slow]
argv = ["/bin/sh", "-c", "echo $$ >> {folder}/ran; exec sleep 20"]
timeout = "30s"
[policies.deed]
match = {{ cmdline = "~sleeper of {folder}$" }}
when = {{ resident_above = "1MiB" }}
do = ["run:slow"]
mode = "{mode}"
"""


@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_what_was_decided_is_known_to_the_next_watcher(daemon, tmp_path, mode):
    """Also where the first was killed before it knew what became of it."""
    sleeps = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)", f"sleeper of {tmp_path}"]
    )
    ran = tmp_path / "ran"
    try:
        running = daemon(
            "--guard-option=--enforce-lock", f"--guard-option={tmp_path / 'lock'}",
            config=DEED.format(folder=tmp_path, mode=mode),
        )  # fmt: skip
        if mode == "observe":
            assert running.until("policy.action")["outcome"] == "would"
        for _ in range(200):
            if mode == "observe":  # what is not known to be told is told again
                with contextlib.closing(sqlite3.connect(tmp_path / "state" / "history.db")) as db:
                    if db.execute("SELECT min(told) FROM event").fetchone() == (1,):
                        break
            elif ran.exists() and ran.read_text().endswith("\n"):
                break
            time.sleep(0.05)
        running.lines.clear()
        os.kill(watcher_of(running), signal.SIGKILL)
        running.until("watchdog.started")
        time.sleep(1.5)  # it looks three times
        running.stop()
    finally:
        sleeps.kill()
        sleeps.wait()
        pids = list(map(int, ran.read_text().split())) if ran.exists() else []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert len(pids) == (mode == "enforce")
    assert [one for one in running.lines if one["event"] == "policy.action"] == []


def test_without_its_guard_the_watcher_goes(daemon):
    running = daemon()
    watcher = watcher_of(running)
    running.process.send_signal(signal.SIGKILL)
    running.process.wait(5)
    for _ in range(100):
        if not Path(f"/proc/{watcher}").exists():
            return
        time.sleep(0.05)
    raise AssertionError("the watcher is still there")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly(daemon, number):
    running = daemon()
    running.stop(number)
    assert running.process.returncode == 0
    assert running.lines[-1]["event"] == "watchdog.stopped"


def test_a_reload_takes_a_good_file_and_keeps_the_old_one_for_a_bad_one(daemon):
    running = daemon()
    running.config.write_text('[watch]\nintervall = "1s"\n')
    running.process.send_signal(signal.SIGHUP)
    rejected = running.until("watchdog.config_rejected")
    assert "intervall" in rejected["because"][0] and "interval" in rejected["because"][0]
    running.config.write_text('[watch]\ninterval = "2s"\n')
    running.process.send_signal(signal.SIGHUP)
    running.until("watchdog.reloaded")
    running.stop()


def test_a_second_daemon_there_is_told_who_holds_the_lock(daemon, tmp_path):
    running = daemon()
    status, _, problem = tell(
        "run", "--config", str(running.config), "--state", str(tmp_path / "state")
    )
    assert status == 75 and str(running.process.pid) in problem
    running.stop()


def test_a_bad_configuration_is_one_line_and_78(tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text("[watch\n")
    status, out, problem = tell("run", "--config", str(bad), "--state", str(tmp_path / "s"))
    assert status == 78 and out == "" and len(problem.splitlines()) == 1 and "bad.toml" in problem


def test_a_state_folder_that_cannot_be_used_is_said_and_the_daemon_runs(daemon, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "history.db").write_bytes(b"no database " * 999)
    running = daemon()
    degraded = running.until("watchdog.degraded")
    while degraded.get("what") != "store":
        running.lines.remove(degraded)
        degraded = running.until("watchdog.degraded")
    assert "history.db" in degraded["because"][0]
    running.stop()


def test_status_answers_while_it_runs_and_after(daemon, tmp_path):
    running = daemon()
    time.sleep(0.6)
    status, out, _ = tell("status", "--state", str(tmp_path / "state"))
    assert status == 0 and out.startswith("Memory is fine") and "nothing will be killed" in out
    running.stop()
    assert tell("status", "--state", str(tmp_path / "state"))[0] == 1


def test_record_and_replay_meet(tmp_path):
    trace = tmp_path / "trace.jsonl.gz"
    status, _, said = tell("record", "-o", str(trace), "--for", "1s", "--interval", "200ms")
    assert status == 0 and "recorded" in said
    status, out, said = tell("replay", str(trace))
    # Whatever else happens on this machine in that second is in the recording, too.
    events = int(re.search(r"(\d+) events?\b", said)[1])
    assert status == int(events == 0) and bool(out) == bool(events)
    cut = tmp_path / "cut.gz"
    cut.write_bytes(trace.read_bytes()[:-40])
    status, _, said = tell("replay", str(cut))
    assert "end in the middle" in said and "Traceback" not in said
    for name, raw, expected in (
        ("binary", os.urandom(5000), "no line of a trace"),
        ("none", None, "no such file"),
        ("folder", None, "is a directory"),
    ):
        path = tmp_path / name
        if raw:
            path.write_bytes(raw)
        elif name == "folder":
            path.mkdir()
        status, _, said = tell("replay", str(path))
        assert status == 2 and expected in said and "Traceback" not in said


def test_a_store_is_replayed_without_its_daemon(daemon, tmp_path):
    running = daemon()
    time.sleep(6)
    running.stop()
    state = str(tmp_path / "state")
    status, out, said = tell("replay", "--state", state)
    assert (
        status == 1 and out == "" and "rows over" in said and not said.startswith("0 events in 0")
    )
    assert tell("replay", "--state", str(tmp_path / "none"))[0] == 2
    assert tell("replay")[0] == 2 and tell("replay", "x", "--state", state)[0] == 2

"""The kernel's own count of kills against what is told, on this very kernel, with real kills."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MIB = 1 << 20


def _live():
    """The daemon and the cgroup of the other live tests; tests are no package."""
    spec = importlib.util.spec_from_file_location("live", Path(__file__).with_name("test_live.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


live = _live()
kill, daemon = live.kill, live.daemon
OFF = '[watch]\ninterval = "500ms"\n[kernel_log]\nsource = "off"\n'


def own_cgroup():
    """The one in which `kill` kills, as the daemon names it."""
    return f"/omw-test-{os.getpid()}"


def slow_kill(seconds):
    """One that is there long enough to be seen before the kernel kills it."""
    base = live._memory_base()
    hold = "import time\nkept = b'x' * (16 << 20)\n"
    join = f"open('{base}{own_cgroup()}/cgroup.procs', 'w').write('0')\n"
    program = f"{join}{hold}time.sleep({seconds})\n{live.EAT}"
    child = subprocess.Popen([sys.executable, "-c", program])
    assert child.wait(seconds + 20) == -signal.SIGKILL
    return child.pid


def missing(running):
    return [event for event in running.lines if event["event"] == "oom.unattributed"]


def ours(event):
    """Others' kills on this machine are counted by the same counter."""
    return sum(one["count"] for one in event["cgroups"] if one["cgroup"] == own_cgroup())


def until_told(running, count, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        running.read()
        if sum(map(ours, missing(running))) >= count:
            break
        time.sleep(0.1)
    return missing(running)


def test_kills_whose_lines_nobody_reads_are_told_with_their_cgroup(
    daemon, kill, tmp_path, valid_event
):
    trace = tmp_path / "trace.jsonl"
    running = daemon("--record", str(trace), config=OFF)
    pid = slow_kill(7)
    kill()
    told = until_told(running, 2, 25)
    assert sum(map(ours, told)) == 2
    vanished = [one for event in told for one in event["vanished"] if one["pid"] == pid]
    assert vanished and vanished[0]["resident_bytes"] > 16 * MIB
    assert any("kernel_log.source" in said for event in told for said in event["because"])
    for event in told:
        valid_event(event)
    assert not [event for event in running.lines if event["event"] == "oom.kill"]
    running.stop()
    status, out, _ = live.tell("replay", "--json", str(trace))
    assert status == 0
    said = [one for one in running.lines if not one["event"].startswith("watchdog.")]
    assert [json.loads(line) for line in out.splitlines()] == said


def test_a_kill_while_the_daemon_was_down_is_missed_by_nobody(daemon, kill):
    first = daemon(config=OFF)
    first.stop()
    kill()
    second = daemon(config=OFF)
    told = second.until("oom.unattributed", 20)
    assert told["count"] >= 1
    second.stop()
    third = daemon(config=OFF)
    time.sleep(13)
    third.read()
    # what was told is not told again
    assert told["counter"] not in [event["counter"] for event in missing(third)]
    third.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_restart_in_the_middle_of_a_storm_neither_invents_nor_hides(daemon, kill, number):
    one = daemon()
    pids = [kill() for _ in range(6)]
    one.process.send_signal(number)
    pids += [kill() for _ in range(3)]
    one.process.wait(10)
    two = daemon()
    pids += [kill() for _ in range(6)]
    two.until("oom.kill", pid=pids[-1])
    time.sleep(13)
    two.stop()
    one.read()
    told = [event["pid"] for run in (one, two) for event in run.lines
            if event["event"] == "oom.kill" and event["pid"] in pids]  # fmt: skip
    assert sorted(told) == sorted(pids)
    assert [event for run in (one, two) for event in missing(run) if ours(event)] == []

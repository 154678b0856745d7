"""The daemon where something ordinary is wrong: full disks, held locks, readers that wait."""

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-I", "-m", "watchdog"]
OBSERVE = '[watch]\ninterval = "500ms"\n'
# A mark that no machine reaches: nothing is ever done, whatever the mode.
ENFORCE = OBSERVE + '[guard]\nmode = "enforce"\navailable_below = "1KiB"\n'


@pytest.fixture
def run(tmp_path):
    """Runs the daemon for some seconds in a state folder of its own; its events."""

    def go(seconds, *options, config=OBSERVE, **more):
        (tmp_path / "config.toml").write_text(config)
        done = subprocess.run(
            [*PROGRAM, "run", "--config", str(tmp_path / "config.toml"), "--json",
             "--state", str(tmp_path / "state"), "--for", f"{seconds}s", *options],
            capture_output=True, text=True, cwd="/", timeout=seconds + 20, check=False, **more,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert done.returncode == 0
        return [json.loads(line) for line in done.stdout.splitlines()]

    return go


def degraded(events):
    return [event.get("what") for event in events if event["event"] == "watchdog.degraded"]


def test_a_recording_on_a_full_disk_ends_and_nothing_else_does(run):
    events = run(3, "--record", "/dev/full")
    assert degraded(events).count("record") == 1
    assert [event["event"] for event in events].count("watchdog.started") == 1


def test_a_store_and_a_now_json_that_cannot_be_written_are_both_told(run, tmp_path):
    for name in ("history.db", "now.json"):
        (tmp_path / "state" / name).mkdir(parents=True)
    events = run(3)
    assert {"store", "now"} <= set(degraded(events))
    assert len({event["id"] for event in events}) == len(events)


def test_who_may_not_enforce_says_so_at_each_start(run, tmp_path):
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    options = ["--guard-option=--enforce-lock", f"--guard-option={tmp_path / 'lock'}"]
    for _ in range(2):
        events = run(4, *options, config=ENFORCE)
        assert "enforce" in degraded(events)
        started = next(event for event in events if event["event"] == "watchdog.started")
        assert started["mode"] == "observe"
        assert "observing: nothing will be killed" in started["because"]
    os.close(lock)


def test_a_watcher_that_is_started_again_goes_on_in_the_recording(run, tmp_path):
    (tmp_path / "config.toml").write_text(OBSERVE)
    trace = tmp_path / "trace.jsonl"
    trace.write_text("of an earlier run\n")
    daemon = subprocess.Popen(
        [*PROGRAM, "run", "--config", str(tmp_path / "config.toml"), "--json", "--state",
         str(tmp_path / "state"), "--for", "6s", "--record", str(trace)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    children = f"/proc/{daemon.pid}/task/{daemon.pid}/children"
    time.sleep(2.5)
    (watcher,) = map(int, Path(children).read_text().split())
    os.kill(watcher, 9)
    before = trace.stat().st_size
    assert daemon.wait(20) == 0
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    assert [line["type"] for line in lines].count("trace") == 2
    assert trace.stat().st_size > before > 1000


def test_an_answer_that_finds_no_room_is_one_line(run, tmp_path):
    run(1)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*PROGRAM, "events", "--state", str(tmp_path / "state")],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=20, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "oom-watchdog: the answer cannot be written: no space left on device\n"

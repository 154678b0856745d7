"""A victim's number is given away at the worst of moments: its new owner is never signalled.

In a PID namespace of its own the next number can be chosen, so the kernel itself gives it away.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LAST = Path("/proc/sys/kernel/ns_last_pid")
# What runs inside; `CASE` is what the parameter says.
INSIDE = """
import os, signal, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from watchdog import procfs
from watchdog.act import kill as room
from watchdog.sense.fast import Eyes

def begin(pid=None):
    for _ in range(50):
        if pid is not None:
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write(str(pid - 1))
        one = subprocess.Popen(["sleep", "60"])
        if pid is None or one.pid == pid:
            return one
        one.kill()
        one.wait()
    raise SystemExit("the number was not to be had again")

def start_of(pid):
    return Eyes("/proc").start_of(pid)

victim = begin(500)
start = start_of(victim.pid)
owner = None
time.sleep(0.05)  # another tick of the clock, as in life

def give_away():
    global owner
    victim.kill()
    victim.wait()
    owner = begin(victim.pid)
    assert owner.pid == victim.pid and start_of(owner.pid) != start

asks = {}
case = sys.argv[2]
pidfd_open = os.pidfd_open
if case == "before":
    give_away()
elif case == "after pidfd_open":
    def open_then(pid, *rest):
        fd = pidfd_open(pid, *rest)
        give_away()
        return fd
    os.pidfd_open = open_then
elif case == "while protection is asked":
    asks["still_protected"] = give_away
else:
    asks["still_needed"] = lambda: give_away() or True
outcome, detail = room.kill(victim.pid, start, signal.SIGKILL, **asks)
os.pidfd_open = pidfd_open
time.sleep(0.1)
assert owner is not None and owner.poll() is None, "the new owner is dead"
print(outcome)
# And one that is what it was is still reached.
assert room.kill(owner.pid, start_of(owner.pid), signal.SIGKILL)[0] == "done"
assert owner.wait(5) == -signal.SIGKILL
"""


@pytest.mark.parametrize(
    ("case", "outcome"),
    [
        ("before", "changed"),
        ("after pidfd_open", "changed"),
        ("while protection is asked", "gone"),
        ("right before the signal", "gone"),
    ],
)
def test_the_new_owner_is_never_signalled(case: str, outcome: str) -> None:
    if os.geteuid() != 0 or not LAST.exists():
        pytest.skip("no mount namespace may be made here: PIDs cannot be chosen")
    top = str(Path(__file__).parents[1])
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--propagation", "unchanged", "--mount-proc",
         "--kill-child", sys.executable, "-I", "-c",
         INSIDE, top, case],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if "unshare" in done.stderr and "failed" in done.stderr:
        pytest.skip(f"no mount namespace may be made here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == outcome


UNIT = """
import os, signal, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from watchdog.act import kill as room

folder = sys.argv[2]

def begin(inside, pid=None):
    for _ in range(50):
        if pid is not None:
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write(str(pid - 1))
        one = subprocess.Popen(["sleep", "60"])
        if pid is None or one.pid == pid:
            if inside:
                with open(folder + "/cgroup.procs", "w") as file:
                    file.write(str(one.pid))
            return one
        one.kill()
        one.wait()
    raise SystemExit("the number was not to be had again")

member, owner = begin(True, 500), None
stays = begin(True, 600)
pidfd_open = os.pidfd_open

def open_then(pid, *rest):
    global owner
    if pid == member.pid and owner is None:
        member.kill()
        member.wait()
        owner = begin(False, pid)  # the number belongs to a process outside now
    return pidfd_open(pid, *rest)

os.pidfd_open = open_then
room._write = lambda *_: False  # as on cgroup v1: no cgroup.kill
outcome, detail = room.kill_unit(folder, os.stat(folder).st_ino)
assert stays.wait(5) == -signal.SIGKILL
assert owner is not None and owner.poll() is None, "a process outside was killed"
owner.kill()
owner.wait()
print(outcome)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="cgroup: needs root and a hierarchy of its own")
def test_a_unit_is_ended_and_who_took_a_number_of_it_is_not() -> None:
    v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    base = v1 if v1.is_dir() else v2
    folder = base / f"oom-watchdog-reuse-{os.getpid()}"
    if not LAST.exists() or not (base / "cgroup.procs").exists():
        pytest.skip("cgroup: there is none here, or PIDs cannot be chosen")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"cgroup: none can be made here ({error.strerror})")
    try:
        top = str(Path(__file__).parents[1])
        done = subprocess.run(
            ["unshare", "--pid", "--fork", "--propagation", "unchanged", "--mount-proc",
             "--kill-child", sys.executable, "-I",
             "-c", UNIT, top, str(folder)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if "unshare" in done.stderr and "failed" in done.stderr:
            pytest.skip(f"no mount namespace may be made here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "done"
    finally:
        folder.rmdir()

"""Units: ended as a whole on cgroups of our own, and asked for at a PID 1 that a script plays."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from watchdog.act import evidence, kill
from watchdog.act.kill import kill_unit, members
from watchdog.act.unit import AT_ONCE, HUNG_S, Unit, Units
from watchdog.child import Child, Children
from watchdog.procfs import never
from watchdog.sense.fast import Eyes

# ---- a cgroup in a folder: what the kernel would tell, about children of ours -------------------


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    found = [subprocess.Popen(["sleep", "60"]) for _ in range(3)]
    yield found
    for one in found:
        one.kill()
        one.wait()


def cgroup(folder: Path, pids: list[int], below: list[int]) -> Path:
    unit = folder / "shop.service"
    (unit / "worker").mkdir(parents=True)
    (unit / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    (unit / "worker" / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in below))
    return unit


def test_every_member_goes_also_in_the_cgroups_below(
    tmp_path: Path, sleepers: list[subprocess.Popen[bytes]]
) -> None:
    a, b, c = (one.pid for one in sleepers)
    unit = cgroup(tmp_path, [a], [b, c])
    assert members(str(unit)) == {a, b, c}
    outcome, said = kill_unit(str(unit), unit.stat().st_ino)
    assert outcome == "done"
    assert "3 processes of shop.service" in said
    assert [one.wait(5) for one in sleepers] == [-signal.SIGKILL] * 3


@pytest.mark.parametrize("v2", [False, True])
def test_the_memory_of_a_unit_is_given_back_by_one_thread(
    tmp_path: Path, sleepers: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch,
    v2: bool,
) -> None:  # fmt: skip
    pids = [one.pid for one in sleepers]
    unit = cgroup(tmp_path, pids[:1], pids[1:])
    if v2:
        (unit / "cgroup.kill").write_text("")
    released: list[list[int]] = []
    monkeypatch.setattr(kill._thread, "start_new_thread", lambda _, args: released.append(*args))
    assert kill.kill_unit(str(unit), unit.stat().st_ino)[0] == "done"
    assert [sorted(found) for found in released] == [sorted(pids)]


def test_a_file_that_gives_a_page_at_a_read_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As cgroup.procs does: 500 to 800 PIDs; a protected one may stand on the next page."""
    unit = cgroup(tmp_path, list(range(100_000, 103_000)), [])
    read = os.read
    monkeypatch.setattr(os, "read", lambda fd, most: read(fd, min(most, 4096)))
    assert members(str(unit)) == set(range(100_000, 103_000))


def test_more_members_than_descriptors_all_go(tmp_path: Path) -> None:
    code = (
        "import os, resource, sys, time\n"
        "from watchdog.act import kill\n"
        "pids = []\n"
        "for _ in range(40):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        time.sleep(60)\n"
        "        os._exit(0)\n"
        "    pids.append(pid)\n"
        f"folder = {str(tmp_path)!r}\n"
        "open(folder + '/cgroup.procs', 'w').write('\\n'.join(map(str, pids)))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))\n"
        "kill.BATCH = 8\n"
        "print(*kill.kill_unit(folder, os.stat(folder).st_ino))\n"
        "print(*{os.waitpid(pid, 0)[1] for pid in pids})\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                         cwd=Path(__file__).parents[1], check=False)  # fmt: skip
    assert ran.stdout.splitlines() == [
        f"done sent SIGKILL to 40 processes of {tmp_path.name}", "9"
    ], ran.stderr  # fmt: skip


def test_where_nobody_can_be_reached_it_is_no_end(
    tmp_path: Path, sleepers: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_pid: int) -> int:
        raise OSError(24, "Too many open files")

    unit = cgroup(tmp_path, [one.pid for one in sleepers], [])
    monkeypatch.setattr(os, "pidfd_open", none_left)
    outcome, said = kill_unit(str(unit), unit.stat().st_ino)
    assert (outcome, said) == ("failed", "none of the 3 processes of shop.service was reached")


def test_one_that_is_made_anew_while_it_is_struck_is_left_alone(
    tmp_path: Path, sleepers: list[subprocess.Popen[bytes]]
) -> None:
    unit = cgroup(tmp_path, [one.pid for one in sleepers], [])
    inode = unit.stat().st_ino

    def made_anew() -> bool:
        unit.rename(tmp_path / "old")
        cgroup(tmp_path, [one.pid for one in sleepers], [])
        return True

    assert kill_unit(str(unit), inode, still_needed=made_anew)[0] == "changed"
    assert [one.poll() for one in sleepers] == [None] * 3


def test_one_protected_member_saves_all(
    tmp_path: Path, sleepers: list[subprocess.Popen[bytes]]
) -> None:
    a, b, c = (one.pid for one in sleepers)
    unit = cgroup(tmp_path, [a, b], [c])
    outcome, said = kill_unit(
        str(unit), unit.stat().st_ino,
        still_protected=lambda pid, _: "the configuration says so" if pid == c else None,
    )  # fmt: skip
    assert (outcome, said) == ("protected", f"PID {c} is in it: the configuration says so")
    (unit / "worker" / "cgroup.procs").write_text(f"{os.getpid()}\n")
    assert kill_unit(str(unit), unit.stat().st_ino)[0] == "protected"
    assert all(one.poll() is None for one in sleepers)


def test_a_folder_made_anew_is_another_unit(
    tmp_path: Path, sleepers: list[subprocess.Popen[bytes]]
) -> None:
    unit = cgroup(tmp_path, [sleepers[0].pid], [])
    assert kill_unit(str(unit), unit.stat().st_ino + 1)[0] == "changed"
    assert kill_unit(str(tmp_path / "none"), 1)[0] == "gone"
    assert kill_unit(str(unit), unit.stat().st_ino, still_needed=lambda: False)[0] == "changed"
    assert sleepers[0].poll() is None


def own_cgroup() -> Path | None:
    """A cgroup of our own under the hierarchy that is there, or None."""
    for base in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup"):
        path = Path(base) / f"oomw-test-{os.getpid()}"
        if Path(base, "cgroup.procs").exists():
            try:
                path.mkdir()
            except OSError:
                continue
            return path
    return None


def test_what_was_sent_before_somebody_protected_came_in_is_a_deed(
    tmp_path: Path, sleepers: list[subprocess.Popen[bytes]]
) -> None:
    """It is paid for, and memory is waited for, as after any other."""
    a, b, late = (one.pid for one in sleepers)
    unit = cgroup(tmp_path, [a, b], [])
    looks = {a: 0}

    def still_protected(pid: int, _start: int) -> str | None:
        looks[pid] = looks.get(pid, 0) + 1
        if looks[a] == 2 and pid == b:  # the look before the first blow is over
            (unit / "worker" / "cgroup.procs").write_text(f"{late}\n")
        return "said so" if pid == late else None

    outcome, said = kill_unit(str(unit), unit.stat().st_ino, still_protected=still_protected)
    assert (outcome, said) == (
        "done", "sent SIGKILL to 2 processes of shop.service and to no more: "
        f"PID {late} is in it: said so",
    )  # fmt: skip
    assert [one.wait(5) for one in sleepers[:2]] == [-signal.SIGKILL] * 2
    assert sleepers[2].poll() is None


def test_a_unit_that_forks_is_ended_in_a_real_cgroup() -> None:
    path = own_cgroup()
    if path is None:
        pytest.skip("no right to make a cgroup")
    code = ("import os, time\n"
            "os.setsid()\n"
            "for _ in range(4): os.fork()\n"
            "time.sleep(60)")  # fmt: skip
    enter = f"open({str(path / 'cgroup.procs')!r}, 'w').write('0')\n"
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", enter + code])
    try:
        until = time.monotonic() + 10
        while len(members(str(path))) < 16 and time.monotonic() < until:
            time.sleep(0.02)
        assert len(members(str(path))) == 16
        outcome, _ = kill_unit(str(path), path.stat().st_ino)
        assert outcome == "done"
        child.wait(5)
        while members(str(path)) and time.monotonic() < until:
            time.sleep(0.02)
        assert members(str(path)) == set()
    finally:
        child.kill()
        child.wait()
        path.rmdir()


# ---- PID 1, played by a script -----------------------------------------------------------------


class Pid1:
    """A `systemctl` that answers what `shown` says, and notes what it is asked to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shown = {"Id": "postgresql.service", "LoadState": "loaded", "ActiveState": "active",
                      "ControlGroup": "/system.slice/postgresql.service", "InvocationID": "f00",
                      "ExecMainPID": "7", "MemoryHigh": "infinity"}  # fmt: skip
        self.program = folder / "systemctl"
        self.program.write_text(
            f'#!/bin/sh\n[ "$1" = show ] && exec cat {folder}/shown\necho "$@" >>{folder}/asked\n'
            f"exit $(cat {folder}/status 2>/dev/null || echo 0)\n"
        )
        self.program.chmod(0o755)
        self.children = Children()
        self.units = Units(self.children, str(folder / "proc"), str(self.program))
        self.answers: list[tuple[str, str]] = []
        self.tell()

    def tell(self) -> None:
        """What `show` answers from now on; at once, because somebody may be reading it."""
        text = "".join(f"{key}={value}\n" for key, value in self.shown.items())
        (self.folder / "new").write_text(text)
        (self.folder / "new").rename(self.folder / "shown")

    def process(self, pid: int, start: int, cgroup: str) -> None:
        base = self.folder / "proc" / str(pid)
        base.mkdir(parents=True)
        fields = ["1", "1", "1", "0", "-1", "0", *["0"] * 10, "1", "0", str(start)]
        (base / "stat").write_text(f"{pid} (p) S {' '.join(fields)} 0 0\n")
        (base / "cgroup").write_text(f"0::{cgroup}\n")

    def done(self, outcome: str, said: str) -> None:
        self.answers.append((outcome, said))

    def settle(self) -> tuple[str, str]:
        until = time.monotonic() + 20
        while not self.answers and time.monotonic() < until:
            self.children.turn()
            self.units.turn()
            time.sleep(0.005)
        return self.answers.pop()

    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def pid1(tmp_path: Path) -> Pid1:
    return Pid1(tmp_path)


UNIT = Unit("postgresql.service", ((7, 500), (8, 600)))


def test_a_restart_is_asked_for_where_pid_1_runs_the_process_that_was_seen(pid1: Pid1) -> None:
    pid1.process(8, 600, "/system.slice/postgresql.service/worker")
    pid1.units.restart(UNIT, pid1.done)
    assert pid1.settle()[0] == "done"
    assert pid1.asked() == ["try-restart -- postgresql.service"]


@pytest.mark.parametrize("life", ["f00", None, "ba5"])
def test_a_unit_that_was_started_anew_is_another_one(pid1: Pid1, life: str | None) -> None:
    """Its old process may be there still, in the same cgroup (KillMode=process)."""
    pid1.process(8, 600, "/system.slice/postgresql.service")
    outcome = "changed" if life == "ba5" else "done"
    pid1.units.restart(UNIT._replace(invocation=life), pid1.done)
    assert pid1.settle()[0] == outcome
    pid1.units.limit(UNIT._replace(invocation=life), lambda _: 1 << 30, pid1.done)
    assert pid1.settle()[0] == outcome
    assert len(pid1.asked()) == (0 if life == "ba5" else 2)


# The four names that somebody who owns a subtree can make (he cannot choose what is above it).
FORGED = (
    "/user.slice/user-1000.slice/user@1000.service/postgresql.service",
    "/user.slice/user-1000.slice/user@1000.service/system.slice/postgresql.service",
    "/system.slice/docker-0123.scope/system.slice/postgresql.service",
    "/system.slice/x.service/a,task_memcg=/system.slice/postgresql.service",
)


@pytest.mark.parametrize("path", FORGED)
def test_a_forged_name_touches_nothing_of_the_real_unit(pid1: Pid1, path: str) -> None:
    pid1.process(7, 500, path)
    for act in (pid1.units.restart,):
        act(UNIT, pid1.done)
        outcome, said = pid1.settle()
        assert outcome == "protected"
        assert "forged" in said
    pid1.units.limit(UNIT, lambda _: 1 << 30, pid1.done)
    assert pid1.settle()[0] == "protected"
    pid1.units.stop(UNIT._replace(path=path), pid1.done)
    assert pid1.settle()[0] == "protected"
    assert pid1.asked() == []


def test_a_pid_that_is_somebody_elses_now_proves_nothing(pid1: Pid1) -> None:
    pid1.process(7, 501, "/system.slice/postgresql.service")
    pid1.units.restart(UNIT, pid1.done)
    assert pid1.settle()[0] == "gone"
    assert pid1.asked() == []


@pytest.mark.parametrize(("key", "value", "outcome"), [
    ("LoadState", "not-found", "failed"), ("Id", "other.service", "failed"),
    ("ControlGroup", "", "gone"), ("InvocationID", "", "gone"),
])  # fmt: skip
def test_what_pid_1_does_not_run_is_left_alone(
    pid1: Pid1, key: str, value: str, outcome: str
) -> None:
    pid1.process(7, 500, "/system.slice/postgresql.service")
    pid1.shown[key] = value
    pid1.tell()
    pid1.units.restart(UNIT, pid1.done)
    assert pid1.settle()[0] == outcome
    assert pid1.asked() == []


def test_a_failure_is_told_in_one_sentence(pid1: Pid1) -> None:
    pid1.process(7, 500, "/system.slice/postgresql.service")
    (pid1.folder / "status").write_text("5")
    pid1.units.restart(UNIT, pid1.done)
    assert pid1.settle() == ("failed", "systemctl ended with status 5")
    Units(pid1.children, systemctl="/nowhere/systemctl").restart(UNIT, pid1.done)
    assert pid1.answers == [("failed", "there is no systemd here")]


@pytest.mark.parametrize("name", ["user@1000.service", "session-4.scope", "init.scope",
                                  "system.slice", "user-runtime-dir@0.service"])  # fmt: skip
def test_a_login_or_a_slice_is_never_meant(pid1: Pid1, name: str) -> None:
    assert never(name)
    pid1.units.restart(Unit(name, UNIT.members), pid1.done)
    assert pid1.answers[0][0] == "failed"


@pytest.mark.parametrize(("state", "main", "outcome"), [
    ("inactive", "7", "done"), ("failed", "7", "done"), ("active", "7", "ending"),
    ("deactivating", "7", "ending"), ("active", "9", "changed"), ("activating", "7", "changed"),
    ("inactive", "9", "changed"),
])  # fmt: skip
def test_who_stays_down_because_of_us_is_started_again(
    pid1: Pid1, state: str, main: str, outcome: str
) -> None:
    pid1.shown |= {"ActiveState": state, "ExecMainPID": main, "ControlGroup": ""}
    pid1.tell()
    pid1.units.revive(UNIT, 7, pid1.done)
    assert pid1.settle()[0] == outcome
    started = ["start --no-block -- postgresql.service"]
    assert pid1.asked() == (started if outcome == "done" else [])
    pid1.units.revive(UNIT, 7, pid1.done, may=False)
    assert pid1.settle()[0] == ("budget" if outcome == "done" else outcome)
    assert pid1.asked() == (started if outcome == "done" else [])


@pytest.mark.parametrize(("shown", "by_policy", "by_guard"), [
    ({"Type": "oneshot"}, "changed", "changed"), ({"Restart": "no"}, "changed", "done"),
    ({"Restart": "on-failure"}, "done", "done"), ({"Job": "7"}, "done", "done"),
    ({"ActiveState": "deactivating", "Job": "7"}, "changed", "changed"),
    ({"ActiveState": "deactivating", "Job": ""}, "ending", "ending"),
])  # fmt: skip
def test_a_job_and_who_is_to_stay_down_are_not_started(
    pid1: Pid1, shown: dict[str, str], by_policy: str, by_guard: str
) -> None:
    pid1.shown |= {"ActiveState": "inactive", "ControlGroup": "", **shown}
    pid1.tell()
    for of_policy, outcome in ((True, by_policy), (False, by_guard)):
        pid1.units.revive(UNIT, 7, pid1.done, of_policy=of_policy)
        assert pid1.settle()[0] == outcome
    assert len(pid1.asked()) == (by_policy, by_guard).count("done")


def test_what_finds_no_room_is_not_refused_for_good(pid1: Pid1) -> None:
    nobody: Any = None
    pid1.units.jobs = [nobody] * AT_ONCE
    pid1.units.limit(UNIT, lambda _: 1, pid1.done)
    pid1.units.restart(UNIT, pid1.done)
    assert [outcome for outcome, _ in pid1.answers] == ["changed", "failed"]


def test_nobody_asked_for_a_login(pid1: Pid1) -> None:
    pid1.shown |= {"Id": "user@1000.service", "ActiveState": "inactive", "ControlGroup": ""}
    pid1.tell()
    pid1.units.revive(Unit("user@1000.service"), 7, pid1.done)
    assert pid1.settle()[0] == "changed", "of which nothing is said"
    assert pid1.asked() == []


def test_a_limit_is_chosen_when_pid_1_has_told_what_was_before(pid1: Pid1) -> None:
    pid1.process(7, 500, "/system.slice/postgresql.service")
    pid1.shown["MemoryHigh"] = "123456789"
    pid1.tell()
    seen: list[str] = []

    def refused(former: str) -> tuple[str, str]:
        seen.append(former)
        return "failed", "it cannot be kept"

    pid1.units.limit(UNIT, refused, pid1.done)
    assert pid1.settle() == ("failed", "it cannot be kept")
    assert (seen, pid1.asked()) == (["123456789"], [])
    pid1.units.limit(UNIT, lambda _: 99 << 20, pid1.done)
    assert pid1.settle()[0] == "done"
    assert pid1.asked() == [f"set-property --runtime -- postgresql.service MemoryHigh={99 << 20}"]


def test_what_was_is_set_again_and_a_unit_that_is_gone_is_forgotten(pid1: Pid1) -> None:
    pid1.units.put_back("postgresql.service", "5", (), 10.0, pid1.done)
    assert pid1.settle() == ("done", "MemoryHigh is what it was")
    (pid1.folder / "status").write_text("1")
    pid1.units.put_back("postgresql.service", "5", (), 10.0, pid1.done)
    assert pid1.settle() == ("failed", "systemctl ended with status 1")
    pid1.shown["LoadState"] = "not-found"
    pid1.tell()
    pid1.units.put_back("postgresql.service", "5", (), 10.0, pid1.done)
    assert pid1.settle()[0] == "gone"
    assert pid1.asked() == ["set-property --runtime -- postgresql.service MemoryHigh=5"] * 2


@pytest.mark.parametrize(("now", "outcome", "sets"), [
    (str(420 << 20), "done", True), (str((420 << 20) - 100), "done", True),
    ("infinity", "done", True), (str(300 << 20), "changed", False),
    (str(2 << 30), "changed", False), ("", "done", True),
])  # fmt: skip
def test_only_a_limit_of_ours_is_put_back(pid1: Pid1, now: str, outcome: str, sets: bool) -> None:
    """An administrator may have set another one meanwhile; what it was may be set once more."""
    pid1.shown["MemoryHigh"] = now
    pid1.tell()
    pid1.units.put_back("postgresql.service", "infinity", (1 << 20, 420 << 20), 10.0, pid1.done)
    assert pid1.settle()[0] == outcome
    assert len(pid1.asked()) == sets


def test_what_pid_1_does_not_tell_in_time_is_put_back(pid1: Pid1) -> None:
    (pid1.folder / "shown").unlink()
    pid1.units.put_back("postgresql.service", "infinity", (420 << 20,), 10.0, pid1.done)
    assert pid1.settle() == ("done", "MemoryHigh is what it was")
    assert len(pid1.asked()) == 1


def hang(pid1: Pid1) -> Child:
    """The program that was started last was killed a minute ago, and stays in the kernel."""
    child = pid1.units.jobs[-1].child
    child.timed_out = True
    child.began = pid1.children.now() - child.deadline_s - HUNG_S
    return child


def test_a_unit_is_free_again_although_systemctl_cannot_even_be_killed(pid1: Pid1) -> None:
    pid1.process(7, 500, "/system.slice/postgresql.service")
    pid1.units.systemctl = str(pid1.folder / "hangs")
    (pid1.folder / "hangs").write_text("#!/bin/sh\nexec sleep 60\n")
    (pid1.folder / "hangs").chmod(0o755)
    pid1.units.restart(UNIT, pid1.done)
    child = hang(pid1)
    child.began += 5.0
    pid1.units.turn()
    assert pid1.answers == [], "it was killed, and may take its time"
    child.began -= 5.0
    pid1.units.turn()
    pid1.units.turn()
    assert pid1.answers == [("failed", "systemctl took longer than 10 s and does not end")]
    pid1.answers.clear()
    pid1.units.systemctl = str(pid1.program)
    pid1.units.restart(UNIT, pid1.done)
    assert pid1.settle()[0] == "done"
    child.kill()
    while not child.done:
        pid1.children.turn()
        time.sleep(0.005)
    pid1.units.turn()
    assert (pid1.answers, pid1.units.hung) == ([], [])


SAID = f"systemctl: {AT_ONCE} that were killed do not end: no more are started"


def test_where_many_programs_hang_no_more_are_started(pid1: Pid1) -> None:
    (pid1.folder / "shown").unlink()
    os.mkfifo(pid1.folder / "shown")
    back = ("postgresql.service", "5", (1,), 10.0, pid1.done)
    for _ in range(AT_ONCE):
        pid1.units.restart(UNIT, pid1.done)
        hang(pid1)
        pid1.units.turn()
    pid1.answers.clear()
    pid1.units.put_back(*back)
    pid1.units.limit(UNIT, lambda _: 1, pid1.done)
    assert pid1.answers == [("failed", SAID)] * 2
    assert len(pid1.children.running) == AT_ONCE
    pid1.children.close()


# ---- evidence ----------------------------------------------------------------------------------


def test_evidence_is_bounded_and_the_oldest_goes_first(tmp_path: Path) -> None:
    for number in range(evidence.FILES_MAX + 5):
        outcome, _ = evidence.write(str(tmp_path), f"../p/{number}", {"n": number})
        assert outcome == "done"
    folder = tmp_path / "evidence"
    assert folder.stat().st_mode & 0o777 == 0o700
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == evidence.FILES_MAX
    assert f".._p_{evidence.FILES_MAX + 4}.json" in names
    evidence.write(str(tmp_path), "large", {"text": "x" * (1 << 20)})
    assert (folder / "large.json").stat().st_size <= evidence.FILE_MAX


def test_evidence_on_a_full_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evidence.write(str(tmp_path), "a", {"text": "first"})[0] == "done"
    left = [10]

    def write(fd: int, raw: bytes, real: Any = os.write) -> int:
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        return int(real(fd, raw[: left.pop()]))

    with monkeypatch.context() as full:
        full.setattr(evidence.os, "write", write)
        outcome, said = evidence.write(str(tmp_path), "a", {"text": "second"})
    assert (outcome, said.partition(": ")[2]) == ("failed", "No space left on device")
    (path,) = (tmp_path / "evidence").iterdir()
    assert json.loads(path.read_text()) == {"text": "first"}


def test_evidence_of_a_process_holds_no_environment(tmp_path: Path) -> None:
    start = Eyes("/proc").start_of(os.getpid()) or 0
    found = evidence.of_process(os.getpid(), start)
    assert "VmRSS" in found["status"]
    assert not set(found) & {"environ", "mem", "maps"}
    assert evidence.of_process(1 << 30, 0) == {}
    assert evidence.of_process(os.getpid(), start + 1) == {}, "its number is another's now"
    outcome, said = evidence.write(str(tmp_path), "a", found)
    assert outcome == "done"
    assert json.loads((tmp_path / "evidence" / "a.json").read_text())["statm"]
    assert "evidence in " in said

"""The one file that signals: the right process, or none."""

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from watchdog import procfs
from watchdog.act import armour
from watchdog.act import kill as room
from watchdog.act.kill import kill, rehearse, release_memory, shielded


def start_of(pid: int) -> int:
    stat = procfs.parse_stat(Path(f"/proc/{pid}/stat").read_bytes())
    assert stat
    return stat.start_ticks


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["/bin/sleep", "60"])
    yield process
    process.kill()
    process.wait()


def gone(process: subprocess.Popen[bytes], within_s: float = 2.0) -> bool:
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_it_reaches_the_process_that_was_meant(
    sleeper: subprocess.Popen[bytes], sig: signal.Signals
) -> None:
    outcome, detail = kill(sleeper.pid, start_of(sleeper.pid), sig)
    assert (outcome, detail) == ("done", f"sent {sig.name}")
    assert gone(sleeper)
    assert sleeper.returncode == -sig


def test_another_start_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    outcome, detail = kill(sleeper.pid, start_of(sleeper.pid) - 1, signal.SIGKILL)
    assert outcome == "changed"
    assert "sleep" in detail
    assert not gone(sleeper, 0.2)


def test_what_has_ended_is_gone(sleeper: subprocess.Popen[bytes]) -> None:
    start = start_of(sleeper.pid)
    sleeper.kill()
    time.sleep(0.2)  # a zombie now: nobody has waited for it
    assert kill(sleeper.pid, start, signal.SIGKILL)[0] == "gone"
    sleeper.wait()
    assert kill(sleeper.pid, start, signal.SIGKILL)[0] == "gone"


@pytest.mark.parametrize("pid", [-1, 0, 1, 2, os.getpid(), os.getppid()])
def test_these_are_never_signalled(pid: int) -> None:
    if pid == 2 and not os.path.exists("/proc/2"):
        pytest.skip("no kernel threads in this PID namespace")
    start = start_of(pid) if pid > 0 else 0
    for sig in (0, signal.SIGKILL):
        outcome, detail = kill(pid, start, sig)
        assert outcome == "protected"
        assert detail
    assert shielded(pid)


def test_our_own_processes_are_not(sleeper: subprocess.Popen[bytes]) -> None:
    start = start_of(sleeper.pid)
    assert kill(sleeper.pid, start, signal.SIGKILL, ours=(sleeper.pid,))[0] == "protected"
    assert shielded(sleeper.pid, ours=(sleeper.pid,))
    assert shielded(sleeper.pid) is None


def tree(tmp_path: Path, pid: int, *, flags: int = 0, adj: int = 0, state: str = "S",
         threads: int = 1, start: int = 77) -> str:  # fmt: skip
    folder = tmp_path / str(pid)
    folder.mkdir(exist_ok=True)
    fields = ["1", "1", "1", "0", "-1", str(flags), *["0"] * 10, str(threads), "0", str(start)]
    (folder / "stat").write_text(f"{pid} (a) b) {state} {' '.join(fields)} 0 0\n")
    (folder / "oom_score_adj").write_text(f"{adj}\n")
    return str(tmp_path)


def test_what_the_kernel_itself_spares_is_spared(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    pid = sleeper.pid
    root = tree(tmp_path, pid, adj=-900)
    outcome, detail = kill(pid, 77, signal.SIGKILL, root=root)
    assert (outcome, detail) == ("protected", "its oom_score_adj is -900")
    assert shielded(pid, root) == "its oom_score_adj is -900"
    root = tree(tmp_path, pid, flags=0x00200000)
    assert kill(pid, 77, signal.SIGKILL, root=root) == ("protected", "it is a kernel thread")
    assert shielded(pid, root) == "it is a kernel thread"
    root = tree(tmp_path, pid, adj=-899)
    assert kill(pid, 77, 0, root=root) == ("done", "sent signal 0")
    assert shielded(pid, root) is None
    assert not gone(sleeper, 0.1)


def test_a_main_thread_that_has_exited_is_not_the_end(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert kill(sleeper.pid, 77, 0, root=tree(tmp_path, sleeper.pid, state="Z"))[0] == "gone"
    root = tree(tmp_path, sleeper.pid, state="Z", threads=4)
    assert kill(sleeper.pid, 77, 0, root=root)[0] == "done"


def test_it_asks_again_at_the_last_moment(sleeper: subprocess.Popen[bytes]) -> None:
    start = start_of(sleeper.pid)
    asked: list[str] = []

    def protected() -> str | None:
        asked.append("protected")
        return "unit db.service is protected"

    def needed() -> bool:
        asked.append("needed")
        return False

    found = kill(sleeper.pid, start, 9, still_protected=protected, still_needed=needed)
    assert found == ("protected", "unit db.service is protected")
    assert asked == ["protected"]
    outcome, _ = kill(sleeper.pid, start, 9, still_protected=lambda: None, still_needed=needed)
    assert outcome == "changed"
    assert not gone(sleeper, 0.1)


def test_a_refusal_is_said(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(error: OSError) -> object:
        def send(*_: object) -> None:
            raise error

        return send

    start = start_of(sleeper.pid)
    monkeypatch.setattr(room.signal, "pidfd_send_signal", refuse(PermissionError(1, "no")))
    outcome, detail = kill(sleeper.pid, start, 15)
    assert outcome == "failed"
    assert "CAP_KILL" in detail
    monkeypatch.setattr(room.signal, "pidfd_send_signal", refuse(ProcessLookupError(3, "no")))
    assert kill(sleeper.pid, start, 15)[0] == "gone"
    monkeypatch.setattr(room.signal, "pidfd_send_signal", refuse(OSError(22, "odd")))
    assert kill(sleeper.pid, start, 15) == ("failed", "odd")
    monkeypatch.setattr(room.os, "pidfd_open", refuse(OSError(24, "too many open files")))
    assert kill(sleeper.pid, start, 15)[0] == "failed"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user's process")
def test_without_the_right_it_says_so_for_real(sleeper: subprocess.Popen[bytes]) -> None:
    code = (
        "import os, sys\nsys.path.insert(0, sys.argv[1])\n"
        "from watchdog.act.kill import kill\n"  # before: nobody may not read a checkout of root's
        "os.setresuid(65534, 65534, 65534)\n"
        "print(kill(int(sys.argv[2]), int(sys.argv[3]), 15)[0])"
    )
    top = str(Path(__file__).parents[1])
    argv = [sys.executable, "-I", "-c", code, top, str(sleeper.pid), str(start_of(sleeper.pid))]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "failed"


def test_the_rehearsal_harms_nobody_and_releases_nothing(sleeper: subprocess.Popen[bytes]) -> None:
    assert rehearse(sleeper.pid, start_of(sleeper.pid)) == ("done", "sent signal 0")
    time.sleep(0.1)
    assert not gone(sleeper, 0.1)
    assert rehearse(999_999_999, 1)[0] in ("gone", "failed")


def test_the_rehearsal_runs_all_that_a_signal_may_need(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends a unit too; of what runs in a thread of its own nothing is seen here."""
    really, sent, ran = signal.pidfd_send_signal, list[int](), set[str]()

    def send(pidfd: int, sig: int) -> None:
        sent.append(sig)
        really(pidfd, 0)

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename == room.__file__:
            ran.add(frame.f_code.co_name)

    monkeypatch.setattr(room.signal, "pidfd_send_signal", send)
    sys.setprofile(note)
    try:
        rehearse(sleeper.pid, start_of(sleeper.pid))
    finally:
        sys.setprofile(None)
    there = {name for name, one in vars(room).items() if getattr(one, "__code__", None)}
    assert there - ran == {"_release", "_again", "_load_libc", "_errno"}
    assert set(sent) == {0}


def test_memory_is_released_by_one_thread_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """EAGAIN is asked again every 50 ms for a second; every other refusal is ordinary."""
    here = threading.get_ident()  # what another test has let die may still be released meanwhile
    started: list[tuple[list[int]]] = []
    asked: list[int] = []
    pauses: list[float] = []
    fds: dict[int, int] = {}

    def pidfd_open(pid: int) -> int:
        if pid == 7 or threading.get_ident() != here:
            raise ProcessLookupError(3, "No such process")
        fd = os.open("/dev/null", os.O_RDONLY)
        fds[fd] = pid
        return fd

    class Libc:
        def syscall(self, number: int, pidfd: int, flags: int) -> int:
            assert (number, flags) == (448, 0)
            asked.append(fds[pidfd])
            return 0 if fds[pidfd] == 8 else -1

    monkeypatch.setattr(room._thread, "start_new_thread", lambda _, args: started.append(args))

    def pause(seconds: float) -> None:
        if threading.get_ident() == here:
            pauses.append(seconds)

    release_memory([])
    release_memory({7, 8, 9, 10})
    assert [sorted(args[0]) for args in started] == [[7, 8, 9, 10]]
    monkeypatch.setattr(room.os, "pidfd_open", pidfd_open)
    monkeypatch.setattr(room.time, "sleep", pause)
    monkeypatch.setattr(room, "_load_libc", Libc)
    monkeypatch.setattr(room, "_errno", lambda: 11 if asked[-1] == 10 else 22)
    room._release([7, 8, 9, 10])
    assert asked == [8, 9, *[10] * 20]
    assert pauses == [0.05] * 20
    assert not any(os.path.exists(f"/proc/self/fd/{fd}") for fd in fds)


def test_a_killed_process_gives_its_memory_back_and_leaves_no_descriptor() -> None:
    code = "b = bytearray(64 << 20); b[::4096] = b'x' * len(b[::4096]); print(flush=True); input()"
    before = len(os.listdir("/proc/self/fd"))
    with subprocess.Popen(
        [sys.executable, "-I", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as hog:
        assert hog.stdout
        hog.stdout.readline()
        assert kill(hog.pid, start_of(hog.pid), signal.SIGKILL)[0] == "done"
        assert gone(hog)
    until = time.monotonic() + 2
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < until:
        time.sleep(0.02)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_nobody_else_signals() -> None:
    """os.kill and its kin stand in this file, and in the room of the children for its own."""
    package = Path(__file__).parents[1] / "watchdog"
    for path in package.rglob("*.py"):
        if path.name in ("kill.py", "child.py", "spawn.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("killpg", "pidfd_send_signal"), path
                whose = node.value.id if isinstance(node.value, ast.Name) else ""
                assert (whose, node.attr) != ("os", "kill"), path


def apart(code: str) -> str:
    """What a process of its own prints; its one argument is the project's folder."""
    argv = [sys.executable, "-I", "-c", code, str(Path(__file__).parents[1])]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_the_armour_answers_why_it_is_refused() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom watchdog.act import armour\n"
        "print(armour.shed() > 0, [armour.lock_memory(), armour.ask_to_be_spared()])"
    )
    assert apart(code).startswith("True ")
    assert armour.oom_score_adj() <= 1000


def test_no_huge_pages_are_kept_over_exec() -> None:
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\nfrom watchdog.act import armour\n"
        "armour.small_pages()\nos.execv('/bin/cat', ['cat', '/proc/self/status'])"
    )
    said = apart(code)
    if "THP_enabled" not in said:
        pytest.skip("this kernel does not tell of huge pages in /proc/PID/status")
    assert "THP_enabled:\t0" in said

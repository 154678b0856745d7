"""Programs: started without a shell, held to their deadline, and without our armour."""

import os
import pwd
import signal
import sys
import time
from pathlib import Path

import pytest

from watchdog.act import hook
from watchdog.child import PATH, Child, Children, run_once, spawn

PYTHON = os.path.realpath(sys.executable)
ROOT = os.geteuid() == 0


def python(code: str) -> list[str]:
    return [PYTHON, "-I", "-S", "-c", code]


def wait(children: Children, child: Child, limit_s: float = 5.0) -> Child:
    until = time.monotonic() + limit_s
    while not child.done:
        assert time.monotonic() < until, "it never ended"
        children.turn()
        time.sleep(0.005)
    return child


def test_stdin_goes_in_output_and_status_come_out() -> None:
    code = "import sys; print(sys.stdin.read().upper()); print('oh', file=sys.stderr); sys.exit(3)"
    done = run_once(python(code), b"abc")
    assert (bytes(done.output), bytes(done.errors)) == (b"ABC\n", b"oh\n")
    assert (done.status, done.signal, done.timed_out, done.cut) == (3, None, False, False)
    assert done.failure() == "ended with status 3"


def test_more_stdin_than_a_pipe_holds() -> None:
    done = run_once(python("import sys; print(len(sys.stdin.read()))"), b"x" * 1_000_000)
    assert bytes(done.output) == b"1000000\n"
    assert done.failure() is None


def test_a_child_that_does_not_read_its_stdin_ends_well() -> None:
    assert run_once(python("pass"), b"x" * 1_000_000).status == 0


def test_the_deadline_ends_it_and_what_it_started() -> None:
    code = (
        "import os, time\nif os.fork() == 0: time.sleep(60)\n"
        "print('up', flush=True); time.sleep(60)"
    )
    began = time.monotonic()
    done = run_once(python(code), timeout=0.4)
    assert time.monotonic() - began < 30
    assert done.timed_out
    assert done.signal == signal.SIGKILL
    assert done.failure() == "took longer than 0.4 s and was ended"
    assert bytes(done.output) == b"up\n"


def test_a_grandchild_that_holds_the_pipe_is_not_waited_for() -> None:
    code = "import os, time\nif os.fork() == 0: time.sleep(30)\nelse: print('done', flush=True)"
    began = time.monotonic()
    done = run_once(python(code), timeout=25)
    assert done.status == 0
    assert time.monotonic() - began < 20


def test_output_is_bounded() -> None:
    children = Children()
    child = children.start(python("print('x' * 100000)"), max_output=1000)
    wait(children, child)
    assert len(child.output) == 1000
    assert child.cut
    assert child.status == 0


def test_one_that_writes_for_ever_ends_at_its_deadline() -> None:
    children = Children()
    child = children.start(python("while True: print('x' * 1000)"), deadline_s=0.3, max_output=100)
    children.turn()  # comes back, although there is always more to read
    wait(children, child)
    assert child.timed_out
    assert len(child.output) == 100


def test_the_loop_is_woken_by_its_descriptors() -> None:
    children = Children()
    child = children.start(python("print(1)"), deadline_s=20)
    assert child.pidfd in children.fds()
    assert child.out_fd in children.fds()
    assert children.next_deadline() == child.deadline
    wait(children, child)
    assert children.fds() == {}
    assert children.next_deadline() is None
    assert children.running == []


def test_it_has_none_of_our_armour_and_none_of_our_descriptors() -> None:
    code = (
        "import os, signal\n"
        "print(open('/proc/self/oom_score_adj').read().strip(), os.getpriority(os.PRIO_PROCESS, 0))"
        "\nprint(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])\n"
        "print(signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL, signal.pthread_sigmask(0, ()))\n"
        "print(os.getpid() == os.getsid(0), dict(os.environ))"
    )
    leaked = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        lines = bytes(run_once(python(code)).output).decode().splitlines()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
        signal.signal(signal.SIGUSR1, before)
        os.close(leaked)
    assert lines[0] == "0 0"
    assert lines[1] == "[0, 1, 2]"
    assert lines[2] == "True set()"
    # LC_CTYPE is the interpreter's own doing in a C locale
    assert lines[3].replace(", 'LC_CTYPE': 'C.UTF-8'", "") == f"True {{'PATH': '{PATH}'}}"


def test_a_raised_oom_score_adj_and_niceness_are_put_back_where_the_kernel_lets_us() -> None:
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from watchdog.child import run_once
open('/proc/self/oom_score_adj', 'w').write('300')
os.nice(5)
inner = "import os; print(open('/proc/self/oom_score_adj').read().strip())"
print(bytes(run_once([{PYTHON!r}, '-I', '-S', '-c', inner]).output))
"""
    # Lowering needs CAP_SYS_RESOURCE below the value that was set last: either is honest.
    assert bytes(run_once(python(code)).output) in (b"b'0\\n'\n", b"b'300\\n'\n")


@pytest.mark.parametrize("argv", [["/nonexistent/program"], ["/etc/passwd"]])
def test_what_cannot_be_executed_ends_with_127_and_says_why(argv: list[str]) -> None:
    done = run_once(argv)
    assert done.status == 127
    assert bytes(done.errors).startswith(b"cannot start " + argv[0].encode())


def test_a_relative_program_is_refused() -> None:
    with pytest.raises(OSError, match="not an absolute path"):
        run_once(["true"])
    with pytest.raises(OSError, match="not an absolute path"):
        spawn([])


def test_close_ends_what_is_under_way() -> None:
    children = Children()
    child = children.start(python("import time; time.sleep(60)"))
    children.close()
    assert not Path(f"/proc/{child.pid}").exists()
    assert children.fds() == {}


def test_kept_descriptors_stay_under_their_numbers() -> None:
    read_end, write_end = os.pipe()
    out_read, out_write = os.pipe()
    process = spawn(
        python(f"import os; os.write({write_end}, b'hello'); print(os.listdir('/proc/self/fd'))"),
        stdio=(0, out_write, 2), keep=(write_end,), session=False, oom_score_adj=None,
    )  # fmt: skip
    os.close(out_write)
    assert os.read(read_end, 10) == b"hello"
    assert str(read_end) not in os.read(out_read, 100).decode().split("'")
    while (status := process.reap()) is None:
        time.sleep(0.01)
    assert status == 0
    for fd in (read_end, write_end, out_read):
        os.close(fd)


@pytest.mark.skipif(not ROOT, reason="changing the user needs root")
def test_another_user_has_that_users_rights_and_no_more() -> None:
    nobody = pwd.getpwnam("nobody")
    children = Children()
    child = children.start(
        ["/usr/bin/id", "-u", "-r"], uid=nobody.pw_uid, gid=nobody.pw_gid, groups=()
    )
    wait(children, child)
    assert bytes(child.output).strip() == str(nobody.pw_uid).encode()


# ---- hooks -----------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path) -> Path:
    found = tmp_path / "hook"
    found.write_text('#!/bin/sh\ncat >&2\necho "$OOM_WATCHDOG_EVENT $OOM_WATCHDOG_PID $PATH" >&2\n')
    found.chmod(0o755)
    return found


EVENT = {"event": "leak.confirmed", "id": "x-1", "pid": 12, "unit": None, "comm": "a\nb"}


def test_a_hook_gets_the_facts_as_json_and_a_small_environment(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook.os, "geteuid", lambda: 1000)  # pytest's folders are not root's alone
    children = Children()
    child = hook.start(children, [str(script)], EVENT, None, 5.0)
    wait(children, child)
    first, second = bytes(child.errors).decode().splitlines()
    assert '"comm": "a\\nb"' in first
    assert second == f"leak.confirmed 12 {PATH}"
    outcome, detail = hook.outcome(child)
    assert outcome == "done"
    assert detail == first


@pytest.mark.skipif(not ROOT, reason="only root is asked whose the program is")
def test_root_runs_nothing_that_others_could_change(script: Path) -> None:
    script.parent.chmod(0o777)
    with pytest.raises(hook.HookError, match="can be changed by somebody other than root"):
        hook.start(Children(), [str(script)], EVENT, None, 5.0)
    assert hook.untrusted("/bin/true") is None


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("true", "not an absolute path"),
        ("/nonexistent/x", "no such file"),
        ("/etc/passwd", "cannot be|not a program"),
        ("/etc", "not a program"),
    ],
)
def test_what_is_no_program_is_refused_in_one_line(program: str, reason: str) -> None:
    with pytest.raises(hook.HookError, match=reason) as caught:
        hook.start(Children(), [program], EVENT, None, 5.0)
    assert "\n" not in str(caught.value)


def test_a_hook_is_a_unit_of_its_own_where_systemd_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for systemd-run does what it does: passes on the pipes, and how the hook ends."""
    runner = tmp_path / "systemd-run"
    runner.write_text(
        "#!/bin/sh\n"
        f'printf "%s\\n" "$@" >{tmp_path}/argv\n'
        'while [ "$1" != -- ]; do shift; done; shift; exec "$@"\n'
    )
    runner.chmod(0o755)
    monkeypatch.setattr(hook, "SYSTEMD_RUN", str(runner))
    monkeypatch.setattr(hook, "MANAGER", str(tmp_path))
    monkeypatch.setattr(hook, "BUS", str(runner))
    monkeypatch.setattr(hook.os, "geteuid", lambda: 0)
    children = Children()
    argv = ["/bin/sh", "-c", "cat; exit 3"]
    child = hook.start(children, argv, EVENT, "nobody", 5.0)
    outcome, detail = hook.outcome(wait(children, child))
    assert outcome == "failed" and detail.startswith('ended with status 3: {"event"')
    given = (tmp_path / "argv").read_text().splitlines()
    assert given[given.index("--") + 1 :] == argv
    for expected in ("--pipe", "--wait", "--collect", "--uid=nobody", "--property=MemoryMax=64M",
                     "--property=RuntimeMaxSec=6.0", f"--setenv=PATH={PATH}",
                     "--setenv=OOM_WATCHDOG_EVENT=leak.confirmed"):  # fmt: skip
        assert expected in given, given
    assert hook.unit_of(["/x", "$HOME"], {}, None, 1.0)[-2:] == ["/x", "$$HOME"]
    monkeypatch.setattr(hook, "BUS", str(tmp_path / "none"))
    assert not hook.transient()


def test_hooks_that_fail_say_how() -> None:
    children = Children()
    child = hook.start(children, ["/bin/false"], EVENT, None, 5.0)
    assert hook.outcome(wait(children, child)) == ("failed", "ended with status 1")
    child = hook.start(children, ["/bin/sleep", "9"], EVENT, None, 0.1)
    outcome, detail = hook.outcome(wait(children, child))
    assert (outcome, detail) == ("failed", "took longer than 0.1 s and was ended")
    with pytest.raises(hook.HookError, match="no such user"):
        hook.start(children, ["/bin/true"], EVENT, "no-such-user", 5.0)
    with pytest.raises(hook.HookError, match="no program"):
        hook.start(children, [], EVENT, None, 5.0)


def test_a_stream_waits_for_its_reader_and_loses_nothing() -> None:
    children = Children()
    program = "for n in range(40000): print('line', n)"
    child = children.start([sys.executable, "-c", program], max_output=5000, stream=True)
    lines: list[bytes] = []
    for _ in range(3000):  # nobody takes anything: it must not grow
        children.turn()
        if len(child.output) >= 5000:
            break
        time.sleep(0.01)
    assert len(child.output) <= 5000 and not child.done
    assert child.out_fd not in child.fds()
    while not child.done:
        lines += child.take_lines()
        children.turn()
    lines += child.take_lines()
    assert lines == [b"line %d" % number for number in range(40000)]
    assert (child.failure(), child.cut, children.running) == (None, False, [])
    assert child.take_lines() == []


def test_the_last_line_of_a_stream_that_was_ended_comes_as_it_is() -> None:
    children = Children()
    child = children.start(
        [sys.executable, "-c", "print('a\\nb', end='', flush=True); input()"], b"", 5.0, stream=True
    )
    while not child.done:
        children.turn()
        time.sleep(0.01)
    assert child.take_lines() == [b"a", b"b"]
    assert child.failure() == "ended with status 1"

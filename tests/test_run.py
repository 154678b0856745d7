"""The entry point and `run`, as an administrator calls them."""

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

from watchdog.cli import main as entry
from watchdog.cli import run as running

DUMMY = Path(__file__).parent / "fixtures" / "dummy_watcher.py"
COMMAND = [sys.executable, "-I", "-m", "watchdog"]


def command(*argv: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *argv], capture_output=True, text=True, check=False, cwd="/",
                          timeout=30, **more)  # fmt: skip


def fits(text: str) -> bool:
    lines = text.splitlines()
    return len(lines) <= 24 and all(len(line) <= 80 for line in lines)


def test_help_fits_and_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert fits(shown)
    for name in ("run", "check", "events", "status", "explain", "replay", "record"):
        assert f"\n  {name} " in shown
    assert "example: oom-watchdog" in shown


@pytest.mark.parametrize("closed", [(1,), (0, 1, 2)])
def test_a_standard_stream_that_is_closed_stops_nothing(
    closed: tuple[int, ...], tmp_path: Path
) -> None:
    """What is opened next must not take its place: `run >&-` would print into its history."""
    shut = "".join(f" {fd}>&-" for fd in closed)
    for words, status in ((("check", "--show", os.devnull), 0), (("status",), 1)):
        call = f'exec "$@"{shut}'
        argv = [*COMMAND, *words, "--state", str(tmp_path)]
        done = subprocess.run(["/bin/sh", "-c", call, "sh", *argv], capture_output=True, cwd="/",
                              timeout=30, check=False)  # fmt: skip
        assert (done.returncode, b"Traceback" in done.stderr) == (status, False), done.stderr


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main([]) == 2
    found = capsys.readouterr()
    assert (found.out, found.err[:6]) == ("", "usage:")


@pytest.mark.parametrize("name", entry.available())
def test_the_help_of_each_command_fits(name: str) -> None:
    done = command(name, "--help", env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0
    assert fits(done.stdout), done.stdout
    assert "example" in done.stdout.lower()


@pytest.mark.parametrize(
    ("word", "near"), [("stauts", "status"), ("rn", "run"), ("--versoin", "--version"), ("zzz", "")]
)
def test_an_unknown_command_names_the_nearest(
    word: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.main([word]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert (f'did you mean "{near}"?' in said) == bool(near)


def test_an_unknown_command_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["\x1b[2J"]) == 2
    assert "\\x1b[2J" in capsys.readouterr().err


def test_version_says_what_a_bug_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["--version"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("oom-watchdog 0.")
    for fact in ("python", "kernel", "systemd", "cgroup", "psutil", "systemd-python", "memory"):
        assert f"\n{fact}:" in shown
    assert os.uname().release in shown


def test_a_closed_pipe_is_a_quiet_0() -> None:
    for argv in (["--help"], ["--version"], ["run", "--help"]):
        read_end, write_end = os.pipe()
        os.close(read_end)
        done = subprocess.run([*COMMAND, *argv], stdout=write_end, stderr=subprocess.PIPE,
                              check=False, cwd="/")  # fmt: skip
        os.close(write_end)
        assert (done.returncode, done.stderr) == (0, b"")


def test_ctrl_c_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "_main", interrupt)
    assert entry.main(["status"]) == 0


# ---- run -------------------------------------------------------------------------------------


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`run` with the stand-in for the watcher, and none of this machine's configuration."""
    config = tmp_path / "config.toml"
    config.write_text("")
    started: list[subprocess.Popen[str]] = []

    def start(*argv: str, state: Path | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, "run", "--config", str(config), "--state", str(state or tmp_path / "state"),
             "--guard-option=--program", f"--guard-option={DUMMY}", *argv],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def heard(state: Path, limit_s: float = 10.0) -> list[Any]:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if (state / "heard").exists() and (state / "heard").read_text().endswith("]\n"):
            return [json.loads(line) for line in (state / "heard").read_text().splitlines()]
        time.sleep(0.02)
    raise AssertionError("no watcher was started")


def test_run_becomes_the_guard_and_starts_the_watcher(
    daemon: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = daemon("--json", "--record", str(tmp_path / "trace"))
    started = heard(tmp_path / "state")[0]
    assert b"watchdog.guard" in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    argv = started[2]
    assert argv[argv.index("--config") + 1] == str(tmp_path / "config.toml")
    assert argv[argv.index("--record") + 1] == str(tmp_path / "trace")
    assert "--json" in argv
    assert (tmp_path / "state" / "lock").read_text() == f"{process.pid}\n"
    assert (tmp_path / "state").stat().st_mode & 0o007 == 0
    rules = int(argv[argv.index("--rules") + 1])
    shared = json.loads(Path(f"/proc/{process.pid}/fd/{rules}").read_bytes())
    assert shared["rules"]["guard"]["mode"] == "observe"
    process.send_signal(signal.SIGINT)
    assert process.wait(2) == 0


def test_a_second_one_says_who_holds_the_lock(
    daemon: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    first = daemon()
    watcher = heard(tmp_path / "state")[0][1]
    second = daemon()
    _, said = second.communicate(timeout=10)
    assert second.returncode == 75
    assert said.count("\n") == 1
    assert f"pid {first.pid}" in said
    # The lock is the guard's alone: a watcher that outlives it must not keep it.
    assert not any(
        os.readlink(f"/proc/{watcher}/fd/{fd}").endswith("/lock")
        for fd in os.listdir(f"/proc/{watcher}/fd")
    )
    first.kill()
    first.wait()
    third = daemon("--for", "0.2s")
    assert third.wait(10) == 0


def test_a_state_folder_that_cannot_be_used_does_not_stop_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "c.toml").write_text("")
    done = command("run", "--config", str(tmp_path / "c.toml"), "--for", "2s",
                   "--state", str(tmp_path / "file" / "below"))  # fmt: skip
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "started: watching" in done.stdout
    assert "degraded: " in done.stdout
    assert "stopped: " in done.stdout


def test_a_bad_configuration_is_one_clear_line_and_78(tmp_path: Path) -> None:
    config = tmp_path / "bad.toml"
    config.write_text('[guard]\nmode = "enforec"\n')
    done = command("run", "--config", str(config), "--state", str(tmp_path / "state"))
    assert done.returncode == 78
    assert str(config) in done.stderr
    assert "guard.mode" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "argv", [["--for", "10m"], ["--unknown"], ["surplus"], ["--record", "/nonexistent/x"]]
)
def test_a_wrong_argument_is_one_line_and_2(argv: list[str], tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("")
    done = command("run", "--state", str(tmp_path), "--config", str(tmp_path / "c.toml"), *argv)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr


def test_the_guard_knows_from_the_first_moment_whether_a_policy_enforces() -> None:
    from watchdog.policy.rules import Policy, default_rules, guard_settings

    rules = default_rules()
    assert guard_settings(rules)["enforces"] is False
    acting = rules._replace(policies=(Policy("x", mode="enforce"),))
    assert guard_settings(acting)["enforces"] is True


def test_a_loader_that_was_ended_is_no_wrong_configuration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 78 keeps systemd from trying again; an overloaded machine must be tried again."""
    monkeypatch.setattr(running, "LOAD_S", 0.001)
    with pytest.raises(SystemExit) as ended:
        running.load(None)
    assert ended.value.code == 1
    assert "took longer" in capsys.readouterr().err

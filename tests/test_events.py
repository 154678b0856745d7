"""`events` and the options that all commands share."""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.cli import args, events
from watchdog.facts import Event
from watchdog.store.db import Store

ROOT = Path(__file__).parent.parent
NOW = 1_700_000_000.0


def event(number: int, kind: str = "watchdog.degraded", ago: float = 60.0) -> Event:
    unit = {"unit": "shop.service"} if number % 2 else {}
    because = (f"reason {number}",)
    return Event(kind, f"e-{number}", None, time.time() - ago, 1.0, "b", "h", because, unit)


@pytest.fixture
def state(tmp_path: Path) -> str:
    store = Store(str(tmp_path / "history.db"))
    store.put_events([event(1, ago=7200), event(2), event(3, kind="watchdog.started")])
    store.close()
    return str(tmp_path)


def test_human_lines(state: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert events.main(["--state", state]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2] for line in lines] == [
        "shop.service: reason 1 · oom-watchdog status",
        "reason 2 · oom-watchdog status",
        "shop.service: reason 3 · oom-watchdog status",
    ]
    assert lines[0].startswith(time.strftime("%Y-"))


def test_json_lines_are_the_events(state: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert events.main(["--state", state, "--json", "--since", "1h", "--unit", "shop"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert (told["id"], told["because"], told["unit"]) == ("e-3", ["reason 3"], "shop.service")
    assert line == json.dumps(told)


def test_one_event_at_full_length(state: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert events.main(["--state", state, "--id", "e-1"]) == 0
    out = capsys.readouterr().out
    assert "    because reason 1\n" in out
    assert '    unit = "shop.service"\n' in out
    assert "host = " in out
    assert "    cause" not in out


@pytest.mark.parametrize(
    ("argv", "status", "text"),
    [
        (["--kind", "oom.kill"], 1, "no such event"),
        (["--kind", "oom.kil"], 2, 'no events of kind "oom.kil" (did you mean "oom.kill"?)'),
        (["--since", "5m"], 2, 'write "min"'),
        (["--until", "yesterday"], 2, "expected a time ago"),
        (["--nonsense"], 2, "unrecognized arguments: --nonsense"),
    ],
)
def test_nothing_and_nonsense(
    state: str, capsys: pytest.CaptureFixture[str], argv: list[str], status: int, text: str
) -> None:
    try:
        found = events.main(["--state", state, *argv])
    except SystemExit as end:
        found = int(end.code or 0)
    out, err = capsys.readouterr()
    assert (found, out) == (status, "")
    assert text in err
    assert err.count("\n") == 1


def test_a_state_folder_without_a_history(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert events.main(["--state", str(tmp_path / "none")]) == 2
    assert events.main(["--state", str(tmp_path)]) == 1
    (tmp_path / "history.db").write_bytes(os.urandom(9000))
    assert events.main(["--state", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 3)


def test_follow_tells_what_comes(
    state: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "FOLLOW_S", 0.01)
    store = Store(state + "/history.db")
    turns = 0

    def sleep(_: float) -> None:
        nonlocal turns
        turns += 1
        if turns == 1:
            store.put_events([event(2), event(4)])
            store.flush()
        if turns == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("watchdog.cli.events.time.sleep", sleep)
    assert events.main(["--state", state, "--follow", "--json"]) == 0
    told = [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()]
    assert told == ["e-1", "e-2", "e-3", "e-4"]
    assert threading.active_count() >= 2
    store.close()


def test_a_reader_that_goes_away_is_quiet(state: str) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from watchdog.cli import events\n"
        "sys.exit(events.main(['--state', sys.argv[2]] + ['--follow']))"
    )
    argv = [sys.executable, "-c", program, str(ROOT), state]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stderr
        child.stdout.readline()
        child.stdout.close()
        store = Store(state + "/history.db")
        store.put_events([event(9)])
        store.close()
        assert child.wait(10) == 0
        assert child.stderr.read() == b""


@pytest.mark.parametrize("command", ["events", "status"])
def test_help_fits_a_terminal_and_shows_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = __import__(f"watchdog.cli.{command}", fromlist=["main"])
    with pytest.raises(SystemExit) as end:
        module.main(["--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0
    assert len(out.splitlines()) <= 24
    assert max(map(len, out.splitlines())) < 80
    assert "example: oom-watchdog " + command in out


def test_when(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert args.when("10min", NOW) == NOW - 600
        assert args.when("90", NOW) == NOW - 90
        assert args.when("1.5h", NOW) == NOW - 5400
        assert args.when("@1500.5", NOW) == 1500.5
        assert args.when("2026-11-01", NOW) == 1793471400.0
        assert args.when("2026-11-01 08:30", NOW) == 1793471400.0 + 8.5 * 3600
        assert args.when("2026-11-01T08:30:15") == 1793471400.0 + 8.5 * 3600 + 15
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    ["", "5m", "@", "@x", "@nan", "@1e30", "2026-13-01", "2026-02-30", "2026-11-01 24:00",
     "2026-11-01 08:60", "9999-99-99", "-5", "tomorrow", "\x1b[2J"],
)  # fmt: skip
def test_when_refuses(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as found:
        args.when(text)
    assert str(found.value).isprintable()


@given(st.text(max_size=20))
def test_when_never_breaks(text: str) -> None:
    with contextlib.suppress(argparse.ArgumentTypeError):
        args.when(text)


def test_sizes_and_durations() -> None:
    assert args.duration("90") == 90
    assert args.size("4KiB") == 4096
    for parse in (args.duration, args.size):
        with pytest.raises(argparse.ArgumentTypeError):
            parse("much")


@pytest.mark.parametrize(
    ("make", "why"), [(os.mkdir, "it is a folder"), (os.mkfifo, "it is no plain file")]
)
def test_a_history_that_is_no_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[str], None], why: str
) -> None:
    path = str(tmp_path / "history.db")
    make(path)
    assert events.main(["--state", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"oom-watchdog: the history {path} cannot be read: {why}\n"


def test_an_unreadable_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert args.unreadable("a\nb", PermissionError(13, "Permission denied")) == 2
    assert capsys.readouterr().err == "oom-watchdog: a\\x0ab: permission denied\n"

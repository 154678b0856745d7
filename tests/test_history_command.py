"""`history`: one process or unit over time, from the store."""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from watchdog.facts import Event
from watchdog.history import records
from watchdog.history.entities import Trend
from watchdog.store.db import Store

MIB = 1024
NOW = time.time() // 60 * 60


def _trend(minutes: int, start_mib: int, per_min: int, ends_ago_s: float = 0.0) -> Trend:
    """Grows by so many MiB a minute; the last reading so long ago, at an uptime of its own."""
    first_t, first_up = NOW - ends_ago_s - 60 * minutes, 50_000.0
    trend = Trend(first_t, first_up)
    for n in range(minutes * 6 + 1):
        kib = (start_mib + n * per_min // 6) * MIB
        trend.add(first_t + 10 * n, first_up + 10 * n, kib)
    return trend


@pytest.fixture
def state(tmp_path: Path) -> Path:
    store = Store(str(tmp_path / "history.db"))
    leak = _trend(30, 100, 6)
    leak.stage, leak.since_t, leak.rate = "confirmed", NOW - 1200, 6 * 1048576 / 60
    store.put_entities(
        [
            records.dump(leak, "42:7", "boot-b", "python3", "shop.service"),
            records.dump(_trend(5, 10, 0, 90_000), "42:9", "boot-a", "old\\x1b", None),
            records.dump(_trend(10, 50, 1), "unit:shop.service", "boot-b", None, "shop.service"),
            records.dump(
                _trend(10, 50, 1, 90_000), "unit:shop.service", "boot-a", None, "shop.service"
            ),
        ]
    )
    for start in (7, 8):
        event = Event(
            "watchdog.degraded", f"watchdog.degraded-{start}", None, NOW - 600 + start, 1.0,
            "boot-b", "h", (f"about {start}",), {"what": "x", "pid": 42, "start": start},
        )  # fmt: skip
        store.put_events([event])
    assert store.flush()
    store.close()
    return tmp_path


def _run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "watchdog", "history", *args],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_process_that_grows(state: Path) -> None:
    done = _run("42", "--state", str(state), "--since", "2h")
    assert done.returncode == 0, done.stderr
    head, what, *rows = done.stdout.splitlines()
    assert head == "python3 (pid 42, shop.service)"
    assert "280 MiB at" in what
    assert "in 29 min 20 s" in what
    assert "leak confirmed, 102 KiB/s since" in what
    # what was told of it, and not of another process with its number
    told = [row for row in rows if row.startswith("  ")]
    assert len(told) == 1
    assert "about 7" in told[0]
    sizes = [int(row.split()[2]) for row in rows if not row.startswith("  ")]
    assert sizes == sorted(sizes)
    assert sizes[0] == 100
    assert sizes[-1] == 280
    assert 15 <= len(sizes) <= 24
    bars = [row.count("█") for row in rows]
    assert max(bars) == bars[-1] == 30


def test_all_that_had_a_number_are_shown_the_oldest_first(state: Path) -> None:
    done = _run("42", "--state", str(state))
    heads = [line for line in done.stdout.splitlines() if "(pid 42" in line]
    assert heads[0].startswith("old")
    assert "\x1b" not in done.stdout
    assert "python3" in heads[1]


def test_a_unit_with_or_without_its_suffix_over_boots(state: Path) -> None:
    done = _run("shop", "--state", str(state))
    assert done.returncode == 0
    assert done.stdout.count("shop.service\n") == 2
    assert done.stdout == _run("shop.service", "--state", str(state)).stdout
    recent = _run("shop", "--state", str(state), "--since", "1h").stdout
    assert recent.count("shop.service\n") == 1


def test_json_is_one_object_a_point(state: Path) -> None:
    done = _run("42", "--state", str(state), "--json", "--since", "2h", "--every", "5min")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert 6 <= len(rows) <= 8
    assert rows[-1]["private_bytes"] == 280 << 20
    assert {row["comm"] for row in rows} == {"python3"}
    assert [row["t"] for row in rows] == sorted(row["t"] for row in rows)


@pytest.mark.parametrize(
    ("args", "status", "why"),
    [
        (["shpo"], 1, 'did you mean "shop"'),
        (["43"], 1, "from 1 MiB on"),
        (["42", "--since", "1min", "--every", "0s"], 2, "above zero"),
        (["zzzzz"], 1, "nothing is kept of zzzzz"),
        (["42", "--since", "@99999999999"], 1, "nothing is kept"),
        ([], 2, "PID|UNIT"),
        (["\x1b[2J"], 1, "\\x1b"),
    ],
)
def test_what_cannot_be_answered_is_one_line(
    state: Path, args: list[str], status: int, why: str
) -> None:
    done = _run(*args, "--state", str(state))
    assert (done.returncode, done.stdout) == (status, "")
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", [
    "ack x", "events", "events --follow", "explain --last", "history 42", "memory --since 1h",
    "replay", "review",
])  # fmt: skip
def test_all_that_read_the_history_say_the_same_where_none_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    command, *rest = name.split()
    main = importlib.import_module(f"watchdog.cli.{command}").main
    assert main([*rest, "--state", str(tmp_path / "none")]) == 2
    assert main([*rest, "--state", str(tmp_path)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"oom-watchdog: there is no folder {tmp_path}/none (oom-watchdog run makes it)",
        f"oom-watchdog: no history in {tmp_path} yet (it is written by oom-watchdog run)",
    ]


def test_without_a_history_it_says_so(tmp_path: Path) -> None:
    done = _run("42", "--state", str(tmp_path))
    assert done.returncode == 1
    assert "no history" in done.stderr


def test_help_fits() -> None:
    lines = _run("--help").stdout.splitlines()
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in lines)


def test_a_folder_that_may_not_be_looked_into_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    true_stat, main = os.stat, importlib.import_module("watchdog.cli.history").main

    def stat(path: Any, *rest: Any, **more: Any) -> os.stat_result:
        if str(path).startswith(str(tmp_path)):
            raise PermissionError(13, "Permission denied")
        return true_stat(path, *rest, **more)

    monkeypatch.setattr(os, "stat", stat)
    assert main(["42", "--state", str(tmp_path / "state")]) == 2
    assert "permission denied (try as root)" in capsys.readouterr().err

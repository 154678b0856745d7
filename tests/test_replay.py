"""`replay` reads any trace: torn, foreign, of few columns, from a pipe; it says what it cannot."""

import contextlib
import gzip
import io
import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from watchdog import trace
from watchdog.cli import replay
from watchdog.engine import Engine
from watchdog.facts import Host, Sweep
from watchdog.policy.rules import default_rules
from watchdog.store import file
from watchdog.store.entities import upsert
from watchdog.store.place import DATABASE

MIB = 1 << 20
T0 = 1_700_000_000
POLICIES = """
[policies.a]
match = { user = "0" }
when = { leak = "suspected" }
do = ["log"]
[policies.b]
match = { name = "p*" }
when = { pressure = true }
do = ["log"]
"""


def sweep(step, count=10, columns=8):
    sizes = [20 + (30 * step if i == 7 else 0) for i in range(count)]
    rows = [
        [100 + i, 5000 + i, f"p{i}", mib * MIB, MIB, None, None, None]
        for i, mib in enumerate(sizes)
    ]
    return json.dumps(
        {"type": "procs", "t": T0 + 10 * step, "rows": [row[:columns] for row in rows]}
    )


def lines(**more):
    return [sweep(step, **more) for step in range(40)]


def packed(text: str) -> bytes:
    return gzip.compress(text.encode())


def run(path, capsys, *argv):
    status = replay.main([*argv, str(path)])
    said = capsys.readouterr()
    return status, said.out, said.err


def kinds(out):
    return [json.loads(line)["event"] for line in out.splitlines()]


@pytest.mark.parametrize("columns", [5, 6, 7, 8])
def test_rows_alone_are_judged(columns, tmp_path, capsys):
    path = tmp_path / "trace"
    path.write_text("\n".join(lines(columns=columns)) + "\n")
    status, out, _ = run(path, capsys, "--json")
    assert status == 0 and kinds(out) == ["leak.suspected"]


def test_gzip_is_known_by_its_bytes_and_a_pipe_by_its_name(tmp_path, capsys, monkeypatch):
    path = tmp_path / "no-ending"
    text = "\n".join(lines())  # the last line is not ended
    path.write_bytes(packed(text))
    _, out, _ = run(path, capsys, "--json")
    assert kinds(out) == ["leak.suspected"]
    for raw in (packed(text), text.encode()):
        buffer = io.BufferedReader(io.BytesIO(raw))  # type: ignore[arg-type]
        monkeypatch.setattr(replay.sys, "stdin", types.SimpleNamespace(buffer=buffer))
        assert run("-", capsys, "--json")[1] == out


def test_a_bad_line_in_the_middle_of_many_is_told_by_its_number(tmp_path, capsys):
    """The rest is read; a line without its end, an empty one, an unknown type are ordinary."""
    path = tmp_path / "trace.gz"
    many = [sweep(step, count=200) for step in range(100)]
    many[50:50] = ['{"type":"procs","t":1,"rows":[[1,2', "", '{"type":"weather","t":5}', "  "]
    path.write_bytes(packed("\n".join(many)))
    status, out, err = run(path, capsys)
    assert status == 0 and "leak suspected" in out
    assert f"{path}: line 51: not JSON\n" in err and "20,000 rows" in err
    assert err.count(": line ") == 1


def test_what_a_policy_needs_and_the_trace_lacks_is_said(tmp_path, capsys):
    path, config = tmp_path / "trace", tmp_path / "p.toml"
    path.write_text("\n".join(lines()))
    config.write_text(POLICIES)
    _, out, err = run(path, capsys, "--config", str(config), "--json")
    assert "policy a cannot be judged from this trace: uid missing" in err
    assert "policy b cannot be judged from this trace: pressure missing" in err
    assert kinds(out) == ["leak.suspected"]


MISSING = "the guard cannot be judged from this trace: {} missing"


def test_a_guard_that_cannot_be_judged_is_said(tmp_path, capsys):
    """It needs what is available and the total at one moment, and where it is off nothing."""
    path, config = tmp_path / "trace", tmp_path / "p.toml"
    host = {"type": "host", "t": T0, "mem_available": 500 * MIB}
    for more, missing in (
        ({}, "mem_available"), (host, "mem_total"), (host | {"mem_total": 900 * MIB}, None),
    ):  # fmt: skip
        path.write_text("\n".join([json.dumps(more | {"type": "host", "t": T0}), *lines()]))
        err = run(path, capsys)[2].splitlines()
        assert [line for line in err if "guard" in line] == (
            [MISSING.format(missing)] if missing else []
        )
    path.write_text("\n".join(lines()))
    config.write_text('[guard]\nmode = "off"\n')
    assert "guard" not in run(path, capsys, "--config", str(config))[2]
    path.write_text(json.dumps({"type": "kmsg", "t": T0, "line": "a log, and no recording"}))
    assert "guard" not in run(path, capsys)[2]


def test_the_day_is_told_once_it_is_another_one(tmp_path, capsys):
    path = tmp_path / "trace"
    later = [line.replace(f'"t": {T0 + 10 * i}', f'"t": {T0 + 10 * i + 86400}')
             for i, line in enumerate(lines())]  # fmt: skip
    path.write_text("\n".join([sweep(0), *later]))
    _, out, _ = run(path, capsys)
    heads = [line for line in out.splitlines() if not line.startswith(" ")]
    day = time.strftime("%Y-%m-%d", time.localtime(T0 + 86400))
    assert heads and all(line.startswith(f"{day} ") for line in heads)
    path.write_text("\n".join(lines()))
    assert day[:3] not in run(path, capsys)[1]


def test_a_store_is_of_days(stored, capsys, monkeypatch):
    engine = Engine(default_rules(), None)
    told = engine._event("pressure.begun", "x", T0, 1e5, ("x",), {"scope": "host"})
    monkeypatch.setattr(replay.Replay, "run", lambda *_: iter([told]))
    assert replay.main(["--state", str(stored)]) == 0
    day = time.strftime("%Y-%m-%d", time.localtime(T0))
    assert capsys.readouterr().out.startswith(f"{day} ")


def test_an_answer_that_finds_no_room_is_not_the_traces_fault(tmp_path):
    path = tmp_path / "trace"
    path.write_text("\n".join(lines()))
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-m", "watchdog", "replay", str(path)], stdout=full,
                              stderr=subprocess.PIPE, timeout=30, text=True, check=False,
                              env={**os.environ, "PYTHONUNBUFFERED": "1"})  # fmt: skip
    assert done.returncode == 2
    assert "the answer cannot be written: no space left on device" in done.stderr
    assert str(path) not in done.stderr


@pytest.fixture
def stored(tmp_path):
    """A state folder that remembers an hour of one process."""
    engine = Engine(default_rules(), None)
    for second in range(0, 3600, 10):
        t, up = T0 + second, 1e5 + second
        engine.feed(Host(t, up, "b" * 32, mem_total=900 * MIB, mem_available=500 * MIB))
        row = (7, 100, "shop", (20 + second // 10 % 9) * MIB, 0, 0, None, None)
        engine.feed(Sweep(t, up, (row,), census=True))
    with contextlib.closing(file.open_database(str(tmp_path / DATABASE), 8 << 20)) as db:
        upsert(db, engine.dump())
    return tmp_path


def test_a_store_says_nothing_of_the_guard_and_that_is_said(stored, capsys):
    assert replay.main(["--state", str(stored)]) == 1  # no event
    err = capsys.readouterr().err.splitlines()
    assert err[0] == MISSING.format("mem_available")
    assert err[1].startswith("0 events in ") and not err[1].startswith("0 events in 0 rows")


def test_a_store_that_is_not_there_or_not_to_be_read(stored, tmp_path, capsys, monkeypatch):
    assert replay.main(["--state", str(tmp_path / "none")]) == 2
    assert f"there is no folder {tmp_path / 'none'} " in capsys.readouterr().err
    stat = os.stat

    def refused(path, *args, **more):
        if str(path).endswith(DATABASE):
            raise PermissionError(13, "Permission denied")
        return stat(path, *args, **more)

    monkeypatch.setattr(os, "stat", refused)
    assert replay.main(["--state", str(stored)]) == 2
    assert "permission denied (try as root)" in capsys.readouterr().err


def test_a_torn_archive_is_read_to_where_it_ends(tmp_path, capsys):
    path = tmp_path / "trace.gz"
    whole = packed("\n".join(lines(count=300)))
    path.write_bytes(whole[: len(whole) * 3 // 4])
    status, out, err = run(path, capsys, "--json")
    assert status == 0 and kinds(out) == ["leak.suspected"]
    assert "the compressed data end in the middle" in err


@pytest.mark.parametrize(("raw", "status"), [(b"", 1), (b"hello\n", 2), (b"\x00\xff\n" * 9, 2)])
def test_what_is_no_trace_is_one_line(raw, status, tmp_path, capsys):
    path = tmp_path / "trace"
    path.write_bytes(raw)
    found, out, err = run(path, capsys)
    assert found == status and not out and "Traceback" not in err


def test_a_name_that_is_empty_is_no_store(capsys):
    assert replay.main([""]) == 2
    assert capsys.readouterr().err == 'oom-watchdog: "": no such file or directory\n'


def test_a_closed_pipe_is_quiet(tmp_path):
    path = tmp_path / "trace"
    path.write_text("\n".join([*lines(), *(sweep(0) for _ in range(30)), *lines()]))
    program = Path(sys.executable).with_name("oom-watchdog")
    script = f"'{program}' replay --json '{path}' | :; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Broken" not in done.stderr and "broken" not in done.stderr


HALVES = [
    '{"type":"trace","version":1,"host":"\\ud800x"}',
    '{"type":"who","t":1,"pid":6,"start":1,"exe":"/\\ud800x","cmdline":"\\udfff"}',
    '{"type":"group","t":1,"unit":"\\ud800x.service","cgroup":"/\\ud800x","anon":1}',
    '{"type":"procs","t":1,"rows":[[6,1,"\\ud800x",1,1,null,"\\udbff.service"]]}',
    '{"type":"said","t":1,"kind":"watchdog.degraded","identity":"\\ud800","because":["\\ud800x"],'
    '"body":{"comm":"\\ud800x","pid":6,"\\ud800":"\\ud800"}}',
    '{"type":"kmsg","t":1,"line":"6,1,1000000,-;\\ud800 invoked oom-killer: gfp_mask=0xcc0,'
    ' order=0, oom_score_adj=0"}',
    '{"type":"kmsg","t":2,"line":"3,2,1000001,-;Out of memory: Killed process 6 (\\ud800x)'
    ' total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:1kB'
    ' oom_score_adj:0"}',
]  # fmt: skip


@pytest.mark.parametrize("argv", [[], ["--json"]])
def test_half_a_character_is_no_traceback(argv, tmp_path, capsysbinary):
    """JSON can tell of one that stands for no byte: a name with it is shown, as any odd one."""
    path = tmp_path / "trace"
    path.write_text("\n".join(HALVES) + "\n")
    assert replay.main([*argv, str(path)]) == 0
    out, err = capsysbinary.readouterr()
    assert b"line " not in err
    assert b"degraded" in out and (b"oom.kill" if argv else b"OOM kill") in out
    assert b"\\xed\\xa0\\x80x" in out.replace(b"\\\\", b"\\")


def test_a_terminal_that_wants_no_colours(tmp_path, capsys, monkeypatch):
    path = tmp_path / "trace"
    path.write_text("\n".join(lines()))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = run(path, capsys)[1]
    monkeypatch.setenv("NO_COLOR", "1")
    plain = run(path, capsys)[1]
    assert "\x1b" in coloured and "\x1b" not in plain
    assert "events --id" not in coloured + plain, "the store knows nothing of it"


def test_any_name_is_told_in_any_locale(tmp_path):
    path, config = tmp_path / "trace", tmp_path / "p.toml"
    path.write_text("\n".join(lines()).replace('"p7"', '"\u65e5\u672c"'), "utf-8")
    config.write_text('[protect]\nname_unverified = "\u65e5\u672c"\n', "utf-8")
    for argv in (["replay", path], ["check", "--show", config]):
        done = subprocess.run(
            [sys.executable, "-m", "watchdog", *argv], capture_output=True, check=False,
            env={**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert b"\\u65e5\\u672c" in done.stdout


# ---- the faster reader -------------------------------------------------------------------------


def with_orjson(monkeypatch, loads):
    module = types.ModuleType("orjson")
    module.loads = loads
    monkeypatch.setitem(sys.modules, "orjson", module)


def test_orjson_reads_where_it_is_there(monkeypatch):
    seen = []
    with_orjson(monkeypatch, lambda text: seen.append(text) or json.loads(text))
    assert trace.fact(sweep(1), replay.fast_loads()) == trace.fact(sweep(1))
    assert seen == [sweep(1)]


def test_what_orjson_refuses_is_read_by_the_other(monkeypatch):
    def refuses(text):
        raise ValueError

    with_orjson(monkeypatch, refuses)
    text = '{"type":"kmsg","t":1,"line":"\\ud800"}'
    assert trace.fact(text, replay.fast_loads()) == trace.fact(text)
    with pytest.raises(trace.TraceError, match="not JSON"):
        trace.fact("{", replay.fast_loads())


def test_it_works_without_orjson(monkeypatch):
    monkeypatch.setitem(sys.modules, "orjson", None)
    assert replay.fast_loads() is json.loads

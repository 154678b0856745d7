"""The recording that README shows: a leak named in time, and the kill that it ended in."""

import gzip
import io
import json
from pathlib import Path

import pytest

from watchdog.cli import replay

EXAMPLE = Path(__file__).parent.parent / "examples" / "leak.jsonl.gz"


def told(capsys, *argv):
    assert replay.main([*argv, "--json", str(EXAMPLE)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_example_is_suspected_confirmed_and_explained(capsys):
    suspected, confirmed, kill, cleared = told(capsys)
    assert [event["event"] for event in (suspected, confirmed, kill, cleared)] == [
        "leak.suspected", "leak.confirmed", "oom.kill", "leak.cleared",
    ]  # fmt: skip
    assert {event["unit"] for event in (suspected, confirmed, kill, cleared)} == {"shop.service"}
    assert confirmed["rate_bytes_per_s"] == pytest.approx(2 << 20, rel=0.1)
    # what was foretold when it was confirmed: 46 s, and it took 46.4
    ends = confirmed["exhausts_in_s"]
    assert kill["t"] - confirmed["t"] == pytest.approx(ends, rel=0.1)
    assert confirmed["exhausts_in_low_s"] < ends < confirmed["exhausts_in_high_s"]
    assert kill["verdict"] == "leak" and kill["cause"] == confirmed["id"]


def test_the_example_is_small_and_says_why(capsys):
    assert EXAMPLE.stat().st_size < 40_000
    assert replay.main([str(EXAMPLE)]) == 0
    out = capsys.readouterr().out
    assert "a leak of it was confirmed" in out and "with no plateau" in out


def test_a_policy_is_tried_on_the_example(capsys, tmp_path):
    config = tmp_path / "try.toml"
    config.write_text(
        "[policies.shop]\nmatch = { unit = 'shop*.service' }\nwhen = { leak = 'confirmed' }\n"
        "do = ['log', 'terminate']\nmode = 'enforce'\nper = 'process'\n"
    )
    actions = [e for e in told(capsys, "--config", str(config)) if e["event"] == "policy.action"]
    assert {(e["do"], e["mode"], e["outcome"]) for e in actions} == {
        ("log", "enforce", "would"), ("terminate", "enforce", "would"),
    }  # fmt: skip


def test_broken_lines_are_counted_and_the_rest_is_read(capsys, monkeypatch):
    lines = gzip.decompress(EXAMPLE.read_bytes()).splitlines(keepends=True)
    for at in range(5, 60, 6):
        lines[at] = lines[at][:20] + b"\n"

    class Input:
        buffer = io.BufferedReader(io.BytesIO(b"".join(lines)))  # type: ignore[arg-type]

    monkeypatch.setattr(replay.sys, "stdin", Input)
    assert replay.main(["--json", "-"]) == 0
    said = capsys.readouterr()
    assert "-: line 6: not JSON" in said.err and "10 lines in all" in said.err
    assert "oom.kill" in said.out

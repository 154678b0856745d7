"""What commands ask of a running daemon, and what it sends: the whole way, on this machine."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("apprise", reason="apprise is not installed")
PROGRAM = [sys.executable, "-I", "-m", "watchdog"]
_spec = importlib.util.spec_from_file_location(
    "receivers", Path(__file__).parent / "fixtures" / "receivers.py"
)
receivers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(receivers)


def ask(state, *argv):
    return subprocess.Popen([*PROGRAM, *argv, "--state", str(state)], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, cwd="/")  # fmt: skip


def test_a_silence_and_a_test_reach_the_daemon_and_its_receiver(tmp_path):
    state, config = tmp_path / "state", tmp_path / "c.toml"
    with receivers.receiver("http") as web:
        config.write_text(
            '[watch]\ninterval = "500ms"\n[notify.ops]\n'
            f'url = "json://bob:sesame@127.0.0.1:{web.server_address[1]}/tok3n"\n'
        )
        with (tmp_path / "out").open("w") as out:
            daemon = subprocess.Popen(
                [*PROGRAM, "run", "--config", str(config), "--state", str(state), "--json"],
                stdout=out, stderr=out, cwd="/",
            )  # fmt: skip
        try:
            end = time.monotonic() + 60
            while not (state / "now.json").exists() and time.monotonic() < end:
                time.sleep(0.05)
            asked = [
                ask(state, "silence", "nobody-*", "--for", "1h", "--reason", "why not"),
                ask(state, "notify", "--test", "ops"),
                ask(state, "notify", "--test", "other"),
            ]
            said = [one.communicate(timeout=100)[0] for one in asked]
            assert [one.returncode for one in asked] == [0, 0, 1], said
            assert said[0].startswith("silenced for 1 h: nobody-*")
            assert said[1].startswith("ops: sent by the daemon")
            assert "no such notifier" in said[2]
            assert len(web.got) == 1
            assert web.got[0]["message"].startswith("This is a test of the notifier ops.")
            lifted = ask(state, "silence", "--lift", "nothing")
            assert "nothing of that name is muted" in lifted.communicate(timeout=60)[0]
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(20)
    text = (tmp_path / "out").read_text()
    kinds = [json.loads(line)["event"] for line in text.splitlines() if line.startswith("{")]
    assert kinds.count("watchdog.muted") == 1
    assert "sesame" not in text
    assert sorted(os.listdir(state / "outbox")) == []
    assert not (state / "doctor.json").exists()

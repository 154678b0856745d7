"""The doctor: each check tells what it saw, none of them takes the others with it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from watchdog.checkup import Checkup
from watchdog.child import Child, Children, ours
from watchdog.cli import doctor as command
from watchdog.doctor import config, machine, program, rights
from watchdog.doctor.row import FAIL, NOTE, OK, WEAK, Row
from watchdog.health import Health
from watchdog.policy.rules import Hook, Notifier, default_rules, to_plain


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The whole program as it runs, once: (document, what stands in its file)."""
    folder = tmp_path_factory.mktemp("state")
    argv = [*ours("watchdog.doctor.program"), "--quick", "--state", str(folder),
            "--write", str(folder / "doctor.json")]  # fmt: skip
    done = subprocess.run(argv, input=json.dumps(to_plain(default_rules())), text=True,
                          capture_output=True, check=True)  # fmt: skip
    return json.loads(done.stdout), json.loads((folder / "doctor.json").read_text())


def test_every_check_answers_here(found):
    told, written = found
    rows = written["rows"]
    whats = [row["what"] for row in rows]
    assert len(whats) == len(set(whats))
    for name in ("place", "processes", "kernel log", "journal", "memory stall", "signals",
                 "process_mrelease", "memory lock", "state folder", "clock", "other killers",
                 "memory figures", "systemd", "overcommit"):  # fmt: skip
        assert name in whats
    assert not [row for row in rows if "could not be looked at" in row["found"]]
    for row in rows:
        assert row["found"]
        if row["state"] in (WEAK, FAIL):
            assert row["means"]
    assert {row["state"] for row in told["rows"]} <= {WEAK, FAIL}


def test_the_table_says_what_it_means_and_what_to_do(found):
    text = "\n".join(command.lines("daemon", found[1], False))
    for row in found[1]["rows"]:
        if row["state"] != OK and row["to_do"]:
            assert "do: " + row["to_do"].split()[0] in text
    assert "\x1b" not in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_a_check_that_breaks_is_a_row(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "clock", lambda: 1 / 0)
    monkeypatch.setattr(rights, "reader", lambda: Row("loader", OK, "x"))
    rows = {row.what: row for row in program.checks(default_rules(), str(tmp_path), None, True)}
    assert rows["clock"].state == WEAK
    assert "division by zero" in rows["clock"].found
    assert "other killers" in rows


def test_the_state_folder(tmp_path):
    assert machine.state(str(tmp_path), 1).state == OK
    assert os.listdir(tmp_path) == []
    assert machine.state(str(tmp_path), 1 << 60).state == WEAK
    assert machine.state(str(tmp_path / "none"), 1).state == NOTE
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("")
    assert machine.state(str(tmp_path / "file"), 1).state == FAIL


def test_another_killer_is_seen(monkeypatch):
    processes = [SimpleNamespace(pid=pid, info={"name": name})
                 for pid, name in ((7, "earlyoom"), (8, "bash"), (9, None))]  # fmt: skip
    monkeypatch.setattr(machine.psutil, "process_iter", lambda attributes: processes)
    assert machine.killers(True).state == FAIL
    row = machine.killers(False)
    assert row.state == WEAK
    assert row.found == "earlyoom (pid 7)"
    assert "systemctl disable --now earlyoom" in row.to_do


def test_figures_that_are_off_are_seen(monkeypatch):
    processes = [SimpleNamespace(pid=7, info={"memory_info": SimpleNamespace(rss=40 << 20)}),
                 SimpleNamespace(pid=8, info={"memory_info": None})]  # fmt: skip
    monkeypatch.setattr(machine.psutil, "process_iter", lambda attributes: processes)
    texts = {"/proc/7/statm": "900000 10000 1 1 1 1 1"}  # 39 MiB
    texts["/proc/7/smaps_rollup"] = "Rss: 39000 kB\n"
    monkeypatch.setattr(machine, "text", lambda path, most=0: texts.get(path))
    assert machine.accounting().state in (OK, NOTE)
    texts["/proc/7/smaps_rollup"] = "Rss: 900000 kB\n"
    row = machine.accounting()
    assert row.state == WEAK
    assert "off by 840 MiB" in row.found


def test_hooks_and_notifiers(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "SECRETS", str(tmp_path))
    (tmp_path / "open").write_text("json://u:sesame@127.0.0.1")
    (tmp_path / "open").chmod(0o644)
    (tmp_path / "own").write_text("slack://a/b/c")
    (tmp_path / "own").chmod(0o600)
    rules = default_rules()._replace(
        run={"dump": Hook(argv=("/nonexistent/x",))},
        notify={
            "page": Notifier(argv=("/bin/true",)), "a": Notifier(url="json://u:sesame@127.0.0.1"),
            "b": Notifier(url="json://u:sesame@no-such-host.invalid"),
            "c": Notifier(url_credential="open"), "d": Notifier(url_credential="own"),
            "e": Notifier(url_credential="missing"), "f": Notifier(url="json://[sesame"),
        },
    )  # fmt: skip
    hooks = {row.what: row.state for row in config.hooks(rules)}
    assert hooks["run.dump"] == FAIL
    assert "notify.page" in hooks
    rows = {row.what: row for row in config.notifiers(rules, True)}
    states = {name.removeprefix("notify."): row.state for name, row in rows.items()}
    states.pop("apprise", None)
    assert states == {"a": OK, "b": FAIL, "c": WEAK, "d": OK, "e": NOTE, "f": FAIL}
    assert "sesame" not in str(rows)


def test_without_a_path_unit_a_service_notifies_nobody():
    rules = default_rules()._replace(notify={"a": Notifier(url="json://h")})
    assert config.sender(rules, {}) == []
    (row,) = config.sender(rules, {"RUNTIME_DIRECTORY": "/run/x"})
    assert row.what == "sender"


class Said:
    def __init__(self):
        self.events = []
        self.health = Health(lambda kind, because, body: self.events.append((kind, because)))


def answered(tmp_path, output, status=0):
    look = Checkup(Children(), str(tmp_path), str(tmp_path))
    look.child = Child.__new__(Child)
    look.child.done, look.child.output, look.child.errors = True, output, b"last\nwords"
    look.child.timed_out, look.child.signal, look.child.status = False, None, status
    return look


def test_what_fails_is_told_once_and_its_end_too(tmp_path):
    said = Said()
    bad = {"what": "signals", "state": FAIL, "found": "EPERM", "means": "none", "to_do": "CAP_KILL"}
    weak = bad | {"what": "swap", "state": WEAK}
    for rows in ([bad, weak], [bad], [weak], []):
        answered(tmp_path, json.dumps({"rows": rows}).encode()).over(said.health)
    kinds = [kind for kind, _ in said.events]
    assert kinds == ["watchdog.degraded", "watchdog.recovered"]
    assert said.events[0][1] == [
        "1 check of oom-watchdog doctor failed", "signals: EPERM; none; CAP_KILL",
    ]  # fmt: skip
    answered(tmp_path, b"", 1).over(said.health)
    assert said.events[-1][1] == ["the checks ended with status 1: last\\x0awords"]


def test_it_runs_beside_the_daemon(tmp_path):
    children, said = Children(), Said()
    look = Checkup(children, str(tmp_path), str(tmp_path))
    look.begin(default_rules(), os.getpid())
    first = look.child
    look.begin(default_rules(), os.getpid())
    assert look.child is first
    end = time.monotonic() + 60
    while look.child is not None and time.monotonic() < end:
        children.turn()
        look.over(said.health)
        time.sleep(0.02)
    assert json.loads((tmp_path / "doctor.json").read_text())["rows"]
    assert not [one for one in said.events if "gave no answer" in str(one)]


def test_the_command(tmp_path, capsys, monkeypatch):
    row = {"what": "signals", "state": "ok", "found": "x", "means": "", "to_do": ""}
    monkeypatch.setattr(command, "look", lambda plain, state: {"t": 1.0, "rows": [dict(row)]})
    (tmp_path / "c.toml").write_text("")
    argv = ["--here", "--state", str(tmp_path), "--config", str(tmp_path / "c.toml")]
    assert command.main(argv) == 0
    assert "everything works" in capsys.readouterr().out
    row["state"] = "fail"
    assert command.main([*argv, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["here"]["rows"] == [row]


def test_the_interpreter_is_told():
    assert sys.executable in machine.python().found


def test_capabilities_are_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    status = {"CapEff:\t0000000401080024": "dac_read_search kill sys_ptrace sys_resource syslog",
              "CapEff:\t0000000000000060": "kill and 1 other", "CapEff:\t0000000000000000": "none",
              "": "unknown"}  # fmt: skip
    for line, names in status.items():
        monkeypatch.setattr(rights, "text", lambda *_, line=line: f"Name:\tx\n{line}\nThreads:\t1")
        assert rights.unit().found.endswith(f"capabilities {names}")


def test_no_service_is_to_be_started_where_no_systemd_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    monkeypatch.setattr(rights, "MANAGER", str(tmp_path))
    assert "systemctl start oom-watchdog" in rights.unit().to_do
    monkeypatch.setattr(rights, "MANAGER", str(tmp_path / "none"))
    assert (rights.unit().means, rights.unit().to_do) == ("", "")
    assert rights.manager().found == "systemd does not run here"

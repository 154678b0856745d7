"""What people read: calm, complete, and never a control character, whatever a process is called."""

import io
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.tell import catalog, journal, terminal

ROOT = Path(__file__).parent.parent
PYTHON = {
    "pid": 4242, "start": 99, "comm": "python3", "exe": "/usr/bin/python3", "uid": 1000,
    "unit": "shop.service", "inner": None, "container": None,
}  # fmt: skip
LEAK = {
    "scope": "process", "rate_bytes_per_s": 2 << 20, "confidence": 0.93,
    "resident_bytes": 212 << 20, "since": 900.0, "exhausts_in_s": 150.0,
    "exhausts_in_low_s": 140.0, "exhausts_in_high_s": 160.0,
}  # fmt: skip
ENDLESS = {**LEAK, "scope": "unit", "exhausts_in_s": None}
KILL = {
    **PYTHON, "scope": "memcg", "cgroup": "/system.slice/shop.service", "limit_bytes": 256 << 20,
    "victim": {"pid": 4242, "comm": "python3", "uid": 1000, "anon_bytes": 250 << 20,
               "file_bytes": 1 << 20, "shmem_bytes": 0},
    "also_killed": [{"pid": 7, "comm": "x", "uid": 0}],
}  # fmt: skip
ACTION = {**PYTHON, "policy": "shop-leak", "do": "restart-unit", "mode": "observe",
          "target": PYTHON, "incident": "i", "outcome": "would"}  # fmt: skip

GONE = {**ACTION, "outcome": "gone"}
COOLS = "cooldown: 9 min to go"
SPENT = "budget of 2 per 1 h is spent; free again in 52 min"
GUARD = {"do": "kill", "mode": "enforce", "outcome": "done", "victim": PYTHON}


def event(kind: str, *because: str, **body: Any) -> dict[str, Any]:
    return {
        "event": kind, "id": f"{kind}-1111-4242-99-1", "cause": None, "t": 1_700_000_000.0,
        "up": 5.0, "boot_id": "1111", "host": "here", "because": list(because or ("a reason",)),
        **body,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (
            event("leak.confirmed", **PYTHON, **LEAK),
            "leak confirmed: python3 (pid 4242, shop.service) grows 2.0 MiB/s, 212 MiB now, memory"
            " ends in 2 min 30 s (confidence 0.93)"
            " · oom-watchdog events --id leak.confirmed-1111-4242-99-1",
        ),
        (
            event("leak.suspected", unit="a.service", **ENDLESS),
            "leak suspected: a.service grows 2.0 MiB/s, 212 MiB now (confidence 0.93)"
            " · oom-watchdog events --id leak.suspected-1111-4242-99-1",
        ),
        (
            event("leak.cleared", "the process is gone", **PYTHON, **LEAK),
            "leak cleared: python3 (pid 4242, shop.service): the process is gone"
            " · oom-watchdog events --id leak.cleared-1111-4242-99-1",
        ),
        (
            event("oom.kill", **KILL),
            "OOM kill: the kernel killed python3 (pid 4242, shop.service), 251 MiB resident, and"
            " 1 other with it: the limit of /system.slice/shop.service was reached (256 MiB)"
            " · oom-watchdog explain --last",
        ),
        (
            event("oom.kill", scope="global", victim=None),
            "OOM kill: its report names no victim: the machine was out of memory"
            " · oom-watchdog explain --last",
        ),
        (
            event("oom.kill", scope="global", victim=None, outcome="panic", verdict="unknown"),
            "OOM kill: the kernel panicked: the machine was out of memory"
            " · oom-watchdog explain --last",
        ),
        (
            event("oom.kill", **{**KILL, "manual": True, "also_killed": [], "verdict": "spike"}),
            "OOM kill: the kernel killed python3 (pid 4242, shop.service), 251 MiB resident:"
            " somebody asked for it by SysRq-f [spike] · oom-watchdog explain --last",
        ),
        (
            event("policy.action", "leak confirmed", **ACTION),
            "policy shop-leak would restart-unit python3 (pid 4242, shop.service): leak confirmed"
            " · oom-watchdog events --id policy.action-1111-4242-99-1",
        ),
        (
            event("policy.action", "leak confirmed", "no such process", **GONE),
            "policy shop-leak: restart-unit python3 (pid 4242, shop.service), gone: no such process"
            " · oom-watchdog events --id policy.action-1111-4242-99-1",
        ),
        (
            event("watchdog.started", *"abcde"),
            "started: a; b; c; d · oom-watchdog status",
        ),
        (  # why it came to nothing is the last sentence, however many stand before it
            event("policy.action", *"abcdef", "it is PID 1", **{**ACTION, "outcome": "protected"}),
            "policy shop-leak: restart-unit python3 (pid 4242, shop.service), protected: it is PID"
            " 1 · oom-watchdog events --id policy.action-1111-4242-99-1",
        ),
        (
            event("policy.action", *"abcdef", SPENT, **{**ACTION, "outcome": "budget"}),
            f"policy shop-leak: restart-unit python3 (pid 4242, shop.service): {SPENT}"
            " · oom-watchdog events --id policy.action-1111-4242-99-1",
        ),
        (
            event("policy.action", "a", COOLS, **{**ACTION, "outcome": "cooldown"}),
            "policy shop-leak: restart-unit python3 (pid 4242, shop.service): cooldown: 9 min to go"
            " · oom-watchdog events --id policy.action-1111-4242-99-1",
        ),
        (
            event("policy.action", "a", "b", "c", **{**ACTION, "outcome": "budget"}),
            "policy shop-leak: restart-unit python3 (pid 4242, shop.service), budget: a; b"
            " · oom-watchdog events --id policy.action-1111-4242-99-1",
        ),
        (
            event("guard.action", "12 MiB left", **GUARD),
            "guard: kill python3 (pid 4242, shop.service), done: 12 MiB left"
            " · oom-watchdog events --id guard.action-1111-4242-99-1",
        ),
        (
            event("watchdog.config_rejected", "config.toml: guard.mode: expected off"),
            "configuration rejected, the old one stays: config.toml: guard.mode: expected off"
            " · oom-watchdog check",
        ),
        (
            event("watchdog.started", "312 processes", "observing"),
            "started: 312 processes; observing · oom-watchdog status",
        ),
        (
            event("pressure.begun", "400 MiB left", scope="host"),
            "memory pressure: 400 MiB left"
            " · oom-watchdog events --id pressure.begun-1111-4242-99-1",
        ),
        (
            event("new.kind", "somebody else's", comm="x", pid=1, id="a 'b'"),
            "new kind: x (pid 1): somebody else's · oom-watchdog events --id 'a '\\''b'\\'''",
        ),
    ],
)  # fmt: skip
def test_a_line_says_it_all(told: dict[str, Any], text: str) -> None:
    stamp = time.strftime("%H:%M:%S ", time.localtime(told["t"]))
    assert terminal.line(told, False) == stamp + text
    assert terminal.message(told) == text.partition(" · ")[0]


def test_colours_only_when_asked_and_the_text_is_the_same() -> None:
    for kind in [*catalog.KINDS, "new.kind"]:
        told = event(kind, **PYTHON, **LEAK)
        plain, coloured = terminal.line(told, False), terminal.line(told, True)
        assert "\x1b" not in plain
        assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_what_is_not_stored_names_no_command() -> None:
    told = event("oom.kill", **KILL)
    for color in (False, True):
        text = re.sub(r"\x1b\[[0-9;]*m", "", terminal.line(told, color, stored=False))
        assert text == terminal.line(told, False).partition(" · ")[0]


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("said", "wanted"), [(None, True), ("", True), ("1", False)])
def test_who_wants_no_colours_gets_none(
    monkeypatch: pytest.MonkeyPatch, said: str | None, wanted: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if said is not None:
        monkeypatch.setenv("NO_COLOR", said)
    assert terminal.colors(Screen()) is wanted
    assert not terminal.colors(io.StringIO())


def test_who() -> None:
    assert terminal.who({}) == ""
    assert terminal.who({"pid": 3}) == "a process (pid 3)"
    assert terminal.who({"pid": 3, "comm": "x", "uid": 7}) == "x (pid 3, uid 7)"
    assert terminal.who({"exe": "/usr/bin/y"}) == "y"
    assert terminal.who({"unit": "u", "inner": "i", "container": "c"}) == "u, i, container c"
    one = {"pid": 1, "comm": "x", "unit": "user@0.service", "inner": "a.service", "container": "c"}
    assert terminal.who(one) == "x (pid 1, user@0.service, a.service, container c)"


TEXT = st.text(max_size=30) | st.sampled_from(["\x1b[2J", "a\nb", "\u202e", "\udc80", "x" * 900])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from([
    "id", "t", "because", "victim", "target", "pid", "comm", "exe", "unit", "inner", "uid", "do",
    "policy", "outcome", "scope", "cgroup", "limit_bytes", "also_killed", "rate_bytes_per_s",
    "confidence", "exhausts_in_s", "resident_bytes", "diagnosis", "verdict", "container",
])  # fmt: skip
EVENTS = st.builds(
    lambda kind, body: {"event": kind, **body},
    st.sampled_from([*catalog.KINDS, "new.kind"]) | TEXT,
    st.dictionaries(KEYS | TEXT, JSON, max_size=12),
)


@given(EVENTS)
def test_no_event_breaks_the_line_or_the_terminal(told: dict[str, Any]) -> None:
    plain = terminal.line(told, False)
    assert plain.isprintable()
    assert re.sub(r"\x1b\[[0-9;]*m", "", terminal.line(told, True)).isprintable()
    assert len(plain) < 8000


def parse(raw: bytes) -> list[tuple[str, bytes]]:
    """The native protocol, read as journald reads it."""
    found = []
    while raw:
        line, _, rest = raw.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            found.append((name.decode(), value))
        else:
            size = int.from_bytes(rest[:8], "little")
            assert rest[8 + size : 9 + size] == b"\n"
            found.append((name.decode(), rest[8 : 8 + size]))
            rest = rest[9 + size :]
        raw = rest
    return found


@given(st.lists(st.tuples(st.from_regex(r"[A-Z][A-Z_0-9]{0,20}", fullmatch=True), TEXT)))
def test_journal_fields_survive_the_protocol(entries: list[tuple[str, str]]) -> None:
    expected = [(name, value.encode("utf-8", "backslashreplace")) for name, value in entries]
    assert parse(journal.encode(entries)) == expected


@given(EVENTS)
def test_any_event_becomes_fields_that_journald_takes(told: dict[str, Any]) -> None:
    fields = journal.fields(told)
    assert len(fields) < 1000
    for name, _ in fields:
        assert re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", name)
    parse(journal.encode(fields))
    message = fields[0][1]
    assert message.isprintable()


def test_the_fields_of_a_kill() -> None:
    told = event("oom.kill", "line one", **KILL, complete=True)
    fields = dict(journal.fields(told))
    assert fields["MESSAGE"] == terminal.message(told)
    assert fields["MESSAGE_ID"] == catalog.KINDS["oom.kill"].message_id
    assert (fields["PRIORITY"], fields["SYSLOG_IDENTIFIER"]) == ("2", "oom-watchdog")
    assert fields["OBJECT_SYSTEMD_UNIT"] == "shop.service"
    assert (fields["OBJECT_PID"], fields["OBJECT_UID"]) == ("4242", "1000")
    assert (fields["OBJECT_COMM"], fields["OBJECT_EXE"]) == ("python3", "/usr/bin/python3")
    assert fields["OOM_WATCHDOG_EVENT"] == "oom.kill"
    assert fields["OOM_WATCHDOG_VICTIM_PID"] == "4242"
    assert fields["OOM_WATCHDOG_COMPLETE"] == "true"
    assert fields["OOM_WATCHDOG_BECAUSE"] == '["line one"]'
    assert "OOM_WATCHDOG_CAUSE" not in fields
    assert json.loads(fields["OOM_WATCHDOG_EVENT_JSON"]) == told


def test_priorities_follow_what_happened() -> None:
    assert catalog.kind(event("guard.action", outcome="done")).priority == catalog.CRITICAL
    assert catalog.kind(event("guard.action", outcome="would")).priority == catalog.NOTICE
    assert catalog.kind(event("policy.action", outcome="failed")).priority == catalog.ERROR
    assert catalog.kind(event("policy.action", outcome="done")).priority == catalog.WARNING
    assert catalog.kind(event("new.kind")) == catalog.OTHER


def test_every_kind_has_its_own_id_its_schema_and_its_catalog_entry() -> None:
    ids = [kind.message_id for kind in (*catalog.KINDS.values(), catalog.OTHER)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", one) for one in ids)
    schema = json.loads((ROOT / "docs" / "events.schema.json").read_text())
    assert schema["properties"]["event"]["enum"] == list(catalog.KINDS)

    text = (ROOT / "systemd" / "oom-watchdog.catalog").read_text()
    entries = dict(re.findall(r"^-- ([0-9a-f]{32})\n((?:(?!^-- ).*\n?)*)", text, re.MULTILINE))
    assert set(entries) == {kind.message_id for kind in catalog.KINDS.values()}
    always = {
        "leak": {"SCOPE"}, "pressure": {"SCOPE"}, "policy": {"POLICY", "DO", "OUTCOME", "MODE"},
        "guard": {"DO", "OUTCOME", "MODE"},
    }  # fmt: skip
    for name, kind in catalog.KINDS.items():
        entry = entries[kind.message_id]
        assert entry.startswith("Subject: ")
        assert "Defined-By: oom-watchdog\n" in entry
        # a field that is not in the entry would stand there as @NAME@
        used = set(re.findall(r"@OOM_WATCHDOG_(\w+)@", entry))
        assert used <= {"ID", "EVENT"} | always.get(name.partition(".")[0], set())
        assert max(map(len, entry.splitlines()[1:])) <= 80

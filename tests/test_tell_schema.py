"""The schema of the events refuses what readers could not rely on."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from watchdog.tell import catalog

WHO = dict.fromkeys(("pid", "start", "comm", "exe", "uid", "unit", "inner", "container"))
LEAK = {
    **WHO, "scope": "process", "rate_bytes_per_s": 1.0, "confidence": 0.5, "resident_bytes": 1,
    "since": 1.0, "exhausts_in_s": None, "exhausts_in_low_s": None, "exhausts_in_high_s": None,
}  # fmt: skip
HINTS = {
    "part": "heap", "part_bytes": 2, "grew_bytes": 1, "grew_in_s": 5.0, "runtime": "cpython",
    "heap_cap_bytes": None, "heap_cap_from": None, "threads": 1, "descriptors": None, "arenas": 0,
    "thp_bytes": 0, "next": ["x"],
}  # fmt: skip
ACTION = {**WHO, "do": "kill", "mode": "observe", "outcome": "would"}
BODIES: dict[str, dict[str, Any]] = {
    "leak": LEAK,
    "leak.hints": {**WHO, "scope": "process", "hints": HINTS},
    "pressure": {"scope": "host"},
    "oom.kill": {**WHO, "victim": {"pid": 1, "comm": "x"}, "scope": None},
    "oom.unattributed": {
        "count": 1,
        "counter": 1,
        "killed_by": "kernel",
        "cgroups": [],
        "vanished": [],
    },
    "kill.other": {
        **WHO,
        "target": WHO,
        "by": "earlyoom",
        "killed_by": "earlyoom",
        "claim": {"text": "x", "witness": "x", "t": 1.0},
    },
    "limit.pressed": {
        **WHO,
        "state": "begun",
        "cgroup": "/x",
        "at": "high",
        "since": 1.0,
        "limit_bytes": 1,
        "usage_bytes": 1,
        "times": 3,
    },
    "commit.short": {
        "state": "begun",
        "limit_bytes": 2,
        "committed_bytes": 1,
        "left_bytes": 1,
        "rate_bytes_per_s": None,
        "exhausts_in_s": None,
    },
    "alloc.failed": {
        **WHO,
        "state": "begun",
        "what": "pages",
        "order": 4,
        "mode": "0x1",
        "size_bytes": None,
        "count": 1,
        "since": 1.0,
    },
    "policy": {**ACTION, "policy": "p", "target": WHO, "incident": "i"},
    "guard": {**ACTION, "victim": WHO, "candidates": [{"entity": WHO, "rank": {}, "because": []}]},
}


def flaws(event: Any) -> list[str]:
    path = Path(__file__).with_name("conftest.py")
    spec = importlib.util.spec_from_file_location("events_conftest", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.flaws(event))


def event(kind: str, **more: Any) -> dict[str, Any]:
    body = BODIES.get(kind, BODIES.get(kind.partition(".")[0], {}))
    return {
        "event": kind, "id": "i", "cause": None, "t": 1.0, "up": None, "boot_id": None,
        "host": None, "because": ["x"], **body, **more,
    }  # fmt: skip


def test_it_is_a_schema_and_every_kind_has_a_form() -> None:
    path = Path(__file__).parent.parent / "docs" / "events.schema.json"
    Draft202012Validator.check_schema(json.loads(path.read_text(encoding="utf-8")))
    for kind in catalog.KINDS:
        assert flaws(event(kind, more="of anything")) == []


@pytest.mark.parametrize(
    "wrong",
    [
        event("leak.nonsense"),
        event("oom.unattributed", count=0),
        event("limit.pressed", at="low"),
        event("limit.pressed", state="perhaps"),
        event("commit.short", left_bytes=-1),
        event("alloc.failed", count=0),
        event("oom.kill", killed_by="somebody"),
        event("kill.other", by="kernel"),
        event("kill.other", claim="says so"),
        event("leak.confirmed", because=[]),
        event("leak.confirmed", because="a sentence"),
        event("leak.confirmed", confidence=1.5),
        event("leak.confirmed", confidence=None),
        event("leak.confirmed", scope="galaxy"),
        event("leak.confirmed", part="file"),
        event("leak.confirmed", hints={}),
        event("leak.confirmed", hints=HINTS | {"part": "else"}),
        event("leak.hints", hints=None),
        event("leak.hints", hints=HINTS | {"next": []}),
        event("leak.hints", hints=HINTS | {"next": ["\x1b"]}),
        event("leak.confirmed", comm="two\nlines"),
        event("leak.confirmed", unit="\x1b[2J"),
        event("leak.confirmed", t="now"),
        event("leak.confirmed", id=""),
        event("pressure.begun", scope="process"),
        event("oom.kill", victim={"pid": 1}),
        event("oom.kill", scope="galaxy"),
        event("policy.action", outcome="perhaps"),
        event("policy.action", target={"pid": 1}),
        event("guard.action", candidates=[{"entity": {}}]),
        event("guard.action", decided_t=None),
        {key: value for key, value in event("watchdog.started").items() if key != "cause"},
        {key: value for key, value in event("leak.cleared").items() if key != "since"},
    ],
)
def test_it_refuses(wrong: dict[str, Any]) -> None:
    assert flaws(wrong)

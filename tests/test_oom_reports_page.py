"""docs/oom-reports.md names every field of an oom.kill event, and no other."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from watchdog.cli import explain
from watchdog.facts import KernelLine
from watchdog.judge.diagnosis import oom_kill_event
from watchdog.judge.past import Grower, Growth, Kill, Leak, Past
from watchdog.oom_report.assemble import Assembler

ROOT = Path(__file__).parents[1]
KMSG = ROOT / "tests" / "fixtures" / "kmsg"
FIELDS = ("Who died", "By which limit", "Who asked", "Where the memory was", "Why this one",
          "What was known before", "What it means, and how whole it is")  # fmt: skip
# fields that only the engine adds, which alone knows the kernel's count
ENGINE = {"killed_by", "settles"}
# what no recording of ours has: a swap, and a death of two that share their memory
SHARERS = """\
worker invoked oom-killer: gfp_mask=0x201da, order=0, oom_score_adj=0
Free swap  = 0kB
Total swap = 1048572kB
Out of memory: Kill process 70 (worker) score 900 or sacrifice child
Kill process 71 (helper) sharing same memory
Killed process 70 (worker) total-vm:8192kB, anon-rss:4096kB, file-rss:0kB, shmem-rss:0kB
"""


LEAK = Leak("confirmed", 1.0, 60.0, 0.9)
PAST = Past(
    growth=Growth(60.0, 1, 2),
    growers=(Grower("other", 5, "other.service", 1 << 40, 60.0, 1 << 40, LEAK),),
    kills=(Kill(1.0), Kill(2.0)),
)


def page() -> str:
    return (ROOT / "docs" / "oom-reports.md").read_text("utf-8")


def told(heading: str) -> set[str]:
    """The names in the first column of the table below a heading."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", page(), re.M | re.S)
    assert found, heading
    cells = re.findall(r"^\| (`[^|]*`) \|", found[1], re.M)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def fields() -> set[str]:
    return set().union(*(told(heading) for heading in FIELDS))


def keys(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all keys, as the page writes them: without the places in a list."""
    if isinstance(value, list):
        for inner in value:
            yield from keys(inner, path)
    elif isinstance(value, dict):
        for key, inner in value.items():
            name = key
            if path == "limits.":
                name = "NAME"
            elif path == "memory." and key not in ("total_bytes", "unaccounted_bytes"):
                name = "PART"
            yield path + name
            # a culprit is one of the growers, and is explained there
            yield from keys(inner, "growers." if name == "culprit" else f"{path}{name}.")


def bodies() -> Iterator[dict[str, Any]]:
    """The events of our own recordings, as `explain --json` prints them."""
    raw = [path.read_bytes() for path in sorted(KMSG.glob("*.kmsg"))]
    raw += [gzip.decompress(path.read_bytes()) for path in sorted(KMSG.glob("6.12/*.kmsg.gz"))]
    for text in (SHARERS, *(one.decode("utf-8", "surrogateescape") for one in raw)):
        assembler = Assembler()
        reports = []
        for line in text.split("\n"):
            reports += assembler.feed(KernelLine(0.0, None, line))
        for report in reports + assembler.flush():
            past = PAST._replace(units={row.pid: "shop.service" for row in report.rows})
            yield json.loads(json.dumps(oom_kill_event(report, past)[0]))


def schema(kind: str) -> set[str]:
    """What the schema says of a kind of event, beyond the head of every event."""
    whole = json.loads((ROOT / "docs" / "events.schema.json").read_text("utf-8"))
    (rule,) = [
        branch["then"]
        for branch in whole["allOf"]
        if branch.get("if", {}).get("properties", {}).get("event") == {"const": kind}
    ]
    return set(_properties(rule, whole["$defs"]))


def _properties(node: Any, defs: dict[str, Any], path: str = "") -> Iterator[str]:
    for key in ("allOf", "anyOf"):
        for inner in node.get(key, ()):
            yield from _properties(inner, defs, path)
    to = node.get("$ref", "").rpartition("/")[2]
    if to and not (path and to == "entity"):  # an entity within may have any of its keys
        yield from _properties(defs[to], defs, path)
    if isinstance(node.get("items"), dict):
        yield from _properties(node["items"], defs, path)
    for name, inner in node.get("properties", {}).items():
        yield path + name
        yield from _properties(inner, defs, f"{path}{name}.")


def test_the_screen_is_the_one_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    found = re.search(r"^\$ oom-watchdog explain (\S+)\n(.*?)^```$", page(), re.M | re.S)
    assert found
    assert explain.main([str(ROOT / found[1])]) == 0
    assert capsys.readouterr().out.startswith(found[2])


def made() -> set[str]:
    return {key for body in bodies() for key in keys(body)} | ENGINE


def test_every_field_of_an_event_is_explained() -> None:
    assert sorted(made() - fields()) == []


def test_every_field_of_the_schema_is_explained() -> None:
    assert sorted(schema("oom.kill") - fields()) == []


def test_what_is_explained_is_there() -> None:
    assert sorted(fields() - schema("oom.kill") - made()) == []


@pytest.mark.parametrize("kind", ["oom.unattributed", "kill.other"])
def test_the_events_beside_it_are_explained(kind: str) -> None:
    row = next(line for line in page().splitlines() if line.startswith(f"| `{kind}` |"))
    named = set(re.findall(r"`([^`]+)`", row))
    of_every_entity = {"pid", "start", "comm", "exe", "uid", "unit", "inner", "container"}
    wanted = {key for key in schema(kind) if key not in of_every_entity}
    assert sorted(key for key in wanted if f"target.{key}" not in named and key not in named) == []


def test_the_parts_of_the_memory_are_named_on_their_own_page() -> None:
    text = (ROOT / "docs" / "memory.md").read_text("utf-8")
    table = "\n".join(line for line in text.splitlines() if line.startswith("| "))
    parts = {key.removesuffix("_bytes") for body in bodies() for key in body["memory"] or ()}
    assert sorted(part for part in parts - {"total", "unaccounted"} if part not in table) == []

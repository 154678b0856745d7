"""From a report to the oom.kill event: what is said, why this one, and what is never claimed."""

import json
from pathlib import Path
from typing import Any

import pytest

from watchdog.facts import Entity, Event, KernelLine
from watchdog.judge import sentences
from watchdog.judge.diagnosis import oom_kill_event
from watchdog.judge.past import NOTHING, Leak, Past
from watchdog.oom_report.assemble import Assembler, Report
from watchdog.oom_report.tasks import Row

KMSG = Path(__file__).parent / "fixtures" / "kmsg"
MIB = 1 << 20


def recorded(name: str) -> list[Report]:
    assembler, out = Assembler(), []
    for line in (KMSG / f"{name}.kmsg").read_text("utf-8", "surrogateescape").splitlines():
        out += assembler.feed(KernelLine(5.0, 6.0, line))
    return out + assembler.flush()


@pytest.fixture
def plain() -> Report:
    return recorded("memcg-plain")[0]


def row(pid: int, rss: int, adj: int | None = 0, name: str = "x", swap: int = 0) -> Row:
    return Row(pid, 0, pid, rss * 2, rss, None, None, None, 4096, swap, adj, name)


def one_of_many(report: Report, rows: list[Row], **more: Any) -> Report:
    return report._replace(rows=tuple(rows), tasks_count=len(rows), **more)


def event_of(report: Report, past: Past = NOTHING) -> Event:
    body, because, identity = oom_kill_event(report, past)
    assert because
    assert all(sentence and sentence.isprintable() for sentence in because)
    event = Event("oom.kill", f"oom.kill-x-{identity}", None, 5.0, 6.0, None, "h", because, body)
    json.dumps(event.flat())  # and the schema holds: conftest
    return event


def test_the_event_of_a_recorded_kill(plain: Report) -> None:
    event = event_of(plain)
    body = event.body
    assert event.id.endswith("-2098377504-5359")
    assert body["kernel_time_s"] == 2098.377504
    assert (body["pid"], body["comm"], body["uid"], body["unit"]) == (5359, "leaker", 0, None)
    assert body["victim"]["anon_bytes"] == 33328 * 1024
    assert body["limit_bytes"] == body["usage_bytes"] == 32 * MIB
    assert body["invoker"]["gfp_flags"] == "GFP_KERNEL"
    assert body["complete"] is True
    assert body["missing"] == []
    assert body["tasks"]["count"] == 2
    assert body["tasks"]["top"][0]["comm"] == "leaker"
    assert body["tasks"]["by_name"][0] == {
        "comm": "leaker", "count": 1, "resident_bytes": 9205 * 4096, "swap_bytes": 0,
    }  # fmt: skip
    assert (body["verdict"], body["confidence"]) == ("limit-too-low", 0.3)
    assert body["headline"] == (
        "leaker (pid 5359, 36.0 MiB) was killed: /oomtest-report-3177 was at its limit of 32.0 MiB;"
        " perhaps its limit is too low"
    )
    assert "from the report alone" in body["verdict_reasons"][-1]
    assert body["choice"]["rank"] == 1
    assert event.because[:4] == (
        "leaker (pid 5359) was killed, holding 32.5 MiB anonymous, 3.4 MiB of files",
        "the limit of /oomtest-report-3177 was reached: 32.0 MiB",
        "it was the largest of 2 processes",
        "it asked itself for 1 page (4.0 KiB) to be charged to its cgroup",
    )


@pytest.mark.parametrize("path", sorted(KMSG.glob("*.kmsg")), ids=lambda path: path.stem)
def test_every_recorded_report_makes_a_valid_event(path: Path) -> None:
    for report in recorded(path.stem):
        event = event_of(report)
        memory = event.body["memory"]
        assert memory["total_bytes"] * 2 == sum(memory.values())


def test_the_unit_comes_from_the_census_alone() -> None:
    (report,) = recorded("memcg-hostile-cgroup")
    assert event_of(report).body["unit"] is None
    known = Entity(5734, 77, "sh", "/bin/sh", 0, "shop.service", None, "abc")
    body = event_of(report, Past(known, units={5734: "shop.service"})).body
    assert (body["unit"], body["start"], body["exe"]) == ("shop.service", 77, "/bin/sh")
    assert (body["container"], body["victim"]["unit"]) == ("abc", "shop.service")
    assert body["tasks"]["by_unit"] == [
        {"unit": "shop.service", "count": 1, "resident_bytes": 9201 * 4096, "swap_bytes": 0}
    ]
    assert any("systemctl set-property shop.service MemoryMax=48M" in a for a in body["advice"])


def test_a_number_that_was_used_again_is_another_process(plain: Report) -> None:
    other = Entity(5359, 78, "cron", "/bin/cron", 1000, "cron.service")
    body = event_of(plain, Past(other)).body
    assert (body["unit"], body["start"]) == (None, None)


def test_what_is_known_of_a_leak_is_the_verdict(plain: Report) -> None:
    known = Entity(5359, 78, "leaker", None, 0, "shop.service")
    told = "a leak of it was confirmed (2.0 MiB/s, for 3 min)"
    event = event_of(plain, Past(known, leak=Leak("confirmed", 2.0 * MIB, 180.0)))
    assert (event.body["verdict"], event.body["confidence"]) == ("leak", 0.9)
    assert told in event.because
    assert len(event.because) == 5
    assert event.body["advice"][0].startswith("systemctl restart shop.service")
    assert event.body["advice"][1].startswith("oom-watchdog events --unit shop.service")
    suspected = event_of(plain, Past(known, leak=Leak("suspected", 1.0, 9.0)))
    assert suspected.body["confidence"] == 0.6
    # of a number that was used again nothing is known
    other = Past(Entity(5359, 78, "cron", None, 9), leak=Leak("confirmed", 1.0, 9.0))
    assert event_of(plain, other).body["verdict"] == "limit-too-low"


# -- what happened --------------------------------------------------------------------------------


def test_sentences_of_reports_without_a_victim(plain: Report) -> None:
    none = plain._replace(victim=None)
    assert sentences.who(none._replace(outcome="panic", panic="System is deadlocked")) == (
        "the kernel gave up: System is deadlocked"
    )
    assert "nobody" in sentences.who(none._replace(outcome="no-victim"))
    chosen = none._replace(outcome="selected", selected=(9, "a", 1))
    assert sentences.who(chosen) == "a (pid 9) was chosen; the log does not show its death"
    cut = none._replace(outcome="cut-off", selected=None)
    assert "cut off" in sentences.who(cut)
    assert event_of(cut._replace(usec=None, stamp=None)).id.endswith("-1-0")


def test_sentences_of_victims(plain: Report) -> None:
    victim = plain.victim
    assert victim is not None
    empty = plain._replace(victim=victim._replace(anon=0, file=0, shmem=0))
    assert "freed nothing" in sentences.who(empty)
    untold = plain._replace(victim=victim._replace(anon=None, file=None, shmem=None, comm=None))
    assert sentences.who(untold) == "pid 5359 was killed"
    assert event_of(plain._replace(stamp="Nov 23", usec=None)).id.endswith("-Nov 23-5359")


def test_others_that_died_and_what_stayed(plain: Report) -> None:
    from watchdog.oom_report.report import Other

    many = plain._replace(
        also_killed=(Other(5359, "leaker", 0, True), Other(8, "b", 0, False)),
        group="/g", reaped_left=4096, suppressed=3,
    )  # fmt: skip
    event = event_of(many)
    assert "1 other process died with it (memory.oom.group)" in event.because[0]
    assert any("4.0 KiB" in sentence for sentence in event.because)
    assert any("3 more reports" in sentence for sentence in event.because)
    assert len(event.body["also_killed"]) == 2

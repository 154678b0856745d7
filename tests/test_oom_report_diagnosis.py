"""From a report to the oom.kill event: what is said, why this one, and what is never claimed."""

import json
from pathlib import Path
from typing import Any

import pytest

from watchdog.facts import Entity, Event, KernelLine
from watchdog.judge import badness, diagnosis, sentences
from watchdog.judge.attribution import GRACE_S, KillCount
from watchdog.judge.diagnosis import oom_kill_event
from watchdog.judge.past import NOTHING, Growth, Leak, Past
from watchdog.memory import Counters, Group
from watchdog.oom_report.assemble import Assembler, Report
from watchdog.oom_report.mem_info import Limit
from watchdog.oom_report.report import Invoker
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
    assert body["verdict"] == "unknown"
    assert event.because[:4] == (
        "leaker (pid 5359) was killed, holding 32.5 MiB anonymous, 3.4 MiB of files",
        "the limit of /oomtest-report-3177 was reached: 32.0 MiB",
        "it was the largest of 2 processes",
        "it asked itself for 1 page (4.0 KiB), charged by the kernel (GFP_KERNEL)",
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
    assert any("systemctl set-property shop.service MemoryMax=48.0M" in a for a in body["advice"])


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
    assert "events --unit shop.service" in event.body["advice"][0]
    suspected = event_of(plain, Past(known, leak=Leak("suspected", 1.0, 9.0)))
    assert suspected.body["confidence"] == 0.6
    # of a number that was used again nothing is known
    other = Past(Entity(5359, 78, "cron", None, 9), leak=Leak("confirmed", 1.0, 9.0))
    assert event_of(plain, other).body["verdict"] == "unknown"


@pytest.mark.parametrize(
    ("growth", "verdict"),
    [
        (Growth(700, 33 * MIB, 33 * MIB, 33 * MIB), "limit-too-low"),
        (Growth(90, 2 * MIB, 10 * MIB, 3 * MIB), "spike"),
        (Growth(90, 30 * MIB, 33 * MIB), "unknown"),
        (Growth(900, 10 * MIB, 33 * MIB, 30 * MIB), "unknown"),
    ],
)
def test_history_decides(plain: Report, growth: Growth, verdict: str) -> None:
    known = Entity(5359, 78, "leaker", None, 0)
    event = event_of(plain, Past(known, growth))
    assert event.body["verdict"] == verdict
    machine = plain._replace(scope="global", victim=None, memory=None)
    steady = Growth(700, 33 * MIB, 33 * MIB, 33 * MIB)
    assert diagnosis.verdict(machine, None, steady).verdict == "too-small"


def test_the_report_alone_can_tell_of_the_kernel_and_of_fragments(plain: Report) -> None:
    kernel = plain._replace(memory=Group(100, {"anon": 0, "kernel": 60}))
    assert event_of(kernel).body["verdict"] == "kernel-memory"
    assert "slabtop" in " ".join(event_of(kernel).body["advice"])
    pieces = plain._replace(
        fragmented=True, scope="global", invoker=Invoker("a", 1, 3, "0x1", "GFP_ATOMIC", 0)
    )
    assert event_of(pieces).body["verdict"] == "fragmentation"
    assert "min_free_kbytes" in " ".join(event_of(pieces).body["advice"])
    zero = plain._replace(memory=Group(0, {"anon": 0}))
    assert event_of(zero).body["verdict"] == "unknown"
    assert event_of(plain._replace(manual=True)).body["verdict"] == "unknown"
    small = one_of_many(plain, [row(1, 10)])
    assert "alone held" not in event_of(small).body["verdict_because"]
    assert "leaker alone held" in event_of(plain).body["verdict_because"]


# -- why this one ---------------------------------------------------------------------------------


def test_a_larger_one_lived_and_the_sentence_says_why() -> None:
    report = recorded("memcg-volunteer")[0]
    assert sentences.why(report) == (
        "not the largest: web worker: 1 (pid 7981) with 34.0 MiB lived, as oom_score_adj was 0"
        " there and 900 here"
    )
    ranked = badness.rank(report)
    assert ranked is not None
    assert [c.row.name for c in ranked] == ["volunteer", "web worker: 1"]


def test_protected_and_equal_ones(plain: Report) -> None:
    big = row(1, 50000, -1000, "big")
    said = sentences.why(one_of_many(plain, [big, row(5359, 100)]))
    assert said is not None
    assert said.endswith("lived, protected by oom_score_adj -1000")
    swapped = [row(1, 5000, 0, "big"), row(5359, 100, 0, "x", 9000)]
    said = sentences.why(one_of_many(plain, swapped))
    assert said is not None
    assert said.endswith("with swap and page tables this one scored higher")
    other = one_of_many(plain, [row(1, 5000, 0, "big"), row(5359, 100)])
    assert (sentences.why(other) or "").endswith("lived")
    unknown = other._replace(page_size=None)
    assert sentences.why(unknown) == "not the largest: big (pid 1) lived"
    assert sentences.why(one_of_many(plain, [row(5359, 100)])) == "there was nobody else"
    assert sentences.why(one_of_many(plain, [row(1, 100)])) is None
    assert sentences.why(plain._replace(victim=None)) is None
    chosen = plain._replace(selected=(9, "parent", 90))
    assert sentences.why(chosen) == (
        "the kernel chose parent (pid 9) and killed this thread or child of it"
    )
    assert sentences.why(plain._replace(selected=(5359, "leaker", 9))) == (
        "it was the largest of 2 processes"
    )


def test_ranks_that_cannot_be_followed_are_not_claimed(plain: Report) -> None:
    assert badness.rank(plain._replace(rows=())) is None
    assert badness.rank(plain._replace(page_size=None)) is None
    adjusted = one_of_many(plain, [row(1, 10, 5)], total_pages=None)
    assert badness.rank(adjusted) is None
    bare = one_of_many(plain, [row(1, 10)._replace(pagetables=None)])
    assert badness.rank(bare) is None
    old = one_of_many(
        plain, [row(1, 1000)._replace(pagetables=10), row(2, 900, -1000)],
        pagetables_are_bytes=False,
    )  # fmt: skip
    ranked = badness.rank(old)
    assert ranked is not None
    assert [c.points for c in ranked] == [1010 - 30, None]


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


def test_sentences_of_limits(plain: Report) -> None:
    both = plain._replace(limits={"memory+swap": Limit(9 * MIB, 9 * MIB, 1)})
    assert sentences.limit(both).endswith("9.0 MiB of memory and swap")
    assert "does not name" in sentences.limit(plain._replace(cgroup=None, limits={}))
    assert "cpuset a" in sentences.limit(plain._replace(scope="cpuset", cpuset="a"))
    assert "nodes 1 of" in sentences.limit(plain._replace(scope="mempolicy", nodemask="1"))
    assert "does not say" in sentences.limit(plain._replace(scope=None))
    whole = plain._replace(scope="global", memory=None)
    assert sentences.limit(whole) == "the whole machine was out of memory"
    told = whole._replace(memory=Counters(100, free=5))
    assert sentences.limit(told._replace(swap_total=0)).endswith("5 B of 100 B free, no swap")
    assert sentences.limit(told._replace(swap_total=9, swap_free=1)).endswith(
        "1 B of 9 B swap free"
    )
    assert sentences.limit(told).endswith("5 B of 100 B free")
    bare = told._replace(memory=Counters(100), swap_total=9)
    assert sentences.limit(bare) == "the whole machine was out of memory"
    assert "SysRq" in sentences.limit(whole._replace(manual=True))
    body = event_of(told._replace(swap_total=0, swap_free=0)).body
    assert body["swap"] == {"total_bytes": 0, "free_bytes": 0}
    assert "no swap" in body["advice"][0]
    told_nothing = told._replace(swap_total=9, swap_free=1, invoker=None)
    assert event_of(told_nothing).body["advice"] == [
        "watch its growth from now on: oom-watchdog run"
    ]


def test_sentences_of_the_request(plain: Report) -> None:
    def asked(invoker: Invoker | None, **more: Any) -> str | None:
        return sentences.asked(plain._replace(invoker=invoker, **more))

    assert asked(None) is None
    assert asked(Invoker("a", 1, None, None, None, None)) == "a (pid 1) asked for memory"
    assert asked(Invoker("a", 1, -1, None, None, None), manual=True) is None
    assert asked(Invoker("a", None, 1, "0xd0", None, 0), page_size=None) == "a asked for 2 pages"
    assert asked(Invoker("a", 1, 0, "0x0", "", 0)) == (
        "a (pid 1) asked for 1 page (4.0 KiB), in a page fault"
    )
    assert asked(Invoker("a", 1, 0, "0x1", "__GFP_X", 0)) == (
        "a (pid 1) asked for 1 page (4.0 KiB), for a use unknown here (__GFP_X)"
    )


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


# -- the kernel's counter -------------------------------------------------------------------------


def test_the_counter_and_the_lines_agree() -> None:
    count = KillCount()
    assert count.counter(5, 1.0) == 0
    count.line(2)
    assert count.counter(7, 2.0) == 0
    assert count.counter(7, 2.0 + GRACE_S) == 0


def test_a_kill_without_a_line_is_told_once_after_ten_seconds() -> None:
    count = KillCount()
    count.line(4)  # of before our time
    count.counter(5, 1.0)
    count.line(1)
    assert count.counter(8, 2.0) == 0
    assert count.counter(8, 2.0 + GRACE_S / 2) == 0
    assert count.counter(8, 2.0 + GRACE_S) == 2
    assert count.counter(8, 3.0 + 2 * GRACE_S) == 0

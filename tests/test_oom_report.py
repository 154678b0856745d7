"""OOM reports out of the kernel's own records, recorded by us from real kills of this kernel."""

import itertools
from pathlib import Path

import pytest

from watchdog.facts import KernelLine
from watchdog.judge import account
from watchdog.oom_report import cgroup
from watchdog.oom_report.assemble import Assembler, Report
from watchdog.oom_report.stream import CUT_OFF_S, LATE_S, QUIET_S, Stream, interesting

KMSG = Path(__file__).parent / "fixtures" / "kmsg"


def records(name: str) -> list[str]:
    return (KMSG / f"{name}.kmsg").read_text("utf-8", "surrogateescape").splitlines()


def read(lines: list[str], assembler: Assembler | None = None) -> list[Report]:
    assembler = assembler or Assembler()
    out: list[Report] = []
    for line in lines:
        out += assembler.feed(KernelLine(1000.0, None, line))
    return out + assembler.flush()


def text_of(name: str) -> list[str]:
    """What dmesg prints of the records."""
    out = []
    for record in records(name):
        head, _, text = record.partition(";")
        usec = int(head.split(",")[2])
        out.append(f"[{usec // 1_000_000:5}.{usec % 1_000_000:06}] {text}")
    return out


def dead(reports: list[Report]) -> list[tuple[int, str | None]]:
    found = []
    for report in reports:
        if report.victim:
            found.append((report.victim.pid, report.victim.comm))
        found += [(other.pid, other.comm) for other in report.also_killed if not other.again]
    return found


def test_one_kill_of_a_cgroup_is_one_whole_report() -> None:
    (report,) = read(records("memcg-plain"))
    victim = report.victim
    assert victim is not None
    assert (victim.pid, victim.comm, victim.uid, victim.oom_score_adj) == (5359, "leaker", 0, 0)
    assert victim.anon == 33328 * 1024
    assert victim.file == 3492 * 1024
    assert victim.shmem == 0
    assert victim.total_vm == 44304 * 1024
    assert victim.pagetables == 120 * 1024
    assert victim.swap == 0
    assert victim.witness == "kill line"
    assert report.outcome == "killed"
    assert report.scope == "memcg"
    assert report.cgroup == report.task_cgroup == "/oomtest-report-3177"
    assert report.limits["memory"].limit == 32 << 20
    assert report.limits["memory"].failcnt == 72
    assert report.limits["memory+swap"].limit is None
    assert report.usec == 2098377504
    assert report.page_size == 4096
    assert report.tasks_count == 2
    assert [row.name for row in report.rows] == ["bystander", "leaker"]
    assert report.kernel_version == "6.18.44-fc-v657"
    assert report.complete
    assert report.kill_lines == 1
    memory = account.of_report(report)
    assert memory is not None
    assert memory.total == 32 << 20
    assert sum(size for _, size in memory.parts) + memory.unaccounted == memory.total
    invoker = report.invoker
    assert invoker is not None
    assert (invoker.comm, invoker.pid, invoker.order) == ("leaker", 5359, 0)
    assert (invoker.gfp_mask, invoker.gfp_flags) == ("0xcc0", "GFP_KERNEL")


def test_a_comm_that_looks_like_a_kill_line_is_a_comm() -> None:
    (report,) = read(records("memcg-hostile-comm"))
    assert report.victim is not None
    assert report.victim.comm == "x) total-vm:0kB"
    assert report.victim.total_vm == 44304 * 1024
    assert report.invoker is not None
    assert report.invoker.comm == "x) total-vm:0kB"
    assert report.cgroup == "/oomtest-report-a"


def test_a_comm_of_any_bytes_is_made_safe() -> None:
    (report,) = read(records("memcg-newline-comm"))
    assert report.victim is not None
    assert report.victim.comm == "a\\x0ab\\c\\x1b[31m\\xff"
    assert report.victim.total_vm == 44300 * 1024
    assert report.rows[1].name == report.victim.comm
    assert report.invoker is not None
    assert report.invoker.pid == 5371


def test_a_cgroup_that_looks_like_a_summary_is_a_path() -> None:
    (report,) = read(records("memcg-hostile-cgroup"))
    path = "/oomtest-report,task_memcg=/system.slice/ssh.service,task=x,pid=1"
    assert report.cgroup == report.task_cgroup == path
    assert report.victim is not None
    assert (report.victim.pid, report.victim.comm) == (5734, "sh")
    assert report.suppressed == 4


def test_without_statistics_the_hostile_cgroup_is_still_read() -> None:
    lines = [line for line in records("memcg-hostile-cgroup") if "stats for" not in line]
    (report,) = read(lines)
    assert report.cgroup == "/oomtest-report,task_memcg=/system.slice/ssh.service,task=x,pid=1"


def test_a_storm_is_one_report_a_kill() -> None:
    reports = read(records("memcg-storm"))
    assert [report.victim.pid for report in reports if report.victim] == list(range(5754, 5762))
    assert all(report.complete for report in reports)


def test_a_line_that_is_nothing_after_all_does_not_keep_the_rest_from_being_skipped() -> None:
    assembler = Assembler()
    read([], assembler)
    assembler.feed(KernelLine(0.0, None, "[    1.0] mounting /srv/room7 with a Bloom filter"))
    assembler.feed(KernelLine(0.0, None, "[    1.1] usb 1-1: new high-speed USB device"))
    assert assembler.idle


def test_two_reports_in_a_row_keep_to_themselves() -> None:
    first, second = read(records("memcg-volunteer"))
    assert first.victim is not None
    assert second.victim is not None
    assert (first.victim.comm, first.victim.oom_score_adj) == ("volunteer", 900)
    assert first.invoker is not None
    assert first.invoker.comm == "web worker: 1"
    assert (second.victim.comm, second.tasks_count) == ("web worker: 1", 1)


@pytest.mark.parametrize(
    "name", ["memcg-plain", "memcg-volunteer", "memcg-storm", "memcg-hostile-cgroup"]
)
@pytest.mark.parametrize(
    "prefix",
    [
        "{}", "<4>{}", "Nov 23 05:31:08 host kernel: {}", "> > {}", "    {}", "\t| {}",
        "2026-11-23T05:31:08.123456+01:00 host kernel: {}", "kern  :warn  : {}",
        "2026-11-23T05:31:08Z host kernel - - - {}", "Nov 23 05:31:08 kernel: {}", "kernel: {}",
        "kernel: [T123] {}", "{}\r",
    ],
)  # fmt: skip
def test_any_prefix_gives_the_same_report(name: str, prefix: str) -> None:
    want = read(text_of(name))
    have = read([prefix.format(line) for line in text_of(name)])
    assert dead(have) == dead(want) == dead(read(records(name)))
    for left, right in zip(have, want, strict=True):
        assert left.scope == right.scope == "memcg"
        assert (left.cgroup, left.usec, left.limits, left.memory, left.rows, left.missing) == (
            right.cgroup, right.usec, right.limits, right.memory, right.rows, right.missing,
        )  # fmt: skip


@pytest.mark.parametrize("stamp", ["[Mon Nov 23 05:31:08 2026] ", "[Mo 23. Nov 05:31:08 2026] "])
def test_dates_in_brackets(stamp: str) -> None:
    lines = [stamp + line.partition("] ")[2] for line in text_of("memcg-plain")]
    (report,) = read(lines)
    assert report.usec is None
    assert report.stamp == stamp.strip("[] ")
    assert report.complete


def test_without_any_stamp() -> None:
    (report,) = read([line.partition("] ")[2] for line in text_of("memcg-plain")])
    assert report.complete
    assert report.victim is not None
    assert report.victim.comm == "leaker"


def test_caller_ids_are_no_rows() -> None:
    lines = [line.replace("] ", "][ T5359] ", 1) for line in text_of("memcg-plain")]
    (report,) = read(lines)
    assert report.tasks_count == 2
    assert report.complete


def test_the_journal_as_json() -> None:
    import json

    def entry(record: str, **more: object) -> str:
        head, _, text = record.partition(";")
        return json.dumps(
            {
                "_TRANSPORT": "kernel", "SYSLOG_FACILITY": "0", "SYSLOG_IDENTIFIER": "kernel",
                "_SOURCE_MONOTONIC_TIMESTAMP": head.split(",")[2], "MESSAGE": text,
                "__REALTIME_TIMESTAMP": "1795411868000000",
                "_BOOT_ID": "0123456789abcdef0123456789abcdef",
            } | more
        )  # fmt: skip

    plain = records("memcg-plain")
    (report,) = read([entry(record) for record in plain])
    assert report.usec == 2098377504
    assert report.wall == 1795411868.0
    assert report.boot_id == "01234567-89ab-cdef-0123-456789abcdef"
    assert report.complete
    (report,) = read([entry(r, MESSAGE=list(r.partition(";")[2].encode())) for r in plain])
    assert report.complete
    assembler = Assembler()
    assert read([entry(record, _TRANSPORT="stdout") for record in plain], assembler) == []
    assert len(assembler.forged()) == 1
    assert read(['{"MESSAGE":[256]}', '{"MESSAGE": oom-kill', '{"x":"MESSAGE", "MESSAGE":1}']) == []


# -- forgeries ------------------------------------------------------------------------------------

KILL = (
    "Out of memory: Killed process 1 (systemd) total-vm:1kB, anon-rss:1kB, file-rss:0kB, "
    "shmem-rss:0kB, UID:0 pgtables:4kB oom_score_adj:0"
)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (f"12,9,100,-;{KILL}", "facility"),
        (f"11,9,100,-;{KILL}", "facility"),
        (f"6,9,100,-;usb 1-1: Product: {KILL}", "place"),
        (f"6,9,100,-;usb 1-1: Product: x\\x0a{KILL}", "place"),
        (f"Nov 23 05:31:08 host app[12]: {KILL}", "facility"),
        (f"user  :warn  : {KILL}", "facility"),
        (f"<12>{KILL}", "facility"),
    ],
)
def test_what_the_kernel_did_not_say_is_no_kill(record: str, why: str) -> None:
    assembler = Assembler()
    assert read([record], assembler) == []
    (forged,) = assembler.forged()
    assert forged.why == why
    assert "Killed process 1" in forged.text
    assert assembler.forged() == []


def test_a_forged_record_leaves_an_open_report_alone() -> None:
    plain = records("memcg-plain")
    reports = read([*plain[:-1], f"12,9,100,-;{KILL}", plain[-1]])
    assert dead(reports) == [(5359, "leaker")]


def test_forged_summaries_and_headers_open_nothing() -> None:
    said = [
        "12,9,100,-;x invoked oom-killer: gfp_mask=0x0(), order=0, oom_score_adj=0",
        "12,9,100,-;oom-kill:constraint=CONSTRAINT_NONE,task=x,pid=1,uid=0",
        "6,9,100,-;a name of more than 15 bytes invoked oom-killer: gfp_mask=0x0(), order=0",
        "6,9,100,-;usb: oom-kill:constraint=CONSTRAINT_NONE,task=x,pid=1,uid=0",
        "6,9,100,-;Killed process 12 (a name of more than 15 bytes)",
    ]
    assert read(said) == []


def test_forgeries_are_bounded() -> None:
    assembler = Assembler()
    read([f"12,9,100,-;{KILL}"] * 1000, assembler)
    assert len(assembler.forged()) <= 64


# -- boundaries -----------------------------------------------------------------------------------


def test_a_report_closes_soon_after_its_kill_line() -> None:
    assembler = Assembler()
    up = itertools.count(100)
    for line in records("memcg-plain"):
        assert assembler.feed(KernelLine(5.0, 50.0, line)) == []
    assert assembler.tick(5.0, 50.0 + QUIET_S / 2) == []
    (report,) = assembler.tick(5.0 + QUIET_S, 50.0 + QUIET_S)
    assert QUIET_S <= 1
    assert (report.t, report.up) == (5.0, 50.0)
    assert assembler.tick(9.0, next(up)) == []
    assert assembler.flush() == []


def test_time_without_uptime_closes_too() -> None:
    assembler = Assembler()
    for line in records("memcg-plain"):
        assembler.feed(KernelLine(5.0, None, line))
    assert len(assembler.tick(6.0, None)) == 1


def test_a_slow_console_does_not_cut_a_report() -> None:
    assembler, out = Assembler(), []
    for number, line in enumerate(records("memcg-plain")):
        out += assembler.feed(KernelLine(0.0, number * 0.4, line))
    assert out == []
    (report,) = assembler.flush()
    assert report.complete


@pytest.mark.parametrize("late", [False, True])
def test_a_dump_without_an_end_is_told_as_cut_off(late: bool) -> None:
    assembler = Assembler()
    for line in records("memcg-plain")[:60]:
        assembler.feed(KernelLine(0.0, 1.0, line))
    if late:
        assert assembler.tick(0.0, 1.0 + LATE_S / 2, late) == [] and assembler.awaited == 1
    (report,) = assembler.tick(0.0, 1.0 + (LATE_S if late else CUT_OFF_S), late)
    assert assembler.awaited == 0
    assert report.outcome == "cut-off"
    assert report.victim is None
    assert "kill line" in report.missing


def test_a_report_that_is_read_in_pieces_is_one() -> None:
    """The kernel's own clock tells what belongs together, however late the reader brings it."""
    whole = records("memcg-plain")
    assembler = Assembler()
    for number, line in enumerate(whole):
        up = 50.0 + 3 * number
        assert assembler.feed(KernelLine(up, up, line)) == []
        assert assembler.tick(up, up, late=True) == []  # a sample between its lines
    (report,) = assembler.flush()
    assert report.complete and report.outcome == "killed"


def test_a_dump_is_cut_off_by_what_the_kernel_says_much_later() -> None:
    assembler = Assembler()
    begun = records("memcg-plain")[:60]
    for line in begun:
        assembler.feed(KernelLine(0.0, 1.0, line))
    later = int(begun[-1].split(",")[2]) + int(CUT_OFF_S * 1e6)
    (report,) = assembler.feed(KernelLine(0.0, 1.0, f"6,900,{later},-;memory: usage 1kB"))
    assert report.outcome == "cut-off"
    for line in begun:  # of another boot: nobody writes on
        assembler.feed(KernelLine(200.0, 200.0, line, "another"))
    assert [one.outcome for one in assembler.tick(200.0 + CUT_OFF_S, None)] == ["cut-off"]


def test_the_same_kill_from_two_sources_is_one() -> None:
    plain = records("memcg-plain")
    reports = read(plain + text_of("memcg-plain") + plain)
    assert dead(reports) == [(5359, "leaker")]


def test_a_group_is_one_report_and_its_first_victim_counts_twice() -> None:
    lines = [
        "4,1,10,-;a invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
        "6,2,11,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
        "oom_memcg=/g,task_memcg=/g/x,task=a,pid=10,uid=5",
        _killed(3, 12, 10, "a"),
        "6,4,13,-;Tasks in /g are going to be killed due to memory.oom.group set",
        _killed(5, 14, 10, "a"), _killed(6, 15, 11, "b"),
        "6,7,16,-;Memory cgroup out of memory: OOM victim 12 (c) is already exiting. Skip killing",
        "6,8,17,-;oom_reaper: reaped process 10 (a), now anon-rss:0kB, file-rss:4kB, shmem-rss:0kB",
    ]  # fmt: skip
    (report,) = read(lines)
    assert report.victim is not None
    assert (report.victim.pid, report.group, report.cgroup, report.task_cgroup) == (
        10, "/g", "/g", "/g/x",
    )  # fmt: skip
    assert [(o.pid, o.again) for o in report.also_killed] == [(10, True), (11, False)]
    assert report.kill_lines == 1 + len(report.also_killed)
    assert report.reaped_left == 4096


def _killed(seq: int, usec: int, pid: int, comm: str) -> str:
    return (
        f"3,{seq},{usec},-;Memory cgroup out of memory: Killed process {pid} ({comm}) "
        "total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB, UID:5 pgtables:4kB "
        "oom_score_adj:0"
    )


def test_groups_of_a_storm_without_dumps_are_told_apart() -> None:
    group = "6,{},{},-;Tasks in /{} are going to be killed due to memory.oom.group set"
    reports = read(
        [
            _killed(1, 1, 10, "a"), group.format(2, 2, "g"), _killed(3, 3, 11, "b"),
            _killed(4, 4, 20, "c"), group.format(5, 5, "h"), _killed(6, 6, 21, "d"),
            group.format(7, 5, "h"),
        ]
    )  # fmt: skip
    assert [(r.group, [pid for pid, _ in dead([r])]) for r in reports] == [
        ("/g", [10, 11]), ("/h", [20, 21]),
    ]  # fmt: skip
    assert read([group.format(1, 1, "g"), _killed(3, 3, 11, "b")])[0].group == "/g"


def test_bare_kill_lines_are_one_report_each() -> None:
    reports = read([_killed(1, 1, 10, "a"), _killed(2, 2, 11, "b")])
    assert [dead([report]) for report in reports] == [[(10, "a")], [(11, "b")]]
    assert reports[0].scope == "memcg"
    assert "cgroup" in reports[0].missing


def test_another_cpu_may_split_the_summary() -> None:
    (report,) = read(
        [
            "6,1,10,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/",
            "6,2,11,-;something else",
            "6,3,12,c;,mems_allowed=0,oom_memcg=/a",
            "6,4,13,-;,task_memcg=/a,task=a,pid=10,uid=5",
            _killed(5, 14, 10, "a"),
        ]
    )
    assert (report.cgroup, report.task_cgroup) == ("/a", "/a")
    assert report.selected == (10, "a", None)


def test_nothing_of_an_allocation_failure_is_a_report() -> None:
    lines = [
        "4,1,10,-;python3: page allocation failure: order:4, mode:0x40cc0(GFP_KERNEL|__GFP_COMP)",
        "4,2,10,-;Mem-Info:",
        "4,3,10,-;active_anon:1 inactive_anon:2 isolated_anon:0",
        "4,4,10,-;Node 0 DMA free:7788kB min:64kB low:80kB high:96kB",
        "4,5,10,-;1000 pages RAM",
    ]
    assert read(lines) == []
    head = "4,0,9,-;a invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0"
    (report,) = read([head, *lines])
    assert report.total_pages is None


def test_uninteresting_lines_are_passed_over() -> None:
    assert not interesting("[    0.000000] Linux version 6.1.0 (gcc) #1 SMP")
    assert not interesting("audit: type=1400 audit(1): apparmor")
    assembler = Assembler()
    read(["[    0.000000] OOM killer enabled.", "java.lang.OutOfMemoryError: heap"], assembler)
    assert assembler.number == 2


@pytest.mark.parametrize("file", sorted(KMSG.glob("*.kmsg")), ids=lambda file: file.stem)
def test_a_stream_reads_what_an_assembler_reads(file: Path) -> None:
    """It comes to the same that it begins late, whatever comes before the first report."""
    lines = [f"6,{i},{i}000,-;usb 1-1: new device number {i}" for i in range(5)]
    for start in (0, 3, 40):
        said = [*lines, *records(file.stem)[start:], *lines]
        stream, found = Stream(), []
        assembler, known = Assembler(), []
        for at, line in enumerate(said):
            found += stream.feed(KernelLine(1000.0 + at / 100, None, line))
            known += assembler.feed(KernelLine(1000.0 + at / 100, None, line))
            assert stream.idle == assembler.idle
        assert stream.forged() == assembler.forged()
        found += stream.tick(2000.0, None)
        assert found == known + assembler.tick(2000.0, None)
        assert found or start


def test_a_stream_begins_with_text_that_is_no_record() -> None:
    stream = Stream()
    assert stream.feed(KernelLine(1.0, None, "6,1,1,-;usb 1-1: new device")) == []
    assert (stream.idle, stream.flush(), stream.settle(), stream.forged()) == (True, [], [], [])
    text = text_of("memcg-plain")
    out = [report for line in text for report in stream.feed(KernelLine(1.0, None, line))]
    (report,) = out + stream.flush()
    assert report.lines[0] > 1  # the line before it counts


def test_containers_of_paths() -> None:
    long = "6c6fcab8562fd3150854986b78552c732f234fd405b624207b8843528a145e70"
    pod = "pod62015ce8-a46f-4b0e-a5a1-3082235c62dd"
    for path in (
        f"/docker/{long}",
        f"/system.slice/docker-{long}.scope",
        f"/kubepods/burstable/{pod}/{long}",
        f"/kubepods.slice/kubepods-podx.slice/cri-containerd-{long}.scope/init",
        f"/machine.slice/libpod-{long}.scope",
    ):
        assert cgroup.container(path) == long[:12], path
    assert cgroup.container("/lxc.payload.web/init.scope") == "web"
    assert cgroup.container("/lxc/101") == "101"
    assert cgroup.container("/system.slice/ssh.service") is None
    assert cgroup.container(None) is None

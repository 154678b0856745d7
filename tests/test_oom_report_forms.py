"""The forms of older and other kernels, line by line; and that no line at all can do harm."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog import words
from watchdog.facts import KernelLine
from watchdog.judge import account
from watchdog.oom_report import kill, limits, lines, tasks
from watchdog.oom_report.assemble import Assembler, Report
from watchdog.oom_report.mem_info import MemInfo

MIB = 1 << 20


def read(text: str, assembler: Assembler | None = None) -> list[Report]:
    assembler = assembler or Assembler()
    out: list[Report] = []
    for line in text.strip("\n").split("\n"):
        out += assembler.feed(KernelLine(0.0, None, line))
    return out + assembler.flush()


# -- kill lines -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Killed process 7 (a)", (7, "a", None, None, None, None)),
        ("Killed process 7, UID 602, (java) total-vm:8kB, anon-rss:4kB, file-rss:2kB",
         (7, "java", 602, None, 8192, 4096)),
        ("Killed process 7 (node /opt/p), UID 80, total-vm:8kB, anon-rss:4kB, file-rss:0kB",
         (7, "node /opt/p", 80, None, 8192, 4096)),
        ("Out of memory: Killed process 7 ((sd-pam)) total-vm:8kB, anon-rss:0kB, UID:5 pgtables:",
         (7, "(sd-pam)", 5, "global", 8192, 0)),
        ("Memory cgroup out of memory: Killed process 7 (a) b) total-vm:8kB, anon-rss:4kB",
         (7, "a) b", None, "memcg", 8192, 4096)),
        ("Out of memory (oom_kill_allocating_task): Killed process 7 (a) total-vm:8kB, anon-rss:4",
         (7, "a", None, "global", 8192, None)),
        ("Killed process 7 () total-vm:8kB, anon-rss:4kB", (7, "", None, None, 8192, 4096)),
        ("Killed process 7 (a), UID 5, total-vm:80801", (7, "a", 5, None, None, None)),
        ("Killed process 7 (no end", (7, None, None, None, None, None)),
        ("Out of memory: Killed process 7, UID 48, (httpd).",
         (7, "httpd", 48, "global", None, None)),
        ("Out of Memory: Killed process 7 (java).", (7, "java", None, "global", None, None)),
        ("Out of memory in UB 1204: OOM killed process 7 (php x) score 0 vm:8kB, rss:4kB, swap:0kB",
         (7, "php x", None, "memcg", 8192, None)),
        ("Out of memory: OOM killed process 7 (a) score 9 vm:8kB, rss:4kB, swap:0kB",
         (7, "a", None, "global", 8192, None)),
    ],
)  # fmt: skip
def test_kill_lines(text: str, want: tuple[object, ...]) -> None:
    found = kill.kill(text, False)
    assert found is not None
    assert (found.pid, found.comm, found.uid, found.scope, found.total_vm, found.anon) == want


@pytest.mark.parametrize(
    "text",
    [
        "Killed process 7 (a name that is much too long for the kernel) total-vm:8kB",
        "xKilled process 7 (a) total-vm:8kB, anon-rss:4kB",
        "Killed process seven (a)", "Killed process 7", "",
    ],
)  # fmt: skip
def test_no_kill_lines(text: str) -> None:
    assert kill.kill(text, False) is None
    assert kill.kill_score(kill.kill(text, True)) == -1


comms = st.binary(min_size=0, max_size=15).map(lambda b: b.replace(b"\0", b""))
tricky = st.sampled_from(
    [b") total-vm:9kB", b"), UID 1, total", b",task=x,pid=1", b"(x", b"\n\n\n", b" ", b"a b:c",
     b"\\x41", b",oom_memcg=/y", b"\xc3", b"a invoked oom", b"reaped process"]
)  # fmt: skip


@given(comms | tricky, st.integers(1, 4_000_000), st.integers(0, 1 << 40))
def test_any_comm_is_read_back_from_a_raw_record(raw: bytes, pid: int, vm: int) -> None:
    comm = raw.decode("utf-8", "surrogateescape")
    text = (
        f"Memory cgroup out of memory: Killed process {pid} ({comm}) total-vm:{vm}kB, anon-rss:1kB,"
        " file-rss:2kB, shmem-rss:3kB, UID:4 pgtables:5kB oom_score_adj:-6"
    )
    line = lines.read(f"3,1,2,-;{lines.escape(text)}")
    assert line.text == text
    found = kill.kill(line.text, line.exact)
    assert found == (
        pid, words.safe(comm), 4, "memcg", vm * 1024, 1024, 2048, 3072, 5120, -6, False,
    )  # fmt: skip
    head = lines.read("4,1,2,-;" + lines.escape(comm) + " invoked oom-killer: gfp_mask=0x0(), x")
    asked = kill.head(head.text, True)
    assert asked is not None
    assert asked.comm == words.safe(comm)
    assert asked.gfp_flags == ""


names = st.text(st.sampled_from("ab,/=.x-"), max_size=12) | st.sampled_from(
    ["a,task=x,pid=1", "b,task_memcg=/c", "c,oom_memcg=/d,task_memcg=/d", "x,uid=1"]
)


@given(comms | tricky, names, names)
def test_the_cgroup_is_read_back_when_the_statistics_name_it(
    raw: bytes, limit: str, below: str
) -> None:
    comm = raw.decode("utf-8", "surrogateescape")
    owner = "/" + limit
    task = owner.rstrip("/") + "/" + below if below else owner
    text = (
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0-1,3,"
        f"oom_memcg={owner},task_memcg={task},task={comm},pid=5,uid=6"
    )
    found = limits.summary(text, words.safe(comm), owner)
    assert found is not None
    assert (found.oom_memcg, found.task_memcg, found.pid, found.uid) == (owner, task, 5, 6)
    assert found.comm == words.safe(comm)
    assert not found.is_global


def test_summaries_of_many_configurations() -> None:
    found = limits.summary(
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),task=cc1plus,pid=1,uid=2", None, None
    )
    assert found is not None
    assert (found.oom_memcg, found.task_memcg, found.comm, found.is_global) == (
        None, None, "cc1plus", False,
    )  # fmt: skip
    found = limits.summary(
        "oom-kill:constraint=CONSTRAINT_MEMORY_POLICY,nodemask=0-1,3,cpuset=a,mems_allowed=0-1,"
        "global_oom,task_memcg=/x,task=a,b,pid=1,uid=2", None, None,
    )  # fmt: skip
    assert found is not None
    assert (found.nodemask, found.cpuset, found.task_memcg, found.comm, found.is_global) == (
        "0-1,3", "a", "/x", "a,b", True,
    )  # fmt: skip
    cut = limits.summary(
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/a", "a", None
    )
    assert cut is not None
    # of a value at which the line was cut off perhaps only a part is there
    assert (cut.oom_memcg, cut.task_memcg, cut.pid, cut.nodemask) == (None, None, None, None)
    odd = limits.summary(
        "oom-kill:constraint=CONSTRAINT_X,oom_memcg=/a,task_memcg=/b,pid=1,uid=2", "a", "/c"
    )
    assert odd is not None
    assert (odd.oom_memcg, odd.task_memcg, odd.comm) == ("/a", "/b", None)
    assert limits.summary("something else", None, None) is None


def test_headers_of_saved_text() -> None:
    found = kill.head(
        "garbage] more: tmux: server invoked oom-killer: gfp_mask=0x1, order=2", False
    )
    assert found is not None
    assert (found.comm, found.order, found.gfp_flags, found.nodemask) == ("server", 2, None, None)
    found = kill.head("what is this a_name_of_twenty_chars invoked oom-killer: gfp_mask=0x1", False)
    assert found is not None
    assert found.comm == "a_name_of_twenty_chars"
    assert kill.head("x invoked oom-killer: nonsense", False) is None
    assert kill.head("x asked", False) is None
    found = kill.head("x invoked oom-killer: gfp_mask=0x1(A|B), nodemask=0-1, order=0, ", True)
    assert found is not None
    assert (found.nodemask, found.gfp_flags) == ("0-1", "A|B")


# -- whole reports of other kernels ---------------------------------------------------------------

EL6 = """
[1.000000] a invoked oom-killer: gfp_mask=0x201da, order=0, oom_adj=0, oom_score_adj=0
[1.000001] a cpuset=/ mems_allowed=0
[1.000002] Pid: 9, comm: a Not tainted 2.6.32-642.el6.x86_64 #1
[1.000003] Mem-Info:
[1.000004] active_anon:100 inactive_anon:20 isolated_anon:0
[1.000004]  active_file:30 inactive_file:10 isolated_file:0
[1.000004]  unevictable:0 dirty:0 writeback:0 unstable:0
[1.000004]  free:50 slab_reclaimable:5 slab_unreclaimable:6
[1.000004]  mapped:1 shmem:10 pagetables:7 bounce:0
[1.000005] Node 0 DMA free:200kB min:64kB low:80kB high:96kB kernel_stack:8kB
[1.000006] lowmem_reserve[]: 0 0 0 0
[1.000007] Node 0 DMA: 5*4kB 17*8kB 0*16kB = 200kB
[1.000008] 120 total pagecache pages
[1.000009] Free swap  = 4kB
[1.000010] Total swap = 8kB
[1.000011] 300 pages RAM
[1.000012] 10 pages reserved
[1.000013] [ pid ]   uid  tgid total_vm      rss cpu oom_adj oom_score_adj name
[1.000014] [    9]     0     9      100       90   0       0             0 a
[1.000015] Out of memory: Kill process 9 (a) score 90 or sacrifice child
[1.000016] Killed process 10, UID 0, (b) total-vm:400kB, anon-rss:360kB, file-rss:4kB
"""


def test_a_report_of_2_6_32() -> None:
    (report,) = read(EL6)
    assert report.victim is not None
    assert (report.victim.pid, report.victim.comm, report.victim.uid) == (10, "b", 0)
    assert report.selected == (9, "a", 90)
    assert report.scope == "global"
    assert report.page_size == 4096
    memory = account.of_report(report)
    assert memory is not None
    assert account.body(memory) == {
        "total_bytes": 290 * 4096,
        "free_bytes": 50 * 4096,
        "slab_unreclaimable_bytes": 6 * 4096, "slab_reclaimable_bytes": 5 * 4096,
        "pagetables_bytes": 7 * 4096, "bounce_bytes": 0, "unevictable_bytes": 0,
        "shmem_bytes": 10 * 4096, "anon_bytes": 110 * 4096, "file_bytes": 40 * 4096,
        "kernel_stack_bytes": 8192, "unaccounted_bytes": 60 * 4096,
    }  # fmt: skip
    assert (report.swap_total, report.swap_free) == (8192, 4096)
    assert report.total_pages == 292
    assert report.zones[0].blocks == {4096: 5, 8192: 17, 16384: 0}
    assert report.zones[0].free == 200 * 1024
    assert report.kernel_version == "2.6.32-642.el6.x86_64"
    assert report.complete


def test_mempolicy_and_unknown_scope_of_old_kernels() -> None:
    (report,) = read(
        "No available memory (MPOL_BIND): kill process 9 (a) score 9 or a child\n"
        "Killed process 9 (a)"
    )
    assert report.scope == "mempolicy"
    (report,) = read("Killed process 9 (a) total-vm:4kB, anon-rss:4kB, file-rss:4kB")
    assert report.scope is None
    assert "scope" in report.missing


V1 = """
[2.000000] a invoked oom-killer: gfp_mask=0xd0, order=0, oom_score_adj=0
[2.000001]  [<ffffffff81>] mem_cgroup_oom_synchronize+0x1/0x2
[2.000002] Task in /g/a
[2.000003]  killed as a result of limit of /g
[2.000004]
[2.000005] memory: usage 100kB, limit 100kB, failcnt 7
[2.000006] memory+swap: usage 120kB, limit 120kB, failcnt 3
[2.000007] kmem: usage 4kB, limit 18014398509481983kB, failcnt 0
[2.000008] Memory cgroup stats for /g: cache:8KB rss:10KB rss_huge:0KB mapped_file:0KB
[2.000009] Memory cgroup stats for /g/a: cache:2KB rss:70KB rss_huge:0KB mapped_file:0KB
[2.000010] [ pid ]   uid  tgid total_vm      rss nr_ptes nr_pmds swapents oom_score_adj name
[2.000011] [   10]     0    10      100       20       3       2        5             0 a b
[2.000012] [   11]     0    11      100       20       3       2        5             0 c
[2.000013] Memory cgroup out of memory: Kill process 12 (a b) score 90 or sacrifice child
[2.000014] Killed process 10 (a b) total-vm:400kB, anon-rss:80kB, file-rss:0kB
[2.000015] Kill process 11 (c) sharing same memory
"""


def test_a_report_of_a_v1_cgroup() -> None:
    (report,) = read(V1)
    assert report.victim is not None
    assert (report.victim.comm, report.victim.uid, report.victim.swap) == ("a b", 0, 5 * 4096)
    assert (report.cgroup, report.task_cgroup, report.scope) == ("/g", "/g/a", "memcg")
    assert [other.pid for other in report.also_killed] == [11]
    assert report.also_killed[0].uid == 0
    memory = account.of_report(report)
    assert memory is not None
    assert account.body(memory) == {
        "total_bytes": 102400, "anon_bytes": 81920, "file_bytes": 10240, "kernel_bytes": 4096,
        "unaccounted_bytes": 6144,
    }  # fmt: skip
    assert report.total_pages == 30
    assert report.rows[0].pagetables == 5
    assert not report.pagetables_are_bytes


def test_a_limit_reached_without_a_victim_yet() -> None:
    (report,) = read(
        "Memory limit reached of cgroup /g\nKilled process 10 (a) total-vm:4kB, anon-rss:1kB"
    )
    assert (report.cgroup, report.scope) == ("/g", "memcg")


@pytest.mark.parametrize(
    ("text", "words_of_it"),
    [
        ("Out of memory: system-wide panic_on_oom is enabled", "panic_on_oom"),
        ("Out of memory: compulsory panic_on_oom is enabled", "compulsory"),
        ("System is deadlocked on memory", "deadlocked"),
        ("out of memory. panic_on_oom is selected", "panic_on_oom"),
    ],
)
def test_panics(text: str, words_of_it: str) -> None:
    (report,) = read(
        EL6.partition("[1.000015]")[0] + f"[1.100000] Kernel panic - not syncing: {text}"
    )
    assert report.outcome == "panic"
    assert words_of_it in (report.panic or "")
    assert report.victim is None
    assert "kill line" not in report.missing
    assert read(f"Kernel panic - not syncing: {text}")[0].outcome == "panic"


def test_nobody_to_kill() -> None:
    (report,) = read(EL6.partition("[1.000015]")[0] + "Out of memory and no killable processes...")
    assert report.outcome == "no-victim"
    (report,) = read(
        "[1.000000] Out of memory and no killable processes...\n"
        "[1.100000] Kernel panic - not syncing: System is deadlocked on memory"
    )
    assert report.outcome == "panic"


def test_a_panic_of_another_kind_is_no_report() -> None:
    assert read("[1.000000] Kernel panic - not syncing: corrupted stack end detected") == []


def test_chosen_but_not_seen_to_die() -> None:
    (report,) = read("Out of memory: Kill process 9 (a) score 90 or sacrifice child")
    assert report.outcome == "selected"
    assert report.victim is None
    assert report.selected == (9, "a", 90)


def test_sysrq() -> None:
    (report,) = read(
        "sysrq: Manual OOM execution\n"
        "kworker/0:1 invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=-1, oom_score_adj=0\n"
        "Out of memory: Killed process 9 (a) total-vm:4kB, anon-rss:1kB, file-rss:0kB"
    )
    assert report.manual
    (report,) = read(
        "a invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n"
        " moom_callback+0x7a/0xb0\n RIP: 0033:0x7f89\n"
        "Out of memory: Killed process 9 (a) total-vm:4kB, anon-rss:1kB, file-rss:0kB"
    )
    assert report.manual
    assert report.page_size == 4096


def test_the_reaper_proves_a_death_whose_line_was_filtered_away() -> None:
    text = EL6.partition("[1.000015]")[0].strip()
    reaper = "oom_reaper: reaped process {} (x), now anon-rss:0kB, file-rss:0kB, shmem-rss:8kB"
    (report,) = read(f"{text}\n[1.100000] {reaper.format(9)}")
    assert report.victim is not None
    assert (report.victim.pid, report.victim.witness, report.reaped_left) == (9, "oom_reaper", 8192)
    assert "kill line" in report.missing
    (report,) = read(f"{text}\n[1.100000] {reaper.format(77)}")
    assert report.victim is None
    assert read(reaper.format(9)) == []


KERNEL_MEMORY = """
[    1.000001] a invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
[    1.000002] CPU: 1 PID: 10 Comm: a Not tainted 6.12.1 #1
[    1.000002]  oom_kill_process+0x1/0x2
[    1.000002]  out_of_memory+0x1/0x2
[    1.000002]  @FRAME
[    1.000003] Memory cgroup min protection 8kB -- low protection 16kB
[    1.000003] Mem-Info:
[    1.000003] active_anon:1 inactive_anon:2 isolated_anon:0
[    1.000004] Memory allocations (profiling is currently turned on):
[    1.000004]     1.50 GiB   262144 mm/slub.c:2319 func:alloc_slab_page
[    1.000004]     200 KiB       12 drivers/x/y.c:7 [leaky] func:leaky_alloc
[    1.000004]        512 B        1 mm/z.c:9 func:z
[    1.000005] Unreclaimable slab info:
[    1.000005] Name                      Used          Total
[    1.000005] kmalloc-64            524288KB     524300KB
[    1.000005] scsi_sense_cache          6KB          8KB
[    1.000006] Tasks state (memory values in pages):
[    1.000006] [  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
[    1.000006] [     10]     0    10      100       20     4096        0             0 a
[    1.000007] Out of memory: Killed process 10 (a) total-vm:400kB, anon-rss:80kB, file-rss:8kB, \
shmem-rss:0kB, UID:0 pgtables:4kB oom_score_adj:0
[    1.000008] oom killer 10 (a) has mm pinned by 1 (systemd)
[    1.000009] oom_reaper: unable to reap pid:10 (a)
[    1.000009] oom_reaper: reaped process 10 (a), now anon-rss:20kB, file-rss:4kB, shmem-rss:0kB
"""


def test_what_a_report_says_of_the_kernels_own_memory() -> None:
    (report,) = read(KERNEL_MEMORY)
    assert report.slabs == (
        ("kmalloc-64", 512 * MIB, 524300 << 10), ("scsi_sense_cache", 6144, 8192),
    )  # fmt: skip
    assert report.allocations == (
        (1536 * MIB, "mm/slub.c:2319 func:alloc_slab_page"),
        (200 << 10, "drivers/x/y.c:7 [leaky] func:leaky_alloc"), (512, "mm/z.c:9 func:z"),
    )  # fmt: skip
    assert report.protection == (8192, 16384)
    assert report.rows[0].name == "a"
    assert (report.freed_bytes, report.reaped_left) == (64 << 10, 24 << 10)
    assert report.stuck
    assert report.pinned_by == (1, "systemd")


def test_what_a_report_does_not_say_is_none() -> None:
    (report,) = read("Out of memory: Killed process 9 (a) total-vm:4kB, anon-rss:1kB, file-rss:0kB")
    assert (report.slabs, report.allocations, report.protection) == ((), (), None)
    assert (report.path, report.freed_bytes, report.stuck, report.pinned_by) == (
        None, None, False, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("frame", "path"),
    [
        ("__alloc_pages_may_oom+0x1/0x2", "allocation"),
        ("pagefault_out_of_memory+0x1/0x2", "page fault"),
        ("mem_cgroup_out_of_memory+0x1/0x2", "cgroup charge"),
        ("moom_callback+0x1/0x2", "sysrq"),
    ],
)
def test_the_path_by_which_the_request_came(frame: str, path: str) -> None:
    later = "[    1.000002]  __alloc_pages_slowpath+0x1/0x2\n[    1.000003] Memory cgroup min"
    text = KERNEL_MEMORY.replace("@FRAME", frame)
    assert read(text)[0].path == path
    # a frame further out does not tell how the request came
    assert read(text.replace("[    1.000003] Memory cgroup min", later))[0].path == path


def test_the_path_without_a_trace() -> None:
    text = KERNEL_MEMORY.replace("@FRAME", "x+0x1/0x2")
    assert read(text)[0].path is None
    assert read(text.replace("0xcc0(GFP_KERNEL)", "0x0()"))[0].path == "page fault"
    assert read(text.replace("order=0", "order=-1"))[0].path == "sysrq"
    assert read(text.replace("Out of mem", "Memory cgroup out of mem"))[0].path == "cgroup charge"


V2 = """
4,1,10,-;a invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
4,2,11,-;CPU: 1 UID: 0 PID: 10 Comm: a Not tainted 6.1.0-13-amd64 #1
6,3,12,-;memory: usage 100kB, limit 100kB, failcnt 7
6,4,13,-;swap: usage 0kB, limit 40kB, failcnt 0
6,5,14,-;Memory cgroup stats for /g:
6,6,15,-;@STAT
6,7,16,-;Tasks state (memory values in pages):
6,8,17,-;[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
6,9,18,-;[     10]     0    10      100       20     4096        0             0 a
6,10,19,-;[     1x]     0    10      100       20     4096        0             0 a
6,11,20,-;[     12]     0    1x      100       20     4096        0             0 a
6,12,21,-;[     13]     0
6,13,22,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),oom_memcg=/g,@SUM
3,14,23,-;Memory cgroup out of memory: @KILL
"""
V2 = (
    V2.replace(
        "@STAT",
        "anon 40960\\x0afile 10240\\x0akernel_stack 4096\\x0apagetables 4096\\x0apercpu 0\\x0a"
        "sock 1024\\x0ashmem 2048\\x0aslab 8192\\x0azswap 512\\x0athp_fau",
    )
    .replace("@SUM", "task_memcg=/g,task=a,pid=10,uid=5")
    .replace("@KILL", "Killed process 10 (a) total-vm:400kB, anon-rss:80kB, file-rss:0kB")
)


def test_a_report_of_a_v2_cgroup_with_one_record_of_statistics() -> None:
    (report,) = read(V2)
    assert report.scope == "memcg"
    assert report.victim is not None
    assert report.victim.uid == 5
    memory = account.of_report(report)
    assert memory is not None
    assert account.body(memory) == {
        "total_bytes": 102400, "anon_bytes": 40960, "file_bytes": 8192, "shmem_bytes": 2048,
        "kernel_bytes": 16384, "sock_bytes": 1024, "zswap_bytes": 512, "unaccounted_bytes": 33280,
    }  # fmt: skip
    assert report.total_pages == 35
    assert report.tasks_count == 1
    assert report.unread == 2


def test_statistics_joined_by_a_paste() -> None:
    info = MemInfo()
    assert info.add("memory: usage 100kB, limit 9007199254740988kB, failcnt 7")
    assert info.add("Memory cgroup stats for /g: anon 40960 file 10240 kernel 4096 shmem 0")
    found = info.group()
    assert found is not None
    assert account.body(account.group(found)) == {
        "total_bytes": 102400, "anon_bytes": 40960, "file_bytes": 10240, "shmem_bytes": 0,
        "kernel_bytes": 4096, "unaccounted_bytes": 47104,
    }  # fmt: skip
    assert info.limits["memory"].limit is None
    assert info.stats_of == "/g"
    assert info.add("kmem: usage 8kB, limit 9007199254740988kB, failcnt 0")
    del info.stats["kernel"]
    found = info.group()
    assert found is not None
    assert account.group(found).get("kernel") == 8192
    info.stats = {"foo": 1}
    assert info.group() is None


def test_a_node_line_hugepages_and_fragments() -> None:
    info = MemInfo()
    for text in (
        "Node 0 active_anon:4kB kernel_stack:16kB shmem_thp: 0kB all_unreclaimable? no",
        "Node 1 active_anon:4kB kernel_stack:16kB all_unreclaimable? no",
        "Node 0 hugepages_total=3 hugepages_free=2 hugepages_surp=0 hugepages_size=2048kB",
        "Active_anon:10 active_file:1 inactive_anon:2",
        " inactive_file:1 unevictable:0 dirty:0",
        " free:11 slab:5 mapped:6 pagetables:2 bounce:0",
        "2000 pages RAM",
        "Node 0 DMA: 3*4kB (U) 1*8kB (M) 0*16kB = 20kB",
    ):
        assert info.add(text), text
    assert not info.add("Hardware name: x")
    found = info.machine(4096)
    assert found is not None
    assert found.kernel_stack == 32768
    assert found.hugepages == 6 * MIB
    assert info.huge_free == 4 * MIB
    assert info.smallest_missing(2, 4096)
    assert not info.smallest_missing(1, 4096)
    assert not info.smallest_missing(0, 4096)
    assert info.machine(None) is None
    info.nodes.clear()
    found = info.machine(4096)
    assert found is not None
    assert found.kernel_stack is None


def test_fragmentation_of_a_whole_report() -> None:
    text = EL6.replace("order=0", "order=3").replace("oom_adj=0, ", "")
    (report,) = read(text)
    assert report.fragmented is True


# -- wrapped text ---------------------------------------------------------------------------------


def test_a_mail_that_wrapped_its_lines() -> None:
    wrapped = """
[ 1.000001] cc1 invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL),
order=0, oom_score_adj=0
[ 1.000002] [  pid  ]   uid  tgid total_vm      rss pgtables_bytes
swapents oom_score_ad
j name
[ 1.000003] [   2025]  1000  2025     1795      450    61440
0             0 kben
ch
[ 1.000004]
oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/g,task_m
emcg=/g,task=kbench,pid=2025,uid=1000
[ 1.000005] Memory cgroup out of memory: Killed process 2025
(kbench) total-vm:7180kB, anon-rss:4kB, file-rss:1800kB, s
hmem-rss:0kB, UID:1000 pgtables:60kB oom_score_adj:0
[ 1.000006] oom_reaper: reaped process 2025 (kbench), now anon-rss:0kB,
file-rss:0kB, shmem-rss:0kB
"""
    (report,) = read(wrapped)
    assert report.invoker is not None
    assert report.invoker.order == 0
    victim = report.victim
    assert victim is not None
    assert (victim.pid, victim.comm, victim.shmem, victim.pagetables) == (2025, "kbench", 0, 61440)
    assert (report.cgroup, report.usec) == ("/g", 1000005)
    assert [(row.name, row.oom_score_adj) for row in report.rows] == [("kbench", 0)]
    assert report.reaped_left == 0


def test_wrapped_without_any_prefix() -> None:
    (report,) = read(
        "dnf invoked oom-killer: \ngfp_mask=0x1(A), order=0, oom_score_adj=0\n"
        "[ pid ]   uid  tgid total_vm      rss nr_ptes\nswapents oom_score_adj name\n"
        "[  995]     0   995      100       20        3\n       0             0 named\n"
        "Out of memory: Kill process 995\n(named) score 87 or sacrifice child\n"
        "Killed process 995 (named) total-vm:400kB,\nanon-rss:86516kB, file-rss:1288kB\n"
        "\nregards, somebody"
    )
    assert report.victim is not None
    assert report.victim.anon == 86516 * 1024
    assert report.rows[0].name == "named"
    assert report.selected == (995, "named", 87)


def test_quoted_printable() -> None:
    (report,) = read(
        "[    1.700000] Kernel panic - not syncing: Out of memory and no killable pr=\nocesses...\n"
        "[    1.700000]=20\n"
    )
    assert report.panic == "Out of memory and no killable processes..."


def test_an_unreadable_kill_line_is_counted_with_its_number() -> None:
    assembler = Assembler()
    assert read("nothing\nKilled process x (a) total-vm:1kB\nnothing", assembler) == []
    assert (assembler.unread, assembler.unread_at) == (1, [2])
    assembler = Assembler()
    assert (
        read("x\n[    1.000001] Killed process 1x (a) total-vm:1kB, anon-rss:2kB", assembler) == []
    )
    assert (assembler.unread, assembler.unread_at) == (1, [2])


# -- bounds ---------------------------------------------------------------------------------------


def test_a_table_keeps_the_largest_and_counts_all() -> None:
    table = tasks.Table()
    assert not table.begin("[ nothing ]")
    assert not table.add("[    1]     0     1      100       20")
    assert table.begin("[ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name")
    for pid in range(1, 3 * tasks.ROWS_MAX):
        assert table.add(f"[{pid:5}]     0 {pid}      100       {pid}     1        0       0 x")
    assert table.count == 3 * tasks.ROWS_MAX - 1
    assert len(table.rows) <= tasks.ROWS_MAX
    assert table.find(3 * tasks.ROWS_MAX - 1) is not None
    assert table.find(1) is None
    kept = sum(row.rss for row in table.rows)
    assert kept + table.dropped_rss == sum(range(1, 3 * tasks.ROWS_MAX))


def test_two_thousand_tasks_in_fifty_milliseconds() -> None:
    head, _, tail = V2.partition("6,9,18")
    rows = "\n".join(
        f"6,9,18,-;[{n:7}]     0 {n:5}      100       20     4096        0             0 task {n}"
        for n in range(10, 2010)
    )
    text = f"{head}{rows}\n6,9,18{tail}".strip().split("\n")
    best = 60.0
    for _ in range(3):
        assembler = Assembler()
        start = time.perf_counter()
        for line in text:
            assembler.feed(KernelLine(0.0, None, line))
        (report,) = assembler.flush()
        best = min(best, time.perf_counter() - start)
        assert report.tasks_count == 2001
    assert best < 5  # quadratic would be minutes; the aim on an idle machine is 0.05


PIECES = [
    "Killed process 7 (a) total-vm:8kB, anon-rss:4kB", "Killed process 7", " (", ")", "a",
    " invoked oom-killer: gfp_mask=0x1(A), order=0, oom_score_adj=0", "oom-kill:constraint=",
    "CONSTRAINT_MEMCG", ",nodemask=(null)", ",oom_memcg=/a", ",task_memcg=/a", ",task=a",
    ",pid=7,uid=8", "Task in /a killed as a result of limit of /b", "Task in /a",
    "memory: usage 1kB, limit 2kB, failcnt 3", "Memory cgroup stats for /a:", "anon 5",
    "[ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name",
    "[    7]     0     7      100       20     1        0       0 x", "\n", "\\x0a", " ", "=",
    "Tasks in /a are going to be killed due to memory.oom.group set", "6,1,2,-;", "12,1,2,-;",
    "[    1.000001] ", "[ T12] ", "<4>", "> ", "Nov 23 05:31:08 host kernel: ", "kernel: ",
    "oom_reaper: reaped process 7 (a), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB",
    "Out of memory: Kill process 7 (a) score 9 or sacrifice child", "Kernel panic - not syncing: ",
    "Out of memory and no killable processes...", "oom_kill_process: 9 callbacks suppressed",
    "Kill process 8 (b) sharing same memory", "Mem-Info:", "active_anon:1 inactive_anon:2",
    "Node 0 DMA free:1kB min:2kB", "Node 0 DMA: 1*4kB = 4kB", "9 pages RAM", "Total swap = 0kB",
    "CPU: 1 PID: 7 Comm: a Not tainted 6.1.0 #1", '{"MESSAGE":"', '"}', "\x1b[31m", "\udcff", "é",
    "Memory limit reached of cgroup /a", "sysrq: Manual OOM execution", ",", "#012", "\t",
]  # fmt: skip
line_of_pieces = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=6).map("".join)


@settings(max_examples=400, deadline=None)
@given(st.lists(line_of_pieces, max_size=12))
def test_no_line_does_harm(made: list[str]) -> None:
    assembler = Assembler()
    out: list[Report] = []
    for number, line in enumerate(made):
        out += assembler.feed(KernelLine(float(number), None, line))
    out += assembler.flush()
    assert assembler.flush() == []
    for report in out:
        for text in (report.cgroup, report.task_cgroup, report.panic, report.group):
            assert text is None or text.isprintable()
        if report.victim is not None and report.victim.comm is not None:
            assert report.victim.comm.isprintable()


@settings(max_examples=200)
@given(st.text(max_size=300))
def test_arbitrary_text_is_read_without_an_exception(text: str) -> None:
    line = lines.read(text)
    assert lines.unescape(lines.escape(text.encode("utf-8", "replace").decode())) is not None
    kill.head(line.text, line.exact)


@pytest.mark.parametrize(
    "text",
    [
        "Killed process 1 (" + "(" * 50000, "Killed process 1 (" + ") total-vm:1kB" * 20000,
        "oom-kill:constraint=CONSTRAINT_MEMCG" + ",oom_memcg=/,task_memcg=/" * 8000,
        "Out of memory: " * 20000 + "Killed process 1 (a)", "[" + " " * 100000 + "pid ]",
        "[Mon " * 30000 + "invoked oom-killer", "> " * 60000 + "oom-kill:",
        "Task in " + "/a killed as a result of limit of " * 4000, "\\x5c" * 60000 + "oom-kill",
        "Memory cgroup stats for " + ": cache:" * 30000 + "oom-kill", "1*4kB " * 30000 + "oom-kill",
    ],
)  # fmt: skip
def test_no_line_takes_long(text: str) -> None:
    for prefix in ("", "6,1,2,-;", "[    1.000001] "):
        assembler = Assembler()
        start = time.perf_counter()
        assembler.feed(KernelLine(0.0, None, V2.strip().split("\n")[0]))
        assembler.feed(KernelLine(0.0, None, prefix + text))
        assembler.flush()
        assert time.perf_counter() - start < 5  # a regex that backtracks takes minutes


FOREIGN = [
    "systemd-oomd[512]: Killed /user.slice/a.service due to memory pressure for /user.slice",
    "earlyoom[611]: sending SIGTERM to process 1234 uid 1000 \"a\": badness 812, VmRSS 400 MiB",
    "systemd[1]: a.service: A process of this unit has been killed by the OOM killer.",
    "systemd[1]: a.service: Failed with result 'oom-kill'.",
    "java[77]: java.lang.OutOfMemoryError: Java heap space, will kill process now",
    "mysqld[99]: Out of memory (Needed 12345 bytes)", "app[3]: out of memory: killed as a result",
    "kernel: [ 1.0] OOM killer enabled.", "kernel: python3: page allocation failure: order:4",
    "kernel: Huh VM_FAULT_OOM leaked out to the #PF handler. Retrying PF",
    "kernel: lowmemorykiller: Killing 'a' (1234), adj 900,", "dockerd[5]: TaskOOM event",
    "kernel: Mem-Info:", "kernel: active_anon:1 inactive_anon:2 isolated_anon:0",
    "kernel: Call Trace:", "kernel:  mem_cgroup_out_of_memory+0x1/0x2", "kernel:  <TASK>",
    "kernel: Would have killed process 12 (a). But continuing instead.",
    "kernel: usb 1-1: Product: invoked oom-killer", "kernel: CPU: 1 PID: 7 Comm: a Not tainted 6.1",
    "kernel: oom_reaper: unable to reap pid:12 (a)", "kernel: audit: exe=\"/usr/bin/oom-kill\"",
    "kernel: [drm] process 7 (a) killed", "sshd[7]: pid ] uid ) memory: usage",
    "kernel: Kernel panic - not syncing: VFS: Unable to mount root fs",
    "kernel: oom_kill_process: 12 callbacks suppressed", "kernel: Node 0 DMA free:1kB min:1kB",
]  # fmt: skip


def test_ten_thousand_lines_of_others_are_no_report() -> None:
    assembler = Assembler()
    for number in range(10_000):
        line = f"Nov 23 05:31:08 host {FOREIGN[number * 7 % len(FOREIGN)]}"
        assert assembler.feed(KernelLine(0.0, None, line)) == []
    assert assembler.flush() == []
    assert assembler.forged() == []
    assert assembler.unread == 0


def test_an_empty_line_is_not_joined_to_the_next() -> None:
    (report,) = read(
        "dd invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n"
        " page_fault+0x45/0x50\n\n"
        "Task in /test/a killed as a result of limit of /test\n"
        "Killed process 3876 (dd) total-vm:8484kB, anon-rss:1052kB, file-rss:1720kB\n"
    )
    assert (report.cgroup, report.task_cgroup) == ("/test", "/test/a")


def test_the_part_of_a_report_that_begins_with_its_statistics() -> None:
    (report,) = read(
        "[Thu Dec  7 00:05:14 2017] Memory cgroup stats for /pod/x: cache:32KB rss:524188KB\n"
        "[Thu Dec  7 00:05:15 2017] [ pid ]   uid  tgid total_vm      rss nr_ptes swapents "
        "oom_score_adj name\n"
        "[Thu Dec  7 00:05:15 2017] [28438]     0 28438  5063909   119961    1661   136409  "
        "-998 java\n"
        "[Thu Dec  7 00:05:15 2017] Memory cgroup out of memory: Kill process 24572 (java) score 0 "
        "or sacrifice child\n"
        "[Thu Dec  7 00:05:15 2017] Killed process 28438 (java) total-vm:20255636kB, "
        "anon-rss:466160kB, file-rss:13684kB\n"
    )
    assert (report.scope, report.cgroup, report.tasks_count) == ("memcg", "/pod/x", 1)


def test_a_group_can_die_of_a_global_kill() -> None:
    (report,) = read(
        "Out of memory: Killed process 9 (a) total-vm:4kB, anon-rss:1kB, file-rss:0kB\n"
        "Tasks in /A1 are going to be killed due to memory.oom.group set\n"
        "Out of memory: Killed process 10 (b) total-vm:4kB, anon-rss:1kB, file-rss:0kB\n"
    )
    assert (report.scope, report.group, len(report.also_killed)) == ("global", "/A1", 1)


HEAD = "a invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n"
DUMP = HEAD + (
    "CPU: 1 PID: 10 Comm: a Not tainted 5.10.0 #1\nMem-Info:\n"
    "active_anon:1 inactive_anon:2 isolated_anon:0\n"
)


@pytest.mark.parametrize(
    "why",
    [
        "Out of memory: system-wide panic_on_oom is enabled",
        "Out of memory: compulsory panic_on_oom is enabled",
        "out of memory. panic_on_oom is selected",
        "out of memory. Compulsory panic_on_oom is selected.",
        "out of memory from page fault. panic_on_oom is selected.",
        "Out of memory and no killable processes...",
        "System is deadlocked on memory",
    ],
)
def test_every_panic_for_memory(why: str) -> None:
    for before in ("", HEAD, DUMP):
        (report,) = read(f"{before}Kernel panic - not syncing: {why}\n\nCPU: 1 PID: 10 Comm: a")
        assert (report.outcome, report.panic, report.victim) == ("panic", why, None)
        assert (report.invoker is not None) == bool(before)
    (report,) = read(
        f"[ 1.5] SysRq : Manual OOM execution\n[ 1.6] Kernel panic - not syncing: {why}"
    )
    assert report.outcome == "panic"


def test_who_was_spared_is_not_dead() -> None:
    for said in (
        "Out of memory: OOM victim 10 (a) is already exiting. Skip killing the task",
        "Would have killed process 10 (a). But continuing instead.",
    ):
        first, second = read(
            f"{DUMP}{said}\n{HEAD}"
            "Out of memory: Killed process 11 (b) total-vm:4kB, anon-rss:1kB, file-rss:0kB\n"
        )
        assert (first.outcome, first.victim) == ("cut-off", None)
        assert second.victim is not None
        assert second.victim.pid == 11
        assert read(said) == []


def test_a_request_by_hand_that_was_ignored() -> None:
    (report,) = read(
        "sysrq: Manual OOM execution\nsysrq: OOM request ignored. No task eligible\n"
        f"{DUMP}Out of memory: Killed process 11 (b) total-vm:4kB, anon-rss:1kB, file-rss:0kB\n"
    )
    assert not report.manual


@pytest.mark.parametrize(
    ("message", "scope"),
    [
        ("Out of memory", "global"), ("Memory cgroup out of memory", "memcg"),
        ("Out of memory (oom_kill_allocating_task)", "global"),
        ("No available memory (MPOL_BIND)", "mempolicy"),
    ],
)  # fmt: skip
def test_every_message_of_a_kill(message: str, scope: str) -> None:
    (report,) = read(f"{message}: Killed process 9 (a b) total-vm:4kB, anon-rss:1kB, file-rss:0kB")
    assert report.scope == scope
    assert report.victim is not None
    assert report.victim.comm == "a b"
    (report,) = read(f"{message}: Kill process 9 (a b) score 9 or sacrifice child")
    assert (report.scope, report.selected) == (scope, (9, "a b", 9))
    (report,) = read(f"{message}: kill process 9 (a b) score 9 or a child\nKilled process 10 (c)")
    assert (report.scope, report.selected) == (scope, (9, "a b", 9))
    assert report.victim is not None
    assert (report.victim.pid, report.victim.comm) == (10, "c")


@pytest.mark.parametrize(
    ("constraint", "scope"),
    [
        ("CONSTRAINT_NONE", "global"), ("CONSTRAINT_CPUSET", "cpuset"),
        ("CONSTRAINT_MEMORY_POLICY", "mempolicy"), ("CONSTRAINT_BPF", "global"),
    ],
)  # fmt: skip
def test_constraints_known_and_unknown(constraint: str, scope: str) -> None:
    (report,) = read(
        f"{DUMP}oom-kill:constraint={constraint},nodemask=0-1,3,cpuset=/x,mems_allowed=0-1,3,"
        "global_oom,task_memcg=/y,task=b,pid=11,uid=7\n"
        "Out of memory: Killed process 11 (b) total-vm:4kB, anon-rss:1kB, file-rss:0kB\n"
    )
    assert (report.scope, report.task_cgroup, report.nodemask) == (scope, "/y", "0-1,3")
    assert report.victim is not None
    assert report.victim.uid == 7


@pytest.mark.parametrize("fields", ["", ",cpuset=/,mems_allowed=0"])
@pytest.mark.parametrize("groups", ["", ",global_oom,task_memcg=/y"])
def test_configurations_without_cpusets_or_cgroups(fields: str, groups: str) -> None:
    (report,) = read(
        f"{DUMP}oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null){fields}{groups},task=b,pid=11,"
        "uid=7\nOut of memory: Killed process 11 (b) total-vm:4kB, anon-rss:1kB, file-rss:0kB\n"
    )
    assert report.scope == "global"
    assert report.task_cgroup == ("/y" if groups else None)
    assert report.cpuset == ("/" if fields else None)
    assert report.selected == (11, "b", None)


def test_a_thread_is_chosen_and_its_leader_dies() -> None:
    (report,) = read(
        f"{DUMP}oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),task=worker 3,pid=17032,uid=7\n"
        "Out of memory: Killed process 17017 (java) total-vm:4kB, anon-rss:1kB, file-rss:0kB\n"
    )
    assert report.selected == (17032, "worker 3", None)
    assert report.victim is not None
    assert (report.victim.pid, report.victim.comm, report.victim.uid) == (17017, "java", None)


def test_a_first_line_in_pieces() -> None:
    """4.9 to 4.14 print it bit by bit."""
    (report,) = read(
        "[  100.000001] syz invoked oom-killer: gfp_mask=0x14200ca(GFP_USER), nodemask=\n"
        "[  100.000002] (null)\n[  100.000003] ,  order=2, oom_score_adj=17\n"
        "[  100.000004] Killed process 8 (syz) total-vm:8kB, anon-rss:4kB, file-rss:0kB"
    )
    assert report.invoker is not None
    assert (report.invoker.comm, report.invoker.order, report.invoker.oom_score_adj) == (
        "syz",
        2,
        17,
    )


def test_the_first_lines_of_the_reaper() -> None:
    (report,) = read(
        f"{DUMP}[ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name\n"
        "[   11]     0    11     1234      222       5        0             0 b\n"
        "oom_reaper: reaped process :11 (b) anon-rss:0kB, file-rss:0kB, shmem-rss:0lB\n"
    )
    assert report.victim is not None
    assert (report.victim.pid, report.victim.comm) == (11, "b")

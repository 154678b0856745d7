"""Reports that are cut off, incomplete, mixed up or only quoted by somebody: nothing is made up."""

import re
from pathlib import Path

import pytest

from watchdog.facts import KernelLine
from watchdog.oom_report import lines
from watchdog.oom_report.assemble import Assembler, Report

FIXTURES = Path(__file__).parent / "fixtures"
ERAS = sorted(path.stem for path in (FIXTURES / "oom_eras").glob("*.txt"))


def text_of(name: str, usec: int = 2098_377_504, caller: str = "") -> list[str]:
    out = []
    for line in (FIXTURES / "oom_eras" / f"{name}.txt").read_text().splitlines():
        for piece in lines.unescape(line.partition(" ")[2]).split("\n"):
            stamp = f"[{usec // 1_000_000:5}.{usec % 1_000_000:06}]{caller} "
            out.append(stamp + piece)
        usec += 7
    return out


def read(text: list[str], assembler: Assembler | None = None) -> list[Report]:
    assembler = assembler or Assembler()
    out: list[Report] = []
    for line in text:
        out += assembler.feed(KernelLine(1000.0, None, line))
    return out + assembler.flush()


def dead(found: list[Report]) -> list[tuple[int, str | None]]:
    out = []
    for report in found:
        if report.victim:
            out.append((report.victim.pid, report.victim.comm))
        out += [(one.pid, one.comm) for one in report.also_killed if not one.again]
    return out


def hold(found: list[Report], text: list[str], truth: set[tuple[int, str | None]]) -> None:
    """What must be true of anything that is read: each pid stands in the text, and died in it."""
    numbers = set(re.findall(r"\d+", "\n".join(text)))
    for pid, comm in dead(found):
        assert str(pid) in numbers
        assert (pid, comm) in truth or (pid, None) in {(p, comm) for p, _ in truth}
    for report in found:
        if not report.kill_lines and report.panic is None and report.outcome != "no-victim":
            assert "kill line" in report.missing
        assert report.complete == (not report.missing)


@pytest.mark.parametrize("name", ERAS)
def test_cut_off_after_any_line(name: str) -> None:
    text = text_of(name)
    truth = set(dead(read(text)))
    for end in range(len(text)):
        found = read(text[:end])
        hold(found, text[:end], truth)
        assert len(found) <= 1
        found = read(text[end:])
        hold(found, text[end:], truth)


@pytest.mark.parametrize("name", ERAS)
def test_cut_off_in_the_middle_of_a_line(name: str) -> None:
    text = text_of(name)
    truth = set(dead(read(text)))
    pids = {pid for pid, _ in truth}
    for at in range(max(0, len(text) - 6), len(text)):
        for end in range(len(text[at])):
            cut = [*text[:at], text[at][:end]]
            found = read(cut)
            assert len(found) <= 1
            for pid, comm in dead(found):
                # of a number or a name in the middle of which the text ends nothing is told
                assert pid in pids, (cut[-1], pid)
                assert (pid, comm) in truth or comm is None, (cut[-1], comm)
            head = [text[at][end:], *text[at + 1 :]]
            for pid, _ in dead(read(head)):
                assert str(pid) in "\n".join(head)


@pytest.mark.parametrize("name", ERAS)
def test_any_line_may_be_lost(name: str) -> None:
    text = text_of(name)
    whole = read(text)
    truth = set(dead(whole))
    for gone in range(len(text)):
        left = text[:gone] + text[gone + 1 :]
        found = read(left)
        hold(found, left, truth)
        assert len(found) <= 3
        if "illed process" not in text[gone] and "sharing same" not in text[gone]:
            assert set(dead(found)) == truth, text[gone]


@pytest.mark.parametrize("name", ERAS)
def test_only_the_kill_lines_are_left(name: str) -> None:
    text = text_of(name)
    truth = set(dead(read(text)))
    found = read([line for line in text if "Killed process" in line])
    assert {pid for pid, _ in dead(found)} == {
        int(pid) for line in text for pid in re.findall(r"Killed process (\d+)", line)
    }
    assert set(dead(found)) <= truth
    for report in found:
        assert {"invoker", "memory", "tasks"} <= set(report.missing)


@pytest.mark.parametrize("name", ERAS)
def test_the_same_text_twice_with_other_prefixes_is_one_report(name: str) -> None:
    text = text_of(name)
    again = ["Nov 23 05:31:08 host kernel: " + line for line in text]
    bare = ["Nov 23 05:31:08 host kernel: " + line.partition("] ")[2] for line in text]
    want = read(text)
    assert dead(read(text + again)) == dead(want)
    assert dead(read(again + text)) == dead(want)
    assert dead(read(text + bare)) == dead(want)
    assert dead(read(bare + text)) == dead(want)
    mixed = [line for pair in zip(again, text, strict=True) for line in pair]
    assert dead(read(mixed)) == dead(want)


@pytest.mark.parametrize("first", ["el7", "6.19", "5.15", "4.19-group"])
@pytest.mark.parametrize("second", ["5.4", "6.12", "4.4"])
def test_two_cpus_at_the_same_time(first: str, second: str) -> None:
    """With caller ids the two reports are told apart, line by line."""
    one, two = text_of(first, caller="[ T1111]"), text_of(second, 2098_377_505, "[ T2222]")
    want = read(one) + read(two)
    mixed = [line for pair in zip(one, two, strict=False) for line in pair]
    size = min(len(one), len(two))
    mixed += one[size:] + two[size:]
    found = read(mixed)
    assert sorted(dead(found)) == sorted(dead(want))


@pytest.mark.parametrize("first", ["el7", "6.19", "5.15", "4.19-group"])
@pytest.mark.parametrize("second", ["5.4", "6.12", "4.4"])
def test_two_machines_in_one_log(first: str, second: str) -> None:
    """A log server writes the lines of several machines one among the other."""
    one = [f"Nov 23 05:31:08 node-1 kernel: {line}" for line in text_of(first)]
    two = [f"Nov 23 05:31:08 10.0.0.2 kernel: {line}" for line in text_of(second)]
    mixed = [line for pair in zip(one, two, strict=False) for line in pair]
    size = min(len(one), len(two))
    found = read(mixed + one[size:] + two[size:])
    want = {"node-1": read(one), "10.0.0.2": read(two)}
    assert {report.host for report in found} == set(want)
    for host, (other,) in want.items():
        (report,) = (one for one in found if one.host == host)
        assert dead([report]) == dead([other])
        assert (report.scope, report.cgroup, report.task_cgroup, report.tasks_count) == (
            other.scope, other.cgroup, other.task_cgroup, other.tasks_count
        )  # fmt: skip
        assert report.memory == other.memory


@pytest.mark.parametrize("name", ERAS)
def test_a_storm_of_one_kind(name: str) -> None:
    text = [line for n in range(20) for line in text_of(name, 2098_377_504 + n * 90_000)]
    once = dead(read(text_of(name)))
    assert dead(read(text)) == once * 20
    assert len(read(text)) == 20


@pytest.mark.parametrize("name", ERAS)
def test_other_lines_between(name: str) -> None:
    noise = [
        "[ 2098.377504] usb 1-1: new high-speed USB device number 7 using xhci_hcd",
        '[ 2098.377504] audit: type=1400 audit(1795411868.123:7): apparmor="DENIED" pid=77',
        "[ 2098.377504] systemd-journald[375]: Under memory pressure, flushing caches.",
        "[ 2098.377504] oom_reaper: reaped process 77 (other), now anon-rss:0kB, file-rss:0kB, "
        "shmem-rss:0kB",
        "[ 2098.377504]  ? __pfx_kthread+0x10/0x10",
    ]
    text = text_of(name)
    mixed = [line for at, one in enumerate(text) for line in (one, noise[at % len(noise)])]
    want, have = read(text), read(mixed)
    assert dead(have) == dead(want)
    assert [(r.scope, r.cgroup, r.task_cgroup) for r in have] == [
        (r.scope, r.cgroup, r.task_cgroup) for r in want
    ]


# -- what others write of kills -------------------------------------------------------------------

KILL = (
    "Out of memory: Killed process 4242 (victim) total-vm:8000kB, anon-rss:4000kB, file-rss:0kB, "
    "shmem-rss:0kB, UID:0 pgtables:40kB oom_score_adj:0"
)
HEAD = "victim invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0"
CHOSEN = "Memory cgroup out of memory: Kill process 4242 (victim) score 900 or sacrifice child"

QUOTES = [
    'Nov 23 05:31:08 host app[12]: user said "{}"',
    "Nov 23 05:31:08 host app[12]: {}",
    "Nov 23 05:31:08 host my-app: alert: {}",
    "2026-11-23T05:31:08.123456+01:00 host app[12]: {}",
    "2026-11-23 05:31:08,123 ERROR [main] worker - {}",
    "2026-11-23 05:31:08,123 - root - WARNING - {}",
    "2026-11-23 05:31:08.123  INFO 1 --- [main] c.e.App : {}",
    "2026/11/23 05:31:08 [error] 12#12: *7 upstream said: {}",
    '2026/11/23 05:31:08 [error] 12#12: *7 request: "GET /?q={} HTTP/1.1"',
    '10.0.0.1 - - [23/Nov/2026:05:31:08 +0000] "GET /?q={} HTTP/1.1" 200 12',
    "W1123 05:31:08.123456       1 watcher.go:12] {}",
    'time="2026-11-23T05:31:08Z" level=error msg="{}"',
    'ts=2026-11-23T05:31:08Z level=error msg="{}"',
    '{{"level":"error","msg":"{}"}}',
    '{{"timestamp":"2026-11-23T05:31:08Z","program":"app","message":"{}"}}',
    '{{"MESSAGE":"{}","_TRANSPORT":"stdout","SYSLOG_IDENTIFIER":"app"}}',
    "[2026-11-23 05:31:08] [ERROR] {}",
    "[2026-11-23T05:31:08Z INFO  app] {}",
    "INFO: told: {}",
    'type=USER_CMD msg=audit(1795411868.1:7): pid=7 uid=0 msg="{}"',
    "audit: type=1123 audit(1795411868.1:7): cmd={}",
    "user  :info  : [ 2098.377504] {}",
    "<14>[ 2098.377504] {}",
    "14,1,2098377504,-;{}",
    "[ 2098.377504] usb 1-1: Product: {}",
    "[ 2098.377504] EXT4-fs (sda1): mounted filesystem, label {}",
    '[ 2098.377504] audit: type=1400 comm="{}"',
    "[ 2098.377504] systemd[1]: app.service: {}",
    "Nov 23 05:31:08 host kernel: input: {} as /devices/x",
    'const TEXT = "{}";',
    "re.compile(r'{}')",
    'assert find("{}") == 1',
    "SELECT * FROM log WHERE text = '{}';",
]


@pytest.mark.parametrize("said", [KILL, HEAD, CHOSEN], ids=["kill", "head", "chosen"])
@pytest.mark.parametrize("quote", QUOTES)
def test_who_quotes_a_kill_has_killed_nobody(quote: str, said: str) -> None:
    found = read(["nothing", quote.format(said), "nothing"])
    assert dead(found) == []
    assert found == []


BOOT = [
    "Linux version 6.1.0-13-amd64 (debian-kernel@lists.debian.org) #1 SMP PREEMPT_DYNAMIC",
    "Command line: BOOT_IMAGE=/vmlinuz root=UUID=1-2-3 ro quiet cgroup_enable=memory swapaccount=1",
    "BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable",
    "Memory: 16316412K/16776620K available (14342K kernel code, 2332K rwdata, 9056K rodata)",
    "cgroup: Disabling memory control group subsystem", "Initializing cgroup subsys memory",
    "WARNING: CPU: {n} PID: {n} at mm/page_alloc.c:4567 __alloc_pages+0x1f2/0x330",
    "CPU: {n} PID: {n} Comm: kworker/{n}:1 Not tainted 6.1.0-13-amd64 #1", "Call Trace:", " <TASK>",
    " ? mem_cgroup_out_of_memory+0x131/0x150", " out_of_memory+0x1ed/0x500",
    " pagefault_out_of_memory+0x11/0x60", "RIP: 0033:0x7f2d3c1a2b3d", " </TASK>", "Mem-Info:",
    "active_anon:{n} inactive_anon:{n} isolated_anon:0", " active_file:{n} inactive_file:80",
    "Node 0 DMA free:15360kB min:64kB low:80kB high:96kB", "{n} pages RAM", "Free swap  = {n}kB",
    "kworker/u8:{n}: page allocation failure: order:4, mode:0x40cc0(GFP_KERNEL|__GFP_COMP)",
    "warn_alloc_show_mem: 12 callbacks suppressed", "oom_kill_process: {n} callbacks suppressed",
    "INFO: task khugepaged:{n} blocked for more than 120 seconds.",
    "SLUB: Unable to allocate memory on node -1, gfp=0xcc0(GFP_KERNEL)",
    "OOM killer disabled.", "OOM killer enabled.", "PM: suspend entry (deep)",
    "Huh VM_FAULT_OOM leaked out to the #PF handler. Retrying PF",
    "oom_reaper: reaped process {n} (a), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB",
    "oom_reaper: unable to reap pid:{n} (a)", "zram: Added device: zram{n}",
    "lowmemorykiller: Killing 'a' ({n}), adj 900, to free 1000kB on behalf of 'b' (7)",
    "traps: a[{n}] trap invalid opcode ip:1 sp:2 error:0 in a[1000+2000]",
    "a[{n}]: segfault at 0 ip 0000 sp 0000 error 4 in libc.so.6[7f00+1000]",
    "audit: type=1701 audit(1.2:{n}): auid=0 uid=0 gid=0 ses=1 pid={n} comm=\"oom-kill\" sig=9",
    "audit: type=1400 audit(1.2:{n}): apparmor=\"DENIED\" name=\"/oom-kill:constraint=\" pid={n}",
    "TCP: out of memory -- consider tuning tcp_mem",
    "neighbour: arp_cache: neighbor table overflow!",
    "virtio_balloon virtio{n}: Out of puff! Can't get 1 pages", "xen:balloon: Out of memory?",
    "amdgpu 0000:01:00.0: amdgpu: Not enough memory for command submission!",
    "[drm:amdgpu_cs_ioctl [amdgpu]] *ERROR* Process information: process a pid {n}",
    "nvidia: NVRM: Out of memory", "zswap: pool is full",
    "hugetlb: allocating {n} of page size 2 MiB failed.",
    "Killed", "process {n} killed", "killed process", "Task in trouble", "Tasks state", "score {n}",
]  # fmt: skip
PROGRAMS = [
    "java[{n}]: java.lang.OutOfMemoryError: Java heap space",
    "java[{n}]: # There is insufficient memory for the Java Runtime Environment to continue.",
    "mysqld[{n}]: {n} [ERROR] InnoDB: Fatal error: cannot allocate memory for the buffer pool",
    "mysqld[{n}]: Out of memory (Needed {n} bytes)", "mysqld[{n}]: /usr/sbin/mysqld: Out of memory",
    "ceph-osd[{n}]: osd.3 {n} heartbeat_check: no reply; tcmalloc: large alloc {n} bytes",
    "nginx[{n}]: {n}#{n}: *7 malloc({n}) failed (12: Cannot allocate memory)",
    "postgres[{n}]: ERROR:  out of memory",
    "postgres[{n}]: DETAIL:  Failed on request of size {n}.",
    "redis[{n}]: # Out Of Memory allocating {n} bytes!",
    "php[{n}]: PHP Fatal error:  Out of memory",
    "systemd[1]: a.service: A process of this unit has been killed by the OOM killer.",
    "systemd[1]: a.service: Main process exited, code=killed, status=9/KILL",
    "systemd[1]: a.service: Failed with result 'oom-kill'.",
    "systemd-oomd[{n}]: Killed /user.slice/a.service due to memory pressure for /user.slice",
    "earlyoom[{n}]: sending SIGKILL to process {n} uid 1000 \"a\": badness 900, VmRSS {n} MiB",
    "kubelet[{n}]: I1123 05:31:08.1 1 oom_watcher_linux.go:78] Got sys oom event: {n}",
    "containerd[{n}]: time=\"2026-11-23T05:31:08Z\" level=info msg=\"TaskOOM event {n}\"",
    "dockerd[{n}]: level=error msg=\"copy shim log\" error=\"invoked oom-killer: gfp_mask=0xcc0\"",
    "logger[{n}]: Memory cgroup out of memory: Killed process {n} (a) total-vm:8kB, anon-rss:4kB",
    "sudo: a : TTY=pts/0 ; PWD=/ ; COMMAND=/usr/bin/grep Killed process {n} (a) total-vm: /var/log",
    "CRON[{n}]: (root) CMD (dmesg | grep 'invoked oom-killer: ')",
    "sshd[{n}]: Failed password for oom-kill:constraint=CONSTRAINT_NONE,task=x,pid={n},uid=0",
]  # fmt: skip


@pytest.mark.parametrize("prefix", ["syslog", "dmesg", "iso", "journal"])
def test_ten_thousand_lines_of_another_log(prefix: str) -> None:
    stamp = {
        "syslog": "Nov 23 05:31:08 host ", "dmesg": "[ 2098.377504] ",
        "iso": "2026-11-23T05:31:08.123456+01:00 host ", "journal": "Nov 23 05:31:08.123456 host ",
    }[prefix]  # fmt: skip
    assembler = Assembler()
    for number in range(10_000):
        kernel = number % 3 != 0 or prefix == "dmesg"
        said = (BOOT if kernel else PROGRAMS)[number * 7 % len(BOOT if kernel else PROGRAMS)]
        said = said.replace("{n}", str(100 + number % 900)).replace("{{", "{").replace("}}", "}")
        lead = stamp + ("kernel: " if kernel and prefix != "dmesg" else "")
        assert assembler.feed(KernelLine(0.0, None, lead + said)) == [], said
    assert assembler.flush() == []
    assert assembler.unread == 0
    assert len(assembler.forged()) == (0 if prefix == "dmesg" else 64)


@pytest.mark.parametrize(
    "form",
    [
        "Node {n} Z{name} free:1kB min:2kB", "Node {n} Z{name}: 1*4kB = 4kB",
        "active_anon:1 x{name}:{n}", "Node 1 active_anon:4kB x{name}:{n}kB",
        "[{n:7}]     0     {n}      100       20        1        0             0 x{name}",
        "oom_reaper: reaped process {n} (x), now anon-rss:0kB, file-rss:4kB, shmem-rss:0kB",
        "x{name}   12KB   13KB", "Memory cgroup stats for /{name}: cache:1KB x{name}:2KB",
        "Kill process {n} (x) sharing same memory", "oom_reaper: unable to reap pid:{n} (x)",
    ],
)  # fmt: skip
def test_a_report_without_an_end_takes_no_memory_without_an_end(form: str) -> None:
    import tracemalloc

    assembler = Assembler()
    begin = [
        HEAD, "Mem-Info:", "active_anon:1 inactive_anon:2", "Unreclaimable slab info:",
        "[ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name",
    ]  # fmt: skip
    for line in begin[: 4 if "12KB" in form else 5]:
        assembler.feed(KernelLine(0.0, None, "[    1.000001] " + line))
    for n in range(16_000):
        if n == 13_000:  # everything that has a bound has reached it
            tracemalloc.start()
        name = "".join(chr(97 + n // 26**power % 26) for power in range(5))
        text = "[    1.000001] " + form.format(n=n, name=name)
        assembler.feed(KernelLine(0.0, None, text))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 600 << 10, "and grows no more"

"""Reading /proc and cgroups: made trees, and then this very machine."""

import errno
import os
import resource
import subprocess
import sys
import time

import psutil
import pytest

from watchdog.clock import JumpClock, RealClock
from watchdog.facts import Group, Host, Sweep, Who
from watchdog.sense import wide
from watchdog.sense.cgroups import Cgroups
from watchdog.sense.host import HostFiles
from watchdog.sense.processes import Processes
from watchdog.sense.senses import Senses
from watchdog.sense.wide import masked

PAGE = os.sysconf("SC_PAGE_SIZE")


class Tree:
    """A /proc tree of our own making."""

    def __init__(self, root):
        self.root = root

    def write(self, path, text):
        where = self.root / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(text if isinstance(text, bytes) else text.encode())

    def process(self, pid, comm=b"leaky", start=100, rss=1000, shared=100, flags=0, threads=1,
                cgroup="0::/system.slice/shop.service\n", state="S"):  # fmt: skip
        stat = b"%d (%s) %s 1 1 1 0 -1 %d 0 0 0 0 0 0 0 0 20 0 %d 0 %d 1000 50" % (
            pid, comm, state.encode(), flags, threads, start,
        )  # fmt: skip
        self.write(f"{pid}/stat", stat + b" 0" * 30 + b"\n")
        self.write(f"{pid}/statm", f"5000 {rss} {shared} 1 0 500 0\n")
        self.write(f"{pid}/cgroup", cgroup)
        self.write(
            f"{pid}/status",
            "Name:\tleaky\nUid:\t33\t33\t33\t33\nVmSwap:\t 8 kB\nRssShmem:\t 4 kB\n",
        )
        self.write(f"{pid}/oom_score_adj", "-17\n")

    def gone(self, pid):
        subprocess.run(["rm", "-r", str(self.root / str(pid))], check=True)


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def test_a_census_describes_who_is_new_and_skips_kernel_threads(tree):
    tree.process(7)
    tree.process(8, comm=b"a b)\n\xff", cgroup="0::/\n")
    tree.process(9, comm=b"kthreadd", flags=0x208040)
    processes = Processes(str(tree.root))
    sweep, told = processes.census(1.0, 2.0)
    assert sweep.census
    assert [row[:5] for row in sweep.rows] == [
        (7, 100, "leaky", 1000 * PAGE, 100 * PAGE),
        (8, 100, "a b)\\x0a\\xff", 1000 * PAGE, 100 * PAGE),
    ]
    assert sweep.rows[0][6] == "shop.service" and sweep.rows[1][6] is None
    assert [who.pid for who in told] == [7, 8]
    assert told[0].oom_score_adj == -17 and told[0].ppid == 1 and told[0].uid == 33
    assert processes.census(3.0, 4.0)[1] == []
    processes.close()


def test_who_was_seen_between_fork_and_exec_is_described_again_in_the_next_sweep(tree):
    processes = Processes(str(tree.root))
    tree.process(7, comm=b"9")  # systemd's executor, before it becomes the service
    _, told = processes.census(1.0, 2.0)
    assert [who.exe for who in told] == [None]
    tree.process(7, comm=b"shop")
    os.symlink("/usr/bin/shop", tree.root / "7/exe")
    sweep, told = processes.sweep(2.0, 3.0)
    assert [row[2] for row in sweep.rows] == ["shop"]
    assert [who.exe for who in told] == ["/usr/bin/shop"]
    assert processes.sweep(3.0, 4.0)[1] == []
    tree.process(8, comm=b"9")
    assert [who.pid for who in processes.sweep(8.0, 9.0)[1]] == [8]
    tree.process(8, comm=b"shop")
    assert [who.pid for who in processes.sweep(9.0, 10.0)[1]] == [8]
    processes.close()


def test_a_sweep_reads_the_hot_and_finds_newcomers(tree):
    tree.process(7)
    processes = Processes(str(tree.root))
    processes.census(1.0, 2.0)
    tree.write("7/statm", "5000 3000 100 1 0 500 0\n")
    tree.process(8)
    sweep, told = processes.sweep(2.0, 3.0)
    assert [(row[0], row[3]) for row in sweep.rows] == [(7, 3000 * PAGE)] and told == []
    sweep, told = processes.sweep(8.0, 9.0)
    assert [row[0] for row in sweep.rows] == [7, 8] and told[0].pid == 8
    assert not sweep.census
    processes.close()


def test_a_zombie_keeps_its_last_size_until_the_census(tree):
    tree.process(7)
    processes = Processes(str(tree.root))
    processes.census(1.0, 2.0)
    tree.write("7/statm", "0 0 0 0 0 0 0\n")
    assert processes.sweep(2.0, 3.0)[0].rows[0][3] == 1000 * PAGE
    tree.gone(7)
    assert processes.census(3.0, 4.0)[0].rows == ()
    assert not processes.hot and not processes.seen
    processes.close()


def test_a_process_whose_main_thread_has_exited_still_has_its_size(tree):
    tree.process(7, rss=0, shared=0, threads=2, state="Z")
    tree.write("7/task/7/statm", "0 0 0 0 0 0 0\n")
    tree.write("7/task/8/statm", "5000 4000 100 1 0 0 0\n")
    processes = Processes(str(tree.root))
    assert processes.census(1.0, 2.0)[0].rows[0][3] == 4000 * PAGE
    processes.close()


def test_a_reused_pid_is_told_as_somebody_new(tree):
    tree.process(7)
    processes = Processes(str(tree.root))
    processes.census(1.0, 2.0)
    tree.process(7, start=999)
    sweep, told = processes.census(3.0, 4.0)
    assert sweep.rows[0][1] == 999 and told[0].start == 999
    processes.close()


def test_a_new_name_is_told_again(tree):
    tree.process(7)
    processes = Processes(str(tree.root))
    processes.census(1.0, 2.0)
    tree.process(7, comm=b"other")
    assert len(processes.census(3.0, 4.0)[1]) == 1
    processes.close()


def test_the_large_have_their_swap_read(tree):
    tree.process(7, rss=20000)
    tree.process(8)
    processes = Processes(str(tree.root))
    rows = processes.census(1.0, 2.0)[0].rows
    assert (rows[0][5], rows[0][7]) == (8192, 4096)
    assert (rows[1][5], rows[1][7]) == (None, None)
    processes.swapping = True
    assert processes.census(3.0, 4.0)[0].rows[1][5] == 8192
    processes.close()


def test_the_growing_have_their_swap_read(tree):
    tree.process(7)
    processes = Processes(str(tree.root))
    assert processes.census(1.0, 2.0)[0].rows[0][5] is None
    tree.write("7/statm", f"5000 {1000 + (1 << 20) // PAGE} 100 1 0 500 0\n")
    assert processes.census(3.0, 4.0)[0].rows[0][5] == 8192
    processes.close()


def test_what_goes_to_swap_between_two_censuses_is_not_given_back(tree):
    tree.process(7, rss=20000)
    processes = Processes(str(tree.root))
    processes.census(1.0, 2.0)
    processes.swapping = True
    tree.write("7/statm", "5000 10000 100 1 0 500 0\n")
    tree.write("7/status", f"VmSwap:\t {10000 * PAGE // 1024} kB\nRssShmem:\t 4 kB\n")
    row = processes.sweep(2.0, 3.0)[0].rows[0]
    assert row[3] - row[4] + row[5] == 19900 * PAGE
    processes.close()


def test_the_hot_are_bounded_and_hold_the_largest(tree):
    for pid in range(10, 30):
        tree.process(pid, rss=pid * 10, shared=0)
    processes = Processes(str(tree.root), hot_max=4)
    processes.census(1.0, 2.0)
    assert len(processes.hot) == 4 and 29 in processes.hot
    before = len(os.listdir("/proc/self/fd"))
    for up in range(3, 200, 40):
        processes.census(float(up), float(up))
    assert sorted(processes.hot) == [26, 27, 28, 29]
    assert len(os.listdir("/proc/self/fd")) == before
    processes.close()


def test_a_newcomer_is_looked_at_first_and_followed_where_all_places_are_taken(tree, monkeypatch):
    for pid in range(10, 30):
        tree.process(pid, rss=pid * 10, shared=0)
    processes = Processes(str(tree.root), hot_max=8)
    for number in range(6):  # until nobody is new any more
        processes.census(1.0, 2.0 + 30 * number)
    assert sorted(processes.hot) == list(range(22, 30))
    before = len(os.listdir("/proc/self/fd"))
    read = []
    look, hot_row = Processes._look, Processes._hot_row
    monkeypatch.setattr(
        Processes, "_look", lambda self, pid, *a, **k: read.append(pid) or look(self, pid, *a, **k)
    )
    monkeypatch.setattr(
        Processes, "_hot_row", lambda self, pid, fd: read.append(pid) or hot_row(self, pid, fd)
    )
    for pid in range(50, 56):
        tree.process(pid, rss=pid - 45, shared=0)  # 55 holds the most of them
    sweep, _ = processes.sweep(1.0, 160.0)
    assert read[:6] == list(range(50, 56))
    assert [row[0] for row in sweep.rows] == [*range(24, 30), *range(50, 56)]
    assert sorted(processes.hot) == [*range(24, 30), 54, 55], "a quarter of all places"
    assert len(os.listdir("/proc/self/fd")) == before
    tree.write("55/statm", "5000 90000 0 1 0 500 0\n")
    sweep, _ = processes.sweep(1.0, 162.0)
    assert (55, 90000 * PAGE) in [(row[0], row[3]) for row in sweep.rows]
    processes.close()


def test_who_grows_gives_way_to_newcomers_after_who_does_not(tree):
    for pid in range(10, 14):
        tree.process(pid, rss=1000 * pid, shared=0)
    processes = Processes(str(tree.root), hot_max=4)
    for number in range(6):
        processes.census(1.0, 2.0 + 30 * number)
    tree.write("10/statm", f"5000 {10000 + (1 << 20) // PAGE} 0 1 0 500 0\n")
    processes.sweep(1.0, 153.0)
    tree.process(50, rss=1, shared=0)
    processes.sweep(1.0, 160.0)
    assert sorted(processes.hot) == [10, 12, 13, 50]
    processes.close()


def test_a_newcomer_with_the_number_of_who_was_followed_is_seen_in_the_same_sweep(
    tree, monkeypatch
):
    tree.process(7)
    processes = Processes(str(tree.root))
    processes.census(1.0, 2.0)
    tree.process(7, start=200)
    monkeypatch.setattr(Processes, "_hot_row", lambda *_: None)  # as ESRCH tells it of the former
    sweep, told = processes.sweep(8.0, 9.0)
    assert [row[:2] for row in sweep.rows] == [(7, 200)] and [who.start for who in told] == [200]
    processes.close()


@pytest.mark.parametrize("broken", ["stat", "statm", "cgroup"])
def test_a_process_that_vanishes_half_way_is_ordinary(tree, broken):
    tree.process(7)
    (tree.root / "7" / broken).unlink()
    Processes(str(tree.root)).census(1.0, 2.0)


def test_a_refused_read_is_counted(tree, monkeypatch):
    tree.process(7)
    processes = Processes(str(tree.root))

    def refuse(path, flags):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert processes.census(1.0, 2.0)[0].rows == ()
    assert processes.refused == 1


def test_this_machine_is_seen_with_ourselves_in_it():
    clock = RealClock()
    processes = Processes()
    sweep, told = processes.census(clock.wall(), clock.boottime())
    mine = {row[0]: row for row in sweep.rows}[os.getpid()]
    assert mine[3] > 5 << 20
    who = next(who for who in told if who.pid == os.getpid())
    assert who.uid == os.geteuid() and who.exe and "python" in who.exe
    processes.close()


def test_a_killed_process_leaves_the_sweep_and_its_successor_is_another():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    time.sleep(0.2)
    processes = Processes()
    processes.census(1.0, 2.0)
    assert child.pid in {row[0] for row in processes.sweep(1.0, 2.0)[0].rows}
    child.kill()
    child.wait()
    assert child.pid not in {row[0] for row in processes.sweep(1.0, 2.0)[0].rows}
    processes.close()


@pytest.mark.parametrize(
    ("cmdline", "shown"),
    [
        ("app --password=hunter2 x", "app --password=*** x"),
        ("app --db-passwd hunter2", "app --db-passwd ***"),
        ("API_KEY=abc app", "API_KEY=*** app"),
        ("plain \x1b[1m", "plain \\x1b[1m"),
        ("x" * 5000, "x" * 1024),
    ],
)
def test_secrets_in_a_command_line_are_masked(cmdline, shown):
    assert masked(cmdline) == shown


def test_the_wide_facts_are_those_that_psutil_tells():
    found, process = wide.read("/proc", os.getpid()), psutil.Process()
    assert found.exe == process.exe()
    assert found.uid == process.uids().effective
    assert found.cmdline == masked(" ".join(process.cmdline()))
    assert found.oom_score_adj is not None and found.build


def test_the_effective_user_counts_and_an_executable_that_was_replaced_keeps_its_path(tree):
    tree.process(7)
    tree.write("7/status", "Name:\tsu\nUid:\t1000\t0\t0\t0\nGid:\t5\t6\t7\t8\n")
    tree.write("7/cmdline", b"/usr/bin/shop\0--token=abc\0a b\0")
    os.symlink("/usr/bin/shop (deleted)", tree.root / "7/exe")
    found = wide.read(str(tree.root), 7)
    assert found == wide.Wide(
        exe="/usr/bin/shop", cmdline="/usr/bin/shop --token=*** a b", uid=0, oom_score_adj=-17,
        trusted=None, build=None,
    )  # fmt: skip
    assert wide.read(str(tree.root), 8) == wide.Wide(None, None, None, None, None, None)


@pytest.mark.parametrize(
    ("uid", "exe", "trusted"),
    [(0, "/bin/sh", True), (33, "/bin/sh", True), (1000, "/bin/sh", False),
     (100_000, "/bin/sh", False), (33, "/no/such/sshd", None), (1000, "/no/such/sshd", False)],
)  # fmt: skip
def test_only_root_and_system_accounts_are_trusted(tree, uid, exe, trusted):
    """A program of root bound over another path in somebody's own namespace is his all the same;
    whose program it is cannot be told where the file cannot be looked at."""
    tree.process(7)
    tree.write("7/status", f"Name:\tsshd\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
    (tree.root / "7/exe").unlink(missing_ok=True)
    os.symlink(exe, tree.root / "7/exe")
    assert wide.read(str(tree.root), 7).trusted is trusted


def test_the_host_of_a_made_tree(tree):
    tree.write(
        "meminfo", "MemTotal: 100 kB\nMemAvailable: 50 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n"
    )
    tree.write("pressure/memory", "some avg10=0 total=5\nfull avg10=0 total=3\n")
    tree.write("vmstat", "oom_kill 2\n")
    tree.write("stat", "cpu 1\nbtime 1700000000\n")
    tree.write("sys/kernel/random/boot_id", "abc\n")
    host = HostFiles(str(tree.root))
    assert host.read(1.0, 2.0) == Host(1.0, 2.0, "abc", 1700000000, 102400, 51200, 0, 0, 5, 3, 2)
    host.close()


def test_a_host_without_pressure_or_swap_answers_none(tree):
    tree.write("meminfo", "MemTotal: 100 kB\n")
    host = HostFiles(str(tree.root))
    assert host.read(1.0, 2.0) == Host(1.0, 2.0, mem_total=102400)
    host.close()


def test_a_host_tells_promises_shared_and_unowned_memory(tree):
    tree.write(
        "meminfo",
        "MemTotal: 100 kB\nMemFree: 10 kB\nActive(anon): 10 kB\nInactive(anon): 10 kB\n"
        "Active(file): 10 kB\nInactive(file): 10 kB\nUnevictable: 0 kB\nShmem: 4 kB\n"
        "SReclaimable: 3 kB\nSUnreclaim: 7 kB\nCommitLimit: 90 kB\nCommitted_AS: 80 kB\n",
    )
    tree.write("vmstat", "nr_zspages 1\n")
    tree.write("sys/vm/overcommit_memory", "2\n")
    tree.write("spl/kstat/zfs/arcstats", "9 1 0x01\ndata_size 4 2048\nmetadata_size 4 1024\n"
               "size 4 5000\nc_min 4 1000\n")  # fmt: skip
    host = HostFiles(str(tree.root))
    found = host.read(1.0, 2.0)
    assert (found.commit_limit, found.committed, found.overcommit) == (92160, 81920, 2)
    assert (found.shmem, found.slab) == (4096, 7168)
    assert found.kernel == (100 - 50 - 3 - 3) * 1024 - PAGE
    assert found.arc == 4000
    host.close()


def mounts(tree, *lines):
    tree.write("self/mountinfo", "\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("uid", "mode", "said", "found"),
    [
        (0, 0o755, {}, None),
        (0, 0o755, {"user.oomd_omit": b"1"}, "omit"),
        (0, 0o755, {"user.oomd_avoid": b"yes", "user.oomd_omit": b"0"}, "avoid"),
        (0, 0o755, {"user.oomd_avoid": b"1", "user.oomd_omit": b"true"}, "omit"),
        (1000, 0o755, {"user.oomd_omit": b"1"}, None),
        (0, 0o775, {"user.oomd_omit": b"1"}, None),
    ],
)
def test_what_root_says_of_a_unit_to_systemd_oomd(tree, monkeypatch, uid, mode, said, found):
    mounts(tree, "31 23 0:28 / /cg rw - cgroup2 cgroup2 rw")
    tree.write("cg/cgroup.controllers", "memory\n")
    for path in ("cg/system.slice", "cg/system.slice/db.service", "cg/system.slice/db.service/x"):
        tree.write(f"{path}/memory.stat", "anon 100\n")
    groups = Cgroups(str(tree.root), str(tree.root))

    def getxattr(path, name):
        if name in said:
            return said[name]
        raise OSError(errno.ENODATA, "none")

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda _: os.stat_result((mode, 1, 1, 1, uid, *[0] * 5)))
        patch.setattr(os, "getxattr", getxattr)
        read = groups.read(1.0, 2.0, ["/system.slice/db.service/x"])
    # of the unit, not of a slice, nor of what somebody made inside
    assert [(one.unit, one.oomd) for one in read if one.unit] == [("db.service", found)]
    assert {one.oomd for one in read if not one.unit} == {None}


def test_a_cgroup_of_v2(tree):
    mounts(tree, "31 23 0:28 / /cg rw - cgroup2 cgroup2 rw")
    base = "cg/system.slice/shop.service"
    tree.write("cg/cgroup.controllers", "cpu memory\n")
    tree.write(
        f"{base}/memory.stat", "anon 100\nfile 50\nkernel 30\nshmem 5\nslab_reclaimable 10\n"
    )
    for name, text in (("max", "1000"), ("high", "max"), ("low", "0"), ("current", "200"),
                       ("swap.current", "7"), ("events", "oom_kill 1\nhigh 2")):  # fmt: skip
        tree.write(f"{base}/memory.{name}", text + "\n")
    groups = Cgroups(str(tree.root), str(tree.root))
    assert groups.v2
    (found,) = groups.read(1.0, 2.0, ["/system.slice/shop.service"])
    assert (found.unit, found.anon, found.kernel, found.swap) == ("shop.service", 100, 20, 7)
    assert (found.limit, found.high, found.low) == (1000, None, None)
    assert found.events == {"oom_kill": 1, "high": 2} and found.stall_us is None
    tree.write(f"{base}/memory.current", "950\n")
    tree.write(f"{base}/memory.pressure", "some avg10=0 total=9\nfull avg10=0 total=7\n")
    (found,) = groups.read(2.0, 3.0, ["/system.slice/shop.service"])
    assert found.stall_us == 7


def test_a_file_of_the_hierarchy_that_systemd_binds_over_itself_is_not_taken_for_it(tree):
    """From 254 on, where a unit's control groups are protected, as mountinfo tells it there."""
    of_ours = "/oomwatchdog.slice/oom-watchdog.service/memory.pressure"
    mounts(tree, "157 155 0:27 / /cg ro shared:104 - cgroup2 cgroup2 rw",
           f"154 157 0:27 {of_ours} /cg{of_ours} rw - cgroup2 cgroup2 rw")  # fmt: skip
    tree.write("cg/cgroup.controllers", "memory\n")
    tree.write(f"cg{of_ours}", "some avg10=0 total=9\nfull avg10=0 total=7\n")
    groups = Cgroups(str(tree.root), str(tree.root))
    assert (groups.base, groups.v2) == (f"{tree.root}/cg", True)


def test_a_v2_kernel_before_5_18_tells_the_parts_of_kernel_memory(tree):
    mounts(tree, "31 23 0:28 / /cg rw - cgroup2 cgroup2 rw")
    tree.write("cg/cgroup.controllers", "memory\n")
    tree.write("cg/a/memory.stat", "kernel_stack 1\nslab 10\nslab_reclaimable 4\npagetables 2\n")
    (found,) = Cgroups(str(tree.root), str(tree.root)).read(1.0, 2.0, ["/a"])
    assert found.kernel == 9


def test_a_cgroup_of_v1_and_hybrid(tree):
    mounts(
        tree,
        "41 31 0:38 / /cg/unified rw - cgroup2 cgroup2 rw",
        "35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory",
    )
    tree.write("cg/memory/a/b/memory.stat", "total_rss 9\ntotal_shmem 1\ntotal_swap 2\n")
    tree.write("cg/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n")
    tree.write("cg/memory/a/b/memory.oom_control", "oom_kill_disable 0\noom_kill 4\n")
    groups = Cgroups(str(tree.root), str(tree.root))
    assert not groups.v2
    (found,) = groups.read(1.0, 2.0, ["/a/b"])
    assert (found.cgroup, found.anon, found.limit) == ("/a/b", 9, None)
    assert found.events == {"oom_kill": 4}
    tree.write("cg/memory/a/b/memory.failcnt", "17\n")
    tree.write("cg/memory/a/b/memory.kmem.usage_in_bytes", "1000\n")
    groups.reclaimable = 0.75
    (found,) = groups.read(1.0, 2.0, ["/a/b"])
    assert found.events == {"oom_kill": 4, "max": 17} and found.kernel == 250


def test_without_a_memory_controller_there_are_no_groups(tree):
    mounts(tree, "41 31 0:38 / /cg rw - cgroup2 cgroup2 rw", "odd line")
    assert Cgroups(str(tree.root), str(tree.root)).read(1.0, 2.0, ["/a"]) == []
    assert Cgroups(str(tree.root / "none")).base is None


def test_the_senses_keep_their_two_cadences(tree):
    tree.process(7)
    mounts(tree)
    clock = JumpClock()
    senses = Senses(clock, 10.0, str(tree.root))
    seen = []
    for _ in range(13):
        facts = list(senses.due())
        assert isinstance(facts[0], Host)
        seen.append(next(fact.census for fact in facts if isinstance(fact, Sweep)))
        clock.wait({}, senses.next_up - clock.boottime())
    assert list(senses.due()) != [] and list(senses.due()) == []
    assert seen[0] and seen.count(True) == 5
    senses.close()


def test_a_cgroup_near_its_limit_or_with_growing_shared_memory_is_read_at_each_sweep(tree):
    tree.process(7, cgroup="0::/system.slice/shop.service\n")
    mounts(tree, "31 23 0:28 / /cg rw - cgroup2 cgroup2 rw")
    tree.write("cg/cgroup.controllers", "memory\n")
    base = "cg/system.slice/shop.service"

    def write(current, shmem):
        tree.write(f"{base}/memory.stat", f"anon 100\nfile 50\nshmem {shmem}\n")
        tree.write(f"{base}/memory.current", f"{current}\n")

    tree.write(f"{base}/memory.max", "1000\n")
    write(500, 1 << 20)
    clock = JumpClock()
    senses = Senses(clock, 10.0, str(tree.root))
    senses.cgroups = Cgroups(str(tree.root), str(tree.root))
    read = []
    for step in range(9):
        if step == 3:
            write(500, 9 << 20)
        if step == 6:
            write(950, 9 << 20)
        read.append(sum(isinstance(fact, Group) for fact in senses.due()))
        clock.wait({}, senses.next_up - clock.boottime())
    # censuses at 0, 3 and 6; between them what the last one gave a reason for
    assert read == [1, 0, 0, 1, 1, 1, 1, 1, 1]
    senses.close()


def test_after_a_suspend_one_reading_is_made(tree):
    mounts(tree)
    clock = JumpClock()
    senses = Senses(clock, 1.0, str(tree.root))
    list(senses.due())
    clock.jump(3600)
    assert list(senses.due())
    assert list(senses.due()) == []
    senses.close()


def test_who_comes_before_the_rows_that_it_explains(tree):
    tree.process(7)
    mounts(tree)
    kinds = [type(fact) for fact in Senses(JumpClock(), 1.0, str(tree.root)).due()]
    assert kinds.index(Who) < kinds.index(Sweep)


def test_the_unit_of_a_newcomer_is_read_before_the_next_census(tree):
    """It may be one that root has said is to be spared."""
    mounts(tree, "31 23 0:28 / /cg rw - cgroup2 cgroup2 rw")
    tree.write("cg/cgroup.controllers", "memory\n")
    for name in ("shop", "new"):
        tree.write(f"cg/system.slice/{name}.service/memory.stat", "anon 1\n")
    tree.process(7)
    clock = JumpClock()
    senses = Senses(clock, 1.0, str(tree.root))
    senses.cgroups = Cgroups(str(tree.root), str(tree.root))
    told = []
    for number in range(3):
        units = [fact.unit for fact in senses.due() if isinstance(fact, Group) and fact.unit]
        told.append(units)
        if number == 0:
            tree.process(9, start=200, cgroup="0::/system.slice/new.service\n")
        clock.jump(1.0)
    assert told == [["shop.service"], ["new.service"], []]
    senses.close()


def test_under_a_low_limit_of_open_files_fewer_are_kept(tree, monkeypatch):
    for soft, kept in ((4096, 512), (150, 50), (20, 1), (resource.RLIM_INFINITY, 512)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert Processes(str(tree.root)).hot_max == kept


def test_who_holds_what_it_held_is_looked_at_closely_now_and_then(monkeypatch):
    processes = Processes("/proc")
    # A shell's builtins take no memory, so that nothing but its name changes.
    script = "read x; printf renamed > /proc/$$/comm; echo done; read x"
    child = subprocess.Popen(
        ["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        for number in range(3):
            sweep, _ = processes.census(1.0, 100.0 + 30 * number)
        (before,) = (row for row in sweep.rows if row[0] == child.pid)
        looked = []
        look = Processes._look
        monkeypatch.setattr(
            Processes,
            "_look",
            lambda self, pid, *a, **k: looked.append(pid) or look(self, pid, *a, **k),
        )
        child.stdin.write(b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"done\n"
        names = []
        for number in range(16):
            sweep, _ = processes.census(1.0, 300.0 + 30 * number)
            names += [row[2] for row in sweep.rows if row[0] == child.pid]
        assert looked.count(child.pid) <= 3
        assert names[-1] == "renamed" and before[2] == "sh"
    finally:
        child.kill()
        child.communicate()
        processes.close()


def test_each_process_has_an_inode_of_its_own_that_stays():
    """What lets a census pass over a process."""
    children = [subprocess.Popen(["/bin/sleep", "100"]) for _ in range(2)]
    try:
        inodes = [os.stat(f"/proc/{child.pid}/statm").st_ino for child in children]
        again = [os.stat(f"/proc/{child.pid}/statm").st_ino for child in children]
        assert inodes == again and inodes[0] != inodes[1]
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_outside_of_procfs_an_inode_proves_nothing(tmp_path):
    assert Processes("/proc").real and not Processes(str(tmp_path)).real
    assert not Processes(str(tmp_path / "none")).real

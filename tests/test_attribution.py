"""Is every kill told, once, and by its right name? The balance, cgroup counts, claims, looks."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog import trace
from watchdog.engine import Engine
from watchdog.facts import (
    CgroupKills,
    Counted,
    Earlier,
    Event,
    Group,
    Host,
    KernelLine,
    LogState,
    Look,
    Looked,
    Order,
    Outcome,
    PastKill,
    Said,
    Sweep,
    Tick,
    Who,
)  # fmt: skip
from watchdog.judge.attribution import Balance, CgroupCounts, Found
from watchdog.judge.claims import claims
from watchdog.policy.rules import Match, Policy, Rules, When, default_rules
from watchdog.sense import claims as program
from watchdog.sense import container
from watchdog.sense.cgroups import Cgroups

MIB = 1 << 20
T0, UP0 = 1_700_000_000.0, 5000.0
BOOT = "b0000000-1111"


def host(at, kills=0, available=20000, **more):
    return Host(
        T0 + at, UP0 + at, BOOT, T0 - UP0, 24000 * MIB, available * MIB, 0, 0, 0, 0, kills
    )._replace(**more)


def kill_line(at, pid, comm="victim", cgroup="/shop.service", prefix="3"):
    """The two lines of a report in the shortest form, `at` seconds after the beginning."""
    usec = int((UP0 + at) * 1e6)
    summary = (
        f"6,1,{usec},-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,"
        f"mems_allowed=0,oom_memcg={cgroup},task_memcg={cgroup},task={comm},pid={pid},uid=0"
    )
    line = (
        f"{prefix},2,{usec + 1},-;Memory cgroup out of memory: Killed process {pid} ({comm}) "
        "total-vm:90000kB, anon-rss:70000kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:100kB "
        "oom_score_adj:0"
    )
    return [KernelLine(T0 + at, UP0 + at, text) for text in (summary, line)]


def row(pid, mib, comm="victim", unit="shop.service", start=None):
    return (pid, start or pid * 100, comm, int(mib * MIB), 0, None, unit, None)


def feed(engine, facts):
    return [item for fact in facts for item in engine.feed(fact)]


def events(out, kind=None):
    return [item for item in out if isinstance(item, Event) and kind in (None, item.kind)]


def looks(out):
    return [item for item in out if isinstance(item, Look)]


def engine_of(rules=None, earlier=None):
    engine = Engine(rules or default_rules(), "box")
    if earlier is not None:
        engine.feed(earlier)
    return engine


# -- the balance ----------------------------------------------------------------------------------


def test_a_first_start_ever_begins_with_the_present_value():
    engine = engine_of()
    out = feed(engine, [host(at, kills=242) for at in range(0, 60, 5)])
    assert events(out) == []
    assert engine.kills.balance.kept() == Counted(BOOT, 242)


def test_what_another_boot_has_counted_is_counted_from_nothing():
    earlier = Earlier(T0, UP0, (), Counted("another-boot", 7))
    out = feed(engine_of(earlier=earlier), [host(at, kills=2) for at in range(0, 40, 5)])
    (missing,) = events(out, "oom.unattributed")
    assert missing.body["count"] == 2


def test_kills_while_the_daemon_was_down_are_told_with_or_without_their_lines():
    earlier = Earlier(T0, UP0, (), Counted(BOOT, 5))
    engine = engine_of(earlier=earlier)
    facts = [host(0, kills=7), *kill_line(-20, 9), *(host(at, kills=7) for at in range(2, 40, 2))]
    out = feed(engine, facts)
    assert [event.kind for event in events(out)] == ["oom.kill", "oom.unattributed"]
    assert events(out)[1].body["count"] == 1 and events(out)[0].body["killed_by"] == "kernel"
    assert engine.kills.balance.kept().value == 7


def test_a_line_that_was_told_before_the_crash_is_not_counted_twice():
    (told,) = events(feed(engine_of(), [host(0), host(1, kills=1), *kill_line(1, 9), host(3, 1)]))
    identity = told.id.removeprefix("oom.kill-b0000000-")
    earlier = Earlier(T0, UP0, (), Counted(BOOT, 1), ((identity, 1),))
    engine = engine_of(earlier=earlier)
    out = feed(engine, [host(5, kills=2), *kill_line(1, 9), *(host(at, 2) for at in range(7, 40))])
    assert [event.kind for event in events(out)] == ["oom.kill", "oom.unattributed"]
    assert events(out)[0].id == told.id  # which the store knows


def test_a_reading_that_tells_no_boot_is_of_the_boot_that_runs():
    """The guard's own, for a decision: it reads less than the senses do."""
    engine = engine_of(earlier=Earlier(T0, UP0, (), Counted(BOOT, 5)))
    out = feed(engine, [host(0, 5), host(1, 6, available=1000), census(1, row(8, 900))])
    out += feed(engine, [census(2), host(2, 6, available=1000, boot_id=None)])
    assert engine.kills.balance.kept() == Counted(BOOT, 5)
    out += feed(engine, [host(at, None, available=1000) for at in range(3, 8)])
    assert [one.what for one in looks(out)] == [], "the kernel's kill comes first"
    out += feed(engine, [host(at, 6) for at in range(8, 40)])
    assert [event.body["count"] for event in events(out, "oom.unattributed")] == [1]
    assert engine.kills.balance.kept()._replace(missing=()) == Counted(BOOT, 6)


@pytest.mark.parametrize("kept", ["", BOOT])
def test_a_count_of_a_boot_that_nobody_told_is_no_beginning(kept):
    engine = engine_of(earlier=Earlier(T0, UP0, (), Counted(kept, 0)))
    told = None if kept else BOOT
    assert events(feed(engine, [host(at, 7, boot_id=told) for at in range(0, 40, 2)])) == []
    (missing,) = events(feed(engine, [host(at, 8) for at in range(40, 80, 2)]))
    assert missing.body["count"] == 1
    assert engine.kills.balance.kept()._replace(missing=()) == Counted(BOOT, 8)


@pytest.mark.parametrize(("kept", "unread"), [
    (Counted(BOOT, 5), 2), (Counted("another-boot", 9), 7), (Counted("", 5), 0), (None, 0),
])  # fmt: skip
def test_a_run_that_could_not_read_what_was_kept_joins_it_later(kept, unread):
    """Its own kills are told, once; those of before it are still to be told by the next run."""
    between = engine_of()
    out = feed(between, [host(0, 7), host(1, 8), *kill_line(1, 9), host(3, 8)])
    (told,) = events(out, "oom.kill")
    if kept is not None:
        between.kills.balance.join(kept)
    earlier = Earlier(T0, UP0, (), between.kills.balance.kept(),
                      ((told.id.removeprefix("oom.kill-b0000000-"), 1),))  # fmt: skip
    assert events(feed(between, [host(at, 8) for at in range(4, 40)])) == [], "the next run does"
    out = feed(
        engine_of(earlier=earlier), [*kill_line(1, 9), *(host(at, 8) for at in range(41, 80))]
    )
    assert sum(event.body["count"] for event in events(out, "oom.unattributed")) == unread


def test_what_is_joined_before_the_first_reading_is_the_beginning():
    balance = Balance()
    balance.join(Counted(BOOT, 5))
    balance.reading(7, T0, UP0, BOOT)
    assert (balance.owed, balance.kept()) == (2, Counted(BOOT, 5))


def test_while_the_log_is_still_read_nothing_is_missing():
    earlier = Earlier(T0, UP0, (), Counted(BOOT, 0))
    engine = engine_of(earlier=earlier)
    out = feed(engine, [LogState(T0, UP0, "catching up"), *(host(at, 3) for at in range(0, 40, 2))])
    assert events(out) == [] and looks(out) == []
    lines = [line for pid in (7, 8, 9) for line in kill_line(-100 + pid, pid)]
    facts = [*lines, LogState(T0 + 41, UP0 + 41, "live"), *(host(at, 3) for at in range(42, 80))]
    assert [event.kind for event in events(feed(engine, facts))] == ["oom.kill"] * 3


def test_a_line_that_comes_late_settles_what_was_told_and_is_told_as_well():
    engine = engine_of()
    out = feed(engine, [host(0), *(host(at, kills=1) for at in range(1, 30))])
    (missing,) = events(out, "oom.unattributed")
    out = feed(engine, [*kill_line(0.5, 9), *(host(at, kills=1) for at in range(30, 60))])
    (late,) = events(out)
    assert late.kind == "oom.kill" and late.body["settles"] == missing.id
    assert late.body["killed_by"] == "kernel" and missing.id in late.because[-1]
    # and the next one that is missed is still noticed
    out = feed(engine, [host(at, kills=2) for at in range(60, 90)])
    assert [event.body["count"] for event in events(out, "oom.unattributed")] == [1]


LATE_LOG = LogState(T0, UP0, "late")


def test_a_report_whose_end_the_ring_lost_holds_nothing_up():
    """/dev/kmsg is never late: after ten seconds the kill has no line, and others may be asked."""
    summary, _ = kill_line(1, 7)
    engine = engine_of()
    out = feed(engine, [host(0, available=1000), census(0, row(7, 60), row(8, 900)), summary])
    out += feed(engine, [host(2, 1, available=1000), census(5)])
    out += feed(engine, [host(at, 1, available=1000) for at in range(6, 30)])
    assert [one.kind for one in events(out)] == ["oom.kill", "oom.unattributed"]
    assert [one.what for one in looks(out)] == ["counts", "counts", "claims"]


def test_a_kill_whose_report_is_still_being_read_is_not_missing():
    """A journald that is starved brings a report in pieces."""
    summary, line = kill_line(0.5, 9)
    engine = engine_of()
    begun = [host(0), LATE_LOG, host(1, kills=1), summary]
    begun += [host(at, kills=1) for at in range(2, 100)]
    assert events(feed(engine, begun)) == []
    more = [host(100, kills=2), line, *(host(at, kills=2) for at in range(101, 130))]
    kill, missing = events(feed(engine, more))
    assert (kill.kind, kill.body["settles"], kill.body["killed_by"]) == ("oom.kill", None, "kernel")
    assert missing.kind == "oom.unattributed" and missing.body["count"] == 1  # another one's
    # and where its end never comes
    out = feed(engine_of(), [*begun, *(host(at, kills=1) for at in range(100, 300))])
    cut_off, missing = events(out)
    assert cut_off.body["outcome"] == "selected" and cut_off.body["victim"] is None
    assert missing.kind == "oom.unattributed" and missing.body["count"] == 1


def test_a_storm_without_lines_is_told_in_few_events_that_add_up():
    engine = engine_of()
    out = feed(engine, [host(0), *(host(at, kills=10 * min(at, 20)) for at in range(1, 60))])
    told = events(out, "oom.unattributed")
    assert sum(event.body["count"] for event in told) == 200 and len(told) <= 4
    assert len({event.id for event in told}) == len(told)


def test_a_counter_that_falls_begins_anew():
    out = feed(engine_of(), [host(0, 50), host(5, 3), *(host(at, 3) for at in range(6, 40))])
    assert events(out) == []


class Machine:
    """A kernel that kills, a log that may lose lines or bring them late, a daemon that may die."""

    def __init__(self):
        self.now = 0.0
        self.counter = 0
        self.pid = 100
        self.log = []  # (index of delivery, lines) that a reader has yet to read, oldest first
        self.late = []
        self.truth = 0
        self.told = {}
        self.settled = 0
        self.kept = None
        self.cursor = 0
        self.engine = engine_of()
        self.take(self.engine.feed(host(0, 0)))

    def take(self, out):
        for event in events(out):
            if event.kind in ("oom.kill", "oom.unattributed"):
                new = event.id not in self.told
                self.told.setdefault(event.id, event)
                if new and event.body.get("settles"):
                    self.settled += 1
                self.kept = self.engine.kills.balance.kept()
                assert self.kept.value >= 0

    def kill(self, fate):
        self.now += 0.01
        self.pid += 1
        self.counter += 1
        self.truth += 1
        lines = kill_line(self.now, self.pid)
        if fate == "line":
            self.log.append(lines)
        elif fate == "late":
            self.late.append(lines)

    def read_lines(self):
        """As the watcher: the counter is read first, then the lines that have been printed."""
        self.take(self.engine.feed(host(self.now, self.counter)))
        while self.cursor < len(self.log):
            for line in self.log[self.cursor]:
                self.take(self.engine.feed(line))
            self.cursor += 1

    def wait(self, seconds):
        end = self.now + seconds
        while self.now < end:
            self.now = round(self.now + 1.0, 2)
            self.read_lines()
            self.take(self.engine.feed(Tick(T0 + self.now, UP0 + self.now)))

    def catch_up(self):
        """What was held back arrives, after it was told as missing."""
        self.log += self.late
        self.late = []

    def crash(self):
        """What was not stored with an event is gone; the log is read again from a former place."""
        again = tuple(
            (one.id.removeprefix("oom.kill-b0000000-"), 1 + len(one.body["also_killed"]))
            for one in self.told.values() if one.kind == "oom.kill"
        )  # fmt: skip
        kept = self.kept or Counted(BOOT, 0)
        self.engine = engine_of(earlier=Earlier(T0 + self.now, UP0 + self.now, (), kept, again))
        self.cursor = max(0, self.cursor - 3)
        while self.cursor and self.identity(self.log[self.cursor - 1]) not in dict(again):
            self.cursor -= 1  # never past what was not told

    @staticmethod
    def identity(lines):
        usec = lines[1].line.split(",")[2]
        return f"{usec}-{lines[0].line.split('pid=')[1].split(',')[0]}"


STEPS = st.one_of(
    st.tuples(st.just("kill"), st.sampled_from(["line", "line", "lost", "late"])),
    st.tuples(st.just("wait"), st.sampled_from([1, 3, 12])),
    st.tuples(st.just("read"), st.none()),
    st.tuples(st.just("catch up"), st.none()),
    st.tuples(st.just("crash"), st.none()),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_what_is_told_is_what_the_kernel_counted_whatever_happens(steps):
    machine = Machine()
    for verb, arg in steps:
        if verb == "kill":
            machine.kill(arg)
        elif verb == "wait":
            machine.wait(arg)
        elif verb == "read":
            machine.read_lines()
        elif verb == "crash":
            machine.crash()
        else:
            machine.wait(30)
            machine.catch_up()
            machine.wait(3)
    machine.wait(40)
    machine.catch_up()
    machine.wait(40)
    told = machine.told.values()
    kills = [event for event in told if event.kind == "oom.kill"]
    missing = [event.body["count"] for event in told if event.kind == "oom.unattributed"]
    assert all(count > 0 for count in missing)
    named = sum(1 + len(event.body["also_killed"]) for event in kills)
    assert named == len(machine.log)  # every line that ever came, once
    assert named + sum(missing) - machine.settled == machine.truth


@given(st.lists(st.tuples(st.sampled_from(["rise", "line", "told"]), st.integers(1, 5))))
def test_a_balance_is_never_negative(steps):
    balance = Balance()
    value, now = 3, 0.0
    balance.reading(value, T0, UP0, BOOT)
    for verb, count in steps:
        now += 1
        if verb == "rise":
            value += count
        elif verb == "line":
            balance.line(count, T0 + now, UP0 + now)
        balance.reading(value, T0 + now, UP0 + now, BOOT)
        if verb == "told" and (due := balance.due(UP0 + now, UP0 + now)):
            balance.told(due, str(balance.after(due)), T0 + now, UP0 + now)
        assert 0 <= balance.owed <= value and balance.kept().value <= value


def test_a_group_kill_whose_first_victim_is_printed_twice_is_counted_twice():
    engine = engine_of()
    first, second = kill_line(1, 9), kill_line(1.1, 10)
    group = KernelLine(T0 + 1, UP0 + 1, first[1].line.replace(
        first[1].line.partition(";")[2],
        "Tasks in /shop.service are going to be killed due to memory.oom.group set"))  # fmt: skip
    again = first[1]._replace(line=first[1].line.replace(",2,", ",3,").replace("001,-", "009,-"))
    facts = [host(0), host(1.2, 3), *first, group, again, second[1]]
    out = feed(engine, [*facts, *(host(at, 3) for at in range(3, 40))])
    (told,) = events(out)
    assert told.kind == "oom.kill" and told.body["kill_lines"] == 3
    assert [other["again"] for other in told.body["also_killed"]] == [True, False]


# -- which cgroups --------------------------------------------------------------------------------


def rises(counts):
    return [tuple(found) for found in counts.unexplained()]


def test_the_cgroup_that_counted_is_named():
    counts = CgroupCounts()
    counts.scan(CgroupKills(T0, UP0, (("/a", 3, None),), whole=True))
    counts.scan(CgroupKills(T0, UP0, (("/a", 4, None), ("/new", 2, None)), whole=True))
    assert rises(counts) == [("/new", 2, False), ("/a", 1, False)]
    counts.line("/new", 1)
    assert rises(counts) == [("/a", 1, False), ("/new", 1, False)]
    counts.clear()
    assert rises(counts) == []


def test_a_line_before_its_count_is_seen_is_expected():
    counts = CgroupCounts()
    counts.group("/a", {"oom_kill": 0})
    counts.line("/a", 1)
    counts.group("/a", {"oom_kill": 1})
    assert rises(counts) == []
    counts.group("/a", {"oom_kill": 2})
    assert rises(counts) == [("/a", 1, False)]


def test_of_a_cgroup_that_is_gone_the_nearest_living_ancestor_speaks():
    counts = CgroupCounts()
    counts.scan(CgroupKills(T0, UP0, (), whole=True))
    found = (("/s.slice", 0, 5), ("/s.slice/x", 0, 3), ("/s.slice/x/alive", 1, 1))
    counts.scan(CgroupKills(T0, UP0, found, whole=True))
    assert rises(counts) == [
        ("/s.slice", 2, True), ("/s.slice/x", 2, True), ("/s.slice/x/alive", 1, False),
    ]  # fmt: skip


def test_a_cgroup_made_anew_under_its_name_is_no_fall():
    counts = CgroupCounts()
    counts.group("/a", {"oom_kill": 5})
    counts.group("/a", {"oom_kill": 1})
    counts.group("/a", {"oom_kill": 2})
    assert rises(counts) == [("/a", 1, False)]


def test_cgroups_that_are_gone_are_not_kept_for_ever():
    counts = CgroupCounts()
    for number in range(10_000):
        counts.group(f"/job-{number}.scope", {"oom_kill": 0})
        counts.line(f"/job-{number}.scope", 1)
        if number % 100 == 0:
            counts.forget(["/here"])
    assert len(counts._local) <= 4096 + 100 and rises(counts) == []


def make_cgroup(base: Path, path: str, **files: str) -> None:
    folder = base / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1).replace("events_local", "events.local")).write_text(
            text
        )


def cgroup_tree(tmp_path: Path, mounts: list[str]) -> Cgroups:
    proc = tmp_path / "proc" / "self"
    proc.mkdir(parents=True)
    lines = [f"30 20 0:{30 + i} / {mount} rw - {mount_kind}\n" for i, (mount, mount_kind) in
             enumerate(one.split(" ", 1) for one in mounts)]  # fmt: skip
    (proc / "mountinfo").write_text("".join(lines))
    return Cgroups(str(tmp_path / "proc"), str(tmp_path))


def test_counts_of_a_v2_tree(tmp_path):
    base = tmp_path / "cg"
    make_cgroup(base, ".")
    (base / "cgroup.controllers").write_text("cpu memory pids\n")
    make_cgroup(base, "system.slice", memory_events="oom 3\noom_kill 3\n",
                memory_events_local="oom 0\noom_kill 0\n")  # fmt: skip
    make_cgroup(base, "system.slice/shop.service", memory_events="oom_kill 2\n",
                memory_events_local="oom_kill 2\n", memory_stat="anon 5\n")  # fmt: skip
    make_cgroup(base, "calm.service", memory_events="oom_kill 0\n")
    cgroups = cgroup_tree(tmp_path, ["/cg cgroup2 cgroup2 rw"])
    found = cgroups.kills(T0, UP0)
    assert found.rows == (("/system.slice", 0, 3), ("/system.slice/shop.service", 2, 2))
    assert found.whole
    (group,) = [
        one for one in cgroups.read(T0, UP0, ["/system.slice/shop.service"])
        if one.unit == "shop.service"
    ]  # fmt: skip
    assert group.events == {"oom_kill": 2, "oom_kill_local": 2}


def test_counts_of_a_v2_tree_before_5_2_are_each_cgroups_own(tmp_path):
    base = tmp_path / "cg"
    make_cgroup(base, "a", memory_events="oom_kill 2\n")
    (base / "cgroup.controllers").write_text("memory\n")
    assert cgroup_tree(tmp_path, ["/cg cgroup2 none rw"]).kills(T0, UP0).rows == (("/a", 2, None),)


@pytest.mark.parametrize("hybrid", [False, True])
def test_counts_of_a_v1_or_hybrid_tree(tmp_path, hybrid):
    base = tmp_path / "cg" / "memory"
    make_cgroup(base, "box", memory_oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 4\n")
    make_cgroup(base, "box/calm", memory_oom_control="oom_kill_disable 0\nunder_oom 0\n")
    (base / "memory.oom_control").write_text("oom_kill 1\n")
    unified = tmp_path / "cg" / "unified"
    unified.mkdir()
    (unified / "cgroup.controllers").write_text("\n")
    mounts = ["/cg/memory cgroup cgroup rw,memory"]
    cgroups = cgroup_tree(tmp_path, mounts + ["/cg/unified cgroup2 cgroup2 rw"] * hybrid)
    # the root counts who is in no cgroup of its own
    assert cgroups.kills(T0, UP0).rows == (("/", 1, None), ("/box", 4, None))


def test_where_there_is_no_hierarchy_nothing_is_counted(tmp_path):
    assert cgroup_tree(tmp_path, ["/x tmpfs tmpfs rw"]).kills(T0, UP0) is None


def test_a_kill_without_a_line_names_its_cgroup_and_who_vanished():
    engine = engine_of()
    big, small = row(7, 500, "big"), row(8, 20, "small", "web.service")
    stays = row(9, 30, "stays")
    feed(engine, [
        CgroupKills(T0, UP0, (), whole=True), host(0),
        Sweep(T0, UP0, (big, small, stays), census=True), host(1, 1),
    ])  # fmt: skip
    (look,) = looks(feed(engine, [host(2, 1), host(3, 1), host(4, 1)]))
    assert look.what == "counts"
    found = CgroupKills(T0 + 4, UP0 + 4, (("/shop.service", 1, 1),), whole=True)
    feed(engine, [found, Sweep(T0 + 4, UP0 + 4, (stays,), census=True)])
    (told,) = events(feed(engine, [host(at, 1) for at in range(5, 30)]))
    assert told.kind == "oom.unattributed" and told.body["count"] == 1
    assert told.body["cgroups"] == [
        {"cgroup": "/shop.service", "unit": "shop.service", "count": 1, "below": False}
    ]
    assert [one["pid"] for one in told.body["vanished"]] == [7, 8]
    assert told.body["vanished"][0]["resident_bytes"] == 500 * MIB
    assert any("may be it" in said for said in told.because)
    told.flat()


def test_who_was_in_the_cgroup_that_counted_is_named_before_a_larger_one():
    engine = engine_of()
    there = Who(T0, UP0, 7, 700, cgroup="/shop.service/inner")
    others = [row(pid, 500 + pid, "other", "x.service") for pid in range(20, 40)]
    feed(
        engine,
        [CgroupKills(T0, UP0, (), whole=True), host(0), there, census(0, row(7, 20), *others)],
    )
    found = CgroupKills(T0 + 4, UP0 + 4, (("/shop.service", 1, None),), whole=True)
    (told,) = events(
        feed(engine, [host(2, 1), found, census(4), *(host(at, 1) for at in range(5, 30))])
    )
    sizes = [one["resident_bytes"] for one in told.body["vanished"]]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) == 10
    assert told.body["vanished"][-1]["pid"] == 7
    assert "victim (pid 7, 20.0 MiB) vanished meanwhile" in told.because[-1]


def test_why_there_was_no_line_is_said_where_it_is_known():
    engine = engine_of()
    feed(engine, [LogState(T0, UP0, "off", "kernel_log.source is off"), host(0)])
    (told,) = events(feed(engine, [host(at, 1) for at in range(1, 30)]))
    assert any("kernel_log.source is off" in said for said in told.because)


# -- who killed -----------------------------------------------------------------------------------


def test_a_line_that_the_counter_does_not_know_is_nobodys():
    engine = engine_of()
    out = feed(engine, [host(0, 5), host(1, 5), *kill_line(1, 9), host(3, 5)])
    # the counter was read before the line: nothing contradicts it yet
    assert events(out)[0].body["killed_by"] == "unknown"
    assert "did not rise" in events(out)[0].because[-1]


def test_a_reading_of_the_same_moment_contradicts_nothing():
    engine = engine_of()
    (told,) = events(feed(engine, [host(0), *kill_line(0.99, 9), host(1), Tick(T0 + 3, UP0 + 3)]))
    assert told.body["killed_by"] == "kernel"
    assert events(feed(engine, [host(at, 1) for at in range(4, 30)])) == []


def test_who_was_killed_with_a_line_is_no_candidate_for_one_without():
    engine = engine_of()
    feed(engine, [host(0), census(0, row(7, 500), row(8, 400)), host(1, 2), *kill_line(1, 7)])
    feed(engine, [host(3, 2), census(4), CgroupKills(T0 + 5, UP0 + 5, (), whole=True)])
    (told,) = events(feed(engine, [host(at, 2) for at in range(5, 30)]))
    assert [one["pid"] for one in told.body["vanished"]] == [8]


def test_without_a_counter_the_line_alone_speaks():
    out = feed(engine_of(), [host(0, None), *kill_line(1, 9), host(3, None)])
    assert events(out)[0].body["killed_by"] == "kernel"


def oom_policy():
    return Rules(policies=(
        Policy("killed", Match(), When(oom_kill=True), do=("log",), per="process"),
    ))  # fmt: skip


def census(at, *rows):
    return Sweep(T0 + at, UP0 + at, rows, census=True)


@pytest.mark.parametrize(
    ("kills", "known", "acts"),
    [(1, True, True), (0, True, False), (1, False, False), (None, True, False)],
)
def test_a_policy_on_oom_kill_asks_for_the_counter_and_for_our_own_census(kills, known, acts):
    engine = engine_of(oom_policy())
    base = None if kills is None else 0
    rows = [row(7, 60)] if known else []
    out = feed(engine, [host(0, base), census(0, *rows, row(8, 5)), host(1, kills)])
    out += feed(engine, [*kill_line(1, 7), host(3, kills), census(3.1, *rows, row(8, 5))])
    assert bool([one for one in out if isinstance(one, Order)]) is acts
    unjudged = engine.decider.timers.unjudged()
    missing = "policy killed cannot be judged from this trace: oom_kill missing"
    assert unjudged == ([missing] if kills is None else [])


def test_a_trace_that_tells_the_counter_later_proves_the_kill_later():
    engine = engine_of(oom_policy())
    out = feed(engine, [host(0), census(0, row(7, 60)), *kill_line(1, 7), Tick(T0 + 3, UP0 + 3)])
    assert events(out)[0].body["killed_by"] == "kernel" and not engine.kills.oom_killed
    out = feed(engine, [host(5, 1), census(5, row(7, 60))])
    assert [one.policy for one in out if isinstance(one, Order)] == ["killed"]


OOMD = {
    "t": T0 + 10.0, "unit": "systemd-oomd.service", "comm": "systemd-oomd", "uid": 995, "pid": 500,
    "about": None,
    "text": "Killed /shop.service due to memory pressure for /system.slice being 70.10% > 60.00% "
    "for > 20s with reclaim activity",
}  # fmt: skip
EARLYOOM = {
    "t": T0 + 10.0, "unit": "earlyoom.service", "comm": "earlyoom", "uid": 61234, "pid": 600,
    "about": None,
    "text": 'sending SIGTERM to process 7 uid 1000 "victim": badness 900, VmRSS 500 MiB',
}  # fmt: skip


def entry(unit, *texts, **more):
    base = {"t": T0 + 10.0, "unit": unit, "comm": None, "uid": 0, "pid": 700, "about": None}
    return [base | {"text": text} | more for text in texts]


CLAIMS = [
    ([OOMD], "systemd-oomd"),
    ([EARLYOOM], "earlyoom"),
    (entry("earlyoom.service", 'sending SIGKILL to process 7 uid 0 "a b": oom_score 1, VmRSS 5 MiB,'
           ' cmdline "x"'), "earlyoom"),
    (entry("nohang.service", "Victim status (found in 2ms):",
           "  PID:       7, name: victim, state: S, EUID: 0, SID: 1 (x), lifetime: 5s",
           "Implementing a corrective action:", "  Sending SIGKILL to the victim"), "nohang"),
    (entry("oomd.service", "[../src/oomd/plugins/BaseKillPlugin.cpp:200] Trying to kill "
           "/sys/fs/cgroup/shop.service"), "oomd"),
    (entry("oomd.service", "[../src/oomd/plugins/BaseKillPlugin.cpp:99] Killed 2: 5(a) 7(victim)"),
     "oomd"),
    (entry("fb-oomd.service", "[BaseKillPlugin.cpp:99] Killed pid 7"), "oomd"),
    (entry("init.scope", "shop.service: systemd-oomd killed 3 process(es) in this unit.", pid=1),
     "systemd-oomd"),
    (entry("session-1.scope", 'sending SIGTERM to process 7 uid 0 "x": badness 1, VmRSS 5 MiB',
           comm="earlyoom"), "earlyoom"),
]  # fmt: skip


def vanishing(entries, units=None, available=1000, mib=500, before=()):
    """A large process of shop.service goes while memory is short; what is asked, and then told."""
    engine = engine_of()
    victim = Who(T0, UP0, 7, 700, 1, 1000, "/usr/bin/victim", "/shop.service", None, None, 0)
    out = feed(engine, [
        host(0, available=available), victim, census(0, row(7, mib), row(8, 5)), *before,
        host(9, available=available), census(10, row(8, 5)),
    ])  # fmt: skip
    for look in looks(out):
        answer = Looked(T0 + 11, UP0 + 11, look.id, tuple(entries), units or {})
        out += engine.feed(trace.fact(trace.line(answer)))
    return out


@pytest.mark.parametrize(("entries", "by"), CLAIMS)
def test_who_claims_the_kill_is_believed_if_journald_says_who_it_is(entries, by):
    out = vanishing(entries)
    (look,) = looks(out)
    assert look.what == "claims" and look.units == ("shop.service",)
    assert look.since_t <= T0 + 10 - 10
    (told,) = events(out)
    assert told.kind == "kill.other" and told.body["by"] == told.body["killed_by"] == by
    assert told.body["target"]["pid"] == 7 and told.body["unit"] == "shop.service"
    assert told.id == "kill.other-b0000000-7-700"
    assert by in told.because[0] and told.body["claim"]["text"] in told.because[1]
    told.flat()


@pytest.mark.parametrize(
    "entries",
    [
        [],
        # anybody can log under a name
        [EARLYOOM | {"unit": "user@1000.service", "comm": "logger", "uid": 1000}],
        [EARLYOOM | {"unit": "user@1000.service", "comm": "earlyoom", "uid": 1000}],
        [EARLYOOM | {"text": 'sending SIGTERM to process 8 uid 0 "x": badness 9, VmRSS 5 MiB'}],
        [EARLYOOM | {"text": 'low memory! sending SIGTERM to process 7 uid 0 "x"'}],
        [OOMD | {"text": OOMD["text"].replace("/shop.service", "/shop.services")}],
        [OOMD | {"text": OOMD["text"].replace("/shop.service", "/")}],
        entry("nohang.service", "  Sending SIGKILL to the victim"),
        entry("init.scope", "shop.service: Killing process 7 (victim) with signal SIGKILL.", pid=1),
        [{"text": None}, {}, {"unit": 5, "text": 5}],
    ],
)
def test_without_a_witness_nothing_is_claimed(entries):
    out = vanishing(entries)
    assert len(looks(out)) == 1 and events(out) == []


def state(**more):
    return {"shop.service": {
        "Result": "signal", "ExecMainPID": "7", "ExecMainCode": "2", "ExecMainStatus": "9"
    } | more}  # fmt: skip


@pytest.mark.parametrize(
    ("units", "told_by"),
    [
        (state(), ["unknown"]),
        (state(Result="oom-kill"), ["unknown"]),
        (state(Result="timeout"), []),
        (state(Result="watchdog"), []),
        (state(ExecMainPID="8"), []),
        (state(ExecMainStatus="15"), []),
        (state(ExecMainCode="1"), []),
    ],
)
def test_pid_1_knows_that_a_main_process_was_killed_and_not_by_whom(units, told_by):
    assert [event.body["by"] for event in events(vanishing([], units))] == told_by
    # and whoever claims it is better known
    assert [one.body["by"] for one in events(vanishing([EARLYOOM], units))] == ["earlyoom"]


def test_a_kill_that_the_kernel_counted_without_a_line_is_told_once():
    """Seen: the report did not fit into the kernel's ring, and PID 1 knew of the OOM kill."""
    engine = engine_of()
    feed(engine, [CgroupKills(T0, UP0, (), whole=True), host(0, available=1000)])
    feed(engine, [census(0, row(7, 300, "victim", "shop.service")), host(1, 1, available=1000)])
    feed(engine, [host(3, 1, available=1000), census(3)])
    out = feed(engine, [CgroupKills(T0 + 4, UP0 + 4, (("/shop.service", 1, 1),), whole=True),
                        *(host(at, 1, available=1000) for at in range(5, 30))])  # fmt: skip
    (look,) = [one for one in looks(out) if one.what == "claims"]
    found = Looked(T0 + 31, UP0 + 31, look.id, entries=(), units=state(Result="oom-kill"))
    assert [event.kind for event in events([*out, *feed(engine, [found])])] == ["oom.unattributed"]


def test_ordinary_ends_cost_no_look():
    assert looks(vanishing([EARLYOOM], available=20000)) == []
    assert looks(vanishing([EARLYOOM], mib=12)) == []  # 24 GiB: 93 MiB is the least


def test_our_own_kills_are_told_by_their_own_events():
    body = {"outcome": "done", "victim": {"pid": 7}}
    done = Said(T0 + 5, UP0 + 5, "guard.action", "x", ("because",), body)
    engine = engine_of()
    assert engine.feed(done)[0].body["killed_by"] == "oom-watchdog"
    assert looks(vanishing([EARLYOOM], before=[done])) == []
    would = Said(T0 + 5, UP0 + 5, "guard.action", "x", ("because",), body | {"outcome": "would"})
    assert engine.feed(would)[0].body["killed_by"] is None
    assert len(looks(vanishing([EARLYOOM], before=[would]))) == 1


def test_a_policy_that_killed_says_that_it_was_us():
    rules = Rules(policies=(
        Policy("large", Match(), When(resident_above=1), do=("kill",), per="process",
               mode="enforce"),
    ))  # fmt: skip
    engine = engine_of(rules)
    (order,) = feed(engine, [host(0), census(0, row(7, 500))])
    (told,) = engine.feed(Outcome(T0 + 1, UP0 + 1, order.id, "done", "killed"))
    assert told.body["killed_by"] == "oom-watchdog"
    out = feed(engine, [host(2, available=1000), census(3)])
    assert looks(out) == []


def test_a_victim_of_the_kernel_is_not_looked_for():
    out = vanishing([EARLYOOM], before=[host(5, 1, available=1000), *kill_line(5, 7),
                                        host(7, 1, available=1000)])  # fmt: skip
    assert [event.kind for event in events(out)] == ["oom.kill"] and looks(out) == []


def test_looks_are_ten_seconds_apart_and_nobody_is_forgotten():
    engine = engine_of()
    feed(engine, [host(0, available=1000), census(0, *(row(pid, 500) for pid in range(7, 17)))])
    out = []
    for step in range(10):
        at = 1.0 + step
        left = [row(pid, 500) for pid in range(8 + step, 17)]
        out += feed(engine, [host(at, available=1000), census(at, *left)])
        for look in looks(out[-1:]):
            out += engine.feed(Looked(T0 + at, UP0 + at, look.id))
    asked = [float(look.id.partition("-")[2]) for look in looks(out)]
    out += feed(engine, [host(at, available=1000) for at in range(12, 40)])
    asked = [float(look.id.partition("-")[2]) for look in looks(out)]
    assert asked[0] == UP0 + 1 and len(asked) == 2 and asked[1] - asked[0] >= 10
    claim = EARLYOOM | {"text": EARLYOOM["text"].replace("process 7", "process 12")}
    answer = Looked(T0 + 41, UP0 + 41, looks(out)[1].id, (claim,))
    assert [event.body["target"]["pid"] for event in events(engine.feed(answer))] == [12]


def test_an_answer_to_another_question_is_none():
    engine = engine_of()
    assert engine.feed(Looked(T0, UP0, "claims-1.000", (EARLYOOM,))) == []


def test_systemd_oomds_mark_on_a_cgroup_is_a_witness():
    def group(at, killed):
        events = {"oom_kill": 0, "oom_kill_local": 0} | ({"oomd_kill": killed} if killed else {})
        return Group(T0 + at, UP0 + at, "shop.service", "/shop.service", anon=1, events=events)

    out = vanishing([], before=[group(1, 0), group(9, 2)])
    (told,) = events(out)
    assert told.body["by"] == "systemd-oomd" and told.body["claim"]["witness"] == "user.oomd_kill"
    assert looks(out) == []
    assert events(vanishing([], before=[group(9, 2)])) == []  # of before our time


def test_one_deed_is_one_event():
    engine = engine_of()
    members = [Who(T0, UP0, pid, pid * 100, cgroup="/shop.service") for pid in (7, 8, 9)]
    rows = [row(7, 300), row(8, 500, "biggest"), row(9, 5)]
    out = feed(engine, [host(0, available=1000), *members, census(0, *rows),
                        host(9, available=1000), census(10)])  # fmt: skip
    out += engine.feed(Looked(T0 + 11, UP0 + 11, looks(out)[0].id, (OOMD,)))
    (told,) = events(out)
    assert told.body["target"]["pid"] == 8
    assert [other["pid"] for other in told.body["also_killed"]] == [7]  # 9 was too small


@given(st.text(max_size=80), st.sampled_from(["earlyoom.service", "nohang.service", "oomd.service",
                                              "systemd-oomd.service", "init.scope"]))  # fmt: skip
def test_no_text_breaks_the_reading_of_claims(text, unit):
    for one in claims(entry(unit, text, f"Killed {text}", f"PID: 5, name: {text}", pid=1), {}, T0):
        assert one.text.isprintable() and len(one.text) <= 200


# -- what is remembered ---------------------------------------------------------------------------


def test_earlier_kills_and_growers_are_handed_to_the_diagnosis(monkeypatch):
    seen = []
    from watchdog.judge import kills

    true = kills.oom_kill_event
    monkeypatch.setattr(
        kills, "oom_kill_event", lambda report, past: seen.append(past) or true(report, past)
    )
    old = PastKill(
        T0 - 500, BOOT, "1-5", 1, 5, "x", "/bin/x", 0, "shop.service", 7 * MIB, None, 9.0
    )
    other = old._replace(identity="2-6", unit="web.service")
    engine = engine_of(earlier=Earlier(T0, UP0, (old, other)))
    facts = []
    for at in range(0, 300, 5):
        group = Group(T0 + at, UP0 + at, "shop.service", "/shop.service", anon=(60 + at) * MIB)
        rows = (row(7, 50 + at / 2), row(8, 10 + at / 5), row(9, 90, "calm", "db.service"))
        facts += [host(at), group, Sweep(T0 + at, UP0 + at, rows, census=at % 30 == 0)]
    who = [Who(T0, UP0, pid, pid * 100, exe="/bin/x", cgroup="/shop.service") for pid in (7, 8)]
    feed(engine, [facts[0], *who, *facts, host(300, 1), *kill_line(300, 7), host(302, 1)])
    (past,) = seen
    assert past.victim.pid == 7 and past.growth.last_bytes >= 190 * MIB
    assert past.unit_growth.last_bytes > 300 * MIB
    assert [(one.t, one.size_bytes, one.lived_s) for one in past.kills] == [
        (T0 - 500, 7 * MIB, 9.0)
    ]
    assert [(one.name, one.pid) for one in past.growers] == [
        ("shop.service", None), ("victim", 7), ("victim", 8),
    ]  # fmt: skip
    assert past.since_t == T0
    # the next kill of that unit has this one before it
    feed(engine, [host(310, 2), *kill_line(310, 8), host(312, 2)])
    assert [one.pid for one in seen[1].kills] == [5, 7]


def test_a_victim_that_a_census_has_missed_already_is_still_known():
    engine = engine_of()
    feed(engine, [host(0), census(0, row(7, 60)), host(1, 1)])
    out = feed(engine, [kill_line(1, 7)[0], census(1.2), kill_line(1, 7)[1], host(3, 1)])
    (told,) = events(out)
    assert told.body["unit"] == "shop.service" and told.body["start"] == 700


def test_a_number_that_was_used_again_is_not_the_victim():
    engine = engine_of()
    later = int((UP0 + 2) * 100)
    feed(engine, [host(0), census(0, row(7, 60))])
    feed(engine, [host(3, 1), census(3, row(7, 5, "newcomer", "other.service", start=later))])
    (told,) = events(feed(engine, [*kill_line(1, 7), host(5, 1)]))
    assert told.body["unit"] == "shop.service"


def test_who_died_while_the_daemon_was_down_is_still_known():
    before = engine_of()
    feed(before, [host(at) for at in (0, 5)])
    feed(before, [census(at, row(7, 60 + at)) for at in range(0, 120, 5)])
    after = engine_of(earlier=Earlier(T0 + 200, UP0 + 200, (), Counted(BOOT, 0)))
    after.load(before.dump())
    feed(after, [host(200, 1), census(200, row(9, 5))])
    (told,) = events(feed(after, [*kill_line(150, 7), host(203, 1)]))
    assert told.body["unit"] == "shop.service" and told.body["start"] == 700


# -- facts ----------------------------------------------------------------------------------------

FACTS = [
    CgroupKills(1.0, 2.0, (("/a", 1, None), ("/b", 2, 3)), whole=True),
    LogState(1.0, 2.0, "off", "why"),
    LogState(1.0, None, "live"),
    Looked(1.0, 2.0, "claims-1", (EARLYOOM,), {"a.service": {"Result": "signal"}}, "no journal"),
    Earlier(1.0, 2.0),
    Earlier(
        1.0, 2.0, (PastKill(1.0, BOOT, "1-2", 1, 2, "c", None, 0, "u", 5, 6, 7.5),),
        Counted(BOOT, 5, (("id", 2, 1.0, None),)), (("1-2", 1),),
    ),
]  # fmt: skip


@pytest.mark.parametrize("fact", FACTS)
def test_every_fact_of_these_comes_back_as_it_went(fact):
    assert trace.fact(trace.line(fact)) == fact


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"cgroup_kills","t":1,"rows":5}',
        '{"type":"cgroup_kills","t":1,"rows":[["/a"]]}',
        '{"type":"cgroup_kills","t":1,"rows":[["/a","1",null]]}',
        '{"type":"log","t":1}',
        '{"type":"looked","t":1}',
        '{"type":"looked","t":1,"look_id":"x","entries":[5]}',
        '{"type":"looked","t":1,"look_id":"x","units":{"a":5}}',
        '{"type":"earlier","t":1,"kills":[5]}',
        '{"type":"earlier","t":1,"kills":[{"t":1}]}',
        '{"type":"earlier","t":1,"again":[["x"]]}',
    ],
)
def test_a_broken_one_is_one_sentence(text):
    with pytest.raises(trace.TraceError, match="expected"):
        trace.fact(text)


@pytest.mark.parametrize(
    "kept", [None, 5, [], {}, {"boot_id": 1, "value": 2, "missing": []},
             {"boot_id": "b", "value": 2, "missing": [["x", -1, 0, 0]]},
             {"boot_id": "b", "value": 2, "missing": [5]}],
)  # fmt: skip
def test_a_kept_count_that_is_none_is_none(kept):
    assert trace.counted_of(kept) is None


# -- containers -----------------------------------------------------------------------------------


def place(tmp_path: Path, namespace: str | None, **files: str) -> str:
    proc = tmp_path / "proc"
    (proc / "self" / "ns").mkdir(parents=True)
    (proc / "1").mkdir()
    if namespace:
        (proc / "self" / "ns" / "pid").symlink_to(namespace)
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(proc)


@pytest.mark.parametrize(
    ("namespace", "files", "says"),
    [
        ("pid:[4026531836]", {}, None),
        # a machine that was made from an image, and a container that shares the host's processes
        ("pid:[4026531836]", {".dockerenv": ""}, None),
        ("pid:[4026532201]", {}, "PID namespace"),
        ("pid:[4026532201]", {"run__systemd__container": "lxc\n"}, "lxc"),
        (None, {}, None),
        (None, {".dockerenv": ""}, "/.dockerenv"),
        (None, {"run__.containerenv": ""}, "containerenv"),
        (None, {"proc__1__environ": "PATH=/\0container=podman\0"}, "podman"),
        (None, {"proc__1__cgroup": "4:memory:/docker/abc\n0::/\n"}, "cgroup of PID 1"),
        (None, {"proc__1__cgroup": "0::/init.scope\n"}, None),
        (None, {"proc__vz": ""}, "/proc/vz"),
    ],
)
def test_a_container_is_where_other_processes_are_out_of_sight(tmp_path, namespace, files, says):
    found = container.inside(place(tmp_path, namespace, **files))
    assert (found is None) if says is None else (says in (found or ""))


def test_this_machine_counts_its_own_kills_if_it_is_in_the_first_pid_namespace():
    own = Path("/proc/self/ns/pid").readlink()
    assert (container.inside() is None) is (str(own) == container.FIRST_PID_NAMESPACE)


# -- the program ----------------------------------------------------------------------------------


class Reader:
    """A journal that answers these entries."""

    def __init__(self, entries):
        self.entries = list(entries)
        self.matches = []

    def add_match(self, **match):
        self.matches.append(match)

    def add_disjunction(self):
        self.matches.append("or")

    def seek_realtime(self, since):
        self.since = since

    def get_next(self):
        return self.entries.pop(0) if self.entries else {}


def test_the_program_prints_what_journald_says_of_the_sender():
    reader = Reader([
        {"__REALTIME_TIMESTAMP": 5_000_000, "_SYSTEMD_UNIT": "earlyoom.service",
         "_COMM": "earlyoom",
         "_UID": 0, "_PID": 7, "MESSAGE": b"a\x1b\xff"},
        {"__REALTIME_TIMESTAMP": 1, "MESSAGE": "of before"},
        {"__REALTIME_TIMESTAMP": 6_000_000, "UNIT": "x.service", "_UID": "x"},
    ])  # fmt: skip
    first, second = program._read(reader, 2.0)
    assert first == {"t": 5.0, "unit": "earlyoom.service", "comm": "earlyoom", "uid": 0, "pid": 7,
                     "about": None, "text": "a\\x1b\\xff"}  # fmt: skip
    assert second["about"] == "x.service" and second["text"] == "" and second["uid"] is None
    assert {"_PID": "1"} in reader.matches and reader.matches.count("or") == 2


@pytest.mark.parametrize(
    "argv", [[], ["--since"], ["--since", "x"], ["--since", "1", "--what", "2"]]
)
def test_the_program_says_how_it_is_called(argv, capsys):
    assert program.main(argv) == 2
    assert "usage" in capsys.readouterr().err


def test_the_programs_units_are_those_that_are_believed():
    from watchdog.judge import claims as judge

    assert set(program.UNITS) == set(judge.UNITS) and set(program.COMMS) == set(judge.COMMS)


def test_found_is_what_is_told():
    assert Found("/a", 1, False)._asdict() == {"cgroup": "/a", "kills": 1, "below": False}
    assert json.loads(trace.line(FACTS[0]))["type"] == "cgroup_kills"

"""Too small or leaking: the verdict by history, by the report alone, and what to do next."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog import words
from watchdog.facts import Entity, PastKill
from watchdog.history.entities import Trend
from watchdog.history.world import World
from watchdog.judge.advice import advice
from watchdog.judge.by_history import history
from watchdog.judge.diagnosis import oom_kill_event
from watchdog.judge.kills import Kills
from watchdog.judge.past import NOTHING, Grower, Growth, Kill, Leak, Past, grower_of, growth_of
from watchdog.judge.ruling import Verdict
from watchdog.judge.sentences import headline
from watchdog.judge.verdict import ALONE_MAX, judge
from watchdog.memory import Counters, Group
from watchdog.oom_report.mem_info import Limit, Zone
from watchdog.oom_report.report import Invoker, Report, Victim
from watchdog.oom_report.tasks import Row

MIB = 1 << 20
GIB = 1 << 30
HOUR = 3600.0
T = 1_000_000.0
SHOP = Entity(7, 70, "shop", "/usr/bin/shop", 0, "shop.service")


def report(**more: Any) -> Report:
    """A cgroup of 512 MiB at its limit, in which 500 MiB are the victim's."""
    told = dict.fromkeys(Report._fields) | {
        "t": T, "lines": (1, 9), "outcome": "killed", "scope": "memcg", "also_killed": (),
        "cgroup": "/system.slice/shop.service",
        "manual": False, "allocating": False, "kill_lines": 1, "page_size": 4096,
        "limits": {"memory": Limit(512 * MIB, 512 * MIB, 3)},
        "rows": (), "tasks_count": 0, "pagetables_are_bytes": True,
        "zones": (), "slabs": (), "allocations": (),
        "stuck": False, "suppressed": 0, "unread": 0, "missing": (),
        "victim": Victim(7, "shop", anon=500 * MIB, file=0, shmem=0),
    }  # fmt: skip
    return Report(**(told | more))


def machine(**more: Any) -> Report:
    """A machine of 4 GiB that is out of memory; the victim held 500 MiB of it."""
    told = {"scope": "global", "cgroup": None, "limits": {}, "swap_total": 0, "swap_free": 0,
            "memory": Counters(4 * GIB, free=30 * MIB, lru_anon=3500 * MIB)}  # fmt: skip
    return report(**(told | more))


def past(growth: Growth | None = None, **more: Any) -> Past:
    return Past(SHOP, growth, **more)


def grown(first: int, last: int, watched_s: float, **more: Any) -> Growth:
    return Growth(watched_s, first * MIB, last * MIB, **more)


def row(pid: int, mib: int, name: str = "shop") -> Row:
    return Row(pid, 0, pid, mib * 512, mib * 256, None, None, None, 4096, 0, 0, name)


def kills(*sizes: int, apart: float = 6 * HOUR, limits: tuple[int, ...] = ()) -> tuple[Kill, ...]:
    """Earlier kills at so many MiB, the last of them `apart` before this one."""
    many = len(sizes)
    return tuple(
        Kill(T - (many - i) * apart, 1, "shop", mib * MIB, limits[i] * MIB if limits else None)
        for i, mib in enumerate(sizes)
    )


# -- with history ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "verdict", "least"),
    [
        (past(leak=Leak("confirmed", 2e6, 180.0, 0.93)), "leak", 0.93),
        (past(leak=Leak("confirmed", 2e6, 180.0)), "leak", 0.9),
        (past(leak=Leak("suspected", 2e6, 180.0, 0.5)), "leak", 0.6),
        (past(unit_leak=Leak("confirmed", 2e6, 180.0)), "leak", 0.85),
        # a worker is new, its unit has been climbing: recycling hides it
        (past(grown(500, 500, 30), unit_leak=Leak("suspected", 1e4, 9000.0)), "leak", 0.55),
        (past(grown(500, 500, 700)), "limit-too-low", 0.75),
        (past(grown(500, 505, 150)), "limit-too-low", 0.55),
        (past(grown(500, 505, 30)), "limit-too-low", 0.4),
        # first seen while it started
        (past(grown(20, 498, 900, minute_ago_bytes=495 * MIB, rate=0.0,
                    ten_minutes_ago_bytes=490 * MIB)), "limit-too-low", 0.75),
        (past(grown(20, 498, 18000, minute_ago_bytes=495 * MIB, rate=200.0,
                    ten_minutes_ago_bytes=490 * MIB)), "limit-too-low", 0.75),
        (past(grown(20, 498, 240, minute_ago_bytes=490 * MIB)), "limit-too-low", 0.4),
        (past(unit_growth=grown(480, 490, 700)), "limit-too-low", 0.6),
        (past(grown(40, 500, 900, minute_ago_bytes=60 * MIB)), "spike", 0.8),
        (past(grown(40, 60, 900, minute_ago_bytes=60 * MIB)), "spike", 0.8),
        (past(grown(40, 480, 900, minute_ago_bytes=400 * MIB,
                    ten_minutes_ago_bytes=50 * MIB)), "spike", 0.6),
        (past(grown(2, 500, 40)), "spike", 0.6),
        (past(grown(300, 300, 5)._replace(last_bytes=100 * MIB, first_bytes=100 * MIB)),
         "spike", 0.6),
        (past(grown(100, 200, 700)), "spike", 0.75),
        (past(grown(100, 500, 7000, minute_ago_bytes=495 * MIB, rate=1e4,
                    ten_minutes_ago_bytes=480 * MIB)), "leak", 0.5),
        (past(unit_growth=grown(100, 500, 7000, rate=1e4)), "leak", 0.5),
        # the floor stays, and it needed that much before
        (past(grown(200, 480, 9000, ten_minutes_ago_bytes=210 * MIB, highest_bytes=490 * MIB,
                    minute_ago_bytes=450 * MIB)), "limit-too-low", 0.6),
        (Past(since_t=T - 900, growers=(Grower("a", 9, None, MIB, 60.0, MIB),)), "spike", 0.5),
    ],
)  # fmt: skip
def test_history_decides(known: Past, verdict: str, least: float) -> None:
    found = judge(report(), known)
    assert (found.verdict, found.confidence) == (verdict, least)
    assert found.reasons[0] == found.reason
    assert not any("from the report alone" in reason for reason in found.reasons)
    assert not found.alone
    if verdict == "limit-too-low":
        assert judge(machine(), known).verdict == "too-small"


def test_the_leak_of_another() -> None:
    other = Grower("shop-1.service", None, "shop-1.service", 380 * MIB, 7200.0, 600 * MIB,
                   Leak("confirmed", 5e4, 7200.0))  # fmt: skip
    mine = Grower("shop", 7, "shop.service", MIB, 7200.0, 500 * MIB)
    known = past(grown(499, 500, 7200), growers=(other, mine))
    found = judge(machine(), known)
    assert (found.verdict, found.culprit) == ("leak", other)
    assert found.reason == (
        "the leak was shop-1.service, which grew 380 MiB in 2 h; shop was only the one that the "
        "kernel took"
    )
    assert "; shop-1.service leaks" in headline(machine(), known, found)
    lines = advice(machine(), known, found)
    assert lines[0].startswith("systemctl restart shop-1.service")
    # but who grew more itself is no victim of another
    own = past(grown(10, 500, 7200), growers=(other._replace(grew_bytes=MIB),))
    assert judge(machine(), own).culprit is None


def test_the_growth_of_another() -> None:
    def found(grew: int, over_s: float, size: int) -> Verdict:
        other = Grower("job", 9, None, grew * MIB, over_s, size * MIB)
        known = past(grown(499, 500, 7200), growers=(other,))
        return judge(machine(victim=Victim(7, "shop", anon=500 * MIB)), known)

    burst = found(2000, 60.0, 2100)
    assert (burst.verdict, burst.confidence) == ("spike", 0.7)
    assert burst.culprit is not None
    assert "job (pid 9), which grew 2.0 GiB in 1 min" in burst.reason
    assert "job took the memory all at once" in headline(machine(), NOTHING, burst)
    assert found(2000, 3600.0, 2050).verdict == "too-small"
    slow = found(2000, 3600.0, 3000)
    assert (slow.verdict, slow.confidence) == ("leak", 0.5)
    assert found(20, 3600.0, 3000).culprit is None
    alone = Past(growers=(Grower("job", 9, None, GIB, 60.0, GIB),))
    assert judge(machine(), alone).verdict == "unknown"  # nothing is known of the victim


@pytest.mark.parametrize(
    ("known", "verdict", "confidence"),
    [
        # each life takes what it is given, though the limit was raised
        (past(kills=kills(200, 300, 400, limits=(256, 384, 512))), "leak", 0.75),
        (past(kills=kills(200, 300, 400)), "leak", 0.65),
        (past(grown(20, 500, 6 * HOUR, minute_ago_bytes=499 * MIB), kills=kills(500, 500)),
         "leak", 0.7),
        (past(kills=kills(500, 500, 500, apart=90.0)), "limit-too-low", 0.65),
        (past(kills=kills(500, 500, 500)), "leak", 0.5),
        (past(grown(500, 500, 700), kills=kills(500, 500)), "limit-too-low", 0.7),
        (past(kills=kills(500)), "limit-too-low", 0.3),
        (past(kills=(Kill(T - 90 * HOUR), Kill(T - 5 * HOUR), Kill(T - 4 * HOUR))),
         "limit-too-low", 0.3),
        (past(kills=(Kill(T, 1), Kill(T, 2))), "limit-too-low", 0.3),
    ],
)  # fmt: skip
def test_earlier_kills_of_the_same_unit(known: Past, verdict: str, confidence: float) -> None:
    found = judge(report(), known)
    assert (found.verdict, found.confidence) == (verdict, confidence)
    if known.kills[0].t < T:
        assert any("OOM kill of this unit" in reason for reason in found.reasons)


def test_the_story_of_the_kills() -> None:
    four = past(kills=kills(200, 300, 400, apart=18 * HOUR))
    assert history(report(), four) == "the 4th OOM kill of this unit in 2 d 6 h, 18 h apart"
    assert history(report(), past(kills=kills(9))) == "the 2nd OOM kill of this unit in 6 h"
    nameless = Past(SHOP._replace(unit=None), kills=kills(9, 9))
    assert history(report(), nameless).startswith("the 3rd OOM kill of this program")
    assert history(report(), past()) == ""
    eleventh = past(kills=kills(*[9] * 10))
    assert history(report(), eleventh).startswith("the 11th OOM kill")
    assert history(report(t=0.0), past(kills=(Kill(T),))) == "the 2nd OOM kill of this unit"


# -- without history -------------------------------------------------------------------------------


def test_a_human_asked() -> None:
    found = judge(machine(manual=True), past(leak=Leak("confirmed", 1.0, 9.0)))
    assert (found.verdict, found.confidence) == ("unknown", 0.0)
    assert headline(machine(manual=True), NOTHING, found).endswith("a human asked for it (SysRq-f)")
    assert advice(machine(manual=True), NOTHING, found) == [
        "sysctl -w kernel.sysrq=0  # forbids it; who it was is not recorded"
    ]


def test_the_report_alone() -> None:
    def verdict(told: Report) -> tuple[str, float]:
        found = judge(told, NOTHING)
        assert found.alone
        assert found.confidence <= ALONE_MAX
        if found.verdict != "unknown":
            assert "this is from the report alone, without history" in found.reasons
        return found.verdict, found.confidence

    assert verdict(report()) == ("limit-too-low", 0.3)  # one process fills the limit
    small = Victim(7, "shop", anon=MIB, file=0, shmem=0)
    assert verdict(report(victim=small)) == ("unknown", 0.0)
    assert verdict(machine()) == ("unknown", 0.0)
    kernel = Group(512 * MIB, {"anon": MIB, "kernel": 400 * MIB})
    assert verdict(report(memory=kernel, victim=small)) == ("kernel-memory", 0.5)
    slab = Counters(4 * GIB, lru_anon=GIB, slab_unreclaimable=GIB + 400 * MIB, free=MIB)
    assert verdict(machine(memory=slab)) == ("kernel-memory", 0.5)
    tables = Counters(4 * GIB, lru_anon=GIB, pagetables=2 * GIB, free=MIB)
    assert verdict(machine(memory=tables)) == ("kernel-memory", 0.5)
    assert "page tables" in judge(machine(memory=tables), NOTHING).reason
    assert advised(machine(memory=tables))[0].startswith("grep -H VmPTE")
    lost = Counters(4 * GIB, lru_anon=GIB, free=MIB)
    assert advised(machine(memory=lost))[0].startswith("lsmod")
    assert verdict(machine(memory=lost)) == ("kernel-memory", 0.4)
    shared = Counters(4 * GIB, lru_anon=3500 * MIB, shmem=3 * GIB, free=MIB)
    assert verdict(machine(memory=shared)) == ("too-small", 0.35)
    huge = Counters(4 * GIB, lru_anon=2 * GIB, hugepages=2 * GIB, hugepages_free=2 * GIB)
    assert verdict(machine(memory=huge, huge_free=2 * GIB)) == ("kernel-memory", 0.5)
    workers = tuple(row(pid, 350, "worker") for pid in range(1, 11))
    assert verdict(machine(rows=workers, tasks_count=10)) == ("too-small", 0.4)
    one = (row(1, 3000, "hog"),)
    found = judge(machine(rows=one, tasks_count=1), NOTHING)
    assert found.verdict == "unknown"
    assert "hog alone held 73 %" in found.reason
    pieces = machine(
        zones=(Zone(0, "Normal", GIB, MIB, None, None, GIB, {4096: 99}),),
        invoker=Invoker("a", 1, 3, "0x1", "GFP_KERNEL", 0),
    )
    assert verdict(pieces) == ("fragmentation", 0.5)
    assert verdict(pieces._replace(zones=(), fragmented=True)) == ("fragmentation", 0.5)
    assert verdict(machine(scope="mempolicy", nodemask="1")) == ("limit-too-low", 0.4)
    wrong = machine(scope="cpuset", zones=(Zone(4, "Movable", GIB, 1, None, None, GIB, {}),),
                    invoker=Invoker("a", 1, 0, "0x1", "GFP_KERNEL", 0))  # fmt: skip
    assert verdict(wrong) == ("limit-too-low", 0.5)
    early = machine(victim=None, outcome="panic", panic="no killable", rows=())
    assert verdict(early) == ("too-small", 0.4)
    assert verdict(early._replace(missing=("tasks",))) == ("unknown", 0.0)


def test_memory_that_was_not_short() -> None:
    told = machine(
        memory=Counters(15 * GIB, free=9 * GIB), victim=None, outcome="panic",
        panic="Out of memory: system-wide panic_on_oom is enabled",
        zones=(Zone(0, "Normal", 9 * GIB, MIB, None, None, 9 * GIB, {}),),
    )  # fmt: skip
    found = judge(told, NOTHING)
    assert (found.verdict, found.short) == ("unknown", False)
    assert headline(told, NOTHING, found) == (
        "The kernel panicked as vm.panic_on_oom is set, though the machine was not short of memory"
    )
    assert advice(told, NOTHING, found)[0].startswith("sysctl -w vm.panic_on_oom=0")
    killed = machine(memory=told.memory, zones=told.zones)
    assert headline(killed, NOTHING, judge(killed, NOTHING)).endswith(
        "as the kernel thought; it was not short of memory"
    )


# -- what to do next -------------------------------------------------------------------------------

COMMANDS = ("systemctl ", "sysctl ", "oom-watchdog ", "docker ", "podman ", "kubectl ", "lxc ",
            "echo ", "lsmod ", "slabtop ", "sort ", "df ", "fallocate ", "systemd-run ", "numactl ",
            "grep ")  # fmt: skip
ID = "6c6fcab8562fd3150854986b78552c732f234fd405b624207b8843528a145e70"


def advised(told: Report, known: Past = NOTHING) -> list[str]:
    lines = advice(told, known, judge(told, known))
    assert len(lines) <= 3
    assert all(line.startswith(COMMANDS) for line in lines)
    return lines


@pytest.mark.parametrize(
    ("cgroup", "line"),
    [
        ("/system.slice/shop.service", "systemctl set-property shop.service MemoryMax=768M"),
        ("/user.slice", "systemctl set-property user.slice MemoryMax=768M"),
        (f"/docker/{ID}", "docker update --memory 768m --memory-swap 1536m 6c6fcab8562f"),
        (f"/machine.slice/libpod-{ID}.scope", "podman update --memory 768m 6c6fcab8562f"),
        (f"/kubepods/pod62015ce8-a46f-4b0e-a5a1-3082235c62dd/{ID}",
         "kubectl set resources deployment/NAME --limits=memory=768Mi"),
        ("/kubepods/pod62015ce8-a46f-4b0e-a5a1-3082235c62dd",
         "kubectl set resources deployment/NAME --limits=memory=768Mi"),
        ("/lxc/web", "lxc config set web limits.memory 768MiB"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/a.service",
         "systemctl --user set-property a.service MemoryMax=768M"),
        ("/build", "echo 768M >/sys/fs/cgroup/build/memory.max"),
        ("/a;reboot", "echo 768M >/sys/fs/cgroup/PATH/memory.max"),
        ("/a,task_memcg=/system.slice/ssh.service", "echo 768M >/sys/fs/cgroup/PATH/memory.max"),
        ("/../../etc", "echo 768M >/sys/fs/cgroup/PATH/memory.max"),
        ("/system.slice/$(reboot).service", "systemctl set-property UNIT MemoryMax=768M"),
        (None, "systemctl set-property UNIT MemoryMax=768M"),
    ],
)  # fmt: skip
def test_how_to_raise_a_limit(cgroup: str | None, line: str) -> None:
    assert advised(report(cgroup=cgroup))[0].startswith(line)
    if cgroup is not None and ";" in cgroup:
        assert advised(report(cgroup=cgroup), past())[0].startswith(
            "systemctl set-property shop.service MemoryMax=768M"
        )


def test_a_limit_of_the_first_cgroups() -> None:
    limits = {"memory": Limit(9, 512 * MIB, 1), "kmem": Limit(1, None, 0)}
    assert advised(report(cgroup="/build", limits=limits))[0].startswith(
        "echo 768M >/sys/fs/cgroup/memory/build/memory.limit_in_bytes"
    )
    assert advised(report(cgroup="/build", limits={}))[0].startswith("echo SIZE >")


def test_a_leak_is_restarted_in_time() -> None:
    known = past(leak=Leak("confirmed", 1e6, 900.0), kills=kills(500, 500))
    assert advised(report(), known) == [
        "systemctl restart shop.service  # in time: 6 h after each start, before it is full",
        "oom-watchdog events --unit shop.service  # shows how it grew",
        "systemctl set-property shop.service MemoryMax=768M  # only puts the next kill off",
    ]
    known = past(leak=Leak("confirmed", 1e6, 900.0))
    nameless = known._replace(victim=SHOP._replace(unit=None))
    assert advised(machine(), nameless)[0] == "oom-watchdog events --pid 7  # shows how it grew"
    lines = advised(machine(), known)
    assert lines[0].endswith("# in time: until it is mended")
    assert lines[2].startswith("systemctl set-property shop.service MemoryMax=SIZE")
    hostile = Past(SHOP._replace(unit="a b;reboot.service"), leak=Leak("confirmed", 1e6, 9.0))
    assert not any("reboot" in line for line in advised(machine(), hostile))


def test_what_helps_otherwise() -> None:
    pieces = machine(
        zones=(Zone(0, "Normal", GIB, 64 * MIB, None, None, GIB, {4096: 99}),),
        invoker=Invoker("a", 1, 3, "0x1", "GFP_KERNEL", 0),
    )
    assert advised(pieces)[0].startswith("sysctl -w vm.min_free_kbytes=131072 ")
    assert advised(pieces._replace(zones=(), fragmented=True))[0].startswith(
        "sysctl -w vm.min_free_kbytes=KIB "
    )
    slab = machine(memory=Counters(4 * GIB, lru_anon=GIB, slab_unreclaimable=3 * GIB),
                   allocations=((GIB, "mm/slub.c:1 func:x"),))  # fmt: skip
    assert advised(slab)[0].startswith("slabtop ")
    assert advised(slab)[1].startswith("sort -g /proc/allocinfo")
    huge = Counters(4 * GIB, lru_anon=2 * GIB, hugepages=2 * GIB, hugepages_free=2 * GIB)
    assert advised(machine(memory=huge, huge_free=2 * GIB))[0].startswith(
        "sysctl -w vm.nr_hugepages=N"
    )
    shared = Counters(4 * GIB, lru_anon=3500 * MIB, shmem=3 * GIB, free=MIB)
    assert advised(machine(memory=shared))[0].startswith("df -h -t tmpfs")
    assert advised(machine())[0].startswith("fallocate ")
    locked = Counters(4 * GIB, lru_anon=GIB, unevictable=2900 * MIB, free=MIB)
    assert advised(machine(memory=locked, swap_total=GIB))[0].startswith("grep -H VmLck")
    assert advised(machine(allocating=True))[0].startswith("sysctl -w vm.oom_kill_allocating_task")
    assert advised(machine(scope="mempolicy"))[0].startswith("numactl ")
    assert advised(machine(scope="cpuset"))[0].startswith("systemctl set-property UNIT Allowed")
    assert advised(machine(scope="cpuset", cpuset=f"docker-{ID}.scope"))[0].startswith(
        "docker update --cpuset-mems 0-N 6c6fcab8562f"
    )
    hog = machine(rows=(row(1, 3000, "hog"),), tasks_count=1, swap_total=GIB)
    assert advised(hog)[0].startswith("systemd-run --scope -p MemoryMax=SIZE")
    bare = machine(swap_total=GIB, missing=("tasks",))
    assert advised(bare)[-1].startswith("sysctl -w vm.oom_dump_tasks=1")
    burst = past(grown(40, 400, 900, minute_ago_bytes=60 * MIB))
    assert advised(machine(), burst)[0].startswith("systemctl set-property shop.service MemoryMax=")
    assert "oom-watchdog events --unit shop.service" in advised(machine(), burst)[-1]
    nameless = Past(SHOP._replace(unit=None), burst.growth)
    assert advised(machine(), nameless)[0].startswith("systemd-run --scope")
    assert not any(line.startswith("systemd-run") for line in advised(report(), burst))


# -- headlines -------------------------------------------------------------------------------------


def test_headlines() -> None:
    def said(told: Report, known: Past = NOTHING) -> str:
        return headline(told, known, judge(told, known))

    assert said(report(), past(grown(500, 500, 700))) == (
        "shop (pid 7, shop.service, 500 MiB) was killed: shop.service was at its limit of 512 MiB; "
        "probably its limit is too low"
    )
    assert said(report(cgroup=None)).startswith("shop (pid 7, 500 MiB) was killed: its cgroup was")
    both = {"memory": Limit(9, 9, 9), "memory+swap": Limit(MIB, MIB, 1)}
    assert "at its limit of 1.0 MiB" in said(report(limits=both))
    assert "it may use too few nodes" in said(machine(scope="cpuset"))
    assert "the nodes of its memory policy gave out" in said(machine(scope="mempolicy"))
    assert "whose memory was out is not told" in said(machine(scope=None, memory=None))
    gone = {"victim": None, "rows": ()}
    assert said(machine(**gone, outcome="cut-off")) == (
        "The report is cut off before it names a victim: the machine was out of memory"
    )
    assert said(machine(**gone, outcome="no-victim", missing=("tasks",))) == (
        "Nobody could be killed: the machine was out of memory"
    )
    assert said(machine(**gone, outcome="selected", selected=(9, "a", 1))).startswith(
        "a (pid 9) was chosen to die: the machine was out of memory"
    )
    assert said(machine(**gone, outcome="panic", panic="no killable")).startswith(
        "The kernel panicked, as nobody could be killed: the machine was out of memory"
    )
    known = past(kills=kills(500))
    assert said(machine(), known).endswith("whether it leaks or has too little is not clear")


# -- laws ------------------------------------------------------------------------------------------

sizes = st.integers(0, 1 << 45)
maybe = st.none() | sizes
growths = st.builds(
    Growth, st.floats(0, 1e7), sizes, sizes, maybe, maybe, maybe, st.none() | st.floats(-1e9, 1e9)
)
leaks = st.builds(
    Leak, st.sampled_from(["suspected", "confirmed"]), st.floats(-1e9, 1e9), st.floats(0, 1e7),
    st.none() | st.floats(0, 1),
)  # fmt: skip
names = st.sampled_from(["a", "b c", "x" * 40, "\x1b[2J", "a;b$(c)", "é\n", ")"]).map(words.safe)
growers = st.builds(
    Grower, names, st.none() | st.integers(1, 9), st.none() | names, sizes, st.floats(0, 1e6),
    sizes, st.none() | leaks,
)  # fmt: skip
pasts = st.builds(
    Past,
    st.none() | st.just(SHOP) | st.builds(lambda unit: SHOP._replace(unit=unit), names),
    st.none() | growths, st.none() | leaks, st.none() | growths, st.none() | leaks,
    st.lists(growers, max_size=3).map(tuple),
    st.lists(st.builds(Kill, st.floats(0, 2 * T), st.none(), st.none(), maybe, maybe), max_size=6)
    .map(lambda found: tuple(sorted(found, key=lambda kill: kill.t))),
    st.just({}), st.none() | st.floats(0, T),
)  # fmt: skip
tables = st.lists(
    st.builds(Row, st.integers(1, 9), maybe, maybe, sizes, sizes, maybe, maybe, maybe, maybe,
              maybe, st.none() | st.integers(-1000, 1000), names), max_size=8,
).map(tuple)  # fmt: skip
zone_lists = st.lists(
    st.builds(Zone, st.integers(0, 4), st.sampled_from(["DMA", "DMA32", "Normal", "Movable", "X"]),
              sizes, sizes, maybe, maybe, maybe,
              st.dictionaries(st.sampled_from([4096, 8192, 65536]), st.integers(0, 9)),
              maybe, st.lists(sizes, max_size=4).map(tuple)), max_size=4,
).map(tuple)  # fmt: skip
limit_sets = st.dictionaries(
    st.sampled_from(["memory", "memory+swap", "swap", "kmem"]),
    st.builds(Limit, sizes, maybe, st.integers(0, 1 << 40)),
)
memories = st.none() | st.builds(
    lambda total, anon, shmem, slab: Counters(total, free=anon, lru_anon=anon, shmem=shmem,
                                              slab_unreclaimable=slab),
    sizes, maybe, maybe, maybe,
) | st.builds(lambda usage, anon: Group(usage, {"anon": anon}), sizes, sizes)  # fmt: skip
victims = st.none() | st.builds(
    Victim, st.integers(0, 9), st.none() | names, st.none(), maybe, maybe, maybe, maybe, maybe,
    maybe, st.none() | st.integers(-1000, 1000), st.sampled_from(["kill line", "oom_reaper"]),
)  # fmt: skip
paths = st.none() | st.text(st.sampled_from("/ab.@- ;$x"), max_size=60).map(lambda t: "/" + t)
any_report = st.builds(
    report,
    t=st.sampled_from([0.0, T]), outcome=st.sampled_from(
        ["killed", "selected", "panic", "no-victim", "cut-off"]),
    scope=st.sampled_from(["memcg", "global", "cpuset", "mempolicy", None]),
    cgroup=paths, task_cgroup=paths, cpuset=st.none() | names, victim=victims,
    selected=st.none() | st.tuples(st.integers(1, 9), st.none() | names, maybe),
    invoker=st.none() | st.builds(
        Invoker, names, st.none() | st.integers(1, 9), st.none() | st.integers(-1, 99),
        st.none() | st.just("0x0"),
        st.none() | st.sampled_from(["", "GFP_KERNEL", "GFP_HIGHUSER_MOVABLE|__GFP_ZERO"]),
        st.none()),
    path=st.sampled_from([None, "page fault", "allocation"]), manual=st.booleans(),
    allocating=st.booleans(), limits=limit_sets, rows=tables,
    page_size=st.sampled_from([None, 4096, 65536]), tasks_count=st.integers(0, 9),
    pagetables_are_bytes=st.booleans(), memory=memories, swap_total=maybe, swap_free=maybe,
    huge_free=maybe, zones=zone_lists, fragmented=st.none() | st.booleans(), total_pages=maybe,
    slabs=st.lists(st.tuples(names, sizes, sizes), max_size=3).map(tuple),
    allocations=st.lists(st.tuples(sizes, names), max_size=3).map(tuple),
    kernel_version=st.sampled_from([None, "2.6.32", "3.8.0", "4.18.0", "6.1.0", "x"]),
    reaped_left=maybe, freed_bytes=maybe, stuck=st.booleans(),
    missing=st.sampled_from([(), ("tasks",)]),
    panic=st.none() | st.sampled_from(["no killable", "panic_on_oom is enabled"]),
)  # fmt: skip


@settings(max_examples=100)
@given(any_report, pasts)
def test_any_report_makes_sentences_that_can_be_printed(told: Report, known: Past) -> None:
    body, because, _ = oom_kill_event(told, known)
    said = [*because, *body["verdict_reasons"], *body["why_now"], *body["advice"],
            body["headline"], body["why_victim"] or "x", body["request"] or "x"]  # fmt: skip
    assert all(sentence and sentence.isprintable() for sentence in said)
    assert 0.0 <= body["confidence"] <= 1.0
    assert body["verdict"] in ("leak", "too-small", "spike", "limit-too-low", "kernel-memory",
                               "fragmentation", "unknown")  # fmt: skip
    assert len(body["advice"]) <= 3
    assert all(line.startswith(COMMANDS) for line in body["advice"])
    assert body["verdict_reasons"][0] == body["verdict_because"]
    json.dumps(body)
    alone, _, _ = oom_kill_event(told)
    assert alone["confidence"] <= ALONE_MAX


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0.5, 4000), st.integers(0, 1 << 22)), max_size=40))
def test_any_trend_becomes_growth(steps: list[tuple[float, int]]) -> None:
    trend, up = Trend(T, 0.0), 0.0
    for gap, kib in steps:
        up += gap
        trend.add(T + up, up, kib)
    growth = growth_of(trend)
    assert growth.highest_bytes is not None
    assert growth.highest_bytes >= growth.last_bytes
    assert growth.watched_s >= 0
    grower = grower_of(trend, "x", 1, None)
    if grower is not None:
        assert grower.grew_bytes > 0 < grower.over_s
        assert grower.grew_bytes <= grower.last_bytes


def test_earlier_kills_are_of_the_same_program_only() -> None:
    """An interpreter runs many a program: name, owner and limit must agree where no unit does."""
    pod = "/kubepods/pod62015ce8-a46f-4b0e-a5a1-3082235c62dd/"
    kills_room = Kills(World())
    one = PastKill(T - 9, None, "1-2", 1, 2, "python3", "/usr/bin/python3", 0, cgroup="/a")
    kills_room.past.extend([
        one, one._replace(pid=3, cgroup="/b"), one._replace(pid=4, uid=9),
        one._replace(pid=5, unit="x.service"), one._replace(pid=6, t=T + 1),
        one._replace(pid=8, cgroup=pod + "1" * 64),
    ])  # fmt: skip
    told = report(cgroup="/a", victim=Victim(7, "python3", 0))
    assert [kill.pid for kill in kills_room._kills_of(told)] == [2]
    again = told._replace(cgroup=pod + "2" * 64)
    assert [kill.pid for kill in kills_room._kills_of(again)] == [8]
    assert kills_room._kills_of(told._replace(victim=None)) == []

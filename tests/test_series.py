"""Memory that no process owns, and units without a cgroup: each judged, each named once."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog import memory, trace
from watchdog.cli import replay
from watchdog.engine import Engine
from watchdog.facts import Event, Group, Host, Sweep, Who
from watchdog.history import sums
from watchdog.history.headroom import limit_left
from watchdog.policy import view
from watchdog.policy.rules import default_rules
from watchdog.store import file
from watchdog.store.entities import load as load_entities
from watchdog.store.entities import upsert
from watchdog.store.place import DATABASE
from watchdog.tell import terminal

MIB = 1 << 20
T0, UP0 = 1_700_000_000.0, 7200.0
SHOP, PATH = "shop.service", "/system.slice/shop.service"


def facts(seconds, at_second, interval=10):
    """`at_second` gives (host's extra fields, [groups], [rows]) of one second."""
    found = []
    for at in range(0, seconds, interval):
        more, groups, rows = at_second(at)
        found.append(Host(T0 + at, UP0 + at, "b0000000", T0 - UP0, 8000 * MIB,
                          int((520 - at / 2) * MIB), 0, 0,
                          **more))  # fmt: skip
        found += [one._replace(t=T0 + at, up=UP0 + at) for one in groups]
        found.append(Sweep(T0 + at, UP0 + at, tuple(rows), census=True))
    return found


def group(unit=SHOP, limit=None, **sizes):
    size = {key: int(mib * MIB) for key, mib in sizes.items()}
    return Group(0, 0, unit, f"/system.slice/{unit}", limit=limit and limit * MIB, **size)


def row(pid, mib, unit=SHOP, start=None, shmem=None):
    return (pid, start or pid * 100, "shop", int(mib * MIB), 0, None, unit, shmem)


def told(found, engine=None):
    engine = engine or Engine(default_rules(), None)
    return [one for fact in found for one in engine.feed(fact) if isinstance(one, Event)]


def test_shared_memory_that_grows_is_named_as_that():
    out = told(facts(900, lambda at: (
        {}, [group(anon=50, shmem=20 + at / 4, kernel=2, limit=350)], [row(7, 50)]
    )))  # fmt: skip
    assert [one.kind for one in out] == ["leak.suspected", "leak.confirmed"]
    for one in out:
        assert one.body["part"] == "shmem" and one.body["scope"] == "unit"
        assert one.body["unit"] == SHOP and one.body["pid"] is None
        assert "it is shared memory or files in a tmpfs" in " ".join(one.because)
    assert out[0].body["rate_bytes_per_s"] == pytest.approx(MIB / 4, rel=0.05)
    assert terminal.message(out[0].flat()).startswith(
        "leak suspected: shared memory of shop.service grows 256 KiB/s"
    )


def test_shared_memory_is_seen_although_the_rest_of_the_unit_swings():
    def swinging(at):
        return {}, [group(anon=300 + 280 * (at // 60 % 2), shmem=20 + at / 4, limit=2000)], []

    out = told(facts(2400, swinging))
    assert [one.kind for one in out][:2] == ["leak.suspected", "leak.confirmed"]
    assert {one.body["part"] for one in out} == {"shmem"}


def test_private_memory_of_a_unit_is_still_that():
    def recycled(at):
        return {}, [group(anon=50 + at / 4, shmem=30, limit=350)], [row(100 + at // 20, 3)]

    out = told(facts(900, recycled))
    assert [one.body["part"] for one in out] == ["anon", "anon"]


def test_kernel_memory_of_a_unit_is_named_as_that():
    out = told(facts(900, lambda at: (
        {}, [group(anon=50, shmem=0, kernel=20 + at / 4, limit=350)], [row(7, 50)]
    )))  # fmt: skip
    assert {one.body["part"] for one in out} == {"kernel"}
    assert "it is memory that the kernel holds for it" in out[0].because[-1]


def test_page_cache_is_no_leak():
    assert told(facts(900, lambda at: (
        {}, [group(anon=50, shmem=5, file=20 + at, limit=1000)], [row(7, 50)]
    ))) == []  # fmt: skip


def test_files_in_a_tmpfs_that_no_unit_holds_are_the_machines():
    def machine(at):
        return {"shmem": int((300 + at / 2) * MIB)}, [group(anon=50, shmem=100)], [row(7, 50)]

    out = told(facts(900, machine))
    assert [one.kind for one in out] == ["leak.suspected", "leak.confirmed"]
    body = out[0].body
    assert body["scope"] == "host" and body["part"] == "shmem" and body["unit"] is None
    assert 200 * MIB < body["resident_bytes"] < 600 * MIB  # without what the unit holds
    assert "no unit that runs holds it" in " ".join(out[0].because)
    assert terminal.message(out[1].flat()).startswith(
        "leak confirmed: shared memory and tmpfs that no unit holds grows 512 KiB/s"
    )


def test_what_a_unit_holds_is_not_the_machines():
    def machine(at):
        shmem = 300 + at / 2
        held = [group(anon=50, shmem=shmem - 10, limit=1000)]
        return {"shmem": int(shmem * MIB)}, held, [row(7, 50)]

    assert {one.body["scope"] for one in told(facts(900, machine))} == {"unit"}


@pytest.mark.parametrize("of_slab", [True, False])
def test_the_kernels_own_memory_has_a_verdict_and_says_what_grows(of_slab):
    def machine(at):
        kernel = 200 + at / 2
        slab = kernel - 100 if of_slab else 100
        return {"kernel": int(kernel * MIB), "slab": int(slab * MIB)}, [], [row(7, 50)]

    engine = Engine(default_rules(), None)
    out = told(facts(900, machine), engine)
    assert [one.kind for one in out] == ["leak.suspected", "leak.confirmed"]
    assert out[1].body["scope"] == "host" and out[1].body["part"] == "kernel"
    assert ("slabtop" in " ".join(out[1].because)) is of_slab
    assert "no process and no unit owns it" in " ".join(out[1].because)
    (leak,) = view.leaks(engine.world, engine.series)
    assert leak["part"] == "kernel" and terminal.leaker(leak) == "memory of the kernel"


def test_kernel_memory_that_a_unit_is_charged_is_not_the_machines():
    def machine(at):
        kernel = 100 + at / 4
        held = [group(anon=50, shmem=0, kernel=kernel - 60, limit=350)]
        return {"kernel": int(kernel * MIB), "slab": 10 * MIB}, held, [row(7, 50)]

    out = told(facts(900, machine))
    assert {(one.body["scope"], one.body["part"]) for one in out} == {("unit", "kernel")}


def test_a_unit_that_is_gone_takes_its_series_with_it():
    engine = Engine(default_rules(), None)
    told(facts(900, lambda at: ({}, [group(anon=300 + 280 * (at // 60 % 2), shmem=20 + at / 4,
                                            limit=2000)], [])), engine)  # fmt: skip
    out = told([Sweep(T0 + 2000, UP0 + 2000, (), census=True)], engine)
    assert {one.kind for one in out} <= {"leak.cleared"}
    assert not any(name.scope == "unit" for name in engine.series.trends)


# ---- units without a cgroup ------------------------------------------------------------------


def pool(at, own, children=4):
    """A parent and its children, which share all that the parent held when they were forked."""
    return [row(1000, 100), *(row(1001 + i, 100 + own(at, i)) for i in range(children))]


def whos(pids, exe="/usr/bin/shop", parent=1000):
    return [
        Who(T0, UP0, pid, pid * 100, 1 if pid == parent else parent, 0, exe) for pid in pids
    ]  # fmt: skip


def test_what_children_share_with_their_parent_is_counted_once():
    engine = Engine(default_rules(), None)
    told([*whos(range(1000, 1005)), *facts(60, lambda at: ({}, [], pool(at, lambda a, i: 2)))],
         engine)  # fmt: skip
    assert engine.world.unit_trends[SHOP].kib >> 10 == 100 + 4 * 2
    # without knowing whose children they are: the sum of all
    engine = Engine(default_rules(), None)
    told(facts(60, lambda at: ({}, [], pool(at, lambda a, i: 2))), engine)
    assert engine.world.unit_trends[SHOP].kib >> 10 == 508


def test_children_that_outlive_their_parent_keep_what_they_shared_once():
    engine = Engine(default_rules(), None)
    both = facts(60, lambda at: ({}, [], pool(at, lambda a, i: at / 10)))
    alone = facts(60, lambda at: ({}, [], pool(60, lambda a, i: 6)[1:]))
    told([*whos(range(1000, 1005)), *both], engine)
    assert engine.world.unit_trends[SHOP].kib >> 10 == 100 + 4 * 5
    later = [one._replace(t=one.t + 60, up=one.up + 60) for one in alone]
    told(later, engine)
    assert engine.world.unit_trends[SHOP].kib >> 10 == 100 + 6 + 3 * 6
    told([Sweep(T0 + 300, UP0 + 300, (), census=True)], engine)
    assert len(engine.world.inherited) == 0


def test_an_exec_ends_what_was_inherited():
    engine = Engine(default_rules(), None)
    told([*whos(range(1000, 1005)), *facts(20, lambda at: ({}, [], pool(at, lambda a, i: 0)))],
         engine)  # fmt: skip
    assert engine.world.unit_trends[SHOP].kib >> 10 == 100
    engine.feed(whos([1001], exe="/usr/bin/other")[0])
    told(facts(20, lambda at: ({}, [], pool(at, lambda a, i: 0))), engine)
    assert engine.world.inherited.size((1001, 100100)) == 0


def test_a_unit_of_many_that_grows_is_told_without_a_cgroup():
    def recycled(at):  # workers come and go; what grows moves between them
        return {}, [], [row(1000, 20), row(2000 + at // 30, 20 + at / 2), row(7, 5, unit=None)]

    out = told(facts(1000, recycled))
    assert [one.kind for one in out][:2] == ["leak.suspected", "leak.confirmed"]
    assert {one.body["scope"] for one in out} == {"unit"}


def test_a_single_process_speaks_for_its_unit():
    engine = Engine(default_rules(), None)
    told(facts(60, lambda at: ({}, [], [row(7, 50)])), engine)
    assert not engine.world.unit_trends


def test_where_a_cgroup_tells_processes_are_not_added_up():
    engine = Engine(default_rules(), None)
    told(facts(60, lambda at: ({}, [group(anon=120)], pool(at, lambda a, i: 2))), engine)
    assert engine.world.unit_trends[SHOP].kib >> 10 == 120


@given(st.lists(st.tuples(st.sampled_from(["born", "exec", "gone"]), st.integers(0, 6),
                          st.integers(0, 6), st.integers(0, 100)), max_size=40))  # fmt: skip
def test_nobody_inherits_from_who_is_gone_and_nothing_is_left(steps):
    inherited, alive = sums.Inherited(), set()
    for what, one, parent, size in steps:
        if what == "born" and one not in alive and parent in alive:
            inherited.born((one, 1), size, (parent, 1), 50)
        elif what == "exec":
            inherited.another((one, 1))
        elif what == "gone":
            inherited.gone((one, 1))
            alive.discard(one)
        alive |= {one} if what == "born" else set()
        assert all(parent[0] in alive for parent, _ in inherited._of.values())
        assert all(0 <= inherited.size((pid, 1)) <= 50 for pid in range(7))
    for one in list(alive):
        inherited.gone((one, 1))
    assert len(inherited) == 0


# ---- a group line without a path, recordings, restarts -----------------------------------------


def test_a_group_line_that_names_only_its_unit_limits_its_processes():
    engine = Engine(default_rules(), None)
    line = (
        '{"type":"group","t":1700000000.0,"unit":"shop.service","anon":52428800,"shmem":0,'
        '"file":0,"kernel":0,"swap":0,"limit":104857600,"low":null,"high":null,'
        '"events":{"oom_kill":0,"high":0,"max":0}}'
    )
    engine.feed(trace.fact(line))
    engine.feed(Sweep(T0, None, (row(7, 50),), census=True))
    left = limit_left(engine.world, engine.world.cgroup((7, 700)))
    assert left is not None and left.bytes == 50 * MIB and SHOP in left.of


def test_a_restart_goes_on_with_every_series():
    def machine(at):
        kernel, shmem = 200 + at / 2, 300 + at / 3
        more = {"kernel": int(kernel * MIB), "slab": 10 * MIB, "shmem": int(shmem * MIB)}
        return more, [group(anon=300 + 280 * (at // 60 % 2), shmem=20 + at / 4, limit=2000)], []

    story = facts(1200, machine)
    story = [trace.fact(trace.line(fact)) for fact in story]
    whole = [(one.id, one.body["part"]) for one in told(story)]
    assert {part for _, part in whole} == {"kernel", "shmem"}
    for cut in (100, 160, 200, 300):
        first, second = Engine(default_rules(), None), Engine(default_rules(), None)
        out = told(story[:cut], first)
        second.load(first.dump())
        second.boot_id = first.boot_id
        assert second.series.rate() == first.series.rate() and (cut < 300 or first.series.rate())
        out += told(story[cut:], second)
        assert [(one.id, one.body["part"]) for one in out] == whole


# ---- what no process owns ----------------------------------------------------------------------


def test_unowned_memory_needs_the_lists():
    assert memory.unowned({"MemTotal": 1}) is None
    told_ = dict.fromkeys(
        ("MemFree", "Active(anon)", "Inactive(anon)", "Active(file)", "Inactive(file)",
         "Unevictable"), 10)  # fmt: skip
    assert memory.unowned(told_ | {"MemTotal": 100}) == 40
    assert memory.unowned(told_ | {"MemTotal": 100, "KReclaimable": 5, "SReclaimable": 3}) == 35
    assert memory.unowned(told_ | {"MemTotal": 100, "Hugetlb": 5, "HugePages_Total": 9}, 7, 8) == 20
    assert memory.unowned(told_ | {"MemTotal": 100, "HugePages_Total": 2, "Hugepagesize": 4}) == 32
    assert memory.unowned(told_ | {"MemTotal": 50}) == 0


def test_a_store_with_such_series_can_be_replayed(tmp_path):
    engine = Engine(default_rules(), None)
    told(facts(300, lambda at: (
        {"kernel": (200 + at) * MIB, "slab": 20 * MIB, "shmem": 90 * MIB},
        [group(anon=50, shmem=40)], [row(7, 50)],
    )), engine)  # fmt: skip
    with contextlib.closing(file.open_database(str(tmp_path / DATABASE), 8 << 20)) as db:
        upsert(db, engine.dump())
    found = list(replay.kept(str(tmp_path / DATABASE), None))
    assert {type(one) for one in found} == {Group, Sweep}
    with contextlib.closing(file.open_database(str(tmp_path / DATABASE), 8 << 20)) as db:
        again = load_entities(db, "b0000000", 2e9)
    assert {one.key for one in again} >= {"part:host:kernel:", "part:unit:shmem:shop.service"}

"""What whole entities hold: more processes than the guard reads, forks, files in memory."""

from pathlib import Path

import pytest
from guard_world import MIB, World, row
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog.clock import JumpClock
from watchdog.engine import Engine
from watchdog.facts import DossierRow, Group, Host, Row, Sweep, Who
from watchdog.guard.entities import whole
from watchdog.judge.blame import rank
from watchdog.judge.candidates import Candidate, Loss
from watchdog.policy.rules import default_rules
from watchdog.sense.cgroups import Cgroups
from watchdog.sense.senses import Senses

T0, UP0 = 1e9, 10_000.0
POOL = range(100, 240)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An app of 120 MiB that was started just now, and a database that has proven itself."""
    made = World(tmp_path)
    made.process(10, 250)
    made.process(11, 120)
    return made


def known(world: World, *rows: DossierRow) -> None:
    app = row(11, "app.service", 0, use=120, own=120)
    db = row(10, "db.service", 250, use=252, own=250)
    world.scene.take_dossier(world.up, [db, app, *rows])


def ranked(world: World) -> list[tuple[str, int, int]]:
    return [(one["entity"]["unit"], one["rank"]["blame"], one["rank"]["share"])
            for one in world.told[0][3]["candidates"]]  # fmt: skip


def test_a_unit_of_more_processes_than_are_read_holds_what_all_of_them_do(world: World) -> None:
    for pid in POOL:
        world.process(pid, 4)
    known(world, *(row(pid, "pool.service", 300, use=560, own=4) for pid in POOL))
    world.tick(105)
    for pid in POOL[:70]:  # most of them are not read closely
        world.process(pid, 5)
    world.tick(80, 1.0)
    assert ranked(world)[:2] == [("pool.service", 2, 7), ("app.service", 1, 2)]
    assert world.told[0][3]["candidates"][0]["rank"]["size"] == 630 * MIB


def test_what_many_small_ones_took_belongs_to_somebody(world: World) -> None:
    """A loss of 280 MiB, of which none of the largest took more than 2."""
    world.process(12, 60)
    for pid in POOL:
        world.process(pid, 2)
    known(world, *(row(pid, "pool.service", 600, use=280, own=2) for pid in POOL))
    world.tick(360)
    for pid in POOL:
        world.process(pid, 4)
    world.tick(80, 1.0)
    assert world.told[0][3]["how"] == "blame"


def test_who_has_ended_since_holds_nothing_any_more(world: World) -> None:
    world.process(12, 150)
    sizes = {12: 150, 13: 250}
    known(world, *(row(pid, "pool.service", 100, use=400, own=sizes[pid]) for pid in sizes))
    world.tick(105)
    world.process(11, 140)
    world.tick(80, 1.0)
    ranks = {one["entity"]["unit"]: one["rank"] for one in world.told[0][3]["candidates"]}
    assert ranks["pool.service"]["size"] == 150 * MIB


@pytest.mark.parametrize(("gone", "left"), [
    ({12}, 750), ({12, 13}, 550), ({11}, 950), ({11, 12}, 750),
])  # fmt: skip
def test_of_who_ended_in_a_pool_only_what_a_parent_shared_is_still_held(
    gone: set[int], left: int
) -> None:
    """A master of 150 MiB, and four workers that took 200 more each."""
    pool = {11: (150, 0), **dict.fromkeys((12, 13, 14, 15), (200, 150))}
    rows = [row(pid, "pool.service", use=950, own=own, inherited=inherited)
            for pid, (own, inherited) in pool.items()]  # fmt: skip
    sizes = {pid: sum(pool[pid]) * MIB for pid in pool if pid not in gone}
    close = [Candidate(line[0], 500, "x", 0, None, sizes[line[0]], 0).with_dossier(line)
             for line in rows if line[0] in sizes]  # fmt: skip
    found = whole(close, rows, sizes, None, lambda pid, _: pid in gone)
    assert {one.entity_use for one in found} == {left * MIB}


def test_files_in_memory_that_a_unit_has_proven_do_not_hide_its_leak(world: World) -> None:
    """Its cgroup tells 380 MiB of files and 120 MiB of a process; then the process leaks 250."""
    world.process(12, 370)
    known(world, row(12, "shop.service", 500, use=500, own=120))
    world.tick(105)
    world.process(12, 395)
    world.tick(80, 1.0)
    assert ranked(world)[0][:2] == ("shop.service", 2)
    assert world.told[0][3]["candidates"][0]["rank"]["size"] == 775 * MIB


def test_a_fork_without_a_unit_holds_what_it_did_not_share(world: World) -> None:
    world.process(12, 250)
    known(world, row(12, None, 0, entity="12:500", use=10, own=10, inherited=240))
    world.tick(105)
    world.process(11, 140)
    world.tick(80, 1.0)
    sizes = {one["entity"]["pid"]: one["rank"]["size"] for one in world.told[0][3]["candidates"]}
    assert sizes[11] == 140 * MIB
    assert sizes.get(12, 10 * MIB) == 10 * MIB


# ---- in the engine -----------------------------------------------------------------------------


def show(engine: Engine, second: float, rows: list[Row]) -> None:
    engine.feed(Host(T0 + second, UP0 + second, "boot", T0 - UP0, 8192 * MIB, 4000 * MIB, 0, 0,
                     0, 0, 0))  # fmt: skip
    engine.feed(Sweep(T0 + second, UP0 + second, tuple(rows), True))


@pytest.mark.parametrize(("cgroup", "other"), [
    ("/lxc/101/system.slice/redis.service", None),
    ("/docker/0123456789ab", None),
    ("/docker/0123456789ab", "/docker/ba9876543210"),
])  # fmt: skip
def test_a_snapshot_by_fork_outside_of_units_costs_nobody_his_life(
    cgroup: str, other: str | None
) -> None:
    """Redis in a container of LXC, or of Docker's own driver: neither has a unit."""
    engine = Engine(default_rules(), None)
    born = int((UP0 + 300) * 100)
    leak = (7, int(UP0 * 100), "leak", 836 * MIB, 0, None, None, None)
    parent = (5, 100, "redis", 2000 * MIB, 0, None, None, None)
    child = (6, born, "redis", 2000 * MIB, 0, None, None, None)
    for pid, start, ppid, path in ((5, 100, 1, cgroup), (6, born, 5, other or cgroup)):
        engine.feed(Who(T0, UP0, pid, start, ppid=ppid, exe="/usr/bin/redis", cgroup=path))
    for second in range(0, 310, 10):
        show(engine, second, [parent, leak] if second < 300 else [parent, child, leak])
    rows = {line[0]: line for line in engine.dossier()}
    assert rows[6][14:] == ((0, 0, 2000 * MIB) if not other else (2000 * MIB, 2000 * MIB, 0))
    grew = {5: 0, 6: 0, 7: 60 * MIB}
    found = [
        Candidate(pid, line[1], line[2], 0, None, size, size, grew=grew[pid]).with_dossier(line)
        for pid, line in rows.items()
        for size in [896 * MIB if pid == 7 else 2000 * MIB]
    ]
    chosen = rank(found, 200 * MIB, loss=Loss(100 * MIB, 10.0)).chosen
    assert chosen is not None
    assert chosen.candidate.pid == (6 if other else 7)


# ---- laws --------------------------------------------------------------------------------------

MEMBERS = st.dictionaries(
    st.integers(3, 40),
    st.tuples(st.sampled_from("abc"), st.integers(0, 90), st.integers(0, 40), st.integers(0, 60)),
    max_size=12,
)


@given(MEMBERS, st.sets(st.integers(3, 40)), st.booleans())
@settings(max_examples=200, deadline=None)
def test_how_many_are_read_closely_makes_no_difference(
    members: dict[int, tuple[str, int, int, int]], read: set[int], looked: bool
) -> None:
    """(entity, own, inherited, grew since) of each; what is not in swap is seen from afar too."""
    rows = [row(pid, None, entity=name, use=300, own=own, inherited=inherited)
            for pid, (name, own, inherited, _) in members.items()]  # fmt: skip
    had = {pid: (own + inherited) * MIB for pid, (_, own, inherited, _) in members.items()}
    sizes = {pid: had[pid] + grew * MIB for pid, (*_, grew) in members.items()}
    told = []
    for some in (set(members), read & set(members)):
        found = [
            Candidate(line[0], 500, "x", 0, None, sizes[line[0]], 0,
                      grew=sizes[line[0]] - had[line[0]] if looked else 0).with_dossier(line)
            for line in rows if line[0] in some
        ]  # fmt: skip
        after = whole(found, rows, sizes, had if looked else None, lambda *_: False)
        assert [(one.pid, one.use) for one in after] == [(one.pid, one.use) for one in found]
        told.append({one.entity: (one.entity_use, one.entity_grew) for one in after})
    everybody, some_of_them = told
    assert some_of_them.items() <= everybody.items()
    for name, (use, grew) in everybody.items():
        took = sum(one[3] for one in members.values() if one[0] == name) * MIB
        assert use == 300 * MIB + took
        assert grew == (took if looked else 0)


# ---- swap --------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 60])
def test_a_leak_whose_pages_are_packed_as_fast_as_it_grows_took_them(
    world: World, first: int
) -> None:
    """It takes 500 MiB, all of it goes to zram, and the machine has 160 MiB less."""
    world.swap = (540 + first, 540)
    world.process(12, 120, swap=first)
    known(world, row(12, "shop.service", 20, 0.8, use=120 + first, own=120 + first))
    world.tick(230)
    world.swap = (540 + first, 40)
    world.process(12, 120, swap=first + 500)
    world.process(10, 240, swap=0)  # what it shrank by is no growth of anybody's
    world.tick(70, 1.0)
    assert world.outcomes() == [(12, "terminate", "would")]
    best = world.told[0][3]["candidates"][0]["rank"]
    assert (best["blame"], best["rate"]) == (3, 75)


def test_what_comes_back_from_swap_is_not_lost_and_not_taken(world: World) -> None:
    world.swap = (600, 20)
    world.process(10, 150, swap=100)
    world.process(12, 60)
    known(world, row(12, "shop.service", 20, 0.8, use=60, own=60))
    world.tick(230)
    world.swap = (600, 50)
    world.process(10, 180, swap=70)
    world.process(12, 180)
    world.tick(80, 1.0)
    ranks = {one["entity"]["pid"]: one["rank"] for one in world.told[0][3]["candidates"]}
    assert ranks[12]["rate"] == 100
    assert world.outcomes() == [(12, "terminate", "would")]


def swapping(world: World, pushed: str, hog: int, replaced: int) -> str:
    """How it is judged where what the kernel takes, or a hog, pushes 90 MiB of others into swap."""
    small, total = POOL[:30], {"database": 250, "files": 100}
    world.swap, world.shmem = (600, 140), 100
    world.process(10, 250, swap=300)
    world.process(12, 60)
    for pid in small:
        world.process(pid, 3)
    if replaced:
        world.process(POOL[40], replaced)
    known(world, row(12, "shop.service", 20, 0.8, use=60, own=60))
    world.tick(160)
    total[pushed] = total.get(pushed, 0) - 90
    world.process(10, total["database"], swap=550 - total["database"])
    world.shmem = total["files"]
    for pid in small if pushed == "small" else ():
        world.process(pid, 0, swap=3)
    world.process(12, 60 + hog)
    if replaced:
        world.gone(POOL[40])
        world.process(POOL[50], replaced)
    world.swap = (600, 50)
    world.tick(100, 1.0)
    return str(world.told[0][3]["how"])


@pytest.mark.parametrize("pushed", ["database", "small", "files"])
@pytest.mark.parametrize("replaced", [0, 90])
def test_what_is_pushed_out_has_been_taken_by_who_took_its_place(
    tmp_path_factory: pytest.TempPathFactory, pushed: str, replaced: int
) -> None:
    """The machine loses 150 MiB in all."""
    for hog, how in ((0, "held"), (130, "blame")):
        world = World(tmp_path_factory.mktemp(how))
        assert swapping(world, pushed, hog, replaced) == how


def test_who_has_ended_meanwhile_hides_nobodys_growth(world: World) -> None:
    """A service of 200 MiB ends, the kernel takes 30, and the shop 225."""
    world.process(12, 60)
    world.process(13, 200)
    known(world, row(12, "shop.service", 20, 0.8, use=60, own=60))
    world.tick(130)
    world.gone(13)
    world.process(12, 285)
    world.tick(75, 1.0)
    assert world.outcomes() == [(12, "terminate", "would")]


def test_a_snapshot_by_fork_has_not_taken_what_it_shares(world: World) -> None:
    """It shares 250 MiB with its parent, and the kernel takes 80."""
    known(world)
    world.tick(160)
    world.process(12, 250, start=100_050, ppid=10)
    (world.root / "12" / "stat").write_text(
        (world.root / "12" / "stat").read_text().replace("(p12)", "(p10)")
    )
    world.tick(80, 1.0)
    assert world.told[0][3]["how"] == "held"


@pytest.mark.parametrize("counted", [True, False])
def test_swap_that_the_kernel_does_not_count_for_a_cgroup_is_that_of_its_processes(
    tmp_path: Path, counted: bool
) -> None:
    """cgroup v1 without swap accounting: what is swapped out would seem to be given back."""

    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    write("self/mountinfo", "31 23 0:28 / /cg rw - cgroup cgroup rw,memory\n")
    write("meminfo", "MemTotal: 9000 kB\nSwapTotal: 900 kB\nSwapFree: 90 kB\n")
    total = "total_swap 4096\n" if counted else ""
    for unit in ("", "/shop.service", "/shop.service/inner"):
        write(f"cg{unit}/memory.stat", f"total_rss 8192\ntotal_shmem 0\n{total}")
    for pid, path in ((7, "/shop.service"), (8, "/shop.service/inner")):
        write(f"{pid}/stat", f"{pid} (x) S 1 1 1 0 -1 0" + " 0" * 10 + " 1 0 100" + " 0" * 30)
        write(f"{pid}/statm", "5000 1000 100 1 0 500 0\n")
        write(f"{pid}/cgroup", f"4:memory:{path}\n")
        write(f"{pid}/status", f"Name:\tx\nUid:\t1\t1\t1\t1\nVmSwap:\t {pid} kB\n")
    senses = Senses(JumpClock(), 1.0, str(tmp_path))
    senses.cgroups = Cgroups(str(tmp_path), str(tmp_path))
    facts = list(senses.due())
    senses.close()
    swaps = {fact.cgroup: fact.swap for fact in facts if isinstance(fact, Group)}
    assert swaps == {
        "/shop.service": 4096 if counted else 15 << 10,
        "/shop.service/inner": 4096 if counted else 8 << 10,
    }


def test_the_dossier_has_the_small_members_of_who_is_large_together() -> None:
    engine = Engine(default_rules(), None)
    pool: list[Row] = [(pid, 100, "w", 2 * MIB, 0, None, "pool.service", None) for pid in POOL]
    shells: list[Row] = [(pid, 100, "sh", 2 * MIB, 0, None, None, None) for pid in (5, 6)]
    show(engine, 0, [*pool, *shells, (7, 100, "db", 90 * MIB, 0, None, None, None)])
    assert {line[0] for line in engine.dossier()} == {7, *POOL}

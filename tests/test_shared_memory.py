"""Shared memory that is in nobody's private size: whose it is, and who is taken for it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from guard_world import MIB, World, row
from hypothesis import given
from hypothesis import strategies as st

from watchdog import trace
from watchdog.clock import RealClock
from watchdog.engine import Engine
from watchdog.facts import Group, Host, Memfds, Sweep, Who
from watchdog.guard.looks import Look, Shared
from watchdog.guard.scene import TMPFS_MAX
from watchdog.judge.shared import attribute
from watchdog.policy.rules import default_rules
from watchdog.sense.memfd import MACHINE_LEAST, MemfdFiles
from watchdog.sense.senses import Senses

A, B = (10, 1), (11, 1)


def told(rows: list[tuple[int, int, int]], *, charged: int | None = None,
         total: int = 4096) -> Engine:  # fmt: skip
    """Processes (pid, MiB private, MiB of RssShmem), all in one unit; `charged` to its cgroup."""
    engine = Engine(default_rules(), None)
    engine.feed(Host(1.0, 1.0, mem_total=8192 * MIB, mem_available=4096 * MIB, shmem=total * MIB))
    for pid, _, _ in rows:
        engine.feed(Who(1.0, 1.0, pid, 1, exe=f"/usr/bin/{pid}", cgroup="/system.slice/a.service"))
    if charged is not None:
        engine.feed(Group(1.0, 1.0, "a.service", "/system.slice/a.service", shmem=charged * MIB))
    sweep = tuple(
        (pid, 1, f"p{pid}", (private + shared) * MIB, shared * MIB, None, "a.service",
         shared * MIB)
        for pid, private, shared in rows
    )  # fmt: skip
    engine.feed(Sweep(1.0, 1.0, sweep, census=True))
    return engine


def parts(engine: Engine, rows: list[tuple[int, int, int]] = [], files: int = 0) -> dict[int, int]:  # noqa: B006
    """MiB by PID; `rows` are memfds (pid, inode, MiB)."""
    memfds = tuple((pid, 1, inode, size * MIB) for pid, inode, size in rows)
    found = attribute(engine.world, Memfds(2.0, 2.0, memfds, files * MIB))
    return {pid: size // MIB for (pid, _), size in found.items()}


def test_an_unmapped_memfd_is_its_holders() -> None:
    engine = told([(10, 5, 0), (11, 5, 0)], charged=300)
    assert parts(engine, [(10, 7, 290)]) == {10: 290}
    # Open twice over a fork: each has half, so that the unit has it once.
    assert parts(engine, [(10, 7, 290), (11, 7, 290)]) == {10: 145, 11: 145}


def test_a_mapping_counts_once_however_many_map_it() -> None:
    pool = [(10, 5, 200), (11, 5, 200), (12, 5, 200)]
    assert sum(parts(told(pool, charged=210)).values()) in range(206, 211)
    assert sum(parts(told(pool)).values()) in range(196, 201), "what one maps"
    # One that is open as well as mapped is one.
    assert parts(told([(10, 5, 200)], charged=210), [(10, 7, 200)]) == {10: 200}


def test_what_lies_in_files_is_nobodys() -> None:
    """A program that maps a file of /dev/shm has it in RssShmem, and its end frees nothing."""
    assert parts(told([(10, 5, 300)], charged=300, total=310), files=300) == {10: 10}
    assert parts(told([(10, 5, 0)], charged=300, total=310), files=300) == {}


def test_who_has_a_memfd_open_has_it_whatever_lies_in_files() -> None:
    """A program maps 300 MiB that stay (a file, a System V segment) beside a memfd of 200."""
    engine = told([(10, 5, 300), (11, 5, 0)], total=510)
    assert parts(engine, [(11, 7, 200)], files=300) == {10: 10, 11: 200}


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 999)), max_size=20),
       st.lists(st.integers(0, 999), min_size=10, max_size=10),
       st.none() | st.integers(0, 2000), st.integers(0, 5000), st.integers(0, 5000))  # fmt: skip
def test_together_they_have_no_more_than_there_is(
    memfds: list[tuple[int, int, int]], mapped: list[int], charged: int | None, total: int,
    files: int,
) -> None:  # fmt: skip
    engine = told([(pid + 10, 1, size) for pid, size in enumerate(mapped)],
                  charged=charged, total=total)  # fmt: skip
    rows = [(pid + 10, inode, size) for pid, inode, size in memfds]
    found = parts(engine, rows, files)
    assert sum(found.values()) <= max(0, total - files)
    assert charged is None or sum(found.values()) <= charged
    assert parts(engine, list(reversed(rows)), files) == found


def test_it_is_told_in_a_recording_and_stands_in_the_dossier() -> None:
    engine = told([(10, 5, 0), (11, 5, 0)], charged=300)
    fact = Memfds(2.0, 2.0, ((10, 1, 7, 290 * MIB),), 0)
    again = trace.fact(trace.line(fact))
    assert again == fact
    engine.feed(fact)
    first, second = engine.dossier()
    assert (first[0], first[13]) == (10, 290 * MIB)
    assert (second[0], second[13]) == (11, 0)
    assert engine.world.shared == {(10, 1): 290 * MIB}
    engine.feed(Sweep(3.0, 3.0, (), census=True))
    assert engine.world.shared == {}
    for broken in ('{"type":"memfds","t":1,"rows":[[1,2,3]]}',
                   '{"type":"memfds","t":1,"rows":[],"files":-1}'):  # fmt: skip
        with pytest.raises(trace.TraceError):
            trace.fact(broken)


def test_a_level_counts_what_is_shared() -> None:
    """Without a cgroup a unit's use is the sum of its processes: their shared memory too."""
    engine = told([(10, 5, 0), (11, 5, 0)])
    engine.feed(Memfds(2.0, 2.0, ((10, 1, 7, 290 * MIB),), 0))
    engine.feed(Sweep(3.0, 3.0, tuple(engine.world.rows.values()), census=False))
    assert engine.levels.of["a.service"].use == 300 * 1024


def test_what_they_take_from_one_word_to_the_next_goes_on() -> None:
    first = Shared().then(300 * MIB, {A: 200 * MIB, B: 80 * MIB})
    assert first.now(400 * MIB) == {A: 200 * MIB, B: 80 * MIB}, "nothing is known of who grows"
    second = first.then(400 * MIB, {A: 250 * MIB, B: 80 * MIB})
    assert second.now(500 * MIB) == {A: 300 * MIB, B: 80 * MIB}, "half of the rise was a file's"
    assert second.then(401 * MIB, {A: 250 * MIB}).now(900 * MIB) == {A: 250 * MIB}


def test_what_is_told_for_the_first_time_has_not_grown_by_all_of_it() -> None:
    word = Shared().then(300 * MIB, {A: 80 * MIB})
    assert word.then(310 * MIB, {A: 80 * MIB, B: 200 * MIB}).now(410 * MIB) == {
        A: 80 * MIB, B: 300 * MIB}, "nobody else took the 10 MiB"  # fmt: skip
    assert word.then(310 * MIB, {A: 90 * MIB, B: 200 * MIB}).now(410 * MIB) == {
        A: 190 * MIB, B: 200 * MIB}, "A took them"  # fmt: skip


def test_an_earlier_look_knows_what_is_known_now() -> None:
    before = Look(1.0, 500, {1: 50, 2: 5}, {1: 40}, 210)
    now = Look(2.0, 440, {1: 60, 2: 205}, {1: 50, 2: 200}, 20)
    # All of it rose by 20, of which 10 are the first's, so the second took no more than 10.
    assert before.knowing(now) == Look(1.0, 500, {1: 50, 2: 195}, {1: 40, 2: 190}, 20)
    assert before.knowing(before) == before
    # The first let go of 30, which the second may have taken.
    now = Look(2.0, 500, {1: 20, 2: 205}, {1: 10, 2: 200}, 40)
    assert before.knowing(now).shared == {1: 40, 2: 170}


# ---- the guard ---------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An innocent of 350 MiB, and a process that holds nothing of its own but 8 MiB."""
    made = World(tmp_path)
    made.process(10, 350)
    made.process(11, 8)
    return made


def word(world: World, shared: int, shmem: int) -> None:
    world.shmem = shmem
    known = [row(10, "db.service", 350), row(11, "shop.service", 8, shared=shared)]
    world.scene.take_dossier(world.up, known, None, shmem * MIB)


def files(world: World, used: int) -> None:
    tmpfs = [["/dev/shm", used * MIB, 512 * MIB]]
    world.scene.take_machine(world.up, {"tmpfs": tmpfs, "stays": used * MIB})


def test_who_fills_a_memfd_is_taken(world: World) -> None:
    world.mode = "enforce"
    files(world, 20)
    word(world, 200, 220)
    world.tick(250)
    word(world, 340, 360)
    world.tick(105, 1.0)
    world.shmem = 385  # fresher than the watcher's word
    world.tick(80, 0.5)
    assert [pid for pid, _ in world.signals] == [11]
    because = world.told[0][2]
    assert any("365 MiB of it is shared memory that ends with it" in text for text in because)
    victim = world.told[0][3]["candidates"][0]
    assert victim["entity"]["pid"] == 11
    assert victim["rank"]["blame"] == 2


def test_whose_memfd_is_seen_for_the_first_time_has_not_just_taken_it(world: World) -> None:
    """A leak of 60 MiB takes what is left while the watcher finds the old memfd of another."""
    world.mode = "enforce"
    world.process(12, 8)
    word(world, 0, 300)
    world.tick(150)
    world.process(11, 40)
    world.tick(105, 1.0)
    known = [row(10, "db.service", 350), row(11, "shop.service", 8),
             row(12, "pool.service", 8, shared=290)]  # fmt: skip
    world.scene.take_dossier(world.up, known, None, 300 * MIB)
    world.process(11, 70)
    world.tick(75, 1.0)
    ranks = {one["entity"]["pid"]: one["rank"] for one in world.told[0][3]["candidates"]}
    assert ranks[12]["rate"] == 0
    assert ranks[11]["rate"] >= 80


def fill_files(world: World, end: int) -> None:
    """A file in a tmpfs grows by 10 MiB/s, and everything else stands still."""
    files(world, 20)
    word(world, 0, 20)
    for shmem in range(100, end, 20):
        word(world, 0, shmem)
        files(world, shmem)
        world.tick(450 - shmem, 2.0)


def test_a_file_in_memory_is_nobodys_and_nobody_is_taken_for_it(world: World) -> None:
    world.mode = "enforce"
    fill_files(world, 440)
    assert world.available < 51 // 2 + 10, "less than half of the mark"
    for _ in range(100):
        world.tick()
    assert world.signals == []
    ((pid, do, outcome),) = world.outcomes()
    assert (pid, do, outcome) == (None, "hold", "failed")
    because = world.told[0][2]
    assert any("files in memory (tmpfs) took" in text for text in because)
    assert any("/dev/shm" in text for text in because)


def test_what_the_kernel_takes_beside_the_files_costs_nobody_his_life(world: World) -> None:
    """The files are full; then page tables and caches take what is left, and no process does."""
    world.mode = "enforce"
    fill_files(world, 400)
    for available in range(60, 4, -4):
        world.tick(available, 1.0)
    for _ in range(100):
        world.tick()
    assert world.signals == []
    assert {one[:2] for one in world.outcomes()} == {(None, "hold")}


def test_who_goes_on_after_the_files_is_taken_at_half_of_the_mark(world: World) -> None:
    """A file took most of what was lost since memory was well; then a hog takes the rest."""
    world.mode = "enforce"
    fill_files(world, 340)
    world.process(11, 60)
    world.tick(75, 5.0)
    assert world.signals == [], "more than half of the mark is left, and the file took most"
    world.process(11, 100)
    world.tick(40, 5.0)
    assert [pid for pid, _ in world.signals] == [11]


def test_a_leak_beside_a_file_that_was_there_before_is_taken(world: World) -> None:
    world.mode = "enforce"
    files(world, 300)
    word(world, 0, 300)
    world.tick(150)
    world.process(11, 60)
    world.tick(100, 1.0)
    world.process(11, 90)
    world.tick(70, 1.0)
    assert [pid for pid, _ in world.signals] == [11]


def test_a_holder_that_has_ended_holds_nothing(world: World) -> None:
    word(world, 340, 360)
    world.gone(11)
    host, _ = world.eyes.host(1.0, world.up)
    assert world.scene.look(world.up, host).shared == {}


# ---- for real ----------------------------------------------------------------------------------

UNMAPPED = (
    "import os; fd = os.memfd_create('x'); [os.write(fd, b'x' * (1 << 20)) for _ in range({})]"
)
MAPPED = "import mmap; m = mmap.mmap(-1, {} << 20); m[::4096] = b'x' * len(m[::4096])"
WAIT = "; print(flush=True); input()"


@pytest.fixture
def start() -> Iterator[Callable[[str], int]]:
    with contextlib.ExitStack() as stack:

        def go(code: str) -> int:
            process = subprocess.Popen([sys.executable, "-I", "-S", "-c", code + WAIT],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout
            process.stdout.readline()
            return process.pid

        yield go


@pytest.mark.parametrize("code", [UNMAPPED, MAPPED])
def test_the_senses_find_a_real_one(start: Callable[[str], int], code: str) -> None:
    size = MACHINE_LEAST // MIB + 16
    pid = start(code.format(size))
    engine = Engine(default_rules(), None)
    senses = Senses(RealClock(), 1.0)
    senses.container = None
    for fact in senses.due():
        engine.feed(fact)
    senses.close()
    (line,) = [line for line in engine.dossier() if line[0] == pid]
    # Where others hold shared memory in namespaces of their own, that is divided among all.
    assert size // 2 <= line[13] // MIB <= size + 1


def test_only_memfds_are_followed_and_few_are_looked_at(
    start: Callable[[str], int], tmp_path: Path
) -> None:
    size = 24
    one = start(UNMAPPED.format(size) + f"; g = open({str(tmp_path / 'f')!r}, 'w+')")
    look = MemfdFiles()
    ((pid, start_ticks, inode, found),) = look._open_in(one, 5)
    assert (pid, start_ticks, found // MIB) == (one, 5, size)
    assert inode
    assert look._open_in(999_999_999, 5) == []
    assert MemfdFiles(str(tmp_path))._open_in(1, 5) == []
    chosen = look._first(list(range(1000, 5000)))
    assert len(chosen) == 256
    assert chosen[0] == 4936
    rounds = {pid for _ in range(22) for pid in look._first(list(range(1000, 5000)))}
    assert rounds == set(range(1000, 5000))


def test_it_looks_at_a_census_and_where_there_is_more(tmp_path: Path) -> None:
    look = MemfdFiles(str(tmp_path))
    assert not look.due(None, census=True)
    assert not look.due(MACHINE_LEAST - 1, census=True)
    assert look.due(MACHINE_LEAST, census=False)
    assert not look.due(MACHINE_LEAST + MIB, census=False)
    assert look.due(MACHINE_LEAST + 5 * MIB, census=False)
    assert look.due(MACHINE_LEAST + 5 * MIB, census=True)
    assert look.due(1 * MIB, census=False), "what was said before holds no longer"
    assert not look.due(1 * MIB, census=False)
    assert os.sep in look.root


def test_files_that_grew_long_ago_are_no_reason_and_readings_are_few(world: World) -> None:
    scene = world.scene
    files(world, 20)
    world.up += 100
    files(world, 400)
    world.up += 7200
    scene.files(scene.look(world.up, world.eyes.host(1e9, world.up)[0]), None)
    assert [held for _, held in scene.tmpfs] == [400 * MIB]
    for at in range(1000):
        world.up += 2
        files(world, 400)
        scene.take_machine(world.up, {"zram": at, "stays": 400 * MIB})
    assert len(scene.tmpfs) == 1
    for at in range(1000):
        world.up += 2
        files(world, at)
    assert len(scene.tmpfs) <= TMPFS_MAX


def test_a_descriptor_that_is_closed_meanwhile_hides_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true_link = os.readlink

    def one_is_gone(path: str) -> str:
        if path.endswith("/0"):
            raise FileNotFoundError(path)
        return true_link(path)

    fd = os.memfd_create("held")
    try:
        os.write(fd, b"x" * (2 * MIB))
        monkeypatch.setattr(os, "readlink", one_is_gone)
        inode = os.fstat(fd).st_ino
        assert inode in [row[2] for row in MemfdFiles()._open_in(os.getpid(), 1)]
    finally:
        os.close(fd)

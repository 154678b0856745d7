"""What is proven: plateaus, saws and jobs are; a straight line from nothing never is."""

import json
import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog.engine import Engine
from watchdog.facts import Group, Host, Row, Said, Sweep, Who
from watchdog.history.world import World
from watchdog.judge.blame import rank
from watchdog.judge.candidates import Candidate
from watchdog.judge.proven import KEPT_S, Level, Levels, real
from watchdog.policy.guard_when import GuardRules, Mark
from watchdog.policy.rules import default_rules

MIB = 1 << 10  # KiB
Curve = Callable[[float], float]  # seconds -> MiB


def prove(curve: Curve, seconds: float, every: float = 10.0, level: Level | None = None,
          fit: Callable[[float], bool] = lambda _: True) -> Level:  # fmt: skip
    level = level or Level()
    t = 0.0
    while t < seconds:
        level.step(t, int(curve(t) * MIB), fit(t))
        t += every
    return level


@given(st.floats(0.001, 500.0), st.sampled_from([1.0, 5.0, 10.0, 60.0]), st.integers(10, 2000))
@settings(max_examples=60, deadline=None)
def test_a_straight_line_from_nothing_never_proves_itself(
    rate: float, every: float, steps: int
) -> None:
    level = prove(lambda t: rate * t, steps * every, every)
    # below what counts as a rise at all it may be called level
    assert level.kib <= 2 * MIB


@given(st.floats(0.5, 60.0), st.integers(50, 4000))
@settings(max_examples=40, deadline=None)
def test_a_line_after_a_plateau_proves_nothing_more(rate: float, size: int) -> None:
    level = prove(lambda t: size + max(0.0, t - 3600) * rate, 7200)
    assert size * MIB * 0.99 <= level.kib <= size * MIB * 1.03 + 2 * MIB


@given(st.integers(2, 100_000), st.floats(0.0, 0.02))
@settings(max_examples=40, deadline=None)
def test_a_plateau_proves_itself_within_three_minutes(size: int, noise: float) -> None:
    level = prove(lambda t: size * (1 + noise * math.sin(t * 7.7)), 180)
    assert level.kib >= size * MIB * (0.97 - noise) - MIB


@pytest.mark.parametrize(("curve", "peak"), [
    (lambda t: 100 + 250 * ((t / 300) % 1), 350),  # a collected heap
    (lambda t: 300.0 if t % 3600 < 600 else 0.0, 300),  # a job that comes again
    (lambda t: 300.0 if t < 3000 else min(300.0, 10 + (t - 3000)), 300),  # a database, restarted
    (lambda t: 400 * (1 - math.exp(-t / 600)), 390),  # a warm-up that has ended
    (lambda t: 200 + 100 * (t >= 2000), 300),  # a step to another plateau
], ids=["saw", "job", "restart", "warm-up", "step"])  # fmt: skip
def test_what_the_healthy_do_is_proven(curve: Curve, peak: int) -> None:
    level = prove(curve, 4 * 3600)
    assert 0.93 * peak * MIB <= level.kib <= 1.03 * peak * MIB


def test_of_a_saw_on_a_rising_floor_only_the_teeth_count() -> None:
    level = prove(lambda t: 100 + 0.05 * t + 250 * ((t / 300) % 1), 4 * 3600)
    # it holds 820 to 1070 MiB at the end
    assert level.kib < 480 * MIB


def test_under_pressure_or_suspicion_nothing_is_proven() -> None:
    level = prove(lambda _: 500.0, 3600, fit=lambda _: False)
    assert level.kib == 0
    level = prove(lambda t: 100.0 if t < 600 else 500.0, 3600, fit=lambda t: t < 600)
    assert level.kib == 100 * MIB


@pytest.mark.parametrize("rate", [0.05, 1.0, 50.0])
def test_a_line_does_not_prove_itself_by_a_pause_of_ours(rate: float) -> None:
    """Of health, of a suspicion, or of the daemon: what was taken before is no rise of now."""

    def line(t: float) -> float:
        return 20 + rate * t

    assert prove(line, 14_400, fit=lambda t: t % 3600 > 20).kib <= 30 * MIB
    levels = Levels()
    levels.take({"leak.service": [20 * MIB, 20 * MIB, 1, 0]})
    after = prove(lambda t: line(t + 7200), 3600, level=levels.of["leak.service"])
    assert after.kib <= 20 * MIB


def test_a_plateau_proves_itself_after_a_pause_of_ours() -> None:
    for first in range(5):
        wobble = lambda t: 500 * (1 + 0.01 * math.sin((t + first) * 7.7))  # noqa: E731, B023
        level = prove(wobble, 1200, fit=lambda t: t > 20)
        assert level.kib >= 480 * MIB


def test_each_rise_that_was_proven_makes_the_next_one_harder() -> None:
    level = prove(lambda t: 100.0 * (1 + t // 240), 3600)
    assert level.rises < 6
    assert level.kib < 800 * MIB  # it holds 1500


# ---- in the engine -----------------------------------------------------------------------------

T0, UP0, SIZE = 1e9, 10_000.0, 1 << 20


def row(pid: int, mib: int, unit: str | None, start: int = 0) -> Row:
    return (pid, start or int(UP0 * 100) - 90_000, f"p{pid}", mib * SIZE, 0, None, unit, None)


def host(second: float, available: int = 3000) -> Host:
    return Host(T0 + second, UP0 + second, "boot", T0 - UP0, 4096 * SIZE, available * SIZE, 0, 0,
                0, 0, 0)  # fmt: skip


def show(engine: Engine, second: float, rows: list[Row], **more: int) -> None:
    engine.feed(host(second, **more))
    engine.feed(Sweep(T0 + second, UP0 + second, tuple(rows), True))


def test_what_lived_before_our_history_has_carried_its_size() -> None:
    engine = Engine(default_rules(), None)
    fresh = int(UP0 * 100) - 100
    show(engine, 0, [row(5, 500, "old.service"), row(6, 200, "new.service", fresh)])
    lines = {line[0]: line for line in engine.dossier()}
    assert lines[5][9:11] == ("old.service", 500 * SIZE)
    assert lines[6][9:11] == ("new.service", 0)


def test_a_level_outlives_the_process_the_daemon_and_the_boot() -> None:
    engine = Engine(default_rules(), None)
    for second in range(0, 900, 10):
        show(engine, second, [row(5, 300, "db.service"), row(9, 50, None)])
    show(engine, 900, [row(9, 50, None)])
    kept = json.loads(json.dumps(engine.levels.kept()))
    assert set(kept) == {"db.service"}  # a process alone is not known again
    other = Engine(default_rules(), None)
    other.levels.take(kept)
    newborn = int((UP0 + 1000) * 100)
    show(other, 1001, [row(77, 40, "db.service", newborn)])
    show(other, 1011, [row(77, 290, "db.service", newborn)])
    (line,) = other.dossier()
    assert line[10] == 300 * SIZE


@pytest.mark.parametrize("kept", [True, False])
def test_a_leak_has_proven_nothing_because_we_were_started_again(kept: bool) -> None:
    """Nor where only its trend was stored, and not yet what its unit has proven."""
    born = int((UP0 - 10) * 100)
    before = Engine(default_rules(), None)
    for second in range(0, 900, 10):
        show(before, second, [row(5, 20 + second, "leak.service", born)])
    after = Engine(default_rules(), None)
    after.load(before.dump())
    if kept:
        after.levels.take(before.levels.kept())
    show(after, 910, [row(5, 930, "leak.service", born)])
    (line,) = after.dossier()
    assert line[10] <= 30 * SIZE


@pytest.mark.parametrize("kept", [
    {"a.service": 7}, {"a.service": [1, 2, 0, 0]}, {"a.service": ["x", 0, 0, 0]},
    {"a.service": [-5, -9, 0, 0]}, {"a.service": None}, {"a.service": [1 << 60, 0, 0, 0]},
])  # fmt: skip
def test_what_was_not_written_by_us_counts_as_nothing(kept: dict[str, object]) -> None:
    levels = Levels()
    levels.take(kept)
    assert levels.of == {}


def test_memory_low_is_a_promise() -> None:
    engine = Engine(default_rules(), None)
    fresh = int(UP0 * 100)
    path = "/system.slice/db.service"
    for second in (0, 10):
        engine.feed(host(second))
        engine.feed(Group(T0 + second, UP0 + second, "db.service", path, anon=200 * SIZE,
                          low=256 * SIZE))  # fmt: skip
        engine.feed(Sweep(T0 + second, UP0 + second, (row(5, 200, "db.service", fresh),), True))
    assert engine.dossier()[0][10] == 256 * SIZE


@pytest.mark.parametrize("controller", [True, False])
def test_what_forks_share_is_not_counted_twice(controller: bool) -> None:
    """A database forks to write itself down: the child looks as large as its parent."""
    engine = Engine(default_rules(), None)
    parent = row(5, 400, "redis.service")
    child = row(6, 400, "redis.service", int((UP0 + 300) * 100))
    for pid, start, ppid in ((5, parent[1], 1), (6, child[1], 5)):
        engine.feed(Who(T0, UP0, pid, start, ppid=ppid, exe="/usr/bin/redis-server"))
    for second in range(0, 400, 10):
        rows = [parent] if second < 310 else [parent, child]
        engine.feed(host(second))
        if controller:
            engine.feed(Group(T0 + second, UP0 + second, "redis.service",
                              "/system.slice/redis.service", anon=404 * SIZE))  # fmt: skip
        engine.feed(Sweep(T0 + second, UP0 + second, tuple(rows), True))
    level = engine.levels.of["redis.service"]
    assert level.use == (404 if controller else 400) << 10
    assert level.sum == 400 << 10  # the child's part is its parent's
    assert real(level) == 1000
    # The guard reads 400 MiB of each, and is to make 400 of them.
    assert [line[14:] for line in engine.dossier()] == [
        (level.use << 10, own * SIZE, (400 - own) * SIZE) for own in (0, 400)
    ]
    both = [
        Candidate(line[0], line[1], line[2], 0, None, 400 << 20, 400 << 20).with_dossier(line)
        for line in engine.dossier()
    ]
    held = rank(both, 64 << 20, deep=True).ranked[0].rank
    assert held.size in range(400 << 20, 405 << 20)


def test_a_cgroup_that_was_read_before_says_how_it_is_to_its_processes() -> None:
    """Between censuses few are read: what a unit has taken since is not shared for that."""
    engine = Engine(default_rules(), None)
    path = "/system.slice/pool.service"
    for second, sizes, told in ((0, (100, 100), 120), (10, (300, 300), None)):
        engine.feed(host(second))
        if told is not None:
            engine.feed(Group(T0 + second, UP0 + second, "pool.service", path, anon=told * SIZE))
        rows = tuple(row(5 + n, size, "pool.service") for n, size in enumerate(sizes))
        engine.feed(Sweep(T0 + second, UP0 + second, rows, True))
    level = engine.levels.of["pool.service"]
    assert (level.use, real(level)) == (360 << 10, 600)
    engine.feed(host(20))
    engine.feed(Group(T0 + 20, UP0 + 20, "pool.service", path, anon=700 * SIZE))
    for second, size in ((20, 50), (30, 60)):  # files in a tmpfs are in no process
        rows = (row(5, size, "pool.service"), row(6, size, "pool.service"))
        engine.feed(Sweep(T0 + second, UP0 + second, rows, True))
    assert (level.use, real(level)) == (720 << 10, 1000)


@pytest.mark.parametrize("short", [True, False])
def test_who_falls_because_he_was_ended_has_not_come_back(short: bool) -> None:
    """A leak that systemd starts again at once must not prove itself by our own kill."""
    engine = Engine(default_rules(), None)
    for second, size in ((0, 20), (2, 180), (4, 340)):
        show(engine, second, [row(5, size, "hog.service", int(UP0 * 100))])
    if short:  # so short a time that no sweep saw it
        for second, kind in ((5.0, "pressure.begun"), (5.2, "pressure.ended")):
            engine.feed(Said(T0 + second, UP0 + second, kind, "host-1", (), {}))
    for second, size in ((6, 30), (8, 120)):
        show(engine, second, [row(6, size, "hog.service", int(UP0 * 100) + 520)])
    assert engine.levels.of["hog.service"].kib == (0 if short else 310 << 10)


def test_the_entity_in_a_login_is_the_unit_below_or_the_program() -> None:
    engine = Engine(default_rules(), None)
    user = "user@1000.service"
    known = [
        Who(T0, UP0, 5, 1, uid=1000, exe="/usr/bin/firefox", inner="app-firefox.scope"),
        Who(T0, UP0, 6, 1, uid=1000, exe="/usr/bin/make", inner="shells"),
        Who(T0, UP0, 7, 1, uid=1000, exe="/usr/bin/make"),
    ]
    for who in known:
        engine.feed(who)
    show(engine, 0, [row(pid, 50, user, 1) for pid in (5, 6, 7, 8)] + [row(9, 50, None, 1)])
    entities = {line[0]: line[9] for line in engine.dossier()}
    assert entities == {
        5: "user@1000.service/app-firefox.scope", 6: "user@1000.service:1000:/usr/bin/make",
        7: "user@1000.service:1000:/usr/bin/make", 8: "8:1", 9: "9:1",
    }  # fmt: skip


def test_a_level_without_processes_is_forgotten():
    levels = Levels()
    levels.take({"large.service": [9000, 9000, 0, 0], "small.scope": [100, 100, 0, 0]})
    world = World()
    levels.step(world, Sweep(10.0, 10.0, (), census=True), (), True)
    assert list(levels.of) == ["large.service"]
    for at in range(10, int(KEPT_S), 86400):
        levels.step(world, Sweep(float(at), float(at), (), census=True), (), True)
    assert list(levels.of) == ["large.service"]
    after = KEPT_S + 20.0
    levels.step(world, Sweep(after, after, (), census=True), (), True)
    assert not levels.of


def test_what_the_guard_read_does_not_use_up_the_beginning():
    engine = Engine(default_rules(), "box")
    up = 500_000.0
    engine.feed(Host(1e9, up, "boot", 1e9 - up, 8 << 30, 4 << 30, 0, 0, 0, 0, 0))
    old = (7, 100, "postgres", 300 << 20, 0, None, "db.service", None)
    other = (8, 100, "redis", 200 << 20, 0, None, "redis.service", None)
    engine.feed(Sweep(1e9, up, (old,), census=False))
    engine.feed(Sweep(1e9 + 1, up + 1, (old, other), census=True))
    assert {name: level.kib for name, level in engine.levels.of.items()} == {
        "db.service": 300 << 10, "redis.service": 200 << 10,
    }  # fmt: skip


def test_shared_memory_of_an_old_unit_has_been_carried_too():
    engine = Engine(default_rules(), "box")
    up = 500_000.0
    engine.feed(Host(1e9, up, "boot", 1e9 - up, 8 << 30, 4 << 30, 0, 0, 0, 0, 0))
    row = (7, 100, "postgres", 200 << 20, 0, None, "db.service", None)
    engine.feed(Group(1e9, up, "db.service", "/system.slice/db.service", anon=200 << 20,
                      shmem=4 << 30))  # fmt: skip
    engine.feed(Sweep(1e9, up, (row,), census=True))
    assert engine.levels.of["db.service"].kib >= 4 << 20


def test_a_unit_that_came_and_went_between_two_censuses_is_remembered() -> None:
    engine = Engine(default_rules(), "box")
    show(engine, 0, [row(1, 50, None)])
    engine.feed(Sweep(T0 + 5, UP0 + 5, (row(2, 300, "short.service"),), False))
    promise = Group(T0 + 6, UP0 + 6, "short.service", "/short.service", low=200 * SIZE)
    engine.feed(promise)
    engine.feed(Sweep(T0 + 7, UP0 + 7, (row(2, 300, "short.service"),), False))
    show(engine, 30, [row(1, 50, None)])
    (key,) = [one for one in engine.levels.of if "short" in one]
    assert engine.levels.of[key].t == T0 + 5


@pytest.mark.parametrize(("mark", "arc", "healthy"), [
    (Mark(0.05), 0, False),  # the shipped one: healthy is above a tenth
    (Mark(0.05, 500 * SIZE), 0, True),
    (Mark(0.05), 2000 * SIZE, True),  # of ZFS, which gives way
    (Mark(0.5), 0, False),
    (Mark(0.5), 28 << 30, True),  # never more than half of the memory is asked for
])  # fmt: skip
def test_healthy_is_above_twice_the_guards_own_mark(mark: Mark, arc: int, healthy: bool) -> None:
    rules = default_rules()._replace(guard=GuardRules(available_below=mark))
    engine = Engine(rules, None)
    for second in (0, 10):
        seen = host(second, available=5300)._replace(mem_total=64 << 30, arc=arc or None)
        engine.feed(seen)
    assert engine.healthy is healthy


def test_history_is_five_minutes_of_our_own_or_what_an_earlier_run_left() -> None:
    engine = Engine(default_rules(), None)
    assert not engine.levels.history(UP0)
    show(engine, 0, [row(1, 50, "a.service")])
    assert [engine.levels.history(UP0 + s) for s in (0, 299, 300)] == [False, False, True]
    other = Engine(default_rules(), None)
    other.levels.take({})
    assert not other.levels.history(UP0)
    other.levels.take({"a.service": [9000, 9000, 0, 0]})
    assert other.levels.history(UP0)


def test_what_is_kept_is_the_same_text_while_nobody_proves_more() -> None:
    """So it can be stored with what is urgent, and is written only where it tells something new."""
    engine = Engine(default_rules(), None)
    texts = set()
    for second in range(0, 1200, 10):
        rows = [row(5, 300 + second // 10 % 3, "a.service"), row(6, 301, "b.service")]
        show(engine, second, rows)
        texts.add(json.dumps(engine.levels.kept()))
    assert len(texts) <= 2  # an hour may have ended

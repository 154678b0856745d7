"""Rings, trends and the world: what is remembered, and that it goes on after a restart."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.facts import Group, Host, Sweep, Who
from watchdog.history import entities, records
from watchdog.history.entities import Trend
from watchdog.history.headroom import headroom
from watchdog.history.ring import LEVELS, MISSING, Level, Ring
from watchdog.history.world import World, private_bytes

MIB = 1 << 20
SMALL = Level("test", 10, 4)


def row(pid=10, start=100, comm="leaky", rss=64 * MIB, shared=4 * MIB, swap=None, unit=None):
    return (pid, start, comm, rss, shared, swap, unit, None)


def test_a_bucket_keeps_its_smallest_value():
    ring = Ring()
    assert not ring.add(SMALL, 0, 5)
    assert not ring.add(SMALL, 9.9, 3)
    assert ring.add(SMALL, 10, 8)
    assert list(ring.values) == [3]


def test_buckets_without_a_value_are_missing_and_left_out():
    ring = Ring()
    for up, kib in ((0, 1), (30, 2), (40, 3)):
        ring.add(SMALL, up, kib)
    assert list(ring.values) == [1, MISSING, MISSING, 2]
    assert ring.known(4) == ([4, 1], [1, 2])


def test_a_value_of_the_past_changes_nothing():
    ring = Ring()
    ring.add(SMALL, 50, 7)
    assert not ring.add(SMALL, 10, 1)
    assert ring.floor == 7


@given(st.lists(st.tuples(st.floats(0, 5000), st.integers(0, 2**32 - 2)), max_size=80))
def test_a_ring_never_outgrows_its_slots(samples):
    ring = Ring()
    for gap, kib in samples:
        ring.add(SMALL, (ring.bucket + 1) * 10 + gap, kib)
    assert len(ring.values) <= SMALL.slots
    assert all(value == MISSING or value < MISSING for value in ring.values)


@given(st.lists(st.tuples(st.floats(0.1, 400), st.integers(0, 2**31)), min_size=1, max_size=60))
def test_a_trend_survives_the_store(samples):
    trend = Trend(1000.0, 50.0)
    up = 50.0
    for gap, kib in samples:
        up += gap
        trend.add(1000.0 + up, up, kib)
    trend.stage, trend.since_t, trend.episode = "suspected", 1001.5, 3
    kept = records.load(records.dump(trend, "10:100", "boot"))
    assert kept is not None
    for field in Trend.__slots__:
        if field in ("rings", "case"):
            continue
        assert getattr(kept, field) == getattr(trend, field), field
    for mine, theirs in zip(trend.rings, kept.rings, strict=True):
        assert (mine is None) is (theirs is None)
        if mine is not None:
            assert list(mine.values) == list(theirs.values)
            assert (mine.bucket, mine.floor) == (theirs.bucket, theirs.floor)


@given(st.lists(st.tuples(st.floats(5, 40), st.integers(0, 2**33)), min_size=1, max_size=60))
def test_coarse_rings_fed_from_fine_ones_hold_what_samples_would_have_put_there(samples):
    """Each level by itself, fed with every sample, closes the same buckets; it always moves."""
    trend, alone = Trend(0.0, 0.0), [Ring() for _ in LEVELS]
    up = 0.0
    for number, (gap, kib) in enumerate([(0, 0), (1, 0), *samples]):
        up += gap
        kib += (number % 2) * 2 * entities.STILL_KIB
        closed = trend.add(up, up, kib)
        kib = min(kib, MISSING - 1)
        assert closed == tuple(i for i, level in enumerate(LEVELS) if alone[i].add(level, up, kib))
    for mine, other in zip(trend.rings, alone, strict=True):
        if mine is not None:
            assert mine.values == other.values and mine.bucket == other.bucket
            assert mine.lowest <= mine.floor_of_all()


@pytest.mark.parametrize("blob", [b"", b"garbage", b"{}\n", b'{"format":1}\n', b'{"format":99}\n'])
def test_what_cannot_be_read_is_no_trend(blob):
    record = records.dump(Trend(1.0, 1.0), "1:1", "b")._replace(blob=blob)
    assert records.load(record) is None


def test_private_memory_leaves_out_shared_and_counts_swap():
    assert private_bytes(row(rss=10, shared=4, swap=5)) == 11


def test_a_census_tells_who_has_gone_and_a_sweep_does_not():
    world = World()
    world.take_sweep(Sweep(1.0, 1.0, (row(1), row(2)), census=True))
    assert world.take_sweep(Sweep(2.0, 2.0, (row(1),), census=False))[1] == []
    assert world.take_sweep(Sweep(3.0, 3.0, (row(1),), census=True))[1] == [(2, 100)]


def test_a_reused_pid_is_somebody_else():
    world = World()
    world.take_sweep(Sweep(1.0, 1.0, (row(1, start=5),), census=True))
    _, gone = world.take_sweep(Sweep(2.0, 2.0, (row(1, start=9),), census=True))
    assert gone == [(1, 5)]
    world.forget((1, 5), 0.0, 0.0)
    assert {pid: one.ident for pid, one in world.present.by_pid.items()} == {1: (1, 9)}
    assert world.entity_of_pid(1).start == 9
    assert world.entity_of_pid(2) is None


def test_exec_starts_a_trend_afresh_and_a_new_name_alone_does_not():
    world = World()
    world.take_sweep(Sweep(1.0, 1.0, (row(1),), census=False))
    first = world.trends[1, 100].first_up
    world.take_sweep(Sweep(2.0, 2.0, (row(1, comm="renamed"),), census=False))
    assert world.trends[1, 100].first_up == first
    world.take_sweep(Sweep(3.0, 3.0, (row(1, comm="other", rss=20 * MIB),), census=False))
    assert world.trends[1, 100].first_up == 3.0
    world.take_sweep(Sweep(4.0, 4.0, (row(1, comm="other", rss=5 * MIB),), census=False))
    assert world.trends[1, 100].first_up == 4.0


def test_another_executable_starts_a_trend_afresh():
    world = World()
    world.take_who(Who(1.0, 1.0, 1, 100, exe="/bin/sh"))
    world.take_sweep(Sweep(1.0, 1.0, (row(1),), census=False))
    world.take_who(Who(9.0, 9.0, 1, 100, exe="/bin/app"))
    assert world.trends[1, 100].first_up == 9.0


def test_what_many_processes_have_alike_is_kept_once_and_told_as_it_was():
    world = World()
    told = [
        Who(1.0, 1.0, pid, 100, 1, 33, f"/bin/{pid // 2 % 600}", "/a", "i", "c", -5,
            f"worker {pid}", True, "1-2")
        for pid in range(1, 2000)
    ]  # fmt: skip
    for who in told:
        world.take_who(who)
    world.take_sweep(Sweep(1.0, 1.0, tuple(row(who.pid) for who in told), census=True))
    assert world.who[2, 100] is world.who[3, 100]
    assert world.who[3, 100] != world.who[4, 100]
    found = [one.told() for one in world.present]
    assert found == told  # more kinds than are told apart at a time
    world.take_sweep(Sweep(2.0, 2.0, (row(5000),), census=False))
    assert world.present.get((5000, 100)).told() is None


def test_who_holds_still_is_looked_at_every_five_minutes_and_closes_no_buckets():
    world = World()
    looked_at = []
    for second in range(0, 901, 60):
        closed, _ = world.take_sweep(Sweep(second, second, (row(1), row(2)), census=True))
        assert closed == []
        looked_at += [(second, one.ident) for one in world.held]
    assert looked_at == [(at, (pid, 100)) for at in (300, 600, 900) for pid in (1, 2)]
    world.trends[1, 100].advised = True  # of whom something is told is judged
    closed, _ = world.take_sweep(Sweep(1200, 1200, (row(1), row(2)), census=True))
    assert [one.ident for one, _ in closed] == [(1, 100)]
    assert [one.ident for one in world.held] == [(2, 100)]


def test_headroom_is_the_tightest_limit_of_the_chain():
    world = World()
    world.take_host(Host(1.0, 1.0, mem_available=1000 * MIB, swap_free=24 * MIB))
    for path, limit, anon in (
        ("/a", 300, 100),
        ("/a/b.service", 500, 100),
        ("/a/b.service/c", None, 9),
    ):
        unit = "b.service" if path.endswith(".service") else None
        limit_bytes = limit * MIB if limit else None
        world.take_group(Group(1.0, 1.0, unit, path, anon=anon * MIB, limit=limit_bytes))
    left = headroom(world, "/a/b.service/c", 1.0, 1.0)
    assert left.bytes == 200 * MIB
    assert left.of == "below the limit of /a"
    assert headroom(world, None, 1.0, 4.0).bytes == 256 * MIB
    assert headroom(World(), None, 1.0, 1.0) is None


def test_a_unit_has_a_trend_of_its_own_and_is_forgotten():
    world = World()
    world.take_group(Group(1.0, 1.0, "b.service", "/b.service", anon=MIB, kernel=MIB))
    assert world.unit_trends["b.service"].kib == 2048
    assert [unit for unit, _ in world.forget_groups(before=2.0)] == ["b.service"]
    assert not world.groups and not world.unit_trends


@pytest.mark.parametrize(
    ("host", "age"),
    [
        (Host(100.0, 90.0), 89.0),
        (Host(100.0, None, btime=40.0), 49.0),
        (Host(100.0, None), 0.0),
    ],
)
def test_age_counts_from_the_start_of_the_process(host, age):
    world = World()
    world.take_host(host)
    assert world.age_s((1, 100), 90.0) == age


def test_levels_cover_five_minutes_to_a_week():
    assert LEVELS[0].bucket_s * LEVELS[0].slots == 300
    assert LEVELS[-1].bucket_s * LEVELS[-1].slots == 7 * 86400


def test_a_size_that_no_ring_can_hold_counts_as_the_largest_that_it_can():
    trend = Trend(0.0, 0.0)
    for up in (0.0, 5.0, 10.0):
        trend.add(up, up, 1 << 40)
    assert list(trend.full().rings[0].values) == [MISSING - 1] * 2
    assert records.load(records.dump(trend, "1:2", "boot")).kib == MISSING - 1


NUMBERS = ("kib", "episode", "peak_kib", "proven_kib", "high_up", "rate", "since_t")


@pytest.mark.parametrize("field", [*NUMBERS, "stage", "passes", "rings", "event"])
@pytest.mark.parametrize("bad", [[7], {"a": 1}, [[]] * 5, [["a", 1, 2]] * 5, True])
def test_a_kept_trend_with_a_field_of_another_kind_is_no_trend(field, bad):
    trend = Trend(0.0, 0.0)
    for up in range(0, 100, 5):
        trend.add(up, up, 1000 + up)
    record = records.dump(trend, "1:2", "boot")
    assert records.load(record) is not None
    head, _, rest = record.blob.partition(b"\n")
    broken = json.dumps(json.loads(head) | {field: bad}).encode()
    assert records.load(record._replace(blob=broken + b"\n" + rest)) is None


# ---- who holds still ---------------------------------------------------------------------------


def test_who_holds_still_has_no_rings_and_all_of_them_once_it_moves():
    trend = Trend(0.0, 0.0)
    for up in range(0, 7200, 10):
        trend.add(up, up, 50_000 + up % 500)
    assert trend.fine == entities.NO_RING and trend.kib == 50_190
    assert trend.floor_ago(3600) == 50_000 * 1024 == trend.first_floor()
    assert trend.recent_rate() == 0.0
    assert trend.add(7200, 7200, 60_000) == (0, 1, 2, 3, 4) and trend.fine == 0
    for level, ring in zip(LEVELS, trend.rings, strict=True):
        ages, floors = ring.known(level.slots)
        assert set(floors) == {50_000}
        # as often as it was seen: every 10 s
        assert len(floors) == min(level.slots // max(1, 10 // level.bucket_s),
                                  7200 // max(10, level.bucket_s))  # fmt: skip
        assert ages[-1] == (2 if level.bucket_s == 5 else 1)


def test_who_comes_to_rest_lets_go_of_the_finest_rings_first():
    trend, kept = Trend(0.0, 0.0), {}
    for up in range(0, 9 * 86400, 60):
        trend.add(up, up, 1000 + min(up, 3600) * 20)
        kept.setdefault(trend.fine, up)
    assert list(kept) == [entities.NO_RING, 0, 1, 2, 3, 4]
    # each an hour's climb, and its own length, after the last move
    assert (
        kept[1] < 3600 + 900 and kept[2] < 3600 * 3 and kept[3] < 3600 * 9 and kept[4] < 3600 * 52
    )
    assert trend.fine == entities.NO_RING and trend.still_up > 3600
    assert trend.add(9 * 86400, 9 * 86400, 10_000) and trend.fine == 0


def test_a_suspect_keeps_all_its_rings():
    trend = Trend(0.0, 0.0)
    for up in range(0, 4000, 10):
        trend.add(up, up, 1000 if up < 20 else 9000)
        trend.stage = "suspected"
    assert trend.fine == 0


def test_a_slow_drift_is_seen_although_each_step_of_it_is_small():
    trend = Trend(0.0, 0.0)
    for up in range(0, 2 * 86400, 60):
        trend.add(up, up, 20_000 + up // 20)
    ages, floors = trend.full().rings[3].known(LEVELS[3].slots)
    slope = (floors[-1] - floors[0]) / (ages[0] - ages[-1])
    assert slope == pytest.approx(90, rel=0.1)  # KiB in half an hour


def test_too_many_that_move_are_pressed_and_the_most_risen_are_not(monkeypatch):
    monkeypatch.setattr("watchdog.history.world.MOVING_MAX", 200)
    world = World()
    for at in range(0, 120, 10):
        rows = [row(pid, rss=(64 + pid % 7 * (at // 10 % 2)) * MIB) for pid in range(1, 400)]
        rows.append(row(9000, rss=(64 + at) * MIB))
        world.take_sweep(Sweep(at, at, tuple(rows), census=True))
    assert len(world.moving) <= 200
    assert sum(1 for trend in world.trends.values() if not trend.fine) <= 200
    assert world.trends[9000, 100].fine == 0
    pressed = [t for t in world.trends.values() if t.still_kib > entities.STILL_KIB]
    assert pressed and all(t.fine >= 4 for t in pressed)

"""What earlier lives of a program did: their gain at the same age, its ceiling, its builds."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog import trace
from watchdog.engine import Engine
from watchdog.facts import Event, Group, Host, Sweep, Who
from watchdog.history import lives
from watchdog.history.lives import Programs
from watchdog.judge import hidden
from watchdog.policy.rules import default_rules
from watchdog.tell import terminal

MIB = 1 << 20
T0, UP0 = 1_700_000_000.0, 7200.0 * 3
HOUR = 3600.0
POOL = ("shop.service", "/usr/bin/worker")


def life(base_mib, mib_per_hour, hours, levelling=False):
    """(age, KiB) of a life; one that levels off gains most of it in its first third."""
    found = []
    for i in range(40):
        age = hours * HOUR * (i + 0.5) / 40
        part = age / (hours * HOUR)
        grown = mib_per_hour * hours * (1 - math.exp(-6 * part) if levelling else part)
        found.append((age, int((base_mib + grown) * 1024)))
    return found


def lived(shapes, gap=0.0, build=None, programs=None, start=T0):
    programs = programs or Programs()
    t = start
    for shape in shapes:
        birth, t = t + gap, t + gap + shape[-1][0]
        programs.ended(POOL, build, shape, birth, t)
    return programs


def test_what_each_life_gains_is_the_median_at_the_same_age():
    shapes = [life(60 + i, 40, hours) for i, hours in enumerate((1, 1.5, 0.8, 1.2, 1, 1.1))]
    found = lived(shapes).of(*POOL)
    assert found.known == 6 and found.gain.lives == found.gain.of == 6
    assert found.gain.rate * HOUR / MIB == pytest.approx(40, rel=0.05)
    assert not found.gain.level and found.gain.life_s == pytest.approx(1.05 * HOUR, rel=0.1)


@pytest.mark.parametrize(
    "shapes",
    [
        [life(60, 0, 1)] * 8,
        [life(60, 40, 1)] * 3,  # too few
        [life(60, 40, 1), *[life(60, 0, 1)] * 5],
        [life(1, 2, 1)] * 8,  # nobody's trouble
        [],
    ],
)
def test_no_gain_worth_a_word(shapes):
    assert lived(shapes).of(*POOL).gain is None


def test_a_warm_up_levels_off_and_is_no_leak():
    assert lived([life(60, 60, 1, levelling=True)] * 8).of(*POOL).gain.level


def test_jobs_that_are_started_now_and_then_are_no_lives_of_a_service():
    assert lived([life(60, 40, 1)] * 8, gap=2 * HOUR).of(*POOL).gain is None
    assert lived([life(60, 40, 1)] * 8, gap=5.0).of(*POOL).gain is not None


def test_only_the_last_eight_count():
    programs = lived([life(60, 90, 1)] * 6 + [life(60, 30, 1)] * 8)
    assert programs.of(*POOL).gain.rate * HOUR / MIB == pytest.approx(30, rel=0.05)


def test_a_new_build_starts_afresh_and_is_compared_with_the_old():
    programs = lived([life(60, 20, 1)] * 6, build="1")
    programs.build(POOL, "2", T0 + 7 * HOUR)
    assert programs.of(*POOL).known == 0 and programs.of(*POOL).gain is None
    assert not programs.ended(POOL, "1", life(60, 20, 1), T0, T0 + 7 * HOUR)  # a straggler
    lived([life(60, 60, 1)] * 5, build="2", programs=programs, start=T0 + 8 * HOUR)
    found = programs.of(*POOL)
    assert hidden.since_build(found) == "since the new build it grows 3.0 times as fast"
    assert hidden.because(found)[-1] == hidden.since_build(found)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (0, 40, "the build before did not grow"),
        (40, 0, "since the new build it does not grow any more"),
        (80, 20, "since the new build it grows 25 % as fast as before"),
        (40, 41, None),
    ],
)
def test_builds_compared(before, now, said):
    programs = lived([life(60, before, 1)] * 6, build="1")
    programs.build(POOL, "2", T0 + 7 * HOUR)
    lived([life(60, now, 1)] * 6, build="2", programs=programs, start=T0 + 8 * HOUR)
    assert hidden.since_build(programs.of(*POOL)) == said


# ---- the ceiling ---------------------------------------------------------------------------


def observe(programs, hours, mib, start=0.0, suspected=False):
    for i in range(int(hours * 12)):
        t = T0 + start * HOUR + i * 300.0
        programs.observe(POOL, t, int(mib(start + i / 12) * 1024), suspected)


def ceiling_mib(programs):
    kib = programs.of(*POOL).ceiling_kib
    return None if kib is None else kib / 1024


def test_a_ceiling_takes_a_day_and_is_a_little_above_what_was_held():
    programs = Programs()
    observe(programs, 23, lambda hour: 200)
    assert ceiling_mib(programs) is None
    observe(programs, 10, lambda hour: 200, start=23)
    assert ceiling_mib(programs) == pytest.approx(230, rel=0.06)


def test_a_leak_does_not_raise_it_once_it_is_suspected():
    programs = Programs()
    observe(programs, 48, lambda hour: 200)
    observe(programs, 48, lambda hour: 200 + 40 * (hour - 48), start=48, suspected=True)
    assert ceiling_mib(programs) == pytest.approx(230, rel=0.06)
    # what the two hours before the suspicion held was not learned either
    programs = Programs()
    observe(programs, 48, lambda hour: 200)
    observe(programs, 1, lambda hour: 900, start=48)
    observe(programs, 1, lambda hour: 950, start=49, suspected=True)
    observe(programs, 24, lambda hour: 200, start=50)
    assert ceiling_mib(programs) == pytest.approx(230, rel=0.06)


def test_a_weekly_job_stays_below_it_for_a_week_and_then_fades():
    programs = Programs()
    observe(programs, 48, lambda hour: 900 if 20 <= hour < 22 else 200)
    observe(programs, 96, lambda hour: 200, start=48)
    assert ceiling_mib(programs) == pytest.approx(900, rel=0.06)
    observe(programs, 24 * 10, lambda hour: 200, start=144)
    assert ceiling_mib(programs) == pytest.approx(230, rel=0.06)


# ---- bounds, the store --------------------------------------------------------------------


def test_there_are_never_more_programs_than_the_bound():
    programs = Programs()
    for i in range(2000):
        programs.observe(("", f"/bin/{i}"), T0 + i, 20 << 10, False)
    assert len(programs.seen) == lives.PROGRAMS_MAX and ("", "/bin/1999") in programs.seen


def test_a_restart_goes_on_with_what_was_known():
    programs = lived([life(60, 20, 1)] * 6, build="1")
    observe(programs, 60, lambda hour: 300 if hour > 40 else 200)
    again = Programs()
    for record in programs.dump():
        again.load(record)
    assert again.of(*POOL) == programs.of(*POOL)
    assert again.of(*POOL).ceiling_kib and again.of(*POOL).gain


WHOLE = lives.plain(lives._Seen(1.0))
ODD = st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers())


@given(
    st.binary(max_size=40)
    | st.dictionaries(st.sampled_from(sorted(WHOLE)), ODD).map(
        lambda odd: json.dumps(WHOLE | odd).encode()
    )
)
def test_a_damaged_record_is_passed_over(blob):
    programs = Programs()
    programs.load(lives.EntityRecord("life:shop.service\x1f/x", "", 1.0, 1.0, 0, blob))
    programs.of("shop.service", "/x")
    programs.observe(("shop.service", "/x"), T0, 20 << 10, False)


# ---- the engine ---------------------------------------------------------------------------


def pool(hours, mib_per_hour, workers=4, life_s=900.0, build="1", interval=30.0, start=0.0,
         pid=1000):  # fmt: skip
    """A parent and its workers, each replaced after `life_s`, one after the other."""
    facts = []
    at = start
    born: dict[int, float] = {}
    told = set()
    while at < start + hours * HOUR:
        up = UP0 + at
        facts.append(Host(T0 + at, up, "b0000000", T0 - UP0, 24000 * MIB, 20000 * MIB, 0, 0))
        rows = [(pid, 100, "worker", 30 * MIB, 0, None, "shop.service", None)]
        for slot in range(workers):
            index = int((at + slot * life_s / workers) // life_s)
            birth = max(start, index * life_s - slot * life_s / workers)
            number = pid + 1 + slot + 10 * (index % 500)
            age = at - birth
            mib = 40 + mib_per_hour * age / HOUR
            ticks = int((UP0 + birth) * 100)
            rows.append((number, ticks, "worker", int(mib * MIB), 0, None, "shop.service", None))
            born[number] = birth
        for row in rows:
            if row[:2] not in told:
                told.add(row[:2])
                parent = 1 if row[0] == pid else pid
                facts.append(Who(T0 + at, up, row[0], row[1], parent, 33, "/usr/bin/worker",
                                 "/system.slice/shop.service", build=build))  # fmt: skip
        facts.append(Sweep(T0 + at, up, tuple(rows), census=True))
        at += interval
    return facts


def feed(engine, facts):
    return [one for fact in facts for one in engine.feed(fact) if isinstance(one, Event)]


def test_a_pool_recycled_by_max_requests_is_an_advisory_once():
    out = feed(Engine(default_rules(), None), pool(3, 120))
    assert [event.kind for event in out] == ["leak.advisory"]
    body = out[0].body
    assert body["scope"] == "unit" and body["unit"] == "shop.service" and body["pid"] is None
    assert body["exe"] == "/usr/bin/worker" and body["part"] == "anon"
    assert body["rate_bytes_per_s"] * HOUR / MIB == pytest.approx(120, rel=0.1)
    assert body["per_life_bytes"] / MIB == pytest.approx(120 * body["life_s"] / HOUR * 0.8, rel=0.1)
    assert out[0].because[0].startswith("each of its last ")
    said = terminal.message(out[0].flat())
    assert said.startswith("slow growth: worker (shop.service, uid 33) gains ") or (
        "worker (shop.service) gains " in said and " in each life of " in said
    )


def test_a_pool_that_does_not_leak_is_no_word():
    assert feed(Engine(default_rules(), None), pool(3, 0)) == []


def test_it_is_cleared_when_a_build_does_not_leak_any_more_and_says_how_they_compare():
    engine = Engine(default_rules(), None)
    (told,) = feed(engine, pool(2, 120))
    (cleared,) = feed(engine, pool(2, 0, build="2", start=2 * HOUR, pid=20000))
    assert cleared.kind == "leak.cleared" and cleared.cause == told.id
    (again,) = feed(engine, pool(2, 90, build="3", start=4 * HOUR, pid=40000))
    assert again.kind == "leak.advisory" and again.because[-1] == "the build before did not grow"
    assert again.id != told.id


def test_a_build_is_in_the_recording():
    who = Who(T0, UP0, 1, 2, exe="/x", build="8-1-2")
    assert trace.fact(trace.line(who)) == who


def test_jobs_of_a_build_are_no_workers():
    facts = [
        fact._replace(exe="/usr/bin/make" if fact.pid == 1000 else fact.exe)
        if isinstance(fact, Who) else fact
        for fact in pool(3, 120)
    ]  # fmt: skip
    assert feed(Engine(default_rules(), None), facts) == []


def test_a_unit_as_a_whole_has_a_ceiling_too():
    engine = Engine(default_rules(), None)
    for at in range(0, 30 * 3600, 150):
        group = Group(T0 + at, UP0 + at, "shop.service", "/shop.service", anon=200 * MIB)
        engine.feed(group)
        engine.feed(Sweep(T0 + at, UP0 + at, (), census=True))
    found = engine.world.programs.of("shop.service", None)
    assert found.ceiling_kib / 1024 == pytest.approx(230, rel=0.06)


def leaking(engine, start_mib):
    """A process of the pool that leaks from that size on; its suspicion."""
    begun = 40 * HOUR
    ticks = int((UP0 + begun) * 100)
    out = []
    for at in range(0, 900, 5):
        t, up = T0 + begun + at, UP0 + begun + at
        mib = start_mib + at / 2
        facts = [
            Host(t, up, "b0000000", T0 - UP0, 24000 * MIB, int((1200 - mib) * MIB), 0, 0),
            Who(t, up, 5000, ticks, 1, 33, POOL[1], build="2"),
            Sweep(t, up, ((5000, ticks, "worker", int(mib * MIB), 0, None, POOL[0], None),), True),
        ]
        out += feed(engine, facts if at == 0 else [facts[0], facts[2]])
    return next(one for one in out if one.kind == "leak.suspected")


def test_below_what_a_program_is_known_to_need_a_rise_is_less_surely_a_leak():
    plain = leaking(Engine(default_rules(), None), 50)
    engine = Engine(default_rules(), None)
    observe(engine.world.programs, 30, lambda hour: 600)
    told = leaking(engine, 50)
    assert told.body["confidence"] == pytest.approx(plain.body["confidence"] - 0.2)
    assert told.because[-1].startswith("it is still below the ")
    assert told.because[-1].endswith(" that it is known to need")
    engine = Engine(default_rules(), None)
    observe(engine.world.programs, 30, lambda hour: 20)
    told = leaking(engine, 50)
    assert told.body["confidence"] == plain.body["confidence"]
    assert told.because[-1].startswith("it has left behind the ")


def test_a_leak_of_a_new_build_is_compared_with_the_old():
    engine = Engine(default_rules(), None)
    lived([life(60, 0, 1)] * 6, build="1", programs=engine.world.programs)
    told = leaking(engine, 50)
    assert told.because[-1] == "the build before did not grow"

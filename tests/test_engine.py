"""The engine: facts in, events and orders out; the same live, replayed, split and shuffled."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog import trace
from watchdog.engine import Engine, resume
from watchdog.engine.leaks import Leaks
from watchdog.facts import (
    Event,
    Group,
    Host,
    KernelLine,
    Look,
    Order,
    Outcome,
    Said,
    Sweep,
    Tick,
    Who,
)  # fmt: skip
from watchdog.history import records
from watchdog.policy import view
from watchdog.policy.reach import EVERYBODY
from watchdog.policy.rules import Match, Policy, Rules, Selector, When, default_rules

MIB = 1 << 20
T0, UP0 = 1_700_000_000.0, 5000.0
BOOT = "b0000000-1111"
KILL = (
    "6,10,5200000000,-;leaky invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, "
    "oom_score_adj=0",
    "6,11,5200000100,-;memory: usage 524288kB, limit 524288kB, failcnt 9",
    "6,12,5200000200,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,"
    "mems_allowed=0,oom_memcg=/shop,task_memcg=/shop,task=leaky,pid=7,uid=0",
    "3,13,5200000300,-;Memory cgroup out of memory: Killed process 7 (leaky) total-vm:530000kB, "
    "anon-rss:520000kB, file-rss:1000kB, shmem-rss:0kB, UID:0 pgtables:1000kB oom_score_adj:0",
)


def row(pid, mib, comm="leaky", unit="shop.service", start=None):
    return (pid, start or pid * 100, comm, int(mib * MIB), 0, None, unit, None)


def host(at, available=20000, **more):
    return Host(
        T0 + at, UP0 + at, BOOT, T0 - UP0, 24000 * MIB, available * MIB, 0, 0, 0, 0, 0
    )._replace(**more)


def world(seconds, sizes, interval=1.0, limit=512, start=0.0):
    """The facts of a machine whose processes have sizes(second) -> [rows]."""
    at = start
    facts = []
    while at < start + seconds:
        facts.append(host(at))
        if at == start:
            facts += [
                Who(
                    T0 + at,
                    UP0 + at,
                    one[0],
                    one[1],
                    1,
                    0,
                    "/usr/bin/leaky",
                    "/shop",
                    None,
                    None,
                    0,
                )
                for one in sizes(at)
            ]
        used = sum(one[3] for one in sizes(at))
        facts.append(
            Group(T0 + at, UP0 + at, "shop.service", "/shop", anon=used, limit=limit * MIB)
        )
        facts.append(Sweep(T0 + at, UP0 + at, tuple(sizes(at)), census=at % 30 == 0))
        at += interval
    return facts


def counting(facts, kills):
    """The same facts, where the kernel has counted so many kills."""
    return [fact._replace(oom_kill=kills) if isinstance(fact, Host) else fact for fact in facts]


def leaking(second):
    return [row(7, 12 + 2 * second), row(8, 40, comm="calm")]


def feed(engine, facts):
    """What follows, without the looks at parts: nobody answers them here."""
    out = [item for fact in facts for item in engine.feed(fact)]
    return [item for item in out if not (isinstance(item, Look) and item.what == "parts")]


def told(out):
    return [item.kind for item in out if isinstance(item, Event)]


def test_a_leak_that_ends_in_an_oom_kill_is_one_story():
    engine = Engine(default_rules(), "box")
    out = feed(engine, world(130, leaking))
    out += feed(engine, [KernelLine(T0 + 130, UP0 + 130, line) for line in KILL])
    out += feed(engine, [Tick(T0 + 132, UP0 + 132)])
    gone = Sweep(T0 + 133, UP0 + 133, (row(8, 40, comm="calm"),), census=True)
    out += feed(engine, [gone])
    assert told(out) == ["leak.suspected", "leak.confirmed", "oom.kill", "leak.cleared"]
    suspected, confirmed, kill, cleared = out
    assert confirmed.cause == suspected.id and kill.cause == confirmed.id
    assert cleared.cause == confirmed.id
    assert kill.body["verdict"] == "leak" and kill.body["unit"] == "shop.service"
    assert kill.body["victim"]["pid"] == 7 and kill.body["limit_bytes"] == 512 * MIB
    assert confirmed.body["pid"] == 7 and confirmed.body["exe"] == "/usr/bin/leaky"
    assert {event.host for event in out} == {"box"} and all(event.because for event in out)
    assert all(event.id.startswith(f"{event.kind}-b0000000-") for event in out)
    assert engine.world.rows == {(8, 800): row(8, 40, comm="calm")}


def test_the_same_facts_give_the_same_events_byte_for_byte():
    facts = world(130, leaking) + [KernelLine(T0 + 131, UP0 + 131, line) for line in KILL]
    one, two = Engine(default_rules(), "box"), Engine(default_rules(), "box")
    live = feed(one, facts) + one.finish()
    replayed = feed(two, [trace.fact(trace.line(fact)) for fact in facts]) + two.finish()
    assert [event.flat() for event in live] == [event.flat() for event in replayed]
    assert told(live)[-1] == "oom.kill"


@settings(max_examples=15, deadline=None)
@given(st.integers(20, 125))
def test_a_restart_in_the_middle_changes_nothing(cut):
    facts = world(128, leaking)
    whole = [event.id for event in feed(Engine(default_rules(), "box"), facts)]
    first, second = Engine(default_rules(), "box"), Engine(default_rules(), "box")
    at = next(i for i, fact in enumerate(facts) if fact.t >= T0 + cut)
    out = feed(first, facts[:at])
    records = first.dump()
    second.load(reversed(records))
    whos = [fact for fact in facts if isinstance(fact, Who)]
    out += feed(second, whos + facts[at:])
    assert [event.id for event in out] == whole
    # `since` of an episode that went on is what it was
    assert len({event.body["since"] for event in out}) == 1


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_the_order_of_processes_changes_nothing(seed):
    order = random.Random(seed)

    def shuffled(second):
        rows = [row(7, 12 + 2 * second), *(row(pid, 30, comm="calm") for pid in range(20, 40))]
        order.shuffle(rows)
        return rows

    def plain(second):
        return [row(7, 12 + 2 * second), *(row(pid, 30, comm="calm") for pid in range(20, 40))]

    one = feed(Engine(default_rules(), None), world(100, plain, limit=1500))
    two = feed(Engine(default_rules(), None), world(100, shuffled, limit=1500))
    assert [event.flat() for event in one] == [event.flat() for event in two]


def test_a_unit_whose_workers_are_recycled_leaks_as_a_unit():
    def recycled(second):
        worker = 100 + int(second // 10)
        return [row(worker, 12 + 2 * second)]

    out = feed(Engine(default_rules(), None), world(130, recycled))
    assert told(out) == ["leak.suspected", "leak.confirmed"]
    assert out[0].body["scope"] == "unit" and out[0].body["unit"] == "shop.service"
    assert out[0].body["pid"] is None


def test_a_unit_that_is_gone_is_cleared():
    def recycled(second):
        return [row(100 + int(second // 10), 12 + 2 * second)]

    engine = Engine(default_rules(), None)
    feed(engine, world(130, recycled))
    out = feed(engine, [Sweep(T0 + 400, UP0 + 400, (), census=True)])
    assert told(out) == ["leak.cleared"] and out[0].because == ("the unit is gone",)


def test_a_unit_that_comes_back_and_leaks_again_is_told_anew():
    """The store and the journal take an id once."""
    engine = Engine(default_rules(), None)
    ids = []
    for start in (0, 1000):

        def recycled(second):
            return [row(100 + int(second // 10), 12 + 2 * (second - start))]  # noqa: B023

        out = feed(engine, world(130, recycled, start=start))
        end = start + 400
        out += feed(engine, [Sweep(T0 + end, UP0 + end, (), census=True)])
        assert told(out) == ["leak.suspected", "leak.confirmed", "leak.cleared"]
        ids += [event.id for event in out]
    assert len(set(ids)) == 6


def test_a_unit_is_not_named_beside_its_process():
    out = feed(Engine(default_rules(), None), world(130, leaking))
    assert {event.body["scope"] for event in out} == {"process"}


def test_a_kill_of_another_boot_knows_nothing_of_todays_processes():
    engine = Engine(default_rules(), None)
    feed(engine, world(5, leaking))
    out = (
        feed(engine, [KernelLine(1.0, 2.0, line, "other-boot") for line in KILL]) + engine.finish()
    )
    assert told(out) == ["oom.kill"]
    assert out[0].boot_id == "other-boot" and out[0].id == "oom.kill-other-bo-5200000300-7"
    assert out[0].body["exe"] is None and out[0].cause is None


def test_a_forged_kill_is_told_as_one():
    engine = Engine(default_rules(), None)
    forged = KILL[3].replace("3,13", "11,13")
    out = feed(engine, [KernelLine(T0, UP0, forged), Tick(T0 + 9, UP0 + 9)])
    assert told(out) == ["oom.forged"]


def test_stopping_tells_what_has_its_kill_line_and_leaves_the_rest():
    engine = Engine(default_rules(), None)
    assert feed(engine, [KernelLine(T0, UP0, line) for line in KILL]) == []
    assert told(engine.settle()) == ["oom.kill"]
    feed(engine, [KernelLine(T0, UP0, line) for line in KILL[:2]])
    assert engine.settle() == [] and not engine.idle


def policy(**more):
    base = Policy("watch-shop", Match(unit=("shop.service",)), When(leak="confirmed"), do=("log",))
    return base._replace(**more)


def test_a_policy_in_observe_logs_and_says_what_it_would_have_done():
    rules = Rules(policies=(policy(do=("log", "terminate"), per="process"),))
    engine = Engine(rules, None)
    out = feed(engine, world(130, leaking))
    orders = [item for item in out if isinstance(item, Order)]
    assert [(order.do, order.mode, order.outcome) for order in orders] == [("log", "observe", None)]
    actions = [item for item in out if isinstance(item, Event) and item.kind == "policy.action"]
    assert [(event.body["do"], event.body["outcome"]) for event in actions] == [
        ("terminate", "would")
    ]
    assert actions[0].cause.startswith("leak.confirmed")
    done = engine.feed(Outcome(T0 + 131, UP0 + 131, orders[0].id, "done", "said", False))
    assert done[0].body["outcome"] == "done" and done[0].because[-1] == "said"
    assert done[0].body["restarts"] is False and "restarts" not in actions[0].body
    assert engine.feed(Outcome(T0 + 131, UP0 + 131, orders[0].id, "done", "again")) == []


def test_enforce_orders_a_termination_once():
    rules = Rules(policies=(policy(do=("terminate",), mode="enforce", per="process"),))
    out = feed(Engine(rules, None), world(160, leaking))
    orders = [item for item in out if isinstance(item, Order)]
    assert [(order.do, order.subject.entity.pid) for order in orders] == [("terminate", 7)]


def test_what_failed_says_when_it_is_tried_again():
    rules = Rules(policies=(policy(do=("terminate",), mode="enforce", per="process"),))
    engine = Engine(rules, None)
    (order,) = [one for one in feed(engine, world(160, leaking)) if isinstance(one, Order)]
    (told,) = engine.feed(Outcome(T0 + 161, UP0 + 161, order.id, "failed", "not permitted"))
    assert told.because[-1] == "not permitted; tried again in 2 s if it still lasts"


def test_a_policy_on_a_unit_sees_its_worst_member():
    rules = Rules(policies=(policy(per="unit"),))
    out = feed(Engine(rules, None), world(130, leaking))
    assert [item.subject.entity.unit for item in out if isinstance(item, Order)] == ["shop.service"]


def test_a_policy_on_oom_kill_and_on_pressure():
    rules = Rules(policies=(
        policy(name="killed", when=When(oom_kill=True), per="process"),
        policy(name="tight", when=When(pressure=True), per="unit"),
    ))  # fmt: skip
    engine = Engine(rules, None)
    feed(engine, world(2, leaking))
    feed(engine, [host(2, oom_kill=1)])
    feed(engine, [KernelLine(T0 + 2, UP0 + 2, line) for line in KILL])
    feed(engine, [Said(T0 + 3, UP0 + 3, "pressure.begun", "x", ("short",), {"scope": "host"})])
    out = feed(engine, counting(world(2, leaking, start=4.0), 1))
    assert {order.policy for order in out if isinstance(order, Order)} == {"killed", "tight"}
    ended = feed(
        engine, [Said(T0 + 9, UP0 + 9, "pressure.ended", "x", ("well",), {"scope": "host"})]
    )
    assert told(ended) == ["pressure.ended"] and engine.pressed is False


def test_other_rules_take_over_at_once():
    engine = Engine(default_rules(), None)
    feed(engine, world(130, leaking))
    engine.set_rules(Rules(policies=(policy(per="process"),)))
    out = feed(engine, world(2, leaking, start=130.0))
    assert [item.do for item in out if isinstance(item, Order)] == ["log"]


def test_the_dossier_has_the_largest_first_and_says_who_is_protected():
    rules = Rules(protect=Selector(unit=("db.service",)), avoid=Selector(unit=("shop.service",)))
    engine = Engine(rules, None)

    def rows(second):
        return [*leaking(second), row(9, 400, "db", "db.service"),
                row(10, 2, "tiny", "tiny.service")]  # fmt: skip

    feed(engine, world(130, rows, limit=4096))
    dossier = engine.dossier()
    assert [line[0] for line in dossier] == [9, 7, 8]
    assert dossier[0][7] and "db.service" in dossier[0][7]
    assert dossier[1][7] is None and dossier[1][8] == -1
    assert dossier[1][5] > 200 * MIB


def test_the_dossier_leaves_oom_score_adj_to_the_guard_which_reads_it_afresh():
    """A child of a service that is spared gives it up after we have seen it, without an exec."""
    engine = Engine(default_rules(), None)
    engine.feed(Who(T0, UP0, 9, 1, exe="/usr/bin/db", oom_score_adj=-1000))
    engine.feed(Sweep(T0, UP0, ((9, 1, "db", 50 * MIB, 0, None, "db.service", None),), census=True))
    (line,) = engine.dossier()
    assert line[7] is None


def test_many_processes_leave_a_bounded_dossier():
    engine = Engine(default_rules(), None)
    engine.feed(Sweep(T0, UP0, tuple(row(pid, 50) for pid in range(1, 700)), census=True))
    assert len(engine.dossier()) == 512


def test_the_dossier_has_who_was_started_just_now_whatever_his_size():
    """What he is called, whose unit he is of, and what that has proven is known before he grows."""
    engine = Engine(default_rules(), None)
    engine.levels.take({"db.service": [300 << 10, 300 << 10, 1, 0]})
    fresh = int((UP0 - 20) * 100)
    old = [(pid, 100, "old", (50 + pid) * MIB, 0, None, None, None) for pid in range(1, 600)]
    new = [(pid, fresh + pid, "sh", MIB // 2, 0, None, None, None) for pid in range(1000, 1080)]
    db = (2000, fresh + 1500, "db", MIB, 0, None, "db.service", None)
    engine.feed(Host(T0, UP0, "b", T0 - UP0, 1 << 40, 1 << 39))
    engine.feed(Sweep(T0, UP0, (*old, *new, db), census=True))
    found = engine.dossier()
    assert len(found) == 512
    assert [line[0] for line in found[256:320]] == [2000, *range(1079, 1016, -1)]
    assert found[256][3] == "db.service" and found[256][10] == 300 * MIB
    assert [line[0] for line in found if line[0] < 1000] == list(range(599, 151, -1))
    engine.feed(Host(T0 + 60, UP0 + 60, "b", T0 - UP0, 1 << 40, 1 << 39))
    assert [line[0] for line in engine.dossier()] == list(range(599, 87, -1))


def test_stall_or_little_memory_is_not_healthy():
    engine = Engine(default_rules(), None)
    feed(engine, [host(0), host(10)])
    assert engine.healthy
    engine.feed(host(20, available=100))
    assert not engine.healthy
    feed(engine, [host(30), host(40, psi_full_us=9_000_000)])
    assert not engine.healthy


def test_what_is_gone_is_forgotten():
    engine = Engine(default_rules(), None)
    feed(engine, world(31, leaking))
    feed(engine, [Sweep(T0 + 300, UP0 + 300, (), census=True)])
    tables = engine.world
    assert not (tables.rows or tables.who or tables.trends or tables.groups or tables.unit_trends)


def test_a_month_leaves_the_tables_as_small_as_a_day():
    engine = Engine(default_rules(), None)
    chance = random.Random(5)

    def sizes():
        def held(table):
            return len(table)

        world_ = engine.world
        return [held(t) for t in (world_.rows, world_.who, world_.trends, world_.groups,
                                  world_.present, engine.pending,
                                  engine.kills.oom_killed)]  # fmt: skip

    marks = []
    for step in range(2000):  # 2000 censuses, each process lives a few of them
        at = step * 1296.0
        rows = tuple(row(pid, 20, start=step // 3 + pid) for pid in range(10, 30))
        engine.feed(host(at))
        for one in rows:
            engine.feed(Who(T0 + at, UP0 + at, one[0], one[1], exe="/bin/x"))
        engine.feed(Group(T0 + at, UP0 + at, f"u{step}.service", f"/u{step}.service", anon=MIB))
        engine.feed(Sweep(T0 + at, UP0 + at, rows, census=True))
        if chance.random() < 0.2:
            feed(engine, [KernelLine(T0 + at, UP0 + at, line) for line in KILL])
        if step in (100, 1999):
            marks.append(sizes())
    assert marks[1] == pytest.approx(marks[0], abs=5)


def test_a_dump_in_pieces_holds_who_is_still_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resume, "PIECE", 3)
    engine = Engine(default_rules(), None)
    rows = tuple(row(pid, 40, unit=None, start=100) for pid in range(10, 20))
    engine.feed(Sweep(T0, UP0, rows, census=True))
    assert {record.key for record in engine.dump()} == {f"{pid}:100" for pid in range(10, 20)}
    pieces = engine.pieces()
    found = next(pieces)
    assert len(found) == 3
    left = (*rows[:8], row(18, 40, unit=None, start=500))
    engine.feed(Sweep(T0 + 30, UP0 + 30, left, census=True))
    found += [record for piece in pieces for record in piece]
    assert [record.key for record in found] == [f"{pid}:100" for pid in range(10, 18)]


def test_a_dump_names_who_it_is_and_gives_the_sizes_back():
    engine = Engine(default_rules(), None)
    feed(engine, world(130, leaking))
    kept = {record.key: records.sizes(record) for record in engine.dump()}
    assert kept["7:700"].comm == "leaky" and kept["7:700"].unit == "shop.service"
    assert kept["unit:shop.service"].unit == "shop.service"
    points = kept["7:700"].points
    assert [up for _, up, _ in points] == sorted({up for _, up, _ in points})
    # a bucket holds its smallest value: that of its first second
    assert all(kib == int((12 + 2 * (up - 5 - UP0)) * 1024) for _, up, kib in points)
    assert points[0][0] == T0 + points[0][1] - UP0
    assert records.sizes(engine.dump()[0]._replace(blob=b"")) is None


def test_a_sweep_costs_no_pass_over_everybody_for_each(monkeypatch):
    passes = []
    rates = Leaks._rates
    monkeypatch.setattr(Leaks, "_rates", lambda self: passes.append(1) or rates(self))
    engine = Engine(default_rules(), "box")
    for at in range(0, 60, 10):
        rows = tuple(row(pid, 20 + pid / 100, unit=None) for pid in range(10, 510))
        passes.clear()
        engine.feed(Sweep(T0 + at, UP0 + at, rows, census=True))
        assert len(passes) <= 2


def test_a_confirmed_leak_is_still_one_to_the_guard_after_a_restart():
    engine = Engine(default_rules(), "box")
    engine.feed(host(0))
    engine.feed(Sweep(T0, UP0, (row(7, 100),), census=True))
    engine.world.trends[7, 700].stage = "confirmed"
    again = Engine(default_rules(), "box")
    again.load(engine.dump())
    again.feed(host(5))
    again.feed(Sweep(T0 + 5, UP0 + 5, (row(7, 101),), census=True))
    assert again.dossier()[0][6] > 0


def test_a_time_to_exhaustion_is_forgotten_when_the_rise_pauses():
    engine = Engine(default_rules(), None)

    def pausing(second):
        return [row(7, 12 + 2 * min(second, 130))]

    feed(engine, world(130, pausing))
    (leak,) = view.leaks(engine.world)
    assert leak["exhausts_in_s"] == pytest.approx(120, rel=0.1)
    feed(engine, world(90, pausing, start=130.0))
    (leak,) = view.leaks(engine.world)
    assert leak["exhausts_in_s"] is None and leak["level"] == "confirmed"
    ended = feed(engine, world(130, pausing, start=220.0))
    assert told(ended) == ["leak.cleared"] and view.leaks(engine.world) == []


def test_a_kill_that_the_kernel_counted_and_no_line_tells_is_told():
    engine = Engine(default_rules(), None)
    feed(engine, [host(0, oom_kill=5), host(1, oom_kill=7)])
    feed(engine, [KernelLine(T0 + 1, UP0 + 1, line) for line in KILL])
    assert told(feed(engine, [host(5, oom_kill=7)])) == ["oom.kill"]
    (event,) = feed(engine, [host(12, oom_kill=7), host(13, oom_kill=7), host(60, oom_kill=7)])
    assert event.kind == "oom.unattributed" and event.body["count"] == 1


def test_kills_that_have_their_lines_leave_nothing_unattributed():
    engine = Engine(default_rules(), None)
    feed(engine, [host(0, oom_kill=5)])
    feed(engine, [KernelLine(T0 + 1, UP0 + 1, line) for line in KILL])
    out = feed(engine, [host(at, oom_kill=6) for at in range(3, 90, 3)])
    assert told(out) == ["oom.kill"]


WHENS = [
    When(leak="suspected"), When(leak="confirmed", resident_above=50 * MIB),
    When(exhausts_within_s=120.0), When(resident_above=100 * MIB), When(growth_above=1.0 * MIB),
    When(pressure=True), When(pressure=False), When(oom_kill=True), When(limit_above=0.3),
]  # fmt: skip


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(WHENS), st.sampled_from(["process", "unit"])),
                min_size=1, max_size=3), st.booleans())  # fmt: skip
def test_who_is_passed_over_could_not_have_met_a_policy(asked, counted):
    rules = Rules(policies=tuple(
        policy(name=f"p{i}", when=when, per=per, do=("log", "terminate"))
        for i, (when, per) in enumerate(asked)
    ))  # fmt: skip
    facts = world(130, leaking)
    facts[60:60] = [Said(T0, UP0, "pressure.begun", "x", ("short",), {"scope": "host"})]
    facts += [KernelLine(T0 + 130, UP0 + 130, line) for line in KILL]
    facts += counting(world(40, leaking, start=131.0), 1)
    if not counted:
        facts = [f._replace(oom_kill=None) if isinstance(f, Host) else f for f in facts]
    near, far = Engine(rules, None), Engine(rules, None)
    far.decider.of_interest = lambda *_: EVERYBODY
    assert feed(near, facts) == feed(far, facts)
    assert near.decider.timers.unjudged() == far.decider.timers.unjudged()


@pytest.mark.parametrize(("comm", "mib", "anew"), [
    ("leaky", 100, False), ("leaky", 5, True), ("other", 40, True), ("leaky", 40, False),
])  # fmt: skip
def test_an_exec_while_nobody_looked_starts_a_trend_afresh(comm, mib, anew):
    first, second = Engine(default_rules(), None), Engine(default_rules(), None)
    for engine, at, one in ((first, 0, row(7, 100)), (second, 60, row(7, mib, comm=comm))):
        engine.feed(host(at))
        if engine is second:
            second.load(first.dump())
        engine.feed(Sweep(T0 + at, UP0 + at, (one,), census=True))
    assert second.world.trends[7, 700].first_up == UP0 + (60 if anew else 0)


@pytest.mark.parametrize("sweeps", [True, False], ids=["with processes", "units alone"])
def test_a_unit_that_is_told_without_a_path_ends_at_its_own_limit(sweeps):
    engine = Engine(default_rules(), None)
    out = []
    for minute in range(24 * 60):
        at = 60.0 * minute
        size = (400 + int(2.5 * minute)) * MIB
        out += engine.feed(Group(T0 + at, UP0 + at, "pod", None, anon=size, limit=4096 * MIB))
        if sweeps:
            out += engine.feed(Sweep(T0 + at, UP0 + at, (), census=True))
    confirmed = [one for one in out if one.kind == "leak.confirmed"]
    assert [one.body["unit"] for one in confirmed] == ["pod"]
    assert confirmed[0].t - T0 < 0.4 * 86400
    assert "below the limit of pod" in " ".join(confirmed[0].because)


def test_a_unit_that_ended_while_the_daemon_was_down_is_cleared():
    first = Engine(default_rules(), "box")
    feed(first, world(130, leaking))
    first.world.unit_trends["shop.service"].stage = "confirmed"
    again = Engine(default_rules(), "box")
    again.load(first.dump())
    at = 1000.0
    again.feed(host(at))
    out = again.feed(Sweep(T0 + at, UP0 + at, (), census=True))
    cleared = [one for one in out if isinstance(one, Event) and one.kind == "leak.cleared"]
    assert [one.body["unit"] for one in cleared if one.body["pid"] is None] == ["shop.service"]
    assert not again.resume.waiting_units


@pytest.mark.parametrize("suspects", [5, 150])
def test_all_suspects_that_ended_while_the_daemon_was_down_are_cleared(suspects):
    """However many larger ones ended with them; of these the largest are remembered."""
    first = Engine(default_rules(), "box")
    rows = tuple(row(100 + number, 2 + number, unit=None) for number in range(300))
    feed(first, [host(0), Sweep(T0, UP0, rows, census=True)])
    for one in rows[:suspects]:
        first.world.trends[one[:2]].stage = "suspected"
    again = Engine(default_rules(), "box")
    again.load(first.dump())
    out = feed(again, [host(60), Sweep(T0 + 60, UP0 + 60, (), census=True)])
    cleared = [one.body["pid"] for one in out if one.kind == "leak.cleared"]
    assert sorted(cleared) == [one[0] for one in rows[:suspects]]
    assert len(again.world.gone) == 128 and 399 in again.world.gone
    assert not again.leaks.waiting

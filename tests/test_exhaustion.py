"""Memory that ends without a kill: a unit at its limit, promises that end, memory refused."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog import trace
from watchdog.cli import replay
from watchdog.engine import Engine
from watchdog.facts import Event, Group, Host, KernelLine, Order, Sweep, Tick, Who
from watchdog.oom_report import failure
from watchdog.policy.conditions import conditions
from watchdog.policy.rules import Match, Policy, Rules, When, default_rules
from watchdog.tell import terminal

MIB = 1 << 20
T0, UP0 = 1_700_000_000.0, 7200.0
PATH = "/system.slice/shop.service"
ROWS = ((7, 700, "shop", 60 * MIB, 0, None, "shop.service", None),)


def host(at, **more):
    return Host(T0 + at, UP0 + at, "b0000000", T0 - UP0, 8000 * MIB, 6000 * MIB, 0, 0)._replace(
        **more
    )


def sweep(at):
    return Sweep(T0 + at, UP0 + at, ROWS, census=True)


def group(at, times, usage=99, high=100, limit=None, counter="high", **more):
    parts = {"anon": (usage - 5) * MIB, "shmem": 0, "file": 5 * MIB, "usage": usage * MIB}
    return Group(
        T0 + at, UP0 + at, "shop.service", PATH,
        high=None if high is None else high * MIB, limit=None if limit is None else limit * MIB,
        events={counter: times}, **{**parts, **more},
    )  # fmt: skip


def feed(engine, facts):
    return [one for fact in facts for one in engine.feed(fact) if isinstance(one, Event)]


def pinned(seconds, interval=10, start=0, **more):
    return [
        fact
        for at in range(start, start + seconds, interval)
        for fact in (host(at), group(at, 5 + at, **more), sweep(at))
    ]


def calm(seconds, start, times, **more):
    return [
        fact for at in range(start, start + seconds, 10)
        for fact in (host(at), group(at, times, **more), sweep(at))
    ]  # fmt: skip


# ---- limit.pressed ------------------------------------------------------------------------


def test_a_unit_pinned_at_its_high_mark_is_told_once_and_when_it_is_over():
    engine = Engine(default_rules(), None)
    (begun,) = feed(engine, pinned(600))
    assert begun.kind == "limit.pressed" and begun.body["state"] == "begun"
    assert 50 <= begun.t - T0 <= 70
    assert begun.body["unit"] == "shop.service" and begun.body["at"] == "high"
    assert begun.body["limit_bytes"] == 100 * MIB and begun.body["times"] == begun.t - T0
    assert begun.because[0].startswith("within 2 % of memory.high (100 MiB) for ")
    (ended,) = feed(engine, calm(200, 600, 595))
    assert ended.body["state"] == "ended" and ended.cause == begun.id
    assert 110 <= ended.t - T0 - 590 <= 130
    (again,) = feed(engine, [one for one in pinned(200, start=1000) if not isinstance(one, Sweep)])
    assert again.body["state"] == "begun" and again.id != begun.id


@pytest.mark.parametrize(
    "facts",
    [
        pinned(600, usage=80),  # not at it
        calm(600, 0, 7),  # at it, and nothing has to be reclaimed
        pinned(40),  # not for long
        pinned(600, file=60 * MIB),  # page cache is what fills it
        pinned(600, high=None),  # no limit
        [group(at, 100 - at // 60 * 5) for at in range(0, 600, 10)],  # made anew again and again
    ],
)
def test_it_is_not_pressed(facts):
    assert feed(Engine(default_rules(), None), facts) == []


def test_page_cache_counts_where_everybody_waits_for_memory():
    facts = [
        one._replace(stall_us=int((one.t - T0) * 200_000)) if isinstance(one, Group) else one
        for one in pinned(100, file=60 * MIB)
    ]
    (event,) = feed(Engine(default_rules(), None), facts)
    assert event.body["stalled"] == pytest.approx(0.2)
    assert any("waits for memory 20 % of the time" in one for one in event.because)


def test_shared_memory_is_no_page_cache():
    facts = pinned(100, file=60 * MIB, shmem=58 * MIB, anon=30 * MIB)
    assert len(feed(Engine(default_rules(), None), facts)) == 1


def test_a_limit_counts_as_well_and_without_the_sum_its_parts_do():
    facts = pinned(100, high=None, limit=100, counter="max", usage=99)
    facts = [one._replace(usage=None) if isinstance(one, Group) else one for one in facts]
    (event,) = feed(Engine(default_rules(), None), facts)
    assert event.body["at"] == "max" and event.because[0].startswith("within 2 % of its limit")


def test_a_pressed_unit_that_goes_away_is_over():
    engine = Engine(default_rules(), None)
    (begun,) = feed(engine, pinned(100))
    out = feed(engine, [Sweep(T0 + 400, UP0 + 400, (), census=True)])
    assert [(one.body["state"], one.cause) for one in out] == [("ended", begun.id)]
    assert out[0].because == ("the cgroup is gone",)
    assert not engine.exhaustion.limits.pinned


def test_a_slice_has_a_limit_too():
    facts = [
        one._replace(unit=None, cgroup="/shop.slice") if isinstance(one, Group) else one
        for one in pinned(100)
    ]
    (event,) = feed(Engine(default_rules(), None), facts)
    assert event.body["unit"] is None and event.body["cgroup"] == "/shop.slice"
    assert terminal.line(event.flat(), False)[9:].startswith("limit pressed: /shop.slice: within")


# ---- commit.short -------------------------------------------------------------------------


def promised(at, mib, limit=4000, mode=2):
    return host(at, commit_limit=limit * MIB, committed=int(mib * MIB), overcommit=mode)


def test_promises_that_end_are_told_and_when_they_are_over():
    engine = Engine(default_rules(), None)
    assert feed(engine, [promised(at, 3000) for at in range(0, 60, 10)]) == []
    (begun,) = feed(engine, [promised(at, 3900) for at in range(60, 120, 10)])
    assert begun.kind == "commit.short" and begun.t == T0 + 70
    assert begun.body["left_bytes"] == 100 * MIB and begun.body["exhausts_in_s"] is None
    assert feed(engine, [promised(at, 3700) for at in range(120, 600, 10)]) == []
    (ended,) = feed(engine, [promised(at, 3000) for at in range(600, 800, 10)])
    assert ended.body["state"] == "ended" and ended.cause == begun.id and ended.t == T0 + 660


def test_growth_towards_the_commit_limit_is_told_before_it_is_reached():
    engine = Engine(default_rules(), None)
    facts = [promised(at, 2000 + at * 0.75) for at in range(0, 2400, 5)]
    begun = feed(engine, facts)[0]
    left = begun.body["left_bytes"]
    assert left > 0.05 * 4000 * MIB
    assert begun.body["rate_bytes_per_s"] == pytest.approx(0.75 * MIB, rel=0.05)
    assert begun.body["exhausts_in_s"] == pytest.approx(left / MIB / 0.75, rel=0.05)
    assert begun.because[0].startswith("what is promised of the 3.9 GiB that")


@pytest.mark.parametrize("cut", [10, 90, 150, 200, 300])
def test_growth_towards_the_commit_limit_goes_on_over_a_restart(cut):
    facts = [promised(at, 2000 + at * 0.75) for at in range(0, 2400, 5)]
    (begun, *_) = feed(Engine(default_rules(), None), facts)
    first, second = Engine(default_rules(), None), Engine(default_rules(), None)
    out = feed(first, facts[:cut])
    second.load(first.dump())
    out += feed(second, facts[cut:])
    assert [(one.id, one.t) for one in out] == [(begun.id, begun.t)]


@pytest.mark.parametrize("mode", [0, 1, None])
def test_where_promises_are_not_limited_nothing_is_short(mode):
    facts = [promised(at, 3990, mode=mode) for at in range(0, 600, 10)]
    assert feed(Engine(default_rules(), None), facts) == []


def test_the_limit_may_be_lifted():
    engine = Engine(default_rules(), None)
    facts = [promised(0, 3990), promised(10, 3990), promised(20, 3990, mode=0)]
    assert [one.body["state"] for one in feed(engine, facts)] == ["begun", "ended"]


def test_a_reading_that_does_not_tell_ends_nothing():
    """The guard's own, for a decision: it reads less than the senses do."""
    engine = Engine(default_rules(), None)
    facts = [promised(0, 3990), promised(10, 3990), host(11), promised(20, 3990)]
    assert [one.body["state"] for one in feed(engine, facts)] == ["begun"]
    feed(engine, [host(21)])
    assert engine.exhaustion.commit.short()


# ---- alloc.failed -------------------------------------------------------------------------

PAGES = (
    "kworker/0:1: page allocation failure: order:5, mode:0xcc0(GFP_KERNEL), "
    "nodemask=(null),cpuset=/,mems_allowed=0"
)
TASK = "CPU: 1 UID: 0 PID: 7 Comm: kworker/0:1 Not tainted 6.18.0 #1 NONE "


def kmsg(at, text, priority=4):
    line = f"{priority},{100 + at},{int((UP0 + at) * 1e6)},-;{text}"
    return KernelLine(T0 + at, UP0 + at, line)


def test_a_refusal_is_told_once_an_episode_with_its_count():
    engine = Engine(default_rules(), None)
    facts = [kmsg(1, PAGES), kmsg(1, TASK), kmsg(1, "Mem-Info:"), kmsg(2, PAGES), host(3)]
    (begun,) = feed(engine, facts)
    assert begun.kind == "alloc.failed" and begun.t == T0 + 1
    body = begun.body
    assert (body["what"], body["order"], body["count"], body["pid"]) == ("pages", 5, 2, 7)
    assert body["comm"] == "kworker/0:1" and "fragmented" in begun.because[1]
    later = [kmsg(20, PAGES), kmsg(30, "warn_alloc: 40 callbacks suppressed"), host(60), host(95)]
    (ended,) = feed(engine, later)
    assert ended.body["state"] == "ended" and ended.body["count"] == 43
    assert ended.cause == begun.id
    assert feed(engine, [kmsg(200, PAGES), Tick(T0 + 203, UP0 + 203)])[0].id != begun.id


def test_a_single_refusal_has_no_second_event():
    engine = Engine(default_rules(), None)
    assert len(feed(engine, [kmsg(1, PAGES), *(host(at) for at in range(5, 200, 10))])) == 1


def test_stopping_tells_what_was_being_collected():
    engine = Engine(default_rules(), None)
    assert feed(engine, [kmsg(1, PAGES)]) == []
    assert [one.kind for one in engine.settle()] == ["alloc.failed"] and engine.settle() == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (PAGES, failure.Failure("pages", "kworker/0:1", 5, "0xcc0(GFP_KERNEL)")),
        ("swapper/3: page allocation failure. order:0, mode:0x20",
         failure.Failure("pages", "swapper/3", 0, "0x20")),
        ("modprobe: vmalloc error: size 268435456, failed to allocate pages, mode:0xcc2(x)",
         failure.Failure("vmalloc", "modprobe", size_bytes=268435456)),
        ("vmap allocation for size 20480 failed: use vmalloc=<size> to increase size",
         failure.Failure("vmalloc", None, size_bytes=20480)),
        ("SLUB: Unable to allocate memory on node -1, gfp=0xa20(GFP_ATOMIC)",
         failure.Failure("slab")),
        ("usb 1-1: Product: x: page allocation failure of mine", None),
        ("warn_alloc: 3 callbacks suppressed", failure.Failure("suppressed", stands_for=3)),
        ("oom-kill:constraint=CONSTRAINT_NONE", None),
    ],
)  # fmt: skip
def test_the_shapes_of_a_refusal(text, found):
    assert failure.failure(f"4,1,1000000,-;{text}") == found
    assert failure.failure(f"[    1.000000] {text}") == found
    assert failure.interesting(text) is (found is not None or "allocation failure" in text)


def test_what_a_program_wrote_is_no_refusal():
    assert failure.failure(f"12,1,1000000,-;{PAGES}") is None
    assert feed(Engine(default_rules(), None), [kmsg(1, PAGES, 12), host(9)]) == []


@given(st.text(max_size=200))
def test_no_text_breaks_it(text):
    for raw in (text, f"4,1,1,-;{text}", f"4,1,1,-;{text}: page allocation failure: order:1"):
        failure.failure(raw)
        failure.task(raw)


# ---- policies, recordings, restarts ----------------------------------------------------------


def policy(**when):
    return Policy("p", Match(unit=("shop.service",)), When(**when), do=("log",), per="unit")


@pytest.mark.parametrize(
    ("when", "facts"),
    [
        ({"limit_pressed": True}, pinned(100)),
        ({"commit_short": True},
         [one for at in range(0, 50, 10) for one in (promised(at, 3990), group(at, 0), sweep(at))]),
        ({"alloc_failed": True},
         [host(0), group(0, 0), sweep(0), kmsg(1, PAGES), host(10), group(10, 0), sweep(10)]),
    ],
)  # fmt: skip
def test_each_is_a_condition_of_a_policy(when, facts):
    out = [
        one for fact in facts for one in Engine.feed(ENGINES.setdefault(str(when), Engine(
            Rules(policies=(policy(**when),)), None)), fact)
    ]  # fmt: skip
    orders = [one for one in out if isinstance(one, Order)]
    assert [(one.do, one.subject.entity.unit) for one in orders] == [("log", "shop.service")]
    assert orders[0].because


ENGINES: dict[str, Engine] = {}


def test_what_is_not_known_cannot_be_judged():
    engine = Engine(Rules(policies=(policy(commit_short=True),)), None)
    feed(engine, [host(0), group(0, 0), sweep(0)])
    said = "policy p cannot be judged from this trace: commit_limit missing"
    assert said in engine.decider.timers.unjudged()


def test_the_sentences_of_the_conditions():
    engine = Engine(default_rules(), None)
    feed(engine, [promised(0, 100), group(0, 0), sweep(0)])
    from watchdog.policy import view

    (unit,) = [s for s in view.subjects(engine.world, {}, engine.exhaustion, UP0) if s.is_unit]
    found = conditions(
        When(limit_pressed=True, commit_short=True, alloc_failed=True), unit, False, UP0
    )
    assert [one.holds for one in found] == [False, False, False]


STORY = (
    pinned(300)
    + calm(200, 300, 299)
    + [one for at in range(500, 600, 10) for one in (promised(at, 3990), sweep(at))]
    + [kmsg(601, PAGES), kmsg(602, PAGES)]
    + [one for at in range(610, 800, 10) for one in (promised(at, 100), sweep(at))]
)


def test_a_recording_tells_the_same():
    told = feed(Engine(default_rules(), None), STORY)
    again = feed(Engine(default_rules(), None), [trace.fact(trace.line(fact)) for fact in STORY])
    assert [one.flat() for one in told] == [one.flat() for one in again]
    assert [(one.kind, one.body["state"]) for one in told] == [
        ("limit.pressed", "begun"), ("limit.pressed", "ended"), ("commit.short", "begun"),
        ("alloc.failed", "begun"), ("commit.short", "ended"),
    ]  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.integers(0, len(STORY)))
def test_a_restart_anywhere_tells_the_same(cut):
    def told(events):
        # A daemon that stops tells a refusal that it was still collecting, and a later one of the
        # same then ends it.
        ended = ("alloc.failed", "ended")
        return [(e.id, e.cause) for e in events if (e.kind, e.body["state"]) != ended]

    whole = told(feed(Engine(default_rules(), None), STORY))
    first, second = Engine(default_rules(), None), Engine(default_rules(), None)
    out = feed(first, STORY[:cut]) + first.settle()
    second.load(first.dump())
    second.boot_id = first.boot_id
    out += feed(second, STORY[cut:])
    assert told(out) == whole


KEYS = [
    "pinned",
    "episodes",
    "commit_event",
    "commit_episode",
    "commit_low",
    "commit_well_up",
    "refusals",
    "refusing",
]
ODD = st.none() | st.integers() | st.text() | st.lists(st.none() | st.integers() | st.text())


@given(st.dictionaries(st.sampled_from(KEYS), ODD | st.dictionaries(st.text(max_size=3), ODD)))
def test_a_damaged_state_is_passed_over(kept):
    engine = Engine(default_rules(), None)
    engine.exhaustion.take(kept)
    feed(engine, pinned(100))


def test_whose_executable_is_in_a_chain_of_cgroups():
    engine = Engine(default_rules(), None)
    feed(engine, [*pinned(100), Who(T0 + 100, UP0 + 100, 7, 700, cgroup=PATH + "/worker")])
    assert engine.exhaustion.limits.pressed(PATH + "/worker")
    assert engine.exhaustion.limits.pressed("/elsewhere") is None


def test_what_a_real_machine_did():
    """Debian 13 in a virtual machine, cgroup v2: a unit above its MemoryHigh=, a tmpfs that fills,
    a ring of packets larger than the machine, and strict overcommit for 75 s."""
    lines = replay.Lines(str(Path(__file__).parent / "fixtures" / "exhaustion.jsonl.gz"))
    told = list(replay.Replay(default_rules()).run(replay.facts(lines)))
    assert not lines.broken
    found = {(one.kind, one.body.get("state") or one.body.get("part")): one for one in told}
    pressed = found["limit.pressed", "begun"]
    assert pressed.body["unit"] == "pinned.service" and pressed.body["at"] == "high"
    assert pressed.because[0].startswith("above memory.high (64.0 MiB) for ")
    refused = found["alloc.failed", "begun"]
    assert refused.body["what"] == "vmalloc" and refused.body["size_bytes"] == 1 << 30
    assert refused.body["comm"] == "python3" and refused.body["unit"] == "payload.service"
    short, well = found["commit.short", "begun"], found["commit.short", "ended"]
    assert short.body["left_bytes"] < 8 * MIB and well.cause == short.id
    assert found["leak.suspected", "shmem"].body["unit"] == "tmpw.service"
    assert not any(one.body.get("part") == "anon" for one in told)

"""Laws of the whole engine: verdicts depend on what was seen, and on nothing else.

Not on when it was, which numbers the processes had, in which order a sweep names them, or whether
the daemon was started again in the middle.
"""

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog.engine import Engine
from watchdog.facts import Event, Group, Host, Sweep, Who
from watchdog.policy.rules import Match, Policy, Rules, When

MIB = 1 << 20
T0, UP0, BOOT = 1_700_000_000.0, 7200.0, "b0000000-1111"
WEEK = 7 * 86400
SHAPES = ("flat", "leak", "leak", "noise", "saw", "step", "fall", "tiny", "exec", "brief")
RULES = Rules(
    policies=(
        Policy("leaks", Match(), When(leak="suspected"), do=("log",), per="process"),
        Policy("fast", Match(), When(growth_above=3.0 * MIB), do=("log",), per="process"),
        Policy("units", Match(), When(leak="confirmed"), do=("log",), per="unit"),
    )
)


def size(shape, chance, at, seed):
    """MiB at so many seconds; None where it is not there."""
    base = 20 + seed % 97
    if shape == "leak":
        return base + at * (0.5 + seed % 5)
    if shape == "noise":
        return base * (1 + 0.1 * chance.random())
    if shape == "saw":
        return base + at % (20 + seed % 50)
    if shape == "step":
        return base + (64 if at > 60 else 0)
    if shape == "fall":
        return base + max(0, 100 - at) * 0.5
    if shape == "tiny":
        return 0.5 + chance.random() / 4
    if shape == "exec":
        return base + 2 * at if at < 90 else 4 + 2 * (at - 90)
    if shape == "brief" and not 40 <= at < 120:
        return None
    return base


def story(seed, interval, shift_s=0.0, pids=0, shuffled=None, length=260.0):
    """The facts of a small machine: five processes of mixed shapes in two units, one of them tight.

    Samples are uneven, and a tenth of the sweeps is missing. It does not depend on the last four.
    """
    chance = random.Random(seed)
    shapes = [chance.choice(SHAPES) for _ in range(5)]
    seeds = [chance.randrange(1000) for _ in shapes]
    limit = chance.choice((300, 700, 20_000)) * MIB
    facts, at, told = [], 0.0, set()
    while at < length:
        missing, late = chance.random() < 0.1, chance.random() * interval / 4
        sizes = [size(s, chance, at, n) for s, n in zip(shapes, seeds, strict=True)]
        if not missing:
            facts += moment(at + late, sizes, limit, told, shift_s, pids, shuffled)
        at += interval
    return facts


def moment(at, sizes, limit, told, shift_s, pids, shuffled):
    t, up = T0 + shift_s + at, UP0 + shift_s + at
    yield Host(t, up, BOOT, T0 - UP0, 24 << 30, 16 << 30, 0, 0, 0, 0, 0)
    rows, used = [], [0, 0]
    for i, mib in enumerate(sizes):
        if mib is None:
            continue
        unit = i % 2
        start = 650_000 + 100 * i + round(100 * shift_s)
        if i not in told:
            told.add(i)
            yield Who(t, up, 100 + i + pids, start, 1, 0, f"/usr/bin/p{i}", f"/u{unit}.service")
        held = int(mib * MIB) & ~4095
        used[unit] += held
        rows.append((100 + i + pids, start, f"p{i}", held, 0, None, f"u{unit}.service", None))
    if shuffled is not None:
        random.Random(shuffled + round(at * 1000)).shuffle(rows)
    for unit in range(2):
        yield Group(t, up, f"u{unit}.service", f"/u{unit}.service", used[unit],
                    limit=limit if unit == 0 else None)  # fmt: skip
    yield Sweep(t, up, tuple(rows), True)


def feed(engine, facts):
    return [one for fact in facts for one in engine.feed(fact) if isinstance(one, Event)]


def verdicts(events, shift_s=0.0, pids=0, reasons=True):
    """What was told of whom and when, in the terms of the story that was not moved or numbered.

    The order of events of one moment is that of the entities' numbers, so they are sorted.
    """
    found = [
        (
            round(one.t - shift_s, 3), one.kind, one.body.get("unit"), one.body.get("comm"),
            one.body.get("pid") and one.body["pid"] - pids, one.body.get("do"),
            one.id.rsplit("-", 1)[1] if one.kind.startswith("leak.") else None,
            one.because if reasons and one.kind.startswith("leak.") else None,
        )
        for one in events
    ]  # fmt: skip
    return sorted(found, key=repr)


SEEDS = st.integers(0, 10**6)
INTERVALS = st.sampled_from((2.0, 5.0, 10.0))


def test_the_stories_have_verdicts_in_them():
    kinds = [one.kind for seed in range(12) for one in feed(Engine(RULES, None), story(seed, 5.0))]
    assert {"leak.suspected", "leak.confirmed", "leak.cleared", "policy.action"} <= set(kinds) or (
        kinds.count("leak.suspected") > 3
    )


@settings(max_examples=8, deadline=None)
@given(SEEDS, INTERVALS, st.integers(1, WEEK // 7200))
def test_a_shift_of_time_changes_no_verdict(seed, interval, by):
    """By whole buckets of the coarsest ring: a bucket's edges lie where they lay."""
    shift_s = by * 7200.0
    plain = verdicts(feed(Engine(RULES, None), story(seed, interval)))
    moved = verdicts(feed(Engine(RULES, None), story(seed, interval, shift_s)), shift_s)
    assert moved == plain


@settings(max_examples=8, deadline=None)
@given(SEEDS, INTERVALS, st.integers(1, 4_000_000))
def test_other_pid_numbers_change_no_verdict(seed, interval, pids):
    plain = verdicts(feed(Engine(RULES, None), story(seed, interval)))
    assert verdicts(feed(Engine(RULES, None), story(seed, interval, pids=pids)), pids=pids) == plain


@settings(max_examples=8, deadline=None)
@given(SEEDS, INTERVALS, SEEDS)
def test_the_order_of_a_sweep_changes_no_verdict(seed, interval, order):
    plain = verdicts(feed(Engine(RULES, None), story(seed, interval)))
    assert verdicts(feed(Engine(RULES, None), story(seed, interval, shuffled=order))) == plain


@settings(max_examples=12, deadline=None)
@given(SEEDS, INTERVALS, st.floats(0.05, 0.95))
def test_a_restart_in_the_middle_changes_no_verdict(seed, interval, part):
    """What the store had of it, handed to another engine, in any order.

    Kind, entity, episode and time; what was looked up about a suspect meanwhile is not kept, so a
    sentence about its parts may tell of a shorter time.
    """
    facts = story(seed, interval)
    plain = verdicts(feed(Engine(RULES, None), facts), reasons=False)
    cut = math.floor(part * len(facts))
    while cut < len(facts) and not isinstance(facts[cut], Host):
        cut += 1
    first = Engine(RULES, None)
    out = feed(first, facts[:cut])
    second = Engine(RULES, None, first.decider.kept())
    records = first.dump()
    random.Random(seed).shuffle(records)
    second.load(records)
    second.boot_id = first.boot_id
    out += feed(second, [one for one in facts[:cut] if isinstance(one, Who)] + facts[cut:])
    assert verdicts(out, reasons=False) == plain

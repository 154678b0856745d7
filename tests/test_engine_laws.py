"""The engine as a whole: its verdicts do not depend on what should not matter.

One story in which everything happens that can be told of memory without a kill: a process that
leaks, a pool whose workers are recycled, a unit pinned at its limit, shared memory and kernel
memory that grow, promises that end and a refusal. It is told again with the processes in another
order, under other numbers, at another time, and with a restart of the daemon in the middle.
"""

import random
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog.engine import Engine
from watchdog.facts import Event, Group, Host, KernelLine, Sweep, Who
from watchdog.policy.rules import default_rules

MIB = 1 << 20
T0, UP0 = 1_700_000_000.0, 7200.0 * 12
LENGTH, STEP, LIFE = 1400, 10, 120.0
FAILED = "4,9,{usec},-;eth0-rx: page allocation failure: order:0, mode:0x820(GFP_ATOMIC)"


class Paces(NamedTuple):
    """How fast who grows (MiB a second), and how long a worker of the pool lives."""

    leak: float = 1 / 6
    worker: float = 1 / 4
    shmem: float = 1 / 8
    kernel: float = 1 / 8
    life: float = LIFE


AS_TOLD = Paces()


def story(order=None, numbers=None, later=0.0, paces=AS_TOLD):
    """The facts; `order` shuffles, `numbers` maps PIDs, `later` shifts both clocks."""
    pid_of = numbers or (lambda pid: pid)
    life = paces.life
    t0, up0 = T0 + later, UP0 + later
    boot = t0 - up0
    facts, known = [], set()
    for at in range(0, LENGTH, STEP):
        t, up = t0 + at, up0 + at
        kernel = 100 + max(0, at - 200) * paces.kernel
        facts.append(Host(
            t, up, "b0000000", boot, 4000 * MIB, int((480 - at / 4) * MIB), 0, 0, 0, 0, 0,
            commit_limit=5000 * MIB, committed=(4900 if 600 <= at < 900 else 2000) * MIB,
            overcommit=2, shmem=200 * MIB, slab=50 * MIB, kernel=int(kernel * MIB),
        ))  # fmt: skip
        leaky = int((40 + at * paces.leak) * MIB)
        rows = [(pid_of(10), start(UP0 - 9000, later), "leaky", leaky, 0, None,
                 "leaky.service", None, 1)]  # fmt: skip
        rows.append((pid_of(1000), start(UP0 - 9000, later), "pool", 30 * MIB, 0, None,
                     "pool.service", None, 1))  # fmt: skip
        for slot in range(3):
            index = int((at + slot * life / 3) // life)
            born = max(0.0, index * life - slot * life / 3)
            rows.append(
                (
                    pid_of(2000 + 100 * slot + index),
                    start(UP0 + born, later),
                    "pool",
                    int((40 + (at - born) * paces.worker) * MIB),
                    0,
                    None,
                    "pool.service",
                    None,
                    1000,
                )
            )
        rows += [
            (pid_of(pid), start(UP0 - 8000 - pid, later), "calm", 50 * MIB, 0, None, None, None, 1)
            for pid in range(20, 30)
        ]
        if order is not None:
            order.shuffle(rows)
        for row in rows:
            if row[:2] not in known:
                known.add(row[:2])
                unit = row[6]
                parent = row[8] if row[8] == 1 else pid_of(row[8])
                facts.append(
                    Who(
                        t,
                        up,
                        row[0],
                        row[1],
                        parent,
                        0,
                        f"/usr/bin/{row[2]}",
                        f"/system.slice/{unit}" if unit else "/",
                        build="1",
                    )
                )
        times = min(at, 700)
        groups = [
            Group(t, up, "leaky.service", "/system.slice/leaky.service",
                  anon=leaky, shmem=0, limit=400 * MIB),
            Group(t, up, "pinned.service", "/system.slice/pinned.service", anon=95 * MIB, shmem=0,
                  file=4 * MIB, usage=99 * MIB, high=100 * MIB, events={"high": times}),
            Group(t, up, "tmp.service", "/system.slice/tmp.service", anon=5 * MIB,
                  shmem=int((30 + at * paces.shmem) * MIB),
                  file=int((40 + at * paces.shmem) * MIB), limit=280 * MIB),
        ]  # fmt: skip
        if order is not None:
            order.shuffle(groups)
        facts += groups
        if at in (1000, 1010):
            usec = int((up + 1) * 1e6)
            facts.append(KernelLine(t + 1, up + 1, FAILED.format(usec=usec)))
        rows = tuple(row[:8] for row in rows)
        facts.append(Sweep(t, up, rows, census=at % 30 == 0))
    return facts


def start(born, later):
    return int((born + later) * 100)


def feed(engine, facts):
    return [one for fact in facts for one in engine.feed(fact) if isinstance(one, Event)]


def verdicts(events, later=0.0):
    """What was told, of whom and when, without the numbers of processes."""
    found = []
    for one in events:
        body = {key: part for key, part in one.body.items() if key not in ("pid", "start", "hints")}
        for key in ("since",):
            if body.get(key) is not None:
                body[key] = round(body[key] - later, 2)
        found.append((one.kind, round(one.t - later, 2), sorted(body.items(), key=str),
                      one.because))  # fmt: skip
    return found


WHOLE = feed(Engine(default_rules(), None), story())


def test_the_story_has_everything_in_it():
    kinds = {(one.kind, one.body.get("part") or one.body.get("state")) for one in WHOLE}
    assert kinds >= {
        ("leak.suspected", "anon"), ("leak.confirmed", "anon"), ("leak.confirmed", "shmem"),
        ("leak.confirmed", "kernel"), ("leak.advisory", "anon"), ("limit.pressed", "begun"),
        ("limit.pressed", "ended"), ("commit.short", "begun"), ("commit.short", "ended"),
        ("alloc.failed", "begun"),
    }  # fmt: skip
    told = [one.id for one in WHOLE]
    assert len(told) == len(set(told))


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 10**6))
def test_the_order_of_processes_and_cgroups_changes_nothing(seed):
    out = feed(Engine(default_rules(), None), story(order=random.Random(seed)))
    assert sorted(verdicts(out), key=str) == sorted(verdicts(WHOLE), key=str)


@settings(max_examples=3, deadline=None)
@given(st.integers(1, 10**6))
def test_the_numbers_of_processes_change_nothing(seed):
    numbers = list(range(100_000, 104_000))
    random.Random(seed).shuffle(numbers)
    out = feed(Engine(default_rules(), None), story(numbers=lambda pid: numbers[pid]))
    assert sorted(verdicts(out), key=str) == sorted(verdicts(WHOLE), key=str)


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 10_000))
def test_a_shift_of_time_changes_nothing(twos):
    # by the longest bucket, so that what falls into one goes on to; the machine ran for a day
    later = twos * 7200.0
    out = feed(Engine(default_rules(), None), story(later=later))
    assert verdicts(out, later) == verdicts(WHOLE)


def restarted(facts, at):
    """What is told when the daemon is restarted before that fact."""
    first, second = Engine(default_rules(), None), Engine(default_rules(), None)
    out = feed(first, facts[:at]) + first.settle()
    second.boot_id = first.boot_id
    second.load(first.dump())
    # a daemon that starts describes everybody who is there
    known = {
        (row[0], row[1]) for fact in facts[at:] if isinstance(fact, Sweep) for row in fact.rows
    }
    whos = [
        fact for fact in facts[:at] if isinstance(fact, Who) and (fact.pid, fact.start) in known
    ]
    return out + feed(second, whos + facts[at:])


def told(events):
    """Each verdict: what it is (kind, of whom, the how manyeth), when and what led to it."""
    return sorted((one.id, one.t, one.cause or "") for one in events)


PACES = st.builds(
    Paces,
    leak=st.floats(0.1, 0.24), worker=st.floats(0.15, 1.0), shmem=st.floats(0.05, 0.16),
    kernel=st.floats(0.05, 0.25), life=st.sampled_from([75.0, 90.0, 120.0, 135.0, 200.0]),
)  # fmt: skip


def same_after_restart(step, paces):
    facts = story(paces=paces)
    at = next(i for i, fact in enumerate(facts) if fact.t >= T0 + step * STEP)
    whole = WHOLE if paces == AS_TOLD else feed(Engine(default_rules(), None), facts)
    assert told(restarted(facts, at)) == told(whole)


@settings(max_examples=6, deadline=None)
@given(st.integers(1, LENGTH // STEP - 1), st.one_of(st.just(AS_TOLD), PACES))
def test_a_restart_in_the_middle_changes_nothing(step, paces):
    same_after_restart(step, paces)

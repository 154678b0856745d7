"""What the policies are shown of the facts: who is there, whose unit is known, what is not told."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from policy_world import MIB, T0, policy

from watchdog.cli import replay
from watchdog.engine import Engine
from watchdog.facts import Group, Host, Order, Row, Said, Sweep
from watchdog.policy.rules import Match, Policy, Rules, Selector, Watch, When
from watchdog.store import file
from watchdog.store.entities import upsert
from watchdog.store.place import DATABASE

UP0 = 5000.0
SHOP = "shop.service"


def host(at: float) -> Host:
    return Host(T0 + at, UP0 + at, "boot", T0 - UP0, 9000 * MIB, 5000 * MIB, 0, 0, 0, 0, 0)


def group(at: float, mib: int = 1200) -> Group:
    return Group(T0 + at, UP0 + at, SHOP, f"/{SHOP}", anon=mib * MIB)


def row(pid: int, mib: int, comm: str = "shop", unit: str | None = SHOP) -> Row:
    return (pid, 100, comm, mib * MIB, 0, None, unit, None)


def sweep(at: float, *rows: Row, **more: Any) -> Sweep:
    return Sweep(T0 + at, UP0 + at, rows, more.pop("census", True), **more)


def orders(engine: Engine, *facts: Any) -> list[Order]:
    return [one for fact in facts for one in engine.feed(fact) if isinstance(one, Order)]


def big(name: str = "big", **more: Any) -> Policy:
    one = policy(name, match=Match(unit=(SHOP,)), per="unit", do=("restart-unit",))
    return one._replace(when=When(resident_above=1000 * MIB), **more)


# ---- who is there ------------------------------------------------------------------------------


@pytest.mark.parametrize(("interval", "step"), [(10.0, 10), (600.0, 600)])
def test_a_unit_that_has_gone_is_decided_no_more(interval: float, step: int) -> None:
    lasts = 24 * step
    rules = Rules(Watch(interval), policies=(big(for_s=lasts),))
    for gone_at, count in ((lasts // 2, 0), (lasts * 2, 1)):
        engine = Engine(rules, None)
        found: list[Order] = []
        for at in range(0, lasts * 2, step):
            found += orders(engine, host(at))
            found += orders(engine, *[group(at)] if at < gone_at else [])
            found += orders(engine, sweep(at, row(9, 20, unit=None)))
        assert len(found) == count


def test_a_store_is_replayed_with_timers_of_hours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its points of days ago are two hours apart."""
    engine = Engine(Rules(), None)
    days, minutes = 6, 60
    for minute in range(0, days * 24 * 60, 1):
        at, mib = 60.0 * minute, 1300 + minute % minutes  # a saw, so that it has rings
        for fact in (host(at), group(at, mib), sweep(at, row(7, mib), row(8, 5))):
            engine.feed(fact)
    with contextlib.closing(file.open_database(str(tmp_path / DATABASE), 64 << 20)) as db:
        upsert(db, engine.dump())
    config = tmp_path / "p.toml"
    config.write_text("""
[policies.process]
match = { name = "shop" }
when = { resident_above = "1000MiB" }
for = "1d"
do = ["terminate"]
[policies.unit]
match = { unit = "shop.service" }
when = { resident_above = "1000MiB" }
for = "4h"
do = ["restart-unit"]
[policies.never]
match = { unit = "shop.service" }
when = { resident_above = "1000MiB" }
for = "7d"
do = ["restart-unit"]
""")
    assert replay.main(["--state", str(tmp_path), "--config", str(config), "--json"]) == 0
    found = [replay.json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = {one["policy"]: one for one in found if one["event"] == "policy.action"}
    assert sorted(told) == ["process", "unit"]
    assert len(found) == 2
    hours = {name: (one["up"] - UP0) / 3600 for name, one in told.items()}
    assert 24 <= hours["process"] <= 28
    assert 4 <= hours["unit"] <= 8


def test_who_has_ended_is_decided_no_more_in_a_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A batch of ten minutes has not held for an hour because nobody says that it has gone."""
    engine, batch = Engine(Rules(), None), "batch.service"
    with contextlib.closing(file.open_database(str(tmp_path / DATABASE), 64 << 20)) as db:
        for at in range(0, 3 * 3600, 10):
            shop, census = 1300 + at // 10 % 50, at % 30 == 0
            rows = [row(7, shop)]
            facts: list[Any] = [host(at), *[group(at, shop)] * census]
            if at < 600:
                rows.append(row(30, 1300 + at // 10 % 9, "batch", batch))
                facts.append(group(at, 1300 + at // 10 % 9)._replace(
                    unit=batch, cgroup=f"/{batch}"))  # fmt: skip
            for fact in (*facts, sweep(at, *rows, census=census)):
                engine.feed(fact)
            if at % 300 == 290:
                upsert(db, engine.dump())
    config = tmp_path / "p.toml"
    config.write_text("""
[policies.process]
match = { name = ["shop", "batch"] }
when = { resident_above = "1000MiB" }
for = "1h"
do = ["kill"]
[policies.unit]
match = { unit = ["shop.service", "batch.service"] }
per = "unit"
when = { resident_above = "1000MiB" }
for = "1h"
do = ["restart-unit"]
""")
    assert replay.main(["--state", str(tmp_path), "--config", str(config), "--json"]) == 0
    found = [replay.json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(one["policy"], one["unit"]) for one in found} == {("process", SHOP), ("unit", SHOP)}
    assert len(found) == 2


# ---- what the guard saw ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["observe", "enforce"])
def test_what_the_guard_saw_takes_nobodys_unit_and_decides_nothing(mode: str) -> None:
    """It knows no unit of a process below 4 MiB, and protection goes by the unit."""
    rules = Rules(
        protect=Selector(unit=(SHOP,)),
        policies=(policy("p", when=When(pressure=True), do=("terminate",), mode=mode),),
    )
    engine = Engine(rules, None)
    engine.feed(host(0))
    engine.feed(sweep(0, row(7, 3), row(8, 90)))
    engine.feed(Said(T0 + 1, UP0 + 1, "pressure.begun", "x", ("short",), {"scope": "host"}))
    seen = sweep(2, row(7, 3, unit=None), row(8, 90), census=False, inputs=True)
    assert engine.feed(seen) == []
    assert engine.world.rows[7, 100][6] == SHOP
    found = engine.feed(sweep(3, row(8, 90), census=False))
    assert [one.body["outcome"] for one in found if not isinstance(one, Order)] == ["protected"] * 2
    # it holds for whatever tells of a process without its unit
    engine.feed(sweep(4, row(7, 3, unit=None), census=False))
    assert engine.world.entity((7, 100)).unit == SHOP
    # a census tells of everybody where he is, and another process is another one
    engine.feed(sweep(5, row(7, 3, unit=None)))
    assert engine.world.entity((7, 100)).unit is None


# ---- what is not told --------------------------------------------------------------------------


WANTS = (
    policy("limit", when=When(limit_above=0.9)), policy("end", when=When(exhausts_within_s=3600.0)),
)  # fmt: skip


def test_a_trace_without_limits_or_the_machine_cannot_judge_these() -> None:
    def leaking(with_host: bool, with_group: bool) -> list[str]:
        engine = Engine(Rules(policies=WANTS), None)
        for second in range(0, 400, 5):
            if with_host:
                engine.feed(host(second))
            if with_group:
                engine.feed(group(second)._replace(limit=9000 * MIB))
            engine.feed(sweep(second, row(7, 20 + 2 * second)))
        return sorted(engine.decider.timers.unjudged())

    lacks = "policy {} cannot be judged from this trace: {} missing"
    limit, end = lacks.format("limit", "limit"), lacks.format("end", "headroom")
    assert leaking(with_host=False, with_group=False) == [end, limit]
    assert leaking(with_host=True, with_group=False) == [limit]
    assert leaking(with_host=True, with_group=True) == []


def test_what_is_told_after_the_first_sweep_is_not_missing() -> None:
    engine = Engine(Rules(policies=WANTS), None)
    for at in (0, 10):
        for fact in (host(at), sweep(at, row(7, 20)), group(at)):
            engine.feed(fact)
    assert engine.decider.timers.unjudged() == []

"""What the commands see of a running daemon: pure, of the engine and what is around it."""

from typing import Any

import pytest

from watchdog import overview
from watchdog.engine import Engine
from watchdog.facts import Group, Host, Sweep
from watchdog.policy.rules import Policy, Rules, default_rules

MIB = 1 << 20


@pytest.fixture
def engine() -> Engine:
    made = Engine(default_rules(), "host")
    made.feed(Host(10.0, 10.0, "boot", mem_total=1000 * MIB, mem_available=250 * MIB))
    made.feed(Sweep(10.0, 10.0, ((7, 1, "a", MIB, 0, 0, None, None),), True))
    return made


def around(**more: Any) -> overview.Around:
    return overview.Around(7, 9.0, "observe", 1, 0, None, {})._replace(**more)


def test_the_line_of_systemctl_status(engine: Engine) -> None:
    assert overview.status(engine, around()) == "watching 1 process; observing"
    bad = around(oom_kills=2, degraded={"journal": "why"}, guard_mode="enforce")
    assert overview.status(engine, bad) == (
        "watching 1 process; 2 OOM kills since the start; degraded: journal; enforcing"
    )


def test_a_unit_that_leaks_by_its_process_is_one_leak(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit: dict[str, Any] = {"pid": None, "unit": "a.service"}
    found = [unit | {"pid": 7}, unit, unit | {"part": "kernel"}, unit | {"unit": "b.service"}]
    monkeypatch.setattr(overview.view, "leaks", lambda *_: found)
    assert "; 3 leaks suspected or confirmed; " in overview.status(engine, around())


def test_policies_that_may_not_enforce_observe() -> None:
    armed = Policy("p", mode="enforce")
    engine = Engine(Rules(policies=(armed, armed._replace(name="q", mode="observe"))), "host")
    for may_enforce, modes in ((False, ["observe"] * 2), (True, ["enforce", "observe"])):
        engine.grant(may_enforce)
        engine.set_rules(engine.rules)
        found = overview.document(engine, around(), 1.0, 1.0)
        assert [one["mode"] for one in found["policies"]] == modes
        assert found["mode"] == modes[0]


def test_now_json(engine: Engine) -> None:
    kill = {"event": "oom.kill"}
    said = overview.document(engine, around(last_oom_kill=kill, degraded={"x": "why"}), 11.0, 12.0)
    assert (said["t"], said["up"], said["boot_id"], said["host"]) == (11.0, 12.0, "boot", "host")
    assert (said["processes"], said["watching"], said["mem_available"]) == (1, 1, 250 * MIB)
    assert said["oom_kills"] == {"since_start": 0, "last": kill}
    assert said["degraded"] == ["why"] and said["mode"] == "observe"
    assert overview.document(Engine(default_rules(), None), around(), 1.0, 1.0)["mem_total"] is None


def test_now_json_has_what_the_conditions_of_policies_wait_for() -> None:
    made = Engine(default_rules(), "host")
    for second in range(0, 200, 5):
        up = 1000.0 + second
        made.feed(Host(up, up, "boot", mem_total=1000 * MIB, mem_available=250 * MIB,
                       oom_kill=0, overcommit=2, commit_limit=900 * MIB,
                       committed=100 * MIB))  # fmt: skip
        made.feed(Group(up, up, "a.service", "/a.service", anon=(20 + second) * MIB))
        rows = ((7, 1, "a", (20 + second) * MIB, 0, 0, "a.service", None),
                (8, 1, "b", 9 * MIB, 0, 0, None, None))  # fmt: skip
        made.feed(Sweep(up, up, rows, True))
    made.kills.oom_killed["unit:a.service"] = 1100.0
    found = overview.document(made, around(), 1200.0, 1200.0)["conditions"]
    assert set(found["growth"]) == {"7:1", "unit:a.service"} and found["growth_whole"]
    assert found["growth"]["7:1"] == pytest.approx(MIB, rel=0.1)
    assert found["oom_killed"] == {"unit:a.service": 1100.0} and found["oom_counted"]
    assert (found["commit_short"], found["alloc_failed_up"]) == (False, None)
    assert (found["limits_pressed"], found["untold"]) == ([], [])
    assert "7:1" not in found["exhausts_in_s"], "its leak is told of among the leaks"
    made.world.present.by_pid[7].stage = "none"
    found = overview.document(made, around(), 1200.0, 1200.0)["conditions"]
    assert 0 < found["exhausts_in_s"]["7:1"] < 1200


def test_what_is_told_of_many_is_bounded() -> None:
    made = Engine(default_rules(), "host")
    for second in range(0, 100, 5):
        up = 1000.0 + second
        made.feed(Sweep(up, up, tuple(
            (pid, 1, "x", pid * second << 12, 0, 0, None, None) for pid in range(100, 200)
        ), True))  # fmt: skip
    made.kills.oom_killed = {f"{pid}:1": float(pid) for pid in range(100, 200)}
    found = overview.conditions(made)
    assert list(found["growth"]) == [f"{pid}:1" for pid in range(199, 135, -1)]
    assert not found["growth_whole"] and not found["oom_counted"]
    assert min(found["oom_killed"].values()) == 136.0


def test_what_is_said_at_the_start(engine: Engine) -> None:
    because, body = overview.started(engine, "observe")
    assert because[1:] == ["250 MiB of 1000 MiB available", "observing: nothing will be killed"]
    assert (body["processes"], body["mode"]) == (1, "observe")
    assert overview.started(engine, "enforce")[0][-1] == "enforcing: the guard"


def test_who_may_act_is_said_at_the_start() -> None:
    p = Policy("p", mode="enforce")
    for policies, guard_mode, said in (
        ((p, Policy("x")), "off", "enforcing: the policy p"),
        ((p, p._replace(name="q")), "enforce", "enforcing: the guard, and the policies p, q"),
    ):
        engine = Engine(Rules(policies=policies), "host")
        engine.grant(True)
        assert overview.started(engine, guard_mode)[0][-1] == said

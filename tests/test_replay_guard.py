"""The guard over a recording, and `review` of what it would have done."""

import json
from pathlib import Path
from typing import Any

import pytest

from watchdog import trace
from watchdog.cli import replay as command
from watchdog.cli import review as reviewing
from watchdog.cli.replay import Replay
from watchdog.facts import Event, Group, Host, Memfds, Outcome, Row, Said, Sweep, Who
from watchdog.policy.guard_when import GuardRules
from watchdog.policy.load import load
from watchdog.policy.rules import Match, Policy, Rules, Selector, When

MIB, TOTAL = 1 << 20, 1024
T0, UP0 = 1e9, 50_000.0
LEAK_FROM, RATE = 600, 6


def leak(second: int) -> int:
    return 20 + max(0, second - LEAK_FROM) * RATE


def machine(end: int = 680, step: int = 2) -> list[Any]:
    """A database of 480 MiB that has proven itself, and a leak of 6 MiB/s until memory ends."""
    facts: list[Any] = [trace.Header("box", acted=False)]
    for pid, unit in ((10, "db.service"), (11, "shop.service")):
        facts.append(Who(T0, UP0, pid, 4_000_000, ppid=1, uid=1000, exe=f"/usr/bin/p{pid}",
                         cgroup=f"/system.slice/{unit}", oom_score_adj=0))  # fmt: skip
    for second in range(0, end, step):
        t, up = T0 + second, UP0 + second
        available = max(4, TOTAL - 60 - 480 - leak(second))
        facts.append(Host(t, up, "boot", T0 - UP0, TOTAL * MIB, available * MIB, 0, 0, 0, 0, 0))
        rows: tuple[Row, ...] = (
            (10, 4_000_000, "postgres", 480 * MIB, 0, None, "db.service", None),
            (11, 4_000_000, "shop", leak(second) * MIB, 0, None, "shop.service", None),
        )
        facts.append(Sweep(t, up, rows, census=second % 10 == 0))
    return facts


def judged(facts: list[Any], **guard: Any) -> list[Event]:
    rules = Rules(guard=GuardRules(**guard), protect=Selector())
    return list(Replay(rules).run(iter(facts)))


def actions(events: list[Event]) -> list[Event]:
    return [event for event in events if event.kind == "guard.action"]


def test_the_leak_is_named_not_the_database() -> None:
    events = judged(machine())
    begun = [event for event in events if event.kind == "pressure.begun"]
    assert len(begun) == 1
    (first,) = actions(events)
    assert first.body["victim"]["pid"] == 11
    assert first.body["victim"]["unit"] == "shop.service"
    assert (first.body["mode"], first.body["outcome"]) == ("observe", "would")
    assert first.t - begun[0].t <= 4
    assert first.body["candidates"][0]["rank"]["blame"] >= 1


def test_a_recording_of_a_live_leak_names_whom_the_guard_killed() -> None:
    """Recorded in a virtual machine (Debian 13, 4 GiB) beside a guard that enforced: it ended PID
    3587 by SIGTERM. The 3,000 idle processes that were there are left out.
    """
    path = Path(__file__).parent / "fixtures" / "guard-leak.jsonl.gz"
    for mode in ("observe", "enforce"):
        events = Replay(Rules(guard=GuardRules(mode))).run(command.facts(command.Lines(str(path))))
        (first,) = actions(list(events))
        assert (first.body["victim"]["pid"], first.body["do"]) == (3587, "terminate")
        assert first.body["victim"]["unit"] == "leak.service"
        assert first.body["mode"] == mode


def test_what_a_live_guard_read_for_its_decision_is_no_kill_by_the_kernel() -> None:
    """A recording of a daemon holds that too, without the count of kills."""
    facts: list[Any] = []
    for fact in machine():
        if isinstance(fact, Sweep) and fact.t > T0 + LEAK_FROM:
            host = facts[-1]
            t, up = host.t + 0.3, host.up + 0.3
            facts.append(host._replace(t=t, up=up, boot_id=None, oom_kill=None))
            facts.append(Sweep(t, up, fact.rows, census=False, inputs=True))
            fact = fact._replace(t=fact.t + 0.5, up=host.up + 0.5)
        facts.append(fact)
    (plain,), (first,) = actions(judged(machine())), actions(judged(facts))
    assert first.body["victim"] == plain.body["victim"]
    assert first.t <= plain.t + 0.5, "nobody was killed for whom memory would be waited for"


def test_observe_and_enforce_decide_the_same_but_for_the_mode() -> None:
    said = [
        [(e.t, e.kind, e.id, e.because, {k: v for k, v in e.body.items() if k != "mode"})
         for e in judged(machine(), mode=mode)]
        for mode in ("observe", "enforce")
    ]  # fmt: skip
    assert said[0] == said[1]
    assert {e.body["mode"] for e in actions(judged(machine(), mode="enforce"))} == {"enforce"}


def test_a_budget_is_counted_over_a_recording_as_it_would_have_been_spent() -> None:
    """Three incidents with an hour between the last two; nobody ends in a recording."""
    facts = machine()
    for after in (700, 4400):
        facts += [fact._replace(t=fact.t + after, up=fact.up + after)
                  for fact in machine() if isinstance(fact, Host | Sweep)]  # fmt: skip

    def told(mode: str) -> list[Event]:
        return actions(judged(facts, mode=mode, budget=(1, 3600.0)))

    observed, enforced = told("observe"), told("enforce")
    assert [one.body["outcome"] for one in observed] == ["would"] * 3
    assert [one.body["outcome"] for one in enforced] == ["would", "budget", "would"]
    assert enforced[1].because[-1] == (
        "the guard's budget: 1 in 1 h are used up: the kernel decides"
    )  # fmt: skip
    rebooted = facts[: len(machine())] + [
        fact._replace(
            up=fact.up - UP0 + 10, **({"boot_id": "next"} if isinstance(fact, Host) else {})
        )
        for fact in facts[len(machine()) :]
    ]
    enforced_after = actions(judged(rebooted, mode="enforce", budget=(1, 3600.0)))
    assert [one.body["outcome"] for one in enforced_after] == ["would", "budget", "would"]
    differs = ("mode", "outcome")
    same = [
        [(e.t, e.id, {k: v for k, v in e.body.items() if k not in differs}) for e in some]
        for some in (observed, enforced)
    ]
    assert same[0] == same[1]


def test_a_guard_that_is_off_takes_nobody_and_says_when_memory_is_short() -> None:
    """As it does live, so that a policy that waits for pressure acts in a recording too."""

    def pressure(mode: str) -> list[Event]:
        return [one for one in judged(facts, mode=mode) if one.kind.startswith("pressure.")]

    facts = machine() + [fact._replace(t=fact.t + 700, up=fact.up + 700)
                         for fact in machine(end=20) if isinstance(fact, Host)]  # fmt: skip
    assert [one.kind for one in pressure("off")] == ["pressure.begun", "pressure.ended"]
    assert [one.t for one in pressure("off")] == [one.t for one in pressure("observe")]
    assert actions(judged(facts, mode="off")) == []
    policy = Policy("shop", Match(unit=("shop.service",)), When(pressure=True), do=("log",))
    for mode in ("off", "observe"):
        rules = Rules(guard=GuardRules(mode), protect=Selector(), policies=(policy,))
        found = [one for one in Replay(rules).run(iter(facts)) if one.kind == "policy.action"]
        assert [one.body["do"] for one in found] == ["log"], mode


def test_by_size_it_takes_the_database() -> None:
    (first,) = actions(judged(machine(), victim="size"))
    assert first.body["victim"]["pid"] == 10


def test_memory_of_no_process_kills_nobody_and_the_account_is_told() -> None:
    """The kernel's own memory grows: nobody is taken while half of the mark is left."""
    facts = []
    for fact in machine(end=600):
        if isinstance(fact, Host):
            second = fact.t - T0
            left = max(30, 424 - max(0, second - 200) * 1.2)
            fact = fact._replace(mem_available=int(left) * MIB)
        facts.append(fact)
    (held,) = actions(judged(facts))
    assert held.body["do"] == "hold"
    assert held.body["victim"] is None
    assert any("tmpfs" in sentence for sentence in held.because)


@pytest.mark.parametrize("first", [0, 200])
def test_a_recording_knows_when_files_in_memory_grew(first: int) -> None:
    """A file grows in a tmpfs until less than half of the mark is left: nobody is taken for it.

    What little lies there is not told; here it is from 100 MiB on.
    """
    facts: list[Any] = []
    for fact in machine(end=690):
        if isinstance(fact, Host):
            files = first + leak(int(fact.t - T0)) - 20
            left = max(10, 424 - files)
            fact = fact._replace(mem_available=left * MIB, shmem=(files + 4) * MIB)
        if isinstance(fact, Sweep):
            fact = fact._replace(rows=fact.rows[:1])
        facts.append(fact)
        if isinstance(fact, Sweep) and files >= 100:
            facts.append(Memfds(fact.t, fact.up, (), files * MIB))
    assert left == 10
    (held,) = actions(judged(facts))
    assert (held.body["do"], held.body["victim"]) == ("hold", None)
    assert any("files in memory (tmpfs) took" in sentence for sentence in held.because)


def test_what_is_pushed_out_to_swap_is_nobodys_growth_in_a_recording_too() -> None:
    """The kernel takes 3 MiB/s, of which 2 MiB/s come of the database, which sleeps."""
    facts = []
    for fact in machine(end=600):
        second = int(fact.t - T0) if isinstance(fact, Host | Sweep) else 0
        out = 2 * max(0, min(150, second - 300))
        if isinstance(fact, Host):
            left = 424 - max(0, min(200, second - 100)) * 11 // 10 - max(0, min(160, second - 300))
            fact = fact._replace(mem_available=left * MIB, swap_total=1000 * MIB,
                                 swap_free=(1000 - out) * MIB)  # fmt: skip
        elif isinstance(fact, Sweep):
            db, other = fact.rows
            row: Row = (*db[:3], db[3] - out * MIB, db[4], out * MIB, *db[6:])
            fact = fact._replace(rows=(row, other))
        facts.append(fact)
    (held,) = actions(judged(facts))
    assert (held.body["do"], held.body["victim"]) == ("hold", None)


def test_thirty_growers_are_a_fallback_and_it_is_said() -> None:
    facts: list[Any] = [trace.Header("box", acted=False)]
    for second in range(0, 900, 2):
        t, up = T0 + second, UP0 + second
        each = 20 + max(0, second - 600) * 0.06
        available = TOTAL - 60 - 34 * each
        facts.append(
            Host(t, up, "boot", T0 - UP0, TOTAL * MIB, int(available * MIB), 0, 0, 0, 0, 0)
        )
        rows: tuple[Row, ...] = tuple(
            (pid, 4_000_000, f"w{pid}", int(each * MIB), 0, None, f"w{pid}.service", None)
            for pid in range(100, 134)
        )
        facts.append(Sweep(t, up, rows, census=second % 10 == 0))
    found = actions(judged(facts))
    assert found[0].body["how"] == "fallback"
    assert any("too small for its work" in sentence for sentence in found[0].because)


def test_whom_the_kernel_is_told_to_spare_is_spared_in_a_recording_too() -> None:
    facts = [fact._replace(oom_score_adj=-950) if isinstance(fact, Who) and fact.pid == 11 else fact
             for fact in machine()]  # fmt: skip
    (first,) = actions(judged(facts))
    assert first.body["victim"]["pid"] == 10


def test_nobody_is_taken_while_memory_is_well() -> None:
    assert actions(judged(machine(end=660))) == []


def test_what_was_done_while_it_was_recorded_counts_only_under_its_own_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = machine()
    facts[0] = trace.Header("box", acted=True)
    facts.append(Said(facts[-1].t, facts[-1].up, "guard.action", "host-1-1", ("as it was",), {
        "policy": "guard", "do": "kill", "mode": "enforce", "outcome": "done", "victim": None,
        "target": None, "incident": "host-1", "candidates": [],
    }))  # fmt: skip
    facts.append(Outcome(facts[-1].t, facts[-1].up, "none", "done", ""))
    path = tmp_path / "t.jsonl"
    lines = [trace.header_line("box", acted=True), *(trace.line(fact) for fact in facts[1:])]
    path.write_text("\n".join(lines) + "\n")
    config = tmp_path / "new.toml"
    config.write_text('[guard]\nmode = "enforce"\n')

    def told(*argv: str) -> list[dict[str, Any]]:
        assert command.main([str(path), "--json", *argv]) == 0
        found = map(json.loads, capsys.readouterr().out.splitlines())
        return [event for event in found if event["event"] == "guard.action"]

    (kept,) = told()
    assert kept["because"] == ["as it was"]
    (anew,) = told("--config", str(config))
    assert anew["victim"]["comm"] == "shop"
    assert (anew["mode"], anew["outcome"]) == ("enforce", "would")


def test_a_unit_with_a_spread_excess_would_be_ended_as_a_whole() -> None:
    facts: list[Any] = [trace.Header("box", acted=False)]
    for second in range(0, 760, 2):
        t, up = T0 + second, UP0 + second
        each = 10 + max(0, second - LEAK_FROM) * 0.25
        available = max(8, TOTAL - 60 - 480 - 12 * each)
        facts.append(
            Host(t, up, "boot", T0 - UP0, TOTAL * MIB, int(available * MIB), 0, 0, 0, 0, 0)
        )
        rows: list[Row] = [(10, 4_000_000, "postgres", 480 * MIB, 0, None, "db.service", None)]
        rows += [(pid, 4_000_000, "worker", int(each * MIB), 0, None, "web.service", None)
                 for pid in range(20, 32)]  # fmt: skip
        facts.append(Group(t, up, "web.service", "/system.slice/web.service",
                           anon=int(12 * each * MIB)))  # fmt: skip
        facts.append(Sweep(t, up, tuple(rows), census=second % 10 == 0))
    (first,) = actions(judged(facts))
    assert first.body["victim"]["unit"] == "web.service"
    assert first.body["do"] == "kill-unit"


def test_a_recording_is_read_as_a_whole(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["some.jsonl", "--since", "7d"])
    assert caught.value.code == 2
    assert "--since goes with --state" in capsys.readouterr().err


# ---- review ------------------------------------------------------------------------------------


def would(t: float, policy: str, do: str, pid: int | None = 7, **more: Any) -> dict[str, Any]:
    kind = "guard.action" if policy == "guard" else "policy.action"
    entity = {"pid": pid, "start": 5, "comm": "shop", "unit": "shop.service"}
    return {"event": kind, "id": f"{policy}-{t}-{do}", "t": t, "policy": policy, "do": do,
            "mode": "observe", "outcome": "would", "target": entity, "because": ["a leak"],
            **entity, **more}  # fmt: skip


def other(t: float, kind: str, pid: int | None = 7, start: int = 5) -> dict[str, Any]:
    return {"event": kind, "id": f"{kind}-{t}", "t": t, "pid": pid, "start": start,
            "unit": "shop.service", "because": ["it is so"]}  # fmt: skip


def test_each_action_with_what_came_of_it() -> None:
    told = [
        would(100.0, "shop", "log", outcome="done"), would(100.0, "shop", "restart-unit"),
        other(160.0, "oom.kill"), would(1000.0, "shop", "restart-unit", 8),
        other(1100.0, "oom.kill", 9), other(1200.0, "leak.cleared", 8),
        would(9000.0, "shop", "restart-unit", 10), other(9000.0 + 4000, "oom.kill", 10),
        would(20_000.0, "guard", "terminate"), other(20_020.0, "oom.kill", 99),
        would(30_000.0, "guard", "terminate"), other(30_020.0, "pressure.ended", None),
        would(40_000.0, "guard", "hold", None),
        would(41_000.0, "other", "kill", mode="enforce", outcome="done"),
    ]  # fmt: skip
    guard, shop = reviewing.review(told, 99_000.0)
    assert [one["then"]["how"] for one in shop["actions"]] == ["killed", "recovered", "nothing"]
    assert [one["then"]["how"] for one in guard["actions"]] == ["other killed", "recovered"]
    text = "\n".join(reviewing._lines(shop | reviewing.way("shop", None)))
    assert "policy shop would have acted 3 times" in text
    assert "1 min later: it was killed all the same: it is so" in text
    assert "the configuration is refused" in text and "reload" not in text


def test_what_we_did_ourselves_is_how_it_ended() -> None:
    done = {"mode": "enforce", "outcome": "done"}
    told = [
        would(0.0, "shop", "kill"), would(5.0, "b", "log", **done),
        would(6.0, "c", "kill", 8, **done), would(9.0, "b", "terminate", **done),
        other(12.0, "leak.cleared"),
    ]  # fmt: skip
    (shop,) = reviewing.review(told, 99.0)
    then = shop["actions"][0]["then"]
    assert (then["how"], then["t"], then["said"]) == (
        "ended", 9.0, "policy b acted on it: terminate"
    )  # fmt: skip


def test_the_actions_of_one_decision_are_one_time() -> None:
    told = [
        would(100.0, "shop", "run:dump", incident="a"), would(100.0, "shop", "kill", incident="a"),
        other(160.0, "oom.kill"), would(9000.0, "shop", "kill", 8, incident="b"),
    ]  # fmt: skip
    (shop,) = reviewing.review(told, 99_000.0)
    assert (shop["times"], [one["incident"] for one in shop["actions"]]) == (3, ["a", "a", "b"])
    head, first, *_ = reviewing._lines(shop | reviewing.way("shop", None))
    assert head == (
        "policy shop would have acted 2 times "
        "(its target was killed all the same: 1, nothing more was told: 1)"
    )
    assert "run:dump, kill shop (pid 7" in first


def barred(t: float, do: str, pid: int = 7, **more: Any) -> dict[str, Any]:
    why = ["a leak", "it belongs to no unit"]
    return would(t, "shop", do, pid, **{"outcome": "failed", "because": why, **more})


def test_what_would_fail_is_shown_with_its_reason() -> None:
    told = [
        barred(100.0, "throttle", incident="a"), barred(100.0, "kill-unit", incident="a"),
        barred(200.0, "notify:ops", incident="b"), barred(300.0, "kill", mode="enforce"),
    ]  # fmt: skip
    (shop,) = reviewing.review(told, 900.0)
    assert (shop["times"], shop["actions"]) == (0, [])
    assert [(one["do"], one["outcome"]) for one in shop["barred"]] == [
        ("throttle", "failed"), ("kill-unit", "failed"),
    ]  # fmt: skip
    head, first, *rest = reviewing._lines(shop | reviewing.way("shop", None))
    assert head == "policy shop would have come to nothing 1 time"
    assert first.endswith("throttle, kill-unit shop (pid 7, shop.service)")
    assert rest == [
        "      because a leak", "      failed: it belongs to no unit",
        "  enforcing alone would change nothing of that",
    ]  # fmt: skip


def test_what_would_be_done_stands_before_what_would_not() -> None:
    told = [would(100.0, "shop", "kill")]
    told += [barred(200.0 + pid, "kill", pid, outcome="protected") for pid in range(8, 15)]
    (shop,) = reviewing.review(told, 900.0)
    lines = list(reviewing._lines(shop | reviewing.way("shop", None)))
    assert "would have acted 1 time " in lines[0]
    at = lines.index("policy shop would have come to nothing 7 times")
    assert at > 1 and "pid 10" in lines[at + 1] and lines[at + 3].startswith("      protected: ")
    assert "  and 2 before them: --json shows all" in lines
    assert "what has to change is not known" in lines[-1]


def test_what_came_of_it_is_no_more_than_what_was_seen() -> None:
    gone = other(1030.0, "leak.cleared", 8) | {"because": ["the process is gone"]}
    told = [would(1000.0, "shop", "kill", 8), gone, would(2000.0, "shop", "kill")]
    (shop,) = reviewing.review(told, 2120.0)
    ended, nothing = (one["then"] for one in shop["actions"])
    assert (ended["how"], ended["said"]) == (
        "ended", "it ended, and its leak with it: the process is gone"
    )  # fmt: skip
    assert nothing["said"] == "nothing more was told of it within 2 min"


@pytest.mark.parametrize(
    ("then", "how"),
    [
        # memory was well again before somebody else was killed, half an hour later
        ([other(20.0, "pressure.ended", None), other(1900.0, "oom.kill", 99)], "recovered"),
        # told in this order: the report of a kill is closed a second after it
        ([other(20.0, "pressure.ended", None), other(19.9, "oom.kill", 99)], "other killed"),
        ([other(20.0, "pressure.ended", None), other(1900.0, "oom.kill")], "recovered"),
        ([other(20.0, "leak.cleared") | {"because": ["the process is gone"]},
          other(20.4, "kill.other")], "killed"),
        ([other(20.0, "pressure.ended", None), other(29.0, "kill.other")], "killed"),
        ([other(5.0, "oom.kill", 99) | {"scope": "memcg", "unit": "web.service"}], "nothing"),
        ([other(5.0, "oom.kill", 99) | {"scope": "memcg"}], "other killed"),  # in its own unit
        ([other(5.0, "oom.kill", 99) | {"scope": "global", "unit": "web.service"}], "other killed"),
    ],
)  # fmt: skip
def test_the_first_thing_that_says_how_it_ended_counts(
    then: list[dict[str, Any]], how: str
) -> None:
    (guard,) = reviewing.review([would(0.0, "guard", "terminate"), *then], 9000.0)
    assert [one["then"]["how"] for one in guard["actions"]] == [how]


POLICY = """
[policies.shop]
match = { unit = "shop.service" }
when = { leak = "confirmed" }
do = ["restart-unit"]
"""


def way(root: Path, policy: str = "shop", **files: str) -> dict[str, Any]:
    """What `review` says is to be done, under a configuration of these files."""
    places = {"main": "etc/oom-watchdog/config.toml", "etc": "etc/oom-watchdog/config.d/shop.toml",
              "late": "etc/oom-watchdog/config.d/x.toml",
              "usr": "usr/lib/oom-watchdog/config.d/shop.toml"}  # fmt: skip
    for name, text in files.items():
        path = root / places[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    loaded = json.loads(json.dumps(load(None, str(root))._asdict()).replace(f"{root}/", "/"))
    return reviewing.way(policy, loaded)


def test_the_file_that_has_to_change_is_named(tmp_path: Path) -> None:
    found = way(tmp_path, main="", etc=POLICY)
    assert found["said"] == ("to let it act, put into /etc/oom-watchdog/config.d/shop.toml, in the "
                             "table [policies.shop]")  # fmt: skip
    assert found["lines"] == ["[policies.shop]", 'mode = "enforce"']
    found = way(tmp_path, late='[policies.shop]\nmode = "observe"\n')
    assert found["file"] == "/etc/oom-watchdog/config.d/x.toml", "which has the last word"
    assert "change mode" in found["said"]
    found = way(tmp_path, late='[policies.shop]\nmode = "enforce"\n')
    assert (found["mode"], found["lines"]) == ("enforce", [])
    assert "enforces already: /etc/oom-watchdog/config.d/x.toml says so" in found["said"]
    found = way(tmp_path, "renamed")
    assert (found["mode"], found["file"], found["lines"]) == ("gone", None, [])
    assert "--config FILE looks at another" in found["said"]


def test_what_a_package_brought_is_changed_beside_it(tmp_path: Path) -> None:
    """A file of its name would take it out of the count."""
    found = way(tmp_path, usr=POLICY + 'mode = "observe"\n')
    assert found["file"] == "/etc/oom-watchdog/config.d/zz-shop.toml"
    assert "new file" in found["said"]
    path = tmp_path / found["file"][1:]
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(found["lines"]))
    assert way(tmp_path)["mode"] == "enforce"
    (path.parent / "zzz.toml").write_text('[policies.shop]\nmode = "observe"\n')
    assert way(tmp_path)["file"] == "/etc/oom-watchdog/config.d/zzz.toml"


def test_the_guard_and_a_name_with_a_dot(tmp_path: Path) -> None:
    assert way(tmp_path, "guard")["file"] == "/etc/oom-watchdog/config.toml"
    found = way(tmp_path, "guard", main="[guard]\nvictim = 'size'\n")
    assert found["lines"] == ["[guard]", 'mode = "enforce"']
    assert way(tmp_path, "guard", late='[guard]\nmode = "off"\n')["said"] == (
        'to let it act, change mode = "off" in /etc/oom-watchdog/config.d/x.toml'
    )
    (tmp_path / "own.toml").write_text("")
    alone = load(str(tmp_path / "own.toml"))._asdict()
    assert reviewing.way("guard", alone, "/own.toml")["file"] == "/own.toml"
    found = way(tmp_path, "a.b", etc=POLICY.replace("shop]", '"a.b"]'))
    assert found["lines"][0] == '[policies."a.b"]'


def test_why_the_configuration_is_refused_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reviewing, "read_events", lambda *_: iter([would(0.0, "shop", "kill")]))
    argv = ["--state", str(tmp_path), "--config", str(tmp_path / "none.toml")]
    assert reviewing.main(argv) == 0
    found = capsys.readouterr()
    assert "none.toml: cannot be read: no such file" in found.err
    assert "what has to change is not known" in found.out


def test_nothing_to_review_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reviewing.main(["--state", str(tmp_path)]) == 1
    assert "no history" in capsys.readouterr().err

"""The watcher's end of the wire: who is spared, and when its policies may act."""

import os
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from guard_world import Clock

from watchdog import guard_line, trace, wire
from watchdog.engine import Engine
from watchdog.facts import Fact, Host
from watchdog.guard.revivals import Revivals
from watchdog.guard_line import GuardLine
from watchdog.health import Health
from watchdog.policy.guard_when import GuardRules
from watchdog.policy.rules import Match, Policy, Rules, Watch, When
from watchdog.sense.senses import Senses

WHY = "unit postgresql.service is protected (protect.unit postgresql*)"


class Passing(Clock):
    """Waiting takes no time, but passes it."""

    def wait(self, fds: Mapping[int, int], timeout_s: float | None) -> dict[int, int]:
        self.up += timeout_s or 0.0
        return super().wait(fds, timeout_s)


class Line:
    """A guard line whose other end is in our hand."""

    def __init__(self) -> None:
        ours, self.guard = wire.pair()
        self.said: list[str] = []
        health = Health(lambda kind, _because, _body: self.said.append(kind))
        nobody: Any = None
        self.line = GuardLine(ours, Passing(), Rules(), nobody, nobody, health, None, nobody,
                              nobody, nobody, self.grant)  # fmt: skip
        self.told = self.line.spare

    def grant(self, may_enforce: bool) -> None:
        self.may_enforce = may_enforce

    def heard(self) -> list[wire.Message]:
        try:
            return wire.receive(self.guard)
        except wire.ClosedError:
            return []


@pytest.fixture
def line() -> Iterator[Callable[[], Line]]:
    made: list[Line] = []

    def make() -> Line:
        made.append(Line())
        return made[-1]

    yield make
    for one in made:
        os.close(one.guard)
        os.close(one.line.fd)


def test_a_change_is_told_and_nothing_else(line: Callable[[], Line]) -> None:
    one = line()
    one.told({})
    assert one.heard() == [("spared", True, {})], "a new guard may know the word of another"
    one.told({(5, 6): "a", (7, 8): "b", (9, 9): "a"})
    one.told({(5, 6): "a", (7, 8): "b", (9, 9): "a"})
    assert one.heard() == [("spared", True, {"a": [(5, 6), (9, 9)], "b": [(7, 8)]})]
    one.told({(7, 8): "b"})
    assert one.heard() == [("spared", True, {"b": [(7, 8)]})]
    assert one.said == []


def test_for_whom_somebody_is_to_be_started_again_goes_both_ways(line: Callable[[], Line]) -> None:
    one = line()
    asked: list[Any] = []
    one.line.deeds = SimpleNamespace(revive=lambda *wish: asked.append(wish))  # type: ignore[assignment]
    owed = Revivals(None, "boot")
    assert one.line.owe("web.service", 12, "leaks-12:5-1", "leaks")
    ((kind, *ended),) = one.heard()
    owed.note(*ended)
    wire.send(one.guard, owed.wish(owed.left[0], 0))
    one.line.hear()
    *wish, over = asked[0]
    assert (kind, wish) == ("ended", ["web.service", 12, "leaks-12:5-1", "leaks", True])
    over()
    assert one.heard() == [("revived", "web.service", 12)]


def test_what_the_guard_did_not_take_is_told_again(line: Callable[[], Line]) -> None:
    one = line()
    while one.line.send("beat", "x" * 50_000):
        pass
    one.told({(5, 6): "a"})
    while one.heard():
        pass
    one.told({(5, 6): "a"})
    assert one.heard() == [("spared", True, {"a": [(5, 6)]})]


def test_more_than_fit_are_said_to_be_more(line: Callable[[], Line]) -> None:
    one = line()
    start = 1 << 40
    every = {(1 << 21 | n, start + n): WHY for n in range(guard_line.SPARED_MAX)}
    one.told(every)
    ((_, whole, found),) = one.heard()
    assert whole
    assert len(found[WHY]) == guard_line.SPARED_MAX
    one.told(every | {(3, 3): WHY})
    ((_, whole, found),) = one.heard()
    assert not whole
    assert len(found[WHY]) == guard_line.SPARED_MAX
    one.told({ident: f"{n} " + "x" * 300 for n, ident in enumerate(every)})
    ((_, whole, found),) = one.heard()
    assert not whole
    assert 100 < len(found) < 400
    one.told({})
    assert one.heard() == [("spared", True, {})]
    assert one.said == ["watchdog.degraded", "watchdog.recovered"]


def test_a_sigterm_that_leaves_a_service_down_is_told_as_such(line: Callable[[], Line]) -> None:
    one, fed = line(), list[Any]()
    one.line.feed = fed.append
    one.line.store = SimpleNamespace(put_kept=lambda _: None)  # type: ignore[assignment]
    one.line.deeds = SimpleNamespace(  # type: ignore[assignment]
        left_down=lambda kind, body: "it stays down" if body["pid"] == 7 else None,
        incidents=SimpleNamespace(heard=lambda *_: None),
    )
    for pid in (7, 8):
        body = {"do": "terminate", "outcome": "done", "pid": pid, "comm": "shop"}
        assert wire.send(one.guard, ("report", 1.0, 1.0, "guard.action", "i", ["why"], body))
    one.line.hear()
    assert [(said.because, said.body.get("restarts")) for said in fed] == [
        (("why", "it stays down"), False), (("why",), None),
    ]  # fmt: skip


@pytest.mark.parametrize("inside", [None, "the cgroup of PID 1 is a container's"])
def test_what_a_decision_saw_counts_no_kills(line: Callable[[], Line], inside: str | None) -> None:
    """Its host has no boot id, nor all else that the senses' has: the balance is none of its."""
    one, fed = line(), list[Any]()
    one.line.feed = fed.append
    one.line.senses = type("Near", (), {"container": inside, "own": Senses.own})()
    host = Host(5.0, 3.0, mem_available=80, oom_kill=7, shmem=9)
    wire.send(one.guard, ("inputs", tuple(host), [(8, 80, "x", 5, 0, None, None, None)]))
    one.line.hear()
    assert fed[0] == host._replace(oom_kill=None, shmem=None if inside else 9)
    assert (fed[1].up, fed[1].inputs, len(fed[1].rows)) == (3.0, True, 1)


def test_what_was_spent_is_joined_with_what_earlier_runs_spent(line: Callable[[], Line]) -> None:
    one, kept = line(), list[dict[str, str]]()
    one.line.store = SimpleNamespace(put_kept=kept.append)  # type: ignore[assignment]
    one.line._spent(9.0)
    one.line.join("[5.0, 9.0]")
    assert kept[-1] == {guard_line.KEPT: "[5.0, 9.0]"}
    assert one.heard() == [("spent", [5.0, 9.0])]


# ---- the lock -----------------------------------------------------------------------------------


def armed(one: Line) -> None:
    """One policy that enforces and one that observes."""
    match, when = Match(unit=("x",)), When(resident_above=1)
    one.line.rules = Rules(policies=tuple(
        Policy(mode, match=match, when=when, do=("kill",), mode=mode)
        for mode in ("enforce", "observe")
    ))  # fmt: skip


def test_without_an_answer_policies_observe_until_there_is_one(line: Callable[[], Line]) -> None:
    one = line()
    armed(one)
    one.line.agree()
    assert not one.may_enforce
    assert one.said == ["watchdog.degraded"]
    wire.send(one.guard, ("enforce", True, None, False))
    one.line.hear()
    assert one.may_enforce
    assert one.said == ["watchdog.degraded", "watchdog.recovered"]


def test_a_late_refusal_leaves_them_so(line: Callable[[], Line]) -> None:
    one = line()
    armed(one)
    one.line.agree()
    wire.send(one.guard, ("enforce", False, "another oom-watchdog holds it", False))
    one.line.hear()
    assert not one.may_enforce


def test_what_is_held_back_is_asked_for_again_with_other_rules(line: Callable[[], Line]) -> None:
    one = line()
    armed(one)
    wire.send(one.guard, ("enforce", True, None, False))
    one.line.hear()
    assert one.may_enforce
    assert one.said == []
    one.line.agree()
    assert not one.may_enforce


# ---- memory is short ----------------------------------------------------------------------------


def test_who_is_started_in_an_incident_knows_it_before_it_decides(
    line: Callable[[], Line],
) -> None:
    one, engine = line(), Engine(Rules(), "box")
    fed: list[Fact] = []
    one.line.feed = fed.append
    one.line.clock.wait = lambda fds, _: dict.fromkeys(fds, 1)  # type: ignore[method-assign]
    wire.send(one.guard, ("enforce", False, None, True))
    one.line.agree()
    (fact,) = fed
    assert trace.fact(trace.line(fact)) == fact, "a replay knows it too"
    assert engine.feed(fact) == [], "it was told when it began"
    assert engine.pressed is True
    wire.send(one.guard, ("enforce", False, None, False))
    one.line.agree()
    assert len(fed) == 1


def test_it_looks_as_often_as_the_rules_or_the_guard_say(line: Callable[[], Line]) -> None:
    one = line().line
    one.senses = SimpleNamespace(interval_s=10.0, next_up=2000.0)  # type: ignore[assignment]
    one._wish(("hurry", 2.0))
    assert (one.senses.interval_s, one.senses.next_up) == (2.0, one.clock.boottime())
    one.rules = Rules(watch=Watch(30.0))
    assert one.interval_s == 2.0, "other rules do not slow it down"
    one.rules = Rules(watch=Watch(0.5))
    one._wish(("hurry", 2.0))
    assert one.senses.interval_s == 0.5, "a hurry neither"
    one.rules = Rules(watch=Watch(30.0))
    one._wish(("hurry", 0.0))
    assert one.senses.interval_s == 30.0


def test_the_guards_last_word_is_known(line: Callable[[], Line]) -> None:
    """In words, for `status`: near, short, decided, and that its budget is used up."""
    one = line()
    one.line.feed = lambda _: None
    one.line.senses = SimpleNamespace(interval_s=5.0, next_up=0.0)  # type: ignore[assignment]
    one.line.store = SimpleNamespace(put_kept=lambda _: None)  # type: ignore[assignment]
    one.line.rules = Rules(guard=GuardRules("enforce", budget=(1, 3600.0)))
    one.line.granted = True

    def word(*messages: wire.Message) -> tuple[str, list[Any]]:
        for message in messages:
            wire.send(one.guard, message)
        one.line.hear()
        return one.line.word

    def report(kind: str, **body: Any) -> wire.Message:
        return "report", 1e9 + 900, 900.0, kind, "host-1", ("why",), body

    assert one.line.word == ("watching", [])
    assert word(("hurry", 2.0)) == ("memory is near the mark", [])
    assert word(report("pressure.begun")) == ("memory is short", [])
    first = {"entity": {"pid": 7}, "rank": {"blame": 3}, "because": ["a leak"]}
    second = first | {"entity": {"pid": 8}}
    said, ranked = word(report("guard.action", do="terminate", comm="shop", pid=7, outcome="done",
                               decided_t=1e9 + 400, candidates=[first, second]))  # fmt: skip
    assert said == ("memory is short: terminate shop (PID 7): done; it only says what it would do: "
                    "its budget of 1 in 1 h is used up for another 50 min")  # fmt: skip
    assert ranked == [first, second]
    said, ranked = word(report("guard.action", do="kill", comm="shop", pid=7, outcome="done",
                               decided_t=1e9 + 400, candidates=[first]))  # fmt: skip
    assert said.startswith("memory is short: kill shop (PID 7): done; it only says")
    assert ranked == [first, second]
    said, ranked = word(report("guard.action", do="hold", pid=None, outcome="would", candidates=[]))
    assert said.startswith("memory is short: hold: would; it only says")
    assert ranked == [first, second]
    said, ranked = word(report("pressure.ended"), ("hurry", 0.0))
    assert said.startswith("watching; it only says what it would do: its budget")
    assert ranked == []
    one.line.rules = Rules(guard=GuardRules("observe", budget=(1, 3600.0)))
    assert one.line.word == ("watching", [])
    one.line.rules = Rules(guard=GuardRules("enforce", budget=(0, 3600.0)))
    assert one.line.word[0].endswith("its budget of 0 in 1 h is used up")
    one.line.rules = Rules(guard=GuardRules("enforce", budget=(2, 3600.0)))
    assert one.line.word[0] == "watching"

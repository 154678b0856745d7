"""The desk: an event is told once, neither a disk nor a reader that hangs holds it up."""

import json
import os
import time

import pytest

from watchdog.act import hook
from watchdog.child import Children
from watchdog.clock import RealClock
from watchdog.desk import HOOKS_AT_ONCE, Desk
from watchdog.engine import Engine
from watchdog.facts import Entity, Event, Order, Subject
from watchdog.policy.rules import Hook, default_rules
from watchdog.store.backlog import Job
from watchdog.store.db import Store


class Late(RealClock):
    """A clock that can be set forward."""

    ahead = 0.0

    def boottime(self):
        return super().boottime() + self.ahead


@pytest.fixture
def made(tmp_path):
    """A desk whose standard output is a pipe: (desk, its clock, its store, the reading end)."""
    clock, store = Late(), Store(str(tmp_path / "history.db"))
    read, write = os.pipe()
    os.set_blocking(read, False)
    with os.fdopen(write, "w") as out:
        begun = Engine(default_rules(), "box").begun
        desk = Desk(clock, default_rules(), None, store, None, out, True, print, begun)
        yield desk, clock, store, read
    os.close(read)
    store.close()


def event(name, because=("why",)):
    return Event("watchdog.degraded", name, None, 1.0, 1.0, "boot", "box", because, {})


def lines(read):
    found = b""
    try:
        while piece := os.read(read, 65536):
            found += piece
    except BlockingIOError:
        pass
    return [json.loads(line)["id"] for line in found.splitlines()]


def test_what_a_hanging_disk_was_given_is_told_once_and_without_it(made):
    desk, clock, store, read = made
    store._put(Job(0, ask=lambda db: time.sleep(1.5)), 0)  # the disk answers nobody for a while
    desk.take(event("a"), {})
    desk.answers()
    assert lines(read) == []
    assert desk.deadline() is not None
    clock.ahead = 2.5
    desk.answers()
    assert lines(read) == ["a"]
    assert desk.deadline() is None
    store.flush()
    desk.answers()
    assert lines(read) == []
    assert not desk.waiting
    store.flush()
    assert store.untold() == []


def test_a_reader_that_stops_holds_nobody_up_and_gets_whole_lines(made):
    desk, _, _, read = made
    for number in range(12):
        desk.tell(event(f"e{number}", ("x" * 9000,)).flat())
    assert desk.unsaid
    first = os.read(read, 4096)
    desk.answers()
    rest = b""
    for _ in range(3):
        while True:
            try:
                rest += os.read(read, 65536)
            except BlockingIOError:
                break
        desk.answers()
    told = [json.loads(line)["id"] for line in (first + rest).splitlines()]
    assert told == [f"e{number}" for number in range(12 - desk.unsaid)]
    desk.tell(event("later").flat())
    assert lines(read) == ["later"]


def test_a_reader_that_has_gone_costs_lines_and_nothing_else(made):
    desk, _, _, read = made
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), read)
    desk.tell(event("a").flat())
    assert desk.unsaid == 1


class Stuck:
    """A journal whose daemon takes nothing until it is `well`, and whose spool holds two."""

    def __init__(self):
        self.there, self.well, self.got, self.spool, self.late, self.dropped = (
            True,
            False,
            [],
            [],
            [],
            0,
        )

    @property
    def waiting(self):
        return len(self.spool)

    def send(self, flat):
        if self.well:
            self.got.append(flat["id"])
            return True
        self.spool.append(flat["id"])
        if len(self.spool) > 2:
            self.spool.pop(0)
            self.dropped += 1
        return False

    def flush(self):
        if self.well:
            self.got += self.spool
            self.late += self.spool
            self.spool = []
        return len(self.spool)

    def take_late(self):
        late, self.late = self.late, []
        return late


def test_what_journald_did_not_take_is_not_told_until_it_does(made):
    """Not even what the spool had no room for is lost: the store has it."""
    desk, _, store, _ = made
    desk.journal = Stuck()
    names = ["a", "b", "c", "d"]
    for name in names:
        desk.take(event(name), {})
    store.flush()
    desk.answers()
    store.flush()
    assert [flat["id"] for flat in store.untold()] == names, "a crash now would lose them"
    desk.journal_again()
    assert desk.journal.got == []
    desk.journal.well = True
    desk.journal_again()
    assert sorted(desk.journal.got) == names
    store.flush()
    assert store.untold() == []
    desk.journal_again()
    assert sorted(desk.journal.got) == names, "told twice"


def test_a_storm_of_hooks_is_held_back_and_nothing_else_counts_as_one(made):
    """Evidence, systemctl and readers of the journal are children as well."""
    desk, _, _, _ = made
    told = []
    desk.feed_back = told.append
    desk.children = Children()
    desk.rules = desk.rules._replace(run={"slow": Hook(("/bin/sleep", "9"))})
    subject = Subject("7:1", Entity(7, 1), False)
    for _ in range(5):
        desk.children.start(["/bin/sleep", "9"])
    for number in range(HOOKS_AT_ONCE + 1):
        desk.carry_out(
            Order(f"o-{number}", "p", "run:slow", "enforce", subject, "i", None, ("why",), None)
        )
    assert [(one.order_id, one.outcome) for one in told] == [(f"o-{HOOKS_AT_ONCE}", "failed")]
    assert "under way" in told[0].detail
    desk.children.close()


def test_a_program_gets_the_event_by_the_id_that_it_is_stored_under(made, tmp_path, monkeypatch):
    """`events --id` and `ack` know no other; when and where are in it, what came of it is not."""
    monkeypatch.setattr(hook, "transient", lambda: False)
    desk, clock, _, _ = made
    engine, got = desk.begun.__self__, tmp_path / "got"
    engine.boot_id = "5f1c2a7b-0000"
    desk.children = Children()
    argv = ("/bin/sh", "-c", f"echo $OOM_WATCHDOG_ID >{got}; cat >>{got}")
    desk.rules = desk.rules._replace(run={"dump": Hook(argv)})
    subject = Subject("7:1", Entity(7, 1, "x"), False, resident_bytes=5 << 20, leak="confirmed")
    order = Order("o-1", "p", "run:dump", "enforce", subject, "i", "c-1", ("why",), None)
    before = clock.wall()
    engine.pending[order.id] = order
    outcomes = []
    desk.feed_back = outcomes.append
    desk.carry_out(order)
    while not outcomes:
        desk.children.turn()
        desk.hooks_over()
        time.sleep(0.01)
    (told,) = engine.feed(outcomes[0])
    first, second = got.read_text().splitlines()
    said, stored = json.loads(second), told.flat()
    assert first == said["id"] == stored["id"]
    assert (said["outcome"], stored["outcome"]) == (None, "done")
    same = stored.keys() - {"t", "up", "outcome"}
    assert {key: said[key] for key in same} == {key: stored[key] for key in same}
    assert said["host"] == "box" and before <= said["t"] <= stored["t"]
    assert (said["leak"], said["resident_bytes"]) == ("confirmed", 5 << 20)
    desk.children.close()


def test_the_outcome_of_a_sigterm_says_that_its_service_stays_down(tmp_path, monkeypatch):
    class Deeds:
        def terminated(self, order, told):
            told("it stays down" if order.id == "a" else None)

    store, found = Store(str(tmp_path / "history.db")), []
    begun = Engine(default_rules(), None).begun
    made = Desk(RealClock(), default_rules(), None, store, None, None, True, found.append, begun)
    made.deeds = Deeds()
    monkeypatch.setattr("watchdog.desk.kill", lambda *_, **__: ("done", "sent"))
    who = Subject("7:9", Entity(7, 9, "x", unit="x.service"), False)
    for name, do in (("a", "terminate"), ("b", "terminate"), ("c", "kill")):
        made.carry_out(Order(name, "p", do, "enforce", who, "i", None, (), None))
    assert [(one.order_id, one.detail, one.restarts) for one in found] == [
        ("a", "sent; it stays down", False), ("b", "sent", None), ("c", "sent", None),
    ]  # fmt: skip
    store.close()

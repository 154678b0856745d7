"""A reload: every request is read for, and only a loader that came to its end blames the files."""

import json
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from watchdog.handover import LOAD_S, Handover, RejectedError, UnreadError
from watchdog.health import Health
from watchdog.policy.rules import Rules, Watch, to_plain
from watchdog.watcher import FORMER, Watcher


def text(interval_s: float) -> bytes:
    rules = Rules(watch=Watch(interval_s))
    return json.dumps({"rules": to_plain(rules)}).encode()


class Loader:
    """A program under way, until a test ends it."""

    status: int | None = None
    done = timed_out = cut = False
    signal: int | None = None
    output, errors = b"", b""

    def end(self, status: int = 0, output: bytes = b"", errors: bytes = b"", **more: Any) -> None:
        self.status, self.output, self.errors, self.done = status, output, errors, True
        self.__dict__ |= more

    def failure(self) -> str | None:
        if self.timed_out:
            return "took longer than 30 s and was ended"
        return f"ended with status {self.status}" if self.status else None


class House:
    def __init__(self) -> None:
        self.fd = os.memfd_create("rules", 0)
        os.write(self.fd, text(10.0))
        self.loaders: list[Loader] = []
        self.full = False
        self.handover = Handover(self.fd, None, self)  # type: ignore[arg-type]

    def start(self, _argv: list[str], _stdin: bytes, deadline_s: float, **_: Any) -> Loader:
        if self.full:
            raise OSError(12, "Cannot allocate memory")
        assert deadline_s == LOAD_S
        self.loaders.append(Loader())
        return self.loaders[-1]


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    os.close(made.fd)


def test_a_request_during_a_load_is_read_for_as_well(house: House) -> None:
    one = house.handover
    assert one.reloaded() is None
    one.reload(1)
    one.reload(2)  # the file has changed since
    one.reload(3)
    assert (one.reloaded(), len(house.loaders)) == (None, 1)
    house.loaders[0].end(output=text(1.0))
    assert one.reloaded() == Rules(watch=Watch(1.0))
    assert (one.read, len(house.loaders)) == (1, 2)
    assert one.reloaded() is None
    house.loaders[1].end(output=text(2.0))
    assert one.reloaded() == one.rules == Rules(watch=Watch(2.0))
    assert (one.read, one.reloaded(), len(house.loaders)) == (3, None, 2)
    assert Handover(house.fd, None, house).rules == one.rules  # type: ignore[arg-type]


def test_a_request_during_a_load_that_is_refused_is_read_for_too(house: House) -> None:
    one = house.handover
    one.reload(1)
    one.reload(2)
    house.loaders[0].end(78, errors=b"config.toml: watch.intervall: no such key\nand\x1b more\n")
    with pytest.raises(RejectedError) as refused:
        one.reloaded()
    assert refused.value.lines == ["config.toml: watch.intervall: no such key", "and\\x1b more"]
    house.loaders[1].end(output=text(2.0))
    assert one.reloaded()


@pytest.mark.parametrize(("ends", "why"), [
    ({"timed_out": True, "status": None}, "took longer than 30 s and was ended"),
    ({"timed_out": True, "status": None, "errors": b"config.toml: a warning"}, "longer than 30 s"),
    ({"status": 1, "errors": b"Traceback:\n  x\nMemoryError\n"}, "status 1: MemoryError"),
    ({"cut": True, "output": b"{"}, "said more than is taken"),
])  # fmt: skip
def test_a_loader_that_does_not_answer_says_nothing_about_the_files(
    house: House, ends: dict[str, Any], why: str
) -> None:
    house.handover.reload(1)
    house.loaders[0].end(**ends)
    with pytest.raises(UnreadError, match=why):
        house.handover.reloaded()
    assert house.handover.rules == Rules()
    assert house.handover.read == 1


def test_one_that_cannot_be_started_is_said_and_the_next_request_is_read_for(house: House) -> None:
    house.full = True
    house.handover.reload(1)
    with pytest.raises(UnreadError, match="cannot be started: Cannot allocate memory"):
        house.handover.reloaded()
    house.full = False
    house.handover.reload(2)
    house.loaders[0].end(output=text(2.0))
    assert house.handover.reloaded()


def test_an_answer_that_the_guard_did_not_take_is_sent_again() -> None:
    sent: list[Any] = []
    nobody: Any = SimpleNamespace(on_time=lambda *_: None, asked=lambda: False, again=False)
    watcher: Any = SimpleNamespace(
        clock=SimpleNamespace(boottime=lambda: 50.0), kernel=nobody, people=nobody, store=nobody,
        keeping=nobody, next_beat=0.0,
        handover=SimpleNamespace(read=0), guard=SimpleNamespace(send=lambda *one: sent.append(one)),
    )  # fmt: skip
    Watcher._on_time(watcher)
    watcher.handover.read, watcher.next_beat = 7, 0.0
    Watcher._on_time(watcher)
    assert sent == [("beat", 50.0), ("beat", 50.0), ("reloaded", 7)]


def test_what_became_of_it_is_told_and_answered() -> None:
    said: list[tuple[str, list[str]]] = []
    sent: list[tuple[str, int]] = []

    def say(kind: str, because: Any, _body: Any) -> None:
        said.append((kind, list(because)))

    outcomes: list[Any] = [None, UnreadError("it hung"), UnreadError("it hung"),
                           RejectedError(["a: b"]), Rules()]  # fmt: skip

    def reloaded() -> Rules | None:
        one = outcomes.pop(0)
        if isinstance(one, Exception):
            raise one
        return one  # type: ignore[no-any-return]

    watcher: Any = SimpleNamespace(
        handover=SimpleNamespace(reloaded=reloaded, read=7), health=Health(say), _say=say,
        _changed=lambda _: say("watchdog.reloaded", [], {}),
        guard=SimpleNamespace(send=lambda *message: sent.append(message)),
    )  # fmt: skip
    while outcomes:
        Watcher._reloaded(watcher)
    unread = ("watchdog.degraded", ["the configuration was not read: it hung", FORMER])
    assert said == [
        unread, unread, ("watchdog.recovered", ["the configuration was read"]),
        ("watchdog.config_rejected", ["a: b", FORMER]), ("watchdog.reloaded", []),
    ]  # fmt: skip
    assert sent == [("reloaded", 7)] * 4

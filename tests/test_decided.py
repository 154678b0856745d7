"""What the watcher stores of what the policies remember, and with what."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from policy_world import MIB, T0, policy

from watchdog.clock import JumpClock
from watchdog.engine import Engine
from watchdog.facts import Order, Outcome, Sweep
from watchdog.keeping import Keeping
from watchdog.policy.rules import Rules, Selector, When
from watchdog.watcher import Watcher

CROWD = 60


class House:
    """An engine with one policy, and what stores what it decided."""

    def __init__(self, do: str) -> None:
        big = policy(when=When(resident_above=MIB), do=(do,), cooldown_s=0.0, budget=(99, 60.0))
        self.engine = Engine(Rules(policies=(big,), protect=Selector()), None)
        self.put: list[dict[str, str]] = []  # before a deed
        self.told: list[dict[str, str]] = []  # with what is told
        store: Any = SimpleNamespace(put_kept=self.put.append, flush=lambda _: True)
        nobody: Any = None
        self.keeping = Keeping(JumpClock(T0, 1000.0), store, self.engine, nobody)
        self.up = 1000.0

    def feed(self, fact: Any) -> list[Order]:
        out = self.engine.feed(fact)
        self.told += [kept] if (kept := self.keeping.decided(out)) else []
        return [one for one in out if isinstance(one, Order)]

    def sweep(self, crowd: int = CROWD) -> list[Order]:
        self.up += 10
        rows = ((pid, 5, "shop", 9 * MIB, 0, 0, f"{pid}.service", 0) for pid in range(7, 7 + crowd))
        return self.feed(Sweep(T0 + self.up, self.up, tuple(rows), True))

    def answer(self, order: Order, outcome: str) -> None:
        self.feed(Outcome(T0 + self.up, self.up, order.id, outcome, ""))

    def is_kept(self, kept: dict[str, str]) -> bool:
        found: bool = json.loads(kept["decider"]) == self.engine.decider.kept()
        return found


def test_what_a_crowd_is_told_is_kept_once() -> None:
    house = House("log")
    for order in house.sweep():
        house.answer(order, "done")
    assert len(house.told) == 1
    assert house.is_kept(house.told[0])
    house.sweep(CROWD + 1)
    (one,) = house.engine.pending.values()
    house.answer(one, "done")
    assert [house.is_kept(kept) for kept in house.told] == [False, True]


@pytest.mark.parametrize(("outcome", "more"), [("done", 0), ("gone", 0), ("failed", 1)])
def test_a_deed_is_kept_before_it_is_done_and_again_if_it_failed(outcome: str, more: int) -> None:
    house = House("kill")
    orders = house.sweep(3)
    assert len(house.put) == 1
    assert house.is_kept(house.put[0])
    assert [one.do for one in orders] == ["kill"] * 3
    house.answer(orders[0], outcome)
    for order in orders[1:]:
        house.answer(order, "done")
    assert len(house.told) == more
    if outcome == "gone":  # what the budget got back is kept with the next that is decided
        assert not house.is_kept(house.put[-1])
        house.sweep(4)
    assert house.is_kept((house.put + house.told)[-1])


def test_a_unit_is_noted_before_anything_is_decided_of_it() -> None:
    """Else one that was started anew since the sweep before would be refused as another."""
    seen: list[str] = []
    one, two = (Sweep(T0 + up, up, (), False) for up in (1000.0, 1010.0))
    watcher: Any = SimpleNamespace(
        senses=SimpleNamespace(due=lambda: iter([one, two])),
        deeds=SimpleNamespace(note=lambda sweep: seen.append(f"note {sweep.up:.0f}")),
        _feed=lambda sweep: seen.append(f"decide {sweep.up:.0f}"),
    )
    with pytest.raises(AttributeError, match="host"):  # what comes after the facts needs more
        Watcher._sense(watcher)
    assert seen == ["note 1000", "decide 1000", "note 1010", "decide 1010"]

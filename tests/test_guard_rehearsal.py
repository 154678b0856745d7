"""What is walked through before memory is locked: all of an incident but its end."""

import os
from pathlib import Path

import pytest
from guard_world import Clock, World

from watchdog.act import kill as killing
from watchdog.guard.rehearsal import rehearse
from watchdog.guard.spent import Spent
from watchdog.policy.guard_when import GuardRules, Mark


def test_an_incident_is_rehearsed_to_its_signal_and_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where memory is short indeed when the guard is started."""
    world = World(tmp_path)
    world.process(10, 300)
    world.available = 80
    world.files()
    sent: list[int] = []

    def send(_: int, sig: int) -> tuple[str, str]:
        sent.append(sig)
        return "done", "sent"

    monkeypatch.setattr(killing, "_send", send)
    monkeypatch.setattr(killing.os, "pidfd_open", lambda _: os.open("/dev/null", os.O_RDONLY))
    rehearse(world.eyes, GuardRules("enforce", Mark(0.10)), Clock(), None)
    assert sent == [0]
    assert world.told == []


def test_what_writes_the_budget_down_is_rehearsed_without_a_change(tmp_path: Path) -> None:
    path = tmp_path / "spent"
    Spent(str(path), "boot", 10.0, 1e9).spend((6, 3600.0), 11.0, 1e9)
    text = path.read_bytes()
    Spent(str(path), "another boot", 5.0, 1e9 + 60.0).rehearse()
    assert path.read_bytes() == text
    Spent(None, "boot", 10.0, 1e9).rehearse()

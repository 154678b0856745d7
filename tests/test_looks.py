"""Looks: what the engine asks to see, by real children, comes back as facts."""

import os
import sys
from pathlib import Path

import pytest

from watchdog import looks, procfs
from watchdog.child import Children
from watchdog.clock import RealClock
from watchdog.facts import CgroupKills, Look, Looked, Parts
from watchdog.looks import Looks


class Senses:
    """Counts without a hierarchy behind them."""

    def __init__(self, counts=None):
        self.counts = counts

    def count_kills(self):
        return self.counts


def program(tmp_path, name, text):
    """An executable that prints this."""
    path = tmp_path / name
    path.write_text(f"#!{sys.executable}\nimport sys\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def world(tmp_path):
    """Looks, and what they have fed; `until` turns until there is something."""
    clock, children, fed = RealClock(), Children(), []
    found = Looks(clock, children, Senses(), fed.append)

    def until(count=1, seconds=15.0):
        end = clock.boottime() + seconds
        while len(fed) < count and clock.boottime() < end:
            clock.wait(children.fds(), 0.05)
            children.turn(clock.boottime())
            found.over()
        return fed

    return found, until


def test_counts_come_as_an_ordinary_fact():
    fed = []
    counts = CgroupKills(1.0, 2.0, (("/a", 1, None),), whole=True)
    for there in (counts, None):
        Looks(RealClock(), Children(), Senses(there), fed.append).ask(Look("x", "counts", 0.0))
    assert fed == [counts]


def test_a_look_for_claims_asks_the_journal_and_the_service_manager(world, tmp_path, monkeypatch):
    systemctl = program(tmp_path, "systemctl", """
assert sys.argv[1:3] == ["show", "-p"] and sys.argv[4] == "--"
for unit in sys.argv[5:]:
    print(f"Id={unit}\\nResult=signal\\nExecMainPID=7\\nExecMainCode=2\\nExecMainStatus=9\\n")
""")  # fmt: skip
    monkeypatch.setattr(looks, "SYSTEMCTL", systemctl)
    found, until = world
    found.ask(Look("claims-1", "claims", 1.0, ("a.service", "b.service")))
    found.ask(Look("claims-2", "claims", 1.0))  # one at a time
    (answer,) = until()
    assert isinstance(answer, Looked) and answer.look_id == "claims-1"
    assert set(answer.units) == {"a.service", "b.service"}
    assert answer.units["a.service"]["ExecMainStatus"] == "9"
    found.ask(Look("claims-3", "claims", 1.0))
    assert until(2)[1].look_id == "claims-3"


def test_entries_are_read_and_a_torn_end_is_not(world, tmp_path, monkeypatch):
    python = program(tmp_path, "python", 'print(\'{"t": 1, "text": "a"}\\n5\\n\\n{"t":\')')
    monkeypatch.setattr(sys, "executable", python)
    found, until = world
    found.ask(Look("claims-1", "claims", 1.0))
    (answer,) = until()
    assert answer.entries == ({"t": 1, "text": "a"},) and answer.problem is None


@pytest.mark.parametrize(
    ("text", "says"),
    [("sys.exit('no\\x1b journal')", "no\\x1b journal"), ("sys.exit(3)", "exit"), (None, "such")],
)
def test_what_fails_is_said_in_the_answer(world, tmp_path, monkeypatch, text, says):
    python = program(tmp_path, "python", text) if text else str(tmp_path / "none")
    monkeypatch.setattr(sys, "executable", python)
    found, until = world
    found.ask(Look("claims-1", "claims", 1.0))
    (answer,) = until()
    assert answer.entries == () and says in (answer.problem or "").replace("status", "exit")


def own_start():
    return procfs.parse_stat(Path("/proc/self/stat").read_bytes()).start_ticks


def test_a_look_at_the_parts_of_a_process(world):
    found, until = world
    me = (os.getpid(), own_start())
    found.ask(Look("parts-1", "parts", 1.0, process=(me[0], me[1] + 1)))  # somebody else's number
    found.ask(Look("parts-2", "parts", 1.0, process=me))
    (answer,) = until()
    assert isinstance(answer, Parts) and answer.look_id == "parts-2"
    assert (answer.pid, answer.start) == me and answer.threads >= 1
    named = ("heap", "arenas", "stacks", "mappings", "files")
    assert all(getattr(answer, part) is not None for part in named)
    assert 0 < sum(getattr(answer, part) for part in named) <= answer.anon * 2
    assert not found.waiting and found.parts is None


def test_looks_at_parts_wait_in_a_short_line(world):
    found, until = world
    for number in range(20):
        found.ask(Look(f"parts-{number}", "parts", 1.0, process=(1 << 30, 1)))
    assert len(found.waiting) == looks.QUEUE_MAX and found.parts is not None
    found.ask(Look("claims-1", "claims", 1.0))  # and others do not wait behind them
    assert until()[0].look_id == "claims-1"

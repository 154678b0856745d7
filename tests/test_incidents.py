"""Evidence of the guard: what it decided and had seen, in a file once memory is well again."""

import json
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from watchdog import wire
from watchdog.act import evidence
from watchdog.engine import Engine
from watchdog.facts import Host, Sweep, Who
from watchdog.guard_line import GuardLine
from watchdog.incidents import DECISIONS_MAX, Incidents
from watchdog.policy.rules import Rules
from watchdog.sense.cgroups import Cgroups
from watchdog.sense.senses import Senses

MIB = 1 << 20
SHOP = "shop.service"
PID, START = 900_007, 50
BECAUSE = ("80.0 MiB available, below the mark of 102 MiB", "it grew")


class House:
    """A machine with one unit of one process, in folders; a guard that says what we say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.proc = folder / "proc"
        self.cg = folder / "cg" / "system.slice" / SHOP
        self.cg.mkdir(parents=True)
        (self.cg / "memory.stat").write_text(f"anon {300 * MIB}\nfile 0\n")
        (self.proc / str(PID)).mkdir(parents=True)
        self.lives(START)
        (self.proc / str(PID) / "status").write_text("Name:\tsh\x1bop\nVmRSS:\t307200 kB\n")
        (self.proc / "meminfo").write_text("MemTotal: 1048576 kB\nMemAvailable: 81920 kB\n")
        self.engine = Engine(Rules(), "box")
        self.engine.feed(Host(1e9, 1000.0, "boot"))
        self.engine.feed(Who(1e9, 1000.0, PID, START, ppid=1, uid=1000, exe="/usr/bin/shop",
                             cgroup=f"/system.slice/{SHOP}", cmdline="shop " * 200))  # fmt: skip
        row = (PID, START, "shop", 300 * MIB, 0, None, SHOP, None)
        self.engine.feed(Sweep(1e9, 1000.0, (row,), True))
        cgroups = Cgroups(str(folder))
        cgroups.base, cgroups.v2 = str(folder / "cg"), True
        self.seen = Incidents(
            self.engine, cgroups, lambda *named: evidence.write(str(folder), *named), str(self.proc)
        )

    def lives(self, start: int) -> None:
        fields = ["1", "1", "1", "0", "-1", *["0"] * 11, "1", "0", str(start)]
        text = f"{PID} (shop) S {' '.join(fields)} 0 0\n"
        (self.proc / str(PID) / "stat").write_text(text)

    def inputs(self, t: float) -> None:
        host = Host(t, 3.0, mem_total=1024 * MIB, mem_available=80 * MIB, shmem=9)
        self.seen.saw(host, ((PID, START, "shop", 290 * MIB, 0, None, SHOP, None),))

    def action(self, do: str, decided_t: float, incident: str = "host-1", **more: Any) -> None:
        body = {"pid": PID, "start": START, "comm": "shop", "unit": SHOP, "do": do,
                "mode": "enforce", "outcome": "done", "incident": incident,
                "decided_t": decided_t, "candidates": [{"rank": {"blame": 3}}], **more}  # fmt: skip
        self.seen.heard(decided_t + 0.5, "guard.action", f"{incident}-1", BECAUSE, body)

    def over(self, incident: str = "host-1", t: float = 1e9 + 60.0) -> None:
        self.seen.heard(t, "pressure.ended", incident, ("memory was short for 9 s",), {})

    def files(self) -> list[Path]:
        return sorted((self.folder / evidence.FOLDER).glob("*"))


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_what_a_decision_saw_is_written_once_memory_is_well(house: House) -> None:
    house.inputs(1e9 + 5.0)
    house.action("terminate", 1e9 + 5.0)
    house.action("kill", 1e9 + 5.0)
    assert house.files() == [], "nothing is written while memory is short"
    house.over()
    (path,) = house.files()
    assert path.name == "guard-1000000060-host-1.json"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = json.loads(path.read_text())
    assert found["incident"] == "host-1"
    assert found["because"] == ["memory was short for 9 s"]
    first, second = found["decisions"]
    assert (first["do"], first["outcome"], first["t"]) == ("terminate", "done", 1e9 + 5.5)
    assert first["because"] == list(BECAUSE)
    assert first["candidates"] == [{"rank": {"blame": 3}}]
    assert first["host"]["mem_available"] == 80 * MIB
    assert "swap_free" not in first["host"]
    assert first["read"] == [[PID, START, "shop", 290 * MIB, SHOP]]
    assert first["memory.stat"] == f"anon {300 * MIB}\nfile 0"
    assert first["status"] == "Name: sh\\x1bop\nVmRSS: 307200 kB"
    assert first["meminfo"].startswith("MemTotal: 1048576 kB")
    assert first["cmdline"] == ("shop " * 200)[: evidence.CMDLINE_MAX]
    assert "host" not in second, "one look, and two signals"
    house.over()
    assert len(house.files()) == 1


def test_only_who_was_meant_is_looked_at(house: House) -> None:
    house.inputs(1e9 + 4.0)  # what belongs to this decision got lost on the way
    house.lives(START + 1)
    house.action("terminate", 1e9 + 5.0)
    house.action("hold", 1e9 + 6.0, pid=None, start=None, unit=None)
    (house.cg / "memory.stat").unlink()
    house.action("terminate", 1e9 + 7.0, start=START + 1)
    house.action("kill-unit", 1e9 + 8.0)
    house.over()
    other, nobody, unknown, ended = json.loads(house.files()[0].read_text())["decisions"]
    assert not {"host", "read", "status"} & other.keys()
    assert other["cmdline"].startswith("shop shop")
    assert not {"status", "memory.stat", "cmdline"} & nobody.keys()
    assert "status" in unknown
    assert not {"memory.stat", "cmdline"} & unknown.keys()
    assert ended["memory.stat"] == ""


def test_it_is_bounded_and_no_incident_takes_what_belongs_to_another(
    house: House,
) -> None:
    house.over("host-0")
    assert house.files() == [], "nobody was taken"
    house.action("terminate", 1e9)
    for number in range(20):
        house.action("kill", 1e9 + number, incident="host-2")
    house.over("host-1")
    assert house.files() == [], "the guard was started anew in between"
    assert len(house.seen.decisions) == DECISIONS_MAX
    house.over("host-2")
    (path,) = house.files()
    path.unlink()
    many = [(PID, START, "x" * 15, MIB, 0, None, SHOP, None)] * 256
    for number in range(20):
        house.seen.saw(Host(1e9 + number, 3.0), many)
        house.action("kill", 1e9 + number, incident="host-4")
    house.over("host-4")
    assert len(json.loads(house.files()[0].read_text())["decisions"]) == DECISIONS_MAX


def test_what_the_guard_sends_gets_there() -> None:
    ours, guard = wire.pair()
    heard: list[tuple[Any, ...]] = []
    nobody: Any = None
    line = GuardLine(ours, nobody, Rules(), nobody, nobody, nobody, None, lambda _: None,
                     nobody, nobody, nobody)  # fmt: skip
    line.senses = type("Near", (), {"container": None, "own": Senses.own})()
    there: Any = SimpleNamespace(saw=lambda *a: heard.append(a), heard=lambda *a: heard.append(a))
    line.deeds = SimpleNamespace(incidents=there, left_down=lambda *_: None)  # type: ignore[assignment]
    row = (8, 80, "x", 5, 0, None, None, None)
    wire.send(guard, ("inputs", tuple(Host(5.0, 3.0)), [row]))
    report = (5.5, 3.0, "guard.action", "host-1-1", ("why",), {"outcome": "would"})
    wire.send(guard, ("report", *report))
    line.hear()
    assert heard == [
        (Host(5.0, 3.0), (row,)), (5.5, "guard.action", "host-1-1", ("why",), {"outcome": "would"}),
    ]  # fmt: skip
    os.close(ours)
    os.close(guard)

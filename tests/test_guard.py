"""The guard's decisions, on a made-up /proc and a clock that jumps: whom, when, and how often."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from watchdog.facts import Host
from watchdog.guard.incident import Budget, Incident, Scene
from watchdog.policy.guard_when import GuardRules, Mark, Pressure
from watchdog.sense.fast import Eyes

MIB = 1 << 20
TOTAL = 1024


class World:
    """A machine of 1 GiB in a folder; the guard's parts above it, and a killer that only notes."""

    def __init__(self, root: Path, mode: str = "observe", **rules: Any) -> None:
        self.root = root
        self.up = 1000.0
        self.mode = mode
        self.told: list[tuple[str, str, tuple[str, ...], dict[str, Any]]] = []
        self.signals: list[tuple[int, int]] = []
        self.answers: list[tuple[str, str]] = []
        (root / "pressure").mkdir()
        self.oom_kills, self.available = 0, 500
        self.files()
        self.eyes = Eyes(str(root))
        self.pressure = Pressure(GuardRules(mode, Mark(0.10), **rules))
        self.scene = Scene(self.eyes, self.pressure, lambda *said: self.told.append(said))
        self.scene.kill = self.kill
        self.incident: Incident | None = None

    def files(self) -> None:
        (self.root / "meminfo").write_text(
            f"MemTotal: {TOTAL * 1024} kB\nMemAvailable: {self.available * 1024} kB\n"
            "SwapTotal: 0 kB\nSwapFree: 0 kB\n"
        )
        (self.root / "pressure" / "memory").write_text(
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"
            "full avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"
        )
        (self.root / "vmstat").write_text(f"nr_free 1\npswpout 0\noom_kill {self.oom_kills}\n")

    def process(self, pid: int, mib: int, *, swap: int = 0, start: int = 500, uid: int = 1000,
                state: str = "S", flags: int = 0, threads: int = 1) -> None:  # fmt: skip
        folder = self.root / str(pid)
        folder.mkdir(exist_ok=True)
        pages = mib * MIB // os.sysconf("SC_PAGE_SIZE")
        fields = ["1", "1", "1", "0", "-1", str(flags), *["0"] * 10, str(threads), "0", str(start)]
        (folder / "stat").write_text(f"{pid} (p{pid}) {state} {' '.join(fields)} 0 0\n")
        (folder / "statm").write_text(f"{pages + 700} {pages + 500} 500 1 0 1 0\n")
        (folder / "status").write_text(
            f"Name:\tp{pid}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"
            f"RssAnon:\t{mib * 1024} kB\nVmSwap:\t{swap * 1024} kB\n"
        )
        (folder / "oom_score_adj").write_text("0\n")

    def gone(self, pid: int) -> None:
        for file in (self.root / str(pid)).iterdir():
            file.unlink()
        (self.root / str(pid)).rmdir()

    def kill(self, pid: int, start: int, sig: int, **asks: Callable[[], Any]) -> tuple[str, str]:
        answer = self.answers.pop(0) if self.answers else ("done", f"sent {sig}")
        if answer[0] == "ask":
            reason = asks["still_protected"]()
            answer = ("protected", reason) if reason else ("done", "sent")
            if not reason and not asks["still_needed"]():
                answer = ("changed", "memory has recovered in the meantime")
        if answer[0] == "done":
            self.signals.append((pid, sig))
        return answer

    def tick(self, available: int | None = None, seconds: float = 0.1) -> None:
        self.up = round(self.up + seconds, 3)
        self.available = self.available if available is None else available
        self.files()
        host, pswpout = self.eyes.host(1e9, self.up)
        change = self.pressure.step(host, self.up, pswpout)
        if change is not None:
            begun = change.kind == "begun"
            self.incident = Incident(self.scene, self.up, host, change.because) if begun else None
        if self.incident is not None:
            self.incident.step(host, self.up, self.mode)
        else:
            self.scene.glance(self.up, host, 5.0)

    def outcomes(self) -> list[tuple[int | None, str, str]]:
        return [(body["pid"], body["do"], body["outcome"]) for _, _, _, body in self.told]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A database of 480 MiB that has proven itself, and a leak that has not."""
    made = World(tmp_path)
    made.process(10, 480)
    made.process(11, 120)
    made.scene.take_dossier(1000.0, [
        (10, 500, "p10", "db.service", 480 * MIB, 0, 0.0, None, 0),
        (11, 500, "p11", "shop.service", 20 * MIB, 100 * MIB, 0.8, None, 0),
    ])  # fmt: skip
    return made


def enforcing(world: World) -> World:
    world.mode = "enforce"
    return world


def squeeze(world: World, available: int = 80) -> None:
    """Two looks of which the second is short of memory."""
    world.tick(105)
    world.process(11, 140)
    world.tick(available, 1.0)


def test_observing_it_names_the_leak_once_and_touches_nobody(world: World) -> None:
    squeeze(world)
    for _ in range(50):
        world.tick()
    assert world.signals == []
    assert world.outcomes() == [(11, "terminate", "would")]
    kind, identity, because, body = world.told[0]
    assert (kind, identity) == ("guard.action", "host-1001.100-1")
    assert because[0].startswith("80.0 MiB available, below the mark of")
    assert any("its leak is confirmed" in text for text in because)
    assert body["victim"] == body["target"]
    assert body["victim"]["unit"] == "shop.service"
    assert (body["uid"], body["start"], body["mode"]) == (1000, 500, "observe")
    assert [one["entity"]["pid"] for one in body["candidates"]] == [11, 10]
    assert body["candidates"][0]["rank"]["blame"] == 3
    assert body["candidates"][0]["because"]


def test_the_next_incident_is_a_new_one(world: World) -> None:
    squeeze(world)
    world.tick(600, 5.0)
    assert world.incident is None
    world.tick(105, 60.0)
    world.tick(80, 1.0)
    assert len(world.told) == 2
    assert len({identity for _, identity, _, _ in world.told}) == 2


def test_enforcing_it_decides_the_same(world: World) -> None:
    squeeze(enforcing(world))
    assert world.signals == [(11, signal.SIGTERM)]
    assert world.outcomes() == [(11, "terminate", "done")]
    assert world.told[0][3]["mode"] == "enforce"


def test_term_then_kill_by_time_then_it_waits_for_memory(world: World) -> None:
    squeeze(enforcing(world))
    for _ in range(28):
        world.tick()
    assert world.signals == [(11, signal.SIGTERM)]
    for _ in range(3):
        world.tick()
    assert world.signals == [(11, signal.SIGTERM), (11, signal.SIGKILL)]
    assert "it has not ended of SIGTERM" in world.told[1][2]
    world.gone(11)
    for _ in range(25):
        world.tick()
    assert len(world.signals) == 2, "memory has three seconds to come back"
    world.tick(600)
    assert world.incident is None


def test_kill_follows_at_once_where_memory_keeps_falling(world: World) -> None:
    squeeze(enforcing(world))
    world.tick(39)
    assert world.signals[-1] == (11, signal.SIGKILL)
    assert any("keeps falling" in text for text in world.told[-1][2])


def test_below_half_of_the_mark_there_is_no_time_for_term(world: World) -> None:
    squeeze(enforcing(world), 40)
    assert world.signals == [(11, signal.SIGKILL)]


def test_if_it_was_not_enough_the_next_one_is_taken(world: World) -> None:
    squeeze(enforcing(world))
    world.gone(11)
    world.process(12, 200, start=99_900)
    for _ in range(40):
        world.tick(seconds=0.1)
    assert [pid for pid, _ in world.signals] == [11, 12]


def test_one_that_does_not_die_of_sigkill_is_left_alone(world: World) -> None:
    squeeze(enforcing(world), 40)
    world.process(12, 100, start=99_900)
    for _ in range(60):
        world.tick()
    assert [pid for pid, _ in world.signals][:2] == [11, 12]


def test_a_number_that_was_given_away_is_not_followed(world: World) -> None:
    squeeze(enforcing(world))
    world.process(11, 140, start=100_000)
    for _ in range(35):
        world.tick()
    assert world.signals[0] == (11, signal.SIGTERM)
    assert (11, signal.SIGKILL) not in world.signals[:2]


def test_it_looks_again_right_before_the_signal(world: World) -> None:
    enforcing(world)
    world.answers = [("ask", "")]
    world.scene.before_signal = lambda: world.scene.take_dossier(
        1001.0, [(11, 500, "p11", None, 0, 0, 0.8, "protected since a moment", 0)]
    )
    squeeze(world)
    assert world.signals == []
    assert world.outcomes()[0] == (11, "terminate", "protected")
    assert world.told[0][2][-1] == "protected since a moment"


def test_a_kill_by_the_kernel_in_between_holds_it_back(world: World) -> None:
    enforcing(world)
    world.answers = [("ask", ""), ("ask", "")]

    def kernel_kills() -> None:
        world.oom_kills = 1
        world.files()

    world.scene.before_signal = kernel_kills
    squeeze(world)
    assert world.signals == []
    assert world.outcomes() == [(11, "terminate", "changed")]
    for _ in range(29):
        world.tick()
    assert world.signals == [], "after any kill memory has three seconds"
    for _ in range(3):
        world.tick()
    assert world.signals == [(11, signal.SIGTERM)]


def test_recovery_in_between_is_enough(world: World) -> None:
    enforcing(world)
    world.answers = [("ask", "")]

    def recover() -> None:
        world.available = 700
        world.files()

    world.scene.before_signal = recover
    squeeze(world)
    assert (world.signals, world.outcomes()) == ([], [(11, "terminate", "changed")])


def test_the_refused_are_not_asked_again(world: World) -> None:
    enforcing(world)
    world.answers = [("failed", "not permitted"), ("gone", "it ended"), ("done", "")]
    squeeze(world)
    for _ in range(45):
        world.tick()
    assert [pid for pid, _, _ in world.outcomes()[:3]] == [11, 10, 10]
    assert world.signals[0][0] == 10


def test_the_budget_ends_it(world: World) -> None:
    enforcing(world)
    world.pressure.rules = world.pressure.rules._replace(budget=(1, 3600.0))
    squeeze(world)
    world.gone(11)
    for _ in range(60):
        world.tick()
    assert world.told.pop()[0] == "watchdog.degraded"
    assert world.outcomes() == [(11, "terminate", "done"), (10, "terminate", "budget")]
    assert len(world.signals) == 1
    budget = Budget()
    budget.spend(0.0)
    assert not budget.left((1, 10.0), 9.9)
    assert budget.left((1, 10.0), 10.0)


def test_nobody_to_take_is_said_once(world: World) -> None:
    rows = [(pid, 500, "x", None, 0, 1, 0.0, "the configuration says so", 0) for pid in (10, 11)]
    world.scene.take_dossier(1000.0, rows)
    squeeze(world)
    for _ in range(30):
        world.tick()
    assert world.outcomes() == [(None, "hold", "would")]
    assert world.told[0][3]["victim"] is None
    assert any("2 protected" in text for text in world.told[0][2])


def test_a_loss_without_an_owner_is_held_until_half_of_the_mark(world: World) -> None:
    world.tick(500)
    world.tick(80, 1.0)
    assert world.outcomes() == [(None, "hold", "would")]
    for _ in range(15):
        world.tick(40)
    assert world.outcomes()[1:] == [(11, "kill", "would")]
    assert world.told[1][3]["candidates"][0]["rank"]["blame"] == 0


def test_a_plunge_is_looked_at_twice_before_anybody_is_blamed(world: World) -> None:
    world.scene.forget_looks()
    world.tick(80)
    assert world.told == []
    world.process(11, 200)
    for _ in range(3):
        world.tick(75)
    assert world.outcomes() == [(11, "terminate", "would")]


def test_without_a_watcher_it_judges_by_what_it_sees(world: World) -> None:
    world.scene.dossier.clear()
    world.scene.dossier_up = None
    world.tick(300)
    world.process(11, 340)
    world.tick(80, 1.0)
    assert world.outcomes() == [(11, "terminate", "would")]
    assert any("not been heard yet" in text for text in world.told[0][2])
    assert any("low confidence" in text for text in world.told[0][2])


def test_an_old_word_of_the_watcher_is_used_and_its_age_is_said(world: World) -> None:
    world.scene.dossier_up = 800.0
    squeeze(world)
    assert world.outcomes() == [(11, "terminate", "would")]
    assert any("3 min 21 s old" in text for text in world.told[0][2])


def test_kernel_threads_zombies_ourselves_and_the_vanished_are_no_candidates(world: World) -> None:
    world.process(20, 600, flags=0x00200000)
    world.process(21, 600, state="Z")
    world.process(os.getpid(), 600)
    world.process(22, 600)
    (world.root / "22" / "stat").unlink()
    (world.root / "22" / "status").unlink()
    world.process(23, 600)
    world.scene.ours = (23,)
    squeeze(world)
    assert world.outcomes() == [(11, "terminate", "would")]
    assert {one["entity"]["pid"] for one in world.told[0][3]["candidates"]} == {10, 11}


def test_a_process_whose_main_thread_has_exited_is_read_through_another(world: World) -> None:
    world.process(30, 0, state="Z", threads=3)
    (world.root / "30" / "task" / "31").mkdir(parents=True)
    (world.root / "30" / "task" / "30").mkdir()
    pages = 300 * MIB // os.sysconf("SC_PAGE_SIZE")
    (world.root / "30" / "task" / "31" / "statm").write_text(f"{pages} {pages} 0 1 0 1 0\n")
    (world.root / "30" / "task" / "31" / "status").write_text("VmSwap:\t1024 kB\n")
    seen = world.eyes.look(30)
    assert seen is not None
    assert seen.private == 301 * MIB
    assert world.eyes.start_of(30) == 500
    world.process(30, 0, state="Z", threads=1)
    assert world.eyes.look(30) is None
    assert world.eyes.start_of(30) is None


def test_swap_counts_as_held(world: World) -> None:
    world.process(12, 30, swap=200)
    seen = world.eyes.look(12)
    assert seen is not None
    assert (seen.private, seen.frees) == (230 * MIB, 230 * MIB)


def test_the_eyes_answer_none_for_what_is_not_told(tmp_path: Path) -> None:
    eyes = Eyes(str(tmp_path / "nowhere"))
    host, pswpout = eyes.host(1.0, 2.0)
    assert host == Host(1.0, 2.0)
    assert pswpout is None
    assert eyes.sizes() == {}
    assert eyes.look(1) is None
    assert eyes.resident(1) is None
    assert eyes.trigger is None
    eyes.close()
    assert Eyes().sizes()


def test_by_size_takes_the_biggest(tmp_path: Path) -> None:
    made = World(tmp_path, victim="size")
    made.process(10, 480)
    made.process(11, 120)
    squeeze(made)
    assert made.outcomes() == [(10, "terminate", "would")]


def test_ten_refusals_are_enough(world: World) -> None:
    enforcing(world)
    for pid in range(40, 60):
        world.process(pid, 100, start=600)
    world.answers = [("failed", "not permitted")] * 30
    squeeze(world)
    for _ in range(60):
        world.tick()
    assert len(world.told) == 10
    assert world.signals == []


def test_rules_that_only_observe_hold_back_the_second_signal_too(world: World) -> None:
    enforcing(world)
    squeeze(world)
    assert world.signals == [(11, signal.SIGTERM)]
    # A reload between SIGTERM and SIGKILL: the machine's lock is given back with it.
    world.scene.enforcing = lambda: False
    world.mode = "observe"
    world.answers = [("ask", "")]
    for _ in range(40):
        world.tick()
    assert world.signals == [(11, signal.SIGTERM)]
    assert (11, "kill", "protected") in world.outcomes()

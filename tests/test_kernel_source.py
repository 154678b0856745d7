"""The kernel log as one stream: each kill once, whichever source it came from and whoever died.

A model of a machine: what its kernel logged, a ring that holds the last of it, a journal that holds
all of it, and a daemon that is stopped, killed, rebooted and blinded at any time.
"""

import gc
import os
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from watchdog.child import Children
from watchdog.clock import JumpClock
from watchdog.engine import Engine
from watchdog.facts import Event, Fact, LogState, Tick
from watchdog.health import Health
from watchdog.kernel_ring import KernelRing
from watchdog.kernel_source import KernelSource
from watchdog.policy.rules import default_rules
from watchdog.sense import mark
from watchdog.sense.journal_reader import Gap, JournalReader, Message, Missed, Place, Said
from watchdog.sense.kernel_clock import KernelClock
from watchdog.sense.kernel_log import KernelLog, KernelLogError, Record
from watchdog.sense.mark import Mark

PLAIN = Path(__file__).parent / "fixtures" / "kmsg" / "memcg-plain.kmsg"
REPORT = [line.partition(";")[::2] for line in PLAIN.read_text("utf-8").splitlines()]
LATE_MOST_S = 180.0
BOOTS = [f"0000000{letter}-0000-0000-0000-000000000000" for letter in "abcd"]


class Machine:
    """`logged` is (boot, seq, usec, prio, text) of all; the ring holds the last of this boot."""

    def __init__(self, ring: int = 10_000) -> None:
        self.clock = JumpClock(up=1000.0)
        self.boot = 0
        self.boots = [0.0]  # our boottime at each boot
        self.logged: list[tuple[int, int, int, int, str]] = []
        self.ring = ring
        self.seq = 0
        self.behind = 0  # how many of the last journald does not have yet
        self.kept_from = 0  # what is older was vacuumed
        self.no_kmsg = self.no_journal = False
        self.pid = 5000
        self.kills: list[tuple[int, int]] = []  # boot, pid
        self.pending: list[tuple[int, str]] = []

    def mono(self) -> float:
        return self.clock.up - self.boots[-1]  # boottime() is rounded

    def log(self, prio: int, text: str) -> None:
        usec = round(self.mono() * 1e6)
        self.clock.jump(5e-6)
        self.logged.append((self.boot, self.seq, usec, prio, text))
        self.seq += 1

    def kill(self, lines: int = 1000) -> None:
        """The first lines of a report, or of what is left of one that has begun."""
        if not self.pending:
            self.pid += 1
            for head, text in REPORT:
                known = text.replace("5359", str(self.pid))
                self.pending.append((int(head.partition(",")[0]), known))
        for prio, text in self.pending[:lines]:
            self.log(prio, text)
        del self.pending[:lines]
        if not self.pending:
            self.kills.append((self.boot, self.pid))
        self.clock.jump(0.01)

    def reboot(self) -> None:
        self.boot += 1
        self.seq, self.pending = 0, []
        self.clock.jump(30)
        self.boots.append(self.clock.up - 1)
        self.log(5, "Linux version 6.18")

    def in_ring(self) -> list[tuple[int, int, int, int, str]]:
        return [one for one in self.logged if one[0] == self.boot][-self.ring :]


class Ring(KernelLog):
    """/dev/kmsg of a machine."""

    def __init__(self, machine: Machine, after_seq: int) -> None:
        self.machine, self.at, self.fd = machine, after_seq, -1
        self.read()
        self.at = after_seq

    def read(self) -> list[Record]:
        if self.machine.no_kmsg:
            raise KernelLogError("/dev/kmsg: permission denied")
        out = []
        for _, seq, usec, prio, text in self.machine.in_ring():
            if seq > self.at and len(out) < 512:
                lost = seq - self.at - 1 if self.at >= 0 else 0
                out.append(Record(seq, usec, prio, f"{prio},{seq},{usec},-;{text}", lost))
                self.at = seq
        return out

    def close(self) -> None:
        self.fd = -1


class Journal(JournalReader):
    """What the child would say, in pieces."""

    def __init__(self, machine: Machine, piece: int) -> None:
        self.machine, self.piece = machine, piece
        self.problem: str | None = None
        self.begun: list[str] = []
        self.at: int | None = None
        self._said: list[Said] = []
        self._until: int | None = None
        self._follows = False

    def _start(self, kind: str, deadline_s: float) -> None:  # type: ignore[override]
        self.begun.append(kind)
        self.at, self._said, self._until, self._follows = None, [], None, False
        self.problem = "the journal cannot be read: refused" if self.machine.no_journal else None

    def probe(self) -> None:
        self._start("probe", 0)
        self.at = len(self.machine.logged)

    def catch_up(self, after: Mark, until_usec: int | None) -> None:
        self._start("catch-up", 0)
        self._seek(after)
        self._until = until_usec

    def follow(self, after: Mark) -> None:
        self._start("follow", 0)
        self._follows = True
        self._seek(after)

    def _seek(self, after: Mark) -> None:
        m = self.machine
        if after.cursor is not None and int(after.cursor) >= m.kept_from:
            self.at = int(after.cursor) + 1
            self._said.append(Place(after.cursor))
            return
        boot = BOOTS.index(after.boot_id)
        there = [n for n in range(m.kept_from, len(m.logged)) if m.logged[n][0] == boot]
        if after.usec >= 0 and (not there or m.logged[there[0]][2] > after.usec):
            self._said.append(Gap(after.t, None))
        near = [n for n in there if m.logged[n][2] >= after.usec - 60_000_000]
        if after.usec < 0:
            near = [n for n in there if m.logged[n][2] >= after.mono * 1e6]
        later = [n for n in range(m.kept_from, len(m.logged)) if m.logged[n][0] > boot]
        self.at = min([*near, *later, len(m.logged)])

    @property
    def running(self) -> bool:
        return self.at is not None

    @property
    def out_fd(self) -> int:
        return -1

    def stop(self) -> None:
        self.at = None

    def take(self) -> list[Said]:
        m = self.machine
        if self.at is None or self.problem or self.begun[-1] == "probe":
            self.at = None
            return []
        # journald is behind this boot's log, and at the most three seconds where it is waited for;
        # systemd's watchdog ends one that is behind by minutes
        late = m.logged[-m.behind :] if m.behind and self._until is None else []
        end = len(m.logged) - sum(
            one[0] == m.boot and m.mono() - one[2] / 1e6 < LATE_MOST_S for one in late
        )
        out, self._said = self._said, []
        ended = False
        for number in range(self.at, min(end, self.at + self.piece)):
            boot, _, usec, prio, text = m.logged[number]
            self.at = number + 1
            t = round(m.clock.offset + m.boots[boot] + usec / 1e6, 3)
            out.append(Message(t, usec, BOOTS[boot], f"{prio},0,{usec},-;{text}",
                               str(number)))  # fmt: skip
            if self._until is not None and boot == m.boot and usec >= self._until:
                ended = True
                break
        if self.at >= end or ended:
            out.append(Place(str(self.at - 1) if self.at else None))
            if not self._follows:
                self.at = None
        return out


class Daemon:
    """The part of the watcher that matters here; `kept` and `told` are the store."""

    def __init__(self, machine: Machine, source: str = "auto", piece: int = 7) -> None:
        self.machine, self.how, self.piece = machine, source, piece
        self.kept: dict[str, str] = {}
        self.told: dict[str, Event] = {}
        self.said: list[Event] = []
        self.start()

    def start(self) -> None:
        m = self.machine
        self.engine = Engine(default_rules(), "host")
        self.engine.boot_id = BOOTS[m.boot]
        self.health = Health(self.say)
        self.journal = Journal(m, self.piece)
        self.source = KernelSource(
            self.how, Children(), self.kept, BOOTS[m.boot], self.health, self.say,
            ring=KernelRing(lambda seq: Ring(m, seq)), journal=self.journal,
            mono=m.mono,
        )  # fmt: skip
        self.source.prepare(m.clock)
        self.source.begin(m.clock)
        self.kept = {**self.kept, **self.source.cursors()}

    def say(self, kind: str, because: Any, body: dict[str, Any]) -> None:
        self.said.append(Event(kind, "", None, 0.0, None, None, None, tuple(because), body))

    def feed(self, fact: Fact) -> None:
        kept = self.source.cursors()
        for one in self.engine.feed(fact):
            assert isinstance(one, Event)
            self.told.setdefault(one.id, one)
            self.kept = {**self.kept, **kept}

    def turn(self) -> None:
        self.source.look(self.machine.clock)
        clock = self.machine.clock
        self.feed(LogState(clock.wall(), clock.boottime(), *self.source.state()))
        for fact in self.source.facts(self.machine.clock):
            self.feed(fact)
            self.source.settled(self.engine.idle)

    def live(self) -> None:
        """Turns until all is quiet, and the second after it."""
        state, before = (self.source.read, self.source.mode, self.journal.at), None
        while state != before:
            before = state
            self.turn()
            state = (self.source.read, self.source.mode, self.journal.at)
        self.machine.clock.jump(0.6)
        self.feed(Tick(self.machine.clock.wall(), self.machine.clock.boottime()))
        self.source.settled(self.engine.idle)

    def stop(self) -> None:
        for one in self.engine.settle():
            assert isinstance(one, Event)
            self.told.setdefault(one.id, one)
        self.source.settled(self.engine.idle)
        self.kept = {**self.kept, **self.source.cursors()}

    def pids(self) -> list[tuple[str | None, int | None]]:
        kills = [one for one in self.told.values() if one.kind == "oom.kill"]
        return [(one.boot_id, (one.body["victim"] or {}).get("pid")) for one in kills]

    def degraded(self) -> list[str]:
        return [one.body["what"] for one in self.said if one.kind == "watchdog.degraded"]


def expect(daemon: Daemon) -> None:
    """Each kill of the machine is told once, whole, and nothing else is."""
    want = sorted((BOOTS[boot], pid) for boot, pid in daemon.machine.kills)
    lost = [one for one in daemon.said if one.body.get("what") == "kernel_log_overrun"]
    if any("looking" not in one.because[0] for one in lost):
        # overrun again within seconds: what was lost is said, and stays lost
        found = daemon.pids()
        assert len(set(found)) == len(found)
        assert {one for one in found if one[1] is not None} <= set(want)
        return
    assert sorted(daemon.pids(), key=str) == sorted(want, key=str)
    for one in daemon.told.values():
        assert one.body["cgroup"] == "/oomtest-report-3177"
        assert one.body["invoker"]["comm"] == "leaker", one.because


ACTIONS = st.one_of(
    st.tuples(st.just("kill"), st.integers(1, 4)),
    st.tuples(st.just("lines"), st.integers(1, 60)),
    st.tuples(st.just("noise"), st.integers(1, 300)),
    st.tuples(st.just("wait"), st.sampled_from([0, 1, 61, 4000])),
    st.tuples(st.sampled_from(["turn", "live", "restart", "crash", "stop", "no kmsg", "kmsg",
                               "lag"]), st.just(0)),
    st.tuples(st.just("reboot"), st.just(0)),
)  # fmt: skip


@example([("kill", 1), ("wait", 61), ("lag", 0), ("live", 0)], 120, 1, True)
@example([("kill", 1), ("lag", 0), ("live", 0), ("wait", 61), ("live", 0)], 120, 1, True)
@given(st.lists(ACTIONS, max_size=14), st.sampled_from([120, 400, 10_000]), st.integers(1, 90),
       st.booleans())  # fmt: skip
def test_each_kill_is_told_once_whatever_happens(
    actions: list[tuple[str, int]], ring: int, piece: int, blind: bool
) -> None:
    machine = Machine(ring)
    machine.no_kmsg = blind
    machine.log(5, "Linux version 6.18")
    daemon = Daemon(machine, piece=piece)
    down = False
    for what, number in actions:
        if what == "kill":
            for _ in range(number):
                machine.kill()
        elif what == "lines":
            machine.kill(number)
        elif what == "noise":
            for at in range(number):
                machine.log(6, f"usb 1-1: line {at}")
        elif what == "wait":
            if machine.pending:
                machine.kill()  # a report that takes so long is cut off
            machine.clock.jump(number)
        elif what in ("no kmsg", "kmsg"):
            machine.no_kmsg = what == "no kmsg"
        elif what == "reboot" and machine.boot < len(BOOTS) - 1:
            if machine.pending:
                machine.kill()  # a report that a power cut ends is another test
            machine.reboot()
            down = True
        elif what == "lag":
            machine.behind = 0 if machine.behind else 5
        elif what in ("restart", "crash", "stop"):
            if what != "crash" and not down:
                daemon.stop()
            down = True
            if what == "stop":
                continue
        elif not down:
            daemon.turn() if what == "turn" else daemon.live()
        if down and what not in ("kill", "lines", "noise", "wait"):
            machine.behind = 0
            daemon.start()
            down = False
    machine.behind = 0
    if machine.pending:
        machine.kill()
    machine.clock.jump(0 if down else 1)
    if down:
        daemon.start()
    daemon.live()
    machine.clock.jump(61)
    daemon.live()
    event(f"{len(machine.kills)} kills")
    expect(daemon)


@pytest.mark.parametrize("no_kmsg", [False, True])
def test_a_kill_while_the_daemon_starts_is_told(no_kmsg: bool) -> None:
    """The kernel's counter is read for the first time after the place in the log is noted, and a
    census lies in between: what is logged meanwhile is counted, so it has to be told."""
    machine = Machine()
    machine.kill()
    machine.kills.clear()  # before anybody asked
    machine.no_kmsg = no_kmsg
    machine.clock.jump(60)

    class Starts(Daemon):
        def start(self) -> None:
            def begin(clock: Any) -> None:
                machine.clock.jump(0.5)
                machine.kill()
                KernelSource.begin(self.source, clock)

            original = KernelSource.prepare

            def prepared(source: KernelSource, clock: Any) -> None:
                original(source, clock)
                source.begin = begin  # type: ignore[method-assign]

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(KernelSource, "prepare", prepared)
                super().start()

    daemon = Starts(machine)
    daemon.live()
    assert len(machine.kills) == 1
    expect(daemon)


def test_only_what_came_before_we_looked_is_dated_by_the_kernels_clock() -> None:
    now = 1000.0
    clock = KernelClock(lambda: now)
    assert clock.ago(400_000_000) == 600.0  # in the ring when we looked
    assert clock.ago(999_500_000) == 0.5
    clock.live()
    now = 5000.0
    assert 0.0 <= clock.ago(4_999_000_000) <= 0.5  # the clocks may have parted meanwhile
    now = 9000.0  # stopped for an hour: what came meanwhile is as old as it is
    assert clock.ago(5_400_000_000) == pytest.approx(3599.5, abs=3)
    now = 1_000_000.0  # a clock that drifts, slowly
    for second in range(100):
        now = 1_000_000.0 + 3600 * second
        assert clock.ago(round((now - 1e-6 * (now - 5000.0) - 0.5) * 1e6)) < 1.0


def test_marks_are_kept_as_text() -> None:
    found = Mark("boot", 1.5, 2.5, 3, 4, 5, "s=1;i=2")
    assert mark.load(found.text()) == found
    for text in (None, "", "{}", "[1]", "[]", "x", '["b", "t", 1]', "[1,2,3,4,5,6,7,8]"):
        assert mark.load(text) is None


def test_what_is_said_of_sources_that_come_and_go() -> None:
    machine = Machine()
    machine.no_kmsg = machine.no_journal = True
    daemon = Daemon(machine)
    daemon.live()
    assert daemon.source.state()[0] == "off"
    assert daemon.degraded() == ["kernel_log", "journal"]
    assert "the journal is read instead" in daemon.said[0].because
    machine.kill()
    for _ in range(3):  # said once
        machine.clock.jump(61)
        daemon.live()
    machine.no_journal = False
    machine.clock.jump(61)
    daemon.live()
    assert daemon.source.state() == ("late", "")
    expect(daemon)  # what was logged while both were gone is in the journal
    machine.no_kmsg = False
    machine.clock.jump(61)
    daemon.live()
    recovered = [one.body["what"] for one in daemon.said if one.kind == "watchdog.recovered"]
    assert sorted(recovered) == ["journal", "kernel_log"]
    assert daemon.degraded() == ["kernel_log", "journal"]
    assert daemon.source.mode == "ring"
    machine.no_kmsg = True  # refused while it runs
    machine.kill()
    daemon.live()
    machine.kill()
    daemon.live()
    assert daemon.source.mode == "journal" and daemon.degraded()[-1] == "kernel_log"
    expect(daemon)


@pytest.mark.parametrize("source", ["kmsg", "journal", "off"])
def test_a_source_that_is_not_wanted_is_not_touched(source: str) -> None:
    machine = Machine()
    daemon = Daemon(machine, source)
    machine.kill()
    daemon.live()
    assert daemon.degraded() == []
    assert daemon.source.mode == {"kmsg": "ring", "journal": "journal", "off": "off"}[source]
    assert (daemon.journal.begun == []) == (source != "journal")
    assert daemon.source.state()[0] == {"kmsg": "live", "journal": "late", "off": "off"}[source]
    assert len(daemon.pids()) == (source != "off")
    machine.no_kmsg = True
    daemon.stop()
    daemon.start()
    machine.kill()
    daemon.live()
    assert daemon.degraded() == (["kernel_log"] if source == "kmsg" else [])
    assert daemon.source.state()[0] == ("late" if source == "journal" else "off")


def test_an_overrun_is_said_and_looked_for_in_the_journal() -> None:
    machine = Machine(ring=50)
    daemon = Daemon(machine)
    machine.log(6, "x")
    daemon.live()
    machine.kill()  # twice the ring
    daemon.live()
    (said,) = [one for one in daemon.said if one.kind == "watchdog.degraded"]
    assert said.body == {"what": "kernel_log_overrun", "lost": 48}
    assert said.because == (
        "the kernel log overran: 48 records lost, looking for them in the journal",
    )
    expect(daemon)
    alone = Daemon(Machine(ring=50), "kmsg")
    alone.machine.log(6, "x")
    alone.live()
    alone.machine.kill()
    alone.live()
    assert alone.said[0].because == ("the kernel log overran: 48 records lost",)
    assert alone.pids() == [(BOOTS[0], 5001)]  # of its last lines


def test_what_neither_holds_any_more_is_said() -> None:
    machine = Machine()
    machine.log(6, "x")
    daemon = Daemon(machine)
    daemon.live()
    daemon.stop()
    machine.kill()
    machine.reboot()
    machine.kept_from = len(machine.logged) - 1
    daemon.start()
    daemon.live()
    (said,) = [one for one in daemon.said if one.kind == "watchdog.degraded"]
    assert said.body["what"] == "kernel_log_gap"
    assert "OOM kills of that time may be missing" in said.because


def test_journald_may_have_missed_some_itself() -> None:
    machine = Machine()
    machine.no_kmsg = True
    daemon = Daemon(machine)
    daemon.journal._said.append(Missed(12))
    daemon.live()
    assert "journald missed 12 records of the kernel" in daemon.said[-1].because


def test_one_storm_through_either_source_is_the_same_events() -> None:
    """And through both, one after the other: the store, which knows an id once, has no more."""
    machine = Machine()
    first = Daemon(machine)
    for _ in range(5):
        machine.kill()
    first.live()
    machine.no_kmsg = True
    second = Daemon(machine)
    second.kept = {"kernel_log": Mark(BOOTS[0], machine.clock.wall(), 0.0, 0).text()}
    second.start()
    second.live()
    assert list(first.told) == list(second.told)
    for one, other in zip(first.told.values(), second.told.values(), strict=True):
        assert (one.body, one.boot_id) == (other.body, other.boot_id)
    expect(second)
    before = dict(first.told)
    first.kept = {"kernel_log": Mark(BOOTS[0], machine.clock.wall(), 0.0, 0).text()}
    first.start()  # all of it again, from the other source
    first.live()
    assert first.told == before


def test_memory_stays_flat() -> None:
    """50,000 lines and 1,000 reports leave nothing behind but what is meant to be remembered."""
    machine = Machine()
    daemon = Daemon(machine)
    short = [one for one in REPORT if re.search("invoked|memory: us|pid  \\]|5359", one[1])]

    def storm(reports: int) -> None:
        for number in range(reports):
            machine.pid += 1
            for at in range(50):
                machine.log(6, f"usb 1-1: line {number} {at}")
            for head, text in short:
                known = text.replace("5359", str(machine.pid))
                machine.log(int(head.partition(",")[0]), known)
            daemon.live()
            machine.logged.clear()
            assert len(daemon.told) == 1
            daemon.told.clear()

    storm(100)
    descriptors = len(os.listdir("/proc/self/fd"))
    tracemalloc.start()
    storm(50)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    storm(850)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 1 << 20, grown
    assert len(os.listdir("/proc/self/fd")) == descriptors

"""The kernel log as one stream: each kill once, whichever source it came from and whoever died.

A model of a machine: what its kernel logged, a ring that holds the last of it, a journal that holds
all of it, and a daemon that is stopped, killed, rebooted and blinded at any time.
"""

from pathlib import Path
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from watchdog.child import Children
from watchdog.clock import JumpClock
from watchdog.engine import Engine
from watchdog.facts import Event, Fact, Tick
from watchdog.health import Health
from watchdog.kernel_ring import KernelRing
from watchdog.kernel_source import KernelSource
from watchdog.policy.rules import default_rules
from watchdog.sense.journal_reader import Gap, JournalReader, Message, Place, Said
from watchdog.sense.kernel_log import KernelLog, KernelLogError, Record
from watchdog.sense.mark import Mark

PLAIN = Path(__file__).parent / "fixtures" / "kmsg" / "memcg-plain.kmsg"
REPORT = [line.partition(";")[::2] for line in PLAIN.read_text("utf-8").splitlines()]
BOOTS = [f"0000000{letter}-0000-0000-0000-000000000000" for letter in "abcd"]


class Machine:
    """`logged` is (boot, seq, usec, prio, text) of all; the ring holds the last of this boot."""

    def __init__(self, ring: int = 10_000) -> None:
        self.clock = JumpClock(up=1000.0)
        self.boot = 0
        self.booted = 0.0  # our boottime at this boot
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
        return self.clock.up - self.booted  # boottime() is rounded

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
        self.booted = self.clock.up - 1
        self.log(5, "Linux version 6.18")

    def in_ring(self) -> list[tuple[int, int, int, int, str]]:
        return [one for one in self.logged if one[0] == self.boot][-self.ring :]

    def in_journal(self) -> list[tuple[int, int, int, int, str]]:
        return self.logged[self.kept_from : len(self.logged) - self.behind]


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

    def follow(self, after: Mark | None) -> None:
        self._start("follow", 0)
        self._follows = True
        if after is None:
            self.at = len(self.machine.logged)
        else:
            self._seek(after)

    def _seek(self, after: Mark) -> None:
        m = self.machine
        if after.cursor is not None and int(after.cursor) >= m.kept_from:
            self.at = int(after.cursor) + 1
            self._said.append(Place(after.cursor))
            return
        boot = BOOTS.index(after.boot_id)
        there = [n for n in range(m.kept_from, len(m.logged)) if m.logged[n][0] == boot]
        if not there or m.logged[there[0]][2] > after.usec:
            self._said.append(Gap(after.t, None))
        near = [n for n in there if m.logged[n][2] >= after.usec - 60_000_000]
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
        # journald is behind this boot's log, and at the most three seconds where it is waited for
        first = next(n for n, one in enumerate(m.logged) if one[0] == m.boot)
        end = len(m.logged) - (0 if self._until else m.behind)
        end = max(end, first)
        out, self._said = self._said, []
        ended = False
        for number in range(self.at, min(end, self.at + self.piece)):
            boot, _, usec, prio, text = m.logged[number]
            self.at = number + 1
            out.append(Message(m.clock.wall(), usec, BOOTS[boot], f"{prio},0,{usec},-;{text}",
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

"""Laws of the guard, over any sequence of readings, words of the watcher, deaths and reloads."""

import signal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog.facts import DossierRow, Host
from watchdog.guard.incident import Incident
from watchdog.guard.scene import Scene
from watchdog.policy.guard_when import GuardRules, Mark, Pressure
from watchdog.sense.fast import Reading

MIB, TOTAL = 1 << 20, 1024
MARK, NEAR = 0.05 * TOTAL, 0.20 * TOTAL
STALL_S = 33.0  # the window of 2 s, and the longest tick before it
PIDS = range(2, 9)
BUDGET = (2, 600.0)


class Machine:
    """A guard over a machine that lives in these fields; the killer does what act/kill does."""

    root = ""

    def __init__(self, mode: str) -> None:
        self.up, self.mode = 1000.0, mode
        self.available, self.full_us, self.oom_kill, self.shmem = 900, 0, 0, 0
        self.swap, self.slab = (0, 0), 30  # of the first: in all, and free
        self.proven = 40  # each unit
        self.sizes_of = dict.fromkeys(PIDS[1:], 20)  # PID 2 may be born
        self.starts = dict.fromkeys(PIDS, 500)
        self.protected: dict[int, str] = {}
        self.deaf: set[int] = set()  # they do not die of SIGTERM
        self.pressure = Pressure(GuardRules(mode, Mark(0.05), budget=BUDGET))
        self.told: list[tuple[float, dict[str, Any]]] = []
        self.signals: list[tuple[float, int, int, bool]] = []  # when, whom, what, short then
        self.struck: list[float] = []  # up of each first signal
        self.scene = Scene(self, self.pressure, self.tell)  # type: ignore[arg-type]
        self.scene.kill, self.scene.kill_unit = self.kill, self.kill_unit
        self.scene.shield = lambda pid: "never" if pid <= 2 else None
        self.scene.enforcing = lambda: self.mode == "enforce"
        self.incident: Incident | None = None
        self.stalls: list[tuple[float, int]] = []  # psi_full_us at each tick
        self.asked: set[tuple[int, int]] = set()  # they were sent SIGTERM

    # what guard/scene.py reads

    def host(self, t: float, up: float) -> tuple[Host, int | None]:
        return Host(
            t, up, mem_total=TOTAL * MIB, mem_available=self.available * MIB,
            swap_total=self.swap[0] * MIB, swap_free=self.swap[1] * MIB, psi_full_us=self.full_us,
            oom_kill=self.oom_kill, shmem=self.shmem * MIB, slab=self.slab * MIB,
        ), 0  # fmt: skip

    def sizes(self) -> dict[int, int]:
        return {pid: size * MIB for pid, size in self.sizes_of.items()}

    def look(self, pid: int) -> Reading | None:
        if pid not in self.sizes_of:
            return None
        size = self.sizes_of[pid] * MIB
        return Reading(pid, self.starts[pid], f"p{pid}", 1000, size, size, 1)

    def start_of(self, pid: int) -> int | None:
        return self.starts[pid] if pid in self.sizes_of else None

    # what it does

    def tell(self, kind: str, _: str, because: tuple[str, ...], body: dict[str, Any]) -> None:
        assert because
        if kind == "guard.action":
            self.told.append((self.up, {**body, "protected": dict(self.protected)}))

    def kill(self, pid: int, start: int, sig: int, **asks: Any) -> tuple[str, str]:
        if self.start_of(pid) != start:
            return "gone", "it ended"
        reason = asks["still_protected"]()
        if reason:
            return "protected", reason
        if not asks["still_needed"]():
            return "changed", "memory has recovered"
        self.signals.append((self.up, pid, sig, self.short()))
        if sig == signal.SIGTERM or (pid, start) not in self.asked:
            self.struck.append(self.up)
        if sig == signal.SIGTERM:
            self.asked.add((pid, start))
        if sig == signal.SIGKILL or pid not in self.deaf:
            self.sizes_of.pop(pid)
        return "done", "sent"

    def short(self) -> bool:
        """Below the mark, or near it and stalled for a fifth of the last seconds: a stall begins at
        twice that, and has ended below it.
        """
        recent = [(self.up - up, self.full_us - full) for up, full in self.stalls
                  if 2.0 <= self.up - up <= STALL_S]  # fmt: skip
        stalled = any(full / 1e6 / seconds >= 0.2 for seconds, full in recent)
        return self.available < MARK or (self.available < NEAR and stalled)

    def kill_unit(self, folder: str, inode: int, **asks: Any) -> tuple[str, str]:
        found = [pid for pid in self.sizes_of if pid % 2 == inode]
        for pid in found:
            reason = asks["still_protected"](pid, self.starts[pid])
            if reason or pid <= 2:
                return "protected", reason or "never"
        if not asks["still_needed"]():
            return "changed", "memory has recovered"
        self.struck.append(self.up)
        for pid in found:
            self.signals.append((self.up, pid, signal.SIGKILL, self.short()))
            self.sizes_of.pop(pid)
        return "done", "sent"

    def word(self, leak: float, shared: int) -> None:
        """The watcher's: odd ones are one unit, even ones another."""
        rows: list[DossierRow] = [
            (pid, self.starts[pid], f"p{pid}", f"u{pid % 2}.service", 10 * MIB, 0,
             leak if pid == 4 else 0.0, self.protected.get(pid), pid % 3 - 1,
             f"u{pid % 2}.service", self.proven * MIB, 0.0, 1000, shared * MIB if pid == 5 else 0,
             30 * MIB, 10 * MIB, 0)
            for pid in self.sizes_of
        ]  # fmt: skip
        units = {f"u{n}.service": (f"/u{n}", n, None) for n in (0, 1)}
        self.scene.take_dossier(self.up, rows, units, self.shmem * MIB)

    def tick(self, seconds: float) -> None:
        self.up = round(self.up + seconds, 3)
        host, pswpout = self.host(1e9 + self.up, self.up)
        self.stalls.append((self.up, self.full_us))
        change = self.pressure.step(host, self.up, pswpout)
        if change is not None:
            begun = change.kind == "begun"
            self.incident = Incident(self.scene, self.up, host, change.because) if begun else None
            if not begun:
                self.scene.forget_looks()
        if self.incident is not None:
            self.incident.step(host, self.up, self.mode)
        elif self.available < NEAR:
            self.scene.glance(self.up, host, 5.0)
        else:
            self.scene.forget_looks()


LEVELS = st.sampled_from([900, 400, 210, 150, 90, 60, 50, 45, 30, 20, 5])
STEPS = st.lists(st.one_of(
    st.tuples(st.just("tick"), st.sampled_from([0.1, 0.25, 1.0, 3.0, 30.0]), LEVELS),
    st.tuples(st.just("ticks"), st.integers(1, 40), st.just(0)),
    st.tuples(st.just("grow"), st.sampled_from(PIDS), st.integers(0, 400)),
    st.tuples(st.just("born"), st.sampled_from(PIDS), st.integers(0, 400)),
    st.tuples(st.just("protect"), st.sampled_from(PIDS), st.booleans()),
    st.tuples(st.just("word"), st.sampled_from([0.0, 0.9]), st.sampled_from([0, 0, 100])),
    st.tuples(st.just("deaf"), st.sampled_from(PIDS), st.just(0)),
    st.tuples(st.just("kernel kills"), st.just(0), st.just(0)),
    st.tuples(st.just("stall"), st.integers(0, 100), st.just(0)),
    st.tuples(st.just("mode"), st.sampled_from(["observe", "enforce"]), st.just(0)),
    st.tuples(st.just("shmem"), st.integers(0, 400), st.just(0)),
    st.tuples(st.just("swap"), st.integers(0, 400), st.just(0)),
    st.tuples(st.just("slab"), st.integers(0, 400), st.just(0)),
), max_size=40)  # fmt: skip


def live(steps: list[tuple[str, Any, Any]], mode: str, *, calm: bool = False) -> Machine:
    """`calm`: memory never comes near the mark, whatever else happens."""
    made = Machine(mode)
    made.word(0.0, 0)
    for what, one, two in steps:
        if what == "tick":
            made.available = max(two, int(NEAR) + 1) if calm else two
            made.tick(one)
        elif what == "ticks":
            for _ in range(one):
                made.tick(0.1)
        elif what == "grow" and one in made.sizes_of:
            made.sizes_of[one] = two
        elif what == "born":
            made.sizes_of[one], made.starts[one] = two, int(made.up * 100)
            made.protected = {pid: why for pid, why in made.protected.items() if pid != one}
        elif what == "protect":
            made.protected = {**made.protected, one: "it is said"}
            if not two:
                del made.protected[one]
            made.word(0.0, 0)
        elif what == "word":
            made.word(one, two)
        elif what == "deaf":
            made.deaf.add(one)
        elif what == "kernel kills":
            made.oom_kill += 1
        elif what == "stall":
            made.full_us += one * 100_000
        elif what == "mode":
            made.mode = one
        elif what == "shmem":
            made.shmem = one
        elif what == "swap":
            made.swap = (400, one)
        elif what == "slab":
            made.slab = one
    return made


@given(STEPS, st.sampled_from(["observe", "enforce"]))
@settings(max_examples=150, deadline=None)
def test_while_the_machine_is_calm_nothing_is_ordered(
    steps: list[tuple[str, Any, Any]], mode: str
) -> None:
    made = live(steps, mode, calm=True)
    assert made.told == []
    assert made.signals == []


@given(STEPS, st.sampled_from(["observe", "enforce"]))
@settings(max_examples=250, deadline=None)
def test_laws(steps: list[tuple[str, Any, Any]], mode: str) -> None:
    made = live(steps, mode)
    # Nobody is signalled unless memory is short at that moment, and never PID 1 and 2.
    assert all(short for _, _, _, short in made.signals)
    assert all(pid > 2 for _, pid, _, _ in made.signals)
    for up, body in made.told:
        assert body["outcome"] in (
            "would", "done", "failed", "budget", "gone", "changed", "protected"
        )  # fmt: skip
        # Nothing protected is ever ordered killed, whatever comes of the order.
        if body["outcome"] in ("done", "would"):
            assert body["pid"] not in body["protected"], (up, body)
        assert body["mode"] == "enforce" or body["outcome"] != "done"
    # In any span of the budget there are no more blows than it grants; SIGTERM and then SIGKILL to
    # the same process are one.
    for at in made.struck:
        assert sum(at <= other < at + BUDGET[1] for other in made.struck) <= BUDGET[0]
    if mode == "observe" and not any(what == "mode" for what, _, _ in steps):
        assert made.signals == []


@given(STEPS)
@settings(max_examples=100, deadline=None)
def test_the_first_decision_of_an_incident_is_the_same_in_both_modes(
    steps: list[tuple[str, Any, Any]],
) -> None:
    steps = [step for step in steps if step[0] != "mode"]
    first = []
    for mode in ("observe", "enforce"):
        told = live(steps, mode).told
        first.append(told[0] if told else None)
    if first[0] is None or first[1] is None:
        assert first[0] is first[1] is None
        return
    (up, one), (other_up, other) = first
    assert up == other_up
    for body in (one, other):
        assert body.pop("mode")
        assert body.pop("outcome")
    assert one == other


class Kernel(Machine):
    """From near the mark on the kernel alone takes memory; the healthy swap, and rise as others
    fall, and the kernel kills at limits of their own. Or they hold more than they have proven, and
    only give their place to others.
    """

    def __init__(self, named: bool, proven: int) -> None:
        super().__init__("enforce")
        self.named = named  # in its slab, or nowhere
        self.sizes_of = dict.fromkeys(PIDS[1:], 60)
        self.swapped = dict.fromkeys(PIDS[1:], 10)
        self.proven = proven
        self.took, self.deep = 0, False  # less than half of the mark was left
        self.word(0.0, 0)
        self.tick(0.1)

    def look(self, pid: int) -> Reading | None:
        seen = super().look(pid)
        return seen and seen._replace(private=seen.private + self.swapped[pid] * MIB)

    def tick(self, seconds: float) -> None:
        self.swap = (400, 400 - sum(self.swapped.values()))
        self.available = 195 + 6 * 60 - sum(self.sizes_of.values()) - self.took
        self.slab = 30 + self.took if self.named else 30
        self.deep = self.deep or self.available * 2 < MARK
        super().tick(seconds)

    def push(self, pid: int, size: int) -> None:
        """Out to swap, but memory stays near the mark, and does not recover once it was short;
        less than nothing: back in.
        """
        most = NEAR if self.incident is None else self.pressure.end_bytes / MIB
        size = min(self.sizes_of[pid] - 2, int(most) - 1 - self.available, size)
        size = max(-self.swapped[pid], size)
        self.sizes_of[pid] -= size
        self.swapped[pid] += size
        self.tick(0.1)

    def recycle(self, pid: int) -> None:
        """It ends, and another one of its unit comes that holds as much; or the other way round."""
        old, new = (pid, pid + 10) if pid in self.sizes_of else (pid + 10, pid)
        self.sizes_of[new], self.swapped[new] = self.sizes_of.pop(old), self.swapped.pop(old)
        self.starts[new] = int(self.up * 100)
        self.word(0.0, 0)
        self.tick(0.1)


HEALTHY = st.lists(st.one_of(
    st.tuples(st.just("push"), st.sampled_from(PIDS[1:]), st.integers(-60, 60)),
    st.tuples(st.just("wave"), st.sampled_from(PIDS[1:]), st.integers(0, 60)),
    st.tuples(st.just("recycle"), st.sampled_from(PIDS[1:]), st.just(0)),
    st.tuples(st.just("kill"), st.just(0), st.just(0)),
    st.tuples(st.just("take"), st.integers(0, 4), st.integers(1, 60)),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 0.3, 1.0, 9.0]), st.integers(3, 60)),
), min_size=8, max_size=40)  # fmt: skip


@given(HEALTHY, st.integers(140, 160), st.integers(1, 60), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_what_the_kernel_takes_costs_nobody_his_life_above_half_of_the_mark(
    steps: list[tuple[str, Any, int]], size: int, tenths: int, named: bool, healthy: bool
) -> None:
    made = Kernel(named, 600 if healthy else 40)
    for what, one, two in [("take", size, tenths), *steps]:
        if what == "push" and healthy:
            made.push(one, two)
        elif what == "recycle" and not healthy:
            made.recycle(one)
        elif what == "wave" and named and healthy:
            other = 3 + (one - 2) % 6
            wave = min(two, made.sizes_of[other] - 2)
            made.sizes_of[one] += wave
            made.sizes_of[other] -= wave
        elif what == "kill":
            made.oom_kill += 1
        elif what == "take":
            before = made.took
            for tenth in range(two):
                made.took = before + one * (tenth + 1) // two
                made.tick(0.1)
        elif what == "wait":
            for _ in range(two):
                made.tick(one)
        made.tick(0.1)
        if made.deep:
            return
        assert made.signals == []
        assert all(body["do"] == "hold" for _, body in made.told)

"""Machines of 1 GiB as recordings, through the true judge and the true guard: whom it takes.

Each is told as the daemon would record it: sizes from processes and from cgroups, a sweep every 10
s (every minute while little happens), and every 2 s once memory is near the mark.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from watchdog import trace
from watchdog.cli.replay import Replay
from watchdog.facts import Event, Group, Host, Row, Sweep, Who
from watchdog.policy.guard_when import GuardRules
from watchdog.policy.rules import Rules, Selector

MIB, TOTAL, BASE = 1 << 20, 1024, 60
T0, UP0 = 1e9, 5e6
DAY = 86400


class Unit(NamedTuple):
    """MiB of its one process at a second; None while it does not run. A new life is a new PID."""

    name: str
    size: Callable[[float], float | None]


class Recording:
    """A machine with these units; `other` is memory that no process owns, in MiB."""

    def __init__(
        self, units: list[Unit], end: float, *, every: float = 10.0,
        other: Callable[[float], float] = lambda _: 0.0, groups: bool = True,
    ) -> None:  # fmt: skip
        self.units = units
        self.end = end
        self.every = every
        self.other = other
        self.groups = groups
        self.pids: dict[str, tuple[int, int]] = {}
        self.owner: dict[int, str] = {}

    def facts(self) -> Iterator[Any]:
        yield trace.Header("box", acted=False)
        second = 0.0
        while second < self.end:
            available = yield from self._look(second)
            second += 2.0 if available < 0.20 * TOTAL else self.every

    def _look(self, second: float) -> Iterator[Any]:
        t, up = T0 + second, UP0 + second
        rows: list[Row] = []
        told: list[Any] = []
        held = BASE + self.other(second)
        for unit in self.units:
            size = unit.size(second)
            if size is None:
                self.pids.pop(unit.name, None)
                continue
            if unit.name not in self.pids:
                # Who is there at the first look was there long before it.
                born = (UP0 - DAY if second == 0 else up) * 100
                ident = self.pids[unit.name] = (100 + len(self.owner), int(born))
                self.owner[ident[0]] = unit.name
                yield Who(t, up, *ident, ppid=1, uid=1000, exe=f"/usr/bin/{unit.name}",
                          cgroup=f"/system.slice/{unit.name}.service", oom_score_adj=0)  # fmt: skip
            held += size
            pid, start = self.pids[unit.name]
            name = f"{unit.name}.service"
            rows.append((pid, start, unit.name, int(size * MIB), 0, None, name, None))
            if self.groups:
                told.append(Group(t, up, name, f"/system.slice/{name}", anon=int(size * MIB)))
        available = max(4.0, TOTAL - held)
        yield Host(t, up, "boot", T0 - UP0, TOTAL * MIB, int(available * MIB), 0, 0, 0, 0, 0)
        yield from told
        yield Sweep(t, up, tuple(rows), census=True)
        return available

    def actions(self, mode: str = "observe") -> list[Event]:
        rules = Rules(guard=GuardRules(mode=mode), protect=Selector())
        events = Replay(rules).run(self.facts())
        return [event for event in events if event.kind == "guard.action"]

    def taken(self) -> str | None:
        """The unit whose process the first decision takes; None where it holds back."""
        first = self.actions()[0]
        victim = first.body["victim"]
        return None if victim is None else self.owner[victim["pid"]]


def steady(size: float) -> Callable[[float], float]:
    return lambda _: size


def leak(since: float, rate: float, size: float = 20) -> Callable[[float], float]:
    return lambda second: size + max(0.0, second - since) * rate


def nightly(night: float, size: float, lasts: float = 1800) -> Callable[[float], float | None]:
    """A job that fills `size` within two minutes of each night and ends half an hour later."""

    def at(second: float) -> float | None:
        into = (second - night) % DAY
        return min(size, 5 + into * size / 120) if into < lasts and second >= night else None

    return at


def test_a_nightly_job_that_was_seen_three_times_is_not_taken_for_a_leak() -> None:
    """On the fourth night memory ends beside it: the leak that grew over the day goes."""
    night = 7200.0
    fourth = night + 3 * DAY
    for groups in (True, False):
        recording = Recording(
            [Unit("db", steady(200)), Unit("job", nightly(night, 300)),
             Unit("shop", leak(fourth - 6 * 3600, 460 / (6 * 3600)))],
            fourth + 600, every=60.0, groups=groups,
        )  # fmt: skip
        assert recording.taken() == "shop"


def test_at_the_height_of_a_saw_the_leak_beside_it_goes() -> None:
    """A JVM collects at 350 MiB and falls to 100, all day; memory ends at one of its heights."""

    def saw(second: float) -> float:
        return 100 + 250 * (second % 130) / 130

    for rate in (0.1, 0.5, 3.0):
        recording = Recording(
            [Unit("jvm", saw), Unit("db", steady(150)), Unit("shop", leak(7200, rate))],
            7200 + 600 / rate, every=10.0,
        )  # fmt: skip
        assert recording.taken() == "shop", rate


def test_a_database_that_comes_back_to_a_full_machine_is_not_taken() -> None:
    """It stopped, a batch filled its place and more, and it returns to what it has proven."""

    def db(second: float) -> float | None:
        if second < 7200:
            return 300.0
        return None if second < 9000 else min(300.0, 20 + (second - 9000) * 10)

    def batch(second: float) -> float | None:
        return None if second < 7300 else min(640.0, 20 + (second - 7300) * 0.365)

    for groups in (True, False):
        recording = Recording([Unit("db", db), Unit("web", steady(80)), Unit("batch", batch)],
                              9300, groups=groups)  # fmt: skip
        assert recording.taken() == "batch"


def test_a_batch_that_has_held_is_as_innocent_and_it_is_said_to_be_a_fallback() -> None:
    """It filled the place and stayed for an hour: the machine is too small for both."""

    def db(second: float) -> float | None:
        if second < 7200:
            return 400.0
        return None if second < 14_400 else min(400.0, 20 + (second - 14_400) * 10)

    def batch(second: float) -> float | None:
        return None if second < 7300 else min(500.0, 20 + (second - 7300) * 2)

    recording = Recording([Unit("db", db), Unit("web", steady(80)), Unit("batch", batch)], 14_700)
    first = recording.actions()[0]
    assert first.body["how"] == "fallback"
    assert any("too small for its work" in sentence for sentence in first.because)


def test_memory_that_no_process_owns_kills_nobody_and_the_account_is_told() -> None:
    recording = Recording(
        [Unit("db", steady(300)), Unit("web", steady(150))], 900,
        other=lambda second: min(474.0, max(0.0, second - 200) * 1.2),
    )  # fmt: skip
    (held,) = recording.actions()
    assert (held.body["do"], held.body["victim"]) == ("hold", None)
    assert any("the processes took only" in sentence for sentence in held.because)


def test_thirty_growers_are_a_fallback_and_it_is_said() -> None:
    growers = [Unit(f"w{n}", leak(600, 0.03 + n * 0.0005)) for n in range(30)]
    first = Recording(growers, 1200).actions()[0]
    assert first.body["how"] == "fallback"
    assert any("nobody stands out: 30 hold more" in sentence for sentence in first.because)


def test_both_modes_decide_the_same_in_all_of_them() -> None:
    for recording in (
        lambda: Recording([Unit("db", steady(400)), Unit("a", leak(600, 1.0))], 1300),
        lambda: Recording([Unit(f"w{n}", leak(600, 0.04)) for n in range(30)], 1100),
        lambda: Recording([Unit("db", steady(300))], 900, other=lambda s: s * 0.9),
    ):
        said = [
            [(e.t, e.id, e.because, {k: v for k, v in e.body.items() if k not in ("mode",)})
             for e in recording().actions(mode)]
            for mode in ("observe", "enforce")
        ]  # fmt: skip
        assert said[0]
        assert said[0] == said[1]

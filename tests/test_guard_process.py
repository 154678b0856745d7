"""The guard as a real process, with a stand-in for the watcher: life, death, size and silence."""

import contextlib
import json
import marshal
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from watchdog import procfs, spawn
from watchdog.child import ours
from watchdog.guard import keeper
from watchdog.policy.guard_when import GuardRules, Mark, guard_plain

DUMMY = Path(__file__).parent / "fixtures" / "dummy_watcher.py"
NOT_LOADED = {
    "sqlite3", "json", "psutil", "pydantic", "systemd", "argparse", "logging", "dataclasses",
    "subprocess", "asyncio", "socket", "threading", "tomllib", "inspect",
}  # fmt: skip


def until(condition: Callable[[], Any], limit_s: float = 8.0) -> Any:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it never came true")


def alive(pid: int) -> bool:
    """A zombie that init has not waited for yet is not."""
    try:
        stat = procfs.parse_stat(Path(f"/proc/{pid}/stat").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat is not None and stat.state != "Z"


class Started:
    """A guard, its folder, and what its watcher heard."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self.folder = folder

    def heard(self) -> list[Any]:
        file = self.folder / "heard"
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("]")]

    def watchers(self) -> list[int]:
        return [line[1] for line in self.heard() if line[0] == "started"]

    def reports(self, kind: str) -> list[Any]:
        return [line for line in self.heard() if line[0] == "report" and line[3] == kind]

    def status(self) -> dict[str, int]:
        return procfs.parse_kb(Path(f"/proc/{self.process.pid}/status").read_bytes())


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    started: list[Started] = []

    def start(
        plan: dict[str, Any] | None = None, options: list[str] | None = None,
        rules: GuardRules | None = None, program: str = str(DUMMY), **env: str,
    ) -> Started:  # fmt: skip
        shared, settings = os.memfd_create("rules", 0), os.memfd_create("settings", 0)
        os.write(settings, marshal.dumps(guard_plain(rules or GuardRules())))
        argv = [*ours("watchdog.guard", bare=True), "--rules", str(shared)]
        argv += ["--settings", str(settings), "--program", program, *(options or [])]
        with (tmp_path / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                [*argv, "--", "--state", str(tmp_path)], pass_fds=(shared, settings),
                stderr=stderr, cwd="/",
                env={"PATH": os.environ["PATH"], "DUMMY_PLAN": json.dumps(plan or {}), **env},
            )  # fmt: skip
        os.close(shared)
        os.close(settings)
        started.append(Started(process, tmp_path))
        return started[-1]

    yield start
    for one in started:
        with contextlib.suppress(ProcessLookupError):
            one.process.kill()
        one.process.wait()
        for pid in one.watchers():
            until(lambda pid=pid: not alive(pid))


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_and_so_does_the_watcher(
    guard: Callable[..., Started], sig: signal.Signals
) -> None:
    one = guard()
    (watcher,) = until(one.watchers)
    one.process.send_signal(sig)
    assert one.process.wait(10) == 0
    assert ["stop"] in one.heard()
    assert not alive(watcher)


def test_it_stops_though_the_watcher_does_not(
    guard: Callable[..., Started],
) -> None:
    one = guard()
    (watcher,) = until(one.watchers)
    os.kill(watcher, signal.SIGSTOP)
    one.process.terminate()
    assert one.process.wait(10) == 0


def test_it_stops_by_itself_when_asked_to(guard: Callable[..., Started]) -> None:
    began = time.monotonic()
    one = guard(options=["--for", "0.7"])
    assert one.process.wait(10) == 0
    assert time.monotonic() - began > 0.6


def test_a_killed_watcher_is_replaced_and_the_next_one_hears_why(
    guard: Callable[..., Started],
) -> None:
    one = guard()
    (first,) = until(one.watchers)
    os.kill(first, signal.SIGKILL)
    until(lambda: len(one.watchers()) == 2)
    report = until(lambda: [r for r in one.reports("watchdog.degraded") if "signal" in r[5][0]])[0]
    assert report[5][0].startswith("the watcher ended by signal 9; it is started again")
    assert one.process.poll() is None


def test_the_watcher_ends_when_the_guard_does(guard: Callable[..., Started]) -> None:
    one = guard()
    (watcher,) = until(one.watchers)
    one.process.kill()
    one.process.wait()
    until(lambda: not alive(watcher))


def test_a_watcher_that_cannot_start_is_tried_less_and_less_often(
    guard: Callable[..., Started], tmp_path: Path
) -> None:
    program = tmp_path / "broken.py"
    program.write_text(f"open({str(tmp_path / 'tries')!r}, 'a').write('x'); raise SystemExit(3)")
    one = guard(program=str(program))
    until((tmp_path / "tries").exists)
    time.sleep(1.6)
    assert 2 <= len((tmp_path / "tries").read_text()) <= 3
    one.process.terminate()
    assert one.process.wait(2) == 0


def test_a_reload_is_handed_on(guard: Callable[..., Started]) -> None:
    one = guard()
    until(one.watchers)
    one.process.send_signal(signal.SIGHUP)
    until(lambda: ["reload", 1] in one.heard())
    assert one.process.poll() is None


def test_it_stays_small_and_loads_nothing_heavy(guard: Callable[..., Started]) -> None:
    rows = [[pid, 1, f"p{pid}", f"unit-{pid}.service", 1 << 30, 1 << 20, 0.0, None, 0,
             f"unit-{pid}.service", 1 << 30, 0.0, 1000, 0, 1 << 30, 1 << 30, 0]
            for pid in range(100_000, 100_300)]  # fmt: skip
    one = guard({"rules": guard_plain(GuardRules()), "dossier": rows})
    until(one.watchers)
    time.sleep(1.5)
    status = one.status()
    assert status["VmRSS"] <= 12 << 20, f"{status['VmRSS'] / 1024:.0f} KiB"
    assert status["Threads"] == 1
    root = str(Path(__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {root!r}); import watchdog.guard.loop; "
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code + "print(*sys.modules)"],
                          capture_output=True, text=True, check=True, cwd="/")  # fmt: skip
    assert not set(done.stdout.split()) & NOT_LOADED


def test_it_costs_next_to_nothing_while_all_is_calm(guard: Callable[..., Started]) -> None:
    one = guard()
    until(one.watchers)
    time.sleep(0.5)

    def ticks() -> int:
        fields = Path(f"/proc/{one.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(2)
    assert ticks() - before <= 4  # 2 % of a CPU, on machines that are busy with other tests


# ---- a machine that runs short, in a folder: only our own children are in it ------------------


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[[int], int]]:
    """A /proc of 1 GiB whose only process is a real child of ours that holds 40 MiB."""
    root = tmp_path / "proc"
    (root / "pressure").mkdir(parents=True)
    code = "b = bytearray(40 << 20); b[::4096] = b'x' * len(b[::4096]); print(flush=True); input()"
    hog = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE)  # fmt: skip
    assert hog.stdout
    assert hog.stdin
    hog.stdout.readline()
    (root / str(hog.pid)).symlink_to(f"/proc/{hog.pid}")
    (root / "vmstat").write_text("nr_free 1\npswpout 0\noom_kill 0\n")
    (root / "pressure" / "memory").write_text("some total=1\nfull total=1\n")

    def available(mib: int) -> int:
        # Written in place: the guard keeps its descriptor.
        fd = os.open(root / "meminfo", os.O_WRONLY | os.O_CREAT, 0o644)
        text = f"MemTotal: {1 << 20} kB\nMemAvailable: {mib * 1024:9} kB\nSwapTotal: 0 kB\n"
        os.pwrite(fd, text.encode(), 0)
        os.close(fd)
        return hog.pid

    available(800)
    yield available
    hog.kill()
    hog.wait()
    hog.stdin.close()
    hog.stdout.close()


def squeeze(machine: Callable[[int], int], one: Started) -> None:
    until(one.watchers)
    time.sleep(0.6)
    machine(110)
    time.sleep(0.4)
    machine(90)


RULES = GuardRules("observe", Mark(0.10))


def test_observing_it_says_what_it_would_do_and_does_nothing(
    guard: Callable[..., Started], machine: Callable[[int], int], tmp_path: Path
) -> None:
    one = guard(options=["--root", str(tmp_path / "proc")], rules=RULES)
    squeeze(machine, one)
    (action,) = until(lambda: one.reports("guard.action"))
    hog = machine(90)
    assert (action[6]["pid"], action[6]["outcome"], action[6]["mode"]) == (hog, "would", "observe")
    assert one.reports("pressure.begun")
    machine(800)
    over = until(lambda: one.reports("pressure.ended"))[0]
    assert over[6]["lowest_bytes"] == 90 << 20
    assert over[4] == one.reports("pressure.begun")[0][4]
    assert alive(hog)


def test_enforcing_it_kills_the_one_to_blame(
    guard: Callable[..., Started], machine: Callable[[int], int], tmp_path: Path
) -> None:
    options = ["--root", str(tmp_path / "proc"), "--enforce-lock", str(tmp_path / "lock")]
    one = guard(options=options, rules=RULES._replace(mode="enforce"))
    squeeze(machine, one)
    hog = machine(90)
    until(lambda: not alive(hog))
    report = until(lambda: one.reports("guard.action"))[0]
    assert (report[6]["pid"], report[6]["outcome"], report[6]["do"]) == (hog, "done", "terminate")


def test_without_the_lock_it_only_observes_and_says_so(
    guard: Callable[..., Started], machine: Callable[[int], int], tmp_path: Path
) -> None:
    options = ["--root", str(tmp_path / "proc"), "--enforce-lock", str(tmp_path / "no" / "lock")]
    plan = {"rules": guard_plain(RULES._replace(mode="enforce"))}
    one = guard(plan, options=options, rules=RULES._replace(mode="enforce"))
    squeeze(machine, one)
    report = until(lambda: one.reports("guard.action"))[0]
    assert (report[6]["mode"], report[6]["outcome"]) == ("observe", "would")
    said = [r for r in one.reports("watchdog.degraded") if r[6]["what"] == "enforce"]
    assert len(said) == 1
    assert any(line[:2] == ["enforce", False] for line in one.heard())


def test_it_acts_while_the_watcher_is_stopped_and_tells_it_by_itself(
    guard: Callable[..., Started], machine: Callable[[int], int], tmp_path: Path
) -> None:
    options = ["--root", str(tmp_path / "proc"), "--enforce-lock", str(tmp_path / "lock")]
    options += ["--answer", "1.5"]
    one = guard(options=options, rules=RULES._replace(mode="enforce"))
    (watcher,) = until(one.watchers)
    time.sleep(0.5)
    os.kill(watcher, signal.SIGSTOP)
    squeeze(machine, one)
    hog = machine(90)
    until(lambda: not alive(hog))
    if not Path("/run/systemd/journal/socket").exists():
        line = until((tmp_path / "stderr").read_text, 10)
        assert line.startswith("oom-watchdog: guard: terminate python")
        assert f"(PID {hog}): done" in line
        assert "the watcher does not answer" in line
    os.kill(watcher, signal.SIGCONT)
    assert until(lambda: one.reports("guard.action"))[0][6]["pid"] == hog


def test_the_manager_is_told(guard: Callable[..., Started], tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        one = guard({"rules": guard_plain(GuardRules())}, NOTIFY_SOCKET=str(tmp_path / "notify"),
                    WATCHDOG_USEC="400000")  # fmt: skip
        heard = {manager.recv(999).decode() for _ in range(6)}
        assert "READY=1\nSTATUS=watching" in heard
        assert "WATCHDOG=1" in heard
        one.process.terminate()
        until(lambda: manager.recv(999) == b"STOPPING=1")
        assert one.process.wait(2) == 0


# ---- the keeper alone, with a clock of its own ------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Callable[..., tuple[keeper.Keeper, list[str]]]]:
    made: list[keeper.Keeper] = []

    def make(plan: dict[str, Any], resident: int = 1) -> tuple[keeper.Keeper, list[str]]:
        troubles: list[str] = []
        one = keeper.Keeper(
            [sys.executable, "-I", str(DUMMY), "--state", str(tmp_path)], rules_fd=2,
            env={"DUMMY_PLAN": json.dumps(plan)}, oom_score_adj=0,
            resident=lambda _: resident, trouble=troubles.append,
        )  # fmt: skip
        made.append(one)
        return one, troubles

    yield make
    for one in made:
        one.kill()
        until(one.gone)
        if one.fd is not None:
            os.close(one.fd)


def turn_until(one: keeper.Keeper, now: float, condition: Callable[[], Any]) -> None:
    def turn() -> Any:
        one.turn(now)
        return condition()

    until(turn)


def test_silence_for_a_minute_is_the_end_of_a_watcher(
    kept: Callable[..., tuple[keeper.Keeper, list[str]]],
) -> None:
    one, troubles = kept({"silent": True})
    one.start(100.0)
    turn_until(one, 100.5, lambda: one.last_beat == 100.5)  # it said that it is ready
    one.turn(160.0)
    assert troubles == []
    first = one.process
    turn_until(one, 161.0, lambda: troubles)
    assert troubles[0].startswith("no sign of life from the watcher for 1 min")
    turn_until(one, 170.0, lambda: one.process not in (None, first))


def test_one_that_does_not_even_end_when_killed_is_told_of_once(
    kept: Callable[..., tuple[keeper.Keeper, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, troubles = kept({"silent": True})
    one.start(100.0)
    turn_until(one, 100.5, lambda: one.last_beat == 100.5)
    with monkeypatch.context() as hung:
        hung.setattr(spawn.Process, "end", lambda *_: None)
        one.turn(161.0)
        one.turn(170.0)
        one.forgive(5000.0)
        one.turn(5000.0)
        assert troubles == []
        one.turn(5011.0)
        one.turn(5099.0)
    assert len(troubles) == 1
    assert (
        "no sign of life from the watcher for 1 min; it was killed and does not end" in troubles[0]
    )
    assert one.stuck
    turn_until(one, 5100.0, lambda: len(troubles) == 2)
    turn_until(one, 5101.0, lambda: not one.stuck)


def test_a_machine_that_slept_blames_nobody(
    kept: Callable[..., tuple[keeper.Keeper, list[str]]],
) -> None:
    one, troubles = kept({"silent": True})
    one.start(100.0)
    one.forgive(50_000.0)
    one.turn(50_000.0)
    assert troubles == []
    assert one.process is not None


def test_one_that_asked_for_it_is_replaced_at_once_and_that_is_no_trouble(
    kept: Callable[..., tuple[keeper.Keeper, list[str]]],
) -> None:
    one, troubles = kept({})
    one.start(100.0)
    first = one.process
    turn_until(one, 100.5, lambda: one.last_beat == 100.5)
    one.renew(101.0)
    turn_until(one, 101.0, lambda: one.process is not first)
    assert (one.process is not None, one.started, troubles) == (True, 101.0, [])


def test_one_that_grows_too_large_is_asked_to_stop_and_replaced(
    kept: Callable[..., tuple[keeper.Keeper, list[str]]],
) -> None:
    one, troubles = kept({}, resident=65 << 20)
    one.start(100.0)
    turn_until(one, 111.0, lambda: troubles)
    assert troubles == [
        "the watcher holds 65.0 MiB, more than 64.0 MiB (it ended with status 0); "
        "it is started again in 200 ms"
    ]


def test_what_nobody_has_heard_is_kept_and_told_to_the_next(
    kept: Callable[..., tuple[keeper.Keeper, list[str]]], tmp_path: Path
) -> None:
    one, _ = kept({})
    report = ("report", 1.0, 2.0, "guard.action", "x", ("because",), {})
    one.report(report)
    assert not one.answered(report)
    one.report(("report", "x" * 200_000))
    assert one.dropped == 1
    one.start(100.0)
    turn_until(one, 100.5, lambda: one.answered(report))
    turn_until(one, 100.5, lambda: not one.reports)
    heard = [json.loads(line) for line in (tmp_path / "heard").read_text().splitlines()]
    assert [line[4] for line in heard if line[0] == "report"] == ["x"]
    for number in range(keeper.REPORTS_MAX * 2):
        one.report(("report", number))
    assert len(one.reports) == keeper.REPORTS_MAX


def test_where_no_descriptor_is_to_be_had_it_is_tried_again(
    kept: Callable[..., tuple[keeper.Keeper, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> tuple[int, int]:
        raise OSError(23, "Too many open files in system")

    one, troubles = kept({})
    with monkeypatch.context() as patched:
        patched.setattr(keeper.wire, "pair", full)
        one.start(100.0)
        one.turn(100.3)
    assert one.process is None
    assert troubles == [
        f"the watcher cannot be started: Too many open files in system; it is started again in {s}"
        for s in ("200 ms", "1 s")
    ]
    one.turn(101.4)
    assert one.process is not None


@pytest.mark.parametrize(("plan", "last"), [({}, "2 s"), ({"silent": True}, "30 s")])
def test_one_that_worked_is_never_waited_for_as_long_as_one_that_does_not_start(
    kept: Callable[..., tuple[keeper.Keeper, list[str]]], plan: dict[str, Any], last: str
) -> None:
    one, troubles = kept(plan)
    now = 100.0
    one.start(now)
    for death in range(1, 8):
        turn_until(one, now, lambda: one.process and (one.beats or plan))
        one.kill()
        turn_until(one, now, lambda: len(troubles) == death)  # noqa: B023
        assert one.start_at is not None
        now = one.start_at
    assert troubles[-1] == f"the watcher ended by signal 9; it is started again in {last}"


def test_a_program_that_is_not_there_is_tried_again(tmp_path: Path) -> None:
    troubles: list[str] = []
    one = keeper.Keeper(["relative"], rules_fd=2, env={}, oom_score_adj=0, resident=lambda _: 1,
                        trouble=troubles.append)  # fmt: skip
    one.start(100.0)
    assert one.process is None
    assert "cannot be started" in troubles[0]
    one.turn(100.1)
    assert len(troubles) == 1
    one.turn(100.3)
    assert len(troubles) == 2
    assert one.fds() == {}
    assert not one.send(("stop",))

"""`status`: the first line answers, the last says what would be done."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.cli import status
from watchdog.facts import Entity, Event
from watchdog.store.db import Store
from watchdog.store.now import write_now

GIB, MIB = 1 << 30, 1 << 20
LEAK = {
    "pid": 4242, "comm": "python3", "unit": "shop.service", "level": "confirmed",
    "rate_bytes_per_s": 2 * MIB, "resident_bytes": 212 * MIB, "since": 1_699_999_400.0,
    "confidence": 0.93, "exhausts_in_s": 150.0,
}  # fmt: skip
UNIT = {**LEAK, "pid": None, "comm": None}
KERNEL = {**UNIT, "scope": "unit", "part": "kernel"}
TMPFS = {**UNIT, "unit": None, "scope": "host", "part": "shmem"}


def data(**more: Any) -> dict[str, Any]:
    return {
        "t": 1_700_000_000.0, "up": time.clock_gettime(time.CLOCK_BOOTTIME), "host": "here",
        "version": "0.1.0", "pid": 77, "interval_s": 10.0, "mode": "observe",
        "mem_total": int(23.5 * GIB), "mem_available": int(14.2 * GIB),
        "swap_total": 0, "swap_free": 0, "processes": 312, "units": 34, "watching": 40,
        "leaks": [], "oom_kills": {"since_start": 0, "last": None}, "policies": [],
        "guard": {"mode": "observe", "state": "watching"}, "degraded": [], **more,
    }  # fmt: skip


def told(**more: Any) -> list[str]:
    return list(status.lines(data(**more), 1.0, False))


def kill(ago: float) -> dict[str, Any]:
    last = {"event": "oom.kill", "id": "k", "t": 1_700_000_000.0 - ago, "comm": "x", "victim": {}}
    return {"since_start": 1, "last": last}


def test_all_is_well() -> None:
    lines = told()
    assert lines[0] == ("Memory is fine: 14.2 of 23.5 GiB available, nothing leaks, no OOM kill")
    assert lines[1] == (
        "watching 312 processes in 34 units, 40 of them closely every 10 s"
        " (oom-watchdog 0.1.0, pid 77)"
    )
    assert lines[-1] == "observing: nothing will be killed"


def test_a_kill_before_the_daemon_was_started_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(str(tmp_path / "history.db"))
    for at in (1.0, 90_000.0):
        body = {**dict.fromkeys(Entity._fields), "victim": {"pid": 7, "comm": "x"}, "scope": None}
        store.put_events(
            [Event("oom.kill", f"oom.kill-{at}", None, at, at, None, "h", ("x",), body)]
        )
    store.flush()
    store.close()
    write_now(str(tmp_path), data(t=100_000.0))
    assert status.main(["--state", str(tmp_path)]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first.endswith(", the last OOM kill 2 h 46 min ago")
    assert any("OOM kill: the kernel killed x" in line for line in others)
    status.main(["--state", str(tmp_path), "--json"])
    kills = json.loads(capsys.readouterr().out)["oom_kills"]
    assert (kills["since_start"], kills["last"]["id"]) == (0, "oom.kill-90000.0")


FINE = "Memory is fine: 14.2 of 23.5 GiB available, "
LEAKING = (
    "Memory leaks: 14.2 of 23.5 GiB available, python3 (pid 4242, shop.service) leaks 2.0 MiB/s,"
    " memory ends in 2 min 30 s, no OOM kill"
)
ENFORCING = "enforcing: the guard kills who is to blame before memory runs out"
ARMED = [{"name": "p", "mode": "enforce"}]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"oom_kills": kill(41.5 * 86400)}, FINE + "nothing leaks, no OOM kill in 41 days"),
        ({"oom_kills": kill(600)}, FINE + "nothing leaks, the last OOM kill 10 min ago"),
        ({"oom_kills": {"since_start": 2}}, FINE + "nothing leaks, 2 OOM kills since the start"),
        ({"leaks": [{**LEAK, "level": "suspected"}]}, FINE + "1 suspected leak, no OOM kill"),
        ({"leaks": [LEAK]}, LEAKING),
        ({"leaks": [LEAK, LEAK]}, "2 processes leak"),
        ({"leaks": [LEAK, UNIT]}, LEAKING),  # the unit grows by its process
        ({"leaks": [LEAK, UNIT, LEAK]}, ", 2 processes leak, "),
        ({"leaks": [UNIT, {**UNIT, "unit": "web.service"}]}, ", 2 units leak, "),
        ({"leaks": [LEAK, {**UNIT, "unit": "web.service"}, KERNEL]},
         ", 1 process, 1 unit and kernel memory of shop.service leak, "),
        ({"leaks": [KERNEL, TMPFS]}, ", kernel memory of shop.service and shared memory and tmpfs"
         " that no unit holds leak, "),
        ({"leaks": [KERNEL, TMPFS, KERNEL]}, ", shared or kernel memory in 3 places leak, "),
        ({"leaks": [{**one, "level": "suspected"} for one in (LEAK, UNIT)]}, "1 suspected leak, "),
        ({"mem_available": 900 * MIB}, "Memory is short: 900 MiB of 23.5 GiB available"),
        ({"mem_total": None}, "How much memory is available is not known: nothing leaks, no OOM"),
        ({"mem_total": None, "leaks": [LEAK]}, "Memory leaks: how much is available is not known,"),
        ({"pressure": True}, "Memory is short: 14.2 of 23.5 GiB available, nothing leaks"),
        ({"pressure": True, "leaks": [LEAK]}, "Memory is short: 14.2 of 23.5 GiB available, pyth"),
        ({"pressure": True, "mem_total": None}, "Memory is short: how much is available is not"),
        ({"pressure": False}, FINE),
    ],
)  # fmt: skip
def test_the_first_line_is_an_answer(more: dict[str, Any], text: str) -> None:
    assert text in told(**more)[0]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"guard": {"mode": "enforce"}}, ENFORCING),
        ({"guard": {"mode": "off"}}, "observing: nothing will be killed"),
        ({"guard": {"state": "short"}}, "observing: nothing will be killed; the guard: short"),
        ({"policies": ARMED}, "observing with the guard; these policies act: p"),
        (
            {"policies": ARMED, "guard": {"mode": "off"}},
            "the guard is off; these policies act: p",
        ),
        (
            {"policies": ARMED, "guard": {"mode": "enforce"}},
            ENFORCING + ", and these policies act: p",
        ),
    ],
)
def test_the_last_line_says_what_would_be_done(more: dict[str, Any], text: str) -> None:
    assert told(**more)[-1] == text


def test_leaks_kills_policies_and_what_is_degraded_stand_between() -> None:
    lines = told(
        leaks=[LEAK, {"unit": "a.service", "level": "suspected"}],
        oom_kills=kill(60), degraded=["no kernel log"],
        policies=[{"name": "p", "mode": "observe", "waiting": ["cooldown for 5 min"]},
                  {"name": "q", "mode": "observe", "waiting": []}],
    )  # fmt: skip
    head = next(n for n, line in enumerate(lines) if line.startswith("LEAK"))
    assert " ".join(lines[head].split()) == "LEAK WHO RATE NOW SINCE MEMORY ENDS IN SURE"
    assert lines[head + 1].split("  ")[1] == "python3 (pid 4242, shop.service)"
    assert "10 min ago" in lines[head + 1]
    assert lines[head + 2].startswith("suspected  a.service")
    text = "\n".join(lines)
    assert "\nlast 2023-11-1" in text
    assert "policy p (observe): cooldown for 5 min\npolicy q (observe)\n" in text
    assert "degraded: no kernel log" in lines


def test_whom_a_policy_waits_for_is_said_as_elsewhere() -> None:
    waiting = ["4242:17: muted", "4242:17 (only said): cooldown, 9 min to go",
               "unit:shop.service: decided; x"]  # fmt: skip
    assert (
        "policy p (observe): pid 4242: muted; pid 4242 (only said): cooldown, 9 min "
        "to go; shop.service: decided; x"
    ) in told(policies=[{"name": "p", "mode": "observe", "waiting": waiting}])


def test_while_memory_is_short_it_says_whom_the_guard_would_take() -> None:
    ranked = [
        {"entity": {"pid": 7, "comm": "shop", "unit": "shop.service"}, "rank": {"blame": 3},
         "because": ["it holds 1 GiB", "its leak is confirmed", "more"]},
        {"entity": {"pid": 8, "comm": "sh", "unit": None}, "rank": {}, "because": []},
    ]  # fmt: skip
    state = "memory is short: terminate shop (PID 7): would"
    lines = told(guard={"mode": "observe", "state": state, "ranked": ranked})
    first = lines.index("the first to go, by the guard's last word:")
    assert lines[first + 1 : first + 3] == [
        "  shop (PID 7) of shop.service: it holds 1 GiB; its leak is confirmed", "  sh (PID 8): ",
    ]  # fmt: skip
    assert lines[-1] == f"observing: nothing will be killed; the guard: {state}"


def test_old_is_said_and_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_now(str(tmp_path), data())
    assert status.main(["--state", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("Memory is fine")
    write_now(str(tmp_path), data(up=time.clock_gettime(time.CLOCK_BOOTTIME) - 45))
    assert status.main(["--state", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("Not running, or stuck: the daemon (pid 77) last wrote 45 s ago.")
    write_now(str(tmp_path), data(boot_id="another"))
    assert status.main(["--state", str(tmp_path)]) == 1
    assert "before the last boot" in capsys.readouterr().out


def test_not_running_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main(["--state", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("oom-watchdog: not running")
    (tmp_path / "now.json").write_text("{")
    assert status.main(["--state", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_json_is_now_json_with_its_age(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_now(str(tmp_path), data(degraded=["x"]))
    assert status.main(["--state", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["degraded"] == ["x"]
    assert 0 <= found["age_s"] < 5


def test_every_goes_on_until_it_is_interrupted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("watchdog.cli.status.time.sleep", sleep)
    write_now(str(tmp_path), data())
    assert status.main(["--state", str(tmp_path), "--every", "2s"]) == 0
    assert capsys.readouterr().out.count("Memory is fine") == 2
    assert waits == [2.0, 2.0]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(sorted(data())), ANY),
    st.lists(st.dictionaries(st.sampled_from([*LEAK, "uid", "inner"]), ANY), max_size=2),
)
def test_no_now_json_breaks_it(found: dict[str, Any], leaks: list[dict[str, Any]]) -> None:
    for some in ({**data(), **found}, {**data(), "leaks": leaks}, {**data(), "policies": leaks}):
        assert all(isinstance(line, str) for line in status.lines(some, 1.0, True))

"""What the duel runs, keeps and calls right; its machine is not started here."""

import importlib
import struct
import sys
import time
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent / "vm" / "duel"


@pytest.fixture(scope="module")
def duel() -> Any:
    before = list(sys.path)
    sys.path.insert(0, str(HERE))
    try:
        yield importlib.import_module("duel")
    finally:
        sys.path[:] = before


@pytest.fixture
def kept(duel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(duel, "CELLS", tmp_path)
    monkeypatch.setattr(duel, "package", lambda: "package")
    return duel.Kept("image")


def cell(daemon: str, scenario: str, *, busy: bool = False, **more: Any) -> dict[str, Any]:
    return {"daemon": daemon, "scenario": scenario, "host_busy": busy, "deaths": [[9.0, "hog"]],
            "guilty": ["hog"], "lost": {}, "oom_kills": 0, "pressed_s": 7.5, "relieved_s": 9.5,
            "scarce_s": 0.2,
            "alive": {"shop": True, "hog": False}, "stall_s": 0.1, "footprint_bytes": 0,
            **more}  # fmt: skip


def test_every_cell_is_planned_ours_three_times_and_first(duel: Any) -> None:
    jobs = duel.plan(duel.DAEMONS, list(duel.SCENARIOS))
    assert [job.daemon for job in jobs[: len(duel.SCENARIOS)]] == [duel.OURS] * len(duel.SCENARIOS)
    for name, scenario in duel.SCENARIOS.items():
        assert jobs.count(duel.Job(duel.OURS, name)) == 3
        for peer in duel.PEERS:  # what is about our own end is no scenario for others
            assert jobs.count(duel.Job(peer, name)) == (0 if scenario.kill_daemon_at else 1)


def test_only_what_is_not_kept_is_missing(duel: Any, kept: Any) -> None:
    job = duel.Job(duel.OURS, "hog")
    jobs = [job, job, job]
    kept.add(cell(*job))
    kept.add(cell(*job, busy=True))
    assert len(duel.missing(jobs, kept, busy_ok=False)) == 2
    assert len(duel.missing(jobs, kept, busy_ok=True)) == 1
    assert [one["host_busy"] for one in kept.of(*job)] == [False]
    assert [one["host_busy"] for one in kept.busy(*job)] == [True]


def test_a_cell_outlives_changes_of_others(
    duel: Any, kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = kept.key(duel.OURS, "leak")
    other = duel.SCENARIOS["hog"]._replace(quiet_s=1)
    monkeypatch.setitem(duel.SCENARIOS, "hog", other)
    assert kept.key(duel.OURS, "leak") == key
    changed = duel.SCENARIOS["leak"]._replace(quiet_s=1)
    monkeypatch.setitem(duel.SCENARIOS, "leak", changed)
    assert kept.key(duel.OURS, "leak") != key


def test_our_package_is_in_our_keys_only(duel: Any, kept: Any) -> None:
    keys = [kept.key(daemon, "leak") for daemon in (duel.OURS, "earlyoom")]
    kept.package = "another"
    assert [kept.key(daemon, "leak") for daemon in (duel.OURS, "earlyoom")][1] == keys[1]
    assert kept.key(duel.OURS, "leak") != keys[0]


def test_what_is_right(duel: Any) -> None:
    assert duel.right(cell("none", "leak"))
    assert not duel.right(cell("none", "leak", relieved_s=None))
    wrong = cell("none", "leak", deaths=[[3.0, "shop"], [9.0, "hog"]])
    assert not duel.right(wrong)
    assert "innocent died first** (shop)" in duel.shown([wrong])
    wrong["deaths"].reverse()
    assert "innocent died later** (shop)" in duel.shown([wrong])
    quiet = cell("none", "cache", deaths=[], guilty=[], relieved_s=None)
    assert duel.right(quiet)
    assert duel.shown([quiet]) == "nobody died; stall 0.10 s, scarce 0.2 s"
    killed = duel.shown([cell("none", "leak")])
    assert killed == "culprit; stall 0.10 s, scarce 0.2 s, relief 2.0 s"


def test_workers_and_the_system_are_innocents_too(duel: Any) -> None:
    forked = cell("none", "cow", deaths=[], guilty=[], lost={"parent": 2}, alive={"parent": True})
    assert not duel.right(forked)
    assert "innocent died** (parent)" in duel.shown([forked])
    journald = cell("none", "leak", system=["systemd-journald.service"])
    assert not duel.right(journald)
    assert "innocent died** (systemd-journald.service)" in duel.shown([journald])
    assert duel.right(cell("none", "forkers", deaths=[], lost={"hog": 1}))


def test_a_wrong_cell_does_not_drop_out_of_the_table(duel: Any, kept: Any) -> None:
    job = duel.Job("earlyoom", "leak")
    wrong = {"deaths": [[3.0, "shop"]]}
    kept.add(cell(*job, **wrong))
    kept.add(cell(*job, busy=True, **wrong))
    kept.add(cell(*job, busy=True))
    kept.add(cell(*job, stall_s=0.3))
    assert [one["stall_s"] for one in kept.of(*job)] == [0.3, 0.1]
    assert [duel.right(one) for one in kept.shown(*job)] == [True, False]
    row = next(line for line in duel.summary(kept).splitlines() if "earlyoom" in line)
    assert [one.strip() for one in row.split("|")][2:5] == ["1 of 2", "1", "0.30 s"]
    said = "busy beside them: 2 cells, not right among them `earlyoom:leak`."
    assert duel.left_out(kept).endswith(said)


def test_the_median_is_also_told_of_shared_scenarios(duel: Any, kept: Any) -> None:
    for name, stall in (("leak", 0.2), ("hog", 0.1)):
        kept.add(cell(duel.OURS, name, stall_s=stall))
    kept.add(cell("nohang", "hog", stall_s=0.3))
    row = next(line for line in duel.summary(kept).splitlines() if "nohang" in line)
    assert [one.strip() for one in row.split("|")][4:6] == ["0.30 s", "0.10 s"]


def test_a_stall_that_lasts_is_seen(duel: Any, tmp_path: Path) -> None:
    path = tmp_path / "beat"
    assert duel.cells.stalled(path) is None
    path.write_text("0.0500")
    Path(f"{path}.at").write_bytes(struct.pack("d", time.monotonic() + 60) + bytes(4088))
    assert duel.cells.stalled(path) == 0.05
    Path(f"{path}.at").write_bytes(struct.pack("d", time.monotonic() - 7) + bytes(4088))
    assert 6.9 < duel.cells.stalled(path) < 60


def test_every_scenario_can_be_run(duel: Any) -> None:
    kinds = duel.load.KINDS
    for name, scenario in duel.SCENARIOS.items():
        warm = duel.WARM[scenario.warm]
        roles = [*warm.roles, *scenario.roles]
        assert len({role.name for role in roles}) == len(roles), name
        for role in roles:
            assert [word for word in role.load.split() if word in kinds], role
        assert any(role.guilty for role in roles) or scenario.quiet_s, name

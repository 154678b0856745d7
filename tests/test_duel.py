"""What the duel runs, keeps and calls right; its machine is not started here."""

import importlib
import sys
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
            "guilty": ["hog"], "lost": {}, "oom_kills": 0, "relieved_s": 9.5, "scarce_s": 0.2,
            "alive": {"shop": True, "hog": False}, "stall_s": 0.1, **more}  # fmt: skip


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
    assert [one["host_busy"] for one in kept.of(*job)] == [False, True]


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
    assert "innocent died** (shop)" in duel.shown([wrong])
    quiet = cell("none", "cache", deaths=[], guilty=[], relieved_s=None)
    assert duel.right(quiet)
    assert "nobody died; stall 0.10 s, scarce 0.2 s" in duel.shown([quiet])
    assert "stall" not in duel.shown([cell("none", "leak", busy=True)])


def test_every_scenario_can_be_run(duel: Any) -> None:
    kinds = duel.load.KINDS
    for name, scenario in duel.SCENARIOS.items():
        warm = duel.WARM[scenario.warm]
        roles = [*warm.roles, *scenario.roles]
        assert len({role.name for role in roles}) == len(roles), name
        for role in roles:
            assert [word for word in role.load.split() if word in kinds], role
        assert any(role.guilty for role in roles) or scenario.quiet_s, name

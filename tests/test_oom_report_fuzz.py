"""A short slice of bench/fuzz_oom.py, with fixed seeds; the whole of it runs for ten minutes."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    path = Path(__file__).parents[1] / "bench" / "fuzz_oom.py"
    spec = importlib.util.spec_from_file_location("fuzz_oom", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", range(4))
def test_damage_does_no_harm(fuzz: ModuleType, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "SLOW_S", 60.0)  # how long a line takes is the bench's
    count, read, reports, _ = fuzz.rounds(seed, 600.0, 250)
    assert count == 250
    assert read > 1000
    assert reports > 100

"""Whatever a test makes the product tell is held against docs/events.schema.json."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from watchdog.facts import Event
from watchdog.guard.kept_lines import KeptLines
from watchdog.sense.fast import Eyes

SCHEMA = Path(__file__).parent.parent / "docs" / "events.schema.json"
CHECKED_A_KIND = 50  # in one test: more of the same only take time

_validator = Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def flaws(event: Any) -> list[str]:
    """What the schema says against one event (as it comes out of json.loads)."""
    return [
        f"{event.get('event')} {error.json_path}: {error.message[:300]}"
        for error in _validator.iter_errors(event)
    ]


@pytest.fixture
def valid_event() -> Callable[[Any], None]:
    """For events that come from another process: fails unless the schema holds."""

    def check(event: Any) -> None:
        found = flaws(event)
        assert not found, found

    return check


@pytest.fixture(autouse=True)
def _events_hold_the_schema(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Every event becomes JSON through `Event.flat`; a test marked `strange_events` means it."""
    if request.node.get_closest_marker("strange_events"):
        yield
        return
    found: list[str] = []
    seen: Counter[str] = Counter()
    flat = Event.flat

    def checked(event: Event) -> dict[str, Any]:
        said = flat(event)
        seen[event.kind] += 1
        if seen[event.kind] <= CHECKED_A_KIND:
            # also in another thread: collected here, told at the end of the test
            found.extend(flaws(json.loads(json.dumps(said))))
        return said

    monkeypatch.setattr(Event, "flat", checked)
    yield
    assert not found, found


@pytest.fixture(autouse=True)
def _a_guard_is_no_more_than_its_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It has the same descriptors for life, and hundreds of them in one process are too many: from
    number 1024 on select() fails, and what a process may have open is not read to the end.
    """
    made: list[Eyes | KeptLines] = []

    def noted(kind: type[Eyes] | type[KeptLines]) -> None:
        begin = kind.__init__

        def init(self: Any, *args: Any) -> None:
            begin(self, *args)
            made.append(self)

        monkeypatch.setattr(kind, "__init__", init)

    noted(Eyes)
    noted(KeptLines)
    yield
    for one in made:
        one.close()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "strange_events: its events are wrong on purpose")

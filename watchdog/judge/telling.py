"""Pure: an event before the engine gives it its id, its host and its boot."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Telling(NamedTuple):
    """An event to be told. ``boot_id`` only where it is of another boot than the running one."""

    kind: str
    identity: str
    t: float
    up: float | None
    because: tuple[str, ...]
    body: Mapping[str, Any]
    cause: str | None = None
    boot_id: str | None = None

"""Pure: what an event about a leak says, before the engine gives it its id."""

from typing import Any

from watchdog.facts import Entity
from watchdog.history.entities import Trend
from watchdog.judge.stage import Change


def body(
    change: Change, trend: Trend, entity: Entity, resident: int | None, part: str
) -> dict[str, Any]:
    """The keys of leak.suspected, confirmed and cleared; null where there is nothing to say.

    `part` is what grows: "anon" (private memory and swap), "shmem" or "kernel".
    """
    found = change.found
    scope = "process" if entity.pid is not None else "unit" if entity.unit else "host"
    return {
        **entity._asdict(),
        "scope": scope,
        "part": part,
        "rate_bytes_per_s": round(found.growth.rate) if found else None,
        "confidence": found.confidence if found else None,
        "resident_bytes": resident,
        "since": trend.since_t,
        "exhausts_in_s": _tenths(found.exhausts_in_s if found else None),
        "exhausts_in_low_s": _tenths(found.exhausts_in_low_s if found else None),
        "exhausts_in_high_s": _tenths(found.exhausts_in_high_s if found else None),
    }


def _tenths(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)

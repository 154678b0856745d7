"""Pure: the level that an entity has proven the machine can carry, and its excess over that.

A level is proven by holding it: ten minutes in which the floor moved by less than 2 %, while the
machine was healthy and no leak was suspected. A straight line never proves itself at any speed; a
plateau does. Blame goes by the excess over this level, so that a big healthy database has none.
"""

from array import array

from watchdog.history.entities import Trend
from watchdog.history.ring import LEVELS, MISSING

_MINUTES = next(i for i, level in enumerate(LEVELS) if level.name == "1 min")
_HELD_BUCKETS = 10
_ALLOWANCE = 1.05


def prove(trend: Trend, closed: list[int], healthy: bool) -> None:
    """Raise the proven level when a minute closed above it and the last ten were level."""
    if not healthy or not closed or trend.stage != "none" or trend.kib <= trend.proven_kib:
        return
    ring = trend.rings[_MINUTES]
    if ring is None:  # it moves so little that no minutes are kept
        if trend.last_up - trend.still_up >= _HELD_BUCKETS * LEVELS[_MINUTES].bucket_s:
            trend.proven_kib = trend.kib
        return
    if _MINUTES not in closed or len(ring.values) < _HELD_BUCKETS - 1:
        return
    window = ring.values[-_HELD_BUCKETS:]
    high = max(window)
    if high == MISSING:
        ages, floors = ring.known(_HELD_BUCKETS)
        if len(floors) < _HELD_BUCKETS - 2 or ages[0] < _HELD_BUCKETS - 1:
            return
        high, window = max(floors), array("I", floors)
    if high - min(window) < 0.02 * high:
        trend.proven_kib = max(trend.proven_kib, high)


def excess_bytes(proven_kib: int, kib: int) -> int:
    """Use above 1.05 times the proven level, in bytes; never negative."""
    return max(0, int((kib - _ALLOWANCE * proven_kib) * 1024))

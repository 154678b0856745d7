"""Pure: who can be of interest to any policy at this moment, before anybody is looked at closely.

Of each `when` one key is taken that must hold and costs little to look up. Who shows none of them
is passed over: on a calm machine everybody, so that a sweep costs the policies nothing.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

from watchdog.facts import RSS, Row
from watchdog.history.entities import Trend
from watchdog.policy.rules import Policy

N = TypeVar("N", int, float)


class Reach(NamedTuple):
    """``everybody``, or those who show one of the others (None: no policy asks for that alone)."""

    everybody: bool = False
    leak: bool = False
    killed: bool = False
    resident_above: int | None = None
    growth_above: float | None = None

    def holds(self, key: str, row: Row, trend: Trend, killed: Mapping[str, float]) -> bool:
        """Whether somebody has to be looked at; never False where a policy could hold."""
        if self.leak and (trend.stage != "none" or trend.verdict is not None):
            return True
        if self.resident_above is not None and row[RSS] > self.resident_above:
            return True
        if self.growth_above is not None and (trend.recent_rate() or 0.0) > self.growth_above:
            return True
        return self.everybody or (self.killed and key in killed)


EVERYBODY = Reach(everybody=True)


def reach(policies: Iterable[Policy], pressure: bool | None, counted: bool) -> Reach:
    """What the policies have in common; `counted`: whether the kernel's count of kills is known."""
    found = Reach()
    for when in (policy.when for policy in policies):
        if when.pressure is not None and pressure is not None and when.pressure is not pressure:
            continue
        if when.leak is not None or when.exhausts_within_s is not None:
            found = found._replace(leak=True)
        elif when.resident_above is not None:
            found = found._replace(resident_above=_less(found.resident_above, when.resident_above))
        elif when.growth_above is not None:
            found = found._replace(growth_above=_less(found.growth_above, when.growth_above))
        elif when.oom_kill and counted:
            found = found._replace(killed=True)
        else:
            return EVERYBODY
    return found


def _less(one: N | None, other: N) -> N:
    return other if one is None else min(one, other)

"""Pure: how far the guard goes with one entity, rung by rung.

    process   SIGTERM, then SIGKILL, to the one member that holds most above its own level
    unit      SIGKILL to all of the unit's processes, if none of them is protected
    stop      the same, and `systemctl stop`: it stays down although Restart= would bring it back
    none      whoever comes back after that is the administrator's to judge: it is only said

The table is read from the top; the first line that fits gives the rung. A first blow takes the
process, or the unit where the configuration says `kill = "unit"` or the excess is spread over it.
"""

from typing import NamedTuple


class Step(NamedTuple):
    """Struck on `rung` within `within_s`: the next rung."""

    rung: str
    within_s: float
    next: str


TABLE = (
    Step("stop", 300.0, "none"),
    Step("unit", 300.0, "stop"),
    Step("process", 60.0, "unit"),
)
LONGEST_S = max(step.within_s for step in TABLE)
# Below this part of the entity's excess the largest member is not worth a blow of its own.
SPREAD_BELOW = 0.5


class Ladder:
    """Remembers who was struck, on which rung and when (boottime)."""

    def __init__(self) -> None:
        self.struck: dict[str, tuple[str, float]] = {}

    def rung(self, entity: str, up: float, *, whole: bool, possible: bool) -> str:
        """The next rung. `whole`: the unit at once. `possible`: it may be ended as a whole."""
        rung, at = self.struck.get(entity, ("", 0.0))
        for step in TABLE:
            if rung == step.rung and up - at <= step.within_s:
                if possible or step.next == "none":
                    return step.next
                return "process"
        return "unit" if whole and possible else "process"

    def strike(self, entity: str, rung: str, up: float) -> None:
        """It was struck."""
        self.struck = {
            key: value for key, value in self.struck.items() if up - value[1] <= LONGEST_S
        }
        self.struck[entity] = (rung, up)

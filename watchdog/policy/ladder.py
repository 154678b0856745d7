"""Pure: how far the guard goes with one entity, rung by rung.

    process   SIGTERM, then SIGKILL, to the one member that holds most above its own level
    unit      SIGKILL to all of the unit's processes, if none of them is protected
    stop      the same, and `systemctl stop`: it stays down although Restart= would bring it back
    none      whoever comes back after that is the administrator's to judge: it is only said

The table is read from the top; the first line that fits gives the rung. A first blow takes the
process, or the unit where the configuration says `kill = "unit"` or the excess is spread over it.
Who was sent SIGTERM, lives on and is chosen again is still on the first rung: SIGKILL is to come.
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
ASKED_S = 60.0  # who was asked to go longer ago is asked again
# Below this part of the entity's excess the largest member is not worth a blow of its own.
SPREAD_BELOW = 0.5


class Asked(NamedTuple):
    """When somebody was sent SIGTERM (boottime), and the reading by which it was decided (Unix)."""

    up: float
    t: float


class Ladder:
    """Remembers who was struck, on which rung and when (boottime)."""

    def __init__(self) -> None:
        self.struck: dict[str, tuple[str, float]] = {}
        self.asked: dict[tuple[int, int], Asked] = {}  # by PID and start, until SIGKILL

    def rung(
        self, entity: str, up: float, *, whole: bool, possible: bool, asked: bool = False
    ) -> str:
        """The next rung. `whole`: the unit at once. `possible`: it may be ended as a whole.

        `asked`: the member that is chosen was sent SIGTERM, and no more than that.
        """
        rung, at = self.struck.get(entity, ("", 0.0))
        if asked and rung == "process" and not whole:
            return rung
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

    def ask(self, ident: tuple[int, int], up: float, t: float) -> None:
        """It was sent SIGTERM, decided at `t`."""
        self.asked = {key: one for key, one in self.asked.items() if up - one.up <= ASKED_S}
        self.asked[ident] = Asked(up, t)

    def killed(self, ident: tuple[int, int]) -> None:
        """It was sent SIGKILL: no more can be done to it."""
        self.asked.pop(ident, None)

    def slept(self, gap_s: float) -> None:
        """Nobody ran for so long: it was no time to end in."""
        self.asked = {key: one._replace(up=one.up + gap_s) for key, one in self.asked.items()}

    def asked_of(self, ident: tuple[int, int], up: float) -> Asked | None:
        """Its SIGTERM, if it was sent one a moment ago and no SIGKILL since."""
        one = self.asked.get(ident)
        return one if one is not None and up - one.up <= ASKED_S else None

"""What does not work as it should, said once when it begins and once when it is well again."""

from collections.abc import Callable, Sequence
from typing import Any

Say = Callable[[str, Sequence[str], dict[str, Any]], None]


class Health:
    """`bad` holds what is degraded now: a short name -> the sentence that says why."""

    def __init__(self, say: Say) -> None:
        self.bad: dict[str, str] = {}
        self._say = say
        self._lost: dict[str, int] = {}

    def degrade(self, what: str, why: str, *more: str, **body: Any) -> None:
        """Say it, unless it has been said and has not been well since."""
        if what not in self.bad:
            self.bad[what] = why
            self._say("watchdog.degraded", [why, *more], {"what": what, **body})

    def recover(self, what: str, sentence: str) -> None:
        """It is well again, if it was not."""
        if self.bad.pop(what, None) is not None:
            self._say("watchdog.recovered", [sentence], {"what": what})

    def lost(self, what: str, total: int, sentence: str) -> None:
        """`total` is how many were lost since the start; said whenever it has grown."""
        if total > self._lost.get(what, 0):
            self._lost[what] = total
            self._say("watchdog.dropped", [sentence], {"what": what, "count": total})

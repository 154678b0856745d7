"""What does not work as it should, said once when it begins and once when it is well again."""

from collections.abc import Callable, Sequence
from typing import Any

from watchdog import words
from watchdog.sense.processes import Processes
from watchdog.store.db import Store

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


def check(
    health: Health, store: Store, processes: Processes, record: str, problem: str | None
) -> None:
    """Say what does not work, and what works again. `problem` is why `record` is not written."""
    if store.failed:
        health.degrade("store", store.failed, "going on from memory")
    else:
        anew = (
            "; the watcher is started again for what it holds, and writes no trends until then"
            if store.again
            else ""
        )
        health.recover("store", f"the store works again{anew}")
    lost = f"{words.count(store.dropped, 'record')} could not be stored so far"
    health.lost("store", store.dropped, lost)
    if processes.refused:
        health.degrade("refused", "not every process may be looked at: permission denied "
                       f"{words.count(processes.refused, 'time')} so far")  # fmt: skip
    if problem:
        health.degrade("record", f"cannot record into {record}: {problem}")

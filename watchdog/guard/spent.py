"""The guard's budget: what was spent, over its own restarts and those of the machine.

It is written to a file in memory before the action that it was spent for, so that a guard that is
killed and started again goes on with the same budget.
"""

from collections.abc import Sequence

from watchdog.guard.kept_lines import KeptLines
from watchdog.policy.budget import Purse

SPENT_MAX = 64


class Spent:
    """The budget: what was spent, kept in a file that a restart of the guard outlives.

    A new boot keeps what was spent, by the wall clock.
    """

    def __init__(self, path: str | None, boot_id: str, up: float, t: float) -> None:
        self.t = t
        self._kept = KeptLines(path, boot_id)
        moments = []
        for line in self._kept.lines:
            fields = line.split()
            try:
                moments.append((float(fields[0]), float(fields[1])))
            except (ValueError, IndexError):
                continue
        purse = Purse(tuple(sorted(moments)[-SPENT_MAX:]))
        self.purse = purse if self._kept.ours else purse.moved(up, t)

    def turn(self, up: float, t: float) -> None:
        """Look at the wall clock: a machine without one of its own learns late what time it is."""
        purse = self.purse.overtaken(self.t, up, t)
        self.t = t
        if purse is not self.purse:
            self.purse = purse
            self._write()

    def left(self, rule: tuple[int, float], up: float) -> int:
        """How many more there may be."""
        return self.purse.left(*rule, up)

    def spend(self, rule: tuple[int, float], up: float, t: float) -> None:
        """One is going to be taken."""
        self.purse = self.purse.spend(*rule, up, t)
        self._write()

    def restore(self, before: Purse, up: float, t: float) -> None:
        """The deed was not done: as `before` it, with what others have spent since."""
        known = {*before.spent, (up, t)}
        since = [moment for moment in self.purse.spent if moment not in known]
        self.purse = Purse(tuple(sorted([*before.spent, *since])))
        self._write()

    def recall(self, times: Sequence[float], up: float, t: float) -> None:
        """What the store remembers of earlier boots and lives (Unix seconds)."""
        known = [at_t for _, at_t in self.purse.spent]
        new = [one for one in set(times) if all(abs(one - at_t) > 1.0 for at_t in known)]
        moments = [*self.purse.spent, *((up - max(0.0, t - one), one) for one in new)]
        self.purse = Purse(tuple(sorted(moments)[-SPENT_MAX:]))

    def rehearse(self) -> None:
        """Run what writing it down will run, and change nothing."""
        self._kept.rehearse()

    def _write(self) -> None:
        self._kept.write([f"{at:.3f} {at_t:.3f}" for at, at_t in self.purse.spent])

"""The guard's budget: what was spent, over its own restarts and those of the machine.

It is written to a file in memory before the action that it was spent for, so that a guard that is
killed and started again goes on with the same budget.
"""

import os
from collections.abc import Sequence

from watchdog.policy.budget import Purse

SPENT_MAX = 64


class Spent:
    """The budget: what was spent, kept in a file that a restart of the guard outlives.

    The file should lie in memory (/run): then writing it waits for nobody. A new boot keeps what
    was spent, by the wall clock.
    """

    def __init__(self, path: str | None, boot_id: str, up: float, t: float) -> None:
        self.boot_id = boot_id
        self.t = t
        self.purse = Purse()
        self._fd: int | None = None
        if path is None:
            return
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            raw = os.pread(self._fd, 8192, 0)
        except OSError:
            return  # it is kept in this process alone
        boot, _, rest = raw.partition(b"\n")
        moments = []
        for line in rest.split(b"\n"):
            fields = line.split()
            try:
                moments.append((float(fields[0]), float(fields[1])))
            except (ValueError, IndexError):
                continue
        purse = Purse(tuple(sorted(moments)[-SPENT_MAX:]))
        self.purse = purse if boot.decode("ascii", "replace") == boot_id else purse.moved(up, t)

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

    def _write(self) -> None:
        if self._fd is None:
            return
        lines = [self.boot_id, *(f"{at:.3f} {at_t:.3f}" for at, at_t in self.purse.spent)]
        raw = "\n".join(lines).encode() + b"\n"
        try:
            os.pwrite(self._fd, raw, 0)
            os.ftruncate(self._fd, len(raw))
        except OSError:
            return  # a full /run: this process remembers it

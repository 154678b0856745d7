"""Units that a signal of ours may have ended for good, until each has been seen to.

    signalled -> memory is well -> handed to a watcher, again and again -> it says that it is over

A policy's SIGTERM is told by the watcher that sent it. They are kept in a file in memory, beside
what was spent: neither a watcher nor a guard that is started anew in between forgets who is down
because of us. A new boot starts everybody anyway.
"""

from collections.abc import Sequence

from watchdog.guard.kept_lines import KeptLines
from watchdog.guard_facts import OF_POLICY

OWED_MAX = 8
AGAIN_S = 30.0  # who is still ending is asked after so often, and an answer may be lost

Owed = tuple[str, int, str]  # unit, PID of whom was signalled, incident


class Revivals:
    """`left` are those that are not over yet, the oldest first."""

    def __init__(self, path: str | None, boot_id: str) -> None:
        self._kept = KeptLines(path, boot_id)
        found = self._kept.lines if self._kept.ours else ()
        self.left: list[Owed] = [one for line in found if (one := _owed(line))][:OWED_MAX]
        self.sent: dict[Owed, float] = {}  # when last

    def note(self, incident: str, ended: Sequence[tuple[str, int]]) -> None:
        """Whom an incident has ended so far: (unit, PID)."""
        found = [(unit, pid, incident) for unit, pid in ended if unit.isprintable()]
        new = [one for one in found if one not in self.left]
        if new:
            owed = [*self.left, *new]
            # whom a policy has ended gives way to whom the guard has
            first = sorted(range(len(owed)), key=lambda at: not owed[at][2].startswith(OF_POLICY))
            gone = first[: max(0, len(owed) - OWED_MAX)]
            self._take([one for at, one in enumerate(owed) if at not in gone])

    def due(self, one: Owed, up: float, started: float) -> bool:
        """Is it to be handed over now, to a watcher that was started then?"""
        sent = self.sent.get(one)
        return sent is None or sent < started or up - sent >= AGAIN_S

    def heard(self, kind: str, unit: str, pid: int, incident: str = "") -> None:
        """A watcher has "ended" one for a policy, or what was to be done about it is done."""
        if kind == "ended":
            self.note(incident, [(unit, pid)])
        else:
            self.over(unit, pid)

    def wish(self, one: Owed, left: int) -> tuple[str, str, int, str, bool]:
        """What the watcher is asked for, where so many are left of the guard's budget.

        Of whom a policy has ended the watcher asks the policy's own.
        """
        ours = [other for other in self.left if not other[2].startswith(OF_POLICY)]
        return ("revive", *one, one not in ours or ours.index(one) < left)

    def over(self, unit: str, pid: int) -> None:
        """A watcher has done what was to be done about it."""
        self._take([one for one in self.left if one[:2] != (unit, pid)])

    def forget(self) -> None:
        """Nobody is to be started again."""
        self._take([])

    def _take(self, left: list[Owed]) -> None:
        self.left = left
        self.sent = {one: to for one, to in self.sent.items() if one in left}
        self._kept.write([f"{pid} {incident} {unit}" for unit, pid, incident in left])


def _owed(line: str) -> Owed | None:
    pid, _, rest = line.partition(" ")
    incident, _, unit = rest.partition(" ")
    known = unit and pid.isascii() and pid.isdigit() and len(pid) < 11
    return (unit, int(pid), incident) if known else None

"""Units that a signal of ours may have ended for good, until each has been seen to.

    signalled -> memory is well -> handed to a watcher, again and again -> it says that it is over

A policy's SIGTERM is told by the watcher that sent it. They are kept in a file in memory, beside
what was spent: neither a watcher nor a guard that is started anew in between forgets who is down
because of us. A new boot starts everybody anyway.
"""

from collections.abc import Sequence

from watchdog.guard.kept_lines import KeptLines
from watchdog.guard_facts import OWED_MAX

AGAIN_S = 30.0  # who is still ending is asked after so often, and an answer may be lost

Owed = tuple[str, int, str, str]  # unit, PID of whom was signalled, incident, policy or ""
_OF_POLICY = "policy:"  # in the file the name of a policy stands so before its incident


class Revivals:
    """`left` are those that are not over yet, the oldest first."""

    def __init__(self, path: str | None, boot_id: str) -> None:
        self._kept = KeptLines(path, boot_id)
        found = self._kept.lines if self._kept.ours else ()
        self.left: list[Owed] = [one for line in found if (one := _owed(line))][:OWED_MAX]
        self.sent: dict[Owed, float] = {}  # when last

    def note(self, incident: str, ended: Sequence[tuple[str, int]], policy: str = "") -> None:
        """Whom an incident, perhaps of a policy, has ended so far: (unit, PID)."""
        found = [(unit, pid, incident, policy) for unit, pid in ended if unit.isprintable()]
        new = [one for one in found if one not in self.left]
        if new:
            owed = [*self.left, *new]
            # whom a policy has ended gives way to whom the guard has
            first = sorted(range(len(owed)), key=lambda at: not owed[at][3])
            gone = first[: max(0, len(owed) - OWED_MAX)]
            self._take([one for at, one in enumerate(owed) if at not in gone])

    def due(self, one: Owed, up: float, started: float) -> bool:
        """Is it to be handed over now, to a watcher that was started then?"""
        sent = self.sent.get(one)
        return sent is None or sent < started or up - sent >= AGAIN_S

    def wish(self, one: Owed, left: int) -> tuple[str, str, int, str, str, bool]:
        """What the watcher is asked for, where so many are left of the guard's budget.

        Of whom a policy has ended the watcher asks the policy's own.
        """
        ours = [other for other in self.left if not other[3]]
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
        self._kept.write([_line(*one) for one in left])


def _line(unit: str, pid: int, incident: str, policy: str) -> str:
    incident = "".join(incident.split())
    return f"{pid} {_OF_POLICY}{policy}:{incident} {unit}" if policy else f"{pid} {incident} {unit}"


def _owed(line: str) -> Owed | None:
    pid, _, rest = line.partition(" ")
    incident, _, unit = rest.partition(" ")
    policy = ""
    if incident.startswith(_OF_POLICY):
        policy, _, incident = incident.removeprefix(_OF_POLICY).partition(":")
    known = unit and pid.isascii() and pid.isdigit() and len(pid) < 11
    return (unit, int(pid), incident, policy) if known else None

"""Effect: evidence: seen by the watcher before anybody is touched, written by a child.

What is read here at once are small files that wait for no disk and that every census reads as well:
the deed that follows may end who is looked at. The disk may hang, and smaps_rollup may take 300 ms
under the lock of a process that forks, so both are left to a program of its own.

    read -> while memory is short: kept -> written by a child -> smaps_rollup, and written once more
"""

import json
from collections import deque
from collections.abc import Callable
from typing import Any

from watchdog import words
from watchdog.act import evidence
from watchdog.child import Child, Children, ours
from watchdog.clock import Clock
from watchdog.engine import Engine
from watchdog.facts import Ident, Order

MEMBERS_SHOWN = 5
AT_ONCE = 2  # each is a Python of its own, within our own limit
WRITTEN_S = 5.0  # so long a child may take to begin and to write; a disk that hangs takes longer
SMAPS_S = 0.5
WAITING_MAX = 1 << 20  # bytes that wait to be written
NOT_READ = "not read: it took longer than 500 ms"

Answer = Callable[[Order, str, str], None]


class _Job:
    """One child at work; `smaps`: it reads smaps_rollup once the rest is written."""

    __slots__ = ("child", "order", "smaps")

    def __init__(self, order: Order | None, child: Child, smaps: bool) -> None:
        self.order, self.child, self.smaps = order, child, smaps


class Evidence:
    """`take` an order, and `answer` gets its outcome when it is written, or could not be; or `keep`
    what somebody else has seen, and nobody waits for it.
    """

    def __init__(
        self, clock: Clock, children: Children, engine: Engine, state: str, answer: Answer
    ) -> None:
        self.clock = clock
        self.children = children
        self.engine = engine
        self.state = state
        self.answer = answer
        self.jobs: list[_Job] = []
        self.stuck: list[Child] = []  # their time was over, and they have not ended
        self.waiting: deque[tuple[Order | None, bytes, bool]] = deque()

    def take(self, order: Order, folder: str | None, members: tuple[Ident, ...]) -> None:
        """Look at the process, or at the largest of a unit's `members`, and at the cgroup."""
        entity, world = order.subject.entity, self.engine.world
        idents: list[Ident] = sorted(members, key=lambda one: -world.rows[one][3])[:MEMBERS_SHOWN]
        if entity.pid is not None and entity.start is not None:
            idents = [(entity.pid, entity.start)]
        found: dict[str, Any] = {"order": order.id, "t": self.clock.wall()}
        found |= {"entity": entity._asdict(), "because": list(order.because)}
        found["cgroup"] = evidence.of_cgroup(folder)
        found["processes"] = {}
        for ident in idents:
            one = world.present.get(ident)
            who = one.who if one is not None else None
            found["processes"][str(ident[0])] = {
                "cmdline": ((one.cmdline if one else None) or "")[: evidence.CMDLINE_MAX]
                if who else None,
                "cgroup": who.cgroup if who else None,  # its file waits for a lock
                **evidence.of_process(*ident),
            }  # fmt: skip
        smaps = bool(idents) and not self.engine.pressed
        found["smaps_rollup"] = None
        if idents:
            found["smaps_rollup"] = NOT_READ if smaps else "not read: memory is short"
        self.keep(order.id, found, order, idents[0] if smaps else None)

    def keep(
        self, name: str, found: dict[str, Any], order: Order | None = None,
        ident: Ident | None = None,
    ) -> None:  # fmt: skip
        """Write it once memory is not short, with smaps_rollup of `ident`."""
        asked: dict[str, Any] = {
            "state": self.state,
            "name": name,
            "found": evidence.bounded(found),
        }
        if ident is not None:
            asked["ident"] = ident
        raw = json.dumps(asked).encode()
        if len(raw) + sum(len(one[1]) for one in self.waiting) > WAITING_MAX:
            self._answer(order, "failed", "too much is waiting to be written already")
            return
        self.waiting.append((order, raw, ident is not None))
        self.turn()

    def _answer(self, order: Order | None, outcome: str, said: str) -> None:
        if order is not None:
            self.answer(order, outcome, said)

    def turn(self) -> None:
        """Go on with what has ended, and with what waits."""
        # One that hangs in the kernel does not end when it is killed.
        over = [job for job in self.jobs if job.child.done or job.child.timed_out]
        self.jobs = [job for job in self.jobs if job not in over]
        self.stuck = [child for child in (*self.stuck, *(job.child for job in over))
                      if not child.done]  # fmt: skip
        for job in over:
            self._answer(job.order, *_outcome(job.child))
        for job in self.jobs:
            if job.smaps and b"\n" in job.child.output:  # the rest is written
                job.smaps = False
                job.child.deadline_s = self.children.now() - job.child.began + SMAPS_S
        busy = len(self.stuck)
        while self.waiting and busy + len(self.jobs) < AT_ONCE and not self.engine.pressed:
            order, raw, smaps = self.waiting.popleft()
            try:
                argv = ours("watchdog.act.evidence", bare=True)
                child = self.children.start(argv, raw, WRITTEN_S)
            except OSError as error:
                self._answer(order, "failed", f"it cannot be written: {error.strerror}")
                continue
            self.jobs.append(_Job(order, child, smaps))


def _outcome(child: Child) -> tuple[str, str]:
    """What its last whole line says."""
    failure = child.failure()
    lines = bytes(child.output).split(b"\n")[:-1]
    if not lines:
        return "failed", f"what writes it {failure or 'has said nothing'}"
    try:
        outcome, said = json.loads(lines[-1])
    except (ValueError, TypeError):
        return "failed", f"what writes it said {words.safe(lines[-1].decode('utf-8', 'replace'))}"
    return str(outcome), f"{said}; without smaps_rollup" if failure else str(said)

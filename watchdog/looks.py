"""What the engine asks to see: answered as facts, by reading, or by children that end soon.

A look for claims starts two: the journal's entries of whoever kills for memory (`sense.claims`),
and `systemctl show` of the units concerned. Both are bounded; what fails is said in the answer,
and a machine without a journal answers with nothing. A look for the parts of a process starts
`sense.parts`, one at a time: whoever would have to wait behind QUEUE_MAX others is not looked at.
"""

import json
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from watchdog import trace, words
from watchdog.child import Child, Children, ours
from watchdog.clock import Clock
from watchdog.facts import Fact, Look, Looked, Parts
from watchdog.sense.senses import Senses

DEADLINE_S = 10.0
OUTPUT_MAX = 1 << 20
ENTRIES_MAX = 500
# Reading takes half a second at the most; the rest is the start of an interpreter under load.
PARTS_DEADLINE_S = 5.0
PARTS_OUTPUT_MAX = 16 << 10
QUEUE_MAX = 8
SYSTEMCTL = "/usr/bin/systemctl"
PROPERTIES = "Id,Result,ExecMainPID,ExecMainCode,ExecMainStatus"


class Looks:
    """`feed` takes the facts; one look for claims at a time, as the engine asks."""

    def __init__(
        self, clock: Clock, children: Children, senses: Senses, feed: Callable[[Fact], None]
    ) -> None:
        self.clock = clock
        self.children = children
        self.senses = senses
        self.feed = feed
        self.look: Look | None = None
        self.journal: Child | None = None
        self.units: Child | None = None
        self.problem: str | None = None
        self.waiting: deque[Look] = deque()
        self.parts: tuple[Look, Child] | None = None

    def ask(self, look: Look) -> None:
        """Begin; what can be read at once is fed at once."""
        if look.what == "counts":
            counts = self.senses.count_kills()
            if counts is not None:
                self.feed(counts)
            return
        if look.what == "parts":
            if len(self.waiting) < QUEUE_MAX:
                self.waiting.append(look)
            self._next_parts()
            return
        if self.look is not None:
            return
        self.look, self.problem = look, None
        argv = [*ours("watchdog.sense.claims"), "--since", f"{look.since_t}"]
        self.journal = self._start(argv)
        if look.units and os.path.exists(SYSTEMCTL):
            self.units = self._start([SYSTEMCTL, "show", "-p", PROPERTIES, "--", *look.units])

    def over(self) -> None:
        """Feed the answers of the children that have ended."""
        self._parts_over()
        running = [child for child in (self.journal, self.units) if child and not child.done]
        if self.look is None or running:
            return
        look, self.look = self.look, None
        entries = _entries(self.journal)
        if self.journal is not None and self.journal.failure():
            said = words.name(bytes(self.journal.errors).strip().split(b"\n")[0])
            self.problem = said or f"reading the journal {self.journal.failure()}"
        units = _units(self.units)
        self.journal = self.units = None
        up = self.clock.boottime()
        self.feed(Looked(self.clock.wall(), up, look.id, entries, units, self.problem))

    def _next_parts(self) -> None:
        while self.parts is None and self.waiting:
            look = self.waiting.popleft()
            pid, start = look.process or (0, 0)
            argv = [*ours("watchdog.sense.parts"), "--pid", f"{pid}", "--start", f"{start}"]
            try:
                child = self.children.start(
                    argv, b"", PARTS_DEADLINE_S, max_output=PARTS_OUTPUT_MAX
                )
            except OSError:
                continue  # no memory to start one: then what it holds is of no interest either
            self.parts = (look, child)

    def _parts_over(self) -> None:
        if self.parts is None or not self.parts[1].done:
            return
        (look, child), self.parts = self.parts, None
        if not child.failure():
            line = b'{"type":"parts",' + bytes(child.output).strip().removeprefix(b"{")
            at = {"t": self.clock.wall(), "up": self.clock.boottime(), "look_id": look.id}
            pid, start = look.process or (0, 0)
            try:
                found = trace.fact(json.dumps(json.loads(line) | at | {"pid": pid, "start": start}))
            except ValueError:  # a torn line; whoever wrote it is of our own kind, so it is rare
                found = None
            if isinstance(found, Parts):
                self.feed(found)
        self._next_parts()

    def _start(self, argv: list[str]) -> Child | None:
        try:
            return self.children.start(argv, b"", DEADLINE_S, max_output=OUTPUT_MAX)
        except OSError as error:
            self.problem = f"{argv[0]}: {error.strerror}"
            return None


def _entries(child: Child | None) -> tuple[dict[str, Any], ...]:
    found: list[dict[str, Any]] = []
    for raw in bytes(child.output).split(b"\n") if child else ():
        try:
            entry = json.loads(raw) if raw else None
        except ValueError:
            continue  # the last line of an output that was cut
        if isinstance(entry, dict):
            found.append(entry)
    return tuple(found[-ENTRIES_MAX:])


def _units(child: Child | None) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for block in bytes(child.output).split(b"\n\n") if child else ():
        pairs = [line.partition(b"=") for line in block.split(b"\n") if b"=" in line]
        state = {words.name(key): words.name(value) for key, _, value in pairs}
        name = state.pop("Id", None)
        if name:
            found[name] = state
    return found

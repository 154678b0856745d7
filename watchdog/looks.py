"""What the engine asks to see: answered as facts, by reading, or by children that end soon.

A look for claims starts two: the journal's entries of whoever kills for memory (`sense.claims`),
and `systemctl show` of the units concerned. Both are bounded; what fails is said in the answer,
and a machine without a journal answers with nothing.
"""

import json
import os
from collections.abc import Callable
from typing import Any

from watchdog import words
from watchdog.child import Child, Children, ours
from watchdog.clock import Clock
from watchdog.facts import Fact, Look, Looked
from watchdog.sense.senses import Senses

DEADLINE_S = 10.0
OUTPUT_MAX = 1 << 20
ENTRIES_MAX = 500
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

    def ask(self, look: Look) -> None:
        """Begin; what can be read at once is fed at once."""
        if look.what == "counts":
            counts = self.senses.count_kills()
            if counts is not None:
                self.feed(counts)
            return
        if self.look is not None:
            return
        self.look, self.problem = look, None
        argv = [*ours("watchdog.sense.claims"), "--since", f"{look.since_t}"]
        self.journal = self._start(argv)
        if look.units and os.path.exists(SYSTEMCTL):
            self.units = self._start([SYSTEMCTL, "show", "-p", PROPERTIES, "--", *look.units])

    def over(self) -> None:
        """Feed the answer, once both children have ended."""
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

"""The kernel log of the time when nobody looked: cursors, and the journal read by a child.

Live, the kernel log is /dev/kmsg. After a restart its ring still holds what came meanwhile, unless
it has wrapped or the machine was booted: then the journal has it. Both give the same ids (boot and
the kernel's own time), so what both tell is told once.
"""

import json
import sys
from collections.abc import Iterator, Mapping

from watchdog import words
from watchdog.child import Child, Children
from watchdog.clock import Clock
from watchdog.facts import KernelLine

DEADLINE_S = 20.0
OUTPUT_MAX = 16 << 20
NO_READER = 3  # exit status of the program where systemd-python cannot be had


class CatchUp:
    """Where to go on reading, and the lines that the journal has kept since."""

    def __init__(self, children: Children, kept: Mapping[str, str], boot_id: str | None) -> None:
        self.children = children
        self.boot_id = boot_id
        self.cursor = kept.get("journal")
        self.child: Child | None = None
        self.problem: str | None = None
        boot, _, seq = kept.get("kmsg", "").partition(" ")
        # The first start ever begins at the end of the ring; a later one reads what it missed.
        self.kmsg_seq: int | None = None
        if boot:
            self.kmsg_seq = int(seq) if boot == boot_id and seq.lstrip("-").isdigit() else -1

    @property
    def busy(self) -> bool:
        """Is the journal still being read?"""
        return self.child is not None

    def start(self, source: str) -> None:
        """Ask the journal for what came after the cursor, or for a first cursor."""
        if source not in ("auto", "journal"):
            return
        argv = [sys.executable, "-I", "-m", "watchdog.sense.journal"]
        argv += ["--after-cursor", self.cursor] if self.cursor else ["--end"]
        try:
            self.child = self.children.start(argv, b"", DEADLINE_S, max_output=OUTPUT_MAX)
        except OSError as error:
            self.problem = f"the journal cannot be read: {error.strerror}"

    def facts(self, clock: Clock) -> Iterator[KernelLine]:
        """The lines, once the child is done; `problem` where it failed."""
        child = self.child
        if child is None or not child.done:
            return
        self.child = None
        if child.failure():
            said = words.name(bytes(child.errors).strip().split(b"\n")[0])
            self.problem = said or f"reading the journal {child.failure()}"
        for raw in bytes(child.output).split(b"\n"):
            try:
                record = json.loads(raw) if raw else None
            except ValueError:
                continue  # the last line of an output that was cut
            if not isinstance(record, dict):
                continue
            self.cursor = record.get("cursor") or self.cursor
            if "line" in record:
                yield self._line(record)

    def cursors(self, kmsg_seq: int) -> dict[str, str]:
        """What to keep, together with the events that these lines led to."""
        kept = {"journal": self.cursor} if self.cursor else {}
        return kept | {"kmsg": f"{self.boot_id} {kmsg_seq}"}

    def _line(self, record: Mapping[str, object]) -> KernelLine:
        boot, usec = record.get("boot_id"), record.get("usec")
        t = record.get("t")
        other = str(boot) if boot and boot != self.boot_id else None
        return KernelLine(
            float(t) if isinstance(t, int | float) else 0.0,
            usec / 1e6 if isinstance(usec, int | float) else None,
            str(record["line"]),
            other,
        )

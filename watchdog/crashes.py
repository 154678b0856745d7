"""The kernel's last words in pstore, once each: what a panic took away before any log had it.

They carry no boot id. A dump that holds a kill which was told before is of that kill's boot, and
its other reports are told as of that boot; else the boot is "unknown".
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping

from watchdog.facts import KernelLine, PastKill, Tick
from watchdog.health import Say
from watchdog.judge.diagnosis import identity
from watchdog.oom_report.stream import CUT_OFF_S

KEPT = "pstore"
ROOTS = ("/sys/fs/pstore", "/var/lib/systemd/pstore")
UNKNOWN = "unknown"
NOTES_MAX = 5


class Crashes:
    """`kept` is the store's; `roots` are the folders of pstore."""

    def __init__(self, kept: Mapping[str, str], say: Say, roots: tuple[str, ...] = ROOTS) -> None:
        try:
            self.known = [str(one) for one in json.loads(kept.get(KEPT) or "[]")]
        except (ValueError, TypeError):
            self.known = []
        self.say = say
        self.roots = roots
        self.done = False

    def facts(self, past: Callable[[], Iterable[PastKill]]) -> Iterator[KernelLine | Tick]:
        """The lines of what is new; to be fed while no report is open. Once."""
        self.done = True
        if not any(map(_holds_something, self.roots)):
            self.known = []
            return
        from watchdog.sense import pstore  # few machines have one

        found = pstore.read(self.known, self.roots)
        told = {one.identity: one.boot_id for one in past()} if found.crashes else {}
        for crash in found.crashes:
            boots = {told[known] for known in _identities(crash.lines) if told.get(known)}
            boot = boots.pop() if len(boots) == 1 else None
            yield from _lines(crash.lines, crash.time, boot or UNKNOWN)
        self.known = list(found.marks)
        if found.notes:
            more = len(found.notes) - NOTES_MAX
            because = [*found.notes[:NOTES_MAX], *([f"and {more} more"] if more > 0 else [])]
            self.say("watchdog.degraded", because, {"what": "pstore"})

    def kept(self) -> dict[str, str]:
        """What to keep once the lines were taken."""
        return {KEPT: json.dumps(self.known)}


def _holds_something(root: str) -> bool:
    try:
        return bool(os.listdir(root))
    except FileNotFoundError:
        return False
    except OSError:
        return True  # it is said why it cannot be read


def _identities(crash: tuple[str, ...]) -> list[str]:
    """Of the reports in a dump, as their events have them."""
    from watchdog.oom_report.assemble import Assembler

    assembler = Assembler()
    reports = [
        report
        for line in _lines(crash, 0.0, UNKNOWN)
        if isinstance(line, KernelLine)
        for report in assembler.feed(line)
    ]
    return [identity(report) for report in [*reports, *assembler.flush()]]


def _lines(crash: tuple[str, ...], time: float, boot: str) -> Iterator[KernelLine | Tick]:
    """Each line dated by the kernel's clock, the last one with the time of the crash."""
    from watchdog.oom_report import lines

    stamps: list[int | None] = [lines.read(line).usec for line in crash]
    last = max((usec for usec in stamps if usec is not None), default=0)
    at = time
    for line, usec in zip(crash, stamps, strict=True):
        at = time if usec is None else time - (last - usec) / 1e6
        yield KernelLine(round(at, 3), None, line, boot)
    yield Tick(time + CUT_OFF_S + 1.0, None)

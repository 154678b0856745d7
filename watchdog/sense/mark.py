"""How far the kernel log has been read, so that another source goes on where this one ended.

A record of /dev/kmsg and the journal's entry of the same record have the boot, the kernel's own
time and the text in common; the number of the record and the journal's cursor are each the
business of one of them. Law: a record is given once, whichever source it comes from, and in doubt
twice rather than never (what is made of it carries the boot and the kernel's time in its id).
"""

import json
import zlib
from typing import Generic, NamedTuple, TypeVar

# Records that two CPUs print at once may stand in the log in another order than their times.
DISORDER_USEC = 1_000_000
HELD_MAX = 2000


class Mark(NamedTuple):
    """The last record that was taken. `t` is Unix seconds and `mono` CLOCK_MONOTONIC seconds when
    it was read; `usec` the kernel's clock (-1: no record yet, from `t` on), `crc` that of its text;
    `seq` its number in /dev/kmsg (-1: unknown) and `cursor` its place in the journal (None:
    unknown)."""

    boot_id: str
    t: float
    mono: float
    usec: int = -1
    crc: int = 0
    seq: int = -1
    cursor: str | None = None

    def text(self) -> str:
        """As it is kept."""
        return json.dumps(self)


def load(text: str | None) -> Mark | None:
    """What `text` made, or None where it is no mark."""
    try:
        found = Mark(*json.loads(text or ""))
        whole = Mark(
            str(found.boot_id), float(found.t), float(found.mono), int(found.usec),
            int(found.crc), int(found.seq), None if found.cursor is None else str(found.cursor),
        )  # fmt: skip
    except (ValueError, TypeError):
        return None
    return whole


def crc_of(line: str) -> int:
    """Of the text of a raw record ("prio,seq,usec,flags;text"), the same from either source."""
    return zlib.crc32(line.partition(";")[2].encode("utf-8", "surrogateescape"))


R = TypeVar("R")


class Resume(Generic[R]):
    """Leaves out of one source what was taken from another, up to `mark`; `done` when it is past.

    Both hold the records in the same order, so all that follows the marked record is new. Where
    the marked record is not there (overwritten, not stored), what is later than it is new.
    """

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self.done = mark.usec < 0
        self._held: list[tuple[int, R]] = []

    def take(self, record: R, usec: int | None, line: str) -> list[R]:
        """One record of the marked boot; those that are known to be new, in their order."""
        mark = self.mark
        if self.done:
            return [record]
        if usec is None or usec < mark.usec - DISORDER_USEC:
            return []
        if usec == mark.usec and crc_of(line) == mark.crc:
            self.done, self._held = True, []
            return []
        self._held.append((usec, record))
        if usec > mark.usec + DISORDER_USEC or len(self._held) > HELD_MAX:
            return self.end()
        return []

    def end(self) -> list[R]:
        """No more of it comes for now: what is later than the mark is new."""
        self.done = True
        held, self._held = self._held, []
        return [record for usec, record in held if usec > self.mark.usec]

"""Pure: lines of the kernel log in, OOM reports out.

Laws: a report opens at any of its shapes and never needs its first line. A kill line is one death
and belongs to exactly one report. Nothing is asked of versions, only of shapes. What user space
wrote is no report, and memory is bounded whatever comes in.
"""

from typing import TYPE_CHECKING, NamedTuple

from watchdog import words
from watchdog.facts import KernelLine
from watchdog.oom_report import kill, lines
from watchdog.oom_report.collect import Collector
from watchdog.oom_report.draft import Seen
from watchdog.oom_report.report import Invoker, Other, Report, Victim
from watchdog.oom_report.stream import CUT_OFF_S, LATE_S, QUIET_S, interesting

if TYPE_CHECKING:
    from watchdog.oom_report.saved import Saved

__all__ = ["Assembler", "Forged", "Invoker", "Other", "Report", "Victim"]

FORGED_MAX = 64
HOSTS_MAX = 256


class Forged(NamedTuple):
    """Text that would have been read as a kill, had the kernel written it as one.

    `why` is "facility" (user space wrote the record) or "place" (the text stands inside a record
    of the kernel's about something else, such as the name of a device).
    """

    t: float
    up: float | None
    usec: int | None
    why: str
    text: str


class Assembler:
    """Feed it lines and time; it gives reports. One for each stream of lines.

    A saved log can hold the lines of several machines, one among the other: each has its own
    reports. A line that names no machine belongs to the one before.
    """

    def __init__(self) -> None:
        self._reports = Collector(self._misread)
        self._host: str | None = None
        self._elsewhere: dict[str, Collector] = {}
        self._saved: Saved | None = None  # what reads saved text; the daemon has only records
        self._last_line = KernelLine(0.0, None, "")
        self._held_seen: Seen | None = None
        self._forged: list[Forged] = []
        self.number = 0  # lines fed so far
        self.unread = 0  # lines with a report's shape that could not be read
        self.unread_at: list[int] = []

    def feed(self, line: KernelLine) -> list[Report]:
        """One line; the reports that are over with it."""
        last = self._reports.last()
        out = [] if last is None else self._over(_apart_s(last, line), CUT_OFF_S)
        self.number += 1
        self._last_line = line
        raw = line.line
        if self.idle and not interesting(raw) and (raw[:1].isdigit() or not lines.opens(raw)):
            return out
        if lines.is_record(raw):
            reads = self._saved.entries.flush() if self._saved is not None else []
            reads.append(lines.read(raw))
        else:
            reads = self._text().entries.feed(raw)
        for read in reads:
            out += self._read(read, line)
        return out

    def _text(self) -> "Saved":
        if self._saved is None:
            from watchdog.oom_report.saved import Saved  # 150 KiB that the daemon never needs

            self._saved = Saved(self._unfinished, self._whole_row)
        return self._saved

    def _read(self, read: lines.Line, line: KernelLine) -> list[Report]:
        out: list[Report] = []
        seen = Seen(
            line.t, line.up, read.usec, read.stamp, read.wall, line.boot_id or read.boot_id,
            self.number, read.caller, read.host,
        )  # fmt: skip
        if not read.kernel:
            self._claim(read.text, seen, "facility")
            return out
        if read.fragment and self._reports.goes_on(read.text):
            return out
        saved = self._saved
        if saved is None:
            return self._reports.take(read, seen)
        if not read.exact and saved.echoed(read):
            return out
        held = self._held_seen
        for whole in saved.wrap.feed(read):
            self._turn_to(whole.host)
            out += self._reports.take(whole, held or seen)
            held = None
        if self._none_open and not interesting(saved.wrap.text):
            saved.wrap.drop()  # else one line of others would be held for ever, and none skipped
        if saved.wrap.idle:
            self._held_seen = None
        elif held is None:
            self._held_seen = seen
        return out

    def _unfinished(self, text: str) -> bool:
        return self._reports.unfinished(text)

    def _whole_row(self, text: str) -> bool:
        return self._reports.whole_row(text)

    def _turn_to(self, host: str | None) -> None:
        """Go on with the reports of this machine."""
        if host is None or host == self._host:
            return
        if self._host is not None:
            if host not in self._elsewhere and len(self._elsewhere) >= HOSTS_MAX:
                return  # no names of machines
            self._elsewhere[self._host] = self._reports
            known = self._elsewhere.pop(host) if host in self._elsewhere else None
            self._reports = known or Collector(self._misread)
        self._host = host

    @property
    def _none_open(self) -> bool:
        return self._reports.idle and all(one.idle for one in self._elsewhere.values())

    @property
    def idle(self) -> bool:
        """Whether nothing is open, so that lines without any of MARKS need not be fed."""
        return self._none_open and (self._saved is None or self._saved.idle)

    @property
    def awaited(self) -> int:
        """How many reports are open that wait for their kill line."""
        return self._reports.awaited

    def skip(self, count: int) -> None:
        """So many lines were passed over."""
        self.number += count

    def tick(self, t: float, up: float | None, late: bool = False) -> list[Report]:
        """Time has passed: what is over by quiet is over.

        Where the reader may be `late` the end of a report of this boot may be, too; of another boot
        nothing is written any more.
        """
        last = self._reports.last()
        if last is None:
            return []
        late = late and last.boot_id is None
        return self._over(_since_s(last, t, up), LATE_S if late else CUT_OFF_S)

    def _over(self, quiet_s: float, cut_off_s: float) -> list[Report]:
        return [] if quiet_s < (QUIET_S if self._reports.over() else cut_off_s) else self.flush()

    def flush(self) -> list[Report]:
        """No more lines come: everything that is open is over."""
        out: list[Report] = []
        if self._saved is not None:
            for read in self._saved.entries.flush():
                out += self._read(read, self._last_line)
            for whole in self._saved.wrap.flush():
                if self._held_seen is not None:
                    self._turn_to(whole.host)
                    out += self._reports.take(whole, self._held_seen)
        self._held_seen = None
        for elsewhere in self._elsewhere.values():
            out += elsewhere.close()
        return out + self._reports.close()

    def settle(self) -> list[Report]:
        """The reader stops: what has its kill line is over, what has not is read again later."""
        return self.flush() if self._reports.over() else []

    def forged(self) -> list[Forged]:
        """The forgeries since the last call."""
        found, self._forged = self._forged, []
        return found

    # -- what is not the kernel's ------------------------------------------------------------------

    def _claim(self, text: str, seen: Seen, why: str) -> None:
        if "illed process" in text and len(self._forged) < FORGED_MAX:
            found = kill.kill(text, False)
            if found is not None and (found.comm is not None or found.anon is not None):
                self._forged.append(Forged(seen.t, seen.up, seen.usec, why, words.safe(text[:200])))

    def _misread(self, text: str, seen: Seen, exact: bool) -> None:
        if exact or kill.kill(text, False) is not None:
            self._claim(text, seen, "place")
        elif "total-vm:" in text:
            self.unread += 1
            if len(self.unread_at) < 64:
                self.unread_at.append(seen.number)


def _since_s(last: Seen, t: float, up: float | None) -> float:
    return up - last.up if up is not None and last.up is not None else t - last.t


def _apart_s(last: Seen, line: KernelLine) -> float:
    """By the kernel's own clock, if both lines have it: however late either was read."""
    head = lines.RECORD.match(line.line)
    if head is not None and last.usec is not None and line.boot_id == last.boot_id:
        return (int(head[3]) - last.usec) / 1e6
    return _since_s(last, line.t, line.up)

"""A program: the kernel's messages out of the journal, one JSON object a line.

    python -I -m watchdog.sense.journal --after MARK [--relevant] [--until USEC | --follow SECONDS]
    python -I -m watchdog.sense.journal [--boot N] [--since T] [--directory DIR]

Reading the journal maps its files, hundreds of MiB over time, so it is done by a child that ends.
A message is {"t", "usec", "boot_id", "line", "cursor"}; `line` is a record as /dev/kmsg would give
it ("prio,0,usec,-;text"), so that a report seen by both is the same report. Besides there are
{"cursor"}: all up to there has been read
(null: there is nothing); {"gap": [from, to]}: the journal
begins only after the mark, what was logged between these times (Unix seconds, `to` may be null) is
not in it; and {"missed": n}: journald itself did not get so many messages of the kernel.

MARK is a `sense.mark.Mark` as text. `--relevant` leaves out what can be no part of an OOM report;
`--until USEC` ends with the first message of this boot that is not older, or three seconds after
the journal's end; `--follow` goes on at the end for so long, or until nobody reads any more.
Exit status: 0 done, 1 nothing there (but nothing new after a mark is 0), 2 usage or unreadable,
3 systemd-python cannot be had.
"""

import json
import re
import select
import sys
import time
import uuid
from typing import Any, NamedTuple

from watchdog import words
from watchdog.facts import KernelLine
from watchdog.oom_report import failure, lines
from watchdog.oom_report.assemble import Assembler
from watchdog.oom_report.stream import interesting
from watchdog.sense import mark
from watchdog.sense.mark import Mark

MESSAGES_MAX = 40_000  # about 10 MiB; the next call goes on after the last cursor
HEARTBEAT = 5000  # entries that were passed over, until it is said how far we are
WHOLE = 1000  # the first entries are all given: a report may have begun before them
SETTLE_S = 3.0  # journald is that far behind the kernel at the most
SEEK_BACK_S = 60.0  # clocks drift, and journald may have been slow
NOTHING, USAGE, NO_SYSTEMD = 1, 2, 3
# SD_MESSAGE_JOURNAL_MISSED: "Missed 7 kernel messages"
MISSED_ID = "e9bf28e6e834481bb6f48f548ad13606"
_MISSED = re.compile(r"Missed (\d{1,12}) kernel messages")


class Options(NamedTuple):
    """What to read; `boot` is an id, "current", or a number as journalctl takes it (0, -1, …)."""

    after: Mark | None = None
    boot: str | None = None
    since: float | None = None
    directory: str | None = None
    most: int = MESSAGES_MAX
    until: int | None = None
    follow_s: float | None = None
    relevant: bool = False
    probe: bool = False


def main(argv: list[str]) -> int:
    """Run the program; its exit status."""
    options = _options(argv)
    if isinstance(options, str):
        return _complain(options, USAGE)
    try:
        # by importing it: a folder of this name without the module satisfies find_spec
        from systemd import journal
    except ImportError as error:
        return _complain(f"the journal cannot be read: {error}", NO_SYSTEMD)
    try:
        return _run(journal, options)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return _complain(f"the journal cannot be read: {why}".lower(), USAGE)


def _run(journal: Any, options: Options) -> int:
    place = {"path": options.directory} if options.directory else {}
    with journal.Reader(**place) as reader:
        if options.probe:
            return 0
        boot = _boot(journal, options, place)
        if boot is None and options.boot is not None:
            return NOTHING
        follow = options.follow_s is not None or options.until is not None
        fd = reader.fileno() if follow else -1  # before reading, so that no new file is overlooked
        _match(reader, boot)
        printer = _Printer(options)
        after = options.after
        if after is not None and _seek_cursor(reader, after.cursor):
            printer.cursor = after.cursor
            printer.flush(always=True)  # exactly here: nothing comes twice
        elif after is not None:
            printer.floor = _oldest(reader, after)
            _match(reader, boot)
            if not _seek_mark(reader, after, printer.floor):
                entry = reader.get_next()
                to = round(_wall(entry), 3) if entry else None
                print(json.dumps({"gap": [after.t, to]}))
                printer.take(entry)
        elif options.since is not None:
            reader.seek_realtime(options.since)
        else:
            reader.seek_head()
        printer.drain(reader)
        if follow and not printer.full:
            _follow(reader, fd, printer, options)
    printer.flush()
    return 0 if printer.count or after is not None else NOTHING


def _match(reader: Any, boot: str | None) -> None:
    """The kernel's messages, and what journald says of those that it did not get."""
    reader.add_match(_TRANSPORT="kernel")
    reader.add_disjunction()
    reader.add_match(_TRANSPORT="driver", MESSAGE_ID=MISSED_ID)
    if boot is not None:
        reader.add_conjunction()
        reader.add_match(_BOOT_ID=boot)


class _Printer:
    """Says what was read; `count` messages so far."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.count = 0
        self.cursor: str | None = None
        self.over = False
        self._said: str | None = None
        self._passed = 0
        self._seen = 0
        self.floor: dict[str, Any] | None = None
        self._assembler = Assembler() if options.relevant else None
        self._current = _current() if options.until is not None else None

    @property
    def full(self) -> bool:
        """No more is wanted."""
        return self.over or self.count >= self.options.most

    def drain(self, reader: Any) -> None:
        """All that is there."""
        while not self.full:
            entry = reader.get_next()
            if not entry:
                break
            self.take(entry)

    def take(self, entry: dict[str, Any]) -> None:
        """One entry; an empty one is none."""
        if not entry or self._older(entry):
            return
        self.cursor = str(entry.get("__CURSOR", "")) or None
        told = message(entry)
        if told is None:
            missed = _missed(entry)
            if missed and (self.options.after is None or _wall(entry) > self.options.after.t):
                print(json.dumps({"missed": missed}))
        elif self._matters(told):
            print(json.dumps(told))
            self.count += 1
            self._said = self.cursor
            self._passed = 0
        if told is not None and self._current is not None:
            late = (told["usec"] or 0) >= (self.options.until or 0)
            self.over = late and told["boot_id"] == str(self._current)
        self._passed += 1
        if self._passed >= HEARTBEAT:
            self.flush()

    def _older(self, entry: dict[str, Any]) -> bool:
        """Whether an entry is of before the marked boot: seeking by its clock stands at the
        beginning of all files that do not know the boot."""
        if self.floor is None:
            return False
        if entry.get("_BOOT_ID") == self.floor.get("_BOOT_ID"):
            self.floor = None
            return False
        (line, number), (other, least) = _sequence(entry), _sequence(self.floor)
        return number < least if line == other else _wall(entry) < _wall(self.floor)

    def flush(self, always: bool = False) -> None:
        """Say how far we are, if it has not been said."""
        if always or self.cursor != self._said:
            print(json.dumps({"cursor": self.cursor}))
        self._said, self._passed = self.cursor, 0
        sys.stdout.flush()

    def _matters(self, told: dict[str, Any]) -> bool:
        self._seen += 1
        if self._assembler is None:
            return True
        line = told["line"]
        idle = self._assembler.idle
        usec = told["usec"]
        up = None if usec is None else usec / 1e6
        self._assembler.feed(KernelLine(told["t"], up, line, told["boot_id"]))
        if self._seen <= WHOLE or not idle or interesting(line):
            return True
        return failure.interesting(line) or failure.task(line) is not None


def _follow(reader: Any, fd: int, printer: _Printer, options: Options) -> None:
    """Until the time is over, all that was wanted is there, or nobody reads what we print."""
    printer.flush(always=True)
    out = sys.stdout.fileno()
    end = time.monotonic() + (SETTLE_S if options.follow_s is None else options.follow_s)
    poller = select.poll()
    poller.register(fd, reader.get_events())
    poller.register(out, 0)  # its other end closed is always told
    while not printer.full and (left := end - time.monotonic()) > 0:
        for ready, _ in poller.poll(min(left, 1.0) * 1000):
            if ready == out:
                raise BrokenPipeError
        reader.process()
        printer.drain(reader)
        printer.flush()


def _seek_cursor(reader: Any, cursor: str | None) -> bool:
    """Right after the entry of a cursor; False where it was rotated away, or is none."""
    if cursor is None:
        return False
    try:
        reader.seek_cursor(cursor)
        # the nearest entry is what is found in the place of one that is gone
        return bool(reader.get_next()) and bool(reader.test_cursor(cursor))
    except OSError:
        return False


def _oldest(reader: Any, after: Mark) -> dict[str, Any] | None:
    """What is left of the marked boot begins with it."""
    reader.flush_matches()
    _match(reader, uuid.UUID(after.boot_id).hex)
    reader.seek_head()
    oldest: dict[str, Any] = reader.get_next()
    reader.flush_matches()
    return oldest or None


def _seek_mark(reader: Any, after: Mark, oldest: dict[str, Any] | None) -> bool:
    """A little before the mark, the parent leaves out what it has; False: that is not there."""
    if oldest is None or after.usec < 0:
        # That boot is gone from the journal, or never was in it: by the clock on the wall.
        reader.seek_realtime(after.t)
        return after.usec < 0
    reader.seek_monotonic(max(0.0, after.mono - SEEK_BACK_S), uuid.UUID(after.boot_id))
    usec = _usec(oldest.get("_SOURCE_MONOTONIC_TIMESTAMP"))
    return usec is None or usec <= after.usec


def _sequence(entry: dict[str, Any]) -> tuple[str, int]:
    """Which run of numbers an entry is of, and its number in it."""
    parts = dict(part.partition("=")[::2] for part in str(entry.get("__CURSOR", "")).split(";"))
    try:
        return parts.get("s", ""), int(parts.get("i", ""), 16)
    except ValueError:
        return "", 0


def _boot(journal: Any, options: Options, place: dict[str, str]) -> str | None:
    """The id to match, without dashes, or None."""
    wanted = options.boot
    if wanted is None:
        return None
    if wanted in ("current", "0") and not place:
        return None if (found := _current()) is None else found.hex
    if not wanted.lstrip("-").isdigit() or len(wanted) >= 32:
        return uuid.UUID(wanted).hex
    with journal.Reader(**place) as reader:
        boots = _boots(reader)
    number = int(wanted)
    index = number - 1 if number > 0 else len(boots) - 1 + number
    return boots[index] if 0 <= index < len(boots) else None


def _boots(reader: Any) -> list[str]:
    """The boots of the journal, oldest first."""
    first: list[tuple[float, str]] = []
    for boot in reader.query_unique("_BOOT_ID"):
        key = boot.hex if isinstance(boot, uuid.UUID) else str(boot)
        reader.flush_matches()
        reader.add_match(_BOOT_ID=key)
        reader.seek_head()
        entry = reader.get_next()
        if entry:
            first.append((_wall(entry), key))
    return [key for _, key in sorted(first)]


def _current() -> uuid.UUID | None:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return uuid.UUID(file.read().strip())
    except (OSError, ValueError):
        return None


def message(entry: dict[str, Any]) -> dict[str, Any] | None:
    """One entry as it is printed; None where the kernel did not write it, unless it claims a kill:
    the reader of reports refuses that by its facility, and can tell of the forgery."""
    text = _text(entry.get("MESSAGE"))
    if text is None or entry.get("_TRANSPORT") != "kernel":
        return None
    facility, name = entry.get("SYSLOG_FACILITY"), entry.get("SYSLOG_IDENTIFIER")
    genuine = lines.from_kernel("kernel", facility, name)
    if not genuine and "illed process" not in text:
        return None
    usec = _usec(entry.get("_SOURCE_MONOTONIC_TIMESTAMP"))
    boot = entry.get("_BOOT_ID")
    level = entry.get("PRIORITY")
    level = level if isinstance(level, int) and 0 <= level < 8 else 6
    prio = level if genuine else 8 + level
    return {
        "t": round(_wall(entry), 6),
        "usec": usec,
        "boot_id": str(boot) if boot is not None else None,
        "line": f"{prio},0,{usec or 0},-;{lines.escape(text)}",
        "cursor": str(entry.get("__CURSOR", "")),
    }


def _text(value: Any) -> str | None:
    """A MESSAGE: text, bytes where it is no UTF-8, a list where an entry has several."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "surrogateescape")
    return None if value is None else str(value)


def _missed(entry: dict[str, Any]) -> int:
    found = _MISSED.match(_text(entry.get("MESSAGE")) or "")
    return int(found[1]) if found and entry.get("_TRANSPORT") == "driver" else 0


def _usec(value: Any) -> int | None:
    try:
        if hasattr(value, "total_seconds"):
            value = value.total_seconds() * 1e6
        return round(float(value))
    except (TypeError, ValueError):
        return None


def _wall(entry: dict[str, Any]) -> float:
    value: Any = entry.get("_SOURCE_REALTIME_TIMESTAMP") or entry.get("__REALTIME_TIMESTAMP")
    if hasattr(value, "timestamp"):
        return float(value.timestamp())
    try:
        return int(value) / 1e6
    except (TypeError, ValueError):
        return 0.0


def _options(argv: list[str]) -> Options | str:
    found: dict[str, Any] = {}
    rest = list(argv)
    while rest:
        flag = rest.pop(0)
        if flag in ("--probe", "--relevant"):
            found[flag[2:]] = True
            continue
        if flag not in _FLAGS:
            return f"unknown option {flag}"
        if not rest:
            return f"{flag} needs a value"
        value = rest.pop(0)
        key, kind = _FLAGS[flag]
        try:
            found[key] = kind(value)
        except ValueError:
            return f"{flag}: not a number: {value}"
        if found[key] is None:
            return f"{flag}: not a mark: {value}"
    return Options(**found)


_FLAGS: dict[str, tuple[str, Any]] = {
    "--after": ("after", mark.load), "--boot": ("boot", str), "--since": ("since", float),
    "--directory": ("directory", str), "--most": ("most", int), "--until": ("until", int),
    "--follow": ("follow_s", float),
}  # fmt: skip


def _complain(text: str, status: int) -> int:
    print(words.safe(text), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

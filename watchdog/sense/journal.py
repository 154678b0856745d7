"""A program: the kernel's messages out of the journal, one JSON object a line.

    python -I -m watchdog.sense.journal --after-cursor CURSOR
    python -I -m watchdog.sense.journal --since-boot current
    python -I -m watchdog.sense.journal --end

Reading the journal maps its files, hundreds of MiB over time, so it is done by a child that ends.
Each object is {"t", "usec", "boot_id", "line", "cursor"}; `line` is a record as /dev/kmsg would
give it ("prio,0,usec,-;text"), so that a report seen by both is the same report. The last object
holds the "cursor" alone, with --end the only one. Exit status: 0 done, 1 nothing there (but nothing
new after a cursor is 0), 2 usage or unreadable, 3 systemd-python cannot be had.
"""

import json
import sys
import uuid
from typing import Any, NamedTuple

from watchdog import words
from watchdog.oom_report import lines

MESSAGES_MAX = 40_000  # about 10 MiB; the next call goes on after the last cursor
NOTHING, USAGE, NO_SYSTEMD = 1, 2, 3


class Options(NamedTuple):
    """What to read; `boot` is an id, "current", or a number as journalctl takes it (0, -1, …)."""

    cursor: str | None = None
    boot: str | None = None
    since: float | None = None
    directory: str | None = None
    most: int = MESSAGES_MAX
    probe: bool = False
    end: bool = False


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
    if options.probe:
        return 0
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
        reader.add_match(_TRANSPORT="kernel")
        boot = _boot(journal, options, place)
        if boot is not None:
            reader.add_match(_BOOT_ID=boot)
        elif options.boot is not None:
            return NOTHING
        count, cursor = 0, None
        if options.end:
            reader.seek_tail()
            cursor = reader.get_previous().get("__CURSOR")
        else:
            _seek(reader, options)
        while count < options.most and not options.end:
            entry = reader.get_next()
            if not entry:
                break
            cursor = entry.get("__CURSOR")
            told = message(entry)
            if told is not None:
                print(json.dumps(told))
                count += 1
    if cursor is not None:
        print(json.dumps({"cursor": str(cursor)}))
    sys.stdout.flush()
    return 0 if count or options.end or options.cursor is not None else NOTHING


def _seek(reader: Any, options: Options) -> None:
    if options.cursor is not None:
        reader.seek_cursor(options.cursor)
        # A cursor may have been rotated away: then the nearest entry is a new one.
        entry = reader.get_next()
        if entry and not reader.test_cursor(options.cursor):
            reader.get_previous()
    elif options.since is not None:
        reader.seek_realtime(options.since)
    else:
        reader.seek_head()


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
    """One entry as it is printed; None where the kernel did not write it."""
    told = entry.get("_TRANSPORT"), entry.get("SYSLOG_FACILITY"), entry.get("SYSLOG_IDENTIFIER")
    text = entry.get("MESSAGE")
    if not lines.from_kernel(*told) or text is None:
        return None
    if isinstance(text, (bytes, bytearray)):
        text = bytes(text).decode("utf-8", "surrogateescape")
    usec = _usec(entry.get("_SOURCE_MONOTONIC_TIMESTAMP"))
    boot = entry.get("_BOOT_ID")
    level = entry.get("PRIORITY")
    level = level if isinstance(level, int) and 0 <= level < 8 else 6
    return {
        "t": round(_wall(entry), 6),
        "usec": usec,
        "boot_id": str(boot) if boot is not None else None,
        "line": f"{level},0,{usec or 0},-;{lines.escape(str(text))}",
        "cursor": str(entry.get("__CURSOR", "")),
    }


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
    found = Options()
    rest = list(argv)
    while rest:
        flag = rest.pop(0)
        if flag in ("--probe", "--end"):
            found = found._replace(end=found.end or flag == "--end")
            found = found._replace(probe=found.probe or flag == "--probe")
            continue
        if flag not in _FLAGS:
            return f"unknown option {flag}"
        if not rest:
            return f"{flag} needs a value"
        value = rest.pop(0)
        try:
            if flag == "--since":
                found = found._replace(since=float(value))
            elif flag == "--most":
                found = found._replace(most=int(value))
            elif flag == "--after-cursor":
                found = found._replace(cursor=value)
            elif flag == "--directory":
                found = found._replace(directory=value)
            else:
                found = found._replace(boot=value)
        except ValueError:
            return f"{flag}: not a number: {value}"
    return found


_FLAGS = ("--after-cursor", "--since-boot", "--boot", "--since", "--directory", "--most")


def _complain(text: str, status: int) -> int:
    print(words.safe(text), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

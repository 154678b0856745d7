"""A program: what those who kill for memory have said in the journal, one JSON object a line.

    python -I -m watchdog.sense.claims --since UNIX [--directory DIR]

systemd-oomd, earlyoom, nohang, oomd, and PID 1. Each object is {"t", "unit", "comm", "uid", "pid",
"about", "text"}; all but the last two were written by journald itself, from the sender's
credentials. Exit status: 0 done, 2 usage or unreadable, 3 systemd-python cannot be had.
"""

import json
import sys
from typing import Any

from watchdog import words

UNITS = (
    "systemd-oomd.service", "earlyoom.service", "nohang.service", "nohang-desktop.service",
    "oomd.service", "fb-oomd.service",
)  # fmt: skip
COMMS = ("earlyoom", "nohang", "oomd", "systemd-oomd")
# PID 1 says much when many units fail; the newest matter.
ENTRIES_MAX = 2000
TEXT_MAX = 400
USAGE, NO_SYSTEMD = 2, 3


def main(argv: list[str]) -> int:
    """Run the program; its exit status."""
    try:
        flags = dict(zip(argv[::2], argv[1::2], strict=True))
        since = float(flags.pop("--since"))
        directory = flags.pop("--directory", None)
        if flags:
            raise ValueError
    except (ValueError, KeyError):
        return _complain("usage: --since UNIX [--directory DIR]", USAGE)
    try:
        # by importing it: a folder of this name without the module satisfies find_spec
        from systemd import journal
    except ImportError as error:
        return _complain(f"the journal cannot be read: {error}", NO_SYSTEMD)
    try:
        with journal.Reader(**({"path": directory} if directory else {})) as reader:
            for told in _read(reader, since):
                print(json.dumps(told))
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stderr.close()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return _complain(f"the journal cannot be read: {why}".lower(), USAGE)
    return 0


def _read(reader: Any, since: float) -> list[dict[str, Any]]:
    # matches of one field are "or"; add_disjunction makes "or" of fields
    for unit in UNITS:
        reader.add_match(_SYSTEMD_UNIT=unit)
    reader.add_disjunction()
    for comm in COMMS:
        reader.add_match(_COMM=comm)
    reader.add_disjunction()
    reader.add_match(_PID="1")
    reader.seek_realtime(since)
    found: list[dict[str, Any]] = []
    while entry := reader.get_next():
        found.append(told(entry))
        if len(found) > ENTRIES_MAX:
            del found[0]
    return [one for one in found if one["t"] >= since]


def told(entry: dict[str, Any]) -> dict[str, Any]:
    """One entry as it is printed."""
    text = entry.get("MESSAGE")
    if isinstance(text, (bytes, bytearray)):
        text = bytes(text).decode("utf-8", "surrogateescape")
    return {
        "t": _wall(entry.get("__REALTIME_TIMESTAMP")),
        "unit": _text(entry.get("_SYSTEMD_UNIT")),
        "comm": _text(entry.get("_COMM")),
        "uid": _number(entry.get("_UID")),
        "pid": _number(entry.get("_PID")),
        "about": _text(entry.get("UNIT")),
        "text": words.safe(str(text or "")[:TEXT_MAX]),
    }


def _text(value: Any) -> str | None:
    return words.safe(str(value)) if value is not None else None


def _number(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _wall(value: Any) -> float:
    if hasattr(value, "timestamp"):
        return round(float(value.timestamp()), 6)
    number = _number(value)
    return 0.0 if number is None else number / 1e6


def _complain(text: str, status: int) -> int:
    print(words.safe(text), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

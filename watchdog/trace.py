"""Pure: facts <-> lines of the trace (JSON Lines; see docs/architecture.md).

The first line of our own recordings is {"type":"trace","version":1,"host":…,"acted":…}; `acted`
says that the outcomes of the orders are in it. Types and keys that a reader does not know are
passed over; a line that is broken is an error with a sentence, and the next one is read.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from watchdog import words
from watchdog.facts import Fact, Group, Host, KernelLine, Outcome, Row, Said, Sweep, Tick, Who

VERSION = 1
_NUMBER = (int, float)
# What no size, count or time exceeds; json also reads NaN, Infinity and integers of any length.
_LIMIT = 1 << 63


class Header(NamedTuple):
    """What a recording says of itself."""

    host: str | None = None
    acted: bool = False


class TraceError(ValueError):
    """A line that cannot be read; the message says what was expected."""


def header_line(host: str | None, acted: bool) -> str:
    """The first line of a recording of ours."""
    return _line({"type": "trace", "version": VERSION, "host": host, "acted": acted})


def line(fact: Fact) -> str:
    """One fact as one line, without the newline; keys that are None are left out."""
    if isinstance(fact, Sweep):
        kind = "procs" if fact.census else "sweep"
        return _line({"type": kind, "t": fact.t, "up": fact.up, "rows": fact.rows})
    return _line({"type": _NAMES[type(fact)], **fact._asdict()})


def fact(text: str | bytes) -> Fact | Header | None:
    """The fact of one line; None for a type that we do not know. Raises TraceError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise TraceError("not JSON") from None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise TraceError('expected an object with a "type"')
    kind = value["type"]
    if kind == "trace":
        host = value.get("host")
        whose = words.safe(host) if isinstance(host, str) else None
        return Header(whose, value.get("acted") is True)
    if kind not in _READERS:
        return None
    t, up = value.get("t"), value.get("up")
    if not _is_number(t) or not (up is None or _is_number(up)):
        raise TraceError('expected "t" in Unix seconds')
    found: Fact = _READERS[kind](value)
    return found


def _line(value: Mapping[str, Any]) -> str:
    kept = {key: part for key, part in value.items() if part is not None}
    return json.dumps(kept, separators=(",", ":"))


def _is_number(value: object) -> bool:
    return isinstance(value, _NUMBER) and not isinstance(value, bool) and -_LIMIT < value < _LIMIT


def _is_count(value: object) -> bool:
    return type(value) is int and -_LIMIT < value < _LIMIT


def _sweep(value: dict[str, Any]) -> Sweep:
    rows = value.get("rows")
    if not isinstance(rows, list):
        raise TraceError('expected "rows", a list')
    return Sweep(value["t"], value.get("up"), tuple(map(_row, rows)), value["type"] == "procs")


def _row(raw: Any) -> Row:
    try:
        pid, start, comm, rss, shared = raw[:5]
        swap, unit, shmem = (*raw[5:8], None, None, None)[:3]
    except (TypeError, ValueError):
        raise TraceError("expected rows of [pid, start, comm, rss, shared, swap, unit]") from None
    if not (
        all(map(_is_count, (pid, start, rss, shared)))
        and isinstance(comm, str)
        and (swap is None or _is_count(swap))
        and (unit is None or isinstance(unit, str))
        and (shmem is None or _is_count(shmem))
    ):
        raise TraceError("expected rows of [pid, start, comm, rss, shared, swap, unit]")
    unit = words.safe(unit) if unit else None
    return (pid, start, words.safe(comm), rss, shared, swap, unit, shmem)


def _plain(kind: type[Any], numbers: frozenset[str], texts: frozenset[str]) -> Any:
    """A reader of flat objects: the known keys, each of its type or null."""

    def read(value: dict[str, Any]) -> Any:
        found: dict[str, Any] = {}
        for key in kind._fields:
            part = value.get(key)
            if part is None:
                continue
            fits = _is_number if key in _TIMES else _is_count
            if (key in numbers and not fits(part)) or (key in texts and not isinstance(part, str)):
                raise TraceError(f'expected another type of "{key}"')
            found[key] = words.safe(part) if key in texts and key != "line" else part
        missing = [key for key in _REQUIRED.get(kind, ()) if key not in found]
        if missing:
            raise TraceError(f'expected "{missing[0]}"')
        for key in ("up", *(k for k in kind._fields if k not in kind._field_defaults)):
            if key in kind._fields:
                found.setdefault(key, None)
        return kind(**found)

    return read


_TIMES = frozenset({"t", "up", "btime"})
_REQUIRED: dict[type[Any], tuple[str, ...]] = {
    Who: ("pid", "start"),
    KernelLine: ("line",),
    Outcome: ("order_id", "outcome", "detail"),
    Said: ("kind", "identity", "because", "body"),
}
_NAMES: dict[type[Any], str] = {
    Host: "host", Who: "who", Group: "group", KernelLine: "kmsg", Tick: "tick",
    Outcome: "outcome", Said: "said",
}  # fmt: skip


def _said(value: dict[str, Any]) -> Said:
    because, body = value.get("because"), value.get("body")
    kind, identity = value.get("kind"), value.get("identity")
    if not (
        isinstance(because, list) and isinstance(body, dict)
        and isinstance(kind, str) and isinstance(identity, str)
    ):  # fmt: skip
        raise TraceError('expected "kind", "identity", "because" and "body"')
    return Said(value["t"], value.get("up"), kind, identity, tuple(map(str, because)), body)


_READERS: dict[str, Any] = {
    "procs": _sweep,
    "sweep": _sweep,
    "said": _said,
    "host": _plain(
        Host,
        frozenset(Host._fields) - {"boot_id"},
        frozenset({"boot_id"}),
    ),
    "who": _plain(
        Who,
        frozenset({"t", "up", "pid", "start", "ppid", "uid", "oom_score_adj"}),
        frozenset({"exe", "cgroup", "inner", "container", "cmdline"}),
    ),
    "group": _plain(
        Group,
        frozenset(
            {"t", "up", "anon", "shmem", "file", "kernel", "swap", "usage", "limit", "low", "high"}
        ),
        frozenset({"unit", "cgroup"}),
    ),
    "kmsg": _plain(KernelLine, frozenset({"t", "up"}), frozenset({"line", "boot_id"})),
    "tick": _plain(Tick, frozenset({"t", "up"}), frozenset()),
    "outcome": _plain(
        Outcome, frozenset({"t", "up"}), frozenset({"order_id", "outcome", "detail"})
    ),
}

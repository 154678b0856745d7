"""Pure: facts <-> lines of the trace (JSON Lines; see docs/architecture.md).

The first line of our own recordings is {"type":"trace","version":1,"host":…,"acted":…}; `acted`
says that the outcomes of the orders are in it. Types and keys that a reader does not know are
passed over; a line that is broken is an error with a sentence, and the next one is read.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from watchdog import words
from watchdog.facts import (
    CgroupKills,
    Counted,
    Earlier,
    Fact,
    Group,
    Host,
    KernelLine,
    LogState,
    Looked,
    Memfds,
    Missing,
    Mute,
    Muted,
    Outcome,
    Parts,
    PastKill,
    Row,
    Said,
    Sweep,
    Tick,
    Who,
)  # fmt: skip

VERSION = 1
_NUMBER = (int, float)
# What no size, count or time exceeds; json also reads NaN, Infinity and integers of any length.
_LIMIT = 1 << 63
# Half a character: JSON can tell of one, and it is no text. The others of its kind stand for bytes.
_HALF = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")


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
        inputs = True if fact.inputs else None
        return _line(
            {"type": kind, "t": fact.t, "up": fact.up, "rows": fact.rows, "inputs": inputs}
        )
    if isinstance(fact, Earlier):
        return _line(_earlier_line(fact))
    return _line({"type": _NAMES[type(fact)], **fact._asdict()})


def fact(
    text: str | bytes, loads: Callable[[str | bytes], Any] = json.loads
) -> Fact | Header | None:
    """The fact of one line; None for a type that we do not know. Raises TraceError.

    `loads` reads JSON as `json.loads` does, and raises ValueError where it cannot.
    """
    try:
        value = loads(text)
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


def _shown(half: re.Match[str]) -> str:
    return words.safe(half[0])


def _is_number(value: object) -> bool:
    return isinstance(value, _NUMBER) and not isinstance(value, bool) and -_LIMIT < value < _LIMIT


def _is_count(value: object) -> bool:
    return type(value) is int and -_LIMIT < value < _LIMIT


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < _LIMIT


def _sweep(value: dict[str, Any]) -> Sweep:
    rows = value.get("rows")
    if not isinstance(rows, list):
        raise TraceError('expected "rows", a list')
    found = []
    for raw in rows:
        try:  # what almost every row is; the rest gets a closer look
            pid, start, comm, rss, shared, swap, unit, shmem = raw
            plain = (
                type(pid) is type(start) is type(rss) is type(shared) is int
                and type(comm) is str and comm.isprintable()
                and (swap is None or (type(swap) is int and not swap >> 63))
                and (unit is None or (type(unit) is str and unit.isprintable() and unit != ""))
                and (shmem is None or (type(shmem) is int and not shmem >> 63))
                and not (pid | start | rss | shared) >> 63
            )  # fmt: skip
        except (TypeError, ValueError):
            plain = False
        found.append(tuple(raw) if plain else _row(raw))
    census, inputs = value["type"] == "procs", value.get("inputs") is True
    return Sweep(value["t"], value.get("up"), tuple(found), census, inputs and not census)


def _row(raw: Any) -> Row:
    try:
        pid, start, comm, rss, shared = raw[:5]
        swap, unit, shmem = (*raw[5:8], None, None, None)[:3]
    except (TypeError, ValueError):
        raise TraceError("expected rows of [pid, start, comm, rss, shared, swap, unit]") from None
    if not (
        all(map(_is_size, (pid, start, rss, shared)))
        and isinstance(comm, str)
        and (swap is None or _is_size(swap))
        and (unit is None or isinstance(unit, str))
        and (shmem is None or _is_size(shmem))
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
            if key in texts:
                part = _HALF.sub(_shown, part) if key == "line" else words.safe(part)
            found[key] = part
        missing = [key for key in _REQUIRED.get(kind, ()) if key not in found]
        if missing:
            raise TraceError(f'expected "{missing[0]}"')
        for key in ("up", *(k for k in kind._fields if k not in kind._field_defaults)):
            if key in kind._fields:
                found.setdefault(key, None)
        return kind(**found)

    return read


_TIMES = frozenset({"t", "up", "btime", "lived_s"})
_REQUIRED: dict[type[Any], tuple[str, ...]] = {
    Who: ("pid", "start"),
    KernelLine: ("line",),
    Outcome: ("order_id", "outcome", "detail"),
    LogState: ("state",),
    Parts: ("look_id", "pid", "start"),
    PastKill: ("identity", "lines"),
    Said: ("kind", "identity", "because", "body"),
}
_NAMES: dict[type[Any], str] = {
    Host: "host", Who: "who", Group: "group", KernelLine: "kmsg", Tick: "tick",
    Outcome: "outcome", Said: "said", CgroupKills: "cgroup_kills", LogState: "log",
    Looked: "looked", Earlier: "earlier", Parts: "parts",
    Muted: "muted", Memfds: "memfds",
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


def _cgroup_kills(value: dict[str, Any]) -> CgroupKills:
    rows = []
    for row in _list(value, "rows"):
        if not (
            isinstance(row, list) and len(row) == 3 and isinstance(row[0], str)
            and _is_count(row[1]) and (row[2] is None or _is_count(row[2]))
        ):  # fmt: skip
            raise TraceError("expected rows of [cgroup, kills, kills of its subtree]")
        rows.append((words.safe(row[0]), row[1], row[2]))
    whole = value.get("whole") is True
    return CgroupKills(value["t"], value.get("up"), tuple(rows), whole)


def _memfds(value: dict[str, Any]) -> Memfds:
    rows = []
    for row in _list(value, "rows"):
        if not (isinstance(row, list) and len(row) == 4 and all(map(_is_size, row))):
            raise TraceError("expected rows of [pid, start, inode, bytes]")
        rows.append((row[0], row[1], row[2], row[3]))
    files = value.get("files", 0)
    if not _is_size(files):
        raise TraceError('expected another type of "files"')
    return Memfds(value["t"], value.get("up"), tuple(rows), files)


def _muted(value: dict[str, Any]) -> Muted:
    rows = []
    for row in _list(value, "rows"):
        try:
            one = Mute(*row)
            keys = tuple(map(str, one.keys))
        except TypeError:
            raise TraceError("expected rows of [id, kind, match, until]") from None
        if not _is_number(one.until):
            raise TraceError("expected rows of [id, kind, match, until]")
        match, reason, by = (words.safe(str(part)) for part in (one.match, one.reason, one.by))
        rows.append(
            Mute(str(one.id), str(one.kind), match, one.until, reason, by, keys, str(one.tail))
        )
    return Muted(value["t"], value.get("up"), tuple(rows))


def _looked(value: dict[str, Any]) -> Looked:
    entries, units = _list(value, "entries"), value.get("units") or {}
    if not (
        isinstance(value.get("look_id"), str) and all(isinstance(one, dict) for one in entries)
        and isinstance(units, dict) and all(isinstance(one, dict) for one in units.values())
    ):  # fmt: skip
        raise TraceError('expected "look_id", "entries" and "units"')
    problem = value.get("problem")
    said = words.safe(problem) if isinstance(problem, str) else None
    return Looked(value["t"], value.get("up"), value["look_id"], tuple(entries), units, said)


def _outcome(value: dict[str, Any]) -> Outcome:
    found: Outcome = _OUTCOME(value)
    return found._replace(restarts=False if found.restarts is False else None)


def _parts(value: dict[str, Any]) -> Parts:
    found: Parts = _PARTS(value)
    go = value.get("go") is True if "go" in value else None
    libraries = [one for one in _list(value, "libraries") if isinstance(one, str)]
    return found._replace(go=go, libraries=tuple(map(words.safe, libraries)))


def _earlier_line(fact: Earlier) -> dict[str, Any]:
    counted = fact.counted
    return {
        "type": "earlier", "t": fact.t, "up": fact.up, "again": fact.again,
        "kills": [
            {key: part for key, part in kill._asdict().items() if part is not None}
            for kill in fact.kills
        ],
        "counted": None if counted is None else counted_plain(counted),
    }  # fmt: skip


def counted_plain(counted: Counted) -> dict[str, Any]:
    """As JSON holds it, here and in the store."""
    return counted._asdict()


def counted_of(value: object) -> Counted | None:
    """What `counted_plain` gave; None where it is nothing of the kind."""
    try:
        boot, upto, missing = value["boot_id"], value["value"], value["missing"]  # type: ignore[index]
        found = tuple(Missing(*one) for one in missing)
    except (TypeError, KeyError, ValueError):
        return None
    good = all(
        isinstance(one.id, str) and _is_count(one.kills) and one.kills > 0 and _is_number(one.t)
        and (one.up is None or _is_number(one.up))
        for one in found
    )  # fmt: skip
    return (
        Counted(boot, upto, found) if isinstance(boot, str) and _is_count(upto) and good else None
    )


def _earlier(value: dict[str, Any]) -> Earlier:
    read = _plain(PastKill, frozenset(PastKill._fields) - _KILL_TEXTS, _KILL_TEXTS)
    kills = []
    for one in _list(value, "kills"):
        if not isinstance(one, dict) or not _is_number(one.get("t")):
            raise TraceError('expected "kills", a list of objects')
        kills.append(read(one))
    again = []
    for one in _list(value, "again"):
        if not (isinstance(one, list) and len(one) == 2 and isinstance(one[0], str)
                and _is_count(one[1])):  # fmt: skip
            raise TraceError('expected "again", a list of [identity, lines]')
        again.append((one[0], one[1]))
    counted = counted_of(value.get("counted"))
    return Earlier(value["t"], value.get("up"), tuple(kills), counted, tuple(again))


def _list(value: dict[str, Any], key: str) -> list[Any]:
    found = value.get(key, [])
    if not isinstance(found, list):
        raise TraceError(f'expected "{key}", a list')
    return found


_KILL_TEXTS = frozenset({"boot_id", "identity", "comm", "exe", "unit", "cgroup"})
_PARTS = _plain(
    Parts, frozenset(Parts._fields) - {"look_id", "go", "libraries"}, frozenset({"look_id"})
)
_OUTCOME = _plain(Outcome, frozenset({"t", "up"}), frozenset({"order_id", "outcome", "detail"}))
_READERS: dict[str, Any] = {
    "parts": _parts,
    "cgroup_kills": _cgroup_kills,
    "looked": _looked,
    "muted": _muted,
    "memfds": _memfds,
    "earlier": _earlier,
    "log": _plain(LogState, frozenset({"t", "up"}), frozenset({"state", "why"})),
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
        frozenset({"exe", "cgroup", "inner", "container", "cmdline", "build"}),
    ),
    "group": _plain(
        Group,
        frozenset(
            {
                "t",
                "up",
                "anon",
                "shmem",
                "file",
                "kernel",
                "swap",
                "usage",
                "limit",
                "low",
                "high",
                "stall_us",
            }
        ),
        frozenset({"unit", "cgroup", "oomd"}),
    ),
    "kmsg": _plain(KernelLine, frozenset({"t", "up"}), frozenset({"line", "boot_id"})),
    "tick": _plain(Tick, frozenset({"t", "up"}), frozenset()),
    "outcome": _outcome,
}

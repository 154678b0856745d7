"""Events in the store: written once by their id, told once, read by the commands.

`insert`, `mark_told` and `untold` run in the writer's thread inside its transactions; `read_events`
and `follow_events` open a connection of their own that can only read.
"""

import contextlib
import json
import math
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from watchdog import words
from watchdog.facts import Event, PastKill
from watchdog.store.place import StoreError, reason

UNTOLD_MAX = 1000
PAST_KILLS_MAX = 64
# A storm that was read but not yet settled when the daemon died; about 10 ms to read.
AGAIN_MAX = 1024
TICKS_PER_S = 100  # USER_HZ: what start times count in


class Row(NamedTuple):
    """One event as its row; ``text`` is the whole JSON object."""

    id: str
    kind: str
    t: float
    unit: str | None
    pid: int | None
    text: str


def encode(event: Event) -> Row:
    """The row of an event. Never raises for a strange value: one event must not stop the store."""
    flat = event.flat()
    try:
        text = json.dumps(flat, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError):
        text = json.dumps(_plain(flat), separators=(",", ":"))
    who = [flat] + [flat[k] for k in ("victim", "target") if isinstance(flat.get(k), dict)]
    unit = next((w["unit"] for w in who if isinstance(w.get("unit"), str)), None)
    pid = next((w["pid"] for w in who if isinstance(w.get("pid"), int)), None)
    return Row(str(event.id), str(event.kind), float(event.t), unit, pid, text)


def _plain(value: Any) -> Any:
    """What JSON can hold: no NaN, no infinity, no foreign types."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else words.safe(str(value))


def insert(db: sqlite3.Connection, rows: Iterable[Row], told: frozenset[str]) -> list[str]:
    """Insert those whose id is not there yet; answers these ids. `told`: told already."""
    fresh = []
    for row in rows:
        done = db.execute(
            "INSERT OR IGNORE INTO event (id, kind, t, unit, pid, told, json)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (row.id, row.kind, row.t, row.unit, row.pid, int(row.id in told), row.text),
        )
        if done.rowcount > 0:
            fresh.append(row.id)
    return fresh


def mark_told(db: sqlite3.Connection, ids: Iterable[str]) -> None:
    """These need not be told again."""
    db.executemany("UPDATE event SET told = 1 WHERE id = ?", ((one,) for one in ids))


def untold(db: sqlite3.Connection) -> list[dict[str, Any]]:
    """Events that were stored but not told before the daemon died, the oldest first."""
    rows = db.execute("SELECT json FROM event WHERE told = 0 ORDER BY seq LIMIT ?", (UNTOLD_MAX,))
    return [json.loads(text) for (text,) in rows.fetchall()]


def past_kills(db: sqlite3.Connection, boot_id: str) -> tuple[list[PastKill], dict[str, int]]:
    """(the last OOM kills, the oldest first; identity -> kills of those of this boot).

    A reader that begins again where its place was kept meets the latter once more.
    """
    rows = db.execute(
        "SELECT json FROM event WHERE kind = 'oom.kill' ORDER BY seq DESC LIMIT ?", (AGAIN_MAX,)
    )
    kills: list[PastKill] = []
    again: dict[str, int] = {}
    for (text,) in rows:
        try:
            told = json.loads(text)
            kill = _past_kill(told)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # of another version
        if told.get("boot_id") == boot_id:
            again.setdefault(kill.identity, kill.lines)
        elif len(kills) >= PAST_KILLS_MAX:
            break
        if kill.pid is not None and len(kills) < PAST_KILLS_MAX:
            kills.append(kill)
    return kills[::-1], again


def _past_kill(told: dict[str, Any]) -> PastKill:
    victim, start, up = told.get("victim"), told.get("start"), told.get("up")
    found = victim if isinstance(victim, dict) else {}
    parts = [found.get(key) for key in ("anon_bytes", "shmem_bytes", "swap_bytes")]
    known = [part for part in parts if isinstance(part, int)]
    lived = None
    if isinstance(start, int) and isinstance(up, int | float):
        lived = round(max(0.0, up - start / TICKS_PER_S), 1)
    return PastKill(
        t=float(told["t"]),
        boot_id=told.get("boot_id"),
        # the id is kind, boot and identity; the boot's part has no dash of its own
        identity=str(told["id"]).removeprefix("oom.kill-").partition("-")[2],
        lines=int(victim is not None) + len(told.get("also_killed") or ()),
        pid=found.get("pid"),
        comm=found.get("comm"),
        exe=told.get("exe"),
        uid=told.get("uid"),
        unit=told.get("unit"),
        size_bytes=sum(known) if known else None,
        limit_bytes=told.get("limit_bytes"),
        lived_s=lived,
        cgroup=told.get("cgroup"),
    )


class Wanted(NamedTuple):
    """Which events; None is any. Times are Unix seconds; ``unit`` and ``kind`` may be globs.

    ``unit`` without a suffix also means the service, ``kind`` also a family ("leak" is "leak.*"),
    ``id`` also its beginning, where nothing has exactly that id.
    """

    since: float | None = None
    until: float | None = None
    unit: str | None = None
    kind: str | None = None
    id: str | None = None
    pid: int | None = None


ANY = Wanted()


def open_reader(path: str) -> sqlite3.Connection:
    """A connection that can only read. Raises StoreError; FileNotFoundError where nothing is."""
    try:
        mode = os.stat(path).st_mode
    except PermissionError:
        why = "permission denied (try as root)"
        raise StoreError(f"the history {words.safe(path)} cannot be read: {why}") from None
    except OSError:
        raise FileNotFoundError(path) from None
    if not stat.S_ISREG(mode):  # SQLite would wait for a FIFO for ever
        why = "it is a folder" if stat.S_ISDIR(mode) else "it is no plain file"
        raise StoreError(f"the history {words.safe(path)} cannot be read: {why}")
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    db: sqlite3.Connection | None = None
    try:
        db = sqlite3.connect(f"file:{quoted}?mode=ro", uri=True, timeout=5)
        try:
            db.execute("SELECT count(*) FROM event WHERE 0").fetchone()
        except sqlite3.OperationalError:
            # A reader who may not write the folder cannot make the -shm file that WAL needs. With
            # no daemon running there is no -wal either, and the file stands still.
            if os.path.exists(path + "-wal"):
                raise
            db.close()
            db = sqlite3.connect(f"file:{quoted}?mode=ro&immutable=1", uri=True)
            db.execute("SELECT count(*) FROM event WHERE 0").fetchone()
    except sqlite3.Error as error:
        why = reason(error)
        if not os.access(path, os.R_OK):
            why = "permission denied (try as root)"
        if db is not None:
            db.close()
        raise StoreError(f"the history {words.safe(path)} cannot be read: {why}") from None
    return db


def read_events(
    path: str, wanted: Wanted = ANY, last: int | None = None
) -> Iterator[dict[str, Any]]:
    """The stored events, in the order in which they were stored; `last`: only so many of the end.

    Raises StoreError (one line), or FileNotFoundError where no history was ever written.
    """
    with contextlib.closing(open_reader(path)) as db:
        for _, event in _select(db, wanted, 0, last):
            yield event


def follow_events(
    path: str, wanted: Wanted = ANY, last: int | None = None
) -> Iterator[dict[str, Any] | None]:
    """Like `read_events`, and goes on: None whenever there is nothing new (the caller waits)."""
    after = 0
    with contextlib.closing(open_reader(path)) as db:
        while True:
            for seq, event in _select(db, wanted, after, last):
                after = seq
                yield event
            last = None
            yield None


_SELECT = """SELECT seq, json FROM event WHERE seq > :after
    AND (:since IS NULL OR t >= :since) AND (:until IS NULL OR t <= :until)
    AND (:unit IS NULL OR unit GLOB :unit OR unit GLOB :unit || '.service')
    AND (:kind IS NULL OR kind GLOB :kind OR kind GLOB :kind || '.*')
    AND (:id IS NULL OR id = :id OR substr(id, 1, length(:id)) = :id
         AND NOT EXISTS (SELECT 1 FROM event WHERE id = :id))
    AND (:pid IS NULL OR pid = :pid)
    ORDER BY seq DESC LIMIT :last"""
_LAST = f"SELECT * FROM ({_SELECT}) ORDER BY seq"  # noqa: S608 - nothing of a caller's in it


def _select(
    db: sqlite3.Connection, wanted: Wanted, after: int, last: int | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    values = {**wanted._asdict(), "after": after, "last": -1 if last is None else last}
    sql = _SELECT.replace("DESC", "ASC") if last is None else _LAST
    try:
        for seq, text in db.execute(sql, values):
            yield seq, json.loads(text)
    except (sqlite3.Error, ValueError) as error:
        raise StoreError(f"the history cannot be read: {reason(error)}") from None

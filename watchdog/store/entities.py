"""The trends of entities in the store, so that a restart on the same boot goes on with them."""

import sqlite3
from collections.abc import Iterable, Iterator

from watchdog.facts import EntityRecord

LOAD_MAX = 4096  # what a start reads back at the most: about 8 MiB, gone after the load
# The living are written again every few minutes; who fell this far behind the last write is dead.
DEAD_AFTER_S = 2 * 3600.0
# Keys that begin so are of programs (history/lives): they outlive boots, in a table of their own.
LIFE = "life:"
LIVES_MAX = 512


def upsert(db: sqlite3.Connection, records: Iterable[EntityRecord]) -> None:
    """One row a key and boot; the newest wins. What has not changed is not written again."""
    lives: list[EntityRecord] = []
    trends: list[EntityRecord] = []
    for record in records:
        (lives if record.key.startswith(LIFE) else trends).append(record)
    db.executemany(
        "INSERT INTO life (key, first_t, last_t, blob) VALUES (?, ?, ?, ?) ON CONFLICT (key)"
        " DO UPDATE SET first_t = excluded.first_t, last_t = excluded.last_t, blob = excluded.blob"
        " WHERE blob <> excluded.blob",
        [(one.key, one.first_t, one.last_t, one.blob) for one in lives],
    )
    db.executemany(
        "INSERT INTO entity (key, boot_id, first_t, last_t, size_bytes, blob)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key, boot_id) DO UPDATE SET"
        " first_t = excluded.first_t, last_t = excluded.last_t,"
        " size_bytes = excluded.size_bytes, blob = excluded.blob",
        trends,
    )


def load(db: sqlite3.Connection, boot_id: str, now: float) -> list[EntityRecord]:
    """Those of one boot that lived when the daemon last wrote; `now` is Unix time.

    The machine's and the units', then the processes: who was seen last and the largest first. What
    lies in the future was written before the clock was set back, perhaps just now: it comes after
    the others, and does not tell when the daemon last wrote.
    """
    rows = db.execute(
        "SELECT key, boot_id, first_t, last_t, size_bytes, blob FROM entity"
        " WHERE boot_id = ?1 AND last_t >= ifnull("
        "(SELECT max(last_t) - ?2 FROM entity WHERE boot_id = ?1 AND last_t <= ?3), ?3)"
        " ORDER BY key GLOB '[0-9]*', last_t > ?3, last_t DESC, size_bytes DESC LIMIT ?4",
        (boot_id, DEAD_AFTER_S, now, LOAD_MAX),
    )
    found = [EntityRecord(*row) for row in rows.fetchall()]
    lives = db.execute(
        "SELECT key, first_t, last_t, blob FROM life ORDER BY last_t DESC LIMIT ?", (LIVES_MAX,)
    )
    # the oldest first: who was seen last is forgotten last
    found += [EntityRecord(k, "", f, t, 0, blob) for k, f, t, blob in reversed(lives.fetchall())]
    return found


def read_entities(db: sqlite3.Connection) -> Iterator[EntityRecord]:
    """All trends of the latest boot, for a reader: who was new last, whatever its clock said."""
    yield from map(
        EntityRecord._make,
        db.execute(
            "SELECT key, boot_id, first_t, last_t, size_bytes, blob FROM entity WHERE boot_id ="
            " (SELECT boot_id FROM entity ORDER BY rowid DESC LIMIT 1) ORDER BY key"
        ),
    )


def of_boot(db: sqlite3.Connection, boot_id: str, prefix: str) -> Iterator[EntityRecord]:
    """Those of one boot whose key begins so, for a reader; also of the dead."""
    yield from map(
        EntityRecord._make,
        db.execute(
            "SELECT key, boot_id, first_t, last_t, size_bytes, blob FROM entity"
            " WHERE boot_id = ? AND substr(key, 1, length(?)) = ? LIMIT 100",
            (boot_id, prefix, prefix),
        ),
    )


def of_keys(
    db: sqlite3.Connection, keys: Iterable[str], begin: bool = False
) -> Iterator[EntityRecord]:
    """Those with one of these keys, or whose key begins so, of all boots, the oldest first; for a
    reader."""
    same = "substr(key, 1, length(?1)) = ?1" if begin else "key = ?1"
    for key in keys:
        yield from map(
            EntityRecord._make,
            db.execute(
                "SELECT key, boot_id, first_t, last_t, size_bytes, blob FROM entity"  # noqa: S608
                f" WHERE {same} ORDER BY first_t LIMIT 100",
                (key,),
            ),
        )


def keys(db: sqlite3.Connection, prefix: str) -> list[str]:
    """All keys that begin so, for a reader."""
    rows = db.execute(
        "SELECT DISTINCT key FROM entity WHERE substr(key, 1, length(?1)) = ?1 ORDER BY key",
        (prefix,),
    )
    return [key for (key,) in rows]

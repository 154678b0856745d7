"""The database file: opened, told apart from others, brought to the newest schema, kept small.

Everything here runs in the thread that owns the connection.
"""

import contextlib
import os
import sqlite3

from watchdog import words
from watchdog.store.place import StoreError, prepare, reason

APPLICATION_ID = 0x6F6F6D77  # "oomw"
PAGE = 8192  # a trend has about 2 KiB: of 4 KiB pages half would be waste

# One entry a schema version, each a list of statements; only ever append.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE entity (key TEXT NOT NULL, boot_id TEXT NOT NULL, first_t REAL NOT NULL,"
        " last_t REAL NOT NULL, size_bytes INTEGER NOT NULL, blob BLOB NOT NULL,"
        " PRIMARY KEY (key, boot_id))",
        "CREATE INDEX entity_seen ON entity (boot_id, last_t)",
        "CREATE TABLE event (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,"
        " t REAL NOT NULL, unit TEXT, pid INTEGER, told INTEGER NOT NULL, json TEXT NOT NULL)",
        "CREATE INDEX event_untold ON event (seq) WHERE told = 0",
        "CREATE TABLE kept (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    ),
    (
        "CREATE TABLE host (bucket_s INTEGER NOT NULL, bucket INTEGER NOT NULL, t REAL NOT NULL,"
        " boot_id TEXT NOT NULL, blob BLOB NOT NULL, PRIMARY KEY (bucket_s, bucket))",
    ),
    (
        "CREATE TABLE life (key TEXT PRIMARY KEY, first_t REAL NOT NULL, last_t REAL NOT NULL,"
        " blob BLOB NOT NULL)",
    ),
    (
        "CREATE TABLE outbox (id TEXT PRIMARY KEY, t REAL NOT NULL, json TEXT NOT NULL)"
        " WITHOUT ROWID",
    ),
)


def open_database(path: str, max_bytes: int) -> sqlite3.Connection:
    """The writer's connection, at the newest schema. Raises StoreError (one line)."""
    prepare(os.path.dirname(path))
    shown = words.safe(path)
    try:
        # SQLite gives -wal and -shm the mode of the file itself.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o640))
        db = sqlite3.connect(path, timeout=5, isolation_level=None, cached_statements=16)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"the store {shown} cannot be opened: {reason(error)}") from None
    try:
        _check(db, shown)
        _settings(db, max_bytes)
        _migrate(db)
    except (sqlite3.Error, StoreError) as error:
        db.close()
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"the store {shown} cannot be used: {explain(error)}") from None
    return db


def explain(error: sqlite3.Error) -> str:
    """SQLite's words, with what to do where there is something to do."""
    text = reason(error)
    if "not a database" in text or "malformed" in text:
        return f"{text}; move it away, and a new one is begun"
    if "disk is full" in text:
        return f"{text}; free some space, and it goes on"
    return text


def _check(db: sqlite3.Connection, shown: str) -> None:
    """Refuse a stranger's database and a newer schema before anything is written."""
    version = _number(db, "user_version")
    if version > len(MIGRATIONS):
        raise StoreError(
            f"the store {shown} has schema {version}, newer than this program's"
            f" {len(MIGRATIONS)}: run the newer oom-watchdog, or name another --state"
        )
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and _number(db, "application_id") != APPLICATION_ID:
        raise StoreError(f"{shown} is the database of another program: name another --state")


def _settings(db: sqlite3.Connection, max_bytes: int) -> None:
    """WAL in small steps, a page cache of 256 KiB, and pages that can be given back."""
    if _number(db, "page_count") == 0:
        db.execute(f"PRAGMA page_size = {PAGE}")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA cache_size = -256")
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute(f"PRAGMA wal_autocheckpoint = {max(8, min(256, max_bytes // (16 * PAGE)))}")
    db.execute(f"PRAGMA journal_size_limit = {min(1 << 20, max_bytes // 16)}")


def _migrate(db: sqlite3.Connection) -> None:
    before = _number(db, "user_version")
    for version in range(before, len(MIGRATIONS)):
        db.execute("BEGIN IMMEDIATE")
        try:
            for statement in MIGRATIONS[version]:
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {version + 1}")
            db.execute("COMMIT")
        except sqlite3.Error:
            rollback(db)
            raise
    if before < len(MIGRATIONS):
        # Into the file itself: there a package that would go back to an older schema looks.
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def rollback(db: sqlite3.Connection) -> None:
    """Give a transaction up; a disk that is full may have done so already."""
    with contextlib.suppress(sqlite3.Error):
        if db.in_transaction:
            db.execute("ROLLBACK")


def _number(db: sqlite3.Connection, pragma: str) -> int:
    return int(db.execute(f"PRAGMA {pragma}").fetchone()[0])


# What goes first when the file is full: programs not seen for longest (all but 512), lives of
# former boots, then events but for the newest
# hundred, then the smallest entities, then the machine's oldest readings, then events without
# exception.
_THIN = (
    "DELETE FROM life WHERE key IN (SELECT key FROM life ORDER BY last_t DESC LIMIT 64 OFFSET 512)",
    "DELETE FROM entity WHERE rowid IN (SELECT rowid FROM entity WHERE boot_id <>"
    " (SELECT boot_id FROM entity ORDER BY rowid DESC LIMIT 1) ORDER BY last_t LIMIT 64)",
    "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE seq <"
    " (SELECT seq FROM event ORDER BY seq DESC LIMIT 1 OFFSET 99) ORDER BY seq LIMIT 64)",
    "DELETE FROM entity WHERE rowid IN"
    " (SELECT rowid FROM entity ORDER BY size_bytes, last_t LIMIT 64)",
    "DELETE FROM host WHERE rowid IN (SELECT rowid FROM host ORDER BY rowid LIMIT 64)",
    "DELETE FROM event WHERE seq IN (SELECT seq FROM event ORDER BY seq LIMIT 8)",
)


def thin(db: sqlite3.Connection, max_bytes: int) -> int:
    """Keep the file below `max_bytes`, its log included; answers how many rows went."""
    # The rest is for the log, which grows by one transaction before it is folded in.
    budget = max(max_bytes * 5 // 8, max_bytes - 8 * (1 << 20)) // PAGE
    if _used(db) <= budget and _number(db, "page_count") <= budget:
        return 0
    gone = 0
    for sql in _THIN:
        while _used(db) > budget * 7 // 8:
            count = db.execute(sql).rowcount
            if count <= 0:
                break
            gone += count
    db.execute("PRAGMA incremental_vacuum").fetchall()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return gone


def _used(db: sqlite3.Connection) -> int:
    return _number(db, "page_count") - _number(db, "freelist_count")

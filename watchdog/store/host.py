"""The machine's own counters in the store: one row a bucket of each resolution."""

import contextlib
import sqlite3
from collections.abc import Iterable

from watchdog.facts import HostRecord
from watchdog.store.events import open_reader
from watchdog.store.place import StoreError, reason


def upsert(db: sqlite3.Connection, records: Iterable[HostRecord]) -> None:
    """Write buckets, the newest of a number wins; what was written first goes, of more than fit.

    By their dates a clock that is a year ahead for a minute would delete everything. REPLACE gives
    a row that is written over the highest rowid, so that these tell what was written when.
    """
    most: dict[int, int] = {}
    for record in records:
        db.execute(
            "INSERT OR REPLACE INTO host (bucket_s, bucket, t, boot_id, blob)"
            " VALUES (?, ?, ?, ?, ?)",
            record[:5],
        )
        if record.most:
            most[record.bucket_s] = record.most
    for bucket_s, kept in most.items():
        (count,) = db.execute(
            "SELECT count(*) FROM host WHERE bucket_s = ?", (bucket_s,)
        ).fetchone()
        db.execute(
            "DELETE FROM host WHERE rowid IN"
            " (SELECT rowid FROM host WHERE bucket_s = ? ORDER BY rowid LIMIT ?)",
            (bucket_s, max(0, count - kept)),
        )


def read_host(path: str, bucket_s: int, since: float, until: float) -> list[HostRecord]:
    """The rows of one resolution, the oldest first. Raises StoreError (one line), or
    FileNotFoundError where no history was ever written."""
    with contextlib.closing(open_reader(path)) as db:
        try:
            rows = db.execute(
                "SELECT bucket_s, bucket, t, boot_id, blob FROM host"
                " WHERE bucket_s = ? AND t >= ? AND t <= ? ORDER BY bucket",
                (bucket_s, since, until),
            ).fetchall()
        except sqlite3.Error as error:
            if "no such table" in str(error):  # written by a version before this one
                return []
            raise StoreError(f"the history cannot be read: {reason(error)}") from None
    return [HostRecord(*row) for row in rows]

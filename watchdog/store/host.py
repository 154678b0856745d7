"""The machine's own counters in the store: one row a bucket of each resolution."""

import contextlib
import sqlite3
from collections.abc import Iterable

from watchdog.facts import HostRecord
from watchdog.store.events import open_reader
from watchdog.store.place import StoreError, reason


def upsert(db: sqlite3.Connection, records: Iterable[HostRecord]) -> None:
    """Write buckets, the newest of a number wins; what is too old for its resolution goes."""
    for record in records:
        db.execute(
            "INSERT INTO host (bucket_s, bucket, t, boot_id, blob) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (bucket_s, bucket) DO UPDATE SET t = excluded.t,"
            " boot_id = excluded.boot_id, blob = excluded.blob",
            record[:5],
        )
        db.execute(
            "DELETE FROM host WHERE bucket_s = ? AND bucket < ?", (record.bucket_s, record.oldest)
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

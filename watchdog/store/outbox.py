"""Notifications that have not arrived yet: one row each, written with the event that made it.

They run in the writer's thread, inside its transactions.
"""

import sqlite3
from collections.abc import Iterable

from watchdog.facts import Notice


def put(db: sqlite3.Connection, notices: Iterable[Notice]) -> None:
    """Write them; one that is there already stays as it is."""
    db.executemany("INSERT OR IGNORE INTO outbox (id, t, json) VALUES (?, ?, ?)", notices)


def drop(db: sqlite3.Connection, ids: Iterable[str]) -> None:
    """These have arrived, or were given up."""
    db.executemany("DELETE FROM outbox WHERE id = ?", ((one,) for one in ids))


def load(db: sqlite3.Connection) -> list[Notice]:
    """All that still wait, the oldest first."""
    return [Notice(*row) for row in db.execute("SELECT id, t, json FROM outbox ORDER BY t, id")]

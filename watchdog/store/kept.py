"""Small values that must survive a restart: cursors, cooldowns, budgets. Text by key."""

import sqlite3
from collections.abc import Mapping


def put(db: sqlite3.Connection, values: Mapping[str, str]) -> None:
    """Write each value, over what was there."""
    db.executemany(
        "INSERT INTO kept (key, value) VALUES (?, ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        values.items(),
    )


def load(db: sqlite3.Connection) -> dict[str, str]:
    """All of them."""
    return dict(db.execute("SELECT key, value FROM kept").fetchall())

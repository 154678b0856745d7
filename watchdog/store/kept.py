"""Small values that must survive a restart: cursors, cooldowns, budgets. Text by key."""

import json
import sqlite3
from collections.abc import Container, Mapping
from typing import Any


def put(db: sqlite3.Connection, values: Mapping[str, str], held: Container[str] = ()) -> None:
    """Write each value; of those `held` only where there was none."""
    for key, value in values.items():
        sql = "INSERT OR REPLACE INTO kept VALUES (?, ?)"
        if key in held:
            sql = sql.replace("REPLACE", "IGNORE")
        db.execute(sql, (key, value))


def load(db: sqlite3.Connection) -> dict[str, str]:
    """All of them."""
    return dict(db.execute("SELECT key, value FROM kept").fetchall())


def as_object(text: str | None) -> dict[str, Any] | None:
    """A value that is a JSON object; None where it is none."""
    try:
        found = json.loads(text) if text else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None

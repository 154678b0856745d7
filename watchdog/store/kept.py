"""Small values that must survive a restart: cursors, cooldowns, budgets. Text by key."""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any


def put(db: sqlite3.Connection, values: Mapping[str, str], over: bool = True) -> None:
    """Write each value, `over` what was there or only where nothing was."""
    sql = "INSERT OR REPLACE INTO kept VALUES (?, ?)"
    db.executemany(sql if over else sql.replace("REPLACE", "IGNORE"), values.items())


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

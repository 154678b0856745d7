"""How a command asks the running daemon for something: a file that the daemon takes (requests)."""

import contextlib
import json
import os
import secrets
import time
from typing import Any

from watchdog import words
from watchdog.cli import args as common
from watchdog.requests import FOLDER
from watchdog.store import now as now_json
from watchdog.store import place

TAKEN_S = 15.0  # the daemon looks every 5 s


class AskError(Exception):
    """It could not be asked; the message is one line."""


def ask(state: str | None, asked: dict[str, Any]) -> tuple[str, bool]:
    """(name of the request, is a daemon running that will take it?). Raises AskError."""
    state_dir = place.reading_dir(state)
    folder = os.path.join(state_dir, FOLDER)
    name = f"{time.time_ns():x}-{secrets.token_hex(4)}.json"
    path = os.path.join(folder, name)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(asked, file)
        os.rename(path + ".new", path)
    except FileNotFoundError:  # not to be made: a slip of the hand would silence nobody
        raise AskError(common.no_folder(state_dir)) from None
    except PermissionError:
        raise AskError(f"{words.safe(folder)}: permission denied (try as root)") from None
    except OSError as error:
        raise AskError(f"{words.safe(path)}: {(error.strerror or str(error)).lower()}") from None
    return name, is_running(state)


def is_taken(state: str | None, name: str, timeout_s: float = TAKEN_S) -> bool:
    """Wait until the daemon has taken the request."""
    path = os.path.join(place.reading_dir(state), FOLDER, name)
    end = time.monotonic() + timeout_s
    while os.path.exists(path):
        if time.monotonic() >= end:
            return False
        time.sleep(0.1)
    return True


def is_running(state: str | None) -> bool:
    """Does a daemon with this state folder write its now.json?"""
    found = seen(state)
    return found is not None and not found.old


def seen(state: str | None) -> now_json.Now | None:
    """Its now.json, or None."""
    try:
        return now_json.read_now(place.now_dirs(state))
    except place.StoreError:
        return None


def failed(error: AskError) -> int:
    """Tell it; the exit status."""
    common.complain(str(error))
    return common.USAGE

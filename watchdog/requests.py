"""What commands ask of the running daemon: files in STATE/requests. Nothing listens on a socket.

The store has one writer, the daemon, so a command that wants something kept leaves it here as one
JSON object in a file of its own, and the daemon takes it up within BEAT_S and removes the file.
Who may write the folder (0700: the daemon's own user, or root) may ask; a file that belongs to
somebody else, that others could have written, or that is no plain file is thrown away and told.
"""

import contextlib
import json
import os
import stat
from typing import Any, NamedTuple

from watchdog import words

FOLDER = "requests"
SIZE_MAX = 16 * 1024
AT_ONCE = 64  # more at a time wait for the next look


class Request(NamedTuple):
    """One request; `problem` says why it was refused, then there is nothing in `asked`."""

    name: str
    asked: dict[str, Any]
    problem: str | None = None


class Requests:
    """The folder of one state folder."""

    def __init__(self, state: str) -> None:
        self.path = os.path.join(state, FOLDER)
        self.problem: str | None = None  #: why nobody can ask anything, or None
        self.refused = 0  #: how many were thrown away
        self._made()

    def take(self) -> list[Request]:
        """What was asked since the last call; the files are gone."""
        if self.problem is not None and not self._made():
            return []
        try:
            names = [name for name in os.listdir(self.path) if name.endswith(".json")]
        except FileNotFoundError:
            self._made()
            return []
        except OSError as error:
            self.problem = f"{words.safe(self.path)}: {(error.strerror or str(error)).lower()}"
            return []
        found = []
        for name in sorted(names)[:AT_ONCE]:
            found.append(_read(os.path.join(self.path, name), name))
            self.refused += found[-1].problem is not None
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.path, name))
        return found

    def _made(self) -> bool:
        self.problem = _folder_flaw(self.path)
        return self.problem is None


def _folder_flaw(path: str) -> str | None:
    try:
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            # Not before it is missed: a disk that hangs holds mkdir up, also of what is there.
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
            found = os.lstat(path)
    except OSError as error:
        return f"{words.safe(path)}: {(error.strerror or str(error)).lower()}"
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, os.geteuid()):
        return f"{words.safe(path)} is not a folder of ours: nothing is read from it"
    if found.st_mode & 0o022:
        return f"{words.safe(path)} can be written by others: nothing is read from it"
    return None


def _read(path: str, name: str) -> Request:
    shown = words.safe(name)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        return Request(name, {}, f"request {shown}: {(error.strerror or str(error)).lower()}")
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return Request(name, {}, f"request {shown} is no plain file")
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
            whose = f"request {shown} is somebody else's (uid {found.st_uid})"
            return Request(name, {}, f"{whose}, or others could write it")
        raw = os.read(fd, SIZE_MAX + 1)
        asked = json.loads(raw) if len(raw) <= SIZE_MAX else None
    except (OSError, ValueError, RecursionError):
        asked = None
    finally:
        os.close(fd)
    if not isinstance(asked, dict):
        return Request(name, {}, f"request {shown} is none that oom-watchdog writes")
    return Request(name, asked)

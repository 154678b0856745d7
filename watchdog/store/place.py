"""Where the store lives, and who may write there: the state folder and its lock.

State folder: ``--state``, else $STATE_DIRECTORY (systemd), else /var/lib/oom-watchdog for root,
else $XDG_STATE_HOME (or ~/.local/state) + /oom-watchdog. now.json lies in $RUNTIME_DIRECTORY where
there is one, else in the state folder.
"""

import errno
import fcntl
import os
from collections.abc import Mapping

from watchdog import words

DATABASE = "history.db"
SYSTEM_STATE = "/var/lib/oom-watchdog"
SYSTEM_RUNTIME = "/run/oom-watchdog"


class StoreError(Exception):
    """The store, or a file beside it, cannot be used; the message is one line that says why."""


class LockHeldError(StoreError):
    """Somebody else holds the lock (exit status 75); the message says who."""


def state_dir(
    given: str | None = None, env: Mapping[str, str] | None = None, uid: int | None = None
) -> str:
    """The state folder, by the order that the head of this file gives. It may not exist yet."""
    env = os.environ if env is None else env
    if given:
        return os.path.abspath(given)
    named = env.get("STATE_DIRECTORY", "").split(":")[0]
    if named:
        return named
    if (os.geteuid() if uid is None else uid) == 0:
        return SYSTEM_STATE
    home = env.get("XDG_STATE_HOME", "")
    if not home.startswith("/"):  # the XDG rule: a relative path is to be ignored
        home = os.path.join(env.get("HOME") or os.path.expanduser("~"), ".local/state")
    return os.path.join(home, "oom-watchdog")


def reading_dir(
    given: str | None = None, env: Mapping[str, str] | None = None, uid: int | None = None
) -> str:
    """Where a command reads the history: a user without a daemon of their own asks the system's."""
    own = state_dir(given, env, uid)
    if given or os.path.exists(os.path.join(own, DATABASE)):
        return own
    return SYSTEM_STATE if os.path.isdir(SYSTEM_STATE) else own


def now_dir(state: str, env: Mapping[str, str] | None = None) -> str:
    """Where the daemon with this state folder puts now.json."""
    env = os.environ if env is None else env
    return env.get("RUNTIME_DIRECTORY", "").split(":")[0] or state


def now_dirs(
    given: str | None = None, env: Mapping[str, str] | None = None, uid: int | None = None
) -> list[str]:
    """Where a command looks for now.json; with ``--state`` there, and nowhere else's."""
    own = state_dir(given, env, uid)
    if given:
        return [own, SYSTEM_RUNTIME] if own == SYSTEM_STATE else [own]
    found = [now_dir(own, env), own, SYSTEM_RUNTIME, SYSTEM_STATE]
    return list(dict.fromkeys(found))


def prepare(folder: str) -> None:
    """Make the state folder (0750) where it is missing, and see that it can be written."""
    try:
        os.makedirs(folder, mode=0o750, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise StoreError(
            f"state folder {words.safe(folder)} cannot be used: {reason(error)}"
        ) from None


def take_lock(path: str) -> int:
    """Hold the lock file until the returned descriptor is closed; our pid is written into it.

    The descriptor is closed on exec: whoever execs and keeps the lock calls `os.set_inheritable`.
    Raises LockHeldError (who: the pid in the file), or StoreError where no lock file can be made.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    except OSError as error:
        raise StoreError(f"lock {words.safe(path)} cannot be made: {reason(error)}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        who = os.pread(fd, 32, 0).strip()
        os.close(fd)
        holder = f"pid {int(who)}" if who.isdigit() else "another process"
        raise LockHeldError(
            f"{words.safe(path)} is held by {holder}: one daemon at a time"
        ) from None
    except OSError as error:
        # A full disk: the lock itself holds, only the pid could not be written.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            os.close(fd)
            raise StoreError(f"lock {words.safe(path)} cannot be held: {reason(error)}") from None
    return fd


def lock_state(folder: str) -> int:
    """The lock of a state folder: a second daemon there is refused with LockHeldError."""
    prepare(folder)
    return take_lock(os.path.join(folder, "lock"))


def reason(error: BaseException) -> str:
    """An error in a few words, without the path that the sentence already names."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return words.safe(str(error) or type(error).__name__)

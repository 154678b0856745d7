"""What the guard finds around it: its flags, its places in /run, the lock, the journal's socket."""

import _socket
import fcntl
import os
import select
from collections.abc import Sequence
from typing import Any, NamedTuple

ANSWER_S = 7.0  # the watcher says something every 5 s
ENFORCE_LOCK = "/run/oom-watchdog.lock"
JOURNAL = "/run/systemd/journal/socket"


class Options(NamedTuple):
    """What `run` hands over; descriptors by number, and the watcher's own arguments."""

    rules: int
    settings: int = -1
    lock: int = -1
    for_s: float | None = None
    root: str = "/proc"
    enforce_lock: str = ENFORCE_LOCK
    answer_s: float = ANSWER_S
    spent: str | None = None
    program: str | None = None
    tail: tuple[str, ...] = ()


def options(argv: Sequence[str]) -> Options:
    """Read the flags; they come from our own `run`, so a mistake is a bug and raises."""
    found: dict[str, Any] = {}
    rest = list(argv)
    while rest:
        flag = rest.pop(0)
        if flag == "--":
            found["tail"] = tuple(rest)
            break
        name, value = flag.removeprefix("--").replace("-", "_"), rest.pop(0)
        if name in ("rules", "settings", "lock"):
            found[name] = int(value)
        elif name in ("for", "answer"):
            found[name + "_s"] = float(value)
        else:
            found[name] = value
    return Options(**found)


def spent_path(environ: dict[str, str]) -> str | None:
    """The budget is kept in memory, in the folder that systemd makes: no disk to wait for."""
    folder = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return f"{folder}/spent" if folder else None


def boot_id(root: str) -> str:
    """Empty where it cannot be read."""
    try:
        with open(f"{root}/sys/kernel/random/boot_id", "rb", buffering=0) as file:
            return file.read(64).decode("ascii", "replace").strip()
    except OSError:
        return ""


def flock(path: str) -> tuple[int | None, str | None]:
    """(descriptor, None) if we now hold the lock on `path`, else (None, why not)."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        try:
            fd = os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            fd = os.open(path, flags | os.O_RDONLY)  # a sandbox may show /run read-only
    except OSError as error:
        return None, f"{path}: {error.strerror}"
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None, f"another oom-watchdog holds {path}"
    return fd, None


def say_alone(text: str) -> None:
    """One line to the journal, else to stderr, without the watcher and without ever waiting."""
    text = "oom-watchdog: " + text.replace("\n", " ")
    line = f"PRIORITY=3\nSYSLOG_IDENTIFIER=oom-watchdog\nMESSAGE={text}\n".encode()
    kind = _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
    try:
        sender = _socket.socket(_socket.AF_UNIX, kind)
        try:
            sender.sendto(line, JOURNAL)
        finally:
            sender.close()
        return
    except OSError:
        pass
    poller = select.poll()
    poller.register(2, select.POLLOUT)
    if any(mask & select.POLLOUT for _, mask in poller.poll(0)):
        try:
            os.write(2, text.encode("utf-8", "backslashreplace") + b"\n")
        except OSError:
            return  # nobody listens at all

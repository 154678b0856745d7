"""Messages between the guard and the watcher: one SOCK_SEQPACKET packet = one tuple.

The first item of a message is its kind:

    watcher -> guard  ("beat", up) · ("dossier", up, [DossierRow, …], places, Shmem,
                       history)
                      ("machine", dict) · ("spared", all of them, {reason: [(pid, start), …]})
                      ("rules", dict) · ("ready", text) · ("status", text) · ("spent", times)
                      ("spend", t) · ("ended", incident, [(unit, pid)], policy)
                      ("revived", unit, pid) · ("reloaded", number)
                      ("again",): start another one with what the store holds
    guard -> watcher  ("stop",) · ("reload", number) · ("enforce", granted, reason or None,
                       is memory short)
                      ("report", t, up, kind, identity, because, body)
                      ("hurry", interval or 0) · ("inputs", host, rows)
                      ("revive", unit, pid, incident, policy or "", may)
                      ("stop_unit", entity, folder, incident)

marshal, because it is built in: json costs the guard 0.4 MiB. Both ends are the same program of
the same interpreter; the frame before it is there so that a torn or foreign packet is refused
before marshal sees it (marshal would believe a length of 2 GiB).
"""

import _socket  # the C half of socket; the other half loads selectors
import marshal
import os
from typing import Any

Message = tuple[Any, ...]

# The kernel's default send buffer is 208 KiB, accounted with overhead; more than half is unsafe.
MESSAGE_MAX = 96 * 1024
_MAGIC = b"omw1"
_HEAD = len(_MAGIC) + 4


class ClosedError(Exception):
    """The other end has gone."""


class TooLargeError(ValueError):
    """The message does not fit into a packet and cannot be cut."""


def pack(message: Message) -> bytes:
    """The packet. A dossier that does not fit loses its last rows: the largest come first.

    Raises TooLargeError for any other message that does not fit.
    """
    raw = _frame(message)
    if len(raw) <= MESSAGE_MAX:
        return raw
    if message[0] != "dossier" or len(message) < 3:
        raise TooLargeError(f"{message[0]}: {len(raw)} bytes")
    rows = list(message[2])
    while rows and len(raw) > MESSAGE_MAX:
        keep = min(len(rows) - 1, len(rows) * MESSAGE_MAX // len(raw))
        del rows[keep:]
        raw = _frame((*message[:2], rows, *message[3:]))
    return raw


def fits(message: Message) -> bool:
    """Whether it can be sent whole."""
    return len(_frame(message)) <= MESSAGE_MAX


def _frame(message: Message) -> bytes:
    body = marshal.dumps(message)
    return _MAGIC + len(body).to_bytes(4, "little") + body


def unpack(raw: bytes | bytearray | memoryview) -> Message | None:
    """The message of a packet; None for whatever is not one."""
    view = memoryview(raw)
    if view[: len(_MAGIC)] != _MAGIC or len(view) > MESSAGE_MAX:
        return None
    if int.from_bytes(view[len(_MAGIC) : _HEAD], "little") != len(view) - _HEAD:
        return None
    try:
        message = marshal.loads(view[_HEAD:])  # noqa: S302  our own other half
    except (ValueError, EOFError, TypeError):
        return None
    if not isinstance(message, tuple) or not message or not isinstance(message[0], str):
        return None
    return message


def pair() -> tuple[int, int]:
    """Two connected descriptors, non-blocking and closed on exec."""
    kind = _socket.SOCK_SEQPACKET | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
    left, right = _socket.socketpair(_socket.AF_UNIX, kind)
    return left.detach(), right.detach()


def send(fd: int, message: Message) -> bool:
    """Send without ever waiting; False where it did not fit or the other end does not read.

    Raises ClosedError.
    """
    try:
        os.write(fd, pack(message))
    except (TooLargeError, BlockingIOError, InterruptedError):
        return False
    except OSError as error:
        # ENOBUFS and EMSGSIZE are a full house, not a lost one.
        if error.errno in (_ENOBUFS, _EMSGSIZE):
            return False
        raise ClosedError(str(error)) from None
    return True


_ENOBUFS, _EMSGSIZE = 105, 90  # Linux on every architecture but alpha, mips, parisc and sparc


def receive(fd: int, most: int = 32) -> list[Message]:
    """All messages that wait (at most `most`), garbage left out. Raises ClosedError at the end.

    What came before the end is answered first; the next call raises.
    """
    found: list[Message] = []
    for _ in range(most):
        try:
            raw = os.read(fd, MESSAGE_MAX + 1)
        except (BlockingIOError, InterruptedError):
            break
        except OSError as error:
            if found:
                break
            raise ClosedError(str(error)) from None
        if not raw:
            if found:
                break
            raise ClosedError("end of file")
        message = unpack(raw)
        if message is not None:
            found.append(message)
    return found

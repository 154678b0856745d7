"""The service manager's protocol (sd_notify), without libsystemd and without ever waiting.

A message that cannot be sent at once is dropped and counted: the manager's socket is read by
PID 1, and PID 1 may be short of memory itself.
"""

import _socket  # the C half of socket is enough, and the guard has no room for the other
import os
import time
from collections.abc import Mapping

SENT_MAX = 4096


class Service:
    """One connection to the manager; does nothing where there is none."""

    def __init__(self, environ: Mapping[str, str], pid: int | None = None) -> None:
        """`environ` carries NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, as systemd sets them."""
        address = environ.get("NOTIFY_SOCKET", "")
        self.dropped = 0
        self.last_status = ""
        self.watchdog_s = _watchdog_s(environ, os.getpid() if pid is None else pid)
        self._socket: _socket.socket | None = None
        if address[:1] not in ("/", "@"):
            return
        self._address = "\0" + address[1:] if address[0] == "@" else address
        kind = _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        self._socket = _socket.socket(_socket.AF_UNIX, kind)

    @property
    def present(self) -> bool:
        """Does a service manager listen?"""
        return self._socket is not None

    def ready(self, status: str = "") -> bool:
        """Start-up, or a reload, is over."""
        return self._send("READY=1", status)

    def status(self, text: str) -> bool:
        """One line for `systemctl status`; the same line is not sent twice."""
        if text == self.last_status:
            return True
        return self._send("", text)

    def feed(self) -> bool:
        """Pet the watchdog."""
        return self._send("WATCHDOG=1")

    def reloading(self) -> bool:
        """A reload begins; `ready` ends it."""
        now = int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6)
        return self._send(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def stopping(self) -> bool:
        """The end begins."""
        return self._send("STOPPING=1")

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _send(self, message: str, status: str = "") -> bool:
        if self._socket is None:
            return False
        if status:
            line = status.replace("\n", " ")
            message = f"{message}\nSTATUS={line}" if message else f"STATUS={line}"
        try:
            flags = _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL
            self._socket.sendto(message.encode()[:SENT_MAX], flags, self._address)
        except OSError:
            self.dropped += 1
            return False
        if status:
            self.last_status = status
        return True


def _watchdog_s(environ: Mapping[str, str], pid: int) -> float | None:
    """The time within which the manager wants to be fed; None where it does not."""
    usec, for_pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or usec == "0":
        return None
    return int(usec) / 1e6 if for_pid in ("", str(pid)) else None

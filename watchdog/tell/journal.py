"""Events to the journal by its native protocol, without libsystemd and without ever waiting.

A datagram of fields to /run/systemd/journal/socket; what does not fit a datagram goes as a sealed
memfd. Journald that is stuck or restarts gets it later from a small spool; what the spool cannot
hold is counted. libsystemd blocks here, holding the GIL, when journald is stuck.
"""

import _socket  # the C half of socket is enough; the other half loads selectors
import array
import contextlib
import errno
import fcntl
import json
import os
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from watchdog import words
from watchdog.tell import catalog, terminal

SOCKET = "/run/systemd/journal/socket"
IDENTIFIER = "oom-watchdog"
PREFIX = "OOM_WATCHDOG_"
DOCUMENTATION = "man:oom-watchdog.events(7)"
SPOOL_MAX = 256
SPOOL_BYTES = 1 << 20
FIELDS_MAX = 400  # journald takes 1024 an entry; the whole event is in one of them anyway
NAME_MAX = 64  # journald drops a field with a longer name

Fields = list[tuple[str, str]]

_OBJECT = (
    ("pid", "OBJECT_PID"), ("uid", "OBJECT_UID"), ("comm", "OBJECT_COMM"), ("exe", "OBJECT_EXE"),
    ("unit", "OBJECT_SYSTEMD_UNIT"),
)  # fmt: skip


def fields(event: Mapping[str, Any]) -> Fields:
    """The journal fields of one event (its JSON object)."""
    kind = catalog.kind(event)
    found: Fields = [
        ("MESSAGE", terminal.message(event)),
        ("MESSAGE_ID", kind.message_id),
        ("PRIORITY", str(kind.priority)),
        ("SYSLOG_IDENTIFIER", IDENTIFIER),
        ("DOCUMENTATION", DOCUMENTATION),
    ]
    # `journalctl -u UNIT` shows what root says about OBJECT_SYSTEMD_UNIT.
    about = terminal.about(event)
    for key, name in _OBJECT:
        value = about.get(key)
        if value is None and key == "unit":
            value = event.get("unit")
        if value is not None:
            found.append((name, words.safe(str(value))))
    for name, value in _flat(PREFIX, event):
        if len(found) >= FIELDS_MAX:
            break
        found.append((name, value))
    found.append((PREFIX + "EVENT_JSON", _json(event)))
    return found


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each scalar by its path in upper case, a list as one JSON field; null is left out."""
    for key, value in values.items():
        upper = str(key).upper()
        name = prefix + "".join(c if c.isascii() and c.isalnum() else "_" for c in upper)
        if value is None or len(name) > NAME_MAX:
            continue
        if isinstance(value, Mapping):
            yield from _flat(name + "_", value)
        elif isinstance(value, bool):
            yield name, "true" if value else "false"
        elif isinstance(value, (list, tuple)):
            yield name, _json(value)
        else:
            yield name, str(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def encode(entries: Fields) -> bytes:
    """The bytes of one entry: NAME=value, or the length form where a value holds a newline."""
    parts = []
    for name, value in entries:
        raw = value.encode("utf-8", "backslashreplace")
        if b"\n" in raw:
            parts.append(name.encode() + b"\n" + len(raw).to_bytes(8, "little") + raw + b"\n")
        else:
            parts.append(name.encode() + b"=" + raw + b"\n")
    return b"".join(parts)


class Journal:
    """A sender to one journal socket. Counts: `sent`, `dropped`; `there` is False without one."""

    def __init__(self, path: str = SOCKET) -> None:
        self.path = path
        self.sent = 0  #: entries that journald took
        self.dropped = 0  #: entries that were lost because the spool was full
        self.there = os.path.exists(path)  #: is there a journal at all, as of the last send
        self._socket: _socket.socket | None = None
        self._late: list[str] = []
        self._spool: deque[tuple[str, bytes]] = deque()
        self._spool_bytes = 0

    @property
    def waiting(self) -> int:
        """Entries in the spool."""
        return len(self._spool)

    def send(self, event: Mapping[str, Any]) -> bool:
        """Send one event. False: it waits in the spool, or there is no journal here."""
        raw = encode(fields(event))
        if self.flush() == 0 and self._send(raw):
            return True
        if self.there:
            self._keep(str(event.get("id")), raw)
        return False

    def flush(self) -> int:
        """Send what waits, the oldest first; answers how many still wait."""
        while self._spool and self._send(self._spool[0][1]):
            one, raw = self._spool.popleft()
            self._spool_bytes -= len(raw)
            self._late.append(one)
        return len(self._spool)

    def take_late(self) -> list[str]:
        """The ids of events that had to wait and were sent since the last call."""
        late, self._late = self._late, []
        return late

    def close(self) -> None:
        """One last try for what waits; what is left is counted as dropped."""
        self.dropped += self.flush()
        self._spool.clear()
        if self._socket:
            self._socket.close()
            self._socket = None

    def _keep(self, one: str, raw: bytes) -> None:
        self._spool.append((one, raw))
        self._spool_bytes += len(raw)
        while len(self._spool) > SPOOL_MAX or self._spool_bytes > SPOOL_BYTES:
            self._spool_bytes -= len(self._spool.popleft()[1])
            self.dropped += 1

    def _send(self, raw: bytes) -> bool:
        try:
            if self._socket is None:
                self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
            try:
                self._socket.sendto(raw, _socket.MSG_DONTWAIT, self.path)
            except OSError as error:
                if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                    raise
                self._send_memfd(self._socket, raw)
        except OSError as error:
            # A journal that is only restarting keeps its socket: systemd holds it.
            self.there = error.errno != errno.ENOENT
            return False
        self.there = True
        self.sent += 1
        return True

    def _send_memfd(self, sender: _socket.socket, raw: bytes) -> None:
        fd = os.memfd_create(IDENTIFIER, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with contextlib.ExitStack() as closing:
            closing.callback(os.close, fd)
            view = memoryview(raw)
            while view:
                view = view[os.write(fd, view) :]
            # journald maps it only if nobody can change it any more
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
            rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [fd]))]
            sender.sendmsg([], rights, _socket.MSG_DONTWAIT, self.path)

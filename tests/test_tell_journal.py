"""The sender against a real socket: nothing blocks, nothing is lost that fits the spool."""

import array
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from watchdog.tell import journal
from watchdog.tell.journal import Journal


class Journald:
    """A journald that only reads, and only when it is asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open()

    def open(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.setblocking(False)

    def read(self) -> dict[str, str]:
        """The next entry; a memfd must be sealed."""
        raw, ancillary, _, _ = self.socket.recvmsg(1 << 20, 64)
        if ancillary:
            fds = array.array("i", ancillary[0][2])
            assert raw == b""
            assert fcntl.fcntl(fds[0], fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
            raw = os.pread(fds[0], 1 << 24, 0)
            os.close(fds[0])
        return dict(line.split("=", 1) for line in raw.decode().rstrip("\n").split("\n"))

    def ids(self) -> list[str]:
        """The ids of all that has arrived."""
        found = []
        while True:
            try:
                found.append(self.read()["OOM_WATCHDOG_ID"])
            except BlockingIOError:
                return found


def event(number: int, **body: Any) -> dict[str, Any]:
    return {"event": "leak.confirmed", "id": f"e{number}", "t": 1.0, "because": ["x"], **body}


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    one = Journald(tmp_path / "socket")
    yield one
    one.socket.close()


@pytest.fixture
def sender(journald: Journald) -> Iterator[Journal]:
    one = Journal(str(journald.path))
    yield one
    one.close()


def test_an_event_arrives_with_its_fields(journald: Journald, sender: Journal) -> None:
    assert sender.there
    assert sender.send(event(1, unit="shop.service", pid=7))
    fields = journald.read()
    assert fields["OBJECT_SYSTEMD_UNIT"] == "shop.service"
    assert fields["OOM_WATCHDOG_PID"] == "7"
    assert (sender.sent, sender.waiting, sender.dropped) == (1, 0, 0)


def test_what_fits_no_datagram_goes_as_a_sealed_memfd(journald: Journald, sender: Journal) -> None:
    assert sender.send(event(0))
    assert journald.ids() == ["e0"]
    before = len(os.listdir("/proc/self/fd"))
    assert sender.send(event(1, text="x" * (4 << 20)))
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(journald.read()["OOM_WATCHDOG_TEXT"]) == 4 << 20


def test_a_stuck_journal_never_blocks_and_gets_the_rest_later_in_order(
    journald: Journald, sender: Journal
) -> None:
    begun = time.monotonic()
    for number in range(200):
        sender.send(event(number))
    assert time.monotonic() - begun < 1
    assert sender.waiting > 0
    got = journald.ids()
    while sender.flush():
        got += journald.ids()
    got += journald.ids()
    assert got == [f"e{number}" for number in range(200)]
    assert sender.dropped == 0


def test_a_spool_that_overflows_counts_what_it_lost(
    journald: Journald, sender: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SPOOL_MAX", 20)
    monkeypatch.setattr(journal, "SPOOL_BYTES", 20_000)
    for number in range(300):
        sender.send(event(number))
    waiting = sender.waiting
    assert 0 < waiting <= 20
    assert sender.sent + sender.waiting + sender.dropped == 300
    sender.close()
    assert sender.dropped == 300 - sender.sent
    assert (sender.waiting, len(journald.ids())) == (0, sender.sent)


def test_a_journal_that_restarts_gets_what_was_sent_meanwhile(
    journald: Journald, sender: Journal
) -> None:
    journald.socket.close()  # the socket file stays, as systemd keeps it: connection refused
    assert not sender.send(event(1))
    assert (sender.there, sender.waiting) == (True, 1)
    journald.path.unlink()
    journald.open()
    assert sender.send(event(2))
    assert journald.ids() == ["e1", "e2"]


def test_without_a_journal_nothing_is_kept_and_nothing_counted(tmp_path: Path) -> None:
    sender = Journal(str(tmp_path / "none"))
    assert not sender.there
    assert not sender.send(event(1))
    assert (sender.there, sender.waiting, sender.dropped) == (False, 0, 0)
    late = Journald(tmp_path / "none")
    assert sender.send(event(2))
    assert late.ids() == ["e2"]
    late.socket.close()
    sender.close()

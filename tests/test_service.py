"""sd_notify: what systemd reads, and never a wait for it."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from watchdog.tell.service import Service


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@oomw-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if name[0] == "@" else name)
        listener.settimeout(2)
        yield name, listener


def test_what_is_told(manager: tuple[str, socket.socket]) -> None:
    name, listener = manager
    service = Service({"NOTIFY_SOCKET": name})
    assert service.present

    def heard() -> list[str]:
        return listener.recv(9999).decode().split("\n")

    assert service.ready("watching\n3 things")
    assert heard() == ["READY=1", "STATUS=watching 3 things"]
    assert service.ready()
    assert heard() == ["READY=1"]
    assert service.status("calm")
    assert heard() == ["STATUS=calm"]
    assert service.status("calm")  # not sent again
    assert service.feed()
    assert heard() == ["WATCHDOG=1"]
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    assert service.reloading()
    first, second = heard()
    assert first == "RELOADING=1"
    key, _, value = second.partition("=")
    assert key == "MONOTONIC_USEC"
    after = time.clock_gettime(time.CLOCK_MONOTONIC)
    assert before - 1e-5 <= int(value) / 1e6 <= after + 1e-5
    assert service.stopping()
    assert heard() == ["STOPPING=1"]
    assert service.dropped == 0
    service.close()
    assert not service.present


def test_a_manager_that_does_not_read_never_holds_us(manager: tuple[str, socket.socket]) -> None:
    service = Service({"NOTIFY_SOCKET": manager[0]})
    began = time.monotonic()
    while service.feed():
        assert time.monotonic() - began < 2
    assert service.dropped == 1
    assert time.monotonic() - began < 2
    service.close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_manager_nothing_is_sent(environ: dict[str, str]) -> None:
    service = Service(environ)
    assert not service.present
    assert not service.ready("x")
    assert service.dropped == 0


def test_a_socket_that_is_gone_is_counted(tmp_path: Path) -> None:
    service = Service({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    assert not service.status("x")
    assert service.dropped == 1
    assert not service.status("x")  # said again: it was never heard
    service.close()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "42"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_only_where_it_is_ours(
    environ: dict[str, str], expected: float | None
) -> None:
    assert Service(environ, pid=42).watchdog_s == expected

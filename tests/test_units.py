"""The files below systemd/: what must stand in them, and that each line says why it is there."""

from pathlib import Path

import pytest

UNITS = Path(__file__).parents[1] / "systemd"


def directives(name: str) -> dict[str, str]:
    """Key -> value; what is written more than once is joined, as systemd does."""
    found: dict[str, str] = {}
    for line in (UNITS / name).read_text(encoding="utf-8").splitlines():
        if "=" in line and line[0] != "#":
            key, value = line.split("=", 1)
            found[key] = f"{found[key]} {value}" if key in found else value
    return found


@pytest.mark.parametrize("name", [
    "oom-watchdog.service", "oomwatchdog.slice", "oom-watchdog-notify.service",
    "oom-watchdog-notify.path",
])  # fmt: skip
def test_each_directive_has_a_reason(name: str) -> None:
    before = ""
    for line in (UNITS / name).read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "#[":
            assert before.startswith("#"), f"{line} says nothing about itself"
        before = line


def test_the_service_survives_what_it_watches_for() -> None:
    service = directives("oom-watchdog.service")
    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "main"
    assert service["Restart"] == "always"
    assert service["StartLimitIntervalSec"] == "0"
    assert service["RestartPreventExitStatus"] == "78"
    assert -1000 < int(service["OOMScoreAdjust"]) <= -900
    assert service["MemorySwapMax"] == "0"
    assert "process_mrelease" in service["SystemCallFilter"]
    assert service["SystemCallErrorNumber"] == "EPERM"


def test_the_sandbox_leaves_what_is_needed() -> None:
    """Each of these was found by something that no longer worked with it."""
    service = directives("oom-watchdog.service")
    for never in ("ProtectKernelLogs", "ProcSubset", "PrivateUsers", "DynamicUser"):
        assert never not in service
    assert service["DeviceAllow"] == "/dev/kmsg r"
    if service.get("PrivateDevices") == "yes":
        assert service["BindReadOnlyPaths"] == "-/dev/kmsg"
    capabilities = set(service["CapabilityBoundingSet"].split())
    assert {"CAP_KILL", "CAP_SYS_PTRACE", "CAP_SYSLOG", "CAP_SYS_RESOURCE",
            "CAP_DAC_READ_SEARCH"} <= capabilities  # fmt: skip
    assert "CAP_IPC_LOCK" in capabilities or service["LimitMEMLOCK"] == "infinity"


def test_the_slice_is_at_the_root_and_keeps_memory() -> None:
    assert directives("oom-watchdog.service")["Slice"] == "oomwatchdog.slice"
    assert "MemoryMin" in directives("oomwatchdog.slice")


def test_the_sender_has_the_network_and_no_right() -> None:
    sender, daemon = directives("oom-watchdog-notify.service"), directives("oom-watchdog.service")
    assert sender["DynamicUser"] == "yes"
    assert sender["CapabilityBoundingSet"] == ""
    assert "AF_INET" in sender["RestrictAddressFamilies"].split()
    assert sender["LoadCredential"].endswith(":/etc/oom-watchdog/credentials")
    assert daemon["Wants"] == "oom-watchdog-notify.path"
    wake = directives("oom-watchdog-notify.path")["PathChanged"]
    assert wake == f"/run/{daemon['RuntimeDirectory']}/outbox/wake"
    for name in ("oom-watchdog-notify.service", "oom-watchdog-notify.path"):
        assert directives(name)["StartLimitIntervalSec"] == "0"  # one that gave up never sends

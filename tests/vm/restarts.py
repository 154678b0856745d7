"""Inside the virtual machine: what a restart of the watcher, or of the whole daemon, must not lose.

A service that our SIGTERM keeps down, that memory is short, a reload that was asked for.

    tests/vm/run trixie 'exec python3 -u restarts.py'
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from machine import (
    SERVICE,
    Found,
    events,
    install_wheel,
    main_pid,
    restarted,
    run_tests,
    sh,
    show,
    wait,
    watcher_of,
)

NOW = Path("/run/oom-watchdog/now.json")
CONFIG = Path("/etc/oom-watchdog/config.toml")
RULES = """
[watch]
interval = "{}s"
[guard]
mode = "enforce"
budget = "100 per 1h"
"""
# The first time it takes all memory, and slowly at the end; once it was ended it behaves.
SHOP = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
def left():
    for line in open("/proc/meminfo"):
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) >> 10
kept, most = [], int(sys.argv[2])
if not os.path.exists(sys.argv[1]):
    open(sys.argv[1], "w").close()
    while left() > most:
        kept.append(b"x" * (4 << 20 if left() > 160 else 512 << 10))
        time.sleep(0.05)
time.sleep(9e5)
"""


def start(unit: str, most: int, more: str = "") -> int:
    """A service that leaves so many MiB available; its PID."""
    script = f"/root/{unit}.py"
    Path(script).write_text(SHOP)
    Path(f"/etc/systemd/system/{unit}.service").write_text(
        f"[Service]\nExecStart=/usr/bin/python3 -I -S {script} /run/{unit} {most}\n{more}"
        "[Install]\nWantedBy=multi-user.target\n"  # else PID 1 forgets it once it has ended
    )
    sh("systemctl", "enable", "--now", unit)
    return int(show(unit, "MainPID"))


def ends(pid: int) -> None:
    """At once: what follows has to come before the service is started again."""
    until = time.monotonic() + 240
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < until, "the guard has not ended it"
        time.sleep(0.02)


def came_back(unit: str, former: int) -> None:
    name = f"{unit}.service"

    def revived() -> list[Found]:
        return [
            one for one in events("guard.action") if one["do"] == "revive" and one["unit"] == name
        ]

    found = wait(f"{unit} is started again", 120, revived)
    for one in events("guard.action"):
        if one["unit"] == name:
            print(one["do"], one["outcome"], one["because"])
    assert [one["outcome"] for one in found] == ["done"]
    wait("its process", 20, lambda: int(show(unit, "MainPID")) not in (0, former))
    assert show(unit, "NRestarts") == "0", "Restart=on-failure has not done it"
    sh("systemctl", "stop", unit)


def now() -> Found:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(NOW.read_text())
        if isinstance(found, dict):
            return found
    return {}


def test_set_up() -> None:
    install_wheel()
    CONFIG.write_text(RULES.format(2))
    sh("systemctl", "start", SERVICE)
    time.sleep(20)


def test_a_daemon_that_is_restarted_starts_whom_it_had_ended() -> None:
    pid, guard = start("shop-daemon", 0, "Restart=on-failure\n"), main_pid()
    ends(pid)
    sh("systemctl", "restart", SERVICE)
    assert restarted(guard)
    came_back("shop-daemon", pid)


def test_a_watcher_that_is_killed_leaves_it_to_the_next() -> None:
    pid = start("shop-watcher", 0, "Restart=on-failure\n")
    ends(pid)
    watcher = watcher_of(main_pid())
    assert watcher
    os.kill(watcher, signal.SIGKILL)
    came_back("shop-watcher", pid)


def test_a_watcher_that_is_started_while_memory_is_short_knows_it() -> None:
    start("ballast", 44, "OOMScoreAdjust=-950\n")  # below the mark, and spared
    try:
        wait("memory is short", 240, lambda: now().get("pressure") is True)
        watcher, started = watcher_of(main_pid()), now()["started"]
        assert watcher
        os.kill(watcher, signal.SIGKILL)
        found = wait("another watcher", 60, lambda: now() if now()["started"] != started else None)
        print(f"pressure: {found['pressure']}, available: {found['mem_available']}")
        assert found["pressure"] is True
    finally:
        sh("systemctl", "stop", "ballast")
    wait("memory is well", 60, lambda: now().get("pressure") is False)
    begun = [one["id"] for one in events("pressure.begun")]
    assert len(begun) == len(set(begun)) > 0, begun


def test_the_last_of_two_reloads_holds() -> None:
    before, guard = len(events("watchdog.reloaded")), main_pid()
    for interval in (3, 4):
        CONFIG.write_text(RULES.format(interval))
        os.kill(guard, signal.SIGHUP)
        time.sleep(0.3)
    wait("both", 60, lambda: len(events("watchdog.reloaded")) >= before + 2)
    wait("the last", 30, lambda: now()["interval_s"] == 4)


def test_a_reload_outlives_the_watcher_that_it_was_handed_to() -> None:
    before, guard = len(events("watchdog.reloaded")), main_pid()
    watcher = watcher_of(guard)
    assert watcher
    CONFIG.write_text(RULES.format(5))
    os.kill(watcher, signal.SIGSTOP)
    os.kill(guard, signal.SIGHUP)
    time.sleep(1)
    os.kill(watcher, signal.SIGKILL)
    wait("it is read", 60, lambda: len(events("watchdog.reloaded")) > before)
    wait("its rules", 30, lambda: now()["interval_s"] == 5)
    assert main_pid() == guard


def main() -> int:
    return run_tests(globals())


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent)
    sys.exit(main())

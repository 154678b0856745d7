"""Inside the virtual machine: policies that enforce restart-unit, kill-unit, throttle and evidence,
on real units under a real PID 1, a forged name that must move nothing, and victims whose numbers
are given away.

    tests/vm/run trixie 'exec python3 -u acts.py'
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

from machine import HOLD, MIB, Found, events, install_wheel, run_tests, sh, show, wait

POLICIES = """
[watch]
interval = "1s"
[policies.restarts]
match = { unit = "shop-restart.service" }
when = { resident_above = "60MiB" }
do = ["log", "evidence", "restart-unit"]
mode = "enforce"
[policies.kills]
match = { unit = "shop-kill.service" }
when = { resident_above = "60MiB" }
do = ["kill-unit"]
mode = "enforce"
[policies.throttles]
match = { unit = ["shop-throttle.service", "shop-crash.service"] }
when = { resident_above = "60MiB" }
do = ["throttle"]
cooldown = "20s"
mode = "enforce"
[policies.shared]
match = { unit = "shop-throttle.service" }
when = { resident_above = "60MiB" }
for = "6s"
do = ["throttle"]
cooldown = "35s"
mode = "enforce"
[policies.stays]
match = { unit = "shop-stop-*.service" }
when = { resident_above = "20MiB" }
do = ["throttle"]
cooldown = "10min"
mode = "enforce"
budget = "20 per 1h"
[policies.forged]
match = { name = "forger" }
when = { resident_above = "30MiB" }
do = ["restart-unit"]
per = "process"
mode = "enforce"
[policies.reused]
match = { name = "reused" }
when = { resident_above = "20MiB" }
for = "8s"
do = ["kill"]
per = "process"
cooldown = "1s"
budget = "500 per 1h"
mode = "enforce"
"""


# More than are put back at once, and than PID 1 is asked about at once.
STOPPED = [f"shop-stop-{number}.service" for number in range(10)]


def unit(name: str, mib: int, more: str = "") -> None:
    Path(f"/etc/systemd/system/{name}").write_text(
        f'[Service]\nExecStart=/usr/bin/python3 -I -S -c "{HOLD}" {mib}\n{more}'
    )


def acted(policy: str, do: str) -> Found:
    return wait(f"{policy}: {do}", 90, lambda: [
        event for event in events("policy.action")
        if event["policy"] == policy and event["do"] == do and event["outcome"] != "would"
    ])[0]  # fmt: skip


def test_set_up() -> None:
    install_wheel()
    Path("/etc/oom-watchdog/config.toml").write_text(POLICIES)
    unit("shop-restart.service", 80)
    unit("shop-kill.service", 80, "Restart=no\n")
    unit("shop-throttle.service", 80, "MemoryHigh=900M\n")
    unit("shop-crash.service", 80, "MemoryHigh=900M\n")
    unit("postgresql.service", 20)
    for name in STOPPED:
        unit(name, 24)
    sh("systemctl", "daemon-reload")
    print(sh("oom-watchdog", "check").rstrip())
    sh("systemctl", "start", "oom-watchdog.service")
    assert not [event for event in events("watchdog.degraded") if event.get("what") == "enforce"]


def test_restart_unit() -> None:
    sh("systemctl", "start", "shop-restart.service")
    before = show("shop-restart.service", "InvocationID"), show("shop-restart.service", "MainPID")
    # What the daemon holds against the answer of PID 1, as its sandbox shows it.
    ours = show("oom-watchdog.service", "MainPID")
    link = f"/proc/{ours}/root/run/systemd/units/invocation:shop-restart.service"
    assert os.readlink(link) == before[0]
    done = acted("restarts", "restart-unit")
    print(done["outcome"], done["because"])
    assert done["outcome"] == "done"
    wait(
        "another invocation", 20, lambda: show("shop-restart.service", "InvocationID") != before[0]
    )
    assert show("shop-restart.service", "MainPID") != before[1]
    kept = acted("restarts", "evidence")
    assert kept["outcome"] == "done", kept
    print(sh("ls", "-l", "/var/lib/oom-watchdog/evidence"))
    sh("systemctl", "stop", "shop-restart.service")


def test_kill_unit() -> None:
    sh("systemctl", "start", "shop-kill.service")
    done = acted("kills", "kill-unit")
    print(done["outcome"], done["because"])
    assert done["outcome"] == "done"
    wait("its end", 20, lambda: show("shop-kill.service", "ActiveState") == "failed")
    assert show("shop-kill.service", "Result") == "signal"


def test_throttle_and_back() -> None:
    sh("systemctl", "start", "shop-throttle.service")
    done = acted("throttles", "throttle")
    print(done["outcome"], done["because"])
    assert done["outcome"] == "done"
    high, current = (int(show("shop-throttle.service", key))
                     for key in ("MemoryHigh", "MemoryCurrent"))  # fmt: skip
    assert current <= high <= current + 40 * MIB, (high, current)
    begun = time.monotonic()
    shared = acted("shared", "throttle")
    print(shared["outcome"], shared["because"])
    assert shared["outcome"] == "done"
    wait("what it was", 90, lambda: show("shop-throttle.service", "MemoryHigh") == str(900 * MIB))
    print(f"put back after {time.monotonic() - begun:.0f} s")
    assert time.monotonic() - begun > 30, "the limit ended with the first policy's time"
    sh("systemctl", "stop", "shop-throttle.service")


def test_a_throttle_is_undone_after_a_crash() -> None:
    sh("systemctl", "start", "shop-crash.service")
    wait("a limit of ours", 60, lambda: show("shop-crash.service", "MemoryHigh") != str(900 * MIB))
    sh("systemctl", "kill", "-s", "KILL", "oom-watchdog.service")
    wait("what it was", 90, lambda: show("shop-crash.service", "MemoryHigh") == str(900 * MIB))
    sh("systemctl", "stop", "shop-crash.service")


def test_a_throttle_is_undone_when_the_daemon_stops() -> None:
    """All of them, one that was stopped under its limit and one that is gone included; where PID 1
    is slow the last of them only when it is started again.
    """

    def highs() -> list[str]:
        return [show(name, "MemoryHigh") for name in STOPPED]

    for count in (5, len(STOPPED)):  # of more than eight at once some are told to fail
        for name in STOPPED[count - 5 : count]:
            sh("systemctl", "start", name)
        wait("limits of ours", 120, lambda: highs().count("infinity") == len(STOPPED) - count)  # noqa: B023
    sh("systemctl", "stop", STOPPED[0])
    sh("systemctl", "stop", STOPPED[1])
    Path(f"/etc/systemd/system/{STOPPED[1]}").unlink()
    sh("systemctl", "daemon-reload")
    began = time.monotonic()
    sh("systemctl", "stop", "oom-watchdog.service")
    print(f"stopped within {time.monotonic() - began:.1f} s; now {highs()}")
    assert show("oom-watchdog.service", "Result") == "success"
    assert highs().count("infinity") >= len(STOPPED) / 2
    for name in STOPPED[2:]:
        sh("systemctl", "stop", name)
    sh("systemctl", "start", "oom-watchdog.service")
    wait("all put back", 60, lambda: highs() == ["infinity"] * len(STOPPED))


def test_a_forged_name_moves_nothing() -> None:
    """A service owns its subtree, makes postgresql.service in it and puts a process there."""
    sh("systemctl", "start", "postgresql.service")
    before = show("postgresql.service", "InvocationID")
    forge = "import os, time; d = '/sys/fs/cgroup/system.slice/forger.service/postgresql.service'; "
    forge += (
        "os.makedirs(d, exist_ok=True); open(d + '/cgroup.procs', 'w').write(str(os.getpid())); "
    )
    forge += "open('/proc/self/comm', 'w').write('forger'); b = bytearray(50 << 20); "
    forge += "b[::4096] = b'x' * len(b[::4096]); time.sleep(600)"
    sh("systemd-run", "--quiet", "--unit=forger", "-p", "Delegate=yes", "/usr/bin/python3", "-I",
       "-S", "-c", forge)  # fmt: skip
    done = acted("forged", "restart-unit")
    print(done["unit"], done["inner"], done["outcome"], done["because"])
    assert done["unit"] == "forger.service"
    assert done["inner"] == "postgresql.service"
    assert show("postgresql.service", "InvocationID") == before
    assert show("postgresql.service", "ActiveState") == "active"


def begin(hold: int) -> int:
    """A process of so many bytes, which a policy looks for."""
    pid = os.fork()
    if pid == 0:
        Path("/proc/self/oom_score_adj").write_text("0")
        Path("/proc/self/comm").write_text("reused")
        held = bytearray(hold)
        held[::4096] = b"x" * len(held[::4096])
        while True:
            signal.pause()
    return pid


def take(done: Callable[[int], bool], wanted: Collection[int]) -> set[int]:
    """Use up numbers until one is the last; those who got a wanted one live on."""
    got = set()
    for _ in range(5000):
        pid = os.fork()
        if pid == 0:
            if os.getpid() not in wanted:
                os._exit(0)
            while True:
                signal.pause()
        if pid in wanted:
            got.add(pid)
        else:
            os.waitpid(pid, 0)
        if done(pid):
            break
    return got


def test_a_number_that_is_given_away_is_never_signalled() -> None:
    """There are few numbers, and the victims end about when the daemon takes them: at once their
    numbers are others'.
    """
    limit = Path("/proc/sys/kernel/pid_max")
    former = limit.read_text()
    limit.write_text("700")
    dice, owners = random.Random(1), set()
    for _ in range(10):
        began = time.monotonic()
        victims = [begin(24 * MIB) for _ in range(8)]
        first, last = min(victims), max(victims)
        if last - first > 50:
            take(lambda pid: 300 < pid < 400, ())  # the numbers began anew among them
        else:
            take(lambda pid: first - 12 <= pid < first, ())  # noqa: B023
            time.sleep(max(0.0, began + dice.uniform(7.6, 10.4) - time.monotonic()))
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if last - first <= 50:
            owners |= take(lambda pid: not first - 12 <= pid <= last, victims)  # noqa: B023
    time.sleep(5)
    dead = [pid for pid in owners if os.waitpid(pid, os.WNOHANG) != (0, 0)]
    for pid in owners.difference(dead):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    limit.write_text(former)
    told = Counter(
        str(one["outcome"]) for one in events("policy.action") if one["policy"] == "reused"
    )
    print(f"{len(owners)} numbers were given away; orders: {dict(told)}")
    assert dead == []
    assert len(owners) >= 20
    assert told["done"]


def main() -> int:
    status = run_tests(globals(), sys.argv[1:])
    told = json.dumps(events("policy.action"), indent=1)
    Path("/results/actions.json").write_text(told)
    return status


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent)
    sys.exit(main())

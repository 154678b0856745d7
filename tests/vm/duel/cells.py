"""Inside the virtual machine, as root: one cell of the duel after the other.

    python3 -u cells.py DAEMON:SCENARIO[:NUMBER] …

A cell: a daemon, an innocent service, a heartbeat, and a culprit. It ends 20 s after relief, or
after 240 s. What happened goes to /results/cells.jsonl, one object a cell.
"""

import contextlib
import ctypes
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

MIB = 1 << 20
HERE = Path(__file__).resolve().parent
RESULTS = Path("/results/cells.jsonl")
LIMIT_S, AFTER_RELIEF_S, QUIET_S = 240.0, 20.0, 100.0
SETTLED_S = 25.0
UNITS = Path("/run/systemd/system")
OURS = "oom-watchdog"

CONFIG = """
[guard]
mode = "enforce"
"""

# The service of each daemon, and how one that is to be compared is set up: as Debian ships it.
SERVICES = {"none": None, "earlyoom": "earlyoom", "nohang": "nohang",
            "systemd-oomd": "systemd-oomd", "oomd": "oomd", OURS: OURS}  # fmt: skip


class Role(NamedTuple):
    """A service of a scenario: load.py's arguments, when it starts, and whether it may die."""

    name: str
    load: str
    at_s: float = 0.0
    guilty: bool = False
    unit: str = ""


# Sizes in MiB of a machine of 1 GiB; ends of memory lie 40 to 100 s after the start of the culprit.
SCENARIOS: dict[str, tuple[Role, ...]] = {
    "hog": (Role("shop", "steady 350"), Role("hog", "grow 0 120", 30, True)),
    "leak": (Role("shop", "steady 480"), Role("hog", "grow 20 6", 30, True)),
    "late-riser": (Role("shop", "steady 250"), Role("hog", "grow 20 4", 30, True),
                   Role("riser", "warm 150 20", 100)),
    "stubborn": (Role("shop", "steady 350"), Role("hog", "stubborn 20 12", 30, True)),
    "respawn": (Role("shop", "steady 350"),
                Role("hog", "grow 20 40", 30, True, "Restart=always\nRestartSec=0\n")),
    "plateau": (Role("shop", "steady 200"), Role("riser", "warm 400 60", 30)),
    "cache": (Role("shop", "steady 350"), Role("reader", "cache 1200", 30)),
}  # fmt: skip


def sh(*argv: str, timeout: float = 180) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
    return done.stdout


def meminfo() -> dict[str, int]:
    with open("/proc/meminfo", "rb") as file:
        lines = file.read().split(b"\n")
    return {line.split(b":")[0].decode(): int(line.split()[1]) * 1024
            for line in lines if len(line.split()) >= 2}  # fmt: skip


def oom_kills() -> int:
    for line in Path("/proc/vmstat").read_text().splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def armour() -> None:
    """The observer must not wait for the memory that it looks at."""
    ctypes.CDLL(None).mlockall(3)
    Path("/proc/self/oom_score_adj").write_text("-1000")
    with contextlib.suppress(OSError):
        os.nice(-15)


class Watched:
    """A service, and the main process that it has at the moment."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.unit = f"duel-{role.name}.service"
        self.pid = 0
        self.pidfd = -1
        self.deaths: list[float] = []
        self.started = False
        self.pidfile = Path(f"/run/duel-{role.name}.pid")

    def write(self) -> None:
        self.pidfile.unlink(missing_ok=True)
        (UNITS / self.unit).write_text(
            f"[Service]\nExecStart=/usr/bin/python3 -I -S {HERE}/load.py {self.pidfile} "
            f"{self.role.load}\nTimeoutStopSec=5\n{self.role.unit}"
        )

    def look(self, now: float) -> None:
        """Has its process ended; is there another one? By files and pidfds: no program is run."""
        if self.pidfd >= 0:
            poller = select.poll()
            poller.register(self.pidfd, select.POLLIN)
            if poller.poll(0):
                os.close(self.pidfd)
                self.pidfd = -1
                self.deaths.append(round(now, 2))
        if self.pidfd < 0 and self.started:
            with contextlib.suppress(OSError, ValueError):
                pid = int(self.pidfile.read_text())
                if pid != self.pid:
                    self.pidfd = os.pidfd_open(pid)
                    self.pid = pid

    @property
    def alive(self) -> bool:
        return self.pidfd >= 0


def install() -> None:
    """Ours, from the wheel, once."""
    if Path("/usr/bin/oom-watchdog").exists():
        return
    wheel = next(Path.cwd().glob("*.whl"))
    pip = next(Path("/usr/share/python-wheels").glob("pip-*.whl")) / "pip"
    sh("python3", "-m", "venv", "--system-site-packages", "--without-pip", "/opt/oom-watchdog")
    sh("python3", str(pip), "--python", "/opt/oom-watchdog/bin/python", "install", "--quiet",
       "--no-index", "--no-deps", str(wheel), timeout=400)  # fmt: skip
    Path("/usr/bin/oom-watchdog").symlink_to("/opt/oom-watchdog/bin/oom-watchdog")
    for name in ("oom-watchdog.service", "oomwatchdog.slice"):
        Path("/etc/systemd/system", name).write_text(Path("systemd", name).read_text())
    Path("/etc/oom-watchdog").mkdir(exist_ok=True)
    Path("/etc/oom-watchdog/config.toml").write_text(CONFIG)
    sh("systemctl", "daemon-reload")


def pss(unit: str) -> int:
    """PSS of all processes of a service."""
    total = 0
    group = sh("systemctl", "show", "-p", "ControlGroup", "--value", unit).strip()
    for name in Path(f"/sys/fs/cgroup{group}").rglob("cgroup.procs") if group else ():
        for pid in name.read_text().split():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
    return total


def cell(daemon: str, scenario: str) -> dict[str, Any]:
    service = SERVICES[daemon]
    if daemon == OURS:
        install()
        sh("sh", "-c", "rm -rf /var/lib/oom-watchdog /run/oom-watchdog")
    roles = [Watched(role) for role in SCENARIOS[scenario]]
    for one in roles:
        one.write()
    beat_file = Path("/run/duel-beat")
    beat_file.unlink(missing_ok=True)
    sh("systemctl", "daemon-reload")
    sh("sh", "-c", "sync; echo 3 >/proc/sys/vm/drop_caches")
    if service:
        for _ in range(3):  # a starved host makes a start time out
            sh("systemctl", "start", service)
            if sh("systemctl", "is-active", service).strip() == "active":
                break
        else:
            return {"daemon": daemon, "scenario": scenario, "void": "it did not start"}
    beat = subprocess.Popen(
        ["/usr/bin/python3", "-I", "-S", str(HERE / "load.py"), str(beat_file), "beat"]
    )
    pressed = relieved = None
    lowest = meminfo()["MemAvailable"]
    total = meminfo()["MemTotal"]
    kills = oom_kills()
    footprint = 0
    begin = time.monotonic()
    seen = begin
    blind = 0.0
    while True:
        now = time.monotonic() - begin
        for one in roles:
            if not one.started and now >= one.role.at_s:
                one.started = True
                sh("systemctl", "start", "--no-block", one.unit)
            one.look(now)
        available = meminfo()["MemAvailable"]
        lowest = min(lowest, available)
        if service and not footprint and now > SETTLED_S - 5:
            footprint = pss(service)
        if pressed is None and available < 0.10 * total:
            pressed = now
        elif pressed is not None and available > 0.20 * total:
            relieved = relieved or now
        elif relieved is not None and available < 0.10 * total:
            relieved = None  # it was none
        if relieved is not None and now - relieved > AFTER_RELIEF_S:
            break
        guilty = any(one.role.guilty for one in roles)
        last = max(one.role.at_s for one in roles)
        if now > LIMIT_S or (not guilty and now > last + QUIET_S):
            break
        time.sleep(0.1)
        blind, seen = max(blind, time.monotonic() - seen), time.monotonic()
    end = round(time.monotonic() - begin, 1)
    for one in roles:
        one.look(end)
    beat.kill()
    beat.wait()
    stall = 0.0
    with contextlib.suppress(OSError, ValueError):
        stall = float(beat_file.read_text())
    found = {
        "daemon": daemon, "scenario": scenario, "end_s": end,
        "pressed_s": pressed, "relieved_s": relieved, "lowest_bytes": lowest,
        "deaths": sorted((at, one.role.name) for one in roles for at in one.deaths),
        "guilty": [one.role.name for one in roles if one.role.guilty],
        "alive": {one.role.name: one.alive for one in roles},
        "oom_kills": oom_kills() - kills, "stall_s": round(stall, 3), "blind_s": round(blind, 3),
        "footprint_bytes": footprint,
    }  # fmt: skip
    if daemon == OURS:
        told = sh("oom-watchdog", "events", "--json").splitlines()
        found["told"] = [
            {key: event.get(key) for key in ("event", "do", "outcome", "comm", "unit", "because")}
            for event in map(json.loads, told)
            if event["event"] in ("guard.action", "leak.confirmed", "pressure.begun",
                                  "watchdog.degraded", "oom.kill")
        ]  # fmt: skip
    elif service:
        found["log"] = sh("journalctl", "--no-pager", "-o", "cat", "-n", "15", "-u", service)
    if service:
        sh("systemctl", "stop", service)
    for one in roles:
        sh("systemctl", "kill", "-s", "KILL", one.unit)
        sh("systemctl", "stop", one.unit)
        sh("systemctl", "reset-failed", one.unit)
        (UNITS / one.unit).unlink()
    return found


def main(argv: list[str]) -> int:
    armour()
    big = HERE.parent / "big"
    if any(":cache" in name for name in argv):
        sh("sh", "-c", f"dd if=/dev/zero of={big} bs=1M count=1200 2>/dev/null")
    for name in argv:
        daemon, _, scenario = name.partition(":")
        found = cell(daemon, scenario)
        with RESULTS.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(json.dumps({k: v for k, v in found.items() if k not in ("log", "told")}))
        time.sleep(3)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

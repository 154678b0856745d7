"""Inside the duel's machine, as root: what its saved states are made of, and one cell of it.

    python3 cells.py prepare                  once: our package, the peers' settings, swap
    python3 cells.py warm DAEMON WARM         the daemon, and innocents that are steady
    python3 cells.py cell DAEMON SCENARIO     who dies; one JSON object goes to /results/out

A cell ends 20 s after relief, or after 240 s; where nobody has to die, when it was quiet for as
long as its scenario says.
"""

import contextlib
import ctypes
import json
import os
import select
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from scenarios import SCENARIOS, WARM, Role

HERE = Path(__file__).resolve().parent
OUT = Path("/results/out")
LIMIT_S, AFTER_RELIEF_S = 240.0, 20.0
# Short and well again: between the marks of all daemons and their goals. A cell of one that acts
# earlier begins with less.
SHORT, WELL = 0.12, 0.20
# The mark below which we act, and below which no machine runs well.
SCARCE = 0.05
UNITS = Path("/run/systemd/system")
OURS = "oom-watchdog"
METHOD = 4  # raised when what a cell measures changes: older cells are not comparable then
SWAP = Path("/swap")
LOAD = Path("/usr/local/lib/duel-load.py")

# The service of each daemon; it is set up as Debian ships it, and where that does nothing here, as
# its own documentation says.
SERVICES = {"none": None, "earlyoom": "earlyoom", "nohang": "nohang",
            "systemd-oomd": "systemd-oomd", "oomd": "oomd", OURS: OURS}  # fmt: skip
SETTINGS = {
    # Its mode is the one thing that we are told.
    "/etc/oom-watchdog/config.d/duel.toml": '[guard]\nmode = "enforce"\n',
    # Debian's own remark: on a machine with one hierarchy the option --cgroup-fs has to go.
    "/etc/default/oomd": 'DAEMON_OPTS="--interval 1 --config /etc/oomd/oomd.json"\n',
}
# systemd-oomd(8): swap for the root slice, pressure for the slices that hold the services.
PRESSURE = "ManagedOOMMemoryPressure=kill"
OOMD_SLICES = (
    ("-.slice", "ManagedOOMSwap=kill"),
    ("system.slice", PRESSURE),
    ("user.slice", PRESSURE),
)


def sh(*argv: str, timeout: float = 180) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        print(argv, done.returncode, done.stderr, flush=True)
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


def spawn(argv: list[str], adj: int = 0) -> None:
    """A program that does not inherit the armour."""
    script = 'echo "$0" >/proc/self/oom_score_adj; renice -n 0 -p $$ >/dev/null; exec "$@"'
    subprocess.Popen(["/bin/sh", "-c", script, str(adj), *argv])


class Watched:
    """A service, and the main process that it has at the moment."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.unit = role.called or f"duel-{role.name}.service"
        self.pidfile = Path(f"/run/duel-{role.name}.pid")
        self.pid = 0
        self.pidfd = -1
        self.deaths: list[float] = []
        self.started = self.restarted = False
        self.excused = 0
        self.argv = ["/usr/bin/python3", "-I", "-S", str(LOAD), str(self.pidfile),
                     *role.load.split()]  # fmt: skip

    def write(self) -> None:
        self.pidfile.unlink(missing_ok=True)
        if not self.unit.endswith(".scope"):
            (UNITS / self.unit).write_text(
                f"[Service]\nExecStart={' '.join(self.argv)}\nTimeoutStopSec=5\n{self.role.unit}"
            )

    def start(self) -> None:
        self.started = True
        if self.unit.endswith(".scope"):  # as container runtimes do it
            run = ["systemd-run", "--quiet", "--scope", f"--unit={self.unit}", "-p", "Delegate=yes"]
            spawn([*run, *self.argv])
        else:
            sh("systemctl", "start", "--no-block", self.unit)

    def restart(self) -> None:
        self.restarted = True
        self.excused += 1
        sh("systemctl", "restart", "--no-block", self.unit)

    def look(self, now: float) -> None:
        """Has its process ended; is there another one? By files and pidfds: no program is run."""
        if self.pidfd >= 0:
            poller = select.poll()
            poller.register(self.pidfd, select.POLLIN)
            if poller.poll(0):
                os.close(self.pidfd)
                self.pidfd = -1
                if self.excused:
                    self.excused -= 1
                else:
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

    @property
    def lost(self) -> int:
        """How many of its workers somebody ended."""
        with contextlib.suppress(OSError, ValueError):
            return int(Path(f"{self.pidfile}.lost").read_text())
        return 0


def prepare() -> None:
    """For all daemons alike: each of them is there, and none runs."""
    sh("dpkg", "-i", str(next(Path.cwd().glob("oom-watchdog_*.deb"))), timeout=600)
    sh("systemctl", "disable", "--now", "oom-watchdog.service", "oom-watchdog-notify.path")
    sh("sh", "-c", "rm -rf /var/lib/oom-watchdog/* /run/oom-watchdog*")
    for name, text in SETTINGS.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    sh("dd", "if=/dev/zero", f"of={SWAP}", "bs=1M", "count=512")
    SWAP.chmod(0o600)
    sh("mkswap", str(SWAP))
    Path("/big").mkdir()
    sh("mount", "-o", "ro", "/dev/vdd", "/big")
    sh("sh", "-c", "sync; echo 3 >/proc/sys/vm/drop_caches")


def warm(daemon: str, name: str) -> dict[str, Any]:
    service, wanted = SERVICES[daemon], WARM[name]
    LOAD.write_bytes((HERE / "load.py").read_bytes())
    roles = [Watched(role) for role in wanted.roles]
    for one in roles:
        one.write()
    if wanted.swap:
        sh("swapon", str(SWAP))
    if daemon == "systemd-oomd":
        for part, setting in OOMD_SLICES:
            sh("systemctl", "set-property", "--runtime", "--", part, setting)
    sh("systemctl", "daemon-reload")
    if service:
        for _ in range(3):  # a starved host makes a start time out
            sh("systemctl", "start", service)
            if sh("systemctl", "is-active", service).strip() == "active":
                break
        else:
            return {"void": "the daemon did not start"}
    for one in roles:
        one.start()
        while not one.alive:
            one.look(0)
            time.sleep(0.1)
    last = 0
    while roles and abs(last - meminfo()["MemAvailable"]) > 4 << 20:  # until they are steady
        last = meminfo()["MemAvailable"]
        time.sleep(1)
    time.sleep(wanted.age_s)
    if service and sh("systemctl", "is-active", service).strip() != "active":
        return {"void": "the daemon does not run any more"}
    return {"warm": name}


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


def running() -> dict[str, str]:
    """The services that run, and how often systemd has restarted each of them."""
    argv = ("systemctl", "show", "*.service", "-p", "Id", "-p", "SubState", "-p", "NRestarts")
    found = (dict(line.split("=", 1) for line in one.splitlines() if "=" in line)
             for one in sh(*argv).split("\n\n"))  # fmt: skip
    return {one["Id"]: one["NRestarts"] for one in found if one.get("SubState") == "running"}


def stalled(path: Path) -> float | None:
    """The longest stall of the heartbeat in seconds, also of one that lasts; None: no heartbeat."""
    try:
        longest = float(path.read_text())
        (at,) = struct.unpack_from("d", Path(f"{path}.at").read_bytes())
    except (OSError, ValueError, struct.error):
        return None
    return max(longest, time.monotonic() - float(at) - 0.02)


def cell(daemon: str, name: str) -> dict[str, Any]:
    scenario, service = SCENARIOS[name], SERVICES[daemon]
    LOAD.write_bytes((HERE / "load.py").read_bytes())
    innocents = [Watched(role) for role in WARM[scenario.warm].roles]
    comers = [Watched(role) for role in scenario.roles]
    roles = innocents + comers
    for one in comers:
        one.write()
    sh("systemctl", "daemon-reload")
    for one in innocents:
        one.started = True
        one.look(0)
    footprint = pss(service) if service else 0
    system = running()
    for unit in [f"{service}.service", *(one.unit for one in roles)]:
        system.pop(unit, None)
    beat_file = Path("/run/duel-beat")
    spawn(["/usr/bin/python3", "-I", "-S", str(LOAD), str(beat_file), "beat"], -1000)
    total, start = meminfo()["MemTotal"], meminfo()["MemAvailable"]
    if scenario.shm_left:
        size = start - int(scenario.shm_left * total)
        sh("mount", "-o", f"remount,size={size}", "/dev/shm")
    pressed = relieved = ended = None
    lowest = start
    kills = oom_kills()
    begin = time.monotonic()
    seen, blind, last_start, scarce = begin, 0.0, 0.0, 0.0
    while True:
        now = time.monotonic() - begin
        available = meminfo()["MemAvailable"]
        used = 1 - available / total
        for one in roles:
            if not one.started and now >= one.role.at_s and used >= one.role.at_used:
                one.start()
                last_start = now
            if one.role.restart_at_used and used >= one.role.restart_at_used and not one.restarted:
                one.restart()
                last_start = now
            one.look(now)
        if scenario.kill_daemon_at and ended is None and service:
            gone = (start - available) / max(1, start - 0.05 * total)
            if gone >= scenario.kill_daemon_at:
                ended = now
                sh("systemctl", "kill", "--kill-whom=all", "-s", "KILL", service)
        lowest = min(lowest, available)
        anybody = any(one.deaths or one.lost for one in roles)
        if pressed is None and any(one.deaths for one in roles if one.role.guilty):
            return {"void": f"the culprit ended when memory was plentiful: {said(daemon, service)}"}
        if pressed is None and available < SHORT * total:
            pressed = now
        elif pressed is not None and available > WELL * total and anybody:
            relieved = relieved or now
        elif relieved is not None and available < SHORT * total:
            relieved = None  # it was none
        if relieved is not None and now - relieved > AFTER_RELIEF_S:
            break
        all_started = all(one.started for one in roles)
        quiet = scenario.quiet_s and all_started and now > last_start + scenario.quiet_s
        if now > LIMIT_S or quiet:
            break
        time.sleep(0.1)
        step, seen = time.monotonic() - seen, time.monotonic()
        blind = max(blind, step)
        scarce += step if available < SCARCE * total else 0
    end = round(time.monotonic() - begin, 1)
    stall = stalled(beat_file)
    if stall is None:
        return {"void": "the heartbeat did not run"}
    for one in roles:
        one.look(end)
    if scenario.shm_left and lowest > SCARCE * total and not any(one.deaths for one in roles):
        return {"void": f"{lowest >> 20} MiB were left: that is not short of memory"}
    still = running()
    return {
        "daemon": daemon, "scenario": name, "end_s": end,
        "pressed_s": pressed, "relieved_s": relieved, "scarce_s": round(scarce, 2),
        "lowest_bytes": lowest,
        "start_bytes": start, "total_bytes": total,
        "deaths": sorted((at, one.role.name) for one in roles for at in one.deaths),
        "lost": {one.role.name: one.lost for one in roles if one.lost},
        "system": sorted(unit for unit in system if still.get(unit) != system[unit]),
        "guilty": [one.role.name for one in roles if one.role.guilty],
        "alive": {one.role.name: one.alive for one in roles},
        "oom_kills": oom_kills() - kills, "stall_s": round(stall, 3), "blind_s": round(blind, 3),
        "footprint_bytes": footprint, "daemon_killed_s": ended,
        **said(daemon, service),
    }  # fmt: skip


def said(daemon: str, service: str | None) -> dict[str, Any]:
    """What the daemon itself says; for ours its events."""
    if daemon != OURS:
        argv = ("journalctl", "--no-pager", "-o", "cat", "-n", "15", "-u", service or "")
        return {"log": sh(*argv)} if service else {}
    # The journal has them as the daemon wrote them, and reading it is quick.
    lines = sh("journalctl", "--no-pager", "-o", "cat", "-u", OURS,
               "--output-fields=OOM_WATCHDOG_EVENT_JSON", "-n", "200").splitlines()  # fmt: skip
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and event.get("event"):
                found.append(event)
    keys = ("event", "t", "do", "outcome", "how", "comm", "unit", "because", "what")
    return {"told": [{key: one[key] for key in keys if key in one} for one in found]}


def main(argv: list[str]) -> int:
    what, *words = argv
    if what == "prepare":
        prepare()
        return 0
    OUT.unlink(missing_ok=True)
    if what == "cell":
        armour()
    found = cell(*words) if what == "cell" else warm(*words)
    OUT.write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

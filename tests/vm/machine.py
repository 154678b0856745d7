"""What the programs inside the virtual machine share: asking systemd and the journal, waiting, and
running tests in the order in which they stand in a file.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

MIB = 1024 * 1024
SERVICE = "oom-watchdog.service"
CONFIG_FILE = Path("/etc/oom-watchdog/config.d/vm.toml")
# Holds as many MiB as its argument says.
HOLD = (
    "import sys, time; b = bytearray(int(sys.argv[1]) << 20); b[::4096] = b'x' * len(b[::4096]); "
    "time.sleep(9e5)"
)
Found = dict[str, object]
T = TypeVar("T")


def sh(*argv: str, check: bool = True, timeout: float = 120) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(argv)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def show(unit: str, key: str) -> str:
    return sh("systemctl", "show", "--value", "-p", key, unit).strip()


def start_leak(unit: str, rate: int) -> None:
    """A unit that grows by so many bytes a second."""
    sh("systemd-run", "--quiet", f"--unit={unit}", *_leak(rate))


def burst(rate: int) -> None:
    """A unit that grows so fast, until the kernel has killed it at its limit of 64 MiB."""
    sh("systemd-run", "--wait", "--quiet", "--unit=shop-burst", "-p", "MemoryMax=64M",
       "-p", "MemorySwapMax=0", *_leak(rate), check=False)  # fmt: skip


def _leak(rate: int) -> tuple[str, ...]:
    return "/usr/bin/python3", str(Path.cwd() / "leak.py"), str(rate)


def wait(what: str, timeout: float, look: Callable[[], T | None]) -> T:
    """The first true answer of `look`; looked for twice a second."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError(f"not within {timeout:.0f} s: {what}")


def journal(*match: str) -> list[dict[str, str]]:
    """Our alerts in the journal, oldest first; `match` as journalctl takes it."""
    lines = sh("journalctl", "--no-pager", "--all", "-o", "json", *match).splitlines()
    return [json.loads(line) for line in lines]


def events(kind: str) -> list[Found]:
    entries = journal(f"OOM_WATCHDOG_EVENT={kind}")
    return [json.loads(entry["OOM_WATCHDOG_EVENT_JSON"]) for entry in entries]


def about(kind: str, unit: str) -> list[Found]:
    """Events about a unit's process; the unit as a whole is told of beside it."""
    found = (event for event in events(kind) if event.get("unit") == unit)
    return [event for event in found if event.get("pid") is not None]


def one(kind: str, unit: str, timeout: float) -> Found:
    return wait(f"{kind} about {unit}", timeout, lambda: about(kind, unit))[0]


def main_pid() -> int:
    return int(show(SERVICE, "MainPID"))


def restarted(former: int) -> bool:
    return main_pid() not in (0, former) and show(SERVICE, "ActiveState") == "active"


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in listed.read_text().split()]


def watcher_of(guard: int) -> int | None:
    for pid in children(guard):
        with contextlib.suppress(OSError):  # a child of another kind may just have ended
            if b"watchdog.watcher" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    return None


def opened(pid: int) -> set[str]:
    """What a process has open; a file that it closes meanwhile is left out."""
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(str(descriptor.readlink()))
    return found


def resident(pid: int, key: str = "VmRSS") -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0


def pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


# The package. What it leaves behind is told by a list of all files before and after.


def package() -> Path:
    return next(Path.cwd().glob("oom-watchdog_*.deb"))


def install(deb: Path, *options: str) -> str:
    """As an administrator does it, without a network; what apt said."""
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    return sh("apt", "install", "-y", *options, str(deb), timeout=400)


def install_wheel() -> None:
    """The wheel in a venv of its own, with Debian's psutil, systemd and pydantic 2."""
    wheel = next(Path.cwd().glob("oom_watchdog-*.whl"))
    # ensurepip takes a minute in emulation; Debian's pip wheel runs as it lies there.
    pip = next(Path("/usr/share/python-wheels").glob("pip-*.whl")) / "pip"
    sh("python3", "-m", "venv", "--system-site-packages", "--without-pip", "/opt/oom-watchdog")
    sh("python3", str(pip), "--python", "/opt/oom-watchdog/bin/python", "install", "--quiet",
       "--no-index", "--find-links", str(Path.cwd()), str(wheel), timeout=300)  # fmt: skip
    Path("/usr/bin/oom-watchdog").symlink_to("/opt/oom-watchdog/bin/oom-watchdog")
    for unit in Path("systemd").iterdir():
        if unit.suffix in (".service", ".path", ".slice"):
            Path("/etc/systemd/system", unit.name).write_text(unit.read_text())
    Path("/etc/oom-watchdog").mkdir()
    sh("systemctl", "daemon-reload")


def listing() -> set[str]:
    """Every file and folder of the disk and of /run, but what others write all the time."""
    others = ("/payload", "/results", "/var/log", "/var/lib/dpkg", "/var/lib/apt", "/var/cache/apt",
              "/var/cache/ldconfig", "/run/systemd", "/run/udev", "/run/user", "/tmp", "/var/tmp",
              "/run/private/systemd", "/run/dbus", "/run/credentials")  # fmt: skip
    found = set()
    for top in ("/", "/run"):
        for line in sh("find", top, "-xdev", "-print").splitlines():
            # Python's own caches come with the first use of a module, whoever uses it
            if not line.startswith(others) and ("__pycache__" not in line or "watchdog" in line):
                found.add(line)
    return found


def run_tests(namespace: dict[str, object], chosen: Sequence[str] = ()) -> int:
    """Run each test_… of a module in order, or those with a chosen word; the exit status."""
    counts = {True: 0, False: 0}
    for name, test in namespace.items():
        if not name.startswith("test_") or not callable(test):
            continue
        if chosen and not any(word in name for word in (*chosen, "install")):
            continue
        begin = time.monotonic()
        print(f"--- {name}")
        try:
            test()
            well = True
        except Exception:  # noqa: BLE001 (whatever it was, the others go on)
            traceback.print_exc(file=sys.stdout, limit=-2)
            well = False
        counts[well] += 1
        print(f"{'PASSED' if well else 'FAILED'} {name} ({time.monotonic() - begin:.1f} s)")
        if name == "test_install" and not well:
            break  # the others would wait for what cannot come
    print(f"{counts[True]} passed, {counts[False]} failed")
    return 1 if counts[False] else 0

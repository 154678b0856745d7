"""Runs inside the virtual machine of tests/vm/run as root: OOM kills of units, in all forms of log.

Writes to /results what kernels_collect.py reads: what the kernel said of each kill as records, as
dmesg and the journal print them, and who died as systemd and the dead themselves told it.
"""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path("/results")
HOG = """
import os, sys, time
children, hold_mib, note = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
def say():
    comm = open("/proc/self/comm", "rb").read()[:-1].hex()
    group = open("/proc/self/cgroup").read().strip().rpartition("::")[2]
    with open(note, "a") as file:
        file.write(f"{os.getpid()} {comm} {os.getuid()} {group}\\n")
for number in range(children):
    if os.fork() == 0:
        with open("/proc/self/comm", "w") as file:
            file.write(f"worker {number}")
        say()
        kept = b"x" * (2 << 20)
        time.sleep(600)
kept = [b"x" * (hold_mib << 20)]
say()
time.sleep(600 if hold_mib else 1)
while True:
    kept.append(b"x" * (1 << 20))
"""
FORMS = {
    "dmesg": ["dmesg"],
    "dmesg-T": ["dmesg", "-T"],
    "dmesg-x": ["dmesg", "-x"],
    "dmesg-r": ["dmesg", "-r"],
    "dmesg-iso": ["dmesg", "--time-format", "iso"],
    "dmesg-notime": ["dmesg", "-t"],
    "dmesg-json": ["dmesg", "-J"],
    "journal-short": ["journalctl", "-k", "-o", "short"],
    "journal-short-full": ["journalctl", "-k", "-o", "short-full"],
    "journal-iso-precise": ["journalctl", "-k", "-o", "short-iso-precise"],
    "journal-monotonic": ["journalctl", "-k", "-o", "short-monotonic"],
    "journal-with-unit": ["journalctl", "-k", "-o", "with-unit"],
    "journal-verbose": ["journalctl", "-k", "-o", "verbose"],
    "journal-json": ["journalctl", "-k", "-o", "json"],
    "journal-export": ["journalctl", "-k", "-o", "export"],
    "journal-cat": ["journalctl", "-k", "-o", "cat"],
    "journal-all": ["journalctl", "-o", "short"],
}


def escape(raw: bytes) -> str:
    return "".join(chr(c) if 0x20 < c < 0x7F and c not in b"\\:" else f"\\x{c:02x}" for c in raw)


def output(*argv: str) -> bytes:
    done = subprocess.run(argv, capture_output=True, timeout=120, check=False)
    if done.returncode:
        print(argv, done.returncode, done.stderr.decode(), file=sys.stderr)
    return done.stdout


def oom_kills() -> int:
    lines = Path("/proc/vmstat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def records(fd: int) -> bytes:
    out = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            out += os.read(fd, 16384)
    return out


def scenario(
    name: str,
    scope: str,
    unit: str,
    *options: str,
    children: int = 0,
    group: bool = False,
    hold_mib: int = 0,
) -> None:
    """One unit that eats until it is killed; the others of its group go with it, or stay.

    With `hold_mib` it only holds that much, and is killed by hand: a machine that fills up for
    real spends minutes in emulation reading its programs again and again.
    """
    note = Path(f"/run/{name}")
    note.touch(mode=0o666)
    note.chmod(0o666)
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    os.lseek(fd, 0, os.SEEK_END)
    subprocess.run(["dmesg", "-C"], check=True)
    subprocess.run(["journalctl", "--sync"], check=True)
    since = f"@{time.time():.6f}"
    before = oom_kills()
    subprocess.run(
        ["systemd-run", "--unit", unit, "-p", "MemorySwapMax=0", *options,
         "/usr/bin/python3", "-c", HOG, str(children), str(hold_mib), str(note)],
        check=True, capture_output=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    if hold_mib:
        while not note.read_text() and time.monotonic() < until:
            time.sleep(0.5)
        Path("/proc/sys/kernel/sysrq").write_text("1")
        Path("/proc/sysrq-trigger").write_text("f")
    while time.monotonic() < until and output("systemctl", "is-active", unit).startswith(b"active"):
        time.sleep(0.5)
    time.sleep(2)
    rise = oom_kills() - before
    shown = output("systemctl", "show", unit, "-p", "Result,ExecMainPID,ExecMainStatus").decode()
    facts = dict(line.split("=", 1) for line in shown.splitlines())
    print(name, rise, facts)
    assert facts["Result"] == "oom-kill", facts
    truth = [f"scope\t{scope}", f"rise\t{rise}", f"note\tunit={unit}"]
    for line in note.read_text().splitlines():
        pid, comm, uid, path = line.split()
        main = pid == facts["ExecMainPID"]
        if main and scope == "memcg":
            truth.append(f"cgroup\t{escape(path.encode())}")
        if main or group:  # else systemd ended the others with SIGTERM or SIGKILL
            truth.append(
                f"dead\t{pid}\t{escape(bytes.fromhex(comm))}\t{uid}\t{escape(path.encode())}"
            )
    subprocess.run(["journalctl", "--sync"], check=True)
    (RESULTS / f"{name}.kmsg").write_bytes(records(fd))
    (RESULTS / f"{name}.truth").write_text("\n".join([*truth, ""]))
    os.close(fd)
    for form, argv in FORMS.items():
        more = ["--since", since, "--no-pager"] if argv[0] == "journalctl" else []
        (RESULTS / f"{name}.form-{form}").write_bytes(output(*argv, *more))
    subprocess.run(["systemctl", "reset-failed", unit], check=False)


def main() -> None:
    release = os.uname().release
    (RESULTS / "release").write_text(release)
    (RESULTS / "label").write_text(".".join(release.split(".")[:2]) + "-systemd")
    time.sleep(5)
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    (RESULTS / "boot.kmsg").write_bytes(records(fd))
    os.close(fd)
    scenario("unit", "memcg", "shop-web.service", "-p", "MemoryMax=40M", "-p", "User=nobody")
    scenario(
        "unit-group", "memcg", "dev-x\\x2dy.service", "-p", "MemoryMax=60M", "-p", "OOMPolicy=kill",
        children=3, group=True,
    )  # fmt: skip
    scenario("unit-sysrq", "global", "leaker.service", "-p", "OOMScoreAdjust=500", hold_mib=150)


if __name__ == "__main__":
    main()

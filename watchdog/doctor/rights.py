"""What the sandbox lets through: eyes (/proc, kernel log, journal, stalls) and hands (signals).

Each check does the very thing that the daemon does, to a process of its own where it must touch
one, because a directive that reads well can still take a right away.
"""

import contextlib
import ctypes
import errno
import os
import signal
import sys
import time

from watchdog import words
from watchdog.act.armour import OOM_SCORE_ADJ
from watchdog.child import Process, ours, run_once, spawn
from watchdog.doctor.row import FAIL, NOTE, OK, WEAK, Row, pids, reason, text

MANAGER = "/run/systemd/system"  # there is a service manager
NOBODY = 65534
_MRELEASE = 448  # the same number on every architecture
_LOOKED_AT = 200
# Those that the daemon makes use of, by their number in linux/capability.h.
_USED = {2: "dac_read_search", 5: "kill", 19: "sys_ptrace", 24: "sys_resource", 34: "syslog"}


def unit() -> Row:
    """Where this was found out: it says nothing about another sandbox."""
    group = (text("/proc/self/cgroup") or "").splitlines()
    names = {part for line in group for part in line.split("/") if part.endswith(".service")}
    who = f"uid {os.geteuid()}, capabilities {_capabilities()}"
    if os.environ.get("INVOCATION_ID") and names:
        return Row("place", OK, f"in {', '.join(sorted(names))}: {who}")
    if not os.path.isdir(MANAGER):  # no unit, and no sandbox of one
        return Row("place", NOTE, f"in no service: {who}")
    return Row("place", NOTE, f"in no service: {who}",
               "what the unit's sandbox takes away does not show here",
               "systemctl start oom-watchdog, and ask again: its own table counts")  # fmt: skip


def _capabilities() -> str:
    status = text("/proc/self/status") or ""
    found = next((line for line in status.splitlines() if line.startswith("CapEff:")), "")
    try:
        held = int(found.split()[1], 16)
    except (IndexError, ValueError):
        return "unknown"
    names = [name for bit, name in _USED.items() if held >> bit & 1]
    others = held.bit_count() - len(names)
    more = [f"and {words.count(others, 'other')}"] if others else []
    return " ".join(names + more) or "none"


def proc() -> Row:
    """Every process can be seen, and measured."""
    means = "leaks and kills of processes that cannot be seen are not told"
    if not os.access("/proc/meminfo", os.R_OK) or not os.access("/proc/vmstat", os.R_OK):
        return Row("processes", FAIL, "/proc/meminfo or /proc/vmstat cannot be read",
                   "the machine's memory cannot be watched",
                   "no ProcSubset=pid in the unit")  # fmt: skip
    seen = pids()
    if 1 not in seen:
        return Row("processes", FAIL, f"{len(seen)} processes, PID 1 is not among them", means,
                   "no ProtectProc= in the unit, and /proc without hidepid=")  # fmt: skip
    others, refused = 0, ""
    for pid in seen[:_LOOKED_AT]:
        try:
            if os.stat(f"/proc/{pid}").st_uid == os.geteuid() or not text(f"/proc/{pid}/cmdline"):
                continue  # ourselves, or a kernel thread
            with open(f"/proc/{pid}/statm", "rb") as file:
                file.read(64)
            os.readlink(f"/proc/{pid}/exe")
            others += 1
        except PermissionError:
            refused = refused or f"the executable of pid {pid} cannot be read"
        except OSError:
            continue  # it went
    count = f"{len(seen)} processes"
    if refused:
        return Row("processes", WEAK, f"{count}; {refused}",
                   "protection by executable cannot be judged for other users' processes",
                   "CAP_SYS_PTRACE in the unit, or run as root")  # fmt: skip
    return Row("processes", OK, f"{count}, {others} of other users, all measurable")


def kernel_log() -> Row:
    """/dev/kmsg opens and gives a record."""
    try:
        fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return Row("kernel log", FAIL, f"/dev/kmsg: {reason(error)}",
                   "OOM kills are only read from the journal, and later",
                   "in the unit DeviceAllow=/dev/kmsg r and the file itself, CAP_SYSLOG, no "
                   "ProtectKernelLogs=")  # fmt: skip
    try:
        os.read(fd, 8192)
    except BlockingIOError:
        return Row("kernel log", OK, "/dev/kmsg opens; it holds nothing yet")
    except OSError as error:
        if error.errno != errno.EPIPE:  # overwritten while we opened it
            return Row("kernel log", FAIL, f"/dev/kmsg opens, reading it: {reason(error)}",
                       "OOM kills are not read live", "CAP_SYSLOG in the unit")  # fmt: skip
    finally:
        os.close(fd)
    return Row("kernel log", OK, "/dev/kmsg can be read")


def journal() -> Row:
    """Its files can be read, by the program that catches up after a restart."""
    means = "what was killed while the daemon was down is not caught up"
    machine = text("/etc/machine-id") or ""
    files = []
    for base in ("/var/log/journal", "/run/log/journal"):
        with contextlib.suppress(OSError):
            files += [os.path.join(base, machine, name)
                      for name in os.listdir(os.path.join(base, machine))]  # fmt: skip
    system = [path for path in files if path.rpartition("/")[2].startswith("system")]
    if not system:
        return Row("journal", WEAK, "no journal of this machine is to be seen", means,
                   "a systemd journal, and CAP_DAC_READ_SEARCH or the group adm")  # fmt: skip
    try:
        os.close(os.open(system[0], os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return Row("journal", FAIL, f"{words.safe(system[0])}: {reason(error)}", means,
                   "CAP_DAC_READ_SEARCH in the unit, or the group adm")  # fmt: skip
    child = run_once([sys.executable, "-I", "-c", "import systemd.journal"], timeout=10.0)
    if child.failure():
        return Row("journal", WEAK, "its files can be read, but Python's systemd module is missing",
                   means, "apt install python3-systemd")  # fmt: skip
    return Row("journal", OK, f"{words.count(len(system), 'file')} can be read")


def stalls() -> Row:
    """A trigger that wakes the guard when tasks wait for memory."""
    path = "/proc/pressure/memory"
    later = "the guard sees a sudden shortage up to a second later"
    if not os.path.exists(path):
        return Row("memory stall", WEAK, "this kernel tells no memory stall (PSI)",
                   f"{later}, and stalled_above never holds", "boot with psi=1")  # fmt: skip
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return Row("memory stall", WEAK, f"{path} cannot be written: {reason(error)}",
                   later, "run as root, with CAP_SYS_RESOURCE")  # fmt: skip
    os.close(fd)
    problem = ""
    for line, said in ((b"some 50000 500000\0", "any window"),
                       (b"some 200000 2000000\0", "windows of 2 s only")):  # fmt: skip
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(fd, line)
            finally:
                os.close(fd)
        except OSError as error:
            problem = reason(error)
            continue
        state = OK if said == "any window" else NOTE
        return Row("memory stall", state, f"triggers are granted, {said}")
    return Row("memory stall", WEAK, f"no trigger is granted: {problem}", later,
               "CAP_SYS_RESOURCE in the unit")  # fmt: skip


def signals() -> Row:
    """A process of another user can be signalled through a pidfd: with 0, which does nothing."""
    what, means = "signals", "no policy and no guard can end anybody else's process"
    to_do = "CAP_KILL in the unit, pidfd_* in SystemCallFilter=, no PrivateUsers="
    child = None
    try:
        found = _stranger()
        if found is None and os.geteuid() == 0:
            found = child = _nobody()
    except OSError as error:
        return Row(what, FAIL, f"no pidfd of a process: {reason(error)}", means, to_do)
    if found is None:
        return Row(what, NOTE, "no process of another user here to try it on", "not proven here")
    try:
        uid = os.stat(f"/proc/{found.pid}").st_uid
        found.end(0)
    except PermissionError as error:
        if os.geteuid() != 0:
            return Row(what, WEAK, f"only processes of uid {os.geteuid()} can be signalled", means,
                       "run as root, or as a service")  # fmt: skip
        return Row(what, FAIL, f"pidfd_send_signal: {reason(error)}", means, to_do)
    except OSError as error:
        return Row(what, FAIL, f"pidfd_send_signal: {reason(error)}", means, to_do)
    finally:
        if child is None:
            os.close(found.pidfd)
        else:
            _ended(child)
    return Row(what, OK, f"a process of uid {uid} can be signalled through its pidfd")


def _stranger() -> Process | None:
    """A living process of another user, where there is one."""
    for pid in pids():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if os.stat(f"/proc/{pid}").st_uid not in (0, os.geteuid()):
                return Process(pid, os.pidfd_open(pid))
    return None


def _nobody() -> Process | None:
    """One of our own, as another user; None where we may not become one."""
    process = spawn(["/usr/bin/sleep", "20"], uid=NOBODY, gid=NOBODY)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        if os.stat(f"/proc/{process.pid}").st_uid == NOBODY:
            return process
        time.sleep(0.01)
    _ended(process)
    return None


def _ended(process: Process) -> None:
    process.end(signal.SIGKILL)
    for _ in range(200):
        if process.reap() is not None:
            return
        time.sleep(0.01)


def mrelease() -> Row:
    """The call that frees a victim's memory at once; it killed other watchers where filtered."""
    what, means = "process_mrelease", "memory of a killed process comes back later"
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(_MRELEASE, -1, 0)
    number = ctypes.get_errno()
    if number == errno.EBADF:
        return Row(what, OK, "the kernel takes the call")
    if number == errno.ENOSYS:
        return Row(what, NOTE, "this kernel does not have it (5.15 and later do)", means)
    return Row(what, FAIL, f"refused: {os.strerror(number).lower()}", means,
               "process_mrelease in SystemCallFilter=")  # fmt: skip


def memory_lock(guard: int | None) -> Row:
    """The guard's memory is locked; where no guard runs, ours could be."""
    what, means = "memory lock", "the guard can be swapped out, and is slow when it counts"
    if guard is not None:
        status = text(f"/proc/{guard}/status") or ""
        for line in status.splitlines():
            if line.startswith("VmLck:"):
                if line.split()[1] != "0":
                    return Row(what, OK, f"the memory of the guard (pid {guard}) is locked")
                return Row(what, FAIL, f"the guard (pid {guard}) has nothing locked", means,
                           "LimitMEMLOCK=infinity in the unit, or CAP_IPC_LOCK")  # fmt: skip
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(1 | 4) == 0:  # MCL_CURRENT | MCL_ONFAULT: what is there, when it is touched
        libc.munlockall()
        return Row(what, OK, "mlockall is granted")
    why = os.strerror(ctypes.get_errno()).lower()
    return Row(
        what, WEAK, f"mlockall: {why}", means, "LimitMEMLOCK=infinity in the unit, or CAP_IPC_LOCK"
    )


def spared(guard: int | None) -> Row:
    """Whom the kernel's own OOM killer takes: not the guard."""
    adj = text(f"/proc/{guard or 'self'}/oom_score_adj")
    if guard is None:
        return Row("spared by the kernel", NOTE, "no guard runs to look at")
    if adj is not None and int(adj) <= OOM_SCORE_ADJ:
        return Row("spared by the kernel", OK, f"the guard's oom_score_adj is {adj}")
    return Row("spared by the kernel", WEAK, f"the guard's oom_score_adj is {adj}",
               "the kernel may choose the guard itself",
               "OOMScoreAdjust=-950 in the unit, or CAP_SYS_RESOURCE")  # fmt: skip


def manager() -> Row:
    """systemd answers: units can be looked at, and restarted one day."""
    what = "systemd"
    if not os.path.isdir(MANAGER):
        return Row(what, NOTE, "systemd does not run here", "no unit can be restarted")
    program = next((path for path in ("/usr/bin/systemctl", "/bin/systemctl")
                    if os.access(path, os.X_OK)), None)  # fmt: skip
    if program is None:
        return Row(what, FAIL, "no systemctl", "no unit can be looked at or restarted",
                   "apt install systemd")  # fmt: skip
    argv = [program, "show", "--property=Version", "--value"]
    child = run_once(argv, timeout=10.0)
    said = words.safe(bytes(child.output).decode("utf-8", "replace").strip())
    if child.failure() or not said:
        why = words.name(bytes(child.errors).strip()[:200])
        return Row(what, FAIL, f"systemctl {child.failure() or 'said nothing'}: {why}",
                   "no unit can be looked at or restarted",
                   "AF_UNIX in RestrictAddressFamilies=")  # fmt: skip
    return Row(what, OK, f"systemctl answers (systemd {said})")


def reader() -> Row:
    """Programs of our own start in this sandbox: the loader, the journal's reader, the sender."""
    child = run_once([*ours("watchdog.policy.load"), "--root", "/nonexistent"], timeout=30.0)
    if child.failure():
        why = words.name(bytes(child.errors).strip().rsplit(b"\n", 1)[-1][:200])
        return Row("loader", FAIL, f"the configuration's loader {child.failure()}: {why}",
                   "a reload fails, and so does the next start",
                   "apt install python3-pydantic (2 or later)")  # fmt: skip
    return Row("loader", OK, "the configuration's loader runs here")

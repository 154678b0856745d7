"""What the machine is like: disk, clock, other killers, the kernel's accounting, settings."""

import contextlib
import os
import sys
import time

import psutil

from watchdog import procfs, words
from watchdog.doctor.row import FAIL, NOTE, OK, WEAK, Row, reason, text
from watchdog.sense import container

# comm of who else kills when memory is short.
KILLERS = {
    "earlyoom": "earlyoom", "nohang": "nohang", "systemd-oomd": "systemd-oomd", "oomd": "oomd",
    "oomd_bin": "oomd",
}  # fmt: skip
_LARGEST = 5
_OFF_SHARE, _OFF_BYTES = 0.02, 16 << 20
# statm is read from per-CPU counters without summing them up, up to this kernel.
_COUNTERS_FROM, _COUNTERS_UNTIL = (6, 2), (6, 16)


def state(folder: str, wanted: int) -> Row:
    """The state folder can be written, and there is room for the history (bytes)."""
    what, shown = "state folder", words.safe(folder)
    probe = os.path.join(folder, ".doctor")
    try:
        fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, b"x" * 4096)
            os.fsync(fd)
        finally:
            os.close(fd)
            os.unlink(probe)
        room = os.statvfs(folder)
    except FileNotFoundError:
        return Row(what, NOTE, f"{shown} is not there yet", "the daemon makes it when it starts")
    except OSError as error:
        return Row(what, FAIL, f"{shown}: {reason(error)}",
                   "nothing outlives a restart: no history, no cooldown, no notification",
                   "StateDirectory=oom-watchdog in the unit, or a disk with room")  # fmt: skip
    free = room.f_bavail * room.f_frsize
    held = 0
    with contextlib.suppress(OSError):
        held = os.stat(os.path.join(folder, "history.db")).st_size
    if free + held < wanted:
        return Row(what, WEAK, f"{shown}: {words.size(free)} free, {words.size(wanted)} are for "
                   "the history", "on a full disk the daemon goes on from memory",
                   "make room, or lower [store] size")  # fmt: skip
    return Row(what, OK, f"{shown} can be written, {words.size(free)} free")


def clock() -> Row:
    """The wall clock is not before what was there already."""
    now = time.time()
    here = os.path.abspath(__file__)
    oldest = max(os.stat(path).st_mtime for path in (here, "/proc/1") if os.path.exists(path))
    stamp = time.strftime("%Y-%m-%d %H:%M", time.localtime(now))
    if now < oldest - 60:
        return Row("clock", WEAK, f"{stamp}: earlier than files of this program",
                   "times in events are wrong; durations are not, they run on another clock",
                   "set the clock; enable systemd-timesyncd or chrony")  # fmt: skip
    synced = os.path.exists("/run/systemd/timesync/synchronized")
    return Row("clock", OK, stamp + (", synchronized" if synced else ""))


def killers(enforcing: bool) -> Row:
    """Nobody else kills when memory is short; `enforcing`: does our guard?"""
    found = {}
    for process in psutil.process_iter(["name"]):
        comm = process.info["name"]
        if comm in KILLERS:
            found[KILLERS[comm]] = process.pid
    if not found:
        return Row("other killers", OK, "none of earlyoom, nohang, systemd-oomd, oomd runs")
    names = ", ".join(f"{name} (pid {pid})" for name, pid in sorted(found.items()))
    off = f"systemctl disable --now {' '.join(sorted(found))}"
    if enforcing:
        return Row("other killers", FAIL, names,
                   "whoever is first decides, and they choose by size: the one to blame may stay "
                   "and an innocent go", off)  # fmt: skip
    return Row("other killers", WEAK, names,
               "beside a guard that only observes that is fine",
               f'before mode = "enforce": {off}')  # fmt: skip


def accounting() -> Row:
    """statm tells what smaps tells: the per-CPU counters of some kernels lag behind."""
    what = "memory figures"
    means = "sizes, leaks and victims are judged from figures that are off"
    release = os.uname().release
    cpus = os.cpu_count() or 1
    worst = (0, 0, 0)
    sizes = [
        (process.info["memory_info"].rss, process.pid)
        for process in psutil.process_iter(["memory_info"]) if process.info["memory_info"]
    ]  # fmt: skip
    seen = 0
    for _, pid in sorted(sizes, reverse=True)[:_LARGEST]:
        before = text(f"/proc/{pid}/statm", 128)
        whole = procfs.parse_kb((text(f"/proc/{pid}/smaps_rollup") or "").encode()).get("Rss")
        after = text(f"/proc/{pid}/statm", 128)
        if not (before and after and whole):
            continue
        seen += 1
        page = os.sysconf("SC_PAGE_SIZE")
        told = sorted(int(one.split()[1]) * page for one in (before, after))
        # between the two readings it may have grown or shrunk
        off = max(0, told[0] - whole, whole - told[1])
        if off > max(_OFF_BYTES, _OFF_SHARE * whole) and off > worst[0]:
            worst = (off, pid, whole)
    if worst[0]:
        return Row(what, WEAK, f"statm of pid {worst[1]} is off by {words.size(worst[0])} of "
                   f"{words.size(worst[2])} (kernel {release}, {cpus} CPUs)", means,
                   "a kernel with the fix (6.16; stable kernels of late 2025)")  # fmt: skip
    bound = cpus * max(32, 2 * cpus) * os.sysconf("SC_PAGE_SIZE")
    if _COUNTERS_FROM <= _version(release) < _COUNTERS_UNTIL and bound > _OFF_BYTES:
        return Row(what, NOTE, f"kernel {release} may be off by {words.size(bound)} a process on "
                   f"{cpus} CPUs; none of the largest {seen} is", means)  # fmt: skip
    if not seen:
        return Row(what, NOTE, "no smaps_rollup can be read to compare with", "not proven here",
                   "CAP_SYS_PTRACE in the unit")  # fmt: skip
    return Row(what, OK, f"statm and smaps agree for the largest {seen} processes")


def _version(release: str) -> tuple[int, int]:
    parts = release.split("-", maxsplit=1)[0].split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (IndexError, ValueError):
        return 0, 0


def counter() -> Row:
    """The kernel's own count of OOM kills, against which ours are proven."""
    vmstat = text("/proc/vmstat") or ""
    kills = next((line.split()[1] for line in vmstat.splitlines()
                  if line.startswith("oom_kill ")), None)  # fmt: skip
    inside = container.inside()
    if kills is None:
        return Row("kill counter", WEAK, "this kernel counts no OOM kills (4.13 and later do)",
                   "no proof that none was missed; no policy on oom_kill")  # fmt: skip
    if inside:
        return Row("kill counter", WEAK, f"a container: {words.safe(inside)}",
                   "the count is the whole machine's, and is not used here",
                   "run the daemon on the host")  # fmt: skip
    return Row("kill counter", OK, f"{kills} since the boot")


def cgroups() -> Row:
    """Where the memory of units is read."""
    mounts = text("/proc/self/mountinfo", 1 << 20) or ""
    controllers = text("/sys/fs/cgroup/cgroup.controllers") or ""
    if "memory" in controllers.split():
        return Row("control groups", OK, "v2, with the memory controller")
    v1 = any(" - cgroup " in line and "memory" in line.rpartition(" ")[2].split(",")
             for line in mounts.splitlines())  # fmt: skip
    if v1:
        return Row("control groups", NOTE, "v1, with the memory controller",
                   "units are told by v1 figures; throttle is not possible",
                   "boot without systemd.unified_cgroup_hierarchy=0")  # fmt: skip
    return Row("control groups", WEAK, "no memory controller",
               "units are summed up from their processes, and limits of units are not seen",
               "boot with cgroup_enable=memory")  # fmt: skip


def own_limit() -> list[Row]:
    """In a unit with MemoryMax=: how near we are to it ourselves."""
    path = next((line.partition("::")[2] for line in
                 (text("/proc/self/cgroup") or "").splitlines() if "::" in line), "")  # fmt: skip
    folder = f"/sys/fs/cgroup{path}"
    most, used = text(f"{folder}/memory.max"), text(f"{folder}/memory.current")
    if not (most and used and most.isdigit() and used.isdigit()):
        return []
    found = f"{words.size(int(used))} of {words.size(int(most))} used"
    if int(used) > 0.9 * int(most):
        return [Row("own limit", WEAK, found, "the kernel may end us for our own limit",
                    "a larger MemoryMax= in the unit")]  # fmt: skip
    return [Row("own limit", OK, found)]


def settings() -> list[Row]:
    """Settings of the kernel that change what happens when memory ends."""
    rows = []
    thp = text("/sys/kernel/mm/transparent_hugepage/enabled") or ""
    if "[always]" in thp:
        rows.append(Row("huge pages", NOTE, "transparent huge pages: always",
                        "the kernel may blow up a process without its doing; such growth is taken "
                        "off where it can be seen",
                        "madvise is the calmer choice: /sys/kernel/mm/transparent_hugepage/"
                        "enabled"))  # fmt: skip
    elif thp:
        rows.append(Row("huge pages", OK, f"transparent huge pages: {thp}"))
    mode = text("/proc/sys/vm/overcommit_memory")
    if mode == "2":
        rows.append(Row("overcommit", NOTE, "vm.overcommit_memory = 2",
                        "programs are refused memory before any is short; commit.short tells it",
                        "vm.overcommit_ratio fits the machine?"))  # fmt: skip
    else:
        rows.append(Row("overcommit", OK, f"vm.overcommit_memory = {mode}"))
    panic = text("/proc/sys/vm/panic_on_oom")
    if panic not in (None, "0"):
        rows.append(Row("panic", WEAK, f"vm.panic_on_oom = {panic}",
                        "the kernel panics instead of killing; nothing is told but by pstore",
                        "sysctl vm.panic_on_oom=0, unless it is meant"))  # fmt: skip
    if text("/proc/sys/vm/oom_kill_allocating_task") == "1":
        rows.append(Row("kernel's choice", NOTE, "vm.oom_kill_allocating_task = 1",
                        "the kernel kills whoever asks last, not the largest"))  # fmt: skip
    if text("/proc/sys/vm/oom_dump_tasks") == "0":
        rows.append(Row("task list", NOTE, "vm.oom_dump_tasks = 0",
                        "an OOM report does not list the processes, and says less",
                        "sysctl vm.oom_dump_tasks=1"))  # fmt: skip
    swap = [line.split() for line in (text("/proc/swaps") or "").splitlines()[1:]]
    if not swap:
        rows.append(Row("swap", NOTE, "none", "there is no slope before the end: memory is there "
                        "until it is not"))  # fmt: skip
    else:
        kib = sum(int(line[2]) for line in swap if len(line) > 2 and line[2].isdigit())
        zram = any("zram" in line[0] for line in swap)
        rows.append(Row("swap", OK, words.size(kib << 10) + (", of it zram" if zram else "")))
    return rows


def python() -> Row:
    """Which interpreter this is."""
    found = ".".join(map(str, sys.version_info[:3]))
    return Row("python", OK, f"{found} ({words.safe(sys.executable)})")

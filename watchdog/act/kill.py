"""The only file that signals. It looks again, through a pidfd, and then once more.

    open a pidfd -> is it still the process that was meant -> may it be signalled at all
      -> is the signal still needed -> send it through the pidfd

The pidfd comes first. If the process ends in between and its number is given away, then what is
read belongs to the new owner and its start differs; and the signal could only reach the old one.
"""

import _thread
import os
import signal
import time
from collections.abc import Callable, Collection
from typing import Any

from watchdog import procfs, words

# What the kernel itself is told to spare: sshd, udevd, and whoever the administrator meant.
SPARED_ADJ = -900
_PROCESS_MRELEASE = 448  # the same number on every architecture but alpha
_EAGAIN = 11
# A unit that forks faster than this many rounds of killing is left to cgroup.kill, or lives.
ROUNDS = 10
MEMBERS_MAX = 20_000
BATCH = 256  # so many pidfds are held at a time: the table of descriptors has 1,024 or 8,192
_NOBODY = "/proc/self/fdinfo"  # a folder with neither folders nor cgroup.procs in it
_libc: Any = None


def kill(
    pid: int,
    start_ticks: int,
    sig: int,
    *,
    still_protected: Callable[[], str | None] | None = None,
    still_needed: Callable[[], bool] | None = None,
    ours: Collection[int] = (),
    root: str = "/proc",
) -> tuple[str, str]:
    """Signal one process; (outcome, one sentence).

    Outcomes: "done" · "gone" (it ended by itself) · "changed" (the number is somebody else's now,
    or the signal is no longer needed) · "protected" · "failed" (not permitted). `ours` are
    processes of this program, `still_protected` answers the reason for which the configuration
    protects it, `still_needed` is asked last. Signal 0 does everything but harm.
    """
    reason = _never(pid, ours)
    if reason:
        return "protected", reason
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return "gone", "it ended before it was signalled"
    except OSError as error:
        return "failed", f"pidfd_open: {error.strerror}"
    try:
        outcome, detail = _look_again(pid, start_ticks, root)
        if outcome == "done" and still_protected is not None:
            reason = still_protected()
            outcome, detail = ("protected", reason) if reason else (outcome, detail)
        if outcome == "done" and still_needed is not None and not still_needed():
            outcome, detail = "changed", "memory has recovered in the meantime"
        if outcome == "done":
            outcome, detail = _send(pidfd, sig)
        if outcome == "done" and sig == signal.SIGKILL:
            release_memory([pid])
        return outcome, detail
    finally:
        os.close(pidfd)


def kill_unit(
    folder: str,
    inode: int,
    *,
    still_protected: Callable[[int, int], str | None] | None = None,
    still_needed: Callable[[], bool] | None = None,
    ours: Collection[int] = (),
    root: str = "/proc",
) -> tuple[str, str]:
    """SIGKILL to every process of a cgroup and of those below it; (outcome, one sentence).

    Outcomes as in `kill`; "protected" if a single member is (`still_protected` gets PID and start
    ticks). `inode` is that of the folder when it was chosen: one made anew under the same name is
    another unit.
    """
    name = words.safe(folder.rpartition("/")[2])
    there = _inode(folder)
    if there is None:
        return "gone", f"{name} has ended"
    if there != inode:
        return "changed", f"{name} is another cgroup now"
    found = members(folder)
    if len(found) >= MEMBERS_MAX:
        return "failed", f"{name} has too many processes to look at each"
    reason = _any_protected(found, still_protected, ours, root)
    if reason:
        return "protected", reason
    if still_needed is not None and not still_needed():
        return "changed", "memory has recovered in the meantime"
    if _inode(folder) != inode:
        return "changed", f"{name} is another cgroup now"
    if _write(f"{folder}/cgroup.kill", b"1"):
        release_memory(found)
        return "done", f"sent SIGKILL to all of {name} (cgroup.kill)"
    struck: set[int] = set()
    for _ in range(ROUNDS):
        found = members(folder) if _inode(folder) == inode else set()
        if not found:
            break
        reason = _any_protected(found - struck, still_protected, ours, root)
        if reason and not struck:
            return "protected", reason
        if reason:  # somebody protected came in meanwhile; what was sent was sent
            sent = words.count(len(struck), "process")
            return "done", f"sent SIGKILL to {sent} of {name} and to no more: {reason}"
        hit = _strike(folder, inode, found)
        if not struck:  # who is forked meanwhile has next to nothing of his own
            release_memory(hit)
        struck |= hit
        time.sleep(0.005)  # forks of theirs that were under way are in the next round
    if not struck and found:
        return "failed", f"none of the {words.count(len(found), 'process')} of {name} was reached"
    if not struck:
        return "gone", f"nobody is left in {name}"
    return "done", f"sent SIGKILL to {words.count(len(struck), 'process')} of {name}"


def members(folder: str) -> set[int]:
    """The PIDs in a cgroup and in those below it."""
    found: set[int] = set()
    todo = [folder]
    while todo and len(found) < MEMBERS_MAX:
        path = todo.pop()
        raw = _read_all(f"{path}/cgroup.procs")
        found.update(int(word) for word in raw.split() if word.isdigit())
        try:
            with os.scandir(path) as entries:
                todo += [one.path for one in entries if one.is_dir(follow_symlinks=False)]
        except OSError:  # it went meanwhile
            continue
    return found - {0}  # what another PID namespace hides


def _any_protected(
    pids: Collection[int], still_protected: Callable[[int, int], str | None] | None,
    ours: Collection[int], root: str,
) -> str | None:  # fmt: skip
    for pid in sorted(pids):
        reason = shielded(pid, root, ours)
        if reason is None and still_protected is not None:
            stat = _stat(pid, root)
            reason = still_protected(pid, stat.start_ticks) if stat else None
        if reason:
            return f"PID {pid} is in it: {reason}"
    return None


def _strike(
    folder: str, inode: int, pids: Collection[int], sig: int = signal.SIGKILL
) -> set[int]:  # fmt: skip
    """Those of `pids` that are in the cgroup while we hold a pidfd of each, and get the signal."""
    struck: set[int] = set()
    todo = sorted(pids)
    for at in range(0, len(todo), BATCH):
        held: dict[int, int] = {}
        try:
            for pid in todo[at : at + BATCH]:
                try:
                    held[pid] = os.pidfd_open(pid)
                except OSError:
                    continue
            there = members(folder)
            if _inode(folder) != inode:
                return struck  # what was read may be of another of that name
            struck.update(
                pid for pid, fd in held.items()
                if pid in there and _send(fd, sig)[0] == "done"
            )  # fmt: skip
        finally:
            for fd in held.values():
                os.close(fd)
    return struck


def _inode(folder: str) -> int | None:
    """None where it has gone."""
    try:
        return os.stat(folder).st_ino
    except OSError:
        return None


def shielded(pid: int, root: str = "/proc", ours: Collection[int] = ()) -> str | None:
    """Why this process is never signalled, whatever the configuration says; None if it may be.

    What has vanished is not shielded.
    """
    reason = _never(pid, ours)
    if reason:
        return reason
    stat = _stat(pid, root)
    if stat is not None and stat.kernel_thread:
        return "it is a kernel thread"
    adj = _score_adj(pid, root)
    if adj is not None and adj <= SPARED_ADJ:
        return f"its oom_score_adj is {adj}"
    return None


def rehearse(pid: int, start_ticks: int) -> tuple[str, str]:
    """Walk both ways once with signal 0, so that nothing is loaded when it is needed.

    That of a unit on a folder in which there is nobody, and no file that could be written.
    """
    found = kill(pid, start_ticks, 0, still_protected=lambda: None, still_needed=lambda: True)
    release_memory([pid])
    inode = _inode(_NOBODY) or 0
    kill_unit(_NOBODY, inode, still_protected=lambda *_: None, still_needed=lambda: True)
    _any_protected([pid], lambda *_: None, (), "/proc")
    _strike(_NOBODY, inode, [pid], 0)
    return found


def release_memory(pids: Collection[int]) -> None:
    """Let the kernel take the memory of killed processes at once, in one thread of its own.

    Nobody waits for it, and every refusal is ordinary (older kernels, a process that is gone). Of
    one that lives, or has the number by then, the kernel takes nothing (EINVAL): it takes only
    where SIGKILL was sent.
    """
    if not pids:
        return
    try:
        _thread.start_new_thread(_release, (list(pids),))
    except RuntimeError:
        return  # no thread to be had: the kernel frees it in its own time


def _release(pids: list[int]) -> None:
    libc = _load_libc()
    if libc is None:
        return
    for _ in range(20):
        pids = [pid for pid in pids if _again(libc, pid)]
        if not pids:
            return
        time.sleep(0.05)


def _again(libc: Any, pid: int) -> bool:
    """Take it; whether to ask again: EAGAIN while its threads have not seen the signal yet."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        return libc.syscall(_PROCESS_MRELEASE, pidfd, 0) != 0 and _errno() == _EAGAIN
    finally:
        os.close(pidfd)


def _load_libc() -> Any:
    global _libc  # noqa: PLW0603  loaded once, and only by whoever kills
    if _libc is None:
        try:
            import ctypes  # 0.4 MiB: the watcher pays only if it ever has to kill

            _libc = ctypes.CDLL(None, use_errno=True)
        except (ImportError, OSError):
            return None
    return _libc


def _errno() -> int:
    import ctypes

    return ctypes.get_errno()


def _never(pid: int, ours: Collection[int]) -> str | None:
    if pid <= 2:
        return "PID 1 and 2 are never signalled"
    if pid == os.getpid() or pid in ours:
        return "it is oom-watchdog itself"
    parent = os.getppid()
    for _ in range(64):  # nobody is nested deeper, and a torn read must not loop
        if parent <= 1:
            return None
        if parent == pid:
            return "oom-watchdog runs below it"
        stat = _stat(parent, "/proc")
        if stat is None:
            return None
        parent = stat.ppid
    return None


def _look_again(pid: int, start_ticks: int, root: str) -> tuple[str, str]:
    stat = _stat(pid, root)
    # A zombie with living threads is a process whose main thread has exited.
    if stat is None or (stat.state in ("Z", "X") and stat.threads < 2):
        return "gone", "it ended before it was signalled"
    if stat.start_ticks != start_ticks:
        return "changed", f"PID {pid} is {words.name(stat.comm)} now, somebody else"
    if stat.kernel_thread:
        return "protected", "it is a kernel thread"
    adj = _score_adj(pid, root)
    if adj is not None and adj <= SPARED_ADJ:
        return "protected", f"its oom_score_adj is {adj}"
    return "done", ""


def _send(pidfd: int, sig: int) -> tuple[str, str]:
    try:
        signal.pidfd_send_signal(pidfd, sig)
    except ProcessLookupError:
        return "gone", "it ended before it was signalled"
    except PermissionError:
        return "failed", "not permitted: CAP_KILL is needed for the processes of other users"
    except OSError as error:
        return "failed", str(error.strerror)
    return "done", f"sent {_name(sig)}"


def _name(sig: int) -> str:
    return {0: "signal 0", signal.SIGTERM: "SIGTERM", signal.SIGKILL: "SIGKILL"}.get(
        sig, f"signal {sig}"
    )


def _write(path: str, text: bytes) -> bool:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.write(fd, text) == len(text)
    except OSError:
        return False
    finally:
        os.close(fd)


def _read(path: str, most: int = 4096) -> bytes | None:
    """None where it cannot be read, also because the process vanished between open and read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, most)
    except OSError:
        return None
    finally:
        os.close(fd)


def _read_all(path: str) -> bytes:
    """A file of which a read gives a page at most; b"" where it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    parts = []
    try:
        while part := os.read(fd, 1 << 16):
            parts.append(part)
    except OSError:
        pass  # it went meanwhile
    finally:
        os.close(fd)
    return b"".join(parts)


def _stat(pid: int, root: str) -> procfs.Stat | None:
    raw = _read(f"{root}/{pid}/stat")
    return procfs.parse_stat(raw) if raw else None


def _score_adj(pid: int, root: str) -> int | None:
    raw = _read(f"{root}/{pid}/oom_score_adj")
    try:
        return int(raw) if raw else None
    except ValueError:
        return None

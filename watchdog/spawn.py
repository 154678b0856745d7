"""The only file that starts programs: argv, a pidfd, and none of what is ours. No shell.

A child gets none of our armour: oom_score_adj 0, nice 0, default signals, no descriptor but its
three and those that are handed to it.

Between fork and exec the new process only makes system calls; it has one thread, and the few
objects that it needs were made before.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def ours(module: str, *, bare: bool = False) -> list[str]:
    """The argument vector that runs one of our own programs: this package's, and no other's.

    -I: the working folder and the environment have no say in what is imported. `bare` (-S): nor
    have site-packages, whose .pth files may import megabytes; for what needs nothing from there.
    """
    folder = os.path.dirname(os.path.abspath(__file__))
    options = ["-I", "-S"] if bare else ["-I"]
    return [sys.executable, *options, os.path.join(folder, "launch.py"), module]


class Process(NamedTuple):
    """A started program that is looked after by its starter (the guard's watcher)."""

    pid: int
    pidfd: int

    def end(self, sig: int = signal.SIGKILL) -> None:
        """Signal our own child; it cannot be somebody else's before `reap` answered."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, sig)

    def reap(self) -> int | None:
        """None while it runs, else its exit status (negative: the signal); closes the pidfd."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            pid, status = self.pid, 0
        if pid == 0:
            return None
        os.close(self.pidfd)
        return os.waitstatus_to_exitcode(status)


def spawn(
    argv: Sequence[str],
    *,
    stdio: tuple[int, int, int] = (0, 1, 2),
    keep: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    uid: int | None = None,
    gid: int | None = None,
    groups: Sequence[int] = (),
    session: bool = True,
    oom_score_adj: int | None = 0,
) -> Process:
    """Start `argv` (argv[0] an absolute path) and answer at once; raises OSError.

    `keep` are descriptors that stay open under their own numbers. `oom_score_adj` None leaves it.
    A program that cannot be executed ends with status 127 and says so on its stderr.
    """
    if not argv or not argv[0].startswith("/"):
        raise OSError(22, f"not an absolute path: {argv[0] if argv else ''}")
    arguments = [os.fsencode(a) for a in argv]
    given = {"PATH": PATH} if env is None else env
    environment = {os.fsencode(k): os.fsencode(v) for k, v in given.items()}
    kept = sorted(set(keep))
    adjust = None if oom_score_adj is None else str(oom_score_adj).encode()
    pid = os.fork()
    if pid == 0:
        _become(arguments, environment, stdio, kept, uid, gid, list(groups), session, adjust)
    return Process(pid, os.pidfd_open(pid))


def _become(
    argv: list[bytes],
    env: dict[bytes, bytes],
    stdio: tuple[int, int, int],
    keep: list[int],
    uid: int | None,
    gid: int | None,
    groups: list[int],
    session: bool,
    adjust: bytes | None,
) -> NoReturn:
    """The child's side of the fork; never returns."""
    try:
        signal.set_wakeup_fd(-1)
        if session:
            os.setsid()
        # Up out of the way first: one of the three may stand where another has to go.
        high = [_above(fd, [0, 1, 2, *keep]) for fd in stdio]
        for to, fd in enumerate(high):
            os.dup2(fd, to)
        low = 3
        for fd in keep:
            os.closerange(low, fd)
            os.set_inheritable(fd, True)
            low = fd + 1
        os.closerange(low, 1 << 20)
        if adjust is not None:
            _write("/proc/self/oom_score_adj", adjust)
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, 0)
        if gid is not None:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
        if uid is not None:
            os.setresuid(uid, uid, uid)
        for number in range(1, signal.NSIG):
            with contextlib.suppress(OSError, ValueError):  # KILL, STOP, and glibc's own two
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(argv[0], argv, env)
    except BaseException as error:  # noqa: BLE001  whatever it is, we must not go on twice
        try:
            os.write(2, b"cannot start " + argv[0] + b": " + str(error).encode() + b"\n")
        finally:
            os._exit(127)
    os._exit(127)


def _above(fd: int, taken: list[int]) -> int:
    """A copy of `fd` that stands on none of the numbers in `taken`."""
    copies = []
    copy = os.dup(fd)
    while copy in taken:
        copies.append(copy)
        copy = os.dup(fd)
    for one in copies:
        os.close(one)
    return copy


def _write(path: str, text: bytes) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, text)
    except OSError:
        pass
    finally:
        os.close(fd)

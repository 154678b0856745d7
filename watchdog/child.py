"""Programs under way: argv, stdin, a deadline, bounded output. No shell.

It works inside a poll loop: nothing here waits but `run_once`, which is for start-up. `subprocess`
is not used: it costs 2 MiB, and its timeouts wait. What starts them is `spawn`; the guard, which
starts one program alone, loads nothing of this.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from watchdog.spawn import PATH as PATH
from watchdog.spawn import Process as Process
from watchdog.spawn import ours as ours
from watchdog.spawn import spawn as spawn

OUTPUT_MAX = 64 * 1024
_CHUNK = 16 * 1024


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Child:
    """One program under way, made by `Children.start`; `done` once it is over.

    `status` is its exit status, `signal` what ended it instead; `output` and `errors` what it
    wrote, `cut` where it wrote more than is kept. With `stream` it is never cut: what finds no room
    stays in the pipe until `take_lines` has made some.
    """

    def __init__(
        self, process: Process, pipes: tuple[int, int, int], stdin: bytes,
        began: float, deadline_s: float, most: int, stream: bool = False,
    ) -> None:  # fmt: skip
        self.process = process
        self.pid, self.pidfd = process
        self.began, self.deadline_s, self.most, self.stream = began, deadline_s, most, stream
        self.stdin_fd, self.out_fd, self.err_fd = pipes
        self.left = stdin
        self.output, self.errors = bytearray(), bytearray()
        self.cut = self.timed_out = self.done = False
        self.reaped = False
        self.status: int | None = None
        self.signal: int | None = None

    @property
    def deadline(self) -> float:
        """When it will be killed (boottime)."""
        return self.began + self.deadline_s

    def failure(self) -> str | None:
        """None if it ended well, else in a few words why not."""
        if self.timed_out:
            return f"took longer than {self.deadline_s:g} s and was ended"
        if self.signal is not None:
            return f"was ended by signal {self.signal}"
        return None if self.status == 0 else f"ended with status {self.status}"

    def fds(self) -> dict[int, int]:
        """Descriptor -> poll mask."""
        wanted = {} if self.reaped else {self.pidfd: select.POLLIN}
        if self.stdin_fd >= 0:
            wanted[self.stdin_fd] = select.POLLOUT
        for fd in (self.out_fd, self.err_fd):
            if fd >= 0 and not (fd == self.out_fd and self._full):
                wanted[fd] = select.POLLIN
        return wanted

    @property
    def _full(self) -> bool:
        return self.stream and len(self.output) >= self.most

    def take_lines(self) -> list[bytes]:
        """The whole lines that came since the last call; a line longer than `most` comes cut."""
        end = self.output.rfind(b"\n") + 1
        if self.done or (end == 0 and self._full):
            end = len(self.output)
        taken = bytes(self.output[:end])
        del self.output[:end]
        return taken.removesuffix(b"\n").split(b"\n") if taken else []

    def turn(self, now: float) -> None:
        """Move bytes, keep the deadline, see the end. Never waits."""
        self.feed()
        self._read()
        if now >= self.deadline and not self.timed_out and not self.reaped:
            self.timed_out = True
            self.kill()
        if not self.reaped:
            status = self.process.reap()
            if status is None:
                return
            self.reaped = True
            self.status, self.signal = (status, None) if status >= 0 else (None, -status)
        # What it wrote last; a grandchild that holds the pipe open is not waited for.
        self._read()
        if self._full and self.out_fd >= 0:
            return
        self.close()
        self.done = True

    def kill(self) -> None:
        """End it and the programs that it started itself (its session)."""
        if self.reaped:
            return
        # Not reaped yet, so neither the PID nor the group's number can be anybody else's.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.end()

    def feed(self) -> None:
        """Hand on of stdin what it takes without waiting."""
        while self.stdin_fd >= 0:
            if not self.left:
                os.close(self.stdin_fd)
                self.stdin_fd = -1
                return
            try:
                self.left = self.left[os.write(self.stdin_fd, self.left[:_CHUNK]) :]
            except BlockingIOError:
                return
            except OSError:
                self.left = b""  # it does not want to read; that is its business

    def close(self) -> None:
        """Our ends of its pipes."""
        for fd in (self.stdin_fd, self.out_fd, self.err_fd):
            if fd >= 0:
                os.close(fd)
        self.stdin_fd = self.out_fd = self.err_fd = -1

    def _read(self) -> None:
        self.out_fd = self._drain(self.out_fd, self.output)
        self.err_fd = self._drain(self.err_fd, self.errors)

    def _drain(self, fd: int, into: bytearray) -> int:
        while fd >= 0:
            room = self.most - len(into)
            if self.stream and into is self.output and room <= 0:
                break
            try:
                piece = os.read(fd, min(_CHUNK, room) if self.stream and room > 0 else _CHUNK)
            except BlockingIOError:
                break
            except OSError:
                piece = b""
            if not piece:
                os.close(fd)
                return -1
            into += piece[: max(0, room)]
            if len(piece) > room:
                self.cut = True
                break  # one piece a turn: who writes for ever must not hold us
        return fd


class Children:
    """The programs under way. Call `turn` when one of `fds` is ready or `next_deadline` is past."""

    def __init__(self, now: Callable[[], float] = _boottime) -> None:
        self.now = now
        self.running: list[Child] = []

    def start(
        self,
        argv: Sequence[str],
        stdin: bytes = b"",
        deadline_s: float = 30.0,
        *,
        max_output: int = OUTPUT_MAX,
        stream: bool = False,
        env: Mapping[str, str] | None = None,
        uid: int | None = None,
        gid: int | None = None,
        groups: Sequence[int] = (),
    ) -> Child:
        """Start a program and answer at once; `env` None is a fixed PATH. Raises OSError.

        `stream`: its output is taken while it runs, with `take_lines`.
        """
        pipes: list[int] = []
        try:
            for _ in range(3):
                pipes += os.pipe2(os.O_CLOEXEC)
            process = spawn(
                argv, stdio=(pipes[0], pipes[3], pipes[5]), env=env, uid=uid, gid=gid,
                groups=groups,
            )  # fmt: skip
        except OSError:
            for fd in pipes:
                os.close(fd)
            raise
        for fd in (pipes[0], pipes[3], pipes[5]):
            os.close(fd)
        ours = (pipes[1], pipes[2], pipes[4])
        for fd in ours:
            os.set_blocking(fd, False)
        child = Child(process, ours, stdin, self.now(), deadline_s, max_output, stream)
        child.feed()
        self.running.append(child)
        return child

    def fds(self) -> dict[int, int]:
        """Descriptor -> poll mask of all of them."""
        wanted: dict[int, int] = {}
        for child in self.running:
            wanted |= child.fds()
        return wanted

    def next_deadline(self) -> float | None:
        """When `turn` must be called at the latest (boottime)."""
        # A killed child's end shows at its pidfd; its deadline is past and would only spin.
        under_way = (c for c in self.running if not (c.timed_out or c.reaped))
        return min((c.deadline for c in under_way), default=None)

    def turn(self, now: float | None = None) -> list[Child]:
        """Let all of them go on; those that are done, once. Never waits."""
        now = self.now() if now is None else now
        for child in self.running:
            child.turn(now)
        over = [child for child in self.running if child.done]
        self.running = [child for child in self.running if not child.done]
        return over

    def close(self) -> None:
        """End all of them (the daemon stops)."""
        for child in self.running:
            if not child.reaped:
                child.kill()
                os.waitpid(child.pid, 0)
                os.close(child.pidfd)
            child.close()
        self.running = []


def run_once(
    argv: Sequence[str],
    stdin: bytes = b"",
    timeout: float = 30.0,
    *,
    env: Mapping[str, str] | None = None,
    max_output: int = 4 << 20,
) -> Child:
    """Start a program and wait for its end: for start-up and commands, never inside a loop.

    Raises OSError where it cannot be started.
    """
    children = Children()
    child = children.start(argv, stdin, timeout, env=env, max_output=max_output)
    try:
        while not child.done:
            poller = select.poll()
            for fd, mask in children.fds().items():
                poller.register(fd, mask)
            deadline = children.next_deadline()
            left = None if deadline is None else deadline - children.now()
            poller.poll(None if left is None else max(0, int(left * 1000) + 1))
            children.turn()
    finally:
        children.close()
    return child

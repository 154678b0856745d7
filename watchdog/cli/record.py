"""`oom-watchdog record`: write what the machine shows as a trace, for `replay`."""

import contextlib
import gzip
import os
import select
import signal
import socket
import sys
from types import FrameType
from typing import IO

from watchdog import trace, words
from watchdog.cli import args as common
from watchdog.clock import RealClock
from watchdog.facts import Fact, KernelLine, Who
from watchdog.sense.kernel_log import KernelLog, KernelLogError
from watchdog.sense.senses import Senses


def main(argv: list[str]) -> int:
    """Run the command; its exit status."""
    parser = common.parser(
        "record",
        "Record this machine's memory as a trace (JSON Lines; gzip if the name ends in .gz), to be "
        "judged by `replay` here or elsewhere. Command lines are left out unless asked for; what "
        "looks like a secret in them is masked.",
        "oom-watchdog record -o leak.jsonl.gz --for 1h --interval 10s",
    )
    parser.add_argument("-o", metavar="TRACE", default="-", help='file to write, "-" is stdout')
    parser.add_argument("--for", dest="length", metavar="D", type=common.duration, help="how long")
    parser.add_argument(
        "--interval", metavar="D", type=common.duration, default=10.0, help="default 10s"
    )
    parser.add_argument("--with-cmdline", action="store_true", help="also command lines, masked")
    options = parser.parse_args(argv)
    if options.interval < 0.1:
        print("record: --interval: expected at least 100ms", file=sys.stderr)
        return 2
    try:
        out = _open(options.o)
    except OSError as error:
        return common.unreadable(options.o, error)
    try:
        with out:
            rows = _record(out, options.length, options.interval, options.with_cmdline)
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"record: {options.o}: {error.strerror}", file=sys.stderr)
        return 2
    print(f"recorded {words.count(rows, 'row')} into {options.o}", file=sys.stderr)
    return 0


def _open(name: str) -> IO[str]:
    if name == "-":
        return os.fdopen(os.dup(1), "w")
    if name.endswith(".gz"):
        return gzip.open(name, "wt", encoding="ascii")
    return open(name, "w", encoding="ascii")


def _record(out: IO[str], length: float | None, interval: float, with_cmdline: bool) -> int:
    stop = _StopSignals()
    clock = RealClock()
    end = None if length is None else clock.boottime() + length
    senses = Senses(clock, interval)
    rows = 0
    out.write(trace.header_line(socket.gethostname(), acted=False) + "\n")

    def write(fact: Fact) -> None:
        if isinstance(fact, Who) and not with_cmdline:
            fact = fact._replace(cmdline=None)
        out.write(trace.line(fact) + "\n")

    with contextlib.ExitStack() as stack:
        log = None
        try:
            log = KernelLog()
            stack.callback(log.close)
        except KernelLogError as error:
            print(f"record: going on without the kernel log: {error}", file=sys.stderr)
        while not stop.now and (end is None or clock.boottime() < end):
            for fact in senses.due():
                rows += len(getattr(fact, "rows", ()))
                write(fact)
            out.flush()
            until = min(senses.next_up, end if end is not None else senses.next_up)
            fds = {stop.fd: select.POLLIN}
            if log:
                fds[log.fd] = select.POLLIN
            ready = clock.wait(fds, max(0.0, until - clock.boottime()))
            if log and log.fd in ready:
                for record in log.read():
                    write(KernelLine(clock.wall(), clock.boottime(), record.line))
    senses.close()
    return rows


class _StopSignals:
    """SIGINT and SIGTERM end a recording, and wake its wait."""

    def __init__(self) -> None:
        self.now = False
        self.fd, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._write)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.now = True

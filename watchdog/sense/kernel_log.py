"""Effect: the kernel log, live. One record of /dev/kmsg a line, never waiting.

The reader is slow against a storm and the ring is short: what was overwritten before it was read
is counted by its sequence numbers and said, never passed over. Format: Documentation/ABI/testing/
dev-kmsg of Linux.
"""

import errno
import os
import re
import stat
from typing import NamedTuple

PATH = "/dev/kmsg"
DEVICE = os.makedev(1, 11)
BUFFER = 16384  # a record is never longer than 8192 bytes; a short buffer would skip it
BATCH = 512  # records in one call, so that a storm does not hold up the loop

_HEAD = re.compile(r"(\d{1,4}),(\d{1,20}),(\d{1,20}),[^;\n]{0,200};")


class KernelLogError(Exception):
    """The kernel log cannot be read; the message is one line."""


class Record(NamedTuple):
    """One record. `prio` is facility * 8 + level, `usec` the kernel's clock, `line` all of it.

    `lost` is how many records right before it were overwritten before they were read.
    """

    seq: int
    usec: int
    prio: int
    line: str
    lost: int = 0


class KernelLog:
    """`fd` is for poll; `read` gives what is there.

    `after_seq`: go on after this record of the same boot (-1: from the oldest there is); None
    begins at the end. Raises KernelLogError.
    """

    def __init__(self, path: str = PATH, after_seq: int | None = None) -> None:
        self.path = path
        self.foreign = 0  # records that user space wrote
        self._lost = 0  # to be told with the next record
        self._seq = after_seq
        self._rest = ""
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise KernelLogError(_reason(path, error)) from None
        if path == PATH and not _is_kmsg(self.fd):
            # /dev/null in its place, as containers have it, would be ready for ever and empty
            os.close(self.fd)
            raise KernelLogError(f"{path}: not the kernel's log, another file stands in its place")
        try:
            os.lseek(self.fd, 0, os.SEEK_END if after_seq is None else os.SEEK_SET)
        except OSError as error:
            if error.errno != errno.ESPIPE:  # a pipe has no other place than where it is
                os.close(self.fd)
                raise KernelLogError(_reason(path, error)) from None

    def close(self) -> None:
        """Let go of the descriptor; twice is fine."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def read(self) -> list[Record]:
        """The records that are there and have not been given yet, at most BATCH."""
        out: list[Record] = []
        while len(out) < BATCH:
            try:
                raw = os.read(self.fd, BUFFER)
            except BlockingIOError:
                break
            except InterruptedError:
                continue
            except OSError as error:
                # EPIPE: overwritten before it was read; the next read is the oldest there is, and
                # the gap in the numbers tells how many. EINVAL: one record does not fit, likewise.
                if error.errno in (errno.EPIPE, errno.EINVAL):
                    continue
                raise KernelLogError(_reason(self.path, error)) from None
            if not raw:
                break
            self._take(raw.decode("utf-8", "surrogateescape"), out)
        return out

    def _take(self, text: str, out: list[Record]) -> None:
        *whole, rest = (self._rest + text).split("\n")
        self._rest = rest[-BUFFER:]
        for line in whole:
            # lines of a record's dictionary begin with a blank and say nothing of memory
            head = _HEAD.match(line)
            if head is None:
                continue
            seq = int(head[2])
            if self._seq is not None and self._seq >= 0:
                if seq <= self._seq:
                    continue
                self._lost += seq - self._seq - 1
            self._seq = seq
            prio = int(head[1])
            if prio >= 8:
                self.foreign += 1
                # User space wrote it. It goes on only if it claims to be a kill: the reader of
                # reports refuses it by the same number, and can tell of the forgery.
                if "illed process" not in line:
                    continue
            out.append(Record(seq, int(head[3]), prio, line, self._lost))
            self._lost = 0


def _is_kmsg(fd: int) -> bool:
    found = os.fstat(fd)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == DEVICE


def _reason(path: str, error: OSError) -> str:
    why = (error.strerror or str(error)).lower()
    if isinstance(error, PermissionError):
        why += " (reading the kernel log needs root, or CAP_SYSLOG)"
    return f"{path}: {why}"

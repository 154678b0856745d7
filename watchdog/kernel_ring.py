"""The ring of /dev/kmsg in our memory: emptied at every turn, being short while we are slow."""

import select
from collections import deque
from collections.abc import Callable, Iterable

from watchdog.sense.kernel_log import BATCH, KernelLog, KernelLogError, Record

QUEUE_MAX = 4 << 20  # characters; what finds no room stays in the ring, and may be overwritten


def open_kmsg(after_seq: int) -> KernelLog:
    """The real one."""
    return KernelLog(after_seq=after_seq)


class KernelRing:
    """Records that were read and not yet taken, the oldest first."""

    def __init__(self, open_log: Callable[[int], KernelLog] = open_kmsg) -> None:
        self.open_log = open_log
        self.log: KernelLog | None = None
        self.queue: deque[Record] = deque()
        self._size = 0

    def open(self, after_seq: int) -> str | None:
        """Begin after that record (-1: with the oldest); why it cannot be."""
        self.close()
        self.clear()
        try:
            self.log = self.open_log(after_seq)
        except KernelLogError as error:
            return str(error)
        return self.drain()

    def close(self) -> None:
        """Read no more; what was read stays."""
        if self.log is not None:
            self.log.close()
        self.log = None

    def drain(self) -> str | None:
        """Read all that is there; why it cannot be read any more."""
        try:
            while self.log is not None and self._size < QUEUE_MAX:
                records = self.log.read()
                self.queue.extend(records)
                self._size += sum(len(record.line) for record in records)
                if len(records) < BATCH:
                    break
        except KernelLogError as error:
            self.close()
            return str(error)
        return None

    def pop(self) -> Record:
        """The oldest."""
        record = self.queue.popleft()
        self._size -= len(record.line)
        return record

    def put_back(self, record: Record) -> None:
        """What was popped comes once more."""
        self.queue.appendleft(record)
        self._size += len(record.line)

    def clear(self) -> Record | None:
        """Forget all; the newest of them."""
        newest = self.queue[-1] if self.queue else None
        self.queue.clear()
        self._size = 0
        return newest

    def newer(self, than: int) -> Iterable[str]:
        """The lines beyond the first so many."""
        return (self.queue[at].line for at in range(than, len(self.queue)))

    def fds(self) -> dict[int, int]:
        """What to wait for."""
        ready = self.log is not None and self._size < QUEUE_MAX
        return {self.log.fd: select.POLLIN} if self.log is not None and ready else {}

"""A pre-fork server: its workers are recycled, its parent keeps a record of each job for ever.

Arguments: seconds, MiB to lose.
"""

import os
import random
import sys
import time

seconds, mib = float(sys.argv[1]), int(sys.argv[2])
record: list[bytes] = []


def worker(lives_s: float) -> None:
    """Serve for a while: take memory, as a worker does, and end."""
    end = time.monotonic() + lives_s
    held = []
    while time.monotonic() < end:
        held.append(os.urandom(random.randrange(50_000, 400_000)))
        if len(held) > 30:
            held.pop(random.randrange(len(held)))
        time.sleep(0.25)
    os._exit(0)


workers: set[int] = set()
owed, last = 0.0, time.monotonic()
while True:
    while len(workers) < 4:
        pid = os.fork()
        if pid == 0:
            worker(random.uniform(10, 40))
        workers.add(pid)
    pid, _ = os.waitpid(-1, os.WNOHANG)
    workers.discard(pid)
    now = time.monotonic()
    owed += (now - last) * mib * 1048576 / seconds
    last = now
    while owed > 0:
        record.append(os.urandom(2000))
        owed -= 2050
    time.sleep(0.2)

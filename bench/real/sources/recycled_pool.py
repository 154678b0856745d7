"""A pool whose workers keep a little of each request, and are replaced after so many of them.

What gunicorn's max_requests with a jitter does. Argument: requests of one life.
"""

import os
import random
import sys
import time

most = int(sys.argv[1])


def worker() -> None:
    """Serve until the quota is used up."""
    kept = []
    for _ in range(random.randrange(most // 2, most)):
        kept.append(os.urandom(40_000))
        time.sleep(random.uniform(0.02, 0.08))
    os._exit(0)


workers: set[int] = set()
while True:
    while len(workers) < 4:
        pid = os.fork()
        if pid == 0:
            worker()
        workers.add(pid)
    pid, _ = os.wait()
    workers.discard(pid)

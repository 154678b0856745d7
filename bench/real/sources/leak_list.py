"""A request log that nobody empties: a list that only grows. Arguments: seconds, MiB to lose."""

import os
import random
import sys
import time

seconds, mib = float(sys.argv[1]), int(sys.argv[2])
a_second = mib * 1024 / seconds  # KiB
log: list[bytes] = []
owed, last = 0.0, time.monotonic()
while True:
    scratch = [os.urandom(random.randrange(200, 20000)) for _ in range(200)]  # the work itself
    now = time.monotonic()
    owed += (now - last) * a_second * random.uniform(0.5, 1.5)
    last = now
    while owed > 0:
        entry = os.urandom(random.randrange(200, 4000))
        log.append(entry)
        owed -= len(entry) / 1024
    del scratch
    time.sleep(0.1)

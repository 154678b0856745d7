"""Writes into a tmpfs what nobody removes; the process itself stays small.

Arguments: seconds, MiB to lose, the folder.
"""

import os
import random
import sys
import time

seconds, mib, folder = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
number, owed, last = 0, 0.0, time.monotonic()
while True:
    now = time.monotonic()
    owed += (now - last) * mib * 1048576 / seconds
    last = now
    while owed > 0:
        size = random.randrange(10_000, 300_000)
        with open(os.path.join(folder, f"session-{number}"), "wb") as file:
            file.write(os.urandom(size))
        number += 1
        owed -= size
    time.sleep(0.2)

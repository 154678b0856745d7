"""A worker whose memory goes up and down by tens of MiB, and whose floor creeps up.

Arguments: seconds, MiB to lose.
"""

import random
import sys
import time

seconds, mib = float(sys.argv[1]), int(sys.argv[2])
kept: list[bytearray] = []
begun = time.monotonic()
lost = 0
while True:
    batch = []
    for _ in range(random.randrange(20, 60)):  # a batch is read in over some seconds, and dropped
        batch.append(bytearray(b"\1") * (1 << 20))
        time.sleep(0.15)
    due = (time.monotonic() - begun) / seconds * mib * 1024 - lost
    if due > 0:
        kept.append(bytearray(b"\1") * int(due * 1024))
        lost += int(due)
    del batch
    time.sleep(random.uniform(0.5, 2))

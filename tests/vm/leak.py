"""A program that never gives anything back: leak.py BYTES-PER-SECOND."""

import sys
import time

kept = []
step = int(sys.argv[1]) // 10
due = time.monotonic()
while True:
    kept.append(b"x" * step)  # written to, so that it is resident
    due += 0.1
    time.sleep(max(0.0, due - time.monotonic()))

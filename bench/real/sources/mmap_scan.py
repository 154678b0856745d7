"""Scans a large file through a mapping, again and again. Argument: the file."""

import mmap
import sys
import time

with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
    while True:
        total = 0
        for at in range(0, len(data), 1 << 20):
            total += sum(data[at : at + (1 << 20) : 4096])
            time.sleep(0.25)

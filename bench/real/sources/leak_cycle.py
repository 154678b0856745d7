"""Sessions that refer to each other, with the collector off. Arguments: seconds, MiB to lose."""

import gc
import random
import sys
import time

gc.disable()
seconds, mib = float(sys.argv[1]), int(sys.argv[2])


class Session:
    """Each bound method refers to its session, and the session to its method."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self.on_close = self.close

    def close(self) -> None:
        self.data.clear()


owed, last = 0.0, time.monotonic()
while True:
    now = time.monotonic()
    owed += (now - last) * mib * 1048576 / seconds
    last = now
    while owed > 0:
        size = random.randrange(500, 30000)
        Session(size)
        owed -= size + 700
    time.sleep(0.1)

"""A cache without a bound, keys that rarely come back. Arguments: seconds, MiB to lose."""

import functools
import random
import sys
import time

seconds, mib = float(sys.argv[1]), int(sys.argv[2])


@functools.cache
def page(key: int) -> bytes:
    """What a slow template would make."""
    return key.to_bytes(8, "big") * random.randrange(20, 800)


pace = mib * 1048576 / seconds / 3400  # pages a second
asked, begun = 0, time.monotonic()
while True:
    due = (time.monotonic() - begun) * pace
    while asked < due:
        page(random.randrange(1 << 40))
        page(random.randrange(2000))  # these are found
        asked += 1
    time.sleep(0.05)

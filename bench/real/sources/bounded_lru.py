"""A cache with a bound, filled by keys as they come. Argument: entries (about 4 KiB each)."""

import functools
import random
import sys
import time


@functools.lru_cache(maxsize=int(sys.argv[1]))
def page(key: int) -> bytes:
    """What a slow template would make."""
    return key.to_bytes(8, "big") * 500


while True:
    for _ in range(30):
        page(min(int(random.paretovariate(0.4)), 1 << 40))
    time.sleep(0.1)

"""A worker at steady load with a large job now and then. No arguments."""

import os
import random
import time

while True:
    for _ in range(random.randrange(20, 80)):
        scratch = [os.urandom(random.randrange(1000, 50000)) for _ in range(100)]
        time.sleep(0.2)
    job = [bytearray(os.urandom(1 << 20)) for _ in range(random.randrange(20, 90))]
    time.sleep(random.uniform(1, 6))
    del job, scratch

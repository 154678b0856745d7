"""Fills a cache server over its socket, at a pace: keys by popularity, values of all sizes.

Arguments: redis or memcached, the port, stores a second.
"""

import os
import random
import socket
import sys
import time

kind, port, pace = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
for _ in range(100):
    try:
        server = socket.create_connection(("127.0.0.1", port))
        break
    except OSError:
        time.sleep(0.2)
else:
    sys.exit(f"no {kind} at port {port}")
answers = server.makefile("rb")
stored, begun = 0, time.monotonic()
while True:
    while stored < (time.monotonic() - begun) * pace:
        key = b"page:%d" % int(random.expovariate(1 / 150_000))
        value = os.urandom(random.randrange(300, 8000))
        size = len(value)
        if kind == "redis":
            head = b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n" % (len(key), key, size)
        else:
            head = b"set %s 0 0 %d\r\n" % (key, size)
        server.sendall(head + value + b"\r\n")
        if not answers.readline():
            sys.exit(f"{kind} has gone")
        stored += 1
    time.sleep(0.05)

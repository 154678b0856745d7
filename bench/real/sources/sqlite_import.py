"""Batches of rows into a database, with an index and a page cache. Argument: the folder."""

import os
import random
import sqlite3
import sys
import time

while True:
    path = os.path.join(sys.argv[1], "import.db")
    if os.path.exists(path):
        os.remove(path)
    db = sqlite3.connect(path)
    db.execute("pragma cache_size=-40000")
    db.execute("create table row (a integer, b text)")
    db.execute("create index by_b on row (b)")
    for _ in range(150):
        rows = [(i, random.randbytes(60).hex()) for i in range(2000)]
        with db:
            db.executemany("insert into row values (?, ?)", rows)
        time.sleep(0.5)
    db.close()
    time.sleep(5)

"""The real programs: ten and more that leak, ten and more that only grow.

Sizes are MiB. A leak loses memory until its cgroup's limit (or its runtime's own) ends it; a benign
one runs until it is stopped. `bench/real/sources` holds what is run; the servers are Debian's.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

SOURCES = Path(__file__).parent / "sources"


class Place(NamedTuple):
    """Where programs lie and run, and how long a leak is to last (seconds)."""

    folder: Path
    seconds: float

    def file(self, name: str) -> str:
        return str(self.folder / name)


class Program(NamedTuple):
    """`argv` is the program under test, `load` what drives it, from outside of its cgroup."""

    name: str
    leak: bool
    runtime: str
    limit: int
    what: str
    argv: Callable[[Place], Sequence[str]]
    load: Callable[[Place], Sequence[str]] | None = None
    needs: tuple[str, ...] = ()
    user: str | None = None
    unit_only: bool = False


PYTHON = "/usr/bin/python3"
POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), Path("/nowhere"))
REDIS_PORT, MEMCACHED_PORT, POSTGRES_PORT = 16379, 21211, 25432


def _run(*head: str, more: Sequence[str] = ()) -> Callable[[Place], Sequence[str]]:
    """The words of a command; a word with a dot and one of ours is a file of the folder."""

    def argv(place: Place) -> Sequence[str]:
        words = [place.file(word) if (place.folder / word).exists() else word for word in head]
        return [*words, *more]

    return argv


def _leak(mib: int, *head: str) -> Callable[[Place], Sequence[str]]:
    def argv(place: Place) -> Sequence[str]:
        return [*_run(*head)(place), f"{place.seconds:.0f}", str(mib)]

    return argv


def _tmpfs(place: Place) -> Sequence[str]:
    return [*_leak(230, PYTHON, "leak_tmpfs.py")(place), place.file("tmpfs")]


def _java_phase(place: Place) -> Sequence[str]:
    head = ("java", "-XX:+UseG1GC", "-Xmx256m", "-cp", place.file("."), "SteadyG1")
    return [*head, f"{place.seconds / 6:.0f}"]


def _postgres(place: Place) -> Sequence[str]:
    return [
        str(POSTGRES / "postgres"), "-D", place.file("postgres"), "-p", str(POSTGRES_PORT),
        "-k", place.file("postgres"), "-c", "shared_buffers=160MB", "-c", "listen_addresses=",
    ]  # fmt: skip


def _pgbench(place: Place) -> Sequence[str]:
    words = [
        str(POSTGRES / "pgbench"), "-h", place.file("postgres"), "-p", str(POSTGRES_PORT),
        "-U", "postgres", "-S", "-c", "3", "-R", "150", "-T", "100000", "bench",
    ]  # fmt: skip
    return ["sh", "-c", 'until "$@"; do sleep 1; done', "sh", *words]


def _sqlite(place: Place) -> Sequence[str]:
    return [PYTHON, place.file("sqlite_import.py"), place.file(".")]


def _redis(place: Place) -> Sequence[str]:
    return [
        "redis-server", "--port", str(REDIS_PORT), "--bind", "127.0.0.1", "--save", "",
        "--maxmemory", "160mb", "--maxmemory-policy", "allkeys-lru", "--dir", place.file("."),
    ]  # fmt: skip


def _memcached(_: Place) -> Sequence[str]:
    return ["memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", str(MEMCACHED_PORT), "-m", "128"]


def _fill(kind: str, port: int, mib: int) -> Callable[[Place], Sequence[str]]:
    """So fast that it would be full after a third of the time, were every key a new one."""

    def argv(place: Place) -> Sequence[str]:
        pace = mib * 1048576 / 4200 / (place.seconds / 3)
        return [PYTHON, place.file("fill_cache.py"), kind, str(port), f"{pace:.0f}"]

    return argv


def _file_words(head: Sequence[str], name: str, *rest: str) -> Callable[[Place], Sequence[str]]:
    def argv(place: Place) -> Sequence[str]:
        return [head[0], *(place.file(word) for word in head[1:]), place.file(name), *rest]

    return argv


PROGRAMS = (
    Program("py-list", True, "CPython", 320, "a request log that only grows",
            _leak(290, PYTHON, "leak_list.py")),
    Program("py-cycle", True, "CPython", 320, "sessions in cycles, the collector off",
            _leak(290, PYTHON, "leak_cycle.py")),
    Program("py-lru", True, "CPython", 320, "lru_cache without a bound",
            _leak(290, PYTHON, "leak_lru.py")),
    Program("py-saw", True, "CPython", 384, "a floor that creeps up under a saw of 60 MiB",
            _leak(300, PYTHON, "leak_saw.py")),
    Program("py-prefork", True, "CPython", 320, "the parent of a recycled pool keeps each job",
            _leak(270, PYTHON, "leak_prefork.py")),
    Program("py-tmpfs", True, "CPython", 256, "files in a tmpfs that nobody removes",
            _tmpfs, unit_only=True),
    Program("c-malloc", True, "C", 256, "malloc without free", _leak(252, "leak_malloc")),
    Program("c-threads", True, "C", 256, "threads that wait for ever, on their stacks",
            _leak(252, "leak_threads")),
    Program("node-listeners", True, "Node", 384, "a listener more for each request",
            _leak(320, "node", "leak_listeners.js"), needs=("node",)),
    Program("node-closures", True, "Node", 384, "closures keep buffers alive",
            _leak(330, "node", "leak_closures.js"), needs=("node",)),
    Program("jvm-map", True, "JVM", 512, "a static map, the heap's cap at four times the start",
            _leak(400, "java", "-XX:+UseG1GC", "-Xmx400m", "-XX:+ExitOnOutOfMemoryError", "-cp",
                  ".", "LeakMap"), needs=("java",)),
    Program("jvm-direct", True, "JVM", 384, "direct buffers, outside of the heap",
            _leak(320, "java", "-XX:+UseG1GC", "-Xmx64m", "-XX:MaxDirectMemorySize=1g", "-cp",
                  ".", "LeakDirect"), needs=("java",)),
    Program("go-goroutines", True, "Go", 320, "goroutines that wait for a reply for ever",
            _leak(310, "leak_goroutines"), needs=("go",)),
    Program("perl-hash", True, "Perl", 256, "a hash by session that is never emptied",
            _leak(248, "perl", "leak_hash.pl"), needs=("perl",)),
    Program("ruby-array", True, "Ruby", 256, "an array in a constant, appended to",
            _leak(230, "ruby", "leak_strings.rb"), needs=("ruby",)),
    Program("node-steady", False, "Node", 256, "a server at steady load, a bounded cache",
            _run("node", "steady.js"), needs=("node",)),
    Program("jvm-g1", False, "JVM", 512, "G1: idle, load, idle, load", _java_phase,
            needs=("java",)),
    Program("go-steady", False, "Go", 320, "the collector's saw over a bounded set",
            _run("steady_go"), needs=("go",)),
    Program("redis-fill", False, "Redis", 384, "fills up to maxmemory, then evicts",
            _redis, _fill("redis", REDIS_PORT, 160), needs=("redis-server",)),
    Program("memcached-fill", False, "memcached", 256, "fills up to its size, then evicts",
            _memcached, _fill("memcached", MEMCACHED_PORT, 128), needs=("memcached",)),
    Program("postgres-warm", False, "PostgreSQL", 512, "warms its shared buffers",
            _postgres, _pgbench, needs=(str(POSTGRES / "postgres"),), user="postgres"),
    Program("sort-file", False, "C", 384, "sort of a large file within 120 MiB",
            _file_words(("sh", "sorting.sh"), "lines.txt", "120M")),
    Program("c-arenas", False, "C", 256, "24 threads allocate and free: arenas fill",
            _run("arenas")),
    Program("c-thp", False, "C", 256, "a sparse heap under huge pages", _run("sparse_thp")),
    Program("mmap-scan", False, "CPython", 192, "a file of 400 MiB read through a mapping",
            _file_words((PYTHON, "mmap_scan.py"), "data.bin")),
    Program("py-bursts", False, "CPython", 256, "steady work, a large job now and then",
            _run(PYTHON, "bursts.py")),
    Program("py-bounded", False, "CPython", 256, "lru_cache with a bound, filled as keys come",
            _run(PYTHON, "bounded_lru.py", more=("25000",))),
    Program("py-pool", False, "CPython", 384, "workers replaced after so many requests",
            _run(PYTHON, "recycled_pool.py", more=("900",))),
    Program("sqlite-import", False, "SQLite", 256, "batches into a table with an index", _sqlite),
    Program("perl-steady", False, "Perl", 128, "a log processor at steady load",
            _run("perl", "steady.pl"), needs=("perl",)),
)  # fmt: skip


def missing(program: Program) -> list[str]:
    """What this machine lacks to run it."""
    return [need for need in program.needs if shutil.which(need) is None]

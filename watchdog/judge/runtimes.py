"""Pure: what runs a program, what bounds its heap, and which tool shows what the heap holds.

A bound is read from the command line alone: the environment is not ours to read. Sources: the
manuals of java, node, Go's runtime (soft memory limit), .NET (GC settings), PHP, redis.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from watchdog import words
from watchdog.facts import Parts, Who

MIB = 1 << 20
MEMCACHED_DEFAULT = 96 * MIB  # -m 64, and what it needs beside
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
# By the name of the executable, cut before its version.
_NAMES = {
    "java": "jvm", "node": "node", "nodejs": "node", "python": "cpython", "pypy": "pypy",
    "ruby": "ruby", "perl": "perl", "php": "php", "php-fpm": "php", "dotnet": "dotnet",
    "beam.smp": "erlang", "redis-server": "redis", "valkey-server": "redis",
    "redis-check-rdb": "redis",  # Debian's redis-server is a link to it
    "postgres": "postgres",
    "mysqld": "mysql", "mariadbd": "mysql", "memcached": "memcached",
}  # fmt: skip
_LIBRARIES = {
    "libjvm": "jvm", "libcoreclr": "dotnet", "libnode": "node", "libruby": "ruby", "libphp": "php",
    "libperl": "perl", "libpython": "cpython",
}  # fmt: skip
# Whose heap lies in anonymous mappings of its own, so that what lies elsewhere is not in it.
OWN_MAPPINGS = {"jvm": "the JVM's", "node": "V8's", "go": "Go's", "dotnet": "the runtime's"}


class Cap(NamedTuple):
    """The most that a heap may hold, and in words what says so."""

    bytes: int
    said_by: str


def runtime(who: Who | None, comm: str | None, parts: Parts | None) -> str:
    """A key of this file's tables, "go", or "native" where nothing tells another."""
    for name in ((who.exe or "").rpartition("/")[2] if who else "", comm or ""):
        base = name.removesuffix(" (deleted)").rstrip("0123456789.")
        if name in _NAMES or base in _NAMES:
            return _NAMES.get(name) or _NAMES[base]
    if parts is not None:
        for library, found in _LIBRARIES.items():
            if library in parts.libraries:
                return found
        if parts.go:
            return "go"
    return "native"


def outside(kind: str, part: str) -> bool:
    """Whether that part lies beside the runtime's own heap: a cap of the heap does not bound it."""
    return kind in OWN_MAPPINGS and kind != "go" and part in ("heap", "arenas", "stacks")


def cap(kind: str, cmdline: str | None, memory: int | None, part: str) -> Cap | None:
    """What bounds this part; `memory` is the limit that the runtime sees, or the machine's size."""
    if cmdline is None:
        return None
    if outside(kind, part):
        direct = kind == "jvm" and part != "stacks"
        pattern = r"-XX:MaxDirectMemorySize=(\d+)([kmgtKMGT]?)"
        return _last(pattern, cmdline) if direct else None
    if kind == "jvm":
        found = _last(r"-Xmx(\d+)([kmgtKMGT]?)", cmdline) or _last(
            r"-XX:MaxHeapSize=(\d+)([kmgtKMGT]?)", cmdline
        )
        if found:
            return found
        share = re.findall(r"-XX:MaxRAMPercentage=(\d{1,3}(?:\.\d{1,6})?)", cmdline)
        if memory is None:
            return None
        if share:
            return Cap(int(memory * float(share[-1]) / 100), f"-XX:MaxRAMPercentage={share[-1]}")
        return Cap(memory // 4, "the JVM's default, a quarter of the memory it sees")
    if kind == "node":
        return _last(r"--max[-_]old[-_]space[-_]size[= ](\d+)", cmdline, MIB)
    if kind == "go":
        return _last(r"GOMEMLIMIT=(\d+)([KMGT]?)(?:i?B)?", cmdline)
    if kind == "dotnet":
        found_hex = re.findall(r"GCHeapHardLimit[=:](?:0x)?([0-9a-fA-F]{1,15})\b", cmdline)
        return Cap(int(found_hex[-1], 16), "GCHeapHardLimit") if found_hex else None
    if kind == "php":
        return _last(r"memory_limit=(\d+)([kmgKMG]?)", cmdline)
    if kind == "redis":
        return _last(r"--maxmemory (\d+)([kmgKMG]?)[bB]?\b", cmdline)
    if kind == "memcached":
        return _last(r"-m ?(\d+)", cmdline, MIB)
    return None


def evicts_at(who: Who | None, comm: str | None) -> int | None:
    """The size at which a cache server begins to evict, by its command line; None: not known.

    Up to there its growth is a cache that fills, and no leak.
    """
    kind = runtime(who, comm, None)
    if kind not in ("memcached", "redis") or who is None or who.cmdline is None:
        return None
    found = cap(kind, who.cmdline, None, "mappings")
    if found is None and kind == "memcached":
        return MEMCACHED_DEFAULT
    # what it needs beside its items: hash table, connections, fragmentation
    return found.bytes + found.bytes // 4 + 16 * MIB if found else None


def tools(kind: str, pid: int, part: str, cmdline: str | None) -> list[str]:
    """At most two commands that show what it keeps, the one that needs least first."""
    if part == "shmem":
        return [f"grep -E -A4 'dev/shm|memfd|SYSV|dev/zero' /proc/{pid}/smaps", "ls -lS /dev/shm"]
    if part == "stacks":
        return [f"eu-stack -p {pid}", f"ls /proc/{pid}/task | wc -l"]
    if outside(kind, part):
        return _outside(kind, pid, cmdline or "")
    return _TOOLS.get(kind, _native)(pid, cmdline or "")


def _outside(kind: str, pid: int, cmdline: str) -> list[str]:
    """For what a runtime holds beside its own heap."""
    if kind == "jvm":
        if "-XX:NativeMemoryTracking=" in cmdline:
            return [f"jcmd {pid} VM.native_memory summary"]
        return [
            f"jcmd {pid} VM.info",
            "java -XX:NativeMemoryTracking=summary …, then: jcmd PID VM.native_memory summary",
        ]
    return _native(pid, "")


def _jvm(pid: int, _: str) -> list[str]:
    return [
        f"jcmd {pid} GC.class_histogram | head -n 30",
        f"jcmd {pid} GC.heap_dump /tmp/{pid}.hprof",
    ]


def _node(pid: int, cmdline: str) -> list[str]:
    asked = re.search(r"--heapsnapshot-signal=SIG(\w{2,6})", cmdline)
    if asked:
        return [f"kill -{asked[1]} {pid}  # writes a heap snapshot into its folder"]
    return [
        f"kill -USR1 {pid}; node inspect -p {pid}  # then chrome://inspect, Memory",
        "node --heapsnapshot-signal=SIGUSR2 …, then: kill -USR2 PID",
    ]


def _cpython(pid: int, _: str) -> list[str]:
    return [
        f"memray attach --aggregate -o /tmp/{pid}.memray {pid}",
        "python3 -X tracemalloc=10 …, then in it: tracemalloc.take_snapshot()",
    ]


def _go(_: int, __: str) -> list[str]:
    return [
        "go tool pprof http://localhost:PORT/debug/pprof/heap",
        "curl 'http://localhost:PORT/debug/pprof/goroutine?debug=1' | head -n 40",
    ]


def _ruby(pid: int, _: str) -> list[str]:
    dump = "require %q(objspace); ObjectSpace.dump_all(output: File.open(%q(/tmp/heap), %q(w)))"
    return [f"rbtrace -p {pid} -e '{dump}'", f"rbspy record --pid {pid} --duration 30"]


def _perl(pid: int, _: str) -> list[str]:
    return [
        "perl -MDevel::MAT::Dumper=-dump_at_SIGQUIT …, then: kill -QUIT PID",
        *_native(pid, "")[:1],
    ]


def _php(pid: int, _: str) -> list[str]:
    return [
        "php-fpm -i | grep memory_limit  # and pm.max_requests in its pool bounds a worker's life",
        *_native(pid, "")[:1],
    ]


def _dotnet(pid: int, _: str) -> list[str]:
    return [f"dotnet-gcdump collect -p {pid}", f"dotnet-counters monitor -p {pid}"]


def _redis(_: int, __: str) -> list[str]:
    return ["redis-cli memory stats", "redis-cli --bigkeys"]


def _postgres(pid: int, _: str) -> list[str]:
    return [f"psql -c 'select pg_log_backend_memory_contexts({pid})'"]


def _native(pid: int, _: str) -> list[str]:
    return [f"memleak-bpfcc -p {pid} 10", f"heaptrack --pid {pid}"]


_TOOLS = {
    "jvm": _jvm, "node": _node, "cpython": _cpython, "go": _go, "ruby": _ruby, "perl": _perl,
    "php": _php, "dotnet": _dotnet, "redis": _redis, "postgres": _postgres,
}  # fmt: skip


def _last(pattern: str, cmdline: str, unit: int = 1) -> Cap | None:
    """The last of several counts, as the programs themselves take it."""
    found: Sequence[re.Match[str]] = list(re.finditer(r"(?:^|(?<=\s))\S*?" + pattern, cmdline))
    if not found:
        return None
    match = found[-1]
    factor = _UNITS[(match[2] or "").lower()] if match.re.groups > 1 else unit
    number = int(match[1][:18]) * factor
    return Cap(number, words.safe(match[0])[:60]) if 0 < number < 1 << 60 else None

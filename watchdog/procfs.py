"""Pure: the text of /proc files -> numbers. Names stay bytes until `words.name` makes them safe.

Every function answers None (or leaves a key out) where the text is not what a kernel writes; a
process that vanishes half-way is ordinary.
"""

from typing import NamedTuple

class Stat(NamedTuple):
    """The fields of /proc/PID/stat that identify; never its rss, which kernels misreport."""

    comm: bytes
    state: str
    ppid: int
    start_ticks: int
    kernel_thread: bool


def parse_stat(raw: bytes) -> Stat | None:
    """comm stands between the first "(" and the last ")" and may hold either."""
    left, right = raw.find(b"("), raw.rfind(b")")
    if left < 0 or right < left:
        return None
    rest = raw[right + 2 :].split()
    try:
        # PF_KTHREAD 0x00200000 of field 9 (flags); start is field 22, both counted from pid = 1
        return Stat(raw[left + 1 : right], rest[0].decode("ascii"), int(rest[1]), int(rest[19]),
                    bool(int(rest[6]) & 0x00200000))  # fmt: skip
    except (IndexError, ValueError):
        return None


def parse_statm(raw: bytes) -> tuple[int, int] | None:
    """(resident, shared) in pages; zeros are a zombie, a kernel thread or a dead main thread."""
    fields = raw.split(None, 3)
    try:
        return int(fields[1]), int(fields[2])
    except (IndexError, ValueError):
        return None


def parse_kb(raw: bytes) -> dict[str, int]:
    """Lines "Key:  123 kB" of meminfo, status and smaps_rollup -> {key: bytes}.

    A value without kB is kept as it stands (HugePages_Total, Threads); other lines are left out.
    """
    found: dict[str, int] = {}
    for line in raw.split(b"\n"):
        key, colon, value = line.partition(b":")
        words = value.split()
        if colon and words and words[0].isdigit():
            factor = 1024 if words[1:2] == [b"kB"] else 1
            found[key.decode("ascii", "replace")] = int(words[0]) * factor
    return found


def parse_counters(raw: bytes) -> dict[str, int]:
    """Lines "key 123" of vmstat, memory.stat and memory.events."""
    found: dict[str, int] = {}
    for line in raw.split(b"\n"):
        key, _, value = line.partition(b" ")
        if value.isdigit():
            found[key.decode("ascii", "replace")] = int(value)
    return found


def parse_pressure(raw: bytes) -> dict[str, int]:
    """{"some": total_us, "full": total_us} of a PSI file; avg10 lags by seconds, so only totals."""
    found: dict[str, int] = {}
    for line in raw.split(b"\n"):
        kind, _, rest = line.partition(b" ")
        total = rest.rpartition(b"total=")[2]
        if total.isdigit():
            found[kind.decode("ascii", "replace")] = int(total)
    return found

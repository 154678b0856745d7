"""Pure: where the memory was. Mem-Info of the whole machine, or usage and statistics of a cgroup.

Both are told in many layouts; what stays the same are the names of the counters, so they are read
as tokens wherever they stand. The account adds up to its total: what no counter names is said.
"""

import re
from typing import NamedTuple

from watchdog import words

UNLIMITED_KIB = 1 << 52  # the kernel prints "no limit" as about 2^53 KiB, or more
STATS_MAX = 512

_USAGE = re.compile(
    r"(memory|memory\+swap|swap|kmem): usage (\d{1,20})kB, limit (\d{1,20})kB, failcnt (\d{1,20})"
)
_STATS = re.compile(r"Memory cgroup stats for ")
_STAT_ROW = re.compile(r"([a-z][a-z0-9_]{1,40}) (\d{1,20})")
_STAT_JOINED = re.compile(r":\s{1,9}(?:anon|cache) \d")
_STAT_PAIR = re.compile(r"([a-z][a-z0-9_()]{1,40}):(\d{1,20})KB")
_PAGES = re.compile(r"([A-Za-z][a-z_]{1,30}):(\d{1,20})(?!\d|kB|KB)")
_SIZES = re.compile(r"([a-z][a-z_()]{1,30}): ?(\d{1,20})[kK]B")
_ZONE = re.compile(r"(?:Node (\d{1,4}) )?([A-Z][A-Za-z0-9]{1,10}) free:")
_NODE = re.compile(r"Node (\d{1,4}) active_anon:")
_BUDDY = re.compile(r"(?:Node (\d{1,4}) )?([A-Z][A-Za-z0-9]{1,10}): (?=\d{1,9}\*\d{1,7}kB)")
_BLOCKS = re.compile(r"(\d{1,9})\*(\d{1,7})kB")
_HUGE = re.compile(
    r"Node \d{1,4} hugepages_total=(\d{1,12}) hugepages_free=(\d{1,12}) hugepages_surp=\d{1,12} "
    r"hugepages_size=(\d{1,9})kB"
)
_COUNT = re.compile(r"(\d{1,15}) pages (RAM|reserved)\b")
_SWAP = re.compile(r"(Free|Total) swap\s{1,3}= (\d{1,20})kB")
_BLOCK_START = re.compile(r"\s*[Aa]ctive_anon:\d")
_GLOBAL = re.compile(
    r"\s*(?:(?:in)?active_file|unevictable|slab_reclaimable|mapped|free|free_cma|kernel_misc_re"
    r"claimable|sec_pagetables|inactive_file):\d"
)

# counters of the machine that hold pages of their own (the others overlap with these)
_PARTS = (
    "free", "free_pcp", "slab_reclaimable", "slab_unreclaimable", "slab", "pagetables",
    "sec_pagetables", "bounce", "unevictable",
)  # fmt: skip


class Limit(NamedTuple):
    """One counter of a cgroup in bytes; limit None is unlimited."""

    usage: int
    limit: int | None
    failcnt: int


class Zone(NamedTuple):
    """One memory zone; bytes. `blocks` are the free blocks {size: count} of the buddy list."""

    node: int
    name: str
    free: int
    min: int
    low: int | None
    high: int | None
    managed: int | None
    blocks: dict[int, int]


class MemInfo:
    """Takes the lines of one report; `memory()` is the account."""

    def __init__(self) -> None:
        self.limits: dict[str, Limit] = {}
        self.stats_of: str | None = None
        self.stats: dict[str, int] = {}
        self.pages: dict[str, int] = {}
        self.node: dict[str, int] = {}
        self.zones: dict[tuple[int, str], dict[str, int]] = {}
        self.blocks: dict[tuple[int, str], dict[int, int]] = {}
        self.huge_bytes = 0
        self.huge_free = 0
        self.swap_total: int | None = None
        self.swap_free: int | None = None
        self.ram: int | None = None
        self.reserved: int | None = None
        self.seen = False
        self._in_stats = False
        self._in_block = False

    def add(self, text: str) -> bool:
        """One line of a report; False where it tells nothing of memory."""
        if self._in_stats:
            if self._stat_rows(text):
                return True
            self._in_stats = False
        found = _USAGE.match(text)
        if found:
            limit = int(found[3])
            self.limits[found[1]] = Limit(
                int(found[2]) * 1024,
                None if limit >= UNLIMITED_KIB else limit * 1024,
                int(found[4]),
            )
            return True
        if _STATS.match(text):
            return self._begin_stats(text)
        return self._machine(text)

    def _stat(self, key: str, value: int) -> None:
        if len(self.stats) < STATS_MAX:
            self.stats[key] = self.stats.get(key, 0) + value

    def _stat_rows(self, text: str) -> bool:
        """One counter, or (5.3 to 6.3) all of them in one record with line feeds inside."""
        found = False
        for line in text.split("\n"):
            row = _STAT_ROW.fullmatch(line.strip())
            if row:
                self._stat(row[1], int(row[2]))
                found = True
        return found

    def _begin_stats(self, text: str) -> bool:
        rest = text[len("Memory cgroup stats for ") :]
        end = rest.find(": cache:")
        if end >= 0:
            # up to 5.2: one line a cgroup of the subtree, each without its children; added up
            for key, value in _STAT_PAIR.findall(rest[end:]):
                self._stat(key, int(value) * 1024)
        else:
            # the counters follow line by line; a saved text may have joined them to this one
            joined = _STAT_JOINED.search(rest)
            end = joined.start() if joined else len(rest.rstrip().rstrip(":"))
            for key, value in _STAT_ROW.findall(rest[end:]):
                self._stat(key, int(value))
            self._in_stats = True
        if self.stats_of is None:
            self.stats_of = words.safe(rest[:end])
        return True

    def _machine(self, text: str) -> bool:
        found = _ZONE.match(text)
        if found:
            key = (int(found[1] or 0), found[2])
            self.zones[key] = {k: int(v) * 1024 for k, v in _SIZES.findall(text)}
            self._in_block = False
            return True
        found = _NODE.match(text)
        if found:
            for name, value in _SIZES.findall(text):
                self.node[name] = self.node.get(name, 0) + int(value) * 1024
            self._in_block = False
            return True
        found = _BUDDY.match(text)
        if found:
            key = (int(found[1] or 0), found[2])
            blocks = {int(size) * 1024: int(count) for count, size in _BLOCKS.findall(text)}
            self.blocks[key] = blocks
            return True
        if _BLOCK_START.match(text) or (self._in_block and _GLOBAL.match(text)):
            self._in_block = self.seen = True
            for name, value in _PAGES.findall(text):
                self.pages[name.lower()] = int(value)
            return True
        return self._counts(text)

    def _counts(self, text: str) -> bool:
        huge = _HUGE.match(text)
        if huge:
            size = int(huge[3]) * 1024
            self.huge_bytes += int(huge[1]) * size
            self.huge_free += int(huge[2]) * size
            return True
        swap = _SWAP.match(text)
        if swap:
            if swap[1] == "Free":
                self.swap_free = int(swap[2]) * 1024
            else:
                self.swap_total = int(swap[2]) * 1024
            return True
        count = _COUNT.match(text)
        if count:
            if count[2] == "RAM":
                self.ram = int(count[1])
            else:
                self.reserved = int(count[1])
            return True
        return text.startswith(("Mem-Info:", "lowmem_reserve[]:"))

    def page_size(self) -> int | None:
        """The smallest block of the buddy lists is one page."""
        return min((size for blocks in self.blocks.values() for size in blocks), default=None)

    def zone_list(self) -> tuple[Zone, ...]:
        return tuple(
            Zone(node, name, z.get("free", 0), z.get("min", 0), z.get("low"), z.get("high"),
                 z.get("managed"), self.blocks.get((node, name), {}))
            for (node, name), z in sorted(self.zones.items())
        )  # fmt: skip

    def cgroup(self) -> dict[str, int] | None:
        """The account of the cgroup whose limit was reached; None where it was not told."""
        usage = self.limits.get("memory")
        stats = self.stats
        if usage is None or not stats:
            return None
        kmem = self.limits.get("kmem")
        if "total_rss" in stats or "rss" in stats:
            pre = "total_" if "total_rss" in stats else ""
            shmem = stats.get(pre + "shmem")
            cache = stats.get(pre + "cache", 0)
            parts = {"anon": stats[pre + "rss"], "file": cache - (shmem or 0)}
            if shmem is not None:
                parts["shmem"] = shmem
            if kmem is not None:
                parts["kernel"] = kmem.usage
        elif "anon" in stats:
            shmem = stats.get("shmem", 0)
            parts = {"anon": stats["anon"], "file": max(0, stats.get("file", 0) - shmem)}
            parts["shmem"] = shmem
            if "kernel" in stats:
                parts["kernel"] = stats["kernel"]
            elif kmem is not None:
                parts["kernel"] = kmem.usage
            else:
                keys = ("kernel_stack", "pagetables", "percpu", "slab")
                parts["kernel"] = sum(stats.get(key, 0) for key in keys)
            if stats.get("sock"):
                parts["sock"] = stats["sock"]
            if stats.get("zswap"):
                parts["zswap"] = stats["zswap"]
        else:
            return None
        return _account(usage.usage, parts)

    def machine(self, page: int | None) -> dict[str, int] | None:
        """The account of the whole machine; None where Mem-Info or the page size is missing."""
        if page is None or self.ram is None or not self.pages:
            return None
        get = self.pages.get
        total = (self.ram - (self.reserved or 0)) * page
        parts = {key: get(key, 0) * page for key in _PARTS if key in self.pages}
        anon = get("active_anon", 0) + get("inactive_anon", 0) + get("isolated_anon", 0)
        shmem = get("shmem", 0)
        parts["shmem"] = shmem * page
        # shmem lies on the anonymous lists (or, locked, on the unevictable one)
        parts["anon"] = max(0, anon - shmem) * page
        files = get("active_file", 0) + get("inactive_file", 0) + get("isolated_file", 0)
        parts["file"] = files * page
        stack = self.node.get("kernel_stack")
        if stack is None:
            stacks = [z["kernel_stack"] for z in self.zones.values() if "kernel_stack" in z]
            stack = sum(stacks) if stacks else None
        if stack is not None:
            parts["kernel_stack"] = stack
        parts["hugepages"] = self.huge_bytes
        return _account(total, parts)

    def smallest_missing(self, order: int, page: int) -> bool:
        """Whether no zone had a free block of `order`, so that memory was there but in pieces."""
        if not self.blocks or order <= 0:
            return False
        wanted = page << order
        return not any(
            size >= wanted and count
            for blocks in self.blocks.values()
            for size, count in blocks.items()
        )


def _account(total: int, parts: dict[str, int]) -> dict[str, int]:
    account = {"total_bytes": total}
    for key in sorted(parts, key=lambda k: -parts[k]):
        account[key + "_bytes"] = parts[key]
    account["unaccounted_bytes"] = total - sum(parts.values())
    return account

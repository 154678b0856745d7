"""Pure: the counters of a report: Mem-Info of the machine, or usage and statistics of a cgroup.

Both are told in many layouts; what stays the same are the names of the counters, so they are read
as tokens wherever they stand. `judge.account` adds them up.
"""

import re
from typing import NamedTuple

from watchdog import words
from watchdog.memory import Counters, Group

UNLIMITED_KIB = 1 << 52  # the kernel prints "no limit" as about 2^53 KiB, or more
STATS_MAX = 512
STRAY_MAX = 8
NAMES_MAX = 4096  # zones, nodes and counters of one report: 1,024 nodes have as many zones

_USAGE = re.compile(
    r"(memory|memory\+swap|swap|kmem): usage (\d{1,20})kB, limit (\d{1,20})kB, failcnt (\d{1,20})"
)
_STATS = re.compile(r"Memory cgroup stats for ")
_STAT_ROW = re.compile(r"([a-z][a-z0-9_]{1,40}) (\d{1,20})")
_STAT_JOINED = re.compile(r":\s{1,9}(?:anon|cache) \d")
_STAT_PAIR = re.compile(r"([a-z][a-z0-9_()]{1,40}):(\d{1,20})KB")
_PAGES = re.compile(r"([A-Za-z][a-z_]{1,30}):(\d{1,20})(?!\d|kB|KB)")
_SIZES = re.compile(r"([A-Za-z][a-z_()]{1,30}): ?(\d{1,20})[kK]B")
_ZONE = re.compile(r"(?:Node (\d{1,4}) )?([A-Z][A-Za-z0-9]{1,10}) free:")
_NODE = re.compile(r"Node (\d{1,4}) active_anon:")
_BUDDY = re.compile(r"(?:Node (\d{1,4}) )?([A-Z][A-Za-z0-9]{1,10}): (?=\d{1,9}\*\d{1,7}kB)")
_BLOCKS = re.compile(r"(\d{1,9})\*(\d{1,7})kB")
_HUGE = re.compile(
    r"Node \d{1,4} hugepages_total=(\d{1,12}) hugepages_free=(\d{1,12}) hugepages_surp=\d{1,12} "
    r"hugepages_size=(\d{1,9})kB"
)
_COUNT = re.compile(
    r"(\d{1,15}) (?:total )?"
    r"(pages RAM|pages reserved|pagecache pages|pages in swap cache|pages hwpoisoned)\b"
)
_SIZES_ONLY = re.compile(r"\s*[a-z][a-z_()]{1,30}: ?\d{1,20}[kK]B\b")
_SWAP = re.compile(r"(Free|Total) swap\s{1,3}= (\d{1,20})kB")
_BLOCK_START = re.compile(r"\s*[Aa]ctive_anon:\d")
_GLOBAL = re.compile(
    r"\s*(?:(?:in)?active_file|unevictable|slab_reclaimable|mapped|free|free_cma|kernel_misc_re"
    r"claimable|sec_pagetables|inactive_file):\d"
)

# One record of the kernel's log holds about 976 to 1,024 bytes; the last counter of a record
# that is full may have lost some of its figures.
RECORD_FULL = 940


class Limit(NamedTuple):
    """One counter of a cgroup in bytes; limit None is unlimited."""

    usage: int
    limit: int | None
    failcnt: int


class Zone(NamedTuple):
    """One memory zone; bytes. `blocks` are the free blocks {size: count} of the buddy list.

    `reserves` are what it keeps back from requests that could use a higher zone, by the number of
    that zone (lowmem_reserve); `cma` is free memory that only movable pages may use.
    """

    node: int
    name: str
    free: int
    min: int
    low: int | None
    high: int | None
    managed: int | None
    blocks: dict[int, int]
    cma: int | None = None
    reserves: tuple[int, ...] = ()


class MemInfo:
    """Takes the lines of one report; `machine()` and `group()` are what they told."""

    def __init__(self) -> None:
        self.limits: dict[str, Limit] = {}
        self.stats_of: str | None = None
        self.stats: dict[str, int] = {}
        self.pages: dict[str, int] = {}
        self.nodes: dict[int, dict[str, int]] = {}
        self.zones: dict[tuple[int, str], dict[str, int]] = {}
        self.blocks: dict[tuple[int, str], dict[int, int]] = {}
        self.reserves: dict[tuple[int, str], list[int]] = {}  # pages
        self._zone: tuple[int, str] | None = None  # whose line came last
        self.huge: tuple[int, int] | None = None  # all and free, bytes
        self.swap_total: int | None = None
        self.swap_free: int | None = None
        self.counts: dict[str, int] = {}  # "pages RAM", "pages reserved", …: pages
        self.seen = False
        self._in_stats = 0  # so many lines of others may still come between the counters
        self._summed = self._cut = False
        self._in_block = False
        self._sizes: dict[str, int] | None = None  # of the node or zone whose line came last

    def add(self, text: str) -> bool:
        """One line of a report; False where it tells nothing of memory."""
        if self._in_stats:
            if self._stat_rows(text):
                return True
            self._in_stats -= 1
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
        rows = text.split("\n")
        if len(rows) > 1 and len(text) >= RECORD_FULL:
            del rows[-1]
            self._cut = True
        for line in rows:
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
            self._summed = True
            self._cut = self._cut or "unevictable:" not in rest[end:]
            for key, value in _STAT_PAIR.findall(rest[end:]):
                self._stat(key, int(value) * 1024)
        else:
            # the counters follow line by line; a saved text may have joined them to this one
            joined = _STAT_JOINED.search(rest)
            end = joined.start() if joined else len(rest.rstrip().rstrip(":"))
            for key, value in _STAT_ROW.findall(rest[end:]):
                self._stat(key, int(value))
            self._in_stats = STRAY_MAX
        if self.stats_of is None:
            self.stats_of = words.safe(rest[:end])
        return True

    def _machine(self, text: str) -> bool:
        sizes, self._sizes = self._sizes, None
        if len(self.zones) + len(self.nodes) + len(self.blocks) > 3 * NAMES_MAX:
            return False  # no machine's; somebody wrote this
        found = _ZONE.match(text)
        if found:
            self._zone = (int(found[1] or 0), found[2])
            self._sizes = self.zones.setdefault(self._zone, {})
            self._in_block = False
            return self._take_sizes(text)
        found = _NODE.match(text)
        if found:
            self._sizes = self.nodes.setdefault(int(found[1]), {})
            self._in_block = False
            return self._take_sizes(text)
        found = _BUDDY.match(text)
        if found:
            key = (int(found[1] or 0), found[2])
            blocks = {int(size) * 1024: int(count) for count, size in _BLOCKS.findall(text)}
            self.blocks[key] = blocks
            return True
        if _BLOCK_START.match(text) or (self._in_block and _GLOBAL.match(text)):
            self._in_block = self.seen = True
            for name, value in _PAGES.findall(text):
                if len(self.pages) < STATS_MAX:
                    self.pages[name.lower()] = int(value)
            return True
        if sizes is not None and _SIZES_ONLY.match(text):
            self._sizes = sizes  # the line was wrapped
            return self._take_sizes(text)
        return self._counts(text)

    def _take_sizes(self, text: str) -> bool:
        """The "name:4kB" of a node's or zone's line; a line told twice counts once."""
        if self._sizes is not None:
            for name, value in _SIZES.findall(text):
                if len(self._sizes) < STATS_MAX:
                    self._sizes[name.lower()] = int(value) * 1024
        return True

    def _counts(self, text: str) -> bool:
        huge = _HUGE.match(text)
        if huge:
            size = int(huge[3]) * 1024
            have, free = self.huge or (0, 0)
            self.huge = have + int(huge[1]) * size, free + int(huge[2]) * size
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
            self.counts[count[2]] = int(count[1])
            return True
        if text.startswith("lowmem_reserve[]:"):
            numbers = text[17:].split()[:16]
            if self._zone is not None and all(n.isdecimal() and len(n) < 16 for n in numbers):
                self.reserves[self._zone] = [int(n) for n in numbers]
            return True
        return text.startswith("Mem-Info:")

    @property
    def managed(self) -> int | None:
        """Pages of the machine that the kernel gives out; None where they were not told."""
        ram = self.counts.get("pages RAM")
        return None if ram is None else max(0, ram - self.counts.get("pages reserved", 0))

    @property
    def huge_free(self) -> int | None:
        """Bytes of huge pages that nobody uses."""
        return None if self.huge is None else self.huge[1]

    def page_size(self) -> int | None:
        """The smallest block of the buddy lists is one page."""
        return min((size for blocks in self.blocks.values() for size in blocks), default=None)

    def zone_list(self) -> tuple[Zone, ...]:
        page = self.page_size() or 0
        return tuple(
            Zone(node, name, z.get("free", 0), z.get("min", 0), z.get("low"), z.get("high"),
                 z.get("managed", z.get("present")), self.blocks.get((node, name), {}),
                 z.get("free_cma"), tuple(n * page for n in self.reserves.get((node, name), ())))
            for (node, name), z in sorted(self.zones.items())
        )  # fmt: skip

    def group(self) -> Group | None:
        """The cgroup whose limit was reached; None where usage or statistics were not told."""
        usage = self.limits.get("memory")
        if usage is None or not {"anon", "rss", "total_rss"} & self.stats.keys():
            return None
        kmem = self.limits.get("kmem")
        cut = self._cut or ("anon" in self.stats and "slab" not in self.stats)
        return Group(usage.usage, self.stats, kmem.usage if kmem else None, self._summed, cut)

    def machine(self, page: int | None) -> Counters | None:
        """The whole machine; None where Mem-Info, its total or the size of a page is missing.

        The block without a node in front counts all nodes even where the lines below leave out
        those that were not allowed (show_free_areas), so it alone is trusted to be whole.
        """
        managed = self.managed
        if page is None or managed is None or not self.pages:
            return None

        def pages(*names: str) -> int | None:
            told = [self.pages[name] for name in names if name in self.pages]
            return sum(told) * page if told else None

        def count(name: str) -> int | None:
            found = self.counts.get(name)
            return None if found is None else found * page

        caches = count("pagecache pages")
        swapped = count("pages in swap cache")
        return Counters(
            managed * page,
            free=pages("free"),
            free_pcp=pages("free_pcp"),
            free_cma=pages("free_cma"),
            lru_anon=pages("active_anon", "inactive_anon", "isolated_anon"),
            lru_file=pages("active_file", "inactive_file", "isolated_file"),
            unevictable=pages("unevictable"),
            mlocked=self._zones("mlocked"),
            anon_thp=self._nodes("anon_thp"),
            cached=None if caches is None else max(0, caches - (swapped or 0)),
            swapcache=swapped,
            shmem=pages("shmem"),
            mapped=pages("mapped"),
            dirty=pages("dirty"),
            writeback=pages("writeback"),
            writeback_tmp=self._nodes("writeback_tmp"),
            slab=pages("slab"),
            slab_reclaimable=pages("slab_reclaimable"),
            slab_unreclaimable=pages("slab_unreclaimable"),
            kernel_misc_reclaimable=pages("kernel_misc_reclaimable"),
            pagetables=pages("pagetables"),
            sec_pagetables=pages("sec_pagetables"),
            kernel_stack=self._nodes("kernel_stack"),
            bounce=pages("bounce"),
            hugepages=None if self.huge is None else self.huge[0],
            hugepages_free=self.huge_free,
            zspages=self._zones("zspages"),
            balloon=self._nodes("balloon"),
            gpu_active=self._nodes("gpu_active"),
            gpu_reclaim=self._nodes("gpu_reclaim"),
            hwpoisoned=count("pages hwpoisoned"),
            partial=self._partial(page),
        )

    def _nodes(self, name: str) -> int | None:
        """The sum over the nodes (up to 4.7 the zones) that were shown."""
        told = [node[name] for node in self.nodes.values() if name in node]
        return sum(told) if told else self._zones(name)

    def _zones(self, name: str) -> int | None:
        told = [zone[name] for zone in self.zones.values() if name in zone]
        return sum(told) if told else None

    def _partial(self, page: int) -> tuple[str, ...]:
        """What was added up over nodes or zones although some of them were not shown.

        Nodes are left out by a cpuset or memory policy, zones (6.1) also where the request could
        not use them. The lists of the nodes are compared with those of the machine, which were
        read microseconds before; `managed` is exact.
        """
        out: list[str] = []
        lists = ("active_anon", "inactive_anon", "active_file", "inactive_file", "unevictable")
        whole = sum(self.pages.get(name, 0) for name in lists) * page
        shown = sum(node.get(name, 0) for node in self.nodes.values() for name in lists)
        if not self.nodes:
            shown = sum(zone.get(name, 0) for zone in self.zones.values() for name in lists)
        if shown < whole * 0.95 - (4 << 20):
            out += ["kernel_stack", "hugepages", "balloon"]
        managed = [zone["managed"] for zone in self.zones.values() if "managed" in zone]
        if managed and sum(managed) < (self.managed or 0) * page * 0.99:
            out += ["free_pcp", "zspages", "mlocked"]
        return tuple(out)

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

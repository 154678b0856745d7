"""All that a machine tells of its memory: recorded trees, made ones, and this very machine."""

import os
import time
from pathlib import Path

import pytest

from watchdog import host_memory
from watchdog.host_memory import EVENTS, MEMINFO, SETTINGS, THP, Mount, Pool, Zram
from watchdog.judge import host_account
from watchdog.sense import host_memory as sense

FIXTURES = Path(__file__).parent / "fixtures" / "proc"
TREES = sorted(path.parents[1] for path in FIXTURES.glob("*/proc/meminfo"))
MIB, GIB = 1 << 20, 1 << 30


def nothing(_path: bytes) -> None:
    """A tree has no mounts of its own."""


def recorded(tree: Path, ask: sense.Used = nothing) -> host_memory.Memory:
    return sense.read(1.0, 2.0, str(tree / "proc"), str(tree / "sys"), ask, 4096)


class Made:
    """A tree of our own making."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> None:
        where = self.root / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(text, encoding="utf-8")

    def read(self, ask: sense.Used = nothing) -> host_memory.Memory:
        return recorded(self.root, ask)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


# -- recorded -------------------------------------------------------------------------------------


def test_there_are_recorded_trees() -> None:
    assert TREES


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.name)
def test_a_recorded_machine_adds_up(tree: Path) -> None:
    m = recorded(tree)
    assert set(m.meminfo) == set(MEMINFO), "a line of meminfo that we do not know"
    assert (set(m.events), set(m.settings), set(m.thp)) == (set(EVENTS), set(SETTINGS), set(THP))
    found = host_account.of_host(m)
    assert found is not None
    assert sum(size for _, size in found.parts) + found.unaccounted == found.total
    # of a machine of 194 MiB the 6 to 7 MiB that the kernel takes at boot are more than 3 %
    assert -0.005 * found.total <= found.unaccounted <= max(0.03 * found.total, 8 * MIB)
    assert host_account.headline(m) is not None


def test_the_tree_of_6_18() -> None:
    def ask(path: bytes) -> tuple[int, int] | None:
        return (64 * MIB, GIB) if path.endswith(b"root/dev/shm") else (0, 0)

    m = recorded(FIXTURES / "6.18", ask)
    assert m.meminfo["MemTotal"] == 24684092 * 1024
    assert m.meminfo["HardwareCorrupted"] is None  # not every kernel has every line
    assert m.meminfo["Balloon"] == 0
    assert m.events["oom_kill"] is not None
    assert m.events["allocstall"] is not None
    assert m.free_pcp == (63 + 4330 + 21265) * 4096
    assert m.pools == (Pool(2 * MIB, 0, 0, 0, 0), Pool(GIB, 0, 0, 0, 0))
    assert m.thp["enabled"] == "madvise"
    assert m.settings["overcommit_memory"] == 0
    assert m.zram == (Zram("zram0", 0, 0, 0, 0),)
    assert m.mounts == (
        Mount("/dev/shm", 64 * MIB, GIB), Mount("/dev", 0, None), Mount("/sys/fs/cgroup", 0, None),
    )  # fmt: skip
    assert m.arc is None
    assert not m.confined
    found = host_account.of_host(m)
    assert found is not None
    assert found.get("shmem") > 64 * MIB
    assert found.get("free_pcp") == m.free_pcp


# -- made -----------------------------------------------------------------------------------------


def test_nothing_at_all(made: Made) -> None:
    m = made.read()
    assert set(m.meminfo.values()) == {None}
    assert (m.pools, m.zram, m.arc, m.mounts, m.free_pcp) == ((), (), None, (), None)
    assert host_account.of_host(m) is None
    assert host_account.headline(m) is None
    assert host_account.notes(m) == ()
    assert sense.page_tables(str(made.root / "proc")) == ()
    assert sense.slabs(str(made.root / "proc"), str(made.root / "sys")) == ()


def test_odd_fields_are_left_out(made: Made) -> None:
    made.write(
        "proc/meminfo",
        "MemTotal: 1000 kB\nMemFree:\nNoise\nMemAvailable: -4 kB\nNewField: 8 kB\nCached: x kB\n"
        "HugePages_Total: 3\n",
    )
    made.write("proc/vmstat", "oom_kill 4\nallocstall_dma 1\nallocstall_normal 2\nbad\nx y\n")
    made.write("proc/zoneinfo", "Node 0\n  pagesets\n    cpu: 0\n   count:    5\n   count: x\n")
    made.write("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "3\n")
    made.write("sys/kernel/mm/hugepages/other/nr_hugepages", "3\n")
    made.write("sys/block/zram1/mm_stat", "1 2 x\n")
    made.write("sys/block/sda/mm_stat", "1 2 3\n")
    made.write("proc/sys/vm/swappiness", "sixty\n")
    m = made.read()
    assert m.meminfo["MemTotal"] == 1000 * 1024
    assert m.meminfo["NewField"] == 8 * 1024
    assert [m.meminfo[k] for k in ("MemFree", "MemAvailable", "Cached")] == [None] * 3
    assert m.meminfo["HugePages_Total"] == 3
    assert (m.events["oom_kill"], m.events["allocstall"]) == (4, 3)
    assert m.free_pcp == 5 * 4096
    assert (m.pools, m.zram) == ((), ())
    assert m.settings["swappiness"] is None


def test_the_calmest_of_several_readings_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends meanwhile is in the one file still and in the other no more."""
    free = iter([100, 900, 200, 260, 300, 700, 310, 800, 320, 900])  # before, after, before, …

    def slurp(path: str) -> bytes:
        if path.endswith("/meminfo"):
            return f"MemTotal: 1000 kB\nMemFree: {next(free)} kB\n".encode()
        return b""

    monkeypatch.setattr(sense, "_slurp", slurp)
    assert sense.read(1.0, None).meminfo["MemFree"] == 200 * 1024
    free = iter([100, 900, 250, 250])
    assert sense.read(1.0, None).meminfo["MemFree"] == 250 * 1024


def test_huge_pages_of_two_sizes(made: Made) -> None:
    made.write("proc/meminfo", "MemTotal: 8388608 kB\nHugetlb: 3145728 kB\n")
    for size, numbers in ((2048, (512, 100, 20, 0)), (1048576, (2, 1, 0, 1))):
        keys = ("nr_hugepages", "free_hugepages", "resv_hugepages", "surplus_hugepages")
        for key, number in zip(keys, numbers, strict=True):
            made.write(f"sys/kernel/mm/hugepages/hugepages-{size}kB/{key}", f"{number}\n")
    m = made.read()
    assert m.pools == (Pool(2 * MIB, 512, 100, 20, 0), Pool(GIB, 2, 1, 0, 1))
    found = host_account.of_host(m)
    assert found is not None
    assert found.get("hugepages") == 3 * GIB
    assert found.within["hugepages_free"] == 200 * MIB + GIB
    assert found.within["hugepages_reserved"] == 40 * MIB


def test_zram_zswap_and_zfs(made: Made) -> None:
    made.write("proc/meminfo", "MemTotal: 8388608 kB\nZswap: 1024 kB\n")
    made.write("proc/vmstat", "nr_zspages 1024\nnr_memmap_pages 3\n")
    made.write("sys/block/zram0/disksize", "4294967296\n")
    made.write("sys/block/zram0/mm_stat", "9000000 3000000 3145728 0 3145728 10 0 0 0\n")
    header = "13 1 0x01 147 39984 1 2\nname                            type data\n"
    made.write("proc/spl/kstat/zfs/arcstats",
               f"{header}size 4 500000000\ndata_size 4 400000000\nmetadata_size 4 50000000\n"
               "odd\n")  # fmt: skip
    m = made.read()
    assert m.zram == (Zram("zram0", 4 * GIB, 9000000, 3000000, 3145728),)
    assert m.arc == {"size": 500000000, "data_size": 400000000, "metadata_size": 50000000}
    found = host_account.of_host(m)
    assert found is not None
    assert found.get("zspages") == 4 * MIB  # zram's 3 MiB and zswap's 1 MiB
    assert found.get("arc") == 450000000
    assert found.get("memmap") == 3 * 4096
    made.write("proc/spl/kstat/zfs/abdstats",
               f"{header}scatter_data_size 4 300000000\nscatter_chunk_waste 4 7\n")  # fmt: skip
    found = host_account.of_host(made.read())
    assert found is not None
    assert found.get("arc") == 300000007


LXCFS = """22 1 0:21 / /proc rw - proc proc rw
90 22 0:50 /proc/meminfo /proc/meminfo rw - fuse.lxcfs lxcfs rw
"""


MEMINFO_OF_LXCFS = """MemTotal: 524288 kB
MemFree: 262144 kB
MemAvailable: 300000 kB
Cached: 131072 kB
Buffers: 0 kB
Active(anon): 65536 kB
Inactive(anon): 65536 kB
Active(file): 65536 kB
Inactive(file): 65536 kB
AnonPages: 131072 kB
Shmem: 0 kB
Slab: 0 kB
SReclaimable: 0 kB
SUnreclaim: 0 kB
KernelStack: 90000 kB
PageTables: 900000 kB
Percpu: 80000 kB
VmallocUsed: 900000 kB
Hugetlb: 2097152 kB
SwapTotal: 0 kB
"""


def test_a_container_with_a_meminfo_of_its_own(made: Made) -> None:
    """lxcfs tells the container's limit and use, and passes on what is the host's."""
    made.write("proc/self/mountinfo", LXCFS)
    made.write("proc/meminfo", MEMINFO_OF_LXCFS)
    made.write("proc/vmstat", "oom_kill 5\nnr_zspages 900000\nnr_isolated_anon 900000\n")
    made.write("proc/zoneinfo", "  count: 90000\n")
    m = made.read()
    assert m.confined
    found = host_account.of_host(m)
    assert found is not None
    assert found.unaccounted == 0
    assert found.get("anon") == 128 * MIB
    assert found.get("pagetables") == 0


def test_a_recorded_container() -> None:
    """512 MiB, of which a program holds 100 and the page cache 60; lxcfs 5.0 on Linux 6.18."""
    m = recorded(FIXTURES / "6.18-lxcfs")
    assert m.confined
    found = host_account.of_host(m)
    assert found is not None
    assert found.total == 512 * MIB
    assert abs(found.unaccounted) < 0.03 * found.total
    assert 100 * MIB < found.get("anon") < 115 * MIB
    assert 60 * MIB <= found.get("file") < 64 * MIB
    assert host_account.notes(m)[-1].startswith("/proc/meminfo is this container's own")


MOUNTS = r"""25 24 0:23 / /dev/shm rw shared:3 - tmpfs tmpfs rw
30 25 0:27 / /dev/shm rw - tmpfs tmpfs rw,size=1k
31 25 0:28 / /srv/a\040b\134\09x rw - tmpfs tmpfs rw
32 25 0:28 /sub /srv/bound/again/of/a rw - tmpfs tmpfs rw
33 25 0:29 / /gone rw - tmpfs tmpfs rw
34 25 8:1 / / rw - ext4 /dev/sda1 rw
broken
35 25 - tmpfs"""


def test_tmpfs_mounts(made: Made) -> None:
    made.write("proc/1/mountinfo", MOUNTS)
    asked: list[bytes] = []

    def ask(path: bytes) -> tuple[int, int] | None:
        asked.append(path)
        return {b"/dev/shm": (5, 0), b"/srv/a b\\\\09x": (7, 9)}.get(path)

    assert made.read(ask).mounts == (
        Mount("/srv/a b\\\\09x", 7, 9), Mount("/dev/shm", 5, None),
    )  # fmt: skip
    assert os.fsencode(made.root / "proc/1/root/dev/shm") in asked  # our sandbox may hide the mount


def test_page_tables_by_program(made: Made) -> None:
    for pid, name, size in ((5, "postgres", 400), (6, "postgres", 300), (7, "a\\nb", 100)):
        made.write(f"proc/{pid}/status", f"Name:\t{name}\nVmPTE:\t {size} kB\n")
    made.write("proc/8/status", "Name:\tkthreadd\n")
    made.write("proc/x/status", "Name:\tx\nVmPTE:\t 1 kB\n")
    assert sense.page_tables(str(made.root / "proc")) == (
        ("postgres", 2, 700 * 1024), ("a\\nb", 1, 100 * 1024),
    )  # fmt: skip


SLABINFO = """slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>
kmalloc-64           10     64     64   64    1 : tunables 0 0 0 : slabdata    50     50      0
dentry               10     21    192   21    2 : tunables 0 0 0 : slabdata   400    400      0
empty                 0      0    192   21    1 : tunables 0 0 0 : slabdata     0      0      0
bad : slabdata
"""


def test_slabs_that_cannot_be_reclaimed(made: Made) -> None:
    made.write("proc/slabinfo", SLABINFO)
    made.write("sys/kernel/slab/dentry/reclaim_account", "1\n")
    made.write("sys/kernel/slab/kmalloc-64/reclaim_account", "0\n")
    page = os.sysconf("SC_PAGE_SIZE")
    found = sense.slabs(str(made.root / "proc"), str(made.root / "sys"))
    assert found == (("kmalloc-64", 50 * page),)


def test_the_word_in_brackets() -> None:
    assert host_memory.chosen("always [madvise] never") == "madvise"
    assert host_memory.chosen("1") == "1"
    assert host_memory.chosen("] [") == "] ["
    assert host_memory.chosen(" ") is None


# -- this machine ---------------------------------------------------------------------------------


def test_this_machine() -> None:
    m = sense.read(time.time(), None)
    found = host_account.of_host(m)
    assert found is not None
    assert found.total == m.meminfo["MemTotal"]
    assert sum(size for _, size in found.parts) + found.unaccounted == found.total
    # a GPU or a balloon may take any part of it; but nothing may be counted twice
    assert found.unaccounted >= -0.005 * found.total
    assert all(mount.used >= 0 for mount in m.mounts)
    assert sense.page_tables()
    assert sense.used(b"/proc/self/nothing-here") is None
    assert sense.used(b"/") is not None

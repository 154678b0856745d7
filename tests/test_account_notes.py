"""The sentences about an account: each where it matters, none where it does not."""

from hypothesis import given
from hypothesis import strategies as st

from watchdog.facts import KernelLine
from watchdog.judge import account, account_notes
from watchdog.judge.account_notes import Owners
from watchdog.memory import Counters, Group
from watchdog.oom_report.assemble import Assembler

MIB, GIB = 1 << 20, 1 << 30
SIZES = tuple(name for name in Counters._fields if name not in ("total", "partial"))


def told(owners: Owners = account_notes.NOBODY, ended: bool = False, **sizes: int) -> list[str]:
    counters = Counters(16 * GIB)._replace(**sizes)
    known = sum(size for _, size in account.machine(counters).parts)
    filled = counters._replace(free=(sizes.get("free") or 0) + 16 * GIB - known)
    if ended:  # free memory would be a note of its own
        filled = counters._replace(total=known)
    return list(account_notes.notes(account.machine(filled), owners, ended))


def test_an_ordinary_machine_has_nothing_to_say() -> None:
    assert told(
        anon=9 * GIB, cached=2 * GIB, shmem=GIB, slab_unreclaimable=500 * MIB, pagetables=60 * MIB,
        slab_reclaimable=900 * MIB, kernel_stack=20 * MIB, percpu=10 * MIB, unevictable=20 * MIB,
    ) == []  # fmt: skip


def test_page_cache_is_given_back() -> None:
    assert told(anon=0, cached=int(4.1 * GIB), shmem=0) == [
        "4.1 GiB is page cache: the kernel gives it back by itself when programs need it"
    ]
    assert told(ended=True, lru_anon=GIB, lru_file=GIB, dirty=700 * MIB) == [
        "1.0 GiB was page cache, 700 MiB of it not yet on the disk"
    ]
    assert told(ended=True, lru_anon=GIB, lru_file=GIB) == [
        "1.0 GiB was page cache, which the kernel as a rule gives back by itself"
    ]


def test_page_tables_of_many_processes() -> None:
    owners = Owners(tables=[("postgres", 48, 1229 * MIB), ("init", 1, MIB)])
    assert told(owners, pagetables=1240 * MIB) == [
        "1.2 GiB is in page tables of 48 postgres processes: huge pages would make that 3 MiB"
    ]
    assert told(owners, pagetables=1800 * MIB) == [
        "1.8 GiB is in page tables, 1.2 GiB of it of 48 postgres processes: "
        "huge pages would make that 3 MiB"
    ]
    assert told(owners._replace(page=65536), pagetables=1240 * MIB) == [
        "1.2 GiB is in page tables of 48 postgres processes"
    ]
    assert told(pagetables=1240 * MIB) == ["1.2 GiB is in page tables"]
    small = Owners(tables=[("sleep", 5000, 400 * MIB)])
    assert told(small, pagetables=410 * MIB) == [
        "400 MiB is in page tables of 5,000 sleep processes"
    ]


def test_huge_pages_that_nobody_uses() -> None:
    assert told(hugepages=2 * GIB, hugepages_free=2 * GIB) == [
        "2.0 GiB of huge pages are reserved and nobody uses them"
    ]
    assert told(hugepages=2 * GIB, hugepages_free=GIB, hugepages_reserved=GIB // 2) == [
        "512 MiB of 2.0 GiB of huge pages is used by nobody"
    ]
    assert told(hugepages=2 * GIB, hugepages_free=0) == [
        "2.0 GiB is in huge pages, which only those who ask for them can use"
    ]
    assert told(hugepages=GIB, hugepages_free=GIB, hugepages_reserved=GIB) == []


def test_shared_memory_and_its_mounts() -> None:
    plain = "4.0 GiB is shared memory and tmpfs, which stays until it is deleted"
    assert told(anon=0, cached=4 * GIB, shmem=4 * GIB) == [plain]
    owners = Owners(mounts=[("/dev/shm", 2 * GIB), ("/tmp", GIB), ("/run", MIB)])
    assert told(owners, anon=0, cached=4 * GIB, shmem=4 * GIB) == [
        f"{plain}: 2.0 GiB in /dev/shm, 1.0 GiB in /tmp, 1023 MiB in no mount (programs share it)"
    ]


def test_the_kernels_own_memory() -> None:
    owners = Owners(slabs=[("dentry_leak", GIB), ("kmalloc-64", GIB // 2), ("x", MIB)])
    assert told(owners, slab_unreclaimable=2 * GIB) == [
        "2.0 GiB is kernel memory that cannot be reclaimed (slab): dentry_leak 1.0 GiB, "
        "kmalloc-64 512 MiB"
    ]
    assert told(slab=2 * GIB) == ["2.0 GiB is kernel memory that cannot be reclaimed (slab)"]
    assert told(slab_reclaimable=2 * GIB) == [
        "2.0 GiB is the kernel's cache of names and inodes (slab)"
    ]
    assert told(kernel_stack=GIB) == ["1.0 GiB is in kernel stacks, some 16 KiB for each thread"]
    assert told(balloon=GIB) == [
        "1.0 GiB is taken back by the host of this virtual machine (balloon)"
    ]


def test_locked_and_compressed_memory() -> None:
    assert told(anon=3 * GIB, cached=0, unevictable=2 * GIB) == [
        "2.0 GiB is locked in memory, never to be swapped"
    ]
    assert told(Owners(swapped=6 * GIB), zspages=2 * GIB) == [
        "2.0 GiB is swapped memory, compressed (6.0 GiB of it before)"
    ]


def notes_of(counters: Counters, owners: Owners = account_notes.NOBODY) -> list[str]:
    return list(account_notes.notes(account.machine(counters), owners))


def test_what_no_counter_names() -> None:
    short = Counters(16 * GIB, free=13 * GIB)
    assert notes_of(short) == [
        "3.0 GiB is in no counter of the kernel: perhaps a driver (GPU, network, file system), "
        "perhaps a virtual machine's balloon"
    ]
    assert "zswap" in notes_of(short, Owners(swapped=24 * GIB))[0]
    assert "zswap" not in notes_of(short._replace(zspages=MIB), Owners(swapped=24 * GIB))[0]
    sites = [("mm/slub.c:2319 func:alloc_slab_page", 9 * GIB), ("drivers/x.c:1 func:y", 2 * GIB)]
    assert notes_of(short, Owners(sites=sites))[0].endswith("drivers/x.c:1 func:y took 2.0 GiB")
    assert "does not tell all" in notes_of(short._replace(partial=("balloon",)))[0]
    group = account.group(Group(100 * MIB, {"anon": 80 * MIB, "kernel": 0, "slab": 0}))
    (note,) = account_notes.notes(group)
    assert "charged ahead" in note


def test_free_memory_when_it_had_run_out() -> None:
    found = account.machine(Counters(16 * GIB, free=16 * GIB, free_cma=15 * GIB))
    assert account_notes.notes(found, ended=True) == (
        "16.0 GiB was free all the same, 15.0 GiB of it kept for devices (CMA)",
    )
    assert account_notes.notes(found) == ()
    assert account_notes.notes(account.machine(Counters(0))) == ()


@given(st.integers(0, 1 << 44), st.dictionaries(st.sampled_from(SIZES), st.integers(0, 1 << 44)),
       st.booleans())  # fmt: skip
def test_any_counters_make_sentences(total: int, sizes: dict[str, int], ended: bool) -> None:
    found = account.machine(Counters(total)._replace(**sizes))
    for note in account_notes.notes(found, Owners(swapped=5), ended):
        assert note[0].isdigit()
        assert ended or " was " not in note
        assert not note.endswith(".")


REPORT = """
[1.000000] a invoked oom-killer: gfp_mask=0xd0, order=0, oom_score_adj=0
[1.000000] Mem-Info:
[1.000000] active_anon:1000 inactive_anon:500 isolated_anon:0
[1.000000]  active_file:100 inactive_file:50 isolated_file:0
[1.000000]  unevictable:10 dirty:1 writeback:2
[1.000000]  slab_reclaimable:5 slab_unreclaimable:3000
[1.000000]  mapped:7 shmem:8 pagetables:1300
[1.000000]  free:20 free_pcp:4 free_cma:2
[1.000000] Node 0 DMA: 20*4kB (U) = 80kB
[1.000000] Total swap = 400kB
[1.000000] Free swap  = 100kB
[1.000000] 6250 pages RAM
[1.000000] 250 pages reserved
[1.000000] Unreclaimable slab info:
[1.000000] Name                      Used          Total
[1.000000] leaky                    10000KB      11000KB
[1.000000] Tasks state (memory values in pages):
[1.000000] [  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
[1.000000] [     10]     0    10      100       20  2621440        0             0 a
[1.000000] [     11]     0    11      100       20  2621440        0             0 a
[1.000000] Out of memory: Killed process 10 (a) total-vm:400kB, anon-rss:80kB, file-rss:0kB
"""


def test_the_notes_of_a_report() -> None:
    assembler = Assembler()
    out = []
    for line in REPORT.strip().split("\n"):
        out += assembler.feed(KernelLine(0.0, None, line))
    (report,) = out + assembler.flush()
    assert account_notes.of_oom_report(report) == (
        "11.7 MiB was kernel memory that cannot be reclaimed (slab): leaky 10.7 MiB",
        "5.0 MiB was in page tables of 2 a processes: huge pages would make that 1 MiB",
    )
    assert account_notes.of_oom_report(report._replace(memory=None)) == ()

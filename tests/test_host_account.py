"""A live machine's account, and in one line whether its memory is short and why."""

from hypothesis import given
from hypothesis import strategies as st

from watchdog.host_memory import EVENTS, MEMINFO, SETTINGS, THP, Memory, Mount, Pool
from watchdog.judge import host_account

MIB, GIB = 1 << 20, 1 << 30


def machine(meminfo: dict[str, int], **more: object) -> Memory:
    """A machine of 16 GiB, all that is not given being free."""
    told: dict[str, int | None] = {**dict.fromkeys(MEMINFO), "MemTotal": 16 * GIB, **meminfo}
    found = Memory(
        1.0, 2.0, 4096, told, dict.fromkeys(EVENTS), dict.fromkeys(SETTINGS), dict.fromkeys(THP)
    )
    found = found._replace(**more)
    account = host_account.of_host(found)
    assert account is not None
    told.setdefault("MemFree", None)
    if told["MemFree"] is None:
        told["MemFree"] = account.unaccounted
    return found


sizes = st.none() | st.integers(0, 1 << 44)


@given(
    st.integers(0, 1 << 44), st.dictionaries(st.sampled_from(MEMINFO), sizes),
    st.lists(st.tuples(*[st.integers(0, 1 << 20)] * 5).map(lambda row: Pool(*row)), max_size=3),
    st.dictionaries(st.sampled_from(("size", "data_size", "scatter_data_size")),
                    st.integers(0, 1 << 44)) | st.none(),
    sizes, st.booleans(),
)  # fmt: skip
def test_it_adds_up_whatever_a_machine_tells(
    total: int,
    told: dict[str, int | None],
    pools: list[Pool],
    arc: dict[str, int] | None,
    pcp: int | None,
    confined: bool,
) -> None:
    m = Memory(
        1.0, None, 4096, {**told, "MemTotal": total}, {}, {}, {}, free_pcp=pcp, pools=tuple(pools),
        arc=arc, confined=confined, zspages=pcp, isolated_anon=pcp,
    )  # fmt: skip
    found = host_account.of_host(m)
    assert found is not None
    assert found.total == sum(size for _, size in found.parts) + found.unaccounted
    assert all(size >= 0 for _, size in found.parts)
    headline = host_account.headline(m)
    assert headline is None or headline.short == (headline.cause is not None)
    assert all(note for note in host_account.notes(m))


def test_a_machine_without_a_total_has_no_account() -> None:
    m = Memory(1.0, None, 4096, {"MemFree": 5}, {}, {}, {})
    assert host_account.of_host(m) is None
    assert host_account.headline(m) is None
    assert host_account.notes(m) == ()


def test_the_parts_of_a_live_machine() -> None:
    m = machine(
        {
            "AnonPages": 4 * GIB, "Cached": 3 * GIB, "Buffers": GIB, "Shmem": GIB, "SwapCached": 0,
            "KReclaimable": 600, "SReclaimable": 500, "SUnreclaim": 70, "KernelStack": 10,
            "ShadowCallStack": 2, "VmallocUsed": 20, "Percpu": 3, "Slab": 570,
        },
        free_pcp=9,
    )  # fmt: skip
    found = host_account.of_host(m)
    assert found is not None
    assert found.get("file") == 3 * GIB
    assert (found.get("anon"), found.get("shmem"), found.get("slab")) == (4 * GIB, GIB, 0)
    assert found.get("kernel_misc_reclaimable") == 100
    assert (found.get("kernel_stack"), found.get("vmalloc")) == (12, 8)
    assert (found.get("percpu"), found.get("free_pcp"), found.unaccounted) == (3, 9, 0)


def test_huge_pages_of_an_old_meminfo() -> None:
    m = machine({"HugePages_Total": 4, "HugePages_Free": 3, "HugePages_Rsvd": 1,
                 "Hugepagesize": 2 * MIB})  # fmt: skip
    found = host_account.of_host(m)
    assert found is not None
    assert found.get("hugepages") == 8 * MIB
    assert (found.within["hugepages_free"], found.within["hugepages_reserved"]) == (
        6 * MIB, 2 * MIB,
    )  # fmt: skip


# -- the headline ---------------------------------------------------------------------------------


def said(m: Memory, leak: str | None = None) -> tuple[bool, str | None, str]:
    found = host_account.headline(m, leak)
    assert found is not None
    return tuple(found)


def test_memory_that_is_not_short() -> None:
    fine = machine({"MemAvailable": 12 * GIB})
    assert said(fine) == (False, None, "memory is not short: 12.0 GiB of 16.0 GiB available")
    assert said(fine, "shop.service leaks 2 MiB/s")[2].endswith("; shop.service leaks 2 MiB/s")


def test_memory_that_is_short_by_the_work() -> None:
    full = machine({"MemAvailable": GIB, "AnonPages": 14 * GIB, "Cached": GIB, "Shmem": GIB})
    assert said(full) == (
        True, "work", "memory is short: 1.0 GiB of 16.0 GiB available; programs hold 15.0 GiB",
    )  # fmt: skip
    assert said(full, "shop.service leaks 2 MiB/s") == (
        True, "leak", "memory is short: 1.0 GiB of 16.0 GiB available; shop.service leaks 2 MiB/s",
    )  # fmt: skip


def test_memory_that_is_short_by_the_kernel() -> None:
    full = machine({"MemAvailable": GIB, "AnonPages": 8 * GIB, "Cached": 0, "SUnreclaim": 6 * GIB})
    assert said(full)[1:] == (
        "kernel",
        "memory is short: 1.0 GiB of 16.0 GiB available; the kernel and its drivers hold 6.0 GiB",
    )
    driver = machine({"MemAvailable": GIB, "MemFree": GIB, "AnonPages": 7 * GIB, "Cached": 0})
    assert said(driver)[2].endswith("the kernel and its drivers hold 8.0 GiB")


def test_memory_that_is_short_by_the_settings() -> None:
    huge = {"Hugetlb": 2 * GIB, "MemAvailable": GIB, "AnonPages": 12 * GIB, "Cached": 0}
    idle = machine(huge, pools=(Pool(2 * MIB, 1024, 1024, 0, 0),))
    assert said(idle)[1:] == (
        "settings",
        "memory is short: 1.0 GiB of 16.0 GiB available; "
        "2.0 GiB of huge pages are reserved and nobody uses them",
    )
    used = machine(huge, pools=(Pool(2 * MIB, 1024, 10, 10, 0),))
    assert said(used)[1] == "work"
    kept = machine({"MemAvailable": GIB, "AnonPages": 12 * GIB, "Cached": 0})
    assert said(kept._replace(settings={"min_free_kbytes": 2 * MIB}))[2].endswith(
        "vm.min_free_kbytes keeps 2.0 GiB free"
    )


def test_promises_that_are_used_up() -> None:
    m = machine({"MemAvailable": 12 * GIB, "CommitLimit": 8 * GIB, "Committed_AS": 8 * GIB - MIB})
    strict = m._replace(settings={"overcommit_memory": 2})
    assert said(strict) == (
        True, "settings",
        "programs are refused memory: 8.0 GiB of the 8.0 GiB that vm.overcommit_memory = 2 allows "
        "is promised, while 12.0 GiB of 16.0 GiB available",
    )  # fmt: skip
    assert said(m._replace(settings={"overcommit_memory": 0}))[0] is False
    loose = machine({"MemAvailable": 12 * GIB, "CommitLimit": 8 * GIB, "Committed_AS": GIB})
    assert said(loose._replace(settings={"overcommit_memory": 2}))[0] is False


def test_a_meminfo_without_available() -> None:
    m = machine({"MemFree": 3 * GIB, "Cached": 4 * GIB, "Shmem": GIB, "AnonPages": 8 * GIB})
    assert said(m)[2] == "memory is not short: 6.0 GiB of 16.0 GiB available"
    m = machine({"MemFree": None, "AnonPages": 16 * GIB, "Cached": 0})
    assert host_account.headline(m._replace(meminfo={**m.meminfo, "MemFree": None})) is None


# -- the notes ------------------------------------------------------------------------------------


def test_the_notes_know_mounts_slabs_and_tables() -> None:
    m = machine(
        {
            "AnonPages": 0, "Cached": 5 * GIB, "Shmem": 4 * GIB, "PageTables": GIB,
            "SUnreclaim": 2 * GIB, "SwapTotal": 0, "SwapFree": 0,
        },
        mounts=(Mount("/dev/shm", 4 * GIB, None),),
    )  # fmt: skip
    assert host_account.notes(
        m, tables=[("postgres", 48, 1020 * MIB)], slabs=[("leaky", 2 * GIB)]
    ) == (
        "4.0 GiB is shared memory and tmpfs, which stays until it is deleted: 4.0 GiB in /dev/shm",
        "2.0 GiB is kernel memory that cannot be reclaimed (slab): leaky 2.0 GiB",
        "1020 MiB is in page tables of 48 postgres processes: huge pages would make that 2 MiB",
    )


def test_the_reserve_that_free_calls_used() -> None:
    """used is total - available, and what the kernel keeps for itself is not available."""
    told = {"AnonPages": GIB, "Cached": 2 * GIB, "Shmem": 0, "SReclaimable": GIB,
            "MemFree": 12 * GIB}  # fmt: skip
    m = machine({**told, "MemAvailable": 14 * GIB})
    assert host_account.notes(m)[-1] == (
        "1.0 GiB of the 2.0 GiB that free calls used is a reserve that the kernel keeps for "
        "itself; programs, the kernel and its drivers hold 1.0 GiB"
    )
    small = machine({**told, "MemAvailable": 15 * GIB - 200 * MIB})
    assert "reserve" not in str(host_account.notes(small))
    none = machine(told)
    assert "reserve" not in str(host_account.notes(none))
    more = machine({**told, "MemAvailable": 16 * GIB})
    assert "reserve" not in str(host_account.notes(more))


def test_transparent_huge_pages() -> None:
    m = machine({"AnonPages": 2 * GIB, "Cached": 0})
    always = m._replace(thp={"enabled": "always"})
    assert host_account.notes(always, huge=(3, 900 * MIB, 1500 * MIB)) == (
        "THP is `always`, and 3 processes hold 900 MiB in huge pages, 60 % of the resident memory "
        "there: try `madvise`",
    )
    assert host_account.notes(always, huge=(1, 900 * MIB, 900 * MIB))[0].startswith(
        "THP is `always`, and 1 process holds 900 MiB"
    )
    assert host_account.notes(m, huge=(3, 900 * MIB, 1500 * MIB)) == ()
    assert host_account.notes(always, huge=(3, 900 * MIB, 9 * GIB)) == ()
    assert host_account.notes(always, huge=(3, 9 * MIB, 9 * MIB)) == ()
    assert host_account.notes(always) == ()

"""Why now: zones and watermarks, limits and whose they are, swap, the request, cgroups in words."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.judge import places, request, shortage
from watchdog.memory import Counters, Group
from watchdog.oom_report.mem_info import Limit, Zone
from watchdog.oom_report.report import Invoker, Report, Victim

MIB = 1 << 20
GIB = 1 << 30
ID = "6c6fcab8562fd3150854986b78552c732f234fd405b624207b8843528a145e70"
POD = "62015ce8-a46f-4b0e-a5a1-3082235c62dd"


def report(**more: Any) -> Report:
    told = dict.fromkeys(Report._fields) | {
        "t": 0.0, "lines": (1, 9), "outcome": "killed", "scope": "global", "also_killed": (),
        "manual": False, "allocating": False, "kill_lines": 1, "limits": {}, "page_size": 4096,
        "rows": (), "tasks_count": 0, "pagetables_are_bytes": True,
        "zones": (), "slabs": (), "allocations": (),
        "stuck": False, "suppressed": 0, "unread": 0, "missing": (),
        "victim": Victim(7, "x", anon=MIB, file=0, shmem=0),
    }  # fmt: skip
    return Report(**(told | more))


def asks(
    flags: str | None = "GFP_HIGHUSER_MOVABLE", order: int | None = 0, pid: int = 3
) -> Invoker:
    return Invoker("systemd", pid, order, "0x1", flags, 0)


def zone(name: str, free: int, floor: int, node: int = 0, **more: Any) -> Zone:
    told = {"low": None, "managed": None, "blocks": {}, "cma": None, "reserves": ()} | more
    return Zone(node, name, free, floor, told["low"], None, told["managed"], told["blocks"],
                told["cma"], told["reserves"])  # fmt: skip


# -- zones -----------------------------------------------------------------------------------------


def test_a_zone_below_its_floor() -> None:
    zones = (
        zone("DMA", 15 * MIB, MIB, reserves=(0, 0, 14 * MIB + 1, 14 * MIB + 1), managed=16 * MIB),
        zone("Normal", 43 * MIB, 44 * MIB, managed=2 * GIB),
    )
    found = shortage.zones(report(zones=zones, invoker=asks()))
    assert found == (
        "short",
        "43.0 MiB of zone Normal were free, below its floor of 44.0 MiB, and the other zones "
        "likewise",
    )
    kept = (zones[0]._replace(reserves=()), zones[1])
    assert shortage.zones(report(zones=kept, invoker=asks())).sentence == (
        "43.0 MiB of zone Normal were free, below its floor of 44.0 MiB; 15.0 MiB in DMA are kept "
        "back for the kernel"
    )
    two = (zones[1], zones[1]._replace(node=1, free=45 * MIB, low=46 * MIB, managed=3 * GIB))
    assert shortage.zones(report(zones=two)).sentence == (
        "45.0 MiB of zone Normal of node 1 were free, hardly above its floor of 44.0 MiB, and the "
        "other zones likewise"
    )
    assert shortage.zones(report(zones=zones[1:])).sentence == (
        "43.0 MiB of zone Normal were free, below its floor of 44.0 MiB"
    )


@pytest.mark.parametrize(
    ("flags", "usable"),
    [
        ("GFP_HIGHUSER_MOVABLE|__GFP_ZERO", "DMA DMA32 Normal HighMem Movable"),
        ("GFP_TRANSHUGE_LIGHT", "DMA DMA32 Normal HighMem Movable"),
        ("GFP_HIGHUSER|__GFP_ACCOUNT", "DMA DMA32 Normal HighMem"),
        ("GFP_HIGHUSER|__GFP_MOVABLE", "DMA DMA32 Normal HighMem Movable"),
        ("GFP_KERNEL", "DMA DMA32 Normal"),
        ("GFP_KERNEL|GFP_DMA32", "DMA DMA32"),
        ("GFP_KERNEL|GFP_DMA", "DMA"),
        (None, "DMA DMA32 Normal HighMem Movable"),
    ],
)
def test_which_zones_a_request_may_use(flags: str | None, usable: str) -> None:
    """As gfp_zone() of the kernel decides."""
    for name in ("DMA", "DMA32", "Normal", "HighMem", "Movable"):
        found = shortage.zones(report(zones=(zone(name, 9 * GIB, MIB),), invoker=asks(flags)))
        assert found.kind == ("enough" if name in usable.split() else "wrong"), name


def test_movable_memory_is_of_no_use_to_the_kernel() -> None:
    zones = (zone("Movable", 124 * GIB, 9 * MIB, node=4),)
    told = report(zones=zones, invoker=asks("GFP_HIGHUSER"), scope="cpuset", cpuset="/")
    assert shortage.limit(told) == (
        "the memory nodes of cpuset / gave out: 124 GiB were free there, all of it in zone "
        "Movable, which this request cannot use; the machine's other nodes are not shown"
    )


def test_free_memory_in_pieces() -> None:
    blocks = {4096: 5000, 8192: 100, 16384: 0}
    zones = (zone("Normal", 200 * MIB, 44 * MIB, blocks=blocks),)
    found = shortage.zones(report(zones=zones, invoker=asks("GFP_KERNEL", 3)))
    assert found == (
        "pieces",
        "200 MiB of zone Normal were free, above its floor, but in pieces of at most 8.0 KiB; it "
        "needed 32.0 KiB in one",
    )
    assert shortage.limit(report(zones=zones, invoker=asks("GFP_KERNEL", 3))).startswith(
        "the whole machine had no memory of the kind that was asked for"
    )
    large = (zones[0]._replace(blocks=blocks | {32768: 1}),)
    assert shortage.zones(report(zones=large, invoker=asks("GFP_KERNEL", 3))).kind == "enough"
    # a large block in a zone at its floor is of no use
    dma = zone("DMA", MIB, MIB - 8192, blocks={32768: 9})
    both = report(zones=(dma, *zones), invoker=asks("GFP_KERNEL", 3))
    assert shortage.zones(both).kind == "pieces"
    low = (zones[0]._replace(free=44 * MIB),)
    assert shortage.zones(report(zones=low, invoker=asks("GFP_KERNEL", 3))).kind == "short"
    untold = (zones[0]._replace(blocks={}),)
    assert shortage.zones(report(zones=untold, invoker=asks("GFP_KERNEL", 3))).kind == "enough"


def test_memory_that_is_kept_for_devices() -> None:
    zones = (zone("Normal", 200 * MIB, 44 * MIB, cma=150 * MIB),)
    found = shortage.zones(report(zones=zones, invoker=asks("GFP_KERNEL")))
    assert found == (
        "wrong",
        "of 200 MiB free 150 MiB belonged to CMA, kept for devices and for memory that can be "
        "moved",
    )
    assert shortage.zones(report(zones=zones, invoker=asks())).kind == "enough"


def test_no_zones_no_claim() -> None:
    assert shortage.zones(report()) == (None, None)
    inside = report(scope="memcg", zones=(zone("Normal", MIB, 2 * MIB),))
    assert shortage.zones(inside) == (None, None)


def test_memory_was_not_short() -> None:
    told = report(
        zones=(zone("Normal", 9 * GIB, 44 * MIB),), memory=Counters(15 * GIB, free=9 * GIB),
        invoker=asks(""), path="page fault",
    )  # fmt: skip
    assert shortage.limit(told).startswith("memory was not short: 9.0 GiB were free")
    assert shortage.limit(told._replace(path="allocation")).startswith("the whole machine was out")


def test_the_reserve_counts_for_the_highest_zone_of_the_request() -> None:
    dma = zone("DMA", 15 * MIB, MIB, reserves=(0, 3 * MIB, 20 * MIB, 20 * MIB), managed=16 * MIB)
    both = (dma, zone("DMA32", 9 * MIB, 10 * MIB, managed=GIB))
    assert shortage.zones(report(zones=both, invoker=asks("GFP_KERNEL"))).sentence == (
        "9.0 MiB of zone DMA32 were free, below its floor of 10.0 MiB; 15.0 MiB in DMA are kept "
        "back for the kernel"
    )
    odd = (dma._replace(reserves=(0,)), both[1])
    assert shortage.zones(report(zones=odd, invoker=asks("GFP_KERNEL"))).kind == "short"


# -- limits ----------------------------------------------------------------------------------------


def test_whose_limit_it_was() -> None:
    def said(cgroup: str | None, task: str | None = None, **limits: Limit) -> str:
        told = report(scope="memcg", cgroup=cgroup, task_cgroup=task, limits=limits)
        return shortage.limit(told)

    memory = Limit(512 * MIB, 512 * MIB, 3)
    assert said(None) == "the limit of its cgroup, which the log does not name, was reached"
    assert said("/a/b", "/a/b", memory=memory) == "the limit of /a/b was reached: 512 MiB"
    assert said("/system.slice/shop.service", memory=memory) == (
        "the limit of shop.service was reached: 512 MiB"
    )
    assert said(f"/kubepods/burstable/pod{POD}", f"/kubepods/burstable/pod{POD}/{ID}") == (
        f"the limit of pod {POD} was reached; the limit is the pod's, the victim was in its "
        "container 6c6fcab8562f"
    )
    assert said("/system.slice", "/system.slice/x.service") == (
        "the limit of system.slice was reached; the limit is one above the victim's own cgroup "
        "(x.service)"
    )
    both = {"memory": memory, "memory+swap": Limit(600 * MIB, 600 * MIB, 1)}
    assert said("/a", **both).endswith("600 MiB of memory and swap")
    assert said("/a", swap=Limit(0, 0, 0)).endswith("it may not use swap (memory.swap.max 0)")
    assert said("/a", swap=Limit(99, 100, 0)).endswith("its swap limit of 100 B is used up as well")
    assert said("/a", swap=Limit(MIB, None, 0)).endswith("1.0 MiB of it is in swap besides")
    assert said("/a", swap=Limit(0, None, 0)) == "the limit of /a was reached"


def test_other_scopes() -> None:
    assert "nodes 1 of its memory policy were full" in shortage.limit(
        report(scope="mempolicy", nodemask="1")
    )
    assert "cpuset ? were full" in shortage.limit(report(scope="cpuset"))
    assert f"container {ID[:12]} (docker)" in shortage.limit(
        report(scope="cpuset", cpuset=f"docker-{ID}.scope")
    )
    assert shortage.limit(report(scope=None)) == "the log does not say whose memory was out"
    assert "human" in shortage.limit(report(manual=True))


def test_swap_in_words() -> None:
    def said(total: int | None, free: int | None) -> str | None:
        return shortage.swap(report(swap_total=total, swap_free=free))

    assert said(None, None) is None
    assert said(100, None) is None
    assert said(0, 0) == "no swap"
    assert said(GIB, MIB) == "swap full (1.0 GiB)"
    assert said(GIB, GIB) == "1.0 GiB of 1.0 GiB swap free, which did not help"
    assert said(GIB, GIB // 10) == "102 MiB of 1.0 GiB swap left"
    told = report(memory=Counters(2 * GIB, free=9 * MIB), swap_total=0)
    assert shortage.limit(told) == (
        "the whole machine was out of memory: 9.0 MiB of 2.0 GiB free, no swap"
    )
    assert shortage.limit(report(swap_total=0)) == "the whole machine was out of memory: no swap"
    assert shortage.limit(report()) == "the whole machine was out of memory"


# -- what held it, what was freed ------------------------------------------------------------------


def test_where_the_memory_was() -> None:
    machine = Counters(GIB, free=9 * MIB, lru_anon=100 * MIB, slab_unreclaimable=600 * MIB,
                       pagetables=50 * MIB, unevictable=200 * MIB)  # fmt: skip
    told = report(memory=machine, slabs=(("filp", MIB, 500 * MIB),))
    account = shortage.held(told)
    assert account is not None
    assert account.kernel == 650 * MIB
    assert account.share(account.locked) == 200 / 1024
    assert any("filp 500 MiB" in note for note in shortage.holders(told))
    group = shortage.held(report(memory=Group(GIB, {"anon": MIB, "kernel": 900 * MIB,
                                                    "pagetables": 3 * MIB})))  # fmt: skip
    assert group is not None
    assert (group.kernel, group.pagetables, group.unaccounted) == (900 * MIB, 3 * MIB, None)
    assert shortage.held(report()) is None
    assert shortage.held(report(memory=Group(0, {"anon": 0}))) is None
    assert shortage.Held(0).share(5) == 0.0
    idle = report(memory=Counters(GIB, free=GIB))
    assert shortage.holders(idle) == []


def test_what_the_kill_gave() -> None:
    assert shortage.freed(report()) is None
    assert shortage.freed(report(victim=None)) is None
    assert shortage.freed(report(victim=Victim(7, "x"))) is None  # not told
    assert "stuck in the kernel" in (shortage.freed(report(stuck=True)) or "")
    assert shortage.freed(report(pinned_by=(1, "init"))) == (
        "init (pid 1) uses the same memory and may not die: it stays"
    )
    assert shortage.freed(report(reaped_left=4 * MIB)) == (
        "4.0 MiB of it could not be given back at once"
    )


# -- the request -----------------------------------------------------------------------------------


def test_the_request_in_words() -> None:
    def said(invoker: Invoker | None, **more: Any) -> str | None:
        return request.asked(report(invoker=invoker, **more))

    assert said(None) is None
    assert said(asks(), manual=True) is None
    assert said(asks(None)) == "systemd (pid 3), a bystander, asked for 1 page (4.0 KiB)"
    assert said(asks(pid=7)) == (
        "it asked itself for 1 page (4.0 KiB) of its own memory or of a file"
    )
    assert said(asks("GFP_KERNEL", 2, 7), page_size=None) == (
        "it asked itself for 4 pages in one piece for the kernel's own use"
    )
    assert said(asks("GFP_KERNEL|__GFP_ACCOUNT", 0, 7)) == (
        "it asked itself for 1 page (4.0 KiB) for the kernel's own use on its behalf"
    )
    assert said(asks("GFP_KERNEL", 0, 7), scope="memcg") == (
        "it asked itself for 1 page (4.0 KiB) to be charged to its cgroup"
    )
    assert said(asks("GFP_NOFS|__GFP_NOFAIL", 0, 7)) == (
        "it asked itself for 1 page (4.0 KiB) for a file system and could not do without"
    )
    assert said(asks("GFP_KERNEL|GFP_DMA32", 0, 7)) == (
        "it asked itself for 1 page (4.0 KiB) for the kernel's own use below 4 GiB"
    )
    assert said(asks("", 0, 7), path="page fault") == (
        "it asked itself for 1 page (4.0 KiB), in a page fault"
    )
    assert said(asks(None, -1)) == "systemd (pid 3), a bystander, asked for memory"
    kin = Invoker("x", None, 0, None, "__GFP_UNKNOWN", 0)
    assert said(kin) == "x asked for 1 page (4.0 KiB)"
    assert request.purpose(report()) is None


# -- cgroups in words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "words", "kind", "plain"),
    [
        (f"/docker/{ID}", "container 6c6fcab8562f (docker)", "container", True),
        (f"/system.slice/docker-{ID}.scope", "container 6c6fcab8562f (docker)", "container", True),
        (f"/machine.slice/libpod-{ID}.scope", "container 6c6fcab8562f (podman)", "container", True),
        (f"/kubepods/burstable/pod{POD}/{ID}", f"container 6c6fcab8562f of pod {POD}",
         "container", True),
        (f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod"
         f"{POD.replace('-', '_')}.slice/cri-containerd-{ID}.scope",
         f"container 6c6fcab8562f of pod {POD} (containerd)", "container", True),
        (f"/kubepods/burstable/pod{POD}", f"pod {POD}", "pod", True),
        ("/lxc/101", "container 101 (lxc)", "lxc", True),
        ("/lxc.payload.web", "container web (lxc)", "lxc", True),
        ("/system.slice/node-app.service", "node-app.service", "unit", True),
        ("/user.slice/user-1000.slice", "user-1000.slice", "slice", True),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/run-u640.service",
         "run-u640.service of user 1000", "user-unit", True),
        ("/user.slice/user-504.slice/session-2.scope", "session-2.scope", "unit", True),
        ("/leaker", "/leaker", "cgroup", True),
        ("/", "/", "cgroup", False),
        ("/a,task_memcg=/system.slice/ssh.service,task=x,pid=1",
         "/a,task_memcg=/system…h.service,task=x,pid=1", "cgroup", False),
        ("/system.slice/x/ssh.service", "/system.slice/x/ssh.service", "cgroup", True),
        ("/system.slice/a;reboot.service", "a;reboot.service", "unit", False),
        ("/-rf", "/-rf", "cgroup", False),
        ("/../../etc", "/../../etc", "cgroup", False),
    ],
)  # fmt: skip
def test_what_a_path_names(path: str, words: str, kind: str, plain: bool) -> None:
    found = places.place(path)
    assert (found.kind, found.plain) == (kind, plain)
    if "task_memcg" in path:
        assert "ssh.service" not in places.said(path).partition("…")[0]
        assert len(places.said(path)) <= places.PATH_MAX
    else:
        assert places.said(path) == words


@given(
    st.text(
        st.sampled_from("/ab-0._:@\\;$ \n\x1bé,=") | st.characters(exclude_categories=["Cs"]),
        max_size=300,
    )
)
def test_any_path_is_said_in_a_line(path: str) -> None:
    said = places.said("/" + path)
    assert said.isprintable()
    assert len(said) <= 110
    found = places.place("/" + path)
    if found.plain:
        assert not set(path) & set(";$ \n\x1b\\'\"`&|<>(){}*?!#~")


def test_a_long_name_loses_its_middle() -> None:
    assert places.short("x" * 40, 11) == "xxxx…xxxxxx"
    assert places.short("abc") == "abc"
    assert places.said(None) == "a cgroup that the log does not name"

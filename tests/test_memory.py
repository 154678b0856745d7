"""`memory`: the terms of free and sar, the machine's history, and what processes and units hold."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog import memory, procfs
from watchdog.cli import memory_view
from watchdog.cli.memory import Reading
from watchdog.facts import Group, HostRecord
from watchdog.history import machine
from watchdog.host_memory import Held, Mount, Pool
from watchdog.judge import columns, holders, host_account
from watchdog.sense import host_memory as sense
from watchdog.sense.breakdown import Breakdown
from watchdog.store.db import Store
from watchdog.store.host import read_host

KIB = 1024
TREE = Path(__file__).parent / "fixtures" / "proc" / "6.18"
INFO = {
    "MemTotal": 1_000_000 * KIB, "MemFree": 200_000 * KIB, "MemAvailable": 550_000 * KIB,
    "Buffers": 10_000 * KIB, "Cached": 300_000 * KIB, "SReclaimable": 50_000 * KIB,
    "Shmem": 20_000 * KIB, "Slab": 80_000 * KIB, "SwapTotal": 100_000 * KIB,
    "SwapFree": 60_000 * KIB, "Committed_AS": 440_000 * KIB, "Active": 1 * KIB,
    "Inactive": 2 * KIB, "Dirty": 3 * KIB, "AnonPages": 4 * KIB, "KernelStack": 5 * KIB,
    "PageTables": 6 * KIB, "VmallocUsed": 7 * KIB,
}  # fmt: skip

COUNTS = st.dictionaries(
    st.sampled_from(columns.KEYS), st.integers(0, 1 << 40).map(lambda n: n * KIB)
)


# ---- the columns -------------------------------------------------------------------------------


def test_the_columns_of_free_and_sar_by_hand() -> None:
    found = columns.free(INFO)
    assert found["Mem"] == {
        "total": 1_000_000 * KIB, "used": 450_000 * KIB, "free": 200_000 * KIB,
        "shared": 20_000 * KIB, "buff/cache": 360_000 * KIB, "available": 550_000 * KIB,
    }  # fmt: skip
    assert found["Swap"] == {"total": 100_000 * KIB, "used": 40_000 * KIB, "free": 60_000 * KIB}
    sar = columns.sar(INFO)
    assert sar["kbmemused"] == 1_000_000 - 200_000 - 10_000 - 300_000 - 80_000
    assert sar["%memused"] == 41.0
    assert sar["%commit"] == 40.0
    assert list(sar.values())[-8:] == [1, 2, 3, 4, 80_000, 5, 6, 7]


@pytest.mark.parametrize("kernel", ["5.10", "6.1", "6.12", "6.18", "7.3"])
def test_what_no_process_owns_is_what_the_account_gives_the_kernel(kernel: str) -> None:
    tree = TREE.parent / kernel
    whole = sense.read(1.0, None, str(tree / "proc"), str(tree / "sys"), lambda _: None, 4096)
    account = host_account.of_host(whole)
    info = {key: size for key, size in whole.meminfo.items() if size is not None}
    found = memory.unowned(info, whole.zspages or 0)
    assert account is not None
    assert found is not None
    kernel_own = account.kernel + account.unaccounted
    # per-CPU lists of free pages are free there, and not told by meminfo
    assert abs(found - (whole.free_pcp or 0) - kernel_own) <= 1 << 20


def test_a_container_that_tells_more_available_than_there_is_counts_the_free() -> None:
    info = {**INFO, "MemAvailable": 2_000_000 * KIB}
    assert columns.free(info)["Mem"]["used"] == 800_000 * KIB
    assert columns.free({"MemTotal": 5, "MemFree": 9})["Mem"]["used"] == -4  # as free prints it


@given(COUNTS)
def test_any_counters_make_columns(info: dict[str, int]) -> None:
    """Whatever is missing or odd: all columns are there, and no share is below 0."""
    assert len(columns.sar(info)) == 16
    assert [len(row) for row in columns.free(info).values()] == [6, 3]
    assert float(columns.sar(info)["%memused"]) >= 0


@given(st.lists(COUNTS, min_size=1, max_size=5))
def test_an_average_lies_between(readings: list[dict[str, int]]) -> None:
    for key, value in columns.average(readings).items():
        seen = [one.get(key, 0) for one in readings]
        assert min(seen) - KIB <= value <= max(seen) + KIB


@pytest.mark.skipif(not shutil.which("free"), reason="free (procps) is not installed")
def test_the_figures_are_those_of_free() -> None:
    """Where a column stands still from before to after, free has printed just that; it may also
    have gone and come back meanwhile, but not often."""
    version = subprocess.run(["free", "--version"], capture_output=True, text=True, check=True)
    if int(version.stdout.split()[-1].split(".")[0]) < 4:
        pytest.skip("free (procps) is older than 4: another formula for used")
    same, off = Counter[str](), Counter[str]()
    for _ in range(40):
        before = _columns_now()
        said = subprocess.run(["free", "-b"], capture_output=True, text=True, check=True).stdout
        after = _columns_now()
        head, *rows = said.splitlines()
        for row in rows:
            label, *values = row.split()
            for name, value in zip(head.split(), values, strict=False):
                ours = before[label.rstrip(":")][name]
                if ours == after[label.rstrip(":")][name]:
                    (same if int(value) == ours else off)[f"{label}{name}"] += 1
    assert {"Mem:total", "Swap:total", "Mem:shared"} <= set(same)
    assert all(count <= same[column] for column, count in off.items()), (same, off)


ODD = {
    "no swap, nothing available": "MemTotal: 900 kB\nMemFree: 300 kB\nCached: 200 kB\n",
    "more available than there is": "MemTotal: 900 kB\nMemFree: 300 kB\nMemAvailable: 901 kB\n",
    "more free than there is": "MemTotal: 9 kB\nMemFree: 10 kB\nSwapTotal: 5 kB\nSwapFree: 6 kB\n",
    "more cached than there is": "MemTotal: 900 kB\nMemFree: 300 kB\nCached: 800 kB\nSlab: 7 kB\n",
}


def test_free_and_sar_print_the_same_of_the_same_meminfo(tmp_path: Path) -> None:
    """Both read a file of ours in the place of /proc/meminfo: not one figure may differ."""
    if not shutil.which("free") or not shutil.which("sar"):
        pytest.skip("free (procps) is not installed" if shutil.which("sar") else "no sar (sysstat)")
    files = {path.parents[1].name: path for path in TREE.parent.glob("*/proc/meminfo")}
    for name, text in ODD.items():
        files[name] = tmp_path / name.replace(" ", "-")
        files[name].write_text(text, encoding="ascii")
    # sar takes a second, so all of them at once
    commands = (("free", "-b"), ("sar", "-r", "ALL", "1", "1"))
    children = {
        (name, argv[0]): _instead_of_meminfo(path, *argv)
        for name, path in files.items()
        for argv in commands
    }
    said = {key: child.communicate(timeout=60) for key, child in children.items()}
    for (name, _), child in children.items():
        why = said[name, "free"][1].strip()
        if child.returncode == REFUSED or why.startswith("unshare:"):
            pytest.skip(f"no mount namespace may be made here: {why}")
    for name, path in files.items():
        info = procfs.parse_kb(path.read_bytes())
        free, sar = (said[name, argv[0]][0].splitlines() for argv in commands)
        rows = [[int(word) for word in row.split()[1:]] for row in free[1:]]
        assert rows == [list(row.values()) for row in columns.free(info).values()], name
        head, row = [line.split() for line in sar if line.strip()][1:3]
        ours = columns.sar(info)
        assert head[-len(ours) :] == list(ours), name
        assert [float(word) for word in row[-len(ours) :]] == list(ours.values()), name


REFUSED = 99


def _instead_of_meminfo(path: Path, *argv: str) -> subprocess.Popen[str]:
    """Start a program that sees the file as /proc/meminfo; it ends with REFUSED if it may not."""
    script = f'mount --bind "$0" /proc/meminfo || exit {REFUSED}; exec "$@"'
    alone = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(path)]
    return subprocess.Popen(
        [*alone, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip


def _columns_now() -> dict[str, dict[str, int]]:
    return columns.free(procfs.parse_kb(Path("/proc/meminfo").read_bytes()))


# ---- the history -------------------------------------------------------------------------------


def test_each_resolution_keeps_the_last_reading_of_its_buckets() -> None:
    seen = machine.Machine()
    out: list[HostRecord] = []
    for minute in range(31):
        seen.take(60.0 * minute + 7, "boot", {"MemFree": minute})
        out += seen.take_closed()
    by = {span.bucket_s: [r for r in out if r.bucket_s == span.bucket_s] for span in machine.SPANS}
    assert [machine.decode(r.blob)["MemFree"] for r in by[60]] == list(range(30))
    assert [machine.decode(r.blob)["MemFree"] for r in by[300]] == [4, 9, 14, 19, 24, 29]
    assert [machine.decode(r.blob)["MemFree"] for r in by[1800]] == [29]
    assert by[7200] == []
    seen.end("boot")
    assert [r.bucket_s for r in seen.take_closed()] == [60, 300, 1800, 7200]
    seen.end("boot")
    assert seen.take_closed() == []


def test_a_clock_that_jumps_back_begins_another_bucket() -> None:
    seen = machine.Machine()
    seen.take(100_000.0, "b", {"x": 1})
    seen.take(10_000.0, "b", {"x": 2})
    closed = seen.take_closed()
    assert {r.bucket_s for r in closed} == {60, 300, 1800, 7200}
    assert all(machine.decode(r.blob) == {"x": 1} for r in closed)


def test_what_waits_for_a_store_is_bounded() -> None:
    seen = machine.Machine()
    for minute in range(10_000):
        seen.take(60.0 * minute, None, {"x": minute})
    waiting = seen.take_closed()
    assert len(waiting) == machine.CLOSED_MAX
    assert max(machine.decode(r.blob)["x"] for r in waiting) == 9998


def test_the_resolution_that_reaches_back_far_enough() -> None:
    assert machine.finest(3600).bucket_s == 60
    assert machine.finest(2 * machine.DAY).bucket_s == 300
    assert machine.finest(8 * machine.DAY).bucket_s == 1800
    assert machine.finest(10_000 * machine.DAY).bucket_s == 7200


@given(st.dictionaries(st.text(max_size=20), st.integers(-(1 << 62), 1 << 62)))
def test_a_reading_survives_its_blob(reading: dict[str, int]) -> None:
    assert machine.decode(machine.encode(reading)) == reading


@given(st.binary(max_size=200))
def test_a_damaged_blob_is_no_reading(blob: bytes) -> None:
    assert isinstance(machine.decode(blob), dict)


def test_the_store_keeps_the_newest_of_a_bucket_and_lets_the_old_go(tmp_path: Path) -> None:
    path = str(tmp_path / "history.db")
    store = Store(path)
    store.put_host([HostRecord(60, n, 60.0 * n, "b", bytes([n])) for n in range(5)])
    store.put_host([HostRecord(60, 4, 241.0, "b", b"later", most=3)])
    store.put_host([HostRecord(300, 0, 1.0, "b", b"other")])
    assert store.flush()
    store.close()
    rows = read_host(path, 60, 0.0, 1e9)
    assert [(r.bucket, r.blob) for r in rows] == [(2, b"\2"), (3, b"\3"), (4, b"later")]
    assert [r.bucket for r in read_host(path, 60, 150.0, 200.0)] == [3]
    assert len(read_host(path, 300, 0.0, 1e9)) == 1


def test_a_clock_that_is_wrong_for_a_while_deletes_nothing_of_the_past(tmp_path: Path) -> None:
    path = str(tmp_path / "history.db")
    store = Store(path)
    now, year = 1_700_000_040.0, 366 * machine.DAY
    seen = machine.Machine()
    past = [now - 60 * n for n in range(1000, 0, -1)]
    for t in [*past, now + year, now + year + 60, now, now + 60, now - year, now + 120, now + 180]:
        seen.take(t, "b", INFO)
        store.put_host(seen.take_closed())
    assert store.flush()
    store.close()
    rows = [one.t for one in read_host(path, 60, now - machine.DAY, now + machine.DAY)]
    assert rows == [*past, now, now + 60, now + 120]
    for span in machine.SPANS[1:]:
        assert len(read_host(path, span.bucket_s, 0.0, now)) >= 1000 * 60 // span.bucket_s


def test_after_a_clock_that_ran_ahead_was_set_right_the_new_readings_stay(tmp_path: Path) -> None:
    path = str(tmp_path / "history.db")
    store = Store(path)
    store.put_host([HostRecord(60, 1000 + n, 60.0 * n, "b", b"ahead", most=20) for n in range(20)])
    store.put_host([HostRecord(60, n, 60.0 * n, "b", b"right", most=20) for n in range(15)])
    store.put_host([HostRecord(60, 1019, 1e6, "b", b"again", most=20)])
    assert store.flush()
    store.close()
    rows = read_host(path, 60, 0.0, 1e9)
    assert [one.bucket for one in rows] == [*range(15), *range(1015, 1020)]


def test_what_goes_first_from_a_full_file_is_what_was_written_first(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "history.db"), 256 * 1024)
    for n in range(200):
        t = 1e9 if n == 0 else 60.0 * n
        store.put_host([HostRecord(60, n, t, "b", bytes(2000))])
    assert store.flush()
    store.close()
    buckets = [one.bucket for one in read_host(str(tmp_path / "history.db"), 60, 0.0, 1e10)]
    assert buckets[-1] == 199
    assert 0 not in buckets, "although its date lies ahead"


def test_a_store_of_the_first_version_gets_its_table(tmp_path: Path) -> None:
    import sqlite3

    from watchdog.store import file

    path = str(tmp_path / "history.db")
    db = sqlite3.connect(path)
    for statement in file.MIGRATIONS[0]:
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {file.APPLICATION_ID}")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    assert read_host(path, 60, 0.0, 1e9) == []
    db.close()
    store = Store(path)
    assert store.failed is None
    store.put_host([HostRecord(60, 1, 60.0, "b", b"x")])
    assert store.flush()
    store.close()
    assert len(read_host(path, 60, 0.0, 1e9)) == 1


# ---- processes and units -----------------------------------------------------------------------


def _held(pid: int, **values: object) -> Held:
    base: dict[str, object] = dict.fromkeys(Held._fields)
    base.update(pid=pid, start=1, comm="x", virtual=100, resident=30, anon=10, file=15, shmem=5)
    base.update(values)
    return Held(**base)  # type: ignore[arg-type]


def test_a_unit_is_what_its_cgroup_counts() -> None:
    path = "/system.slice/shop.service"
    group = Group(
        0.0, 0.0, "shop.service", path, anon=70, shmem=5, file=25, kernel=3, swap=2, usage=90,
        limit=100,
    )  # fmt: skip
    slice_ = Group(0.0, 0.0, None, "/system.slice", usage=95, limit=97)
    members = [_held(n, unit="shop.service", cgroup=path) for n in (1, 2, 3)]
    (found,) = holders.holders(members, [group, slice_])
    assert (found.anon, found.file, found.shmem, found.kernel, found.total) == (70, 20, 5, 3, 90)
    assert found.counted
    assert found.processes == 3
    assert found.limit == holders.Limit(97, 2, "/system.slice", "max")


def test_without_a_controller_processes_are_added_up_and_it_is_said() -> None:
    found = holders.holders([_held(1), _held(2), _held(3, unit="a.service")], [])
    rows = {one.name: one for one in found}
    assert rows[holders.NO_UNIT].anon == 20
    assert not rows["a.service"].counted


CONTAINER = "0123456789abcdef" * 4
PATHS = [
    (f"/system.slice/docker-{CONTAINER}.scope", CONTAINER[:12]),
    (f"/docker/{CONTAINER}", CONTAINER[:12]),
    (f"/machine.slice/libpod-{CONTAINER}.scope/container", CONTAINER[:12]),
    (f"/kubepods/burstable/pod62015ce8-a46f-4b0e-a5a1-3082235c62dd/{CONTAINER}", CONTAINER[:12]),
    (
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod6201.slice/"
        f"cri-containerd-{CONTAINER}.scope",
        CONTAINER[:12],
    ),
    (f"/kubepods.slice/kubepods-pod6201.slice/crio-{CONTAINER}.scope", CONTAINER[:12]),
    (f"/system.slice/containerd.service/kubepods-pod62:cri-containerd:{CONTAINER}", CONTAINER[:12]),
    (f"/default/{CONTAINER}", CONTAINER[:12]),
    ("/lxc/web1/system.slice/nginx.service", "web1"),
    ("/lxc.payload.web1/system.slice/nginx.service", "web1"),
    ("/machine.slice/systemd-nspawn@web1.service/payload", "web1"),
    ("/machine.slice/machine-web1.scope", "web1"),
]


@pytest.mark.parametrize(("path", "container"), PATHS)
def test_a_container_is_named_by_its_path(path: str, container: str) -> None:
    assert procfs.place(path).container == container


@pytest.mark.parametrize(
    ("path", "label"),
    [
        (f"/system.slice/docker-{CONTAINER}.scope", "docker 0123456789ab"),
        (f"/docker/{CONTAINER}/system.slice/nginx.service", "docker 0123456789ab"),
        (f"/machine.slice/libpod-{CONTAINER}.scope/container", "podman 0123456789ab"),
        (f"/libpod_parent/libpod-{CONTAINER}", "podman 0123456789ab"),
        (f"/system.slice/nerdctl-{CONTAINER}.scope", "nerdctl 0123456789ab"),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-"
            f"pod62015ce8_a46f_4b0e_a5a1_3082235c62dd.slice/cri-containerd-{CONTAINER}.scope",
            "containerd 0123456789ab (pod 62015ce8)",
        ),
        (
            f"/kubepods/burstable/pod62015ce8-a46f-4b0e-a5a1-3082235c62dd/{CONTAINER}",
            "container 0123456789ab (pod 62015ce8)",
        ),
        (
            # a static pod's uid is the hash of its manifest
            f"/kubepods.slice/kubepods-pod{'0a1b2c3d' * 4}.slice/crio-{CONTAINER}.scope",
            "cri-o 0123456789ab (pod 0a1b2c3d)",
        ),
        ("/lxc/web1/init.scope", "lxc web1"),
        ("/lxc.payload.web1/system.slice/nginx.service", "lxc web1"),
        ("/machine.slice/machine-web1.scope", "machine web1"),
        ("/machine.slice/systemd-nspawn@web1.service/payload", "nspawn web1"),
        (f"/somewhere/else/{CONTAINER}", "container 0123456789ab"),
        ("/system.slice/shop.service", "shop.service"),
        ("/system.slice", holders.NO_UNIT),
    ],
)
def test_a_container_is_called_as_its_own_tools_call_it(path: str, label: str) -> None:
    place = procfs.place(path)
    (found,) = holders.holders(
        [_held(1, unit=place.unit, container=place.container, cgroup=path)], []
    )
    assert found.name == label
    assert found.unit == place.unit


def test_the_whole_uid_of_a_pod_is_told() -> None:
    uid = "62015ce8-a46f-4b0e-a5a1-3082235c62dd"
    assert holders.pod(f"/kubepods/besteffort/pod{uid}/{CONTAINER}") == uid
    under = uid.replace("-", "_")
    assert holders.pod(f"/kubepods.slice/kubepods-pod{under}.slice/x") == uid
    assert holders.pod(f"/system.slice/pod{uid}.service") is None
    assert holders.pod("/kubepods/podx") is None
    assert holders.pod(None) is None


def test_containers_inside_of_a_unit_have_rows_of_their_own() -> None:
    """Rootless podman: the containers of a user lie in user@1000.service."""
    home = "/user.slice/user-1000.slice/user@1000.service"
    paths = [f"{home}/user.slice/libpod-{key * 16}.scope/container" for key in ("0a1b", "2c3d")]
    paths.append(f"{home}/app.slice/x.service")
    members = [
        _held(n, unit="user@1000.service", container=procfs.place(path).container, cgroup=path)
        for n, path in enumerate(paths)
    ]
    groups = [
        Group(0.0, 0.0, "user@1000.service", home, anon=90, usage=100),
        Group(0.0, 0.0, None, paths[0].removesuffix("/container"), anon=50, usage=60),
    ]
    rows = {one.name: one for one in holders.holders(members, groups)}
    assert rows["user@1000.service"].anon == 90
    assert rows["user@1000.service"].processes == 3
    inner = rows["user@1000.service: podman 0a1b0a1b0a1b"]
    assert (inner.anon, inner.counted, inner.processes) == (50, True, 1)
    assert inner.total == 60
    assert rows["user@1000.service: podman 2c3d2c3d2c3d"].counted is False
    assert len(rows) == 3


@pytest.mark.parametrize(("path", "container"), PATHS)
def test_a_container_outside_of_units_is_counted_by_its_own_cgroup(
    path: str, container: str
) -> None:
    place = procfs.place(path)
    if place.unit is not None:
        assert holders.holders([_held(1, unit=place.unit, container=container, cgroup=path)], [])
        return
    own = path[: path.index(CONTAINER) + 64] if CONTAINER in path else "/".join(path.split("/")[:3])
    own = "/lxc.payload.web1" if path.startswith("/lxc.payload") else own
    group = Group(0.0, 0.0, None, own, anon=7, usage=9)
    (found,) = holders.holders([_held(1, container=container, cgroup=path)], [group])
    assert found.counted
    assert found.anon == 7
    assert found.name.split()[1] == container


@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 9)), max_size=8))
def test_the_order_of_processes_does_not_matter(rows: list[tuple[str | None, int]]) -> None:
    members = [_held(n, unit=unit, anon=size) for n, (unit, size) in enumerate(rows)]
    one = sorted(holders.holders(members, []), key=str)
    assert one == sorted(holders.holders(members[::-1], []), key=str)
    assert sum(row.processes for row in one) == len(rows)


def test_a_mapping_that_nobody_touched_is_virtual_only() -> None:
    """1 GiB is mapped, then touched by tenths: virtual at once, resident step by step."""
    program = (
        "import mmap, sys\n"
        "m = mmap.mmap(-1, 1 << 28, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
        "m.madvise(mmap.MADV_NOHUGEPAGE)\n"
        "for tenth in range(11):\n"
        "    print(flush=True)\n"
        "    sys.stdin.readline()\n"
        "    for at in range(tenth * (1 << 28) // 10 & -4096, min(1 << 28, (tenth + 1) * "
        "(1 << 28) // 10) & -4096, 4096):\n"
        "        m[at] = 1\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        seen = []
        for _ in range(11):
            child.stdout.readline()
            found = Breakdown().one(child.pid)
            assert found is not None
            seen.append(found)
            child.stdin.write(b"\n")
            child.stdin.flush()
        assert seen[0].virtual > 1 << 28
        # The interpreter's own heap and stack may grow by a few pages meanwhile.
        assert max(one.virtual for one in seen) - seen[0].virtual < 1 << 20
        assert (seen[0].anon or 0) < 32 << 20
        steps = [(b.anon or 0) - (a.anon or 0) for a, b in itertools.pairwise(seen)]
        tenth = (1 << 28) / 10
        assert all(abs(step - tenth) < 2 << 20 for step in steps)
    finally:
        child.kill()
        child.communicate()


def test_of_ourselves_the_rollup_is_told() -> None:
    breakdown = Breakdown()
    mine = breakdown.one(os.getpid())
    assert mine is not None
    full = breakdown.rollup(mine)
    assert full.pss is not None
    assert full.uss is not None
    assert 0 < full.uss <= full.pss <= full.resident + (1 << 20)
    assert breakdown.one(2) is None  # no kernel thread, or nobody
    assert breakdown.rollup(mine._replace(pid=2**22 + 1)).pss is None


@pytest.mark.parametrize("kernel", ["5.10", "6.1", "6.12", "7.3"])
def test_processes_of_recorded_kernels(kernel: str) -> None:
    breakdown = Breakdown(str(TREE.parent / kernel / "proc"))
    found = [breakdown.rollup(one) for one in breakdown.all()]
    assert found
    for one in found:
        parts = (one.anon or 0) + (one.file or 0) + (one.shmem or 0)
        assert parts == one.resident > 0
        assert one.virtual >= one.resident
        assert one.pagetables
        assert one.swap is not None
    assert any(one.pss and one.uss and one.uss <= one.pss for one in found)


def test_ps_tells_the_same_of_everybody_who_stays() -> None:
    if not shutil.which("ps"):
        pytest.skip("ps (procps) is not installed")
    before = {one.pid: one for one in Breakdown().all()}
    said = subprocess.run(
        ["ps", "-eo", "pid=,rss=,vsz="], capture_output=True, text=True, check=True
    )
    after = {one.pid: one for one in Breakdown().all()}
    same = 0
    for line in said.stdout.splitlines():
        pid, rss, vsz = (int(word) for word in line.split())
        one = before.get(pid)
        if one and after.get(pid) == one:
            assert (one.resident // KIB, one.virtual // KIB) == (rss, vsz), one
            same += 1
    assert same


# ---- the command -------------------------------------------------------------------------------


def _run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "watchdog", "memory", *args],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["--sort", "anon"], "--sort is for"),
        (["--processes", "--sort", "resdent"], 'did you mean "resident"'),
        (["--units", "--pss"], "--pss is for processes"),
        (["--pss", "--count", "2"], "--pss is slow"),
        (["--processes", "--sort", "zzzz"], "there are resident, anon, file"),
        (["--since", "1d", "--count", "3"], "--since shows"),
        (["--every", "0s"], "above zero"),
        (["--count", "x"], "whole number"),
        (["--sar", "--units"], "not allowed with"),
    ],
)
def test_what_does_not_go_together_is_one_line(args: list[str], why: str) -> None:
    done = _run(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


def test_tables_of_processes_and_units() -> None:
    done = _run("--processes", "--top", "3")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].split()[:2] == ["PID", "RES"]
    rows = [
        json.loads(line) for line in _run("--processes", "--json", "--top", "0").stdout.splitlines()
    ]
    assert {"pid", "resident_bytes", "virtual_bytes", "thp_bytes"} <= rows[0].keys()
    assert rows == sorted(rows, key=lambda row: -row["resident_bytes"])
    units = _run("--units")
    assert units.returncode == 0
    assert "UNIT" in units.stdout


def test_a_count_alone_is_so_many_times() -> None:
    """One second apart, as for the machine as a whole."""
    done = _run("--processes", "--top", "1", "--count", "2")
    assert [line.split()[:1] for line in done.stdout.splitlines()].count(["PID"]) == 2
    rows = _run("--units", "--top", "1", "--count", "2", "--every", "10ms", "--json").stdout
    assert len([json.loads(line) for line in rows.splitlines()]) == 2


def test_sar_again_and_again_ends_with_the_average() -> None:
    done = _run("--sar", "--every", "10ms", "--count", "3")
    head, *rows = done.stdout.splitlines()
    assert head.split() == list(columns.sar({}))
    assert [row.split()[0].rstrip(":")[:7] for row in rows][-1] == "Average"
    assert len(rows) == 4
    assert all(len(row.split()) == 17 for row in rows)


def test_the_overview_adds_up_and_says_what_matters() -> None:
    memory = sense.read(1.0, None, str(TREE / "proc"), str(TREE / "sys"), lambda _: None, 4096)
    headline = host_account.headline(memory, "shop.service leaks 2.0 MiB/s")
    text = "\n".join(memory_view.overview(memory, headline, ("a sentence " * 12,)))
    assert "shop.service leaks" in text.splitlines()[0]
    assert text.splitlines()[0][0].isupper()
    assert "in no counter" in text
    assert len(text.splitlines()) <= 24
    assert all(len(line) <= 80 for line in text.splitlines())
    assert all(len(line) <= 80 for line in text.splitlines())
    document = memory_view.machine_json(memory, headline)
    parts = document["account"]
    assert sum(parts.values()) == 2 * parts["total_bytes"]
    assert document["because"] == [headline.text if headline else ""]
    assert json.loads(json.dumps(document)) == document


def test_parts_tell_what_they_consist_of() -> None:
    memory = sense.read(1.0, None, "/nowhere", "/nowhere", lambda _: None, 4096)
    mib = 1 << 20
    info = {
        "MemTotal": 1000 * mib, "MemFree": 100 * mib, "AnonPages": 300 * mib, "Buffers": 0,
        "AnonHugePages": 200 * mib, "Cached": 400 * mib, "Shmem": 150 * mib, "Dirty": 30 * mib,
        "Mapped": 50 * mib, "Hugetlb": 200 * mib,
    }  # fmt: skip
    memory = memory._replace(
        meminfo={**memory.meminfo, **info},
        pools=(Pool(2 * mib, 100, 60, 20, 0),),
        mounts=(
            Mount("/srv/a/very/long/path/that/goes/on/" + "x" * 80, 100 * mib, None),
            Mount("/dev/shm", 40 * mib, None), Mount("/run", mib, None),
        ),
    )  # fmt: skip
    lines = list(memory_view.overview(memory, None, ()))
    text = "\n".join(lines)
    assert "  anonymous: 200 MiB in huge pages (THP)" in text
    assert "  page cache: 30.0 MiB dirty, 50.0 MiB mapped" in text
    assert "  huge pages: 80.0 MiB used, 40.0 MiB reserved, 80.0 MiB idle" in text
    assert "  shared and tmpfs: 100 MiB in /srv/a/" in text
    assert "/run" not in text
    assert all(len(line) <= 80 for line in lines)
    plain = list(memory_view.overview(memory._replace(mounts=()), None, ()))
    assert any(line.endswith("  shared and tmpfs") for line in plain)


def test_json_has_every_key_of_both() -> None:
    found = json.loads(_run("--json").stdout)
    assert found["sar"].keys() == columns.sar({}).keys()
    assert found["free"].keys() == {"Mem", "Swap"}
    assert found["meminfo"]["MemTotal"] == found["free"]["Mem"]["total"]
    lines = _run("--json", "--count", "2", "--every", "10ms").stdout.splitlines()
    assert [json.loads(line)["because"] for line in lines] == [[], []]


def test_sar_in_json_is_json() -> None:
    assert json.loads(_run("--json", "--sar").stdout)["sar"].keys() == columns.sar({}).keys()


def test_the_anonymous_memory_by_program() -> None:
    done = _run("--pss")
    assert done.returncode == 0
    text = done.stdout
    assert "by program" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    found = json.loads(_run("--pss", "--json").stdout)
    sizes = [one["pss_anon_bytes"] for one in found["anon_by_program"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) > 0
    assert json.loads(_run("--json").stdout)["anon_by_program"] is None


def test_programs_are_summed_by_pss_and_the_rest_is_told() -> None:
    members = [
        _held(1, comm="db", anon=80, pss_anon=30), _held(2, comm="db", anon=80, pss_anon=30),
        _held(3, comm="web", anon=70, pss_anon=7), _held(4, comm="refused", anon=90),
    ]  # fmt: skip
    whose = holders.programs(members)
    assert whose == [("db", 2, 60), ("web", 1, 7)]
    info = {**INFO, "AnonPages": 100}
    memory = sense.read(1.0, None, "/nowhere", "/nowhere", lambda _: None, 4096)
    memory = memory._replace(meminfo={**memory.meminfo, **info, "MemTotal": 1000})
    told = list(memory_view.overview(memory, None, (), whose))
    begin = next(n for n, line in enumerate(told) if "by program" in line)
    assert [" ".join(line.split()) for line in told[begin + 1 :]] == [
        "60 B 6.0 % 2 db processes",
        "7 B 0.7 % 1 web process",
        "33 B 3.3 % in no process that could be read",
    ]


def test_the_past_tells_restarts_and_kills() -> None:
    rows = list(
        memory_view.free_rows(
            [
                Reading(0.0, {**INFO, "oom_kill": 3}, "a"),
                Reading(60.0, {**INFO, "oom_kill": 5}, "a"),
                Reading(120.0, {**INFO, "oom_kill": 5}, "a"),
                Reading(180.0, {**INFO, "oom_kill": 9}, "b"),
            ],
            gap_s=100,
        )
    )
    assert rows[2] == "  2 OOM kills"
    assert rows[5] == "  the machine was started anew"
    assert len(rows) == 7
    found = memory_view.past_json(Reading(1.0, {**INFO, "oom_kill": 3, "allocstall": 2}, "a"))
    assert found["events"] == {"oom_kill": 3, "allocstall": 2}
    assert found["meminfo"] == INFO
    assert found["boot_id"] == "a"


def _history(folder: Path, readings: dict[float, int]) -> None:
    seen = machine.Machine()
    store = Store(str(folder / "history.db"))
    for t, free in readings.items():
        seen.take(t, "boot", {**INFO, "MemFree": free * KIB})
        store.put_host(seen.take_closed())
    seen.end("boot")
    store.put_host(seen.take_closed())
    assert store.flush()
    store.close()


def test_the_past_is_shown_with_its_gaps(tmp_path: Path) -> None:
    now = time.time() // 60 * 60
    first = {now - 3000 + 60 * n: 100 + n for n in range(5)}
    last = {now - 600 + 60 * n: 200 + n for n in range(5)}
    _history(tmp_path, first | last)
    done = _run("--since", "1h", "--every", "1min", "--state", str(tmp_path))
    rows = [line for line in done.stdout.splitlines()[1:] if "nothing recorded" not in line]
    assert [row.split()[3] for row in rows] == [
        str(n) for n in (*range(100, 105), *range(200, 205))
    ]
    assert "  nothing recorded for 36 min" in done.stdout
    coarse = _run("--since", "1h", "--every", "5min", "--state", str(tmp_path)).stdout
    assert 3 <= len(coarse.splitlines()) < len(rows)
    sar = _run("--since", "1h", "--sar", "--state", str(tmp_path)).stdout
    assert sar.splitlines()[-1].startswith("Average:")
    told = _run("--since", "1h", "--json", "--every", "1min", "--state", str(tmp_path)).stdout
    assert next(json.loads(line)["sar"]["kbmemfree"] for line in told.splitlines()) == 100


def test_rows_of_the_past_are_evenly_apart(tmp_path: Path) -> None:
    now = time.time() // 60 * 60
    _history(tmp_path, {now - 60 * n: n for n in range(50, 0, -1)})

    def minutes(*args: str) -> list[int]:
        rows = _run("--since", "1h", *args, "--json", "--state", str(tmp_path)).stdout
        return [round((now - json.loads(row)["t"]) / 60) for row in rows.splitlines()]

    # ten minutes is the step of no resolution: rows of a finer one, not all of a coarser one
    ten = minutes("--every", "10min")
    assert 5 <= len(ten) <= 6
    assert {a - b for a, b in itertools.pairwise(ten[:-1])} == {10}
    plain = minutes()
    assert 16 <= len(plain) <= 18
    assert {a - b for a, b in itertools.pairwise(plain[:-1])} == {3}


def test_without_a_history_it_says_so(tmp_path: Path) -> None:
    done = _run("--since", "1h", "--state", str(tmp_path))
    assert done.returncode == 1
    assert "no history" in done.stderr
    _history(tmp_path, {1000.0: 1})
    done = _run("--since", "1h", "--state", str(tmp_path))
    assert done.returncode == 1
    assert "nothing was recorded" in done.stderr
    assert _run("--since", "1h", "--state", str(tmp_path / "none")).returncode in (1, 2)


def test_help_gives_the_formulas_and_fits() -> None:
    text = _run("--help").stdout
    assert "kbmemused = MemTotal - MemFree - Buffers - Cached - Slab" in " ".join(text.split())
    assert len(text.splitlines()) <= 24
    assert all(len(line) <= 80 for line in text.splitlines())

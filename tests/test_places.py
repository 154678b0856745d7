"""Where memory hides that no process owns: zram, the ARC, tmpfs; and what the guard makes of it."""

import ctypes
import subprocess
from pathlib import Path

import pytest

from watchdog.facts import Host
from watchdog.guard.scene import Scene
from watchdog.policy.guard_when import GuardRules, Mark, Pressure
from watchdog.sense import places
from watchdog.sense.fast import Eyes
from watchdog.sense.host import HostFiles
from watchdog.sense.places import Places

MIB = 1 << 20


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def meminfo(arc: int, free: int = 1000, available: int = 1200) -> str:
    """Of a machine of 4 GiB, 2 MiB of which are the kernel's own, as it would be told (in MiB)."""
    on_lists = 4096 - 52 - 2 - arc - free
    told = {"MemTotal": 4096, "MemFree": free, "MemAvailable": available,
            "Active": on_lists - 100, "Inactive": 90, "Unevictable": 10, "Slab": 30,
            "SReclaimable": 28, "SUnreclaim": 2, "KernelStack": 4, "PageTables": 20}  # fmt: skip
    return "".join(f"{key}: {value * 1024} kB\n" for key, value in told.items())


def test_each_is_found_and_named(tmp_path: Path) -> None:
    write(tmp_path / "proc/swaps", "Filename Type Size Used Priority\n"
          "/dev/zram0 partition 524288 1000 100\n/dev/sda2 partition 1048576 0 -2\n")  # fmt: skip
    write(tmp_path / "sys/block/zram0/mm_stat", "104857600 26000000 34952533 0 40000000 0 0\n")
    write(tmp_path / "proc/spl/kstat/zfs/arcstats",
          "name type data\nsize 4 2147483648\nc_min 4 536870912\n")  # fmt: skip
    write(tmp_path / "proc/meminfo", meminfo(arc=2048))
    found = Places(str(tmp_path / "proc"), str(tmp_path / "sys")).read()
    assert found == {
        "zram": [512 * MIB, 104857600, 34952533], "disk_swap": 1024 * MIB,
        "arc": [2048 * MIB, 512 * MIB, 2050 * MIB],
    }  # fmt: skip
    shm = {"tmpfs": [["/dev/shm", 400 * MIB, 512 * MIB]], "sysv": 20 * MIB}
    said = places.sentences({**found, **shm}, None)
    assert said == [
        "512 MiB of swap lie in memory itself (zram, packed 3.0 to 1)", "1.0 GiB of swap on disk",
        "the ARC of ZFS holds 2.0 GiB, of which 1.5 GiB give way",
        "tmpfs /dev/shm holds 400 MiB of 512 MiB", "System V segments hold 20.0 MiB",
    ]  # fmt: skip
    assert places.sentences({}, 0) == ["there is no swap"]


def test_a_machine_without_any_of_it(tmp_path: Path) -> None:
    assert Places(str(tmp_path), str(tmp_path)).read() == {}
    write(tmp_path / "swaps", "Filename\nrubbish\n/dev/zram0 partition x\n")
    write(tmp_path / "spl/kstat/zfs/arcstats", "size 4 none\n")
    write(tmp_path / "1/mountinfo", "1 2 0:3 / /nowhere rw - tmpfs tmpfs rw\nx\n")
    assert Places(str(tmp_path), str(tmp_path)).read() == {}
    assert isinstance(Places().read(), dict)


def host(available: int, swap_free: int, swap: int = 512) -> Host:
    return Host(1e9, 1.0, mem_total=1024 * MIB, mem_available=available * MIB,
                swap_total=swap * MIB, swap_free=swap_free * MIB)  # fmt: skip


def short(zram: tuple[int, int, int] | None, now: Host) -> tuple[str, ...]:
    pressure = Pressure(GuardRules("observe", Mark(0.10)))
    pressure.zram = zram
    change = pressure.step(now, 1.0, 0)
    return change.because if change else ()


@pytest.mark.parametrize(("zram", "now", "counts"), [
    # of 90 MiB available it could take 270 and give back 180: more than the mark of 102
    ((512 * MIB, 0, 0), host(90, 500), False),
    # it packs badly: 90 available take 120 and give 30
    ((512 * MIB, 400 * MIB, 300 * MIB), host(90, 500), True),
    # it is nearly full
    ((512 * MIB, 0, 0), host(90, 100), True),
    ((512 * MIB, 100 * MIB, 110 * MIB), host(90, 500), True),  # it packs nothing
    (None, host(90, 500), False),  # swap on a disk
    ((100 * MIB, 0, 0), host(90, 500, 1024), False),  # most of it is on a disk
])  # fmt: skip
def test_swap_in_zram_counts_for_what_it_can_still_give(
    zram: tuple[int, int, int] | None, now: Host, counts: bool
) -> None:
    because = short(zram, now)
    assert bool(because) is counts
    if counts:
        assert "zram" in because[1]


def test_the_arc_gives_way_and_a_full_tmpfs_is_named(tmp_path: Path) -> None:
    scene = Scene(Eyes(str(tmp_path)), Pressure(GuardRules()), lambda *_: None)
    now = host(90, 0)
    assert scene.with_arc(now) == now
    arc = [700 * MIB, 200 * MIB, 710 * MIB]
    scene.machine = {"arc": arc, "tmpfs": [["/dev/shm", 400 * MIB, 512 * MIB]]}
    assert scene.with_arc(now) == now, "of these lists nothing is known here"
    scene.eyes.untold = 720 * MIB
    assert scene.with_arc(now).mem_available == 590 * MIB
    assert scene.with_arc(Host(1.0)).mem_available is None
    assert scene.unowned() == ["tmpfs /dev/shm holds 400 MiB: its files go with nobody's end"]


def test_what_the_arc_has_given_back_since_the_last_word_counts_once(tmp_path: Path) -> None:
    """The watcher may be stopped: what was its cache is somebody else's memory by then."""

    def tell(arc: int, free: int, available: int) -> Host:
        (tmp_path / "meminfo").write_text(meminfo(arc, free, available))
        return scene.with_arc(scene.eyes.host(1e9, 1.0)[0])

    arcstats = f"name type data\nsize 4 {2048 * MIB}\nc_min 4 {48 * MIB}\n"
    write(tmp_path / "spl/kstat/zfs/arcstats", arcstats)
    (tmp_path / "meminfo").write_text(meminfo(2048, 500, 600))
    scene = Scene(Eyes(str(tmp_path)), Pressure(GuardRules()), lambda *_: None)
    scene.take_machine(1.0, Places(str(tmp_path), str(tmp_path)).read())
    assert tell(2048, 500, 600).mem_available == 2600 * MIB
    # somebody takes all that is free; then the ARC gives way to him, and is gone for good
    assert tell(2048, 50, 150).mem_available == 2150 * MIB
    assert tell(1048, 50, 150).mem_available == 1150 * MIB
    assert tell(48, 50, 150).mem_available == 150 * MIB
    # what it gives back and nobody takes is free, and counts there
    assert tell(1048, 1500, 1600).mem_available == 2600 * MIB
    # and somebody's page tables, or a cache of the kernel that can be taken back, hide nothing
    text = meminfo(1048, 50, 150).replace("PageTables: 20480", "PageTables: 40960")
    (tmp_path / "meminfo").write_text(text)
    assert scene.with_arc(scene.eyes.host(1e9, 1.0)[0]).mem_available == 1130 * MIB


def test_a_container_does_not_count_the_arc_of_the_whole_machine(tmp_path: Path) -> None:
    """lxcfs makes meminfo its own; /proc/spl is everybody's."""
    arcstats = f"name type data\nsize 4 {16384 * MIB}\nc_min 4 {48 * MIB}\n"
    write(tmp_path / "spl/kstat/zfs/arcstats", arcstats)
    (tmp_path / "meminfo").write_text(meminfo(5, 50, 150))
    scene = Scene(Eyes(str(tmp_path)), Pressure(GuardRules()), lambda *_: None)
    scene.take_machine(1.0, Places(str(tmp_path), str(tmp_path)).read())
    seen = scene.with_arc(scene.eyes.host(1e9, 1.0)[0]).mem_available
    assert seen is not None
    assert 150 * MIB <= seen < 160 * MIB
    watched = HostFiles(str(tmp_path))
    arc = watched.read(1e9, 1.0).arc
    watched.close()
    assert arc is not None
    assert arc < 10 * MIB


# ---- what nobody's end gives back ----------------------------------------------------------------

SHM_HEAD = (
    "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid"
)


def segments(proc: Path, *rows: tuple[int, int]) -> None:
    """(permissions, MiB resident) of each."""
    text = f"{SHM_HEAD}      atime      dtime      ctime        rss       swap\n" + "".join(
        f"         0 {number:10} {perms:5o} {size * MIB:21} 7 7 1 0 0 0 0 1 1 1 {size * MIB:21} 0\n"
        for number, (perms, size) in enumerate(rows)
    )
    write(proc / "sysvipc/shm", text)


def test_system_v_segments_stay_but_for_those_that_go_with_their_last_user(tmp_path: Path) -> None:
    segments(tmp_path, (0o600, 300), (0o1600, 200), (0o666, 20))
    assert Places(str(tmp_path)).read() == {"sysv": 320 * MIB, "stays": 320 * MIB}
    write(tmp_path / "meminfo", "HugePages_Total: 200\nHugePages_Free: 50\nHugepagesize: 2048 kB\n"
          "Hugetlb: 409600 kB\n")  # fmt: skip
    assert Places(str(tmp_path)).read()["sysv"] == 20 * MIB, "300 MiB lie in huge pages"
    write(tmp_path / "sys/kernel/shm_rmid_forced", "1\n")
    assert Places(str(tmp_path)).read() == {}
    write(tmp_path / "sysvipc/shm", f"{SHM_HEAD}\nrubbish\n0 1 999 x\n")
    assert Places(str(tmp_path)).read() == {}


def test_a_real_segment_is_found_and_is_nobodys_to_give_back() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    before, size = Places().read().get("sysv", 0), 48 * MIB
    number = libc.shmget(0, size, 0o600)
    if number < 0:
        pytest.skip("no System V shared memory here")
    try:
        at = libc.shmat(number, None, 0)
        ctypes.memset(at, 1, size)
        assert Places().read()["sysv"] - before >= size
        libc.shmctl(number, 0, None)  # IPC_RMID: now it goes with us
        assert Places().read().get("sysv", 0) < before + size
    finally:
        libc.shmctl(number, 0, None)


def test_the_mounts_that_only_a_container_has_are_found(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o size=64m none "$0" && head -c 24M /dev/zero >"$0/f" && echo && cat'
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as inside:  # fmt: skip
        try:
            assert inside.stdout
            if not inside.stdout.readline():
                pytest.skip("no mount namespace may be made here")
            look = Places()
            before = look.read().get("stays", 0)
            found = look.read({"3f4a": inside.pid})
            assert found["stays"] - before == 24 * MIB
            assert [f"{tmp_path} of 3f4a", 24 * MIB, 64 * MIB] in found["tmpfs"]
            again = look.read({"3f4a": inside.pid})
            assert again["stays"] == found["stays"], "listed once, and looked at each time"
        finally:
            inside.kill()
    for _ in range(2):  # who stood for the container has ended; it is there until a census says no
        assert look.read({"3f4a": inside.pid})["stays"] - before == 24 * MIB
    assert look.read({}).get("stays", 0) - before < 24 * MIB
    assert look.mounts == {} == look.inside


def test_a_mount_behind_a_server_is_not_looked_at(tmp_path: Path) -> None:
    write(tmp_path / "9/mountinfo",
          "1 0 0:50 / / rw - overlay overlay rw\n2 1 0:51 / /mnt/far rw - nfs4 h:/x rw\n"
          "3 2 0:52 / /mnt/far/tmp rw - tmpfs tmpfs rw\n4 1 0:53 / /mnt/farther rw - tmpfs t rw\n"
          "5 1 0:x / /tmp rw - tmpfs t rw\n")  # fmt: skip
    assert [point for point, _ in places._mounts(str(tmp_path / "9"))] == ["/mnt/farther"]
    many = {f"c{number:03}": number for number in range(100, 200)}
    look = Places(str(tmp_path))
    for _ in range(9):
        look.read(many)
    assert len(look.mounts) == places.CONTAINERS_MAX

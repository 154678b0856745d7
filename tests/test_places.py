"""Where memory hides that no process owns: zram, the ARC, tmpfs; and what the guard makes of it."""

from pathlib import Path

import pytest

from watchdog.facts import Host
from watchdog.guard.scene import Scene
from watchdog.policy.guard_when import GuardRules, Mark, Pressure
from watchdog.sense import places
from watchdog.sense.fast import Eyes

MIB = 1 << 20


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_each_is_found_and_named(tmp_path: Path) -> None:
    write(tmp_path / "proc/swaps", "Filename Type Size Used Priority\n"
          "/dev/zram0 partition 524288 1000 100\n/dev/sda2 partition 1048576 0 -2\n")  # fmt: skip
    write(tmp_path / "sys/block/zram0/mm_stat", "104857600 26000000 34952533 0 40000000 0 0\n")
    write(tmp_path / "proc/spl/kstat/zfs/arcstats",
          "name type data\nsize 4 2147483648\nc_min 4 536870912\n")  # fmt: skip
    found = places.read(str(tmp_path / "proc"), str(tmp_path / "sys"))
    assert found == {
        "zram": [512 * MIB, 104857600, 34952533], "disk_swap": 1024 * MIB,
        "arc": [2048 * MIB, 512 * MIB],
    }  # fmt: skip
    said = places.sentences({**found, "tmpfs": [["/dev/shm", 400 * MIB, 512 * MIB]]}, None)
    assert said == [
        "512 MiB of swap lie in memory itself (zram, packed 3.0 to 1)", "1.0 GiB of swap on disk",
        "the ARC of ZFS holds 2.0 GiB, of which 1.5 GiB give way",
        "tmpfs /dev/shm holds 400 MiB of 512 MiB",
    ]  # fmt: skip
    assert places.sentences({}, 0) == ["there is no swap"]


def test_a_machine_without_any_of_it(tmp_path: Path) -> None:
    assert places.read(str(tmp_path), str(tmp_path)) == {}
    write(tmp_path / "swaps", "Filename\nrubbish\n/dev/zram0 partition x\n")
    write(tmp_path / "spl/kstat/zfs/arcstats", "size 4 none\n")
    write(tmp_path / "1/mountinfo", "1 2 0:3 / /nowhere rw - tmpfs tmpfs rw\nx\n")
    assert places.read(str(tmp_path), str(tmp_path)) == {}
    assert isinstance(places.read(), dict)


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
    scene.machine = {"arc": [700 * MIB, 200 * MIB], "tmpfs": [["/dev/shm", 400 * MIB, 512 * MIB]]}
    assert scene.with_arc(now).mem_available == 590 * MIB
    assert scene.with_arc(Host(1.0)).mem_available is None
    assert scene.unowned() == ["tmpfs /dev/shm holds 400 MiB: its files go with nobody's end"]

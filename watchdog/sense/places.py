"""Effect: where memory hides that no process owns: zram, the ARC of ZFS, files in tmpfs.

The guard reads none of this itself; the watcher hands it over. MemAvailable counts neither the ARC,
which gives way under pressure, nor what zram could still take.
"""

import os
from collections.abc import Mapping
from typing import Any

from watchdog import words

TMPFS_TOLD = 3
TMPFS_LEAST = 16 << 20
MOUNTS_MAX = 64


def read(proc: str = "/proc", sys: str = "/sys") -> dict[str, Any]:
    """Plain values, as marshal takes them; a key that this machine has nothing for is missing.

    zram: [bytes of swap that lie in zram, stored, compressed] · disk_swap: bytes of other swap ·
    arc: [size, smallest size] · tmpfs: [[mount point, bytes used, bytes at the most], …]
    """
    found: dict[str, Any] = {}
    zram, disk = _swaps(proc)
    if zram:
        stored, packed = _zram(sys)
        found["zram"] = [zram, stored, packed]
    if disk:
        found["disk_swap"] = disk
    arc = _arc(proc)
    if arc:
        found["arc"] = arc
    tmpfs = _tmpfs(proc)
    if tmpfs:
        found["tmpfs"] = tmpfs
    return found


def sentences(found: Mapping[str, Any], swap_total: int | None) -> list[str]:
    """The same for a person, for the start line."""
    said = []
    if swap_total == 0:
        said.append("there is no swap")
    if "zram" in found:
        size, stored, packed = found["zram"]
        ratio = f", packed {stored / packed:.1f} to 1" if packed else ""
        said.append(f"{words.size(size)} of swap lie in memory itself (zram{ratio})")
    if "disk_swap" in found:
        said.append(f"{words.size(found['disk_swap'])} of swap on disk")
    if "arc" in found:
        size, least = found["arc"]
        said.append(
            f"the ARC of ZFS holds {words.size(size)}, of which "
            f"{words.size(max(0, size - least))} give way"
        )
    said += [
        f"tmpfs {words.safe(mount)} holds {words.size(used)} of {words.size(size)}"
        for mount, used, size in found.get("tmpfs", ())
    ]
    return said


def _swaps(proc: str) -> tuple[int, int]:
    """(bytes of swap in zram, bytes of other swap)."""
    zram = disk = 0
    for line in _file(f"{proc}/swaps").split(b"\n")[1:]:
        fields = line.split()
        if len(fields) < 3 or not fields[2].isdigit():
            continue
        size = int(fields[2]) * 1024
        if fields[0].rpartition(b"/")[2].startswith(b"zram"):
            zram += size
        else:
            disk += size
    return zram, disk


def _zram(sys: str) -> tuple[int, int]:
    """(bytes stored, bytes that they take), of all zram devices."""
    stored = packed = 0
    try:
        names = [name for name in os.listdir(f"{sys}/block") if name.startswith("zram")]
    except OSError:
        return 0, 0
    for name in names:
        fields = _file(f"{sys}/block/{name}/mm_stat").split()
        if len(fields) >= 3 and all(one.isdigit() for one in fields[:3]):
            stored += int(fields[0])
            packed += int(fields[2])
    return stored, packed


def _arc(proc: str) -> list[int] | None:
    values = {}
    for line in _file(f"{proc}/spl/kstat/zfs/arcstats").split(b"\n"):
        fields = line.split()
        if len(fields) == 3 and fields[0] in (b"size", b"c_min") and fields[2].isdigit():
            values[fields[0]] = int(fields[2])
    return [values[b"size"], values.get(b"c_min", 0)] if values.get(b"size") else None


def _tmpfs(proc: str) -> list[list[Any]]:
    """The fullest mounts, as PID 1 sees them."""
    found: dict[int, list[Any]] = {}
    for line in _file(f"{proc}/1/mountinfo").split(b"\n"):
        left, _, right = line.partition(b" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or not kind or kind[0] != b"tmpfs" or len(found) >= MOUNTS_MAX:
            continue
        point = fields[4].replace(b"\\040", b" ")
        try:
            device = os.stat(point).st_dev
            space = os.statvfs(point)
        except OSError:
            continue
        used = (space.f_blocks - space.f_bfree) * space.f_frsize
        if used >= TMPFS_LEAST and device not in found:
            found[device] = [words.name(point), used, space.f_blocks * space.f_frsize]
    return sorted(found.values(), key=lambda one: -int(one[1]))[:TMPFS_TOLD]


def _file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""

"""Effect: where memory hides that no process owns: zram, the ARC of ZFS, files in tmpfs, SysV.

The guard reads none of this itself; the watcher hands it over. MemAvailable counts neither the ARC,
which gives way under pressure, nor what zram could still take.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from watchdog import procfs, words

TMPFS_TOLD = 3
TMPFS_LEAST = 16 << 20
MOUNTS_MAX = 64
CONTAINERS_MAX = 64
LISTED_AT_ONCE = 8  # containers whose mounts are listed anew at one reading: 0.1 ms each
_DESTROYED = 0o1000  # SHM_DEST: it goes with the last who is attached
# A container's mount is looked at only where no part of the way to it can be held up by a server.
_LOCAL = frozenset(
    (b"tmpfs", b"overlay", b"ext4", b"xfs", b"btrfs", b"zfs", b"ext3", b"ext2", b"f2fs",
     b"squashfs", b"erofs", b"devtmpfs", b"rootfs")
)  # fmt: skip

_Mount = tuple[str, int]  # its point, and its device


class Places:
    """Remembers the tmpfs mounts of containers, which PID 1 does not see."""

    def __init__(self, proc: str = "/proc", sys: str = "/sys") -> None:
        self.proc = proc
        self.sys = sys
        self.mounts: dict[tuple[str, int], list[_Mount]] = {}  # the longest not listed is first
        self.inside: dict[tuple[str, int], list[Any]] = {}  # of container and device: as found last

    def read(self, containers: Mapping[str, int] = {}) -> dict[str, Any]:
        """Plain values, as marshal takes them; a key that this machine has nothing for is missing.

        `containers`: of each by its name the PID of somebody in it. zram: [bytes of swap that lie
        in zram, stored, compressed] · disk_swap: bytes of other swap · arc: [size, smallest size,
        what procfs.untold said then] ·
        tmpfs: [[mount point, bytes used, bytes at the most], …], the fullest · sysv: bytes of
        System V segments · stays: bytes that nobody's end gives back, in all mounts and segments
        """
        found: dict[str, Any] = {}
        zram, disk = _swaps(self.proc)
        if zram:
            stored, packed = _zram(self.sys)
            found["zram"] = [zram, stored, packed]
        if disk:
            found["disk_swap"] = disk
        arc = _arc(self.proc)
        if arc:
            found["arc"] = arc
        tmpfs = _tmpfs(self.proc)
        self._inside(containers, tmpfs)
        mounts = sorted(tmpfs.values(), key=lambda one: -int(one[1]))
        if mounts:
            found["tmpfs"] = mounts[:TMPFS_TOLD]
        sysv = _sysv(self.proc)
        if sysv:
            found["sysv"] = sysv
        stays = sysv + sum(used for _, used, _ in mounts)
        if stays:
            found["stays"] = stays
        return found

    def _inside(self, containers: Mapping[str, int], found: dict[int, list[Any]]) -> None:
        """Add the mounts that only a container has."""
        wanted = dict(sorted(containers.items())[:CONTAINERS_MAX])
        self.mounts = {key: self.mounts[key] for key in self.mounts if key in wanted.items()}
        new = [key for key in wanted.items() if key not in self.mounts]
        # Somebody who has ended meanwhile shows no mounts; his container has them as before.
        there = {key for key in wanted.items() if os.path.exists(f"{self.proc}/{key[1]}/root")}
        for key in [*new, *[key for key in self.mounts if key in there][:LISTED_AT_ONCE]]:
            self.mounts.pop(key, None)
            self.mounts[key] = _mounts(f"{self.proc}/{key[1]}")
        before, self.inside = self.inside, {}
        for key, mounts in self.mounts.items():
            name, pid = key
            for point, device in mounts:
                if device in found or len(found) >= MOUNTS_MAX:
                    continue
                if key in there:
                    said = f"{words.name(point.encode(errors='surrogateescape'))} of {name}"
                    _add(found, f"{self.proc}/{pid}/root{point}", said, device)
                elif (name, device) in before:
                    found[device] = before[name, device]
                if device in found:
                    self.inside[name, device] = found[device]


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
        size, least, _ = found["arc"]
        said.append(
            f"the ARC of ZFS holds {words.size(size)}, of which "
            f"{words.size(max(0, size - least))} give way"
        )
    said += [
        f"tmpfs {words.safe(mount)} holds {words.size(used)} of {words.size(size)}"
        for mount, used, size in found.get("tmpfs", ())
    ]
    if "sysv" in found:
        said.append(f"System V segments hold {words.size(found['sysv'])}")
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


def _arc(proc: str) -> list[int | None] | None:
    values = {}
    for line in _file(f"{proc}/spl/kstat/zfs/arcstats").split(b"\n"):
        fields = line.split()
        if len(fields) == 3 and fields[0] in (b"size", b"c_min") and fields[2].isdigit():
            values[fields[0]] = int(fields[2])
    if not values.get(b"size"):
        return None
    then = procfs.untold(procfs.parse_kb(_file(f"{proc}/meminfo")))
    return [values[b"size"], values.get(b"c_min", 0), then]


def _tmpfs(proc: str) -> dict[int, list[Any]]:
    """The mounts that PID 1 sees, by device: [mount point, bytes used, bytes at the most]."""
    found: dict[int, list[Any]] = {}
    for point, device, _ in _mountinfo(f"{proc}/1/mountinfo", b"tmpfs"):
        if len(found) < MOUNTS_MAX:
            _add(found, point, words.name(os.fsencode(point)), device)
    return found


def _mounts(base: str) -> list[_Mount]:
    """The tmpfs mounts that the process of that folder sees, where the way to them is local."""
    listed = list(_mountinfo(f"{base}/mountinfo"))
    far = [f"{point.rstrip('/')}/" for point, _, kind in listed if kind not in _LOCAL]
    return [
        (point, device) for point, device, kind in listed
        if kind == b"tmpfs" and not f"{point}/".startswith(tuple(far))
    ]  # fmt: skip


def _mountinfo(path: str, only: bytes = b"") -> Iterator[tuple[str, int, bytes]]:
    """(mount point, device, type)."""
    for line in _file(path).split(b"\n"):
        left, _, right = line.partition(b" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or not kind or (only and kind[0] != only):
            continue
        major, _, minor = fields[2].partition(b":")
        if major.isdigit() and minor.isdigit():
            point = os.fsdecode(fields[4].replace(b"\\040", b" "))
            yield point, os.makedev(int(major), int(minor)), kind[0]


def _add(found: dict[int, list[Any]], path: str, said: str, device: int) -> None:
    """One mount, if it is the one that is meant and holds enough."""
    try:
        if device in found or os.stat(path).st_dev != device:
            return
        space = os.statvfs(path)
    except OSError:
        return
    used = (space.f_blocks - space.f_bfree) * space.f_frsize
    if used >= TMPFS_LEAST:
        found[device] = [said, used, space.f_blocks * space.f_frsize]


def _sysv(proc: str) -> int:
    """Bytes of System V segments that stay when nobody is attached any more.

    Those of our own IPC namespace: a container's are shown to nobody outside.
    """
    held = 0
    for line in _file(f"{proc}/sysvipc/shm").split(b"\n")[1:]:
        fields = line.split()
        try:
            if not int(fields[2], 8) & _DESTROYED:
                held += int(fields[14])
        except (IndexError, ValueError):
            continue
    if held < TMPFS_LEAST or _file(f"{proc}/sys/kernel/shm_rmid_forced").strip() == b"1":
        return 0
    # Segments in huge pages of hugetlbfs are set aside anyway, and in no figure of shared memory.
    told = procfs.parse_kb(_file(f"{proc}/meminfo"))
    huge = told.get("Hugetlb", 0) - told.get("HugePages_Free", 0) * told.get("Hugepagesize", 0)
    return max(0, held - max(0, huge))


def _file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""

"""Effect: the wide facts of one process, once an identity: exe, cmdline, user, trust.

Three small files and a link, read here because psutil, which reads the same, holds 2 MiB of the
22 that both processes may have. Everything may be refused or gone, and is None then. cmdline is cut
at 1,024 characters, and what looks like a secret in it is masked.
"""

import os
import re
from typing import NamedTuple

from watchdog import procfs, words
from watchdog.facts import Who

CMDLINE_MAX = 1024
# What is read of it: a name of one byte may take four characters to tell.
_READ_MAX = 4 * CMDLINE_MAX
NUMBERS_MAX = 4096
_numbers: dict[int, int] = {}
_SECRET = re.compile(
    r"((?:pass(?:word|wd)?|secret|token|api[-_]?key|credential)[a-z]*(?:=|:|\s))\S+", re.IGNORECASE
)


# Most processes share these texts. Not sys.intern, which in CPython 3.12 never lets go of one.
SAME_MAX = 4096
_same: dict[str, str] = {}


class Wide(NamedTuple):
    """`uid` is the effective one; `build` tells one build of an executable from another."""

    exe: str | None
    cmdline: str | None
    uid: int | None
    oom_score_adj: int | None
    trusted: bool | None
    build: str | None


def same(text: str) -> str:
    """The one object for equal texts."""
    if len(_same) >= SAME_MAX:
        _same.clear()
    return _same.setdefault(text, text)


def read(root: str, pid: int) -> Wide:
    """What can be read of a process; None for each thing that cannot."""
    folder = f"{root}/{pid}"
    uid = procfs.parse_uid(_bytes(f"{folder}/status") or b"")
    cmdline = (_bytes(f"{folder}/cmdline", _READ_MAX) or b"").rstrip(b"\0").replace(b"\0", b" ")
    try:
        exe = words.name(os.readlink(os.fsencode(f"{folder}/exe")).removesuffix(b" (deleted)"))
    except OSError:
        exe = None
    try:
        file = os.stat(f"{folder}/exe")
    except OSError:
        file = None
    return Wide(
        exe or None,
        masked(words.name(cmdline)) if cmdline else None,
        uid,
        _number(f"{folder}/oom_score_adj"),
        _trusted(file, exe, uid),
        same(f"{file.st_dev}-{file.st_ino}-{file.st_mtime_ns}") if file else None,
    )


def who(
    root: str, t: float, up: float, pid: int, stat: procfs.Stat, cgroup: str | None,
    place: procfs.Place,
) -> Who:  # fmt: skip
    """Describe a process whose stat has just been read."""
    found = read(root, pid)
    return Who(
        t, up, pid, stat.start_ticks,
        ppid=_shared(stat.ppid),
        uid=_shared(found.uid),
        exe=same(found.exe) if found.exe else None,
        cgroup=cgroup,
        inner=place.inner,
        container=place.container,
        oom_score_adj=found.oom_score_adj,
        cmdline=same(found.cmdline) if found.cmdline else None,
        trusted=found.trusted,
        build=found.build,
    )  # fmt: skip


def _shared(number: int | None) -> int | None:
    """The same object for the same number: thousands have one parent and one user."""
    if number is None:
        return None
    if len(_numbers) >= NUMBERS_MAX:
        _numbers.clear()
    return _numbers.setdefault(number, number)


def masked(cmdline: str) -> str:
    """A command line that may be told: safe, short, values of --password= and the like hidden."""
    return _SECRET.sub(r"\1***", words.safe(cmdline))[:CMDLINE_MAX]


def _bytes(path: str, most: int = 4096) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(most)
    except OSError:
        return None


def _number(path: str) -> int | None:
    raw = (_bytes(path, 32) or b"").strip()
    return int(raw) if raw.lstrip(b"-").isdigit() else None


def _trusted(found: os.stat_result | None, exe: str | None, uid: int | None) -> bool | None:
    """Is the executable root's, closed to others, and run by root or a system account?

    Whose it is may be hidden (a file system of FUSE refuses root too); who runs it is not, and that
    is enough to say no.
    """
    if uid is not None and uid >= procfs.SYSTEM_UID_BELOW:
        return False
    if found is None or exe is None or uid is None:
        return None
    return exe.startswith("/") and found.st_uid == 0 and not found.st_mode & 0o022

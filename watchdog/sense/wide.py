"""Effect: the wide facts of one process, once an identity: exe, cmdline, user, ancestry.

psutil reads them; the guard never loads this room. Everything may be refused or gone, and is None
then. cmdline is cut at 1,024 characters, and what looks like a secret in it is masked.
"""

import os
import re
import sys
from collections.abc import Callable
from typing import TypeVar

import psutil

from watchdog import procfs, words
from watchdog.facts import Who

T = TypeVar("T")
CMDLINE_MAX = 1024
# System accounts by Debian's convention (adduser, FIRST_UID).
SYSTEM_UID_BELOW = 1000
_SECRET = re.compile(
    r"((?:pass(?:word|wd)?|secret|token|api[-_]?key|credential)[a-z]*(?:=|:|\s))\S+", re.IGNORECASE
)


def who(
    root: str, t: float, up: float, pid: int, stat: procfs.Stat, cgroup: str | None,
    place: procfs.Place,
) -> Who:  # fmt: skip
    """Describe a process whose stat has just been read."""
    psutil.PROCFS_PATH = root
    exe = cmdline = None
    uid: int | None = None
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            uid = _try(lambda: int(process.uids().effective))
            exe = _try(process.exe)
            cmdline = _try(process.cmdline)
    except (psutil.Error, OSError, ValueError, IndexError):
        pass  # gone since its stat was read
    file = _stat(f"{root}/{pid}/exe")
    return Who(
        t, up, pid, stat.start_ticks,
        ppid=stat.ppid,
        uid=uid,
        exe=sys.intern(words.safe(exe)) if exe else None,
        cgroup=cgroup,
        inner=place.inner,
        container=place.container,
        oom_score_adj=_number(f"{root}/{pid}/oom_score_adj"),
        cmdline=sys.intern(masked(" ".join(cmdline))) if cmdline else None,
        trusted=_trusted(file, exe, uid),
        build=f"{file.st_dev}-{file.st_ino}-{file.st_mtime_ns}" if file else None,
    )  # fmt: skip


def masked(cmdline: str) -> str:
    """A command line that may be told: safe, short, values of --password= and the like hidden."""
    return _SECRET.sub(r"\1***", words.safe(cmdline))[:CMDLINE_MAX]


def _try(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (psutil.Error, OSError, ValueError, IndexError):
        return None


def _number(path: str) -> int | None:
    try:
        with open(path, "rb") as file:
            return int(file.read(32))
    except (OSError, ValueError):
        return None


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _trusted(found: os.stat_result | None, exe: str | None, uid: int | None) -> bool | None:
    """Is the executable root's, closed to others, and run by root or a system account?"""
    if found is None or exe is None or uid is None:
        return None
    closed = found.st_uid == 0 and not found.st_mode & 0o022
    return exe.startswith("/") and closed and uid < SYSTEM_UID_BELOW

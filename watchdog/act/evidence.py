"""`evidence`: what can be seen of a process or unit now, in a file of its own; bounded, rotated.

A folder 0700 in the state folder; each file at most 256 KiB, 64 of them, 16 MiB in all, the oldest
go first. No environment, and of the command line what may be told (sense/wide masks and cuts it).
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from watchdog import words

FOLDER = "evidence"
FILES_MAX, FILE_MAX, TOTAL_MAX = 64, 256 << 10, 16 << 20
CMDLINE_MAX = 256
_OF_PROCESS = ("status", "statm", "limits", "oom_score", "oom_score_adj", "cgroup")
_OF_CGROUP = (
    "memory.stat", "memory.events", "memory.pressure", "memory.current", "memory.max",
    "memory.high", "memory.usage_in_bytes", "memory.limit_in_bytes",
)  # fmt: skip


def of_process(pid: int, root: str = "/proc") -> dict[str, str]:
    """The small files of one process; what cannot be read is left out."""
    return _texts({name: f"{root}/{pid}/{name}" for name in _OF_PROCESS})


def of_cgroup(folder: str | None) -> dict[str, str]:
    """What its cgroup tells."""
    return _texts({name: f"{folder}/{name}" for name in _OF_CGROUP}) if folder else {}


def write(state: str, name: str, found: Mapping[str, Any]) -> tuple[str, str]:
    """(outcome, where it lies or why it does not)."""
    folder = os.path.join(state, FOLDER)
    raw = json.dumps(found, indent=1).encode()
    if len(raw) > FILE_MAX:
        raw = json.dumps({"cut": True, "text": raw[: FILE_MAX // 2].decode("ascii")}).encode()
    safe = "".join(c if c.isalnum() or c in "._-@" else "_" for c in name)[:150]
    path = os.path.join(folder, safe + ".json")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _rotate(folder, len(raw))
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(path, flags, 0o600)
        try:
            os.write(fd, raw)
        finally:
            os.close(fd)
    except OSError as error:
        return "failed", f"{words.safe(path)}: {error.strerror}"
    return "done", f"evidence in {words.safe(path)}"


def _rotate(folder: str, more: int) -> None:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                stat = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            found.append((stat.st_mtime_ns, stat.st_size, entry.path))
    found.sort()
    total = more + sum(size for _, size, _ in found)
    while found and (len(found) >= FILES_MAX or total > TOTAL_MAX):
        _, size, path = found.pop(0)
        total -= size
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue  # another thread writes one too


def _texts(paths: Mapping[str, str]) -> dict[str, str]:
    texts = {}
    for name, path in paths.items():
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            raw = os.read(fd, 16384)
        except OSError:
            continue
        finally:
            os.close(fd)
        texts[name] = "\n".join(
            words.safe(line) for line in raw.decode("utf-8", "replace").splitlines()
        )
    return texts

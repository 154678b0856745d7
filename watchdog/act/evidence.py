"""`evidence`: what can be seen of a process or unit now, in a file of its own; bounded, rotated.

A folder 0700 in the state folder; each file at most 256 KiB, 64 of them, 16 MiB in all, the oldest
go first. No environment, and of the command line what may be told (sense/wide masks and cuts it).

The program (`watchdog.act.evidence`, {"state", "name", "found", "ident"} on standard input) writes
one, reads smaps_rollup and writes it again: beside a process that forks that can take 300 ms under
the process's own lock, and a disk can hang. It prints [outcome, sentence] of what lies there.
"""

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from watchdog import procfs, words

FOLDER = "evidence"
FILES_MAX, FILE_MAX, TOTAL_MAX = 64, 256 << 10, 16 << 20
CMDLINE_MAX = 256
READ_MAX = 16 << 10
_OF_PROCESS = ("status", "statm", "limits", "oom_score", "oom_score_adj")
_OF_CGROUP = (
    "memory.stat", "memory.events", "memory.pressure", "memory.current", "memory.max",
    "memory.high", "memory.usage_in_bytes", "memory.limit_in_bytes",
)  # fmt: skip


def of_process(pid: int, start: int, root: str = "/proc") -> dict[str, str]:
    """The small files of that process, of no other that has its number; {} where it has gone."""
    found = _texts({name: f"{root}/{pid}/{name}" for name in _OF_PROCESS})
    stat = procfs.parse_stat(text(f"{root}/{pid}/stat").encode())
    return found if stat is not None and stat.start_ticks == start else {}


def of_cgroup(folder: str | None) -> dict[str, str]:
    """What its cgroup tells."""
    return _texts({name: f"{folder}/{name}" for name in _OF_CGROUP}) if folder else {}


def bounded(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same, or where that is too large the beginning of its text."""
    raw = json.dumps(found, indent=1)
    return found if len(raw) <= FILE_MAX else {"cut": True, "text": raw[: FILE_MAX // 2]}


def rollup(pid: int, start: int, root: str = "/proc") -> str | None:
    """smaps_rollup of that process, and of no other that has its number now."""
    try:
        with open(f"{root}/{pid}/smaps_rollup", "rb") as file:
            # Opened first: what is read through it is of one process for ever.
            with open(f"{root}/{pid}/stat", "rb") as stat:
                found = procfs.parse_stat(stat.read())
            if found is None or found.start_ticks != start:
                return None
            return file.read(65536).decode("ascii", "replace")
    except OSError:
        return None


def main(_argv: list[str]) -> int:
    """Run the program; its exit status."""
    asked = json.load(sys.stdin)
    state, name, found = asked["state"], asked["name"], asked["found"]
    print(json.dumps(write(state, name, found)), flush=True)
    ident = asked.get("ident")
    if ident:
        found["smaps_rollup"] = rollup(*ident) or "not read: the process has gone, or hides it"
        outcome = write(state, name, found)
        if outcome[0] == "done":  # else what was written before stays, and so does its outcome
            print(json.dumps(outcome), flush=True)
    return 0


def write(state: str, name: str, found: Mapping[str, Any]) -> tuple[str, str]:
    """(outcome, where it lies or why it does not)."""
    folder = os.path.join(state, FOLDER)
    raw = json.dumps(bounded(found), indent=1).encode()
    safe = "".join(c if c.isalnum() or c in "._-@" else "_" for c in name)[:150]
    path = os.path.join(folder, safe + ".json")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _rotate(folder, path, len(raw))
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(path + ".new", flags, 0o600)
        try:
            while raw:
                raw = raw[os.write(fd, raw) :]
        finally:
            os.close(fd)
        os.replace(path + ".new", path)  # whoever is ended between leaves what was there
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(path + ".new")  # on a full disk half of it may lie there
        return "failed", f"{words.safe(path)}: {error.strerror}"
    return "done", f"evidence in {words.safe(path)}"


def _rotate(folder: str, path: str, more: int) -> None:
    """Make room for `more` bytes in that file."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                stat = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if entry.path != path:
                found.append((stat.st_mtime_ns, stat.st_size, entry.path))
    found.sort()
    total = more + sum(size for _, size, _ in found)
    while found and (len(found) >= FILES_MAX or total > TOTAL_MAX):
        _, size, path = found.pop(0)
        total -= size
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue  # another one writes, too


def _texts(paths: Mapping[str, str]) -> dict[str, str]:
    return {name: found for name, path in paths.items() if (found := text(path))}


def text(path: str) -> str:
    """A small file of the kernel's, line by line made safe; "" where it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        raw = os.read(fd, READ_MAX)
    except OSError:
        return ""
    finally:
        os.close(fd)
    lines = raw.decode("utf-8", "replace").replace("\t", " ").splitlines()
    return "\n".join(words.safe(line) for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

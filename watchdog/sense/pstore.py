"""Effect: what the kernel wrote into pstore before it died; a panic's report is nowhere else.

Read are /sys/fs/pstore, where the kernel's files lie until somebody takes them away, and
/var/lib/systemd/pstore, whereto systemd-pstore takes them. Nothing is written or deleted.
Formats: fs/pstore of Linux ("Panic#2 Part1" heads each part, the first part is the newest; names
are dmesg-BACKEND-ID, ".enc.z" where it could not be unpacked) and systemd's pstore.c (a folder a
crash, with the parts joined in dmesg.txt).
"""

import os
import re
import stat
from collections.abc import Sequence
from typing import NamedTuple

from watchdog import words

ROOTS = ("/sys/fs/pstore", "/var/lib/systemd/pstore")
FILE_MAX = 4 << 20  # a backend keeps 4 KiB to 64 KiB a part; dmesg.txt is the sum of them
FILES_MAX = 512
TOTAL_MAX = 16 << 20
DEPTH_MAX = 3
SAME_CRASH_S = 120.0  # the parts of one crash were written within that

_NAME = re.compile(r"dmesg-([a-z_]{1,20})-([0-9a-zA-Z_-]{1,40})")
_HEAD = re.compile(rb"(?m)^(\w{1,24})#(\d{1,9}) Part(\d{1,9})[ \t]*\r?$")
# ramoops puts a line of its own before each: the time, and whether it is compressed
_RAMOOPS = re.compile(rb"(?m)^====(\d{1,12})\.\d{1,9}-([CD])[ \t]*\r?$")


class File(NamedTuple):
    """One file: `mark` tells it from another of the same name, so that it is read once."""

    path: str
    backend: str
    time: float
    size: int

    @property
    def mark(self) -> str:
        """Name, time and size."""
        return f"{os.path.basename(self.path)} {self.time:.0f} {self.size}"


class Crash(NamedTuple):
    """One dump of the kernel log, the oldest line first. `time` is when it was written (Unix
    seconds), `why` "Panic", "Oops" and so on."""

    why: str
    time: float
    lines: tuple[str, ...]


class Found(NamedTuple):
    """What was read; `marks` of all files that are there, and what could not be read."""

    crashes: tuple[Crash, ...]
    marks: tuple[str, ...]
    notes: tuple[str, ...]


class _Part(NamedTuple):
    key: tuple[str, str, str]  # backend or folder, why, number of the crash in its boot
    number: int
    time: float
    text: bytes


def read(known: Sequence[str] = (), roots: Sequence[str] = ROOTS) -> Found:
    """All crashes that are there but for files whose mark is `known`. Never raises."""
    files: list[File] = []
    notes: list[str] = []
    for root in roots:
        files += _files(root, 0, notes)
    if len(files) > FILES_MAX:
        notes.append(f"{len(files) - FILES_MAX} files too many, not read")
        files = sorted(files, key=lambda file: -file.time)[:FILES_MAX]
    seen, total = set(known), 0
    parts: list[_Part] = []
    for file in sorted(files, key=lambda file: (file.time, file.path)):
        if file.mark in seen:
            continue
        name = words.safe(file.path)
        if file.path.endswith(".enc.z"):
            notes.append(f"{name}: compressed, not read")
            continue
        if file.size > FILE_MAX or total + file.size > TOTAL_MAX:
            notes.append(f"{name}: {words.size(file.size)}, too large to be read")
            continue
        raw = _content(file.path)
        if isinstance(raw, str):
            notes.append(f"{name}: {raw}")
            continue
        total += len(raw)
        found = _parts(file, raw)
        if not found and raw.strip(b"\0\n "):
            notes.append(f"{name}: no dump of the kernel log")
        parts += found
    return Found(tuple(_crashes(parts)), tuple(file.mark for file in files), tuple(notes))


def _files(folder: str, depth: int, notes: list[str]) -> list[File]:
    """The dumps in a folder and below it; where systemd has joined them, that file alone."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        notes.append(f"{words.safe(folder)}: {(error.strerror or str(error)).lower()}")
        return []
    files: list[File] = []
    below: list[File] = []
    for name in names[: 4 * FILES_MAX]:
        path = f"{folder}/{name}"
        try:
            found = os.lstat(path)
        except OSError:
            continue  # systemd-pstore has just taken it away
        if stat.S_ISDIR(found.st_mode) and depth < DEPTH_MAX:
            below += _files(path, depth + 1, notes)
        elif stat.S_ISREG(found.st_mode):
            match = _NAME.match(name)
            backend = match[1] if match else folder if name == "dmesg.txt" else None
            if backend is not None:
                files.append(File(path, backend, found.st_mtime, found.st_size))
    joined = [file for file in files if file.path.endswith("/dmesg.txt") and file.size]
    return (joined or files) + below


def _content(path: str) -> bytes | str:
    """The file; a sentence where it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    try:
        found = b""
        while len(found) <= FILE_MAX and (piece := os.read(fd, 1 << 16)):
            found += piece
    except OSError as error:
        return (error.strerror or str(error)).lower()
    finally:
        os.close(fd)
    return found[:FILE_MAX]


def _parts(file: File, raw: bytes) -> list[_Part]:
    """The parts in a file: one, or in a joined one many."""
    time = file.time
    own = _RAMOOPS.match(raw)
    if own:
        time = float(own[1])
    heads = list(_HEAD.finditer(raw))
    out = []
    for at, head in enumerate(heads):
        end = heads[at + 1].start() if at + 1 < len(heads) else len(raw)
        key = (file.backend, head[1].decode(), head[2].decode())
        text = raw[head.end() + 1 : end].replace(b"\0", b"")
        out.append(_Part(key, int(head[3]), time, text))
    return out


def _crashes(parts: list[_Part]) -> list[Crash]:
    """Parts of one crash belong together; the first part of a crash is its newest."""
    groups: list[list[_Part]] = []
    for part in parts:
        for group in reversed(groups):
            near = abs(group[0].time - part.time) <= SAME_CRASH_S
            if group[0].key == part.key and near and part.number not in {p.number for p in group}:
                group.append(part)
                break
        else:
            groups.append([part])
    out = []
    for group in groups:
        group.sort(key=lambda part: -part.number)
        text = b"\n".join(part.text.strip(b"\r\n") for part in group)
        lines = tuple(line.decode("utf-8", "surrogateescape") for line in text.splitlines())
        out.append(Crash(group[0].key[1], max(part.time for part in group), lines))
    return out

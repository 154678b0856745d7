"""The files that `oom-watchdog explain` reads: packed, in UTF-16, with the newest line first."""

import bz2
import codecs
import gzip
import lzma
import re
from collections.abc import Iterator
from typing import IO, Protocol

from watchdog.oom_report import text

LINE_MAX = 1 << 20  # the console of a machine can be one string in one line
KEPT_MAX = 64 << 20
BROKEN = (EOFError, lzma.LZMAError, gzip.BadGzipFile)

_HEADER = re.compile(r"\[\s*pid\s*\].*total_vm")
_ROW = re.compile(r"\[\s*\d+\]\s+\d+\s+\d+\s+\d+\s+\d+")
_SUMMARY = re.compile(r"oom-kill:\s?constraint=|Kill process \d+ \(.* score ")


class Readable(Protocol):
    """What `blocks` reads."""

    def read1(self, size: int, /) -> bytes:
        """Some bytes; none at the end."""


class _Utf16:
    """A file in UTF-16, as UTF-8: what PowerShell makes of a text."""

    def __init__(self, file: Readable, name: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(name)("replace")

    def read1(self, size: int, /) -> bytes:
        while data := self._file.read1(size):
            found = self._decoder.decode(data)
            if found:
                return found.encode("utf-8", "surrogateescape")
        return self._decoder.decode(b"", True).encode("utf-8", "surrogateescape")


def opened(raw: IO[bytes]) -> Readable:
    """The text of a file; its first bytes tell how it is packed."""
    head: bytes = raw.peek(64)[:64]  # type: ignore[attr-defined]
    if head[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=raw)
    if head[:6] == b"\xfd7zXZ\x00":
        return lzma.LZMAFile(raw)
    if head[:3] == b"BZh":
        return bz2.BZ2File(raw)
    coded = _coded(head)
    plain: Readable = raw  # type: ignore[assignment]
    return _Utf16(plain, coded) if coded else plain


def _coded(head: bytes) -> str | None:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    for name, zeros, letters in (
        ("utf-16-le", head[1::2], head[::2]),
        ("utf-16-be", head[::2], head[1::2]),
    ):
        if len(head) >= 16 and not any(zeros) and all(letters):
            return name
    return None


def blocks(file: Readable, name: str) -> Iterator[bytes]:
    """The file in pieces that end with a line; a line without an end is cut at LINE_MAX."""
    rest = b""
    try:
        while data := file.read1(64 << 10):
            rest += data
            cut = rest.rfind(b"\n") + 1
            if cut == 0 and len(rest) >= LINE_MAX:
                cut = len(rest)
            if cut:
                yield rest[:cut]
                rest = rest[cut:]
        if rest:
            yield rest
    except IsADirectoryError as error:
        error.filename = name
        raise


def binary(head: bytes) -> bool:
    """Whether the beginning is no text: a log may hold a few zeros after a crash, not many."""
    odd = sum(byte < 9 or 13 < byte < 27 for byte in head)
    high = sum(byte > 0x7F for byte in head)
    return odd * 4 > len(head) or (odd * 50 > len(head) and high * 5 > len(head))


class Newest:
    """Whether a log has its newest line first, as `journalctl -r` and log viewers print it.

    A report tells: its table has the header above the rows, and the kill line comes last.
    """

    def __init__(self) -> None:
        self.votes = 0  # below zero: newest first
        self._kept: list[bytes] = []
        self._size = 0
        self._last = ""

    def block(self, block: bytes, matters: bool) -> None:
        """The next block of whole lines; from the first that matters on they are kept."""
        if not matters and not self._kept:
            return
        self._size += len(block)
        if self._size <= KEPT_MAX:
            self._kept.append(block)
        if b"total_vm" not in block and b"illed process" not in block:
            return
        for line in block.decode("utf-8", "replace").split("\n"):
            if not line.strip():
                continue
            last, self._last = self._last, line
            if _HEADER.search(last):
                self.votes += _ROW.search(line) is not None
            elif _HEADER.search(line):
                self.votes -= _ROW.search(last) is not None
            elif "Killed process" in line and "Kill process" not in line:
                self.votes += _SUMMARY.search(last) is not None
            elif "Killed process" in last and "Kill process" not in last:
                self.votes -= _SUMMARY.search(line) is not None

    def turned(self) -> list[str]:
        """The lines, oldest first; a line without a prefix of its own stays below its own."""
        every = b"".join(self._kept).decode("utf-8", "surrogateescape").rstrip("\n").split("\n")
        begins = [one[:1] == "{" or text.line(one).own for one in every]
        groups: list[list[str]] = []
        for one, begin in zip(every, begins, strict=True):
            if begin or not groups or sum(begins) * 4 < len(every):
                groups.append([])
            groups[-1].append(one)
        return [one for group in reversed(groups) for one in group]

    @property
    def first(self) -> bool:
        """Whether the newest line is first, and all of them are kept."""
        return self.votes < 0 and self._size <= KEPT_MAX

"""Pure: one line of any origin -> the kernel's own text, with what its prefix told.

Two kinds come in. A raw record ("prio,seq,usec,flags;text", as /dev/kmsg gives it) is exact: its
facility says who wrote it and its text begins at the first byte. Anything else is a line of text
that somebody saved, quoted or wrapped; its prefix is taken off piece by piece, by shape.
"""

import re
from typing import NamedTuple

TEXT_MAX = 8192  # no record of a kernel is longer; more of a line is not looked at

RECORD = re.compile(r"(\d{1,4}),(\d{1,20}),(\d{1,20})(?:,([^;\n]{0,200}))?;")
_CALLER = re.compile(r"caller=([TC]\d{1,9})")


class Line(NamedTuple):
    """`text` without its prefix. `usec` is the kernel's clock; `stamp` a date as it was written.

    `exact`: a raw record or a journal entry, so shapes must begin at its first byte. `anchored`:
    saved text, but what stood before it shows that the kernel's text begins here. `kernel`: False
    where the prefix says that somebody else than the kernel wrote it. `own`: the line had a prefix
    of its own, so it does not continue the one before. `mark`: what a diff or a forum put first.
    `caller`: "T123" or "C0", the task or the CPU that printed it. `host`: of a machine that logs
    for others too. `raw`: a saved line as it came, to see where a terminal broke it.
    """

    text: str
    usec: int | None = None
    stamp: str | None = None
    wall: float | None = None
    boot_id: str | None = None
    exact: bool = False
    kernel: bool = True
    own: bool = False
    fragment: bool = False
    anchored: bool = False
    mark: str = ""
    caller: str | None = None
    host: str | None = None
    raw: str = ""


def unescape(text: str) -> str:
    r"""\xNN -> the byte, then UTF-8; a byte that is none stays a surrogate for `words.safe`."""
    if "\\x" not in text:
        return text
    raw = text.encode("utf-8", "surrogateescape")
    parts = raw.split(b"\\x")
    out = [parts[0]]
    for part in parts[1:]:
        try:
            out.append(bytes((int(part[:2], 16),)) + part[2:])
        except ValueError:
            out.append(b"\\x" + part)
    return b"".join(out).decode("utf-8", "surrogateescape")


def escape(text: str) -> str:
    r"""The kernel's own way to print a record: every byte below 0x20, from 0x7f on, and "\"."""
    raw = text.encode("utf-8", "surrogateescape")
    return "".join(chr(b) if 0x20 <= b < 0x7F and b != 0x5C else f"\\x{b:02x}" for b in raw)


def read(raw: str) -> Line:
    """One line as it came, without its line feed. Never raises."""
    head = RECORD.match(raw)
    if head:
        return record(raw, head)
    from watchdog.oom_report import text  # only for saved text

    return text.line(raw.strip("\r\n")[:TEXT_MAX])


def is_record(raw: str) -> bool:
    """Whether it is a raw record of the kernel."""
    return RECORD.match(raw) is not None


def opens(raw: str) -> bool:
    """Whether an entry of several lines may begin here, so that the lines after it matter."""
    return (raw[-1:] == "{" and len(raw) < 80) or raw.startswith("__CURSOR=") or " [s=" in raw[:64]


def record(raw: str, head: re.Match[str]) -> Line:
    """A raw record whose head RECORD has found."""
    end = raw.find("\n", head.end())  # what follows is the record's dictionary
    text = raw[head.end() : end if end >= 0 else None][:TEXT_MAX]
    flags = (head[4] or "").partition(",")[0]
    caller = _CALLER.search(head[4] or "")
    # Facility 0 cannot be written by user space: /dev/kmsg turns it into LOG_USER.
    return Line(
        unescape(text), int(head[3]), exact=True, kernel=int(head[1]) < 8, own=True,
        fragment=flags in ("c", "+"), caller=caller[1] if caller else None,
    )  # fmt: skip


def from_kernel(transport: object, facility: object, identifier: object) -> bool:
    """Whether a journal entry is the kernel's own: what user space writes to /dev/kmsg has the
    kernel's transport too, but never its facility."""
    return (
        transport == "kernel"
        and str(facility if facility is not None else 0) == "0"
        and (identifier is None or identifier == "kernel")
    )

"""Pure: one line of any origin -> the kernel's own text, with what its prefix told.

Two kinds come in. A raw record ("prio,seq,usec,flags;text", as /dev/kmsg gives it) is exact: its
facility says who wrote it and its text begins at the first byte. Anything else is a line of text
that somebody saved, quoted or wrapped; its prefix is taken off piece by piece, by shape.
"""

import re
from typing import NamedTuple

from watchdog.oom_report import prefix

TEXT_MAX = 8192  # no record of a kernel is longer; more of a line is not looked at

_RECORD = re.compile(r"(\d{1,4}),(\d{1,20}),(\d{1,20})(?:,([^;\n]{0,200}))?;")
_CALLER = re.compile(r"caller=([TC]\d{1,9})")
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,16}[mK]")
_ENTITY = re.compile(r"&(lt|gt|amp|quot|apos|nbsp|#0?39|#x27);")
_ENTITIES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "nbsp": " "}
_CELL = re.compile(r"(?:^|.*?[,;\t])\"((?:[^\"\\]|\"\"|\\.)*)\"[,;]?\s*$")
_TAGS_END = re.compile(prefix.TAG + r"\s*$", re.IGNORECASE)
_BOLD = ("**", "`", "__")


class Line(NamedTuple):
    """`text` without its prefix. `usec` is the kernel's clock; `stamp` a date as it was written.

    `exact`: a raw record or a journal entry, so shapes must begin at its first byte. `anchored`:
    saved text, but what stood before it shows that the kernel's text begins here. `kernel`: False
    where the prefix says that somebody else than the kernel wrote it. `own`: the line had a prefix
    of its own, so it does not continue the one before. `mark`: what a diff or a forum put first.
    `caller`: "T123" or "C0", the task or the CPU that printed it.
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
    head = _RECORD.match(raw)
    if head:
        return _record(raw, head)
    return text_line(raw.strip("\r\n")[:TEXT_MAX])


def is_record(raw: str) -> bool:
    """Whether it is a raw record of the kernel."""
    return _RECORD.match(raw) is not None


def _record(raw: str, head: re.Match[str]) -> Line:
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


def text_line(raw: str) -> Line:
    """A line of text that somebody saved."""
    text = raw
    if "\x1b" in text:
        text = _COLOUR.sub("", text)
    if "#01" in text:  # rsyslog writes a control character as # and three octal digits
        text = text.replace("#012", "\n").replace("#011", "\t")
    if "&" in text:
        text = _ENTITY.sub(lambda found: _ENTITIES.get(found[1], "'"), text)
    if text[-1:] in '",;' and '"' in text:
        cell = _CELL.match(text)
        if cell and cell[1]:
            text = cell[1].replace('""', '"')
    if text[-1:] in " \t>|*`_":
        text = _plain_end(text)
    found = prefix.strip(text)
    record = _RECORD.match(text, found.at) if found.kernel else None
    if record:
        return _record(text, record)
    return Line(
        text[found.at :], found.usec, found.stamp, kernel=found.kernel, own=found.own,
        anchored=found.anchored, mark=found.mark, caller=found.caller,
    )  # fmt: skip


def _plain_end(text: str) -> str:
    """Without the blanks and marks that a forum or a pager put at the end."""
    for _ in range(4):
        bare = text.rstrip()
        tags = _TAGS_END.search(bare, max(0, len(bare) - 100)) if bare[-1:] == ">" else None
        if tags:
            text = bare[: tags.start()]
        elif bare[-2:] in (" |", "\t|"):
            text = bare[:-2]
        else:
            break
    bare = text.rstrip()
    if len(text) - len(bare) > 1 or text[-1:] == "\t":
        text = bare  # one blank may be the end of a name
    for mark in _BOLD:
        if text.endswith(mark) and text.count(mark) % 2 == 0:
            return text[: -len(mark)]
    return text

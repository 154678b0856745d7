"""Pure: one line of any origin -> the kernel's own text, with what its prefix told.

Two kinds come in. A raw record ("prio,seq,usec,flags;text", as /dev/kmsg gives it) is exact: its
facility says who wrote it and its text begins at the first byte. Anything else is a line of text
that somebody saved, quoted or wrapped; its prefix is taken off piece by piece, by shape.
"""

import re
from typing import Any, NamedTuple

TEXT_MAX = 8192  # no record of a kernel is longer; more of a line is not looked at

_RECORD = re.compile(r"(\d{1,4}),(\d{1,20}),(\d{1,20}),([^;\n]{0,200});")
_QUOTE = re.compile(r"[\s>|\u200b\ufeff]+")
_PRIO = re.compile(r"<(\d{1,3})>(?:1 )?")
_CLOCK = re.compile(r"\[\s*(\d{1,9})\.(\d{3,9})\]\s?")
_CALLER = re.compile(r"\[\s*[TC]\d{1,9}\]\s?")
_DATE = re.compile(r"\[([^\[\]]{6,40}\d\d?:\d\d:\d\d[^\[\]]{0,12})\]\s?")
_LEVEL = re.compile(r"(kern|user|daemon|syslog|auth|local\d)\s*:\s*[a-z]+\s*:\s?")
_STAMP = re.compile(
    r"(\w{2,5}\.? +\d{1,2} \d\d:\d\d:\d\d(?:\.\d+)?"
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?: ?[+-]\d\d:?\d\d|Z)?)\s+"
)
_IDENT = re.compile(r"(?:\S+ +)?(kernel|klogd|vmunix)(?:\[\d+\])?: ?(?:- - - )?|\S+ kernel - - - ")
_FOREIGN = re.compile(r"\S+ +[\w./@()-]{1,64}(?:\[\d+\])?: ")


class Line(NamedTuple):
    """`text` without its prefix. `usec` is the kernel's clock; `stamp` a date as it was written.

    `exact`: a raw record or a journal entry, so shapes must begin at its first byte. `kernel`:
    False where the prefix says that somebody else than the kernel wrote it. `own`: the line had a
    prefix of its own, so it does not continue the one before.
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
    raw = raw.rstrip("\r\n")[:TEXT_MAX]
    if raw[:1] == "{" and '"MESSAGE"' in raw:
        entry = _entry(raw)
        if entry is not None:
            return entry
    return _text(raw)


def _record(raw: str, head: re.Match[str]) -> Line:
    end = raw.find("\n", head.end())  # what follows is the record's dictionary
    text = raw[head.end() : end if end >= 0 else None][:TEXT_MAX]
    flags = head[4].partition(",")[0]
    # Facility 0 cannot be written by user space: /dev/kmsg turns it into LOG_USER.
    return Line(
        unescape(text), int(head[3]), exact=True, kernel=int(head[1]) < 8, own=True,
        fragment=flags in ("c", "+"),
    )  # fmt: skip


def _entry(raw: str) -> Line | None:
    """A line of `journalctl -o json`; None where it is no such object."""
    import json  # only for files of this form

    try:
        entry: Any = json.loads(raw)
        message = entry.get("MESSAGE")
        if isinstance(message, list):
            message = bytes(message).decode("utf-8", "surrogateescape")
        usec, wall = entry.get("_SOURCE_MONOTONIC_TIMESTAMP"), entry.get("__REALTIME_TIMESTAMP")
        boot = entry.get("_BOOT_ID")
        return Line(
            message if isinstance(message, str) else "",
            int(usec) if usec else None,
            wall=int(wall) / 1e6 if wall else None,
            boot_id=_dashed(boot) if isinstance(boot, str) else None,
            exact=True,
            kernel=from_kernel(
                entry.get("_TRANSPORT"), entry.get("SYSLOG_FACILITY"),
                entry.get("SYSLOG_IDENTIFIER"),
            ),
            own=True,
        )  # fmt: skip
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _dashed(boot: str) -> str:
    """The journal writes a boot id without dashes, the kernel with them."""
    if len(boot) != 32:
        return boot
    return "-".join((boot[:8], boot[8:12], boot[12:16], boot[16:20], boot[20:]))


def from_kernel(transport: object, facility: object, identifier: object) -> bool:
    """Whether a journal entry is the kernel's own: what user space writes to /dev/kmsg has the
    kernel's transport too, but never its facility."""
    return (
        transport == "kernel"
        and str(facility if facility is not None else 0) == "0"
        and (identifier is None or identifier == "kernel")
    )


def _text(raw: str) -> Line:
    # rsyslog writes a control character as # and three octal digits
    text = raw.replace("#012", "\n").replace("#011", "\t") if "#01" in raw else raw
    usec: int | None = None
    stamp: str | None = None
    kernel, own = True, False
    at = 0
    for _ in range(8):
        found = _QUOTE.match(text, at)
        if found:
            at = found.end()
        char = text[at : at + 1]
        if char == "<":
            found = _PRIO.match(text, at)
            if found and int(found[1]) >= 8:
                kernel = False
        elif char == "[":
            found = _CLOCK.match(text, at)
            if found:
                usec = int(found[1]) * 1_000_000 + int(found[2][:6].ljust(6, "0"))
            else:
                found = _CALLER.match(text, at) or _DATE.match(text, at)
                if found and found.re is _DATE:
                    stamp = found[1]
        else:
            found = _STAMP.match(text, at)
            if found:
                stamp = found[1]
                ident = _IDENT.match(text, found.end())
                if ident:
                    found = ident
                elif _FOREIGN.match(text, found.end()):
                    kernel = False
            else:
                found = _LEVEL.match(text, at)
                if found and found[1] != "kern":
                    kernel = False
                found = found or _IDENT.match(text, at)
        if not found:
            break
        own, at = True, found.end()
    return Line(text[at:], usec, stamp, kernel=kernel, own=own)

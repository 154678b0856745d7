"""Pure: lines of a log that are entries with named fields -> the line of the kernel inside.

JSON objects (of the journal, of dmesg, of the programs that ship logs), one a line or spread over
lines; the journal's export and verbose forms; and quoted-printable text of a mail, whose lines are
put together first. Only for saved text: a raw record passes as it is.
"""

import re
from typing import Any

from watchdog.oom_report import lines, prefix, text
from watchdog.oom_report.lines import Line

FIELDS_MAX = 200
VALUE_MAX = lines.TEXT_MAX
DEPTH_MAX = 4

_MESSAGE_KEYS = (
    "MESSAGE", "message", "msg", "log", "line", "textPayload", "Message", "short_message",
    "full_message", "@message", "event", "text", "body", "_raw", "raw", "content",
)  # fmt: skip
_INNER_KEYS = (
    "_source",
    "jsonPayload",
    "fields",
    "record",
    "data",
    "event",
    "attributes",
    "log",
    "content",
    "result",
    "message",
)
_PROGRAM_KEYS = (
    "SYSLOG_IDENTIFIER", "syslog_identifier", "ident", "appname", "app_name", "app", "program",
    "programname", "process", "logger", "_COMM", "unit", "systemd_unit", "_SYSTEMD_UNIT",
)  # fmt: skip
_HOST_KEYS = ("_HOSTNAME", "hostname", "host")
_KERNEL = frozenset(("kernel", "klogd", "kern", "kmsg", "dmesg", "vmunix", "kern-log", "-", ""))

_HAS_MESSAGE = re.compile(
    r'"(?:MESSAGE|[Mm]essage|msg|log|line|textPayload|short_message|full_message|@message|event|text'
    r'|body|_raw|raw|content)"\s*:'
)
_PRETTY = re.compile(r'\s*"([\w@.-]{1,64})"\s*:\s*(.*?),?\s*$', re.DOTALL)
_FIELD = re.compile(r"(\s*)([A-Z_][A-Z0-9_]{1,63})=(.*)$", re.DOTALL)
_BINARY = re.compile(r"[A-Z_][A-Z0-9_]{1,63}$")
_VERBOSE = re.compile(r"\w{2,4} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S* \S+ \[s=[0-9a-f]+;")
_KEY = re.compile(r"\s*(?:- )?[A-Za-z_][\w.-]{0,60}:(?: |$)|---$")
_SOFT = re.compile(r"=([0-9A-F]{2})")


class Entries:
    """Takes lines as they came and gives back lines of the kernel, with what was told of each."""

    def __init__(self) -> None:
        self._fields: dict[str, str] | None = None
        self._indent = ""
        self._last = ""
        self._binary: str | None = None
        self._soft = ""
        self._printable = False  # quoted-printable was seen
        self._in_yaml = False  # messages in YAML were seen
        self._pretty = False  # objects over several lines were seen
        self._counted = self._in_a_row = 0  # numbers of lines that stand on lines of their own

    @property
    def idle(self) -> bool:
        """Whether nothing is held back."""
        return self._fields is None and not self._soft

    def feed(self, raw: str) -> list[Line]:
        """The lines that are whole now."""
        if raw[:1].isdigit() and lines.is_record(raw):
            return [*self.flush(), lines.read(raw)]
        whole = self._hardened(raw.rstrip("\r\n"))
        if whole is None:
            return []
        if self._numbers(whole):
            return []
        out: list[Line] = []
        several = text.pieces(whole)
        if several is not None:
            out = self._end()
            return out + [text.line(one[: lines.TEXT_MAX]) for one in several if one.strip()]
        if self._fields is not None:
            if self._more(whole):
                return out
            out = self._end()
        if self._document(whole):
            if text.is_yaml(whole):
                return [*out, text.line(whole[: lines.TEXT_MAX])._replace(own=True)]
            return out
        if self._begin(whole) or not whole.strip(" \t,[]{}"):
            return out
        if self._pretty and whole.lstrip()[:1] == '"' and _PRETTY.match(whole):
            return out  # between two objects: the rest of the one around them
        if "{" in whole and "}" in whole[-3:] and _HAS_MESSAGE.search(whole):
            entry = _object(whole)
            if entry is not None:
                return [*out, entry]
        return [*out, text.line(whole[: lines.TEXT_MAX])]

    def flush(self) -> list[Line]:
        """What is held back, as it is."""
        out = self._end()
        soft, self._soft = self._soft, ""
        if soft:
            out.append(text.line(soft))
        return out

    def _document(self, raw: str) -> bool:
        """Whether it is a line of documents in YAML."""
        if ": " in raw[:80] and raw[:1] in " -" + "MTmtl_" and text.is_yaml(raw):
            self._in_yaml = True
            return True
        return self._in_yaml and _KEY.match(raw) is not None

    def _numbers(self, raw: str) -> bool:
        """Whether it is but the number of the next line, as a copy of a web page has them."""
        bare = raw.strip()
        if not bare.isdecimal() or len(bare) > 7:
            return False
        before, self._counted = self._counted, int(bare)
        self._in_a_row = self._in_a_row + 1 if self._counted == before + 1 else 0
        return self._in_a_row > 1  # one alone can be the end of a wrapped name

    # -- quoted-printable -------------------------------------------------------------------------

    def _hardened(self, raw: str) -> str | None:
        """The line with its soft breaks mended; None while it goes on."""
        self._printable = self._printable or "=3D" in raw
        if raw[-1:] == "=" and (self._printable or 60 <= len(raw) <= 78 or self._soft):
            self._soft = (self._soft + raw[:-1])[: lines.TEXT_MAX]
            return None
        raw, self._soft = self._soft + raw, ""
        if not self._printable or "=" not in raw:
            return raw
        plain = raw.encode("utf-8", "surrogateescape").decode("latin-1")
        plain = _SOFT.sub(lambda found: chr(int(found[1], 16)), plain)
        return plain.encode("latin-1").decode("utf-8", "surrogateescape")

    # -- entries of several lines -----------------------------------------------------------------

    def _begin(self, raw: str) -> bool:
        if raw[-1:] == "{" and len(raw) < 80:
            self._fields, self._indent, self._last = {}, "{", ""
            return True
        if _VERBOSE.match(raw):
            self._fields, self._indent, self._last = {}, " ", ""
            return True
        if "MESSAGE" not in raw and "__CURSOR=" not in raw:
            return False
        field = _FIELD.match(raw)
        if field and field[2] in ("MESSAGE", "__CURSOR"):
            self._fields, self._indent, self._last = {}, field[1][:1], ""
            return self._more(raw)
        pretty = _PRETTY.match(raw)
        if pretty and pretty[1] == "MESSAGE":
            self._fields, self._indent, self._last = {}, "{", ""
            return self._more(raw)
        return False

    def _more(self, raw: str) -> bool:
        """Whether this line belongs to the open entry."""
        fields = self._fields
        if fields is None or len(fields) >= FIELDS_MAX:
            return False
        if self._indent == "{":
            return self._more_pretty(raw, fields)
        if self._binary is not None:
            # eight bytes of length, then the text until the next field
            if _FIELD.match(raw) is None and raw.strip():
                self._add(self._binary, raw if fields.get(self._binary) else raw[8:])
                return True
            self._binary = None
        field = _FIELD.match(raw)
        if field and field[1][:1] == self._indent:
            self._last = field[2]
            fields[field[2]] = field[3][:VALUE_MAX]
            return True
        if not self._indent and _BINARY.fullmatch(raw):
            self._binary = raw
            return True
        if self._indent and self._last and raw[:1] == " " and raw.strip():
            self._add(self._last, raw[5 + len(self._last) :])
            return True
        return False

    def _more_pretty(self, raw: str, fields: dict[str, str]) -> bool:
        found = _PRETTY.match(raw)
        if found is None or found[2] in ("{", "[", ""):
            return False
        value = _scalar(found[2])
        if value is not None:
            fields[found[1]], self._pretty = value, True
        return True

    def _add(self, key: str, text: str) -> None:
        if self._fields is not None:
            before = self._fields.get(key)
            self._fields[key] = (text if before is None else f"{before}\n{text}")[:VALUE_MAX]

    def _end(self) -> list[Line]:
        fields, self._fields, self._binary = self._fields, None, None
        found = _of_fields(fields) if fields else None
        return [] if found is None else [found]


_PAIR = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def _text(raw: str) -> str:
    """JSON can escape half a surrogate pair, which is no text: its three bytes instead."""

    def bytes_of(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        half = chr(int(found[1][2:], 16)).encode("utf-8", "surrogatepass")
        return half.decode("utf-8", "surrogateescape")

    return _PAIR.sub(bytes_of, raw) if "\\u" in raw else raw


def _scalar(text: str) -> str | None:
    import json  # only for files of this form

    try:
        value = json.loads(_text(text))
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list):
        return _of_bytes(value)
    return value if isinstance(value, str) else str(value)


def _of_bytes(value: list[Any]) -> str | None:
    """The journal's way to write a text that is not UTF-8."""
    try:
        return bytes(value).decode("utf-8", "surrogateescape")
    except (ValueError, TypeError):
        return None


def _object(raw: str) -> Line | None:
    """A line that holds a JSON object with a message; None where it is none."""
    import json  # only for files of this form

    start = raw.find("{")
    before = prefix.strip(raw[:start])
    if start > prefix.PREFIX_MAX:
        return None
    try:
        entry = json.loads(_text(raw[start : raw.rfind("}") + 1]))
        found = _of_fields(entry) if isinstance(entry, dict) else None
    except (ValueError, RecursionError):
        return None
    return found if found is None or before.kernel else found._replace(kernel=False)


def _of_fields(entry: dict[str, Any]) -> Line | None:
    if "_TRANSPORT" in entry or "__REALTIME_TIMESTAMP" in entry:
        return _journal(entry)
    message, holder = _message(entry, 0)
    if message is None:
        return None
    told = [str(one[key]) for one in (entry, holder) for key in _PROGRAM_KEYS if key in one]
    ours = all(name.lower() in _KERNEL for name in told)
    if "level" in entry and "msg" in entry and not told:
        ours = False  # how programs log in JSON
    found = text.line(message.rstrip("\r\n")[: lines.TEXT_MAX])
    usec = _usec(entry.get("time")) if "pri" in entry else None  # dmesg -J
    named = [str(one[key]) for one in (holder, entry) for key in _HOST_KEYS if key in one]
    return found._replace(
        usec=usec if usec is not None else found.usec, own=True, kernel=found.kernel and ours,
        anchored=found.anchored or usec is not None or (bool(told) and ours),
        host=found.host or (named[0] if named else None),
    )  # fmt: skip


def _usec(seconds: object) -> int | None:
    try:
        return round(float(str(seconds)) * 1_000_000)
    except (ValueError, OverflowError):
        return None


def _message(entry: dict[str, Any], depth: int) -> tuple[str | None, dict[str, Any]]:
    """The text of an entry, and the object in which it stood."""
    for key in _MESSAGE_KEYS:
        value = entry.get(key)
        if isinstance(value, list):
            value = _of_bytes(value)
        if isinstance(value, str):
            return value, entry
    if depth < DEPTH_MAX:
        for key in _INNER_KEYS:
            inner = entry.get(key)
            if isinstance(inner, dict):
                found = _message(inner, depth + 1)
                if found[0] is not None:
                    return found
    return None, entry


def _journal(entry: dict[str, Any]) -> Line | None:
    """An entry of the journal."""
    message = entry.get("MESSAGE", entry.get("message"))  # some shippers rename this field alone
    if isinstance(message, list):
        message = _of_bytes(message)
    usec, wall = entry.get("_SOURCE_MONOTONIC_TIMESTAMP"), entry.get("__REALTIME_TIMESTAMP")
    boot = entry.get("_BOOT_ID")
    try:
        return Line(
            message[: lines.TEXT_MAX] if isinstance(message, str) else "",
            int(usec) if usec else None,
            wall=int(wall) / 1e6 if wall else None,
            boot_id=_dashed(boot) if isinstance(boot, str) else None,
            exact=True,
            kernel=lines.from_kernel(
                entry.get("_TRANSPORT"), entry.get("SYSLOG_FACILITY"),
                entry.get("SYSLOG_IDENTIFIER"),
            ),
            own=True, host=str(entry["_HOSTNAME"]) if "_HOSTNAME" in entry else None,
        )  # fmt: skip
    except (ValueError, TypeError, OverflowError):
        return None


def _dashed(boot: str) -> str:
    """The journal writes a boot id without dashes, the kernel with them."""
    if len(boot) != 32:
        return boot
    return "-".join((boot[:8], boot[8:12], boot[12:16], boot[16:20], boot[20:]))

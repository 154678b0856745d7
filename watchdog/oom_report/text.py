"""Pure: one line of saved text -> the kernel's own, without what others put around it."""

import re

from watchdog.oom_report import lines, prefix

_COLOUR = re.compile(r"\x1b\[[0-9;]{0,16}[mK]")
_ENTITY = re.compile(r"&(?:(lt|gt|amp|quot|apos|nbsp)|#(\d{2,3})|#[xX]([0-9a-fA-F]{2}));")
_ENTITIES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "nbsp": " ", "apos": "'"}
_CELL = re.compile(r"(?:^\s*|[,;\t])\"((?:[^\"\\]|\"\"|\\.)*)\"(?=[,;\t]|\s*$)")
_OF_KERNEL = re.compile(r" kernel: |\[ {0,12}\d{1,9}\.\d{6}\]")
_TAGS_END = re.compile(prefix.TAG + r"\s*$", re.IGNORECASE)
_NUMBER_ALONE = re.compile(r"\s*\d{1,7}\t\s*$")
_YAML = re.compile(r"\s*(?:- )?(?:MESSAGE|message|textPayload|msg|log|line|_raw): +(['\"]?)(.*)$")
# a whole line in quotation marks, as lists are printed: what begins inside is the kernel's
_LISTED = re.compile(r"\s*[\[(]?'(?=[\[<A-Za-z\s])(.*)'[\])]?,?\s*$")
_BREAK = re.compile(r"<br ?/?>", re.IGNORECASE)
_FEED = re.compile(r"(?:\\r)?\\n")
_STAMPED = re.compile(r"\s+(?=(?:<\d{1,2}>)?\[ {0,12}\d{1,9}\.\d{6}\] )")
_START = re.compile(r"\s*" + prefix.START)
_ESCAPED = re.compile(r"\\(?:u00([0-9a-fA-F]{2})|([\"/\\])|(t))")
_BOLD = ("**", "`", "__")


def line(raw: str) -> lines.Line:
    """A line of text that somebody saved."""
    text = raw
    if raw[-1:] == "\t" and _NUMBER_ALONE.match(raw):
        return lines.Line("", own=True)
    if "\x1b" in text:
        text = _COLOUR.sub("", text)
    if "#01" in text:  # rsyslog writes a control character as # and three octal digits
        text = text.replace("#012", "\n").replace("#011", "\t")
    if "&" in text:
        text = _ENTITY.sub(_character, text)
    if '"' in text and (text[-1:] in '",;' or ',"' in text[:80]):
        cells = _CELL.findall(text)
        if cells and (cells[-1] or len(cells) > 1):
            # the one that shows a log of the kernel, else the last
            cell = next((one for one in cells if _OF_KERNEL.search(one)), cells[-1])
            text = _string(cell)
    elif text[-1:] in "',)]":
        listed = _LISTED.match(text)
        text = listed[1] if listed else text
    if ": " in text[:80]:
        text = _yaml(text)
    if text[-1:] in " \t>|*`_\u2502\u2503\u2551":
        text = _plain_end(text)
    found = prefix.strip(text)
    record = lines.RECORD.match(text, found.at) if found.kernel else None
    if record:
        return lines.record(text, record)
    return lines.Line(
        text[found.at :], found.usec, found.stamp, kernel=found.kernel, own=found.own,
        anchored=found.anchored, mark=found.mark, caller=found.caller, host=found.host,
        raw=raw,
    )  # fmt: skip


def pieces(raw: str) -> list[str] | None:
    """The lines of the kernel that somebody put into one: with tags, as a string of a program, or
    simply one behind the other. None where it is one."""
    found: list[str] = []
    if "<br" in raw or "<BR" in raw:
        found = _BREAK.split(raw)
        if len([one for one in found if one.strip()]) > 1:
            return found
    if raw.count("\\n") >= 3 and '"_TRANSPORT"' not in raw:
        found = _FEED.split(raw)
        if any(_opens(one) for one in found[1:]):
            found[0] = found[0].rpartition(': "')[2]
            found[-1] = re.split(r'(?<!\\)"', found[-1], maxsplit=1)[0]
            return [_ESCAPED.sub(_unescaped, one) for one in found]
    if raw.count("] ") > 3:
        found = _STAMPED.split(raw)
        if len(found) > 3:
            return found
    return None


def _opens(raw: str) -> bool:
    """Whether a line of a log, or of a report, begins here."""
    return prefix.strip(raw[: prefix.PREFIX_MAX]).anchored or _START.match(raw) is not None


def _unescaped(found: re.Match[str]) -> str:
    if found[1]:
        return chr(int(found[1], 16))
    return "\t" if found[3] else found[2]


def _character(found: re.Match[str]) -> str:
    if found[1]:
        return _ENTITIES[found[1]]
    code = int(found[2]) if found[2] else int(found[3], 16)
    return chr(code) if 32 <= code < 256 else " "


def _string(cell: str) -> str:
    """What a cell of a table or a string of a program says."""
    if "\\\\" in cell or '\\"' in cell or "\\u" in cell:
        import json  # only for files of this form

        try:
            return str(json.loads(f'"{cell}"', strict=False))
        except ValueError:
            pass
    return cell.replace('""', '"')


def is_yaml(raw: str) -> bool:
    """Whether it is a message in a document in YAML."""
    found = _YAML.match(raw)
    return found is not None and found[2][:1] not in "|>"


def _yaml(text: str) -> str:
    """The value of a message, where each is a key of a document in YAML."""
    found = _YAML.match(text)
    if found is None:
        return text
    value = found[2]
    if not found[1]:
        return value
    bare = value.rstrip()
    if bare[-1:] != found[1]:
        return value
    if found[1] == "'":
        return bare[:-1].replace("''", "'")
    return bare[:-1].replace('\\"', '"').replace("\\\\", "\\")


def _plain_end(text: str) -> str:
    """Without the blanks and marks that a forum or a pager put at the end."""
    for _ in range(4):
        bare = text.rstrip()
        tags = _TAGS_END.search(bare, max(0, len(bare) - 100)) if bare[-1:] == ">" else None
        if tags:
            text = bare[: tags.start()]
        elif bare[-2:-1] in (" ", "\t") and bare[-1:] in "|\u2502\u2503\u2551":
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

"""Pure: one line of saved text -> the kernel's own, without what others put around it."""

import re

from watchdog.oom_report import lines, prefix

_COLOUR = re.compile(r"\x1b\[[0-9;]{0,16}[mK]")
_ENTITY = re.compile(r"&(lt|gt|amp|quot|apos|nbsp|#0?39|#x27);")
_ENTITIES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "nbsp": " "}
_CELL = re.compile(r"(?:^|.*?[,;\t])\"((?:[^\"\\]|\"\"|\\.)*)\"[,;]?\s*$")
_TAGS_END = re.compile(prefix.TAG + r"\s*$", re.IGNORECASE)
_BOLD = ("**", "`", "__")


def line(raw: str) -> lines.Line:
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
    record = lines.RECORD.match(text, found.at) if found.kernel else None
    if record:
        return lines.record(text, record)
    return lines.Line(
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

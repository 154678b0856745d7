"""Pure: what mail programs, pagers and forums broke into several lines, put together again.

Only for saved text: a raw record is whole. A line without a prefix of its own belongs to the
prefixed line before it; where no line has a prefix, a shape that is visibly unfinished waits for
its end.
"""

import re
from collections.abc import Callable
from itertools import product

from watchdog.oom_report import kill, limits
from watchdog.oom_report.lines import Line
from watchdog.oom_report.prefix import START

PIECES_MAX = 12
JOINED_MAX = 4096
LINE_MAX = 1 << 20

_START = re.compile(r"\s*" + START)
_MESSAGE_ALONE = re.compile(r"(?:memory|MPOL_BIND\)|_task\)):\s*$")
_KILLED = re.compile(r"[Kk]ill(?:ed)? process \d")
_REPORT = re.compile(r"Killed process \d|Out of memory: | invoked oom-killer: ")
_KILL_TAIL = re.compile(r"\s*(?:total-vm|anon-rss|file-rss|shmem-rss|UID|pgtables|oom_score_adj):")


class Unwrap:
    """Takes lines and gives back whole ones; holds one back until the next has come.

    `unfinished` tells of a text whether its shape wants more.
    """

    def __init__(self, unfinished: Callable[[str], bool], row: Callable[[str], bool]) -> None:
        self._unfinished = unfinished
        self._row = row
        self._held: Line | None = None
        self._pieces: list[str] = []
        self._raws: list[str] = []
        # a terminal breaks at one column and drops nothing, a mail program at blanks before it
        self._edge = self._at_edge = self._before_edge = self._widest = self._at_blank = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is held back."""
        return self._held is None

    @property
    def text(self) -> str:
        """What is held back."""
        return " ".join(self._pieces)

    def drop(self) -> None:
        """Forget what is held back: nobody wants it."""
        self._held, self._pieces = None, []

    def feed(self, line: Line) -> list[Line]:
        """The lines that are whole now."""
        held = self._held
        if held is not None and held.mark and not line.mark and line.text[:1] == held.mark:
            line = line._replace(text=line.text[1:].lstrip())  # a diff marks every piece
        if line.exact:
            return [*self.flush(), line]
        self._widest = max(self._widest, len(line.raw) if line.raw[:1] != ">" else LINE_MAX)
        if self._held is not None and self._continues(line):
            self._measure(len(self._raws[-1]))
            self._at_blank += self._raws[-1][-1:] == " " or line.raw[:1] == " "
            self._pieces.append(line.text)
            self._raws.append(line.raw)
            return []
        out = self.flush()
        self._held, self._pieces, self._raws = line, [line.text], [line.raw]
        return out

    def _measure(self, width: int) -> None:
        """A line that went on was so wide."""
        if width > self._edge:
            self._before_edge += self._at_edge
            self._edge, self._at_edge = width, 0
        if width == self._edge:
            self._at_edge += 1
        else:
            self._before_edge += 1

    @property
    def _hard(self) -> bool:
        seen = self._at_edge >= 3 and self._at_blank and self._at_edge > 3 * self._before_edge
        return bool(seen) and self._widest == self._edge >= 60

    def flush(self) -> list[Line]:
        """What is held back, as it is."""
        held, pieces = self._held, self._pieces
        self._held, self._pieces = None, []
        if held is None:
            return []
        return [held._replace(text=self._join(pieces))]

    def _continues(self, line: Line) -> bool:
        if line.own or self._held is None or len(self._pieces) >= PIECES_MAX:
            return False
        text = " ".join(self._pieces)
        if not text.strip():
            return self._held.own  # a stamp alone, its text on the next line
        if self._pieces[-1].endswith("="):
            return True  # quoted-printable
        if _MESSAGE_ALONE.search(text) and _KILLED.match(line.text):
            return True
        if _REPORT.search(line.text):
            return False
        if not line.text.strip() or len(text) > JOINED_MAX or _START.match(line.text):
            return False
        if _KILL_TAIL.match(line.text) and "illed process" in text:
            return True
        return self._unfinished(self._join(self._pieces)) or self._held.own

    def _at_column(self, pieces: list[str]) -> str:
        """Broken by a terminal: nothing is missing but a blank that a copy did not take along."""
        joined, raws = "", self._raws
        for at, piece in enumerate(pieces):
            if at and len(raws[at - 1]) < self._edge:
                joined += " " * (self._edge - len(raws[at - 1]))
            whole = _all_of(raws[at], piece)
            joined += whole.lstrip() if at == 0 else whole
        return joined

    def _join(self, pieces: list[str]) -> str:
        if len(pieces) == 1:
            return pieces[0]
        if self._hard and len(self._raws[0]) >= self._edge - 2:
            return self._at_column(pieces)
        if pieces[0].rstrip().endswith(":") and pieces[0].startswith("Memory cgroup stats"):
            return "\n".join(pieces)
        text = " ".join(pieces)
        if "ill process" in text or "illed process" in text or text.startswith("Task in /"):
            return _best(pieces)
        if "invoked" in text and len(pieces) <= 4:
            return _best(pieces)
        if "oom-kill:" in text:
            return "".join(piece.strip() if i else piece for i, piece in enumerate(pieces)).strip()
        joined = pieces[0]
        for piece in pieces[1:]:
            if joined.endswith("="):
                joined = joined[:-1] + piece
            elif self._row(joined) or joined[-1:].isspace() or piece[:1].isspace():
                joined += piece  # a whole row: the break was inside its name
            else:
                joined += " " + piece
        return joined


def _all_of(raw: str, text: str) -> str:
    """The text with the blanks around it, where nothing else stood there."""
    at = raw.find(text)
    if at < 0:
        return text
    before, after = raw[:at], raw[at + len(text) :]
    return (before if before.isspace() else "") + text + (after if after.isspace() else "")


def _best(pieces: list[str]) -> str:
    """A line whose form is known: each seam may have been a blank or the middle of a word."""
    head, rest = pieces[: -4 or None], pieces[-4:]
    if len(pieces) <= 4:
        head, rest = pieces[:1], pieces[1:]
    start = " ".join(piece.strip() for piece in head)
    best, best_score = "", -1
    for seams in product((" ", ""), repeat=len(rest)):
        text = start + "".join(s + p.strip() for s, p in zip(seams, rest, strict=True))
        score = _score(text)
        if score > best_score or not best:
            best, best_score = text, score
    return best


def _score(text: str) -> int:
    if text.startswith("Task in /"):
        found = limits.task_in(text)
        if found is None:
            return 0
        # a cgroup's name may hold a blank, and most do not
        return (
            1 + 2 * found[1].startswith("/") + (" " not in found[1]) + (" " not in (found[0] or ""))
        )
    if "invoked" in text:
        return _head_score(kill.head(text, False))
    if kill.selected(text, False) is not None or kill.sharing(text, False) is not None:
        return 1
    return kill.kill_score(kill.kill(text, False))


def _head_score(found: kill.Head | None) -> int:
    return 0 if found is None else 1 + sum(value is not None for value in found)

"""Pure: what mail programs, pagers and forums broke into several lines, put together again.

Only for saved text: a raw record is whole. A line without a prefix of its own belongs to the
prefixed line before it; where no line has a prefix, a shape that is visibly unfinished waits for
its end.
"""

import re
from collections.abc import Callable
from itertools import product

from watchdog.oom_report import kill
from watchdog.oom_report.lines import Line
from watchdog.oom_report.prefix import START

PIECES_MAX = 12
JOINED_MAX = 4096

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
        if self._held is not None and self._continues(line):
            self._pieces.append(line.text)
            return []
        out = self.flush()
        self._held, self._pieces = line, [line.text]
        return out

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

    def _join(self, pieces: list[str]) -> str:
        if len(pieces) == 1:
            return pieces[0]
        if pieces[0].rstrip().endswith(":") and pieces[0].startswith("Memory cgroup stats"):
            return "\n".join(pieces)
        text = " ".join(pieces)
        if "ill process" in text or "illed process" in text or text.startswith("Task in /"):
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
        found = kill.task_in(text)
        return 0 if found is None else 1 + found[1].startswith("/")
    if kill.selected(text, False) is not None or kill.sharing(text, False) is not None:
        return 1
    return kill.kill_score(kill.kill(text, False))

"""Pure: in how many ways a regex can be tried on a text that is written to make it slow.

Each repeat without an end can stop at any place behind the one before it, and a search
begins at any place too. So on n characters the last of k such places is tried in at most
C(n + k, k) ways, times the ways of each choice, "?" and {a,b}. Some come cheaper:

- A place that a literal text stands behind is left only where that text is: of p places in a row
  one, if it can overlap itself by a shift of p at the least ("java": 4, "xx": 1).
- A repeat that cannot match the character behind it (`[0-9]+-`, `[^/]+/`) stops at one place only.
  It is a way to go, and counts once, where no other repeat follows.
- The last repeat, with nothing behind it that could fail, is never tried again.
"""

import re
from math import comb

# {a,b} with more ways than this counts as a repeat without an end.
FEW = 16
# A longer literal counts as one of this length.
PERIOD_MAX = 8
_BOUNDS = re.compile(r"\{(\d*)(,?)(\d*)\}")
_FLAGS = re.compile(r"\(\?([aiLmsux]*)(?:-[imsx]+)?[:)]")

_NESTED = "a repeat around a repeat or a choice can take for ever; write it without"
_BACK_REFERENCE = "a back-reference can take for ever; write it without"
VERBOSE = "the flag x (blanks and comments) is not taken here; write it without"


class _Group:
    """What was seen of a group: does it hold a repeat or a choice, how many ways are there in it?

    `places` has for each place where a branch can go on in many ways of how many in a row one is
    left. Of a sequence they add up; of a choice the worst counts. `few` are the other ways: those
    of a sequence multiply, those of a choice add up.
    """

    __slots__ = ("before", "busy", "few", "few_before", "loose", "places", "run", "sure_at",
                 "sure_before")  # fmt: skip

    def __init__(self, places: list[int]) -> None:
        self.busy = False
        self.before: list[int] = []  # of the branches before this one
        self.few_before, self.sure_before = 0, False
        self._begin(places)

    def _begin(self, places: list[int]) -> None:
        self.places, self.few = places, 1
        self.run = ""  # the literal text that was just read
        self.loose = 0  # repeats that nothing which could fail has followed yet
        self.sure_at = -1  # behind how many places the last repeat stands that stops at one only

    @property
    def sure(self) -> bool:
        """Has a repeat that stops at one place only come after the last place?"""
        return self.sure_at >= len(self.places)

    def literal(self, char: str) -> None:
        self.run += char
        self.loose = 0

    def end_run(self) -> None:
        # Behind a repeat that stops at one place only, many places share the text.
        if self.run and self.places and not self.sure:
            self.places[-1] = max(self.places[-1], _period(self.run))
        self.run = ""

    def required(self) -> None:
        """Something that is no literal comes, and can fail."""
        self.end_run()
        self.loose = 0

    def repeat(self, ways: float, sure: bool) -> None:
        self.busy = True
        if ways <= FEW:
            self.few *= int(ways)
        elif sure:
            self.sure_at = len(self.places)
        else:
            self.places.append(1)
            self.loose += 1

    def branch(self, places: list[int], top: bool) -> None:
        self.busy = True
        self.before, self.few_before, self.sure_before = self.whole(top)
        self._begin(places)

    def whole(self, top: bool) -> tuple[list[int], int, bool]:
        """(places, few, sure) of all branches."""
        self.end_run()
        if top and self.loose:
            del self.places[-self.loose :]
        sure = self.sure
        if not self.few_before:
            return self.places, self.few, sure
        one, other = sorted((self.before, self.places), key=len)
        places = [min(pair) for pair in zip(one, other, strict=False)] + other[len(one) :]
        return places, self.few_before + self.few, self.sure_before or sure

    def take(self, inner: "_Group") -> None:
        self.busy |= inner.busy
        places, few, sure = inner.whole(False)
        self.places += places
        self.few *= few
        if sure:
            self.sure_at = len(self.places)


class Tries:
    """One pass over a regex that is known to compile, and has no flag x: where its repeats stand.

    `flaw` is why it is refused; what comes after that is not looked at. `asks_end`: more text
    behind what is seen could undo a match. `asks_word`: it could where it goes on with the word.
    """

    def __init__(self, pattern: str) -> None:
        self.flaw: str | None = None
        self.asks_end = self.asks_word = False
        anchored = pattern.startswith(("^", r"\A"))
        groups = [_Group([] if anchored else [1])]
        at = 0
        while at < len(pattern) and self.flaw is None:
            char, begin, group = pattern[at], at, groups[-1]
            if char == "(":
                self.flaw = _group_flaw(pattern, at)
                self.asks_end |= pattern.startswith(("(?!", "(?>"), at)
                group.required()
                groups.append(_Group([]))
                at += 2 if pattern.startswith("(?", at) else 1
                continue
            if char == "|":
                group.branch([] if len(groups) > 1 else [1], len(groups) == 1)
                at += 1
                continue
            busy = False
            if char == ")":
                inner = groups.pop()
                busy, group = inner.busy, groups[-1]
                group.take(inner)
                at += 1
            else:
                at = _atom_end(pattern, at)
            atom, literal = pattern[begin:at], _literal(pattern, begin, at)
            if char == "\\":
                if atom[1].isdigit() and atom[1] != "0":
                    self.flaw = _BACK_REFERENCE
                self.asks_word |= atom[1] in "bB"
                self.asks_end |= atom[1] == "Z"
            self.asks_end |= char == "$"
            least, most, length = _repeat(pattern, at)
            if not length:
                if literal:
                    group.literal(literal)
                elif char != ")":
                    group.required()
                continue
            at += length
            if pattern[at : at + 1] in ("?", "+"):  # that only changes its kind
                self.asks_end |= pattern[at] == "+"
                at += 1
            if most > 1 and busy:
                self.flaw = _NESTED
            if least:
                group.required()
            else:
                group.end_run()
            sure = most - least >= FEW and char != ")" and _ends_surely(atom, pattern, at)
            group.repeat(most - least + 1, sure)
        self.places, self.few, sure = groups[0].whole(True)
        if sure:
            self.places = [*self.places, 1]

    def ways(self, length: int) -> float:
        """In how many ways at most it is tried on so many characters."""
        most, left = 1.0, 1
        for number, period in enumerate(self.places, 1):
            most = max(most, comb(length + number, number) / left)
            left *= period
        return most * self.few


def _period(text: str) -> int:
    """By how many characters two places of a literal lie apart at the least, in any case."""
    text = text.lower()
    if not text.isascii():
        return 1
    shifts = range(1, len(text))
    return min(next((by for by in shifts if text.startswith(text[by:])), len(text)), PERIOD_MAX)


def _ends_surely(atom: str, pattern: str, at: int) -> bool:
    """Does a repeat of one character end where it must, by the literals behind it?"""
    while True:
        if pattern.startswith(")", at):
            end, literal = at + 1, None
        else:
            end = _atom_end(pattern, at)
            literal = _literal(pattern, at, end)
            if literal is None or _may_be(atom, literal):
                return False
        least, most, length = _repeat(pattern, end)
        if literal and (least or not length):
            return True
        if length and most > 1 and not literal:
            return False  # a group that begins again
        at = end + length
        if length:
            at += pattern[at : at + 1] in ("?", "+")


# What a letter of ASCII matches as well where case does not count.
_FOLDED = {"k": "\u212a", "s": "\u017f", "i": "\u0130\u0131"}


def _may_be(atom: str, char: str) -> bool:
    """Can the atom match the literal character, under any flags?"""
    if not char.isascii():
        return True
    faces = {char, char.lower(), char.upper(), *_FOLDED.get(char.lower(), "")}
    return any(
        re.compile(atom, flags).fullmatch(face)
        for flags in (0, re.A, re.I | re.S, re.A | re.I | re.S)
        for face in faces
    )


_ESCAPE = re.compile(r"\\(?:x..|u.{4}|U.{8}|N\{[^}]*\}|0[0-7]{0,2}|.)", re.DOTALL)


def _atom_end(pattern: str, at: int) -> int:
    """Behind the escape, the class or the single character that begins at `at`."""
    if pattern.startswith("[", at):
        return _class_end(pattern, at)
    escape = _ESCAPE.match(pattern, at)
    return escape.end() if escape else at + 1


def _literal(pattern: str, at: int, end: int) -> str | None:
    """The character that an atom stands for, if it is a plain one."""
    atom = pattern[at:end]
    if atom.startswith("\\"):
        return atom[1] if len(atom) == 2 and not atom[1].isalnum() else None
    return atom if len(atom) == 1 and atom not in ".^$()|" else None


def _group_flaw(pattern: str, at: int) -> str | None:
    """Most of what begins with "(" is ordinary."""
    flags = _FLAGS.match(pattern, at)
    if pattern.startswith(("(?P=", "(?("), at):
        return _BACK_REFERENCE
    if pattern.startswith("(?#", at):
        return "a comment is not taken here; write it without"
    return VERBOSE if flags and "x" in flags[1] else None


def _class_end(pattern: str, at: int) -> int:
    """Behind the "]" of the class that begins at `at`; the first "]" in it is a plain one."""
    at += 2 if pattern.startswith("[^", at) else 1
    at += pattern[at : at + 1] == "]"
    while pattern[at : at + 1] not in ("]", ""):
        at += 2 if pattern[at] == "\\" else 1
    return at + 1


def _repeat(pattern: str, at: int) -> tuple[float, float, int]:
    """(how often at least, at most, length) of the repeat at `at`; length 0: none."""
    char = pattern[at : at + 1]
    if char in ("*", "+"):
        return char == "+", float("inf"), 1
    if char == "?":
        return 0, 1, 1
    found = _BOUNDS.match(pattern, at) if char == "{" else None
    if not found or not (found[1] or found[2]):
        return 0, 0, 0
    least = int(found[1] or 0)
    if not found[2]:
        return least, least, len(found[0])
    return least, int(found[3]) if found[3] else float("inf"), len(found[0])

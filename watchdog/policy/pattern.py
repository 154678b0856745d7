"""Pure: patterns of names. Globs as in the shell, always case sensitive; `~` begins a regex.

A regex meets text that anybody can write (a command line), and there is no clock in it: what can
take for ever is refused when the configuration is read (a repeat inside a repeat or a choice inside
a repeat, a back-reference), and what takes long on a long text sees only its beginning.

How long: each repeat without an end can stop at any place behind the one before it, and a search
begins at any place too, so on n characters k repeats are tried in at most C(n, k + 1) ways (C(n, k)
behind a "^"), times the ways of each choice, "?" and {a,b}. `sight` keeps that below WAYS_MAX.
"""

import re
from fnmatch import translate
from functools import lru_cache
from math import comb

TEXT_MAX = 1024
# A few hundredths of a second. Who could see less than this many characters is refused.
WAYS_MAX, SIGHT_LEAST = 4_000_000, 64
# {a,b} with more ways than this counts as a repeat without an end.
FEW = 16
_BOUNDS = re.compile(r"\{(\d*)(,?)(\d*)\}")
_FLAGS = re.compile(r"\(\?([aiLmsux]*)(?:-[imsx]+)?[:)]")


@lru_cache(maxsize=1024)
def _compiled(pattern: str, regex: bool) -> re.Pattern[str]:
    return re.compile(pattern if regex else translate(pattern))


def is_regex(pattern: str) -> bool:
    """Does the pattern begin with "~"?"""
    return pattern.startswith("~")


def is_literal(pattern: str) -> bool:
    """Can the pattern match only itself?"""
    return not any(char in pattern for char in "*?[") and not is_regex(pattern)


def hit(pattern: str, text: str) -> bool:
    """Does the glob match the whole text?"""
    return _compiled(pattern, False).match(text) is not None


@lru_cache(maxsize=2048)
def first(patterns: tuple[str, ...], text: str) -> str | None:
    """The first glob that matches the whole text."""
    return next((pattern for pattern in patterns if hit(pattern, text)), None)


def first_cmdline(patterns: tuple[str, ...], text: str) -> str | None:
    """The first pattern that matches: a glob the whole line, a regex any part of it."""
    text = text[:TEXT_MAX]
    for pattern in patterns:
        if is_regex(pattern):
            regex = pattern[1:]
            if _compiled(regex, True).search(text[: sight(regex)]):
                return pattern
        elif hit(pattern, text):
            return pattern
    return None


def regex_flaw(pattern: str) -> str | None:
    """Why a regex (without its "~") is refused, or None."""
    try:
        found = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"not a regular expression: {error}"
    flaw = _VERBOSE if found.flags & re.VERBOSE else _Scan(pattern).flaw
    if flaw is None and sight(pattern) < SIGHT_LEAST:
        return 'so many of "*", "+", "{n,}", "?" and "|" can take for ever; write it with fewer'
    return flaw


@lru_cache(maxsize=1024)
def sight(pattern: str) -> int:
    """How many characters of a text a regex that was taken gets to see."""
    scan = _Scan(pattern)
    least, most = 0, TEXT_MAX
    while least < most:  # the most that keep within the bound
        middle = (least + most + 1) // 2
        if scan.ways(middle) <= WAYS_MAX:
            least = middle
        else:
            most = middle - 1
    return least


_NESTED = "a repeat around a repeat or a choice can take for ever; write it without"
_BACK_REFERENCE = "a back-reference can take for ever; write it without"
_VERBOSE = "the flag x (blanks and comments) is not taken here; write it without"


class _Group:
    """What was seen of a group: does it hold a repeat or a choice, how many ways are there in it?

    Of a sequence repeats add up and ways multiply; of a choice the worst and the sum count.
    """

    __slots__ = ("busy", "few", "few_before", "open_before", "open_repeats")

    def __init__(self) -> None:
        self.busy = False
        self.open_repeats, self.few = 0, 1  # of this branch
        self.open_before, self.few_before = 0, 0  # of those before it

    def repeat(self, ways: float) -> None:
        self.busy = True
        if ways > FEW:
            self.open_repeats += 1
        else:
            self.few *= int(ways)

    def branch(self) -> None:
        self.busy = True
        self.open_before, self.few_before = self.whole()
        self.open_repeats, self.few = 0, 1

    def whole(self) -> tuple[int, int]:
        return max(self.open_before, self.open_repeats), self.few_before + self.few

    def take(self, inner: "_Group") -> None:
        self.busy |= inner.busy
        open_repeats, few = inner.whole()
        self.open_repeats += open_repeats
        self.few *= few


class _Scan:
    """One pass over a regex that is known to compile, and has no flag x: where its repeats stand.

    `flaw` is why it is refused; what comes after that is not looked at.
    """

    def __init__(self, pattern: str) -> None:
        self.flaw: str | None = None
        groups = [_Group()]
        at, last_busy = 0, False  # last_busy: does the atom before hold a repeat or a choice?
        while at < len(pattern) and self.flaw is None:
            char = pattern[at]
            busy = False
            if char == "\\":
                after = pattern[at + 1 : at + 2]
                if after.isdigit() and after != "0":
                    self.flaw = _BACK_REFERENCE
                at += 2
            elif char == "[":
                at = _class_end(pattern, at)
            elif char == "(":
                self.flaw = _group_flaw(pattern, at)
                groups.append(_Group())
                at += 2 if pattern.startswith("(?", at) else 1
            elif char == ")":
                inner = groups.pop()
                busy = inner.busy
                groups[-1].take(inner)
                at += 1
            elif char == "|":
                groups[-1].branch()
                at += 1
            else:
                least, most, length = _repeat(pattern, at)
                at += length or 1
                if length:
                    if most > 1 and last_busy:
                        self.flaw = _NESTED
                    groups[-1].repeat(most - least + 1)
                    busy = True
                    # "?" or "+" right after a repeat only changes its kind
                    at += pattern[at : at + 1] in ("?", "+")
            last_busy = busy
        whole = groups[0]
        open_repeats, self.few = whole.whole()
        # A "^" before a choice is the start of its first branch alone.
        anchored = pattern.startswith(("^", r"\A")) and not whole.few_before
        self.places = open_repeats + (not anchored)

    def ways(self, length: int) -> int:
        """In how many ways at most it is tried on so many characters."""
        return comb(length + self.places, self.places) * self.few


def _group_flaw(pattern: str, at: int) -> str | None:
    """Most of what begins with "(" is ordinary."""
    flags = _FLAGS.match(pattern, at)
    if pattern.startswith(("(?P=", "(?("), at):
        return _BACK_REFERENCE
    if pattern.startswith("(?#", at):
        return "a comment is not taken here; write it without"
    return _VERBOSE if flags and "x" in flags[1] else None


def _class_end(pattern: str, at: int) -> int:
    """Behind the "]" of the class that begins at `at`; the first "]" in it is a plain one."""
    at += 2 if pattern.startswith("[^", at) else 1
    at += pattern[at : at + 1] == "]"
    while pattern[at : at + 1] not in ("]", ""):
        at += 2 if pattern[at] == "\\" else 1
    return at + 1


def _repeat(pattern: str, at: int) -> tuple[float, float, int]:
    """(how often at least, at most, length) of the repeat at `at`; length 0: none."""
    char = pattern[at]
    if char in "*+":
        return 0, float("inf"), 1
    if char == "?":
        return 0, 1, 1
    found = _BOUNDS.match(pattern, at) if char == "{" else None
    if not found or not (found[1] or found[2]):
        return 0, 0, 0
    least = int(found[1] or 0)
    if not found[2]:
        return least, least, len(found[0])
    return least, int(found[3]) if found[3] else float("inf"), len(found[0])

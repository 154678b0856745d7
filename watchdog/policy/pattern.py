"""Pure: patterns of names. Globs as in the shell, always case sensitive; `~` begins a regex.

A regex meets text that anybody can write (a command line), and there is no clock in it: what can
take for ever is refused when the configuration is read (a repeat inside a repeat or a choice inside
a repeat, a back-reference), and what takes long on a long text sees only its beginning.

`sight` keeps the ways to try it (room tries) below WAYS_MAX. Of a text that is cut there the end is
not known, and what asks for the end does not match: a cut never adds a match.
"""

import re
from fnmatch import translate
from functools import lru_cache
from typing import NamedTuple

from watchdog.policy.tries import VERBOSE, Tries

# What is read of a command line; one of this length may have been cut.
TEXT_MAX = 1024
# A few hundredths of a second. Who could see less than this many characters is refused.
WAYS_MAX, SIGHT_LEAST = 4_000_000, 64


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
    cut = len(text) >= TEXT_MAX
    text = text[:TEXT_MAX]
    for pattern in patterns:
        if is_regex(pattern):
            if _found(_plan(pattern[1:]), text, cut):
                return pattern
        elif (pattern.endswith("*") or not cut) and hit(pattern, text):
            return pattern
    return None


def _found(plan: "_Plan", text: str, cut: bool) -> bool:
    end = min(len(text), plan.sight)
    if cut or end < len(text):
        if plan.asks_end:
            return False
        # A boundary is what it is in the whole text where no word is cut.
        while plan.asks_word and end and (end == len(text) or _in_word(text[end])):
            end -= 1
    return _compiled(plan.searched, True).search(text, 0, end) is not None


def _in_word(char: str) -> bool:
    return char.isalnum() or char == "_"


def regex_flaw(pattern: str) -> str | None:
    """Why a regex (without its "~") is refused, or None."""
    try:
        found = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"not a regular expression: {error}"
    flaw = VERBOSE if found.flags & re.VERBOSE else Tries(_trimmed(pattern)).flaw
    if flaw is None and sight(pattern) < SIGHT_LEAST:
        return _MANY
    return flaw


def sight(pattern: str) -> int:
    """How many characters of a text a regex that was taken gets to see."""
    return _plan(pattern).sight


def asks_end(pattern: str) -> bool:
    """Does a regex that was taken match no text that is longer than its sight?"""
    return _plan(pattern).asks_end


class _Plan(NamedTuple):
    searched: str
    sight: int
    asks_end: bool
    asks_word: bool


@lru_cache(maxsize=1024)
def _plan(pattern: str) -> _Plan:
    searched = _trimmed(pattern)
    scan = Tries(searched)
    least, most = 0, TEXT_MAX
    while least < most:  # the most that keep within the bound
        middle = (least + most + 1) // 2
        if scan.ways(middle) <= WAYS_MAX:
            least = middle
        else:
            most = middle - 1
    return _Plan(searched, least, scan.asks_end, scan.asks_word)


def _trimmed(pattern: str) -> str:
    """The same search without ".*" at its ends: a text to be matched holds no line feed."""
    head = _HEAD.match(pattern)
    if head:
        pattern = (head[1] or "") + pattern[head.end() :]
    tail = _TAIL.search(pattern)
    if tail and len(tail[1]) % 2 == 0:  # else the "." is a plain one
        pattern = pattern[: tail.end(1)]
    return pattern


_HEAD = re.compile(r"(\(\?[aisu]+\))?\.\*\??(?![*+?{])")
_TAIL = re.compile(r"(\\*)\.\*\??\$?\Z")
_MANY = (
    'so many of "*", "+", "{n,}", "?" and "|" can take for ever; write it with fewer, behind a '
    '"^", or with longer words between them'
)

"""Pure: patterns of names. Globs as in the shell, always case sensitive; `~` begins a regex.

A regex meets text that anybody can write (a command line), so what can take for ever on it is
refused when the configuration is read: a repeat inside a repeat or a choice inside a repeat, a
back-reference, and more than four repeats without an end.
"""

import re
from fnmatch import translate
from functools import lru_cache

TEXT_MAX = 1024
OPEN_REPEATS_MAX = 4
_BOUNDS = re.compile(r"\{(\d*)(,?)(\d*)\}")


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
            if _compiled(pattern[1:], True).search(text):
                return pattern
        elif hit(pattern, text):
            return pattern
    return None


def regex_flaw(pattern: str) -> str | None:
    """Why a regex (without its "~") is refused, or None."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"not a regular expression: {error}"
    found = _Scan(pattern)
    if found.nested:
        return "a repeat around a repeat or a choice can take for ever; write it without"
    if found.back_reference:
        return "a back-reference can take for ever; write it without"
    if found.open_repeats > OPEN_REPEATS_MAX:
        return f'more than {OPEN_REPEATS_MAX} of "*", "+" and "{{n,}}" can take for ever'
    return None


class _Scan:
    """One pass over a regex that is known to compile: where its repeats stand."""

    def __init__(self, pattern: str) -> None:
        self.nested = self.back_reference = False
        self.open_repeats = 0
        groups = [False]  # for each open group: does it hold a repeat or a choice?
        at, last_busy = 0, False  # last_busy: the same of the atom before
        while at < len(pattern):
            char = pattern[at]
            busy = False
            if char == "\\":
                after = pattern[at + 1 : at + 2]
                self.back_reference |= after.isdigit() and after != "0"
                at += 2
            elif char == "[":
                at = _class_end(pattern, at)
            elif char == "(":
                self.back_reference |= pattern.startswith(("(?P=", "(?("), at)
                groups.append(False)
                at += 1
            elif char == ")":
                busy = groups.pop()
                groups[-1] |= busy
                at += 1
            elif char == "|":
                groups[-1] = True
                at += 1
            else:
                most, open_end, length = _repeat(pattern, at)
                at += length or 1
                if length:
                    self.open_repeats += open_end
                    self.nested |= most > 1 and last_busy
                    groups[-1] = busy = True
                    # "?" or "+" right after a repeat only changes its kind
                    at += pattern[at : at + 1] in ("?", "+")
            last_busy = busy


def _class_end(pattern: str, at: int) -> int:
    """Behind the "]" of the class that begins at `at`; the first "]" in it is a plain one."""
    at += 2 if pattern.startswith("[^", at) else 1
    at += pattern[at : at + 1] == "]"
    while pattern[at : at + 1] not in ("]", ""):
        at += 2 if pattern[at] == "\\" else 1
    return at + 1


def _repeat(pattern: str, at: int) -> tuple[float, bool, int]:
    """(how often at most, without an end?, length) of the repeat at `at`; length 0: none."""
    char = pattern[at]
    if char in "*+":
        return float("inf"), True, 1
    if char == "?":
        return 1, False, 1
    found = _BOUNDS.match(pattern, at) if char == "{" else None
    if not found or not (found[1] or found[2]):
        return 0, False, 0
    if found[2] and not found[3]:
        return float("inf"), True, len(found[0])
    return int(found[3] or found[1]), False, len(found[0])

"""Pure: the values that a configuration may hold -> plain numbers and tuples.

Each function takes what TOML gave and raises ValueError with one sentence: what was expected, what
was found.
"""

import datetime
from collections.abc import Callable
from typing import Any, TypeVar

from watchdog import measures, words
from watchdog.policy import pattern
from watchdog.policy.guard_when import MARK_MOST, Mark
from watchdog.policy.rules import ACTIONS, Budget

LISTS_MAX = 1000
Number = TypeVar("Number", int, float)


def shown(value: Any) -> str:
    """A value as TOML writes it, short and safe to print."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = f'"{value}"'
    elif isinstance(value, dict):
        return "a table"
    elif isinstance(value, list):
        text = "[" + ", ".join(shown(one) for one in value[:20]) + "]"
    else:
        text = str(value)
    text = words.safe(text)
    return text if len(text) <= 60 else text[:56] + " ..."


def _wrong(expected: str, value: Any) -> ValueError:
    return ValueError(f"expected {expected}, found {shown(value)}")


def _finite(parse: Callable[[str], Number], value: str) -> Number:
    """Thousands of figures are a number to the parsers, and none to us."""
    try:
        return parse(value)
    except OverflowError:
        raise _wrong("less", value) from None


def one_of(*known: str) -> Callable[[Any], str]:
    """One of a few words."""
    listed = " or ".join((", ".join(f'"{one}"' for one in known[:-1]), f'"{known[-1]}"'))

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise _wrong(listed, value)
        if value not in known:
            raise ValueError(f"{_wrong(listed, value)}{words.nearest(value, known)}")
        return value

    return check


def duration(least: float = 0.0, most: float = 366 * 86400.0) -> Callable[[Any], float]:
    """Seconds."""

    def check(value: Any) -> float:
        if not isinstance(value, str):
            raise _wrong('a time such as "10s" or "2min"', value)
        found = measures.parse_duration(value)
        if not least <= found <= most:
            between = f"{words.duration(least)} to {words.duration(most)}"
            raise _wrong(f"a time from {between}", value)
        return found

    return check


def size(least: int = 0, most: int = 1 << 60) -> Callable[[Any], int]:
    """Bytes; a bare number is bytes."""

    def check(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            found = value
        elif isinstance(value, str):
            found = _finite(measures.parse_size, value)
        else:
            raise _wrong('a size such as "400MiB"', value)
        if not least <= found <= most:
            raise _wrong(f"a size from {words.size(least)} to {words.size(most)}", value)
        return found

    return check


def rate(value: Any) -> float:
    """Bytes a second."""
    if not isinstance(value, str):
        raise _wrong('a rate such as "1MiB/min"', value)
    try:
        return _finite(measures.parse_rate, value)
    except ZeroDivisionError:
        raise _wrong('a rate such as "1MiB/min"', value) from None


def share(value: Any) -> float:
    """0..1."""
    if not isinstance(value, str):
        raise _wrong('a share such as "90%"', value)
    return measures.parse_share(value)


def mark(value: Any) -> Mark:
    """A share, bytes, or both in a list."""
    entries = value if isinstance(value, list) else [value]
    found = Mark(None)
    expected = 'a share such as "5%", a size such as "400MiB", or one of each in a list'
    for one in entries:
        if isinstance(one, str) and "%" in one:
            part = measures.parse_share(one)
            if not 0 < part <= MARK_MOST:
                raise _wrong(f"a share above 0% and up to {words.share(MARK_MOST)}", one)
            new = found._replace(share=part) if found.share is None else None
        elif isinstance(one, (str, int)) and not isinstance(one, bool):
            new = found._replace(bytes=size(1)(one)) if found.bytes is None else None
        else:
            new = None
        if new is None:
            raise _wrong(expected, value)
        found = new
    if not entries:
        raise _wrong(expected, value)
    return found


def stall(value: Any) -> tuple[float, float] | None:
    """(share of the time, window in seconds), or None for "off"."""
    if value == "off":
        return None
    expected = 'a stall such as "40% for 2s", or "off"'
    if not isinstance(value, str) or " for " not in value:
        raise _wrong(expected, value)
    part, _, window = value.partition(" for ")
    found = measures.parse_share(part), measures.parse_duration(window)
    if not found[0] or not 0.5 <= found[1] <= 60:
        raise _wrong(expected + " (above 0%, for 500ms to 60s)", value)
    return found


def budget(value: Any) -> Budget:
    """(times, per_s) of "3 per 1d"."""
    expected = 'a budget such as "3 per 1d"'
    if not isinstance(value, str):
        raise _wrong(expected, value)
    times, _, per = value.partition(" per ")
    times, per = times.strip(), per.strip()
    if not (times.isascii() and times.isdigit() and per):
        raise _wrong(expected, value)
    per_s = measures.parse_duration(per if per[0].isdigit() else "1" + per)
    if not (len(times) <= 4 and int(times) and 1 <= per_s <= 366 * 86400):
        raise _wrong(expected + " (1 to 9999 times, in 1s to 366d)", value)
    return int(times), per_s


def moment(value: Any) -> float:
    """Unix seconds of a date, with or without a time of day; local time where no zone is given."""
    expected = 'a date such as 2026-12-01 or "2026-12-01 08:00"'
    found = value
    if isinstance(value, str):
        try:
            found = datetime.datetime.fromisoformat(value.strip())
        except ValueError:
            raise _wrong(expected, value) from None
    if isinstance(found, datetime.date) and not isinstance(found, datetime.datetime):
        found = datetime.datetime(found.year, found.month, found.day)  # noqa: DTZ001  local time
    if not isinstance(found, datetime.datetime):
        raise _wrong(expected, value)
    try:
        return found.timestamp()
    except (OverflowError, ValueError, OSError):
        raise _wrong(expected, value) from None


def switch(value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise _wrong("true or false", value)
    return value


def only_true(value: Any) -> bool:
    """true; not asking is leaving the key out."""
    if value is not True:
        raise _wrong("true, or no such key", value)
    return True


def text(value: Any) -> str:
    """One piece of text that holds something."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise _wrong("some text", value)
    return value


def secret(value: Any) -> str:
    """As `text`, but a value that is wrong is not shown."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("expected some text")
    return value.strip()


def texts(value: Any) -> tuple[str, ...]:
    """A list of text; one piece of text is a list of one."""
    entries = value if isinstance(value, list) else [value]
    if not entries or len(entries) > LISTS_MAX:
        raise _wrong(f"a list of 1 to {LISTS_MAX} texts", value)
    return tuple(text(one) for one in entries)


def patterns(value: Any) -> tuple[str, ...]:
    """Globs."""
    found = texts(value)
    for one in found:
        if pattern.is_regex(one):
            raise ValueError(f'a regex ("~") works for cmdline only, found {shown(one)}')
    return found


def cmdlines(value: Any) -> tuple[str, ...]:
    """Globs and regexes."""
    found = texts(value)
    for one in found:
        flaw = pattern.regex_flaw(one[1:]) if pattern.is_regex(one) else None
        if flaw:
            raise ValueError(f"{shown(one)}: {words.safe(flaw)}")
    return found


def actions(value: Any) -> tuple[str, ...]:
    """What a policy does; whether a notifier or a hook is there is asked elsewhere."""
    found = texts(value)
    for one in found:
        kind, colon, name = one.partition(":")
        if kind not in ACTIONS:
            hint = words.nearest(kind, ACTIONS)
            raise ValueError(f"no such action: {shown(one)}{hint}; known: {', '.join(ACTIONS)}")
        if (kind in ("notify", "run")) is not bool(colon and name):
            wanted = f'"{kind}:NAME"' if kind in ("notify", "run") else f'"{kind}"'
            raise _wrong(wanted, one)
    if len(set(found)) != len(found):
        raise _wrong("each action once", value)
    return found

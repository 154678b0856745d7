"""Pure: sizes, durations, rates and shares as people write them -> numbers.

A number and a unit; sizes in powers of 1024. The daemon only writes them (`words`) and loads no
regular expressions for it.
"""

import re

from watchdog import words

_SIZES = {"b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_TIMES = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_NUMBER = r"\s*([0-9]+(?:\.[0-9]+)?)\s*"
_SIZE = re.compile(_NUMBER + r"([bkmgt])(?:i?b)?\s*", re.IGNORECASE)
_TIME = re.compile(_NUMBER + r"([a-z]*)\s*", re.IGNORECASE)
_SHARE = re.compile(_NUMBER + r"%\s*")


class WordError(ValueError):
    """A quantity that cannot be read; the message says what was expected."""


def parse_size(text: str) -> int:
    """Bytes from "512MiB", "4G", "100 KB" (all powers of 1024). Raises WordError."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise WordError(f'expected a size such as "400MiB", found "{words.safe(text)}"')
    return int(float(found[1]) * _SIZES[found[2].lower()])


def parse_duration(text: str, bare: bool = False) -> float:
    """Seconds from "10s", "2min", "1h"; `bare` also takes a number without a unit.

    "m" is refused: it reads as minutes to some and as months to others. Raises WordError.
    """
    found = _TIME.fullmatch(text)
    unit = found[2].lower() if found else ""
    if found and unit in _TIMES:
        return float(found[1]) * _TIMES[unit]
    if found and not unit and bare:
        return float(found[1])
    hint = ' ("m" is ambiguous: write "min")' if unit == "m" else ""
    raise WordError(f'expected a time such as "10s" or "2min", found "{words.safe(text)}"{hint}')


def parse_share(text: str) -> float:
    """0..1 from "5%". Raises WordError."""
    found = _SHARE.fullmatch(text)
    if not found or float(found[1]) > 100:
        raise WordError(f'expected a share from 0% to 100%, found "{words.safe(text)}"')
    return float(found[1]) / 100


def parse_rate(text: str) -> float:
    """Bytes a second from "1MiB/s", "50M/h". Raises WordError."""
    size_text, slash, time_text = text.partition("/")
    if not slash:
        raise WordError(f'expected a rate such as "1MiB/s", found "{words.safe(text)}"')
    time_text = time_text.strip()
    seconds = parse_duration(time_text if time_text[:1].isdigit() else "1" + time_text)
    return parse_size(size_text) / seconds

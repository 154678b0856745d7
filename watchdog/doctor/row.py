"""One finding of the doctor."""

import os
from typing import NamedTuple

OK, NOTE, WEAK, FAIL = "ok", "note", "weak", "fail"


class Row(NamedTuple):
    """`what` was looked at, its `state`, what was `found`, what that `means`, what `to_do`.

    "ok": it works; "note": worth knowing; "weak": something is given up; "fail": something that
    was promised does not work here.
    """

    what: str
    state: str
    found: str
    means: str = ""
    to_do: str = ""


def reason(error: BaseException) -> str:
    """An error of the system in its own words."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def text(path: str, most: int = 1 << 16) -> str | None:
    """What stands in a small file, stripped; None where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(most).decode("utf-8", "backslashreplace").strip()
    except OSError:
        return None


def pids() -> list[int]:
    """All processes that can be seen."""
    try:
        return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    except OSError:
        return []

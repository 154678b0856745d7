"""Pure: records of the kernel log that say memory was refused, without anybody being killed.

The shapes: `COMM: page allocation failure: order:N, mode:0x…(GFP_…)` (mm/page_alloc.c, warn_alloc,
since 2.6; before 3.9 with a full stop), `COMM: vmalloc error: size N` (mm/vmalloc.c, from 5.13) and
`vmap allocation for size N failed` before it, `SLUB: Unable to allocate memory on …` (mm/slub.c),
and `warn_alloc: N callbacks suppressed`, which counts what was not printed.
"""

import re
from typing import NamedTuple

from watchdog.oom_report import lines

# A line that holds none of these says nothing of a refusal.
MARKS = ("llocation failure", "vmalloc error", "vmap allocation", "o allocate memory on",
         "warn_alloc: ")  # fmt: skip
_PAGES = re.compile(
    r"(?P<comm>[^\n]{0,63}?): page allocation failure[.:] order:(?P<order>\d{1,2}), "
    r"mode:(?P<mode>0x[0-9a-f]{1,16}(?:\([A-Z0-9_|x]{1,300}\))?)"
)
_VMALLOC = re.compile(
    r"(?:(?P<comm>[^\n]{0,63}?): )?"
    r"(?:vmalloc error: size (?P<size>\d{1,20})|vmap allocation for size (?P<old>\d{1,20}) failed"
    r"|vmalloc: allocation failure: (?P<older>\d{1,20}) bytes)"
)
_SLAB = re.compile(r"SL[AU]B: Unable to allocate memory on (?:node|CPU)")
_SUPPRESSED = re.compile(r"warn_alloc: (?P<count>\d{1,9}) callbacks suppressed")
_TASK = re.compile(r"CPU: \d{1,5} (?:UID: \d{1,10} )?PID: (?P<pid>\d{1,10}) Comm: ")


class Failure(NamedTuple):
    """One refusal: what ("pages", "vmalloc", "slab", "suppressed"), for whom, how much.

    ``size_bytes`` of a vmalloc, ``order`` of pages (2^order of them); the record ``stands_for`` so
    many refusals. ``comm`` is who asked; an interrupt asks in the name of whoever ran.
    """

    what: str
    comm: str | None = None
    order: int | None = None
    mode: str | None = None
    size_bytes: int | None = None
    stands_for: int = 1


def interesting(raw: str) -> bool:
    """Whether a line can tell of a refusal; quick."""
    return "lloc" in raw and any(mark in raw for mark in MARKS)


def failure(raw: str) -> Failure | None:
    """The refusal that a line of the kernel tells of; None where a program wrote it."""
    read = lines.read(raw)
    if not read.kernel:
        return None
    # A record of the kernel begins with it; saved text may have anything before it.
    find = "match" if read.exact else "search"
    text = read.text
    if found := getattr(_PAGES, find)(text):
        order, mode = int(found["order"]), found["mode"]
        return Failure("pages", found["comm"], order, mode)
    if found := getattr(_VMALLOC, find)(text):
        size = found["size"] or found["old"] or found["older"]
        return Failure("vmalloc", found["comm"], size_bytes=int(size))
    if getattr(_SLAB, find)(text):
        return Failure("slab")
    if found := getattr(_SUPPRESSED, find)(text):
        return Failure("suppressed", stands_for=int(found["count"]))
    return None


def task(raw: str) -> int | None:
    """The PID of `CPU: 0 PID: 4242 Comm: …`, which follows a refusal; None in any other line."""
    found = _TASK.search(raw)
    return int(found["pid"]) if found else None

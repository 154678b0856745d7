"""Pure: the lines that say who asked for memory, who was chosen and who died.

Each reader takes the text of one line and answers None where the shape is another's. A comm is up
to 15 bytes of anybody's choice: it is cut out between what stands to its left and, read from the
right, what only the kernel can have written last.
"""

import re
from typing import NamedTuple

from watchdog import words

COMM_MAX = 15  # bytes; with the mark-up that people put around a name in a forum
COMM_LOOSE = 32
LISTED_MAX = 512


class Head(NamedTuple):
    """X invoked oom-killer: who asked for memory; not necessarily who dies."""

    comm: str
    gfp_mask: str | None
    gfp_flags: str | None
    nodemask: str | None
    order: int | None
    oom_score_adj: int | None


class Kill(NamedTuple):
    """Killed process N (comm): sizes in bytes, None where the line does not tell."""

    pid: int
    comm: str | None
    uid: int | None
    scope: str | None  # None: the line does not say whose memory was out
    total_vm: int | None
    anon: int | None
    file: int | None
    shmem: int | None
    pagetables: int | None
    oom_score_adj: int | None
    allocating: bool = False  # vm.oom_kill_allocating_task: who asks dies


class Selected(NamedTuple):
    """Kill process N (comm) score S or sacrifice child: chosen, not yet dead."""

    pid: int
    comm: str
    score: int
    scope: str | None
    allocating: bool = False


class Reaped(NamedTuple):
    """oom_reaper: reaped process N (comm): what was left of it, in bytes."""

    pid: int
    comm: str
    left: int


_MESSAGE = (
    r"(?:(Memory cgroup out of memory|[Oo]ut of [Mm]emory(?: ?\(oom_kill_allocating_task\))?"
    r"|No available memory(?: \(MPOL_BIND\))?):[ \n]{1,2})?"
)
_KILL = re.compile(_MESSAGE + r"Killed process (\d{1,10})(?:, UID (\d{1,10}),)?[ \n]{1,2}\(")
_BEANCOUNTER = re.compile(
    r"Out of memory(?: in (UB) \S{1,64})?: OOM killed process (\d{1,10}) \((.{0,40})\) "
    r"score -?\d{1,20} vm:(\d{1,20})kB",
    re.DOTALL,
)
_TAIL = re.compile(r"\)(?:, UID (\d{1,10}),)?,?[ \n]{1,2}total-vm:(\d{1,20})(kB)?")
_FIELD = re.compile(r"(anon-rss|file-rss|shmem-rss|pgtables):(\d{1,20})kB")
_UID = re.compile(r"\bUID: ?(\d{1,10})\b")
_KILL_ADJ = re.compile(r"oom_score_adj:(-?\d{1,4})(?!\d)")
_SELECT = re.compile(
    _MESSAGE + r"[Kk]ill process (\d{1,10})[ \n]{1,2}\((.{0,40})\)[ \n]{1,2}score (-?\d{1,12}) or "
    r"(?:sacrifice|a) child",
    re.DOTALL,
)
_SHARING = re.compile(r"Kill process (\d{1,10}) \((.{0,15})\) sharing same memory", re.DOTALL)
_REAPED = re.compile(
    r"oom_reaper: reaped process :?(\d{1,10}) \((.{0,40})\),?(?: now)? anon-rss:(\d{1,20})kB, "
    r"file-rss:(\d{1,20})kB, shmem-rss:(\d{1,20})[kl]B",
    re.DOTALL,
)
_STUCK = re.compile(r"oom_reaper: unable to reap pid:(\d{1,10}) ")
_PINNED = re.compile(
    r"oom killer (\d{1,10}) \((.{0,40})\) has mm pinned by (\d{1,10}) \((.{0,40})\)", re.DOTALL
)
_HEAD_GFP = re.compile(r"gfp_mask=(0x[0-9a-fA-F]{1,16})(?:\(([^)\n]{0,300})\))?")
_HEAD_ORDER = re.compile(r"\border=(-?\d{1,3})")
_HEAD_NODES = re.compile(r"nodemask=(\(null\)|[0-9][0-9,-]{0,200}?)[,\s]")
_HEAD_REST = re.compile(r"[\s,]{0,4}(?:nodemask=\S{1,200}\s{1,2})?(?:\(null\),\s{1,2})?order=-?\d")
_HEAD_ADJ = re.compile(r"oom_score_adj=(-?\d{1,4})")
_INVOKED = re.compile(r" invoked oom(?:-killer)?:\s{1,2}")
_CALL = re.compile(
    r"CPU: \d{1,5} (?:UID: \d{1,10} )?PID: (\d{1,10}) Comm: |Pid: (\d{1,10}), comm: "
)
_VERSION = re.compile(r" ([1-9]\.\d{1,3}\.[\w.+-]{1,80}) #")
_SUPPRESSED = re.compile(r"oom_kill_process: (\d{1,9}) callbacks suppressed")


def _bytes(kib: str | None) -> int | None:
    return None if kib is None else int(kib) * 1024


def _scope(message: str | None) -> str | None:
    if message is None:
        return None
    if message.startswith("Memory cgroup"):
        return "memcg"
    return "mempolicy" if message.startswith("No available") else "global"


def _allocating(message: str | None) -> bool:
    return message is not None and "oom_kill_allocating_task" in message


def _start(pattern: re.Pattern[str], text: str, exact: bool) -> re.Match[str] | None:
    return pattern.match(text) if exact else pattern.search(text)


def quoted(before: str) -> bool:
    """Whether a text goes on inside the quotation marks of somebody who tells of it."""
    return (
        (before != "" and before[-1] not in " :]>|*\t\n")
        or any(before.count(mark) % 2 for mark in "\"'`")
    )  # fmt: skip


def kill(text: str, exact: bool, strict: bool = False) -> Kill | None:
    """The kill line. `exact`: a whole record, so the comm has its bounds; `strict`: the text
    begins where the kernel's does, so the line must too."""
    head = _start(_KILL, text, exact or strict)
    if head is None and "OOM killed" in text:
        return _container(text, exact or strict)
    if head is None or quoted(text[: head.start()]):
        return None
    rest = text[head.end() :]
    limit = COMM_MAX if exact else COMM_LOOSE
    best: re.Match[str] | None = None
    for found in _TAIL.finditer(rest):
        # the last tail belongs to the kernel; a comm can hold one, but is never this long
        if len(rest[: found.start()].encode("utf-8", "surrogateescape")) <= limit:
            best = found
    if best is None:
        comm, uid, total, tail = _bare(rest, limit), head[3], None, ""
        if comm is None and (exact or ")" in rest):
            return None
        if comm is not None and comm.count("(") != comm.count(")"):
            comm = None  # cut off in the middle of the name
    else:
        comm, uid = rest[: best.start()], head[3] or best[1]
        total, tail = (best[2] if best[3] else None), rest[best.end() :]
    sizes = dict(reversed(_FIELD.findall(tail)))  # the first of each counts
    uid_found = _UID.search(tail)
    adj = _KILL_ADJ.search(tail)
    return Kill(
        int(head[2]),
        None if comm is None else words.safe(comm),
        int(uid) if uid else int(uid_found[1]) if uid_found else None,
        _scope(head[1]),
        _bytes(total),
        _bytes(sizes.get("anon-rss")),
        _bytes(sizes.get("file-rss")),
        _bytes(sizes.get("shmem-rss")),
        _bytes(sizes.get("pgtables")),
        int(adj[1]) if adj else None,
        _allocating(head[1]),
    )


def _container(text: str, exact: bool) -> Kill | None:
    """The kill line of OpenVZ and Virtuozzo: the limit is a container's beancounter, by number."""
    found = _start(_BEANCOUNTER, text, exact)
    if found is None or quoted(text[: found.start()]):
        return None
    scope = "memcg" if found[1] else "global"
    return Kill(
        int(found[2]), words.safe(found[3]), None, scope, _bytes(found[4]), None, None, None, None,
        None,
    )  # fmt: skip


def _bare(rest: str, limit: int) -> str | None:
    """comm of a line without sizes (kernels up to 2.6.35): it ends with the bracket, in the oldest
    with a full stop."""
    end = rest.rstrip().rfind(")")
    if end < 0 or end > limit or rest[end + 1 :].strip(" \n,") not in ("", "."):
        return None
    return rest[:end]


def kill_score(found: Kill | None) -> int:
    """How much of the line was read: the better of two ways to join a wrapped line."""
    return -1 if found is None else sum(value is not None for value in found)


def selected(text: str, exact: bool) -> Selected | None:
    """The line that names the choice (up to 5.0); a child of it may be what dies."""
    found = _start(_SELECT, text, exact)
    if found is None or quoted(text[: found.start()]):
        return None
    return Selected(int(found[2]), words.safe(found[3]), int(found[4]), _scope(found[1]),
                    _allocating(found[1]))  # fmt: skip


def sharing(text: str, exact: bool) -> tuple[int, str] | None:
    """(pid, comm) of a process that dies because it shares the victim's memory (up to 4.x)."""
    found = _start(_SHARING, text, exact)
    return None if found is None else (int(found[1]), words.safe(found[2]))


def reaped(text: str, exact: bool) -> Reaped | None:
    """The reaper's line; it comes from a kernel thread, at any time after the kill."""
    found = _start(_REAPED, text, exact)
    if found is None:
        return None
    left = (int(found[3]) + int(found[4]) + int(found[5])) * 1024
    return Reaped(int(found[1]), words.safe(found[2]), left)


def stuck(text: str, exact: bool) -> int | None:
    """The pid that the reaper gave up: it sleeps in the kernel and holds its memory."""
    found = _start(_STUCK, text, exact)
    return None if found is None else int(found[1])


def pinned(text: str, exact: bool) -> tuple[int, int, str] | None:
    """(victim, pid, comm): who shares the victim's memory and may not be killed (4.8 and later)."""
    found = _start(_PINNED, text, exact)
    return None if found is None else (int(found[1]), int(found[3]), words.safe(found[4]))


def head(text: str, exact: bool) -> Head | None:
    """The first line of a report. In a saved text what stands before the comm is cut off."""
    marks = list(_INVOKED.finditer(text))
    if not marks:
        return None
    found = marks[-1]  # a comm may hold the words
    comm, rest = text[: found.start()], text[found.end() :]
    if ("gfp_mask=" not in rest and rest.strip()) or (not exact and quoted(comm + " ")):
        return None
    if len(comm.encode("utf-8", "surrogateescape")) > COMM_MAX:
        if exact:
            return None
        comm = comm[max(comm.rfind(mark) + len(mark) for mark in ("] ", ": ", "> ", "| ", "  ")) :]
        comm = comm if len(comm) <= COMM_MAX else comm.split()[-1][-COMM_LOOSE:]
    gfp, order = _HEAD_GFP.search(rest), _HEAD_ORDER.search(rest)
    nodes, adj = _HEAD_NODES.search(rest), _HEAD_ADJ.search(rest)
    after = rest[adj.end() :].strip() if adj else ""
    if exact and after and not after.isdecimal():  # the number of the next line, in a copy
        return None  # somebody's text that holds such a line
    return Head(
        words.safe(comm),
        gfp[1] if gfp else None,
        # a mail may have wrapped inside the brackets
        "".join(gfp[2].split()) if gfp and gfp[2] is not None else None,
        None if nodes is None or nodes[1] == "(null)" else nodes[1],
        int(order[1]) if order else None,
        int(adj[1]) if adj else None,
    )


def head_rest(found: Head, text: str) -> Head | None:
    """The first line together with its rest, which the kernel printed as a line of its own."""
    order, adj = _HEAD_ORDER.search(text), _HEAD_ADJ.search(text)
    if order is None or found.order is not None or not _HEAD_REST.match(text):
        return None
    return found._replace(order=int(order[1]), oom_score_adj=int(adj[1]) if adj else None)


def is_table(text: str) -> bool:
    """Whether it is the header of the task table."""
    return text[:1] == "[" and "total_vm" in text and "pid" in text[:12]


def call(text: str) -> tuple[int, str, str | None] | None:
    """(pid, what follows, kernel version) of the line that begins the call trace."""
    found = _CALL.match(text)
    if found is None:
        return None
    version = _VERSION.search(text, found.end())
    return int(found[1] or found[2]), text[found.end() :], version[1] if version else None


def suppressed(text: str) -> int | None:
    """How many reports the kernel's rate limit swallowed."""
    found = _SUPPRESSED.match(text)
    return None if found is None else int(found[1])


def panic(text: str) -> str | None:
    """The panic's own words where memory is the reason."""
    mark = "Kernel panic - not syncing: "
    why = text[len(mark) :] if text.startswith(mark) else ""
    low = why.lower()
    if "out of memory" in low or "deadlocked on memory" in low or "panic_on_oom" in low:
        return words.safe(" ".join(why.split()))
    return None

"""Pure: lines of the kernel log in, OOM reports out.

Laws: a report opens at any of its shapes and never needs its first line. A kill line is one death
and belongs to exactly one report. Nothing is asked of versions, only of shapes. What user space
wrote is no report, and memory is bounded whatever comes in.
"""

from collections import OrderedDict
from typing import NamedTuple

from watchdog import words
from watchdog.facts import KernelLine
from watchdog.oom_report import kill, lines
from watchdog.oom_report.draft import KILLS_MAX, Draft, Seen
from watchdog.oom_report.entries import Entries, opens
from watchdog.oom_report.report import Invoker, Other, Report, Victim
from watchdog.oom_report.wrap import Unwrap

__all__ = ["Assembler", "Forged", "Invoker", "Other", "Report", "Victim"]

QUIET_S = 0.5  # after its kill line a report is over when nothing more of it came for so long
CUT_OFF_S = 10.0  # a dump without a kill line: slow consoles take 30 ms a line
SEEN_MAX = 1024
FORGED_MAX = 64

# A line that holds none of these can neither open a report nor count as a kill.
MARKS = (
    "oom", "invoked", "illed process", "ill process", "illed as a result", "ut of memory",
    "memory: usage",
    "pid ]", "pid  ]", "anual OOM", "imit reached of", "deadlocked on memory", '"MESSAGE":[',
    '"MESSAGE": [', '"MESSAGE" : [',
)  # fmt: skip


class Forged(NamedTuple):
    """Text that would have been read as a kill, had the kernel written it as one.

    `why` is "facility" (user space wrote the record) or "place" (the text stands inside a record
    of the kernel's about something else, such as the name of a device).
    """

    t: float
    up: float | None
    usec: int | None
    why: str
    text: str


def interesting(line: str) -> bool:
    """Whether a line can matter while no report is open; quick, and never wrong about a report."""
    return any(mark in line for mark in MARKS)


class Assembler:
    """Feed it lines and time; it gives reports. One for each stream of lines."""

    def __init__(self) -> None:
        self._draft: Draft | None = None
        self._wrap = Unwrap(self._unfinished, self._whole_row)
        self._entries = Entries()
        self._last_line = KernelLine(0.0, None, "")
        self._held_seen: Seen | None = None
        self._kills: OrderedDict[tuple[str | None, int, int, str], None] = OrderedDict()
        self._manual = False
        self._suppressed = 0
        self._forged: list[Forged] = []
        self.number = 0  # lines fed so far
        self.unread = 0  # lines with a report's shape that could not be read
        self.unread_at: list[int] = []

    def feed(self, line: KernelLine) -> list[Report]:
        """One line; the reports that are over with it."""
        out = self.tick(line.t, line.up)
        self.number += 1
        self._last_line = line
        if self.idle and not interesting(line.line) and not opens(line.line):
            return out
        for read in self._entries.feed(line.line):
            out += self._read(read, line)
        return out

    def _read(self, read: lines.Line, line: KernelLine) -> list[Report]:
        out: list[Report] = []
        seen = Seen(
            line.t, line.up, read.usec, read.stamp, read.wall, line.boot_id or read.boot_id,
            self.number,
        )  # fmt: skip
        if not read.kernel:
            self._claim(read.text, seen, "facility")
            return out
        if read.fragment and self._continue(read.text):
            return out
        held = self._held_seen
        for whole in self._wrap.feed(read):
            out += self._take(whole, held or seen)
            held = None
        if self._wrap.idle:
            self._held_seen = None
        elif held is None:
            self._held_seen = seen
        return out

    @property
    def idle(self) -> bool:
        """Whether nothing is open, so that lines without any of MARKS need not be fed."""
        return self._draft is None and self._wrap.idle and self._entries.idle

    def skip(self, count: int) -> None:
        """So many lines were passed over."""
        self.number += count

    def tick(self, t: float, up: float | None) -> list[Report]:
        """Time has passed: what is over by quiet is over."""
        draft = self._draft
        if draft is None:
            return []
        last = draft.last
        quiet = up - last.up if up is not None and last.up is not None else t - last.t
        if quiet < (QUIET_S if draft.over else CUT_OFF_S):
            return []
        return self.flush()

    def flush(self) -> list[Report]:
        """No more lines come: everything that is open is over."""
        out: list[Report] = []
        for read in self._entries.flush():
            out += self._read(read, self._last_line)
        for whole in self._wrap.flush():
            if self._held_seen is not None:
                out += self._take(whole, self._held_seen)
        self._held_seen = None
        return out + self._close()

    def settle(self) -> list[Report]:
        """The reader stops: what has its kill line is over, what has not is read again later."""
        return self.flush() if self._draft is not None and self._draft.over else []

    def forged(self) -> list[Forged]:
        """The forgeries since the last call."""
        found, self._forged = self._forged, []
        return found

    # -- boundaries: which line belongs to which report -------------------------------------------

    def _take(self, line: lines.Line, seen: Seen) -> list[Report]:
        text, exact = line.text, line.exact
        if "invoked oom" in text:
            head = kill.head(text, exact)
            if head is not None:
                return self._on_head(head, seen)
        if "illed process" in text:
            found = kill.kill(text, exact)
            if found is not None:
                return self._on_kill(found, seen)
            self._misread(text, seen, exact)
        elif "oom-kill:" in text and kill.is_summary(text, exact):
            out = self._fresh(seen) if self._draft is None or self._draft.over else []
            self._own(seen).summary_text = text
            return out
        elif "ill process" in text:
            return self._on_selected(text, exact, seen)
        elif "reaped process" in text:
            reaped = kill.reaped(text, exact)
            if reaped is not None and self._draft is not None:
                self._draft.reaped.setdefault(reaped.pid, reaped)
            return []
        elif "unable to reap" in text or "mm pinned by" in text:
            self._on_survivor(text, exact)
            return []
        elif text.startswith("Tasks in /"):
            return self._on_group(text, seen)
        return self._other(text, seen)

    def _other(self, text: str, seen: Seen) -> list[Report]:
        draft = self._draft
        if "illed as a result" in text or text.startswith("Task in /"):
            return self._on_task_in(text, seen)
        if text.startswith("Memory limit reached of cgroup "):
            out = self._fresh(seen) if draft is None or draft.over else []
            self._own(seen).limit_reached = words.safe(text[31:].strip())
            return out
        panic = kill.panic(text)
        if panic is not None:
            out = self._fresh(seen) if draft is None or (draft.over and draft.kills) else []
            self._own(seen).panic = panic
            return out
        if text.startswith("Out of memory and no killable processes"):
            out = self._fresh(seen) if draft is None or draft.over else []
            self._own(seen).no_victim = True
            return out
        if "Manual OOM execution" in text:
            self._manual = True
            return []
        count = kill.suppressed(text)
        if count is not None:
            self._suppressed += count
            return []
        return self._dump(text, seen)

    def _dump(self, text: str, seen: Seen) -> list[Report]:
        draft = self._draft
        out: list[Report] = []
        opens = text.startswith("memory: usage ") or _is_header(text)
        if opens and (draft is None or draft.over):
            out = self._fresh(seen)
            draft = self._draft
        if draft is None:
            return out
        if ": page allocation failure: " in text:
            draft.foreign = True
        elif (text[:1] == "," and self._continue(text)) or draft.detail(text):
            draft.touch(seen)
        return out

    def _on_head(self, head: kill.Head, seen: Seen) -> list[Report]:
        out = self._fresh(seen)
        draft = self._own(seen)
        draft.head, draft.manual, self._manual = head, self._manual, False
        return out

    def _on_kill(self, found: kill.Kill, seen: Seen) -> list[Report]:
        draft = self._draft
        if seen.usec is not None:
            key = (seen.boot_id, seen.usec, found.pid, found.comm or "")
            if key in self._kills:
                # told already, by another source or pasted twice; so was the dump before it
                if draft is not None and not draft.over:
                    self._draft = None
                return []
            self._kills[key] = None
            if len(self._kills) > SEEN_MAX:
                self._kills.popitem(last=False)
        out: list[Report] = []
        if draft is None or (draft.over and not draft.group_open):
            out = self._fresh(seen)
        draft = self._own(seen)
        if len(draft.kills) < KILLS_MAX:
            draft.kills.append((found, seen))
        return out

    def _on_selected(self, text: str, exact: bool, seen: Seen) -> list[Report]:
        shared = kill.sharing(text, exact)
        if shared is not None:
            if self._draft is not None and len(self._draft.sharing) < KILLS_MAX:
                self._draft.sharing.append(shared)
            return []
        found = kill.selected(text, exact)
        if found is None:
            return self._other(text, seen)
        out = self._fresh(seen) if self._draft is None or self._draft.over else []
        self._own(seen).selected = found
        return out

    def _on_survivor(self, text: str, exact: bool) -> None:
        stuck, pinned = kill.stuck(text, exact), kill.pinned(text, exact)
        if self._draft is not None and stuck is not None and len(self._draft.stuck) < KILLS_MAX:
            self._draft.stuck.add(stuck)
        if self._draft is not None and pinned is not None and len(self._draft.pinned) < KILLS_MAX:
            self._draft.pinned.setdefault(pinned[0], pinned[1:])

    def _on_group(self, text: str, seen: Seen) -> list[Report]:
        path = kill.group(text)
        if path is None:
            return []
        if seen.usec is not None:
            key = (seen.boot_id, seen.usec, -1, path)
            if key in self._kills:
                return []
            self._kills[key] = None
        draft = self._draft
        out: list[Report] = []
        if draft is None:
            out = self._fresh(seen)
        elif draft.group_open and len(draft.kills) > 1:
            # in a storm without dumps: the last kill was the first victim of this next group
            last = draft.kills.pop()
            out = self._fresh(last[1])
            self._own(last[1]).kills.append(last)
        own = self._own(seen)
        own.group, own.group_open = path, True
        return out

    def _on_task_in(self, text: str, seen: Seen) -> list[Report]:
        found = kill.task_in(text)
        if found is None:
            if text.startswith("Task in /"):  # 3.16 to 3.18 break it in two
                draft = self._own(seen) if self._draft and not self._draft.over else None
                if draft is not None:
                    draft.task_in = (words.safe(text[8:].strip()), "")
            return []
        out = self._fresh(seen) if self._draft is None or self._draft.over else []
        draft = self._own(seen)
        before = draft.task_in[0] if draft.task_in else None
        draft.task_in = (found[0] or before, found[1])
        return out

    # -- the draft --------------------------------------------------------------------------------

    def _own(self, seen: Seen) -> Draft:
        if self._draft is None:
            self._draft = Draft(seen)
        self._draft.touch(seen)
        return self._draft

    def _fresh(self, seen: Seen) -> list[Report]:
        """End the open report and begin the next."""
        out = self._close()
        self._draft = Draft(seen)
        return out

    def _close(self) -> list[Report]:
        draft, self._draft = self._draft, None
        if draft is None or draft.empty:
            return []
        draft.suppressed, self._suppressed = self._suppressed, 0
        return [draft.build()]

    def _continue(self, text: str) -> bool:
        """The rest of a summary line that another CPU's output split."""
        draft = self._draft
        if draft is None or draft.summary_text is None or kill.summary_complete(draft.summary_text):
            return False
        draft.summary_text = (draft.summary_text + text)[: lines.TEXT_MAX]
        return True

    # -- what is not whole, what is not the kernel's ----------------------------------------------

    def _unfinished(self, text: str) -> bool:
        if text.rstrip().endswith(" invoked"):
            return True
        if "invoked oom" in text:
            return "oom_score_adj=" not in text and "oom_adj=" not in text
        if "illed process" in text:
            found = kill.kill(text, False)
            return found is None or (found.anon is None and not text.rstrip().endswith(")"))
        if "ill process" in text:
            return kill.selected(text, False) is None and "sharing" not in text
        if "oom-kill:" in text:
            return not kill.summary_complete(text)
        if text.startswith("Task in /"):
            return not kill.task_in_complete(text)
        if text.startswith("Tasks in /"):
            return not text.rstrip().endswith("group set")
        if _is_header(text):
            return not text.rstrip().endswith(" name")
        table = self._draft.table if self._draft else None
        return (
            table is not None and text[:1] == "[" and bool(table.columns) and not table.fits(text)
        )

    def _whole_row(self, text: str) -> bool:
        table = self._draft.table if self._draft else None
        return table is not None and text[:1] == "[" and table.fits(text)

    def _claim(self, text: str, seen: Seen, why: str) -> None:
        if "illed process" in text and len(self._forged) < FORGED_MAX:
            found = kill.kill(text, False)
            if found is not None and (found.comm is not None or found.anon is not None):
                self._forged.append(Forged(seen.t, seen.up, seen.usec, why, words.safe(text[:200])))

    def _misread(self, text: str, seen: Seen, exact: bool) -> None:
        if exact:
            self._claim(text, seen, "place")
        elif "total-vm:" in text:
            self.unread += 1
            if len(self.unread_at) < 64:
                self.unread_at.append(seen.number)


def _is_header(text: str) -> bool:
    return text[:1] == "[" and "total_vm" in text and "pid" in text[:12]

"""Pure: which line belongs to which report. Lines of the kernel in, reports out.

Two reports can be open: the kernel up to 4.1 lets two CPUs print at the same time, and a log may
hold a dump that was cut off before the next began. A line goes to the report of its own caller,
where the kernel printed callers, and a kill to the report that named its process.
"""

from collections import OrderedDict
from collections.abc import Callable

from watchdog import words
from watchdog.oom_report import kill, limits, lines
from watchdog.oom_report.draft import KILLS_MAX, Draft, Seen
from watchdog.oom_report.report import Report

SEEN_MAX = 1024

Misread = Callable[[str, Seen, bool], None]


class Collector:
    """Feed it whole lines. `misread` is called for what looks like a kill line and can be none."""

    def __init__(self, misread: Misread) -> None:
        self._misread = misread
        self.draft: Draft | None = None
        self._parked: Draft | None = None
        self._told: OrderedDict[object, bool] = OrderedDict()
        self._echo = False  # the lines that come now were told already
        self._manual = False
        self._suppressed = 0

    @property
    def idle(self) -> bool:
        """Whether no report is open."""
        return self.draft is None and self._parked is None

    def take(self, line: lines.Line, seen: Seen) -> list[Report]:
        """One line; the reports that are over with it."""
        text, strict = line.text, line.exact or line.anchored
        self._turn(seen.caller)
        if "invoked oom" in text:
            head = kill.head(text, strict)
            if head is not None:
                return self._on_head(head, seen)
        if "illed process" in text:
            found = kill.kill(text, line.exact, strict)
            if found is not None:
                return self._on_kill(found, seen)
            self._misread(text, seen, line.exact)
        elif "oom-kill:" in text and limits.is_summary(text, strict):
            out = self._opened(seen)
            self._own(seen).summary_text = text
            return out
        elif "ill process" in text:
            return self._on_selected(text, strict, seen)
        elif "reaped process" in text:
            reaped = kill.reaped(text, strict)
            draft = self._knowing(reaped.pid) if reaped is not None else None
            if reaped is not None and draft is not None and len(draft.reaped) < KILLS_MAX:
                draft.reaped.setdefault(reaped.pid, reaped)
            return []
        elif "unable to reap" in text or "mm pinned by" in text:
            self._on_survivor(text, strict)
            return []
        elif text.startswith("Tasks in /"):
            return self._on_group(text, seen)
        return self._other(text, seen)

    def over(self) -> bool:
        """Whether the open report has its end."""
        return self.draft is not None and self.draft.over

    @property
    def awaited(self) -> int:
        """How many reports are open that wait for their kill line."""
        open_ = (self.draft, self._parked)
        return sum(one is not None and not one.over and not one.empty for one in open_)

    def last(self) -> Seen | None:
        """When the last line of an open report came."""
        seen = [one.last for one in (self.draft, self._parked) if one is not None]
        return max(seen, key=lambda one: one.number, default=None)

    def close(self) -> list[Report]:
        """Everything that is open is over."""
        open_ = [one for one in (self._parked, self.draft) if one is not None]
        self.draft = self._parked = None
        out = []
        for draft in sorted(open_, key=lambda one: one.first.number):
            if not draft.empty:
                draft.suppressed, self._suppressed = self._suppressed, 0
                out.append(draft.build())
        return out

    # -- two at a time ----------------------------------------------------------------------------

    def _turn(self, caller: str | None) -> None:
        """Make the report of this caller the current one."""
        parked = self._parked
        if caller is None or parked is None or parked.caller != caller:
            return
        if self.draft is None or self.draft.caller != caller:
            self.draft, self._parked = parked, self.draft

    def _turn_to(self, pid: int) -> None:
        """Make the report that named this process the current one."""
        draft, parked = self.draft, self._parked
        if parked is None or parked.over or not parked.knows(pid):
            return
        if draft is None or draft.over or not draft.knows(pid):
            self.draft, self._parked = parked, draft

    def _knowing(self, pid: int) -> Draft | None:
        for draft in (self.draft, self._parked):
            if draft is not None and any(k.pid == pid for k, _ in draft.kills):
                return draft
        return self.draft

    def _own(self, seen: Seen) -> Draft:
        if self.draft is None:
            self.draft = Draft(seen)
        self._echo = False
        self.draft.touch(seen)
        return self.draft

    def _opened(self, seen: Seen) -> list[Report]:
        """Begin a report unless one is open that waits for more."""
        return self._fresh(seen) if self.draft is None or self.draft.over else []

    def _fresh(self, seen: Seen) -> list[Report]:
        """Begin the next report. One that has no end yet waits for it, but only one."""
        draft = self.draft
        out: list[Report] = []
        if draft is None or draft.over or draft.empty or self._parked is not None:
            out = self.close()
        else:
            self._parked = draft
        self.draft = Draft(seen)
        return out

    # -- kinds of lines ---------------------------------------------------------------------------

    def _other(self, text: str, seen: Seen) -> list[Report]:
        draft = self.draft
        if "illed as a result" in text or text.startswith("Task in /"):
            return self._on_task_in(text, seen)
        if text.startswith("Memory limit reached of cgroup "):
            out = self._opened(seen)
            self._own(seen).limit_reached = words.safe(text[31:].strip())
            return out
        panic = kill.panic(text)
        if panic is not None:
            if self._again(seen, ("panic", panic)):
                return []
            out = self._fresh(seen) if draft is None or (draft.over and draft.kills) else []
            self._own(seen).panic = panic
            return out
        if text.startswith("Out of memory and no killable processes"):
            out = self._opened(seen)
            self._own(seen).no_victim = True
            return out
        if "OOM victim " in text or text.startswith("Would have killed process "):
            if draft is not None and not draft.over:
                draft.spared = True
            return []
        if "Manual OOM execution" in text:
            self._manual = True
            return []
        if "OOM request ignored" in text:
            self._manual = False
            return []
        count = kill.suppressed(text)
        if count is not None:
            self._suppressed += count
            return []
        return self._dump(text, seen)

    def _dump(self, text: str, seen: Seen) -> list[Report]:
        out: list[Report] = []
        if text.startswith(("memory: usage ", "Memory cgroup stats for /")) or kill.is_table(text):
            out = self._opened(seen) if not self._echo or self.draft is not None else []
        draft = self.draft
        if draft is None:
            return out
        if draft.caller is not None and seen.caller is not None and draft.caller != seen.caller:
            return out  # another CPU's
        rest = kill.head_rest(draft.head, text) if draft.head is not None else None
        if rest is not None:
            draft.head = rest
        elif ": page allocation failure: " in text:
            draft.foreign = True
        elif (text[:1] == "," and self.goes_on(text)) or draft.detail(text):
            draft.touch(seen)
        return out

    def _on_head(self, head: kill.Head, seen: Seen) -> list[Report]:
        out = self._fresh(seen)
        draft = self._own(seen)
        draft.head, draft.manual, self._manual = head, self._manual, False
        return out

    def _again(self, seen: Seen, *keys: object) -> bool:
        """Whether this was told already, by another source or pasted twice."""
        known = False
        for key in keys:
            before = self._told.get((seen.boot_id, key))
            # of two lines with the kernel's clock the clock decides
            clock = seen.usec is not None
            told = before is not None and (before is False or not clock)
            known = known or told
            self._told.setdefault((seen.boot_id, key), clock)
        if seen.usec is not None:
            exact = (seen.boot_id, seen.usec, keys[0])
            known = known or exact in self._told
            self._told[exact] = True
        while len(self._told) > SEEN_MAX:
            self._told.popitem(last=False)
        return known

    def _on_kill(self, found: kill.Kill, seen: Seen) -> list[Report]:
        grouped = self.draft is not None and self.draft.group_open
        if self._again(seen, found) and not (grouped and seen.usec is None):
            # so was the dump before it
            if self.draft is not None and not self.draft.over:
                self.draft = None
            self._echo = self.draft is None or self._echo
            return []
        self._turn_to(found.pid)
        draft = self.draft
        other = draft is not None and seen.caller is not None and draft.caller is not None
        other = other and draft is not None and draft.caller != seen.caller
        out: list[Report] = []
        if draft is None or (draft.over and not draft.group_open) or (other and not draft.over):
            out = self._fresh(seen)
        draft = self._own(seen)
        if len(draft.kills) < KILLS_MAX:
            draft.kills.append((found, seen))
        return out

    def _on_selected(self, text: str, strict: bool, seen: Seen) -> list[Report]:
        shared = kill.sharing(text, strict)
        if shared is not None:
            if self.draft is not None and len(self.draft.sharing) < KILLS_MAX:
                self.draft.sharing.append(shared)
            return []
        found = kill.selected(text, strict)
        if found is None:
            return self._other(text, seen)
        self._turn_to(found.pid)
        out = self._opened(seen)
        self._own(seen).selected = found
        return out

    def _on_survivor(self, text: str, strict: bool) -> None:
        stuck, pinned = kill.stuck(text, strict), kill.pinned(text, strict)
        draft = self._knowing(stuck if stuck is not None else pinned[0] if pinned else 0)
        if draft is not None and stuck is not None and len(draft.stuck) < KILLS_MAX:
            draft.stuck.add(stuck)
        if draft is not None and pinned is not None and len(draft.pinned) < KILLS_MAX:
            draft.pinned.setdefault(pinned[0], pinned[1:])

    def _on_group(self, text: str, seen: Seen) -> list[Report]:
        path = limits.group(text)
        if path is None or (self._echo and self.draft is None):
            return []
        if seen.usec is not None and self._again(seen, ("group", path, seen.usec)):
            return []
        draft = self.draft
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
        found = limits.task_in(text)
        if found is None:
            if text.startswith("Task in /"):  # 3.16 to 3.18 break it in two
                draft = self._own(seen) if self.draft and not self.draft.over else None
                if draft is not None:
                    draft.task_in = (words.safe(text[8:].strip()), "")
            return []
        out = self._opened(seen)
        draft = self._own(seen)
        before = draft.task_in[0] if draft.task_in else None
        draft.task_in = (found[0] or before, found[1])
        return out

    def goes_on(self, text: str) -> bool:
        """The rest of a summary line that another CPU's output split."""
        draft = self.draft
        if (
            draft is None
            or draft.summary_text is None
            or limits.summary_complete(draft.summary_text)
        ):
            return False
        draft.summary_text = (draft.summary_text + text)[: lines.TEXT_MAX]
        return True

    # -- of a text alone --------------------------------------------------------------------------

    def unfinished(self, text: str) -> bool:
        """Whether the shape of a line wants more."""
        return _goes_on(text) or (
            self._in_table(text) and not (self.draft and self.draft.table.fits(text))
        )

    def whole_row(self, text: str) -> bool:
        """Whether it is a row of the table with all its columns."""
        return self._in_table(text) and self.draft is not None and self.draft.table.fits(text)

    def _in_table(self, text: str) -> bool:
        return text[:1] == "[" and self.draft is not None and bool(self.draft.table.columns)


def _goes_on(text: str) -> bool:
    """Whether a line of a report visibly goes on: a mail or a terminal wrapped it."""
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
        return not limits.summary_complete(text)
    if text.startswith("Task in /"):
        return not limits.task_in_complete(text)
    if text.startswith("Tasks in /"):
        return not text.rstrip().endswith("group set")
    return kill.is_table(text) and not text.rstrip().endswith(" name")

"""Pure: a report while its lines still come in, and what it says in the end."""

from typing import NamedTuple

from watchdog.memory import Counters, Group
from watchdog.oom_report import call_trace, kill, limits
from watchdog.oom_report.kernel_memory import KernelMemory
from watchdog.oom_report.mem_info import MemInfo
from watchdog.oom_report.report import Invoker, Other, Report, Victim
from watchdog.oom_report.tasks import Row, Table

KILLS_MAX = 4096


class Seen(NamedTuple):
    """When and where a line was read."""

    t: float
    up: float | None
    usec: int | None
    stamp: str | None
    wall: float | None
    boot_id: str | None
    number: int
    caller: str | None = None
    host: str | None = None


class Draft:
    """One report in the making. The assembler decides which lines are its own."""

    def __init__(self, seen: Seen) -> None:
        self.first = self.last = seen
        self.caller = seen.caller
        self.last_number = seen.number
        self.head: kill.Head | None = None
        self.head_pid: int | None = None
        self.kernel_version: str | None = None
        self.kills: list[tuple[kill.Kill, Seen]] = []
        self.sharing: list[tuple[int, str]] = []
        self.selected: kill.Selected | None = None
        self.summary_text: str | None = None
        self.task_in: tuple[str | None, str] | None = None
        self.limit_reached: str | None = None
        self.group: str | None = None
        self.group_open = False
        self.panic: str | None = None
        self.no_victim = False
        self.spared = False  # the one that was chosen was dying already
        self.manual = False
        self.reaped: dict[int, kill.Reaped] = {}
        self.table = Table()
        self.mem = MemInfo()
        self.kernel_memory = KernelMemory()
        self.trace = call_trace.CallTrace()
        self.stuck: set[int] = set()
        self.pinned: dict[int, tuple[int, str]] = {}
        self.foreign = False  # another kind of memory dump began: its Mem-Info is not ours
        self.suppressed = 0
        self.unread = 0

    @property
    def over(self) -> bool:
        """Whether what ends a report has been seen."""
        return bool(self.kills) or self.panic is not None or self.no_victim or self.spared

    @property
    def empty(self) -> bool:
        """Whether nothing but a stray line is in it."""
        return not (
            self.over or self.head or self.selected or self.summary_text or self.task_in
            or self.group or self.table.count
        )  # fmt: skip

    def knows(self, pid: int) -> bool:
        """Whether this report named the process before it died."""
        chosen = self.selected is not None and self.selected.pid == pid
        summed = self.summary_text is not None and f",pid={pid},uid=" in self.summary_text
        return chosen or summed or self.table.find(pid) is not None

    def touch(self, seen: Seen) -> None:
        """A line of its own has come."""
        self.last, self.last_number = seen, max(self.last_number, seen.number)

    def detail(self, text: str) -> bool:
        """A line of the dump: table, memory, call trace; False where it is none of them."""
        if self.over:
            return False
        if text[:1] == "[" and text[:2] != "[<":
            if self.table.add(text):
                return True
            if self.table.begin(text):
                return True
            self.unread = self.table.unread
            return self.trace.add(text)
        if self.table.columns and not self.table.whole:
            self.table.more(text)
            return True
        if not self.foreign and (self.mem.add(text) or self.kernel_memory.add(text)):
            return True
        called = kill.call(text)
        if called is not None:
            pid, rest, version = called
            if self.head is None or rest.startswith(self.head.comm.partition("\\x")[0]):
                self.head_pid = pid if self.head_pid is None and self.head else self.head_pid
                self.kernel_version = self.kernel_version or version
            return True
        return self.trace.add(text)

    def build(self) -> Report:
        """What the lines said."""
        victim, by = self._victim()
        comm = victim.comm if victim else self.selected.comm if self.selected else None
        found = (
            limits.summary(self.summary_text, comm, self.mem.stats_of)
            if self.summary_text
            else None
        )
        scope = self._scope(found)
        page = self._page_size()
        row = self._row(victim, found)
        if victim is not None:
            victim = _completed(victim, row, found, page)
            if row is not None and victim.pagetables is not None:
                # 5.4 and 5.5 print bytes and call them kB
                wrong = self.table.bytes_in_pagetables and row.pagetables
                if wrong and victim.pagetables == wrong * 1024:
                    victim = victim._replace(pagetables=wrong)
        cgroup, task_cgroup = self._cgroups(found, scope)
        at = by or (self.kills[0][1] if self.kills else self.first)
        outcome = self._outcome(victim)
        memory = self.mem.group() if scope == "memcg" else self.mem.machine(page)
        order = self.head.order if self.head else None
        manual = self.manual or self.trace.manual or order == -1
        fragmented = None
        if order is not None and page is not None and self.mem.blocks:
            fragmented = self.mem.smallest_missing(order, page)
        return Report(
            t=at.t, up=at.up, boot_id=at.boot_id, wall=at.wall, usec=at.usec, stamp=at.stamp,
            lines=(self.first.number, self.last_number), outcome=outcome, scope=scope,
            cgroup=cgroup, task_cgroup=task_cgroup,
            cpuset=found.cpuset if found else None, nodemask=self._nodemask(found),
            victim=victim, selected=self._selected(found, victim), invoker=self._invoker(),
            path=call_trace.path(self.trace, manual, scope, self.head and self.head.gfp_mask),
            also_killed=self._others(victim), group=self.group, panic=self.panic,
            manual=manual, allocating=self._allocating(), kill_lines=len(self.kills),
            limits=self.mem.limits, page_size=page,
            rows=tuple(_named(one, victim) for one in self.table.rows),
            tasks_count=self.table.count,
            pagetables_are_bytes=self.table.bytes_in_pagetables, memory=memory,
            swap_total=self.mem.swap_total, swap_free=self.mem.swap_free,
            huge_free=self.mem.huge_free,
            zones=self.mem.zone_list(), fragmented=fragmented,
            total_pages=self._total_pages(scope, page), slabs=tuple(self.kernel_memory.slabs),
            allocations=tuple(self.kernel_memory.allocations),
            protection=self.kernel_memory.protection, kernel_version=self.kernel_version,
            reaped_left=self._left(victim), freed_bytes=self._freed(victim),
            stuck=any(k.pid in self.stuck for k, _ in self.kills),
            pinned_by=self.pinned.get(victim.pid) if victim else None,
            suppressed=self.suppressed, unread=self.unread,
            missing=self._missing(scope, cgroup, memory), host=at.host,
        )  # fmt: skip

    def _allocating(self) -> bool:
        told = self.selected is not None and self.selected.allocating
        return told or any(k.allocating for k, _ in self.kills)

    def _victim(self) -> tuple[Victim | None, Seen | None]:
        if self.kills:
            k, seen = self.kills[0]
            return Victim(
                k.pid, k.comm, k.uid, k.anon, k.file, k.shmem, k.total_vm, k.pagetables, None,
                k.oom_score_adj,
            ), seen  # fmt: skip
        # The kill line may have been filtered away by its level: the reaper proves the death of
        # a process of this report. A reaper's line about anybody else belongs to another one.
        for pid, reaped in self.reaped.items():
            if self.table.find(pid) or (self.summary_text and f",pid={pid}," in self.summary_text):
                return Victim(pid, reaped.comm, witness="oom_reaper"), None
        return None, None

    def _row(self, victim: Victim | None, found: limits.Summary | None) -> Row | None:
        for pid in (victim.pid if victim else None, found.pid if found else None):
            row = self.table.find(pid) if pid is not None else None
            if row is not None and (victim is None or victim.comm in (None, row.name)):
                return row
        return self.table.find(victim.pid) if victim else None

    def _scope(self, found: limits.Summary | None) -> str | None:
        told = {k.scope for k, _ in self.kills}
        told.add(self.selected.scope if self.selected else None)
        if found is not None:
            # 5.0 to 5.2 say CONSTRAINT_NONE for a cgroup too: its name is the better witness
            if found.oom_memcg is not None:
                return "memcg"
            if found.constraint in limits.SCOPES:
                return limits.SCOPES[found.constraint]
        if "memcg" in told or self.task_in or self.limit_reached or self.mem.limits:
            return "memcg"
        if self.group and "global" not in told:  # the group may be all of a global victim's
            return "memcg"
        if self.trace.memcg and not self.mem.seen:
            return "memcg"
        if "mempolicy" in told:
            return "mempolicy"
        if "global" in told or self.mem.seen or self.trace.page or self.panic:
            return "global"
        return None

    def _cgroups(self, found: limits.Summary | None, scope: str | None) -> tuple[str | None, ...]:
        task = found.task_memcg if found else None
        limit = found.oom_memcg if found else None
        if self.task_in is not None:
            task, limit = task or self.task_in[0], limit or self.task_in[1] or None
        if scope == "memcg":
            limit = limit or self.limit_reached or self.mem.stats_of
        return limit, task

    def _nodemask(self, found: limits.Summary | None) -> str | None:
        return found.nodemask if found else self.head.nodemask if self.head else None

    def _selected(
        self, found: limits.Summary | None, victim: Victim | None
    ) -> tuple[int, str | None, int | None] | None:
        if self.selected is not None:
            return self.selected.pid, self.selected.comm, self.selected.score
        if found is not None and found.pid is not None:
            # a mail may have wrapped at a blank of the name
            same = victim is not None and victim.pid == found.pid
            return found.pid, victim.comm if same and victim else found.comm, None
        return None

    def _invoker(self) -> Invoker | None:
        h = self.head
        if h is None:
            return None
        return Invoker(h.comm, self.head_pid, h.order, h.gfp_mask, h.gfp_flags, h.oom_score_adj)

    def _others(self, victim: Victim | None) -> tuple[Other, ...]:
        known = {victim.pid} if victim else set()
        out = []
        for k, _ in self.kills[1:]:
            out.append(Other(k.pid, k.comm, k.uid, k.pid in known))
            known.add(k.pid)
        for pid, comm in self.sharing:
            if pid not in known:
                row = self.table.find(pid)
                out.append(Other(pid, comm, row.uid if row else None, False))
                known.add(pid)
        return tuple(out)

    def _outcome(self, victim: Victim | None) -> str:
        if victim is not None:
            return "killed"
        if self.panic is not None:
            return "panic"
        if self.no_victim:
            return "no-victim"
        return "selected" if self.selected or self.summary_text else "cut-off"

    def _page_size(self) -> int | None:
        """What the report itself proves; this machine's own would be a guess."""
        for k, _ in self.kills:
            row = self.table.find(k.pid)
            if row is not None and row.total_vm and k.total_vm:
                for page in (4096, 16384, 65536):
                    if abs(k.total_vm - row.total_vm * page) <= k.total_vm // 8:
                        return page
        return self.mem.page_size() or (4096 if self.trace.x86 else None)

    def _total_pages(self, scope: str | None, page: int | None) -> int | None:
        """What the kernel's score is a share of: RAM and swap, or the cgroup's limits."""
        if page is None:
            return None
        if scope == "memcg":
            memory, both = self.mem.limits.get("memory"), self.mem.limits.get("memory+swap")
            limit = memory.limit if memory else None
            swap = self.mem.limits.get("swap")
            if limit is None:
                return None
            if both is not None and both.limit is not None:
                return both.limit // page
            return (limit + (swap.limit or 0 if swap else 0)) // page
        if scope != "global" or self.mem.managed is None:
            return None
        return self.mem.managed + (self.mem.swap_total or 0) // page

    def _left(self, victim: Victim | None) -> int | None:
        found = self.reaped.get(victim.pid) if victim else None
        return found.left if found else None

    def _freed(self, victim: Victim | None) -> int | None:
        left = self._left(victim)
        if victim is None or victim.anon is None or left is None:
            return None
        return max(0, victim.anon + (victim.file or 0) + (victim.shmem or 0) - left)

    def _missing(
        self, scope: str | None, cgroup: str | None, memory: Counters | Group | None
    ) -> tuple[str, ...]:
        gone = []
        if self.head is None:
            gone.append("invoker")
        if not self.kills and self.panic is None and not self.no_victim:
            gone.append("kill line")
        if scope is None:
            gone.append("scope")
        if scope == "memcg" and cgroup is None:
            gone.append("cgroup")
        if memory is None:
            gone.append("memory")
        if not self.table.columns:
            gone.append("tasks")
        return tuple(gone)


def _named(row: Row, victim: Victim | None) -> Row:
    """The victim's row: a mail may have wrapped at a blank of the name, or cut it there."""
    if victim is None or victim.comm is None or victim.pid not in (row.pid, row.tgid):
        return row
    bare = row.name.replace(" ", "")
    if bare and row.name != victim.comm and victim.comm.replace(" ", "").startswith(bare):
        return row._replace(name=victim.comm)
    return row


def _completed(
    victim: Victim, row: Row | None, found: limits.Summary | None, page: int | None
) -> Victim:
    """What the kill line of this kernel does not tell, the summary or the table may."""
    uid = victim.uid
    if uid is None and found is not None and found.pid == victim.pid:
        uid = found.uid
    comm = victim.comm
    if comm is None and found is not None and found.pid == victim.pid:
        comm = found.comm
    if row is None:
        return victim._replace(uid=uid, comm=comm)
    adj = victim.oom_score_adj
    swap = row.swap * page if row.swap is not None and page is not None else None
    if victim.pid not in (row.pid, row.tgid):
        return victim._replace(uid=uid, comm=comm)
    return victim._replace(
        uid=uid if uid is not None else row.uid,
        comm=comm if comm is not None else row.name,
        swap=swap,
        oom_score_adj=adj if adj is not None else row.oom_score_adj,
        tgid=row.tgid,
    )

"""What one OOM report says: values only. Missing is None, never guessed; sizes are bytes."""

from typing import NamedTuple

from watchdog.memory import Counters, Group
from watchdog.oom_report.mem_info import Limit, Zone
from watchdog.oom_report.tasks import Row


class Victim(NamedTuple):
    """Who died. `witness` is the line that proves it: "kill line" or "oom_reaper"."""

    pid: int
    comm: str | None
    uid: int | None = None
    anon: int | None = None
    file: int | None = None
    shmem: int | None = None
    total_vm: int | None = None
    pagetables: int | None = None
    swap: int | None = None
    oom_score_adj: int | None = None
    witness: str = "kill line"
    tgid: int | None = None

    @property
    def process(self) -> int:
        """The process that died: the line names a thread of it, where its first one had ended."""
        return self.pid if self.tgid is None else self.tgid


class Invoker(NamedTuple):
    """Who asked for memory when there was none left; a bystander more often than not."""

    comm: str
    pid: int | None
    order: int | None
    gfp_mask: str | None
    gfp_flags: str | None
    oom_score_adj: int | None


class Other(NamedTuple):
    """One more process that died with the victim.

    `again`: the kernel killed and counted a process twice (the first victim of a group is printed
    once as the victim and once as a member), so the list adds up to the kernel's counter.
    """

    pid: int
    comm: str | None
    uid: int | None
    again: bool


class Report(NamedTuple):
    """One OOM report, whole or in parts.

    `t` and `up` are when its kill line was read (or its first line, where there is none), `usec`
    the kernel's clock of that line; `stamp` the date as the log wrote it. `outcome` is "killed",
    "selected" (chosen, the death not seen), "panic", "no-victim" (nobody could be killed) or
    "cut-off". `lines` are the first and last line of it, counted by the assembler from 1.
    """

    t: float
    up: float | None
    boot_id: str | None
    wall: float | None
    usec: int | None
    stamp: str | None
    lines: tuple[int, int]
    outcome: str
    scope: str | None
    cgroup: str | None
    task_cgroup: str | None
    cpuset: str | None
    nodemask: str | None
    victim: Victim | None
    selected: tuple[int, str | None, int | None] | None  # pid, comm, score
    invoker: Invoker | None
    path: str | None  # how the request came: see call_trace
    also_killed: tuple[Other, ...]
    group: str | None
    panic: str | None
    manual: bool
    allocating: bool  # vm.oom_kill_allocating_task is set: who asked had to die
    kill_lines: int
    limits: dict[str, Limit]
    page_size: int | None
    rows: tuple[Row, ...]
    tasks_count: int
    pagetables_are_bytes: bool
    memory: Counters | Group | None
    swap_total: int | None
    swap_free: int | None
    huge_free: int | None
    zones: tuple[Zone, ...]
    fragmented: bool | None
    total_pages: int | None
    slabs: tuple[tuple[str, int, int], ...]  # name, used, total; printed where they are large
    allocations: tuple[tuple[int, str], ...]  # bytes, the place in the kernel's source
    protection: tuple[int, int] | None  # memory.min and memory.low of the cgroup, as in use
    kernel_version: str | None
    reaped_left: int | None
    freed_bytes: int | None  # the victim's resident memory less what the reaper left of it
    stuck: bool  # the reaper gave up: a victim sleeps in the kernel and holds its memory
    pinned_by: tuple[int, str] | None  # (pid, comm) that uses the victim's memory and may not die
    suppressed: int
    unread: int
    missing: tuple[str, ...]
    host: str | None = None  # as a saved log names the machine

    @property
    def complete(self) -> bool:
        """Whether every part was there that this kind of report has."""
        return not self.missing

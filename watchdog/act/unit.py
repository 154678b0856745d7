"""Units, through `systemctl`, by what PID 1 says of them and never by a name alone.

A unit's name can be forged: whoever owns a delegated subtree may make a folder of any name in it.
So before PID 1 is asked for anything, it tells the unit's ControlGroup, and that must be the
cgroup in which the kernel says, at this moment, that one of the processes is which we mean. And it
tells the InvocationID: a unit that was started anew since we looked is another one.

    systemctl show -> is it loaded, is that its cgroup -> one more program -> what became of it

Nothing here waits: `turn` goes on with what is under way.
"""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from watchdog import procfs, words
from watchdog.child import Child, Children
from watchdog.procfs import never

SYSTEMCTL = "/usr/bin/systemctl"
INVOCATIONS = "/run/systemd/units"
SHOW_S = 10.0
# A service that ignores SIGTERM has TimeoutStopSec=, 90 s unless it says otherwise.
DEED_S = 150.0
# Who has not ended so long after SIGKILL hangs in the kernel (a disk that is gone). It runs no more
# of its own, so that another may be started for the unit; what it has asked for, PID 1 has by then.
HUNG_S = 60.0
AT_ONCE = 8
PAGE = 4096
PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,ControlGroup,InvocationID,MainPID,ExecMainPID,MemoryHigh,"
    "Type,Restart,Job"
)

Ident = tuple[int, int]
Done = Callable[[str, str], None]  # outcome, one sentence


class Unit(NamedTuple):
    """A system unit as our own census saw it: its name and (PID, start) of its members.

    ``path`` is the cgroup in which they were; it serves where all of them have just been ended.
    ``invocation`` is the life of it that was seen; None: not known, and then not compared.
    """

    name: str
    members: tuple[Ident, ...] = ()
    path: str | None = None
    invocation: str | None = None


Plan = Callable[[dict[str, str]], tuple[Sequence[str]] | tuple[str, str]]


class _Job(NamedTuple):
    """A program under way. `plan` makes the next one of what `show` said, as (argv,), or says why
    there is none, as (outcome, sentence); None: this was the last one.
    """

    child: Child
    plan: Plan | None
    said: str
    done: Done


class Units:
    """Asks PID 1; `root` is a /proc tree."""

    def __init__(self, children: Children, root: str = "/proc", systemctl: str = SYSTEMCTL) -> None:
        self.children = children
        self.root = root
        self.systemctl = systemctl
        self.jobs: list[_Job] = []
        self.hung: list[Child] = []  # no more of these than AT_ONCE

    def restart(self, unit: Unit, done: Done) -> None:
        """`try-restart`: a unit that is not running stays down."""
        self._ask(unit, self._on_itself(unit, "try-restart"), "PID 1 restarted it", done)

    def stop(self, unit: Unit, done: Done) -> None:
        """`stop`: it stays down although Restart= would bring it back.

        Perhaps it has been brought back already: another life of it than was seen is meant as well.
        """

        def plan(shown: dict[str, str]) -> tuple[Sequence[str]] | tuple[str, str]:
            group = shown.get("ControlGroup", "")
            if shown.get("Id") != unit.name or (group and group != unit.path):
                return "protected", f"what PID 1 calls {words.safe(unit.name)} is elsewhere"
            return ([self.systemctl, "stop", "--", unit.name],)

        self._ask(unit, plan, "PID 1 stopped it", done)

    def revive(
        self, unit: Unit, pid: int, done: Done, *, may: bool = True, of_policy: bool = False
    ) -> None:
        """Start it again if it is down since the end of its main process `pid`, and that may be.

        "ending" while that process, or the unit after it, has not ended yet. A login has no main
        process of that kind, and nobody asked for one: nothing is done. Nor for a job (oneshot),
        which would begin anew, what somebody stops, and for a policy what has Restart=no.
        """
        if never(unit.name) is not None:
            done("changed", "its processes are not the unit's to start")
            return

        def plan(shown: dict[str, str]) -> tuple[Sequence[str]] | tuple[str, str]:
            if shown.get("ExecMainPID") != str(pid):
                return "changed", "the victim was not its main process, or it has another one now"
            state = shown.get("ActiveState", "?")
            if shown.get("Type") == "oneshot":
                return "changed", "it is a job (Type=oneshot), which would begin anew"
            if of_policy and shown.get("Restart") == "no":
                return "changed", "it is to stay down (Restart=no)"
            if state == "deactivating" and shown.get("Job", "0") not in ("", "0"):
                return "changed", "somebody else stops it"
            if state not in ("inactive", "failed"):
                ending = state in ("active", "deactivating")
                return "ending" if ending else "changed", f"it is {words.safe(state)}"
            if not may:
                return "budget", "it stays down: the budget is used up"
            return ([self.systemctl, "start", "--no-block", "--", unit.name],)

        self._ask(unit, plan, "it would have stayed down, and is started again", done)

    def limit(self, unit: Unit, chosen: Callable[[str], int | tuple[str, str]], done: Done) -> None:
        """Set MemoryHigh until the next boot.

        `chosen` gets the present value, as systemd writes it, right before anything is changed. It
        answers the new one in bytes, or an outcome and in a sentence why it stays as it is.
        "failed" is an end: where too many units are under way it is "changed".
        """

        def plan(shown: dict[str, str]) -> tuple[Sequence[str]] | tuple[str, str]:
            flaw = self._flaw(unit, shown)
            if flaw:
                return flaw
            high = chosen(shown.get("MemoryHigh", "infinity"))
            if not isinstance(high, int):
                return high
            return (self._set_high(unit.name, str(high)),)

        self._ask(unit, plan, "PID 1 set its MemoryHigh", done, "changed")

    def put_back(
        self, name: str, former: str, ours: Sequence[int], within_s: float, done: Done
    ) -> None:
        """Set MemoryHigh to what it was, if it is one of `ours` still; () means whatever it is.

        If PID 1 does not tell `within_s` what it is, it is put back: nobody else would ever do it.
        """
        back = self._set_high(name, former)
        was = "MemoryHigh is what it was"
        shown_once: list[bool] = []

        def plan(shown: dict[str, str]) -> tuple[Sequence[str]] | tuple[str, str]:
            shown_once.append(True)
            if shown.get("LoadState") == "not-found":
                return "gone", f"PID 1 knows no unit {words.safe(name)}"
            high = shown.get("MemoryHigh", "")
            if ours and high not in ("", former) and not is_ours(high, ours):
                size = words.size(int(high)) if high.isdecimal() else words.safe(high)
                return "changed", f"somebody else has set MemoryHigh={size}, and that stays"
            return (back,)

        def told(outcome: str, said: str) -> None:
            if outcome == "failed" and not shown_once:
                self._start(back, DEED_S, None, was, done)
            else:
                done(outcome, said)

        argv = [self.systemctl, "show", "-p", PROPERTIES, "--", name]
        self._start(argv, within_s, plan, was, told)

    def turn(self) -> None:
        """Go on with what has ended, and leave what does not end although it was killed."""
        now = self.children.now()
        self.hung = [child for child in self.hung if not child.done]
        for job in [one for one in self.jobs if one.child.timed_out and not one.child.done]:
            if now >= job.child.deadline + HUNG_S:
                self.jobs.remove(job)
                self.hung.append(job.child)
                said = f"took longer than {job.child.deadline_s:g} s and does not end"
                job.done("failed", f"systemctl {said}")
        for job in [job for job in self.jobs if job.child.done]:
            self.jobs.remove(job)
            failure = job.child.failure()
            if failure is not None:
                errors = bytes(job.child.errors).strip().split(b"\n", 1)[0]
                said = words.name(errors[:200])
                job.done("failed", f"systemctl {failure}{': ' if said else ''}{said}")
            elif job.plan is None:
                job.done("done", job.said)
            else:
                answer = job.plan(_shown(bytes(job.child.output)))
                if len(answer) == 2:
                    job.done(*answer)
                else:
                    self._start(answer[0], DEED_S, None, job.said, job.done)

    # ---- small ones --------------------------------------------------------------------------

    def _on_itself(self, unit: Unit, verb: str) -> Plan:
        def plan(shown: dict[str, str]) -> tuple[Sequence[str]] | tuple[str, str]:
            return self._flaw(unit, shown) or ([self.systemctl, verb, "--", unit.name],)

        return plan

    def _ask(self, unit: Unit, plan: Plan, said: str, done: Done, too_many: str = "failed") -> None:
        reason = never(unit.name)
        if reason is None and not os.access(self.systemctl, os.X_OK):
            reason = "there is no systemd here"
        if reason is not None:
            done("failed", reason)
            return
        if len(self.jobs) >= AT_ONCE:
            done(too_many, f"{AT_ONCE} units are under way already")
            return
        argv = [self.systemctl, "show", "-p", PROPERTIES, "--", unit.name]
        self._start(argv, SHOW_S, plan, said, done)

    def _start(
        self, argv: Sequence[str], deadline_s: float, plan: Plan | None, said: str, done: Done
    ) -> None:
        if len(self.hung) >= AT_ONCE:
            done("failed", f"systemctl: {AT_ONCE} that were killed do not end: no more are started")
            return
        try:
            child = self.children.start(argv, b"", deadline_s)
        except OSError as error:
            done("failed", f"systemctl: {error.strerror}")
            return
        self.jobs.append(_Job(child, plan, said, done))

    def _set_high(self, name: str, value: str) -> Sequence[str]:
        return [self.systemctl, "set-property", "--runtime", "--", name, f"MemoryHigh={value}"]

    def _flaw(self, unit: Unit, shown: dict[str, str]) -> tuple[str, str] | None:
        """Why what PID 1 calls by this name is not what we mean, as (outcome, sentence)."""
        if shown.get("Id") != unit.name or shown.get("LoadState") != "loaded":
            return "failed", f"PID 1 knows no unit {words.safe(unit.name)}"
        group = shown.get("ControlGroup", "")
        if not group or not shown.get("InvocationID"):
            return "gone", "it is not running"
        if unit.invocation is not None and shown["InvocationID"] != unit.invocation:
            return "changed", "it was started anew in the meantime"
        alive = False
        for pid, start in unit.members:
            stat = procfs.parse_stat(_read(f"{self.root}/{pid}/stat"))
            if stat is None or stat.start_ticks != start:
                continue
            alive = True
            path = procfs.parse_cgroup(_read(f"{self.root}/{pid}/cgroup")).systemd or ""
            if path == group or path.startswith(group + "/"):
                return None
        if not alive:
            return "gone", "none of the processes that were seen in it is left"
        return "protected", (
            f"PID 1 runs {words.safe(unit.name)} in {words.safe(group)}, and that is not where "
            "the processes are: the name is forged"
        )


def is_ours(high: str, ours: Sequence[int]) -> bool:
    """Is MemoryHigh, as systemd writes it, one of those that we set? Pages may round it."""
    return high.isdecimal() and any(abs(int(high) - one) < PAGE for one in ours)


def invocation(name: str, folder: str = INVOCATIONS) -> str | None:
    """The life of a unit that runs now: PID 1 leaves its InvocationID where anybody may read it."""
    try:
        return os.readlink(f"{folder}/invocation:{name}")
    except OSError:
        return None


def _shown(raw: bytes) -> dict[str, str]:
    pairs = (line.partition(b"=") for line in raw.split(b"\n") if b"=" in line)
    return {words.name(key): words.name(value) for key, _, value in pairs}


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 16384)
    except OSError:
        return b""
    finally:
        os.close(fd)

"""Which services would stay down after a SIGTERM: to systemd that is a clean end.

PID 1 tells it, through `systemctl`, ahead of the deed or after it; never while memory is short,
when a program more is one too many. Nothing here waits: `turn` goes on with what has ended.
"""

import os
from collections.abc import Callable, Iterable

from watchdog import procfs, words
from watchdog.act.unit import SHOW_S, SYSTEMCTL
from watchdog.child import Child, Children

# With any other Restart= it comes back after a clean end as well (systemd.service(5)).
STAYS_DOWN = ("no", "on-failure", "on-abnormal", "on-abort", "on-watchdog")
KNOWN_MAX = 256
AT_ONCE = 4


class Comebacks:
    """`known`: of a unit its main process, and its Restart=, as PID 1 told them last."""

    def __init__(self, children: Children, systemctl: str = SYSTEMCTL) -> None:
        self.children = children
        self.systemctl = systemctl
        self.known: dict[str, tuple[str, str]] = {}
        self.asked: list[tuple[Child, Callable[[], None]]] = []

    def ask(self, units: Iterable[str], then: Callable[[], None]) -> bool:
        """Ask PID 1 about these, and call `then`; False: nobody can be asked now."""
        names = [unit for unit in units if procfs.never(unit) is None]
        if not names or len(self.asked) >= AT_ONCE or not os.access(self.systemctl, os.X_OK):
            return False
        argv = [self.systemctl, "show", "-p", "Id,ExecMainPID,Restart,Type", "--", *names]
        try:
            child = self.children.start(argv, b"", SHOW_S)
        except OSError:
            return False
        self.asked.append((child, then))
        return True

    def turn(self) -> None:
        """Take what PID 1 has told. Whom even SIGKILL does not end at once is not waited for."""
        asked, self.asked = self.asked, []
        for child, then in asked:
            if child.done and child.failure() is None:
                self._take(bytes(child.output))
            if not child.done:
                self.asked.append((child, _nothing if child.timed_out else then))
            if child.done or child.timed_out:
                then()

    def stop(self) -> None:
        """Nobody waits for an answer any more."""
        asked, self.asked = self.asked, []
        for _, then in asked:
            then()

    def stays_down(self, unit: str | None, pid: int | None) -> str | None:
        """A sentence where the end of that process leaves its service down, else None."""
        main, restart = self.known.get(unit or "", ("", ""))
        if main != str(pid) or restart not in STAYS_DOWN:
            return None
        whose = f"it is the main process of {words.safe(unit or '')}"
        return f"{whose}, and Restart={restart} does not follow a clean end"

    def _take(self, raw: bytes) -> None:
        if len(self.known) >= KNOWN_MAX:
            self.known.clear()
        for block in raw.split(b"\n\n"):
            pairs = (line.partition(b"=") for line in block.split(b"\n"))
            told = {words.name(key): words.name(value) for key, _, value in pairs}
            if told.get("Id"):
                restart = "" if told.get("Type") == "oneshot" else told.get("Restart", "")  # a job
                self.known[told["Id"]] = (told.get("ExecMainPID", ""), restart)


def _nothing() -> None:
    pass

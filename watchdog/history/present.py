"""Pure: the processes that are there, one record each, and tables of them by identity.

All that is known of a process hangs on one object: a table more would be 40 bytes a process.
"""

from collections.abc import Callable, ItemsView, Iterator, Mapping
from itertools import chain
from typing import Any, Generic, NamedTuple, TypeVar

from watchdog.facts import COMM, PID, START, UNIT, Ident, Row, Who
from watchdog.history import scripts
from watchdog.history.entities import Trend

V = TypeVar("V")
# So many are told apart at a time; more than these are kept as often as they come.
KINDS_MAX = 500


class Kind(NamedTuple):
    """What was told of a process (see facts.Who) and is often the same for many.

    ``script`` is what an interpreter runs: see `scripts`.
    """

    ppid: int | None
    uid: int | None
    exe: str | None
    cgroup: str | None
    inner: str | None
    container: str | None
    oom_score_adj: int | None
    trusted: bool | None
    build: str | None
    script: str | None


class Process(Trend):
    """The trend of a process, its last row, and what was told of it.

    ``level`` is its entity's, with ``counted_kib`` of it in that, and ``placed`` the unit by which
    it was counted there: `judge.proven`.
    """

    __slots__ = ("cmdline", "counted_kib", "level", "placed", "row", "who")

    def __init__(self, t: float, up: float, row: Row) -> None:
        super().__init__(t, up)
        self.row = row
        self.who: Kind | None = None  # None: nothing was told of it yet
        self.cmdline: str | None = None
        self.level: Any = None
        self.placed: str | None = None
        self.counted_kib = 0

    @property
    def ident(self) -> Ident:
        """(pid, start)."""
        row = self.row
        return row[PID], row[START]

    def told(self) -> Who | None:
        """What was told of it, as one fact again; of the time when it was first seen."""
        if self.who is None:
            return None
        first = (self.first_t, self.first_up)
        told = self.who._asdict()
        del told["script"]
        return Who(*first, *self.ident, cmdline=self.cmdline, **told)

    def program(self) -> tuple[str, str]:
        """Its unit, and its executable (of an interpreter with its script) or, unknown, its name.

        One that names no program (`scripts.vague`) has no lives.
        """
        row, who = self.row, self.who
        unit, exe = row[UNIT] or "", who.exe if who is not None else None
        script = who.script if who is not None else None
        return unit, scripts.program(unit, exe, script) if exe else row[COMM]


class Present:
    """By PID who has it; beside them who had it before, until a census says that it is gone."""

    def __init__(self) -> None:
        self.by_pid: dict[int, Process] = {}
        self.before: dict[Ident, Process] = {}
        self._kinds: dict[Kind, Kind] = {}

    def get(self, ident: Ident) -> Process | None:
        """None where nobody like that is there."""
        found = self.by_pid.get(ident[0])
        if found is not None and found.row[START] == ident[1]:
            return found
        return self.before.get(ident) if self.before else None

    def add(self, process: Process) -> None:
        """A newcomer; who had the PID until now has not been seen to go."""
        pid = process.row[PID]
        old = self.by_pid.pop(pid, None)
        if old is not None:
            self.before[old.ident] = old
        self.by_pid[pid] = process

    def describe(self, process: Process, who: Who) -> None:
        """Keep what was told of it, and what many have alike only once."""
        before, parent = process.who, self.by_pid.get(who.ppid or 0)
        above = parent.who if parent is not None else None
        script = scripts.script(
            who.exe,
            who.cmdline,
            before.script if before is not None and before.exe == who.exe else None,
            above.script if above is not None and above.exe == who.exe else None,
        )
        kind = Kind(
            who.ppid, who.uid, who.exe, who.cgroup, who.inner, who.container, who.oom_score_adj,
            who.trusted, who.build, script,
        )  # fmt: skip
        if len(self._kinds) >= KINDS_MAX:
            self._kinds.clear()
        process.who = self._kinds.setdefault(kind, kind)
        process.cmdline = who.cmdline

    def drop(self, ident: Ident) -> Process | None:
        """It is gone."""
        found = self.by_pid.get(ident[0])
        if found is not None and found.row[START] == ident[1]:
            return self.by_pid.pop(ident[0])
        return self.before.pop(ident, None)

    def __iter__(self) -> Iterator[Process]:
        return chain(self.by_pid.values(), self.before.values())

    def __len__(self) -> int:
        return len(self.by_pid) + len(self.before)


class _Items(ItemsView[Ident, V], Generic[V]):
    """One pass over the records: looking each of them up by its identity takes five times that."""

    def __init__(self, table: "Table[V]") -> None:
        super().__init__(table)
        self._table = table

    def __iter__(self) -> Iterator[tuple[Ident, V]]:
        of = self._table.of
        for process in self._table.present:
            found = of(process)
            if found is not None:
                yield process.ident, found


class Table(Mapping[Ident, V], Generic[V]):
    """One thing of each process that is there, by identity; who has none of it is not in here."""

    def __init__(self, present: Present, of: Callable[[Process], V | None]) -> None:
        self.present = present
        self.of = of

    def items(self) -> ItemsView[Ident, V]:
        """(identity, thing) of each."""
        return _Items(self)

    def __getitem__(self, ident: Ident) -> V:
        process = self.present.get(ident)
        found = self.of(process) if process is not None else None
        if found is None:
            raise KeyError(ident)
        return found

    def __iter__(self) -> Iterator[Ident]:
        return (process.ident for process in self.present if self.of(process) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

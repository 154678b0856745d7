"""Pure: what a unit holds where no cgroup tells it: the sum of its processes, nothing twice.

A forked child shares what its parent held until it writes, and the kernel counts it as anonymous in
both. So what a child held at first sight is inherited, and not its own, while both run the same
executable (measured: a parent of 100 MiB with four children sums to 581 MiB; the machine lost 42).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from watchdog.facts import Ident
from watchdog.history.present import Kind, Process


class Sum(NamedTuple):
    """What a unit holds: private memory and swap, and shared memory once; bytes."""

    unit: str
    private: int
    shmem: int
    members: int


class Inherited:
    """What each child got from its parent. Told of births, execs and deaths."""

    def __init__(self) -> None:
        self._of: dict[Ident, tuple[Ident, int]] = {}
        self._heirs: dict[Ident, list[Ident]] = {}
        self.touched: set[Ident] = set()  # of whom it changed; emptied by who uses it

    def born(self, ident: Ident, size: int, parent: Ident, parent_size: int) -> None:
        """A child of the same executable, seen for the first time."""
        self._of[ident] = (parent, min(size, parent_size))
        self.touched.add(ident)
        self._heirs.setdefault(parent, []).append(ident)

    def another(self, ident: Ident) -> None:
        """It runs another executable now: what it holds is its own."""
        found = self._of.pop(ident, None)
        if found is not None:
            self.touched.add(ident)
            self._drop(found[0], ident)

    def gone(self, ident: Ident) -> None:
        """It has ended: what its children share is the eldest child's now."""
        self.another(ident)
        heirs = [one for one in self._heirs.pop(ident, []) if one in self._of]
        if not heirs:
            return
        eldest = min(heirs, key=lambda one: (one[1], one[0]))
        _, kept = self._of.pop(eldest)
        self.touched.update(heirs)
        for one in heirs:
            if one != eldest:
                self._of[one] = (eldest, min(kept, self._of[one][1]))
                self._heirs.setdefault(eldest, []).append(one)

    def size(self, ident: Ident) -> int:
        """Bytes of it that are another's."""
        found = self._of.get(ident)
        return found[1] if found else 0

    def sizes(self) -> Mapping[Ident, tuple[Ident, int]]:
        """(parent, bytes that are its) of all who inherited."""
        return self._of

    def _drop(self, parent: Ident, ident: Ident) -> None:
        heirs = self._heirs.get(parent)
        if heirs is not None and ident in heirs:
            heirs.remove(ident)
            if not heirs:
                del self._heirs[parent]

    def __len__(self) -> int:
        return len(self._of) + len(self._heirs)


def sums(present: Iterable[Process], inherited: Inherited, told: frozenset[str]) -> Iterator[Sum]:
    """The units that no cgroup tells of (those of `told` are), by name."""
    found: dict[str, list[int]] = {}
    whose = inherited.sizes()
    for process in present:
        _, _, _, rss, shared, swap, unit, shmem = process.row
        if unit is None or unit in told:
            continue
        size = rss - shared if rss > shared else 0
        if swap:
            size += swap
        if whose and (heir := whose.get(process.ident)):
            size = max(0, size - heir[1])
        one = found.get(unit)
        if one is None:
            found[unit] = [size, shmem or 0, 1]
            continue
        one[0] += size
        one[2] += 1
        if shmem and shmem > one[1]:
            one[1] = shmem
    for unit in sorted(found):
        yield Sum(unit, *found[unit])


def same_program(who: Kind | None, parent: Kind | None) -> bool:
    """Whether a child runs what its parent runs, as far as that is known."""
    return who is not None and parent is not None and who.exe is not None and who.exe == parent.exe

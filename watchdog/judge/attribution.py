"""Pure: is every kill accounted for? The kernel's counters against the kernel log's lines.

vmstat's oom_kill rises by one for each "Killed process" line, just before the line is printed
(mm/oom_kill.c, __oom_kill_process), and so does the count of the victim's own cgroup. A process
that a group kill prints twice is counted twice. So the counter minus the lines is what was missed:

    value - accounted = owed        a line, or telling what was missed, raises `accounted`
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from watchdog.facts import CgroupKills, Counted, Missing

# So long a line may take (a loaded machine, a source that is read in turns).
GRACE_S = 10.0
# Older debts than this are told although the cgroups could not be looked at.
GIVE_UP_S = 15.0
# The line of a kill whose absence was told belongs to before that; clocks differ by less than this.
LATE_S = 2.0
# A reading contradicts a line only if it was made so long after it: the line's own time is the
# kernel's clock, brought over to ours.
SURE_S = 1.0
# Cgroups that are gone are remembered by their counts, for the day on which they might be back.
CGROUPS_MAX = 4096
MISSING_MAX = 32


class Balance:
    """Kills that the kernel counted against kills that were told, over restarts of the daemon.

    `kept` says up to which value an earlier run accounted for; without it (the first start ever,
    or a boot that nobody told) the first reading is the beginning; of another boot's the kernel has
    counted from 0. A reading that tells no boot is of the boot that runs.
    """

    def __init__(self) -> None:
        self.value: int | None = None
        self._first: int | None = None
        self.read_up: float | None = None
        self.agreed = True  # at the last reading: no line was read that it had not counted
        self._boot: str | None = None
        self._kept: Counted | None = None
        self._accounted = 0
        self._earlier: tuple[int, tuple[Missing, ...]] = (0, ())  # see `join`
        self._begun: tuple[float, float | None] | None = None
        self._debts: deque[tuple[float, int]] = deque()  # (when the rise was seen, kills)
        self._missing: list[Missing] = []
        self._told_up: float | None = None

    def take(self, kept: Counted) -> None:
        """What an earlier run kept; before the first reading."""
        self._kept = kept

    def join(self, kept: Counted) -> None:
        """What an earlier run kept, where it could not be read in time.

        From now on `kept` tells the next run how far both have accounted: what was counted
        between them is the next one's to tell, for it reads the log from where the earlier ended.
        """
        if self._first is None:
            self.take(kept)
        elif not (kept.boot_id and self._boot):
            return  # it is no beginning, as in `_begin`
        elif kept.boot_id == self._boot:
            self._earlier = kept.value - self._first, kept.missing
        else:
            self._earlier = -self._first, ()

    def kept(self) -> Counted | None:
        """What the next run has to know; None before the first reading."""
        if self.value is None:
            return None
        more, missing = self._earlier
        upto = max(0, self._accounted + more)
        return Counted(self._boot or "", upto, (*missing, *self._missing)[-MISSING_MAX:])

    @property
    def owed(self) -> int:
        """Kills that were counted, and of which nothing has been told yet."""
        return sum(count for _, count in self._debts)

    def reading(self, value: int, t: float, up: float | None, boot_id: str | None) -> None:
        """The counter now. All lines that were read before have been counted in it."""
        now = t if up is None else up
        if self.value is None or (self._boot and boot_id and boot_id != self._boot):
            self._begin(value, t, up, boot_id)
        elif value < self.value:  # another machine's, or one that was restored: begin anew
            self._accounted, self._missing = value, []
        self.value, self.read_up, self._boot = value, now, self._boot or boot_id
        self.agreed = self._accounted <= value
        if not self.agreed:
            # More lines than counts: those of before our time, or late ones.
            self._settle(self._accounted - value, None)
            self._accounted = value
        rise = value - self._accounted - self.owed
        if rise > 0:
            self._debts.append((now, rise))
        self._pay(-rise)

    def covers(self, lines: int, t: float, up: float | None) -> bool | None:
        """Has the counter risen for so many lines, the last of which was read then?

        None: it was not read since, cannot be read at all, or had counted them before we began.
        """
        if self.value is None or self.read_up is None or self._predates(t, up):
            return None
        if self.value - self._accounted >= lines:
            return True
        return False if self.read_up >= (t if up is None else up) + SURE_S else None

    def line(self, count: int, t: float, up: float | None) -> list[str]:
        """So many kill lines were read; the ids of the events about missing ones they settle."""
        if self._predates(t, up):
            return []
        settled: list[str] = []
        late = sum(one.kills for one in self._missing if _before((t, up), one[2:], LATE_S))
        if late:
            settled = self._settle(min(late, count), (t, up))
            count -= min(late, count)
        self._accounted += count
        self._pay(count)
        return settled

    def due(self, now: float, looked_up: float | None) -> int:
        """How many have had no line for so long that it is to be told; at most every 10 s."""
        if self._told_up is not None and now - self._told_up < GRACE_S:
            return 0
        return sum(
            count
            for at, count in self._debts
            if now - at >= GIVE_UP_S
            or (now - at >= GRACE_S and looked_up is not None and looked_up >= at)
        )

    def told(self, count: int, event_id: str, t: float, up: float | None) -> None:
        """So many, the oldest, were told as missing."""
        self._told_up = t if up is None else up
        self._accounted += count
        self._pay(count)
        self._missing.append(Missing(event_id, count, t, up))
        del self._missing[:-MISSING_MAX]

    def after(self, count: int) -> int:
        """The value up to which is accounted for, once so many more are told."""
        return self._accounted + count

    def oldest(self) -> float | None:
        """When the oldest rise was seen that nothing was told of."""
        return self._debts[0][0] if self._debts else None

    def newest(self) -> float | None:
        """When the newest of them was seen."""
        return self._debts[-1][0] if self._debts else None

    def _predates(self, t: float, up: float | None) -> bool:
        return self._begun is not None and _before((t, up), self._begun, 0.0)

    def _begin(self, value: int, t: float, up: float | None, boot_id: str | None) -> None:
        kept, early = self._kept, self._accounted if self.value is None else 0
        self._boot, self._begun, self._first = boot_id, None, value
        self._debts.clear()
        self._missing = []
        if kept is None or self.value is not None or not (kept.boot_id and boot_id):
            self._accounted, self._begun = value, (t, up)
        elif kept.boot_id == boot_id:
            self._accounted, self._missing = kept.value + early, list(kept.missing)
        else:
            self._accounted = early

    def _pay(self, count: int) -> None:
        while count > 0 and self._debts:
            at, owed = self._debts.popleft()
            if owed > count:
                self._debts.appendleft((at, owed - count))
            count -= owed

    def _settle(self, count: int, when: tuple[float, float | None] | None) -> list[str]:
        settled: list[str] = []
        kept: list[Missing] = []
        for one in self._missing:
            fits = count > 0 and (when is None or _before(when, one[2:], LATE_S))
            part = min(one.kills, count) if fits else 0
            if part:
                settled.append(one.id)
                count -= part
            if one.kills > part:
                kept.append(one._replace(kills=one.kills - part))
        self._missing = kept
        return settled


def _before(
    one: tuple[float, float | None], other: tuple[float, float | None], slack: float
) -> bool:
    """By both clocks: the wall's may be set, and the boot's differs where it was read from."""
    by_up = one[1] is None or other[1] is None or one[1] <= other[1] + slack
    return by_up and one[0] <= other[0] + slack


class Found(NamedTuple):
    """A cgroup that counted kills; `below`: not itself, but one below it that is gone."""

    cgroup: str
    kills: int
    below: bool


class CgroupCounts:
    """Which cgroups counted kills of which no line tells. Local counts, and those of the subtree.

    Laws: `group` and `scan` note rises against the last known value; a line takes its rise back,
    or, where the rise was not seen yet, raises the value that is expected.
    """

    def __init__(self) -> None:
        self._local: dict[str, int] = {}
        self._tree: dict[str, int] = {}
        self._rises: dict[str, int] = {}
        self._tree_rises: dict[str, int] = {}
        self._whole = False

    def group(self, cgroup: str, events: Mapping[str, int]) -> None:
        """The counts of one cgroup, as facts.Group tells them."""
        tree = events.get("oom_kill")
        local = events.get("oom_kill_local", tree)
        if local is not None:
            self._note(self._local, self._rises, cgroup, local)
        if tree is not None and "oom_kill_local" in events:
            self._note(self._tree, self._tree_rises, cgroup, tree)

    def scan(self, found: CgroupKills) -> None:
        """All cgroups that ever counted a kill; who is not among them has counted none."""
        for cgroup, local, tree in found.rows:
            self._note(self._local, self._rises, cgroup, local)
            if tree is not None:
                self._note(self._tree, self._tree_rises, cgroup, tree)
        self._whole = self._whole or found.whole

    def line(self, cgroup: str | None, count: int) -> None:
        """So many lines of kills in that cgroup were read."""
        path = cgroup or ""
        if path:
            _expect(self._local, self._rises, path, count)
        while path:
            _expect(self._tree, self._tree_rises, path, count)
            path = path.rpartition("/")[0]

    def clear(self) -> None:
        """Every kill is accounted for: no rise is left to be explained."""
        self._rises.clear()
        self._tree_rises.clear()

    def forget(self, known: Iterable[str]) -> None:
        """Only these cgroups are still there."""
        stay = set(known)
        for table in (self._local, self._tree):
            gone = [path for path in table if path not in stay]
            many = len(gone) > CGROUPS_MAX
            for path in gone:
                if many or not table[path]:
                    del table[path]

    def unexplained(self) -> list[Found]:
        """Who counted what no line tells, the largest first."""
        found = [Found(path, rise, False) for path, rise in self._rises.items() if rise > 0]
        explained = [(path, rise) for path, rise in self._rises.items() if rise > 0]
        for path in sorted(self._tree_rises, key=lambda path: (-path.count("/"), path)):
            inside = sum(n for other, n in explained if f"{other}/".startswith(f"{path}/"))
            rest = self._tree_rises[path] - inside
            if rest > 0:
                found.append(Found(path, rest, True))
                explained.append((path, rest))
        return sorted(found, key=lambda one: (-one.kills, one.cgroup))

    def _note(self, table: dict[str, int], rises: dict[str, int], cgroup: str, value: int) -> None:
        before = table.get(cgroup)
        table[cgroup] = value
        if before is None:
            before = 0 if self._whole else value  # of before our time, or new since
        elif value < before:
            return  # made anew under its old name, or a line that named another cgroup
        if value > before:
            rises[cgroup] = rises.get(cgroup, 0) + value - before


def _expect(table: dict[str, int], rises: dict[str, int], path: str, count: int) -> None:
    seen = min(count, rises.get(path, 0))
    if seen:
        rises[path] -= seen
    if path in table:
        table[path] += count - seen

"""Looks at everybody, what each holds then, and whose shared memory is between two words of it."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from watchdog.judge.candidates import Loss

# A rise of shared memory by less tells nothing of who it is that takes it.
SHARED_RISE = 4 << 20


class Look(NamedTuple):
    """A look at everybody: what each holds by pid (with ``shared`` of it), and what was available.

    ``files`` is the shared memory that belongs to no process, as far as that is known. ``private``
    is what the largest held with what lay in swap; None: nothing lay there.
    """

    up: float
    available: int
    sizes: dict[int, int]
    shared: Mapping[int, int] = {}
    files: int = 0
    slab: int = 0
    swap_free: int = 0
    private: Mapping[int, int] | None = None

    @property
    def there(self) -> int:
        """What could be had then, in memory and swap."""
        return self.available + self.swap_free

    def knowing(self, now: "Look") -> "Look":
        """As it would have been, had it been known then whose the shared memory is.

        Together they cannot have taken more than all shared memory rose by, and what others let
        go of. Who had some then already comes first; whoever is new to us has what is left.
        """
        then, there = self.shared, now.shared
        total = sum(there.values()) + now.files - sum(then.values()) - self.files
        rises = {pid: size - then.get(pid, 0) for pid, size in there.items()}
        left = max(0, total) + sum(size - there.get(pid, 0) for pid, size in then.items()
                                   if size > there.get(pid, 0))  # fmt: skip
        shared, sizes, files = dict(then), dict(self.sizes), self.files
        for known in (True, False):
            some = {pid: one for pid, one in rises.items() if one > 0 and (pid in then) is known}
            rise = sum(some.values())
            for pid, one in some.items():
                had = one - one * min(left, rise) // rise
                shared[pid] = shared.get(pid, 0) + had
                sizes[pid] = sizes.get(pid, 0) + had
                files -= had
            left -= min(left, rise)
        return self._replace(sizes=sizes, shared=shared, files=max(0, files))


class Shared(NamedTuple):
    """Shared memory that goes with processes, as the watcher told it when all of it was `total`.

    ``parts``: what each took of what all of it rose by, from the word before to this one.
    """

    total: int = 0
    sizes: Mapping[tuple[int, int], int] = {}
    parts: Mapping[tuple[int, int], float] = {}

    def then(self, total: int, sizes: Mapping[tuple[int, int], int]) -> "Shared":
        """The next word, after this one."""
        rise = total - self.total
        if not self.total or rise < SHARED_RISE:
            return Shared(total, sizes, {})
        rises = {one: size - self.sizes.get(one, 0) for one, size in sizes.items()}
        known = {one: part for one, part in rises.items() if part > 0 and one in self.sizes}
        # What somebody is told to hold for the first time he may have held for long.
        new = {one: part for one, part in rises.items() if one not in self.sizes}
        took = sum(known.values())
        parts = {one: part / max(rise, took) for one, part in known.items()}
        left = max(0, rise - took) / rise
        parts |= {one: min(part / rise, left * part / sum(new.values()))
                  for one, part in new.items() if part}  # fmt: skip
        return Shared(total, sizes, parts)

    def now(self, total: int) -> dict[tuple[int, int], int]:
        """As far as they have gone on since: the machine's is `total` now."""
        rise = max(0, total - self.total)
        return {one: int(size + self.parts.get(one, 0.0) * rise)
                for one, size in self.sizes.items()}  # fmt: skip


def grown(private: int, pid: int, born_up: float, now: Look, then: Look) -> int:
    """What a process took from look to look: what went to swap of it has not been given back.

    `private` is what it holds now with what lies in swap; `then` as `Look.knowing` has it.
    """
    # A number that was somebody else's at the earlier look is a newcomer.
    newer = born_up > then.up
    had = 0 if newer else then.sizes.get(pid, 0)
    if now.private is None:
        return now.sizes.get(pid, 0) - had
    if then.private is not None and not newer:
        if pid not in then.private:  # it was not among the largest
            return now.sizes.get(pid, 0) - had
        had = then.private[pid] + then.shared.get(pid, 0)
    return private + now.shared.get(pid, 0) - had


def loss(
    now: Look, before: Look, own: Mapping[int, int],
    above: Iterable[tuple[Collection[int], int]], there: Callable[[int], bool],
) -> Loss:  # fmt: skip
    """What the machine lost from look to look, and what everybody took of it.

    `own` is what those hold who were read closely, without what a fork shares with its parent;
    `above` are the processes of each entity, and what it holds above the level that it has proven;
    `there` tells of a number that holds nothing any more whether somebody still has it.
    """
    then = before.knowing(now)
    rose = fell = new = 0
    for pid in now.sizes.keys() | then.sizes.keys():
        had, size = then.sizes.get(pid), now.sizes.get(pid, 0)
        if had is None:
            new += max(0, min(size, own.get(pid, size)))  # the rest a fork shares
        elif size or there(pid):
            rose += max(0, size - had)
            fell += max(0, had - size)
        else:
            new -= had  # it has ended, and a newcomer may be in its place
    swapped = before.swap_free - now.swap_free
    lost = before.available - now.available + swapped
    filed = now.files - then.files
    if swapped > 0:
        # It was a file's, or is missing in who fell, or hides that somebody rose. More than that
        # may have fallen without a gain: what MADV_FREE gave back was available.
        swapped = max(0, swapped - max(0, min(swapped, -filed)) - fell)
    # What came back from swap was theirs before, and is in who rose.
    owned = max(0, rose + max(0, new) + swapped)
    # Where one rises as another falls they took nothing: no more is theirs than others left.
    others = max(0, filed) + (max(0, now.slab - before.slab) if before.slab else 0)
    net = min(owned, max(0, lost - others))
    # But what somebody took above what he has proven is not undone by what another gives back.
    taken = sum(
        min(excess, max(0, sum(_rise(pid, now, then, own) for pid in pids)))
        for pids, excess in above
        if excess
    )
    # A newcomer in the place of who has ended took nothing: `owned` knows.
    return Loss(lost, now.up - before.up, max(net, min(owned, taken + min(0, swapped))))


def _rise(pid: int, now: Look, then: Look, own: Mapping[int, int]) -> int:
    size, had = now.sizes.get(pid, 0), then.sizes.get(pid)
    return min(size, own.get(pid, size)) if had is None else size - had

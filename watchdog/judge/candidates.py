"""Pure: who may be taken, and the entities whose processes are judged together."""

from collections.abc import Callable
from typing import NamedTuple

from watchdog.guard_facts import SHARED_UNITS, DossierRow

MIB = 1 << 20
# A loss smaller than this says nothing about who caused it.
LOSS_LEAST = 32 * MIB
ALLOWANCE = 1.05


def least_told(need: int) -> int:
    """In the first minutes a loss of so many bytes tells who grows, where `need` are needed."""
    return min(LOSS_LEAST, need // 4) if need > 0 else LOSS_LEAST


class Candidate(NamedTuple):
    """One process as the guard has just read it. Sizes are bytes.

    ``grew`` is what it took since the earlier look, ``leak`` the confidence of a confirmed leak
    (else 0), ``known`` False where the watcher has said nothing about it yet. ``entity`` names
    whose processes are judged together; ``entity_proven``, ``entity_leak``, ``entity_use`` and
    ``entity_grew`` are those of the whole (None: not told, its processes are added up). Of what
    its processes hold ``real`` thousandths are really its own. ``seen`` is its size as it was
    read, where ``use`` leaves out what a fork shares with its parent, and counts ``shared`` too:
    shared memory that goes with it. ``entity_read``: of its entity all were read who may be taken.
    """

    pid: int
    start: int
    comm: str
    uid: int | None
    unit: str | None
    use: int
    frees: int
    proven: int = 0
    grew: int = 0
    leak: float = 0.0
    protected: str | None = None
    weight: int = 0
    known: bool = True
    entity: str | None = None
    entity_proven: int = 0
    entity_leak: float = 0.0
    real: int = 1000
    seen: int = 0
    shared: int = 0
    entity_use: int | None = None
    entity_grew: int | None = None
    entity_read: bool = False

    @property
    def excess(self) -> int:
        """What it holds above 1.05 times the level that it has proven."""
        return max(0, self.use - int(ALLOWANCE * self.proven))

    def with_dossier(self, row: DossierRow | None) -> "Candidate":
        """With what the watcher knows of it."""
        if row is None:
            return self._replace(known=False)
        return self._replace(
            unit=row[3], proven=max(0, row[4] - row[16]), leak=row[6],
            protected=self.protected or row[7], weight=row[8], entity=row[9],
            entity_proven=row[10], entity_leak=row[11], real=row[12], entity_use=row[14],
        ).without(row[16])  # fmt: skip

    def without(self, inherited: int) -> "Candidate":
        """Without what a fork shares with its parent: that is its parent's, and stays."""
        if not inherited:
            return self
        own = max(0, self.use - self.shared - inherited) + self.shared
        frees = max(0, self.frees - (self.use - own))
        return self._replace(use=own, frees=frees, grew=min(self.grew, own))


class Loss(NamedTuple):
    """What the machine lost since an earlier look, in bytes and seconds; 0, 0.0: not known.

    What swap took is lost as well. ``owned`` is what all processes together took of it, in memory
    and in swap (None: what the candidates did).
    """

    bytes: int = 0
    seconds: float = 0.0
    owned: int | None = None


class Group(NamedTuple):
    """One entity. ``members`` are those that may be taken; the first is the one that would go.

    ``spared`` are its protected processes. Where there are any, what the rest tells is what the
    members alone answer for; ``whole`` is the excess of all.
    """

    members: tuple[Candidate, ...]
    spared: tuple[Candidate, ...]
    whole: int
    excess: int
    frees: int
    use: int
    proven: int
    grew: int
    leak: float
    preference: int


def groups_of(candidates: list[Candidate]) -> list[Group]:
    """The processes of one entity together. Protected ones are told of, and are no members."""
    by_key: dict[tuple[str, int, int], list[Candidate]] = {}
    for one in candidates:
        name = one.entity
        if name is None and one.unit is not None and not one.unit.startswith(SHARED_UNITS):
            name = one.unit
        key = ("", one.pid, one.start) if name is None else (name, 0, 0)
        by_key.setdefault(key, []).append(one)
    return [_group(everybody) for everybody in by_key.values()]


def _group(everybody: list[Candidate]) -> Group:
    everybody = sorted(
        everybody, key=lambda m: (m.leak > 0, m.excess, m.use, m.start, m.pid), reverse=True
    )
    members = tuple(one for one in everybody if one.protected is None)
    spared = tuple(one for one in everybody if one.protected is not None)
    # Told of those that were known then; of a newcomer the part of its parent is taken off already.
    real = min(one.real for one in everybody)
    told = [one.entity_use for one in everybody if one.entity_use is not None]
    use = max(told) if told else _really([(one.use, one.known) for one in everybody], real)
    use = max(use, *(one.use for one in everybody))  # one process holds what it holds
    rises = [one.entity_grew for one in everybody if one.entity_grew is not None]
    grew = max(rises) if rises else _really([(one.grew, one.known) for one in everybody], real)
    grew = max(0, grew)
    proven = max(one.entity_proven for one in everybody)
    if all(one.entity is None for one in everybody):
        proven = sum(one.proven for one in everybody)
    whole = excess = max(0, use - int(ALLOWANCE * proven))
    leaks = [one.entity_leak for one in everybody]
    if spared and members:
        use, proven, grew = _theirs(members, spared, real, use, proven, grew)
        excess = min(whole, max(0, use - int(ALLOWANCE * proven)))
        if excess * 2 <= whole or any(one.leak for one in spared):
            leaks = []  # that of the unit is not theirs
    return Group(
        members,
        spared,
        whole,
        excess if members else 0,
        max(
            _really([(one.frees, one.known) for one in members], real),
            max((one.frees for one in members), default=0),
        ),
        use,
        proven,
        grew,
        max([*leaks, *(one.leak for one in members)], default=0.0),
        max(-1, min(1, members[0].weight)) if members else 0,
    )


def _theirs(
    members: tuple[Candidate, ...], spared: tuple[Candidate, ...], real: int,
    use: int, proven: int, grew: int,
) -> tuple[int, int, int]:  # fmt: skip
    """What of an entity's use, proven level and growth is its members'; the rest is protected.

    Not all of its processes may have been read, so each of the three is divided as what was read
    is; but members who were all read have no more than they hold. What members have proven each for
    itself is theirs. What the entity alone has proven (it outlives its processes) goes by what each
    side holds above that: the restarted worker needs it as much as the restarted server.
    """

    def both(sizes: Callable[[Candidate], int]) -> tuple[int, int]:
        mine, others = (
            _really([(max(0, sizes(one)), one.known) for one in side], real)
            for side in (members, spared)
        )
        return mine, others

    def part(size: int, mine: int, others: int) -> int:
        theirs = _part(size, mine, others)
        return min(theirs, mine) if all(one.entity_read for one in members) else theirs

    held = part(use, *both(lambda one: one.use))
    held = max(held, *(one.use for one in members))
    mine, others = both(lambda one: one.proven)
    mine = min(mine, proven)
    open_ = max(0, held - mine), max(0, use - held - others)
    level = mine + _part(max(0, proven - mine - others), *open_)
    return held, level, part(grew, *both(lambda one: one.grew))


def _part(size: int, mine: int, others: int) -> int:
    """Of `size` the part of `mine`, where it is divided like these two."""
    return size * mine // (mine + others) if mine else 0


def _really(sizes: list[tuple[int, bool]], real: int) -> int:
    """The sum of (bytes, known), where only `real` thousandths of the known ones' are their own."""
    known = sum(size for size, told in sizes if told)
    return known * real // 1000 + sum(size for size, told in sizes if not told)

"""What whole entities hold at this moment: the watcher's word, and what has changed since.

The guard reads 64 to 128 processes closely. A unit may have more of them, and what they hold added
up is not what the unit does (they share; files in memory are in none of them). So a unit holds what
the watcher told, by the same measure as what it has proven; and what its processes took since then.
"""

from collections.abc import Callable, Iterable, Mapping

from watchdog.guard_facts import DossierRow
from watchdog.judge.candidates import Candidate
from watchdog.sense.fast import LEAST_BYTES


def whole(
    found: list[Candidate], rows: Iterable[DossierRow], sizes: Mapping[int, int],
    had: Mapping[int, int] | None, ended: Callable[[int, int], bool],
) -> list[Candidate]:  # fmt: skip
    """Those of `found`, each with what all of its entity holds, and took since the earlier look.

    `sizes` and `had` are what everybody holds now and held then (resident; None: there was no
    look), `rows` the watcher's word, `ended` tells whether a process of it is not there any more.
    """
    close = {(one.pid, one.start): one for one in found}
    numbers = {one.pid for one in found}
    use: dict[str, int] = {}
    grew: dict[str, int] = {}
    lost: dict[str, int] = {}
    lent: dict[str, int] = {}
    unread: set[str] = set()  # those with somebody who may be taken and was not read
    for row in rows:
        pid, start, name, own, inherited = row[0], row[1], row[9], row[15], row[16]
        use.setdefault(name, row[14])
        one = close.pop((pid, start), None)
        if one is not None:
            use[name] += one.use - own
            grew[name] = grew.get(name, 0) + one.grew
            lent[name] = max(lent.get(name, 0), inherited)
            continue
        size = None if pid in numbers else sizes.get(pid)
        if size is None and ended(pid, start):
            if inherited:
                use[name] -= own
            else:
                lost[name] = lost.get(name, 0) + own
            continue
        # Nobody smaller is in a look, and the watcher tells of some who have just begun.
        if row[7] is None and max(own, size or 0) >= LEAST_BYTES:
            unread.add(name)
        if size is None:
            continue
        size = max(0, size - inherited)
        use[name] += max(0, size - own)  # what is missing may lie in swap
        if had is not None:
            grew[name] = grew.get(name, 0) + size - max(0, had.get(pid, inherited) - inherited)
    for one in close.values():  # newcomers
        if one.entity in use:
            use[one.entity] += one.use
            grew[one.entity] = grew.get(one.entity, 0) + one.grew
    for name, size in lost.items():  # what a parent shared with its children they still hold
        use[name] -= max(0, size - lent.get(name, 0))
    return [
        one._replace(entity_use=max(0, use[one.entity]), entity_grew=grew.get(one.entity, 0),
                     entity_read=one.entity not in unread)
        if one.entity in use else one
        for one in found
    ]  # fmt: skip

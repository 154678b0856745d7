"""Pure: who is to blame for a machine that runs out of memory. Not the biggest, and not the last.

Everybody has proven a level that the machine can carry (judge/proven.py). What somebody holds
above it is his excess, and blame goes by the excess. An entity's processes are judged together
(a unit; in a login a program; else the process), and inside it the one with the largest excess of
its own is chosen.

    gate    not protected, and its end frees 16 MiB and a quarter of what is needed
    class   3  a confirmed leak that has a quarter of all excess, or all that is needed (what ends a
               stall above the mark is not known, so there a quarter alone counts); unless it is
               outdone: it took less than a tenth of what the machine lost in the last seconds
               (32 MiB or more), and somebody with more excess took half of that or more
            2  a quarter of all excess, and a tenth of what the machine lost in the last seconds
            1  15 % of all excess
               (in the first minutes, without history: of who has proven nothing yet, a tenth of a
               loss of 32 MiB or more is class 2, whatever the share, and nothing is class 1)
            0  nothing to say against it

Of an entity with protected processes the others answer for their own part alone: excess, leak and
growth of who is protected count against nobody, and in the sum of all.

The rank is one tuple whose fields have names; larger goes first; the tuple is the explanation.
"""

from collections.abc import Iterable
from typing import NamedTuple

from watchdog import words
from watchdog.judge.candidates import (
    LOSS_LEAST,
    MIB,
    Candidate,
    Group,
    Loss,
    groups_of,
    least_told,
)

FREES_LEAST = 16 * MIB
STANDS_OUT, LARGE_SHARE, LARGE_RATE = 0.15, 0.25, 0.10
LARGE_LOSS = 0.5
TOLD = 5


class Rank(NamedTuple):
    """By blame. Shares in tenths, relief in quarters of the need, rate in percent of the loss."""

    blame: int
    share: int
    relief: int
    preference: int
    rate: int
    size: int
    start: int
    id: int


class Fallback(NamedTuple):
    """Where nobody stands out: who meets the need alone, is not to be avoided, has proven least.

    Of those who do not meet it the largest goes: who has proven least may have next to nothing.
    """

    meets_need: int
    preference: int
    unproven: int  # percent of its size; 0 where it does not meet the need
    size: int
    start: int
    id: int


class BySize(NamedTuple):
    """`victim = "size"`."""

    size: int
    start: int
    id: int


class Ranked(NamedTuple):
    """One candidate with the tuple that ranked it, which explains it too."""

    candidate: Candidate
    rank: Rank | Fallback | BySize
    because: tuple[str, ...]
    spread: bool = False  # its own excess is less than half of its entity's


class Blame(NamedTuple):
    """The answer. ``chosen`` is None where nobody may or should be taken; `because` says why.

    ``ranked`` are the first five, the chosen one first. ``how``: "blame", "size", "fallback"
    (nobody stands out), "held" (the loss belongs to no process), "nobody" (nobody is left).
    """

    chosen: Ranked | None
    ranked: tuple[Ranked, ...]
    how: str
    because: tuple[str, ...]


def rank(
    candidates: Iterable[Candidate],
    need: int,
    *,
    loss: Loss = Loss(),  # noqa: B008  immutable
    account: Loss = Loss(),  # noqa: B008
    deep: bool = False,
    stalled: bool = False,
    files: tuple[str, str] = ("", ""),
    by: str = "blame",
    history: bool | None = None,
) -> Blame:
    """Whom to take so that `need` bytes come back. `deep`: less than half of the mark is left.

    `account` is the loss since memory came near the mark, which tells of a loss that has stopped
    where nobody is seen to take memory now.
    `stalled`: more than the mark is left. Then, and where the need is 0, it proves nothing.
    `history`: what has been proven comes of a longer time than minutes (None: if anything has).
    `files` are sentences where what was lost lies in files in memory: then nobody is taken but a
    confirmed leak. The second is of what was lost in all, and counts where no process took what was
    lost since: it would be an innocent who goes for the files.
    The order in which the candidates come makes no difference.
    """
    everybody = list(candidates)
    entities = groups_of(everybody)
    total = sum(group.whole for group in entities)
    least = max(FREES_LEAST, need // 4)
    groups = [group for group in entities if group.members and group.frees >= least]
    if not groups:
        return Blame(None, (), "nobody", (_nobody(everybody), *_shielded(entities, total)))
    if by == "size":
        ranked = [_by_size(group) for group in groups]
        return _answer(ranked, "size", ("the largest is taken, as configured",))
    missing = 0 if stalled else need
    enough = missing if missing > 0 else max(1, int(LARGE_SHARE * total))
    just = loss
    if just.owned is None:
        just = loss._replace(owned=sum(max(0, one.grew) for one in everybody))
    # They answer where somebody took most of it above what he has proven. Else nothing tells that
    # what was lost before that has an owner.
    above = sum(min(group.grew, group.whole) for group in entities)
    answered = just.bytes >= LOSS_LEAST and above * 2 >= just.bytes
    unowned = _unowned(just) or ("" if answered else _unowned(account))
    filed = files[0] or (files[1] if unowned and deep else "")
    if filed:
        # A confirmed leak that holds all that is needed is worth its end whoever else takes memory.
        groups = [group for group in groups if group.leak > 0 and group.excess >= enough]
        if not groups:
            return Blame(None, (), "held", (filed, "nobody's end gives that back: nobody is taken"))
    if history is None:
        history = any(group.proven for group in entities)
    if unowned and not deep:
        return Blame(None, (), "held", (unowned, "nobody is taken while half of the mark is left"))
    because: tuple[str, ...] = ()
    if not history:
        because = ("little is known of the time before: low confidence",)
    if unowned:
        because += (unowned, "less than half of the mark is left: the choice is by size of excess")
    # The excess of whoever took most of the loss just now, if that says anything.
    told = loss.bytes >= LOSS_LEAST
    quick = max((g.excess for g in groups if told and _rate(g, loss) >= LARGE_LOSS), default=0)
    tells = loss.bytes >= least_told(missing)
    ranked = [
        _by_blame(group, total, need, enough, loss, tells, history, bool(unowned), quick)
        for group in groups
    ]
    outstanding = any(total and group.excess / total >= STANDS_OUT for group in groups)
    if not outstanding and not any(one.rank[0] for one in ranked):
        ranked = [_fallback(group, need) for group in groups]
        return _answer(ranked, "fallback", (*because, *_none(groups, entities, total)))
    return _answer(ranked, "blame", because)


def _answer(ranked: list[Ranked], how: str, because: tuple[str, ...]) -> Blame:
    ranked.sort(key=lambda one: one.rank, reverse=True)
    return Blame(ranked[0], tuple(ranked[:TOLD]), how, because)


def _unowned(loss: Loss) -> str:
    """A sentence where more than half of the loss belongs to no process, else ""."""
    owned = loss.owned or 0
    if loss.bytes < LOSS_LEAST or owned * 2 >= loss.bytes:
        return ""
    return (
        f"of {words.size(loss.bytes)} lost in {words.duration(loss.seconds)} the processes "
        f"took only {words.size(owned)}: the rest is the kernel's, or lies in files in "
        "memory (tmpfs)"
    )


def _by_blame(
    group: Group, total: int, need: int, enough: int, loss: Loss, tells: bool, history: bool,
    unowned: bool, quick: int,
) -> Ranked:  # fmt: skip
    share = group.excess / total if total else 0.0
    rate = _rate(group, loss)
    outdone = rate < LARGE_RATE and quick > group.excess
    # In the first minutes somebody who has proven nothing yet may just not have had the time.
    history = history or group.proven > 0
    blame = 0
    if group.leak > 0 and not outdone and (share >= LARGE_SHARE or group.excess >= enough):
        blame = 3  # also where it is not what took the memory just now
    elif not unowned:
        if rate >= LARGE_RATE and (share >= LARGE_SHARE if history else tells):
            blame = 2
        elif share >= STANDS_OUT and history:
            blame = 1
    victim = group.members[0]
    quarters = 4 if need <= 0 else min(4, group.frees * 4 // need)
    tuple_ = Rank(
        blame, int(share * 10), quarters, group.preference, int(rate * 100), group.use,
        victim.start, victim.pid,
    )  # fmt: skip
    spread = len(group.members) > 1 and victim.excess * 2 < group.excess
    return Ranked(victim, tuple_, tuple(_reasons(group, share, rate, need, loss)), spread)


def _rate(group: Group, loss: Loss) -> float:
    return min(1.0, group.grew / loss.bytes) if loss.bytes > 0 else 0.0


def _reasons(group: Group, share: float, rate: float, need: int, loss: Loss) -> list[str]:
    victim = group.members[0]
    many = len(group.members)
    whose = "it holds"
    if victim.unit and many > 1:
        left_out = ", without what is protected in it," if group.spared else ""
        whose = f"{victim.unit}{left_out} holds"
    held = f"{whose} {words.size(group.use)}"
    if group.proven:
        above = f"{words.size(group.excess)} more than" if group.excess else "no more than"
        held += f", {above} the {words.size(group.proven)} that it has proven to need"
    elif victim.known:
        held += ", and has not proven yet that it needs them"
    else:
        held += ", and is so new that nothing is known of it"
    said = [held]
    if victim.shared:
        said.append(f"{words.size(victim.shared)} of it is shared memory that ends with it")
    if group.excess:
        said.append(f"that is {words.share(share)} of all that is held above what is proven")
    if group.leak:
        said.append(f"its leak is confirmed (confidence {group.leak:.2f})")
    if rate >= 0.005:
        said.append(
            f"it took {words.share(rate)} of what the machine lost in the last "
            f"{words.duration(loss.seconds)}"
        )
    if many > 1:
        said.append(
            f"{victim.comm} is the first of its {many} processes to go ({words.size(victim.use)})"
        )
    said.append(_frees(victim, need))
    if group.preference:
        said.append("it is preferred" if group.preference > 0 else "it is to be avoided")
    return said


def _fallback(group: Group, need: int) -> Ranked:
    victim = group.members[0]
    unproven = max(0, group.use - group.proven) * 100 // max(1, group.use)
    meets = group.frees >= need
    tuple_ = Fallback(
        int(meets), group.preference, unproven if meets else 0, group.use, victim.start, victim.pid
    )
    because = (
        f"it holds {words.size(group.use)}, {unproven} % of it not proven",
        _frees(victim, need),
    )
    return Ranked(victim, tuple_, because)


def _frees(victim: Candidate, need: int) -> str:
    needed = f"; {words.size(need)} are needed" if need > 0 else ""
    return f"its end frees about {words.size(victim.frees)}{needed}"


def _by_size(group: Group) -> Ranked:
    victim = max(group.members, key=lambda m: (m.use, m.start, m.pid))
    because = (f"it holds {words.size(victim.use)}",)
    return Ranked(victim, BySize(victim.use, victim.start, victim.pid), because)


def _none(groups: list[Group], entities: list[Group], total: int) -> tuple[str, ...]:
    """Why nobody of `groups` stands out."""
    shielded = _shielded(entities, total)
    if shielded:
        return (*shielded, "nobody else stands out: this choice is a fallback")
    grown = [group for group in groups if group.excess]
    most = max((group.excess / total for group in groups), default=0.0) if total else 0.0
    return (
        f"nobody stands out: {len(grown)} hold more than they have proven, none of them more than "
        f"{words.share(most)} of it all; the machine is too small for its work, and this choice "
        "is a fallback",
    )


def _shielded(entities: list[Group], total: int) -> tuple[str, ...]:
    """A sentence for each of the first who stand out, and are protected."""
    least = max(1.0, STANDS_OUT * total)
    found = [group for group in entities if group.spared and group.whole - group.excess >= least]
    found.sort(key=lambda one: (one.whole - one.excess, one.spared[0].pid), reverse=True)
    return tuple(_shield(group, total) for group in found[:TOLD])


def _shield(group: Group, total: int) -> str:
    first, excess = group.spared[0], group.whole - group.excess
    more = len(group.spared) - 1
    who = f"{first.comm} (PID {first.pid})"
    who += f" and {more} more" if more else ""
    who += f" of {first.unit}" if first.unit else ""
    return (
        f"{who} {'have' if more else 'has'} {words.size(excess)} above what is proven, "
        f"{words.share(excess / total)} of all that is, and may not be taken: {first.protected}"
    )


def _nobody(candidates: list[Candidate]) -> str:
    if not candidates:
        return "no process could be read"
    protected = sum(one.protected is not None for one in candidates)
    return (
        f"none of the {words.count(len(candidates), 'largest process')} may be taken and would "
        f"free enough ({protected} protected)"
    )

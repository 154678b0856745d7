"""Pure: too small or leaking? The verdict on one OOM report, its confidence and its reasons.

With history the growth before the kill decides, what the leak judge had said, and earlier kills of
the same unit. Without history the report alone can only hint: then no confidence is above
ALONE_MAX, and the reasons say so. The rules stand in the order of `judge`; the first that speaks is
the verdict. Confidences are start values; each has its reason beside it.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from watchdog import words
from watchdog.judge import shortage
from watchdog.judge.choice import row_of
from watchdog.judge.past import Grower, Growth, Kill, Leak, Past
from watchdog.judge.places import short
from watchdog.oom_report.report import Report

ALONE_MAX = 0.5
MIB = 1 << 20

STEADY_S = 600.0  # the finest trend is five minutes long: twice that shows a level, not a pause
STEADY_SHORT_S = 120.0
STEADY_LEAST_S = 20.0  # four of the finest buckets
LEVEL = 1.1  # growth below a tenth is noise of allocators and caches
CULPRIT_TIMES = 3.0  # the victim did not cause it where another grew three times as much


class Verdict(NamedTuple):
    """leak, too-small, spike, limit-too-low, kernel-memory, fragmentation or unknown; 0..1.

    `reason` is the sentence that decided, `reasons` all that was weighed, the decisive one first.
    `culprit` is who grew where it was not the victim. `alone`: from the report without history.
    `short` is False where memory was not short at all.
    """

    verdict: str
    confidence: float
    reason: str
    reasons: tuple[str, ...] = ()
    culprit: Grower | None = None
    alone: bool = True
    short: bool = True


def judge(report: Report, past: Past) -> Verdict:
    """The verdict, of what the report tells and of what was known before it."""
    known = _known(past)
    found = _first(report, past, known)
    confidence = found.confidence if known else min(found.confidence, ALONE_MAX)
    reasons = [found.reason, *found.reasons, *_besides(report, past)]
    if not known and found.verdict != "unknown" and not report.manual:
        reasons.append("this is from the report alone, without history")
    unique = tuple(dict.fromkeys(reasons))
    return found._replace(confidence=round(confidence, 2), reasons=unique, alone=not known)


def _known(past: Past) -> bool:
    """Whether there is any history to judge by."""
    told = (past.growth, past.leak, past.unit_growth, past.unit_leak, past.growers, past.kills)
    return any(told)


def _first(report: Report, past: Past, known: bool) -> Verdict:
    if report.manual:
        return Verdict("unknown", 0.0, "somebody asked for this kill by SysRq-f")
    for found in _rules(report, past, known):
        if found is not None:
            return found
    return _unknown(report, known)


def _rules(report: Report, past: Past, known: bool) -> Iterator[Verdict | None]:
    yield _false_alarm(report)
    yield _no_process(report)
    yield _fragmentation(report)
    yield _leak(report, past)
    yield _kernel(report)
    if known:
        yield _other_grew(report, past)
        yield _repeated(report, past)
        yield _spike(report, past)
        yield _steady(report, past)
        yield _peaks(report, past)
        yield _ramp(past)
        yield _unseen(report, past)
    yield _reserved(report)
    yield _nodes(report)
    yield _shared(report)
    yield _fills_limit(report)
    yield _workers(report)


def _small(report: Report) -> str:
    """What "too small" is called: a limit that somebody set, or the machine."""
    return "too-small" if report.scope in ("global", None) else "limit-too-low"


# -- what the kernel's own figures prove ----------------------------------------------------------


def _false_alarm(report: Report) -> Verdict | None:
    if report.scope != "global" or shortage.zones(report).kind != "enough":
        return None
    account = shortage.held(report)
    if account is None or account.share(account.free) < shortage.MUCH:
        return None
    return Verdict(
        "unknown", 0.0,
        f"{words.size(account.free or 0)} of {words.size(account.total)} were free: the machine "
        "was not short of memory", short=False,
    )  # fmt: skip


def _no_process(report: Report) -> Verdict | None:
    if report.victim or report.rows or report.outcome not in ("panic", "no-victim"):
        return None
    if "tasks" in report.missing or report.unread or report.scope != "global":
        return None
    return Verdict(
        "too-small", 0.4,
        "no process was there yet: the machine is too small for its kernel and what is loaded",
    )  # fmt: skip


def _fragmentation(report: Report) -> Verdict | None:
    found = shortage.zones(report)
    order = report.invoker.order if report.invoker else None
    if found.kind == "pieces" and found.sentence:
        # the lists of free blocks prove it
        return Verdict("fragmentation", 0.85, found.sentence)
    untold = found.kind is None and report.scope != "memcg"
    if untold and report.fragmented and order and order > 0:
        return Verdict(
            "fragmentation", 0.6,
            f"no free block of {words.count(1 << order, 'page')} was left, while smaller ones were",
        )  # fmt: skip
    return None


def _kernel(report: Report) -> Verdict | None:
    account = shortage.held(report)
    if account is None:
        return None
    share, tables = account.share(account.kernel), account.share(account.pagetables)
    names = tuple(shortage.holders(report))
    if tables > 0.3 and tables * 2 > share:
        return Verdict(
            "kernel-memory", 0.8, f"{words.share(min(1.0, tables))} of the memory was page tables: "
            "somebody maps much more than it uses", names,
        )  # fmt: skip
    if share > 0.5:
        return Verdict(
            "kernel-memory", 0.8, f"{words.share(min(1.0, share))} of the memory was the kernel's "
            "own, which killing processes hardly frees", names,
        )  # fmt: skip
    processes = account.share((account.anon or 0) + (account.shmem or 0))
    if share >= 0.3 and share > processes:
        return Verdict(
            "kernel-memory", 0.6,
            f"the kernel held more ({words.share(share)}) than all processes did", names,
        )  # fmt: skip
    lost = account.share(account.unaccounted)
    if lost >= 0.4 and lost > processes:
        return Verdict(
            "kernel-memory", 0.4,
            f"{words.share(lost)} is in no counter: a driver, a balloon or a device holds it",
        )  # fmt: skip
    return None


# -- with history ---------------------------------------------------------------------------------


def _leak(report: Report, past: Past) -> Verdict | None:
    """The leak judge had spoken: of the victim, of its unit, or of another."""
    if past.leak is not None:
        return Verdict("leak", _sure(past.leak), leak_words(past.leak), alone=False)
    if past.unit_leak is not None:
        unit = past.victim.unit if past.victim and past.victim.unit else "its unit"
        # the unit's word is a little weaker: its cgroup may hold more than this process
        text = leak_words(past.unit_leak, short(unit))
        return Verdict("leak", round(_sure(past.unit_leak) - 0.05, 2), text)
    leaking = [g for g in past.growers if g.leak is not None and not _is_victim(g, past)]
    if not leaking:
        return None
    other = max(leaking, key=lambda g: (g.leak is not None and g.leak.stage == "confirmed",
                                        g.grew_bytes))  # fmt: skip
    grew = past.growth.last_bytes - past.growth.first_bytes if past.growth else 0
    if other.leak is None or grew > other.grew_bytes:
        return None
    text = f"the leak was {_grown(other)}; {_victim_was(report)}"
    return Verdict("leak", round(_sure(other.leak) - 0.05, 2), text, culprit=other)


def _sure(leak: Leak) -> float:
    """A confirmed leak that ended in the kill it foretold is as sure as it gets; a suspicion that
    did so is more than it was."""
    if leak.stage == "confirmed":
        return max(0.9, leak.confidence or 0.0)
    return max(0.6, min(0.8, leak.confidence or 0.0))


def leak_words(leak: Leak, who: str = "it") -> str:
    """What was known of a leak before the kill, as one sentence."""
    return (
        f"a leak of {who} was {leak.stage} ({words.rate(leak.rate)}, for "
        f"{words.duration(leak.for_s)})"
    )


def _is_victim(grower: Grower, past: Past) -> bool:
    who = past.victim
    if who is None:
        return False
    if grower.pid is not None:
        return grower.pid == who.pid
    return grower.unit is not None and grower.unit == who.unit


def _grown(grower: Grower) -> str:
    name = short(grower.name) + (f" (pid {grower.pid})" if grower.pid is not None else "")
    grew = f"{words.size(grower.grew_bytes)} in {words.duration(max(1.0, grower.over_s))}"
    return f"{name}, which grew {grew}"


def _victim_was(report: Report) -> str:
    victim = report.victim
    name = short(victim.comm or "the victim") if victim else "nobody"
    return f"{name} was only the one that the kernel took"


def _other_grew(report: Report, past: Past) -> Verdict | None:
    """Somebody else grew, and the victim did not."""
    others = [g for g in past.growers if not _is_victim(g, past)]
    if not others or (past.growth is None and past.unit_growth is None):
        return None
    most = max(others, key=lambda g: g.grew_bytes)
    own = past.growth or past.unit_growth
    grew = max(0, own.last_bytes - own.first_bytes) if own else 0
    account = shortage.held(report)
    total = account.total if account else 0
    # a tenth of the memory in question: less did not bring it to its end
    if most.grew_bytes < max(32 * MIB, total // 10) or most.grew_bytes < CULPRIT_TIMES * grew:
        return None
    text = f"the growth was {_grown(most)}; {_victim_was(report)}"
    if most.over_s <= STEADY_SHORT_S or most.grew_bytes >= most.last_bytes * 0.9 > 0:
        # it came from nothing: within two minutes that is a burst, else a run of its own
        if most.over_s <= STEADY_SHORT_S:
            return Verdict("spike", 0.7, text, culprit=most)
        return Verdict(_small(report), 0.5, text, culprit=most)
    return Verdict("leak", 0.5, f"{text}; it is under no suspicion of a leak yet", culprit=most)


def _repeated(report: Report, past: Past) -> Verdict | None:
    """The same unit or program was killed before: by its spacing and its sizes."""
    kills = past.kills
    if len(kills) < 2:
        return None
    now = _now(report, kills)
    story = history(report, past)
    sizes = [kill.size_bytes for kill in kills if kill.size_bytes] + (
        [_size(report)] if _size(report) else []
    )
    times = [kill.t for kill in kills] + ([now] if now else [])
    gaps = [b - a for a, b in itertools.pairwise(times) if b > a]
    typical = sorted(gaps)[len(gaps) // 2] if gaps else 0.0
    limits = [kill.limit_bytes for kill in kills if kill.limit_bytes]
    grows = past.growth is not None and _grew(past.growth) >= 0.5 * past.growth.last_bytes
    if len(sizes) >= 3 and sizes[-1] >= 1.5 * sizes[0] and sizes == sorted(sizes):
        # more memory did not help: each life takes what it is given
        more = f"it was killed at {', '.join(map(words.size, sizes[-4:]))}: more did not help"
        raised = len(set(limits)) > 1
        return Verdict("leak", 0.75 if raised else 0.65, more, (story,))
    if typical >= 3600 and grows:
        # hours of growth in each life, ended by the kill each time
        return Verdict("leak", 0.7, f"{story}: a leak that restarts hide", (_growth_words(past),))
    if 0 < typical < 600:
        # it does not get to work before it dies
        return Verdict(_small(report), 0.65, f"{story}: it cannot even start within its memory")
    if typical >= 3600 and _even(gaps) and not _was_steady(past.growth):
        return Verdict(
            "leak", 0.5,
            f"{story}: a leak that restarts hide, or a limit that is too low",
        )  # fmt: skip
    if _was_steady(past.growth):
        return Verdict(_small(report), 0.7, f"{story}, though it does not grow")
    return None


def history(report: Report, past: Past) -> str:
    """The earlier kills: how many, over what time, how far apart."""
    kills = past.kills
    if not kills:
        return ""
    now = _now(report, kills)
    whose = "of this unit" if past.victim and past.victim.unit else "of this program"
    nth = f"the {_ordinal(len(kills) + 1)} OOM kill {whose}"
    times = [kill.t for kill in kills] + ([now] if now else [])
    span = times[-1] - times[0]
    if span < 1:
        return nth
    gaps = sorted(b - a for a, b in itertools.pairwise(times))
    middle = words.duration(max(1.0, gaps[len(gaps) // 2]))
    text = f"{nth} in {words.duration(span)}"
    return f"{text}, {middle} apart" if len(gaps) > 1 else text


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def _now(report: Report, kills: tuple[Kill, ...]) -> float | None:
    """When this kill was, on the clock of the others."""
    t = report.t if report.t > 0 else report.wall
    return t if t is not None and t >= kills[-1].t else None


def _even(gaps: list[float]) -> bool:
    """Spaced evenly: as a leak that starts anew is, and an attack or a user's job is not."""
    if len(gaps) < 2:
        return False
    mean = sum(gaps) / len(gaps)
    return max(gaps) <= 1.6 * mean and min(gaps) >= 0.5 * mean


def _size(report: Report) -> int:
    """What the victim itself held when it died: files do not count, they can be dropped."""
    victim = report.victim
    if victim is None:
        return 0
    own = (victim.anon or 0) + (victim.shmem or 0) + (victim.swap or 0)
    if own:
        return own
    row, page = row_of(report, victim.pid), report.page_size
    return 0 if row is None or page is None else ((row.anon or 0) + (row.swap or 0)) * page


def _grew(growth: Growth) -> int:
    return max(0, growth.last_bytes - growth.first_bytes)


def _level(growth: Growth) -> bool:
    return growth.first_bytes <= growth.last_bytes * LEVEL <= growth.first_bytes * LEVEL * LEVEL


def _was_steady(growth: Growth | None) -> bool:
    return (
        growth is not None
        and growth.watched_s >= STEADY_S
        and growth.last_bytes <= growth.first_bytes * LEVEL
    )


def _spike(report: Report, past: Past) -> Verdict | None:
    growth = past.growth
    if growth is None:
        return None
    size = max(growth.last_bytes, _size(report))
    before = growth.minute_ago_bytes
    if before is not None and size >= 2 * before and size - before >= 16 * MIB:
        return Verdict(
            "spike", 0.8,
            f"it grew from {words.size(before)} to {words.size(size)} within the last minute",
        )  # fmt: skip
    longer = growth.ten_minutes_ago_bytes
    if longer is not None and size >= 4 * longer and size - longer >= 64 * MIB:
        return Verdict(
            "spike", 0.6,
            f"it grew from {words.size(longer)} to {words.size(size)} within ten minutes",
        )  # fmt: skip
    if growth.watched_s < STEADY_SHORT_S and size - growth.first_bytes >= max(16 * MIB, size // 2):
        young = words.duration(max(1.0, growth.watched_s))
        # a start that needs more than there is looks the same once; not when it comes again
        return Verdict(
            "spike", 0.6, f"it took {words.size(size - growth.first_bytes)} within {young}"
        )
    if growth.watched_s < STEADY_SHORT_S and size >= 2 * growth.last_bytes + 16 * MIB:
        return Verdict(
            "spike", 0.6,
            f"it was at {words.size(growth.last_bytes)} when last seen and at {words.size(size)} "
            "when it died",
        )  # fmt: skip
    if size >= 2 * growth.last_bytes and size - growth.last_bytes >= 32 * MIB:
        return Verdict(
            "spike", 0.75,
            f"it was at {words.size(growth.last_bytes)} when last seen and at {words.size(size)} "
            "when it died",
        )  # fmt: skip
    return None


def _steady(report: Report, past: Past) -> Verdict | None:
    growth = past.growth
    if growth is None:
        return _steady_unit(report, past)
    size = max(growth.last_bytes, _size(report))
    if growth.watched_s < STEADY_LEAST_S or size > growth.first_bytes * LEVEL:
        return _steady_unit(report, past)
    # ten minutes show a level; two only that it is not climbing fast, and less a guess
    sure = 0.75 if growth.watched_s >= STEADY_S else 0.55
    if growth.watched_s < STEADY_SHORT_S:
        sure = 0.4
    text = f"it was steady at {words.size(size)} for {words.duration(growth.watched_s)}"
    return Verdict(_small(report), sure, text)


def _steady_unit(report: Report, past: Past) -> Verdict | None:
    """Workers come and go, and the unit as a whole stays where it is."""
    unit = past.unit_growth
    if unit is None or unit.watched_s < STEADY_S or unit.last_bytes > unit.first_bytes * LEVEL:
        return None
    if past.growth is not None and past.growth.watched_s >= STEADY_S:
        return None
    text = (
        f"its unit was steady at {words.size(unit.last_bytes)} for "
        f"{words.duration(unit.watched_s)}, whatever its processes did"
    )
    return Verdict(_small(report), 0.6, text)


def _peaks(report: Report, past: Past) -> Verdict | None:
    """The floor stays, and it was as high before: it needs that much at times."""
    growth = past.growth if past.growth and past.growth.watched_s >= STEADY_S else past.unit_growth
    if growth is None or growth.watched_s < STEADY_S or not growth.highest_bytes:
        return None
    floor = growth.ten_minutes_ago_bytes or growth.minute_ago_bytes
    size = max(growth.last_bytes, _size(report) if growth is past.growth else 0)
    if floor is None or floor > growth.first_bytes * 1.25 or growth.highest_bytes < 0.9 * size:
        return None
    if growth.highest_bytes < 1.2 * floor:
        return None
    return Verdict(
        _small(report), 0.6,
        f"its floor stays at {words.size(floor)}, but at times it needs "
        f"{words.size(growth.highest_bytes)}, as before",
    )  # fmt: skip


def _ramp(past: Past) -> Verdict | None:
    """A long climb that the leak judge had not spoken of yet."""
    for growth, who in ((past.growth, "it"), (past.unit_growth, "its unit")):
        if growth is None or growth.watched_s < STEADY_S:
            continue
        late = growth.ten_minutes_ago_bytes
        still = growth.rate is None or growth.rate > 0
        rose = growth.last_bytes >= 1.5 * growth.first_bytes and _grew(growth) >= 16 * MIB
        if rose and still and (late is None or growth.last_bytes > late):
            # a warm-up climbs as well; the judge of leaks asks for more before it says so
            text = (
                f"{who} grew from {words.size(growth.first_bytes)} to "
                f"{words.size(growth.last_bytes)} in {words.duration(growth.watched_s)} and was "
                "still growing"
            )
            return Verdict("leak", 0.5, text)
    return None


def _unseen(report: Report, past: Past) -> Verdict | None:
    """Born and dead between two looks, while others were watched."""
    if past.growth is not None or past.victim is not None or past.since_t is None:
        return None
    if report.t - past.since_t < STEADY_SHORT_S or _size(report) < 32 * MIB:
        return None
    return Verdict(
        "spike", 0.5,
        f"it was not there at the last look, and died with {words.size(_size(report))}",
    )  # fmt: skip


def _growth_words(past: Past) -> str:
    growth = past.growth
    if growth is None:
        return ""
    begin = "in this life it" if past.kills else "it"
    verb = "grew" if growth.last_bytes >= growth.first_bytes else "shrank"
    return (
        f"{begin} {verb} from {words.size(growth.first_bytes)} to "
        f"{words.size(growth.last_bytes)} in {words.duration(max(1.0, growth.watched_s))}"
    )


# -- the report alone -----------------------------------------------------------------------------


def _reserved(report: Report) -> Verdict | None:
    account, free = shortage.held(report), report.huge_free or 0
    if account is None or account.share(free) < 0.25:
        return None
    return Verdict(
        "kernel-memory", 0.5,
        f"{words.size(free)} ({words.share(account.share(free))}) were reserved as huge pages and "
        "not in use",
    )  # fmt: skip


def _nodes(report: Report) -> Verdict | None:
    if report.scope not in ("cpuset", "mempolicy"):
        return None
    # a set of nodes is a limit that somebody chose
    what = "cpuset" if report.scope == "cpuset" else "memory policy"
    found = shortage.zones(report)
    if found.kind == "wrong":
        return Verdict(
            "limit-too-low", 0.5,
            f"its {what} leaves it no memory of the kind that was asked for",
        )  # fmt: skip
    return Verdict("limit-too-low", 0.4, f"the nodes of its {what} were full, others may not be")


def _workers(report: Report) -> Verdict | None:
    """Many of the same name and size, none of which stands out: the sum is too much."""
    account, page = shortage.held(report), report.page_size
    if account is None or page is None or not report.rows:
        return None
    sums: dict[str, list[int]] = {}
    for row in report.rows:
        sums.setdefault(row.name, []).append((row.anon if row.anon is not None else row.rss) * page)
    comm, sizes = max(sums.items(), key=lambda item: sum(item[1]))
    large = [size for size in sizes if size * 8 >= max(sizes)]
    total = sum(sizes)
    # six of a kind that hold most of it: a pool, sized by its administrator
    if len(large) < 6 or total < account.total * 0.5 or max(sizes) > 0.35 * account.total:
        return None
    held = words.size(total)
    return Verdict(
        _small(report), 0.4,
        f"{len(sizes)} processes named {short(comm, 15)} hold {held} together and none stands out: "
        "there are more of them than fit",
    )  # fmt: skip


def _shared(report: Report) -> Verdict | None:
    account = shortage.held(report)
    if account is None or account.share(account.shmem) < 0.5:
        return None
    return Verdict(
        _small(report), 0.35,
        f"{words.share(account.share(account.shmem))} of it is shared memory or files in a tmpfs, "
        "which no kill frees",
    )  # fmt: skip


def _fills_limit(report: Report) -> Verdict | None:
    """One process holds (nearly) all that its cgroup may have."""
    memory = report.limits.get("memory")
    if report.scope != "memcg" or memory is None or not memory.limit:
        return None
    victim, page = report.victim, report.page_size
    size = (victim.anon or 0) + (victim.shmem or 0) if victim else 0
    if page is not None and report.rows:
        size = max(size, max(row.anon if row.anon is not None else row.rss
                             for row in report.rows) * page)  # fmt: skip
    part = size / memory.limit
    if part < 0.9:
        return None
    # it would take more, and whether it would ever end the report cannot say
    return Verdict(
        "limit-too-low", 0.3,
        f"one process holds {words.share(min(1.0, part))} of the limit: it needs more than it may "
        "have, or it leaks",
    )  # fmt: skip


def _unknown(report: Report, known: bool) -> Verdict:
    small = "too little memory" if report.scope in ("global", None) else "a limit that is too low"
    reason = f"a leak or {small}, the log alone cannot tell"
    if not known:
        reason += " and nothing is known of its growth"
    else:
        reason = f"a leak or {small}: what is known of its growth does not tell"
    return Verdict("unknown", 0.0, f"{reason}{_alone_held(report)}")


def _alone_held(report: Report) -> str:
    """The share of the largest process, where it is most of the memory."""
    name, part = largest(report)
    return f"; {name} alone held {words.share(min(1.0, part))}" if part > 0.4 else ""


def largest(report: Report) -> tuple[str, float]:
    """The largest process, and its share (0..1) of the memory in question; ("", 0) if unknown."""
    page, account = report.page_size, shortage.held(report)
    if page is None or account is None or not report.rows:
        return "", 0.0
    row = max(report.rows, key=lambda r: r.rss)
    return short(row.name, 15), row.rss * page / account.total


def _besides(report: Report, past: Past) -> Iterator[str]:
    """What was weighed as well, or helps to understand."""
    if past.kills:
        story = history(report, past)
        if story:
            yield story
    sizes = [kill.size_bytes for kill in past.kills if kill.size_bytes]
    if len(sizes) >= 2:
        yield f"before it died at {', '.join(words.size(size) for size in sizes[-4:])}"
    growth = past.growth
    if growth is not None and growth.watched_s >= 1 and not _level(growth):
        yield _growth_words(past)
    grown = [g for g in past.growers if not _is_victim(g, past)][:1]
    if grown and grown[0].grew_bytes >= 16 * MIB:
        yield f"beside it grew {_grown(grown[0]).replace(', which grew', ' by')}"
    memory = report.limits.get("memory")
    if memory is not None and memory.failcnt >= 1000 and report.scope == "memcg":
        yield f"the limit had been reached {memory.failcnt:,} times by then"
    yield from shortage.holders(report)

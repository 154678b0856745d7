"""Pure: the rules of the verdict that go by what was known before the kill.

Growth, the leak judge's word, those that grew beside the victim, and earlier kills of the same
unit. Each rule answers None where it has nothing to say. Confidences are start values; each has its
reason beside it.
"""

import itertools
from collections.abc import Iterator

from watchdog import words
from watchdog.judge import shortage
from watchdog.judge.past import Grower, Growth, Kill, Leak, Past
from watchdog.judge.places import short
from watchdog.judge.ruling import MIB, Verdict, size_of, small
from watchdog.oom_report.report import Report

STEADY_S = 600.0  # the finest trend is five minutes long: twice that shows a level, not a pause
STEADY_SHORT_S = 120.0
STEADY_LEAST_S = 20.0  # four of the finest buckets
LEVEL = 1.1  # growth below a tenth is noise of allocators and caches
CULPRIT_TIMES = 3.0  # the victim did not cause it where another grew three times as much


def leak(report: Report, past: Past) -> Verdict | None:
    """The leak judge had spoken: of the victim, of its unit, or of another."""
    if past.leak is not None:
        return Verdict("leak", _sure(past.leak), leak_words(past.leak), alone=False)
    if past.unit_leak is not None:
        unit = past.victim.unit if past.victim and past.victim.unit else "its unit"
        # the unit's word is a little weaker: its cgroup may hold more than this process
        text = leak_words(past.unit_leak, short(unit))
        return Verdict("leak", round(_sure(past.unit_leak) - 0.05, 2), text)
    leaking = [g for g in past.growers if g.leak is not None and not is_victim(g, past)]
    if not leaking:
        return None
    other = max(leaking, key=lambda g: (g.leak is not None and g.leak.stage == "confirmed",
                                        g.grew_bytes))  # fmt: skip
    grew = past.growth.last_bytes - past.growth.first_bytes if past.growth else 0
    if other.leak is None or grew > other.grew_bytes:
        return None
    text = f"the leak was {grown(other)}; {_victim_was(report)}"
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


def is_victim(grower: Grower, past: Past) -> bool:
    """Whether that grower is the victim, or its unit."""
    who = past.victim
    if who is None:
        return False
    if grower.pid is not None:
        return grower.pid == who.pid
    return grower.unit is not None and grower.unit == who.unit


def grown(grower: Grower) -> str:
    """Who grew, by how much, over how long."""
    name = short(grower.name) + (f" (pid {grower.pid})" if grower.pid is not None else "")
    grew = f"{words.size(grower.grew_bytes)} in {words.duration(max(1.0, grower.over_s))}"
    return f"{name}, which grew {grew}"


def _victim_was(report: Report) -> str:
    victim = report.victim
    name = short(victim.comm or "the victim") if victim else "nobody"
    return f"{name} was only the one that the kernel took"


def other_grew(report: Report, past: Past) -> Verdict | None:
    """Somebody else grew, and the victim did not."""
    others = [g for g in past.growers if not is_victim(g, past)]
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
    text = f"the growth was {grown(most)}; {_victim_was(report)}"
    if most.over_s <= STEADY_SHORT_S or most.grew_bytes >= most.last_bytes * 0.9 > 0:
        # it came from nothing: within two minutes that is a burst, else a run of its own
        if most.over_s <= STEADY_SHORT_S:
            return Verdict("spike", 0.7, text, culprit=most)
        return Verdict(small(report), 0.5, text, culprit=most)
    return Verdict("leak", 0.5, f"{text}; it is under no suspicion of a leak yet", culprit=most)


def repeated(report: Report, past: Past) -> Verdict | None:
    """The same unit or program was killed before: by its spacing and its sizes."""
    kills = past.kills
    if len(kills) < 2:
        return None
    now = _now(report, kills)
    story = history(report, past)
    sizes = [kill.size_bytes for kill in kills if kill.size_bytes] + (
        [size_of(report)] if size_of(report) else []
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
        return Verdict("leak", 0.7, f"{story}: a leak that restarts hide", (growth_words(past),))
    if 0 < typical < 600:
        # it does not get to work before it dies
        return Verdict(small(report), 0.65, f"{story}: it cannot even start within its memory")
    if typical >= 3600 and _even(gaps) and not _was_steady(past.growth):
        return Verdict(
            "leak", 0.5,
            f"{story}: a leak that restarts hide, or a limit that is too low",
        )  # fmt: skip
    if _was_steady(past.growth):
        return Verdict(small(report), 0.7, f"{story}, though it does not grow")
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


def _grew(growth: Growth) -> int:
    return max(0, growth.last_bytes - growth.first_bytes)


def level(growth: Growth) -> bool:
    """Whether it ended where it began, within a tenth."""
    return growth.first_bytes <= growth.last_bytes * LEVEL <= growth.first_bytes * LEVEL * LEVEL


def _was_steady(growth: Growth | None) -> bool:
    return (
        growth is not None
        and growth.watched_s >= STEADY_S
        and growth.last_bytes <= growth.first_bytes * LEVEL
    )


def spike(report: Report, past: Past) -> Verdict | None:
    """Most of it came within a minute, ten minutes, or since it was last seen."""
    growth = past.growth
    if growth is None:
        return None
    size = max(growth.last_bytes, size_of(report))
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


def steady(report: Report, past: Past) -> Verdict | None:
    """It, or its unit, stayed where it was, and that was too much."""
    growth = past.growth
    if growth is None:
        return _steady_unit(report, past)
    size = max(growth.last_bytes, size_of(report))
    span = next((span for base, span in _levels(growth) if size <= base * LEVEL), 0.0)
    if span < STEADY_LEAST_S:
        return _steady_unit(report, past)
    # ten minutes show a level; two only that it is not climbing fast, and less a guess
    sure = 0.75 if span >= STEADY_S else 0.55
    if span < STEADY_SHORT_S:
        sure = 0.4
    text = f"it was steady at {words.size(size)} for {words.duration(span)}"
    return Verdict(small(report), sure, text)


def _levels(growth: Growth) -> Iterator[tuple[int, float]]:
    """Sizes of before, and for how long each was held: since the first sight or, where it was
    first seen while it started, since ten minutes or one. Of a long life ten minutes are a level
    only where their trend would not have made a tenth of it."""
    yield growth.first_bytes, growth.watched_s
    made = max(0.0, growth.rate) * growth.watched_s if growth.rate is not None else None
    level = made is not None and made <= growth.last_bytes * (LEVEL - 1)
    if growth.ten_minutes_ago_bytes and (level or growth.watched_s <= 2 * STEADY_S):
        yield growth.ten_minutes_ago_bytes, STEADY_S
    if growth.minute_ago_bytes and growth.watched_s <= STEADY_S:
        yield growth.minute_ago_bytes, 60.0


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
    return Verdict(small(report), 0.6, text)


def peaks(report: Report, past: Past) -> Verdict | None:
    """The floor stays, and it was as high before: it needs that much at times."""
    growth = past.growth if past.growth and past.growth.watched_s >= STEADY_S else past.unit_growth
    if growth is None or growth.watched_s < STEADY_S or not growth.highest_bytes:
        return None
    floor = growth.ten_minutes_ago_bytes or growth.minute_ago_bytes
    size = max(growth.last_bytes, size_of(report) if growth is past.growth else 0)
    if floor is None or floor > growth.first_bytes * 1.25 or growth.highest_bytes < 0.9 * size:
        return None
    if growth.highest_bytes < 1.2 * floor:
        return None
    return Verdict(
        small(report), 0.6,
        f"its floor stays at {words.size(floor)}, but at times it needs "
        f"{words.size(growth.highest_bytes)}, as before",
    )  # fmt: skip


def ramp(past: Past) -> Verdict | None:
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


def unseen(report: Report, past: Past) -> Verdict | None:
    """Born and dead between two looks, while others were watched."""
    if past.growth is not None or past.victim is not None or past.since_t is None:
        return None
    if report.t - past.since_t < STEADY_SHORT_S or size_of(report) < 32 * MIB:
        return None
    return Verdict(
        "spike", 0.5,
        f"it was not there at the last look, and died with {words.size(size_of(report))}",
    )  # fmt: skip


def growth_words(past: Past) -> str:
    """Its growth as one sentence."""
    growth = past.growth
    if growth is None:
        return ""
    begin = "in this life it" if past.kills else "it"
    verb = "grew" if growth.last_bytes >= growth.first_bytes else "shrank"
    return (
        f"{begin} {verb} from {words.size(growth.first_bytes)} to "
        f"{words.size(growth.last_bytes)} in {words.duration(max(1.0, growth.watched_s))}"
    )

"""Pure: from windows that rise to a suspicion, a confirmation and its end, with hysteresis.

    none --a window rises and would end soon--> suspected --it keeps rising--> confirmed
    suspected, confirmed --half of the rise is given back, or no new height for too long--> none

Growth over days whose end is far away is *advised*, once, beside the stages: it is no suspicion.
One incident at a time: nothing is told twice while it lasts.
"""

import math
from typing import NamedTuple

from watchdog import words
from watchdog.history.entities import NO_PASSES, Trend
from watchdog.history.ring import LEVELS, MISSING, Closes
from watchdog.judge.leak import Verdict, advisory, may_be_slow, may_end, verdict
from watchdog.judge.rise import FALLEN_MOST, GATES, LEVEL, LEVELS_OFF, Rise, measured, rise

# No new height for half of the time in which the rise was seen ends a suspicion, but not before a
# short rest: allocation comes in bursts.
QUIET_LEAST_S = 150.0
# A leak goes where it has not been. At least this part of a rise must lie above all that is
# remembered: saws, nightly jobs and daily loads come back to heights that they had before.
LEAST_FRESH = 0.4
SLOWEST = 3  # the first level of half an hour and more
HIGH_BEFORE = "has been as high before"


class Change(NamedTuple):
    """A new stage, and why; `found` is None where the suspicion ended."""

    kind: str  # leak.suspected | leak.confirmed | leak.cleared | leak.advisory
    found: Verdict | None
    because: tuple[str, ...]


class Ending(NamedTuple):
    """What would end this growth: bytes left, whose they are (None: no limit is known)."""

    bytes: int | None
    of: str


def rising(trend: Trend, index: int) -> Rise | str:
    """The rise at one level, over the longest window that shows it."""
    ring, gate, level = trend.rings[index], GATES[index], LEVELS[index]
    if ring is None or len(ring.values) - ring.values.count(MISSING) < gate.suspect_n:
        return "too little seen"
    ages, floors = ring.known(level.slots)
    # A leak that begins late fills only the end of the ring: look at shorter windows as well. Not
    # where the longer one levels off: a part of a warm-up is always straight enough. And of what is
    # level as a whole no part rises.
    length = len(floors)
    found: Rise | str = "too little seen"
    while length >= gate.suspect_n and found is not LEVELS_OFF and found is not LEVEL:
        if length < len(floors):
            ages, floors = ages[-length:], floors[-length:]
        found = rise(ages, floors, level.bucket_s, gate)
        if isinstance(found, Rise):
            above = floors[-1] - known_top(trend, index, found.window_s)
            fresh = above / found.rise_kib
            if fresh >= 1:
                return found
            return found._replace(fresh=fresh) if fresh >= LEAST_FRESH else HIGH_BEFORE
        length = length * 2 // 3
    return found


def known_top(trend: Trend, index: int, before_s: float) -> int:
    """The highest floor (KiB) from longer ago than that, at this level or a coarser one."""
    top = 0
    for level, ring in zip(LEVELS[index:], trend.rings[index:], strict=True):
        if ring is not None:
            last = len(ring.values) - math.ceil(before_s / level.bucket_s)
            if last > 0:
                older = ring.values[:last]
                highest = max(older)
                if highest == MISSING:
                    highest = max((kib for kib in older if kib != MISSING), default=0)
                top = max(top, highest)
    return top


def look(trend: Trend, closed: Closes) -> dict[int, Rise]:
    """The rises at the levels that closed a bucket; most have none."""
    found = {}
    for index in closed:
        if _may_rise(trend, index):
            one = rising(trend, index)
            if isinstance(one, Rise):
                found[index] = one
    return found


def _may_rise(trend: Trend, index: int) -> bool:
    """The cheapest gates. Who has risen has not fallen by more than a part of that."""
    ring, gate = trend.rings[index], GATES[index]
    if ring is None:
        return False
    values = ring.values
    if trend.passes[index] or len(values) < gate.suspect_n:
        return bool(trend.passes[index])
    lowest = ring.floor_of_all()
    if trend.kib - lowest < gate.least_kib:
        return False
    newest = values[-1] if values[-1] != MISSING else values[-2]
    least = (0.99 - FALLEN_MOST) * max(gate.least_kib, gate.least_share * lowest)
    return newest == MISSING or newest - lowest >= least


def step(
    trend: Trend, closed: Closes, age_s: float, ending: Ending,
    rises: dict[int, Rise] | None = None,
) -> Change | None:  # fmt: skip
    """Judge the levels that closed a bucket; the change of stage that follows, if any.

    `rises` is what a `look` at them has found.
    """
    best: Verdict | None = None
    slow: Verdict | None = None
    rises = look(trend, closed) if rises is None else rises
    for index in closed:
        found = rises.get(index)
        if found is None:
            trend.passed(index, 0)
            continue
        passes = trend.passes[index] + 1
        trend.passed(index, passes)
        said: Verdict | str = ""
        if may_end(found, ending.bytes):
            said = verdict(
                measured(found), GATES[index], age_s=age_s,
                watched_s=trend.last_up - trend.first_up,
                headroom=ending.bytes, headroom_of=ending.of, passes=passes,
                agreeing=sum(1 for i, n in enumerate(trend.passes) if n and i != index),
                standing=trend.stage,
            )  # fmt: skip
        if isinstance(said, Verdict):
            if best is None or said.stage == "confirmed":
                best = said
                _note(trend, said)
        elif index >= SLOWEST and not trend.open and may_be_slow(found, passes):
            slow = advisory(
                measured(found), age_s=age_s, headroom=ending.bytes, headroom_of=ending.of
            )
    if trend.stage != "none":
        ended = _ended(trend)
        if ended:
            return clear(trend, ended)
    if best is None:
        return _advise(trend, slow, closed)
    if trend.stage == "none":
        trend.stage = "suspected"
        trend.advised = False
        trend.episode += 1
        trend.since_t = round(trend.last_t - best.growth.window_s, 3)
        trend.base_kib = max(0, trend.kib - best.growth.rise_kib)
        trend.peak_kib, trend.high_up = trend.kib, trend.last_up
        if best.stage == "suspected":
            return Change("leak.suspected", best, best.because)
    if trend.stage == "suspected" and best.stage == "confirmed":
        trend.stage = "confirmed"
        return Change("leak.confirmed", best, best.because)
    return None


def _advise(trend: Trend, slow: Verdict | None, closed: Closes) -> Change | None:
    """Begin or end what is told of slow growth; a suspicion has taken over where there is one."""
    if trend.stage != "none":
        return None
    if slow is not None and not trend.advised:
        trend.advised = True
        trend.episode += 1
        trend.since_t = round(trend.last_t - slow.growth.window_s, 3)
        return Change("leak.advisory", slow, slow.because)
    if trend.advised and closed[-1] >= SLOWEST and not any(trend.passes[SLOWEST:]):
        return clear(trend, "it does not grow any more")
    return None


def clear(trend: Trend, why: str) -> Change:
    """End a suspicion, and forget what led to it."""
    trend.stage = "none"
    trend.advised = False
    trend.rate = 0.0
    trend.peak_kib = 0
    trend.since_t = trend.verdict = None
    trend.passes = NO_PASSES
    return Change("leak.cleared", None, (why,))


def _note(trend: Trend, said: Verdict) -> None:
    trend.verdict, trend.rate = said, said.growth.rate
    trend.verdict_up = trend.last_up
    trend.quiet_s = max(QUIET_LEAST_S, said.growth.window_s / 2)


def _ended(trend: Trend) -> str:
    rise, left = trend.peak_kib - trend.base_kib, trend.kib - trend.base_kib
    # A new height is one that matters; noise at the top is none.
    if trend.kib > trend.peak_kib + max(64, rise // 50):
        trend.peak_kib, trend.high_up = trend.kib, trend.last_up
    if rise > 0 and left < rise / 2:
        grown = words.size(rise * 1024)
        if left <= 0:
            return f"it gave back all of the {grown} by which it had grown, or began anew"
        given = words.size((rise - left) * 1024)
        return f"it gave back {given} of the {grown} by which it had grown: it was in use"
    still = trend.last_up - trend.high_up
    if still > trend.quiet_s:
        level = words.size(trend.peak_kib * 1024)
        return f"it has not grown for {words.duration(still)}: it levelled off at {level}"
    return ""

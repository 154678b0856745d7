"""Pure: what earlier lives of the same program (unit, executable) did.

A leak that a restart or a limit of requests per worker hides shows in no single process: each life
rises, and the next begins low again. What is kept of a life is its size at eight ages, so that
lives of different length are compared at the same age. Beside it the size that the program is
known to need: what it held until an hour ago, and nothing that was seen under suspicion.
"""

import itertools
import json
import math
from array import array
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from watchdog.facts import EntityRecord
from watchdog.history import scripts
from watchdog.history.entities import Trend
from watchdog.history.ring import LEVELS

FORMAT = 1
KEY = "life:"
_SEPARATOR = "\x1f"  # in no name: they have passed words.safe
LIVES_MAX = 8
PROGRAMS_MAX = 512
POINTS = 8
# Who never held so much is nobody's trouble, and most short commands hold less.
LEAST_KIB = 8 << 10
# Six floors of the finest ring and what both ends of a life lose to the buckets.
LEAST_LIFE_S = 45.0
# Fewer lives show chance. The first fifth of a life is its warm-up.
LEAST_LIVES = 4
WARM_UP = 0.2
STEPS = 5
# A life that did not follow the one before at once is a job that was started again, and a job may
# grow until it is done.
GAP_LEAST_S, GAP_SHARE = 60.0, 0.05

# ---- the ceiling
HALF_LIFE_S = 86400.0
WEEK_DAYS = 7
HOUR_S = 3600.0
# Frozen until nothing was suspected for so long (two looks of five minutes, and a missed one).
FROZEN_S = 900.0
_STEP = math.log(1.05)
_HEADROOM = 1.15
_LEARNED_S = 86400.0

OBSERVED = next(i for i, level in enumerate(LEVELS) if level.name == "5 min")

# (unit or "", executable or name: `Process.program`); (unit, "") is the unit as a whole
Program = tuple[str, str]


class Gain(NamedTuple):
    """What the last lives gained: the median at each age. ``rate`` is bytes a second of life.

    ``per_life_kib`` is the gain of one life of ``life_s``, ``lives`` how many showed it, of
    ``of``; ``level`` whether the growth slows down as a life goes on (a warm-up).
    """

    rate: float
    per_life_kib: int
    life_s: float
    lives: int
    of: int
    level: bool


class Lives(NamedTuple):
    """What is known of a program. ``ceiling_kib`` is None until it was seen for a day.

    ``known`` completed lives of this build, ``gain`` theirs; ``before`` is the rate of growth
    (bytes a second) that the build before had, None where there is none.
    """

    known: int = 0
    gain: Gain | None = None
    ceiling_kib: int | None = None
    before: float | None = None
    build: str | None = None


UNKNOWN = Lives()


class _Seen:
    """One program. ``lives`` are arrays of [gap_s, age_s, KiB, age_s, KiB, …], the oldest first."""

    __slots__ = ("before", "build", "ended_t", "episode", "event", "first_t", "frozen_t",
                 "last_t", "learned", "lives", "newer", "older", "peaks", "reference_t",
                 "rotated_t")  # fmt: skip

    def __init__(self, t: float) -> None:
        self.first_t = self.last_t = self.reference_t = self.rotated_t = t
        self.build: str | None = None
        self.lives: list[array[int]] = []
        self.ended_t: float | None = None
        self.before: float | None = None
        self.episode = 0
        self.event: str | None = None
        self.learned: dict[int, float] = {}
        self.newer: dict[int, int] = {}
        self.older: dict[int, int] = {}
        self.peaks: dict[int, int] = {}
        self.frozen_t: float | None = None


class Programs:
    """All programs, at most PROGRAMS_MAX of them; who was not seen for longest goes first."""

    def __init__(self) -> None:
        self.seen: dict[Program, _Seen] = {}

    def of(self, unit: str | None, exe: str | None) -> Lives:
        """What is known of a program; of the unit as a whole where `exe` is None."""
        one = self.seen.get((unit or "", exe or ""))
        if one is None:
            return UNKNOWN
        return Lives(len(one.lives), gain(one.lives), _ceiling(one), one.before, one.build)

    def build(self, program: Program, build: str | None, t: float) -> None:
        """A process of that program began: of another executable its lives begin anew."""
        one = self.seen.get(program)
        if one is None or build is None or one.build == build:
            if one is not None and build is not None:
                one.build = build
            return
        if one.build is not None:
            found = gain(one.lives)
            if found is not None or len(one.lives) >= LEAST_LIVES:
                one.before = found.rate if found is not None and not found.level else 0.0
            one.lives = []
            one.learned, one.newer, one.older, one.peaks = {}, {}, {}, {}
            one.first_t = one.reference_t = one.rotated_t = t
        one.build = build

    def observe(self, program: Program, t: float, kib: int, suspected: bool) -> None:
        """What a process of it holds, every five minutes; nothing is learned under suspicion."""
        if kib < LEAST_KIB or scripts.vague(*program):
            return
        one = self._one(program, t)
        if suspected:
            one.frozen_t = t
        if one.frozen_t is not None and 0 <= t - one.frozen_t < FROZEN_S:
            one.newer, one.older = {}, {}
            return
        bucket = int(math.log(kib) / _STEP)
        one.newer[bucket] = one.newer.get(bucket, 0) + 1
        if not 0 <= t - one.rotated_t < HOUR_S:
            _learn(one, t)

    def ended(
        self, program: Program, build: str | None, points: Iterable[tuple[float, int]],
        birth_t: float, t: float,
    ) -> bool:  # fmt: skip
        """A life is over, of these (age in s, KiB), the oldest first; whether it is remembered.

        Of a build that is no longer the newest nothing is kept, nor where no program is named.
        """
        if scripts.vague(*program):
            return False
        kept = _thinned(list(points))
        if len(kept) < 4 or kept[-1][0] < LEAST_LIFE_S or max(k for _, k in kept) < LEAST_KIB:
            return False
        one = self._one(program, t)
        if build is not None and one.build is not None and build != one.build:
            return False
        one.build = one.build or build
        since = 0.0 if one.ended_t is None else max(0.0, birth_t - one.ended_t)
        flat = [min(int(since), 1 << 31)]
        for age, kib in kept:
            flat += [int(age), kib]
        one.lives.append(array("I", flat))
        del one.lives[:-LIVES_MAX]
        one.ended_t = t
        return True

    def dump(self) -> list[EntityRecord]:
        """Every program as the store keeps it."""
        return [
            EntityRecord(
                KEY + _SEPARATOR.join(program), "", one.first_t, one.rotated_t, 0,
                json.dumps(plain(one), separators=(",", ":")).encode(),
            )
            for program, one in self.seen.items()
        ]  # fmt: skip

    def load(self, record: EntityRecord) -> None:
        """The inverse of `dump`, for one; a record that cannot be read is passed over."""
        unit, separator, exe = record.key[len(KEY) :].partition(_SEPARATOR)
        try:
            one = from_plain(json.loads(record.blob))
        except ValueError:
            one = None
        if one is None or not separator or scripts.vague(unit, exe):
            return
        if len(self.seen) < PROGRAMS_MAX:
            self.seen[unit, exe] = one

    def _one(self, program: Program, t: float) -> _Seen:
        one = self.seen.pop(program, None)
        if one is None:
            one = _Seen(t)
            if len(self.seen) >= PROGRAMS_MAX:
                del self.seen[next(iter(self.seen))]
        self.seen[program] = one
        one.last_t = max(one.last_t, t)
        return one


# ---- what lives gained -----------------------------------------------------------------------


def points(trend: Trend, age_s: float) -> list[tuple[float, int]]:
    """(age in s, KiB) of a life so far, from the finest ring that reaches over it."""
    life = trend.last_up - trend.first_up
    best: list[tuple[float, int]] = []
    for level, ring in zip(LEVELS, trend.full().rings, strict=True):
        if ring is None:
            continue
        ages, floors = ring.known(level.slots)
        end = trend.last_up - ring.bucket * level.bucket_s  # of the open bucket, so far
        found = [
            (age_s - end - (back - 0.5) * level.bucket_s, kib)
            for back, kib in zip(ages, floors, strict=True)
        ]
        best = [(age, kib) for age, kib in found if age >= 0] or best
        if level.slots * level.bucket_s >= life and len(best) >= 4:
            break
    return best


def gain(lives: "list[array[int]]") -> Gain | None:
    """What these lives gained at the same age; None where they show no growth worth a word."""
    curves = [_Curve(life) for life in lives]
    lasting = [
        c for c in curves if c.gap_s <= max(GAP_LEAST_S, GAP_SHARE * c.ages[-1])
    ]  # fmt: skip
    if len(lasting) < LEAST_LIVES or len(lasting) < 0.75 * len(curves):
        return None
    life_s = _median([c.ages[-1] for c in lasting])
    grid = [life_s * (WARM_UP + (1 - WARM_UP) * i / STEPS) for i in range(STEPS + 1)]
    steps: list[float] = []
    for low, high in itertools.pairwise(grid):
        rises = [
            b - a for c in lasting
            if (a := c.at(low)) is not None and (b := c.at(high)) is not None
        ]  # fmt: skip
        if len(rises) < max(3, len(lasting) // 2):
            return None
        steps.append(_median(rises))
    total = sum(steps)
    rose = sum(1 for c in lasting if c.rise() > 0)
    base = _median([c.sizes[0] for c in lasting])
    if total < max(4096, 0.1 * base) or rose < 0.75 * len(lasting):
        return None
    if sum(1 for step in steps if step > 0) < STEPS - 1:
        return None
    early, late = sum(steps[:2]), sum(steps[-2:])
    return Gain(
        rate=total * 1024 / (grid[-1] - grid[0]),
        per_life_kib=int(total),
        life_s=life_s,
        lives=rose,
        of=len(lasting),
        level=late < 0.5 * early,
    )


class _Curve:
    __slots__ = ("ages", "gap_s", "sizes")

    def __init__(self, life: "array[int]") -> None:
        self.gap_s = life[0]
        self.ages = list(life[1::2])
        self.sizes = list(life[2::2])

    def at(self, age: float) -> float | None:
        """The size at an age, between two points; None outside of what was seen."""
        ages, sizes = self.ages, self.sizes
        # A life that ended a little earlier than most still tells of its end.
        if age < ages[0] - 0.1 * ages[-1] or age > 1.1 * ages[-1]:
            return None
        for i in range(1, len(ages)):
            if age <= ages[i] or i == len(ages) - 1:
                span = max(1, ages[i] - ages[i - 1])
                part = (age - ages[i - 1]) / span
                return sizes[i - 1] + (sizes[i] - sizes[i - 1]) * max(-0.5, min(1.5, part))
        return None

    def rise(self) -> int:
        """From its warm-up to its end."""
        first = next(
            (i for i, age in enumerate(self.ages) if age >= WARM_UP * self.ages[-1]), 0
        )  # fmt: skip
        return self.sizes[-1] - self.sizes[first]


def _thinned(found: list[tuple[float, int]]) -> list[tuple[float, int]]:
    if len(found) <= POINTS:
        return found
    last = len(found) - 1
    return [found[round(i * last / (POINTS - 1))] for i in range(POINTS)]


def _median(values: list[Any]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return float(ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2)


# ---- the ceiling -----------------------------------------------------------------------------


def _learn(one: _Seen, t: float) -> None:
    """An hour is over without suspicion: what the hour before it held is learned."""
    passed = max(0.0, t - one.reference_t)
    if passed > 20 * HALF_LIFE_S:
        factor = 2.0 ** -(passed / HALF_LIFE_S)
        one.learned = {b: w * factor for b, w in one.learned.items() if w * factor > 1e-3}
        one.reference_t, passed = t, 0.0
    weight = 2.0 ** (passed / HALF_LIFE_S)  # the same as to let all older ones fade
    for bucket, count in one.older.items():
        one.learned[bucket] = one.learned.get(bucket, 0.0) + count * weight
    if one.older:
        day = int(max(0.0, t - one.first_t) // 86400)
        one.peaks[day] = max(one.peaks.get(day, 0), _top(max(one.older)))
        one.peaks = {d: kib for d, kib in one.peaks.items() if d > day - WEEK_DAYS}
    one.older, one.newer = one.newer, {}
    one.rotated_t = t


def _ceiling(one: _Seen) -> int | None:
    """The larger of its peak of the last week and of 1.15 times what it holds 98 % of the time."""
    if not one.learned or one.last_t - one.first_t < _LEARNED_S:
        return None
    rest = 0.02 * sum(one.learned.values())
    for bucket in sorted(one.learned, reverse=True):
        rest -= one.learned[bucket]
        if rest <= 0:
            break
    return max(int(_HEADROOM * _top(bucket)), max(one.peaks.values(), default=0))


def _top(bucket: int) -> int:
    return int(math.exp((bucket + 1) * _STEP))


# ---- as the store keeps it ---------------------------------------------------------------------


def plain(one: _Seen) -> dict[str, Any]:
    """What a restart needs of a program, as JSON takes it; new once an hour, or when a life ends.

    What is not learned yet is left out: a restart loses two hours of it.
    """
    return {
        "format": FORMAT, "first_t": one.first_t, "build": one.build,
        "lives": [list(life) for life in one.lives], "ended_t": one.ended_t,
        "before": one.before, "episode": one.episode, "event": one.event,
        "learned": [[b, round(w, 6)] for b, w in one.learned.items()],
        "peaks": list(one.peaks.items()), "reference_t": one.reference_t,
        "rotated_t": one.rotated_t, "frozen_t": one.frozen_t,
    }  # fmt: skip


def from_plain(value: object) -> _Seen | None:
    """The inverse of `plain`; None where it is nothing of the kind."""
    try:
        if not isinstance(value, Mapping) or value["format"] != FORMAT:
            return None
        one = _Seen(float(value["first_t"]))
        one.reference_t = float(value["reference_t"])
        one.rotated_t = one.last_t = float(value["rotated_t"])
        one.ended_t, one.frozen_t = _maybe(value["ended_t"]), _maybe(value["frozen_t"])
        one.before = _maybe(value["before"])
        one.episode = int(value["episode"])
        one.build = value["build"] if isinstance(value["build"], str) else None
        one.event = value["event"] if isinstance(value["event"], str) else None
        for raw in value["lives"][-LIVES_MAX:]:
            life = array("I", raw)
            if len(life) < 9 or len(life) % 2 == 0 or len(life) > 2 * POINTS + 1:
                return None
            one.lives.append(life)
        one.learned = {int(b): float(w) for b, w in value["learned"]}
        one.peaks = {int(d): int(kib) for d, kib in value["peaks"]}
        numbers = (one.first_t, one.last_t, one.reference_t, one.rotated_t, *one.learned.values())
        if not all(math.isfinite(number) for number in numbers):
            return None
        if any(not 0 <= b < 1000 for b in one.learned):
            return None
    except (KeyError, ValueError, TypeError, OverflowError, AttributeError):
        return None
    return one


def _maybe(value: Any) -> float | None:
    return None if value is None else float(value)

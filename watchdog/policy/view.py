"""Pure: the world as others see it: subjects for the policies, the guard's dossier, the leaks."""

import heapq
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from watchdog.facts import (
    COMM,
    DOSSIER_ROWS_MAX,
    PID,
    RSS,
    START,
    UNIT,
    DossierRow,
    Entity,
    Ident,
    Subject,
)  # fmt: skip
from watchdog.history.entities import Trend
from watchdog.history.headroom import chain, host_left
from watchdog.history.present import Process
from watchdog.history.world import TICKS_PER_S, World, private_bytes, used_bytes
from watchdog.judge.exhaustion import Exhaustion
from watchdog.judge.leak import Verdict
from watchdog.judge.proven import Level, excess_bytes, key_of, proven_bytes, real, use_bytes
from watchdog.judge.series import Series
from watchdog.policy.match import protected, weight
from watchdog.policy.reach import EVERYBODY, Reach
from watchdog.policy.rules import Rules

# Below this a process is no candidate for the guard and leaves its dossier, unless it is one of a
# unit that holds more (the guard sees who holds 1 MiB).
DOSSIER_LEAST_BYTES, MEMBER_LEAST_BYTES, TOGETHER_KIB = 4 << 20, 1 << 20, 16 << 10
# Who was started within so long is in it whatever his size, up to so many: he may be large before
# the next look, and without a line nobody would know his unit, nor what that has proven.
NEW_S, NEW_ROWS_MAX = 60.0, 64
# Of a leak that was confirmed before a restart, until it is judged again; how sure is not kept.
KEPT_CONFIDENCE = 0.5
# A time to exhaustion is worth nothing once the rise has paused for so many buckets.
FRESH_BUCKETS = 6
# A unit that was not read for so long, or for so many intervals, has gone: a census takes 30 s.
UNIT_UNSEEN_S, UNSEEN_INTERVALS = 75.0, 2.5
_STAGES = ("none", "suspected", "confirmed")
# So many that are protected alike, or are alike not, are remembered at a time.
ALIKE_MAX = 1000


def unseen_s(interval_s: float) -> float:
    """After how long without a reading a unit counts as gone, in seconds."""
    return max(UNIT_UNSEEN_S, UNSEEN_INTERVALS * interval_s)


def subjects(
    world: World, oom_killed: Mapping[str, float], exhaustion: Exhaustion, now: float,
    of_interest: Reach = EVERYBODY, held: Container[str] = (), unseen_s: float = UNIT_UNSEEN_S,
) -> Iterator[Subject]:  # fmt: skip
    """Every process and every unit with a cgroup of its own; `oom_killed`: subject key -> when.

    Of the processes only those `of_interest`, and those whose key is among `held`; of the units
    those that were read within the last `unseen_s`.
    """
    commit_short, alloc_failed = exhaustion.commit.short(), exhaustion.refusals.recent(now)
    members: dict[str, list[Trend]] = {}
    counted = world.host is not None and world.host.oom_kill is not None
    untold = untold_of(world)
    shares: dict[str | None, float | None] = {}  # by cgroup: many processes have the same
    nobody = of_interest == Reach() and not held
    for trend in world.present:
        ident, row = trend.ident, trend.row
        if trend.stage != "none" and row[UNIT]:
            members.setdefault(row[UNIT], []).append(trend)
        if nobody:
            continue
        key = f"{ident[0]}:{ident[1]}"
        if not of_interest.holds(key, row, trend, oom_killed) and key not in held:
            continue
        cgroup = world.cgroup(ident)
        if cgroup not in shares:
            shares[cgroup] = _limit_share(world, cgroup)
        yield identified(world, ident)._replace(
            age_s=world.age_s(ident, now),
            resident_bytes=row[RSS],
            growth_bytes_per_s=trend.recent_rate(),
            leak=trend.stage,
            exhausts_in_s=_exhausts_in(trend),
            limit_share=shares[cgroup],
            oom_killed_up=oom_killed.get(key),
            oom_counted=counted,
            limit_pressed=exhaustion.limits.pressed(cgroup),
            commit_short=commit_short,
            alloc_failed=alloc_failed,
            cause=trend.event,
            untold=untold,
        )
    for group in world.groups.values():
        own = world.unit_trends.get(group.unit or "")
        if group.unit is None or own is None:
            continue
        if now - (group.t if group.up is None else group.up) > unseen_s:
            continue
        # Of two that are as bad the unit itself, then who grows faster: never who came first.
        worst = max(
            [own, *members.get(group.unit, [])],
            key=lambda one: (_STAGES.index(one.stage), one is own, one.rate, one.kib),
        )
        yield Subject(
            key=f"unit:{group.unit}",
            entity=Entity(unit=group.unit),
            is_unit=True,
            cgroup=group.cgroup,
            age_s=now - own.first_up,
            resident_bytes=used_bytes(group),
            growth_bytes_per_s=own.recent_rate(),
            leak=worst.stage,
            exhausts_in_s=_exhausts_in(worst),
            limit_share=_limit_share(world, group.cgroup),
            oom_killed_up=oom_killed.get(f"unit:{group.unit}"),
            oom_counted=counted,
            limit_pressed=exhaustion.limits.pressed(group.cgroup),
            commit_short=commit_short,
            alloc_failed=alloc_failed,
            cause=worst.event,
            untold=untold,
            oomd=group.oomd,
        )


def dossier(world: World, rules: Rules) -> list[DossierRow]:
    """The guard's view, the largest first, who is new amid them: see facts.DossierRow."""
    shared = world.shared
    large = (
        (size, one.ident, one)
        for one in world.present
        if (size := private_bytes(one.row) + shared.get(one.ident, 0)) >= DOSSIER_LEAST_BYTES
        or (size >= MEMBER_LEAST_BYTES and one.level and one.level.use >= TOGETHER_KIB)
    )
    largest = [one for _, _, one in heapq.nlargest(DOSSIER_ROWS_MAX, large)]
    half = DOSSIER_ROWS_MAX // 2  # what does not fit into a message is cut off at the end
    found = [*largest[:half], *_newest(world, set(largest)), *largest[half:]]
    return [_dossier_row(world, rules, one) for one in found[:DOSSIER_ROWS_MAX]]


def _newest(world: World, besides: Container[Process]) -> list[Process]:
    """Who was started last; nobody where it is not known how long the machine runs."""
    up = world.host.up if world.host is not None else None
    if up is None:
        return []
    since = (up - NEW_S) * TICKS_PER_S
    new = ((one.row[START], one.row[PID], one) for one in world.present
           if one.row[START] >= since and one not in besides)  # fmt: skip
    return [one for _, _, one in heapq.nlargest(NEW_ROWS_MAX, new)]


class Spared:
    """Everybody whom the rules protect, small ones too: the dossier has only who is large.

    Whom they protect depends on what many have alike, so it is judged once for all of these.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._known: dict[tuple[Any, ...], str | None] = {}

    def of(self, world: World) -> dict[Ident, str]:
        """By identity, why. PID 1 and 2 are left out: nobody signals them anyway."""
        found: dict[Ident, str] = {}
        known = self._known
        said: dict[tuple[str | None, str | None], str | None] = {}  # by unit and cgroup
        for one in world.present:
            row = one.row
            if row[PID] <= 2:
                continue
            who = one.who  # of it `protected` reads these; parents and cgroups are of all kinds
            place = (row[UNIT], who.cgroup if who else None)
            try:
                oomd = said[place]
            except KeyError:
                oomd = said[place] = _preference(world, *place)
            alike = (row[COMM], row[UNIT], oomd, *((who.uid, who.exe, who.trusted) if who else ()))
            try:
                why = known[alike]
            except KeyError:
                if len(known) >= ALIKE_MAX:
                    known.clear()
                why = known[alike] = protected(self.rules, _lasting(identified(world, one.ident)))
            if why is not None:
                found[one.ident] = why
        return found


def leaks(world: World, series: Series | None = None) -> list[dict[str, Any]]:
    """Who is suspected or confirmed at this moment, for now.json; then what no process owns."""
    found = [
        {**world.entity(ident)._asdict(), **_standing(trend, world.rows[ident][RSS])}
        for ident, trend in world.trends.items()
        if trend.stage != "none"
    ]
    found += [
        {**Entity(unit=name.unit or None)._asdict(), **_standing(trend, trend.kib << 10),
         "scope": name.scope, "part": name.part}
        for name, trend in (series.trends.items() if series else ())
        if trend.stage != "none"
    ]  # fmt: skip
    return found + [
        {**Entity(unit=unit)._asdict(), **_standing(trend, trend.kib << 10)}
        for unit, trend in world.unit_trends.items()
        if trend.stage != "none"
    ]


def growth(world: World, most: int) -> dict[str, int]:
    """By subject, bytes a second of the `most` that grow fastest, as policies are told it."""
    moving = [(f"{one.row[PID]}:{one.row[START]}", one) for one in world.present if not one.fine]
    found: list[tuple[str, Trend]] = [*moving]
    found += [(f"unit:{unit}", trend) for unit, trend in world.unit_trends.items()]
    rates = ((rate, key) for key, one in found if (rate := one.recent_rate() or 0.0) > 0)
    return {key: round(rate) for rate, key in heapq.nlargest(most, rates)}


def endings(world: World, idents: Iterable[Ident], most: int) -> dict[str, float]:
    """By subject, in how many seconds memory ends for whose growth no leak is suspected yet.

    Of the processes only `idents` are looked at.
    """
    found: list[tuple[str, Trend | None]] = [
        (f"{pid}:{start}", world.present.get((pid, start))) for pid, start in idents
    ]
    found += [(f"unit:{unit}", trend) for unit, trend in world.unit_trends.items()]
    ends = ((left, key) for key, one in found
            if one and one.stage == "none" and (left := _exhausts_in(one)) is not None)  # fmt: skip
    return {key: round(seconds, 1) for seconds, key in heapq.nsmallest(most, ends)}


def identified(world: World, ident: Ident) -> Subject:
    """One process with what does not change while it lives."""
    one = world.present.get(ident)
    who = one.who if one else None
    return Subject(
        key=f"{ident[0]}:{ident[1]}",
        entity=world.entity(ident),
        is_unit=False,
        cmdline=one.cmdline if one else None,
        cgroup=who.cgroup if who else None,
        trusted=who.trusted if who else None,
        oom_score_adj=who.oom_score_adj if who else None,
        oomd=_preference(world, one.row[UNIT], who.cgroup if who else None) if one else None,
    )


def _preference(world: World, unit: str | None, cgroup: str | None) -> str | None:
    """What ManagedOOMPreference= says of the unit whose process is in that cgroup."""
    if unit is None:
        return None
    above, _, _ = f"{cgroup or ''}/".partition(f"/{unit}/")
    group = world.groups.get(f"{above}/{unit}" if cgroup else f"/{unit}")
    return group.oomd if group is not None and group.unit == unit else None


def _lasting(subject: Subject) -> Subject:
    """Without its oom_score_adj, which the guard reads itself.

    Who is started from a service that is spared gives it up only then (the backends of PostgreSQL,
    the logins of sshd).
    """
    return subject._replace(oom_score_adj=None)


def _dossier_row(world: World, rules: Rules, one: Process) -> DossierRow:
    ident, row = one.ident, one.row
    subject, key = identified(world, ident), key_of(world, ident)
    level: Level | None = one.level
    whole = world.unit_trends.get(key)
    inherited, shared = world.inherited.size(ident), world.shared.get(ident, 0)
    own = max(0, private_bytes(row) - inherited) + shared
    return (
        ident[0], ident[1], row[COMM], row[UNIT], one.proven_kib << 10,
        excess_bytes(one.proven_kib, own >> 10), _sure(one),
        protected(rules, _lasting(subject)), weight(rules, subject),
        key, proven_bytes(level), _sure(whole) if whole else 0.0,
        real(level), shared, own if level is None else use_bytes(level), own, inherited,
    )  # fmt: skip


def _sure(trend: Trend) -> float:
    """Confidence of a confirmed leak, else 0."""
    if trend.stage != "confirmed":
        return 0.0
    return trend.verdict.confidence if trend.verdict else KEPT_CONFIDENCE


def untold_of(world: World) -> tuple[str, ...]:
    """What nothing tells: limits where no cgroup is known, and then perhaps memory's end too."""
    if world.groups:
        return ()
    return ("limit",) if host_left(world) is not None else ("limit", "headroom")


def _limit_share(world: World, cgroup: str | None) -> float | None:
    shares = [used_bytes(group) / group.limit for group in chain(world, cgroup) if group.limit]
    return max(shares, default=None)


def _exhausts_in(trend: Trend) -> float | None:
    """None as well where the rise that it was read from has not been seen again since."""
    found: Verdict | None = trend.verdict
    if found is None or trend.last_up - trend.verdict_up > FRESH_BUCKETS * found.growth.bucket_s:
        return None
    return found.exhausts_in_s


def _standing(trend: Trend, resident: int) -> dict[str, Any]:
    found = trend.verdict
    ends = _exhausts_in(trend)
    return {
        "level": trend.stage,
        "rate_bytes_per_s": round(trend.rate),
        "since": trend.since_t,
        "confidence": found.confidence if found else None,
        "exhausts_in_s": None if ends is None else round(ends, 1),
        "resident_bytes": resident,
    }

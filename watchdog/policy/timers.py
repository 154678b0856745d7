"""Pure: how long each policy's conditions have held of whom, and which incidents are due.

The life of an incident, for one policy and one subject:

    calm --all conditions hold--> waiting --for `for`--> decided --not true for 60 s--> calm
           waiting --a condition ends--> calm

`decide` says what is done about one that is due, and how it is decided once.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from watchdog import words
from watchdog.facts import Subject
from watchdog.policy.conditions import all_hold, conditions
from watchdog.policy.ledger import REARM_S, Ledger, Standing
from watchdog.policy.match import Found, look
from watchdog.policy.rules import Match, Policy, Rules
from watchdog.policy.target import stages

# A timer does not run through a gap in which nobody looked (a census takes 60 s at the most), nor
# through one of so many intervals, where these are longer.
GAP_S, GAP_INTERVALS = 90.0, 2.5

_TOLD_OF_ALL = ("limit", "headroom")  # of everybody or of nobody
_NO_GROUP = "group"  # what is missing where a trace tells of processes only


class Due(NamedTuple):
    """An incident with actions to decide."""

    policy: Policy
    standing: Standing
    subject: Subject
    because: tuple[str, ...]


class _Parts(NamedTuple):
    """A policy's match in two: what lasts for a life, and what changes all the time."""

    policy: Policy
    lasting: Match
    passing: Match | None


_Policies = tuple[tuple[_Parts, Found], ...]  # that are, or may be, about somebody


def gap_s(interval_s: float) -> float:
    """After how long without a look nothing is known of the time between, in seconds."""
    return max(GAP_S, GAP_INTERVALS * interval_s)


class Timers:
    """`due` after each sweep; the incidents stand in the ledger."""

    def __init__(self, rules: Rules, ledger: Ledger) -> None:
        self.gap_s = gap_s(rules.watch.interval_s)
        self.ledger = ledger
        self._parts = [_parts(policy) for policy in rules.policies]
        self._looked: dict[str, tuple[Any, _Policies]] = {}
        self._unsaid: dict[tuple[str, str], None] = {}
        self._said: set[tuple[str, str]] = set()
        self._units_seen = False
        self._untold: tuple[str, ...] = ()

    def due(self, subjects: Iterable[Subject], pressure: bool | None, now: float) -> list[Due]:
        """Look at these: the incidents with something to decide, policies by name."""
        looked: dict[str, tuple[Any, _Policies]] = {}
        due: list[Due] = []
        for s in subjects:
            known = self._looked.get(s.key)
            face = (s.entity, s.cmdline, s.cgroup)  # all that a lasting match reads
            if known is None or known[0] != face:
                known = (face, self._look(s))
            looked[s.key] = known
            self._untold = s.untold
            for parts, found in known[1]:
                one = self._one(parts, found, s, pressure, now)
                if one is not None:
                    due.append(one)
        self._looked = looked
        due.sort(key=lambda one: one.policy.name)
        return due

    def unjudged(self) -> list[str]:
        """Policies that lacked something, each once: answers what was not answered before."""
        found = [
            f"policy {name} cannot be judged from this trace: {missing} missing"
            for name, missing in self._unsaid
            if not self._came(missing)
        ]
        self._unsaid.clear()
        return found

    def _look(self, s: Subject) -> _Policies:
        """The policies that are, or may be, about the subject."""
        self._units_seen |= s.is_unit
        found = []
        for parts in self._parts:
            is_for_units = parts.policy.per == "unit"
            if s.is_unit and not is_for_units:
                continue
            one = look(parts.lasting, s)
            if one.holds is not False:
                other = is_for_units is not s.is_unit
                found.append((parts, Found(None, _NO_GROUP) if other else one))
        return tuple(found)

    def _one(
        self, parts: _Parts, found: Found, s: Subject, pressure: bool | None, now: float
    ) -> Due | None:
        """One policy and one subject that it may be about: is something due?"""
        policy, table = parts.policy, self.ledger.standing
        pair = (policy.name, s.key)
        standing = table.get(pair)
        asked = conditions(policy.when, s, pressure, now)
        holds = all_hold(asked)
        missing = found.missing or next((one.missing for one in asked if one.missing), "")
        if holds is not False and parts.passing is not None and found.missing != _NO_GROUP:
            passing = look(parts.passing, s)
            holds = holds if passing.holds else passing.holds
            missing = missing or passing.missing
        if holds is not False and missing:
            self._cannot(policy.name, missing)
            holds = False
        if standing is not None:
            standing.seen = now
        if not holds:
            if standing is not None and standing.is_over(now):
                del table[pair]
            return None
        oom_at = s.oom_killed_up if policy.when.oom_kill else None
        if standing is None or self._is_another(standing, oom_at, now):
            standing = table[pair] = Standing(now, oom_at)
        standing.held, standing.ended = now, None
        if standing.left is None and now - standing.began >= policy.for_s:
            standing.left, standing.later = stages(policy.do)
        if not standing.left:
            return None
        because = found.because + tuple(one.said for one in asked)
        if policy.for_s:
            because += (f"this has held for {words.duration(now - standing.began)}",)
        return Due(policy, standing, s, because)

    def _is_another(self, standing: Standing, oom_at: float | None, now: float) -> bool:
        """Is what holds now another incident than the one that stands?"""
        if standing.left is None:
            return now - standing.held > self.gap_s
        over = standing.ended is not None and now - standing.ended >= REARM_S
        return over or standing.oom_at != oom_at

    def _came(self, missing: str) -> bool:
        """Was it told later in the trace?"""
        if missing == _NO_GROUP:
            return self._units_seen
        return missing in _TOLD_OF_ALL and missing not in self._untold

    def _cannot(self, name: str, missing: str) -> None:
        if (name, missing) not in self._said:
            self._said.add((name, missing))
            self._unsaid[name, missing] = None


def _parts(policy: Policy) -> _Parts:
    match = policy.match
    passing = Match(min_age_s=match.min_age_s, min_resident=match.min_resident)
    lasting = match._replace(min_age_s=None, min_resident=None)
    return _Parts(policy, lasting, None if passing == Match() else passing)

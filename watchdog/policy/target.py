"""Pure: whom the actions of a policy hit, and what keeps each of them from being done.

Asked once an incident; what is spent of a budget and what is told of an action come from the same
answer. A unit whose name nobody protects may hold a protected process: that bars all that is done
to the whole unit as well.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from watchdog.facts import Subject
from watchdog.policy import pattern
from watchdog.policy.match import protected, weight
from watchdog.policy.rules import BARRED, BARRED_BY_WILDCARD, PLAIN, Policy, Rules, verb
from watchdog.procfs import never

SIGNALLED = ("terminate", "kill")
# What is done to the whole unit, whomever the policy is about.
WHOLE_UNIT = ("kill-unit", "restart-unit", "throttle")
_INSIDE = "in "  # before the key of a unit: somebody in it
_STAGES = ("confirmed", "suspected")

Crowd = Callable[[], Iterable[Subject]]


class Target(NamedTuple):
    """``hit``: whom terminate and kill are sent to; ``barred`` and ``unit_barred``: why nobody
    there, and why not the whole unit, may be touched; ``named``: the policy names the unit without
    a wildcard.
    """

    hit: Subject
    barred: str | None
    unit_barred: str | None
    named: bool

    def held(self, do: str) -> tuple[str, str] | None:
        """(outcome, why) of an action that will not be done, or None."""
        kind = verb(do)
        unit = self.hit.entity.unit
        if kind in WHOLE_UNIT and unit is None:
            return "failed", "it belongs to no unit"
        if kind in WHOLE_UNIT and unit and (lone := never(unit)):
            return "protected", lone
        why = self.unit_barred if kind in WHOLE_UNIT else self.barred
        if why and (kind in BARRED or (kind in BARRED_BY_WILDCARD and not self.named)):
            return "protected", why
        if kind in SIGNALLED and self.hit.is_unit:
            return "gone", "nobody is left in it"
        return None


def names_unit(policy: Policy, unit: str | None) -> bool:
    """Does the policy name that unit, with no wildcard?"""
    return unit is not None and pattern.is_literal(unit) and unit in policy.match.unit


def strongest(todo: tuple[str, ...]) -> str:
    """The action that a sentence about all of them names."""
    return next((do for do in todo if verb(do) not in PLAIN), todo[-1])


def counts(policy: Policy) -> tuple[str, ...]:
    """What the budget counts: everything stronger than telling; if there is none, telling."""
    strong = tuple(do for do in policy.do if verb(do) not in PLAIN)
    return strong or tuple(do for do in policy.do if verb(do) != "log")


def needs_members(policy: Policy) -> bool:
    """Does an action of it depend on who else is in the unit?"""
    kinds = {verb(do) for do in policy.do}
    return bool(kinds & set(WHOLE_UNIT)) or (policy.per == "unit" and bool(kinds & set(SIGNALLED)))


def cools(policy: Policy, s: Subject) -> str:
    """The key that a cooldown is about: what restarts a unit restarts it for all of its workers."""
    unit = s.entity.unit
    whole = unit is not None and any(verb(do) in WHOLE_UNIT for do in policy.do)
    return f"unit:{unit}" if whole else s.key


def touches(policy: Policy, s: Subject, target: Target) -> tuple[set[str], set[str]]:
    """Who must have been left alone, and who is touched by its actions, as keys.

    The process, and the unit if they are about a unit. A unit that somebody is touched in is not
    touched as a whole, and nobody is while it is; two of its processes may be at once.
    """
    touched = {s.key, target.hit.key, cools(policy, s)}
    unit = s.entity.unit
    if unit is None:
        return touched, touched
    whole, inside = f"unit:{unit}", f"{_INSIDE}unit:{unit}"
    if whole in touched:
        return touched | {inside}, touched
    return touched | {whole}, touched | {inside}


def target(rules: Rules, policy: Policy, s: Subject, todo: Iterable[str], crowd: Crowd) -> Target:
    """Whom `todo` hits; in a unit terminate and kill hit the worst of its members."""
    kinds = {verb(do) for do in todo}
    named = names_unit(policy, s.entity.unit)
    if not kinds & {*BARRED, *BARRED_BY_WILDCARD}:
        return Target(s, None, None, named)
    barred = protected(rules, s)
    if barred or not needs_members(policy) or s.entity.unit is None:
        return Target(s, barred, barred, named)
    members = [one for one in crowd() if not one.is_unit and one.entity.unit == s.entity.unit]
    reasons = [protected(rules, one) for one in members]
    inside = next(
        (f"PID {one.entity.pid} is in it: {why}"
         for one, why in zip(members, reasons, strict=True) if why), None,
    )  # fmt: skip
    if not s.is_unit or not kinds & set(SIGNALLED):
        return Target(s, None, inside, named)
    candidates = [one for one, why in zip(members, reasons, strict=True) if why is None]
    if not candidates:
        why = f"all of its processes are protected: {reasons[0]}" if reasons else None
        return Target(s, why, inside, named)
    worst = min(candidates, key=lambda one: (
        _STAGES.index(one.leak) if one.leak in _STAGES else len(_STAGES),
        -weight(rules, one), -(one.resident_bytes or 0), one.key,
    ))  # fmt: skip
    return Target(worst, None, inside, named)

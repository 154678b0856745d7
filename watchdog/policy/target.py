"""Pure: whom the actions of a policy hit, and what keeps each of them from being done.

Asked once an incident; what is spent of a budget and what is told of an action come from the same
answer. A unit whose name nobody protects may hold a protected process: that bars all that is done
to the whole unit as well. A login is never a whole: there kill-unit means the unit inside it that a
process is in (an application's, by the user's own manager), or else that process alone.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from watchdog.facts import Subject
from watchdog.policy import pattern
from watchdog.policy.match import protected, weight
from watchdog.policy.rules import (
    BARRED,
    BARRED_BY_WILDCARD,
    DESTRUCTIVE,
    PLAIN,
    Policy,
    Rules,
    verb,
)
from watchdog.procfs import is_login, never

SIGNALLED = ("terminate", "kill")
# What is done to the whole unit, whomever the policy is about.
WHOLE_UNIT = ("kill-unit", "restart-unit", "throttle")
_IN = "in "  # before the key of a unit: somebody in it
_INNER = (".service", ".scope")
_STAGES = ("confirmed", "suspected")

Crowd = Callable[[], Iterable[Subject]]


class Target(NamedTuple):
    """``hit``: whom terminate and kill are sent to, and kill-unit in a login; ``barred`` and
    ``unit_barred``: why nobody there, and why not the whole unit, may be touched; ``named``: the
    policy names the unit without a wildcard.
    """

    hit: Subject
    barred: str | None
    unit_barred: str | None
    named: bool

    def held(self, do: str) -> tuple[str, str] | None:
        """(outcome, why) of an action that will not be done, or None."""
        kind, single = verb(do), self.single(do)
        unit = self.hit.entity.unit
        if kind in WHOLE_UNIT and unit is None:
            return "failed", "it belongs to no unit"
        if kind in WHOLE_UNIT and not single and unit and (lone := never(unit)):
            return "protected", lone
        why = self.barred if single else None
        if kind in WHOLE_UNIT:
            why = why or self.unit_barred
        if why and (kind in BARRED or (kind in BARRED_BY_WILDCARD and not self.named)):
            return "protected", why
        if single and self.hit.is_unit:
            return "gone", "nobody is left in it"
        return None

    def single(self, do: str) -> bool:
        """Is it about `hit`, and not about the unit as such?"""
        return _is_single(verb(do), self.hit.entity.unit)


def names_unit(policy: Policy, unit: str | None) -> bool:
    """Does the policy name that unit, with no wildcard?"""
    return unit is not None and pattern.is_literal(unit) and unit in policy.match.unit


def stages(todo: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is done at once, and what only if the throttle that stands before it is of no use."""
    at = todo.index("throttle") if "throttle" in todo else len(todo)
    later = tuple(do for do in todo[at:] if verb(do) in DESTRUCTIVE)
    return tuple(do for do in todo if do not in later), later


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
    if unit is None or not any(verb(do) in WHOLE_UNIT for do in policy.do):
        return s.key
    name = _inside(s) if is_login(unit) else unit
    return f"unit:{name}" if name else s.key


def _inside(s: Subject) -> str | None:
    """The unit inside its login that a process is in, as judge.proven calls its entity."""
    unit, inner = s.entity.unit, s.entity.inner
    if unit is None or not is_login(unit) or not inner or not inner.endswith(_INNER):
        return None
    return f"{unit}/{inner}"


def _is_single(kind: str, unit: str | None) -> bool:
    return kind in SIGNALLED or (kind == "kill-unit" and unit is not None and is_login(unit))


def touches(policy: Policy, s: Subject, target: Target) -> tuple[set[str], set[str]]:
    """Who must have been left alone, and who is touched by its actions, as keys.

    The process, and the unit if they are about a unit. A unit that somebody is touched in is not
    touched as a whole, and nobody is while it is; two of its processes may be at once.
    """
    base = {s.key, target.hit.key, cools(policy, s)}
    alone, touched = set(base), set(base)
    for name in (s.entity.unit, _inside(target.hit)):
        whole = f"unit:{name}"
        if name is not None and whole in base:
            alone.add(f"{_IN}{whole}")
        elif name is not None:
            alone.add(whole)
            touched.add(f"{_IN}{whole}")
    return alone, touched


def target(rules: Rules, policy: Policy, s: Subject, todo: Iterable[str], crowd: Crowd) -> Target:
    """Whom `todo` hits; in a unit terminate and kill hit the worst of its members."""
    kinds = {verb(do) for do in todo}
    unit = s.entity.unit
    named = names_unit(policy, unit)
    if not kinds & {*BARRED, *BARRED_BY_WILDCARD}:
        return Target(s, None, None, named)
    barred = protected(rules, s)
    if barred or not needs_members(policy) or unit is None:
        return Target(s, barred, barred, named)
    members = [one for one in crowd() if not one.is_unit and one.entity.unit == unit]
    reasons = {one.key: protected(rules, one) for one in members}
    hit = s
    why: str | None = None
    if s.is_unit and any(_is_single(kind, unit) for kind in kinds):
        candidates = [one for one in members if reasons[one.key] is None]
        if candidates:
            hit = min(candidates, key=lambda one: (
                _STAGES.index(one.leak) if one.leak in _STAGES else len(_STAGES),
                -weight(rules, one), -(one.resident_bytes or 0), one.key,
            ))  # fmt: skip
        elif members:
            why = f"all of its processes are protected: {reasons[members[0].key]}"
    if is_login(unit):
        name = _inside(hit)
        members = [one for one in members if one.key == hit.key or (name and _inside(one) == name)]
    inside = next(
        (f"PID {one.entity.pid} is in it: {reason}"
         for one in members if (reason := reasons[one.key])), None,
    )  # fmt: skip
    return Target(hit, why, inside, named)

"""Pure: what the policies order for the incidents that are due (see `timers`).

Rules of this file
- An incident is decided once. A decision that a cooldown or a spent budget holds back is said
  once, and taken when it may be, if the incident still lasts then.
- What failed is tried again while the incident lasts, ever more seldom, and paid for once; where
  the try did nothing, not at all.
- What ends something behind a `throttle` belongs to its decision, and is due if that is of no use;
  where it is barred, at once.
- The decision is the same in observe and in enforce; only `mode` and `outcome` differ. Cooldowns
  and budgets run in observe too, and begin anew when a policy changes its mode.
- Who is muted is said once to be so; what still holds when it is over is decided then.
- Who may not enforce says what would be done, and does it once they may, if the incident still
  lasts; nothing real is spent for what is only said.
- Nothing protected is ordered terminated or killed.
- One destructive action on an entity at a time, policies by name.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from watchdog import words
from watchdog.facts import Mute, Order, Subject
from watchdog.policy.budget import Purse
from watchdog.policy.ledger import ONLY_SAID, Ledger, Pair, Standing, incident
from watchdog.policy.mute import muted
from watchdog.policy.reach import Reach, reach
from watchdog.policy.rules import DESTRUCTIVE, PLAIN, Policy, Rules, verb
from watchdog.policy.target import (
    Crowd,
    cools,
    counts,
    needs_members,
    strongest,
    target,
    touches,
)
from watchdog.policy.timers import Due, Timers

# A destructive action has so long before another policy may touch the same entity.
BUSY_S = 10.0
OPEN_MAX = 1024
# What did nothing where it failed. A restart that PID 1 gave up on may have stopped the unit.
HARMLESS = ("terminate", "kill", "kill-unit")
# What failed is tried again after so long, then each time after twice as long, up to the cooldown
# or, where that is shorter, SELDOM_S; what may have done something not before the cooldown is over.
AGAIN_S, SELDOM_S, SELDOM_HARMFUL_S = 2.0, 60.0, 600.0
# What a decision waits for, as it stands in Standing.said.
_HELD_BY = {
    "cooldown": "held back by the cooldown", "muted": "muted",
    "lock": "only said: another daemon holds the lock",
}  # fmt: skip


class _Open(NamedTuple):
    """An order that is being carried out: its incident, what cools down, who is kept busy; and
    whether the budget has paid for it and nothing else."""

    pair: Pair
    cooling: Pair
    touched: tuple[str, ...]
    paid_alone: bool


class Decider:
    """`step` after each sweep; `kept` is what a restart must not forget."""

    def __init__(self, rules: Rules, kept: Mapping[str, Any] | None = None) -> None:
        self.rules = rules
        self.mutes: tuple[Mute, ...] = ()
        self.granted = True  # may who enforces do so?
        self.ledger = Ledger()
        self.timers = Timers(rules, self.ledger)
        self.changed = True  # is there more to keep than when somebody last set this to False?
        self._open: dict[str, _Open] = {}
        self._choosing = any(map(needs_members, rules.policies))
        if kept:
            self.ledger.take(kept, rules)

    def step(
        self, t: float, up: float | None, boot_id: str | None, pressure: bool | None,
        subjects: Iterable[Subject], everybody: Callable[[], Iterable[Subject]] | None = None,
    ) -> list[Order]:  # fmt: skip
        """Look at these; what is to be done, policies by name.

        `subjects` may leave out who is not of interest (policy.reach), and then `everybody` finds
        the members of a unit.
        """
        if not self.rules.policies:
            return []
        now = self.ledger.advance(t, up, boot_id)
        if self._choosing and everybody is None:
            subjects = list(subjects)
        due = self.timers.due(subjects, pressure, now)
        out: list[Order] = []
        here = subjects
        crowd = lru_cache(lambda: list(everybody() if everybody else here))
        for one in due:
            out += self._decide(one, now, t, crowd)
        self.ledger.forget(now)
        self.changed |= bool(out)
        return out

    def of_interest(self, pressure: bool | None, counted: bool) -> Reach:
        """Who has to be looked at (see policy.reach)."""
        return reach(self.rules.policies, pressure, counted)

    def held(self) -> set[str]:
        """The keys of those whose incident has not ended."""
        return {key for _, key in self.ledger.standing}

    def _decide(self, due: Due, now: float, t: float, crowd: Crowd) -> list[Order]:
        policy, standing, s, because = due
        ledger = self.ledger
        todo = standing.left or ()
        mode, counted = self.mode(policy), counts(policy)
        is_said = mode != policy.mode and any(verb(do) not in PLAIN for do in counted)
        if is_said and "lock" in standing.said:
            return []
        quiet = self.muted(s, t) if any(do != "log" for do in todo) else None
        if quiet is not None:
            if "muted" in standing.said:
                return []
            standing.said += ("muted",)
            return [self._order(due, s, strongest(todo), (*because, quiet), "muted")]
        real = cooling = (policy.name, cools(policy, s))
        if is_said:
            cooling = (policy.name, cooling[1] + ONLY_SAID)
        until = max(ledger.cool.get(real, now), ledger.cool.get(cooling, now))
        if until > now and not standing.moved:
            if "cooldown" in standing.said:
                return []
            standing.said += ("cooldown",)
            why = (*because, f"cooldown: {words.duration(until - now)} to go")
            return [self._order(due, s, strongest(todo), why, "cooldown")]
        found = target(self.rules, policy, s, todo, crowd)
        if standing.later and "throttle" in todo and found.held("throttle"):
            todo = standing.left = (*todo, *standing.later)
            standing.later = ()
            found = target(self.rules, policy, s, todo, crowd)
        alone, touched = (
            tuple(f"{mode} {key}" for key in keys) for keys in touches(policy, s, found)
        )
        strong = [do for do in todo if verb(do) in DESTRUCTIVE]
        if strong and any(ledger.busy.get(key, now) > now for key in alone):
            return []
        spending = [do for do in todo if do in counted and found.held(do) is None]
        purse_name = policy.name + (ONLY_SAID if is_said else "")
        purse = ledger.purses.get(purse_name, Purse())
        pays = bool(spending) and not standing.moved and not standing.paid
        over = pays and not purse.left(*policy.budget, now)
        if over:
            if "budget" in standing.said:
                return []
            standing.said += ("budget",)
            because += (purse.spent_said(*policy.budget, now),)
        elif pays:
            ledger.purses[purse_name] = purse.spend(*policy.budget, now, t)
        out = []
        for do in todo:
            who, said = (found.hit if found.single(do) else s), because
            held = ("budget", "") if over and do in spending else found.held(do)
            held = held or self._held(mode, do, now, t)
            outcome = held[0] if held else None
            if held and held[1]:
                said = (*because, held[1])
            elif do == "throttle" and standing.later:
                said = (*because, f"if that is of no use: {', '.join(standing.later)}")
            elif who is not s:
                said = (*because, "of the unit's processes this one goes first")
            order = self._order(due, who, do, said, outcome)
            if outcome is None and do in strong:
                own = tuple(key for key in touched if key in alone)  # no other has marked it
                alone_paid = pays and spending == [do]
                self._opened(order.id, _Open((policy.name, s.key), cooling, own, alone_paid))
            out.append(order)
        if any(one.do in strong and one.outcome in (None, "would") for one in out):
            ledger.busy.update(dict.fromkeys(touched, now + BUSY_S))
        standing.decided(spending if over or is_said else (), is_said)
        if is_said and not over:
            standing.said += ("lock",)
        if policy.cooldown_s > 0 and not over:
            ledger.cool[cooling] = now + policy.cooldown_s
        return out

    def mode(self, policy: Policy) -> str:
        """In which mode it is at this moment."""
        return policy.mode if self.granted else "observe"

    def _held(self, mode: str, do: str, now: float, t: float) -> tuple[str, str] | None:
        """(outcome, why) of an action that nothing bars, or None: it is to be carried out."""
        kind = verb(do)
        hook = self.rules.run.get(do.partition(":")[2]) if kind == "run" else None
        if hook is not None and hook.at_most is not None:
            key = f"{mode} {do}"
            purse = self.ledger.purses.get(key, Purse())
            if not purse.left(*hook.at_most, now):
                return "budget", purse.spent_said(*hook.at_most, now, f" of {do}")
            self.ledger.purses[key] = purse.spend(*hook.at_most, now, t)
        carried_out = mode == "enforce" or kind in PLAIN
        return None if carried_out else ("would", "")

    def _order(
        self, due: Due, who: Subject, do: str, because: tuple[str, ...], outcome: str | None
    ) -> Order:
        policy, standing, s = due.policy, due.standing, due.subject
        name = incident((policy.name, s.key), standing.began)
        order_id = f"{name}-{do}"
        if standing.tries:
            order_id += f"-{standing.tries}"
        if outcome in ("cooldown", "budget", "muted"):
            order_id += f"-{outcome}"
        mode = self.mode(policy)
        if outcome == "would" and mode != policy.mode:
            order_id += "-would"  # it may be done yet
        cause = who.cause or s.cause
        return Order(order_id, policy.name, do, mode, who, name, cause, because, outcome)

    def _opened(self, order_id: str, one: _Open) -> None:
        if len(self._open) >= OPEN_MAX:
            del self._open[next(iter(self._open))]
        self._open[order_id] = one

    def settle(self, order: Order, outcome: str) -> str | None:
        """What became of an order; a sentence where it is tried again before long.

        A kill that failed did nothing: its incident is open again, and it was not spent.
        """
        if order.do == "throttle" and outcome in ("failed", "protected"):  # no limit can be set
            self.changed |= self.ledger.moves_on(order.incident)
        elif order.do == "throttle" and outcome in ("changed", "gone"):
            self.changed |= self.ledger.throttles_again(order.incident)
        if (one := self._open.pop(order.id, None)) is None:
            return None
        if outcome not in ("done", "would"):
            for key in one.touched:
                self.ledger.busy.pop(key, None)
        nothing = order.do in HARMLESS and outcome not in ("done", "would")
        # Kept with what is next to be kept: until then it counts as paid.
        if nothing and one.paid_alone and order.policy in self.ledger.purses:
            self.ledger.purses[order.policy] = self.ledger.purses[order.policy].given_back()
        standing = self.ledger.standing.get(one.pair)
        if outcome != "failed" or standing is None:
            return None
        if incident(one.pair, standing.began) != order.incident:
            return None  # that one is over, and what stands there decides for itself
        standing.left = (order.do,)
        standing.paid = not (nothing and one.paid_alone)
        standing.tries += 1
        self.changed = True
        standing.said = ("cooldown",)  # the sentence tells of it
        policy, now = self.rules.policy(order.policy), self.ledger.now or 0.0
        seldom = max(SELDOM_S if nothing else SELDOM_HARMFUL_S, policy.cooldown_s if policy else 0)
        wait = min(seldom, AGAIN_S * 2.0 ** min(standing.tries - 1, 32))
        if not nothing:
            wait = max(wait, self.ledger.cool.get(one.cooling, now) - now)
        self.ledger.cool[one.cooling] = now + wait
        return f"tried again in {words.duration(wait)} if it still lasts"

    def muted(self, s: Subject, t: float) -> str | None:
        """Why nobody is to be told of the subject now, and nothing done about it, or None."""
        if not self.mutes and not self.rules.mutes:
            return None
        return muted(self.rules.mutes, self.mutes, s, t)

    def kept(self) -> dict[str, Any]:
        """What a restart needs, as JSON takes it; the argument of `Decider`."""
        return self.ledger.kept(self.rules)

    def waiting(self) -> dict[str, list[str]]:
        """For each policy what it waits for or is held back by, in sentences, for now.json."""
        found: dict[str, list[str]] = {policy.name: [] for policy in self.rules.policies}
        ruled = {policy.name: policy for policy in self.rules.policies}
        now = self.ledger.now or 0.0
        for (name, key), one in self.ledger.standing.items():
            if one.left is None:
                left = words.duration(max(0.0, one.began + ruled[name].for_s - now))
                found[name].append(f"{key}: its conditions hold; decides in {left}")
            elif one.left:
                found[name].append(f"{key}: {self._held_back(ruled[name], one, now)}")
            else:
                later = f"if the limit is of no use {', '.join(one.later)}" if one.later else ""
                then = later or "nothing more until its conditions end"
                found[name].append(f"{key}: decided; {then}")
        for (name, key), until in self.ledger.cool.items():
            found[name].append(f"{key}: cooldown, {words.duration(max(0.0, until - now))} to go")
        return found

    def _held_back(self, policy: Policy, one: Standing, now: float) -> str:
        """Why what is due of it is not done yet."""
        said = one.said[-1] if one.said else ""
        if said == "budget":
            purse = self.ledger.purses.get(policy.name, Purse())
            return f"held back: {purse.spent_said(*policy.budget, now)}"
        if said == "cooldown" and one.tries:
            return f"{strongest(one.left or ())} came to nothing; tried again after the cooldown"
        return _HELD_BY.get(said, "held back by another action on it")

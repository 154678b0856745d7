"""Pure: what the policies remember: incidents, cooldowns, budgets, and the clock they run on.

Durations run on CLOCK_BOOTTIME (in a recording without it on its wall clock). A new boot keeps
budgets, by the wall clock, and forgets incidents and cooldowns. What is remembered is bounded: by
the subjects that are there, and by the budgets.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from watchdog.policy.budget import Purse
from watchdog.policy.rules import Policy, Rules

# Who has not been seen for so long is gone.
FORGET_S = 120.0
# A condition must have been gone for so long before the next time is another incident.
REARM_S = 60.0
COOLDOWNS_MAX = 4096
# After the key of a cooldown or a purse: it is of what was only said, for want of the right to it.
ONLY_SAID = " (only said)"

# Among what is kept as said: `moved` and `paid`, so that older versions find it.
_MOVED, _PAID = "moved on", "paid for"

Pair = tuple[str, str]  # (policy, subject key)


class Standing:
    """Where one policy stands with one subject: an incident that waits or is decided."""

    __slots__ = ("began", "ended", "held", "later", "left", "moved", "oom_at", "paid", "said",
                 "seen", "tries")  # fmt: skip

    def __init__(self, began: float, oom_at: float | None) -> None:
        self.began = began  # names the incident, too
        self.held = began
        self.seen = began
        self.left: tuple[str, ...] | None = None  # actions still to be decided; None: waiting
        self.later: tuple[str, ...] = ()  # to be decided if a throttle is of no use
        self.moved = False  # a throttle was of no use: what is left was paid for with it
        self.paid = False  # what is left was paid for when it failed
        self.said: tuple[str, ...] = ()  # "cooldown", "budget": told already
        self.ended: float | None = None
        self.oom_at = oom_at
        self.tries = 0

    def plain(self) -> list[Any]:
        """As JSON takes it, without `later`; nor `seen`: time stands still while nobody looks."""
        left = None if self.left is None else list(self.left)
        said = [*self.said, *[_MOVED] * self.moved, *[_PAID] * self.paid]
        return [self.began, self.held, left, said, self.ended, self.oom_at, self.tries]

    @classmethod
    def of(cls, plain: list[Any]) -> "Standing":
        """The inverse of `plain`; some versions wrote `later` behind it."""
        began, held, left, said, ended, oom_at, tries, *later = plain
        self = cls(float(began), None if oom_at is None else float(oom_at))
        self.held = float(held)
        self.left = None if left is None else tuple(map(str, left))
        self.moved, self.paid = _MOVED in said, _PAID in said
        self.said = tuple(str(one) for one in said if one not in (_MOVED, _PAID))
        self.later = tuple(map(str, later[0] if later else ()))
        self.ended = None if ended is None else float(ended)
        self.tries = int(tries)
        return self

    def decided(self, left: Iterable[str], only_said: bool) -> None:
        """What was due was decided but for these; what was only said is as paid for as before."""
        self.left = tuple(left)
        self.moved &= only_said
        self.paid &= only_said

    def is_over(self, now: float) -> bool:
        """Its conditions do not hold at this moment: has the incident ended?"""
        if self.left is None:
            return True
        if self.ended is None:
            self.ended = now
        return now - self.ended >= REARM_S

    def shift(self, by: float) -> None:
        """Move with a clock that was set."""
        self.began, self.held, self.seen = self.began + by, self.held + by, self.seen + by
        self.ended = None if self.ended is None else self.ended + by


def incident(pair: Pair, began: float) -> str:
    """Its name."""
    return f"{pair[0]}-{pair[1]}-{round(began * 1000)}"


class Ledger:
    """The tables, all on one clock; `advance` is called first in each step."""

    def __init__(self) -> None:
        self.boot: str | None = None
        self.now: float | None = None
        self.up: float | None = None
        self.t: float | None = None
        self.standing: dict[Pair, Standing] = {}
        self.cool: dict[Pair, float] = {}  # until when
        self.purses: dict[str, Purse] = {}
        self.busy: dict[str, float] = {}  # until when
        self._just_taken = False

    def advance(self, t: float, up: float | None, boot_id: str | None) -> float:
        """The moment of this step, on the clock in use."""
        now = t if up is None else up
        last, last_up, last_t, boot = self.now, self.up, self.t, self.boot
        self.now, self.up, self.t, self.boot = now, up, t, boot_id or boot
        if last is not None:
            back = now < last
            other = boot_id is not None and boot is not None and boot_id != boot
            # CLOCK_BOOTTIME never steps: if it went back, the machine was started anew
            if other or (back and up is not None and last_up is not None and boot_id is None):
                self.standing.clear()
                self.cool.clear()
                self.busy.clear()
                self.purses = {name: one.moved(now, t) for name, one in self.purses.items()}
            elif back or (up is None) is not (last_up is None):
                self._shift(now - last, now, t)
        if last_t is not None and up is not None:
            purses = self.purses.items()
            self.purses = {name: one.overtaken(last_t, now, t) for name, one in purses}
        if self._just_taken:
            self._just_taken = False
            for standing in self.standing.values():
                standing.seen = now
        return now

    def _shift(self, by: float, now: float, t: float) -> None:
        """The clock was set: nothing is known of how long that took, so it took no time."""
        for standing in self.standing.values():
            standing.shift(by)
        self.cool = {pair: until + by for pair, until in self.cool.items()}
        self.busy = {key: until + by for key, until in self.busy.items()}
        self.purses = {
            name: Purse(tuple((at + by, t - (now - at - by)) for at, _ in purse.spent))
            for name, purse in self.purses.items()
        }

    def forget(self, now: float) -> None:
        """Drop what no longer says anything."""
        for pair in [p for p, one in self.standing.items() if now - one.seen > FORGET_S]:
            del self.standing[pair]
        self.cool = {pair: until for pair, until in self.cool.items() if until > now}
        self.busy = {key: until for key, until in self.busy.items() if until > now}
        if len(self.cool) > COOLDOWNS_MAX:
            last = sorted(self.cool.items(), key=lambda one: one[1])[-COOLDOWNS_MAX:]
            self.cool = dict(last)

    def moves_on(self, name: str) -> bool:
        """A throttle of that incident was of no use: what stands behind it in `do` is next."""
        for pair, one in self.standing.items():
            if one.later and incident(pair, one.began) == name:
                one.left, one.later = one.later, ()
                one.moved = True
                return True
        return False

    def throttles_again(self, name: str) -> bool:
        """A throttle of that incident came to nothing yet: the next is due after the cooldown."""
        for pair, one in self.standing.items():
            if one.later and not one.left and incident(pair, one.began) == name:
                one.left = ("throttle",)
                one.tries += 1
                return True
        return False

    def lifted(self, rules: Rules, held: Collection[str]) -> bool:
        """What an earlier run has throttled is no more, but for these incidents: as above."""
        policies = {
            one.name for one in rules.policies if one.mode == "enforce" and "throttle" in one.do
        }
        names = [incident(pair, one.began) for pair, one in self.standing.items()
                 if pair[0] in policies and one.left is not None]  # fmt: skip
        again = [name for name in names if name not in held and self.throttles_again(name)]
        return bool(again)

    def left(self, policy: Policy) -> int:
        """How often its budget lets something be done now."""
        return self.purses.get(policy.name, Purse()).left(*policy.budget, self.now or 0.0)

    def pay(self, policy: Policy, t: float) -> None:
        """Something was done for it after its decision."""
        purse = self.purses.get(policy.name, Purse())
        self.purses[policy.name] = purse.spend(*policy.budget, self.now or 0.0, t)

    def kept(self, rules: Rules) -> dict[str, Any]:
        """Everything that must outlive us, as JSON takes it."""
        return {
            "boot_id": self.boot, "now": self.now, "up": self.up, "t": self.t,
            "modes": {policy.name: policy.mode for policy in rules.policies},
            "standing": [[*pair, one.plain()] for pair, one in self.standing.items()],
            "behind": [[*p, list(one.later)] for p, one in self.standing.items() if one.later],
            "cool": [[*pair, until] for pair, until in self.cool.items()],
            "purses": {name: [list(one) for one in p.spent] for name, p in self.purses.items()},
        }  # fmt: skip

    def take(self, kept: Mapping[str, Any], rules: Rules) -> None:
        """Go on from `kept`; what is not as it writes it counts as nothing.

        A policy that is gone, or in another mode than it was, begins anew.
        """
        try:
            modes = dict(kept["modes"])
            standing = {(str(p), str(k)): Standing.of(one) for p, k, one in kept["standing"]}
            for p, k, later in kept.get("behind", ()):
                standing[p, k].later = tuple(map(str, later))
            cool = {(str(p), str(k)): float(until) for p, k, until in kept["cool"]}
            purses = {
                str(name): Purse(tuple((float(at), float(t)) for at, t in spent))
                for name, spent in kept["purses"].items()
            }
            boot, up = kept["boot_id"], kept["up"]
            now = None if kept["now"] is None else float(kept["now"])
            t = None if kept.get("t") is None else float(kept["t"])
        except (KeyError, TypeError, ValueError, AttributeError):
            return
        self.boot, self.up, self.now, self.t = boot, up, now, t
        actions = {one.name: one.do for one in rules.policies if modes.get(one.name) == one.mode}
        for pair, one in standing.items():
            if pair[0] in actions:
                if one.left:
                    one.left = tuple(do for do in one.left if do in actions[pair[0]])
                one.later = tuple(do for do in one.later if do in actions[pair[0]])
                self.standing[pair] = one
        self.cool = {pair: until for pair, until in cool.items() if pair[0] in actions}
        self.purses = {
            name: one for name, one in purses.items()
            if name.removesuffix(ONLY_SAID) in actions or name.partition(" run:")[2] in rules.run
        }  # fmt: skip
        self._just_taken = True

    def join(self, kept: Mapping[str, Any], rules: Rules) -> None:
        """Learn only now of `kept`: what was decided in between counts as well."""
        if self.now is None or self.t is None:
            self.take(kept, rules)
            return
        other = Ledger()
        other.take(kept, rules)
        other.advance(self.t, self.up, self.boot)
        self.standing = other.standing | self.standing
        for pair, until in other.cool.items():
            self.cool[pair] = max(until, self.cool.get(pair, until))
        for name, purse in other.purses.items():
            spent = {*purse.spent, *self.purses.get(name, Purse()).spent}
            self.purses[name] = Purse(tuple(sorted(spent)))

"""Effect: units under a MemoryHigh of ours, and how each gets back what it had.

    asked for -> PID 1 tells what it has -> that is stored -> set -> held -> put back -> forgotten

It is put back when its time is over, when it is of no use, when the daemon stops, and at the next
start after a crash; where somebody else has set another limit meanwhile, that one stays. What
cannot be put back now is tried again each minute, and stays in the store until it is done: nothing
else would ever undo it before the next boot, which undoes all of them. A lower limit of somebody
else is left as it is, and watched as ours. One that was of no use, or cannot be set, lets its
policy go on: `policy/ledger` has what stands behind it in `do`.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from watchdog import targets, words
from watchdog.act.unit import Unit, Units, is_ours
from watchdog.clock import Clock
from watchdog.engine import Engine
from watchdog.facts import UNIT, Entity, Order
from watchdog.policy.rules import CHECK_S
from watchdog.policy.target import stages
from watchdog.store.db import Store

KEPT = "throttled"
# MemoryHigh never lies below what is in use: PID 1 itself would have to reclaim it.
HIGH_FACTOR, HIGH_LEAST = 1.05, 16 << 20
STALLED = 0.8  # of the time: then the limit is of no use
# What could not be put back is tried again; a daemon that stops has no minute.
AGAIN_S, AGAIN_STOPPING_S = 60.0, 0.2
AT_ONCE = 4
# How long PID 1 may take to tell what a limit is now, before it is put back all the same.
SHOW_S, SHOW_STOPPING_S = 10.0, 0.5
OURS_MAX = 8

Answer = Callable[[Order, str, str], None]
FolderOf = Callable[[Unit], str | None]
Say = Callable[[str, str, tuple[str, ...], dict[str, Any]], None]
Claim = tuple[str, str, float]  # policy, incident, until when (boottime)


class Held(NamedTuple):
    """A unit under a MemoryHigh of ours: what it had before, and until when (boottime)."""

    former: str
    until_up: float
    high: int = 0
    check_up: float | None = None
    stalled_us: int | None = None
    claims: tuple[Claim, ...] = ()  # who has asked for it
    why: str = ""  # it is put back before its time
    ours: tuple[int, ...] = ()  # all that it may have been set to; (): not known
    theirs: bool = False  # somebody else's limit, which is only watched


class Throttles:
    """`folder_of` finds a unit's cgroup, `answer` takes the outcome of an order."""

    def __init__(
        self, clock: Clock, units: Units, engine: Engine, store: Store, folder_of: FolderOf,
        answer: Answer, say: Say,
    ) -> None:  # fmt: skip
        self.clock = clock
        self.units = units
        self.engine = engine
        self.store = store
        self.folder_of = folder_of
        self.answer = answer
        self.say = say
        self.held: dict[str, Held] = {}
        self.busy: set[str] = set()  # PID 1 is being asked about it
        self.stopping = False

    # ---- life --------------------------------------------------------------------------------

    def recall(self, kept: Mapping[str, Any]) -> None:
        """A run before this one left units throttled: put back what they had.

        Also where it has put that back itself, as it was stopped: what stands behind a throttle
        waits for another one.
        """
        ledger = self.engine.decider.ledger
        incidents = {incident for one in self.held.values() for _, incident, _ in one.claims}
        self.engine.decider.changed |= ledger.lifted(self.engine.rules, incidents)
        former, set_to = kept.get("former"), kept.get("set")
        if kept.get("boot_id") != self.engine.boot_id or not isinstance(former, dict):
            return
        for name, value in former.items():
            if isinstance(value, str):
                found = set_to.get(name) if isinstance(set_to, dict) else None
                policy, incident, *ours = (
                    found if isinstance(found, list) and len(found) > 2 else ("", "")
                )
                claims = ((policy, incident, 0.0),)
                self.held[name] = Held(value, 0.0, claims=claims, ours=tuple(ours))
        self.turn()

    def turn(self) -> None:
        """Do what is due."""
        up = self.clock.boottime()
        for name, one in list(self.held.items()):
            if name in self.busy:
                continue
            if one.check_up is not None and up >= one.check_up and not self.stopping:
                one = self._check(name, one, up)
            if one.why or (up >= one.until_up and len(self.busy) < AT_ONCE):
                self._put_back(name, one)

    def deadline(self) -> float | None:
        """When `turn` has to be called at the latest (boottime)."""
        soon = self.clock.boottime() + 1.0  # what is due and waits, waits for the end of others
        idle = [one for name, one in self.held.items() if name not in self.busy]
        dues = [max(soon, one.until_up) for one in idle]
        dues += [one.check_up for one in idle if one.check_up is not None]
        return min(dues, default=None)

    def stop(self) -> None:
        """The daemon stops: from now on nothing is throttled, and `turn` puts all of them back."""
        self.stopping = True
        self.held = {name: one._replace(until_up=0.0) for name, one in self.held.items()}
        self.turn()

    # ---- orders ------------------------------------------------------------------------------

    def throttle(self, order: Order, unit: Unit, lasts_s: float) -> None:
        """Limit it to a little more than it holds, for so long."""
        name, folder = unit.name, self.folder_of(unit)
        current = f"{folder}/memory.current"
        if folder is None or targets.number(current) is None:
            outcome = "gone" if folder is None else "failed"
            self.answer(order, outcome, "its cgroup is not known")
            return
        if name in self.busy:
            self.answer(order, "changed", "its limit is being changed already")
            return
        known = self.held.get(name)
        asked: list[int] = []

        def chosen(former: str) -> int | tuple[str, str]:
            use, now = targets.number(current), self.clock.boottime()
            if use is None:
                return "gone", "its cgroup is gone"
            if self.stopping:
                return "changed", "the daemon stops"
            high, limit = _above(use), _bytes(former)
            stays = limit is not None and limit <= high
            ours = known.ours if known else ()
            # where it is not known what we have set, what stands there counts as ours
            mine = known and not known.theirs and (is_ours(former, ours) or not ours)
            before, ours = (known.former, ours) if known and mine else (former, ())
            claim = (order.policy, order.incident, now + lasts_s)
            one = Held(before, now + lasts_s, high if limit is None else min(high, limit),
                       now + CHECK_S, targets.stalled(folder), (claim,), ours=ours)  # fmt: skip
            if known and known.check_up is not None:
                one = _joined(known, one, now, stays and bool(mine or limit == known.high))
            if stays:
                self.held[name] = one._replace(theirs=not mine)
                self._write()
                return "done", f"it has MemoryHigh={words.size(one.high)} already, and that stays"
            self.held[name] = one._replace(ours=(*ours, high)[-OURS_MAX:])
            if not self._keep():
                self._give_up(name, known)
                return "failed", "what it was before cannot be kept, so it is left alone"
            asked.append(high)
            return high

        def done(outcome: str, said: str) -> None:
            self.busy.discard(name)
            if outcome == "done" and asked:
                left_s = max(lasts_s, self.held[name].until_up - self.clock.boottime())
                size = words.size(asked[-1])
                said = f"MemoryHigh={size}, put back in {words.duration(left_s)}"
            elif asked:  # PID 1 may have set it all the same: back to what is known
                one, ledger = self.held[name], self.engine.decider.ledger
                for _, incident, _ in known.claims if known and known.theirs else ():
                    self.engine.decider.changed |= ledger.throttles_again(incident)
                self._give_up(name, known._replace(former=one.former, ours=one.ours)
                              if known and not known.theirs
                              else one._replace(until_up=0.0, check_up=None))  # fmt: skip
            if self.stopping and name in self.held:
                self.held[name] = self.held[name]._replace(until_up=0.0)
            self.answer(order, outcome, said)

        self.busy.add(name)
        self.units.limit(unit, chosen, done)

    def _give_up(self, name: str, known: Held | None) -> None:
        """A throttle came to nothing: what was known before it is what counts."""
        if known is None:
            self.held.pop(name, None)
        else:
            self.held[name] = known
        self._write()

    def _check(self, name: str, one: Held, up: float) -> Held:
        """Is the limit of any use? A unit that stands still, or grows beyond it, is let go."""
        members = tuple(i for i, row in self.engine.world.rows.items() if row[UNIT] == name)
        folder = self.folder_of(Unit(name, members))
        stalled = targets.stalled(folder)
        use = targets.number(f"{folder}/memory.current") if folder else None
        lasted = CHECK_S + up - (one.check_up or up)
        why = ""
        if stalled is not None and one.stalled_us is not None:
            share = (stalled - one.stalled_us) / 1e6 / lasted
            if share > STALLED:
                why = (f"it stood still for {words.share(share)} of the last "
                       f"{words.duration(lasted)} under the limit")  # fmt: skip
        if one.theirs and not is_ours(str(targets.number(f"{folder}/memory.high")), (one.high,)):
            why = ""  # it is another limit by now
        elif not why and use is not None and use > _above(one.high):
            why = f"it grew to {words.size(use)} beyond a limit of {words.size(one.high)}"
        due = one.check_up or up
        lasting = tuple(claim for claim in one.claims if claim[2] >= due)
        self.held[name] = one._replace(
            check_up=up + CHECK_S, stalled_us=stalled, why=why, claims=lasting or one.claims
        )
        return self.held[name]

    def _put_back(self, name: str, one: Held) -> None:
        if one.theirs:
            del self.held[name]
            if one.why:
                self._say_lifted(name, one, "failed", (one.why, "it stays"))
            return

        def done(outcome: str, said: str) -> None:
            self.busy.discard(name)
            if outcome in ("done", "gone", "changed"):
                self.held.pop(name, None)
                self._write()
            else:
                again = AGAIN_STOPPING_S if self.stopping else AGAIN_S
                due = self.clock.boottime() + again
                self.held[name] = one._replace(until_up=due, check_up=None, why="")
            if outcome == "changed":
                self._say_lifted(name, one, outcome, (said,))
            elif one.why:
                self._say_lifted(name, one, "failed", (one.why, said))

        self.busy.add(name)
        limit = _bytes(one.former)
        within_s = SHOW_STOPPING_S if self.stopping else SHOW_S
        former = "infinity" if limit is None else str(limit)
        self.units.put_back(name, former, one.ours, within_s, done)

    def _say_lifted(self, name: str, one: Held, outcome: str, because: tuple[str, ...]) -> None:
        """Tell all who asked for it; one that was of no use lets them go on."""
        entity = Entity(unit=name)._asdict()
        for policy, incident, until in one.claims:
            body = {**entity, "policy": policy, "do": "throttle", "mode": "enforce",
                    "target": entity, "outcome": outcome, "incident": incident}  # fmt: skip
            then = (self._next(policy),) if outcome == "failed" else ()
            name = f"{incident}-throttle-lifted-{round(until)}"  # there may be another one in it
            self.say("policy.action", name, (*because, *then), body)

    def _next(self, name: str) -> str:
        """What a policy does now that the limit was of no use."""
        policy = self.engine.rules.policy(name)
        _, later = stages(policy.do) if policy is not None else ((), ())
        if not later:
            return "nothing further is ordered"
        return f"next, if it is still so: {', '.join(later)}"

    # ---- what a crash must not forget --------------------------------------------------------

    def _write(self) -> None:
        ours = {name: one for name, one in self.held.items() if not one.theirs}
        former = {name: one.former for name, one in ours.items()}
        set_to = {name: [*one.claims[0][:2], *one.ours] for name, one in ours.items()}
        found = {"boot_id": self.engine.boot_id, "former": former, "set": set_to}
        self.store.put_kept({KEPT: json.dumps(found)})

    def _keep(self) -> bool:
        """Before anything is changed it is written down what it was."""
        self._write()
        return self.store.flush(1.0) and self.store.failed is None


def _joined(known: Held, one: Held, now: float, same: bool) -> Held:
    """`one` also for those who have asked before.

    The minute after which it is judged begins anew, unless it is the `same` limit: a lower one has
    to have its time, and nobody's ends before that.
    """
    due = known.check_up if same else one.check_up
    earlier = [(policy, incident, until if same else max(until, due or now))
               for policy, incident, until in known.claims
               if until > now and incident != one.claims[0][1]]  # fmt: skip
    claims = (*earlier, *one.claims)
    one = one._replace(until_up=max(until for *_, until in claims), claims=claims, check_up=due)
    return one._replace(stalled_us=known.stalled_us) if same else one


def _above(use: int) -> int:
    return max(int(use * HIGH_FACTOR), use + HIGH_LEAST)


def _bytes(value: str) -> int | None:
    """MemoryHigh as systemd writes it; None: no limit."""
    return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else None

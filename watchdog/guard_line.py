"""The watcher's end of the wire to the guard: what it is told, and what the guard says and wishes.

The guard's reports become facts; its wishes go to the senses and the deeds. Whoever owns this looks
at `stopping` after each call: the guard has said so, or is gone.
"""

import json
import select
from collections.abc import Callable
from typing import Any

from watchdog import wire, words
from watchdog.clock import Clock
from watchdog.deeds import Deeds
from watchdog.facts import Fact, Host, Ident, Said, Sweep
from watchdog.health import Health, Say
from watchdog.policy.rules import Rules, enforces, guard_settings
from watchdog.sense.senses import Senses
from watchdog.store.db import Store

GRANT_S = 2.0
SHORT = "memory is short"
KEPT = "guard_spent"
SPENT_MAX = 64
# So many who are protected are told by name, 0.3 MiB a thousand in the guard; past that it signals
# nobody whom it does not know.
SPARED_MAX = 4096


class GuardLine:
    """`feed` takes the facts, `say` tells; `reload` changes the rules, `grant` if they may act."""

    def __init__(
        self, fd: int, clock: Clock, rules: Rules, senses: Senses, store: Store, health: Health,
        spent: str | None, feed: Callable[[Fact], None], say: Say, reload: Callable[[int], None],
        grant: Callable[[bool], None],
    ) -> None:  # fmt: skip
        self.fd = fd
        self.clock = clock
        self.rules = rules
        self.senses = senses
        self.store = store
        self.health = health
        self.feed = feed
        self.say = say
        self.reload = reload
        self.grant = grant
        self.deeds: Deeds | None = None  # they spend of the guard's budget, and so need this first
        self.spent = _times(spent)
        self.granted: bool | None = None
        self.held_back = False  # rules that enforce, until the lock is granted
        self.spared: dict[Ident, str] | None = None  # as the guard was told
        self.hurry_s = 0.0  # how often the guard wants us to look; 0: as often as the rules say
        self.short = ""  # what the guard said last of a shortage that goes on
        self.ranked: list[Any] = []  # whom it would take in it, by the decision of then
        self.decided_t: float | None = None
        self.stopping = False

    @property
    def word(self) -> tuple[str, list[Any]]:
        """The guard's last word and the end of its budget, in words; and whom it would take."""
        said = self.short or ("memory is near the mark" if self.hurry_s else "watching")
        spent = self._used_up() if self.mode == "enforce" else ""
        return f"{said}; {spent}" if spent else said, self.ranked

    @property
    def mode(self) -> str:
        """What the guard does, which only observes where it was not granted the machine's lock."""
        return "observe" if self._armed() and not self.granted else self.rules.guard.mode

    @property
    def interval_s(self) -> float:
        """How often to look now."""
        ruled_s = self.rules.watch.interval_s
        return min(ruled_s, self.hurry_s or ruled_s)

    def send(self, *message: Any) -> bool:
        """Hand the guard one message, its kind first; whether it was taken."""
        # A guard that is behind loses a message; the next beat or dossier replaces it.
        try:
            return wire.send(self.fd, message)
        except wire.ClosedError:
            self.stopping = True
            return False

    def spare(self, found: dict[Ident, str]) -> None:
        """Tell whom the guard may not signal, where that is not what it was told last."""
        if found == self.spared:
            return
        idents = list(found)[:SPARED_MAX]
        while True:
            by_reason: dict[str, list[Ident]] = {}
            for ident in idents:
                by_reason.setdefault(found[ident], []).append(ident)
            whole = len(idents) == len(found)
            if wire.fits(("spared", whole, by_reason)):
                break
            del idents[len(idents) // 2 :]
        if self.send("spared", whole, by_reason):
            self.spared = found
        if whole:
            self.health.recover("protect", "all who are protected are known to the guard")
        else:
            told = f"{len(idents)} of {len(found)} protected processes are known to the guard"
            self.health.degrade("protect", told, "it signals nobody but the largest that it knows")

    def agree(self) -> None:
        """Hand over the rules, and hear if memory is short before anything is decided by them.

        Nothing is enforced before the guard says that it holds the lock.
        """
        self.send("rules", guard_settings(self.rules))
        self.granted, self.held_back = None, False
        until = self.clock.boottime() + GRANT_S
        armed = enforces(self.rules)
        while self.granted is None and not self.stopping:
            left = until - self.clock.boottime()
            if left <= 0:
                if armed:
                    self._hold_back("the guard did not answer")
                return
            if self.clock.wait({self.fd: select.POLLIN}, left):
                self.hear()

    def hear(self) -> None:
        """Take what has come."""
        try:
            messages = wire.receive(self.fd)
        except wire.ClosedError:
            self._gone()
            return
        for message in messages:
            if message[0] == "stop":
                self.stopping = True
            elif message[0] == "reload":
                self.reload(message[1])
            elif message[0] == "enforce":
                self.granted = bool(message[1])
                if message[3]:  # since before we were started, or told it
                    self.short = self.short or SHORT
                    t, up = self.clock.wall(), self.clock.boottime()
                    self.feed(Said(t, up, "pressure.lasts", f"{up:.3f}", (), {}))
                if not self.granted and enforces(self.rules):
                    self._hold_back(message[2] or "the lock for enforcing is not to be had")
                elif self.granted:
                    self._let_go()
            elif message[0] == "report":
                _, t, up, kind, identity, because, body = message
                if kind == "guard.action" and body.get("outcome") == "done":
                    self._spent(body.get("decided_t", t))
                self._note(kind, body)
                down = self.deeds.left_down(kind, body) if self.deeds else None
                if down:
                    because, body = [*because, down], {**body, "restarts": False}
                self.feed(Said(t, up, kind, identity, tuple(because), body))
                if self.deeds:
                    self.deeds.incidents.heard(t, kind, identity, because, body)
            else:
                self._wish(message)

    def spend(self) -> None:
        """A deed has used up one of the guard's budget: it counts that too."""
        t = self.clock.wall()
        self._spent(t)
        self.send("spend", t)

    def owe(self, unit: str, pid: int, incident: str, policy: str) -> bool:
        """A policy's SIGTERM may have ended it for good: the guard remembers that for us."""
        return self.send("ended", incident, [(unit, pid)], policy)

    def _wish(self, message: wire.Message) -> None:
        """What the guard asks for beside its reports."""
        kind = message[0]
        if kind == "hurry":
            self.hurry_s = message[1]
            self.senses.interval_s = self.interval_s
            if self.hurry_s:
                self.senses.next_up = self.clock.boottime()
        elif kind == "inputs":
            # For that decision: how many the kernel has killed is for our senses to tell.
            host = self.senses.own(Host(*message[1]))._replace(oom_kill=None)
            rows = tuple(tuple(row) for row in message[2])
            self.feed(host)
            self.feed(Sweep(host.t, host.up, rows, census=False, inputs=True))
            if self.deeds:
                self.deeds.incidents.saw(host, rows)
        elif kind == "revive" and self.deeds:
            unit, pid, incident, policy, may = message[1:]

            def over() -> None:
                self.send("revived", unit, pid)

            self.deeds.revive(unit, pid, incident, policy, may, over)
        elif kind == "stop_unit" and self.deeds:
            self.deeds.stop_unit(*message[1:4])

    def join(self, spent: str | None) -> None:
        """Learn only now of what earlier runs kept of the guard's budget."""
        self.spent = sorted({*_times(spent), *self.spent})[-SPENT_MAX:]
        self.store.put_kept({KEPT: json.dumps(self.spent)})
        self.send("spent", self.spent)

    def _spent(self, t: float) -> None:
        """The guard's budget, for the next boot.

        A decision is counted once: its SIGKILL has the time of its SIGTERM, and what no watcher is
        known to have heard is told again to the next one.
        """
        if t in self.spent:
            return
        self.spent = [*self.spent, t][-SPENT_MAX:]
        self.store.put_kept({KEPT: json.dumps(self.spent)})

    def _note(self, kind: str, body: dict[str, Any]) -> None:
        """Keep the guard's last word on a shortage."""
        if kind == "pressure.begun":
            self.short = SHORT
        elif kind == "pressure.ended":
            self.short, self.ranked = "", []
        elif kind == "guard.action":
            who = f" {body['comm']} (PID {body['pid']})" if body.get("pid") else ""
            self.short = f"{SHORT}: {body.get('do')}{who}: {body.get('outcome')}"
            at = body.get("decided_t")  # a SIGKILL goes with its SIGTERM, and names nobody else
            if body.get("candidates") and at != self.decided_t:
                self.ranked, self.decided_t = list(body["candidates"]), at

    def _used_up(self) -> str:
        """A sentence where the budget allows nothing more now, else ""."""
        (times, per_s), t = self.rules.guard.budget, self.clock.wall()
        counted = sorted(at for at in self.spent if t - at < per_s)
        if len(counted) < times:
            return ""
        said = f"it only says what it would do: its budget of {times} in {words.duration(per_s)}"
        left = counted[len(counted) - times] + per_s - t if times else 0.0
        return f"{said} is used up" + (f" for another {words.duration(left)}" if times else "")

    def _armed(self) -> bool:
        return self.rules.guard.mode == "enforce"

    def _hold_back(self, reason: str) -> None:
        """Somebody else enforces on this machine: our policies go on in observe."""
        self.held_back = True
        self.grant(False)
        self.health.degrade("enforce", f"policies only observe: {reason}")

    def _let_go(self) -> None:
        """The guard holds the lock, perhaps after it was busy for a while."""
        self.grant(True)
        if self.held_back:
            self.held_back = False
            self.health.recover("enforce", "the guard holds the lock: policies act")

    def _gone(self) -> None:
        because = ["the guard is gone: stopping, to be started again"]
        self.say("watchdog.degraded", because, {"what": "guard"})
        self.stopping = True


def _times(text: str | None) -> list[float]:
    """Unix seconds, as `_spent` keeps them."""
    try:
        return [float(one) for one in json.loads(text or "[]")]
    except (ValueError, TypeError):
        return []

"""What people want of the running daemon: to be told, to be spared, to know that it works.

Each of these parts is made once somebody wants it, so that nobody else pays for its code: the post
where there is a notifier, the mutes where somebody asked for silence, the checkup for as long as
it looks.
"""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from watchdog import words
from watchdog.child import Children
from watchdog.clock import Clock
from watchdog.desk import Desk
from watchdog.engine import Engine
from watchdog.facts import Event, Fact
from watchdog.health import Health, Say
from watchdog.policy.rules import Rules
from watchdog.requests import Requests
from watchdog.store.db import Store
from watchdog.store.place import now_dir

if TYPE_CHECKING:
    from watchdog.checkup import Checkup
    from watchdog.mutes import Mutes
    from watchdog.post import Post

CHECKUP_S = 3.0  # at a boot others are starting, too


class People:
    """`feed` takes what they muted to the engine, `say` tells of it."""

    def __init__(
        self, clock: Clock, rules: Rules, children: Children, store: Store, engine: Engine,
        desk: Desk, health: Health, state: str, kept: Mapping[str, str],
        feed: Callable[[Fact], None], say: Say,
    ) -> None:  # fmt: skip
        self.clock = clock
        self.rules = rules
        self.children = children
        self.store = store
        self.engine = engine
        self.desk = desk
        self.health = health
        self.state = state
        self.kept = kept
        self.feed = feed
        self.say = say
        self.requests = Requests(state)
        self.post: Post | None = None
        self.mutes: Mutes | None = None
        self.checkup: Checkup | None = None
        self.checkup_at: float | None = None

    # ---- life --------------------------------------------------------------------------------

    def recall(self) -> None:
        """Make what the run before this one left something for."""
        self._make_mutes(self.kept.get("mutes"))
        self._make_post()

    def join(self, kept: str | None) -> None:
        """Learn only now of the mutes that the run before this one kept."""
        if kept:
            self._make_mutes("[]")
            if self.mutes is not None:
                self.mutes.join(kept)

    def set_rules(self, rules: Rules) -> None:
        """Other notifiers, perhaps the first, from now on."""
        self.rules = rules
        self._make_post()

    def look_soon(self, in_s: float = CHECKUP_S) -> None:
        """Have eyes and hands looked at with the first beat after so many seconds."""
        self.checkup_at = self.clock.boottime() + in_s

    def close(self) -> None:
        """The daemon stops."""
        if self.post is not None:
            self.post.outbox.close()

    # ---- in the loop -------------------------------------------------------------------------

    def due(self) -> float | None:
        """When `turn` must be called although nothing is ready (boottime)."""
        return self.post.outbox.due() if self.post else None

    def turn(self) -> bool:
        """Send what is to be sent; whether now.json has something new to tell."""
        if self.post is None or not self.post.turn():
            return False
        self.post.check(self.health)
        return True

    def looked(self) -> None:
        """Take what the checkup found, once it is done."""
        if self.checkup is not None:
            self.checkup.over(self.health)
            self.checkup = self.checkup if self.checkup.child else None

    def asked(self) -> bool:
        """What the commands have asked for since the last beat; whether now.json tells it."""
        for request in self.requests.take():
            if request.problem:
                self.health.lost("request", self.requests.refused, request.problem)
            else:
                self._asked(request.asked)
        changed = False
        if self.mutes is not None:
            self.mutes.turn()
            changed, self.mutes.changed = self.mutes.changed, False
            if changed:
                self.feed(self.mutes.fact())
                self.store.put_kept(self.mutes.kept())
        if self.requests.problem:
            self.health.degrade("requests", f"commands cannot ask: {self.requests.problem}")
        if self.checkup_at is not None and self.clock.boottime() >= self.checkup_at:
            self.checkup_at = None
            self._check_up()
        return changed

    def heard(self, event: Event) -> None:
        """Some mutes end with what they are about."""
        if self.mutes is not None:
            self.mutes.heard(event)

    # ---- small ones --------------------------------------------------------------------------

    def _asked(self, asked: dict[str, Any]) -> None:
        do = asked.get("do")
        if do == "notify-test" and self.post is not None:
            name, one = asked.get("notifier"), asked.get("id")
            if isinstance(name, str) and isinstance(one, str):
                self.post.trial(name, words.safe(one))
        elif do in ("silence", "ack"):
            self._make_mutes("[]")
            if self.mutes is not None:
                self.mutes.ask(asked)
        elif do == "lift" and self.mutes is not None:
            self.mutes.lift(words.safe(str(asked.get("what"))), words.safe(str(asked.get("by"))))

    def _make_mutes(self, kept: str | None) -> None:
        """Only where somebody has asked for silence."""
        if self.mutes is None and kept:
            from watchdog.mutes import Mutes

            self.mutes = Mutes(self.clock, self.engine.boot_id or "", kept, self.say)

    def _make_post(self) -> None:
        """Only where somebody is to be told, or was: it is half a MiB of code and what it holds."""
        if self.post is not None:
            self.post.set_rules(self.rules)
        elif self.rules.notify or self.kept.get("notified") or self.store.load_outbox():
            from watchdog.post import Post

            self.post = self.desk.post = Post(
                self.clock, self.rules, self.children, self.store, self.engine, self.state,
                self.kept, self.engine.is_muted,
            )  # fmt: skip
        self.kept = {}  # each part has taken its own

    def _check_up(self) -> None:
        """Do eyes and hands work, in this sandbox? A child finds out."""
        from watchdog.checkup import Checkup

        if self.checkup is None:
            self.checkup = Checkup(self.children, now_dir(self.state), self.state)
        self.checkup.begin(self.rules, os.getppid())

"""Notifications as the watcher sees them: one object, made only where a notifier is configured."""

import os
from collections.abc import Callable, Mapping

from watchdog import notices, words
from watchdog.child import Children
from watchdog.clock import Clock
from watchdog.couriers import Hooks
from watchdog.couriers import Post as UrlPost
from watchdog.engine import Engine
from watchdog.facts import Entity, Event, Notice, Order
from watchdog.health import Health
from watchdog.outbox import Outbox
from watchdog.policy.rules import Rules
from watchdog.store.db import Store

# The sender needs 45 MiB with apprise; below this, starting it could cost somebody his life.
ROOM_BYTES = 256 << 20


class Post:
    """`order` and `rows` make notifications, `turn` sends them."""

    def __init__(
        self, clock: Clock, rules: Rules, children: Children, store: Store, engine: Engine,
        state: str, kept: Mapping[str, str], muted: Callable[[Entity], bool],
    ) -> None:  # fmt: skip
        self.clock = clock
        self.engine = engine
        self.store = store
        runtime = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or None
        self.outbox = Outbox(
            clock, rules.notify, Hooks(children), UrlPost(clock, children, state, runtime),
            self._is_short, store.notices_over,
        )  # fmt: skip
        self.outbox.take(store.load_outbox())
        self.notices = notices.Notices(kept.get(notices.KEPT), muted, self._by_pressure)
        self.bad: dict[str, str] = {}

    def set_rules(self, rules: Rules) -> None:
        """Other notifiers from now on."""
        self.outbox.notifiers = rules.notify

    def order(self, order: Order) -> None:
        """The next event is what became of this order."""
        self.notices.order = order

    def rows(self, event: Event) -> tuple[list[Notice], dict[str, str]]:
        """See `Notices.rows`."""
        return self.notices.rows(event)

    def trial(self, name: str, row_id: str) -> None:
        """Send a test; it is no event, so it lives in memory alone."""
        if name not in self.outbox.notifiers:
            self.outbox.refuse(name, row_id, "no such notifier in the daemon's configuration")
            return
        self.outbox.take([notices.trial(name, self.engine.host, self.clock.wall(), row_id)])

    def turn(self) -> bool:
        """Never waits; whether now.json has something new to tell."""
        self.outbox.turn()
        return self.outbox.changed

    def check(self, health: Health) -> None:
        """Say which notifier does not work, once, and which does again."""
        problems = self.outbox.problems()
        for name, why in problems.items():
            said = f"notifications to {name} do not arrive: {why}"
            health.degrade(f"notify.{name}", said, "they are tried again")
        for name in self.bad.keys() - problems.keys():
            health.recover(f"notify.{name}", f"notifications to {name} arrive again")
        self.bad = problems
        dropped = words.count(self.outbox.dropped, "notification")
        sentence = f"{dropped} given up: {self.outbox.why_dropped}"
        health.lost("notify", self.outbox.dropped, sentence)

    def _is_short(self) -> bool:
        host = self.engine.world.host
        available = host.mem_available if host else None
        return self.engine.pressed is True and (available is None or available < ROOM_BYTES)

    def _by_pressure(self, policy: str) -> bool:
        found = self.engine.rules.policy(policy)
        return found is not None and found.when.pressure is True

"""From the kernel log into the engine: the part of the watcher's loop that reads it."""

from collections.abc import Callable

from watchdog.clock import Clock
from watchdog.crashes import Crashes
from watchdog.engine import Engine
from watchdog.facts import Fact, LogState, Tick
from watchdog.kernel_source import KernelSource
from watchdog.sense.senses import Senses
from watchdog.store.db import Store

# A report in the kernel log is closed one second after its kill line; look just after that.
QUIET_S = 1.1


class KernelPump:
    """`feed` takes the facts to the engine, and its answers, with `kept`, to the desk."""

    def __init__(
        self, clock: Clock, source: KernelSource, crashes: Crashes, engine: Engine, senses: Senses,
        store: Store, feed: Callable[[Fact], None],
    ) -> None:  # fmt: skip
        self.clock = clock
        self.source = source
        self.crashes = crashes
        self.engine = engine
        self.senses = senses
        self.store = store
        self.feed = feed
        self.tick_at: float | None = None
        self._state: tuple[str, str] | None = None

    def due(self, up: float) -> float | None:
        """When `turn` must be called although nothing is ready (boottime)."""
        found = [at for at in (self.tick_at, self.source.due(up)) if at is not None]
        return min(found, default=None)

    def turn(self) -> None:
        """Take what is there."""
        if self.source.look(self.clock):
            # The kernel counts before it prints: read now, its count covers these kills.
            self.feed(self.senses.read_host(self.clock.wall(), self.clock.boottime()))
        state = self.source.state()
        if state != self._state:
            self._state = state
            self.feed(LogState(self.clock.wall(), self.clock.boottime(), *state))
        for fact in self.source.facts(self.clock):
            self.feed(fact)
            self.settled()
            self.tick_at = self.clock.boottime() + QUIET_S
        if not self.crashes.done and state[0] != "catching up" and self.engine.idle:
            self._crashes()

    def on_time(self) -> None:
        """What waits for quiet goes on."""
        if self.tick_at is not None and self.clock.boottime() >= self.tick_at:
            self.tick_at = None
            self.feed(Tick(self.clock.wall(), self.clock.boottime()))
            self.settled()

    def settled(self) -> None:
        """What was given has been taken."""
        self.source.settled(self.engine.idle)

    def _crashes(self) -> None:
        boot = self.engine.boot_id or ""
        for fact in self.crashes.facts(lambda: self.store.load_past_kills(boot)[0]):
            self.feed(fact)
        self.store.put_kept(self.crashes.kept())

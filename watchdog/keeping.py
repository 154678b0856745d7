"""Effect: what the watcher hands to the store so that the next one goes on where it ended.

Everything every five minutes, one piece a turn, and at the end; what a leak that has been seen is
judged by every half minute; what the policies decided at once, before a deed or with what is told.
"""

import json
from collections.abc import Iterator

from watchdog import trace
from watchdog.clock import Clock
from watchdog.engine import Engine, Out
from watchdog.facts import EntityRecord, Event, Order
from watchdog.history.machine import Machine
from watchdog.kernel_source import KernelSource
from watchdog.policy.rules import PLAIN, verb
from watchdog.store.db import Store

PERSIST_S = 300.0
PERSIST_SUSPECTS_S = 30.0
ACTION = "policy.action"


class Keeping:
    """`on_time` once a turn; `machine` takes the counters of the whole machine."""

    def __init__(self, clock: Clock, store: Store, engine: Engine, log: KernelSource) -> None:
        self.store = store
        self.engine = engine
        self.log = log
        self.machine = Machine()
        self.next_all = clock.boottime() + PERSIST_S
        self.next_suspects = clock.boottime() + PERSIST_SUSPECTS_S
        self.pieces: Iterator[list[EntityRecord]] = iter(())

    def on_time(self, up: float) -> None:
        """Write what is due."""
        if up >= self.next_all:
            self.next_all = up + PERSIST_S
            self.persist(urgent=False)
        elif up >= self.next_suspects:
            self.next_suspects = up + PERSIST_SUSPECTS_S
            self.store.retry()
            self.persist(urgent=True)
        else:
            self.store.put_entities(next(self.pieces, ()))

    def persist(self, urgent: bool) -> None:
        """Everything, or only what a suspicion needs."""
        if urgent:
            self.store.put_entities(self.engine.dump(urgent))
        else:
            self.pieces = self.engine.pieces()  # written one a turn
        self.store.put_host(self.machine.take_closed() if not urgent else ())
        # Else a leak of minutes that we find after a restart would begin as carried.
        proven = {"proven": json.dumps(self.engine.levels.kept())}
        self.store.put_kept(self.log.cursors() | self.counted() | proven)
        if not urgent:
            self.store.put_kept(self.policies())

    def end(self, boot_id: str | None) -> None:
        """The daemon stops: all of it, as far as the store takes it in time."""
        self.machine.end(boot_id)
        self.persist(urgent=False)
        for piece in self.pieces:
            self.store.put_entities(piece)
            if not self.store.flush(0.5):
                break

    def decided(self, out: list[Out]) -> dict[str, str]:
        """What the policies remember, if they decided: stored with what is told of it, but before
        a deed, for who is started after us meanwhile. A disk that hangs holds it up for 0.5 s.
        """
        deeds = any(isinstance(one, Order) and verb(one.do) not in PLAIN for one in out)
        told = any(isinstance(one, Event) and one.kind == ACTION for one in out)
        if not (deeds or told) or not self.engine.decider.changed:
            return {}  # a copy of everything for each of a thousand would take all our memory
        self.engine.decider.changed = False
        kept = self.policies()
        if deeds:
            self.store.put_kept(kept)
            self.store.flush(0.5)
        return {} if deeds else kept

    def policies(self) -> dict[str, str]:
        """All that the policies remember."""
        return {"decider": json.dumps(self.engine.decider.kept())}

    def counted(self) -> dict[str, str]:
        """How far the kernel's count of kills is told, for the transaction that tells of it."""
        counted = self.engine.kills.balance.kept()
        return {"kills": json.dumps(trace.counted_plain(counted))} if counted else {}

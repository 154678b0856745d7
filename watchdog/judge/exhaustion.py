"""Pure: memory that ends without anybody being killed.

limit.pressed   a cgroup is pinned at its memory.high or its limit (judge/limits)
commit.short    what may be promised under vm.overcommit_memory = 2 ends (judge/commit)
alloc.failed    the kernel refused memory to somebody (judge/refusals)

Each is told when it begins and when it is over (``state``), once an episode.
"""

from collections.abc import Mapping
from typing import Any

from watchdog.facts import Host
from watchdog.history.world import World
from watchdog.judge.commit import Commit
from watchdog.judge.limits import Limits
from watchdog.judge.refusals import Refusals
from watchdog.judge.telling import Telling


class Exhaustion:
    """Facts in, tellings out; `told` gives an id back, so that an end can name its beginning."""

    def __init__(self, world: World) -> None:
        self.limits = Limits(world)
        self.commit = Commit()
        self.refusals = Refusals(world)

    def host(self, host: Host) -> list[Telling]:
        """A reading of the machine."""
        return [*self.refusals.tick(host.t, host.up), *self.commit.host(host)]

    def told(self, telling: Telling, event_id: str) -> None:
        """An event has got its id."""
        begun = event_id if telling.body["state"] == "begun" else None
        if telling.kind == "limit.pressed":
            self.limits.told(telling.body["cgroup"], begun)
        elif telling.kind == "commit.short":
            self.commit.event = begun
        else:
            self.refusals.told(begun)

    @property
    def open(self) -> bool:
        """Whether something was told to have begun that a restart must know."""
        refused = self.refusals.now is not None
        return refused or self.commit.event is not None or self.limits.open

    def kept(self) -> dict[str, Any]:
        """What a restart on the same boot needs, as JSON takes it."""
        return {**self.limits.kept(), **self.commit.kept(), **self.refusals.kept()}

    def take(self, kept: Mapping[str, Any]) -> None:
        """The inverse of `kept`; what is not of its kind is passed over."""
        self.limits.take(kept)
        self.commit.take(kept)
        self.refusals.take(kept)

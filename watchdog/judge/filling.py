"""Pure: cache servers that are still below the size at which they begin to evict.

Their growth has an end, and nothing is known of it but what their command line says: until then it
is a cache that fills. It may be suspected; it is not confirmed.
"""

from watchdog.facts import UNIT, Ident, Who
from watchdog.history.world import World

SERVERS = ("memcached", "redis-server", "valkey-server", "redis-check-rdb")


class Filling:
    """Knows the cache servers among the processes, by identity."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.caches: dict[Ident, int] = {}

    def take(self, who: Who) -> None:
        """Somebody new, or who runs another program now."""
        size = None
        if (who.exe or "").endswith(SERVERS):
            from watchdog.judge import runtimes  # of no use where there is none of these

            size = runtimes.evicts_at(who, None)
        if size is None:
            self.caches.pop((who.pid, who.start), None)
        else:
            self.caches[who.pid, who.start] = size

    def below(self, ident: Ident, kib: int) -> bool:
        """Whether it is one, and holds less than that."""
        size = self.caches.get(ident) if self.caches else None
        return size is not None and kib << 10 < size

    def unit(self, unit: str) -> bool:
        """Whether one of a unit's processes is one, and below."""
        world = self.world
        return any(
            ident in world.rows and world.rows[ident][UNIT] == unit
            and self.below(ident, world.trends[ident].kib)
            for ident in self.caches
        )  # fmt: skip

    def forget(self, ident: Ident) -> None:
        """It is gone."""
        self.caches.pop(ident, None)

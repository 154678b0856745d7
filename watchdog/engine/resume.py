"""Pure: trends over a restart of the daemon, to the store and back."""

import json
from collections.abc import Iterable, Iterator

from watchdog.engine.leaks import Leaks
from watchdog.facts import COMM, UNIT, EntityRecord, Sweep
from watchdog.history import records
from watchdog.history.entities import Trend
from watchdog.history.present import Process
from watchdog.history.ring import NOTHING, Closes
from watchdog.history.world import Closed, World, starts_over
from watchdog.judge.exhaustion import Exhaustion
from watchdog.judge.series import KEY as PART

# Who holds less begins anew after a restart; most processes of a server hold less, and writing all
# of them every five minutes would be most of what we write.
KEPT_LEAST_KIB = 1024
# A record is 600 bytes to 2 KiB. Of ten thousand at a time the store's queue would not take all.
PIECE = 250
EXHAUSTION = "exhaustion:"  # the key of its state among the records
PROMISED = "commit:"  # and of the trend of what is promised


class Resume:
    """What earlier runs on this boot knew; each trend goes on when its entity is seen again."""

    def __init__(self, world: World, leaks: Leaks, exhaustion: Exhaustion) -> None:
        self.world = world
        self.series = leaks.series
        self.exhaustion = exhaustion
        self.waiting = leaks.waiting
        self.waiting_units: dict[str, Trend] = {}

    def pieces(self, boot: str, urgent: bool) -> Iterator[list[EntityRecord]]:
        """The trends worth keeping; with `urgent` only those under suspicion.

        Time may pass between two pieces: who has gone by then is left out.
        """
        world = self.world

        def kept(trend: Trend) -> bool:
            return trend.stage != "none" or (not urgent and trend.kib >= KEPT_LEAST_KIB)

        processes = [process for process in world.present if kept(process)]
        for start in range(0, len(processes), PIECE):
            yield [
                self._process(process, boot)
                for process in processes[start : start + PIECE]
                if world.present.get(process.ident) is process
            ]
        found = [
            records.dump(trend, f"unit:{unit}", boot, None, unit)
            for unit, trend in world.unit_trends.items()
            if kept(trend)
        ]
        found += [] if urgent else world.programs.dump()
        found += self.series.dump(boot, urgent)
        host = world.host
        if host is not None and (self.exhaustion.open or not urgent):
            blob = json.dumps(self.exhaustion.kept(), separators=(",", ":")).encode()
            found.append(EntityRecord(EXHAUSTION, boot, host.t, host.t, 0, blob))
        promised = self.exhaustion.commit.promised
        if promised is not None and (promised.stage != "none" or not urgent):
            found.append(records.dump(promised, PROMISED, boot))
        for start in range(0, len(found), PIECE):
            yield found[start : start + PIECE]

    def _process(self, process: Process, boot: str) -> EntityRecord:
        world, ident, row = self.world, process.ident, process.row
        runs = world.program(ident)[1] if world.serves(ident) else None
        return records.dump(process, f"{ident[0]}:{ident[1]}", boot, row[COMM], row[UNIT], runs)

    def load(self, found: Iterable[EntityRecord]) -> None:
        """Take up what `dump` gave."""
        for record in found:
            head, _, tail = record.key.partition(":")
            if record.key == EXHAUSTION:
                self._exhaustion(record)
            elif record.key.startswith(PART):
                self.series.load(record)
            elif head == "life":
                self.world.programs.load(record)
            elif (kept := records.read(record)) is None:
                continue
            elif record.key == PROMISED:
                self.exhaustion.commit.promised = kept.trend
            elif head == "unit":
                self.waiting_units[tail] = kept.trend
            elif head.isdigit() and tail.isdigit():
                self.waiting[(int(head), int(tail))] = kept

    def processes(self, sweep: Sweep) -> list[Closed]:
        """Hand the kept trends to who is still there, with the levels that closed by it."""
        resumed: list[Closed] = []
        for row in sweep.rows:
            ident = (row[0], row[1])
            kept = self.waiting.pop(ident, None)
            process = self.world.present.get(ident) if kept else None
            if kept and process:
                renamed = kept.comm not in (None, row[COMM])
                trend, levels = self._go_on(kept.trend, process, renamed)
                self.world.resume(process, trend)
                resumed.append((process, levels))
        return resumed

    def unit(self, unit: str, closed: Closes) -> Closes:
        """The same for a unit that was just read."""
        kept = self.waiting_units.pop(unit, None)
        if kept is None:
            return closed
        trend, closed = self._go_on(kept, self.world.unit_trends[unit])
        self.world.unit_trends[unit] = trend
        return closed

    def lost_units(self, before: float) -> list[tuple[str, Trend]]:
        """The trends of units that were not read since `before`, on the boot's clock."""
        waiting = self.waiting_units
        lost = [(unit, trend) for unit, trend in waiting.items() if trend.last_up < before]
        for unit, _ in lost:
            del waiting[unit]
        return lost

    def _go_on(
        self, kept: Trend, fresh: Trend, renamed: bool | None = None
    ) -> tuple[Trend, Closes]:
        """The kept trend with what was just seen, and the levels that closed a bucket by it.

        `renamed`: a process has another name now; an exec while nobody looked is one as well.
        """
        if renamed is not None and starts_over(kept, fresh.kib, renamed):
            fresh.episode = kept.episode
            return fresh, NOTHING
        closed = kept.add(fresh.last_t, fresh.last_up, fresh.kib)
        self.world.since_t = min(kept.first_t, self.world.since_t or kept.first_t)
        return kept, closed

    def _exhaustion(self, record: EntityRecord) -> None:
        try:
            kept = json.loads(record.blob)
        except ValueError:
            return
        if isinstance(kept, dict):
            self.exhaustion.take(kept)

"""Pure: vm.overcommit_memory = 2, and nearly all that may be promised is promised, or will be.

calm --less than 5 % left, twice; or it grows towards it--> begun
begun --10 % left for a minute, and it does not grow--> calm
"""

from collections.abc import Mapping
from typing import Any

from watchdog import words
from watchdog.facts import Host
from watchdog.history.entities import Trend
from watchdog.judge import stage
from watchdog.judge.telling import Telling

BEGIN, END = 0.05, 0.10
OVER_S = 60.0


class Commit:
    """Readings of the machine in, tellings out."""

    def __init__(self) -> None:
        self.limited: bool | None = None  # None: not told
        self.promised: Trend | None = None
        self.event: str | None = None
        self.episode = 0
        self.low = 0  # readings in a row
        self.well_up: float | None = None

    def short(self) -> bool | None:
        """Whether little may still be promised; None where that is not told."""
        return None if self.limited is None else self.event is not None

    def host(self, host: Host) -> list[Telling]:
        """A reading of the machine."""
        if host.overcommit is None:
            return []  # the guard reads less than our senses do: it tells of no change
        told: list[Telling] = []
        limit, promised = host.commit_limit, host.committed
        self.limited = host.overcommit == 2
        if host.overcommit != 2 or not limit or promised is None:
            self.promised, self.low = None, 0
            if self.event is not None:
                told.append(
                    self._telling(host, "ended", None, ("promises are not limited any more",))
                )
            return told
        now = host.t if host.up is None else host.up
        change = self._grows(host, now, max(0, limit - promised), promised)
        left = limit - promised
        self.low = self.low + 1 if left < BEGIN * limit else 0
        grows = self.promised is not None and self.promised.stage == "confirmed"
        if self.event is None:
            self.well_up = None
            if change is not None and change.kind == "leak.confirmed":
                told.append(self._telling(host, "begun", change, _growing(host, change)))
            elif self.low >= 2:
                told.append(self._telling(host, "begun", None, _short(host)))
        elif left >= END * limit and not grows:
            self.well_up = now if self.well_up is None else self.well_up
            if now - self.well_up >= OVER_S:
                why = f"{words.size(left)} of {words.size(limit)} may be promised again"
                told.append(self._telling(host, "ended", None, (why,)))
        else:
            self.well_up = None
        return told

    def _grows(self, host: Host, now: float, left: int, promised: int) -> stage.Change | None:
        if self.promised is None:
            self.promised = Trend(host.t, now)
        trend = self.promised
        closed = trend.add(host.t, now, promised >> 10)
        if not closed:
            return None
        ending = stage.Ending(left, "of what may be promised")
        # as old as the machine, where that is known
        age_s = now if host.up is not None else trend.last_up - trend.first_up
        return stage.step(trend, closed, age_s, ending)

    def _telling(
        self, host: Host, state: str, change: stage.Change | None, because: tuple[str, ...]
    ) -> Telling:
        found = change.found if change else None
        if state == "begun":
            self.episode += 1
        limit, promised = host.commit_limit, host.committed
        left = None if limit is None or promised is None else max(0, limit - promised)
        ends = found.exhausts_in_s if found else None
        body = {
            "state": state, "limit_bytes": limit, "committed_bytes": promised, "left_bytes": left,
            "available_bytes": host.mem_available,
            "rate_bytes_per_s": round(found.growth.rate) if found else None,
            "exhausts_in_s": None if ends is None else round(ends, 1),
        }  # fmt: skip
        identity = str(max(1, self.episode)) + ("-ended" if state == "ended" else "")
        cause = self.event if state == "ended" else None
        return Telling("commit.short", identity, host.t, host.up, because, body, cause)

    def kept(self) -> dict[str, Any]:
        """What a restart on the same boot needs, as JSON takes it."""
        return {
            "commit_event": self.event, "commit_episode": self.episode,
            "commit_low": self.low, "commit_well_up": self.well_up,
        }  # fmt: skip

    def take(self, kept: Mapping[str, Any]) -> None:
        """The inverse of `kept`; what is not of its kind is passed over."""
        event, episode = kept.get("commit_event"), kept.get("commit_episode")
        self.event = event if isinstance(event, str) else None
        self.episode = episode if type(episode) is int else 0
        low, well_up = kept.get("commit_low"), kept.get("commit_well_up")
        self.low = low if type(low) is int else 0
        self.well_up = well_up if type(well_up) in (int, float) else None


def _short(host: Host) -> tuple[str, ...]:
    limit, promised = host.commit_limit or 0, host.committed or 0
    said = [
        f"{words.size(promised)} of the {words.size(limit)} that vm.overcommit_memory = 2 allows "
        "are promised",
        f"{words.size(max(0, limit - promised))} may still be promised; then programs are refused "
        "memory",
    ]
    if host.mem_available is not None:
        said.append(f"{words.size(host.mem_available)} are available all the same")
    return tuple(said)


def _growing(host: Host, change: stage.Change) -> tuple[str, ...]:
    limit, promised = host.commit_limit or 0, host.committed or 0
    first = (
        f"what is promised of the {words.size(limit)} that vm.overcommit_memory = 2 allows grows: "
        f"{words.size(promised)} now"
    )
    return (first, *change.because)

"""Notifications until they have arrived: when each is tried, held back, tried again, given up.

Rules of this file
- What is here is in the store as well, written with the event that made it, and leaves both when
  it has arrived: a daemon that is killed sends it after its next start.
- One notifier's messages go together: a storm is one message. After one the next waits for GAP_S.
- While memory is short nothing is started that needs 50 MiB; but not for longer than HOLD_MOST_S.
- A failure is tried again, ever later. After AGE_MAX_S (counted while we run, and tried at least
  once), or where more than ROWS_MAX wait, the oldest is given up and counted.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from watchdog import words
from watchdog.clock import Clock
from watchdog.facts import Notice
from watchdog.policy.rules import Notifier

ROWS_MAX = 200
BATCH_MAX = 50
AGE_MAX_S = 86400.0
GAP_S = 60.0
BACK_OFF_S = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)
HOLD_MOST_S = 300.0
LOOK_S = 1.0  # how often the answers are looked for while something is under way


class Result(NamedTuple):
    """How the sending of one message ended; `why` is None where it arrived."""

    id: str
    why: str | None


class Courier(Protocol):
    """Takes one batch at a time and answers for each of its messages."""

    def start(self, rows: list[dict[str, Any]], notifiers: Mapping[str, Notifier]) -> None:
        """Send these; their answers come through `results`."""

    def results(self) -> list[Result]:
        """What has been answered since the last call."""

    def close(self) -> None:
        """The daemon stops."""


class _Row:
    __slots__ = ("born", "id", "json", "name", "t", "tries")

    def __init__(self, notice: Notice, name: str, born: float) -> None:
        self.id, self.t, self.json = notice
        self.name, self.born, self.tries = name, born, 0


class _Lane:
    """One notifier: `under_way` are the ids whose answers are awaited."""

    __slots__ = ("failures", "last", "next_up", "problem", "under_way")

    def __init__(self) -> None:
        self.failures = 0
        self.next_up = 0.0
        self.problem: str | None = None
        self.under_way: set[str] = set()
        self.last: tuple[str, str | None] | None = None


class Outbox:
    """`take` what is to be sent, `turn` in each round of the loop, `due` for its poll."""

    def __init__(
        self, clock: Clock, notifiers: Mapping[str, Notifier], hooks: Courier, post: Courier,
        short: Callable[[], bool], over: Callable[[list[str]], object],
    ) -> None:  # fmt: skip
        """`hooks` runs programs, `post` sends to URLs; `over` takes them out of the store."""
        self.clock = clock
        self.notifiers = notifiers
        self.couriers = {"hooks": hooks, "post": post}
        self.short = short
        self.over = over
        self.rows: dict[str, _Row] = {}
        self.lanes: dict[str, _Lane] = {}
        self.short_since: float | None = None
        self.dropped = 0
        self.why_dropped = ""
        self.changed = False  # something to tell in now.json

    def take(self, notices: Iterable[Notice]) -> None:
        """These are stored and wait to be sent; an id that is here already is passed over."""
        up = self.clock.boottime()
        for one in notices:
            name = _name(one)
            if one.id not in self.rows and name is not None:
                self.rows[one.id] = _Row(one, name, up)
                self.lanes.setdefault(name, _Lane())
                self.changed = True
        while len(self.rows) > ROWS_MAX:
            oldest = min(self.rows.values(), key=lambda row: (row.t, row.id))
            self._give_up([oldest], f"more than {ROWS_MAX} notifications wait")

    def refuse(self, name: str, notice_id: str, why: str) -> None:
        """This one will not be sent: the answer to who asked for it."""
        if len(self.lanes) < ROWS_MAX:
            self.lanes.setdefault(name, _Lane()).last = (notice_id, why)
            self.changed = True

    def turn(self) -> None:
        """Take answers, give up what is too old, send what is due. Never waits."""
        up = self.clock.boottime()
        for courier in self.couriers.values():
            for result in courier.results():
                self._settle(result, up)
        if not self.rows:
            self.short_since = None
            return
        rest = [row for row in self.rows.values() if not self._is_under_way(row)]
        old = [row for row in rest if row.tries and up - row.born >= AGE_MAX_S]
        self._give_up(old, f"not delivered within {words.duration(AGE_MAX_S)}")
        gone = [row for row in rest if row.name not in self.notifiers]
        self._give_up(gone, "their notifier is no longer in the configuration")
        if not self._held(up):
            self._send(up)

    def due(self) -> float | None:
        """When `turn` has something to do at the latest; None: when something is taken."""
        if not self.rows:
            return None
        up = self.clock.boottime()
        if any(lane.under_way for lane in self.lanes.values()) or self.short_since is not None:
            return up + LOOK_S
        waiting = {row.name for row in self.rows.values()}
        return min(max(self.lanes[name].next_up, up) for name in waiting)

    def problems(self) -> dict[str, str]:
        """Notifier -> why nothing arrives there."""
        return {
            name: lane.problem for name, lane in self.lanes.items()
            if lane.problem and name in self.notifiers
        }  # fmt: skip

    def state(self) -> dict[str, Any]:
        """For now.json."""
        self.changed = False
        last = {}
        for name, lane in self.lanes.items():
            if lane.last:
                last[name] = {"id": lane.last[0], "why": lane.last[1]}
        return {
            "waiting": len(self.rows), "dropped": self.dropped,
            "held": self.short_since is not None, "problems": self.problems(), "last": last,
        }  # fmt: skip

    def close(self) -> None:
        for courier in self.couriers.values():
            courier.close()

    # ---- inside ------------------------------------------------------------------------------

    def _is_under_way(self, row: _Row) -> bool:
        return row.id in self.lanes[row.name].under_way

    def _held(self, up: float) -> bool:
        if not self.short():
            self.short_since = None
            return False
        self.short_since = up if self.short_since is None else self.short_since
        return up - self.short_since < HOLD_MOST_S

    def _send(self, up: float) -> None:
        busy = {self._courier_of(name) for name, lane in self.lanes.items() if lane.under_way}
        batches: dict[str, list[_Row]] = {}
        for row in sorted(self.rows.values(), key=lambda one: (one.t, one.id)):
            lane, courier = self.lanes[row.name], self._courier_of(row.name)
            if up < lane.next_up or courier in busy:
                continue
            batch = batches.setdefault(courier, [])
            if len(batch) < (1 if courier == "hooks" else BATCH_MAX):
                batch.append(row)
        for courier, batch in batches.items():
            for row in batch:
                row.tries += 1
                self.lanes[row.name].under_way.add(row.id)
            self.couriers[courier].start([json.loads(row.json) for row in batch], self.notifiers)

    def _courier_of(self, name: str) -> str:
        found = self.notifiers.get(name)
        return "hooks" if found is not None and found.argv else "post"

    def _settle(self, result: Result, up: float) -> None:
        lane = next((one for one in self.lanes.values() if result.id in one.under_way), None)
        if lane is None:
            return
        lane.under_way.discard(result.id)
        row = self.rows.get(result.id)
        lane.last = (result.id, result.why)
        self.changed = True
        if result.why is None:
            self.rows.pop(result.id, None)
            self.over([result.id])
            lane.failures, lane.problem = 0, None
            # programs get one event at a time, so one after the other; messages are gathered
            is_hook = row is not None and self._courier_of(row.name) == "hooks"
            lane.next_up = up if is_hook else up + GAP_S
        elif up >= lane.next_up or lane.problem is None:  # once for all of a batch
            pause = BACK_OFF_S[min(lane.failures, len(BACK_OFF_S) - 1)]
            lane.failures += 1
            lane.next_up = up + pause
            lane.problem = result.why

    def _give_up(self, rows: list[_Row], why: str) -> None:
        if not rows:
            return
        for row in rows:
            self.rows.pop(row.id, None)
        self.over([row.id for row in rows])
        self.dropped += len(rows)
        self.why_dropped = why
        self.changed = True


def _name(notice: Notice) -> str | None:
    try:
        found = json.loads(notice.json)["notifier"]
    except (ValueError, KeyError, TypeError):
        return None  # of another version
    return found if isinstance(found, str) else None

"""What the commands `silence` and `ack` asked for: kept in the store, each with an end.

An end is kept on both clocks: on the boot that it was asked in it comes after so many seconds,
whatever the wall clock is set to; after a reboot the wall clock counts.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from watchdog import words
from watchdog.clock import Clock
from watchdog.facts import Event, Mute, Muted
from watchdog.policy.mute import tail

KEPT = "mutes"
MUTES_MAX = 256
LONGEST_S = 366 * 86400.0
TEXT_MAX = 400
TAKEN_S = 15.0  # so soon we take up what is asked while we run: it counts from now

Say = Callable[[str, Sequence[str], dict[str, Any]], None]


class Mutes:
    """`ask` and `lift` what was asked for, `turn` to end what is over; `say` tells of both."""

    def __init__(self, clock: Clock, boot_id: str, kept: str | None, say: Say) -> None:
        self.clock = clock
        self.boot_id = boot_id
        self.say = say
        self.changed = False
        #: each with its end on CLOCK_BOOTTIME, where it was asked for on this boot
        self.rows: list[tuple[Mute, float | None]] = []
        for mute, ends_up, boot in _kept(kept):
            self.rows.append((mute, ends_up if boot == boot_id else None))

    def join(self, kept: str) -> None:
        """Learn only now of what was kept: what was asked in between counts as well."""
        known = {mute.id for mute, _ in self.rows}
        earlier = Mutes(self.clock, self.boot_id, kept, self.say).rows
        self.rows = [*(row for row in earlier if row[0].id not in known), *self.rows][-MUTES_MAX:]
        self.changed = True

    def fact(self) -> Muted:
        """For the engine."""
        mutes = tuple(mute for mute, _ in self.rows)
        return Muted(self.clock.wall(), self.clock.boottime(), mutes)

    def kept(self) -> dict[str, str]:
        """For the store."""
        plain = [[*mute, up, self.boot_id if up is not None else ""] for mute, up in self.rows]
        return {KEPT: json.dumps(plain)}

    def plain(self) -> list[dict[str, Any]]:
        """For now.json."""
        up, t = self.clock.boottime(), self.clock.wall()
        return [
            {"id": mute.id, "kind": mute.kind, "match": mute.match, "by": mute.by,
             "reason": mute.reason, "left_s": round((ends - up) if ends else mute.until - t, 1)}
            for mute, ends in self.rows
        ]  # fmt: skip

    def ask(self, asked: dict[str, Any]) -> None:
        """A request of `silence` or `ack`; nonsense and what is over already is passed over."""
        try:
            left = float(asked["until"]) - self.clock.wall()
            for_s = min(float(asked["for_s"]), LONGEST_S)
            for_s = for_s if abs(left - for_s) < TAKEN_S else min(left, for_s)
            keys = tuple(_text(one) for one in list(asked.get("keys") or ())[:8])
            mute = Mute(
                _text(asked["id"]), "ack" if asked["do"] == "ack" else "silence",
                _text(asked["match"]), self.clock.wall() + for_s, _text(asked.get("reason")),
                _text(asked.get("by")) or "somebody", keys, _text(asked.get("tail")),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError):
            return
        if not (for_s > 0 and mute.id and mute.match):
            return
        self.rows = [row for row in self.rows if row[0].id != mute.id][-(MUTES_MAX - 1) :]
        self.rows.append((mute, self.clock.boottime() + for_s))
        what = f"{mute.match}, for {words.duration(for_s)}, by {mute.by}"
        self._tell("watchdog.muted", mute, [what, *([mute.reason] if mute.reason else [])])

    def lift(self, what: str, by: str) -> None:
        """End those with this id or this match."""
        for mute, _ in list(self.rows):
            if what in (mute.id, mute.match):
                self._end(mute, f"lifted by {by}")

    def turn(self) -> None:
        """End those whose time is over."""
        up, t = self.clock.boottime(), self.clock.wall()
        for mute, ends in list(self.rows):
            if (up >= ends) if ends is not None else (t >= mute.until):
                self._end(mute, "its time is over")
            elif ends is not None and abs(t + ends - up - mute.until) > 1.0:
                # the wall clock was set: the engine goes by it
                at = self.rows.index((mute, ends))
                self.rows[at] = (mute._replace(until=t + ends - up), ends)
                self.changed = True

    def heard(self, event: Event) -> None:
        """A leak that is over needs no note of it any more."""
        if event.kind == "leak.cleared" and self.rows:
            for mute, _ in list(self.rows):
                if mute.kind == "ack" and mute.tail == tail(event.id):
                    self._end(mute, "the leak is over")

    def _end(self, mute: Mute, why: str) -> None:
        self.rows = [row for row in self.rows if row[0].id != mute.id]
        self._tell("watchdog.unmuted", mute, [f"{mute.match}: {why}"])

    def _tell(self, kind: str, mute: Mute, because: list[str]) -> None:
        self.changed = True
        self.say(kind, because, {"mute": mute.id, "match": mute.match})


def _text(value: object) -> str:
    return words.safe(value)[:TEXT_MAX] if isinstance(value, str) else ""


def _kept(kept: str | None) -> list[tuple[Mute, float | None, str]]:
    found = []
    try:
        for *row, up, boot in json.loads(kept or "[]"):
            mute = Mute(*row)
            ends = None if up is None else float(up)
            mute = mute._replace(until=float(mute.until), keys=tuple(map(str, mute.keys)))
            found.append((mute, ends, str(boot)))
    except (ValueError, TypeError):
        return []  # of another version
    return found

"""Which events become notifications: what a policy wants told, and the end of what was told.

What was told and is not over yet is kept in the store with the event that told it, so that the end
is told after a restart as well.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from watchdog.act import hook
from watchdog.facts import Entity, Event, Notice, Order
from watchdog.policy.mute import tail
from watchdog.policy.rules import verb
from watchdog.tell import notice

KEPT = "notified"
OPEN_MAX = 256
PRESSURE = "pressure"


class Notices:
    """`rows` of each event before it is stored; `order` is the one whose event comes next."""

    def __init__(
        self, kept: str | None, muted: Callable[[Entity], bool], by_pressure: Callable[[str], bool]
    ) -> None:
        """`kept` is what was in the store; `by_pressure`: does that policy wait for pressure?"""
        self.order: Order | None = None
        self.muted = muted
        self.by_pressure = by_pressure
        self.open: dict[str, list[str]] = _open(kept)

    def rows(self, event: Event) -> tuple[list[Notice], dict[str, str]]:
        """(what is to be sent because of this event, what is to be kept with it)."""
        order, self.order = self.order, None
        if event.kind == "policy.action" and order is not None:
            return self._alert(event, order)
        if event.kind in ("leak.cleared", "pressure.ended") and self.open:
            return self._over(event)
        return [], {}

    def _alert(self, event: Event, order: Order) -> tuple[list[Notice], dict[str, str]]:
        if verb(order.do) != "notify" or event.body.get("outcome") != "done":
            return [], {}
        name = order.do.partition(":")[2]
        title, text = notice.alert(order, event.host, event.id)
        level = "failure" if order.subject.leak == "confirmed" else "warning"
        row = _row(event, event.id, name, level, title, text, hook.facts(order, event.flat()))
        key = None
        if order.cause and order.cause.startswith("leak."):
            key = tail(order.cause)
        elif self.by_pressure(order.policy):
            key = PRESSURE
        if key is None:
            return [row], {}
        known = self.open.setdefault(key, [])
        if name not in known:
            known.append(name)
        while len(self.open) > OPEN_MAX:
            del self.open[next(iter(self.open))]
        return [row], {KEPT: json.dumps(self.open)}

    def _over(self, event: Event) -> tuple[list[Notice], dict[str, str]]:
        if event.kind == "pressure.ended":
            if event.body.get("scope", "host") != "host":
                return [], {}
            key = PRESSURE
        else:
            key = tail(event.id)
        names = self.open.pop(key, None)
        if names is None:
            return [], {}
        found = []
        if not self.muted(_entity(event.body)):
            flat = event.flat()
            for name in names:
                row_id = f"{event.id}-{name}"
                title, text = notice.over(flat, event.host, row_id)
                found.append(_row(event, row_id, name, "success", title, text, flat))
        return found, {KEPT: json.dumps(self.open)}


def _row(
    event: Event, row_id: str, name: str, level: str, title: str, text: str,
    facts: Mapping[str, Any],
) -> Notice:  # fmt: skip
    return Notice(row_id, event.t, json.dumps({
        "id": row_id, "notifier": name, "t": event.t, "level": level, "title": title, "text": text,
        "event": facts,
    }, default=str))  # fmt: skip


def trial(name: str, host: str | None, t: float, row_id: str) -> Notice:
    """The notification of `notify --test`."""
    title, text = notice.trial(name, host, row_id)
    facts = {"event": "watchdog.test", "id": row_id, "t": t, "host": host,
             "because": ["oom-watchdog notify --test"]}  # fmt: skip
    return Notice(row_id, t, json.dumps({
        "id": row_id, "notifier": name, "t": t, "level": "info", "title": title, "text": text,
        "event": facts,
    }))  # fmt: skip


def _entity(body: Mapping[str, Any]) -> Entity:
    return Entity(**{key: body.get(key) for key in Entity._fields})


def _open(kept: str | None) -> dict[str, list[str]]:
    try:
        found = json.loads(kept or "{}")
        return {str(key): [str(one) for one in names] for key, names in found.items()}
    except (ValueError, TypeError, AttributeError):
        return {}

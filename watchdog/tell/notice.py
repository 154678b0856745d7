"""One event -> one notification: a title and a few lines of plain text, for a person elsewhere.

It ends with the id: whoever gets it a second time can drop it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from watchdog import words
from watchdog.facts import Order
from watchdog.tell import terminal

TITLE_MAX, SENTENCE_MAX, TEXT_MAX = 160, 400, 3000


def alert(order: Order, host: str | None, notice_id: str) -> tuple[str, str]:
    """(title, text) of what a policy wants to be told."""
    subject = order.subject
    who = terminal.who(subject.entity._asdict()) or "somebody"
    state = {"confirmed": "leaks", "suspected": "may leak"}.get(subject.leak or "")
    facts = []
    if subject.resident_bytes is not None:
        facts.append(f"{words.size(subject.resident_bytes)} now")
    if subject.growth_bytes_per_s and subject.growth_bytes_per_s > 0:
        facts.append(f"grows {words.rate(subject.growth_bytes_per_s)}")
    if subject.exhausts_in_s is not None:
        facts.append(f"memory ends in {words.duration(subject.exhausts_in_s)}")
    what = f"{who} {state}" if state else f"{who}: policy {order.policy}"
    first = f"{who} {state}" if state else who
    first += ": " + ", ".join(facts) if facts else ""
    more = "oom-watchdog status"
    if order.cause:
        more = terminal.command({"event": order.cause.partition("-")[0], "id": order.cause})
    return _whole(host, what, f"{first} (policy {order.policy})", order.because, more, notice_id)


def over(event: Mapping[str, Any], host: str | None, notice_id: str) -> tuple[str, str]:
    """(title, text) of the end of what was notified before; `event` is its JSON object."""
    who = terminal.who(terminal.about(event))
    what = f"over: {who}" if who else "over: memory pressure"
    because = event.get("because")
    found = [one for one in because if isinstance(one, str)] if isinstance(because, list) else []
    head = terminal.message({**event, "because": []})
    return _whole(host, what, head, found, terminal.command(event), notice_id)


def trial(name: str, host: str | None, notice_id: str) -> tuple[str, str]:
    """(title, text) of `notify --test`."""
    because = ["somebody asked for it with oom-watchdog notify --test", "nothing is wrong"]
    first = f"This is a test of the notifier {words.safe(name)}."
    return _whole(host, "test", first, because, "oom-watchdog status", notice_id)


def _whole(
    host: str | None, what: str, first: str, because: Sequence[str], more: str, notice_id: str
) -> tuple[str, str]:
    title = words.safe(f"{host or 'oom-watchdog'}: {what}")[:TITLE_MAX]
    lines = [first, *(f"- {words.safe(one)[:SENTENCE_MAX]}" for one in because[:8])]
    text = "\n".join(lines)[:TEXT_MAX]
    return title, f"{text}\nMore: {more[:SENTENCE_MAX]}\nId: {words.safe(notice_id)[:SENTENCE_MAX]}"

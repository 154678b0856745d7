"""Pure: whom somebody asked to be quiet about, and until when.

A silence and a note that was taken of an event (ack) come from commands, `[mute.NAME]` from the
configuration. They hold back what policies tell and do; the guard and the journal know nothing of
them.
"""

from collections.abc import Iterable

from watchdog import words
from watchdog.facts import Mute, Subject
from watchdog.policy import pattern
from watchdog.policy.match import look, names
from watchdog.policy.rules import MuteRule

SUFFIXES = (".service", ".scope", ".slice", ".socket", ".mount", ".swap")


def muted(
    rules: Iterable[MuteRule], mutes: Iterable[Mute], s: Subject, t: float
) -> str | None:  # fmt: skip
    """Why the subject is not to be told of or acted on now, in words, or None. `t`: Unix seconds.

    A rule of the configuration that cannot be judged does not hold.
    """
    for mute in mutes:
        if t < mute.until and _is_about(mute, s):
            left = words.duration(mute.until - t)
            head = "acknowledged" if mute.kind == "ack" else f"silenced ({mute.match})"
            reason = f": {mute.reason}" if mute.reason else ""
            return f"{head} by {mute.by} for another {left}{reason}"
    for rule in rules:
        if t < rule.until and look(rule.match, s).holds:
            return f"mute.{rule.name} holds for another {words.duration(rule.until - t)}"
    return None


def tail(event_id: str) -> str:
    """Boot, identity and episode of an event's id: the same in every event about one leak."""
    return event_id.partition("-")[2]


def _is_about(mute: Mute, s: Subject) -> bool:
    if mute.kind == "ack":
        of_event = s.cause is not None and mute.tail and tail(s.cause) == mute.tail
        return bool(of_event) or s.key in mute.keys
    if mute.keys:
        return s.key in mute.keys
    unit, exe = s.entity.unit, s.entity.exe
    if unit is not None:
        bare = next((unit.removesuffix(one) for one in SUFFIXES if unit.endswith(one)), unit)
        if pattern.hit(mute.match, unit) or pattern.hit(mute.match, bare):
            return True
    if s.is_unit:
        return False
    found = (*names(s)[0], *((exe,) if exe else ()))
    return any(pattern.hit(mute.match, name) for name in found)

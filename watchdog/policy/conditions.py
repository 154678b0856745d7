"""Pure: what a policy waits for, each condition as a value that carries its own sentence."""

from typing import NamedTuple

from watchdog import words
from watchdog.facts import Subject
from watchdog.policy.rules import When

# A kill by the kernel is a moment, not a state: it counts as holding for so long.
OOM_RECENT_S = 60.0
_STAGES = ("none", "suspected", "confirmed")


class Condition(NamedTuple):
    """One key of a `when`. ``holds`` is None where ``missing`` is not known."""

    key: str
    holds: bool | None
    said: str
    missing: str = ""


def conditions(when: When, s: Subject, pressure: bool | None, now: float) -> list[Condition]:
    """The keys that are set, in the order of the configuration's documentation."""
    found: list[Condition] = []

    def add(key: str, holds: bool | None, said: str, missing: str = "") -> None:
        found.append(Condition(key, holds, said, missing if holds is None else ""))

    if when.leak is not None:
        known = s.leak is not None
        stage = s.leak if s.leak in _STAGES else "none"
        add("leak", _STAGES.index(stage) >= _STAGES.index(when.leak) if known else None,
            f"a leak is {stage}" if stage != "none" else "no leak is seen", "leak")  # fmt: skip
    if when.exhausts_within_s is not None:
        ends, most = s.exhausts_in_s, words.duration(when.exhausts_within_s)
        if ends is None:
            add("exhausts_within", _none(s, "headroom"), "memory is not seen to end", "headroom")
        else:
            add("exhausts_within", ends <= when.exhausts_within_s,
                f"memory ends in {words.duration(ends)} (asked: within {most})")  # fmt: skip
    if when.resident_above is not None:
        size = s.resident_bytes
        add("resident_above", None if size is None else size > when.resident_above,
            f"{words.size(size or 0)} resident (asked: above {words.size(when.resident_above)})",
            "resident")  # fmt: skip
    if when.growth_above is not None:
        rate = s.growth_bytes_per_s  # None in the first minute: not seen to grow
        add(
            "growth_above",
            _none(s, "growth") if rate is None else rate > when.growth_above,
            f"grows by {words.rate(rate or 0)} (asked: above {words.rate(when.growth_above)})",
            "growth",
        )
    if when.limit_above is not None:
        part, least = s.limit_share, words.share(when.limit_above)
        add("limit_above", _none(s, "limit") if part is None else part > when.limit_above,
            "it has no limit of its own" if part is None
            else f"{words.share(part)} of its own limit (asked: above {least})",
            "limit")  # fmt: skip
    if when.pressure is not None:
        add("pressure", None if pressure is None else pressure is when.pressure,
            "memory of the machine is short" if pressure else "memory of the machine is not short",
            "pressure")  # fmt: skip
    if when.oom_kill is not None:
        # A line of the kernel log proves nothing alone: text that others chose gets into it.
        at = s.oom_killed_up
        recent = at is not None and now - at <= OOM_RECENT_S
        add("oom_kill", recent if s.oom_counted else None,
            "the kernel has not killed it for lack of memory" if at is None else
            "the kernel killed it for lack of memory "
            f"{words.duration(max(0.0, now - at))} ago", "oom_kill")  # fmt: skip
    if when.limit_pressed is not None:
        pressed = s.limit_pressed
        add("limit_pressed", pressed,
            "it presses against its memory limit" if pressed
            else "it does not press against a memory limit", "limit")  # fmt: skip
    if when.commit_short is not None:
        add("commit_short", s.commit_short,
            "little memory may still be promised" if s.commit_short
            else "memory may still be promised", "commit_limit")  # fmt: skip
    if when.alloc_failed is not None:
        add("alloc_failed", s.alloc_failed,
            "the kernel refused memory to somebody within the last minute" if s.alloc_failed
            else "the kernel has not refused memory lately", "kernel log")  # fmt: skip
    return found


def _none(s: Subject, what: str) -> bool | None:
    """Where there is none of it: that does not hold, unless nothing tells."""
    return None if what in s.untold else False


def all_hold(found: list[Condition]) -> bool | None:
    """True where all hold; None where one cannot be judged and none fails."""
    if any(one.holds is False for one in found):
        return False
    return None if any(one.holds is None for one in found) else True

"""One event, one line that a person reads: when, what, who, how much, and the command for more.

An event is taken as its JSON object, of any age and from anywhere: a key that is missing, null or
of a strange type shortens the line and never breaks it, and no text reaches the terminal but
through `words.safe`.
"""

import math
import os
import time
from collections.abc import Mapping
from typing import Any, TextIO

from watchdog import words

TEXT_MAX = 400  # characters of one sentence or name; the event itself has all of it

_ENTITY = ("pid", "start", "comm", "exe", "uid", "unit", "inner", "container")
_HEADS = {
    "leak.suspected": "leak suspected",
    "leak.confirmed": "leak confirmed",
    "leak.hints": "where the leak lies",
    "leak.cleared": "leak cleared",
    "leak.advisory": "slow growth",
    "limit.pressed": "limit pressed",
    "commit.short": "commit limit near",
    "alloc.failed": "allocation failed",
    "pressure.begun": "memory pressure",
    "pressure.ended": "memory pressure over",
    "oom.kill": "OOM kill",
    "oom.unattributed": "OOM kill without a report",
    "oom.forged": "forged OOM line",
    "kill.other": "killed by another hand",
    "watchdog.started": "started",
    "watchdog.stopped": "stopped",
    "watchdog.reloaded": "configuration reloaded",
    "watchdog.config_rejected": "configuration rejected, the old one stays",
    "watchdog.degraded": "degraded",
    "watchdog.recovered": "recovered",
    "watchdog.dropped": "dropped",
    "watchdog.muted": "muted",
    "watchdog.unmuted": "no longer muted",
}
_OF_HOST = {
    "kernel": "memory of the kernel",
    "shmem": "shared memory and tmpfs that no unit holds",
}
_OF_UNIT = {"kernel": "kernel memory", "shmem": "shared memory"}
# What these have to say is over.
_OVER = {
    "limit.pressed": "limit no longer pressed",
    "commit.short": "commit limit no longer near",
    "alloc.failed": "allocations no longer fail",
}
_NO_VICTIM = {
    "panic": "the kernel panicked",
    "no-victim": "the kernel found nobody whom it may kill",
    "selected": "the kernel chose a victim, and whether it died is not in the log",
    "cut-off": "the report is cut off before it names a victim",
}
_EXPLAINED_LAST = ("failed", "gone", "changed", "protected", "muted")
_HELD_BACK = ("cooldown", "budget")
_RED, _YELLOW, _GREEN, _CYAN, _DIM, _BOLD = "31", "33", "32", "36", "2", "1"
_COLOURS = {
    "leak.suspected": _YELLOW,
    "leak.confirmed": "1;33",
    "leak.hints": _YELLOW,
    "leak.cleared": _GREEN,
    "limit.pressed": _YELLOW,
    "commit.short": _YELLOW,
    "alloc.failed": _RED,
    "pressure.begun": _YELLOW,
    "pressure.ended": _GREEN,
    "oom.kill": "1;31",
    "oom.unattributed": _RED,
    "oom.forged": _RED,
    "kill.other": _RED,
    "policy.action": _CYAN,
    "guard.action": "1;35",
    "watchdog.config_rejected": _RED,
    "watchdog.degraded": _YELLOW,
    "watchdog.recovered": _GREEN,
    "watchdog.dropped": _YELLOW,
}


def colors(out: TextIO) -> bool:
    """Is it a terminal of somebody who wants colours? NO_COLOR says no (no-color.org)."""
    return out.isatty() and not os.environ.get("NO_COLOR")


def line(event: Mapping[str, Any], color: bool, date: bool = False, stored: bool = True) -> str:
    """The whole line, without a newline; `date` puts the day before the time of day.

    One that is not `stored` has no command at its end: none could tell more of it.
    """
    head, rest = _say(event)
    at, tail = stamp(event, date), f" · {command(event)}" if stored else ""
    if not color:
        return f"{at} {head}{rest}{tail}"
    hue = _COLOURS.get(str(event.get("event")), _BOLD)
    return f"\x1b[2m{at}\x1b[0m \x1b[{hue}m{head}\x1b[0m{rest}\x1b[2m{tail}\x1b[0m"


def message(event: Mapping[str, Any]) -> str:
    """The sentence alone, as it stands in the journal."""
    return "".join(_say(event))


def about(event: Mapping[str, Any]) -> dict[str, Any]:
    """Who the event is about: the victim's or the target's keys over those at the top level."""
    found = {key: event.get(key) for key in _ENTITY}
    for role in ("target", "victim"):
        inner = event.get(role)
        if isinstance(inner, Mapping):
            found |= {key: inner[key] for key in _ENTITY if inner.get(key) is not None}
    return found


def who(entity: Mapping[str, Any]) -> str:
    """ "python3 (pid 4242, shop.service)", or the unit alone; "" where nothing is known."""
    pid, uid = _number(entity, "pid"), _number(entity, "uid")
    name = _text(entity, "comm") or (_text(entity, "exe") or "").rpartition("/")[2]
    unit, inner = _text(entity, "unit"), _text(entity, "inner")
    container = _text(entity, "container")
    if pid is None and not name:
        parts = [unit or "", inner or "", f"container {container}" if container else ""]
        return ", ".join(part for part in parts if part)
    parts = [f"pid {pid:.0f}"] if pid is not None else []
    if unit:
        parts.append(unit)
    elif uid is not None:
        parts.append(f"uid {uid:.0f}")
    if inner and inner != unit:
        parts.append(inner)
    if container:
        parts.append(f"container {container}")
    return f"{name or 'a process'} ({', '.join(parts)})" if parts else name


def command(event: Mapping[str, Any]) -> str:
    """The command that tells more."""
    kind, one = str(event.get("event")), _text(event, "id")
    if kind == "watchdog.config_rejected":
        return "oom-watchdog check"
    if kind.startswith("watchdog.") or not one:
        return "oom-watchdog status"
    if kind == "oom.kill":
        return "oom-watchdog explain --last"
    return "oom-watchdog events --id " + _quoted(one)


def _say(event: Mapping[str, Any]) -> tuple[str, str]:
    """What happened, and the rest of the sentence."""
    kind = str(event.get("event"))
    if kind == "policy.action":
        return _action(event, "policy " + (_text(event, "policy") or "?"))
    if kind == "guard.action":
        return _action(event, "guard")
    head = _HEADS.get(kind) or words.safe(kind.replace(".", " "))[:TEXT_MAX]
    entity = who(about(event))
    if kind in ("leak.suspected", "leak.confirmed", "leak.advisory"):
        return head, ": " + _leak(event, leaker(event))
    if kind == "oom.kill":
        return head, ": " + _oom_kill(event, entity)
    because = _because(event)[:4]
    if kind == "leak.cleared":
        entity = leaker(event)
    if kind in _OVER:
        if event.get("state") == "ended":
            head = _OVER[kind]
        if not entity and kind == "limit.pressed":
            entity = _text(event, "cgroup") or ""
        because = because[:2]
    return head, "".join(f": {part}" for part in (entity, "; ".join(because)) if part)


def leaker(event: Mapping[str, Any]) -> str:
    """Who or what grows: the entity, and the part of it where that is not its private memory."""
    entity, part = who(about(event)), str(event.get("part"))
    if event.get("scope") == "host":
        return _OF_HOST.get(part, "memory of the machine")
    return f"{_OF_UNIT[part]} of {entity}" if entity and part in _OF_UNIT else entity


def _leak(event: Mapping[str, Any], entity: str) -> str:
    rate, resident = _number(event, "rate_bytes_per_s"), _number(event, "resident_bytes")
    ends, sure = _number(event, "exhausts_in_s"), _number(event, "confidence")
    text = entity or "somebody"
    gain, life = _number(event, "per_life_bytes"), _number(event, "life_s")
    if gain is not None and life is not None:
        each = f"{words.size(gain)} in each life of {words.duration(max(1, life))}"
        return f"{text} gains {each}" + (f" ({words.rate(rate)})" if rate is not None else "")
    text += f" grows {words.rate(rate)}" if rate is not None else " grows"
    if resident is not None:
        text += f", {words.size(resident)} now"
    if ends is not None:
        text += f", memory ends in {words.duration(ends)}"
    return text if sure is None else f"{text} (confidence {sure:.2f})"


def _oom_kill(event: Mapping[str, Any], entity: str) -> str:
    victim = event.get("victim")
    if isinstance(victim, Mapping):
        text = f"the kernel killed {entity or 'a process'}"
        held = [_number(victim, key) for key in ("anon_bytes", "file_bytes", "shmem_bytes")]
        if any(held):
            text += f", {words.size(sum(part or 0 for part in held))} resident"
    else:
        text = _NO_VICTIM.get(str(event.get("outcome")), "its report names no victim")
    also = event.get("also_killed")
    if isinstance(also, (list, tuple)) and also:
        text += f", and {words.count(len(also), 'other')} with it"
    limit, group = _number(event, "limit_bytes"), _text(event, "cgroup")
    match "sysrq" if event.get("manual") is True else event.get("scope"):
        case "sysrq":
            text += ": somebody asked for it by SysRq-f"
        case "memcg":
            text += f": the limit of {group or 'its cgroup'} was reached"
            text += f" ({words.size(limit)})" if limit is not None else ""
        case "global":
            text += ": the machine was out of memory"
        case "cpuset" | "mempolicy":
            text += ": the memory nodes it may use were full"
    verdict = _text(event, "verdict")
    return f"{text} [{verdict}]" if verdict and verdict != "unknown" else text


def _action(event: Mapping[str, Any], actor: str) -> tuple[str, str]:
    do, outcome = _text(event, "do") or "act", _text(event, "outcome")
    target = who(about(event))
    if outcome == "would":
        head, end = f"{actor} would {do}", ""
    elif outcome == "done":
        head, end = f"{actor}: {do}", ", done"
    else:
        head, end = f"{actor}: {do}", f", {outcome}" if outcome else ""
    because = _because(event)
    # What was found out last explains an action that came to nothing.
    told = because[-1:] if outcome in _EXPLAINED_LAST else because[:2]
    if outcome in _HELD_BACK and because and because[-1].startswith(outcome):
        told, end = because[-1:], ""
    return head, f"{' ' if target else ''}{target}{end}" + (": " + "; ".join(told) if told else "")


def _because(event: Mapping[str, Any]) -> list[str]:
    found = event.get("because")
    if not isinstance(found, (list, tuple)):
        return []
    return [_cut(sentence) for sentence in found if isinstance(sentence, str) and sentence]


def stamp(event: Mapping[str, Any], date: bool) -> str:
    """Its local time of day, with `date` behind its day."""
    at = _number(event, "t")
    try:
        local = time.localtime(at if at is not None else math.nan)
    except (ValueError, OverflowError, OSError):
        return "--:--:--"
    return time.strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S", local)


def _number(values: Mapping[str, Any], key: str) -> float | None:
    """A number that can be written down: sizes and times of this world."""
    found = values.get(key)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return None
    return found if -1e18 < found < 1e18 else None


def _text(values: Mapping[str, Any], key: str) -> str | None:
    found = values.get(key)
    return _cut(found) if isinstance(found, str) and found else None


def _cut(text: str) -> str:
    text = words.safe(text)
    return text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + "…"


def _quoted(text: str) -> str:
    """As a shell takes it: an id may hold the name of a unit."""
    if all(c.isalnum() or c in "._:@-" for c in text) and text.isascii():
        return text
    return "'" + text.replace("'", "'\\''") + "'"

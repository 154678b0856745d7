"""`oom-watchdog status`: what the daemon sees now, from now.json; the first line is an answer."""

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from watchdog import words
from watchdog.cli import args as common
from watchdog.cli import silence
from watchdog.store import now as now_json
from watchdog.store import place
from watchdog.store.events import Wanted, read_events
from watchdog.tell import terminal

_PROCESS = re.compile(r"^(\d+):\d+")
SHORT_SHARE = 0.05  # of MemTotal: the guard's shipped mark


def main(argv: list[str]) -> int:
    """Run the command; its exit status."""
    return common.quietly(_main, argv)


def _main(argv: list[str]) -> int:
    parser = common.parser(
        "status",
        "What the daemon sees now. The first line is the answer; the last says what the daemon "
        "would do about it. Exit status 1: it does not run, or has stopped looking.",
        "oom-watchdog status --every 2s",
    )
    parser.add_argument(
        "--every", metavar="D", type=common.duration, help="again and again, until Ctrl-C"
    )
    options = parser.parse_args(argv)
    clear = sys.stdout.isatty() and not options.json
    while True:
        if options.every and clear:
            print("\x1b[H\x1b[2J", end="")
        status = _once(options.state, options.json)
        if not options.every:
            return status
        if not options.json and not clear:
            print()
        sys.stdout.flush()
        time.sleep(max(0.1, options.every))


def _once(state: str | None, as_json: bool) -> int:
    try:
        found = now_json.read_now(place.now_dirs(state))
    except place.StoreError as error:
        common.complain(str(error))
        return common.USAGE
    if found is None:
        folder = place.state_dir(state)
        common.complain(f"not running: no now.json in {folder} (start it: oom-watchdog run)")
        return common.NOTHING
    data = _with_last_kill(found.data, state)
    if as_json:
        age = found.age_s if found.age_s != float("inf") else None
        print(json.dumps({**data, "age_s": None if age is None else round(age, 3)}))
    else:
        for text in lines(data, found.age_s, found.old):
            print(words.safe(text))
    return common.NOTHING if found.old else 0


def _with_last_kill(data: dict[str, Any], state: str | None) -> dict[str, Any]:
    """With the last OOM kill that is stored, where the daemon that runs has seen none."""
    kills = _dict(data, "oom_kills")
    if isinstance(kills.get("last"), Mapping):
        return data
    path = os.path.join(place.reading_dir(state), place.DATABASE)
    with contextlib.suppress(place.StoreError, FileNotFoundError):
        for event in read_events(path, Wanted(kind="oom.kill"), last=1):
            return {**data, "oom_kills": {**kills, "last": event}}
    return data


def lines(data: Mapping[str, Any], age_s: float, old: bool) -> Iterator[str]:
    """The whole answer, line by line."""
    if old:
        when = "before the last boot" if age_s == float("inf") else f"{words.duration(age_s)} ago"
        pid = data.get("pid")
        yield f"Not running, or stuck: the daemon (pid {pid}) last wrote {when}. What it saw then:"
    yield answer(data)
    yield watched(data)
    leaks = _leaks(data)
    if leaks:
        yield ""
        head = ("LEAK", "WHO", "RATE", "NOW", "SINCE", "MEMORY ENDS IN", "SURE")
        # through safe() before the table is cut into lines: a name must not begin one
        yield from words.table(head, [_leak_row(one, data) for one in leaks], (2, 3)).split("\n")
    last = _dict(data, "oom_kills").get("last")
    if isinstance(last, Mapping):
        yield ""
        yield "last " + terminal.line(last, False, date=True)
    ranked = [one for one in _list(_dict(data, "guard"), "ranked") if isinstance(one, Mapping)]
    if ranked:
        yield ""
        yield "the first to go, by the guard's last word:"
        for one in ranked:
            who, because = _dict(one, "entity"), [str(text) for text in _list(one, "because")]
            where = f" of {who['unit']}" if who.get("unit") else ""
            yield f"  {who.get('comm')} (PID {who.get('pid')}){where}: {'; '.join(because[:2])}"
    policies = [policy for policy in _list(data, "policies") if isinstance(policy, Mapping)]
    if policies:
        yield ""
        for policy in policies:
            waiting = [_subject(str(one)) for one in _list(policy, "waiting")]
            text = ": " + "; ".join(waiting) if waiting else ""
            yield f"policy {policy.get('name')} ({policy.get('mode')}){text}"
    told = _dict(data, "notify")
    unsent = _number(told, "waiting")
    if unsent:
        held = ", held back while memory is short" if told.get("held") else ""
        yield f"{words.count(int(unsent), 'notification')} to be sent{held}"
    for mute in _list(data, "mutes"):
        if isinstance(mute, Mapping):
            yield silence.line(dict(mute))
    for sentence in _list(data, "degraded"):
        yield f"degraded: {sentence}"
    yield ""
    yield intent(data)


def _subject(waiting: str) -> str:
    """ "pid 4242: …" or "shop.service: …": the key of its subject as a person calls that."""
    return _PROCESS.sub(r"pid \1", waiting).removeprefix("unit:")


def answer(data: Mapping[str, Any]) -> str:
    """The first line: is memory fine, does anybody leak, was anybody killed."""
    total, free = _number(data, "mem_total"), _number(data, "mem_available")
    memory = "how much is available is not known"
    # by the guard's word, whatever its mark, or by anybody's
    short = data.get("pressure") is True
    known = bool(total) and free is not None
    if total and free is not None:
        short = short or free < SHORT_SHARE * total
        unit = words.size(total).split()[1]
        left, right = words.size(free), words.size(total)
        # "14.2 of 23.5 GiB", but "900 MiB of 23.5 GiB"
        left = left.split()[0] if left.endswith(" " + unit) else left
        memory = f"{left} of {right} available"
    sure = leak(data)
    growth = sure
    if growth is None:
        suspects = len(_apart(_leaks(data)))
        growth = f"{words.count(suspects, 'suspected leak')}" if suspects else "nothing leaks"
    if not (short or sure or known):
        return f"How much memory is available is not known: {growth}, {_kills(data)}"
    mood = "Memory is short" if short else "Memory leaks" if sure else "Memory is fine"
    return f"{mood}: {memory}, {growth}, {_kills(data)}"


def leak(data: Mapping[str, Any]) -> str | None:
    """Who leaks for certain; None where nobody does."""
    sure = _apart([one for one in _leaks(data) if one.get("level") == "confirmed"])
    if len(sure) > 1:
        return f"{_counted(sure)} leak"
    if not sure:
        return None
    ends = _number(sure[0], "exhausts_in_s")
    text = f"{_who(sure[0])} leaks {_rate(sure[0])}"
    return f"{text}, memory ends in {words.duration(ends)}" if ends is not None else text


def _apart(leaks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Without the units whose growth is that of a process in them, which leaks as well."""
    homes = [one.get("unit") for one in leaks if one.get("pid") is not None]
    return [one for one in leaks if _kind(one) != "unit" or one.get("unit") not in homes]


def _kind(leak: Mapping[str, Any]) -> str:
    """What it is that leaks; "" where no process owns it: shared memory, or the kernel's."""
    if leak.get("pid") is not None:
        return "process"
    return "" if leak.get("part") in ("shmem", "kernel") else "unit"


def _counted(leaks: Sequence[Mapping[str, Any]]) -> str:
    """ "2 processes, 1 unit and kernel memory of web.service"; `leaks` are two or more."""
    kinds = [_kind(one) for one in leaks]
    found = [words.count(kinds.count(kind), kind) for kind in ("process", "unit") if kind in kinds]
    nobodys = [_who(one) for one in leaks if not _kind(one)]
    if len(nobodys) > 2:
        nobodys = [f"shared or kernel memory in {len(nobodys)} places"]
    *before, last = found + nobodys
    return f"{', '.join(before)} and {last}" if before else last


def watched(data: Mapping[str, Any]) -> str:
    """How much is watched, and by which daemon."""
    parts = []
    for key, noun in (("processes", "process"), ("units", "unit")):
        number = _number(data, key)
        if number is not None:
            parts.append(words.count(int(number), noun))
    hot = _number(data, "watching")
    text = "watching " + " in ".join(parts) if parts else "watching"
    text += f", {hot:.0f} of them closely" if hot is not None else ""
    interval = _number(data, "interval_s")
    text += f" every {words.duration(interval)}" if interval else ""
    return f"{text} (oom-watchdog {data.get('version')}, pid {data.get('pid')})"


def intent(data: Mapping[str, Any]) -> str:
    """The last line: what the daemon would do about it."""
    guard = _dict(data, "guard")
    armed = [
        str(policy.get("name"))
        for policy in _list(data, "policies")
        if isinstance(policy, Mapping) and policy.get("mode") == "enforce"
    ]
    state = guard.get("state")
    state = "" if state in (None, "", "watching") else f"; the guard: {state}"
    if guard.get("mode") == "enforce":
        more = f", and these policies act: {', '.join(armed)}" if armed else ""
        return f"enforcing: the guard kills who is to blame before memory runs out{more}{state}"
    if armed:
        how = {"observe": "observing with the guard; ", "off": "the guard is off; "}
        return f"{how.get(str(guard.get('mode')), '')}these policies act: {', '.join(armed)}{state}"
    return f"observing: nothing will be killed{state}"


def _kills(data: Mapping[str, Any]) -> str:
    kills = _dict(data, "oom_kills")
    last, now = kills.get("last"), _number(data, "t")
    at = _number(last, "t") if isinstance(last, Mapping) else None
    if at is not None and now is not None:
        ago = words.duration(max(0.0, now - at))
        if now - at < 86400:
            return f"the last OOM kill {ago} ago"
        return f"no OOM kill in {words.count(int((now - at) // 86400), 'day')}"
    number = _number(kills, "since_start")
    return words.count(int(number), "OOM kill") + " since the start" if number else "no OOM kill"


def _leak_row(leak: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    resident, ends = _number(leak, "resident_bytes"), _number(leak, "exhausts_in_s")
    since, now = _number(leak, "since"), _number(data, "t")
    sure = _number(leak, "confidence")
    row = [
        str(leak.get("level") or "-"),
        _who(leak),
        _rate(leak),
        "-" if resident is None else words.size(resident),
        "-" if since is None or now is None else words.duration(max(0.0, now - since)) + " ago",
        "-" if ends is None else words.duration(ends),
        "-" if sure is None else f"{sure:.2f}",
    ]
    return [words.safe(cell) for cell in row]


def _who(leak: Mapping[str, Any]) -> str:
    return terminal.leaker(leak) or "somebody"


def _rate(leak: Mapping[str, Any]) -> str:
    rate = _number(leak, "rate_bytes_per_s")
    return "-" if rate is None else words.rate(rate)


def _number(values: Mapping[str, Any], key: str) -> float | None:
    found = values.get(key)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return None
    return found if -1e18 < found < 1e18 else None


def _leaks(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for one in _list(data, "leaks") if isinstance(one, Mapping)]


def _list(values: Mapping[str, Any], key: str) -> list[Any]:
    found = values.get(key)
    return list(found) if isinstance(found, (list, tuple)) else []


def _dict(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}

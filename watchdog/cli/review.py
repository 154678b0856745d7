"""`oom-watchdog review`: from observe to enforce.

Each action that would have been taken, what then happened without it, and the lines that would let
it be taken.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from watchdog import words
from watchdog.cli import args as common
from watchdog.policy.rules import PLAIN, verb
from watchdog.store.events import Wanted, read_events
from watchdog.tell import terminal

# What happens to the target so long after an action that was not taken is what came of it.
AFTER_S = 3600.0
SHOWN_MAX = 5
WEEK_S = 7 * 86400.0


def main(argv: list[str]) -> int:
    """Run the command; its exit status."""
    return common.quietly(_main, argv)


def _main(argv: list[str]) -> int:
    parser = common.parser(
        "review",
        "From observe to enforce: each action that would have been taken, what then happened "
        "without it, and the lines to put into the configuration.",
        "oom-watchdog review --since 7d",
    )
    parser.add_argument("--since", metavar="T", type=common.when, help="from then on (7 days)")
    options = parser.parse_args(argv)
    since = common.when("7d") if options.since is None else options.since
    with common.history(options.state) as path:
        told = list(read_events(path, Wanted(since)))
    found = review(told)
    if options.json:
        print(json.dumps(found))
    elif not found:
        common.complain("nothing would have been done in this time")
    else:
        print("\n\n".join("\n".join(_lines(one)) for one in found))
    return 0 if found else common.NOTHING


def review(told: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """By policy (the guard is one), what it would have done and what came of it, oldest first."""
    by_policy: dict[str, list[dict[str, Any]]] = {}
    for at, event in enumerate(told):
        if event.get("event") not in ("policy.action", "guard.action"):
            continue
        if event.get("outcome") != "would" or event.get("mode") != "observe":
            continue
        if verb(str(event.get("do"))) in (*PLAIN, "hold"):
            continue
        by_policy.setdefault(str(event["policy"]), []).append({
            "t": event["t"], "do": event["do"], "id": event["id"], "target": event.get("target"),
            "because": event.get("because", []), "then": _after(event, told[at + 1 :]),
        })  # fmt: skip
    return [
        {"policy": name, "times": len(found), "actions": found, "lines": _enforce(name)}
        for name, found in sorted(by_policy.items())
    ]


def _after(event: Mapping[str, Any], later: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What happened next, as the first thing that says how it ended: `how` and a sentence."""
    seen: Mapping[str, Any] | None = None
    for other in later:
        if float(other["t"]) - float(event["t"]) > AFTER_S:
            break
        kind = other.get("event")
        if kind in ("oom.kill", "kill.other") and _same(event, other):
            return _told("killed", other, "it was killed all the same")
        if kind == "oom.kill" and event.get("event") == "guard.action":
            return _told("other killed", other, "the kernel killed somebody else")
        if kind == "leak.cleared" and _same(event, other):
            seen = seen or _told("recovered", other, "its leak was cleared by itself")
        if kind == "pressure.ended" and event.get("event") == "guard.action":
            seen = seen or _told("recovered", other, "memory recovered by itself")
    return dict(seen) if seen else {
        "how": "nothing", "id": None, "after_s": None,
        "said": f"nothing more was told of it within {words.duration(AFTER_S)}",
    }  # fmt: skip


def _told(how: str, other: Mapping[str, Any], said: str) -> dict[str, Any]:
    because = [words.safe(str(one)) for one in other.get("because") or ()]
    return {"how": how, "id": other["id"], "t": other["t"],
            "said": f"{said}{': ' if because else ''}{because[0] if because else ''}"}  # fmt: skip


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if one.get("pid") is not None and other.get("pid") is not None:
        return (one["pid"], one.get("start")) == (other["pid"], other.get("start"))
    return one.get("unit") is not None and one.get("unit") == other.get("unit")


def _enforce(policy: str) -> list[str]:
    table = "guard" if policy == "guard" else f"policies.{policy}"
    return [f"[{table}]", 'mode = "enforce"']


def _lines(one: Mapping[str, Any]) -> Iterator[str]:
    what = "the guard" if one["policy"] == "guard" else f"policy {words.safe(one['policy'])}"
    ends: dict[str, int] = {}
    for action in one["actions"]:
        ends[action["then"]["how"]] = ends.get(action["then"]["how"], 0) + 1
    counted = ", ".join(f"{_HOW[how]}: {count}" for how, count in sorted(ends.items()))
    yield f"{what} would have acted {words.count(one['times'], 'time')} ({counted})"
    for action in one["actions"][-SHOWN_MAX:]:
        target = terminal.who(action["target"] or {})
        when = terminal.stamp({"t": action["t"]}, date=True)
        yield f"  {when} {words.safe(action['do'])} {target}"
        for sentence in action["because"][:2]:
            yield f"      because {words.safe(str(sentence))}"
        passed = ""
        if action["then"].get("t") is not None:
            passed = f"{words.duration(max(0.0, action['then']['t'] - action['t']))} later: "
        yield f"      then    {passed}{action['then']['said']}"
    if one["times"] > SHOWN_MAX:
        yield f"  and {one['times'] - SHOWN_MAX} before them: --json shows all"
    yield f"  to let it act, put into /etc/oom-watchdog/config.d/{words.safe(one['policy'])}.toml"
    for line in one["lines"]:
        yield f"      {line}"
    yield "  and: systemctl reload oom-watchdog"


_HOW = {
    "killed": "its target was killed all the same", "other killed": "somebody else was killed",
    "recovered": "it ended well by itself", "nothing": "nothing more was told",
}  # fmt: skip

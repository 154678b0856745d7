"""`oom-watchdog review`: from observe to enforce.

Each action that would have been taken, what then happened without it, and what has to change in the
configuration of now so that it would be taken; and what a policy decided that could not be done.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from watchdog import words
from watchdog.cli import args as common
from watchdog.cli import check
from watchdog.policy.merge import BUILT_IN
from watchdog.policy.rules import DESTRUCTIVE, PLAIN, from_plain, verb
from watchdog.store.events import Wanted, read_events
from watchdog.tell import terminal

# What happens to the target so long after an action that was not taken is what came of it.
AFTER_S = 3600.0
# The hand of somebody else is looked for once its victim has gone, and that may take so long.
LOOKED_FOR_S = 60.0
SHOWN_MAX = 5
MAIN = "/etc/oom-watchdog/config.toml"
DROP_INS = "/etc/oom-watchdog/config.d"
PACKAGED = ("/usr/lib/oom-watchdog/", "/run/oom-watchdog/")  # not the administrator's to change
_ACTIONS = ("policy.action", "guard.action")
_BARRED = ("failed", "protected")  # outcomes of what would not be done in enforce either
GONE = ("the process is gone", "the unit is gone")  # why a leak was cleared


def main(argv: list[str]) -> int:
    """Run the command; its exit status."""
    return common.quietly(_main, argv)


def _main(argv: list[str]) -> int:
    parser = common.parser(
        "review",
        "From observe to enforce: each action that would have been taken, what then happened "
        "without it, and what to change in the configuration.",
        "oom-watchdog review --since 7d",
    )
    parser.add_argument("--since", metavar="T", type=common.when, help="from then on (7 days)")
    options = parser.parse_args(argv)
    since = common.when("7d") if options.since is None else options.since
    with common.history(options.state) as path:
        told = list(read_events(path, Wanted(since)))
    found = review(told, time.time())
    if found:
        _, loaded, lines = check.load(options.config, None)
        for line in lines if loaded is None else ():
            print(words.safe(line), file=sys.stderr)
        found = [one | way(one["policy"], loaded, options.config) for one in found]
    if options.json:
        print(json.dumps(found))
    elif not found:
        common.complain("nothing would have been done in this time")
    else:
        print("\n\n".join("\n".join(_lines(one)) for one in found))
    return 0 if found else common.NOTHING


def review(told: Sequence[Mapping[str, Any]], now: float) -> list[dict[str, Any]]:
    """By policy (the guard is one), what it would have done and what came of it, oldest first.

    `barred` is what it decided and could not have done, with the outcome that it would have.
    """
    by_policy: dict[str, list[dict[str, Any]]] = {}
    barred: dict[str, list[dict[str, Any]]] = {}
    for at, event in enumerate(told):
        if event.get("event") not in _ACTIONS:
            continue
        if event.get("mode") != "observe":
            continue
        if verb(str(event.get("do"))) in (*PLAIN, "hold"):
            continue
        name, outcome = str(event["policy"]), event.get("outcome")
        one = {
            "t": event["t"], "do": event["do"], "id": event["id"],
            "incident": event.get("incident"), "target": event.get("target"),
            "because": event.get("because", []),
        }  # fmt: skip
        if outcome == "would":
            then = _after(event, told[at + 1 :], now)
            by_policy.setdefault(name, []).append({**one, "then": then})
        elif outcome in _BARRED and name != "guard":
            barred.setdefault(name, []).append({**one, "outcome": outcome})
    return [
        {"policy": name, "times": len(found := by_policy.get(name, [])), "actions": found,
         "barred": barred.get(name, [])}
        for name in sorted({*by_policy, *barred})
    ]  # fmt: skip


def _after(
    event: Mapping[str, Any], later: Sequence[Mapping[str, Any]], now: float
) -> dict[str, Any]:
    """What happened next: `how` and a sentence, of the first thing that says how it ended.

    The first to happen: a kill is told only after the pressure that it ended.
    """
    ends: list[tuple[float, dict[str, Any]]] = []
    for other in later:
        t = float(other["t"])
        if t - float(event["t"]) > AFTER_S:
            break
        found = _end(event, other)
        if found:
            ends.append((t - LOOKED_FOR_S if other.get("event") == "kill.other" else t, found))
    passed = min(AFTER_S, max(0.0, now - float(event["t"])))
    return min(ends, key=lambda end: end[0])[1] if ends else {
        "how": "nothing", "id": None, "after_s": None,
        "said": f"nothing more was told of it within {words.duration(passed)}",
    }  # fmt: skip


def _end(event: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """How it ended by what this says; None where it says nothing of that."""
    kind, same = other.get("event"), _same(event, other)
    by_guard = event.get("event") == "guard.action"
    if same and kind in _ACTIONS and other.get("outcome") == "done":
        do, policy = str(other.get("do")), words.safe(str(other.get("policy")))
        if verb(do) in (*DESTRUCTIVE, "stop-unit"):
            by = "the guard" if kind == "guard.action" else f"policy {policy}"
            return _told("ended", {**other, "because": ()}, f"{by} acted on it: {words.safe(do)}")
    if kind in ("oom.kill", "kill.other") and same:
        return _told("killed", other, "it was killed all the same")
    if kind == "oom.kill" and by_guard and not _elsewhere(event, other):
        return _told("other killed", other, "the kernel killed somebody else")
    if kind == "leak.cleared" and same:
        if any(one in GONE for one in other.get("because") or ()):
            return _told("ended", other, "it ended, and its leak with it")
        return _told("recovered", other, "its leak was cleared by itself")
    if kind == "pressure.ended" and by_guard:
        return _told("recovered", other, "memory recovered by itself")
    return None


def _elsewhere(event: Mapping[str, Any], kill: Mapping[str, Any]) -> bool:
    """Is it a kill at a limit that is none of the target's? It says nothing of the machine."""
    unit = event.get("unit")
    return kill.get("scope") == "memcg" and (unit is None or kill.get("unit") != unit)


def _told(how: str, other: Mapping[str, Any], said: str) -> dict[str, Any]:
    because = [words.safe(str(one)) for one in other.get("because") or ()]
    return {"how": how, "id": other["id"], "t": other["t"],
            "said": f"{said}{': ' if because else ''}{because[0] if because else ''}"}  # fmt: skip


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if one.get("pid") is not None and other.get("pid") is not None:
        return (one["pid"], one.get("start")) == (other["pid"], other.get("start"))
    return one.get("unit") is not None and one.get("unit") == other.get("unit")


def way(policy: str, loaded: Mapping[str, Any] | None, config: str | None = None) -> dict[str, Any]:
    """What has to change so that it would act, by what `check` says of the configuration of now.

    With `config` that file alone is the configuration. In the answer `mode` is the mode there
    ("gone": no such policy), None where the configuration is refused; `file` and `lines` are what
    to write and where, `said` the same in a sentence.
    """
    if loaded is None:
        return _way(None, "the configuration is refused, and `oom-watchdog check` says why: what "
                    "has to change is not known")  # fmt: skip
    origins: Mapping[str, str] = loaded["origins"]
    rules = from_plain(loaded["rules"])
    table = "guard" if policy == "guard" else f"policies.{policy}"
    modes = {one.name: str(one.mode) for one in rules.policies}
    mode = rules.guard.mode if policy == "guard" else modes.get(policy)
    if mode is None:
        which = "" if config else " of this machine (--config FILE looks at another)"
        return _way("gone", f"the configuration{which} has no such policy now: there is nothing to "
                    "change")  # fmt: skip
    said_in = origins.get(f"{table}.mode", BUILT_IN)
    if mode == "enforce":
        return _way(mode, f"it enforces already: {said_in} says so")
    shown = check.header("guard") if policy == "guard" else check.header("policies", policy)
    lines = [shown, 'mode = "enforce"']
    file = said_in if said_in != BUILT_IN else _home(table, origins) or config or MAIN
    if config is None and file.startswith(PACKAGED):
        file = _drop_in(policy, origins)
        return _way(mode, f"to let it act, put into the new file {file}", file, lines)
    if said_in == BUILT_IN:
        return _way(mode, f"to let it act, put into {file}, in the table {shown}", file, lines)
    return _way(mode, f'to let it act, change mode = "{mode}" in {file}', file, lines)


def _way(
    mode: str | None, said: str, file: str | None = None, lines: Sequence[str] = ()
) -> dict[str, Any]:
    return {"mode": mode, "said": said, "file": file, "lines": list(lines)}


def _home(table: str, origins: Mapping[str, str]) -> str | None:
    """The file that says something of the table already."""
    keys = [table, *(key for key in origins if key.startswith(f"{table}."))]
    return next((origins[key] for key in keys if origins.get(key, BUILT_IN) != BUILT_IN), None)


def _drop_in(policy: str, origins: Mapping[str, str]) -> str:
    """A file that counts after all others, and takes no other one out of the count."""
    there = {os.path.basename(name) for name in origins.values()}
    name = f"zz-{policy}.toml"
    for _ in range(9):
        if os.path.lexists(f"{DROP_INS}/{name}") or any(other >= name for other in there):
            name = f"z{name}"
    return f"{DROP_INS}/{name}"


def _lines(one: Mapping[str, Any]) -> Iterator[str]:
    what = "the guard" if one["policy"] == "guard" else f"policy {words.safe(one['policy'])}"
    if decided := _decisions(one["actions"]):
        yield from _taken(what, decided)
    if barred := _decisions(one["barred"]):
        yield from _not_taken(what, barred)
    if not decided:
        yield "  enforcing alone would change nothing of that"
        return
    yield f"  {words.safe(one['said'])}"
    for line in one["lines"]:
        yield f"      {words.safe(line)}"
    if one["lines"]:
        yield "  and reload: systemctl reload oom-watchdog, or SIGHUP"


def _decisions(actions: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """One decision may be several actions, and what came of them is one thing."""
    decided: dict[str, list[Mapping[str, Any]]] = {}
    for action in actions:
        decided.setdefault(str(action["incident"] or action["id"]), []).append(action)
    return list(decided.values())


def _taken(what: str, decided: Sequence[Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """What would have been done, and what then happened."""
    ends: dict[str, int] = {}
    for first, *_ in decided:
        ends[first["then"]["how"]] = ends.get(first["then"]["how"], 0) + 1
    counted = ", ".join(f"{_HOW[how]}: {count}" for how, count in sorted(ends.items()))
    yield f"{what} would have acted {words.count(len(decided), 'time')} ({counted})"
    for actions in decided[-SHOWN_MAX:]:
        first = actions[0]
        yield _line(actions)
        for sentence in first["because"][:2]:
            yield f"      because {words.safe(str(sentence))}"
        passed = ""
        if first["then"].get("t") is not None:
            passed = f"{words.duration(max(0.0, first['then']['t'] - first['t']))} later: "
        yield f"      then    {passed}{first['then']['said']}"
    yield from _before(decided)


def _not_taken(what: str, decided: Sequence[Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """What would not have been done in enforce either, and why."""
    yield f"{what} would have come to nothing {words.count(len(decided), 'time')}"
    for actions in decided[-SHOWN_MAX:]:
        yield _line(actions)
        *because, why = actions[0]["because"] or ("",)
        for sentence in because[:1]:
            yield f"      because {words.safe(str(sentence))}"
        yield f"      {actions[0]['outcome']}: {words.safe(str(why))}"
    yield from _before(decided)


def _line(actions: Sequence[Mapping[str, Any]]) -> str:
    """When, what, to whom."""
    when = terminal.stamp({"t": actions[0]["t"]}, date=True)
    done = ", ".join(dict.fromkeys(str(action["do"]) for action in actions))
    return f"  {when} {words.safe(done)} {terminal.who(actions[0]['target'] or {})}"


def _before(decided: Sequence[object]) -> Iterator[str]:
    if len(decided) > SHOWN_MAX:
        yield f"  and {len(decided) - SHOWN_MAX} before them: --json shows all"


_HOW = {
    "killed": "its target was killed all the same", "other killed": "somebody else was killed",
    "recovered": "it ended well by itself", "ended": "it ended",
    "nothing": "nothing more was told",
}  # fmt: skip

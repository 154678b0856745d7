"""`oom-watchdog doctor`: does it work, here, in this sandbox? A table; exit status 1 if not."""

import json
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from typing import Any

from watchdog import words
from watchdog.child import ours, run_once
from watchdog.cli import args as common
from watchdog.cli import asking
from watchdog.policy.rules import to_plain
from watchdog.store import place
from watchdog.store.now import DOCTOR
from watchdog.tell import terminal

LOOK_S = 120.0
# What the command knows better than the daemon does: it may use the network.
OWN = ("notify.", "other killers", "clock")
_COLOURS = {"ok": "32", "note": "36", "weak": "33", "fail": "1;31"}


def main(argv: list[str]) -> int:
    """Run the command; its exit status."""
    return common.quietly(_main, argv)


def _main(argv: list[str]) -> int:
    parser = common.parser(
        "doctor",
        "Prove that it works. What the running daemon found in its own sandbox after its start "
        "comes first, then what this command finds here. Exit status 1: something that was "
        "promised does not work.",
        "oom-watchdog doctor",
    )
    parser.add_argument("--here", action="store_true",
                        help="only from here, as the user who asks")  # fmt: skip
    options = parser.parse_args(argv)
    rules = common.load_rules(options.config)
    daemon = None if options.here else _of_daemon(options.state)
    here = look(to_plain(rules), place.reading_dir(options.state))
    if here is None:
        return common.USAGE
    if daemon is not None:
        here["rows"] = [row for row in here["rows"] if str(row.get("what")).startswith(OWN)]
    tables = [("daemon", daemon), ("here", here)]
    found = {name: table for name, table in tables if table is not None}
    if options.json:
        print(json.dumps(found))
    else:
        for name, table in found.items():
            print("\n".join(lines(name, table, terminal.colors(sys.stdout))))
        print(verdict([row for table in found.values() for row in table["rows"]]))
        if daemon is None and not options.here:
            print("(no daemon runs: what its unit allows is not proven)")
    bad = any(row.get("state") == "fail" for table in found.values() for row in table["rows"])
    return common.NOTHING if bad else 0


def look(plain: Mapping[str, Any], state: str) -> dict[str, Any] | None:
    """All checks in a process of their own, or None: told why not."""
    argv = [*ours("watchdog.doctor.program"), "--state", state]
    child = run_once(argv, json.dumps(plain).encode(), LOOK_S, env=dict(os.environ))
    try:
        found: dict[str, Any] = json.loads(child.output)
    except ValueError:
        said = bytes(child.errors).decode("utf-8", "replace").strip()
        common.complain(f"the checks {child.failure() or 'gave no answer'}: {words.safe(said)}")
        return None
    return found


def _of_daemon(state: str | None) -> dict[str, Any] | None:
    """What the running daemon wrote down, or None."""
    now = asking.seen(state)
    if now is None or now.old:
        return None
    try:
        with open(os.path.join(os.path.dirname(now.path), DOCTOR), "rb") as file:
            found = json.loads(file.read())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("rows"), list) else None


def lines(name: str, table: Mapping[str, Any], color: bool) -> Iterator[str]:
    """The table of one place; what is not well says what it means and what to do."""
    ago = words.duration(max(0.001, time.time() - float(table.get("t") or 0)))
    if name == "daemon":
        where = "in its unit" if table.get("in_unit") else "in the foreground"
        yield f"What the daemon found {where}, {ago} ago:"
    else:
        yield "What this command finds:"
    rows = [row for row in table["rows"] if isinstance(row, Mapping)]
    width = max((len(str(row.get("what"))) for row in rows), default=0)
    room = max(40, min(shutil.get_terminal_size((100, 24)).columns, 120) - width - 9)
    for row in rows:
        state = str(row.get("state"))
        mark = f"{state:<4}"
        mark = f"\x1b[{_COLOURS.get(state, '0')}m{mark}\x1b[0m" if color else mark
        body = textwrap.wrap(words.safe(str(row.get("found"))), room)
        if state != "ok":
            for key, head in (("means", "  "), ("to_do", "  do: ")):
                text = words.safe(str(row.get(key) or ""))
                if text:
                    body += textwrap.wrap(head + text, room, subsequent_indent="  ")
        for number, part in enumerate(body or [""]):
            what = words.safe(str(row.get("what"))) if number == 0 else ""
            yield f"  {mark if number == 0 else '    '} {what:<{width}}  {part}"
    yield ""


def verdict(rows: list[Mapping[str, Any]]) -> str:
    """The last line."""
    states = [row.get("state") for row in rows]
    if "fail" in states:
        return (
            f"{words.count(states.count('fail'), 'check')} failed: not all that is promised works"
        )
    weak = states.count("weak")
    if weak:
        return f"it works; {words.count(weak, 'point')} could be better"
    return "everything works"

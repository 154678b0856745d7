"""`oom-watchdog silence`: no policy tells of these or acts on them, for a while."""

import json
import os
import pwd
import secrets
import sys
import time
from typing import Any

from watchdog import words
from watchdog.cli import args as common
from watchdog.cli import asking


def main(argv: list[str]) -> int:
    """Run the command; its exit status."""
    return common.quietly(_main, argv)


def _main(argv: list[str]) -> int:
    parser = common.parser(
        "silence",
        "Until then no policy notifies anybody of what matches, or acts on it. The guard and the "
        "journal are never silenced. MATCH is a PID, or a glob of a unit (the suffix may be left "
        "out), a process name or an executable.",
        'oom-watchdog silence "shop-*" --for 4h --reason "migration tonight"',
    )
    parser.add_argument("match", nargs="?", metavar="MATCH")
    parser.add_argument("--for", dest="for_s", metavar="D", type=common.duration,
                        help="for how long; needed")  # fmt: skip
    parser.add_argument("--reason", metavar="TEXT", help="why; needed: somebody else will ask")
    parser.add_argument("--list", action="store_true", help="what is muted now")
    parser.add_argument("--lift", metavar="MATCH", help="end one sooner, by its MATCH or its id")
    options = parser.parse_args(argv)
    if options.list:
        return _list(options.state, options.json)
    if options.lift is not None:
        known = asking.seen(options.state)
        rows = known.data.get("mutes") if known and not known.old else None
        if isinstance(rows, list) and not any(
            options.lift in (row.get("id"), row.get("match")) for row in rows
        ):
            common.complain(f"nothing of that name is muted: {options.lift} (silence --list)")
            return common.NOTHING
        return send(options.state, {"do": "lift", "what": options.lift, "by": user()},
                    f"lifted: {options.lift}", options.json)  # fmt: skip
    missing = [name for name, value in (("MATCH", options.match), ("--for", options.for_s),
               ("--reason", options.reason)) if not value]  # fmt: skip
    if missing:
        parser.error(f"missing {' and '.join(missing)}")
    keys: list[str] = []
    if options.match.isdigit():
        key = process_key(int(options.match))
        if key is None:
            common.complain(f"no process {options.match}")
            return common.NOTHING
        keys = [key]
    asked = request("silence", options.match, options.for_s, options.reason, keys)
    return send(options.state, asked, f"silenced for {words.duration(options.for_s)}: "
                f"{options.match} ({asked['id']})", options.json)  # fmt: skip


def request(
    do: str, match: str, for_s: float, reason: str, keys: list[str], tail: str = ""
) -> dict[str, Any]:
    """What the daemon is asked for."""
    return {
        "do": do, "id": f"{do}-{secrets.token_hex(4)}", "match": match, "for_s": for_s,
        "until": time.time() + for_s, "reason": reason, "by": user(), "keys": keys, "tail": tail,
    }  # fmt: skip


def send(state: str | None, asked: dict[str, Any], done: str, as_json: bool) -> int:
    """Ask the daemon, and say whether it has heard; the exit status."""
    try:
        name, runs = asking.ask(state, asked)
    except asking.AskError as error:
        return asking.failed(error)
    taken = runs and asking.is_taken(state, name)
    if as_json:
        print(json.dumps(asked | {"taken": taken}))
    elif taken:
        print(words.safe(done))
    else:
        why = "the daemon has not taken it up yet" if runs else "no daemon runs"
        print(f"{why}: it will at its next turn, or when it starts", file=sys.stderr)
    return 0


def user() -> str:
    """Who asks, by name; through sudo the one who typed it."""
    try:
        asker = os.environ.get("SUDO_UID", "") if os.getuid() == 0 else ""
        return pwd.getpwuid(int(asker) if asker.isdigit() else os.getuid()).pw_name
    except (KeyError, OverflowError):
        return f"uid {os.getuid()}"


def process_key(pid: int) -> str | None:
    """ "pid:start" of a living process."""
    from watchdog import procfs

    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            found = procfs.parse_stat(file.read())
    except OSError:
        return None
    return f"{pid}:{found.start_ticks}" if found else None


def _list(state: str | None, as_json: bool) -> int:
    found = asking.seen(state)
    runs = found is not None and not found.old
    mutes = found.data.get("mutes") if found and runs else None
    rows = [one for one in mutes if isinstance(one, dict)] if isinstance(mutes, list) else []
    if as_json:
        print(json.dumps(rows))
    elif not runs:
        common.complain("no daemon runs")
    elif not rows:
        print("nothing is muted")
    for row in [] if as_json else rows:
        print(words.safe(line(row)))
    return 0 if rows else common.NOTHING


def line(row: dict[str, Any]) -> str:
    """One mute, as `status` and `silence --list` show it."""
    left = row.get("left_s")
    head = "acknowledged" if row.get("kind") == "ack" else "silenced"
    text = f"{head}: {row.get('match')}"
    if isinstance(left, int | float) and left > 0:
        text += f", for another {words.duration(left)}"
    reason = row.get("reason")
    return f"{text}, by {row.get('by')}" + (f": {reason}" if reason else "") + f" [{row.get('id')}]"

"""`oom-watchdog ack ID`: somebody has seen it; no policy goes on about it until it is over."""

from collections.abc import Mapping
from typing import Any

from watchdog import words
from watchdog.cli import args as common
from watchdog.cli import silence
from watchdog.policy.mute import tail
from watchdog.store.events import Wanted, read_events
from watchdog.tell import terminal

DAY_S = 86400.0


def main(argv: list[str]) -> int:
    """Run the command; its exit status."""
    return common.quietly(_main, argv)


def _main(argv: list[str]) -> int:
    parser = common.parser(
        "ack",
        "Take note of an event: until the leak is over, the process is gone, or the time is over, "
        "no policy notifies anybody of whom it is about, or acts on it. The guard and the journal "
        "go on. ID is that of `events`, or its beginning. Exit status 1: no such event, "
        "or it is of a leak that is over.",
        "oom-watchdog ack leak.confirmed-5f1c2a7b-4242-9133-1",
    )
    parser.add_argument("id", metavar="ID")
    parser.add_argument("--for", dest="for_s", metavar="D", type=common.duration, default=DAY_S,
                        help="no longer than this (1d)")  # fmt: skip
    parser.add_argument("--reason", metavar="TEXT", default="", help="what you know of it")
    options = parser.parse_args(argv)
    with common.history(options.state) as path:
        found = list(read_events(path, Wanted(id=options.id), 20))
    ids = sorted({str(event.get("id")) for event in found})
    if len(ids) != 1:
        more = " …" if len(ids) > 3 else ""
        many = f"{len(ids)} events begin so: {', '.join(ids[:3])}{more}" if ids else ""
        common.complain(many or f"no event {options.id} (see oom-watchdog events)")
        return common.USAGE if ids else common.NOTHING
    event = found[0]
    keys = subjects(event)
    if not keys:
        common.complain(f"{ids[0]} is about no process and no unit")
        return common.USAGE
    about = str(event.get("cause") or ids[0])
    of_leak = tail(about) if about.startswith("leak.") else ""
    end = f"leak.cleared-{of_leak}"
    with common.history(options.state) as path:
        over = [one for one in read_events(path, Wanted(id=end)) if one.get("id") == end]
    if over and str(event.get("event")).startswith("leak."):
        common.complain(f"that leak is over ({end}): there is nothing to be quiet about")
        return common.NOTHING
    of_leak = "" if over else of_leak  # a kill, or what a policy did, may be of more than the leak
    who = terminal.who(terminal.about(event)) or keys[0]
    asked = silence.request("ack", who, options.for_s, options.reason, keys, of_leak)
    done = f"acknowledged: {who}, for {words.duration(options.for_s)} at the most ({asked['id']})"
    return silence.send(options.state, asked, done, options.json)


def subjects(event: Mapping[str, Any]) -> list[str]:
    """Whom the policies are to leave alone, as they call them: the process; of a kill the unit."""
    about = terminal.about(event)
    pid, start, unit = about.get("pid"), about.get("start"), about.get("unit")
    found = []
    if isinstance(pid, int) and isinstance(start, int):
        found.append(f"{pid}:{start}")
    is_kill = str(event.get("event")).startswith(("oom.", "kill."))
    if isinstance(unit, str) and (is_kill or not found):
        found.append(f"unit:{unit}")
    return found

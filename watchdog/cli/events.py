"""`oom-watchdog events`: what was told, from the store."""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from watchdog import words
from watchdog.cli import args as common
from watchdog.store.events import Wanted, follow_events, read_events
from watchdog.tell import catalog, terminal

FOLLOW_FIRST = 10  # of the past, where --follow is given without --since
FOLLOW_S = 0.5


def main(argv: list[str]) -> int:
    """Run the command; its exit status."""
    return common.quietly(_main, argv)


def _parser() -> argparse.ArgumentParser:
    found = common.parser(
        "events",
        "What was told so far: leaks, OOM kills, actions, the daemon's own life. With --id one "
        "event at full length.",
        "oom-watchdog events --since 1d --kind oom.kill",
    )
    add = found.add_argument
    add("--since", metavar="T", type=common.when, help='"10min" ago, "2026-11-01 08:00", "@UNIX"')
    add("--until", metavar="T", type=common.when, help="likewise")
    add("--unit", metavar="U", help='of this unit; "shop-*" matches many')
    add("--pid", metavar="N", type=int, help="about this process")
    add("--kind", metavar="K", help='"oom.kill", or a family: "leak"')
    add("--id", metavar="ID", help="this event, or those whose id begins so")
    add("--follow", action="store_true", help="go on with what is told from now on")
    return found


def _main(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    wrong = _unknown_kind(options.kind)
    if wrong:
        common.complain(wrong)
        return common.USAGE
    wanted = Wanted(
        options.since, options.until, options.unit, options.kind, options.id, options.pid
    )
    show = _Show(options.json, long=options.id is not None and not options.follow)
    with common.history(options.state) as path:
        if options.follow:
            last = FOLLOW_FIRST if options.since is None else None
            for event in _patient(follow_events(path, wanted, last)):
                show.one(event)
        else:
            show.all(read_events(path, wanted))
    if not show.count:
        common.complain("no such event" if argv else "no events yet")
    return 0 if show.count else common.NOTHING


def _unknown_kind(kind: str | None) -> str | None:
    """A complaint where no event can ever be of that kind."""
    families = {known.partition(".")[0] for known in catalog.KINDS}
    if kind is None or kind in catalog.KINDS or kind in families or set(kind) & set("*?["):
        return None
    return f'there are no events of kind "{kind}"{words.nearest(kind, [*catalog.KINDS, *families])}'


def _patient(found: Iterable[dict[str, Any] | None]) -> Iterator[dict[str, Any]]:
    for event in found:
        if event is None:
            sys.stdout.flush()
            time.sleep(FOLLOW_S)
        else:
            yield event


class _Show:
    """Prints events and counts them; at full length where one was asked for by its id."""

    def __init__(self, as_json: bool, long: bool) -> None:
        self.as_json = as_json
        self.long = long
        self.color = terminal.colors(sys.stdout)
        self.count = 0

    def all(self, found: Iterable[dict[str, Any]]) -> None:
        for event in found:
            self.one(event)

    def one(self, event: dict[str, Any]) -> None:
        self.count += 1
        if self.as_json:
            print(json.dumps(event))
            return
        print(terminal.line(event, self.color, date=True))
        if self.long:
            for text in _details(event):
                print("    " + text)


def _details(event: dict[str, Any]) -> Iterator[str]:
    """The reasons, then each value by its path; what is null is left out."""
    for sentence in event.get("because") or ():
        yield "because " + words.safe(str(sentence))
    yield from _values("", event)


def _values(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key != "because" or path:
                yield from _values(f"{path}.{key}" if path else str(key), inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _values(f"{path}[{number}]", inner)
    elif value is not None:
        text = f"{path} = {json.dumps(value, ensure_ascii=False)}"
        if path.endswith("_bytes") and isinstance(value, int):
            text += f" ({words.size(value)})"
        yield words.safe(text)

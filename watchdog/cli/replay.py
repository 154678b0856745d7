"""`oom-watchdog replay`: the true judge and the true policies over a recording."""

import gzip
import json
import sys
import zlib
from collections.abc import Iterator
from typing import IO, Any

from watchdog import trace, words
from watchdog.cli import args as common
from watchdog.engine import Engine
from watchdog.facts import Event, Fact, KernelLine, Order, Outcome, Sweep
from watchdog.policy.rules import Rules
from watchdog.tell import terminal

BROKEN_SHOWN = 5


class Lines:
    """The lines of a trace, plain or gzip, counted; a torn end is told, not raised."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.number = 0
        self.broken: list[str] = []
        self.broken_count = 0

    def __iter__(self) -> Iterator[bytes]:
        file = self._open()
        try:
            for raw in file:
                self.number += 1
                if raw.strip():
                    yield raw
        except (EOFError, zlib.error, gzip.BadGzipFile):
            self.complain("the compressed data end in the middle")
        finally:
            if file is not sys.stdin.buffer:
                file.close()

    def _open(self) -> IO[bytes]:
        raw: Any = sys.stdin.buffer if self.name == "-" else open(self.name, "rb")  # noqa: SIM115
        packed = raw.peek(2)[:2] == b"\x1f\x8b"
        return gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[return-value]

    def complain(self, what: str) -> None:
        """Count a line that could not be read; the first few are told by number."""
        self.broken_count += 1
        if len(self.broken) < BROKEN_SHOWN:
            self.broken.append(f"{self.name}: line {self.number}: {what}")


def facts(lines: Lines) -> Iterator[Fact | trace.Header]:
    """The facts that can be read; what cannot is counted in `lines`."""
    for raw in lines:
        try:
            fact = trace.fact(raw)
        except trace.TraceError as error:
            lines.complain(str(error))
            continue
        if fact is not None:
            yield fact


class Replay:
    """Feeds an engine; answers its orders where the recording holds no outcomes of its own."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.engine = Engine(rules, None)
        self.acted = False
        self.rows = 0
        self.first_t: float | None = None
        self.last_t = 0.0

    def feed(self, fact: Fact | trace.Header) -> Iterator[Event]:
        """The events that follow from one fact."""
        if isinstance(fact, trace.Header):
            self.engine.host, self.acted = fact.host, fact.acted
            self.engine.pressed = False if fact.acted else None  # then the guard's word is in it
            return
        if isinstance(fact, Sweep):
            self.rows += len(fact.rows)
        if not isinstance(fact, KernelLine):
            self.first_t = fact.t if self.first_t is None else self.first_t
            self.last_t = fact.t
        yield from self._answer(self.engine.feed(fact), fact.t, fact.up)

    def finish(self) -> Iterator[Event]:
        """The events that waited for more."""
        yield from self._answer(self.engine.finish(), self.last_t, None)

    def _answer(self, out: list[Event | Order], t: float, up: float | None) -> Iterator[Event]:
        for item in out:
            if isinstance(item, Event):
                yield item
            elif not self.acted:
                done = Outcome(t, up, item.id, "would", "replayed: nothing was done")
                yield from self._answer(self.engine.feed(done), t, up)


def main(argv: list[str]) -> int:
    """Run the command; its exit status."""
    parser = common.parser(
        "replay",
        "Run the true judge and the true policies over a recording. Nothing is done; what would "
        "have been done is told. A line that cannot be read is counted and told with its number, "
        "and the rest is read.",
        "oom-watchdog replay examples/leak.jsonl.gz",
    )
    parser.add_argument("trace", metavar="TRACE", help='JSON Lines, gzip or plain; "-": stdin')
    options = parser.parse_args(argv)
    rules = common.load_rules(options.config, shipped_defaults=True)
    lines = Lines(options.trace)
    replay = Replay(rules)
    told = 0
    try:
        for fact in facts(lines):
            for event in replay.feed(fact):
                told += 1
                _print(event, options.json)
        for event in replay.finish():
            told += 1
            _print(event, options.json)
    except OSError as error:
        return common.unreadable(options.trace, error)
    for line in lines.broken:
        print(line, file=sys.stderr)
    if lines.broken_count > len(lines.broken):
        print(f"{lines.name}: {lines.broken_count} lines in all could not be read", file=sys.stderr)
    if replay.first_t is None and told == 0 and lines.broken_count:
        print(f"{options.trace}: no line of a trace in it", file=sys.stderr)
        return 2
    for line in replay.engine.decider.unjudged():
        print(line, file=sys.stderr)
    if not options.json:
        span = words.duration(max(0.0, replay.last_t - (replay.first_t or 0.0)))
        print(
            f"{words.count(told, 'event')} in {words.count(replay.rows, 'row')} over {span}",
            file=sys.stderr,
        )
    return 0 if told else 1


def _print(event: Event, as_json: bool) -> None:
    flat = event.flat()
    print(json.dumps(flat) if as_json else terminal.line(flat, sys.stdout.isatty()))

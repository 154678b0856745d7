"""`oom-watchdog replay`: the true judge and the true policies over a recording."""

import contextlib
import errno
import gc
import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from watchdog import trace, words
from watchdog.cli import args as common
from watchdog.cli.replay_guard import ReplayGuard
from watchdog.engine import Engine, Out
from watchdog.facts import (
    PID,
    START,
    Event,
    Fact,
    Group,
    Host,
    Ident,
    KernelLine,
    Memfds,
    Order,
    Outcome,
    Row,
    Said,
    Sweep,
)
from watchdog.history import records
from watchdog.history.ring import LEVELS
from watchdog.policy import timers, view
from watchdog.policy.rules import Rules
from watchdog.store.entities import read_entities
from watchdog.store.events import open_reader
from watchdog.tell import terminal

BROKEN_SHOWN = 5
COARSEST_S = LEVELS[-1].bucket_s
# Who was there so long before the end of a store may be there still: it is written so often.
WRITTEN_S = 300.0


class Lines:
    """The lines of a trace, plain or gzip, counted; a torn end is told, not raised."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.number = 0
        self.broken: list[str] = []
        self.broken_count = 0

    def __iter__(self) -> Iterator[bytes]:
        with contextlib.ExitStack() as stack:
            raw: Any = sys.stdin.buffer
            if self.name != "-":
                raw = stack.enter_context(open(self.name, "rb"))
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            file = stack.enter_context(gzip.GzipFile(fileobj=raw)) if packed else raw
            try:
                for line in file:
                    self.number += 1
                    if line.strip():
                        yield line
            except (EOFError, zlib.error, gzip.BadGzipFile):
                self.complain("the compressed data end in the middle")

    def complain(self, what: str) -> None:
        """Count a line that could not be read; the first few are told by number."""
        self.broken_count += 1
        if len(self.broken) < BROKEN_SHOWN:
            self.broken.append(f"{self.name}: line {self.number}: {what}")


def fast_loads() -> Callable[[str | bytes], Any]:
    """orjson's reader where it is installed (the extra `fast`), else the standard library's.

    What orjson refuses (NaN, lone surrogates) is read again by the other: both give the same.
    """
    try:
        import orjson
    except ImportError:
        return json.loads

    def loads(text: str | bytes) -> Any:
        try:
            return orjson.loads(text)
        except ValueError:
            return json.loads(text)

    return loads


def facts(lines: Lines) -> Iterator[Fact | trace.Header]:
    """The facts that can be read; what cannot is counted in `lines`."""
    loads = fast_loads()
    for raw in lines:
        try:
            fact = trace.fact(raw, loads)
        except trace.TraceError as error:
            lines.complain(str(error))
            continue
        if fact is not None:
            yield fact


def kept(path: str, since: float | None) -> Iterator[Fact]:
    """The sizes that a store remembers of the latest boot, as facts in the order of time.

    They are bucket floors, and no limits are kept with them. What it keeps of the host is one
    reading a minute at the best, between which a shortage begins and ends: none is given here.
    Raises StoreError, and FileNotFoundError where there is no store.
    """
    rows: dict[tuple[float, float], list[Row]] = {}
    timed: list[tuple[float, Fact]] = []
    with contextlib.closing(open_reader(path)) as db:
        for record in read_entities(db):
            found = records.sizes(record)
            pid, _, start = record.key.partition(":")
            if pid != "unit" and not pid.isdigit():
                continue  # what no process owns: a recording tells it with the machine
            for t, up, kib in found.points if found else ():
                if found is None or (since is not None and t < since):
                    continue
                if pid == "unit":
                    group = Group(round(t, 3), up, found.unit, f"/{found.unit}", anon=kib << 10)
                    timed.append((up, group))
                elif pid.isdigit():  # not the shared and kernel memory of units (`part:…`)
                    row = (int(pid), int(start), found.comm, kib << 10, 0, None, found.unit, None)
                    rows.setdefault((up, round(t)), []).append(row)
    for (up, t), together in rows.items():
        timed.append((up, Sweep(t, up, tuple(sorted(together)), census=False)))
    timed.sort(key=lambda item: item[0])  # stable: a unit comes before its processes
    for _, fact in timed:
        yield fact


def step_s(age_s: float) -> float:
    """How far apart the points of a store are that lie `age_s` before its last one, in seconds."""
    reach = ((level.bucket_s, (level.slots - 2) * level.bucket_s) for level in LEVELS)
    return next((bucket_s for bucket_s, far in reach if age_s <= far), COARSEST_S)


class Replay:
    """Feeds an engine; answers its orders where the recording holds no outcomes of its own."""

    def __init__(self, rules: Rules, anew: bool = False) -> None:
        """`anew`: under other rules than those of the recording, so what was done then is no part
        of it.
        """
        self.rules = rules
        self.engine = Engine(rules, None)
        self.guard: ReplayGuard | None = ReplayGuard(self.engine, rules)
        self.anew = anew
        self.acted = False
        self.ends_up: float | None = None  # of a store: its last point
        self.leaving: list[tuple[float, Ident]] = []  # of a store: when who had gone
        self.rows = 0
        self.first_t: float | None = None
        self.last_t = 0.0

    def feed(self, fact: Fact | trace.Header) -> Iterator[Event]:
        """The events that follow from one fact."""
        if isinstance(fact, trace.Header):
            self.engine.host, self.acted = fact.host, fact.acted and not self.anew
            if self.acted:
                self.guard = None  # its word is in the recording
            return
        if self.anew and isinstance(fact, Outcome | Said):
            return
        if self.ends_up is not None and fact.up is not None:
            yield from self._answer(self._went(fact.t, fact.up), fact.t, fact.up)
            self._pace(self.ends_up, fact.up)
        if isinstance(fact, Sweep):
            self.rows += len(fact.rows)
        if not isinstance(fact, KernelLine):
            self.first_t = fact.t if self.first_t is None else self.first_t
            self.last_t = fact.t
        if isinstance(fact, Host) and fact.mem_available is not None and fact.mem_total:
            # Pressure can be judged from here on.
            self.engine.pressed = bool(self.engine.pressed)
        yield from self._answer(self.engine.feed(fact), fact.t, fact.up)
        if self.guard is not None and isinstance(fact, Host | Sweep | Memfds):
            for said in self.guard.take(fact):
                yield from self._answer(self.engine.feed(said), said.t, said.up)

    def remember(self, facts: Sequence[Fact]) -> None:
        """These are all that a store remembers: who comes no more is known from the start."""
        self.ends_up = ends_up = facts[-1].up if facts else None
        last = {
            (row[PID], row[START]): fact.up
            for fact in facts if isinstance(fact, Sweep) and fact.up is not None
            for row in fact.rows
        }  # fmt: skip
        if ends_up is not None:
            gone = {one: up for one, up in last.items() if ends_up - up > WRITTEN_S}
            leaving = ((up + step_s(ends_up - up), one) for one, up in gone.items())
            self.leaving = sorted(leaving, reverse=True)

    def _went(self, t: float, up: float) -> list[Out]:
        """Who was gone at that moment: no census of a store says so."""
        out: list[Out] = []
        while self.leaving and self.leaving[-1][0] < up:
            at, ident = self.leaving.pop()
            out += self.engine.went([ident], t - (up - at), at)
        return out

    def _pace(self, ends_up: float, up: float) -> None:
        """The points of a store are no further apart than they were at the one before this."""
        decider, engine = self.engine.decider, self.engine
        before = decider.ledger.now if decider.ledger.now is not None else up
        apart_s = step_s(ends_up - before)
        decider.timers.gap_s = timers.gap_s(apart_s)
        engine.unseen_s = view.unseen_s(apart_s)

    def run(self, source: Iterable[Fact | trace.Header]) -> Iterator[Event]:
        """All events of a recording, the last report in it included."""
        for fact in source:
            yield from self.feed(fact)
        yield from self._answer(self.engine.finish(), self.last_t, None)

    def days(self) -> bool:
        """Has it come to another day than it began on? A time of day alone would not tell."""
        if self.first_t is None:
            return False
        first, last = (terminal.stamp({"t": t}, True)[:10] for t in (self.first_t, self.last_t))
        return first != last

    def unjudged(self) -> list[str]:
        """What could not be judged from it, and for want of what."""
        guard = self.guard.unjudged() if self.guard and self.first_t is not None else None
        return [*self.engine.decider.timers.unjudged(), *([guard] if guard else [])]

    def _answer(self, out: list[Out], t: float, up: float | None) -> Iterator[Event]:
        for item in out:
            if isinstance(item, Event):
                yield item
            elif isinstance(item, Order) and not self.acted:
                done = Outcome(t, up, item.id, "would", "replayed: nothing was done")
                yield from self._answer(self.engine.feed(done), t, up)


def main(argv: list[str]) -> int:
    """Run the command; its exit status."""
    return common.quietly(_main, argv)


def _main(argv: list[str]) -> int:
    parser = common.parser(
        "replay",
        "Run the true judge, the true policies and the true guard over a recording. Nothing is "
        "done; what would have been done is told, when and why. With --config under other rules: "
        "what was done while it was recorded is left out. A line that cannot be read is counted "
        "and told with its number, and the rest is read. A store (--state) keeps sizes and not "
        "the machine's own memory at each moment: it says nothing of the guard.",
        "oom-watchdog replay examples/leak.jsonl.gz",
    )
    parser.add_argument(
        "trace", metavar="TRACE", nargs="?", help='JSON Lines, gzip or plain; "-": stdin'
    )
    parser.add_argument(
        "--since", metavar="TIME", type=common.when, help="with --state: only from then on"
    )
    options = parser.parse_args(argv)
    if (options.trace is None) == (options.state is None):
        parser.error("expected a TRACE, or --state DIR for what a daemon's store remembers")
    if options.trace is not None and options.since is not None:
        parser.error("--since goes with --state: a TRACE is read as a whole")
    rules = common.load_rules(options.config, shipped_defaults=True)
    # A recording makes a thousand lists a line and no cycles: a pass over all of them is dear.
    gc.set_threshold(100_000, 50, 50)
    replay = Replay(rules, anew=options.config is not None)
    lines = Lines(options.trace or "")
    told, color = 0, terminal.colors(sys.stdout)
    try:
        source: Iterable[Fact | trace.Header] = facts(lines)
        if options.trace is None:
            with common.history(options.state) as path:
                source = remembered = list(kept(path, options.since))
            replay.remember(remembered)
        for event in replay.run(source):
            told += 1
            days = options.trace is None or replay.days()
            _print(event, options.json, color, days)
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT):
            raise  # of our output, not of the trace
        return common.unreadable(options.trace or '""', error)
    return _sum_up(replay, lines, told, options.json)


def _sum_up(replay: Replay, lines: Lines, told: int, as_json: bool) -> int:
    for line in lines.broken:
        print(line, file=sys.stderr)
    if lines.broken_count > len(lines.broken):
        print(f"{lines.name}: {lines.broken_count} lines in all could not be read", file=sys.stderr)
    if replay.first_t is None and told == 0 and lines.broken_count:
        print(f"{lines.name}: no line of a trace in it", file=sys.stderr)
        return common.USAGE
    for line in replay.unjudged():
        print(line, file=sys.stderr)
    if not as_json:
        span = words.duration(max(0.0, replay.last_t - (replay.first_t or 0.0)))
        print(
            f"{words.count(told, 'event')} in {words.count(replay.rows, 'row')} over {span}",
            file=sys.stderr,
        )
    return 0 if told else common.NOTHING


def _print(event: Event, as_json: bool, color: bool, date: bool) -> None:
    flat = event.flat()
    if as_json:
        print(json.dumps(flat))
        return
    print(terminal.line(flat, color, date, stored=False))
    for reason in event.because:
        print(f"         {words.safe(reason)}")

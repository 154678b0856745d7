"""The traces of real programs, judged again by the daemon's own engine; and the table of it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from watchdog.cli.replay import Lines, Replay, facts
from watchdog.facts import Event
from watchdog.policy.rules import default_rules

TRACES = Path(__file__).parents[2] / "tests/traces"
INDEX = TRACES / "INDEX.tsv"
LATE = 0.95  # a confirmation after this part of a leak's time helps nobody


class Told(NamedTuple):
    """What is true of one trace.

    ``limit`` in MiB, ``seconds`` from its start to its end, ``end`` is "oom kill", "exit STATUS" or
    "stopped". ``known_wrong`` is empty, or the verdict that the judge gives today and should not.
    """

    name: str
    leak: bool
    runtime: str
    limit: int
    seconds: int
    end: str
    known_wrong: str
    what: str


class Judged(NamedTuple):
    """``verdict`` is "confirmed", "late" or "not confirmed"; ``at`` seconds from the start."""

    verdict: str
    at: float | None
    first: Event | None
    suspected: bool


def index(path: Path = INDEX) -> list[Told]:
    """The table of the truth; empty where there is none yet."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text("utf-8").splitlines()[1:]:
        name, kind, runtime, limit, seconds, end, wrong, what = line.split("\t")
        found.append(
            Told(name, kind == "leak", runtime, int(limit), int(seconds), end, wrong, what)
        )
    return found


def write_index(rows: Iterable[Told], path: Path = INDEX) -> None:
    """Leaks first, each by name."""
    lines = ["\t".join(("name", "truth", "runtime", "limit_mib", *Told._fields[4:]))]
    for told in sorted(rows, key=lambda one: (not one.leak, one.name)):
        kind = "leak" if told.leak else "benign"
        lines.append("\t".join((told.name, kind, *map(str, told[2:]))))
    path.write_text("\n".join(lines) + "\n", "utf-8")


def judge(told: Told) -> Judged:
    """What the judge says of one trace."""
    replay = Replay(default_rules())
    lines = Lines(str(TRACES / f"{told.name}.jsonl.gz"))
    first, suspected = None, False
    for event in replay.run(facts(lines)):
        suspected = suspected or event.kind == "leak.suspected"
        if event.kind == "leak.confirmed" and first is None:
            first = event
    if lines.broken_count:
        raise ValueError(f"{lines.name}: {lines.broken_count} lines could not be read")
    if first is None:
        return Judged("not confirmed", None, None, suspected)
    at = first.t - (replay.first_t or 0.0)
    late = told.leak and at > LATE * told.seconds
    return Judged("late" if late else "confirmed", at, first, suspected)


def right(told: Told, said: Judged) -> bool:
    """A leak is confirmed in time, and nothing else ever."""
    return said.verdict == ("confirmed" if told.leak else "not confirmed")


def table(rows: Sequence[tuple[Told, Judged]]) -> str:
    """As Markdown."""
    head = ("program", "runtime", "limit", "time", "end", "verdict", "delay", "reason")
    lines = []
    for leak in (True, False):
        those = [(told, said) for told, said in rows if told.leak is leak]
        good = sum(right(told, said) for told, said in those)
        what = "leaks, found" if leak else "well-behaved, not called leaks"
        lines.append(f"{len(those)} {what}: {good}.\n")
        lines.append("| " + " | ".join(head) + " |")
        lines.append("| --- | --- | ---: | ---: | --- | --- | ---: | --- |")
        lines += ["| " + " | ".join(_cells(told, said)) + " |" for told, said in those] + [""]
    return "\n".join(lines).strip()


def _cells(told: Told, said: Judged) -> Sequence[str]:
    verdict = said.verdict
    if said.first is not None and said.first.body["scope"] == "unit":
        verdict += " (unit)"
    if not right(told, said):
        verdict = f"**{verdict}**"
    delay = f"{said.at / told.seconds:.2f}" if told.leak and said.at is not None else ""
    reason = "; ".join(said.first.because) if said.first else "suspected" if said.suspected else ""
    name = f"{told.name}: {told.what}"
    return (name, told.runtime, f"{told.limit} MiB", f"{told.seconds} s", told.end, verdict, delay,
            reason.replace("|", "\\|"))  # fmt: skip

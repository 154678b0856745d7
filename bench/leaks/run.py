"""How well leaks are told from growth: `./dev bench leaks [--seeds N] [--tune] [--holdout] …`.

Makes the suite from its seeds, shows it to the daemon's own judge and to the detectors that others
run or have published, and prints the tables. `--write` puts them into docs/leaks.md and draws
docs/leaks.svg. Nothing is read from the machine; the same seeds give the same tables everywhere.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.leaks import holdout, kinds, others, ours, tables, training
from bench.leaks.score import Forecast, Outcome, outcome
from bench.leaks.series import REPORTING, TUNING, Kind, Series, make, thinned

DOCS = Path(__file__).parents[2] / "docs"
# The limit that a detector is told, as a multiple of the true one; and the same, gaps and all.
CONDITIONS = ("plain", "limit x4", "missing")
SUSPECTS = "ours_suspected"
# For the coverage of the interval, and the reliability, our judge alone sees more seeds.
MORE = 24


class Task(NamedTuple):
    """One series; `which` is its set of seeds. `alone`: only our judge, as it is."""

    kind: Kind
    which: str
    number: int
    alone: bool
    baselines: bool


class Result(NamedTuple):
    task: Task
    outcomes: dict[str, dict[str, Outcome]]  # by condition, by detector
    forecast: Forecast | None
    alarms: list[float]


def work(task: Task) -> Result:
    """One series under every condition, by every detector."""
    series = make(task.kind, task.which, task.number)
    said = ours.judge(series)
    outcomes = {"plain": _ours(series, said)}
    if not task.alone:
        gaps = thinned(series)
        outcomes["limit x4"] = _ours(series, ours.judge(series, 4.0))
        outcomes["missing"] = _ours(gaps, ours.judge(gaps))
        if task.baselines:
            plain, wrong = others.scan(series, (1.0, 4.0))
            (thin,) = others.scan(gaps, (1.0,))
            for condition, found in zip(CONDITIONS, (plain, wrong, thin), strict=True):
                for name, alarms in found.items():
                    outcomes[condition][name] = outcome(series, alarms)
    return Result(task, outcomes, forecast(series, said), [one.t for one in said.confirmed])


def _ours(series: Series, said: ours.Said) -> dict[str, Outcome]:
    return {
        "ours": outcome(series, [one.t for one in said.confirmed]),
        SUSPECTS: outcome(series, said.suspected),
    }


def forecast(series: Series, said: ours.Said) -> Forecast | None:
    """What the first alarm said of the end, and the end."""
    if not said.confirmed:
        return None
    first = said.confirmed[0]
    real = series.ends_s is not None and first.t >= series.onset_s
    truth = (series.ends_s or 0.0) - first.t if real else None
    return Forecast(series.kind.code, first, truth)


def plan(chosen: Sequence[Kind], which: str, seeds: int, more: int, baselines: bool) -> list[Task]:
    out = [Task(kind, which, i, False, baselines) for kind in chosen for i in range(seeds)]
    out += [Task(kind, which, i, True, False) for kind in chosen for i in range(seeds, more)]
    return out


def carry_out(tasks: Sequence[Task], jobs: int) -> list[Result]:
    """All tasks, on so many processors; in the order of the tasks."""
    if jobs == 1:
        return [work(task) for task in tasks]
    # Kinds are looked up by their code, as functions made on the fly do not travel.
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        return list(pool.imap(work, tasks, chunksize=4))


def misses(results: Iterable[Result]) -> list[str]:
    """A line for each series that our judge got wrong."""
    lines = []
    for result in results:
        task = result.task
        for condition, by_name in result.outcomes.items():
            one = by_name["ours"]
            if one.false or (one.leak and not one.found):
                times = " ".join(f"{t / 3600:.1f}" for t in result.alarms[:6])
                lines.append(
                    f"{'false' if one.false else 'missed'} {condition}: "
                    f"{task.which}:{task.kind.code}:{task.number} alarms at h: {times or '-'}"
                )
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(prog="./dev bench leaks", description=__doc__)
    options.add_argument("--seeds", type=int, default=12, metavar="N", help="a kind (12)")
    options.add_argument("--more", type=int, default=None, metavar="N",
                         help="seeds a kind for interval and confidence (24)")  # fmt: skip
    options.add_argument("--tune", action="store_true", help="the seeds to tune on")
    options.add_argument("--set", default=None, metavar="NAME", help="any other set of seeds")
    options.add_argument("--holdout", action="store_true", help="the kinds nothing was tuned on")
    options.add_argument("--training", action="store_true", help="more kinds that are tuned on")
    options.add_argument("--kinds", default="", metavar="CODES", help="only these: L01,B15")
    options.add_argument("--ours", action="store_true", help="without the other detectors")
    options.add_argument("--misses", action="store_true", help="list what our judge got wrong")
    options.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    options.add_argument("--write", action="store_true", help="into docs/leaks.md and .svg")
    options.add_argument("--fit", action="store_true", help="the confidence's weights, fitted anew")
    args = options.parse_args(argv)
    which = args.set or (TUNING if args.tune else REPORTING)
    pool: tuple[Kind, ...] = holdout.KINDS if args.holdout else kinds.KINDS
    if args.training:
        pool = training.KINDS
    everything = kinds.KINDS + holdout.KINDS + training.KINDS
    codes = {code for code in args.kinds.split(",") if code}
    unknown = codes - {kind.code for kind in everything}
    if unknown:
        options.error(f"no such kind: {', '.join(sorted(unknown))}")
    if codes:
        pool = tuple(kind for kind in everything if kind.code in codes)
    if args.seeds < 1 or args.jobs < 1:
        options.error("at least one seed and one job")
    if args.fit:
        from bench.leaks import fit

        print(fit.report(args.seeds, args.jobs))
        return 0
    more = MORE if args.more is None else args.more
    begun = time.monotonic()
    results = carry_out(plan(pool, which, args.seeds, more, not args.ours), args.jobs)
    text = tables.render(results, pool, args.seeds, which)
    print(text)
    if args.misses:
        print("\n".join(misses(results)))
    if args.write:
        from bench.leaks import picture

        name = "holdout" if args.holdout else "suite"
        tables.write(DOCS / "leaks.md", name, text)
        if not args.holdout:
            (DOCS / "leaks.svg").write_text(picture.draw(pool, which), "utf-8")
    print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

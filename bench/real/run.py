"""How real programs are judged: `./dev bench real [--record [NAME…]] [--minutes N] [--write]`.

Without `--record` the traces in tests/traces are judged again by the daemon's own judge, and the
table is printed; `--write` puts it into docs/leaks.md. With it the programs are run side by side,
each in a unit of its own with its own limit, under `oom-watchdog run --record`, and the traces are
made anew. That needs root, a memory hierarchy of cgroup v1, and what the programs need (gcc, node,
java, go, ruby, perl, redis-server, memcached, PostgreSQL); who lacks it is left out, and said.
"""

import argparse
import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.real import stage
from bench.real.cut import cut
from bench.real.judged import TRACES, Told, index, judge, table, write_index
from bench.real.programs import PROGRAMS, Program, missing

ROOT = Path(__file__).parents[2]
WORK = Path("/var/tmp/oomw-real")
AFTER_S = 12.0  # what is recorded beyond an end: the census that misses the program
CONFIG = """
[watch]
interval = "{interval}s"
[guard]
mode = "off"
"""


def record(programs: Sequence[Program], minutes: float, interval: float, suffix: str) -> list[Told]:
    """Run them under the daemon, and cut its recording into one trace a program."""
    place = stage.build(WORK, programs)._replace(seconds=minutes * 60 * 0.8)
    config, whole = WORK / "config.toml", WORK / "whole.jsonl"
    config.write_text(CONFIG.format(interval=interval), "utf-8")
    daemon = subprocess.Popen(
        [str(ROOT / ".venv/bin/oom-watchdog"), "run", "--config", str(config),
         "--state", str(WORK / "state"), "--record", str(whole), "--json"],
        stdout=(WORK / "events.jsonl").open("wb"),
    )  # fmt: skip
    ends: dict[str, stage.End] = {}
    running: list[stage.Running] = []
    with stage.slices():
        try:
            time.sleep(3)
            for program in programs:
                running.append(stage.start(program, place, WORK / f"{program.name}.log"))
                time.sleep(0.3)
            last = time.time() + minutes * 60
            while time.time() < last and len(ends) < len(running):
                _note(running, ends)
                time.sleep(0.5)
            for one in running:
                ends.setdefault(one.program.name, stage.End("stopped", time.time()))
            time.sleep(1)
        finally:
            for one in running:
                stage.stop(one, place)
            time.sleep(AFTER_S)
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()
    told = []
    for one in running:
        told.append(_trace(one, ends[one.program.name], whole, suffix))
        print(f"{one.program.name}: {ends[one.program.name].how}", file=sys.stderr)
    return told


def _note(running: Sequence[stage.Running], ends: dict[str, stage.End]) -> None:
    for one in running:
        if one.program.name not in ends:
            end = stage.ended(one)
            if end is not None:
                ends[one.program.name] = end


def _trace(one: stage.Running, end: stage.End, whole: Path, suffix: str) -> Told:
    program = one.program
    cgroup = f"/{stage.SLICE}/{stage.unit(program)}"
    after = AFTER_S if end.how != "stopped" else 0.0
    TRACES.mkdir(exist_ok=True)
    name = program.name + suffix
    path = TRACES / f"{name}.jsonl.gz"
    # without a time and a name in it the same lines give the same file
    with (
        whole.open(encoding="ascii") as lines, path.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, mtime=0) as file,
    ):  # fmt: skip
        for line in cut(lines, cgroup, one.begun_t, end.t + after):
            file.write(line.encode() + b"\n")
    return Told(name, program.leak, program.runtime, program.limit,
                round(end.t - one.begun_t), end.how, "", program.what)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(prog="./dev bench real", description=__doc__)
    options.add_argument("--record", nargs="*", metavar="NAME", help="make traces anew (of these)")
    options.add_argument("--minutes", type=float, default=6.0, help="how long they run (6)")
    options.add_argument("--interval", type=float, default=1.0, help="seconds a sample (1)")
    options.add_argument("--as", dest="suffix", default="", metavar="SUFFIX",
                         help="of the traces' names, beside those that are there")  # fmt: skip
    options.add_argument("--write", action="store_true", help="the table into docs/leaks.md")
    args = options.parse_args(argv)
    if args.record is not None:
        unknown = set(args.record) - {program.name for program in PROGRAMS}
        if unknown:
            options.error(f"no such program: {', '.join(sorted(unknown))}")
        if os.geteuid() != 0:
            options.error("--record needs root: it makes cgroups with limits")
        chosen = [one for one in PROGRAMS if not args.record or one.name in args.record]
        for program in [one for one in chosen if missing(one)]:
            print(f"{program.name}: left out, no {', '.join(missing(program))}", file=sys.stderr)
            chosen.remove(program)
        fresh = record(chosen, args.minutes, args.interval, args.suffix)
        before = {told.name: told for told in index()}
        for told in fresh:
            wrong = before[told.name].known_wrong if told.name in before else ""
            before[told.name] = told._replace(known_wrong=wrong)
        write_index(before.values())
    judged = [(told, judge(told)) for told in index()]
    text = table(judged)
    print(text)
    if args.write:
        from bench.leaks.tables import write

        write(ROOT / "docs/leaks.md", "real", text, "bench real")
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Damage kernel logs and read them: no exception, no slow line, bounded memory, no invented PID.

    bench/fuzz_oom.py [--for SECONDS] [--seed N]

Takes the recorded and the written reports of tests/fixtures, splices, drops, doubles, cuts, flips
and repeats, puts prefixes before lines, and feeds the result to the assembler. Prints what it did;
exit status 1 when a law was broken, with the seed and the round that broke it.
"""

import argparse
import gc
import random
import re
import resource
import sys
import time
import tracemalloc
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from watchdog.facts import KernelLine  # noqa: E402
from watchdog.oom_report import lines  # noqa: E402
from watchdog.oom_report.assemble import Assembler, Report  # noqa: E402

SLOW_S = 0.25  # of processor time, for one line of whatever length
GROWTH_KIB = 64 << 10
LINES_MAX = 400  # of one text
LINE_MAX = 64 << 10  # as `explain` cuts them
TEXT_MAX = 4 << 20
TRACED_EVERY = 400  # texts; of these what the reading allocates is counted
ALLOCATED_MAX = 24 << 20

PREFIXES = (
    "", "", "", "[  123.456789] ", "[  123.456789][ T12] ", "<4>", "> ", ">> ", "| ", "+", "**",
    "kern  :warn  : ", "Nov 23 05:31:08 host kernel: ", "Nov 23 05:31:08 host app[1]: ",
    "2026-11-23T05:31:08.123456+01:00 host kernel: ", "[Mon Nov 23 05:31:08 2026] ", "\t", "   7\t",
    "6,1,2,-;", "6,1,2,c;", "12,1,2,-;", "6,1,2,-,caller=T7;", '{"MESSAGE":"', "    MESSAGE=",
    "MESSAGE=", "__CURSOR=", '   "MESSAGE" : "', '"', "\x1b[33m", "&gt; ", "<pre>", "data: {", "{",
)  # fmt: skip
ENDS = ("", "", "", "", "\r", "=", " |", "**", '"}', '",', "<br>", "   ", "\\", "{", "}")
ODD = (
    "\x00", "\x1b[31m", "\udcff", "é", "#012", "\\x0a", "=3D", "=\n", "&lt;", '"', "'", "(", ")",
    "[", "]", "{", "}", ",", ",task=", ",pid=1", ",oom_memcg=/", ") total-vm:1kB", "\n", " " * 40,
    "9" * 40, "invoked oom-killer: ", "Killed process ", "oom-kill:constraint=",
)  # fmt: skip


class BrokenError(Exception):
    """A law does not hold."""


def texts() -> list[list[str]]:
    """The reports to damage, as lines of text and as records."""
    recorded = sorted((ROOT / "tests" / "fixtures" / "kmsg").glob("*.kmsg"))
    found = [path.read_text("utf-8", "surrogateescape").splitlines() for path in recorded]
    for path in sorted((ROOT / "tests" / "fixtures" / "oom_eras").glob("*.txt")):
        made = [line.partition(" ")[2] for line in path.read_text("utf-8").splitlines()]
        found.append([f"4,{n},{n * 9},-;{text}" for n, text in enumerate(made)])
        found.append("\n".join(lines.unescape(text) for text in made).split("\n"))
    return found


def damaged(chance: random.Random, sources: list[list[str]]) -> list[str]:
    """One text, made of some."""
    made: list[str] = []
    for _ in range(chance.choice((1, 1, 2, 3))):
        source = chance.choice(sources)
        start = chance.randrange(len(source)) if chance.random() < 0.5 else 0
        piece = source[start : start + chance.randrange(1, len(source) + 1)]
        at = chance.randrange(len(made) + 1) if chance.random() < 0.5 else len(made)
        made[at:at] = piece
    if chance.random() < 0.3:
        lead, end = chance.choice(PREFIXES), chance.choice(ENDS)
        made = [lead + line + end for line in made]
    for _ in range(chance.randrange(12)):
        if made:
            _hit(chance, made)
    kept, size = [], 0
    for line in made[:LINES_MAX]:
        kept.append(line[:LINE_MAX])
        size += len(kept[-1])
        if size > TEXT_MAX:
            break
    return kept


def _hit(chance: random.Random, made: list[str]) -> None:
    at = chance.randrange(len(made))
    line = made[at]
    kind = chance.randrange(12)
    if kind == 0:
        del made[at]
    elif kind == 1:
        made.insert(chance.randrange(len(made) + 1), line)
    elif kind == 2:
        cut = chance.randrange(len(line) + 1)
        made[at : at + 1] = [line[:cut], line[cut:]]
    elif kind == 3:
        made[at] = line[: chance.randrange(len(line) + 1)]
    elif kind == 4:
        made[at] = line[chance.randrange(len(line) + 1) :]
    elif kind == 5 and line:
        where = chance.randrange(len(line))
        flipped = chr(ord(line[where]) ^ (1 << chance.randrange(7)))
        made[at] = line[:where] + flipped + line[where + 1 :]
    elif kind == 6:
        where = chance.randrange(len(line) + 1)
        made[at] = line[:where] + chance.choice(ODD) + line[where:]
    elif kind == 7:
        made[at] = chance.choice(PREFIXES) + line
    elif kind == 8:
        made[at] = line + chance.choice(ENDS)
    elif kind == 9:
        other = chance.choice(made)
        cut = chance.randrange(len(line) + 1)
        made[at] = line[:cut] + other[chance.randrange(len(other) + 1) :]
    elif kind == 10 and chance.random() < 0.1:
        piece = line + chance.choice(ODD)
        times = min(chance.choice((10, 300, 3000)), LINE_MAX // len(piece) + 1)
        made[at] = (piece * times)[:LINE_MAX]  # the fuzzer itself must not need memory either
    elif kind == 11:
        chance.shuffle(made)


def pids(found: list[Report]) -> set[int]:
    """Every PID that a report names as dead, chosen or asking."""
    named = set()
    for report in found:
        named |= {one.pid for one in report.also_killed}
        if report.victim is not None:
            named.add(report.victim.pid)
        if report.selected is not None:
            named.add(report.selected[0])
        if report.pinned_by is not None:
            named.add(report.pinned_by[0])
    return named


def read(made: list[str]) -> tuple[list[Report], float]:
    """The reports, and the longest that one line took."""
    assembler, found, slowest = Assembler(), [], 0.0
    for number, line in enumerate(made):
        start = time.thread_time()
        found += assembler.feed(KernelLine(float(number), None, line))
        slowest = max(slowest, time.thread_time() - start)
    found += assembler.flush()
    if not assembler.idle:
        raise BrokenError("something is held back after the end")
    if assembler.unread < len(assembler.unread_at) or len(assembler.forged()) > 64:
        raise BrokenError("a count is wrong")
    return found, slowest


def judge(made: list[str], found: list[Report], slowest: float) -> None:
    """Raises BrokenError where a law does not hold."""
    # what a wrap, a colour or a quotation put into a number is taken out again
    text = re.sub(r"\x1b\[[0-9;]*m|[^0-9]", "", "\n".join(made))
    for pid in pids(found):
        if str(pid) not in text:
            raise BrokenError(f"PID {pid} does not stand in the text")
    for report in found:
        shown = [report.cgroup, report.task_cgroup, report.group, report.panic, report.cpuset]
        shown += [row.name for row in report.rows] + [one.comm for one in report.also_killed]
        shown.append(report.victim.comm if report.victim is not None else None)
        if any(one is not None and not one.isprintable() for one in shown):
            raise BrokenError("text that is not safe to print")
        if report.complete != (not report.missing) or report.lines[0] > report.lines[1]:
            raise BrokenError(f"a report contradicts itself: {report.missing} {report.lines}")
        if (report.outcome == "killed") != (report.victim is not None):
            raise BrokenError("killed without a victim")
    if slowest > SLOW_S:
        raise BrokenError(f"one line took {slowest:.2f} s")


def rounds(seed: int, seconds: float, most: int | None = None) -> tuple[int, int, int, float]:
    """(rounds, lines, reports, slowest line in s) of so long, or of so many rounds."""
    sources = texts()
    count = read_lines = reports = 0
    slowest = 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end and (most is None or count < most):
        chance = random.Random(f"{seed}.{count}")
        made = damaged(chance, sources)
        try:
            traced = count % TRACED_EVERY == TRACED_EVERY - 1
            if traced:
                tracemalloc.start()
            found, took = read(made)
            if traced:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                if peak > ALLOCATED_MAX:
                    raise BrokenError(f"{peak >> 20} MiB were allocated")
                took = 0.0  # tracing is slow
            judge(made, found, took)
        except Exception as error:
            raise BrokenError(f"seed {seed}, round {count}: {error!r}") from error
        count += 1
        read_lines += len(made)
        reports += len(found)
        slowest = max(slowest, took)
    return count, read_lines, reports, slowest


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--for", dest="seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    rounds(options.seed, 5.0)  # warm: what is allocated once is not growth
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        count, read_lines, reports, slowest = rounds(options.seed, options.seconds)
    except BrokenError as error:
        print(error)
        return 1
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(
        f"{count:,} texts, {read_lines:,} lines, {reports:,} reports in {options.seconds:.0f} s "
        f"(seed {options.seed}): no exception; slowest line {slowest * 1000:.1f} ms; "
        f"resident memory grew by {growth / 1024:.1f} MiB"
    )
    return 0 if growth < GROWTH_KIB else 1


if __name__ == "__main__":
    sys.exit(main())

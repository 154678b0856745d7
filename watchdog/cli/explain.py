"""`oom-watchdog explain`: the OOM reports of a kernel log, explained."""

import argparse
import datetime
import json
import os
import select
import stat
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

from watchdog import words
from watchdog.cli import args as common
from watchdog.cli import explain_past, explain_read, explain_sum, explain_view
from watchdog.facts import Event, KernelLine
from watchdog.judge.diagnosis import identity, oom_kill_event
from watchdog.judge.past import NOTHING
from watchdog.oom_report.assemble import Assembler, Report
from watchdog.oom_report.stream import MARKS
from watchdog.sense.kernel_log import KernelLog, KernelLogError

SCREENS_MAX = 20
SILENT_S = 2.0
JOURNAL_FILE = b"LPKSHHRH"
_MARKS = tuple(mark.encode() for mark in MARKS)


class UnreadableError(Exception):
    """Input that is no text; the message is one line."""


class Found(NamedTuple):
    """A report and its event."""

    report: Report
    event: Event


def main(argv: list[str]) -> int:
    """Run the command; its exit status."""
    return common.quietly(_main, argv)


def _parser() -> argparse.ArgumentParser:
    found = common.parser(
        "explain",
        "Explain the OOM reports in a kernel log: who was killed, by which limit, why, and what to "
        "do. Any text, packed too; without FILE what comes in by < or |, else this machine's own "
        "log. Exit status: 0 found, 1 no report, 2 unreadable.",
        "oom-watchdog explain < dmesg.txt",
    )
    add = found.add_argument
    add("files", metavar="FILE", nargs="*", help='a log; "-" is standard input')
    add("--last", action="store_true", help="the latest report alone")
    add("--boot", metavar="N", help="of this boot in the journal: 0, -1, … or its id")
    add("--since", metavar="T", type=common.when, help='"10min" ago, "2026-11-01 08:00", "@UNIX"')
    add("--directory", metavar="DIR", help="of the journal files in this folder")
    add("--full", action="store_true", help="at full length: zones, statistics, all tasks")
    return found


def _main(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    if options.files and (options.boot is not None or options.directory):
        common.complain("--boot and --directory read the journal; they take no FILE")
        return common.USAGE
    reader = _Reader()
    try:
        stored = explain_past.load(options.state)
        files = options.files
        if not files and options.boot is None and not options.directory and _piped():
            files = ["-"]
        for name in files:
            reader.file(name)
        if not files:
            reader.machine(options.boot, options.directory)
    except UnreadableError as error:
        common.complain(str(error))
        return common.USAGE
    except OSError as error:
        return common.unreadable(str(error.filename or "input"), error)
    found = _wanted(reader.judged(stored), options.since, options.last)
    _show(found, options.json, options.full)
    if not found:
        of = reader.source if len(files) < 2 else words.count(len(files), "file")
        common.complain(f"no OOM report in {words.count(reader.lines, 'line')} of {of}")
        return common.NOTHING
    return 0


def _wanted(found: list[Found], since: float | None, last: bool) -> list[Found]:
    if since is not None:
        if any(one.event.t <= 0 for one in found):
            common.complain("--since: reports without a full date are shown as well")
        found = [one for one in found if one.event.t <= 0 or one.event.t >= since]
    return found[-1:] if last else found


def _show(found: list[Found], as_json: bool, full: bool) -> None:
    if as_json:
        for one in found:
            told = one.event.flat()
            print(json.dumps(told | {"t": told["t"] or None}))
        return
    pairs: list[tuple[Report, Event]] = [(one.report, one.event) for one in found]
    count = len(found)
    if count > SCREENS_MAX and not full:
        for line in explain_sum.runs(pairs):
            print(line)
        print("\n(--full shows each, --last the latest)")
    else:
        for number, one in enumerate(found, 1):
            print(explain_view.screen(*one, number, count, full) + "\n")
    if count > 1:
        print(explain_sum.summed(pairs))


class _Reader:
    """Reads one source after the other; the same report seen twice is one."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.ours = False  # read from this machine's own log
        self.lines = 0
        self.source = ""
        self._seen: set[tuple[object, ...]] = set()
        self._refused: set[str] = set()

    # -- text -------------------------------------------------------------------------------------

    def file(self, name: str) -> None:
        """A file of text, packed or not; "-" is standard input."""
        self.source = "standard input" if name == "-" else name
        assembler = Assembler()
        order, before = explain_read.Newest(), len(self.reports)
        raw: IO[bytes] = sys.stdin.buffer if name == "-" else open(name, "rb")  # noqa: SIM115
        try:
            if raw.peek(8)[:8] == JOURNAL_FILE:  # type: ignore[attr-defined]
                raise UnreadableError(f"{name}: a journal file; use --directory with its folder")
            for number, block in enumerate(explain_read.blocks(explain_read.opened(raw), name)):
                if number == 0 and explain_read.binary(block):
                    raise UnreadableError(f"{self.source}: binary data, not a log")
                self._block(block, assembler, order)
        except (*explain_read.BROKEN, zlib.error):
            common.complain(f"{self.source}: the compressed data end in the middle")
        finally:
            if name != "-":
                raw.close()
        if order.first:
            self.lines += assembler.number
            del self.reports[before:]
            self._seen = {key for key in map(_key, self.reports) if key is not None}
            assembler = Assembler()
            for line in order.turned():
                self._take(assembler.feed(KernelLine(0.0, None, line)))
            assembler.number = 0
        self._finish(assembler)

    def _block(self, block: bytes, assembler: Assembler, order: explain_read.Newest) -> None:
        """Whole lines. Most of a log has nothing to do with memory and is passed over unread."""
        matters = not assembler.idle or any(mark in block for mark in _MARKS)
        order.block(block, matters)
        if not matters:
            assembler.skip(block.count(b"\n"))
            return
        for line in block.removesuffix(b"\n").split(b"\n"):
            text = line.decode("utf-8", "surrogateescape")
            self._take(assembler.feed(KernelLine(0.0, None, text)))

    # -- this machine -----------------------------------------------------------------------------

    def machine(self, boot: str | None, directory: str | None) -> None:
        """The ring of the kernel, else the journal."""
        if boot is None and directory is None:
            try:
                return self._kmsg()
            except KernelLogError as error:
                try:
                    self._journal("current", None)
                except UnreadableError as other:
                    raise UnreadableError(f"{error}; {other}") from None
                return common.complain(f"{error}; read the journal instead")
        return self._journal(boot, directory)

    def _kmsg(self) -> None:
        self.source = "the kernel log"
        self.ours = True
        log = KernelLog(after_seq=-1)
        wall, kernel = time.time(), time.clock_gettime(time.CLOCK_MONOTONIC)
        assembler = Assembler()
        boot = _boot_id()
        try:
            while records := log.read():
                for record in records:
                    # near enough for a person: printk's clock stands still in suspend
                    t = round(wall - kernel + record.usec / 1e6, 3)
                    line = KernelLine(t, record.usec / 1e6, record.line, boot)
                    self._take(assembler.feed(line))
        finally:
            log.close()
        self._finish(assembler)

    def _journal(self, boot: str | None, directory: str | None) -> None:
        self.source = "the journal"
        self.ours = directory is None
        argv = _program() + (["--boot", boot] if boot is not None else [])
        argv += ["--directory", os.path.abspath(directory)] if directory else []
        assembler = Assembler()
        done = subprocess.run(argv, capture_output=True, check=False)
        for raw in done.stdout.splitlines():
            entry = json.loads(raw)
            if "line" not in entry:
                continue
            usec = entry["usec"]
            up = None if usec is None else usec / 1e6
            line = KernelLine(entry["t"], up, entry["line"], entry["boot_id"])
            self._take(assembler.feed(line))
        if done.returncode not in (0, 1):
            said = words.name(done.stderr.strip().split(b"\n")[-1])
            raise UnreadableError(said or "the journal cannot be read")
        self._finish(assembler)

    # -- reports ----------------------------------------------------------------------------------

    def _finish(self, assembler: Assembler) -> None:
        self._take(assembler.flush())
        self.lines += assembler.number
        if assembler.unread:
            where = ", ".join(str(number) for number in assembler.unread_at[:5])
            common.complain(
                f"{self.source}: {words.count(assembler.unread, 'kill line')} could not be read "
                f"(line {where})"
            )
        refused = Counter(one.text for one in assembler.forged())  # whoever forges does it again
        for text in [one for one in refused if one not in self._refused][:5]:
            shown = text if len(text) <= 120 else text[:119] + "…"
            again = f" ({refused[text]} times)" if refused[text] > 1 else ""
            common.complain(f"{self.source}: not the kernel's own, refused: {shown}{again}")
        self._refused |= refused.keys()

    def _take(self, reports: list[Report]) -> None:
        for report in reports:
            key = _key(report)
            if key is not None:
                if key in self._seen:
                    continue
                self._seen.add(key)
            self.reports.append(report)

    def judged(self, stored: explain_past.Stored) -> list[Found]:
        """The reports with their events; with the history of the store where it is of them."""
        known = [stored.event_of(report) for report in self.reports]
        ours = self.ours or any(event is not None for event in known)
        # a saved log has no boot id; the event of a neighbour of the same log tells it
        boots = {str(event["boot_id"]) for event in known if event and event.get("boot_id")}
        found = []
        for report, event in zip(self.reports, known, strict=True):
            boot = report.boot_id or (boots.copy().pop() if len(boots) == 1 else None)
            past = NOTHING
            if ours and event is None:
                past = stored.past_of(report, _wall(report), boot)
            found.append(_told(report, event, oom_kill_event(report, past)))
        return found


def _key(report: Report) -> tuple[object, ...] | None:
    """What two copies of a report have in common; None where the log has no kernel's clock."""
    if report.usec is None:
        return None
    comm = report.victim.comm if report.victim else None
    return report.boot_id, identity(report), comm


def _told(
    report: Report, stored: Mapping[str, Any] | None,
    made: tuple[dict[str, Any], tuple[str, ...], str],
) -> Found:  # fmt: skip
    """The event of a report; what the daemon judged with its history stays as it judged."""
    body, because, name = made
    t, boot, event_id = _wall(report), report.boot_id, None
    if stored is not None:
        body |= {key: stored[key] for key in explain_past.JUDGED if key in stored}
        t = t or float(stored.get("t") or 0.0)
        boot = boot or stored.get("boot_id")
        event_id = stored.get("id")
    event_id = event_id or f"oom.kill-{(boot or 'unknown')[:8]}-{name}"
    cause = stored.get("cause") if stored is not None else None
    return Found(
        report, Event("oom.kill", event_id, cause, t, report.up, boot, report.host, because, body)
    )


def _piped() -> bool:
    """Whether standard input is a file or a pipe, and not a terminal or nothing.

    A pipe that stays silent may be one that nobody meant (ssh without a terminal): that is said.
    """
    try:
        fd = sys.stdin.fileno()
        mode = os.fstat(fd).st_mode
    except (AttributeError, OSError, ValueError):
        return False
    if stat.S_ISFIFO(mode) and not select.select([fd], [], [], SILENT_S)[0]:
        common.complain("waiting for standard input (for this machine's own log: --boot 0)")
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _wall(report: Report) -> float:
    """Unix seconds, 0 where the log has no full date."""
    if report.wall is not None:
        return report.wall
    if report.t > 0 or report.stamp is None:
        return report.t
    try:
        # a stamp without a zone is this machine's local time, as syslog writes it
        return datetime.datetime.fromisoformat(report.stamp.replace(",", ".")).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def _boot_id() -> str | None:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


def _program() -> list[str]:
    """The reader of the journal."""
    from watchdog.child import ours

    return ours("watchdog.sense.journal")

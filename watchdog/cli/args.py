"""What the commands share: options, times and sizes on the command line, exit statuses.

Exit status: 0 done or found, 1 nothing found or not running, 2 usage or unreadable input, 75
somebody else holds the lock, 78 configuration. The answer goes to standard output, everything
else to standard error.
"""

import argparse
import contextlib
import errno
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

from watchdog import measures, words
from watchdog.store import place

if TYPE_CHECKING:
    from watchdog.policy.rules import Rules

NOTHING, USAGE, LOCKED, CONFIGURATION = 1, 2, 75, 78

_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d))?)?")


class EndedError(Exception):
    """A command has said why it cannot go on; `status` is its exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"exit status {status}")
        self.status = status


class _Parser(argparse.ArgumentParser):
    """argparse whose complaint is one line, with the command that helps."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {words.safe(message)} (see {self.prog} --help)\n")


def parser(name: str, description: str, example: str = "") -> argparse.ArgumentParser:
    """A command's parser with --config, --state and --json, and an example at the end of its help.

    The help is 79 columns wide on any terminal.
    """
    found = _Parser(
        prog=f"oom-watchdog {name}",
        description=description,
        epilog=f"example: {example}" if example else None,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=22, width=79),
        allow_abbrev=False,
    )
    found.add_argument("--config", metavar="FILE", help="read this configuration file alone")
    found.add_argument("--state", metavar="DIR", help="the state folder")
    found.add_argument("--json", action="store_true", help="answer in JSON")
    return found


def duration(text: str) -> float:
    """Seconds, for argparse; a bare number is seconds."""
    try:
        return measures.parse_duration(text, bare=True)
    except measures.WordError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def size(text: str) -> int:
    """Bytes, for argparse."""
    try:
        return measures.parse_size(text)
    except measures.WordError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def when(text: str, now: float | None = None) -> float:
    """Unix seconds from "10min" (ago), "2026-11-01[ HH:MM[:SS]]" (local time) or "@UNIX"."""
    now = time.time() if now is None else now
    if text.startswith("@"):
        try:
            at = float(text[1:])
        except ValueError:
            at = float("nan")
        if abs(at) < 1e12:
            return at
    found = _DATE.fullmatch(text)
    if found:
        year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
        with contextlib.suppress(ValueError, OverflowError):
            at = time.mktime((year, month, day, hour, minute, second, 0, 0, -1))
            # mktime takes the 32nd of a month for the 1st of the next
            real = time.localtime(at)[:3] == (year, month, day)
            if real and hour < 24 and minute < 60 and second < 60:
                return at
    elif not text.startswith("@"):
        try:
            return now - measures.parse_duration(text, bare=True)
        except measures.WordError as error:
            if re.fullmatch(r"\s*\d+(\.\d+)?\s*\w*\s*", text):
                raise argparse.ArgumentTypeError(str(error)) from None
    raise argparse.ArgumentTypeError(
        'expected a time ago such as "10min", a date such as "2026-11-01 08:00", or "@UNIX",'
        f' found "{words.safe(text)}"'
    )


def complain(text: str) -> None:
    """One line to standard error."""
    print(f"oom-watchdog: {words.safe(text)}", file=sys.stderr)


def unreadable(name: str, error: OSError) -> int:
    """Say that a file cannot be read or written; the exit status."""
    complain(f"{name}: {(error.strerror or str(error)).lower()}")
    return USAGE


@contextlib.contextmanager
def history(state: str | None) -> Iterator[str]:
    """The path of what the daemon keeps; where it cannot be read, says why and ends the command.

    A named folder that is not there is a slip of the hand; one without a history is not.
    """
    folder = place.reading_dir(state)
    if state and not _is_there(folder):
        complain(no_folder(folder))
        raise EndedError(USAGE)
    try:
        yield os.path.join(folder, place.DATABASE)
    except FileNotFoundError:
        complain(f"no history in {folder} yet (it is written by oom-watchdog run)")
        raise EndedError(NOTHING) from None
    except place.StoreError as error:
        complain(str(error))
        raise EndedError(USAGE) from None


def no_folder(folder: str) -> str:
    """What is said of a state folder that is not there."""
    return f"there is no folder {folder} (oom-watchdog run makes it)"


def _is_there(folder: str) -> bool:
    """Is it a folder? Where that may not be seen, what is read in it will say so."""
    try:
        return stat.S_ISDIR(os.stat(folder).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def quietly(main: Callable[[list[str]], int], argv: list[str]) -> int:
    """Run a command: a reader that goes away is a quiet 0, and so is Ctrl-C.

    Standard output takes any text, whatever the locale.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = main(argv)
        sys.stdout.flush()
    except EndedError as ended:
        return ended.status
    except BrokenPipeError:
        # Python flushes once more at exit, and would complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        complain(f"the answer cannot be written: {(error.strerror or str(error)).lower()}")
        return USAGE
    return status


def load_rules(config: str | None, shipped_defaults: bool = False) -> "Rules":
    """The rules, validated by a child of our own; what is wrong is told, and ends with status 78.

    `shipped_defaults`: without `config` the built-in rules, not those of this machine.
    """
    from watchdog.policy import rules

    if config is None and shipped_defaults:
        return rules.default_rules()
    import json
    import subprocess

    from watchdog.child import ours

    argv = ours("watchdog.policy.load")
    if config is not None:
        argv += ["--config", config]
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    sys.stderr.write(done.stderr)
    try:
        found = json.loads(done.stdout)["rules"] if done.returncode == 0 else None
    except (ValueError, KeyError):
        complain("the configuration's loader gave no answer")
        found = None
    if found is None:
        raise SystemExit(CONFIGURATION)
    return rules.from_plain(found)

"""`oom-watchdog run`: the daemon in the foreground.

The rules are read by a child (it loads pydantic and is gone again), the state folder is locked,
and then this process becomes the guard, under the same PID; the guard starts the watcher.
"""

import json
import marshal
import os
import sys
from argparse import SUPPRESS
from typing import NoReturn

from watchdog import words
from watchdog.act.armour import small_pages
from watchdog.child import ours, run_once
from watchdog.cli import args as common
from watchdog.handover import LOAD_S
from watchdog.policy.rules import from_plain, guard_settings
from watchdog.store import place

_RECORD = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


def main(argv: list[str]) -> int:
    """Run the command; does not return where the daemon starts."""
    return common.quietly(_main, argv)


def _main(argv: list[str]) -> int:
    parser = common.parser(
        "run",
        "The daemon in the foreground, with or without systemd. Ctrl-C or SIGTERM ends it, SIGHUP "
        "reads the configuration again. Exit status 75: another one holds the state folder's "
        "lock; 78: the configuration is wrong.",
        "oom-watchdog run --state /tmp/oomw --for 1min --json",
    )
    parser.add_argument("--for", metavar="D", type=common.duration, dest="for_s",
                        help="stop after this time")  # fmt: skip
    parser.add_argument("--record", metavar="FILE", help="write a trace of all that is seen")
    parser.add_argument("--guard-option", action="append", default=[], help=SUPPRESS)  # for tests
    options = parser.parse_args(argv)
    raw = load(options.config)
    rules = from_plain(json.loads(raw)["rules"])
    state = place.state_dir(options.state)
    lock = -1
    try:
        lock = place.lock_state(state)
    except place.LockHeldError as error:
        common.complain(str(error))
        return common.LOCKED
    except place.StoreError:
        pass  # the watcher says so, and goes on from memory
    if options.record:
        try:
            os.close(os.open(options.record, _RECORD, 0o640))
        except OSError as error:
            return common.unreadable(options.record, error)
    tail = ["--state", state]
    tail += ["--config", os.path.abspath(options.config)] if options.config else []
    tail += ["--record", os.path.abspath(options.record)] if options.record else []
    tail += ["--json"] if options.json else []
    return become_guard(
        rules_fd=memory_file("rules", raw),
        settings_fd=memory_file("settings", marshal.dumps(guard_settings(rules))),
        lock_fd=lock, for_s=options.for_s, extra=options.guard_option, tail=tail,
    )  # fmt: skip


def load(config: str | None) -> bytes:
    """The loader's answer, {"rules": …} in JSON; what is wrong is told, and ends with 78.

    With 1 where the loader was ended before it could answer: on a machine that is overloaded, and
    nothing is wrong with the configuration, another start may succeed.
    """
    argv = ours("watchdog.policy.load")
    argv += ["--config", config] if config else []
    child = run_once(argv, timeout=LOAD_S, env=dict(os.environ))
    said = bytes(child.errors).decode("utf-8", "replace")
    for line in said.splitlines():
        print(words.safe(line), file=sys.stderr)
    if child.status == 0:
        return bytes(child.output)
    if child.status not in (common.USAGE, common.CONFIGURATION) or not said:
        common.complain(f"the configuration cannot be read: the loader {child.failure()}")
    if child.timed_out or child.signal is not None:
        raise SystemExit(1)
    raise SystemExit(child.status if child.status == common.USAGE else common.CONFIGURATION)


def memory_file(name: str, content: bytes) -> int:
    """A file in memory that survives exec and is shared by the processes."""
    fd = os.memfd_create(f"oom-watchdog-{name}", 0)
    os.write(fd, content)
    return fd


def become_guard(
    *, rules_fd: int, settings_fd: int, lock_fd: int, for_s: float | None, extra: list[str],
    tail: list[str],
) -> NoReturn:  # fmt: skip
    """Exec into the guard."""
    small_pages()
    argv = ours("watchdog.guard", bare=True)
    argv += ["--rules", str(rules_fd), "--settings", str(settings_fd)]
    if lock_fd >= 0:
        os.set_inheritable(lock_fd, True)
        argv += ["--lock", str(lock_fd)]
    argv += ["--for", str(for_s)] if for_s is not None else []
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [*argv, *extra, "--", *tail])

"""A program: all checks, as JSON lines; the rules come on standard input.

    launch.py watchdog.doctor.program --state DIR [--guard PID] [--quick] [--write FILE]

The daemon runs it as a child after READY, in its own sandbox, and is not held up by it. With
`--write` all rows go to FILE (for the command `doctor`), and only what is not well to standard
output.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from watchdog import words
from watchdog.doctor import config, machine, rights
from watchdog.doctor.row import NOTE, OK, WEAK, Row
from watchdog.policy.rules import Rules, from_plain


def main(argv: list[str]) -> int:
    """The program; its exit status."""
    quick = "--quick" in argv
    rest = [one for one in argv if one != "--quick"]
    options = dict(zip(rest[::2], rest[1::2], strict=False))
    rules = from_plain(json.load(sys.stdin))
    guard = int(options["--guard"]) if "--guard" in options else None
    rows = list(checks(rules, options["--state"], guard, quick))
    document = {"t": time.time(), "in_unit": rows[0].state == OK,
                "rows": [row._asdict() for row in rows]}  # fmt: skip
    if "--write" in options:
        _write(options["--write"], document)
        document["rows"] = [row._asdict() for row in rows if row.state not in (OK, NOTE)]
    json.dump(document, sys.stdout)
    return 0


def checks(rules: Rules, state: str, guard: int | None, quick: bool) -> Iterator[Row]:
    """Every row, the place first. A check that breaks is a row, too."""
    one: list[tuple[str, Callable[[], Any]]] = [
        ("place", rights.unit), ("python", machine.python), ("processes", rights.proc),
        ("kernel log", rights.kernel_log), ("journal", rights.journal),
        ("kill counter", machine.counter), ("memory stall", rights.stalls),
        ("control groups", machine.cgroups), ("memory figures", machine.accounting),
        ("signals", rights.signals), ("process_mrelease", rights.mrelease),
        ("memory lock", lambda: rights.memory_lock(guard)),
        ("spared by the kernel", lambda: rights.spared(guard)),
        ("systemd", rights.manager), ("loader", rights.reader),
        ("state folder", lambda: machine.state(state, rules.store.max_bytes)),
        ("own limit", machine.own_limit), ("clock", machine.clock),
        ("other killers", lambda: machine.killers(rules.guard.mode == "enforce")),
        ("settings", machine.settings),
        ("hooks", lambda: config.hooks(rules)),
        ("notifiers", lambda: config.notifiers(rules, not quick)),
        ("sender", lambda: config.sender(rules, os.environ)),
    ]  # fmt: skip
    for name, check in one:
        if quick and name == "loader":
            continue  # it has just read the rules for the daemon that asks
        try:
            found = check()
        except Exception as error:  # noqa: BLE001  one check must not take the others with it
            found = Row(name, WEAK, f"could not be looked at: {words.safe(str(error))[:200]}",
                        "not proven here")  # fmt: skip
        yield from found if isinstance(found, list) else [found]


def _write(path: str, document: dict[str, Any]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(path + ".new", flags, 0o640), "w", encoding="utf-8") as file:
        json.dump(document, file)
    os.rename(path + ".new", path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

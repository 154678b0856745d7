"""The rules as the processes hand them to each other, and loaded anew by a child on a reload.

They lie as JSON in a memory file that every watcher inherits: whoever is started later, after a
crash or while the file on disk is broken, goes on under the last good ones.
"""

import json
import os
from typing import Any, NamedTuple

from watchdog import words
from watchdog.child import Child, Children, ours
from watchdog.policy.rules import Rules, from_plain

DEADLINE_S = 10.0
OUTPUT_MAX = 4 << 20
PROBLEMS_TOLD = 10


class Options(NamedTuple):
    """What the guard's command line hands on."""

    wire: int
    rules: int
    state: str
    config: str | None = None
    json: bool = False
    record: str | None = None


def options(argv: list[str]) -> Options:
    """Read the flags; they come from our own guard, so a mistake is a bug and raises."""
    found: dict[str, Any] = {}
    rest = list(argv)
    while rest:
        flag = rest.pop(0).removeprefix("--")
        if flag == "json":
            found[flag] = True
        else:
            value = rest.pop(0)
            found[flag] = int(value) if flag in ("wire", "rules") else value
    return Options(**found)


class RejectedError(Exception):
    """The loader found the configuration wrong; `lines` say where."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


class Handover:
    """`rules` are those in force."""

    def __init__(self, fd: int, config: str | None, children: Children) -> None:
        self.fd = fd
        self.config = config
        self.children = children
        self.child: Child | None = None
        self.rules = _rules(os.pread(fd, os.fstat(fd).st_size, 0))

    def reload(self) -> None:
        """Ask a loader; while one is under way a second request is the same request."""
        if self.child is None:
            argv = ours("watchdog.policy.load")
            argv += ["--config", self.config] if self.config else []
            self.child = self.children.start(argv, b"", DEADLINE_S, max_output=OUTPUT_MAX)

    def reloaded(self) -> Rules | None:
        """The new rules, once the loader is done. Raises RejectedError: the old ones stay."""
        child = self.child
        if child is None or not child.done:
            return None
        self.child = None
        if child.failure():
            said = bytes(child.errors).decode("utf-8", "replace").strip().splitlines()
            lines = [words.safe(line) for line in said[:PROBLEMS_TOLD]]
            raise RejectedError(lines or [f"the loader {child.failure()}"])
        raw = bytes(child.output)
        self.rules = _rules(raw)
        os.pwrite(self.fd, raw, 0)
        os.ftruncate(self.fd, len(raw))
        return self.rules


def _rules(raw: bytes) -> Rules:
    # raw_decode: what a crash left between writing and truncating is no part of the object
    document, _ = json.JSONDecoder().raw_decode(raw.decode("utf-8"))
    return from_plain(document["rules"])

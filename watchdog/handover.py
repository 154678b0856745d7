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

# At start and at reload alike. On a machine in trouble a good file may take 10 s.
LOAD_S = 30.0
OUTPUT_MAX = 4 << 20
PROBLEMS_TOLD = 10
REFUSED = (2, 78)  # what the loader ends with where the files are at fault


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


class UnreadError(Exception):
    """No loader came to an end: nothing is known of the configuration. The message says why."""


class Handover:
    """`rules` are those in force; requests have numbers, and `read` is the last that is over."""

    def __init__(self, fd: int, config: str | None, children: Children) -> None:
        self.fd = fd
        self.config = config
        self.children = children
        self.child: Child | None = None
        self.failed = ""  # why none could be started
        self.asked = self.loading = self.read = 0
        self.rules = _rules(os.pread(fd, os.fstat(fd).st_size, 0))

    def reload(self, number: int) -> None:
        """Ask a loader. One that is under way has read what was there before: then one more."""
        self.asked = number
        if self.child is None and not self.failed:
            self._load()

    def reloaded(self) -> Rules | None:
        """The new rules, once a loader is done; a request that came meanwhile is under way then.

        Raises RejectedError or UnreadError: the old ones stay.
        """
        child, failed = self.child, self.failed
        if not failed and (child is None or not child.done):
            return None
        self.child, self.failed, self.read = None, "", self.loading
        if self.asked != self.loading:
            self._load()
        if child is None:
            raise UnreadError(failed)
        said = bytes(child.errors).decode("utf-8", "replace").strip().splitlines()
        lines = [words.safe(line) for line in said[:PROBLEMS_TOLD]]
        if child.status in REFUSED and lines:
            raise RejectedError(lines)
        if child.failure() or child.cut:
            how = child.failure() or "said more than is taken"
            raise UnreadError(f"the loader {how}{': ' if lines else ''}{''.join(lines[-1:])}")
        raw = bytes(child.output)
        self.rules = _rules(raw)
        os.pwrite(self.fd, raw, 0)
        os.ftruncate(self.fd, len(raw))
        return self.rules

    def _load(self) -> None:
        self.loading = self.asked
        argv = ours("watchdog.policy.load")
        argv += ["--config", self.config] if self.config else []
        try:
            self.child = self.children.start(argv, b"", LOAD_S, max_output=OUTPUT_MAX)
        except OSError as error:
            self.failed = f"the loader cannot be started: {error.strerror}"


def _rules(raw: bytes) -> Rules:
    # raw_decode: what a crash left between writing and truncating is no part of the object
    document, _ = json.JSONDecoder().raw_decode(raw.decode("utf-8"))
    return from_plain(document["rules"])

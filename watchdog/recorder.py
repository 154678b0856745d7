"""Effect: `run --record`: every fact that the engine is fed, as a trace."""

import contextlib
from typing import TextIO

from watchdog import trace
from watchdog.facts import Fact, Said


class Recorder:
    """Appends to `path`: a watcher before us, that ended, may have begun it (`run` empties it).

    A write that fails ends the recording: one with holes in it would judge wrongly. Then
    `problem` says why.
    """

    def __init__(self, path: str, host: str) -> None:
        self.problem: str | None = None
        self._file: TextIO | None = None
        try:
            self._file = open(path, "a", encoding="ascii", buffering=1)  # noqa: SIM115
        except OSError as error:
            self.problem = error.strerror
        self._line(trace.header_line(host, acted=True))

    def take(self, fact: Fact) -> None:
        """Write a fact down; the daemon's own life is no fact about the machine."""
        if not (isinstance(fact, Said) and fact.kind.startswith("watchdog.")):
            self._line(trace.line(fact))

    def close(self) -> None:
        """End it."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _line(self, text: str) -> None:
        if self._file is None:
            return
        try:
            self._file.write(text + "\n")
        except OSError as error:
            self.problem = error.strerror
            self.close()

"""Effect: the parent's side of `sense.journal`: starts the child, takes what it prints."""

import json
from typing import NamedTuple

from watchdog import words
from watchdog.child import Child, Children, ours
from watchdog.sense.mark import Mark

BUFFER = 256 * 1024  # what the child is ahead of us; more waits in the child
FOLLOW_S = 600.0  # then another child goes on: one that reads for ever maps ever more files
DEADLINE_S = 120.0  # for what is to be caught up with
PROGRAM = tuple(ours("watchdog.sense.journal"))


class Message(NamedTuple):
    """One message of the kernel. `t` is Unix seconds, `usec` the kernel's clock; `line` reads like
    a record of /dev/kmsg."""

    t: float
    usec: int | None
    boot_id: str | None
    line: str
    cursor: str | None


class Place(NamedTuple):
    """All that there is has been read; up to this cursor, or None where there is nothing."""

    cursor: str | None


class Gap(NamedTuple):
    """What was logged between these times (Unix seconds) is not in the journal any more."""

    since: float
    to: float | None


class Missed(NamedTuple):
    """So many messages of the kernel did not reach journald."""

    messages: int


Said = Message | Place | Gap | Missed


class JournalReader:
    """One child at a time. `problem` says why the last one failed, None while all is well."""

    def __init__(self, children: Children, program: tuple[str, ...] = PROGRAM) -> None:
        self.children = children
        self.program = program
        self.problem: str | None = None
        self.child: Child | None = None

    def catch_up(self, after: Mark, until_usec: int | None) -> None:
        """All after the mark, up to the first message of this boot that is so late."""
        until = [] if until_usec is None else ["--until", str(until_usec)]
        self._start(["--after", after.text(), "--relevant", *until], DEADLINE_S)

    def follow(self, after: Mark) -> None:
        """All after the mark, and what comes, for ten minutes."""
        argv = ["--after", after.text(), "--relevant", "--follow", str(FOLLOW_S)]
        self._start(argv, FOLLOW_S + DEADLINE_S)

    def probe(self) -> None:
        """Only look whether the journal could be read."""
        self._start(["--probe"], DEADLINE_S)

    @property
    def running(self) -> bool:
        """Whether `take` may still give something."""
        return self.child is not None

    @property
    def out_fd(self) -> int:
        """Readable where the child has printed more; -1: there is none."""
        return -1 if self.child is None else self.child.out_fd

    def take(self) -> list[Said]:
        """What was printed since the last call. After the end `running` is false."""
        child = self.child
        if child is None:
            return []
        done = child.done
        said = [one for one in map(_read, child.take_lines()) if one is not None]
        if done:
            self.child = None
            if child.failure():
                why = words.name(bytes(child.errors).strip().split(b"\n")[0])
                self.problem = why or f"reading the journal {child.failure()}"
            else:
                self.problem = None
        return said

    def stop(self) -> None:
        """End the child; what it still had to say is left."""
        if self.child is not None:
            self.child.kill()
            self.child.most = 1 << 30  # so that nobody waits for us to take its output
            self.child = None

    def _start(self, argv: list[str], deadline_s: float) -> None:
        self.stop()
        try:
            self.child = self.children.start(
                [*self.program, *argv], b"", deadline_s, max_output=BUFFER, stream=True
            )
        except OSError as error:
            self.problem = f"the journal cannot be read: {error.strerror}"


def _read(raw: bytes) -> Said | None:
    try:
        found = json.loads(raw)
        if "line" in found:
            usec = found["usec"]
            return Message(
                float(found["t"]), None if usec is None else int(usec), found["boot_id"],
                str(found["line"]), found["cursor"] or None,
            )  # fmt: skip
        if "gap" in found:
            since, to = found["gap"]
            return Gap(float(since), None if to is None else float(to))
        if "missed" in found:
            return Missed(int(found["missed"]))
        return Place(found["cursor"] and str(found["cursor"]))
    except (ValueError, TypeError, KeyError):
        return None  # a child that was ended in the middle of a line

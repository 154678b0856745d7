"""How notifications leave: programs as hooks, URLs through files that another program sends.

The batch under way lies in the outbox folder, one file a message, `notifiers` with the URLs beside
them; all are ours alone (0600). As a systemd service the folder is /run/oom-watchdog/outbox, the
file `wake` in it starts oom-watchdog-notify.service, which gets the folder as credentials and
leaves its answers in a runtime folder of its own. In the foreground a child of ours does the same
with folders in the state folder. An answer that says "sent" stays there: what was sent when we
were killed is not sent a second time.
"""

import binascii
import contextlib
import json
import os
from collections.abc import Mapping
from typing import Any

from watchdog import words
from watchdog.act import hook
from watchdog.child import PATH, Child, Children, ours
from watchdog.clock import Clock
from watchdog.outbox import Result
from watchdog.policy.rules import Notifier

HOOK_S = 30.0
SENDER_S = 120.0  # the sender has so long for a batch
WAKE_S = 20.0  # a path unit that missed the first wake (it was not there yet) sees the second
RECEIPT_MAX = 4096
WHY_MAX = 300
SERVICE_RECEIPTS = "/run/oom-watchdog-notify"


class Hooks:
    """`argv` notifiers: one at a time, the event as JSON on stdin."""

    def __init__(self, children: Children) -> None:
        self.children = children
        self.under_way: tuple[str, Child] | None = None
        self.failed: list[Result] = []

    def start(self, rows: list[dict[str, Any]], notifiers: Mapping[str, Notifier]) -> None:
        for row in rows:
            argv = notifiers[row["notifier"]].argv or ()
            try:
                child = hook.start(self.children, argv, row["event"], None, HOOK_S)
            except hook.HookError as error:
                self.failed.append(Result(row["id"], str(error)))
            else:
                self.under_way = (row["id"], child)

    def results(self) -> list[Result]:
        found, self.failed = self.failed, []
        if self.under_way is not None and self.under_way[1].done:
            outcome, detail = hook.outcome(self.under_way[1])
            found.append(Result(self.under_way[0], None if outcome == "done" else detail))
            self.under_way = None
        return found

    def close(self) -> None:
        """Its program goes on; an answer that nobody takes means that it is run again."""


class Post:
    """`url` and `url_credential` notifiers. `runtime` is the service's folder, None: foreground."""

    def __init__(self, clock: Clock, children: Children, state: str, runtime: str | None) -> None:
        self.clock = clock
        self.children = children
        self.runtime = runtime
        self.outbox = os.path.join(runtime or state, "outbox")
        self.receipts = SERVICE_RECEIPTS if runtime else os.path.join(state, "receipts")
        self.waiting: dict[str, str] = {}  # id -> the name of its file
        self.child: Child | None = None
        self.began = self.woken = 0.0
        self.failed: list[Result] = []

    def start(self, rows: list[dict[str, Any]], notifiers: Mapping[str, Notifier]) -> None:
        self.began = self.clock.boottime()
        try:
            self._lay_out(rows, notifiers)
            if self.runtime is None:
                argv = [*ours("watchdog.tell.send"), "--outbox", self.outbox,
                        "--receipts", self.receipts]  # fmt: skip
                env = {"PATH": PATH, "HOME": "/nonexistent"}
                env |= {key: os.environ[key] for key in _HANDED_ON if key in os.environ}
                self.child = self.children.start(argv, b"", SENDER_S, env=env)
            else:
                self._wake()
        except OSError as error:
            why = f"cannot be handed over: {(error.strerror or str(error)).lower()}"
            self.failed += [Result(row["id"], why) for row in rows]
            self.waiting.clear()

    def results(self) -> list[Result]:
        found, self.failed = self.failed, []
        if not self.waiting:
            return found
        for one, name in list(self.waiting.items()):
            answer = self._receipt(one, name)
            if answer is not None:
                found.append(answer)
                del self.waiting[one]
        up = self.clock.boottime()
        why = self._over(up) if self.waiting else None
        if why is not None:
            found += [Result(one, why) for one in self.waiting]
            self.waiting.clear()
        elif self.waiting and self.runtime and up - self.woken >= WAKE_S:
            with contextlib.suppress(OSError):
                self._wake()
        if not self.waiting:
            self._clear()
        return found

    def close(self) -> None:
        self._clear()

    def _over(self, up: float) -> str | None:
        """Why those that are not answered will not be, or None: they may still be."""
        if self.child is not None:
            if not self.child.done:
                return None
            said = bytes(self.child.errors).strip().rsplit(b"\n", 1)[-1][:WHY_MAX]
            how = self.child.failure() or "gave no answer"
            return f"the sender {how}" + (f": {words.name(said)}" if said else "")
        if self.runtime and up - self.began < SENDER_S:
            return None
        within = words.duration(SENDER_S)
        return f"no answer within {within} (systemctl status oom-watchdog-notify.service)"

    # ---- files -------------------------------------------------------------------------------

    def _lay_out(self, rows: list[dict[str, Any]], notifiers: Mapping[str, Notifier]) -> None:
        """Only this batch is in the folder: what lies there of an earlier one is not."""
        os.makedirs(self.outbox, 0o700, exist_ok=True)
        if self.runtime is None:
            os.makedirs(self.receipts, 0o700, exist_ok=True)
        self._clear()
        self.child = None
        wanted = {row["notifier"] for row in rows}
        urls = {
            name: {"url": one.url} if one.url else {"url_credential": one.url_credential}
            for name, one in notifiers.items() if name in wanted
        }  # fmt: skip
        _write(os.path.join(self.outbox, "notifiers"), json.dumps(urls))
        for row in rows:
            name = f"{int(row['t'] * 1000):x}-{binascii.crc32(row['id'].encode()):08x}"
            message = {key: row[key] for key in _SENT}
            self.waiting[row["id"]] = name
            with contextlib.suppress(OSError):  # of an earlier try; the service's is not ours
                if not self._is_sent(row["id"], name) and self.runtime is None:
                    os.unlink(os.path.join(self.receipts, name))
            message["try"] = self.began
            _write(os.path.join(self.outbox, name), json.dumps(message))

    def _wake(self) -> None:
        self.woken = self.clock.boottime()
        # Written in place: what the path unit waits for is that a file is closed after writing.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(os.path.join(self.outbox, "wake"), flags, 0o600)
        try:
            os.write(fd, b"1\n")
        finally:
            os.close(fd)

    def _clear(self) -> None:
        with contextlib.suppress(OSError):
            for name in os.listdir(self.outbox):
                if name != "wake":
                    os.unlink(os.path.join(self.outbox, name))

    def _is_sent(self, one: str, name: str) -> bool:
        answer = _read(os.path.join(self.receipts, name))
        return answer.get("id") == one and answer.get("outcome") == "sent"

    def _receipt(self, one: str, name: str) -> Result | None:
        """The answer to this try; that of an earlier one counts if it says "sent"."""
        answer = _read(os.path.join(self.receipts, name))
        if answer.get("id") != one:
            return None
        if answer.get("outcome") == "sent":
            return Result(one, None)
        if answer.get("try") != self.began:
            return None
        return Result(one, words.safe(str(answer.get("why") or "no reason given"))[:WHY_MAX])


_SENT = ("id", "notifier", "t", "level", "title", "text")
# Where credentials are, and what a site needs to reach the world.
_HANDED_ON = (
    "CREDENTIALS_DIRECTORY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
    "no_proxy", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip


def _write(path: str, text: str) -> None:
    fresh = path + ".new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(fresh, flags, 0o600)
    try:
        raw = text.encode()
        while raw:
            raw = raw[os.write(fd, raw) :]
    finally:
        os.close(fd)
    os.rename(fresh, path)


def _read(path: str) -> dict[str, Any]:
    """An answer; {} where there is none. Who wrote it has fewer rights than we have."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, flags)
    except OSError:
        return {}
    try:
        found = json.loads(os.read(fd, RECEIPT_MAX))
    except (OSError, ValueError, RecursionError):
        return {}
    finally:
        os.close(fd)
    return found if isinstance(found, dict) else {}

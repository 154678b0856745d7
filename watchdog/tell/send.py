"""A program: send what lies in the outbox folder to its URLs. The only apprise.

    python -I -m watchdog.tell.send --outbox DIR --receipts DIR
    oom-watchdog notify --deliver          the same in oom-watchdog-notify.service

In the service $CREDENTIALS_DIRECTORY holds the outbox as `outbox_NAME` and secrets as
`secret_NAME`, and $RUNTIME_DIRECTORY takes the receipts. A message whose receipt says that it was
sent is not sent again. Nothing of a URL ever gets into a receipt or onto standard error.
"""

import contextlib
import json
import os
import re
import sys
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any, NamedTuple

from watchdog import words

SECRETS = "/etc/oom-watchdog/credentials"
FILE_MAX = 64 * 1024
KEEP_S = 2 * 86400.0  # a receipt outlives what could still be asked again
LINES_MAX = 20
WHY_MAX = 300
WARNING = 30  # of the module logging
_WORD = re.compile(r"[^A-Za-z0-9_.+~-]+")
# Parts of a URL that are worth reading in a complaint and no secret.
_PLAIN = frozenset({"json", "http", "https", "mail", "mailto", "smtp", "true", "false", "none"})


class Places(NamedTuple):
    """Folders: `prefix` is what systemd puts before the names of the outbox's files."""

    outbox: str
    prefix: str
    receipts: str
    credentials: str | None


class SecretError(Exception):
    """A URL cannot be had; the message holds nothing of it."""


def main(argv: list[str]) -> int:
    """The program; its exit status."""
    options = dict(zip(argv[::2], argv[1::2], strict=False))
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if "--outbox" in options and "--receipts" in options:
        places = Places(options["--outbox"], "", options["--receipts"], credentials)
    elif credentials and os.environ.get("RUNTIME_DIRECTORY"):
        receipts = os.environ["RUNTIME_DIRECTORY"].split(":")[0]
        places = Places(credentials, "outbox_", receipts, credentials)
    else:
        print("send: started by oom-watchdog-notify.service, or with --outbox DIR --receipts DIR",
              file=sys.stderr)  # fmt: skip
        return 2
    _forget(places.receipts)
    try:
        messages = _messages(places)
    except OSError as error:
        print(f"send: {words.safe(places.outbox)}: {error.strerror}", file=sys.stderr)
        return 1
    urls = _read(os.path.join(places.outbox, places.prefix + "notifiers"))
    batches: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for name, message in messages:
        batches.setdefault(str(message.get("notifier")), []).append((name, message))
    for notifier, batch in sorted(batches.items()):
        why = _send(places, urls.get(notifier), [message for _, message in batch])
        for name, message in batch:
            _answer(places.receipts, name, message, why)
        many = words.count(len(batch), "message")
        print(f"{words.safe(notifier)}: {many} {f'not sent: {why}' if why else 'sent'}")
    return 0


# ---- sending -------------------------------------------------------------------------------


def _send(places: Places, where: object, messages: list[dict[str, Any]]) -> str | None:
    """None if all of them have been sent, else why not."""
    try:
        url = _url(places, where if isinstance(where, dict) else {})
    except SecretError as error:
        return str(error)
    title, text, level = compose(messages)
    return deliver(url, title, text, level)


def compose(messages: list[dict[str, Any]]) -> tuple[str, str, str]:
    """(title, text, level) of one message, or of several that go as one."""
    ordered = sorted(messages, key=lambda one: (one.get("t") or 0, str(one.get("id"))))
    title, text = str(ordered[0].get("title")), str(ordered[0].get("text"))
    levels = [str(one.get("level")) for one in ordered]
    level = next((one for one in ("failure", "warning") if one in levels), levels[0])
    if len(ordered) == 1:
        return title, text, level
    host = title.partition(":")[0]
    lines = []
    for one in ordered[:LINES_MAX]:
        stamp = time.strftime("%H:%M:%S", time.localtime(float(one.get("t") or 0)))
        lines.append(f"{stamp} {str(one.get('text')).partition(chr(10))[0]}")
        lines.append(f"         Id: {one.get('id')}")
    if len(ordered) > LINES_MAX:
        lines.append(f"and {len(ordered) - LINES_MAX} more")
    lines.append("More: oom-watchdog events")
    return f"{host}: {len(ordered)} alerts", "\n".join(lines), level


def deliver(url: str, title: str, text: str, level: str) -> str | None:
    """Send one message; None if it arrived, else why not, without any part of the URL."""
    try:
        import apprise
    except ImportError:
        return "apprise is not installed (Debian: apt install apprise)"
    asset = apprise.AppriseAsset(app_id="oom-watchdog", app_desc="oom-watchdog", async_mode=False)
    sender = apprise.Apprise(asset=asset)
    levels = {"info", "success", "warning", "failure"}
    try:
        with apprise.LogCapture(level=WARNING, fmt="%(message)s") as said:  # type: ignore[no-untyped-call]
            if not sender.add(url):
                return "its URL is none that apprise understands"
            arrived = sender.notify(
                body=text, title=title, notify_type=level if level in levels else "info",
                body_format="text",
            )  # fmt: skip
            reason = said.getvalue()
    except Exception as error:  # noqa: BLE001  a plugin may raise anything, with the URL in it
        return f"apprise failed with {type(error).__name__}"
    if arrived:
        return None
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    return (
        hidden(url, "; ".join(line.rstrip(".") for line in lines[-2:]))[:WHY_MAX]
        or "it was not taken, without a reason"
    )


def hidden(url: str, text: str) -> str:
    """`text` without any part of the URL: the part may be a password or a token."""
    scheme, _, rest = url.partition("://")
    parts = {rest, url}
    for form in (rest, urllib.parse.unquote(rest), urllib.parse.unquote_plus(rest)):
        parts |= set(_WORD.split(form)) | set(re.split(r"[/?&=@:#]+", form))
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= 3 and part.lower() not in _PLAIN and part != scheme:
            text = re.sub(re.escape(part), "***", text, flags=re.IGNORECASE)
    return words.safe(text)


def _url(places: Places, where: dict[str, Any]) -> str:
    url, name = where.get("url"), where.get("url_credential")
    if isinstance(url, str):
        return url
    if not isinstance(name, str) or "/" in name or name.startswith("."):
        raise SecretError("this notifier has no URL")
    if places.credentials:
        for candidate in (f"secret_{name}", name):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                return _text(os.path.join(places.credentials, candidate))
    path = os.path.join(SECRETS, name)
    try:
        found = os.stat(path)
        if found.st_mode & 0o077:
            raise SecretError(f"{path} can be read by others: chmod 600 it")
        return _text(path)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise SecretError(f"no credential {words.safe(name)}: {path}: {why.lower()}") from None


# ---- files ---------------------------------------------------------------------------------


def _messages(places: Places) -> list[tuple[str, dict[str, Any]]]:
    """(file name, message) of all that were not sent yet."""
    found = []
    for entry in sorted(os.listdir(places.outbox)):
        name = entry.removeprefix(places.prefix)
        if not entry.startswith(places.prefix) or not re.fullmatch(r"[0-9a-f]+-[0-9a-f]{8}", name):
            continue
        message = _read(os.path.join(places.outbox, entry))
        receipt = _read(os.path.join(places.receipts, name))
        is_sent = receipt.get("outcome") == "sent" and receipt.get("id") == message.get("id")
        if message and not is_sent:
            found.append((name, message))
    return found


def _answer(folder: str, name: str, message: Mapping[str, Any], why: str | None) -> None:
    answer = {
        "id": message.get("id"), "try": message.get("try"),
        "outcome": "failed" if why else "sent", "why": why,
    }  # fmt: skip
    path = os.path.join(folder, name)
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(path + ".new", flags, 0o600), "w", encoding="utf-8") as file:
            json.dump(answer, file)
        os.rename(path + ".new", path)


def _read(path: str) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(FILE_MAX).decode("utf-8").strip()


def _forget(folder: str) -> None:
    """Receipts so old that nobody asks for them again."""
    oldest = time.time() - KEEP_S
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if entry.is_file(follow_symlinks=False) and entry.stat().st_mtime < oldest:
                os.unlink(entry.path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Whether what the configuration names can be had: programs, credentials, URLs, the sender."""

import importlib.util
import os
import socket
import urllib.parse
from collections.abc import Mapping

from watchdog import words
from watchdog.act import hook
from watchdog.doctor.row import FAIL, NOTE, OK, WEAK, Row, reason, text
from watchdog.policy.rules import Notifier, Rules
from watchdog.tell.send import SECRETS

# Schemes whose host is a host, and not a token.
_HOSTS = frozenset({
    "json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos", "matrix", "matrixs",
    "ntfy", "ntfys", "gotify", "gotifys", "mmost", "mmosts", "rocket", "rockets", "syslog",
})  # fmt: skip


def hooks(rules: Rules) -> list[Row]:
    """The programs of [run.NAME] and [notify.NAME] may be run."""
    programs = {f"run.{name}": one.argv for name, one in rules.run.items()}
    programs |= {f"notify.{name}": one.argv for name, one in rules.notify.items() if one.argv}
    rows = []
    for name, argv in sorted(programs.items()):
        flaw = hook.untrusted(argv[0]) if argv else "no program named"
        if flaw:
            rows.append(Row(name, FAIL, flaw, "it is not run",
                            "a program of root's that nobody else can change"))  # fmt: skip
        else:
            rows.append(Row(name, OK, f"{words.safe(argv[0])} can be run"))
    return rows


def notifiers(rules: Rules, thorough: bool) -> list[Row]:
    """What a URL needs: apprise, a credential, a host with an address. No URL is shown."""
    urls = {name: one for name, one in rules.notify.items() if not one.argv}
    if not urls:
        return []
    rows = []
    if importlib.util.find_spec("apprise") is None:
        rows.append(Row("apprise", FAIL, "not installed", "no URL is notified",
                        "apt install apprise, or pip install 'oom-watchdog[notify]'"))  # fmt: skip
    rows += [_notifier(name, one, thorough) for name, one in sorted(urls.items())]
    return rows


def _notifier(name: str, notifier: Notifier, thorough: bool) -> Row:
    what, url = f"notify.{name}", notifier.url
    if url is None:
        path = os.path.join(SECRETS, notifier.url_credential or "")
        url = text(path)
        if url is None:
            where = f"no file {words.safe(path)} that can be read"
            return Row(what, NOTE, where, "a drop-in of oom-watchdog-notify.service may load it",
                       f"oom-watchdog notify --test {name}")  # fmt: skip
        if os.stat(path).st_mode & 0o077:
            return Row(what, WEAK, f"{words.safe(path)} can be read by others",
                       "its password is everybody's", f"chmod 600 {words.safe(path)}")  # fmt: skip
    if not thorough:
        return Row(what, OK, "its URL can be had")
    try:
        split = urllib.parse.urlsplit(url)
        host, port = split.hostname, split.port
    except ValueError:
        return Row(what, FAIL, "its URL is none", "nobody is notified",
                   "oom-watchdog check")  # fmt: skip
    scheme = split.scheme.lower()
    if scheme not in _HOSTS or not host:
        return Row(what, OK, f"its URL can be had ({words.safe(scheme)})",
                   to_do=f"oom-watchdog notify --test {name}")  # fmt: skip
    try:
        socket.getaddrinfo(host, port or 0, proto=socket.IPPROTO_TCP)
    except OSError as error:
        return Row(what, FAIL, f"the host of its URL has no address: {reason(error)}",
                   "nobody is notified, until it has", "the URL, /etc/resolv.conf")  # fmt: skip
    return Row(what, OK, f"the host of its URL has an address ({words.safe(scheme)})",
               to_do=f"oom-watchdog notify --test {name}")  # fmt: skip


def sender(rules: Rules, environ: Mapping[str, str]) -> list[Row]:
    """As a service: the path unit that starts the sender is there."""
    if not environ.get("RUNTIME_DIRECTORY") or all(one.argv for one in rules.notify.values()):
        return []
    name = "oom-watchdog-notify.path"
    places = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system",
              "/usr/lib/systemd/system", "/lib/systemd/system")  # fmt: skip
    if any(os.path.exists(os.path.join(place, name)) for place in places):
        return [Row("sender", OK, f"{name} is installed")]
    return [Row("sender", FAIL, f"{name} is not installed", "no URL is notified",
                "install it and oom-watchdog-notify.service; systemctl daemon-reload")]  # fmt: skip

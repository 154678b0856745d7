"""Runs what `notify:NAME` (argv) and `run:NAME` name: no shell, the facts as JSON on stdin.

Where systemd runs and we are root, a hook is a transient unit of its own: it has none of our
capabilities and none of our sandbox, a limit of its own, and an end that systemd keeps too.
Elsewhere it is a child of ours.

A hook that somebody other than root could change would hand him our rights, so when we are root
the program and every folder above it must be root's and closed to others.
"""

import json
import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

from watchdog import words
from watchdog.child import PATH, Child, Children
from watchdog.facts import Order

SYSTEMD_RUN = "/usr/bin/systemd-run"
MANAGER = "/run/systemd/system"  # there is a service manager
BUS = "/run/dbus/system_bus_socket"  # systemd-run waits for an end by way of D-Bus
MEMORY_MAX = "64M"
DETAIL_MAX = 200


class HookError(Exception):
    """The hook was not started; the message is one line."""


def facts(order: Order, told: Mapping[str, Any]) -> dict[str, Any]:
    """What a program gets on its standard input: the order's event, and how its subject stands."""
    subject = order.subject
    return {
        **told, "leak": subject.leak, "resident_bytes": subject.resident_bytes,
        "growth_bytes_per_s": subject.growth_bytes_per_s, "exhausts_in_s": subject.exhausts_in_s,
    }  # fmt: skip


def start(
    children: Children,
    argv: Sequence[str],
    event: Mapping[str, Any],
    user: str | None,
    timeout_s: float,
) -> Child:
    """Start a hook and answer at once; `outcome` reads how it ended. Raises HookError.

    `event` goes to it as one JSON object on stdin; its environment holds the kind, id, pid and
    unit of the event and a fixed PATH.
    """
    reason = untrusted(argv[0]) if argv else "no program named"
    if reason:
        raise HookError(reason)
    uid = gid = None
    groups: list[int] = []
    if user is not None:
        uid, gid, groups = _account(user)
    env = environment(event)
    if transient():
        argv = unit_of(argv, env, user, timeout_s)
        uid = gid = None
    try:
        return children.start(
            argv, json.dumps(event, default=str).encode() + b"\n", timeout_s,
            env=env, uid=uid, gid=gid, groups=groups,
        )  # fmt: skip
    except OSError as error:
        raise HookError(f"{words.safe(argv[0])}: {error.strerror or error}") from None


def transient() -> bool:
    """Can a hook be a unit of its own here?"""
    there = os.path.isdir(MANAGER) and os.path.exists(BUS) and os.access(SYSTEMD_RUN, os.X_OK)
    return there and os.geteuid() == 0


def unit_of(
    argv: Sequence[str], env: Mapping[str, str], user: str | None, timeout_s: float
) -> list[str]:
    """The systemd-run that runs `argv` with our pipes, waits for it, and ends as it ends.

    We give it up after `timeout_s`; systemd ends what is left of it a second later.
    """
    found = [
        SYSTEMD_RUN, "--quiet", "--collect", "--pipe", "--wait", "--service-type=exec",
        "--description=a hook of oom-watchdog",
        f"--property=MemoryMax={MEMORY_MAX}", f"--property=RuntimeMaxSec={timeout_s + 1:.1f}",
        "--property=TimeoutStopSec=1", "--property=TasksMax=64",
    ]  # fmt: skip
    found += [f"--uid={user}"] if user is not None else []
    found += [f"--setenv={name}={value}" for name, value in env.items()]
    # PID 1 puts variables into arguments; a dollar is doubled to stay one
    return [*found, "--", argv[0], *(word.replace("$", "$$") for word in argv[1:])]


def outcome(child: Child) -> tuple[str, str]:
    """("done" | "failed", detail) of a hook that is over; its first words are quoted."""
    said = (bytes(child.errors) or bytes(child.output)).strip().split(b"\n", 1)[0]
    quoted = words.name(said[:DETAIL_MAX])
    failure = child.failure()
    if failure is None:
        return "done", quoted
    return "failed", f"{failure}: {quoted}" if quoted else failure


def environment(event: Mapping[str, Any]) -> dict[str, str]:
    """The whole environment of a hook: a fixed PATH and what the event is about."""
    found = {"PATH": PATH}
    for name in ("event", "id", "pid", "unit"):
        value = event.get(name)
        if value is not None:
            found[f"OOM_WATCHDOG_{name.upper()}"] = words.safe(str(value)).replace("\0", "")
    return found


def untrusted(program: str) -> str | None:
    """Why this program must not be run, or None.

    Who we are decides what is asked: an ordinary user may run what he likes as himself.
    """
    shown = words.safe(program)
    if not program.startswith("/"):
        return f"{shown}: not an absolute path"
    path = os.path.realpath(program)
    try:
        found = os.stat(path)
    except OSError as error:
        return f"{shown}: {(error.strerror or str(error)).lower()}"
    if not stat.S_ISREG(found.st_mode) or not os.access(path, os.X_OK):
        return f"{shown}: not a program that can be executed"
    if os.geteuid() != 0:
        return None
    part = path
    while True:
        found = os.stat(part)
        others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        # A sticky folder (/tmp) keeps others from replacing what is not theirs, but not from
        # waiting for its owner to leave.
        if found.st_uid != 0 or others:
            return f"{shown}: {words.safe(part)} can be changed by somebody other than root"
        if part == "/":
            return None
        part = os.path.dirname(part)


def _account(user: str) -> tuple[int, int, list[int]]:
    import pwd  # only where a hook names a user

    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise HookError(f"no such user: {words.safe(user)}") from None
    return entry.pw_uid, entry.pw_gid, os.getgrouplist(user, entry.pw_gid)

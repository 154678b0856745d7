"""now.json: what the daemon sees now, for the commands that ask. Nothing listens on a socket.

One JSON object, replaced after each sweep and event. A key that is not known is null or missing,
and readers ignore what they do not know:

    t, up, boot_id, host      when and where it was written (Unix seconds; CLOCK_BOOTTIME seconds)
    version, pid              of the daemon; interval_s: it is old after three of them
    started                   Unix seconds; optional
    mode                      "observe" or "enforce": the guard's, or that of any policy
    mem_total, mem_available, swap_total, swap_free         bytes
    processes, units          how many are watched; watching: how many of them closely
    pressure                  true while memory is short, by the guard's word
    leaks                     [{entity's keys, "scope", "level" ("suspected" | "confirmed"),
                              "rate_bytes_per_s", "resident_bytes", "since" (Unix seconds),
                              "confidence" (0..1), "exhausts_in_s" (null: it does not end)}]
    oom_kills                 {"since_start": n, "last": the last oom.kill event, or null}
    policies                  [{"name", "mode", "waiting": [sentences]}]
    guard                     {"mode" ("off" | "observe" | "enforce"), "state": in words, "ranked":
                              whom it would take, as in its last event, while memory is short}
    degraded                  [sentences]
    mutes                     [{"id", "kind" ("silence" | "ack"), "match", "by", "reason",
                              "left_s"}]
    notify                    null where nobody is to be notified, else {"waiting": n, "dropped": n,
                              "held": bool, "problems": {notifier: sentence}, "last": {notifier:
                              {"id", "why" (null: it arrived)}}}
    conditions                for `check --explain`, by subject ("pid:start", "unit:NAME"), at most
                              64 of a kind: {"growth": {subject: bytes a second}, "growth_whole":
                              nobody else grows, "exhausts_in_s": {subject: s}, "oom_counted": bool,
                              "oom_killed": {subject: up, within an hour}, "limits_pressed":
                              [cgroups], "commit_short": bool or null, "alloc_failed_up": up or
                              null, "untold": [what nothing tells]}
"""

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from watchdog import words
from watchdog.store.place import StoreError, reason

NAME = "now.json"
DOCTOR = "doctor.json"  # what the doctor found in the daemon's own sandbox, after its start
OLD_AFTER_INTERVALS = 3


class Now(NamedTuple):
    """What was read: the object, its age in seconds (inf: of an earlier boot), and from where."""

    data: dict[str, Any]
    age_s: float
    path: str

    @property
    def old(self) -> bool:
        """Older than three intervals: the daemon is gone or stuck."""
        interval = self.data.get("interval_s")
        interval = float(interval) if isinstance(interval, (int, float)) else 10.0
        return self.age_s > OLD_AFTER_INTERVALS * max(interval, 1.0)


def write_now(folder: str, data: Mapping[str, Any]) -> None:
    """Replace FOLDER/now.json as a whole, mode 0640. Raises StoreError (one line)."""
    path = os.path.join(folder, NAME)
    fresh = path + ".new"
    raw = json.dumps(data, separators=(",", ":"), default=str).encode()
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(fresh, flags, 0o640)
        try:
            os.fchmod(fd, 0o640)
            while raw:
                raw = raw[os.write(fd, raw) :]
        finally:
            os.close(fd)
        os.rename(fresh, path)  # no fsync: after a crash of the machine nobody wants it
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(fresh)  # on a full disk half of it may lie there
        raise StoreError(f"{words.safe(path)} cannot be written: {reason(error)}") from None


def remove_now(folder: str) -> None:
    """The daemon has stopped: nothing is seen now. A file that is not there is fine."""
    for name in (NAME, DOCTOR):
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, name))


def read_now(
    folders: Iterable[str], boot_id: str | None = None, up: float | None = None
) -> Now | None:
    """The freshest now.json of `folders`, or None where there is none.

    Raises StoreError where one is there and cannot be read, and no other can. `boot_id` and `up`
    are this moment's, for tests.
    """
    boot_id = _boot_id() if boot_id is None else boot_id
    up = time.clock_gettime(time.CLOCK_BOOTTIME) if up is None else up
    found: list[Now] = []
    trouble: StoreError | None = None
    for folder in folders:
        path = os.path.join(folder, NAME)
        try:
            with open(path, "rb") as file:
                data = json.loads(file.read())
            if not isinstance(data, dict):
                raise ValueError("it holds no object")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, RecursionError) as error:
            why = reason(error) if isinstance(error, OSError) else "it is not what a daemon writes"
            trouble = trouble or StoreError(f"{words.safe(path)} cannot be read: {why}")
            continue
        found.append(Now(data, _age(data, boot_id, up), path))
    if not found and trouble:
        raise trouble
    return min(found, key=lambda now: now.age_s, default=None)


def _age(data: Mapping[str, Any], boot_id: str, up: float) -> float:
    written = data.get("up")
    boot = str(data.get("boot_id") or boot_id).replace("-", "")
    if boot != boot_id.replace("-", "") or not isinstance(written, (int, float)):
        return float("inf")
    return max(0.0, up - written)


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""

"""One test notification, sent from the command itself with the daemon's own couriers."""

import json
import os
import select
import tempfile
import time

from watchdog import words
from watchdog.child import Children
from watchdog.clock import RealClock
from watchdog.couriers import Hooks, Post
from watchdog.notices import trial
from watchdog.policy.rules import Notifier


def once(name: str, notifier: Notifier) -> tuple[str | None, float]:
    """(why it did not arrive or None, seconds)."""
    clock, children = RealClock(), Children()
    began = clock.boottime()
    row = trial(name, words.safe(os.uname().nodename), time.time(), f"watchdog.test-{os.getpid()}")
    with tempfile.TemporaryDirectory(prefix="oom-watchdog-") as folder:
        courier = Hooks(children) if notifier.argv else Post(clock, children, folder, None)
        courier.start([json.loads(row.json)], {name: notifier})
        while not (found := courier.results()):
            poller = select.poll()
            for fd, mask in children.fds().items():
                poller.register(fd, mask)
            poller.poll(200)
            children.turn()
    return found[0].why, clock.boottime() - began

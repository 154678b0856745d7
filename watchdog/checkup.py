"""The doctor's quick form: a child of the daemon, once after each start and each reload.

All rows go to doctor.json beside now.json; what is not well is told once, and is told to be over
when the next look finds it well.
"""

import json
import os
from typing import Any

from watchdog import words
from watchdog.child import PATH, Child, Children, ours
from watchdog.health import Health
from watchdog.policy.rules import Rules, to_plain
from watchdog.store.now import DOCTOR

DEADLINE_S = 60.0
TOLD_MAX = 8
_HANDED_ON = ("INVOCATION_ID", "RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY")


class Checkup:
    """`begin` starts the child, `over` takes what it found. Nothing here stops the start."""

    def __init__(self, children: Children, folder: str, state: str) -> None:
        self.children = children
        self.path = os.path.join(folder, DOCTOR)
        self.state = state
        self.child: Child | None = None

    def begin(self, rules: Rules, guard: int) -> None:
        """Look; where a look is under way already, that one will do."""
        if self.child is not None:
            return
        argv = [*ours("watchdog.doctor.program"), "--quick", "--state", self.state,
                "--guard", str(guard), "--write", self.path]  # fmt: skip
        env = {key: os.environ[key] for key in _HANDED_ON if key in os.environ}
        plain = json.dumps(to_plain(rules), default=str).encode()
        try:
            self.child = self.children.start(argv, plain, DEADLINE_S, env={"PATH": PATH, **env})
        except OSError:
            self.child = None  # no memory for it, of all moments: the next reload tries again

    def over(self, health: Health) -> None:
        """Tell what it found, once it is done."""
        child = self.child
        if child is None or not child.done:
            return
        self.child = None
        try:
            rows = json.loads(child.output)["rows"]
        except (ValueError, KeyError, TypeError):
            said = words.name(bytes(child.errors).strip()[-200:])
            why = f"the checks {child.failure() or 'gave no answer'}"
            health.degrade("doctor", f"{why}: {said}" if said else why)
            return
        failed = [_sentence(row) for row in rows if row.get("state") == "fail"]
        if failed:
            count = words.count(len(failed), "check")
            why = f"{count} of oom-watchdog doctor failed"
            health.degrade("doctor", why, *failed[:TOLD_MAX])
        else:
            health.recover("doctor", "the checks of oom-watchdog doctor no longer fail")


def _sentence(row: dict[str, Any]) -> str:
    parts = [str(row.get(key) or "") for key in ("found", "means", "to_do")]
    return words.safe(f"{row.get('what')}: " + "; ".join(part for part in parts if part))[:400]

"""Each kind of event: its MESSAGE_ID in the journal, and its priority (as in syslog, 0 to 7).

The texts that `journalctl -x` shows stand in systemd/oom-watchdog.catalog, under the same ids. An
id is never changed and never used again.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """``message_id`` is 32 hex figures; ``priority`` that of the plain case."""

    message_id: str
    priority: int


CRITICAL, ERROR, WARNING, NOTICE, INFO = 2, 3, 4, 5, 6

KINDS: Mapping[str, Kind] = {
    "leak.suspected": Kind("97b8bf4bdf4d4893b705feab3a3e8777", NOTICE),
    "leak.confirmed": Kind("effbf3a346b547deaa14d56e57930d7d", WARNING),
    "leak.hints": Kind("b3546822b72e40e09ab6141434481836", NOTICE),
    "leak.cleared": Kind("38f75daaaeea465bb84fc5f2b1e87b96", INFO),
    "leak.advisory": Kind("bb6513dab5d44e6cacfaeed764662301", NOTICE),
    "limit.pressed": Kind("f82e895940cd483ba04f13e53070e881", WARNING),
    "commit.short": Kind("9389e873a7774ff6a08ed4cfa3607ab0", WARNING),
    "alloc.failed": Kind("2c81de6227414223a33c3a9985f83011", ERROR),
    "pressure.begun": Kind("445d58f036b449918186cb2c18cdc0a4", WARNING),
    "pressure.ended": Kind("c8e61531c43f44c8ac56b207de01e777", INFO),
    "oom.kill": Kind("a7a310c5b2294be99ba68079deb7c795", CRITICAL),
    "oom.unattributed": Kind("51e920fa58fd491abae906d034f2abab", ERROR),
    "oom.forged": Kind("48209fb1e64f490486a2c56b6896b708", WARNING),
    "kill.other": Kind("df50117093fc41fbb75939d7bb165de4", WARNING),
    "policy.action": Kind("43b2db1aa128471da8e12a6c926bc1b5", WARNING),
    "guard.action": Kind("781cd410af0c4ef8928c134ff56e6d19", CRITICAL),
    "watchdog.started": Kind("b259752bb3c64538bf0d0455b3f0ded0", INFO),
    "watchdog.stopped": Kind("c7f663a340994826a3a1e46796e10bd6", INFO),
    "watchdog.reloaded": Kind("c1f16bb79e5b4364b89d05ed9f90a976", INFO),
    "watchdog.config_rejected": Kind("e6f81ae57d434f04a496cf1d128317a4", ERROR),
    "watchdog.degraded": Kind("bc467385f50f44109e3f6cd5cf1a0c57", WARNING),
    "watchdog.recovered": Kind("f987a4b783d841948f715d9fa6dfd031", INFO),
    "watchdog.dropped": Kind("b60a8114ca9c4765b82d2cd0c6053c53", WARNING),
    "watchdog.muted": Kind("41c0592b5fd6469bbf051bdcff8faaba", NOTICE),
    "watchdog.unmuted": Kind("2ccf0a86428643e7aea2dfe09a39eff3", INFO),
}

# A kind that a newer room tells and this table does not know yet.
OTHER = Kind("b02db209a2f94d389a5ee878535b79c0", NOTICE)


def kind(event: Mapping[str, Any]) -> Kind:
    """The kind of one event (as its JSON object), its priority by what happened."""
    found = KINDS.get(str(event.get("event")), OTHER)
    if event.get("state") == "ended":
        return found._replace(priority=INFO)
    if event.get("event") in ("policy.action", "guard.action"):
        match event.get("outcome"):
            case "would" | "gone" | "cooldown" | "protected" | "changed" | "muted":
                return found._replace(priority=NOTICE)
            case "failed" | "budget":
                return found._replace(priority=ERROR)
    return found

"""The values that flow on from the engine: to the desk, the policies, the store and whom it tells.

The law of `facts` holds here too, and everybody has them from there.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from watchdog.guard_facts import Entity


class Event(NamedTuple):
    """Something worth telling. ``id`` is deterministic: kind, boot, identity, episode."""

    kind: str
    id: str
    cause: str | None
    t: float
    up: float | None
    boot_id: str | None
    host: str | None
    because: tuple[str, ...]
    body: Mapping[str, Any]

    def flat(self) -> dict[str, Any]:
        """One JSON object, as every command and the journal tell it."""
        head = {
            "event": self.kind, "id": self.id, "cause": self.cause, "t": self.t, "up": self.up,
            "boot_id": self.boot_id, "host": self.host, "because": list(self.because),
        }  # fmt: skip
        return head | dict(self.body)


class Subject(NamedTuple):
    """One process or unit as the policies see it. None: not known, so a rule cannot be judged.

    Of growth, the end of memory and a limit None says that there is none, unless ``untold`` names
    them ("growth", "headroom", "limit"): then nothing tells.

    ``leak`` is "none", "suspected" or "confirmed"; ``limit_share`` is use of the unit's own limit,
    0..1; ``oom_killed_up`` is when a process of it was last killed by the kernel, proven by its
    counter.
    """

    key: str  # "pid:start" or "unit:NAME"; stable over a life, also across daemon restarts
    entity: Entity
    is_unit: bool
    cmdline: str | None = None
    cgroup: str | None = None
    trusted: bool | None = None
    oom_score_adj: int | None = None
    age_s: float | None = None
    resident_bytes: int | None = None
    growth_bytes_per_s: float | None = None
    leak: str | None = None
    exhausts_in_s: float | None = None
    limit_share: float | None = None
    oom_killed_up: float | None = None
    oom_counted: bool = True  # whether the kernel's own count of kills can be read
    limit_pressed: bool | None = None  # its cgroup, or one above it, is pinned at its limit
    commit_short: bool | None = None  # little may still be promised; of the whole machine
    alloc_failed: bool | None = None  # the kernel refused memory to anybody lately
    cause: str | None = None  # id of the latest event about it
    untold: tuple[str, ...] = ()
    oomd: str | None = None  # ManagedOOMPreference= of its unit: "omit", "avoid"


class Order(NamedTuple):
    """One action of one policy on one subject.

    ``outcome`` is set where nothing is left to be carried out (would, protected, cooldown,
    budget); None means: carry it out and feed an Outcome with this ``id``.
    """

    id: str
    policy: str
    do: str  # "log", "notify:NAME", "run:NAME", "evidence", "terminate", "kill", …
    mode: str  # "observe" | "enforce"
    subject: Subject
    incident: str
    cause: str | None
    because: tuple[str, ...]
    outcome: str | None


class EntityRecord(NamedTuple):
    """One entity's trend as the store keeps it; ``blob`` is opaque to the store."""

    key: str
    boot_id: str
    first_t: float
    last_t: float
    size_bytes: int
    blob: bytes


class HostRecord(NamedTuple):
    """One bucket of the machine's own counters; ``blob`` is opaque to the store.

    ``bucket`` is Unix time // ``bucket_s``; of this resolution the last ``most`` are kept, or all.
    """

    bucket_s: int
    bucket: int
    t: float
    boot_id: str
    blob: bytes
    most: int = 0


class Notice(NamedTuple):
    """One notification in the outbox; ``json`` is all of it, opaque to the store."""

    id: str
    t: float
    json: str

"""Pure: the rules as values. The loader makes them, everything else only reads them.

A quantity is a plain number in the unit that its name ends with: seconds, bytes, 0..1 for shares.
`to_plain` and `from_plain` carry the rules from the loader's process to the daemon's.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from watchdog.policy.guard_when import GuardRules, guard_from_plain, guard_plain

Texts = tuple[str, ...]
Budget = tuple[int, float]  # times, per_s

# What a policy can do. PLAIN is carried out in observe too; the others are only said there.
PLAIN = ("log", "notify", "evidence")
# At most one of these in a policy, and one at a time on an entity.
DESTRUCTIVE = ("terminate", "kill", "kill-unit", "restart-unit")
# Protection bars these for everybody; those it bars only where the policy has a wildcard.
BARRED = ("terminate", "kill", "kill-unit")
BARRED_BY_WILDCARD = ("restart-unit", "throttle")
ACTIONS = (*PLAIN, "run", *DESTRUCTIVE, "throttle")
# A throttle has so long before it can be called of no use, and is asked about so often.
CHECK_S = 60.0

MODES = ("observe", "enforce")
SOURCES = ("auto", "kmsg", "journal", "off")
GUARD_MODES = ("off", "observe", "enforce")
LEAKS = ("suspected", "confirmed")


class Watch(NamedTuple):
    """[watch]"""

    interval_s: float = 10.0


class KernelLog(NamedTuple):
    """[kernel_log]"""

    source: str = "auto"


class Selector(NamedTuple):
    """[protect], [prefer], [avoid]: patterns; one that matches is enough. ``user`` holds uids."""

    unit: Texts = ()
    name: Texts = ()
    name_unverified: Texts = ()
    exe: Texts = ()
    cgroup: Texts = ()
    container: Texts = ()
    user: tuple[int, ...] = ()


class Match(NamedTuple):
    """Whom a policy is about: every key that is set must match, one entry of it is enough."""

    name: Texts = ()
    cmdline: Texts = ()
    exe: Texts = ()
    user: tuple[int, ...] = ()
    unit: Texts = ()
    cgroup: Texts = ()
    container: Texts = ()
    min_age_s: float | None = None
    min_resident: int | None = None


class When(NamedTuple):
    """What must hold of the subject; all that is set."""

    leak: str | None = None
    exhausts_within_s: float | None = None
    resident_above: int | None = None
    growth_above: float | None = None  # bytes a second
    pressure: bool | None = None
    limit_above: float | None = None  # share of the unit's own limit
    oom_kill: bool | None = None
    limit_pressed: bool | None = None
    commit_short: bool | None = None
    alloc_failed: bool | None = None


class Policy(NamedTuple):
    """[policies.NAME]"""

    name: str
    match: Match = Match()
    when: When = When()
    for_s: float = 0.0
    do: Texts = ()
    mode: str = "observe"
    cooldown_s: float = 600.0
    budget: Budget = (6, 3600.0)
    per: str = "process"  # "unit" | "process"


class Notifier(NamedTuple):
    """[notify.NAME]: exactly one is set."""

    argv: Texts | None = None
    url: str | None = None
    url_credential: str | None = None


class Hook(NamedTuple):
    """[run.NAME]"""

    argv: Texts = ()
    user: str | None = None
    timeout_s: float = 30.0
    at_most: Budget | None = None


class MuteRule(NamedTuple):
    """[mute.NAME]; ``until`` is Unix seconds."""

    name: str
    match: Match = Match()
    until: float = 0.0


class Store(NamedTuple):
    """[store]"""

    max_bytes: int = 64 << 20


BUILT_IN_PROTECT = Selector(
    unit=(
        "init.scope", "oom-watchdog*.service",
        "systemd-*.service", "dbus.service", "dbus-broker.service",
        "ssh.service", "sshd.service", "ssh@*.service", "sshd@*.service",
        "getty@*", "serial-getty@*", "console-getty.service", "container-getty@*",
        "docker.service", "containerd.service", "crio.service", "podman.service",
        "kubelet.service", "k3s.service", "k3s-agent.service", "libvirtd.service",
        "snap.lxd.daemon.service", "incus.service",
    ),
    exe=(
        "/usr/lib/systemd/*", "/lib/systemd/*", "/usr/sbin/init", "/sbin/init",
        "/usr/sbin/sshd", "/usr/lib/openssh/*", "/usr/libexec/openssh/*",
        "/usr/bin/dbus-daemon", "/usr/bin/dbus-broker*", "/usr/sbin/agetty", "/sbin/agetty",
        "/usr/bin/dockerd", "/usr/bin/containerd*", "/usr/bin/conmon", "/usr/bin/crio",
    ),
)  # fmt: skip


class Rules(NamedTuple):
    """The whole configuration. ``policies`` are sorted by name."""

    watch: Watch = Watch()
    kernel_log: KernelLog = KernelLog()
    guard: GuardRules = GuardRules()
    protect: Selector = BUILT_IN_PROTECT
    prefer: Selector = Selector()
    avoid: Selector = Selector()
    policies: tuple[Policy, ...] = ()
    notify: Mapping[str, Notifier] = {}
    run: Mapping[str, Hook] = {}
    store: Store = Store()
    mutes: tuple[MuteRule, ...] = ()

    def policy(self, name: str) -> Policy | None:
        """The policy of that name."""
        return next((one for one in self.policies if one.name == name), None)


# The built-in configuration as a file would write it; `default_rules` is the same as values.
DEFAULTS: dict[str, Any] = {
    "watch": {"interval": "10s"},
    "kernel_log": {"source": "auto"},
    "guard": {
        "mode": "observe", "available_below": "5%", "swap_free_below": "10%",
        "stalled_above": "40% for 2s", "victim": "blame", "kill": "process",
        "budget": "6 per 1h", "revive": True,
    },
    "protect": {"unit": list(BUILT_IN_PROTECT.unit), "exe": list(BUILT_IN_PROTECT.exe)},
    "store": {"size": "64MiB"},
}  # fmt: skip


def default_rules() -> Rules:
    """The built-in rules: everything is watched, nothing is done."""
    return Rules()


def enforces(rules: Rules) -> bool:
    """Would any policy act?"""
    return any(policy.mode == "enforce" for policy in rules.policies)


def guard_settings(rules: Rules) -> dict[str, Any]:
    """What the guard needs of the rules, as marshal takes it."""
    return guard_plain(rules) | {"enforces": enforces(rules)}


def verb(action: str) -> str:
    """ "notify" of "notify:ops"."""
    return action.partition(":")[0]


def to_plain(rules: Rules) -> dict[str, Any]:
    """The rules as JSON takes them."""
    plain = {key: _thaw(value) for key, value in rules._asdict().items() if key != "guard"}
    return plain | {"guard": guard_plain(rules.guard)}


def from_plain(plain: Mapping[str, Any]) -> Rules:
    """The inverse of `to_plain`; what is missing has its default, what is unknown is ignored."""
    return Rules(
        watch=_make(Watch, plain.get("watch", {})),
        kernel_log=_make(KernelLog, plain.get("kernel_log", {})),
        guard=guard_from_plain(plain.get("guard", {})),
        protect=_make(Selector, plain["protect"]) if "protect" in plain else BUILT_IN_PROTECT,
        prefer=_make(Selector, plain.get("prefer", {})),
        avoid=_make(Selector, plain.get("avoid", {})),
        policies=tuple(
            _make(Policy, one)._replace(
                match=_make(Match, one.get("match", {})), when=_make(When, one.get("when", {}))
            )
            for one in sorted(plain.get("policies", ()), key=lambda one: str(one["name"]))
        ),
        notify={name: _make(Notifier, one) for name, one in plain.get("notify", {}).items()},
        run={name: _make(Hook, one) for name, one in plain.get("run", {}).items()},
        store=_make(Store, plain.get("store", {})),
        mutes=tuple(
            _make(MuteRule, one)._replace(match=_make(Match, one.get("match", {})))
            for one in plain.get("mutes", ())
        ),
    )


T = TypeVar("T", bound=tuple[Any, ...])


def _make(kind: type[T], plain: Mapping[str, Any]) -> T:
    fields: Iterable[str] = kind._fields  # type: ignore[attr-defined]
    return kind(**{key: _freeze(plain[key]) for key in fields if key in plain})


def _freeze(value: Any) -> Any:
    return tuple(_freeze(one) for one in value) if isinstance(value, list) else value


def _thaw(value: Any) -> Any:
    if isinstance(value, tuple):
        fields = getattr(value, "_asdict", None)
        return _thaw(fields()) if fields else [_thaw(one) for one in value]
    if isinstance(value, Mapping):
        return {key: _thaw(one) for key, one in value.items()}
    return value

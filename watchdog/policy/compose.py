"""Pure: validated values -> Rules, with everything that one key alone cannot tell.

Whether a user or a program is there is asked through functions: this room reads nothing.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from watchdog import procfs, words
from watchdog.policy import pattern
from watchdog.policy.conditions import OOM_RECENT_S
from watchdog.policy.guard_when import GuardRules
from watchdog.policy.rules import (
    CHECK_S,
    DESTRUCTIVE,
    Hook,
    KernelLog,
    Match,
    MuteRule,
    Notifier,
    Policy,
    Rules,
    Selector,
    Store,
    Watch,
    When,
    verb,
)
from watchdog.policy.target import stages

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.")
_CREDENTIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
UNIT_KEYS = frozenset({"unit", "cgroup", "container"})
_ANYBODY = UNIT_KEYS - {"container"} | {"name", "exe", "cmdline"}  # everybody has one of these
PASSING_KEYS = frozenset({"min_age", "min_resident"})

UidOf = Callable[[str], int | str]
ProgramFlaw = Callable[[str], str | None]
UserFlaw = Callable[[str], str | None]


def _can_be_unit(wanted: str) -> bool:
    """Can a name with the suffix of a unit match it? What stands behind its last wildcard says."""
    end = re.split(r"[*?\]]", wanted)[-1]
    return any(end.endswith(one) or one.endswith(end) for one in procfs.UNIT_SUFFIXES)


def _can_be_path(wanted: str) -> bool:
    return wanted.startswith(("/", "*", "?", "["))


_ENDS = f"{', '.join(procfs.UNIT_SUFFIXES[:-1])} or {procfs.UNIT_SUFFIXES[-1]}"
_CAN: tuple[tuple[str, Callable[[str], bool], str, str], ...] = (
    ("unit", _can_be_unit, "unit", f"its name ends in {_ENDS}"),
    ("exe", _can_be_path, "executable", 'its path begins with "/"'),
    ("cgroup", _can_be_path, "cgroup", 'its path begins with "/"'),
)


class Problem(NamedTuple):
    """A dotted key, and what is wrong with it."""

    key: str
    what: str


class Caution(NamedTuple):
    """A dotted key, and what is to be warned about; `entry`: of that entry of its list."""

    key: str
    what: str
    entry: str = ""


class _Composer:
    def __init__(self, uid_of: UidOf, program_flaw: ProgramFlaw, user_flaw: UserFlaw) -> None:
        self.uid_of, self.program_flaw, self.user_flaw = uid_of, program_flaw, user_flaw
        self.problems: list[Problem] = []
        self.cautions: list[Caution] = []

    def refuse(self, key: str, what: str) -> None:
        self.problems.append(Problem(key, what))

    def uids(self, key: str, users: tuple[str, ...]) -> tuple[int, ...]:
        found = []
        for user in users:
            uid = self.uid_of(user)
            if isinstance(uid, str):
                self.refuse(key, uid)
            else:
                found.append(uid)
        return tuple(found)

    def selector(self, section: str, table: Mapping[str, Any]) -> Selector:
        plain = dict(table)
        if "user" in plain:
            plain["user"] = self.uids(f"{section}.user", plain["user"])
        for name in plain.get("name_unverified", ()):
            self.cautions.append(Caution(
                f"{section}.name_unverified",
                f'anybody can take the name "{words.safe(name)}", and is protected then',
            ))  # fmt: skip
        self.matchable(section, plain)
        return Selector(**plain)

    def policy(self, name: str, table: Mapping[str, Any], notify: Any, run: Any) -> Policy:
        at = f"policies.{name}"
        match = dict(table.get("match") or {})
        when = dict(table.get("when") or {})
        for key, there, what in (
            ("match", match, 'whom it is about, such as { unit = "shop-*.service" }'),
            ("when", when, 'a condition, such as { leak = "confirmed" }'),
            ("do", table.get("do"), 'what to do, such as ["log"]'),
        ):
            if not there:
                self.refuse(f"{at}.{key}", f"missing; expected {what}")
        do: tuple[str, ...] = table.get("do") or ()
        mode = table.get("mode", "observe")
        self.check_actions(f"{at}.do", do, notify, run)
        asked = set(match) - PASSING_KEYS
        per = table.get("per") or ("unit" if asked and asked <= UNIT_KEYS else "process")
        if per == "unit" and not asked <= UNIT_KEYS:
            odd = sorted(asked - UNIT_KEYS)[0]
            self.refuse(f"{at}.match.{odd}", 'a unit has none; with per = "unit" a match may hold '
                        "unit, cgroup, container, min_age, min_resident")  # fmt: skip
        if when.get("oom_kill") and table.get("for", 0.0) >= OOM_RECENT_S:
            most = words.duration(OOM_RECENT_S)
            self.refuse(f"{at}.for", f"with oom_kill expected less than {most}: so long it holds")
        if when.get("alloc_failed") and table.get("for", 0.0) >= OOM_RECENT_S:
            most = words.duration(OOM_RECENT_S)
            self.refuse(f"{at}.for", f"with alloc_failed expected less than {most}: so long it "
                        "holds")  # fmt: skip
        if "throttle" in do and table.get("cooldown", 1.0) < 1.0:
            self.refuse(f"{at}.cooldown", "with throttle expected 1 s or more: so long the limit "
                        "holds")  # fmt: skip
        if stages(do)[1] and table.get("cooldown", CHECK_S) < CHECK_S:
            self.refuse(f"{at}.cooldown", f"with {stages(do)[1][0]} behind throttle expected "
                        f"{words.duration(CHECK_S)} or more: after that the limit can be called of "
                        "no use")  # fmt: skip
        if when.get("limit_above", 0.0) >= 1.0:
            self.refuse(f"{at}.when.limit_above", "expected less than 100%: nobody holds more than "
                        "its limit")  # fmt: skip
        self.sights(f"{at}.match.cmdline", match)
        self.matchable(f"{at}.match", match)
        strong = [one for one in do if verb(one) in DESTRUCTIVE]
        if mode == "enforce" and strong and match and all(map(_passes, match, match.values())):
            self.cautions.append(Caution(
                f"{at}.match", f'leaves nobody out: with mode = "enforce" {strong[0]} is done to '
                f"any {per} that meets its when, but for the protected",
            ))  # fmt: skip
        if "user" in match:
            match["user"] = self.uids(f"{at}.match.user", match["user"])
        return Policy(
            name,
            Match(**_suffixed(match, min_age="min_age_s")),
            When(**_suffixed(when, exhausts_within="exhausts_within_s")),
            do=do, mode=mode, per=per,
            **_suffixed(_only(table, "for", "cooldown", "budget"),
                        cooldown="cooldown_s", **{"for": "for_s"}),
        )  # fmt: skip

    def matchable(self, at: str, table: Mapping[str, Any]) -> None:
        """Warn of each pattern that matches nobody, whatever runs: mostly a slip."""
        for key, can, noun, must in _CAN:
            for one in table.get(key, ()):
                if not can(one):
                    what = f'"{words.safe(one)}" matches no {noun}: {must}'
                    self.cautions.append(Caution(f"{at}.{key}", what, one))

    def sights(self, key: str, match: Mapping[str, Any]) -> None:
        for one in match.get("cmdline", ()):
            seen = pattern.sight(one[1:]) if pattern.is_regex(one) else pattern.TEXT_MAX
            if seen < pattern.TEXT_MAX:
                end = ", and asks for the end: it matches no longer one"
                self.cautions.append(Caution(
                    key, f'"{words.safe(one)}" sees the first {seen} characters of a command line'
                    f'{end if pattern.asks_end(one[1:]) else ""}: more could take for ever; behind '
                    'a "^", or with fewer of "*" and "+" or longer words between, it sees more',
                ))  # fmt: skip

    def check_actions(self, key: str, do: tuple[str, ...], notify: Any, run: Any) -> None:
        for one in do:
            kind, _, name = one.partition(":")
            for named, known, noun in (("notify", notify, "notifier"), ("run", run, "run hook")):
                if kind == named and name not in known:
                    missing = f'no {noun} "{words.safe(name)}": there is no [{named}.{name}]'
                    self.refuse(key, missing + words.nearest(name, known))
        strong = [one for one in do if verb(one) in DESTRUCTIVE]
        if len(strong) > 1:
            self.refuse(key, f"expected at most one of {', '.join(DESTRUCTIVE)}, found "
                        + " and ".join(strong))  # fmt: skip

    def notifier(self, name: str, table: Mapping[str, Any]) -> Notifier:
        at = f"notify.{name}"
        if len(table) != 1:
            self.refuse(at, "expected exactly one of url, url_credential, argv, found "
                        + (" and ".join(sorted(table)) or "none"))  # fmt: skip
        if "argv" in table and (flaw := self.program_flaw(table["argv"][0])):
            self.refuse(f"{at}.argv", flaw)
        # never shown: a URL mostly holds a password or a token
        if "url" in table and not _URL.match(table["url"]):
            self.refuse(f"{at}.url", 'expected a URL of Apprise, such as "mailto://…"')
        if "url_credential" in table and not _CREDENTIAL.fullmatch(table["url_credential"]):
            self.refuse(f"{at}.url_credential", "expected the name of a credential: letters, "
                        "figures, and _ . -")  # fmt: skip
        return Notifier(**table)

    def hook(self, name: str, table: Mapping[str, Any]) -> Hook:
        at = f"run.{name}"
        argv = table.get("argv")
        if not argv:
            self.refuse(f"{at}.argv", 'missing; expected ["/path/of/program", ...]')
        elif flaw := self.program_flaw(argv[0]):
            self.refuse(f"{at}.argv", flaw)
        if table.get("user") and (flaw := self.user_flaw(table["user"])):
            self.refuse(f"{at}.user", flaw)
        return Hook(**_suffixed(table, timeout="timeout_s"))

    def mute(self, name: str, table: Mapping[str, Any]) -> MuteRule:
        at, match = f"mute.{name}", dict(table.get("match") or {})
        if not match:
            self.refuse(f"{at}.match", 'missing; expected whom it is about, such as '
                        '{ unit = "shop-*.service" }')  # fmt: skip
        if table.get("until") is None:
            self.refuse(f"{at}.until", "missing; expected its end, such as 2026-12-01 08:00:00: "
                        "who is muted for ever is forgotten")  # fmt: skip
        if "user" in match:
            match["user"] = self.uids(f"{at}.match.user", match["user"])
        self.sights(f"{at}.match.cmdline", match)
        self.matchable(f"{at}.match", match)
        found = Match(**_suffixed(match, min_age="min_age_s"))
        return MuteRule(name, found, table.get("until") or 0.0)

    def guard(self, table: Mapping[str, Any]) -> GuardRules:
        return GuardRules(**table)


def compose(
    values: Mapping[str, Any], uid_of: UidOf, program_flaw: ProgramFlaw, user_flaw: UserFlaw
) -> tuple[Rules, list[Problem], list[Caution]]:
    """(the rules, what is wrong, what is only to be warned about)."""
    one = _Composer(uid_of, program_flaw, user_flaw)
    notify, run = values.get("notify") or {}, values.get("run") or {}
    policies, mute = values.get("policies") or {}, values.get("mute") or {}
    rules = Rules(
        watch=Watch(**_suffixed(values.get("watch") or {}, interval="interval_s")),
        kernel_log=KernelLog(**values.get("kernel_log") or {}),
        guard=one.guard(values.get("guard") or {}),
        protect=one.selector("protect", values.get("protect") or {}),
        prefer=one.selector("prefer", values.get("prefer") or {}),
        avoid=one.selector("avoid", values.get("avoid") or {}),
        policies=tuple(one.policy(name, policies[name], notify, run) for name in sorted(policies)),
        notify={name: one.notifier(name, notify[name]) for name in sorted(notify)},
        run={name: one.hook(name, run[name]) for name in sorted(run)},
        mutes=tuple(one.mute(name, mute[name]) for name in sorted(mute)),
        store=Store(**_suffixed(values.get("store") or {}, size="max_bytes")),
    )
    return rules, one.problems, one.cautions


def _suffixed(table: Mapping[str, Any], **renamed: str) -> dict[str, Any]:
    """The table with keys of the configuration renamed to those of the rules."""
    return {renamed.get(key, key): value for key, value in table.items()}


def _passes(key: str, wanted: Any) -> bool:
    """Does that key of a match let everybody pass, but for the newly born?"""
    return key == "min_age" or (key in _ANYBODY and any(map(_matches_all, wanted)))


def _matches_all(one: str) -> bool:
    if pattern.is_regex(one):
        return one[1:].removeprefix("^").removesuffix("$") in ("", ".", ".*", ".+")
    return "*" in one and not one.removeprefix("/").strip("*?")


def _only(table: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: table[key] for key in keys if key in table}

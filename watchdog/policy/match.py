"""Pure: whom a rule is about, and who is never to be touched.

A rule that asks for something which is not known is not answered with "does not match": it cannot
be judged. Names can be taken by anybody, so protection by name also wants a trusted executable.
"""

from typing import Any, NamedTuple

from watchdog.facts import Subject
from watchdog.policy import pattern
from watchdog.policy.rules import Match, Rules, Selector
from watchdog.procfs import SYSTEM_UID_BELOW

COMM_MAX = 15  # bytes; the kernel cuts there
# What the administrator has already said with oom_score_adj.
PROTECTED_AT, AVOIDED_BELOW = -900, 0


class Found(NamedTuple):
    """``holds`` is None where ``missing`` is not known; ``because`` says by which entries."""

    holds: bool | None
    missing: str = ""
    because: tuple[str, ...] = ()


def names(s: Subject) -> tuple[tuple[str, ...], bool]:
    """The names of a process, and whether that is all that can be known.

    A comm of 15 bytes may be cut: then the file name of the executable counts too, if it goes on
    where comm ends.
    """
    comm, exe = s.entity.comm, s.entity.exe
    if comm is None:
        return (), False
    if len(comm.encode("utf-8", "replace")) < COMM_MAX:
        return (comm,), True
    if exe is None:
        return (comm,), False
    base = exe.rpartition("/")[2].removesuffix(" (deleted)")
    return ((comm, base), True) if base.startswith(comm) and base != comm else ((comm,), True)


def look(match: Match, s: Subject) -> Found:
    """Is the subject one that the policy is about?"""
    missing = ""
    because: list[str] = []
    for key in ("unit", "name", "exe", "cmdline", "user", "cgroup", "container"):
        wanted = getattr(match, key)
        if not wanted:
            continue
        found = _key(key, wanted, s)
        if found == "":
            return Found(False)
        if found is None:
            missing = missing or _needs(key, s)
        else:
            because.append(found)
    for label, least, value in (
        ("age", match.min_age_s, s.age_s), ("resident", match.min_resident, s.resident_bytes),
    ):  # fmt: skip
        if least is None:
            continue
        if value is None:
            missing = missing or label
        elif value < least:
            return Found(False)
    return Found(None, missing) if missing else Found(True, "", tuple(because))


def matches(match: Match, s: Subject) -> bool | None:
    """As `look`: True, False, or None where it cannot be judged."""
    return look(match, s).holds


def _key(key: str, wanted: tuple[Any, ...], s: Subject) -> str | None:
    """By what the key matches, "" where it does not, None where that is not known."""
    entity = s.entity
    if key == "user":
        if entity.uid is None:
            return None
        return f"user {entity.uid}" if entity.uid in wanted else ""
    if key == "name":
        found, whole = names(s)
        for one in found:
            if hit := pattern.first(wanted, one):
                return f"name {one} matches {hit}"
        return "" if whole or s.is_unit else None
    if key == "cmdline":
        if s.cmdline is None:
            return "" if s.is_unit else None
        by = pattern.first_cmdline(wanted, s.cmdline)
        return f"cmdline matches {by}" if by else ""
    text = {"unit": entity.unit, "exe": entity.exe, "cgroup": s.cgroup,
            "container": entity.container}[key]  # fmt: skip
    if text is None:
        # A row always tells the unit. Who is in no container has a cgroup that shows it.
        known = key == "unit" or s.is_unit or (key == "container" and s.cgroup is not None)
        return "" if known else None
    by = pattern.first(wanted, text)
    return f"{key} {text} matches {by}" if by else ""


def _needs(key: str, s: Subject) -> str:
    if key == "name":
        return "comm" if s.entity.comm is None else "exe"
    return {"user": "uid", "container": "cgroup"}.get(key, key)


def protected(rules: Rules, s: Subject) -> str | None:
    """Why nobody may terminate or kill the subject, in words, or None."""
    entity, rule = s.entity, rules.protect
    if entity.pid in (1, 2):
        return f"it is PID {entity.pid}"
    if entity.unit is not None and (hit := pattern.first(rule.unit, entity.unit)):
        return f"unit {entity.unit} is protected (protect.unit {hit})"
    if s.oomd == "omit":
        return f"unit {entity.unit} is omitted by the administrator (ManagedOOMPreference=omit)"
    if s.oom_score_adj is not None and s.oom_score_adj <= PROTECTED_AT:
        return f"its oom_score_adj is {s.oom_score_adj}"
    if entity.uid is not None and entity.uid in rule.user:
        return f"user {entity.uid} is protected (protect.user)"
    if s.is_unit:
        return None
    for name in names(s)[0]:
        if hit := pattern.first(rule.name_unverified, name):
            return f"name {name} is protected (protect.name_unverified {hit})"
        if _vouched(s) and (hit := pattern.first(rule.name, name)):
            return f"name {name} is protected (protect.name {hit}{_doubt(s)})"
    # "(deleted)" stands behind the path of an executable that an upgrade has replaced
    exe = entity.exe.removesuffix(" (deleted)") if entity.exe else None
    if exe and _vouched(s) and (hit := pattern.first(rule.exe, exe)):
        return f"executable {exe} is protected (protect.exe {hit}{_doubt(s)})"
    return None


def _vouched(s: Subject) -> bool:
    """May the executable speak for it?

    Where it cannot be looked at (by who is not root, or in an old recording) root and the system
    accounts are believed. A person could hide it: of whom that is known nobody is.
    """
    if s.trusted is not None:
        return s.trusted
    return s.entity.uid is None or s.entity.uid < SYSTEM_UID_BELOW


def _doubt(s: Subject) -> str:
    return "" if s.trusted else "; who owns the executable is not known"


def weight(rules: Rules, s: Subject) -> int:
    """+1: rather this one, -1: rather another, 0. What the configuration says goes first."""
    if selects(rules.avoid, s):
        return -1
    if selects(rules.prefer, s):
        return 1
    adj = s.oom_score_adj or 0
    if s.oomd == "avoid":
        return -1
    return -1 if PROTECTED_AT < adj < AVOIDED_BELOW else int(adj > 0)


def selects(rule: Selector, s: Subject) -> str | None:
    """By which entry of [prefer] or [avoid], in words, or None. A bare name is enough here."""
    entity = s.entity
    if entity.uid is not None and entity.uid in rule.user:
        return f"user {entity.uid}"
    found: list[tuple[str, tuple[str, ...], str | None]] = [
        ("unit", rule.unit, entity.unit), ("exe", rule.exe, entity.exe),
        ("cgroup", rule.cgroup, s.cgroup), ("container", rule.container, entity.container),
    ]  # fmt: skip
    found += [("name", rule.name, text) for text in names(s)[0]]
    for key, wanted, text in found:
        if wanted and text is not None and (hit := pattern.first(wanted, text)):
            return f"{key} {hit}"
    return None

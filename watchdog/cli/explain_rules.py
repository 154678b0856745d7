"""What the rules mean for one process or unit: `check --explain`.

Leaks, growth and what the kernel did are the daemon's, from its now.json, sizes and limits those of
/proc and of the cgroups. What neither tells (everything that only a history can tell where no
daemon runs) is said to be unknown.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from watchdog import procfs, words
from watchdog.cli import args as common
from watchdog.facts import Entity, Group, Subject
from watchdog.history.world import used_bytes
from watchdog.judge.refusals import RECENT_S
from watchdog.policy.conditions import all_hold, conditions
from watchdog.policy.match import look, protected, selects, weight
from watchdog.policy.rules import Policy, Rules
from watchdog.policy.target import cools, target
from watchdog.sense import wide
from watchdog.sense.cgroups import Cgroups
from watchdog.sense.senses import reclaimable

SHOWN_MAX = 20
KILLS_KNOWN_S = 3600.0  # judge.kills.REMEMBERED_S, whose module loads the reader of reports
# Of whom nothing but /proc tells.
UNTOLD = ("growth", "headroom", "limit")
_ABOUT = {"unit": "it is about units", "process": "it is about processes"}


def explain(rules: Rules, who: str, state: str | None, as_json: bool) -> int:
    """Print the answer; the exit status: 1 where nobody is called that."""
    now, said = _now(state)
    everybody = list(_processes())
    live = list(_subjects(who, now, everybody))
    if not live:
        common.complain(f'no process or unit "{words.safe(who)}" is here')
        return common.NOTHING
    if said and not as_json:
        print(said, file=sys.stderr)
    cgroups = _cgroups()
    answers = [_answer(rules, _limited(s, cgroups), now, everybody) for s in live[:SHOWN_MAX]]
    if as_json:
        print(json.dumps(answers))
        return 0
    print("\n\n".join("\n".join(_lines(one)) for one in answers))
    if len(live) > SHOWN_MAX:
        print(f"\n{len(live) - SHOWN_MAX} more; name a PID to see one of them")
    return 0


# ---- who ---------------------------------------------------------------------------------------


def _now(state: str | None) -> tuple[dict[str, Any], str]:
    """What the daemon sees, or {} with the reason why that is not known."""
    from watchdog.store.now import read_now
    from watchdog.store.place import StoreError, now_dirs

    try:
        found = read_now(now_dirs(state))
    except StoreError as error:
        return {}, f"without the daemon's view: {error}"
    if found is None:
        return {}, "no daemon runs: leaks and growth are not known"
    if found.old:
        return {}, "the daemon's view is old: leaks and growth are not known"
    return found.data, ""


def _subjects(who: str, now: dict[str, Any], rows: list[Subject]) -> Iterator[Subject]:
    """The unit of that name first, then the processes by PID, name or unit."""
    if not who.isdigit():
        named = [s for s in rows if s.entity.unit == who]
        leaks = [
            one for one in now.get("leaks") or () if one.get("unit") == who and "part" not in one
        ]
        if named or leaks:
            yield _unit(who, named, leaks, now)
            # a unit by its members: the largest few
            named.sort(key=lambda s: -(s.resident_bytes or 0))
            yield from (_with_leak(s, now) for s in named[:5])
            return
    for s in rows:
        entity = s.entity
        names = {entity.comm, (entity.exe or "").rpartition("/")[2]} - {""}
        if str(entity.pid) == who or (not who.isdigit() and who in names):
            yield _with_leak(s, now)


def _unit(
    unit: str, members: list[Subject], leaks: list[dict[str, Any]], now: dict[str, Any]
) -> Subject:
    """As policy.view sees it: of who is as bad in it the unit itself, then who grows most."""
    itself = next((one for one in leaks if one.get("pid") is None), None)
    worst = max(
        leaks, default=None,
        key=lambda one: (
            one.get("level") == "confirmed", one is itself, one.get("rate_bytes_per_s") or 0
        ),
    )  # fmt: skip
    path = min((s.cgroup for s in members if s.cgroup), key=len, default="")
    above, found, _ = f"{path}/".partition(f"/{unit}/")
    s = Subject(
        key=f"unit:{unit}", entity=Entity(unit=unit), is_unit=True,
        cgroup=f"{above}/{unit}" if found else path or None,
        age_s=max((s.age_s or 0.0 for s in members), default=None),
        resident_bytes=sum(s.resident_bytes or 0 for s in members),
        oom_counted=False, untold=UNTOLD,
    )  # fmt: skip
    return _leaking(_seen(s, now), worst, itself, now) if now else s


def _with_leak(s: Subject, now: dict[str, Any]) -> Subject:
    if not now:
        return s
    leaks = now.get("leaks") or ()
    ident = s.entity.pid, s.entity.start
    own = next((one for one in leaks if (one.get("pid"), one.get("start")) == ident), None)
    return _leaking(_seen(s, now), own, own, now)


def _leaking(
    s: Subject, worst: dict[str, Any] | None, own: dict[str, Any] | None, now: dict[str, Any]
) -> Subject:
    """With the level and the end of the `worst` of its leaks, and with its own rate."""
    told: list[str] = []
    if worst is not None:
        told.append("headroom")
        s = s._replace(leak=str(worst.get("level")), exhausts_in_s=worst.get("exhausts_in_s"))
    rate = own.get("rate_bytes_per_s") if own is not None else None
    if rate is not None and not _conditions(now):
        told.append("growth")
        s = s._replace(growth_bytes_per_s=rate)
    return s._replace(untold=tuple(what for what in s.untold if what not in told))


def _conditions(now: dict[str, Any]) -> dict[str, Any]:
    """What the daemon tells for us; {} where it is one that does not."""
    found = now.get("conditions")
    return found if isinstance(found, dict) else {}


def _seen(s: Subject, now: dict[str, Any]) -> Subject:
    """As the daemon sees it, but for its leaks."""
    s, told = s._replace(leak="none"), _conditions(now)
    if not told:
        return s
    growth, pressed = told.get("growth") or {}, told.get("limits_pressed") or ()
    untold = {"limit", *(told.get("untold") or ())}
    if s.key not in growth and not told.get("growth_whole"):
        untold.add("growth")
    refused = told.get("alloc_failed_up")
    limited: bool | None = None
    if s.cgroup is not None and "limit" not in (told.get("untold") or ()):
        limited = any(f"{s.cgroup}/".startswith(f"{path}/") for path in pressed)
    return s._replace(
        growth_bytes_per_s=growth.get(s.key),
        exhausts_in_s=(told.get("exhausts_in_s") or {}).get(s.key),
        oom_counted=bool(told.get("oom_counted")),
        oom_killed_up=(told.get("oom_killed") or {}).get(s.key),
        limit_pressed=limited,
        commit_short=told.get("commit_short"),
        alloc_failed=refused is not None and float(now.get("up") or 0.0) - refused <= RECENT_S,
        untold=tuple(sorted(untold)),
    )


def _cgroups() -> Cgroups:
    found = Cgroups()
    with contextlib.suppress(OSError):  # without it a little too much is counted on cgroup v1
        found.reclaimable = reclaimable(procfs.parse_kb(_read("/proc/meminfo")))
    return found


def _limited(s: Subject, cgroups: Cgroups) -> Subject:
    """With what its cgroup and those above it hold of their limits; of a unit what it holds."""
    groups = cgroups.read(0.0, 0.0, [s.cgroup] if s.cgroup else [])
    said = (one.oomd for one in groups if one.oomd and one.unit == s.entity.unit)
    s = s._replace(oomd=next(said, None))
    own: Group | None = next((one for one in groups if one.cgroup == s.cgroup), None)
    if own is None:
        return s
    shares = [used_bytes(one) / one.limit for one in groups if one.limit]
    return s._replace(
        resident_bytes=used_bytes(own) if s.is_unit else s.resident_bytes,
        limit_share=max(shares, default=None),
        untold=tuple(what for what in s.untold if what != "limit"),
    )


def _processes(root: str = "/proc") -> Iterator[Subject]:
    """Everybody in /proc, as the daemon would see them at first sight."""
    page = os.sysconf("SC_PAGE_SIZE")
    ticks = os.sysconf("SC_CLK_TCK")
    try:
        uptime = float(_read(f"{root}/uptime").split()[0])
        pids = [int(name) for name in os.listdir(root) if name.isdigit()]
    except (OSError, ValueError, IndexError):
        return
    for pid in sorted(pids):
        try:
            stat = procfs.parse_stat(_read(f"{root}/{pid}/stat"))
            statm = procfs.parse_statm(_read(f"{root}/{pid}/statm"))
            cgroups = procfs.parse_cgroup(_read(f"{root}/{pid}/cgroup"))
        except OSError:
            continue  # it is gone
        if stat is None or stat.kernel_thread or stat.state == "Z":
            continue
        place = procfs.place(cgroups.systemd)
        found = wide.read(root, pid)
        yield Subject(
            key=f"{pid}:{stat.start_ticks}",
            entity=Entity(
                pid, stat.start_ticks, words.name(stat.comm), found.exe, found.uid, *place
            ),
            is_unit=False,
            cmdline=found.cmdline,
            cgroup=cgroups.memory,
            trusted=found.trusted,
            oom_score_adj=found.oom_score_adj,
            age_s=max(0.0, uptime - stat.start_ticks / ticks),
            resident_bytes=statm[0] * page if statm else None,
            oom_counted=False,
            untold=UNTOLD,
        )


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


# ---- what -------------------------------------------------------------------------------------


def _answer(
    rules: Rules, s: Subject, now: dict[str, Any], everybody: list[Subject]
) -> dict[str, Any]:
    why = protected(rules, s)
    total = weight(rules, s)
    return {
        "entity": s.entity._asdict(), "is_unit": s.is_unit, "resident_bytes": s.resident_bytes,
        "protected": why, "not_protected": None if why else _why_not(rules, s),
        "weight": total, "weight_because": _weighed(rules, s, total), "guard": _ranked(s, now),
        "policies": [
            one | ({"barred": _barred(rules, policy, s, everybody)} if one["matches"] else {})
            for policy in rules.policies if (one := _policy(policy, s, now))
        ],
    }  # fmt: skip


def _barred(rules: Rules, policy: Policy, s: Subject, everybody: list[Subject]) -> dict[str, str]:
    """Which of its actions are not done here, and why."""
    found = target(rules, policy, s, policy.do, lambda: everybody)
    return {do: held[1] for do in policy.do if (held := found.held(do))}


def _why_not(rules: Rules, s: Subject) -> str:
    """Where only the executable is missing to be protected, say that."""
    trusting = protected(rules, s._replace(trusted=True))
    if trusting:
        return f"{trusting}, but its executable is not root's alone, or it runs as a person"
    return "no entry of [protect] matches"


def _weighed(rules: Rules, s: Subject, total: int) -> str | None:
    by = selects(rules.avoid, s) or selects(rules.prefer, s)
    if by:
        return by
    if total and s.oomd == "avoid":
        return f"unit {s.entity.unit} is to be avoided (ManagedOOMPreference=avoid)"
    return f"its oom_score_adj is {s.oom_score_adj}" if total else None


def _policy(policy: Policy, s: Subject, now: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"policy": policy.name, "mode": policy.mode, "do": list(policy.do)}
    if (policy.per == "unit") is not s.is_unit:
        return answer | {"matches": False, "because": [_ABOUT[policy.per] + _its_unit(policy, s)]}
    found = look(policy.match, s)
    answer["matches"] = found.holds
    if not found.holds:
        missing = f"cannot be judged: {found.missing} is not known"
        return answer | {"because": [missing if found.holds is None else "it is not matched"]}
    asked = conditions(policy.when, s, now.get("pressure"), float(now.get("up") or 0.0))
    words_of = [
        f"{one.said}{'' if one.holds else _waits(one.key, s, now)}" if one.holds is not None
        else f"{one.key}: not known" for one in asked
    ]  # fmt: skip
    keys = (f"{s.key}: ", f"{cools(policy, s)}: ")
    live = [
        str(line).partition(": ")[2]
        for one in now.get("policies") or () if one.get("name") == policy.name
        for line in one.get("waiting") or () if str(line).startswith(keys)
    ]  # fmt: skip
    holds = all_hold(asked)
    return answer | {
        "because": list(found.because), "holds": holds, "conditions": words_of, "live": live,
        "for_s": policy.for_s,
    }  # fmt: skip


def _its_unit(policy: Policy, s: Subject) -> str:
    """A process is not what the policy is about, but may go with its unit."""
    unit = s.entity.unit
    if s.is_unit or unit is None:
        return ""
    entity = Entity(unit=unit, container=s.entity.container)
    found = look(policy.match, Subject(f"unit:{unit}", entity, True, cgroup=s.cgroup))
    return "" if found.holds is False else f", and may match its own, {unit}"


def _waits(key: str, s: Subject, now: dict[str, Any]) -> str:
    """What a condition that does not hold waits for; of events, when the last one was."""
    if key not in ("oom_kill", "alloc_failed"):
        return ": waits"
    t, began, since = now.get("t"), now.get("started"), ""
    runs_s = max(0.0, t - began) if t is not None and began is not None else 0.0
    if runs_s:
        since = f", none since the daemon began {words.duration(runs_s)} ago"
    if key == "oom_kill":
        if s.oom_killed_up is not None:
            return ": waits for the next"
        if runs_s > KILLS_KNOWN_S:
            since = f", none within the last {words.duration(KILLS_KNOWN_S)}"
        return f": waits for an OOM kill of it{since}"
    last, up = _conditions(now).get("alloc_failed_up"), float(now.get("up") or 0.0)
    if last is not None:
        since = f", the last one was {words.duration(max(0.0, up - last))} ago"
    return f": waits for the next{since}"


def _ranked(s: Subject, now: dict[str, Any]) -> str | None:
    """Where the guard has it among those whom it would take, while memory is short."""
    guard = now.get("guard")
    ranked = guard.get("ranked") if isinstance(guard, dict) else None
    for number, one in enumerate(ranked or (), 1):
        who = one.get("entity") or {}
        if not s.is_unit and (who.get("pid"), who.get("start")) == (s.entity.pid, s.entity.start):
            rank = ", ".join(f"{key} {value}" for key, value in (one.get("rank") or {}).items())
            said = "; ".join(str(text) for text in one.get("because") or ())
            return f"number {number} of those whom it would take ({rank}): {said}"
    return None


def _lines(answer: dict[str, Any]) -> Iterable[str]:
    entity = answer["entity"]
    if answer["is_unit"]:
        yield f"unit {words.safe(entity['unit'])}"
    else:
        where = f" in {entity['unit']}" if entity["unit"] else ""
        yield f"{words.safe(entity['comm'] or '?')} ({entity['pid']}){words.safe(where)}"
    if answer["protected"]:
        yield f"  protected: {words.safe(answer['protected'])}"
    else:
        yield f"  not protected: {words.safe(answer['not_protected'])}"
    if answer["weight"]:
        how = "rather this one" if answer["weight"] > 0 else "rather another"
        yield f"  weight: {how} ({words.safe(answer['weight_because'] or '')})"
    if answer["guard"]:
        yield f"  the guard: {words.safe(answer['guard'])}"
    if not answer["policies"]:
        yield "  no policies"
    for one in answer["policies"]:
        yield from _policy_lines(one)


def _policy_lines(one: dict[str, Any]) -> Iterable[str]:
    because = "; ".join(words.safe(line) for line in one["because"])
    if not one["matches"]:
        yield f"  policy {one['policy']}: no: {because}"
        return
    said = f": {because}" if because else ""
    yield f"  policy {one['policy']} ({one['mode']}): matches{said}"
    for line in one["conditions"]:
        yield f"    when {line}"
    if one["for_s"]:
        yield f"    for {words.duration(one['for_s'])}"
    for line in one["live"]:
        yield f"    now {words.safe(line)}"
    yield f"    then {', '.join(one['do'])}"
    for do, why in one["barred"].items():
        yield f"    but not {do}: {words.safe(why)}"

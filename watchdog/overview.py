"""Pure: the engine as it stands -> now.json, and the one line of `systemctl status`.

What the commands show of a running daemon is written here and read in `cli/status`.
"""

import heapq
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from watchdog import __version__, words
from watchdog.engine import Engine
from watchdog.policy import view

ROWS_MAX = 64  # of each table of `conditions`


class Around(NamedTuple):
    """What the engine does not know of itself.

    `pid` is the daemon's main process, `started` Unix seconds, `guard_mode` what the guard does
    (it only observes where it was not granted the machine's lock), `watching` how many processes
    are looked at closely, `oom_kills` and `last_oom_kill` what was told since the start, `degraded`
    a short name -> the sentence that says why, `notify` the state of the outbox, `mutes` what was
    asked not to be told; `guard_state` the guard's last word, and `ranked` whom it would take.
    """

    pid: int
    started: float
    guard_mode: str
    watching: int
    oom_kills: int
    last_oom_kill: Mapping[str, Any] | None
    degraded: Mapping[str, str]
    notify: Mapping[str, Any] | None = None
    mutes: Sequence[Mapping[str, Any]] = ()
    guard_state: str = "watching"
    ranked: Sequence[Mapping[str, Any]] = ()


def mode(engine: Engine, guard_mode: str) -> str:
    """ "enforce" where a policy or the guard may act, else "observe"."""
    modes = {guard_mode, *map(engine.decider.mode, engine.rules.policies)}
    return "enforce" if "enforce" in modes else "observe"


def document(engine: Engine, around: Around, t: float, up: float) -> dict[str, Any]:
    """now.json: sizes in bytes, times in Unix seconds, null where nothing is known."""
    host = engine.world.host
    waiting = engine.decider.waiting()
    return {
        "t": t, "up": up, "boot_id": engine.boot_id, "host": engine.host,
        "version": __version__, "pid": around.pid, "started": around.started,
        "interval_s": engine.rules.watch.interval_s, "mode": mode(engine, around.guard_mode),
        "mem_total": host.mem_total if host else None,
        "mem_available": host.mem_available if host else None,
        "swap_total": host.swap_total if host else None,
        "swap_free": host.swap_free if host else None,
        "processes": len(engine.world.rows),
        "units": len(engine.world.unit_trends),
        "watching": around.watching,
        "pressure": engine.pressed,
        "leaks": view.leaks(engine.world, engine.series),
        "oom_kills": {"since_start": around.oom_kills, "last": around.last_oom_kill},
        "policies": [
            {"name": policy.name, "mode": engine.decider.mode(policy),
             "waiting": waiting.get(policy.name, [])}
            for policy in engine.rules.policies
        ],
        "guard": {"mode": around.guard_mode, "state": around.guard_state,
                  "ranked": list(around.ranked)},
        "conditions": conditions(engine),
        "degraded": list(around.degraded.values()),
        "notify": around.notify, "mutes": list(around.mutes),
    }  # fmt: skip


def conditions(engine: Engine) -> dict[str, Any]:
    """What policies wait for beside sizes and leaks, so that `check --explain` can say it of all.

    By subject ("pid:start", "unit:NAME") the first ROWS_MAX of each kind; see store/now.py.
    """
    world, ending, host = engine.world, engine.exhaustion, engine.world.host
    killed = heapq.nlargest(ROWS_MAX, ((up, key) for key, up in engine.kills.oom_killed.items()))
    pressed = [path for path, one in ending.limits.pinned.items() if one.event]
    growth = view.growth(world, ROWS_MAX)
    return {
        "growth": growth,
        "growth_whole": len(growth) < ROWS_MAX,
        "exhausts_in_s": view.endings(world, engine.leaks.suspects, ROWS_MAX),
        "oom_counted": host is not None and host.oom_kill is not None,
        "oom_killed": {key: round(up, 3) for up, key in killed},
        "limits_pressed": pressed[:ROWS_MAX],
        "commit_short": ending.commit.short(),
        "alloc_failed_up": ending.refusals.last_up,
        "untold": list(view.untold_of(world)),
    }


def status(engine: Engine, around: Around) -> str:
    """What `systemctl status` shows in its first lines."""
    parts = [f"watching {words.count(len(engine.world.rows), 'process')}"]
    leaks = view.leaks(engine.world, engine.series)
    homes = {one["unit"] for one in leaks if one["pid"] is not None}
    # a unit whose process leaks grows by it
    apart = [one for one in leaks if one["pid"] or "part" in one or one["unit"] not in homes]
    if apart:
        parts.append(words.count(len(apart), "leak") + " suspected or confirmed")
    if around.oom_kills:
        parts.append(f"{words.count(around.oom_kills, 'OOM kill')} since the start")
    if around.degraded:
        parts.append("degraded: " + ", ".join(around.degraded))
    ending = "enforcing" if mode(engine, around.guard_mode) == "enforce" else "observing"
    return "; ".join([*parts, ending])


def intent(engine: Engine, guard_mode: str) -> str:
    """Who may act: "enforcing: the guard, and the policies p, q"."""
    decider = engine.decider
    armed = [one.name for one in engine.rules.policies if decider.mode(one) == "enforce"]
    who = ["the guard"] if guard_mode == "enforce" else []
    if armed:
        who.append(f"the {'policies' if len(armed) > 1 else 'policy'} {', '.join(armed)}")
    return f"enforcing: {', and '.join(who)}" if who else "observing: nothing will be killed"


def started(engine: Engine, guard_mode: str) -> tuple[list[str], dict[str, Any]]:
    """The sentences and the body of `watchdog.started`, but for where its state lies."""
    watch, host = engine.rules.watch, engine.world.host
    rows, units = len(engine.world.rows), len(engine.world.unit_trends)
    found = mode(engine, guard_mode)
    because = [
        f"watching {words.count(rows, 'process')} and {words.count(units, 'unit')} "
        f"every {words.duration(watch.interval_s)}",
        intent(engine, guard_mode),
    ]
    if host and host.mem_total and host.mem_available is not None:
        because.insert(
            1, f"{words.size(host.mem_available)} of {words.size(host.mem_total)} available"
        )
    return because, {
        "version": __version__, "mode": found, "processes": rows, "units": units,
        "interval_s": watch.interval_s,
    }  # fmt: skip

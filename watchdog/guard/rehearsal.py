"""An incident walked through once, before memory is locked: all that it needs is in memory then."""

from typing import Any

from watchdog.act.kill import kill
from watchdog.act.kill import rehearse as rehearse_signals
from watchdog.clock import Clock
from watchdog.guard.incident import Incident
from watchdog.guard.scene import Scene
from watchdog.policy.guard_when import GuardRules, Pressure
from watchdog.sense.fast import Eyes


def rehearse(eyes: Eyes, rules: GuardRules, clock: Clock, child: int | None) -> None:
    """In both modes, but for the telling and the budget; `child` is a process of ours.

    Each signal is 0, and no unit is ended.
    """
    if child is not None:
        own = Eyes("/proc")
        rehearse_signals(child, own.start_of(child) or 0)
        own.close()
    up = clock.boottime()
    host, pswpout = eyes.host(clock.wall(), up)
    pressure = Pressure(rules)
    pressure.step(host, up, pswpout)
    pressure.now_by = "available"
    scene = Scene(eyes, pressure, lambda *_: None)
    scene.kill, scene.kill_unit = _touch, lambda *_, **__: ("changed", "a rehearsal")
    scene.glance(up - 1.0, host, 0.0)
    for mode in ("observe", "enforce"):
        Incident(scene, up, host, ("a rehearsal",)).step(host, up, mode)


def _touch(pid: int, start: int, _: int, **asks: Any) -> tuple[str, str]:
    return kill(pid, start, 0, **asks)

"""One time of memory shortage, from its begin to its end: whom to take, and what became of it.

    begun -> look at everybody -> decide -> observe: say it once, and wait for the end
                                         -> enforce: SIGTERM -> SIGKILL (by time, or as memory
                                            falls) -> wait for memory -> decide again
    ended when memory is well again

Right before each signal it looks again: is it the same process, is it still not protected, is
memory still short, has the kernel not killed somebody in the meantime?
"""

import signal
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from watchdog import words
from watchdog.act.kill import kill, shielded
from watchdog.facts import DossierRow, Entity, Host
from watchdog.judge.blame import Blame, Candidate, Loss, Ranked, rank
from watchdog.policy.guard_when import Pressure
from watchdog.sense.fast import TICKS, Eyes

TERM_S = 3.0  # SIGTERM has this long, unless memory falls to half in the meantime
KILL_S = 5.0  # a process that does not even die of SIGKILL hangs in the kernel: take another
SETTLE_S = 3.0  # after any kill by anybody, memory may take this long to come back
AGAIN_S = 1.0  # between two looks that found nobody to take
WINDOW_LEAST_S = 0.25  # growth over less than this says nothing
LOOKS_MAX = 64  # this many of the largest are read closely, and as many from the dossier
REFUSALS_MAX = 10
STALE_S = 60.0

Told = Callable[[str, str, tuple[str, ...], dict[str, Any]], None]


class Look(NamedTuple):
    """An earlier look at everybody: private bytes by pid, and what was available."""

    up: float
    available: int
    sizes: dict[int, int]


class Budget:
    """At most `times` in `per_s` seconds (boottime)."""

    def __init__(self) -> None:
        self._spent: list[float] = []

    def left(self, rule: tuple[int, float], up: float) -> bool:
        """May there be one more?"""
        self._spent = [at for at in self._spent if up - at < rule[1]]
        return len(self._spent) < rule[0]

    def spend(self, up: float) -> None:
        """One was taken."""
        self._spent.append(up)


class Victim(NamedTuple):
    """A process that was signalled and has not ended yet."""

    ranked: Ranked
    sig: int
    at: float
    available: int


class Scene:
    """What outlives an incident: the dossier, the earlier looks, the budget, who is ours."""

    def __init__(self, eyes: Eyes, pressure: Pressure, told: Told) -> None:
        self.eyes = eyes
        self.pressure = pressure
        self.told = told
        self.kill: Callable[..., tuple[str, str]] = kill
        self.dossier: dict[tuple[int, int], DossierRow] = {}
        self.dossier_up: float | None = None
        self.ours: Collection[int] = ()
        self.budget = Budget()
        self.earlier: Look | None = None
        self.recent: Look | None = None
        self.before_signal: Callable[[], None] = lambda: None
        self.enforcing: Callable[[], bool] = lambda: True

    def take_dossier(self, up: float, rows: Sequence[DossierRow]) -> None:
        """The watcher's latest word on everybody who matters."""
        self.dossier = {(row[0], row[1]): row for row in rows}
        self.dossier_up = up

    def glance(self, up: float, host: Host, every_s: float) -> None:
        """Near the mark: remember how large everybody is, for the growth since."""
        if self.recent is None or up - self.recent.up >= every_s:
            self.earlier = self.recent
            self.recent = Look(up, host.mem_available or 0, self.eyes.sizes())

    def forget_looks(self) -> None:
        """Memory is plentiful: what was seen is of no use any more."""
        self.earlier = self.recent = None

    def reference(self, up: float) -> Look | None:
        """The look to measure growth against."""
        looks = [look for look in (self.earlier, self.recent) if look]
        return next((look for look in looks if up - look.up <= 15.0), None)

    def candidates(self, now: Look, before: Look | None) -> list[Candidate]:
        """The largest, and whom the dossier blames, each read afresh."""
        largest = sorted(now.sizes, key=lambda pid: now.sizes[pid], reverse=True)[:LOOKS_MAX]
        blamed = sorted(
            (row for row in self.dossier.values() if row[5] or row[6]),
            key=lambda row: (row[6], row[5]), reverse=True,
        )[:LOOKS_MAX]  # fmt: skip
        found = []
        for pid in dict.fromkeys([*largest, *(row[0] for row in blamed)]):
            seen = self.eyes.look(pid)
            if seen is None:
                continue
            row = self.dossier.get((pid, seen.start))
            # A number that was somebody else's at the earlier look is a newcomer.
            newer = before is not None and seen.start / TICKS > before.up
            past = 0 if before is None or newer else before.sizes.get(pid, 0)
            found.append(Candidate(
                pid, seen.start, seen.comm, seen.uid, row[3] if row else None,
                seen.private, seen.frees,
                proven=row[4] if row else 0,
                grew=now.sizes.get(pid, 0) - past if before is not None else 0,
                leak=row[6] if row else 0.0,
                protected=shielded(pid, self.eyes.root, self.ours) or (row[7] if row else None),
                weight=row[8] if row else 0,
                known=row is not None,
            ))  # fmt: skip
        return found

    def dossier_age(self, up: float) -> str:
        """A sentence where the watcher's word is missing or old, else ""."""
        if self.dossier_up is None:
            return "the watcher has not been heard yet: judged by what is seen now"
        age = up - self.dossier_up
        return f"the watcher's last word is {words.duration(age)} old" if age > STALE_S else ""


class Incident:
    """See the head of this file. `step` is called with each reading while memory is short."""

    def __init__(self, scene: Scene, up: float, host: Host, because: tuple[str, ...]) -> None:
        self.scene = scene
        self.begun_up = up
        self.id = f"host-{up:.3f}"
        self.because = because
        self.oom_kill = host.oom_kill
        self.lowest = host.mem_available or 0
        self.victim: Victim | None = None
        self.wait_until = 0.0
        self.latched = False
        self.actions = 0
        self.refused: set[tuple[int, int]] = set()
        self.said: set[str] = set()

    def step(self, host: Host, up: float, mode: str) -> None:
        """Go on; `mode` is "observe" or "enforce"."""
        self.lowest = min(self.lowest, host.mem_available or 0)
        if host.oom_kill != self.oom_kill:
            self.oom_kill = host.oom_kill
            self.wait_until = up + SETTLE_S
        if self.victim is not None:
            self._follow(self.victim, host, up)
        elif not self.latched and up >= self.wait_until:
            self._decide(host, up, mode)

    def _deep(self, host: Host) -> bool:
        return (host.mem_available or 0) * 2 < self.scene.pressure.begin_bytes

    # ---- the decision ------------------------------------------------------------------------

    def _decide(self, host: Host, up: float, mode: str) -> None:
        scene = self.scene
        before = scene.reference(up)
        deep = self._deep(host)
        if not deep and (before is None or up - before.up < WINDOW_LEAST_S):
            scene.glance(up, host, WINDOW_LEAST_S)
            return  # nothing to compare with yet; the next look is 100 ms away
        now = Look(up, host.mem_available or 0, scene.eyes.sizes())
        loss = Loss(before.available - now.available, up - before.up) if before else Loss()
        found = [
            one._replace(protected="it could not be signalled")
            if (one.pid, one.start) in self.refused else one
            for one in scene.candidates(now, before)
        ]  # fmt: skip
        need = max(0, scene.pressure.end_bytes - now.available)
        blame = rank(found, need, loss=loss, deep=deep, by=scene.pressure.rules.victim)
        if blame.chosen is None:
            self.wait_until = up + AGAIN_S
            outcome = "would" if mode == "observe" else "failed"
            self._tell(blame, None, 0, mode, outcome, "", up, host)
            return
        sig = signal.SIGKILL if deep else signal.SIGTERM
        if mode == "observe":
            self.latched = True
            self._tell(blame, blame.chosen, sig, mode, "would", "", up, host)
        elif not scene.budget.left(scene.pressure.rules.budget, up):
            self.latched = True
            self._tell(blame, blame.chosen, sig, mode, "budget", "", up, host)
            times, per_s = scene.pressure.rules.budget
            spent = f"{times} in {words.duration(per_s)} are used up: the kernel decides now"
            scene.told(
                "watchdog.degraded", f"budget-{self.id}", (f"the guard's budget: {spent}",),
                {"what": "budget"},
            )  # fmt: skip
        else:
            self._act(blame, blame.chosen, sig, up, host)

    def _act(self, blame: Blame, chosen: Ranked, sig: int, up: float, host: Host) -> None:
        outcome, detail = self._signal(chosen.candidate, sig)
        if outcome == "done":
            self.scene.budget.spend(up)
            self.victim = Victim(chosen, sig, up, host.mem_available or 0)
        elif outcome in ("protected", "failed"):
            one = chosen.candidate
            self.refused.add((one.pid, one.start))
            self.latched = len(self.refused) >= REFUSALS_MAX
        else:
            self.wait_until = up + SETTLE_S if outcome == "gone" else up
        self._tell(blame, chosen, sig, "enforce", outcome, detail, up, host)

    def _signal(self, one: Candidate, sig: int) -> tuple[str, str]:
        scene = self.scene

        def still_protected() -> str | None:
            scene.before_signal()  # what the watcher has said since, new rules too
            if not scene.enforcing():
                return "the guard only observes now"
            row = scene.dossier.get((one.pid, one.start))
            return row[7] if row else None

        def still_needed() -> bool:
            host, _ = scene.eyes.host(0.0, 0.0)
            return scene.pressure.still(host) and host.oom_kill == self.oom_kill

        return scene.kill(
            one.pid, one.start, sig, still_protected=still_protected, still_needed=still_needed,
            ours=scene.ours, root=scene.eyes.root,
        )  # fmt: skip

    # ---- after the signal --------------------------------------------------------------------

    def _follow(self, victim: Victim, host: Host, up: float) -> None:
        one = victim.ranked.candidate
        if self.scene.eyes.start_of(one.pid) != one.start:
            self.victim = None
            self.wait_until = up + SETTLE_S
            return
        passed = up - victim.at
        if victim.sig == signal.SIGTERM:
            falling = (host.mem_available or 0) * 2 < victim.available or self._deep(host)
            if passed >= TERM_S or falling:
                why = "memory keeps falling" if falling else "it has not ended of SIGTERM"
                outcome, detail = self._signal(one, signal.SIGKILL)
                blame = Blame(victim.ranked, (victim.ranked,), "blame", (why,))
                self._tell(
                    blame, victim.ranked, signal.SIGKILL, "enforce", outcome, detail, up, host
                )
                # Refused at the second look: leave it to its SIGTERM, and decide anew.
                self.victim = (
                    Victim(victim.ranked, signal.SIGKILL, up, host.mem_available or 0)
                    if outcome == "done" else None
                )  # fmt: skip
        elif passed >= KILL_S:
            self.refused.add((one.pid, one.start))
            self.victim = None

    # ---- telling -----------------------------------------------------------------------------

    def _tell(
        self, blame: Blame, chosen: Ranked | None, sig: int, mode: str, outcome: str,
        detail: str, up: float, host: Host,
    ) -> None:  # fmt: skip
        if chosen is None:
            if blame.how in self.said:
                return
            self.said.add(blame.how)
        self.actions += 1
        because = [*self.because, *blame.because]
        because += chosen.because if chosen else ()
        because += [text for text in (self.scene.dossier_age(up), detail) if text]
        victim = entity(chosen.candidate) if chosen else None
        body = {
            **(victim or Entity()._asdict()),
            "policy": "guard",
            "do": {0: "hold", signal.SIGTERM: "terminate", signal.SIGKILL: "kill"}[sig],
            "mode": mode,
            "target": victim,
            "incident": self.id,
            "outcome": outcome,
            "how": blame.how,
            "victim": victim,
            "candidates": [
                {"entity": entity(one.candidate), "rank": one.rank._asdict(),
                 "because": list(one.because)}
                for one in blame.ranked
            ],
            "available_bytes": host.mem_available,
            "need_bytes": max(0, self.scene.pressure.end_bytes - (host.mem_available or 0)),
        }  # fmt: skip
        self.scene.told("guard.action", f"{self.id}-{self.actions}", tuple(because), body)


def entity(one: Candidate) -> dict[str, Any]:
    """The candidate as events name it; what the guard does not read is null."""
    return Entity(one.pid, one.start, one.comm, None, one.uid, one.unit)._asdict()

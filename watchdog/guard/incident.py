"""One time of memory shortage, from its begin to its end: whom to take, and what became of it.

    begun -> look at everybody -> decide -> observe: say it once, and wait for the end
                                         -> enforce: SIGTERM -> SIGKILL (by time, or as memory
                                            falls), or the next rung of policy/ladder.py
                                            -> wait for memory -> decide again
    ended when memory is well again; then a service that would stay down is started again

Right before each signal it looks again: is it the same process, is it still not protected, is
memory still short, has the kernel not killed somebody in the meantime? Between the mark and the end
nobody is taken, unless everything stands still: policy/guard_when.py knows why memory is short now.
"""

import signal
from typing import Any, NamedTuple

from watchdog import words
from watchdog.guard.looks import Look
from watchdog.guard.scene import GLANCE_S, Scene
from watchdog.guard_facts import Entity, Host
from watchdog.judge.blame import Blame, Ranked, rank
from watchdog.judge.candidates import Candidate

TERM_S = 3.0  # SIGTERM has this long, unless memory falls to half in the meantime
KILL_S = 5.0  # a process that does not even die of SIGKILL hangs in the kernel: take another
SETTLE_S = 3.0  # after any kill by anybody, memory may take this long to come back
AGAIN_S = 1.0  # between two looks that found nobody to take, or no need at the last moment
WINDOW_LEAST_S = 0.25  # growth over less than this says nothing
REFUSALS_MAX = 10
INPUTS_MAX = 256
DO = {0: "hold", signal.SIGTERM: "terminate", signal.SIGKILL: "kill"}
# A SIGTERM is a clean end to systemd: who was asked to go may not be started again by it.
ENDED_MAX = 8


_CAME_BACK = "it was ended as a whole and came back within minutes: this is only said"


class Victim(NamedTuple):
    """A process that was signalled and has not ended yet."""

    ranked: Ranked
    sig: int
    at: float
    available: int
    t: float  # of the reading by which it was decided, in Unix seconds


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
        self.rest_until = 0.0  # the same, but not below half of the mark
        self.waited = False  # for a kill by the kernel, since the last decision
        self.latched = False
        self.actions = 0
        self.refused: set[tuple[int, int]] = set()
        self.whole_refused: set[str] = set()
        self.said: set[str] = set()
        self.inputs: tuple[Any, ...] | None = None  # what the last decision saw
        self.seen: Look | None = None
        self.terminated: list[tuple[str, int]] = []  # (unit, pid)
        self.decided_t = host.t  # what is told now was decided by the reading of then

    def step(self, host: Host, up: float, mode: str) -> None:
        """Go on; `mode` is "observe" or "enforce"."""
        self.lowest = min(self.lowest, host.mem_available or 0)
        if host.oom_kill != self.oom_kill:
            self.oom_kill = host.oom_kill
            self._killed(host, up)
        if self.victim is not None:
            self._follow(self.victim, host, up)
        elif self.latched:
            return
        elif not self.scene.pressure.now_by or (up < self.wait_until and self.scene.recent is None):
            self.waited = self.waited and up < self.wait_until
            self.scene.glance(up, host, GLANCE_S)  # if it falls again it is known who grew
        elif up >= self.wait_until and (up >= self.rest_until or self._deep(host)):
            self._decide(host, up, mode)

    @property
    def signal_near(self) -> bool:
        """May one have to be sent at any moment? Not where all is decided, or SIGKILL was sent."""
        if self.victim is not None:
            return self.victim.sig != signal.SIGKILL
        return bool(self.scene.pressure.now_by) and not self.latched

    def _killed(self, host: Host, up: float) -> None:
        """Somebody was, by the kernel: at limits of their own that may go on without end.

        So it is waited for one of them between two decisions, and again where none was needed.
        """
        if self.waited:
            self.scene.killed(up, host)
        else:
            self.waited = True
            self._settle(up)

    def _settle(self, up: float) -> None:
        """Somebody has ended."""
        self.wait_until = max(self.wait_until, up + SETTLE_S)
        self.scene.ended(up)

    def slept(self, gap_s: float) -> None:
        """Nobody ran for so long: a victim has had no time to end, nor memory to come back."""
        self.wait_until += gap_s
        self.rest_until += gap_s
        self.scene.looks_from += gap_s
        self.scene.ladder.slept(gap_s)
        if self.victim is not None:
            self.victim = self.victim._replace(at=self.victim.at + gap_s)

    def _deep(self, host: Host) -> bool:
        return (host.mem_available or 0) * 2 < self.scene.pressure.begin_bytes

    # ---- the decision ------------------------------------------------------------------------

    def _decide(self, host: Host, up: float, mode: str) -> None:
        scene, self.decided_t = self.scene, host.t
        before = scene.reference(up, host)
        deep = self._deep(host)
        if not deep and (before is None or up - before.up < WINDOW_LEAST_S):
            scene.glance(up, host, WINDOW_LEAST_S)
            return  # nothing to compare with yet; the next look is 100 ms away
        self.waited = False
        now = scene.look(up, host)
        found = [
            one._replace(protected="it could not be signalled")
            if (one.pid, one.start) in self.refused else one
            for one in scene.candidates(now, before)
        ]  # fmt: skip
        need = max(0, scene.pressure.end_bytes - now.available)
        blame = rank(
            found, need, loss=scene.loss(now, before, found), account=scene.account(now, found),
            deep=deep, stalled=now.available >= scene.pressure.begin_bytes,
            files=scene.files(now, before), by=scene.pressure.rules.victim,
            history=scene.history,
        )  # fmt: skip
        doubled = scene.doubled(now, before)
        if doubled:
            blame = blame._replace(because=(*blame.because, doubled))
        self.inputs = (host, found)
        self.seen = now
        if blame.chosen is None:
            self.wait_until = up + AGAIN_S
            outcome = "would" if mode == "observe" else "failed"
            self._tell(blame, None, "hold", mode, outcome, "", up, host)
            return
        one = blame.chosen.candidate
        asked = scene.ladder.asked_of((one.pid, one.start), up)
        sig = signal.SIGKILL if deep or asked else signal.SIGTERM
        rung = self._rung(blame.chosen, up, asked is not None)
        do = DO[sig] if rung == "process" else f"{'kill' if rung == 'unit' else rung}-unit"
        if rung == "none":
            self.latched = True
            self._tell(blame, blame.chosen, "hold", mode, "failed", _CAME_BACK, up, host)
        elif mode == "observe":
            self.latched = True
            self._tell(blame, blame.chosen, do, mode, "would", "", up, host)
        elif asked is not None and rung == "process":
            # Memory came back before its SIGKILL, and is short again: the same deed goes on.
            self._sent(one)
            available = host.mem_available or 0
            self.victim = Victim(blame.chosen, signal.SIGTERM, asked.up, available, asked.t)
            self._follow(self.victim, host, up)
        elif not scene.spent.left(scene.pressure.rules.budget, up):
            self.latched = True
            self._tell(blame, blame.chosen, do, mode, "budget", "", up, host)
            times, per_s = scene.pressure.rules.budget
            spent = f"{times} in {words.duration(per_s)} are used up: the kernel decides now"
            scene.told(
                "watchdog.degraded", f"budget-{self.id}", (f"the guard's budget: {spent}",),
                {"what": "budget"},
            )  # fmt: skip
        else:
            self._act(blame, blame.chosen, sig, rung, do, up, host)

    def _rung(self, chosen: Ranked, up: float, asked: bool) -> str:
        entity = chosen.candidate.entity
        if entity is None:
            return "process"
        place = self.scene.units.get(entity)
        whole = self.scene.pressure.rules.kill == "unit" or chosen.spread
        possible = place is not None and place[2] is None and entity not in self.whole_refused
        return self.scene.ladder.rung(entity, up, whole=whole, possible=possible, asked=asked)

    def _act(
        self, blame: Blame, chosen: Ranked, sig: int, rung: str, do: str, up: float, host: Host
    ) -> None:
        one, scene, folder = chosen.candidate, self.scene, ""
        # Before the deed, so that whoever ends us in between does not give us one more.
        before = scene.spent.purse
        scene.spent.spend(scene.pressure.rules.budget, up, host.t)
        if rung == "process":
            outcome, detail = self._signal(one, sig)
        else:
            outcome, detail, folder = self._end_unit(one)
            sig = signal.SIGKILL
        if outcome == "done":
            self.victim = Victim(chosen, sig, up, host.mem_available or 0, host.t)
            if one.entity is not None:
                scene.ladder.strike(one.entity, rung, up)
            if sig == signal.SIGTERM:
                scene.ladder.ask((one.pid, one.start), up, host.t)
            if rung == "stop" and not scene.ask(("stop_unit", one.entity, folder, self.id)):
                detail += "; nobody is there to stop the unit"
            if rung == "process":
                self._sent(one)
        else:
            scene.spent.restore(before, up, host.t)
            if outcome in ("protected", "failed"):
                self._refuse(one, rung)
            if not self._pause(outcome, do, one, up):
                return
        self._tell(blame, chosen, do, "enforce", outcome, detail, up, host)

    def _sent(self, one: Candidate) -> None:
        """A process was signalled: its service may stay down for it."""
        if one.unit is not None and (one.unit, one.pid) not in self.terminated:
            self.terminated = [*self.terminated, (one.unit, one.pid)][-ENDED_MAX:]

    def _pause(self, outcome: str, do: str, one: Candidate, up: float) -> bool:
        """After a signal that was not sent; whether that is still to be said."""
        if outcome == "gone":
            self._settle(up)
        elif outcome == "changed":
            self.rest_until = up + AGAIN_S
            again = f"{do} {one.pid}:{one.start} changed"
            if again in self.said:
                return False
            self.said.add(again)
        return True

    def _refuse(self, one: Candidate, rung: str) -> None:
        """Not this one again; of a unit that may not be ended as a whole, one process may."""
        if rung == "process":
            self.refused.add((one.pid, one.start))
        else:
            self.whole_refused.add(one.entity or "")
        self.latched = len(self.refused) + len(self.whole_refused) >= REFUSALS_MAX

    def _end_unit(self, one: Candidate) -> tuple[str, str, str]:
        """The outcome, a sentence, and the unit's folder."""
        scene = self.scene
        meant = scene.units.get(one.entity or "")

        def still_protected(pid: int, start: int) -> str | None:
            if not scene.enforcing():
                return "the guard only observes now"
            return scene.spares(pid, start)

        scene.before_signal()
        place = scene.units.get(one.entity or "")
        if place is None or meant is None:
            return "changed", "the unit is not known any more", ""
        folder, inode, refused = place
        if (folder, inode) != meant[:2]:
            return "changed", "the unit has another cgroup now", folder
        if refused is not None:
            return "protected", refused, folder
        outcome, detail = scene.kill_unit(
            folder, inode, still_protected=still_protected, still_needed=self._still_needed,
            ours=scene.ours, root=scene.eyes.root,
        )  # fmt: skip
        return outcome, detail, folder

    def _still_needed(self) -> bool:
        host, _ = self.scene.eyes.host(0.0, 0.0)
        host = self.scene.with_arc(host)
        return self.scene.pressure.still(host) and host.oom_kill == self.oom_kill

    def _signal(self, one: Candidate, sig: int) -> tuple[str, str]:
        scene = self.scene

        def still_protected() -> str | None:
            scene.before_signal()  # what the watcher has said since, new rules too
            if not scene.enforcing():
                return "the guard only observes now"
            return scene.spares(one.pid, one.start)

        return scene.kill(
            one.pid, one.start, sig,
            still_protected=still_protected, still_needed=self._still_needed,
            ours=scene.ours, root=scene.eyes.root,
        )  # fmt: skip

    # ---- after the signal --------------------------------------------------------------------

    def _follow(self, victim: Victim, host: Host, up: float) -> None:
        one = victim.ranked.candidate
        if self.scene.eyes.start_of(one.pid) != one.start:
            self.victim = None
            self._settle(up)
            return
        passed = up - victim.at
        if victim.sig == signal.SIGTERM:
            falling = (host.mem_available or 0) * 2 < victim.available or self._deep(host)
            if passed >= TERM_S or falling:
                why = "memory keeps falling" if falling else "it has not ended of SIGTERM"
                outcome, detail = self._signal(one, signal.SIGKILL)
                self.decided_t = victim.t
                blame = Blame(victim.ranked, (victim.ranked,), "blame", (why,))
                if self._pause(outcome, "kill", one, up):
                    self._tell(blame, victim.ranked, "kill", "enforce", outcome, detail, up, host)
                # Refused at the second look: leave it to its SIGTERM, and decide anew.
                self.victim = None
                if outcome == "done":
                    self.scene.ladder.killed((one.pid, one.start))
                    self.victim = victim._replace(sig=signal.SIGKILL, at=up)
                elif outcome == "failed":
                    self._refuse(one, "process")
        elif passed >= KILL_S:
            self.refused.add((one.pid, one.start))
            self.victim = None

    # ---- telling -----------------------------------------------------------------------------

    def _tell(
        self, blame: Blame, chosen: Ranked | None, do: str, mode: str, outcome: str,
        detail: str, up: float, host: Host,
    ) -> None:  # fmt: skip
        if chosen is None:
            if blame.how in self.said:
                return
            self.said.add(blame.how)
        self.actions += 1
        because = [*(self.scene.pressure.because or self.because), *blame.because]
        because += self.scene.unowned(self.seen) if blame.how == "held" else ()
        because += chosen.because if chosen else ()
        because += [text for text in (self.scene.dossier_age(up), detail) if text]
        victim = entity(chosen.candidate) if chosen else None
        body = {
            **(victim or Entity()._asdict()),
            "policy": "guard",
            "do": do,
            "mode": mode,
            "target": victim,
            "incident": self.id,
            "decided_t": self.decided_t,
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
        self._tell_inputs()
        self.scene.told("guard.action", f"{self.id}-{self.actions}", tuple(because), body)

    def _tell_inputs(self) -> None:
        """What the decision saw, as facts: a recording of them gives the same decision."""
        if self.inputs is None:
            return
        host, found = self.inputs
        self.inputs = None
        rows = [
            (one.pid, one.start, one.comm, one.seen, 0, None, one.unit, None)
            for one in found[:INPUTS_MAX]
        ]
        self.scene.ask(("inputs", tuple(host), rows))


def entity(one: Candidate) -> dict[str, Any]:
    """The candidate as events name it; what the guard does not read is null."""
    return Entity(one.pid, one.start, one.comm, None, one.uid, one.unit)._asdict()

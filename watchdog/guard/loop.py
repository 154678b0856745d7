"""The fast process: host -> is memory short? -> look again at everybody -> blame -> kill.

It is the main process and it is small: its memory is locked, it reads six kinds of files that
nobody can hold up, and it never waits for the watcher, for a disk or for the journal. It acts on
the watcher's last word (the dossier) while the watcher is stopped, swapped out or dead.

How often it looks: before memory could be at the mark, at FILL_RATE (docs/architecture.md says
where that comes from), but never more often than every 100 ms: ten looks a second cost 0.2 % of a
CPU. Where the kernel grants a PSI trigger, it wakes us at once.
"""

import marshal
import os
import select
import signal
import sys
from collections.abc import Sequence
from typing import Any

from watchdog import words
from watchdog.act import armour
from watchdog.clock import Clock, RealClock
from watchdog.guard.around import Options, boot_id, flock, options, say_alone, spent_path
from watchdog.guard.incident import Incident
from watchdog.guard.keeper import STOP_S, Keeper
from watchdog.guard.rehearsal import rehearse
from watchdog.guard.revivals import Revivals
from watchdog.guard.scene import GLANCE_S, Scene
from watchdog.guard.spent import Spent
from watchdog.guard_facts import Host
from watchdog.policy.guard_when import GuardRules, Pressure, Transition, guard_from_plain
from watchdog.sense.fast import Eyes
from watchdog.spawn import ours
from watchdog.tell.service import Service
from watchdog.wire import Message

FILL_RATE = 20 << 30  # bytes a second
SLEEP_LEAST_S, SLEEP_MOST_S = 0.1, 1.0
# Near the mark the watcher looks this often, so that what it says of everybody is fresh.
HURRY_S = 2.0
READY_S = 20.0  # the guard is on watch long before; who waits for us need not wait for the watcher
# Longer than two loads in a row, or than a watcher that hangs and the next one take; shorter than
# systemd waits (90 s).
RELOAD_S = 75.0
FEED_WITHOUT_BEAT_S = 180.0
ASLEEP_S = 10.0
REVIVE_S = 8.0  # so long memory has to be well before who takes it all may be started again
LOCK_AGAIN_S = 60.0  # who holds the lock for enforcing may end


class Guard:
    """See the head of this file."""

    def __init__(self, opts: Options, clock: Clock, environ: dict[str, str]) -> None:
        self.opts = opts
        self.clock = clock
        self.service = Service(environ)
        self.eyes = Eyes(opts.root)
        self.began = clock.boottime()
        self.pressure = Pressure(GuardRules())
        path, boot = opts.spent or spent_path(environ), boot_id(opts.root)
        spent = Spent(path, boot, self.began, clock.wall())
        beside = os.path.join(os.path.dirname(path), "revive") if path else None
        self.revivals = Revivals(beside, boot)
        self.scene = Scene(self.eyes, self.pressure, self._tell, spent)
        self.scene.awaited = True
        self.scene.before_signal = self._last_word
        self.scene.enforcing = lambda: self._mode() == "enforce"
        self.incident: Incident | None = None
        self.hurried = False
        self.policies_enforce = False
        self.enforce_fd: int | None = None
        self.refused_lock: str | None = None
        self.lock_at = self.began  # when it is asked for again
        self.ready = self.stopping = self.owes_answer = False
        self.reload_asked = self.reload_done = 0  # the numbers of requests
        self.reload_sent = (0, 0.0)  # to the watcher that was started then
        self.reload_since = self.began
        self.last_up = self.short_up = self.began
        self.next_feed = self.began
        self.unanswered: list[tuple[float, tuple[Any, ...], str]] = []
        self.adj = armour.oom_score_adj()
        self.terminal = os.isatty(2)
        watcher = ours("watchdog.watcher", bare=True)
        program = [sys.executable, "-I", opts.program] if opts.program else watcher
        self.keeper = Keeper(
            [*program, "--rules", str(opts.rules), *opts.tail],
            rules_fd=opts.rules,
            env={k: v for k, v in environ.items() if k not in _NOT_FOR_CHILDREN},
            oom_score_adj=self.adj,
            resident=Eyes("/proc").resident if opts.root != "/proc" else self.eyes.resident,
            trouble=self._trouble,
        )
        self.scene.ask = self.keeper.send
        if opts.settings >= 0:
            self._take_rules(marshal.loads(os.pread(opts.settings, 65536, 0)))  # noqa: S302  run's
            os.close(opts.settings)

    # ---- life --------------------------------------------------------------------------------

    def run(self, signals: int | None = None) -> int:
        """Until a signal, or `--for`, says stop; the exit status. `signals` is the wake-up pipe."""
        self.keeper.start(self.began)
        self._put_on_armour()
        while not self.stopping:
            host = self._tick()
            fds = self.keeper.fds()
            if signals is not None:
                fds[signals] = select.POLLIN
            if self.eyes.trigger is not None:
                fds[self.eyes.trigger] = select.POLLPRI
            ready = self.clock.wait(fds, self._sleep(host))
            if signals is not None and signals in ready:
                self._signals(os.read(signals, 64))
            if self.eyes.trigger is not None and ready.get(self.eyes.trigger, 0) & select.POLLERR:
                self.eyes.drop_trigger()
        return self._stop()

    def _tick(self) -> Host:
        up = self.clock.boottime()
        gap_s = up - self.last_up
        if gap_s > ASLEEP_S:
            self.keeper.forgive(up)
            self.pressure.slept(gap_s)
            self.reload_since += gap_s
            if self.incident is not None:
                self.incident.slept(gap_s)
        self.last_up = up
        host = self._guard(up)
        self._hear(host)
        self._after(up)
        if self.opts.for_s is not None and up - self.began >= self.opts.for_s:
            self.stopping = True
        return host

    def _guard(self, up: float) -> Host:
        host, pswpout = self.eyes.host(self.clock.wall(), up)
        host = self.scene.with_arc(host)
        self.scene.spent.turn(up, host.t)
        change = self.pressure.step(host, up, pswpout)
        if change is not None:
            self._turned(change, host, up)
        near: bool | None = None
        if host.mem_total and host.mem_available is not None:
            near = host.mem_available < self.pressure.near_bytes(host.mem_total)
            # In an incident too: its watcher may be a new one.
            if near is not self.hurried and self.keeper.send(("hurry", HURRY_S if near else 0.0)):
                self.hurried = near
        if self.incident is not None:
            if self.pressure.rules.mode != "off":
                self.incident.step(host, up, self._mode())
                self.revivals.note(self.incident.id, self.incident.terminated)
        elif near:
            self.scene.glance(up, host, GLANCE_S)
        elif near is False:
            self.scene.forget_looks()
        self._revive(host, up)
        return host

    def _turned(self, change: Transition, host: Host, up: float) -> None:
        body: dict[str, Any] = {"scope": "host", "by": change.by}
        body["available_bytes"] = host.mem_available
        if change.kind == "begun":
            self.incident = Incident(self.scene, up, host, change.because)
            identity = self.incident.id
        else:
            identity = self.incident.id if self.incident else f"host-{up:.3f}"
            if self.incident:
                body["lowest_bytes"] = self.incident.lowest
                body["lasted_s"] = round(up - self.incident.begun_up, 3)
            self.incident = None
            self.scene.forget_looks()
        self._tell(f"pressure.{change.kind}", identity, change.because, body)

    def _revive(self, host: Host, up: float) -> None:
        """Once memory is well for a while who stays down because of our SIGTERM may come back.

        Each is handed to the watcher, with what the budget allows then, until that says it is over.
        """
        owed, rules = self.revivals, self.pressure.rules
        if self.incident is not None or (host.mem_available or 0) < self.pressure.end_bytes:
            self.short_up = up
        if not owed.left or up - self.short_up < REVIVE_S:
            return
        if not rules.revive:
            owed.forget()
        left, to = self.scene.spent.left(rules.budget, up), self.keeper.started
        for one in owed.left:
            if owed.due(one, up, to) and self.keeper.send(owed.wish(one, left)):
                owed.sent[one] = up

    def _mode(self) -> str:
        enforce = self.pressure.rules.mode == "enforce" and self.enforce_fd is not None
        return "enforce" if enforce else "observe"

    def _sleep(self, host: Host) -> float:
        """Until the next look: no longer than memory can be filled to the mark."""
        if self.incident is not None or host.mem_available is None:
            return SLEEP_LEAST_S
        room = (host.mem_available - self.pressure.begin_bytes) / FILL_RATE
        until = max(SLEEP_LEAST_S, min(SLEEP_MOST_S, room))
        if self.opts.for_s is not None:
            until = min(until, self.began + self.opts.for_s - self.last_up)
        return max(0.0, until)

    def _put_on_armour(self) -> None:
        armour.shed()
        child = self.keeper.process
        rehearse(self.eyes, self.pressure.rules, self.clock, child.pid if child else None)
        self.scene.spent.rehearse()
        missing = [armour.ask_to_be_spared(), armour.lock_memory()]
        because = tuple(text for text in missing if text)
        if because:
            self._tell("watchdog.degraded", f"armour-{self.began:.3f}", because, {"what": "armour"})

    def _stop(self) -> int:
        self.service.stopping()
        now = self.clock.boottime()
        self.keeper.stop(now)
        until = now + STOP_S
        while not self.keeper.gone() and self.clock.boottime() < until:
            process = self.keeper.process
            fds = {process.pidfd: select.POLLIN} if process else {}
            self.clock.wait(fds, min(0.1, until - self.clock.boottime()))
        self.keeper.kill()
        return 0

    # ---- signals and rules -------------------------------------------------------------------

    def _signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number != signal.SIGHUP or (self.terminal and not os.isatty(2)):
                self.stopping = True  # also where the terminal that we ran on has gone
            else:
                self.service.reloading()
                self.reload_since = self.clock.boottime()
                self.reload_asked += 1

    def _take_rules(self, plain: dict[str, Any]) -> None:
        rules = guard_from_plain(plain)
        self.pressure.rules = rules
        self.policies_enforce = bool(plain.get("enforces", self.policies_enforce))
        if rules.mode == "enforce" or self.policies_enforce:
            self._lock()
            return
        if self.enforce_fd is not None:
            os.close(self.enforce_fd)
        self.enforce_fd = self.refused_lock = None

    def _lock(self) -> None:
        """One daemon of a machine enforces."""
        if self.enforce_fd is not None:
            return
        up, before = self.clock.boottime(), self.refused_lock
        self.enforce_fd, self.refused_lock = flock(self.opts.enforce_lock)
        self.lock_at = up + LOCK_AGAIN_S
        if self.refused_lock == before:
            return
        kind, because = "watchdog.recovered", ["the lock is ours now: enforcing"]
        if self.refused_lock is not None:
            kind = "watchdog.degraded"
            because = [self.refused_lock, "only observing: nothing will be killed"]
        self._tell(kind, f"enforce-lock-{up:.3f}", tuple(because), {"what": "enforce"})

    # ---- the watcher -------------------------------------------------------------------------

    def _answer(self) -> None:
        """To the watcher's rules: may they be enforced, and is memory short already?"""
        answer = ("enforce", self.enforce_fd is not None, self.refused_lock, self.pressure.active)
        self.owes_answer = not self.keeper.send(answer)

    def _last_word(self) -> None:
        self._take(self.keeper.listen(self.clock.boottime()))

    def _signal_near(self, host: Host) -> bool:
        if self.incident is not None:
            return self.pressure.rules.mode != "off" and self.incident.signal_near
        return (host.mem_available or 0) < self.pressure.begin_bytes

    def _hear(self, host: Host) -> None:
        now = self.clock.boottime()
        self._take(self.keeper.turn(now, signal_near=self._signal_near(host)))
        process = self.keeper.process
        self.scene.ours = (process.pid,) if process else ()

    def _take(self, messages: list[Message]) -> None:
        for message in messages:
            kind = message[0]
            if kind == "dossier":
                self.scene.take_dossier(*message[1:])
            elif kind == "spared":
                self.scene.take_spared(*message[1:])
            elif kind == "machine":
                self.scene.take_machine(self.clock.boottime(), message[1])
                self.pressure.zram = tuple(message[1].get("zram") or ()) or None
            elif kind == "spent":  # what the store remembers
                self.scene.spent.recall(message[1], self.clock.boottime(), self.clock.wall())
            elif kind == "spend":  # what the watcher has just used up for us
                budget = self.pressure.rules.budget
                self.scene.spent.spend(budget, self.clock.boottime(), message[1])
            elif kind == "ended":
                self.revivals.note(*message[1:])
            elif kind == "revived":
                self.revivals.over(*message[1:])
            elif kind == "rules":
                self._take_rules(message[1])
                self._answer()
            elif kind == "reloaded":
                self._reloaded(message[1])
            elif kind == "again" and not self.pressure.active:
                self.keeper.renew(self.last_up)
            elif kind == "ready":
                if self._reloads() and self.ready:
                    self.service.status(str(message[1]))
                else:
                    self.service.ready(str(message[1]))
                self.ready, self.hurried = True, False
            elif kind == "status":
                self.service.status(str(message[1]))

    def _reloads(self) -> bool:
        return self.reload_done < self.reload_asked

    def _reload(self, up: float) -> None:
        """Hand it to each watcher until one has answered the last request."""
        to = (self.reload_asked, self.keeper.started)
        if to != self.reload_sent and self.keeper.send(("reload", self.reload_asked)):
            self.reload_sent = to
        if up - self.reload_since >= RELOAD_S:  # it may be what ends one watcher after another
            since = f"nobody has answered the reload for {words.duration(RELOAD_S)}"
            because = (since, "the former configuration stays: reload again")
            self._tell("watchdog.degraded", f"reload-{up:.3f}", because, {"what": "reload"})
            self._reloaded(self.reload_asked)

    def _reloaded(self, number: int) -> None:
        if self._reloads() and number >= self.reload_asked:
            self.reload_done = number
            self.service.ready()

    def _after(self, up: float) -> None:
        """What comes after the look: the manager's watchdog, and who was never told."""
        if up - self.began >= READY_S:
            self.scene.awaited = False  # if it cannot be started it is judged by what is seen
        if not self.ready and up - self.began >= READY_S:
            self.ready = True
            self.service.ready("on guard; the watcher is not up yet")
        if self.refused_lock is not None and up >= self.lock_at:
            self._lock()
            self.owes_answer |= self.enforce_fd is not None
        if self.owes_answer:
            self._answer()
        if self._reloads():
            self._reload(up)
        fed = self.service.watchdog_s
        if fed is not None and up >= self.next_feed:
            self.next_feed = up + fed / 4
            keeper = self.keeper  # a watcher that waits for a disk waits on after a restart of us
            silent = up - keeper.last_beat >= FEED_WITHOUT_BEAT_S
            if not silent or not keeper.beats or keeper.stuck:
                self.service.feed()
        for late in [item for item in self.unanswered if up >= item[0]]:
            self.unanswered.remove(late)
            if not self.keeper.answered(late[1]):
                say_alone(late[2] + " (the watcher does not answer)")

    def _tell(
        self, kind: str, identity: str, because: tuple[str, ...], body: dict[str, Any]
    ) -> None:
        up = self.clock.boottime()
        report = ("report", self.clock.wall(), up, kind, identity, because, body)
        self.keeper.report(report)
        if kind == "guard.action":
            who = f"{body['comm']} (PID {body['pid']})" if body["pid"] else "nobody"
            line = f"guard: {body['do']} {who}: {body['outcome']}: {'; '.join(because)}"
            self.unanswered.append((up + self.opts.answer_s, report, line))

    def _trouble(self, sentence: str) -> None:
        up = self.clock.boottime()
        self._tell("watchdog.degraded", f"watcher-{up:.3f}", (sentence,), {"what": "watcher"})
        if self.keeper.failures >= 3 or self.keeper.stuck:
            say_alone(sentence)


# A child that knew the manager's socket could speak for us.
_NOT_FOR_CHILDREN = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})


def main(argv: Sequence[str]) -> int:
    """Set the signals, and guard."""
    opts = options(argv)
    if opts.lock >= 0:
        os.set_inheritable(opts.lock, False)  # a watcher that outlives us must not hold it
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(write_end)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # the wake-up pipe carries the number
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return Guard(opts, RealClock(), dict(os.environ)).run(read_end)

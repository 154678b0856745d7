"""The slow process: pumps sense into the engine, and its answers to the desk.

One poll() loop, one other thread (the store's writer). It is started, watched and stopped by the
guard over a socket pair; end of file there means that the guard is gone, and it goes too.

    python -I -m watchdog.watcher --wire FD --rules FD --state DIR
        [--config FILE] [--json] [--record FILE]
"""

import os
import select
import signal
import sys
from collections.abc import Sequence
from typing import Any

from watchdog import desk, guard_line, health, overview, targets, trace, words
from watchdog.act import armour
from watchdog.child import Children
from watchdog.clock import Clock, RealClock
from watchdog.crashes import Crashes
from watchdog.deeds import Deeds
from watchdog.desk import Desk
from watchdog.engine import Engine, Out
from watchdog.facts import Earlier, Event, Fact, KernelLine, Order, Said, Sweep, Tick
from watchdog.guard_line import GuardLine
from watchdog.handover import Handover, Options, RejectedError, UnreadError, options
from watchdog.health import Health
from watchdog.keeping import ACTION, Keeping
from watchdog.kernel_pump import KernelPump
from watchdog.kernel_source import KernelSource
from watchdog.looks import Looks
from watchdog.people import People
from watchdog.policy.guard_when import sentence
from watchdog.policy.rules import Rules
from watchdog.recorder import Recorder
from watchdog.sense import places
from watchdog.sense.senses import Senses
from watchdog.store import now
from watchdog.store.db import Store
from watchdog.store.kept import as_object
from watchdog.store.place import DATABASE, StoreError, now_dir
from watchdog.throttle import KEPT as THROTTLED

BEAT_S = 5.0
FORMER = "the former configuration stays"


class Watcher:
    """See the head of this file."""

    def __init__(self, opts: Options, clock: Clock) -> None:
        self.opts = opts
        self.clock = clock
        self.children = Children()
        self.handover = Handover(opts.rules, opts.config, self.children)
        self.rules = self.handover.rules
        self.host = words.safe(os.uname().nodename)
        self.health = Health(self._say)
        self.recorder: Recorder | None = None
        self.store = Store(os.path.join(opts.state, DATABASE), self.rules.store.max_bytes)
        kept = self.store.load_kept()
        self.engine = Engine(self.rules, self.host, as_object(kept.get("decider")))
        self.engine.pressed = False  # until the guard says otherwise
        self.engine.levels.take(as_object(kept.get("proven")) or {})
        self.senses = Senses(clock, self.rules.watch.interval_s)
        self.desk = Desk(
            clock, self.rules, self.children, self.store, desk.journal_here(),
            desk.terminal_here(opts.json), opts.json, self._feed, self.engine.begun,
        )  # fmt: skip
        self.people = People(
            clock, self.rules, self.children, self.store, self.engine, self.desk, self.health,
            opts.state, kept, self._feed, self._say,
        )  # fmt: skip
        self.guard = GuardLine(
            opts.wire, clock, self.rules, self.senses, self.store, self.health,
            kept.get(guard_line.KEPT), self._feed, self._say, self.handover.reload,
            self.engine.grant,
        )  # fmt: skip
        self.log = KernelSource(
            self.rules.kernel_log.source, self.children, kept, self.senses.host.boot_id,
            self.health, self._say,
        )  # fmt: skip
        self.keeping = Keeping(clock, self.store, self.engine, self.log)
        self.kernel = KernelPump(
            clock, self.log, Crashes(kept, self._say), self.engine, self.senses, self.store,
            self._feed,
        )  # fmt: skip
        self.deeds = self.desk.deeds = self.guard.deeds = Deeds(
            clock, self.children, self.senses.cgroups, self.engine, self.store, opts.state,
            self.desk.done, self._feed, self.guard.spend, self.guard.owe,
        )  # fmt: skip
        self.places: dict[str, Any] = {}
        self.throttled = as_object(kept.get(THROTTLED)) or {}
        self.looks = Looks(clock, self.children, self.senses, self._feed)
        self.counted = trace.counted_of(as_object(kept.get("kills")))
        self.started = started = clock.boottime()
        self.started_t = clock.wall()
        self.next_beat = started
        self.status = ""

    # ---- start and stop ----------------------------------------------------------------------

    def run(self) -> int:
        """Until the guard says stop, or is gone; the exit status."""
        self.engine.boot_id = self.senses.host.boot_id
        self.engine.load(self.store.load_entities(self.engine.boot_id or "", self.clock.wall()))
        self.people.recall()
        for flat in self.store.untold():
            if self.desk.tell(flat):
                self.store.mark_told([flat["id"]])
        if self.opts.record:
            self.recorder = Recorder(self.opts.record, self.host)
        self._recall()
        self.guard.send("spent", self.guard.spent)
        self.guard.agree()
        self.log.prepare(self.clock)
        self._sense()
        self.deeds.throttles.recall(self.throttled)
        self._say_started()
        self._checked()
        self.log.begin(self.clock)
        self.store.started()
        self.keeping.persist(urgent=True)
        self.guard.send("ready", self._status())
        self.people.look_soon()
        armour.shed()  # what only the start needed is a twentieth of us
        while not self.guard.stopping:
            self._turn()
        self._stop()
        return 0

    def _recall(self) -> None:
        """What the runs before this one told of kills, and what every cgroup has counted so far."""
        kills, again = self.store.load_past_kills(self.engine.boot_id or "")
        t, up = self.clock.wall(), self.clock.boottime()
        self._feed(Earlier(t, up, tuple(kills), self.counted, tuple(again.items())))
        if self.people.mutes is not None:
            self._feed(self.people.mutes.fact())
        counts = None if self.senses.container else self.senses.cgroups.kills(t, up)
        if counts is not None:
            self._feed(counts)

    def _say_started(self) -> None:
        because, body = overview.started(self.engine, self.guard.mode)
        host = self.engine.world.host
        if host is not None:
            because.append(sentence(self.rules.guard, host))
            because += places.sentences(self.places, host.swap_total)
        if self.senses.container:
            because.append(f"OOM kills are not counted: {self.senses.container}, and the "
                           "kernel's counter is that of the whole machine")  # fmt: skip
        self._say("watchdog.started", because, {**body, "state": self.opts.state})

    def _stop(self) -> None:
        ran = words.duration(max(0.001, self.clock.boottime() - self.started))
        self._take(self.engine.settle(), {})
        self.kernel.settled()
        self.deeds.stop()
        self._say("watchdog.stopped", [f"asked to stop after {ran}"], {})
        self.keeping.end(self.senses.host.boot_id)
        self.desk.answers()
        self.store.close(0.3)
        self.people.close()
        self.senses.close()
        now.remove_now(now_dir(self.opts.state))
        if self.recorder:
            self.recorder.close()

    # ---- the loop ----------------------------------------------------------------------------

    def _turn(self) -> None:
        up = self.clock.boottime()
        fds = {self.opts.wire: select.POLLIN, self.store.answers_fd: select.POLLIN}
        fds.update(self.children.fds())
        fds.update(self.log.fds())
        due = [self.senses.next_up, self.next_beat, self.keeping.next_suspects]
        deadlines = (
            self.children.next_deadline(), self.desk.deadline(), self.kernel.due(up),
            self.people.due(), self.deeds.deadline(),
        )  # fmt: skip
        due += [deadline for deadline in deadlines if deadline is not None]
        ready = self.clock.wait(fds, max(0.0, min(due) - up))
        if self.opts.wire in ready:
            self.guard.hear()
        self.children.turn(self.clock.boottime())
        self.desk.hooks_over()
        self.deeds.turn()
        self.looks.over()
        self.people.looked()
        self.kernel.turn()
        self._reloaded()
        self._sense()
        self._on_time()
        self.desk.answers()
        if self.people.turn():
            self._write_now()

    def _on_time(self) -> None:
        up = self.clock.boottime()
        self.kernel.on_time()
        if up >= self.next_beat:
            self.next_beat = up + BEAT_S
            self.guard.send("beat", up)
            if self.handover.read:
                self.guard.send("reloaded", self.handover.read)  # again, if it was not taken
            if self.store.again:
                self._late()
            if self.people.asked():
                self._write_now()
        self.keeping.on_time(up)

    def _sense(self) -> None:
        swept = False
        for fact in self.senses.due():
            if isinstance(fact, Sweep):
                swept = True
                self.deeds.note(fact)
            self._feed(fact)
        if swept:
            host = self.senses.host
            self.keeping.machine.take(self.clock.wall(), host.boot_id, host.told)
            rows, up = self.engine.dossier(), self.clock.boottime()
            places = targets.places(self.engine.world, self.rules, self.senses.cgroups, rows)
            self._machine()
            seen = self.engine.world.host
            shmem = seen.shmem if seen else None
            self.guard.spare(self.engine.spared())
            history = self.engine.levels.history(up)
            self.guard.send("dossier", up, rows, places, shmem, history)
            if self.guard.hurry_s:
                self.deeds.look_ahead()
            self._checked()
            self._write_now()
            status = self._status()
            if status != self.status:
                self.status = status
                self.guard.send("status", status)

    def _machine(self) -> None:
        """Where memory hides that no process owns; told to the guard where it changed."""
        if self.senses.hidden != self.places:
            self.places = self.senses.hidden
            self.guard.send("machine", self.places)

    def _feed(self, fact: Fact) -> None:
        if self.recorder:
            self.recorder.take(fact)
        kept = self.log.cursors() if isinstance(fact, KernelLine | Tick) else {}
        self._take(self.engine.feed(fact), kept)

    def _take(self, out: list[Out], kept: dict[str, str]) -> None:
        decided = self.keeping.decided(out)
        for item in out:
            if isinstance(item, Event):
                more = self.keeping.counted() if item.kind.startswith("oom.") else {}
                if item.kind == ACTION:
                    more, decided = decided, {}
                self.desk.take(item, kept | more)
                self.people.heard(item)
                if item.kind.startswith(("leak.", "limit.", "commit.")):
                    self.keeping.persist(urgent=True)
            elif isinstance(item, Order):
                self.desk.carry_out(item)
            else:
                self.looks.ask(item)

    # ---- configuration -----------------------------------------------------------------------

    def _reloaded(self) -> None:
        try:
            rules = self.handover.reloaded()
            if rules is None:
                return
            self.health.recover("reload", "the configuration was read")
            self._changed(rules)
        except UnreadError as error:
            self.health.bad.pop("reload", None)  # each is said
            self.health.degrade("reload", f"the configuration was not read: {error}", FORMER)
        except RejectedError as error:
            self.health.recover("reload", "the configuration was read")
            self._say("watchdog.config_rejected", [*error.lines, FORMER], {})
        self.guard.send("reloaded", self.handover.read)

    def _changed(self, rules: Rules) -> None:
        self.health.bad.pop("enforce", None)  # asked anew below, and said anew
        if rules.kernel_log.source != self.rules.kernel_log.source:
            self.health.degrade("kernel_log_source", "kernel_log.source changes at the next start")
        self.store.max_bytes = rules.store.max_bytes
        self._take_rules(rules)
        self.senses.interval_s = self.guard.interval_s
        self.senses.next_up = self.clock.boottime()
        self.guard.agree()
        policies = words.count(len(rules.policies), "policy")
        self._say("watchdog.reloaded", [f"{policies}, guard {self.guard.mode}"], {})
        self.people.look_soon(0.0)

    def _take_rules(self, rules: Rules) -> None:
        self.rules = self.desk.rules = self.guard.rules = rules
        self.engine.set_rules(rules)
        self.people.set_rules(rules)

    # ---- the store, now.json -----------------------------------------------------------------

    def _late(self) -> None:
        """A store that had no answer for the start has one now: go on from what can be joined to
        what was decided and asked since, and ask to be started again for the rest."""
        self._checked()
        kept = self.store.late(("decider", "mutes", guard_line.KEPT, THROTTLED, "kills"))
        if kept:
            self.engine.decider.ledger.join(as_object(kept.get("decider")) or {}, self.rules)
            self.store.put_kept(self.keeping.policies())
            self.people.join(kept.get("mutes"))
            self.guard.join(kept.get(guard_line.KEPT))
            self.deeds.throttles.recall(as_object(kept.get(THROTTLED)) or {})
            counted = trace.counted_of(as_object(kept.get("kills")))
            if counted is not None:
                self.engine.kills.balance.join(counted)
        self.guard.send("again")

    def _checked(self) -> None:
        recorder = self.recorder.problem if self.recorder else None
        record = words.safe(self.opts.record or "")
        health.check(self.health, self.store, self.senses.processes, record, recorder)
        self.desk.check(self.health)

    def _write_now(self) -> None:
        document = overview.document(
            self.engine, self._around(), self.clock.wall(), self.clock.boottime()
        )
        try:
            now.write_now(now_dir(self.opts.state), document)
        except StoreError as error:
            self.health.degrade("now", str(error))
        else:
            self.health.recover("now", "now.json can be written again")

    # ---- small ones --------------------------------------------------------------------------

    def _say(self, kind: str, because: Sequence[str], body: dict[str, Any]) -> None:
        up = self.clock.boottime()
        what = f"{body['what']}-" if "what" in body else ""  # two may be said in one millisecond
        self._feed(Said(self.clock.wall(), up, kind, f"{what}{up:.3f}", tuple(because), body))

    def _status(self) -> str:
        return overview.status(self.engine, self._around())

    def _around(self) -> overview.Around:
        return overview.Around(
            os.getppid(), self.started_t, self.guard.mode, len(self.senses.processes.hot),
            self.desk.oom_kills, self.desk.last_oom_kill, self.health.bad,
            self.people.post.outbox.state() if self.people.post else None,
            self.people.mutes.plain() if self.people.mutes else [], *self.guard.word,
        )  # fmt: skip


def main(argv: list[str]) -> int:
    """Set the signals (the guard speaks over the wire), and run."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    opts = options(argv)
    os.set_blocking(opts.wire, False)
    return Watcher(opts, RealClock()).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The slow process: pumps sense into the engine, and its answers to the desk.

One poll() loop, one other thread (the store's writer). It is started, watched and stopped by the
guard over a socket pair; end of file there means that the guard is gone, and it goes too.

    python -I -m watchdog.watcher --wire FD --rules FD --state DIR
        [--config FILE] [--json] [--record FILE]
"""

import json
import os
import select
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from watchdog import health, overview, targets, trace, wire, words
from watchdog.act import armour
from watchdog.child import Children
from watchdog.clock import Clock, RealClock
from watchdog.crashes import Crashes
from watchdog.deeds import KEPT as THROTTLED
from watchdog.deeds import Deeds
from watchdog.desk import Desk
from watchdog.engine import Engine, Out
from watchdog.facts import (
    Earlier,
    Event,
    Fact,
    Host,
    KernelLine,
    Order,
    Outcome,
    Said,
    Sweep,
    Tick,
)  # fmt: skip
from watchdog.handover import Handover, Options, RejectedError, options
from watchdog.health import Health
from watchdog.history.machine import Machine
from watchdog.kernel_pump import KernelPump
from watchdog.kernel_source import KernelSource
from watchdog.looks import Looks
from watchdog.policy.guard_when import sentence
from watchdog.policy.rules import Rules, enforces, guard_settings, observing
from watchdog.recorder import Recorder
from watchdog.requests import Requests
from watchdog.sense import places
from watchdog.sense.senses import Senses
from watchdog.store import now
from watchdog.store.db import Store
from watchdog.store.place import DATABASE, StoreError, now_dir
from watchdog.tell import journal

if TYPE_CHECKING:
    from watchdog.checkup import Checkup
    from watchdog.mutes import Mutes
    from watchdog.post import Post

BEAT_S = 5.0
PERSIST_S = 300.0
PERSIST_SUSPECTS_S = 30.0
RETRY_STORE_S = 60.0
GRANT_S = 2.0
CHECKUP_S = 3.0  # at a boot others are starting, too


class Watcher:
    """See the head of this file."""

    def __init__(self, opts: Options, clock: Clock) -> None:
        self.opts = opts
        self.clock = clock
        self.children = Children()
        self.post: Post | None = None
        self.checkup: Checkup | None = None
        self.mutes: Mutes | None = None
        self.handover = Handover(opts.rules, opts.config, self.children)
        self.rules = self.handover.rules
        self.host = words.safe(os.uname().nodename)
        self.health = Health(self._say)
        self.stopping = False
        self.granted: bool | None = None
        self.recorder: Recorder | None = None
        self.store = Store(os.path.join(opts.state, DATABASE), self.rules.store.max_bytes)
        kept = self.kept = self.store.load_kept()
        self.engine = Engine(self.rules, self.host, _object(kept.get("decider")))
        self.engine.pressed = False  # until the guard says otherwise
        self.engine.levels.take(_object(kept.get("proven")) or {})
        self.senses = Senses(clock, self.rules.watch.interval_s)
        self.machine = Machine()
        self.requests = Requests(opts.state)
        self.desk = Desk(
            clock, self.rules, self.children, self.store, self._journal(), self._terminal(),
            opts.json, self._feed_back,
        )  # fmt: skip
        self.log = KernelSource(
            self.rules.kernel_log.source, self.children, kept, self.senses.host.boot_id,
            self.health, self._say,
        )  # fmt: skip
        self.kernel = KernelPump(
            clock, self.log, Crashes(kept, self._say), self.engine, self.senses, self.store,
            self._feed,
        )  # fmt: skip
        self.deeds = self.desk.deeds = Deeds(
            clock, self.children, self.senses.cgroups, self.engine, self.store, opts.state,
            self.desk.done, self._feed, self._spent_one,
        )  # fmt: skip
        self.places: dict[str, Any] = {}
        self.spent = _times(kept.get("guard_spent"))
        self.throttled = _object(kept.get(THROTTLED)) or {}
        self.looks = Looks(clock, self.children, self.senses, self._feed)
        self.counted = trace.counted_of(_object(kept.get("kills")))
        started = clock.boottime()
        self.started_t = clock.wall()
        self.next_beat = started
        self.next_persist = started + PERSIST_S
        self.next_suspects = started + PERSIST_SUSPECTS_S
        self.next_retry = started + RETRY_STORE_S
        self.checkup_at: float | None = None
        self.status = ""

    # ---- start and stop ----------------------------------------------------------------------

    def run(self) -> int:
        """Until the guard says stop, or is gone; the exit status."""
        self.engine.boot_id = self.senses.host.boot_id
        self.engine.load(self.store.load_entities(self.engine.boot_id or ""))
        self._make_mutes(self.kept.get("mutes"))
        self._make_post()
        for flat in self.store.untold():
            if self.desk.tell(flat):
                self.store.mark_told([flat["id"]])
        if self.opts.record:
            self.recorder = Recorder(self.opts.record, self.host)
        self._recall()
        self._send(("spent", self.spent))
        self._send(("rules", guard_settings(self.rules)))
        self._await_grant()
        self.log.prepare(self.clock)
        self._sense()
        self.deeds.recall(self.throttled)
        self._say_started()
        self._checked()
        self.log.begin(self.clock)
        self._persist(urgent=True)
        self._send(("ready", self._status()))
        self.checkup_at = self.clock.boottime() + CHECKUP_S
        armour.shed()  # what only the start needed is a twentieth of us
        while not self.stopping:
            self._turn()
        self._stop()
        return 0

    def _recall(self) -> None:
        """What the runs before this one told of kills, and what every cgroup has counted so far."""
        kills, again = self.store.load_past_kills(self.engine.boot_id or "")
        t, up = self.clock.wall(), self.clock.boottime()
        self._feed(Earlier(t, up, tuple(kills), self.counted, tuple(again.items())))
        if self.mutes is not None:
            self._feed(self.mutes.fact())
        counts = None if self.senses.container else self.senses.cgroups.kills(t, up)
        if counts is not None:
            self._feed(counts)

    def _say_started(self) -> None:
        because, body = overview.started(self.engine, self._guard_mode())
        host = self.engine.world.host
        if host is not None:
            because.append(sentence(self.rules.guard, host))
            because += places.sentences(self.places, host.swap_total)
        if self.senses.container:
            because.append(f"OOM kills are not counted: {self.senses.container}, and the "
                           "kernel's counter is that of the whole machine")  # fmt: skip
        self._say("watchdog.started", because, {**body, "state": self.opts.state})

    def _stop(self) -> None:
        ran = words.duration(max(0.001, self.clock.wall() - self.started_t))
        self._take(self.engine.settle(), {})
        self.kernel.settled()
        self.deeds.stop()
        self._say("watchdog.stopped", [f"asked to stop after {ran}"], {})
        self.machine.end(self.senses.host.boot_id)
        self._persist(urgent=False)
        self.store.flush(0.5)
        self.desk.answers()
        self.store.close(0.3)
        if self.post is not None:
            self.post.outbox.close()
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
        due = [self.senses.next_up, self.next_beat, self.next_suspects]
        deadlines = (
            self.children.next_deadline(), self.desk.deadline(), self.kernel.due(up),
            self.post.outbox.due() if self.post else None, self.deeds.deadline(),
        )  # fmt: skip
        due += [deadline for deadline in deadlines if deadline is not None]
        ready = self.clock.wait(fds, max(0.0, min(due) - up))
        if self.opts.wire in ready:
            self._hear()
        self.children.turn(self.clock.boottime())
        self.desk.hooks_over()
        self.deeds.turn()
        self.looks.over()
        if self.checkup is not None:
            self.checkup.over(self.health)
            self.checkup = self.checkup if self.checkup.child else None
        self.kernel.turn()
        self._reloaded()
        self._sense()
        self._on_time()
        self.desk.answers()
        if self.post is not None and self.post.turn():
            self.post.check(self.health)
            self._write_now()

    def _on_time(self) -> None:
        up = self.clock.boottime()
        self.kernel.on_time()
        if up >= self.next_beat:
            self.next_beat = up + BEAT_S
            self._send(("beat", up))
            self._requested()
            if self.checkup_at is not None and up >= self.checkup_at:
                self.checkup_at = None
                self._check_up()
        if up >= self.next_persist:
            self.next_persist = up + PERSIST_S
            self._persist(urgent=False)
        elif up >= self.next_suspects:
            self.next_suspects = up + PERSIST_SUSPECTS_S
            self._persist(urgent=True)
        if up >= self.next_retry:
            self.next_retry = up + RETRY_STORE_S
            self.store.retry()

    def _sense(self) -> None:
        swept = False
        for fact in self.senses.due():
            self._feed(fact)
            if isinstance(fact, Sweep):
                swept = True
        if swept:
            host = self.senses.host
            self.machine.take(self.clock.wall(), host.boot_id, host.told)
            rows = self.engine.dossier()
            places = targets.places(self.engine.world, self.rules, self.senses.cgroups, rows)
            self._machine()
            seen = self.engine.world.host
            shmem = seen.shmem if seen else None
            self._send(("dossier", self.clock.boottime(), rows, places, shmem))
            self._checked()
            self._write_now()
            status = self._status()
            if status != self.status:
                self.status = status
                self._send(("status", status))

    def _feed(self, fact: Fact) -> None:
        if self.recorder:
            self.recorder.take(fact)
        kept = self.log.cursors() if isinstance(fact, KernelLine | Tick) else {}
        self._take(self.engine.feed(fact), kept)

    def _take(self, out: list[Out], kept: dict[str, str]) -> None:
        for item in out:
            if isinstance(item, Event):
                counted = self._kept_count() if item.kind.startswith("oom.") else {}
                self.desk.take(item, kept | counted)
                if self.mutes is not None:
                    self.mutes.heard(item)
                if item.kind.startswith(("leak.", "limit.", "commit.")):
                    self._persist(urgent=True)
            elif isinstance(item, Order):
                self.desk.carry_out(item)
            else:
                self.looks.ask(item)

    def _kept_count(self) -> dict[str, str]:
        """How far the kernel's count of kills is told, for the transaction that tells of it."""
        counted = self.engine.kills.balance.kept()
        return {"kills": json.dumps(trace.counted_plain(counted))} if counted else {}

    def _feed_back(self, outcome: Outcome) -> None:
        self._feed(outcome)
        self.store.put_kept({"decider": json.dumps(self.engine.decider.kept())})

    # ---- the guard ---------------------------------------------------------------------------

    def _hear(self) -> None:
        try:
            messages = wire.receive(self.opts.wire)
        except wire.ClosedError:
            self._guard_gone()
            return
        for message in messages:
            if message[0] == "stop":
                self.stopping = True
            elif message[0] == "reload":
                self.handover.reload()
            elif message[0] == "enforce":
                self.granted = bool(message[1])
                if not self.granted and enforces(self.rules):
                    self._hold_back(message[2] or "the lock for enforcing is not to be had")
            elif message[0] == "report":
                _, t, up, kind, identity, because, body = message
                if kind == "guard.action" and body.get("outcome") == "done":
                    self._spent_one(t)
                self._feed(Said(t, up, kind, identity, tuple(because), body))
            else:
                self._wish(message)

    def _machine(self) -> None:
        """Where memory hides that no process owns; told to the guard where it changed."""
        found = places.read()
        if found != self.places:
            self.places = found
            self.senses.files = sum(used for _, used, _ in found.get("tmpfs", ()))
            self._send(("machine", found))

    def _wish(self, message: wire.Message) -> None:
        """What the guard asks for beside its reports."""
        kind = message[0]
        if kind == "hurry":
            self.senses.interval_s = message[1] or self.rules.watch.interval_s
            if message[1]:
                self.senses.next_up = self.clock.boottime()
        elif kind == "inputs":
            host = Host(*message[1])
            rows = tuple(tuple(row) for row in message[2])
            self._feed(host)
            self._feed(Sweep(host.t, host.up, rows, census=False))
        elif kind == "revive":
            self.deeds.revive(*message[1:5])
        elif kind == "stop_unit":
            self.deeds.stop_unit(*message[1:4])

    def _spent_one(self, t: float | None = None) -> None:
        """The guard's budget, for the next boot; without `t` we have used up one for it."""
        self.spent = [*self.spent, self.clock.wall() if t is None else t][-64:]
        self.store.put_kept({"guard_spent": json.dumps(self.spent)})
        if t is None:
            self._send(("spent", self.spent[-1:]))

    def _await_grant(self) -> None:
        """Nothing is enforced before the guard has said that it holds the machine's lock."""
        self.granted = None
        until = self.clock.boottime() + GRANT_S
        armed = enforces(self.rules)
        while (armed or self._guard_armed()) and self.granted is None and not self.stopping:
            left = until - self.clock.boottime()
            if left <= 0:
                if armed:
                    self._hold_back("the guard did not answer")
                return
            if self.clock.wait({self.opts.wire: select.POLLIN}, left):
                self._hear()

    def _hold_back(self, reason: str) -> None:
        """Somebody else enforces on this machine: our policies go on in observe."""
        self._take_rules(observing(self.rules))
        self.health.degrade("enforce", f"policies only observe: {reason}")

    def _guard_gone(self) -> None:
        self._say("watchdog.degraded", ["the guard is gone: stopping, to be started again"],
                  {"what": "guard"})  # fmt: skip
        self.stopping = True

    def _send(self, message: tuple[Any, ...]) -> None:
        # A guard that is behind loses a message; the next beat or dossier replaces it.
        try:
            wire.send(self.opts.wire, message)
        except wire.ClosedError:
            self.stopping = True

    # ---- configuration -----------------------------------------------------------------------

    def _reloaded(self) -> None:
        try:
            rules = self.handover.reloaded()
        except RejectedError as error:
            because = [*error.lines, "the former configuration stays"]
            self._say("watchdog.config_rejected", because, {})
            self._send(("refused",))
            return
        if rules is None:
            return
        self.health.bad.pop("enforce", None)  # asked anew below, and said anew
        if rules.kernel_log.source != self.rules.kernel_log.source:
            self.health.degrade("kernel_log_source", "kernel_log.source changes at the next start")
        self.store.max_bytes = rules.store.max_bytes
        self._take_rules(rules)
        self.senses.interval_s = rules.watch.interval_s
        self.senses.next_up = self.clock.boottime()
        self._send(("rules", guard_settings(rules)))
        self._await_grant()
        policies = words.count(len(rules.policies), "policy")
        self._say("watchdog.reloaded", [f"{policies}, guard {self._guard_mode()}"], {})
        self.checkup_at = self.clock.boottime()

    def _check_up(self) -> None:
        """Do eyes and hands work, in this sandbox? A child finds out."""
        from watchdog.checkup import Checkup

        if self.checkup is None:
            self.checkup = Checkup(self.children, now_dir(self.opts.state), self.opts.state)
        self.checkup.begin(self.rules, os.getppid())

    def _take_rules(self, rules: Rules) -> None:
        self.rules = self.desk.rules = rules
        self.engine.set_rules(rules)
        self._make_post()

    def _make_post(self) -> None:
        """Only where somebody is to be told, or was: it is half a MiB of code and what it holds."""
        if self.post is not None:
            self.post.set_rules(self.rules)
        elif self.rules.notify or self.kept.get("notified") or self.store.load_outbox():
            from watchdog.post import Post

            self.post = self.desk.post = Post(
                self.clock, self.rules, self.children, self.store, self.engine, self.opts.state,
                self.kept, self.engine.is_muted,
            )  # fmt: skip
        self.kept = {}  # each part has taken its own

    def _guard_armed(self) -> bool:
        return self.rules.guard.mode == "enforce"

    def _guard_mode(self) -> str:
        """What the guard does, which only observes where it was not granted the machine's lock."""
        return "observe" if self._guard_armed() and not self.granted else self.rules.guard.mode

    def _requested(self) -> None:
        """What the commands have asked for since the last beat."""
        for request in self.requests.take():
            if request.problem:
                self.health.lost("request", self.requests.refused, request.problem)
            else:
                self._asked(request.asked)
        if self.mutes is not None:
            self.mutes.turn()
            if self.mutes.changed:
                self.mutes.changed = False
                self._feed(self.mutes.fact())
                self.store.put_kept(self.mutes.kept())
                self._write_now()
        if self.requests.problem:
            self.health.degrade("requests", f"commands cannot ask: {self.requests.problem}")

    def _asked(self, asked: dict[str, Any]) -> None:
        do = asked.get("do")
        if do == "notify-test" and self.post is not None:
            name, one = asked.get("notifier"), asked.get("id")
            if isinstance(name, str) and isinstance(one, str):
                self.post.trial(name, words.safe(one))
        elif do in ("silence", "ack"):
            self._make_mutes("[]")
            if self.mutes is not None:
                self.mutes.ask(asked)
        elif do == "lift" and self.mutes is not None:
            self.mutes.lift(words.safe(str(asked.get("what"))), words.safe(str(asked.get("by"))))

    def _make_mutes(self, kept: str | None) -> None:
        """Only where somebody has asked for silence."""
        if self.mutes is None and kept:
            from watchdog.mutes import Mutes

            self.mutes = Mutes(self.clock, self.engine.boot_id or "", kept, self._say)

    # ---- the store, now.json -----------------------------------------------------------------

    def _persist(self, urgent: bool) -> None:
        self.store.put_entities(self.engine.dump(urgent))
        self.store.put_host(self.machine.take_closed() if not urgent else ())
        self.store.put_kept(self.log.cursors() | self._kept_count())
        if not urgent:
            self.store.put_kept({
                "decider": json.dumps(self.engine.decider.kept()),
                "proven": json.dumps(self.engine.levels.kept()),
            })  # fmt: skip

    def _checked(self) -> None:
        recorder = self.recorder.problem if self.recorder else None
        record = words.safe(self.opts.record or "")
        health.check(self.health, self.store, self.senses.processes, self.desk, record, recorder)

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
            os.getppid(), self.started_t, self._guard_mode(), len(self.senses.processes.hot),
            self.desk.oom_kills, self.desk.last_oom_kill, self.health.bad,
            self.post.outbox.state() if self.post else None,
            self.mutes.plain() if self.mutes else [],
        )  # fmt: skip

    def _journal(self) -> journal.Journal | None:
        return journal.Journal() if os.path.exists(journal.SOCKET) else None

    def _terminal(self) -> TextIO | None:
        """Standard output, unless systemd has tied it to the journal that is told anyway."""
        if not os.environ.get("JOURNAL_STREAM") or self.opts.json:
            return sys.stdout
        return None


def _object(text: str | None) -> dict[str, Any] | None:
    try:
        found = json.loads(text) if text else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _times(text: str | None) -> list[float]:
    """Unix seconds, as `_spent_one` keeps them."""
    try:
        return [float(one) for one in json.loads(text or "[]")]
    except (ValueError, TypeError):
        return []


def main(argv: list[str]) -> int:
    """Set the signals (the guard speaks over the wire), and run."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    opts = options(argv)
    os.set_blocking(opts.wire, False)
    return Watcher(opts, RealClock()).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

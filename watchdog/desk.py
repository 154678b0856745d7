"""Effect: what becomes of the engine's answers. An event is stored, then told; an order is done.

An event is told once the store has said that it is new; the store answers within two seconds,
from memory where its disk hangs or is full, so that no alert waits for a disk.
"""

import json
import os
import select
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from watchdog import words
from watchdog.act import hook
from watchdog.act.kill import kill
from watchdog.child import Child, Children
from watchdog.clock import Clock
from watchdog.deeds import Deeds
from watchdog.facts import Event, Notice, Order, Outcome
from watchdog.health import Health
from watchdog.policy.match import protected
from watchdog.policy.rules import Rules
from watchdog.store.db import Store
from watchdog.tell import terminal
from watchdog.tell.journal import SOCKET, Journal

if TYPE_CHECKING:
    from watchdog.post import Post

# A store that has not answered for so long hangs: what it was given is told without it.
ANSWER_S = 2.0
# What a pipe that poll() calls writable takes without waiting; a longer write would wait.
PIPE_BUF = select.PIPE_BUF
# More at once than this is a storm, and each costs memory at the worst moment.
HOOKS_AT_ONCE = 4
DEEDS = ("kill-unit", "restart-unit", "throttle", "evidence")
SIGNALS = {"terminate": 15, "kill": 9}


class _Put:
    """An event that the store was given, until it answers; `told` where that took too long.

    `sent`: and journald took it.
    """

    __slots__ = ("at", "flat", "notices", "sent", "told")

    def __init__(self, flat: dict[str, Any], at: float, notices: Sequence[Notice]) -> None:
        self.flat, self.at, self.notices, self.told = flat, at, notices, False
        self.sent = False


def journal_here() -> Journal | None:
    """Journald, where it runs."""
    return Journal() if os.path.exists(SOCKET) else None


def terminal_here(as_json: bool) -> TextIO | None:
    """Standard output, unless systemd has tied it to the journal that is told anyway."""
    return sys.stdout if as_json or not os.environ.get("JOURNAL_STREAM") else None


class Desk:
    """Where events and orders go; `feed_back` takes the outcomes to the engine.

    `begun` is what is known of the event of an order before it is over.
    """

    def __init__(
        self, clock: Clock, rules: Rules, children: Children, store: Store,
        journal: Journal | None, out: TextIO | None, as_json: bool,
        feed_back: Callable[[Outcome], None],
        begun: Callable[[Order, float, float | None], dict[str, Any]],
    ) -> None:  # fmt: skip
        self.clock = clock
        self.rules = rules
        self.children = children
        self.store = store
        self.journal = journal
        self.out = out
        self.as_json = as_json
        self.feed_back = feed_back
        self.begun = begun
        self.post: Post | None = None  # only where somebody is to be notified
        self.deeds: Deeds | None = None
        self.hooks: list[tuple[Order, Child]] = []
        self.waiting: deque[_Put] = deque()  # one for each answer that is to come
        self.unwritten = b""  # the rest of a line that standard output has not taken yet
        self.last_oom_kill: dict[str, Any] | None = None
        self.oom_kills = 0
        self.fetched = 0  # what journald had not taken when it was last fetched from the store
        self.unsaid = 0  # lines that standard output did not take

    # ---- events ------------------------------------------------------------------------------

    def take(self, event: Event, kept: dict[str, str]) -> None:
        """Store an event together with the cursors that led to it; told when it is known as new."""
        notices: Sequence[Notice] = ()
        if self.post is not None:
            notices, more = self.post.rows(event)
            kept = kept | more
        self.waiting.append(_Put(event.flat(), self.clock.boottime(), notices))
        self.store.put_events([event], kept, notices)

    def answers(self) -> None:
        """Tell what the store says is new, and what it has said nothing about for too long."""
        told = []
        for _, new in self.store.answers():
            put = self.waiting.popleft()  # one answer for each event that was put, in order
            if put.flat["id"] in new:
                sent = put.sent if put.told else self._tell(put)
                if sent:
                    told.append(put.flat["id"])
        self.store.mark_told(told)
        late = self.clock.boottime() - ANSWER_S
        for put in self.waiting:
            if put.at > late:
                break
            if not put.told:
                put.told = True
                put.sent = self._tell(put)
        self._write()

    def deadline(self) -> float | None:
        """When `answers` has to be called although the store is silent; None: not at all."""
        return next((put.at + ANSWER_S for put in self.waiting if not put.told), None)

    def check(self, health: Health) -> None:
        """Try again what journald did not take, and say what was lost for good."""
        if self.journal is not None:
            self.journal_again()
            lost = self.journal.dropped
            health.lost("journal", lost, f"journald did not take {words.count(lost, 'alert')}")
        unsaid = words.count(self.unsaid, "line")
        health.lost("output", self.unsaid, f"standard output did not take {unsaid}")

    def journal_again(self) -> None:
        """Send what journald did not take before; what it takes now is told."""
        if self.journal is None:
            return
        waiting = self.journal.flush()
        self.store.mark_told(self.journal.take_late())
        if waiting or self.journal.dropped == self.fetched:
            return
        # The spool was too small for what the store has kept.
        self.fetched = self.journal.dropped
        ours = {put.flat["id"] for put in self.waiting}
        again = [flat for flat in self.store.untold() if flat["id"] not in ours]
        self.store.mark_told([flat["id"] for flat in again if self.journal.send(flat)])

    def _tell(self, put: _Put) -> bool:
        sent = self.tell(put.flat)
        if self.post is not None and put.notices:
            self.post.outbox.take(put.notices)
        return sent

    def tell(self, flat: dict[str, Any]) -> bool:
        """To the journal, and to standard output. False: it waits for journald."""
        sent = True
        if flat["event"] == "oom.kill":
            self.last_oom_kill = flat
            self.oom_kills += 1
        if self.journal is not None:
            sent = self.journal.send(flat) or not self.journal.there
        if self.out is not None:
            color = terminal.colors(self.out)
            text = json.dumps(flat) if self.as_json else terminal.line(flat, color)
            self._print(text + "\n")
        return sent

    def _print(self, text: str) -> None:
        """Write a line, or drop it where the one before is still to be read."""
        self._write()
        if self.unwritten:
            self.unsaid += 1
            return
        self.unwritten = text.encode("utf-8", "backslashreplace")
        self._write()

    def _write(self) -> None:
        """As much as can be written at once: the loop must not wait for a reader that stopped."""
        if self.out is None:
            return
        fd = self.out.fileno()
        poller = select.poll()
        poller.register(fd, select.POLLOUT)
        while self.unwritten:
            ready = poller.poll(0)
            if not ready:
                return
            try:
                if not ready[0][1] & select.POLLOUT:
                    raise BrokenPipeError
                written = os.write(fd, self.unwritten[:PIPE_BUF])
            except OSError:
                self.unsaid += 1
                self.unwritten = b""
                return
            self.unwritten = self.unwritten[written:]

    # ---- orders ------------------------------------------------------------------------------

    def carry_out(self, order: Order) -> None:
        """Do what a policy ordered; the outcome comes back through `feed_back`."""
        verb, _, name = order.do.partition(":")
        if verb == "log":  # the policy.action event itself is the line
            self.done(order, "done", "")
        elif verb in SIGNALS:
            self._signal(order, SIGNALS[verb])
        elif verb == "notify" and name in self.rules.notify and self.post is not None:
            self.post.order(order)  # the event and what is to be sent are stored together
            self.done(order, "done", f"{name} will be told")
        elif verb == "run" and name in self.rules.run:
            found = self.rules.run[name]
            self._hook(order, found.argv, found.user, found.timeout_s)
        elif self.deeds is not None and verb in DEEDS:
            self.deeds.carry_out(order, verb)
        else:
            self.done(order, "failed", f"{words.safe(order.do)} is not available in this version")

    def _signal(self, order: Order, number: int) -> None:
        entity = order.subject.entity
        if entity.pid is None or entity.start is None:
            self.done(order, "failed", "a unit has no single process to signal")
            return
        outcome, detail = kill(
            entity.pid, entity.start, number,
            still_protected=lambda: protected(self.rules, order.subject),
            still_needed=None,
        )  # fmt: skip
        if outcome != "done" or number != SIGNALS["terminate"] or self.deeds is None:
            self.done(order, outcome, detail)
            return

        def told(down: str | None) -> None:
            said = f"{detail}; {down}" if down else detail
            self.done(order, outcome, said, restarts=False if down else None)

        self.deeds.terminated(order, told)

    def _hook(self, order: Order, argv: Sequence[str], user: str | None, timeout_s: float) -> None:
        if len(self.hooks) >= HOOKS_AT_ONCE:
            self.done(order, "failed", f"{HOOKS_AT_ONCE} programs are under way already")
            return
        facts = hook.facts(order, self.begun(order, self.clock.wall(), self.clock.boottime()))
        try:
            self.hooks.append((order, hook.start(self.children, argv, facts, user, timeout_s)))
        except hook.HookError as error:
            self.done(order, "failed", str(error))

    def hooks_over(self) -> None:
        """Tell how the hooks ended that are over."""
        over = [(order, child) for order, child in self.hooks if child.done]
        self.hooks = [(order, child) for order, child in self.hooks if not child.done]
        for order, child in over:
            self.done(order, *hook.outcome(child))

    def done(self, order: Order, outcome: str, detail: str, restarts: bool | None = None) -> None:
        """What became of an order."""
        t, up = self.clock.wall(), self.clock.boottime()
        self.feed_back(Outcome(t, up, order.id, outcome, detail, restarts))

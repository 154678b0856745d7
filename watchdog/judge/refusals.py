"""Pure: the kernel refused memory to somebody, and said so in its log.

calm --a refusal, and two seconds for those that follow--> begun --none for a minute--> calm
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from watchdog import words
from watchdog.facts import Entity, Host, KernelLine
from watchdog.history.world import World
from watchdog.judge.telling import Telling

if TYPE_CHECKING:
    from watchdog.oom_report.failure import Failure

COLLECT_S = 2.0
OVER_S = 60.0
# For a policy a refusal is a moment that counts as holding for so long, as a kill does.
RECENT_S = 60.0
# SLUB says after the page allocator what is the same refusal.
SAME_S = 1.0


class _Failed:
    """An episode of refusals."""

    __slots__ = ("count", "event", "first", "first_up", "last_up", "pid", "said", "t", "up")

    def __init__(self, first: "Failure", t: float, up: float | None) -> None:
        self.first, self.t, self.up = first, t, up
        self.first_up = self.last_up = t if up is None else up
        self.count = self.said = 0
        self.pid: int | None = None
        self.event: str | None = None

    def take(self, found: "Failure", now: float) -> None:
        same = found.what == "slab" and self.count and now - self.last_up < SAME_S
        self.count += 0 if same else found.stands_for
        self.last_up = max(self.last_up, now)


class Refusals:
    """Lines and time in, tellings out."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now: _Failed | None = None
        self.last_up: float | None = None
        self.episode = 0

    def recent(self, now: float) -> bool:
        """Whether the kernel refused memory within the last minute."""
        return self.last_up is not None and now - self.last_up <= RECENT_S

    def line(self, line: KernelLine) -> list[Telling]:
        """A record of the kernel log."""
        told = self.tick(line.t, line.up) if self.now is not None else []
        named = self.now is not None and self.now.pid is None and " PID: " in line.line
        if not named and "lloc" not in line.line:
            return told
        from watchdog.oom_report import failure  # most machines never need it

        if self.now is not None and self.now.pid is None:
            self.now.pid = failure.task(line.line)
        if line.boot_id is not None or not failure.interesting(line.line):
            return told
        found = failure.failure(line.line)
        if found is None:
            return told
        now = line.t if line.up is None else line.up
        one = self.now
        if one is None:
            if found.what == "suppressed":
                return told  # an old line of another kind of warning
            self.episode += 1
            one = self.now = _Failed(found, line.t, line.up)
        one.take(found, now)
        self.last_up = now
        return told

    def tick(self, t: float, up: float | None) -> list[Telling]:
        """Time has passed."""
        one = self.now
        if one is None:
            return []
        now = t if up is None else up
        out = []
        if one.event is None and not one.said and now - one.first_up >= COLLECT_S:
            one.said = one.count
            out.append(self._telling(one, "begun", one.t, one.up))
        if one.said and now - one.last_up >= OVER_S:
            if one.count > one.said:
                out.append(self._telling(one, "ended", t, up))
            self.now = None
        return out

    def flush(self) -> list[Telling]:
        """The recording ends: tell what was still being collected."""
        one = self.now
        if one is None or one.said:
            return []
        one.said = one.count
        return [self._telling(one, "begun", one.t, one.up)]

    def _telling(self, one: _Failed, state: str, t: float, up: float | None) -> Telling:
        found = one.first
        entity = Entity(comm=found.comm, pid=one.pid)
        known = self.world.entity_of_pid(one.pid, one.up) if one.pid is not None else None
        if known is not None and known.comm == found.comm:
            entity = known
        body: dict[str, Any] = {
            **entity._asdict(), "state": state, "what": found.what, "order": found.order,
            "mode": found.mode, "size_bytes": found.size_bytes, "count": one.count,
            "since": round(one.t, 3),
        }  # fmt: skip
        if state == "ended":
            lasted = words.duration(max(1.0, one.last_up - one.first_up))
            because: tuple[str, ...] = (
                f"{words.count(one.count, 'refusal')} in {lasted}, and none since",
            )
        else:
            because = _refused(found, one.count, self.world.host)
        tail = "-ended" if state == "ended" else ""
        identity = f"{self.episode}-{round(one.first_up * 1000)}{tail}"
        cause = one.event if state == "ended" else None
        return Telling("alloc.failed", identity, t, up, because, body, cause)

    def told(self, begun: str | None) -> None:
        """What was told to have begun has this id."""
        if self.now is not None:
            self.now.event = begun

    def kept(self) -> dict[str, Any]:
        """What a restart on the same boot needs, as JSON takes it."""
        one = self.now
        refusing = None if one is None else [
            one.first, one.t, one.up, one.last_up, one.count, one.said, one.pid, one.event
        ]  # fmt: skip
        return {"refusals": self.episode, "refusing": refusing}

    def take(self, kept: Mapping[str, Any]) -> None:
        """The inverse of `kept`; what is not of its kind is passed over."""
        count = kept.get("refusals")
        self.episode = count if type(count) is int else 0
        try:
            first, t, up, last_up, count, said, pid, event = kept["refusing"]
            what, comm, order, mode, size, stands_for = first
            from watchdog.oom_report.failure import Failure

            found = Failure(
                str(what), None if comm is None else str(comm),
                None if order is None else min(63, max(0, int(order))),
                None if mode is None else str(mode), None if size is None else int(size),
                int(stands_for),
            )  # fmt: skip
            one = _Failed(found, float(t), None if up is None else float(up))
            one.last_up, one.count, one.said = float(last_up), int(count), int(said)
        except (KeyError, ValueError, TypeError, OverflowError):
            return
        one.pid = pid if type(pid) is int else None
        one.event = event if isinstance(event, str) else None
        self.now, self.last_up = one, one.last_up


def _refused(found: "Failure", count: int, host: Host | None) -> tuple[str, ...]:
    who = f" to {words.safe(found.comm)}" if found.comm else ""
    if found.what == "vmalloc":
        size = f" of {words.size(found.size_bytes)}" if found.size_bytes is not None else ""
        said = [f"the kernel refused a virtual mapping{size}{who}"]
    elif found.what == "pages":
        asked = words.count(1 << (found.order or 0), "page")
        row = " in a row" if found.order else ""
        said = [f"the kernel refused {asked}{row}{who} (order {found.order}, {found.mode})"]
        said.append(_why(found, host))
    else:
        said = ["the kernel refused a slab its memory"]
    if count > 1:
        said.append(f"{words.count(count, 'refusal')} at once")
    return tuple(said)


def _why(found: "Failure", host: Host | None) -> str:
    if "GFP_ATOMIC" in (found.mode or ""):
        return (
            "it could not wait for memory to be reclaimed (GFP_ATOMIC), as network drivers cannot"
        )
    if (found.order or 0) > 3:
        left = host.mem_available if host is not None else None
        much = f" although {words.size(left)} are available" if left is not None else ""
        return f"so many in a row were not to be found{much}: memory is fragmented"
    return "nothing could be reclaimed for it"

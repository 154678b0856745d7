"""Pure: when memory counts as short. The guard loads this file, so it imports next to nothing.

Short means: less than the mark is available and swap does not help any more; or, near the mark,
the machine stands still waiting for memory. It begins at the mark and ends at 1.5 times the mark,
so that a machine at the edge does not begin and end without rest. In between nothing is done,
unless one of the two holds (again): what began it is no reason to go on.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from watchdog import words
from watchdog.guard_facts import Host

END_FACTOR = 1.5
# A mark above half of the memory could never be left again at 1.5 times of it.
MARK_MOST = 0.5
# Swap that takes nothing for so long, while memory is short, does not help.
SWAP_IDLE_S = 2.0
# Stall below this part of `stalled_above` has ended.
STALL_END = 0.5
# How well zram packs is told once it holds so much; until then what lz4 and zstd usually reach.
ZRAM_TOLD, ZRAM_RATIO = 16 << 20, 3.0
# Host-wide stall also adds up what cgroups suffer at their own limits: it counts only near the
# mark, below the larger of these two.
NEAR_FACTOR, NEAR_SHARE = 3.0, 0.20


class Mark(NamedTuple):
    """A level of memory: a share (0..1) of the total, bytes, or both: then the smaller counts."""

    share: float | None
    bytes: int | None = None

    def of(self, total: int) -> int:
        """The level in bytes on a machine with `total`, at most half of it."""
        found = [int(total * MARK_MOST)]
        if self.share is not None:
            found.append(int(total * self.share))
        if self.bytes is not None:
            found.append(self.bytes)
        return min(found)


class GuardRules(NamedTuple):
    """Section [guard] of the configuration; see docs/configuration.md."""

    mode: str = "observe"
    available_below: Mark = Mark(0.05)
    swap_free_below: Mark = Mark(0.10)
    stalled_above: tuple[float, float] | None = (0.40, 2.0)  # share of the time, window_s
    victim: str = "blame"
    kill: str = "process"
    budget: tuple[int, float] = (6, 3600.0)  # times, per_s
    revive: bool = True  # a service that a SIGTERM of ours ended for good is started again


class HasGuard(Protocol):
    """The rules as a whole."""

    @property
    def guard(self) -> GuardRules: ...


def guard_plain(rules: HasGuard | GuardRules) -> dict[str, Any]:
    """The guard's rules as a dict that marshal and json take."""
    guard = rules if isinstance(rules, GuardRules) else rules.guard
    plain: dict[str, Any] = guard._asdict()
    for key, value in plain.items():
        if isinstance(value, tuple):
            plain[key] = list(value)
    return plain


def guard_from_plain(plain: Mapping[str, Any]) -> GuardRules:
    """The inverse of `guard_plain`; a key that is missing has its default."""
    found = {key: plain[key] for key in GuardRules._fields if key in plain}
    for key in ("available_below", "swap_free_below"):
        if key in found:
            found[key] = Mark(*found[key])
    for key in ("stalled_above", "budget"):
        if found.get(key) is not None:
            found[key] = tuple(found[key])
    return GuardRules(**found)


class Transition(NamedTuple):
    """Memory has become short ("begun"), or is well again ("ended"); ``by`` is what began it."""

    kind: str
    up: float
    by: str  # "available" | "stall"
    because: tuple[str, ...]


class Pressure:
    """Feed it each reading of the host; it knows whether memory is short.

    ``active`` from the begin to the end, with ``by`` what began it. ``now_by`` is what holds at
    this reading, and ``because`` says it: "" and () while memory is between begin and end.
    """

    def __init__(self, rules: GuardRules) -> None:
        self.rules = rules
        self.active = False
        self.since: float | None = None  # up, of the latest begin
        self.by = self.now_by = ""
        self.because: tuple[str, ...] = ()
        self.begin_bytes = 0  # both 0 until a reading told the size of the memory
        self.end_bytes = 0
        self.zram: tuple[int, int, int] | None = None  # swap in it, stored, packed (bytes)
        self._stalls: list[tuple[float, int]] = []  # (up, psi_full_us), the oldest first
        self._below_since: float | None = None
        self._swap_moved: float | None = None
        self._swap_seen: int | None = None

    def step(
        self, host: Host, up: float | None = None, pswpout: int | None = None
    ) -> Transition | None:
        """Take a reading; what has changed, if anything.

        `pswpout` is vmstat's counter; without it swap counts as taking pages while SwapFree falls.
        A reading without the total or what is available changes nothing.
        """
        now = host.up if up is None else up
        now = host.t if now is None else now
        total, available = host.mem_total, host.mem_available
        if not total or available is None:
            return None
        self.begin_bytes = self.rules.available_below.of(total)
        self.end_bytes = int(self.begin_bytes * END_FACTOR)
        self._watch_swap(host, now, pswpout)
        stall = self._stall(host, now)
        ended = self._end(now, available, total, stall) if self.active else None
        if ended is not None:
            return ended
        because, by = self._short(host, now), "available"
        if not because:
            because, by = self._stalled(available, total, stall), "stall"
        by = by if because else ""
        if by != self.now_by:
            self.now_by, self.because = by, because
        if self.active or not by:
            return None
        self.active, self.since, self.by = True, now, by
        return Transition("begun", now, by, because)

    def still(self, host: Host) -> bool:
        """Right before a signal: is memory still as short as at the last `step`?

        Swap is not asked again: what does not help does not begin to within milliseconds. A stall
        is not measured again either: one that held at the last step holds near the mark.
        """
        total, available = host.mem_total, host.mem_available
        if not total or available is None:
            return False
        stalled = self.now_by == "stall" and available < self.near_bytes(total)
        return stalled or available < self.rules.available_below.of(total)

    def slept(self, gap_s: float) -> None:
        """Nobody ran for so long, neither we nor anybody else: it counts for no time of waiting."""
        self._stalls.clear()
        if self._below_since is not None:
            self._below_since += gap_s
        if self._swap_moved is not None:
            self._swap_moved += gap_s

    def near_bytes(self, total: int) -> int:
        """Below this a stall counts."""
        return int(max(NEAR_FACTOR * self.rules.available_below.of(total), NEAR_SHARE * total))

    def _watch_swap(self, host: Host, now: float, pswpout: int | None) -> None:
        seen = pswpout if pswpout is not None else -(host.swap_free or 0)
        if self._swap_seen is None or seen > self._swap_seen:
            self._swap_moved = now
        self._swap_seen = seen
        below = (host.mem_available or 0) < self.begin_bytes
        if not below:
            self._below_since = None
        elif self._below_since is None:
            self._below_since = now

    def _short(self, host: Host, now: float) -> tuple[str, ...]:
        """Why memory is short by what is available, or () where it is not."""
        available, begin = host.mem_available or 0, self.begin_bytes
        if available >= begin:
            return ()
        first = f"{words.size(available)} available, below the mark of {words.size(begin)}"
        swap = self._no_swap(host, now)
        return (first, swap) if swap else ()

    def _no_swap(self, host: Host, now: float) -> str | None:
        """Why swap does not help, or None where it still does."""
        total, free = host.swap_total, host.swap_free
        if not total or free is None:
            return "there is no swap" if total == 0 else "nothing is known of swap"
        mark = self.rules.swap_free_below.of(total)
        # Once it was exhausted it is so until clearly more of it is free.
        if free < mark * (END_FACTOR if self.now_by == "available" else 1):
            return f"{words.size(free)} of swap free, below the mark of {words.size(mark)}"
        zram = self._zram(host)
        if zram:
            return zram
        if (host.mem_available or 0) < self.begin_bytes / 2:
            return "less than half of the mark: swap does not help fast enough"
        below, moved = self._below_since, self._swap_moved
        quiet_since = max(now if below is None else below, now if moved is None else moved)
        if now - quiet_since >= SWAP_IDLE_S:
            return f"swap has taken nothing for {words.duration(now - quiet_since)}"
        return None

    def _zram(self, host: Host) -> str | None:
        """Why swap that lies in memory itself does not help any more, or None.

        What is swapped out comes back packed: of `x` bytes x / ratio stay. So it can take no more
        than is free in it, nor than what is available holds when packed, and gives less than that.
        """
        total, free = host.swap_total or 0, host.swap_free or 0
        if self.zram is None or self.zram[0] * 2 < total:
            return None
        _, stored, packed = self.zram
        ratio = stored / packed if packed > 0 and stored >= ZRAM_TOLD else ZRAM_RATIO
        if ratio <= 1:
            return "zram packs nothing"
        gain = int(min(free, (host.mem_available or 0) * ratio) * (1 - 1 / ratio))
        if gain < self.begin_bytes:
            return f"swap lies in memory (zram): it can give {words.size(gain)} more"
        return None

    def _stall(self, host: Host, now: float) -> float | None:
        """Share of the time of the last window in which everybody waited for memory."""
        limit, full = self.rules.stalled_above, host.psi_full_us
        if limit is None or full is None:
            return None
        samples = self._stalls
        if samples and (now < samples[-1][0] or full < samples[-1][1]):
            samples.clear()  # another boot, or another recording
        if not samples or now > samples[-1][0]:
            samples.append((now, full))
        while len(samples) > 1 and now - samples[1][0] >= limit[1]:
            del samples[0]
        passed = now - samples[0][0]
        if passed < limit[1]:
            return None
        return min(1.0, (full - samples[0][1]) / 1e6 / passed)

    def _stalled(self, available: int, total: int, stall: float | None) -> tuple[str, ...]:
        limit = self.rules.stalled_above
        least = STALL_END if self.now_by == "stall" else 1
        if limit is None or stall is None or stall < limit[0] * least:
            return ()
        near = self.near_bytes(total)
        if available >= near:
            return ()
        return (
            f"everything waited for memory for {words.share(stall)} of the last "
            f"{words.duration(limit[1])} (from {words.share(limit[0])} on that is a stall)",
            f"{words.size(available)} available, near the mark (below {words.size(near)})",
        )

    def _end(
        self, now: float, available: int, total: int, stall: float | None
    ) -> Transition | None:
        limit = self.rules.stalled_above
        if available < self.end_bytes:
            return None
        near = available < self.near_bytes(total)
        if limit and near and stall is not None and stall >= limit[0] * STALL_END:
            return None
        by, since = self.by, self.since if self.since is not None else now
        self.active, self.by, self.now_by, self.because = False, "", "", ()
        return Transition("ended", now, by, (
            f"{words.size(available)} available, above {words.size(self.end_bytes)}",
            f"memory was short for {words.duration(max(0.0, now - since))}",
        ))  # fmt: skip


def sentence(rules: GuardRules, host: Host) -> str:
    """What the guard waits for on this machine, for the start line."""
    if rules.mode == "off":
        return "guard off"
    total = host.mem_total
    doing = "acts" if rules.mode == "enforce" else "would act (observing)"
    if not total:
        return f"guard {doing} when memory is short; the size of this machine's memory is unknown"
    said = f"guard {doing} below {words.size(rules.available_below.of(total))} of "
    said += f"{words.size(total)} available"
    swap = host.swap_total
    if swap:
        said += f" with less than {words.size(rules.swap_free_below.of(swap))} of "
        said += f"{words.size(swap)} swap free or swap of no help"
    elif swap == 0:
        said += " (there is no swap)"
    if rules.stalled_above and host.psi_full_us is not None:
        share, window = rules.stalled_above
        said += f", or stalled above {words.share(share)} for {words.duration(window)}"
    elif rules.stalled_above:
        said += "; this kernel tells no memory pressure"
    return said

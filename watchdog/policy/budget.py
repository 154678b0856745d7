"""Pure: at most so often in so long, over restarts and steps of the wall clock.

Times are CLOCK_BOOTTIME; with each goes the wall clock, because a new boot counts from zero and
must keep what was spent before it.
"""

from typing import NamedTuple

from watchdog import words

Moment = tuple[float, float]  # (up or the clock in use, Unix seconds)


class Purse(NamedTuple):
    """What was spent, the oldest first; values, so that it can be kept as it is."""

    spent: tuple[Moment, ...] = ()

    def left(self, times: int, per_s: float, now: float) -> int:
        """How often it may be spent now."""
        return max(0, times - sum(1 for at, _ in self.spent if now - at < per_s))

    def spend(self, times: int, per_s: float, now: float, t: float) -> "Purse":
        """One more; what no longer counts is dropped, and never more than `times` are kept."""
        kept = [moment for moment in self.spent if now - moment[0] < per_s]
        return Purse((*kept, (now, t))[-max(times, 1) :])

    def given_back(self) -> "Purse":
        """The last is not spent after all."""
        return Purse(self.spent[:-1])

    def spent_said(self, times: int, per_s: float, now: float, of: str = "") -> str:
        """The sentence where nothing is left of it; `of` is whose it is, if not the policy's."""
        free = words.duration(self.free_in(times, per_s, now))
        return f"budget of {times} per {words.duration(per_s)}{of} is spent; free again in {free}"

    def free_in(self, times: int, per_s: float, now: float) -> float:
        """Seconds until it may be spent again; 0 where it may be now."""
        counted = [at for at, _ in self.spent if now - at < per_s]
        if len(counted) < times:
            return 0.0
        return max(0.0, counted[len(counted) - times] + per_s - now) if times else float("inf")

    def moved(self, now: float, t: float) -> "Purse":
        """The same on a clock that has begun anew: ages by the wall clock, the future is now."""
        return Purse(tuple(sorted((now - max(0.0, t - at_t), at_t) for _, at_t in self.spent)))

    def overtaken(self, before_t: float, now: float, t: float) -> "Purse":
        """The wall clock told `before_t`, and now `t`: it may have been set right.

        What lay ahead of it counted from when it was first seen. What this boot spent before the
        clock was set back only seems to: its own age is the larger one, and stays.
        """
        if not any(before_t < at_t <= t for _, at_t in self.spent):
            return self
        return Purse(tuple(sorted(
            (min(at, now - (t - at_t)) if before_t < at_t <= t else at, at_t)
            for at, at_t in self.spent
        )))  # fmt: skip

"""Pure: what is held against one entity that rises, apart, as of a thousand hardly one does."""

from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Case:
    """See the head of this file; who does not rise has none of its own.

    ``advised`` says whether slow growth is told of, ``episode`` counts what was told. ``since_t``
    is when the rise began that is suspected (Unix seconds). ``high_up`` is when it last reached a
    new height, and ``quiet_s`` how long it may go without one before the suspicion ends.
    """

    __slots__ = (
        "advised", "base_kib", "episode", "event", "high_up", "peak_kib", "quiet_s", "rate",
        "since_t", "verdict", "verdict_up",
    )  # fmt: skip

    def __init__(self) -> None:
        self.advised = False
        self.since_t: float | None = None
        self.base_kib = self.peak_kib = self.episode = 0
        self.high_up = self.quiet_s = self.verdict_up = self.rate = 0.0
        self.event: str | None = None
        self.verdict: Any = None

    def copy(self) -> "Case":
        """One that may change apart from it."""
        found = Case()
        for field in self.__slots__:
            setattr(found, field, getattr(self, field))
        return found


NO_CASE = Case()  # nothing is ever written to it


class Rising(Protocol):
    """Who may have a case."""

    case: Case


class OfCase(Generic[T]):
    """A field of a trend's case, which begins when the field is set to another value."""

    def __set_name__(self, _: type, name: str) -> None:
        self.name = name

    def __get__(self, trend: Rising, _: type) -> T:
        found: T = getattr(trend.case, self.name)
        return found

    def __set__(self, trend: Rising, value: T) -> None:
        if trend.case is NO_CASE:
            if value == getattr(NO_CASE, self.name):
                return
            trend.case = Case()
        setattr(trend.case, self.name, value)

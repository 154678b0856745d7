"""A protected service that was started again, before the watcher can say that it is protected.

The watcher sees a newcomer after some seconds, and says nothing at all while it hangs; but the
database that Restart= has just brought back is as protected as the one before. A name proves
nothing, and this is no more than what tides over until the next word: the newcomer has the name and
the user of a protected process that has ended, and neither it nor the watcher's last word is older
than BACK_S.
"""

from collections.abc import Mapping

from watchdog.sense.fast import TICKS, Eyes, Reading

# A watcher that hangs is ended after 63 s and started again within 30 s more, and says who is
# protected as soon as it has looked at everybody. Who needs longer is judged by what is seen.
BACK_S = 120.0
READ_MAX = 512  # names that are read at a time: 0.1 ms each

Ident = tuple[int, int]
Name = tuple[str, int | None]  # comm and uid


class Namesakes:
    """The names of those who are protected, and of those who were and have ended since."""

    def __init__(self, eyes: Eyes) -> None:
        self.eyes = eyes
        self.names: dict[Ident, Name] = {}
        self.unread: list[Ident] = []
        self.ended: dict[Name, tuple[float, str]] = {}  # when that was known, and why protected

    def take(self, before: Mapping[Ident, str], spared: Mapping[Ident, str], up: float) -> None:
        """Another word on who is protected."""
        self.ended = {name: one for name, one in self.ended.items() if up - one[0] <= BACK_S}
        kept = {}
        for ident, name in self.names.items():
            if ident in spared:
                kept[ident] = name
            elif self._has_ended(ident):
                self.ended[name] = up, _said(ident, before.get(ident, ""))
        self.names = kept
        self.unread = [ident for ident in spared if ident not in kept]
        self.read()

    def read(self) -> None:
        """The names of those who are protected, or of some more of them."""
        now, self.unread = self.unread[:READ_MAX], self.unread[READ_MAX:]
        one_of = {name: name for name in self.names.values()} if now else {}  # many have the same
        for ident in now:
            seen = self.eyes.look(ident[0])
            if seen is not None and seen.start == ident[1]:
                name = seen.comm, seen.uid
                self.names[ident] = one_of.setdefault(name, name)

    def why(self, seen: Reading, spared: Mapping[Ident, str], up: float) -> str | None:
        """Why a newcomer counts as protected, or None."""
        name, born = (seen.comm, seen.uid), seen.start / TICKS
        if up - born > BACK_S:
            return None
        at, why = self.ended.get(name, (0.0, ""))
        if why and born - at <= BACK_S:
            return why
        for ident, known in self.names.items():
            if known == name and ident in spared and self._has_ended(ident):
                return _said(ident, spared[ident])
        return None

    def _has_ended(self, ident: Ident) -> bool:
        return self.eyes.start_of(ident[0]) != ident[1]


def _said(ident: Ident, why: str) -> str:
    return f"it seems to be PID {ident[0]} started again: {why}"

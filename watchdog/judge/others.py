"""Pure: kills that the kernel did not make. A large process vanishes; is there a witness?

vanished, while memory was short, and the kernel counted nothing for it
  -> ask once for what the journal says of the seconds around its end, and PID 1 of its unit
  -> a claim about it: kill.other · none: nothing is told, it may just have ended
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from watchdog import words
from watchdog.facts import Group, Host, Look, Looked
from watchdog.history.world import Gone
from watchdog.judge.telling import Telling

if TYPE_CHECKING:  # loaded once there is a claim: on most machines never
    from watchdog.judge.claims import Claim

# Who holds less frees too little to be chosen on a machine of that size (1/256 of a GiB machine is
# 4 MiB, of 16 GiB 64 MiB); the bounds keep small ones from being noise, large ones from hiding.
LEAST_BYTES, LEAST_SHARE, LEAST_MAX_BYTES = 16 << 20, 256, 256 << 20
# All of them act on little available memory or on stalls: earlyoom and nohang below 10 %, oomd and
# systemd-oomd below that or at a stall of half the time. Twice as early is early enough. Without it
# each compiler run would cost a look (0.1 s of CPU); with it, one in ten seconds of shortage.
SHORT_SHARE = 0.20
STALLED, STALL_OVER_S = 0.05, 0.5
SHORT_LASTS_S = 90.0  # a census, which notices who is gone, may be 30 s later; SIGTERM takes time
LOOK_EVERY_S = 10.0
LOOK_BACK_S = 10.0
ANSWER_S = 60.0
CANDIDATES_MAX = 64
UNITS_MAX = 8
OURS_S = 120.0
# By whom, in a claim, where no daemon says that it was it: see claims.Claim.
SYSTEMD, KERNEL, UNKNOWN = "systemd", "kernel", "unknown"


class _Asked(NamedTuple):
    """A look under way."""

    id: str
    up: float
    about: tuple[Gone, ...]


class Others:
    """See the head of this file."""

    def __init__(self) -> None:
        self._short_up: float | None = None
        self._before: Host | None = None
        self._least = LEAST_BYTES
        self._candidates: list[Gone] = []
        self._asked: _Asked | None = None
        self._asked_up: float | None = None
        self._explained: dict[int, float] = {}  # pid -> until when its end is no riddle
        self._oomd_rose: dict[str, tuple[int, float]] = {}
        self._named: dict[int, float] = {}  # pid -> until when a kill without a line may be it

    def reading(self, host: Host) -> None:
        """The machine now: is memory short?"""
        now = host.t if host.up is None else host.up
        total, left, before = host.mem_total, host.mem_available, self._before
        if total:
            self._least = max(LEAST_BYTES, min(total // LEAST_SHARE, LEAST_MAX_BYTES))
        if total and left is not None and left < SHORT_SHARE * total:
            self._short_up = now
        if before is None or host.psi_some_us is None or before.psi_some_us is None:
            self._before = host
            return
        passed = now - (before.t if before.up is None else before.up)
        if 0 <= passed < STALL_OVER_S:
            return
        self._before = host
        if passed > 0 and (host.psi_some_us - before.psi_some_us) / 1e6 >= STALLED * passed:
            self._short_up = now

    def group(self, group: Group, before: Group | None) -> None:
        """A cgroup's counts, now and when last read: has systemd-oomd marked a kill there?"""
        if group.cgroup is None or before is None:
            return
        rose = (group.events or {}).get("oomd_kill", 0) - (before.events or {}).get("oomd_kill", 0)
        if rose > 0:
            self._oomd_rose[group.cgroup] = (rose, group.t if group.up is None else group.up)

    def explained(self, pid: int, now: float) -> None:
        """The end of this process is told by another event: the kernel's line, or our own deed."""
        self._explained = {one: up for one, up in self._explained.items() if up > now}
        self._explained[pid] = now + OURS_S
        self._candidates = [one for one in self._candidates if one.entity.pid != pid]

    def unattributed(self, pids: Iterable[int | None], now: float) -> None:
        """A kill was counted and told without a line; one of these may be its victim."""
        self._named = {one: up for one, up in self._named.items() if up > now}
        self._named |= {pid: now + OURS_S for pid in pids if pid is not None}

    def is_explained(self, gone: Gone, now: float) -> bool:
        """Has another event told how it ended?"""
        return self._explained.get(gone.entity.pid or 0, -1.0) >= now

    def vanished(self, gone: Iterable[Gone], now: float) -> None:
        """These are not there any more."""
        if self._short_up is None or now - self._short_up > SHORT_LASTS_S:
            return
        for one in gone:
            if one.resident_bytes >= self._least and not self.is_explained(one, now):
                self._candidates.append(one)
        self._candidates.sort(key=lambda one: -one.resident_bytes)
        del self._candidates[CANDIDATES_MAX:]

    def ask(self, now: float, unexplained: int) -> list[Look]:
        """The next look, if one is due; it waits while kills of the kernel have no line yet."""
        if self._asked is not None and now - self._asked.up > ANSWER_S:
            self._asked = None
        self._candidates = [one for one in self._candidates if now - one.up <= SHORT_LASTS_S]
        if not self._candidates or self._asked is not None or unexplained:
            return []
        if self._asked_up is not None and now - self._asked_up < LOOK_EVERY_S:
            return []
        about, self._candidates = tuple(self._candidates), []
        self._asked_up = now
        self._asked = _Asked(f"claims-{now:.3f}", now, about)
        units = dict.fromkeys(one.entity.unit for one in about if one.entity.unit)
        since = min(one.seen_t for one in about) - LOOK_BACK_S
        return [Look(self._asked.id, "claims", round(since, 3), tuple(units)[:UNITS_MAX])]

    def answered(self, looked: Looked) -> list[Telling]:
        """What was found: one event for each claim, about the largest that it fits."""
        asked = self._asked
        if asked is None or asked.id != looked.look_id:
            return []
        self._asked = None
        from watchdog.judge.claims import claims

        found = claims(looked.entries, looked.units, looked.t)
        return self._tell(found, asked.about, looked.t, looked.up)

    def marked(self, gone: Iterable[Gone], t: float, up: float | None) -> list[Telling]:
        """systemd-oomd's own mark on a cgroup is a witness that needs no look."""
        now = t if up is None else up
        self._oomd_rose = {
            path: rose for path, rose in self._oomd_rose.items() if now - rose[1] <= SHORT_LASTS_S
        }
        if not self._oomd_rose:
            return []
        from watchdog.judge.claims import Claim

        found = [
            Claim("systemd-oomd", "user.oomd_kill",
                  f"user.oomd_kill of {path} rose by {count}", t, cgroup=path)
            for path, (count, _) in sorted(self._oomd_rose.items())
        ]  # fmt: skip
        return self._tell(found, tuple(self._large(gone, now)), t, up)

    def _large(self, gone: Iterable[Gone], now: float) -> Iterable[Gone]:
        return (
            one for one in gone
            if one.resident_bytes >= self._least and not self.is_explained(one, now)
        )  # fmt: skip

    def _tell(
        self, found: "Iterable[Claim]", about: Iterable[Gone], t: float, up: float | None
    ) -> list[Telling]:
        now = t if up is None else up
        left = sorted(about, key=lambda one: -one.resident_bytes)
        left = [one for one in left if not self.is_explained(one, now)]
        out: list[Telling] = []
        for claim in found:
            hit = [
                one for one in left
                if claim.fits(one.entity.pid, one.cgroup, one.entity.unit)
            ]  # fmt: skip
            left = [one for one in left if one not in hit]
            for one in hit:
                self.explained(one.entity.pid or 0, now)
            # A stop that took too long has nothing to do with memory; what the kernel counted is
            # told already.
            counted = all(self._named.get(one.entity.pid or 0, -1.0) >= now for one in hit)
            if not hit or claim.by == SYSTEMD or (claim.by == KERNEL and counted):
                continue
            known = claim._replace(by=UNKNOWN) if claim.by == KERNEL else claim
            out.append(_telling(known, hit, t, up))
        return out


def _telling(claim: "Claim", hit: list[Gone], t: float, up: float | None) -> Telling:
    first, *others = hit
    entity = first.entity
    body: Mapping[str, Any] = {
        **entity._asdict(),
        "target": {**entity._asdict(), "resident_bytes": first.resident_bytes},
        "by": claim.by,
        "killed_by": claim.by,
        "claim": {"text": claim.text, "witness": claim.witness, "t": claim.t},
        "also_killed": [
            {"pid": one.entity.pid, "comm": one.entity.comm, "uid": one.entity.uid,
             "resident_bytes": one.resident_bytes}
            for one in others
        ],
    }  # fmt: skip
    name = f"{entity.comm} (pid {entity.pid})"
    of = f" of {entity.unit}" if entity.unit else ""
    whom = "somebody, not known who," if claim.by == UNKNOWN else claim.by
    because = [
        f"{whom} killed {name}{of}, which held {words.size(first.resident_bytes)}",
        f"{claim.witness} says: {claim.text}",
        "the kernel counted no OOM kill for it",
    ]
    if others:
        because.insert(1, f"and {words.count(len(others), 'large process')} beside it")
    identity = f"{entity.pid}-{entity.start}"
    return Telling("kill.other", identity, t, up, tuple(because), body, first.trend.event)

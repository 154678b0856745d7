"""Pure: a leak that no single life shows, because each is ended before it matters.

Workers that are replaced after so many requests, and services that are restarted every night, begin
low again. What their last lives gained at the same age is told as an advisory: it never pages.

    quiet --the last lives gained, and did not level off--> told --they do not any more--> quiet
"""

from typing import Any

from watchdog import words
from watchdog.facts import Entity
from watchdog.history import scripts
from watchdog.history.lives import LEAST_LIVES, Gain, Lives, Program, Programs
from watchdog.judge.leak import Verdict
from watchdog.judge.telling import Telling

# A build grows as the one before did, unless it is this many times faster or slower.
FASTER = 1.5
# As the study of leaks has it; never below the judge's own least.
BELOW_CEILING, LEAST = 0.2, 0.05


def life_over(
    programs: Programs, program: Program, entity: Entity, named: bool, t: float, up: float | None
) -> list[Telling]:
    """A life of this program is over and remembered; `named`: the leak is told of already."""
    seen = programs.seen[program]
    found = programs.of(*program)
    gain = found.gain
    leaks = gain is not None and not gain.level
    if seen.event is not None:
        if leaks or found.known < LEAST_LIVES:
            return []
        cause = seen.event
        why = f"its last {found.known} lives did not go on growing"
        return [_telling("leak.cleared", program, seen.episode, entity, None, (why,), t, up, cause)]
    if not leaks or gain is None or named:
        return []
    seen.episode += 1
    return [
        _telling(
            "leak.advisory", program, seen.episode, entity, gain, because(found) + _runs(program),
            t, up, None,
        )
    ]  # fmt: skip


def told(programs: Programs, program: Program, kind: str, event_id: str) -> None:
    """What was told has this id now: what ends it refers to it."""
    programs.seen[program].event = event_id if kind == "leak.advisory" else None


def because(found: Lives) -> tuple[str, ...]:
    """Why it is told; empty where the lives gained nothing."""
    gain = found.gain
    if gain is None:
        return ()
    one = words.size(gain.per_life_kib * 1024)
    which = "each" if gain.lives == gain.of else str(gain.lives)
    said = (
        f"{which} of its last {gain.of} lives rose, by {one} in {words.duration(gain.life_s)} "
        "(the median at the same age), and did not level off",
        "it begins anew before that matters: what ends its lives hides the leak",
    )
    newer = since_build(found)
    return (*said, newer) if newer else said


def _named(program: Program) -> str:
    """The executable without its folder, and what it runs with it."""
    exe, script = scripts.parts(program[1])
    return f"{exe.rpartition('/')[2]} {script}".rstrip()


def _runs(program: Program) -> tuple[str, ...]:
    return (f"its program is {_named(program)}",) if scripts.parts(program[1])[1] else ()


def since_build(found: Lives) -> str | None:
    """How this build compares with the one before; None where they grow alike or are not known."""
    gain = found.gain
    return _compared(gain.rate if gain is not None and not gain.level else 0.0, found.before)


def _compared(rate: float, before: float | None) -> str | None:
    if before is None:
        return None
    if rate > 0 and before <= 0:
        return "the build before did not grow"
    if rate > 0 and rate >= before * FASTER:
        return f"since the new build it grows {rate / before:.1f} times as fast"
    if rate <= 0 < before:
        return "since the new build it does not grow any more"
    if before > 0 and rate * FASTER <= before:
        return f"since the new build it grows {words.share(rate / before)} as fast as before"
    return None


def with_lives(found: Verdict, lives: Lives, kib: int) -> Verdict:
    """A verdict in the light of what the program's earlier lives held and gained.

    Below the size that it is known to need a rise is less surely a leak.
    """
    said, sure = list(found.because), found.confidence
    if lives.ceiling_kib is not None:
        held = words.size(lives.ceiling_kib * 1024)
        if kib < lives.ceiling_kib:
            sure = max(LEAST, round(sure - BELOW_CEILING, 2))
            said.append(f"it is still below the {held} that it is known to need")
        else:
            said.append(f"it has left behind the {held} that it was known to need")
    newer = _compared(found.growth.rate, lives.before)
    if newer is not None:
        said.append(newer)
    return found._replace(confidence=sure, because=tuple(said))


def _telling(
    kind: str, program: Program, episode: int, entity: Entity, gain: Gain | None,
    said: tuple[str, ...], t: float, up: float | None, cause: str | None,
) -> Telling:  # fmt: skip
    body: dict[str, Any] = {
        **entity._replace(pid=None, start=None)._asdict(),
        "scope": "unit" if program[0] else "process",
        "part": "anon",
        "rate_bytes_per_s": round(gain.rate) if gain else None,
        "confidence": None,
        "resident_bytes": None,
        "since": None,
        "exhausts_in_s": None,
        "exhausts_in_low_s": None,
        "exhausts_in_high_s": None,
        "per_life_bytes": gain.per_life_kib << 10 if gain else None,
        "life_s": round(gain.life_s, 1) if gain else None,
        "lives": gain.lives if gain else None,
    }
    identity = f"{program[0] or 'lives'}:{_named(program)}-{episode}"
    return Telling(kind, identity, t, up, said, body, cause)

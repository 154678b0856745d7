"""Where the units are that may have to be ended as a whole: the guard reads no cgroup itself.

For each unit of the dossier its cgroup's folder, the folder's inode, and why it is never ended as
a whole: it is a login, a container runtime, or holds a protected process.
"""

import os
from collections.abc import Iterable

from watchdog import procfs
from watchdog.act.kill import members
from watchdog.act.unit import Unit
from watchdog.facts import UNIT, DossierRow, Ident, Subject
from watchdog.guard_facts import SHARED_UNITS
from watchdog.history.world import World
from watchdog.judge.proven import key_of
from watchdog.policy import view
from watchdog.policy.match import protected
from watchdog.policy.rules import Rules
from watchdog.procfs import never
from watchdog.sense.cgroups import Cgroups

UNITS_MAX = 64

Place = tuple[str, int, str | None]


def folder_of(cgroups: Cgroups, cgroup: str | None, name: str) -> str | None:
    """The folder of the outermost component `name` of a cgroup path; None where there is none."""
    head, found, _ = f"{cgroup or ''}/".partition(f"/{name}/")
    if cgroups.base is None or not found:
        return None
    return f"{cgroups.base}{head}/{name}"


def places(
    world: World, rules: Rules, cgroups: Cgroups, rows: Iterable[DossierRow]
) -> dict[str, Place]:
    """By entity, those of the dossier's first rows."""
    idents_of: dict[str, list[Ident]] = {}
    for ident, row in world.rows.items():
        if row[UNIT] is not None:
            idents_of.setdefault(key_of(world, ident), []).append(ident)
    found: dict[str, Place] = {}
    for entity in dict.fromkeys(row[9] for row in rows):
        if len(found) >= UNITS_MAX:
            break
        idents = idents_of.get(entity)
        name = leaf(world, entity, idents or ())
        if not idents or name is None:
            continue
        who = world.who.get(idents[0])
        folder = folder_of(cgroups, who.cgroup if who else None, name)
        try:
            inode = os.stat(folder).st_ino if folder else 0
        except OSError:
            continue
        if folder:
            found[entity] = (folder, inode, refusal(world, rules, name, idents))
    return found


def leaf(world: World, entity: str, idents: Iterable[Ident]) -> str | None:
    """The last component of the entity's own cgroup: a unit, or in a login the unit below it."""
    unit, _, inner = entity.partition("/")
    if inner and not unit.endswith(":"):  # else that is the path of a program
        return inner
    known = any(world.rows[ident][UNIT] == entity for ident in idents)
    return unit if known and not unit.startswith(SHARED_UNITS) else None


def refusal(world: World, rules: Rules, name: str, idents: Iterable[Ident]) -> str | None:
    """Why the unit is never ended as a whole, or None."""
    reason = never(name)
    if reason is not None:
        return reason
    for ident in idents:
        why = protected(rules, view.identified(world, ident))
        if why is not None:
            return f"PID {ident[0]} is in it: {why}"
    return None


def inside(world: World, ident: Ident) -> Unit | None:
    """The unit inside its login that a process is in, with all of it that we know.

    None where it is in none, or in one that has a name as only PID 1 gives it.
    """
    entity = key_of(world, ident)
    name = leaf(world, entity, (ident,))
    if name is None or never(name) is not None:
        return None
    others = (one for one in world.rows if one != ident and key_of(world, one) == entity)
    return Unit(name, (ident, *others))


def holds(folder: str, ident: Ident) -> bool:
    """Is that process in the cgroup, or in one below it, at this moment?"""
    if ident[0] not in members(folder):
        return False
    try:
        with open(f"/proc/{ident[0]}/stat", "rb", buffering=0) as file:
            stat = procfs.parse_stat(file.read(4096))
    except OSError:
        return False
    return stat is not None and stat.start_ticks == ident[1]


def unit_of(world: World, subject: Subject) -> Unit | None:
    """The system unit of a subject, with those of its members that we know, the eldest first."""
    name = subject.entity.unit
    if name is None:
        return None
    found = sorted((i for i, row in world.rows.items() if row[UNIT] == name), key=lambda i: i[1])
    return Unit(name, tuple(found))


def inode(folder: str) -> int:
    """0 where there is no such folder."""
    try:
        return os.stat(folder).st_ino
    except OSError:
        return 0


def number(path: str) -> int | None:
    """The count of bytes in a cgroup's file."""
    try:
        with open(path, "rb", buffering=0) as file:
            return int(file.read(64))
    except (OSError, ValueError):
        return None


def stalled(folder: str | None) -> int | None:
    """Microseconds for which everything in a cgroup has waited for memory so far."""
    try:
        with open(f"{folder}/memory.pressure", "rb", buffering=0) as file:
            return procfs.parse_pressure(file.read(512)).get("full")
    except OSError:
        return None

"""Pure: who says that it killed: the journal's entries and PID 1's word, read as claims.

The texts were read in the programs: systemd-oomd 252 ("Killed PATH due to memory used …", "… due to
memory pressure for …"), systemd 252 ("UNIT: systemd-oomd killed N process(es) in this unit.",
"UNIT: Killing process N (NAME) with signal SIGKILL."), earlyoom 1.7 to 1.8 ("sending SIGTERM to
process N uid …"), nohang 0.2 ("PID:  N, name: …", then "Sending SIGKILL to the victim"), oomd 0.5
("Trying to kill PATH", "Killed N: PID(NAME) …", "Killed pid N"). Anybody can log under any name:
what counts is the unit or the user that journald itself has written to the entry.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from watchdog import words
from watchdog.judge.others import KERNEL, SYSTEMD, UNKNOWN

UNITS = {
    "systemd-oomd.service": "systemd-oomd",
    "earlyoom.service": "earlyoom",
    "nohang.service": "nohang",
    "nohang-desktop.service": "nohang",
    "oomd.service": "oomd",
    "fb-oomd.service": "oomd",
}
COMMS = {"earlyoom": "earlyoom", "nohang": "nohang", "oomd": "oomd", "systemd-oomd": "systemd-oomd"}
CLAIM_MAX = 200
# siginfo's si_code for "ended by a signal", which PID 1 tells as ExecMainCode.
CLD_KILLED = "2"


class Claim(NamedTuple):
    """A word of `by` about a process (``pid``), or about all in a cgroup or a unit.

    ``by`` is "systemd" where PID 1 killed for reasons of its own (a stop that took too long), and
    "unknown" where it tells of a death by SIGKILL without knowing whose; "kernel" where it has seen
    the OOM kills of the unit's own cgroup rise, which a kill by systemd-oomd looks like as well.
    """

    by: str
    witness: str
    text: str
    t: float
    pids: frozenset[int] = frozenset()
    cgroup: str | None = None
    unit: str | None = None

    def fits(self, pid: int | None, cgroup: str | None, unit: str | None) -> bool:
        """Is it about this process?"""
        if self.pids:
            return pid in self.pids
        if self.cgroup is not None:
            return cgroup is not None and f"{cgroup}/".startswith(f"{self.cgroup}/")
        return self.unit is not None and unit == self.unit


def claims(
    entries: Iterable[Mapping[str, Any]], units: Mapping[str, Mapping[str, str]], t: float
) -> list[Claim]:
    """All that is claimed, whoever says which process first."""
    found: list[Claim] = []
    victim: int | None = None  # nohang tells the process first, and some lines later the deed
    for entry in entries:
        text, at = entry.get("text"), entry.get("t")
        who = _author(entry)
        if who is None or not isinstance(text, str):
            continue
        when = float(at) if isinstance(at, int | float) else t
        by, witness = who
        text = words.safe(text.strip())
        if by == "nohang":
            named = re.match(r"PID: +(\d{1,10}), name: ", text)
            victim = int(named[1]) if named else victim
        one = _READ[by](text, victim)
        if one is not None:
            found.append(one._replace(witness=witness, text=text[:CLAIM_MAX], t=when))
    found += [claim for unit, state in sorted(units.items()) for claim in _unit(unit, state, t)]
    # PID 1 repeats what systemd-oomd has said itself, and knows less of it.
    return sorted(
        found, key=lambda one: (not one.pids, one.by in (UNKNOWN, KERNEL), one.cgroup is None)
    )


def _author(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """(who, where it stands), by what journald has written to the entry itself."""
    unit, comm, uid, pid = (entry.get(key) for key in ("unit", "comm", "uid", "pid"))
    if pid == 1:
        return SYSTEMD, "the journal: PID 1"
    if isinstance(unit, str) and unit in UNITS:
        return UNITS[unit], f"the journal: {unit}"
    if uid == 0 and isinstance(comm, str) and comm in COMMS:
        return COMMS[comm], f"the journal: {comm}, run by root"
    return None


def _claim(by: str, **about: Any) -> Claim:
    return Claim(by, "", "", 0.0, **about)


def _systemd_oomd(text: str, _victim: int | None) -> Claim | None:
    found = re.match(r"Killed (/.*?) due to ", text)
    return _claim("systemd-oomd", cgroup=found[1]) if found and found[1] != "/" else None


def _earlyoom(text: str, _victim: int | None) -> Claim | None:
    found = re.match(r"sending SIG(?:TERM|KILL) to process (\d{1,10}) ", text)
    return _claim("earlyoom", pids=frozenset({int(found[1])})) if found else None


def _nohang(text: str, victim: int | None) -> Claim | None:
    sent = re.match(r"Sending SIG(?:TERM|KILL) to the victim", text)
    return _claim("nohang", pids=frozenset({victim})) if sent and victim is not None else None


def _oomd(text: str, _victim: int | None) -> Claim | None:
    # OLOG puts "[FILE:LINE] " before its text
    text = re.sub(r"^\[[^\]]*\] ", "", text)
    one = re.match(r"Killed pid (\d{1,10})$", text)
    if one:
        return _claim("oomd", pids=frozenset({int(one[1])}))
    if re.match(r"Killed \d+: ", text):
        pids = re.findall(r" (\d{1,10})(?:\(|(?= )|$)", text)
        return _claim("oomd", pids=frozenset(map(int, pids))) if pids else None
    cgroup = re.match(r"Trying to kill (?:/sys/fs/cgroup)?(/\S+)", text)
    if cgroup:
        return _claim("oomd", cgroup=cgroup[1].rstrip("/"))
    return None


def _systemd(text: str, _victim: int | None) -> Claim | None:
    killing = re.match(r"\S+: Killing process (\d{1,10}) \(.*\) with signal SIGKILL", text)
    if killing:
        return _claim(SYSTEMD, pids=frozenset({int(killing[1])}))
    oomd = re.match(r"(\S+): systemd-oomd killed (?:some|\d+) process\(es\) in this unit", text)
    return _claim("systemd-oomd", unit=words.safe(oomd[1])) if oomd else None


def _unit(unit: str, state: Mapping[str, str], t: float) -> list[Claim]:
    """PID 1 knows how the main process of a unit ended; not who sent the signal."""
    pid, result = state.get("ExecMainPID", ""), state.get("Result", "")
    if (
        not (pid.isdigit() and int(pid))
        or state.get("ExecMainCode") != CLD_KILLED
        or state.get("ExecMainStatus") != "9"
    ):
        return []
    # "timeout" and "watchdog" are systemd's own kills.
    by = {"oom-kill": KERNEL, "signal": UNKNOWN, "success": UNKNOWN}.get(result, SYSTEMD)
    text = f"{words.safe(unit)}: main process {pid} ended by signal 9, Result={words.safe(result)}"
    return [Claim(by, "PID 1", text, t, frozenset({int(pid)}))]


_READ = {
    "systemd-oomd": _systemd_oomd, "earlyoom": _earlyoom, "nohang": _nohang, "oomd": _oomd,
    SYSTEMD: _systemd,
}  # fmt: skip

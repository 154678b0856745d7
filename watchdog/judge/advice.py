"""Pure: what to do next, in one to three lines, each with the command to type.

Names that anybody may have given (cgroups, units of a log) go into a command only where they are
plain; else the line shows where the name belongs, in capitals.
"""

import itertools
from collections.abc import Iterator

from watchdog.judge import shortage
from watchdog.judge.by_report import largest
from watchdog.judge.past import Past
from watchdog.judge.places import Place, is_plain, place
from watchdog.judge.ruling import Verdict
from watchdog.oom_report.report import Report

LINES_MAX = 3
MIB = 1 << 20


def advice(report: Report, past: Past, found: Verdict) -> list[str]:
    """At most three lines for this report; empty where nobody died and nothing is wrong."""
    return list(dict.fromkeys(_lines(report, past, found)))[:LINES_MAX]


def _lines(report: Report, past: Past, found: Verdict) -> Iterator[str]:
    if report.manual:
        yield "sysctl -w kernel.sysrq=0  # forbids it; who it was is not recorded"
        return
    if report.panic is not None and "panic_on_oom" in report.panic:
        yield "sysctl -w vm.panic_on_oom=0  # kills a process, not the machine"
    if report.allocating:
        yield "sysctl -w vm.oom_kill_allocating_task=0  # lets the largest die, not who asks"
    unit = _unit(past, found)
    match found.verdict:
        case "leak":
            yield from _leak(report, past, unit, found)
        case "fragmentation":
            yield from _fragmentation(report)
        case "kernel-memory":
            yield from _kernel(report)
        case "spike":
            yield from _spike(report, unit)
    yield from _limit(report, unit, found)
    yield from _machine(report, found)
    yield from _look(report, unit, found)


def _unit(past: Past, found: Verdict) -> str | None:
    """The unit of our own census that the advice is about; None where it is not plain."""
    name = found.culprit.unit if found.culprit else past.victim.unit if past.victim else None
    return name if name and is_plain(name) else None


def _leak(report: Report, past: Past, unit: str | None, found: Verdict) -> Iterator[str]:
    pid = found.culprit.pid if found.culprit else past.victim.pid if past.victim else None
    if not unit and pid is not None:
        yield f"oom-watchdog events --pid {pid}  # shows how it grew"
    if unit:
        lasts = _lasts(past)
        when = f"{lasts} after each start, before it is full" if lasts else "until it is mended"
        yield f"systemctl restart {unit}  # in time: {when}"
        yield f"oom-watchdog events --unit {unit}  # shows how it grew"
        if report.scope != "memcg":
            yield f"systemctl set-property {unit} MemoryMax=SIZE  # so that it dies alone next time"


def _lasts(past: Past) -> str | None:
    """How long one life lasts, by the earlier kills."""
    times = [kill.t for kill in past.kills]
    gaps = sorted(b - a for a, b in itertools.pairwise(times) if b > a)
    if not gaps:
        return None
    hours = gaps[len(gaps) // 2] / 3600
    return f"{hours:.0f} h" if hours >= 2 else f"{max(1.0, hours * 60):.0f} min"


def _spike(report: Report, unit: str | None) -> Iterator[str]:
    if report.scope == "memcg":
        return
    if unit:
        yield f"systemctl set-property {unit} MemoryMax=SIZE  # so only it dies of it"
    else:
        yield "systemd-run --scope -p MemoryMax=SIZE COMMAND  # so only it dies of it"


def _fragmentation(report: Report) -> Iterator[str]:
    floor = sum(zone.min for zone in report.zones) >> 10
    # twice the floor is the usual first step; more takes memory from everybody
    value = str(2 * floor) if floor else "KIB"
    yield f"sysctl -w vm.min_free_kbytes={value}  # keeps more free, so larger blocks survive"
    yield "sysctl -w vm.compact_memory=1  # joins free pieces now"


def _kernel(report: Report) -> Iterator[str]:
    account, free = shortage.held(report), report.huge_free or 0
    if account is not None and account.share(free) >= 0.05:
        yield "sysctl -w vm.nr_hugepages=N  # gives back what is reserved and unused (N in use)"
        return
    if account is not None and account.share(account.pagetables) >= 0.3:
        yield "grep -H VmPTE /proc/[0-9]*/status  # shows whose page tables they are"
        return
    if account is None or account.share(account.slab) >= 0.1 or report.scope == "memcg":
        yield "slabtop -o -s c  # shows what the kernel holds, the largest first"
    elif not report.allocations:
        yield "lsmod  # shows the drivers; pipes and sockets hold such memory too"
    if report.allocations:
        yield "sort -g /proc/allocinfo  # shows which code allocated it, the largest last"


def _limit(report: Report, unit: str | None, found: Verdict) -> Iterator[str]:
    if report.scope == "cpuset":
        whose = place("/" + report.cpuset) if report.cpuset else None
        if whose is not None and whose.runtime == "docker" and whose.plain:
            yield f"docker update --cpuset-mems 0-N {whose.name[:12]}  # lets it use more nodes"
            return
        yield "systemctl set-property UNIT AllowedMemoryNodes=0-N  # lets it use more nodes"
        return
    if report.scope == "mempolicy":
        yield "numactl --preferred=NODE COMMAND  # uses other nodes when this one is full"
        return
    if report.scope != "memcg":
        return
    memory = report.limits.get("memory")
    more = _more(memory.limit) if memory and memory.limit else None
    what = "if it needs more" if found.verdict in ("unknown", "spike") else "raises it"
    if found.verdict == "leak":
        what = "only puts the next kill off"
    yield _raise(report, unit, more, what)


def _raise(report: Report, unit: str | None, more: int | None, what: str) -> str:
    """The command that raises the limit of whoever owns it."""
    owner = place(report.cgroup) if report.cgroup else None
    size = "SIZE" if more is None else f"{more}M"
    if owner is None:
        return f"systemctl set-property {unit or 'UNIT'} MemoryMax={size}  # {what}"
    name = owner.name if owner.plain else "NAME"
    match owner.kind:
        case "container" if owner.pod:
            return _pod(more, what)
        case "container" if owner.runtime == "docker":
            # docker refuses a limit above that of memory and swap, which is twice it by default
            both = f"{more}m --memory-swap {2 * more}m" if more else "SIZE"
            return f"docker update --memory {both} {name[:12]}  # {what}"
        case "container" if owner.runtime == "podman":
            both = f"{more}m" if more else "SIZE"
            return f"podman update --memory {both} {name[:12]}  # {what}"
        case "pod":
            return _pod(more, what)
        case "lxc":
            both = f"{more}MiB" if more else "SIZE"
            return f"lxc config set {name} limits.memory {both}  # {what}"
        case "unit" | "slice":
            typed = name if owner.plain else unit or "UNIT"
            return f"systemctl set-property {typed} MemoryMax={size}  # {what}"
        case "user-unit":
            return f"systemctl --user set-property {name} MemoryMax={size}  # {what}"
    if unit and not owner.plain:
        return f"systemctl set-property {unit} MemoryMax={size}  # {what}"
    return _file(report, owner, more, what)


def _pod(more: int | None, what: str) -> str:
    size = "SIZE" if more is None else f"{more}Mi"
    return f"kubectl set resources deployment/NAME --limits=memory={size}  # {what}"


def _file(report: Report, owner: Place, more: int | None, what: str) -> str:
    v1 = "memory+swap" in report.limits or "kmem" in report.limits
    path = owner.name if owner.plain and len(owner.name) <= 80 else "/PATH"
    value = "SIZE" if more is None else f"{more}M"
    root, name = ("/sys/fs/cgroup/memory", "memory.limit_in_bytes") if v1 else (
        "/sys/fs/cgroup", "memory.max"
    )  # fmt: skip
    return f"echo {value} >{root}{path}/{name}  # {what}"


def _more(limit: int) -> int:
    """Half as much again, in MiB: enough to see whether it levels off."""
    return max(1, -(-limit * 3 // 2 // MIB))


def _machine(report: Report, found: Verdict) -> Iterator[str]:
    account = shortage.held(report)
    if account is not None and account.share(account.shmem) >= shortage.MUCH:
        yield "df -h -t tmpfs  # then: mount -o remount,size=SIZE DIR"
    if report.scope != "global" or found.verdict in ("fragmentation", "kernel-memory"):
        return
    if found.verdict == "unknown" and largest(report)[1] > 0.4:
        yield "systemd-run --scope -p MemoryMax=SIZE COMMAND  # so only it dies of it"
    if account is not None and account.share(account.locked) >= 0.3:
        yield "grep -H VmLck /proc/[0-9]*/status  # shows who has locked memory"
    if report.swap_total == 0 and found.short:
        yield ("fallocate -l 2G /swap; chmod 600 /swap; mkswap /swap; swapon /swap  # adds swap")


def _look(report: Report, unit: str | None, found: Verdict) -> Iterator[str]:
    """Where to look on, if little could be said so far."""
    owner = place(report.cgroup) if report.cgroup else None
    if owner is not None and owner.pod and owner.plain:
        yield "kubectl get pods -A -o custom-columns=U:.metadata.uid,N:.metadata.name  # by uid"
    elif unit and found.verdict != "leak":
        yield f"oom-watchdog events --unit {unit}  # shows what came before"
    elif found.alone and report.outcome in ("killed", "selected"):
        yield "oom-watchdog run  # from now on, to tell a leak the next time"
    if report.missing == ("tasks",) and report.outcome == "killed":
        yield "sysctl -w vm.oom_dump_tasks=1  # lists all processes in the next report"

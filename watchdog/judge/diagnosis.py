"""Pure: an OOM report -> the oom.kill event: who died, why that one, why now, and what to do.

    badness, choice      the kernel's choice, computed again: why this victim
    request, shortage    what was asked for, and why there was none: why now
    verdict, advice      too small or leaking (rules: by_history, by_report); what to do next
    places, sentences    cgroups in words; who died, and the one sentence above all
    oom_kill             the event of all this

The daemon lives for months and may never see a kill: these rooms cost 0.4 MiB, so they are loaded
with the first report.
"""

from typing import TYPE_CHECKING, Any

from watchdog.judge.past import NOTHING, Past

if TYPE_CHECKING:
    from watchdog.oom_report.report import Report


def oom_kill_event(
    report: "Report", past: Past = NOTHING
) -> tuple[dict[str, Any], tuple[str, ...], str]:
    """(body, because, identity) of the event of one report, and of what was known before it."""
    from watchdog.judge import oom_kill

    body, because = oom_kill.told(report, past)
    return body, because, identity(report)


def identity(report: "Report") -> str:
    """The same for the same report from whichever source: the kernel's clock and the pid."""
    pid = report.victim.pid if report.victim else 0
    if report.usec is not None:
        return f"{report.usec}-{pid}"
    return f"{report.stamp or report.lines[0]}-{pid}"

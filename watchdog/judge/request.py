"""Pure: who asked for memory, how much in one piece, and for what, in plain words.

Only the names of flags are read: their bits moved with nearly every kernel, so a mask without names
(up to 4.5) says nothing here. Source: include/linux/gfp_types.h.
"""

from watchdog import words
from watchdog.judge.places import short
from watchdog.oom_report.report import Report

# The first that is set decides what the memory was for.
_USES = (
    ("GFP_TRANSHUGE", "of its own memory, as a huge page"),
    ("GFP_TRANSHUGE_LIGHT", "of its own memory, as a huge page"),
    ("GFP_HIGHUSER_MOVABLE", "of its own memory or of a file"),
    ("GFP_NOFS", "for a file system"),
    ("GFP_NOIO", "for disk input or output"),
    ("GFP_HIGHUSER", "for a program, fixed in its place"),
    ("GFP_USER", "for a buffer between a program and a device"),
    ("GFP_ATOMIC", "for the kernel, without waiting"),
    ("GFP_NOWAIT", "for the kernel, without waiting"),
    ("GFP_KERNEL_ACCOUNT", "for the kernel's own use on its behalf"),
    ("GFP_KERNEL", "for the kernel's own use"),
)
_CONDITIONS = (
    (("GFP_DMA", "__GFP_DMA"), "below 16 MiB"),
    (("GFP_DMA32", "__GFP_DMA32"), "below 4 GiB"),
    (("__GFP_THISNODE",), "on this memory node and no other"),
    (("__GFP_NOFAIL",), "and could not do without"),
)


def flags(report: Report) -> frozenset[str]:
    """The names of the request's flags; empty where the log has none."""
    told = report.invoker.gfp_flags if report.invoker else None
    return frozenset((told or "").split("|")) - {""}


def purpose(report: Report) -> str | None:
    """What the memory was for, in words; None where the flags do not tell."""
    given = flags(report)
    use = next((text for flag, text in _USES if flag in given), None)
    if use is None:
        return None
    if report.scope == "memcg" and "GFP_KERNEL" in given and "__GFP_ACCOUNT" not in given:
        # what is charged for a program's own page comes with the kernel's plain mask
        use = "to be charged to its cgroup"
    elif use == "for the kernel's own use" and "__GFP_ACCOUNT" in given:
        use = "for the kernel's own use on its behalf"
    more = [text for names, text in _CONDITIONS if given & set(names)]
    return " ".join([use, *more])


def amount(order: int, page: int | None) -> str:
    """2^order pages, in one piece."""
    size = f" ({words.size(page << order)})" if page else ""
    if order == 0:
        return "1 page" + size
    return f"{words.count(1 << order, 'page')} in one piece{size}"


def asked(report: Report) -> str | None:
    """Who asked for the memory that was not there; a bystander more often than not."""
    who = report.invoker
    if who is None or report.manual:
        return None
    victim = report.victim
    same = victim is not None and victim.pid == who.pid
    if same:
        asker = "it asked itself"
    else:
        name = short(who.comm) + (f" (pid {who.pid})" if who.pid is not None else "")
        kin = victim is not None and victim.comm == who.comm
        bystander = victim is not None and not kin and report.scope == "global"
        asker = f"{name}, a bystander, asked" if bystander else f"{name} asked"
    if who.order is None or not 0 <= who.order < 20:
        return f"{asker} for memory"
    text = f"{asker} for {amount(who.order, report.page_size)}"
    told = purpose(report)
    if told:
        text += f" {told}"
    if report.path == "page fault" and not told:
        text += ", in a page fault"
    return text

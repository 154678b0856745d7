"""Pure: the kernel's call trace of a report, and by which path the request for memory came."""

import re

ALLOCATION, FAULT, CHARGE, SYSRQ = "allocation", "page fault", "cgroup charge", "sysrq"

# functions of mm/oom_kill.c, mm/memcontrol.c, mm/page_alloc.c and drivers/tty/sysrq.c
_FRAMES = re.compile(
    r"(?P<charge>mem_cgroup_out_of_memory|mem_cgroup_oom_synchronize|try_charge)"
    r"|(?P<fault>pagefault_out_of_memory)|(?P<page>__alloc_pages|alloc_pages_may_oom)"
    r"|(?P<manual>moom_callback|sysrq_handle_moom)"
)


class CallTrace:
    """Takes the lines of one report.

    The innermost function tells: below a charge there can be an allocation, and the other way
    round. `memcg` and `page`: whether such a function stood anywhere.
    """

    def __init__(self) -> None:
        self.path: str | None = None
        self.memcg = self.page = self.manual = False
        self.x86 = False

    def add(self, text: str) -> bool:
        """A line of the report; False where it is none of a trace that matters."""
        found = _FRAMES.search(text)
        if found is None:
            if text.startswith(("RIP: ", "RAX: ", "EAX: ")):
                self.x86 = True
                return True
            return False
        kind = found.lastgroup
        self.memcg = self.memcg or kind == "charge"
        self.page = self.page or kind in ("page", "fault")
        self.manual = self.manual or kind == "manual"
        said = {"charge": CHARGE, "fault": FAULT, "page": ALLOCATION, "manual": SYSRQ}
        self.path = self.path or said[kind or ""]
        return True


def path(trace: CallTrace, manual: bool, scope: str | None, gfp_mask: str | None) -> str | None:
    """How the request came; None where nothing of the report proves it."""
    if manual or trace.manual:
        return SYSRQ
    if trace.path is not None:
        return trace.path
    if scope == "memcg":
        return CHARGE  # there is no other way to a cgroup's limit
    if gfp_mask is not None and int(gfp_mask, 16) == 0:
        return FAULT  # an allocation always asks for something
    return None

"""Pure: what the path of a cgroup says, for display only: whoever made it chose its name."""

import re

_CONTAINER = re.compile(
    r"/(?:docker|cri-containerd|crio|libpod|containerd)-([0-9a-f]{12,64})(?:\.scope)?(?=/|$)"
    r"|/(?:docker|libpod|containerd)/([0-9a-f]{12,64})(?=/|$)"
    r"|/kubepods[^/]{0,40}/(?:burstable/|besteffort/)?pod[0-9a-f_-]{8,40}/([0-9a-f]{12,64})(?=/|$)"
    r"|/lxc(?:\.payload)?[./]([A-Za-z0-9_-]{1,64})(?=/|$)"
)


def container(path: str | None) -> str | None:
    """The container that a path names (a long id cut to its usual 12 digits), or None."""
    found = _CONTAINER.search(path or "")
    if found is None:
        return None
    if found[4]:
        return found[4]
    return (found[1] or found[2] or found[3])[:12]

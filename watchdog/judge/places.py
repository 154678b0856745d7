"""Pure: the path of a cgroup as a person says it, and the unit or container whose limit it is.

For reading and typing only: whoever made a cgroup chose its name. A name is put into a command only
where every component of its path is plain.
"""

import re
from typing import NamedTuple

from watchdog import words

PATH_MAX = 48

_PLAIN = re.compile(r"(?!-|\.\.?$)[A-Za-z0-9_.@:-]{1,120}")
_HEX = re.compile(r"[0-9a-f]{64}|[0-9a-f]{32}|[0-9a-f]{12}")
_POD = re.compile(r"(?:kubepods(?:-burstable|-besteffort)?-)?pod([0-9a-f]{8}[0-9a-f_-]{24,40}"
                  r"|[0-9a-f]{32})(?:\.slice)?")  # fmt: skip
_RUNTIMES = (
    ("docker-", "docker"), ("cri-containerd-", "containerd"), ("crio-", "cri-o"),
    ("libpod-", "podman"), ("containerd-", "containerd"), ("nerdctl-", "containerd"),
)  # fmt: skip
_PARENTS = {"docker": "docker", "libpod": "podman", "libpod_parent": "podman"}
_UNITS = (".service", ".scope", ".socket", ".mount", ".swap", ".slice")


class Place(NamedTuple):
    """What a path names. `kind` is unit, user-unit, slice, container, pod, lxc or cgroup;
    `name` what one would type (an id, a unit), `runtime` whose container, `pod` the pod's uid.
    `plain`: every component may stand in a command."""

    kind: str
    name: str
    runtime: str | None
    pod: str | None
    user: str | None
    plain: bool


def place(path: str) -> Place:
    """What the path of a limit names; `cgroup` where it is nothing that we know."""
    parts = [part for part in path.split("/") if part]
    plain = bool(parts) and all(is_plain(part) for part in parts)
    pod = next((uid for uid in map(_pod, parts) if uid), None)
    last = parts[-1] if parts else "/"
    above = parts[-2] if len(parts) > 1 else ""
    container, runtime = _container(last, above, pod is not None)
    user = next((p[5:-6] for p in parts if re.fullmatch(r"user-\d+\.slice", p)), None)
    if container:
        return Place("container", container, runtime, pod, user, plain)
    if _pod(last):
        return Place("pod", pod or "", None, pod, user, plain)
    if above == "lxc" or last.startswith("lxc.payload."):
        name = last.removeprefix("lxc.payload.")
        return Place("lxc", name, "lxc", None, user, plain)
    outer = next((i for i, part in enumerate(parts) if not part.endswith(".slice")), None)
    if outer is None and parts:
        return Place("slice", last, None, pod, user, plain)
    if outer is not None and outer == len(parts) - 1 and last.endswith(_UNITS):
        return Place("unit", last, None, pod, user, plain)
    inside_user = outer is not None and re.fullmatch(r"user@\d+\.service", parts[outer])
    if inside_user and last.endswith(_UNITS):
        return Place("user-unit", last, None, pod, user, plain)
    return Place("cgroup", path, None, pod, user, plain)


def is_plain(name: str) -> bool:
    """Whether a name may stand in a command line as it is."""
    return _PLAIN.fullmatch(name) is not None


def said(path: str | None) -> str:
    """A path in words, never longer than a line: what it names, else the path itself."""
    if path is None:
        return "a cgroup that the log does not name"
    found = place(path)
    pod = f" of pod {_middle(found.pod, 36)}" if found.pod else ""
    match found.kind:
        case "container":
            runtime = f" ({found.runtime})" if found.runtime else ""
            return f"container {found.name[:12]}{pod}{runtime}"
        case "pod":
            return f"pod {_middle(found.name, 36)}"
        case "lxc":
            return f"container {_middle(found.name, 40)} (lxc)"
        case "unit" | "slice":
            return _middle(found.name, PATH_MAX)
        case "user-unit":
            whose = f" of user {found.user}" if found.user else ""
            return _middle(found.name, 40) + whose
        case _:
            return _middle(path, PATH_MAX)


def short(name: str, width: int = 28) -> str:
    """A name that takes no more room than that; the middle goes."""
    return _middle(name, width)


def _middle(text: str | None, width: int) -> str:
    text = words.safe(text or "?")
    if len(text) <= width:
        return text
    left = (width - 1) * 2 // 5
    return text[:left] + "…" + text[left + 1 - width :]


def _pod(part: str) -> str | None:
    found = _POD.fullmatch(part)
    return found[1].replace("_", "-") if found else None


def _container(last: str, above: str, in_pod: bool) -> tuple[str | None, str | None]:
    stem = last.removesuffix(".scope").removesuffix(".service")
    for prefix, runtime in _RUNTIMES:
        rest = stem.removeprefix(prefix)
        if rest != stem and _HEX.fullmatch(rest):
            return rest, runtime
    if _HEX.fullmatch(last) and (len(last) == 64 or in_pod or above in _PARENTS):
        return last, _PARENTS.get(above)
    return None, None

"""Effect: is this a container, whose /proc/vmstat is that of the whole machine?

What counts is whether all processes are in sight. The first PID namespace of a kernel has a fixed
inode number (PROC_PID_INIT_INO of Linux, unchanged since 3.8): who is in it sees every process, on
bare metal, in a virtual machine, or in a container that shares the host's, whatever marks a runtime
has left behind. In any other the kernel's counter also counts kills that can never be seen.
"""

import os

FIRST_PID_NAMESPACE = "pid:[4026531836]"
_RUNTIMES = ("docker", "lxc", "kubepods", "libpod", "machine.slice", "containerd", "crio")


def inside(proc: str = "/proc") -> str | None:
    """What tells that this is a container, in words; None on a machine of its own."""
    root = os.path.dirname(proc).rstrip("/")
    try:
        own = os.readlink(f"{proc}/self/ns/pid")
    except OSError:
        return _marked(proc, root)  # a kernel without namespaces, or a /proc that hides them
    if own == FIRST_PID_NAMESPACE:
        return None
    return _marked(proc, root) or "this is a PID namespace of its own"


def _marked(proc: str, root: str) -> str | None:
    runtime = _text(f"{root}/run/systemd/container").strip()
    if runtime:
        return f"/run/systemd/container says {runtime}"
    for part in _text(f"{proc}/1/environ").split("\0"):
        if part.startswith("container=") and part != "container=":
            return f"PID 1 was started with {part}"
    for mark in ("/.dockerenv", "/run/.containerenv"):
        if os.path.exists(root + mark):
            return f"{mark} is there"
    for line in _text(f"{proc}/1/cgroup").splitlines():
        path = line.rpartition(":")[2]
        if any(runtime in path for runtime in _RUNTIMES):
            return "the cgroup of PID 1 is a container's"
    if os.path.exists(f"{proc}/vz") and not os.path.exists(f"{proc}/bc"):
        return "/proc/vz is there"
    return None


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(65536).decode("ascii", "backslashreplace")
    except OSError:
        return ""

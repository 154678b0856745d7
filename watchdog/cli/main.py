"""`oom-watchdog COMMAND …`: finds the command's file and runs it; --version and --help."""

import contextlib
import importlib
import importlib.util
import os
import platform
import sys

from watchdog import __version__, words

COMMANDS = {
    "run": "the daemon in the foreground",
    "check": "validate the configuration, and explain what it means for a process",
    "status": "what the daemon sees now",
    "top": "the same as a live table",
    "memory": "where the memory is",
    "events": "what happened",
    "history": "one process or unit over time",
    "explain": "OOM reports of the kernel, explained",
    "replay": "the true judge and policies over a recording",
    "record": "make a recording",
    "review": "what would have been done, and what allows it",
    "silence": "mute a process or unit for a while",
    "ack": "take note of an event",
    "notify": "prove that a notification arrives",
    "doctor": "prove that it works, here",
    "report": "one HTML page",
    "exporter": "figures for Prometheus",
}
USAGE = 2


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    _streams()
    try:
        try:
            status = _main(argv)
        except SystemExit as end:  # argparse's way out
            if not isinstance(end.code, int):
                raise
            status = end.code
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Python flushes once more at exit, and would complain
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 0


def _streams() -> None:
    """Give whom we were started without (`>&-`) a standard stream that leads nowhere.

    Otherwise the next file that is opened has its number, and what is printed is written into it.
    """
    with contextlib.suppress(OSError):
        while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(fd, True)
        os.close(fd)
        for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
            if getattr(sys, name) is None:
                setattr(sys, name, open(number, "r" if number == 0 else "w"))  # noqa: SIM115


def _main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage(), file=sys.stdout if argv else sys.stderr)
        sys.stdout.flush()
        return 0 if argv else USAGE
    command, rest = argv[0], argv[1:]
    if command in ("-V", "--version", "version"):
        print(version())
        sys.stdout.flush()
        return 0
    known = available()
    if command not in known:
        what = "option" if command.startswith("-") else "command"
        near = words.nearest(command, [*known, "--help", "--version"])
        print(f"oom-watchdog: unknown {what} {words.safe(command)}{near}"
              " (see oom-watchdog --help)", file=sys.stderr)  # fmt: skip
        return USAGE
    module = importlib.import_module(f"watchdog.cli.{command}")
    status: int = module.main(rest)
    return status


def available() -> list[str]:
    """The commands that this version has, in the order in which help names them."""
    return [name for name in COMMANDS if importlib.util.find_spec(f"watchdog.cli.{name}")]


def usage() -> str:
    """The help of the whole; fits 24 lines of 80."""
    lines = ["usage: oom-watchdog COMMAND [OPTION…]", ""]
    lines += [f"  {name:<9} {COMMANDS[name]}" for name in available()]
    lines += [
        "",
        "Each command has --help, --config FILE, --state DIR and --json.",
        "example: oom-watchdog run --state /tmp/oomw --for 1min",
    ]
    return "\n".join(lines)


def version() -> str:
    """All that a bug report needs, one fact a line."""
    uname = os.uname()
    facts = {
        "python": f"{platform.python_version()} ({sys.executable})",
        "kernel": f"{uname.release} {uname.machine}",
        "systemd": _systemd(),
        "cgroup": _cgroups(),
        "psutil": _psutil(),
        "systemd-python": _systemd_python(),
        "memory": _memory(),
        "memory stall": "told" if os.path.exists("/proc/pressure/memory") else "not told",
    }
    width = max(map(len, facts)) + 2
    lines = [f"oom-watchdog {__version__}"]
    lines += [f"{name + ':':<{width}}{words.safe(value)}" for name, value in facts.items()]
    return "\n".join(lines)


def _systemd() -> str:
    from watchdog.child import run_once

    running = "running" if os.path.isdir("/run/systemd/system") else "not running"
    for program in ("/usr/bin/systemctl", "/bin/systemctl"):
        if os.access(program, os.X_OK):
            with contextlib.suppress(OSError):
                said = bytes(run_once([program, "--version"], timeout=5.0).output)
                return f"{words.name(said.split(chr(10).encode(), 1)[0])}, {running}"
    return f"not installed, {running}"


def _cgroups() -> str:
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            mounts = file.read()
    except OSError:
        return "unknown"
    v2, v1 = b" - cgroup2 " in mounts, b" - cgroup " in mounts
    if v2 and v1:
        return "v1 and v2 (hybrid)"
    return "v2" if v2 else "v1" if v1 else "none"


def _psutil() -> str:
    try:
        import psutil
    except ImportError as error:
        return f"not available ({error})"
    return str(psutil.__version__)


def _systemd_python() -> str:
    # The folder systemd/ of a checkout satisfies a search by name: only the import tells.
    try:
        from systemd import journal
    except ImportError as error:
        return f"not available ({error}): OOM kills from before a start are not caught up"
    return f"available ({os.path.dirname(journal.__file__)})"


def _memory() -> str:
    from watchdog import procfs

    try:
        with open("/proc/meminfo", "rb") as file:
            found = procfs.parse_kb(file.read())
    except OSError as error:
        return f"unknown ({error.strerror})"
    total, swap = found.get("MemTotal", 0), found.get("SwapTotal", 0)
    return f"{words.size(total)}, {words.size(swap) + ' of' if swap else 'no'} swap"

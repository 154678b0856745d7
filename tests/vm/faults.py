"""Runs inside the virtual machine: what goes wrong on real servers, one after the other.

Words on the command line choose among the tests; the installation is always one of them.

For each fault the alerts that were raised are counted against those that arrived, in the journal
and in the history. The last lines are a table: fault, what is promised, what was seen.
"""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from machine import (
    CONFIG_FILE,
    MIB,
    SERVICE,
    burst,
    events,
    install,
    listing,
    main_pid,
    package,
    restarted,
    run_tests,
    sh,
    show,
    start_leak,
    wait,
    watcher_of,
)

STATE = Path("/var/lib/oom-watchdog")
GROUP = Path("/sys/fs/cgroup/vm-burst")
RULES = '[watch]\ninterval = "1s"\n'
HOOK = """
[policies.hook]
match = { unit = "shop-hook.service" }
when = { resident_above = "20MiB" }
do = ["run:facts"]
mode = "enforce"
[run.facts]
argv = ["/usr/local/bin/facts"]
user = "nobody"
"""
table: list[tuple[str, str, str]] = []
files: dict[str, set[str]] = {}


def kill_some(count: int, pause_s: float = 0.0) -> list[int]:
    """So many OOM kills by the kernel, in a control group of our own; the PIDs of the killed."""
    GROUP.mkdir(exist_ok=True)
    (GROUP / "memory.max").write_text(str(8 * MIB))
    with contextlib.suppress(OSError):  # no swap in this kernel
        (GROUP / "memory.swap.max").write_text("0")
    killed = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                (GROUP / "cgroup.procs").write_text("0")
                Path("/proc/self/oom_score_adj").write_text("0")
                # written to, so that it is resident
                bytearray(b"x") * (32 * MIB)
            os._exit(1)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
        killed.append(pid)
        time.sleep(pause_s)
    return killed


def cursor() -> str:
    return sh("journalctl", "-n", "1", "--show-cursor").strip().rpartition("cursor: ")[2]


def told(after: str, kind: str = "oom.kill") -> list[dict[str, object]]:
    """The events of a kind that came into the journal behind a cursor."""
    # No match: with one, journalctl of systemd 252 passes over the first that it finds.
    said = sh("journalctl", "--no-pager", "--all", "-o", "json", f"--after-cursor={after}",
              "--output-fields=OOM_WATCHDOG_EVENT_JSON", check=False)  # fmt: skip
    lines = [json.loads(line).get("OOM_WATCHDOG_EVENT_JSON") for line in said.splitlines()]
    found = [json.loads(text) for text in lines if text]
    return [event for event in found if event["event"] == kind]


def because(event: dict[str, object]) -> str:
    sentences = event["because"]
    assert isinstance(sentences, list)
    return "; ".join(sentences)


def stored() -> list[object]:
    said = sh("oom-watchdog", "events", "--json", "--kind", "oom.kill", check=False)
    return [json.loads(line).get("pid") for line in said.splitlines()]


def arrived(raised: list[int], after: str, timeout: float = 60) -> str:
    """Wait until each kill is in the journal; then how many are there and in the history."""
    with contextlib.suppress(AssertionError):
        wait("the alerts", timeout, lambda: {e.get("pid") for e in told(after)} >= set(raised))
    there = [event.get("pid") for event in told(after)]
    kept = stored()
    journal = [there.count(pid) for pid in raised]
    history = [kept.count(pid) for pid in raised]
    text = (f"{len(raised)} raised, {sum(1 for n in journal if n)} in the journal, "
            f"{sum(1 for n in history if n)} in the history")  # fmt: skip
    twice = sum(n > 1 for n in journal + history)
    assert all(journal) and all(history), text
    assert not twice, f"{text}, {twice} told twice"
    return f"{text}, none twice"


@contextlib.contextmanager
def row(fault: str, promised: str) -> Iterator[list[str]]:
    """A line of the table, also where the test fails."""
    seen: list[str] = []
    try:
        yield seen
    except BaseException as error:
        seen.append(f"FAILED: {error}".splitlines()[0][:300])
        raise
    finally:
        table.append((fault, promised, "; ".join(seen)))
        print(f"{fault} | {promised} | {'; '.join(seen)}")


def uptime_of_service() -> tuple[int, str]:
    return main_pid(), show(SERVICE, "NRestarts")


def drop_in(text: str) -> None:
    folder = Path("/etc/systemd/system") / f"{SERVICE}.d"
    folder.mkdir(exist_ok=True)
    (folder / "vm.conf").write_text(text)
    sh("systemctl", "daemon-reload")
    sh("systemctl", "restart", SERVICE)


def test_install() -> None:
    files["before"] = listing()
    with row("apt install ./oom-watchdog_*.deb", "runs, and kills nothing") as seen:
        install(package())
        assert show(SERVICE, "ActiveState") == "active"
        CONFIG_FILE.write_text(RULES)
        sh("systemctl", "reload", SERVICE)
        wait("the new rules", 60, lambda: events("watchdog.reloaded"))
        seen.append(f"active, {show(SERVICE, 'StatusText')}")


def test_reload() -> None:
    with row("reload of a good file", "the new rules hold, the process stays") as seen:
        pid, after = main_pid(), cursor()
        begin = time.monotonic()
        sh("systemctl", "reload", SERVICE)
        took = time.monotonic() - begin
        wait("watchdog.reloaded", 30, lambda: told(after, "watchdog.reloaded"))
        assert main_pid() == pid
        seen.append(f"watchdog.reloaded, systemctl came back after {took:.1f} s")
    with row(
        "reload of a bad file", "refused and told; the old rules and the process stay"
    ) as seen:
        after = cursor()
        CONFIG_FILE.write_text("[guard]\nmode = 'kill everybody'\n")
        begin = time.monotonic()
        sh("systemctl", "reload", SERVICE)
        took = time.monotonic() - begin
        refused = wait("refusal", 30, lambda: told(after, "watchdog.config_rejected"))
        assert main_pid() == pid and not told(after, "watchdog.reloaded")
        seen.append(f"{because(refused[0])}; systemctl came back after {took:.1f} s")
        CONFIG_FILE.write_text(RULES)
        sh("systemctl", "reload", SERVICE)


def test_a_bad_file_at_the_start() -> None:
    with row("start with a bad file", "ends with 78, is not started again and again") as seen:
        CONFIG_FILE.write_text("[guard]\nmode = 'kill everybody'\n")
        sh("systemctl", "restart", SERVICE, check=False)
        time.sleep(5)
        assert show(SERVICE, "ExecMainStatus") == "78", show(SERVICE, "ExecMainStatus")
        assert show(SERVICE, "ActiveState") == "failed"
        seen.append(f"status 78, {show(SERVICE, 'ActiveState')}, "
                    f"{show(SERVICE, 'NRestarts')} restarts")  # fmt: skip
        CONFIG_FILE.write_text(RULES)
        sh("systemctl", "reset-failed", SERVICE)
        sh("systemctl", "start", SERVICE)


def test_the_loop_hangs() -> None:
    with row("the guard hangs (SIGSTOP)", "systemd's watchdog ends it and starts it again") as seen:
        drop_in("[Service]\nWatchdogSec=12\n")
        guard = main_pid()
        os.kill(guard, signal.SIGSTOP)
        begin, after = time.monotonic(), cursor()
        raised = kill_some(3)
        wait("another main process", 90, lambda: restarted(guard))
        took = time.monotonic() - begin
        assert "Watchdog timeout" in sh("journalctl", "--no-pager", f"--after-cursor={after}")
        seen.append(f"started again after {took:.0f} s (WatchdogSec=12); {arrived(raised, after)}")
    drop_in("")
    with row("the watcher hangs (SIGSTOP)", "the guard ends it after 60 s and starts another; "
             "what happened meanwhile is told") as seen:  # fmt: skip
        guard = main_pid()
        watcher = wait("the watcher", 20, lambda: watcher_of(guard))
        os.kill(watcher, signal.SIGSTOP)
        begin, after = time.monotonic(), cursor()
        raised = kill_some(3)
        wait("another", 150, lambda: [p for p in [watcher_of(guard)] if p and p != watcher])
        took = time.monotonic() - begin
        wait("its word", 30, lambda: told(after, "watchdog.degraded"))
        assert main_pid() == guard
        seen.append(f"another one after {took:.0f} s, the guard stayed; {arrived(raised, after)}")


def test_both_are_suspended() -> None:
    """Longer than the guard lets the watcher be silent: its own sleep must not count as that."""
    with row("both processes suspended (SIGSTOP) for 90 s", "go on where they were: nothing lost, "
             "nothing invented, nobody restarted") as seen:  # fmt: skip
        drop_in("[Service]\nWatchdogSec=600\n")
        state, after = uptime_of_service(), cursor()
        guard = main_pid()
        watcher = wait("the watcher", 20, lambda: watcher_of(guard))
        time.sleep(10)
        for pid in (guard, watcher):
            os.kill(pid, signal.SIGSTOP)
        begin = time.monotonic()
        # Grows and then holds, unseen: a step between two readings, and no leak.
        sh("systemd-run", "--quiet", "--unit=shop-step", "/usr/bin/python3", "-c",
           "import time; x = bytearray(b'x' * 90000000); time.sleep(900)")  # fmt: skip
        raised = kill_some(5, 2.0)
        time.sleep(max(0.0, 90 - (time.monotonic() - begin)))
        for pid in (watcher, guard):
            os.kill(pid, signal.SIGCONT)
        seen.append(arrived(raised, after))
        time.sleep(30)
        sh("systemctl", "stop", "shop-step")
        invented = [kind for kind in ("oom.unattributed", "leak.suspected", "leak.confirmed",
                    "watchdog.degraded", "watchdog.dropped") if told(after, kind)]  # fmt: skip
        assert not invented, [told(after, kind) for kind in invented]
        assert uptime_of_service() == state and watcher_of(guard) == watcher, "restarted"
        seen.append("no other event, not restarted")
    drop_in("")


def test_journald_stops() -> None:
    with row("journald stopped (SIGSTOP) for a minute", "the daemon goes on; alerts wait, and come "
             "when it does") as seen:  # fmt: skip
        state, after = uptime_of_service(), cursor()
        journald = int(show("systemd-journald.service", "MainPID"))
        os.kill(journald, signal.SIGSTOP)
        begin = time.monotonic()
        try:
            raised = kill_some(20, 1.0)
            age = time.time() - json.loads(Path("/run/oom-watchdog/now.json").read_text())["t"]
            time.sleep(max(0.0, 60 - (time.monotonic() - begin)))
        finally:
            os.kill(journald, signal.SIGCONT)
        assert age < 10, f"it stopped looking: now.json is {age:.0f} s old"
        seen.append(arrived(raised, after))
        assert uptime_of_service() == state, "it was restarted"
        seen.append("not restarted, and went on looking meanwhile")


def test_journald_restarts() -> None:
    with row("journald restarted, and rotated", "nothing lost") as seen:
        after = cursor()
        raised = kill_some(5)
        sh("systemctl", "restart", "systemd-journald")
        raised += kill_some(5)
        sh("journalctl", "--rotate")
        raised += kill_some(5)
        sh("systemctl", "kill", "--signal=SIGKILL", "systemd-journald")
        raised += kill_some(5, 0.2)
        seen.append(f"{arrived(raised, after)} (restart, rotate, SIGKILL)")


def test_disk_full() -> None:
    with row("the disk of the history is full", "goes on from memory, says so, and writes it when "
             "there is room") as seen:  # fmt: skip
        sh("systemctl", "stop", SERVICE)
        sh("mount", "-t", "tmpfs", "-o", "size=6m,mode=750", "none", str(STATE))
        try:
            sh("systemctl", "start", SERVICE)
            after = cursor()
            kill_some(1)
            with contextlib.suppress(OSError), open(STATE / "fill", "wb", 0) as fill:
                while True:
                    fill.write(b"x" * 4096)
            raised = []
            while not told(after, "watchdog.degraded"):  # the log has some room of its own
                raised += kill_some(2, 1.0)
                assert len(raised) < 100, "the disk is full, and it did not notice"
            raised += kill_some(3)
            (STATE / "fill").unlink()
            wait("watchdog.recovered", 150, lambda: told(after, "watchdog.recovered"))
            seen.append(f"degraded and recovered told; {arrived(raised, after)}")
        finally:
            sh("systemctl", "stop", SERVICE)
            sh("umount", str(STATE), check=False)
            sh("systemctl", "start", SERVICE)


def test_clock_steps() -> None:
    state = uptime_of_service()
    for name, step in (("forward", 86400), ("back", -2 * 86400), ("forward again", 86400)):
        with row(f"the clock steps {name} by {abs(step) // 86400} d",
                 "not restarted, nothing invented, alerts as ever") as seen:  # fmt: skip
            after = cursor()
            time.clock_settime(time.CLOCK_REALTIME, time.time() + step)
            raised = kill_some(3)
            seen.append(arrived(raised, after))
            others = [kind for kind in ("oom.unattributed", "leak.confirmed", "watchdog.degraded")
                      if told(after, kind)]  # fmt: skip
            assert not others, others
            assert uptime_of_service() == state, "it was restarted"
            said = sh("oom-watchdog", "status").splitlines()[0]
            seen.append(f"not restarted; status: {said}")


def test_oom_kill_of_a_unit() -> None:
    with row("OOM kill of a unit", "one oom.kill, beside the unit's own messages") as seen:
        after = cursor()
        burst(20 * MIB)
        wait("oom.kill", 30, lambda: told(after))
        there = sh("journalctl", "--no-pager", "-u", "shop-burst.service")
        print(there)
        (event,) = told(after)
        assert event["unit"] == "shop-burst.service" and "OOM kill: the kernel killed" in there
        seen.append("one, in journalctl -u shop-burst.service")


def test_a_storm_of_kills() -> None:
    with row("200 OOM kills in 20 s", "each is told; the kernel's counter agrees") as seen:
        after, before = cursor(), counter()
        begin = time.monotonic()
        raised = []
        for number in range(200):
            raised += kill_some(1)
            time.sleep(max(0.0, begin + (number + 1) * 0.1 - time.monotonic()))
        took = time.monotonic() - begin
        risen = counter() - before
        assert risen == 200, risen
        seen.append(f"in {took:.0f} s; {arrived(raised, after, 240)}; counter +{risen}")
        assert not told(after, "oom.unattributed")
        assert not told(after, "watchdog.dropped"), told(after, "watchdog.dropped")


def counter() -> int:
    for line in Path("/proc/vmstat").read_text().splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    raise AssertionError("no oom_kill in /proc/vmstat")


def test_own_limit() -> None:
    with row("the unit's own MemoryMax is reached", "a child goes, the two processes stay") as seen:
        state, after = uptime_of_service(), cursor()
        guard = main_pid()
        watcher = watcher_of(guard)
        group = Path("/sys/fs/cgroup" + Path(f"/proc/{guard}/cgroup").read_text().strip()[3:])
        peak = group / "memory.peak"
        if peak.exists():  # from kernel 5.19 on
            seen.append(f"peak so far {int(peak.read_text()) / MIB:.0f} MiB of "
                        f"{int(show(SERVICE, 'MemoryMax')) / MIB:.0f}")  # fmt: skip
        # As a reader of ours that has run wild: same group, oom_score_adj 0.
        program = (
            "open('/proc/self/oom_score_adj', 'w').write('0');"
            f"open('{group}/cgroup.procs', 'w').write('0'); x = b'x' * (400 << 20)"
        )
        done = subprocess.run([sys.executable, "-c", program], check=False)
        assert done.returncode == -signal.SIGKILL, done.returncode
        event = wait("its kill", 30, lambda: told(after))[0]
        assert str(event["cgroup"]).endswith(SERVICE), event["cgroup"]
        assert uptime_of_service() == state and watcher_of(guard) == watcher
        seen.append("the reader was killed and told, guard and watcher stayed")


def test_a_hook_is_a_unit_of_its_own() -> None:
    with row("a hook with user = nobody", "runs as that user, outside of our limits, and "
             "its end is told") as seen:  # fmt: skip
        hook = Path("/usr/local/bin/facts")
        hook.write_text("#!/bin/sh\nread -r facts\necho \"$(id -un) $(cat /proc/self/cgroup) "
                        "$(echo \"$facts\" | cut -c1-30)\"\n")  # fmt: skip
        hook.chmod(0o755)
        CONFIG_FILE.write_text(RULES + HOOK)
        sh("systemctl", "reload", SERVICE)
        after = cursor()
        start_leak("shop-hook", 10 * MIB)
        try:
            event = wait("the action", 90, lambda: told(after, "policy.action"))[0]
        finally:
            sh("systemctl", "stop", "shop-hook", check=False)
            CONFIG_FILE.write_text(RULES)
            hook.unlink()
        text = because(event)
        assert event["outcome"] == "done", event
        assert "nobody" in text and "run-" in text and "oomwatchdog" not in text, text
        seen.append(text)


def repacked(version: str) -> Path:
    """The same package under another version."""
    folder = Path("/var/tmp/repacked")
    sh("rm", "-rf", str(folder))
    sh("dpkg-deb", "-R", str(package()), str(folder), timeout=300)
    control = folder / "DEBIAN" / "control"
    lines = [f"Version: {version}" if line.startswith("Version:") else line
             for line in control.read_text().splitlines()]  # fmt: skip
    control.write_text("\n".join(lines) + "\n")
    made = folder.with_suffix(".deb")
    sh("dpkg-deb", "-Znone", "-b", str(folder), str(made), timeout=300)
    return made


def test_upgrade_and_downgrade() -> None:
    with row("upgrade", "configuration and history stay; it runs on") as seen:
        shipped = Path("/etc/oom-watchdog/config.toml")
        shipped.write_text(shipped.read_text() + "# by hand\n")
        before, pid, after = len(stored()), main_pid(), cursor()
        raised = kill_some(1)
        wait("its alert", 30, lambda: told(after))
        install(repacked("99.0"))
        assert show(SERVICE, "ActiveState") == "active" and main_pid() != pid
        assert shipped.read_text().endswith("# by hand\n") and CONFIG_FILE.read_text() == RULES
        assert len(stored()) == before + len(raised), "history"
        seen.append(
            f"{before + len(raised)} kills of before still told, restarted, files as before"
        )
    with row("downgrade, the store newer", "refused in one line; the newer one runs on") as seen:
        sh("systemctl", "stop", SERVICE)
        with contextlib.closing(sqlite3.connect(STATE / "history.db")) as db:
            former = db.execute("PRAGMA user_version").fetchone()[0]
            db.execute("PRAGMA user_version = 77")
        done = subprocess.run(["apt", "install", "-y", "--allow-downgrades", str(package())],
                              capture_output=True, text=True, check=False)  # fmt: skip
        line = [line for line in done.stderr.splitlines() if "schema 77" in line]
        line += [line for line in done.stdout.splitlines() if "schema 77" in line]
        assert done.returncode and line, done.stdout + done.stderr
        version = sh("dpkg-query", "-f", "${Version} ${Status}", "-W", "oom-watchdog")
        assert version == "99.0 install ok installed", version
        seen.append(line[0])
    with row("a store of a newer version", "the daemon runs from memory and says so") as seen:
        after = cursor()
        sh("systemctl", "restart", SERVICE)
        degraded = wait("degraded", 30, lambda: told(after, "watchdog.degraded"))
        seen.append(because(degraded[0]))
        sh("systemctl", "stop", SERVICE)
        with contextlib.closing(sqlite3.connect(STATE / "history.db")) as db:
            db.execute(f"PRAGMA user_version = {former}")
        sh("systemctl", "start", SERVICE)


def test_purge() -> None:
    with row("apt purge", "no file left, unit and catalog gone") as seen:
        with contextlib.suppress(OSError):
            GROUP.rmdir()
        sh("rm", "-rf", f"/etc/systemd/system/{SERVICE}.d")
        sh("apt", "purge", "-y", "oom-watchdog", timeout=300)
        left = [path for path in sorted(listing() - files["before"]) if "watchdog" in path]
        assert not left, left
        assert "oom-watchdog" not in sh("systemctl", "list-unit-files", "--no-pager")
        assert "oom-watchdog" not in sh("journalctl", "--list-catalog", check=False)
        seen.append("files left behind: none")


if __name__ == "__main__":
    status = run_tests(globals(), sys.argv[1:])
    print("fault | promised | seen")
    for cells in table:
        print(" | ".join(cells))
    sys.exit(status)

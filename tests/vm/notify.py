"""Runs inside the virtual machine: the doctor in the unit's own sandbox, and notifications there.

The package is installed with apt; apprise, which Debian has as a package of its own, comes from the
wheels beside it, because there is no network.
"""

import json
import os
import signal
import sys
import time
import zipfile
from pathlib import Path

import receivers  # type: ignore[import-not-found]
from machine import (
    CONFIG_FILE,
    HOLD,
    SERVICE,
    Found,
    events,
    install,
    main_pid,
    package,
    restarted,
    run_tests,
    sh,
    show,
    wait,
    watcher_of,
)  # fmt: skip

SMTP, HTTP = 2525, 8080
SECRET = "sesame42"
CONFIG = f"""
[watch]
interval = "1s"
[policies.hog]
match = {{ unit = "shop-*.service" }}
when = {{ resident_above = "50MiB" }}
per = "process"
do = ["log", "notify:mail", "notify:hook"]
[notify.mail]
url = "mailto://127.0.0.1:{SMTP}?from=watchdog@example.org&to=ops@example.org"
[notify.hook]
url_credential = "hook"
"""
NOTIFY = "oom-watchdog-notify.service"


def test_install() -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = Path("/usr/local/lib", version, "dist-packages")
    for wheel in Path.cwd().glob("*.whl"):
        if not wheel.name.startswith("oom_watchdog-"):
            zipfile.ZipFile(wheel).extractall(site)
    # The first use of each module would else compile it, again in each run of the sender.
    sh("python3", "-m", "compileall", "-q", str(site), check=False, timeout=600)
    install(package())
    folder = Path("/etc/oom-watchdog/credentials")
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "hook").write_text(f"json://bob:{SECRET}@127.0.0.1:{HTTP}/tok3n")
    (folder / "hook").chmod(0o600)
    CONFIG_FILE.write_text(CONFIG)
    CONFIG_FILE.chmod(0o640)
    print(sh("oom-watchdog", "check").rstrip())
    Path("/run/oom-watchdog/doctor.json").unlink(missing_ok=True)
    sh("systemctl", "reload", SERVICE)
    assert show("oom-watchdog-notify.path", "ActiveState") == "active"


def test_doctor_in_the_unit() -> None:
    wait("doctor.json", 120, lambda: Path("/run/oom-watchdog/doctor.json").exists())
    found = json.loads(sh("oom-watchdog", "doctor", "--json"))
    print(sh("oom-watchdog", "doctor"))
    assert found["daemon"]["in_unit"], found["daemon"]["rows"][0]
    bad = [row for row in found["daemon"]["rows"] if row["state"] == "fail"]
    assert not bad, bad
    print(show(SERVICE, "StatusText"))


def test_a_test_arrives() -> None:
    with receivers.receiver("smtp", SMTP) as mail, receivers.receiver("http", HTTP) as hook:
        for name in ("mail", "hook"):
            print(sh("oom-watchdog", "notify", "--test", name, timeout=200).rstrip())
        print(mail.got[0])
        print(hook.got[0])
        assert len(mail.got) == len(hook.got) == 1


def test_delivered_once_after_an_outage_and_kill_9() -> None:
    began = time.monotonic()
    sh("systemd-run", "--quiet", "--unit=shop-hog", "/usr/bin/python3", "-c", HOLD, "90")

    def failures() -> list[Found]:
        return [one for one in events("watchdog.degraded") if "notify" in str(one.get("what"))]

    wait("the failure", 200, failures)
    guard = main_pid()
    watcher = watcher_of(guard)
    for pid in (guard, watcher):
        if pid:
            os.kill(pid, signal.SIGKILL)
    wait("another main process", 60, lambda: restarted(guard))
    time.sleep(max(0.0, 125 - (time.monotonic() - began)))
    print(f"receivers were down for {time.monotonic() - began:.0f} s, kill -9 in between")
    with receivers.receiver("smtp", SMTP) as mail, receivers.receiver("http", HTTP) as hook:
        wait("both messages", 400, lambda: mail.got and hook.got)
        print(f"arrived after {time.monotonic() - began:.0f} s")
        guard = main_pid()
        os.kill(guard, signal.SIGKILL)
        wait("another main process", 60, lambda: restarted(guard))
        time.sleep(90)
        print(f"mail {len(mail.got)}, hook {len(hook.got)}")
        print(mail.got[0])
        print(hook.got[0])
        assert len(mail.got) == len(hook.got) == 1


def test_no_secret_anywhere() -> None:
    text = sh("journalctl", "--no-pager", "--all", "-o", "json")
    assert SECRET not in text
    assert SECRET not in sh("oom-watchdog", "events", "--json")
    assert SECRET not in Path("/run/oom-watchdog/now.json").read_text()
    print(sh("journalctl", "--no-pager", "-o", "cat", "-u", NOTIFY))
    print(sh("systemd-analyze", "--no-pager", "security", NOTIFY).strip().splitlines()[-1])
    print(sh("systemd-analyze", "--no-pager", "security", SERVICE).strip().splitlines()[-1])
    print(sh("oom-watchdog", "status"))
    print(sh("oom-watchdog", "events"))


if __name__ == "__main__":
    sys.exit(run_tests(globals()))

"""`oom-watchdog check`: the verdict, what counts, and what it means for one process."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from watchdog.cli import check, explain_rules
from watchdog.facts import Entity, Group, Subject
from watchdog.policy.load import ConfigError
from watchdog.policy.load import load as load_here
from watchdog.policy.rules import Match, Policy, Rules, When, default_rules, from_plain
from watchdog.sense.cgroups import Cgroups
from watchdog.store import now as now_json
from watchdog.store.place import StoreError

SHIPPED = str(Path(__file__).parents[1] / "config" / "config.toml")
SHOP = """
[protect]
name = ["sleep"]
[unprotect]
unit = ["docker.service"]
[policies.sleepy]
match = { name = "sleep*" }
when = { leak = "confirmed" }
for = "2min"
do = ["log", "kill"]
mode = "enforce"
[policies.unit]
match = { unit = "shop-*.service" }
when = { leak = "confirmed", oom_kill = true }
do = ["log", "restart-unit"]
[policies.whose]
match = { container = "web*" }
when = { pressure = true }
do = ["log"]
[notify.ops]
argv = ["/bin/true"]
[run.dump]
argv = ["/bin/true"]
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`check` with the loader in this process: a child costs a third of a second a test."""

    def load(config: str | None, root: str | None) -> tuple[int, dict[str, Any] | None, list[str]]:
        try:
            loaded = load_here(config, root or "/")._asdict()
        except ConfigError as error:
            return 78, None, error.lines
        return 0, json.loads(json.dumps(loaded)), []

    monkeypatch.setattr(check, "load", load)

    def call(*argv: str) -> tuple[int, str, str]:
        status = check.main(list(argv))
        caught = capsys.readouterr()
        return status, caught.out, caught.err

    return call


@pytest.fixture
def shop(tmp_path: Path) -> str:
    path = tmp_path / "shop.toml"
    path.write_text(SHOP)
    return str(path)


def test_help_fits_the_smallest_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        check.main(["--help"])
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "example:" in lines[-1]


def test_the_shipped_file_is_fine(run: Run) -> None:
    assert run(SHIPPED) == (
        0, "configuration is fine: no policies, guard observe; nothing will be killed\n", "",
    )  # fmt: skip
    status, out, _ = run("--json", SHIPPED)
    assert (status, json.loads(out)["ok"]) == (0, True)


def test_the_true_loader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([SHIPPED, "--root", str(tmp_path)]) == 0
    bad = tmp_path / "bad.toml"
    bad.write_text("[x]")
    assert check.main([str(bad)]) == 78
    assert capsys.readouterr().err == (
        f"{bad}: x: unknown key\nconfiguration is refused: 1 problem\n"
    )


def test_an_installation_without_pydantic_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    program = [sys.executable, "-c", "raise SystemExit('No module named pydantic')"]
    monkeypatch.setattr(check, "_PROGRAM", program)
    assert check.load(None, None) == (
        78, None, ["the loader does not run here: No module named pydantic"],
    )  # fmt: skip
    monkeypatch.setattr(check, "_PROGRAM", [*program[:2], "raise SystemExit(3)"])
    assert check.load(None, None)[2] == ["the loader does not run here: exit status 3"]


def test_a_refused_file(run: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[x]\n[y]")
    status, out, err = run("--config", str(bad))
    assert (status, out) == (78, "")
    assert err.splitlines()[-1] == "configuration is refused: 2 problems"
    status, out, err = run("--json", str(bad))
    assert (status, err) == (78, "")
    assert json.loads(out)["problems"] == [f"{bad}: x: unknown key", f"{bad}: y: unknown key"]
    with pytest.raises(SystemExit) as caught:
        check.main([str(bad), "--config", str(bad)])
    assert caught.value.code == 2


def test_show_is_toml_and_says_where_each_value_comes_from(run: Run, shop: str) -> None:
    status, out, _ = run("--show", shop)
    assert status == 0
    *lines, last = out.splitlines()
    assert last == (
        "configuration is fine: 3 policies (1 enforce, 2 observe), guard observe, "
        "1 notifier, 1 run hook"
    )
    assert 'mode = "observe"              # built-in' in lines
    assert any(line.startswith('    "ssh.service",') and "built-in" in line for line in lines)
    assert f"#   protect.unit docker.service    # {shop}" in lines
    shown = tomllib.loads("\n".join(lines))
    again = Path(shop).with_name("again.toml")
    again.write_text("\n".join(lines) + '\n[unprotect]\nunit = "docker.service"\n')
    assert from_plain(load_here(str(again)).rules) == from_plain(load_here(shop).rules)
    assert shown["policies"]["unit"]["match"] == {"unit": "shop-*.service"}


def test_what_a_policy_and_a_hook_do_not_say_is_shown_too(run: Run, shop: str) -> None:
    Path(shop).write_text(
        '[policies.x]\nmatch = { unit = "*" }\nwhen = { leak = "confirmed" }\ndo = ["run:y"]\n'
        '[run.y]\nargv = ["/bin/true"]\n'
    )
    *lines, _ = run("--show", shop)[1].splitlines()
    assert {'for = "0s"', 'mode = "observe"', 'cooldown = "10min"', 'budget = "6 per 1h"',
            'per = "unit"', 'timeout = "30s"'} <= {
        one.partition("#")[0].strip() for one in lines if one.endswith("# built-in")
    }  # fmt: skip
    again = Path(shop).with_name("again.toml")
    again.write_text("\n".join(lines))
    assert from_plain(load_here(str(again)).rules) == from_plain(load_here(shop).rules)


def test_a_pattern_that_matches_nobody_is_warned_about(run: Run, tmp_path: Path) -> None:
    """Who protects "postgresql" believes that it is protected."""
    path = tmp_path / "c.toml"
    fine = ["x.service", "x-*", "*ice", "y.[sm]*", "session-?.scope", "[ab]"]
    path.write_text(
        f'[protect]\nunit = ["postgresql", "a-*-b", "my.slice", {str(fine)[1:-1]}]\n'
        'exe = ["sshd", "/usr/*", "*/sshd"]\n'
        '[policies.p]\nmatch = { cgroup = "system.slice/x" }\nwhen = { leak = "confirmed" }\n'
        'do = "log"\n[mute.m]\nmatch = { unit = "nginx" }\nuntil = "2100-01-01"\n'
    )
    status, _, err = run(str(path))
    assert status == 0
    found = [line.split(": ", 2)[2].partition(" matches no ") for line in err.splitlines()]
    assert [(at, what.partition(":")[0]) for at, _, what in found] == [
        ('protect.unit: "postgresql"', "unit"), ('protect.unit: "a-*-b"', "unit"),
        ('protect.unit: "my.slice"', "unit"), ('protect.exe: "sshd"', "executable"),
        ('policies.p.match.cgroup: "system.slice/x"', "cgroup"),
        ('mute.m.match.unit: "nginx"', "unit"),
    ]  # fmt: skip
    assert len(json.loads(run(str(path), "--json")[1])["warnings"]) == 6
    path.write_text("")
    assert run(str(path))[2] == ""  # none of ours is such a one


def test_the_summary_counts_modes() -> None:
    def of(*modes: str, guard: str = "observe") -> str:
        found = Rules(policies=tuple(Policy(str(i), mode=mode) for i, mode in enumerate(modes)))
        return check.summary(found._replace(guard=found.guard._replace(mode=guard)))

    assert of("observe") == (
        "configuration is fine: 1 policy (observe), guard observe; nothing will be killed"
    )
    assert "3 policies (all observe)" in of(*["observe"] * 3)
    assert of("enforce", "enforce", guard="enforce") == (
        "configuration is fine: 2 policies (all enforce), guard enforce"
    )


def test_warnings_go_to_standard_error(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "w.toml"
    path.write_text('[notify.a]\nurl = "mailto://x"')
    assert run(str(path))[2] == (
        f"warning: {path}: notify.a.url: everybody can read this file; if the URL holds a "
        "password, chmod 640 it or use url_credential\n"
    )


def test_no_url_of_a_notifier_is_shown(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "w.toml"
    path.write_text('[notify.a]\nurl = "mailto://me:sesame@host"\n[notify.b]\nargv = ["/bin/true"]')
    said = run(str(path), "--show")
    assert 'url = "mailto://***"' in said[1]
    for argv in ((), ("--show",), ("--json",), ("--json", "--show")):
        assert "sesame" not in "".join(map(str, run(str(path), *argv))), argv
    found = json.loads(run(str(path), "--json")[1])
    for part in ("rules", "written"):
        assert found[part]["notify"]["a"]["url"] == "mailto://***"
        assert list(found[part]["notify"]["b"]["argv"]) == ["/bin/true"]


def test_a_name_with_a_dot_is_shown_as_toml_reads_it(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "dots.toml"
    path.write_text(SHOP.replace("[policies.sleepy]", '[policies."sleepy.one"]'))
    out = run(str(path), "--show")[1]
    assert '[policies."sleepy.one"]' in out and "[policies.unit.when]" in out
    again = tmp_path / "again.toml"
    shown = out.rpartition("configuration is fine")[0]
    again.write_text(shown + '\n[unprotect]\nunit = "docker.service"\n')
    assert from_plain(load_here(str(again)).rules) == from_plain(load_here(str(path)).rules)


def test_a_name_that_is_empty_is_no_file_and_nobody(run: Run, shop: str, tmp_path: Path) -> None:
    """As it is left by a variable of a script that was not set."""
    for argv in (("",), ("--config", "")):
        status, out, err = run(*argv)
        assert (status, out) == (78, "") and "no such file" in err
    status, _, err = run("--explain", "", "--state", str(tmp_path), shop)
    assert status == 1 and 'no process or unit ""' in err


# ---- --explain --------------------------------------------------------------------------


def test_explain_a_live_process(run: Run, shop: str, tmp_path: Path) -> None:
    child = subprocess.Popen(["/bin/sleep", "60"])
    try:
        status, out, err = run("--explain", str(child.pid), "--state", str(tmp_path), shop)
    finally:
        child.kill()
        child.wait()
    assert status == 0
    assert err == "no daemon runs: leaks and growth are not known\n"
    lines = out.splitlines()
    assert lines[0].startswith(f"sleep ({child.pid})")
    if os.geteuid() == 0:
        assert lines[1] == "  protected: name sleep is protected (protect.name sleep)"
    assert "  policy sleepy (enforce): matches: name sleep matches sleep*" in lines
    assert "    when leak: not known" in lines
    assert "    for 2 min" in lines
    assert "    then log, kill" in lines
    assert "  policy unit: no: it is about units" in lines


def test_explain_nobody(run: Run, shop: str, tmp_path: Path) -> None:
    status, out, err = run("--explain", "no-such-thing", "--state", str(tmp_path), shop)
    assert (status, out) == (1, "")
    assert err.endswith('oom-watchdog: no process or unit "no-such-thing" is here\n')


def rows(*subjects: Subject) -> Any:
    return lambda: iter(subjects)


def member(pid: int, comm: str, unit: str | None, **more: Any) -> Subject:
    entity = Entity(pid, 5, comm, f"/usr/bin/{comm}", 33, unit)
    return Subject(f"{pid}:5", entity, False, cgroup=f"/system.slice/{unit}", age_s=9.0,
                   resident_bytes=pid << 20, oom_counted=False,
                   untold=explain_rules.UNTOLD)._replace(**more)  # fmt: skip


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A daemon's view: one process of a unit is confirmed to leak, one policy waits."""
    people = rows(
        *(member(pid, "worker", "shop-1.service", trusted=False) for pid in range(10, 17)),
        member(20, "sleep", None, trusted=False, oom_score_adj=300),
        member(21, "sshd", "ssh.service", trusted=True),
        *(member(pid, "many", None) for pid in range(100, 125)),
    )
    monkeypatch.setattr(explain_rules, "_processes", people)
    leak = {"pid": 12, "start": 5, "unit": "shop-1.service", "level": "confirmed",
            "rate_bytes_per_s": 1024, "exhausts_in_s": 600.0}  # fmt: skip
    suspected = {"unit": "shop-1.service", "level": "suspected", "exhausts_in_s": None}
    cools = "unit:shop-1.service: cooldown, 3 min to go"
    waiting = [{"name": name, "waiting": [cools, "x: y"]} for name in ("unit", "worker")]
    data = {"leaks": [suspected, leak], "policies": waiting, "up": 500.0}
    seen = now_json.Now(data, 1.0, "now.json")
    monkeypatch.setattr(now_json, "read_now", lambda folders: seen)
    return tmp_path


def test_explain_a_unit(run: Run, shop: str, live: Path) -> None:
    status, out, err = run("--explain", "shop-1.service", shop)
    assert (status, err) == (0, "")
    first, *others = out.strip().split("\n\n")
    assert len(others) == 5  # the largest few of its processes
    assert first.splitlines() == [
        "unit shop-1.service",
        "  not protected: no entry of [protect] matches",
        "  policy sleepy: no: it is about processes",
        "  policy unit (observe): matches: unit shop-1.service matches shop-*.service",
        "    when a leak is confirmed",
        "    when oom_kill: not known",
        "    now cooldown, 3 min to go",
        "    then log, restart-unit",
        "  policy whose: no: it is not matched",
    ]


def test_a_process_that_may_go_with_its_unit_is_told(run: Run, shop: str, live: Path) -> None:
    out = run("--explain", "12", shop)[1]
    assert "  policy unit: no: it is about units, and may match its own, shop-1.service\n" in out
    out = run("--explain", "21", shop)[1]  # of another unit
    assert "  policy unit: no: it is about units\n" in out


ALL = Policy("all", Match(), When(
    leak="confirmed", exhausts_within_s=3600.0, resident_above=80 << 20, growth_above=512.0,
    limit_above=0.9,
))  # fmt: skip


def conditions_of(who: str, now: dict[str, Any], per: str, cgroups: Cgroups) -> list[str]:
    rows = list(explain_rules._processes())
    first = explain_rules._limited(next(explain_rules._subjects(who, now, rows)), cgroups)
    found: list[str] = explain_rules._policy(ALL._replace(per=per), first, now)["conditions"]
    return found


def test_explain_says_only_what_something_tells(live: Path) -> None:
    """A unit of 91 MiB by the sum of its processes, which holds 38 MiB of its 40."""
    nothing = Cgroups(str(live))
    assert conditions_of("shop-1.service", {}, "unit", nothing) == [
        "leak: not known", "exhausts_within: not known",
        "91.0 MiB resident (asked: above 80.0 MiB)", "growth_above: not known",
        "limit_above: not known",
    ]  # fmt: skip
    folder = live / "cg/system.slice/shop-1.service"
    folder.mkdir(parents=True)
    (folder / "memory.stat").write_text(f"anon {38 << 20}\nfile {2 << 20}\n")
    (folder / "memory.max").write_text(f"{40 << 20}\n")
    (folder.parent / "memory.stat").write_text(f"anon {90 << 20}\n")
    (folder.parent / "memory.max").write_text("max\n")
    cgroups = Cgroups(str(live))
    cgroups.base, cgroups.v2 = str(live / "cg"), True
    now = now_json.read_now([]).data  # type: ignore[union-attr]
    assert conditions_of("shop-1.service", now, "unit", cgroups) == [
        "a leak is confirmed", "memory ends in 10 min (asked: within 1 h)",
        "38.0 MiB resident (asked: above 80.0 MiB): waits", "growth_above: not known",
        "95 % of its own limit (asked: above 90 %)",
    ]  # fmt: skip
    assert conditions_of("12", now, "process", cgroups)[3:] == [
        "grows by 3.5 MiB/h (asked: above 1.8 MiB/h)", "95 % of its own limit (asked: above 90 %)",
    ]  # fmt: skip
    # a daemon runs, and says of who is under no suspicion only that
    assert conditions_of("13", now, "process", cgroups) == [
        "no leak is seen: waits", "exhausts_within: not known",
        "13.0 MiB resident (asked: above 80.0 MiB): waits", "growth_above: not known",
        "95 % of its own limit (asked: above 90 %)",
    ]  # fmt: skip
    (folder / "memory.max").write_text("max\n")
    assert "it has no limit of its own: waits" in conditions_of("13", now, "process", cgroups)


EVENTS = Policy("all", Match(), When(
    exhausts_within_s=3600.0, growth_above=512.0, oom_kill=True, limit_pressed=True,
    commit_short=True, alloc_failed=True,
))  # fmt: skip


def test_explain_says_of_each_key_what_it_waits_for(
    live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a daemon that runs, of who is under no suspicion too."""
    monkeypatch.setattr(sys.modules[__name__], "ALL", EVENTS)
    now = now_json.read_now([]).data  # type: ignore[union-attr]
    now |= {"t": 9000.0, "started": 8000.0}
    seen: dict[str, Any] = {
        "growth": {}, "growth_whole": True, "exhausts_in_s": {}, "oom_counted": True,
        "oom_killed": {}, "limits_pressed": [], "commit_short": False, "alloc_failed_up": None,
        "untold": [],
    }  # fmt: skip
    nothing = Cgroups(str(live))
    for who, per in (("13", "process"), ("shop-1.service", "unit")):
        found = conditions_of(who, now | {"leaks": [], "conditions": seen}, per, nothing)
        assert found == [
            "memory is not seen to end: waits",
            "grows by 0 B/d (asked: above 1.8 MiB/h): waits",
            "the kernel has not killed it for lack of memory: waits for an OOM kill of it, none "
            "since the daemon began 16 min 40 s ago",
            "it does not press against a memory limit: waits",
            "memory may still be promised: waits",
            "the kernel has not refused memory lately: waits for the next, none since the daemon "
            "began 16 min 40 s ago",
        ]  # fmt: skip
    key = "unit:shop-1.service"
    seen |= {
        "growth": {key: 1024}, "growth_whole": False, "exhausts_in_s": {key: 60.0},
        "oom_killed": {key: 410.0}, "limits_pressed": ["/system.slice"], "commit_short": True,
        "alloc_failed_up": 380.0,
    }  # fmt: skip
    now["conditions"] = seen
    assert conditions_of("shop-1.service", now, "unit", nothing)[1:] == [
        "grows by 3.5 MiB/h (asked: above 1.8 MiB/h)",
        "the kernel killed it for lack of memory 1 min 30 s ago: waits for the next",
        "it presses against its memory limit", "little memory may still be promised",
        "the kernel has not refused memory lately: waits for the next, the last one was 2 min ago",
    ]  # fmt: skip
    # more grow than are told of, and no cgroup is known to the daemon
    seen |= {"oom_counted": False, "untold": ["limit", "headroom"], "started": 0.0}
    assert conditions_of("13", now, "process", nothing)[:4] == [
        "exhausts_within: not known", "growth_above: not known", "oom_kill: not known",
        "limit_pressed: not known",
    ]  # fmt: skip
    late = now | {"t": 99_000.0, "leaks": [], "conditions": seen | {"oom_counted": True}}
    assert conditions_of("13", late, "process", nothing)[2].endswith(
        ": waits for an OOM kill of it, none within the last 1 h"
    )


def test_explain_says_where_the_guard_has_it_while_memory_is_short(
    run: Run, shop: str, live: Path
) -> None:
    now = now_json.read_now([]).data  # type: ignore[union-attr]
    now["guard"] = {"mode": "observe", "state": "memory is short", "ranked": [
        {"entity": {"pid": 11, "start": 5}, "rank": {"blame": 3}, "because": ["a"]},
        {"entity": {"pid": 12, "start": 5}, "rank": {"blame": 2, "share": 4},
         "because": ["it holds 1 MiB", "that\nis so"]},
    ]}  # fmt: skip
    assert (
        "  the guard: number 2 of those whom it would take (blame 2, share 4): it holds 1 MiB; "
        "that\\x0ais so\n"
    ) in run("--explain", "12", shop)[1]
    assert "the guard:" not in run("--explain", "13", shop)[1]


def test_explain_tells_what_was_said_to_systemd_oomd() -> None:
    class Told(Cgroups):
        def read(self, t: float, up: float, paths: Iterable[str]) -> list[Group]:
            return [Group(t, up, "shop-1.service", path, oomd=said) for path in paths]

    cgroups = Told()
    for said, answer in (("omit", "protected"), ("avoid", "weight_because")):
        s = explain_rules._limited(member(12, "worker", "shop-1.service"), cgroups)
        found = explain_rules._answer(default_rules(), s, {}, [s])
        assert f"ManagedOOMPreference={said}" in found[answer]


def test_explain_says_who_bars_an_action(run: Run, live: Path, tmp_path: Path) -> None:
    config = tmp_path / "barred.toml"
    config.write_text("""
[protect]
name_unverified = ["worker"]
[policies.any]
match = { unit = "shop-*.service" }
when = { leak = "confirmed" }
do = ["log", "restart-unit"]
[policies.named]
match = { unit = "shop-1.service" }
when = { leak = "confirmed" }
do = ["log", "restart-unit"]
[policies.worker]
match = { name = "worker" }
when = { leak = "confirmed" }
do = ["restart-unit"]
""")
    unit, worker, *_ = run("--explain", "shop-1.service", str(config))[1].split("\n\n")
    why = "name worker is protected (protect.name_unverified worker)"
    assert f"    then log, restart-unit\n    but not restart-unit: PID 10 is in it: {why}" in unit
    assert unit.count("but not") == 1
    assert f"protected: {why}" in worker
    assert "    now cooldown, 3 min to go\n    then restart-unit" in worker  # the unit's


def test_explain_a_name(run: Run, shop: str, live: Path) -> None:
    out = run("--explain", "sleep", shop)[1]
    assert "  not protected: name sleep is protected (protect.name sleep), but its executable is " \
        "not root's alone, or it runs as a person" in out  # fmt: skip
    assert "  weight: rather this one (its oom_score_adj is 300)" in out
    assert "    when no leak is seen: waits" in out
    assert "unit ssh.service is protected" in run("--explain", "sshd", shop)[1]
    many = run("--explain", "many", shop)[1]
    assert many.endswith("5 more; name a PID to see one of them\n")


def test_explain_in_json(run: Run, shop: str, live: Path) -> None:
    status, out, _ = run("--explain", "12", "--json", shop)
    (answer,) = json.loads(out)
    assert status == 0
    assert answer["entity"]["pid"] == 12
    assert [one["policy"] for one in answer["policies"]] == ["sleepy", "unit", "whose"]


def test_an_old_or_unreadable_view_is_said(
    run: Run, shop: str, live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(now_json, "read_now", lambda folders: now_json.Now({}, 1e6, "x"))
    assert run("--explain", "12", shop)[2].startswith("the daemon's view is old")

    def broken(folders: Any) -> None:
        raise StoreError("now.json cannot be read: no")

    monkeypatch.setattr(now_json, "read_now", broken)
    assert run("--explain", "12", shop)[2] == (
        "without the daemon's view: now.json cannot be read: no\n"
    )


def test_what_is_not_known_is_no_answer() -> None:
    s = member(7, "x", None)._replace(entity=Entity(7, 5, "x"), cgroup=None)
    one = Policy("p", Match(user=(0,)), When(leak="confirmed"), do=("log",))
    assert explain_rules._policy(one, s, {})["because"] == ["cannot be judged: uid is not known"]


def test_proc_is_read_as_the_daemon_reads_it(tmp_path: Path) -> None:
    found = {s.entity.pid: s for s in explain_rules._processes()}
    me = found[os.getpid()]
    assert me.entity.uid == os.geteuid()
    assert me.entity.exe == os.path.realpath(sys.executable)
    assert me.cmdline
    assert me.resident_bytes
    assert me.resident_bytes > 1 << 20
    assert me.age_s is not None
    assert list(explain_rules._processes(str(tmp_path))) == []
    # processes that are half gone, and one that may not be looked into
    (tmp_path / "uptime").write_text("100.0 1.0")
    (tmp_path / "5").mkdir()
    (tmp_path / "6").mkdir()
    stat = "6 (x) S 1 " + "0 " * 17 + "300 " + "0 " * 20
    (tmp_path / "6/stat").write_text(stat)
    (tmp_path / "6/statm").write_text("1 2 1")
    (tmp_path / "6/cgroup").write_text("0::/system.slice/a.service\n")
    (half,) = explain_rules._processes(str(tmp_path))
    assert (half.key, half.entity.unit, half.entity.exe, half.trusted) == (
        "6:300", "a.service", None, None,
    )  # fmt: skip

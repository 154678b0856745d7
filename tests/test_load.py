"""The loader: what is read, what is refused and with which words, who may write it."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import watchdog
from watchdog.policy import load as loader
from watchdog.policy.guard_when import Mark
from watchdog.policy.load import ConfigError, load
from watchdog.policy.rules import Hook, Match, Notifier, When, default_rules, from_plain

SHIPPED = Path(__file__).parents[1] / "config" / "config.toml"
WHOLE = """
[watch]
interval = "1s"
[kernel_log]
source = "kmsg"
[guard]
mode = "enforce"
available_below = ["5%", "400MiB"]
swap_free_below = "1G"
stalled_above = "off"
victim = "size"
budget = "2 per h"
[protect]
unit = ["postgresql*.service"]
name = ["chronyd"]
user = ["root", "4242"]
[unprotect]
unit = ["docker.service"]
[prefer]
unit = "batch-*.service"
[avoid]
name = ["redis-server"]
[policies.shop-leak]
match = { unit = "shop-*.service", min_resident = "10M" }
when = { leak = "confirmed", exhausts_within = "30min" }
for = "2min"
do = ["log", "notify:ops", "restart-unit"]
cooldown = "1h"
budget = "3 per 1d"
[policies.big]
match = { name = ["a", "b"], user = "root", min_age = "1min", cmdline = "~x+" }
do = ["run:dump", "terminate"]
mode = "enforce"
[policies.big.when]
resident_above = "1G"
growth_above = "1M/s"
pressure = true
limit_above = "90%"
oom_kill = true
[notify.ops]
argv = ["/bin/true", "x"]
[run.dump]
argv = ["/bin/true"]
user = "root"
timeout = "30s"
at_most = "1 per 1d"
[store]
size = "8M"
"""


def write(path: Path, text: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def refused(path: str | None, **more: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, **more)
    assert all("\n" not in line for line in caught.value.lines)
    return caught.value.lines


def test_the_shipped_file_says_what_is_built_in(tmp_path: Path) -> None:
    shipped = load(str(SHIPPED))
    assert from_plain(shipped.rules) == default_rules()
    assert from_plain(load(root=str(tmp_path)).rules) == default_rules()
    assert shipped.written == load(root=str(tmp_path)).written
    assert not shipped.warnings


def test_every_key_becomes_a_rule(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "c.toml", WHOLE))
    rules = from_plain(json.loads(json.dumps(loaded.rules)))
    assert rules.watch.interval_s == 1.0
    assert rules.kernel_log.source == "kmsg"
    guard = rules.guard
    assert guard.available_below == Mark(0.05, 400 << 20)
    assert guard.swap_free_below == Mark(None, 1 << 30)
    assert (guard.mode, guard.stalled_above, guard.victim, guard.budget) == (
        "enforce", None, "size", (2, 3600.0),
    )  # fmt: skip
    assert "postgresql*.service" in rules.protect.unit
    assert "ssh.service" in rules.protect.unit
    assert "docker.service" not in rules.protect.unit
    assert loaded.removed == {"protect.unit docker.service": str(tmp_path / "c.toml")}
    assert rules.protect.user == (0, 4242)
    assert rules.prefer.unit == ("batch-*.service",)
    assert rules.avoid.name == ("redis-server",)
    big, shop = rules.policies
    assert shop.match == Match(unit=("shop-*.service",), min_resident=10 << 20)
    assert shop.when == When(leak="confirmed", exhausts_within_s=1800.0)
    assert (shop.per, shop.for_s, shop.mode, shop.cooldown_s, shop.budget) == (
        "unit", 120.0, "observe", 3600.0, (3, 86400.0),
    )  # fmt: skip
    assert big.per == "process"
    assert big.match.user == (0,)
    assert big.when == When(None, None, 1 << 30, float(1 << 20), True, 0.9, True)
    assert rules.notify == {"ops": Notifier(("/bin/true", "x"))}
    assert rules.run == {"dump": Hook(("/bin/true",), "root", 30.0, (1, 86400.0))}
    assert rules.store.max_bytes == 8 << 20
    assert loaded.origins["guard.mode"] == str(tmp_path / "c.toml")
    assert loaded.origins["protect.unit ssh.service"] == "built-in"


POLICY = """
[policies.p]
match = { name = "x" }
when = { leak = "confirmed" }
do = ["log"]
"""
BROKEN = [
    ('[watch]\ninterval = "10s\n', "line 2: not TOML: illegal character '\\n'"),
    ("[a]\n[a]\n", "line 2: not TOML: cannot declare [a] twice"),
    ("[a.'b.c)\\']\n[a.'b.c)\\']\n", "line 2: not TOML: cannot declare [a.b.c)\\] twice"),
    ("[watch\n", "line 1: not TOML: expected ']' at the end of a table declaration"),
    ("[watch", "line 1: not TOML: expected ']' at the end of a table declaration"),
    ('[wacth]\ninterval = "10s"', 'wacth: unknown key (did you mean "watch"?)'),
    ('[watch]\nintervall = "10s"', 'watch.intervall: unknown key (did you mean "interval"?)'),
    ('[watch]\ninterval = "10 parsecs"',
     'watch.interval: expected a time such as "10s" or "2min", found "10 parsecs"'),
    ("[watch]\ninterval = 10",
     'watch.interval: expected a time such as "10s" or "2min", found 10'),
    ('[watch]\ninterval = "1ms"',
     'watch.interval: expected a time from 100 ms to 1 h, found "1ms"'),
    ("watch = 5", "watch: expected a table, found 5"),
    ("policies = []", "policies: expected a table, found []"),
    ("policies.p = 1", "policies.p: expected a table, found 1"),
    ('[guard]\nmode = "enforced"',
     'guard.mode: expected "off", "observe" or "enforce", found "enforced" '
     '(did you mean "enforce"?)'),
    ('[guard]\navailable_below = "95%"',
     'guard.available_below: expected a share above 0% and up to 50 %, found "95%"'),
    ('[guard]\nrevive = "yes"', 'guard.revive: expected true or false, found "yes"'),
    ('[protect]\nunits = ["x"]', 'protect.units: unknown key (did you mean "unit"?)'),
    ('[protect]\nuser = ["rooot"]',
     'protect.user: no such user: "rooot" (did you mean "root"?)'),
    ('[avoid]\nname_unverified = ["x"]', "avoid.name_unverified: unknown key"),
    ("[policies.p]\n", [
        'policies.p.match: missing; expected whom it is about, such as '
        '{ unit = "shop-*.service" }',
        'policies.p.when: missing; expected a condition, such as { leak = "confirmed" }',
        'policies.p.do: missing; expected what to do, such as ["log"]',
    ]),
    ('[policies."a b"]\n', "policies.a b: expected a name of letters, figures, and _ . - "
     "(64 at the most)"),
    (POLICY.replace("match", "mtach"), 'policies.p.mtach: unknown key (did you mean "match"?)'),
    (POLICY.replace("name =", "nmae ="), 'policies.p.match.nmae: unknown key '
     '(did you mean "name"?)'),
    (POLICY + 'for = "2m"', 'policies.p.for: expected a time such as "10s" or "2min", found "2m" '
     '("m" is ambiguous: write "min")'),
    (POLICY + 'four = "2min"', 'policies.p.four: unknown key (did you mean "for"?)'),
    (POLICY.replace('["log"]', '["log", "notify:opps"]') + '[notify.ops]\nargv=["/bin/true"]',
     'policies.p.do: no notifier "opps": there is no [notify.opps] (did you mean "ops"?)'),
    (POLICY.replace("log", "run:x"), 'policies.p.do: no run hook "x": there is no [run.x]'),
    (POLICY.replace('["log"]', '["kill", "terminate"]'),
     "policies.p.do: expected at most one of terminate, kill, kill-unit, restart-unit, found kill "
     "and terminate"),
    (POLICY + 'per = "unit"',
     'policies.p.match.name: a unit has none; with per = "unit" a match may hold unit, cgroup, '
     "container, min_age, min_resident"),
    (POLICY.replace('leak = "confirmed"', "oom_kill = true") + 'for = "1min"',
     "policies.p.for: with oom_kill expected less than 1 min: so long it holds"),
    (POLICY.replace('name = "x"', 'cmdline = "~(a+)+"'),
     'policies.p.match.cmdline: "~(a+)+": a repeat around a repeat or a choice can take for ever; '
     "write it without"),
    (POLICY.replace('name = "x"', 'cmdline = "~(?x) a # ) ("'),
     'policies.p.match.cmdline: "~(?x) a # ) (": the flag x (blanks and comments) is not taken '
     "here; write it without"),
    (POLICY.replace('["log"]', '["throttle"]') + 'cooldown = "0s"',
     "policies.p.cooldown: with throttle expected 1 s or more: so long the limit holds"),
    (POLICY.replace('["log"]', '["throttle", "kill"]') + 'cooldown = "59s"',
     "policies.p.cooldown: with kill behind throttle expected 1 min or more: after that the limit "
     "can be called of no use"),
    (POLICY.replace('leak = "confirmed"', 'limit_above = "100%"'),
     "policies.p.when.limit_above: expected less than 100%: nobody holds more than its limit"),
    (POLICY.replace('name = "x"', 'user = "4294967296"'),
     'policies.p.match.user: no such user: "4294967296"'),
    (POLICY.replace("policies.p]", "policies.guard]"),
     "policies.guard: the guard has a table of its own, [guard]; a policy needs another name"),
    (POLICY.replace('name = "x"', 'user = "rooot"'),
     'policies.p.match.user: no such user: "rooot" (did you mean "root"?)'),
    ("[notify.ops]\n", "notify.ops: expected exactly one of url, url_credential, argv, found none"),
    ('[notify.ops]\nurl = "x://y"\nargv = ["/bin/true"]',
     "notify.ops: expected exactly one of url, url_credential, argv, found argv and url"),
    ('[notify.ops]\nargv = ["page"]',
     'notify.ops.argv: expected an absolute path first, found "page"'),
    ('[run.x]\nuser = "root"', 'run.x.argv: missing; expected ["/path/of/program", ...]'),
    ('[run.x]\nargv = ["/etc"]', "run.x.argv: not a program: /etc is a folder"),
    ('[run.x]\nargv = ["/nowhere/x"]', "run.x.argv: no such program: /nowhere/x"),
    ('[run.x]\nargv = ["/etc/passwd"]', "run.x.argv: /etc/passwd cannot be executed"),
    ('[run.x]\nargv = ["/bin/true"]\nuser = "rooot"',
     'run.x.user: no such user: "rooot" (did you mean "root"?)'),
    ('[store]\nsize = "5"', 'store.size: expected a size such as "400MiB", found "5"'),
    ('[store]\nsize = "5K"', 'store.size: expected a size from 1.0 MiB to 1.0 TiB, found "5K"'),
    (b"\x7fELF\x01\x00\x00", "a binary file, not TOML"),
    (b"a = 1\nb = '\xff'", "line 2: not UTF-8 text (byte 0xff)"),
    ("a = " + "9" * 5000, "a number of thousands of figures"),
    ("a = " + "[" * 9000, "nested too deep"),
    (b"#" * (1 << 20) + b"##", "larger than 1 MiB: not a configuration"),
    ('"\\u001b[2J" = 1', r"\x1b[2J: unknown key"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), BROKEN)
def test_a_broken_file_is_one_line_a_problem(
    tmp_path: Path, text: str | bytes, said: str | list[str]
) -> None:
    path = write(tmp_path / "c.toml", text)
    expected = [said] if isinstance(said, str) else said
    assert refused(path) == [f"{path}: {line}" for line in expected]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert refused(str(tmp_path / "none")) == [
        f"{tmp_path}/none: cannot be read: no such file or directory"
    ]
    assert refused(str(tmp_path)) == [f"{tmp_path}: cannot be read: is a directory"]
    large = write(tmp_path / "large.toml", "#" * ((1 << 20) + 1))
    assert refused(large)[0].endswith("larger than 1 MiB: not a configuration")


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(b'[watch]\ninterval = "1s"'))
    monkeypatch.setattr("sys.stdin", stream)
    assert from_plain(load("-").rules).watch.interval_s == 1.0
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"x = [")))
    assert refused("-")[0].startswith("standard input: line 1: not TOML")


# ---- several files ------------------------------------------------------------------------------


def test_drop_ins_are_sorted_by_name_and_masked_by_folder(tmp_path: Path) -> None:
    write(tmp_path / "etc/oom-watchdog/config.toml", '[watch]\ninterval = "1s"\n' + POLICY)
    for base, name, seconds in (
        ("usr/lib", "10-a", 2), ("run", "10-a", 3), ("run", "20-b", 4), ("etc", "20-b", 5),
        ("usr/lib", "30-c", 6), ("etc", "05-z", 7),
    ):  # fmt: skip
        text = f'[watch]\ninterval = "{seconds}s"\n[prefer]\nunit = "{base}/{name}"\n'
        write(tmp_path / base / "oom-watchdog/config.d" / f"{name}.toml", text)
    write(tmp_path / "etc/oom-watchdog/config.d/40-p.toml", '[policies.p]\nmode = "enforce"')
    write(tmp_path / "etc/oom-watchdog/config.d/99-no.conf", "rubbish")
    (tmp_path / "etc/oom-watchdog/config.d/30-c.toml").symlink_to("/dev/null")
    loaded = load(root=str(tmp_path))
    rules = from_plain(loaded.rules)
    assert rules.watch.interval_s == 5.0
    assert rules.prefer.unit == ("etc/05-z", "run/10-a", "etc/20-b")
    assert rules.policies[0].mode == "enforce"
    folder = f"{tmp_path}/etc/oom-watchdog"
    assert loaded.origins["policies.p.mode"] == f"{folder}/config.d/40-p.toml"
    assert loaded.origins["policies.p.do"] == f"{folder}/config.toml"


def test_one_named_file_is_read_alone(tmp_path: Path) -> None:
    write(tmp_path / "etc/oom-watchdog/config.toml", '[watch]\ninterval = "1s"\n')
    other = write(tmp_path / "mine.toml", "")
    assert from_plain(load(other, root=str(tmp_path)).rules) == default_rules()


def test_each_problem_names_the_file_that_has_it(tmp_path: Path) -> None:
    one = write(tmp_path / "etc/oom-watchdog/config.toml", "[wacth]\n")
    two = write(tmp_path / "etc/oom-watchdog/config.d/a.toml", '[guard]\nkill = "all"')
    lines = refused(None, root=str(tmp_path))
    assert [line.partition(": ")[0] for line in lines] == [one, two]
    # what only both together make wrong: the file that said it last
    write(tmp_path / "etc/oom-watchdog/config.toml", POLICY.replace("log", "run:x"))
    write(tmp_path / "etc/oom-watchdog/config.d/a.toml", '[policies.p]\nmode = "enforce"')
    assert refused(None, root=str(tmp_path))[0].startswith(f"{one}: policies.p.do: ")
    write(tmp_path / "etc/oom-watchdog/config.toml", POLICY)
    write(tmp_path / "etc/oom-watchdog/config.d/a.toml", '[policies.q]\nmode = "enforce"')
    assert refused(None, root=str(tmp_path))[0].startswith(f"{two}: policies.q.match: ")


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "etc/oom-watchdog/config.d"
    folder.mkdir(parents=True)
    real = os.listdir

    def listdir(path: str) -> list[str]:
        if path == str(folder):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert refused(None, root=str(tmp_path)) == [f"{folder}: cannot be read: permission denied"]


def test_warnings(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c.toml",
        """
[protect]
name_unverified = ["foo"]
[unprotect]
unit = ["dbus.servce"]
[notify.a]
url = "mailto://x"
[notify.b]
url_credential = "page"
""",
    )
    assert load(path).warnings == [
        f'{path}: protect.name_unverified: anybody can take the name "foo", and is protected then',
        f"{path}: notify.a.url: everybody can read this file; if the URL holds a password, "
        "chmod 640 it or use url_credential",
        f'{path}: unprotect.unit: nothing to take away: no entry "dbus.servce" '
        '(did you mean "dbus.service"?)',
    ]


@pytest.mark.parametrize(
    ("match", "do", "warned"),
    [
        ('min_age = "5s"', "kill", True),
        ('name = "*"', "terminate", True),
        ('exe = ["/x", "/*"]', "terminate", True),
        ('cmdline = "~^.*$", min_age = "1min"', "kill", True),
        ('unit = "*"', "restart-unit", True),
        ('unit = "*", name = "x"', "kill-unit", False),
        ('container = "*"', "kill", False),
        ('min_resident = "1GiB"', "kill", False),
        ('unit = "*.service"', "restart-unit", False),
        ('name = "*"', "log", False),
    ],
)
def test_a_policy_that_may_end_everybody_is_warned_about(
    tmp_path: Path, match: str, do: str, warned: bool
) -> None:
    text = POLICY.replace('name = "x"', match).replace("log", do)
    assert load(write(tmp_path / "c.toml", text)).warnings == []  # in observe nobody is ended
    path = write(tmp_path / "c.toml", text + 'mode = "enforce"\n')
    whose = "unit" if match.startswith("unit") else "process"
    said = (
        f'{path}: policies.p.match: leaves nobody out: with mode = "enforce" {do} is done to any '
        f"{whose} that meets its when, but for the protected"
    )
    assert load(path).warnings == ([said] if warned else [])


def test_a_regex_that_sees_little_is_warned_about(tmp_path: Path) -> None:
    path = write(tmp_path / "c.toml", POLICY.replace('name = "x"', 'cmdline = "~a.*b.*c"'))
    (said,) = load(path).warnings
    assert said.startswith(f'{path}: policies.p.match.cmdline: "~a.*b.*c" sees the first 286 ')
    path = write(tmp_path / "c.toml", POLICY.replace('name = "x"', 'cmdline = ["~^a.*b.*c", "*"]'))
    assert load(path).warnings == []


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xef\xbb\xbf" + POLICY.encode())
    assert load(str(path)).rules["policies"]
    path = write(tmp_path / "c.toml", POLICY.replace('name = "x"', "cmdline = '~a.*b.*c$'"))
    assert "asks for the end: it matches no longer one" in load(path).warnings[0]


def test_what_a_url_notifier_lacks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "c.toml", '[notify.a]\nurl = "mailto://x"')
    Path(path).chmod(0o640)
    assert load(path).warnings == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert load(path).warnings == [
        f"{path}: notify.a: needs apprise, which is not installed (Debian: apt install apprise)"
    ]


@pytest.mark.parametrize("text", [
    '[notify]\nops = "mailto://u:sesame@h"',
    '[notify.ops]\nurl = ["mailto://u:sesame@h"]',
    '[notify.ops]\nurl = "sesame@h"',
    '[notify.ops]\nurl_credential = "mailto://u:sesame@h"',
    '[notify.ops.url]\nwas = "mailto://u:sesame@h"',
])  # fmt: skip
def test_a_wrong_notifier_is_refused_without_its_secret(tmp_path: Path, text: str) -> None:
    lines = refused(write(tmp_path / "c.toml", text))
    assert lines
    assert "sesame" not in "".join(lines)


# ---- who may write it --------------------------------------------------------------------------


def test_what_others_can_write_is_refused_for_root_and_warned_about_where_it_is_named(
    tmp_path: Path,
) -> None:
    path = Path(write(tmp_path / "etc/oom-watchdog/config.toml", ""))
    path.chmod(0o666)
    said = f"{path}: it can be written by others (mode 666)"
    owner = os.geteuid()
    if owner == 0:
        assert refused(None, root=str(tmp_path), euid=0) == [f"{said}; root does not read it"]
    assert load(None, str(tmp_path), euid=4242).rules
    assert load(str(path), str(tmp_path), euid=owner).warnings == [said]
    path.chmod(0o644)
    path.parent.chmod(0o777)
    found = load(str(path), str(tmp_path), euid=owner).warnings
    assert found == [f"{path}: {path.parent} can be written by others (mode 777)"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_belongs_to_others_is_refused_for_root(tmp_path: Path) -> None:
    path = write(tmp_path / "etc/oom-watchdog/config.toml", "")
    os.chown(path, 4242, -1)
    assert refused(None, root=str(tmp_path), euid=0) == [
        f"{path}: it belongs to uid 4242; root does not read it"
    ]


def test_a_hook_of_root_must_be_nobody_elses(tmp_path: Path) -> None:
    program = Path(write(tmp_path / "hook", "#!/bin/sh\n"))
    program.chmod(0o777)
    for section in ("run.x", "notify.x"):
        path = write(tmp_path / "c.toml", f'[{section}]\nargv = ["{program}"]')
        # an ordinary user may run what he likes as himself
        assert load(path, euid=4242).rules
        assert f"{program} is not for root alone to change: it " in refused(path, euid=0)[0]
    program.chmod(0o755)
    if str(tmp_path).startswith("/tmp/") and os.geteuid() == 0:  # anybody may make files there
        assert refused(path, euid=0)[0].endswith("/tmp can be written by others (mode 1777)")
    assert loader._program_flaw(0)("/bin/true") is None
    assert loader._flaw("/nowhere/at/all", {0}) == "/nowhere/at/all: no such file or directory"


def test_a_pipe_belongs_to_who_opened_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o666)
    assert loader._file_flaw(str(tmp_path / "pipe"), "/", 0) is None


def test_a_fifo_that_nobody_writes_is_waited_for_by_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "etc/oom-watchdog/config.d"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "a.toml", 0o600)
    said = f'{folder}/a.toml: not a plain file ("-" is standard input)'
    assert refused(None, root=str(tmp_path)) == [said]
    assert refused(str(folder / "a.toml")) == [said]
    assert refused(str(tmp_path)) == [f"{tmp_path}: cannot be read: is a directory"]
    assert load("/dev/null").rules


def test_a_pipe_that_was_handed_over_is_read_to_its_end() -> None:
    read, write_end = os.pipe()
    with os.fdopen(write_end, "w") as file:
        file.write('[watch]\ninterval = "7s"\n')
    assert load(f"/dev/fd/{read}").rules["watch"]["interval_s"] == 7.0
    os.close(read)


# ---- the program -------------------------------------------------------------------------------


def test_main(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write(tmp_path / "c.toml", "")
    assert loader.main(["--config", good, "--root", str(tmp_path)]) == 0
    out = json.loads(capsys.readouterr().out)
    assert set(out) == {"rules", "origins", "warnings", "removed", "written"}
    assert loader.main(["--config", write(tmp_path / "bad.toml", "[x]")]) == 78
    caught = capsys.readouterr()
    assert (caught.out, caught.err) == ("", f"{tmp_path}/bad.toml: x: unknown key\n")
    assert loader.main(["--what"]) == 2
    assert loader.main(["--config"]) == 2


def test_as_a_program(tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.toml", '[watch]\ninterval = "1m"')
    root = str(Path(__file__).parents[1])
    code = (
        f"import runpy, sys; sys.path.insert(0, {root!r});"
        "runpy.run_module('watchdog.policy.load', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code, "--config", bad],
                          capture_output=True, text=True, cwd="/", check=False)  # fmt: skip
    assert done.returncode == 78
    assert done.stdout == ""
    assert done.stderr == (
        f'{bad}: watch.interval: expected a time such as "10s" or "2min", found "1m" '
        '("m" is ambiguous: write "min")\n'
    )


def test_without_pydantic_it_says_what_is_missing() -> None:
    """-S: an interpreter that knows no site-packages."""
    launch = Path(watchdog.__file__).with_name("launch.py")
    argv = [sys.executable, "-I", "-S", str(launch), "watchdog.policy.load"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 78 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "needs pydantic 2 (apt install python3-pydantic" in line

"""What the package is made of: units, pages, completions, examples, and that they fit together."""

import importlib.util
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import watchdog
from watchdog.cli import check
from watchdog.cli.main import COMMANDS, available
from watchdog.policy.load import load
from watchdog.store.file import MIGRATIONS
from watchdog.tell import catalog

TOP = Path(__file__).parents[1]
UNITS = sorted(
    path
    for path in (TOP / "systemd").rglob("*")
    if path.suffix in {".service", ".slice", ".path", ".conf"}
)
EXAMPLES = sorted((TOP / "config" / "examples").glob("*.toml"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    maker().main(str(folder))
    return folder


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pages", TOP / "docs" / "man" / "make.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- configurations ------------------------------------------------------------------------


def test_there_is_an_example_for_each_kind_of_host() -> None:
    assert [path.stem for path in EXAMPLES] == [
        "ci-host", "container-host", "database-host", "small-server",
    ]  # fmt: skip


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid_and_kill_nobody(path: Path, tmp_path: Path) -> None:
    """Beside the shipped file, as a drop-in, which is how they are meant to be used."""
    folder = tmp_path / "etc" / "oom-watchdog" / "config.d"
    folder.mkdir(parents=True)
    shutil.copy(TOP / "config" / "config.toml", folder.parent)
    shutil.copy(path, folder)
    loaded = load(None, str(tmp_path))
    assert loaded.warnings == []
    rules = loaded.rules
    assert rules["guard"]["mode"] == "observe"
    assert {policy["mode"] for policy in rules["policies"]} <= {"observe"}
    assert set(tomllib.loads(path.read_text())["policies"]) == {
        policy["name"] for policy in rules["policies"]
    }
    assert check.main([str(path)]) == 0


# ---- units ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_each_directive_has_its_reason_above_it(path: Path) -> None:
    before = ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if re.match(r"[A-Za-z]+=", line):
            assert before.startswith("#"), f"{path.name}:{number}: {line}"
        before = line


def test_the_units_options_are_those_of_the_design() -> None:
    text = (TOP / "systemd" / "oom-watchdog.service").read_text()
    for line in (
        "Type=notify", "WatchdogSec=60", "Restart=always", "RestartPreventExitStatus=78",
        "OOMScoreAdjust=-950", "OOMPolicy=continue", "ManagedOOMPreference=omit",
        "Slice=oomwatchdog.slice", "StartLimitIntervalSec=0", "RestartSec=1", "LimitNOFILE=8192",
        "LimitCORE=0", "Nice=-20", "CPUWeight=1000", "MemorySwapMax=0", "DevicePolicy=closed",
        "DeviceAllow=/dev/kmsg r", "RestrictAddressFamilies=AF_UNIX",
    ):  # fmt: skip
        assert f"\n{line}\n" in text, line
    assert "process_mrelease" in text
    # what would take the eyes or the hands of the daemon away (docs of each in the unit)
    for word in ("ProtectKernelLogs=", "ProcSubset=", "PrivateUsers=", "ProtectProc="):
        assert f"\n{word}" not in text, word
    slice_text = (TOP / "systemd" / "oomwatchdog.slice").read_text()
    least = re.search(r"^MemoryMin=(.*)$", text, re.MULTILINE)
    assert least and f"\nMemoryMin={least[1]}\n" in slice_text


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_exposure() -> None:
    unit = str(TOP / "systemd" / "oom-watchdog.service")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = re.search(r"exposure level for \S+: (\d+\.\d)", done.stdout)
    if told is None:
        pytest.skip("systemd: too old for --offline")
    assert float(told[1]) <= 2.0


# ---- the package ---------------------------------------------------------------------------


def test_versions_are_the_same() -> None:
    first = (TOP / "debian" / "changelog").read_text().partition("\n")[0]
    assert first.startswith(f"oom-watchdog ({watchdog.__version__}) ")


def test_all_that_the_package_installs_is_there() -> None:
    for name in ("install", "docs", "examples"):
        for line in (TOP / "debian" / f"oom-watchdog.{name}").read_text().splitlines():
            source = line.split()[0]
            if not source.startswith("debian/made"):
                assert list(TOP.glob(source)), source
    assert (TOP / "debian" / "oom-watchdog.service").resolve() == (
        TOP / "systemd" / "oom-watchdog.service"
    )


@pytest.mark.parametrize(("ahead", "status"), [(0, 0), (1, 1)])
def test_an_older_package_leaves_a_newer_store_alone(
    ahead: int, status: int, tmp_path: Path
) -> None:
    import sqlite3

    store = tmp_path / "history.db"
    with sqlite3.connect(store) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + ahead}")
        db.execute("CREATE TABLE t (x)")
    db.close()
    script = (TOP / "debian" / "oom-watchdog.preinst").read_text()
    script = script.replace("#SCHEMA#", str(len(MIGRATIONS)))
    script = script.replace("/var/lib/oom-watchdog/history.db", str(store))
    done = subprocess.run(
        ["sh", "-s", "upgrade", "0.1.0"], input=script, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    if status:
        assert done.stderr == (
            f"oom-watchdog: {store} has schema {len(MIGRATIONS) + 1}, and this package knows none"
            f" newer than {len(MIGRATIONS)}: keep the newer package, or move the file away first.\n"
        )


# ---- pages ---------------------------------------------------------------------------------


def test_pages_are_whole(made: Path) -> None:
    first = (made / "oom-watchdog.1").read_text()
    for name in available():
        assert f'.SS "{name}"' in first
        assert COMMANDS[name]
    toml = (made / "oom-watchdog.toml.5").read_text()
    for key in ("available_below", "exhausts_within", "cooldown", "url_credential"):
        assert key in toml
    events = (made / "oom-watchdog.events.7").read_text()
    for kind, (identity, _) in catalog.KINDS.items():
        assert f'.SS "{kind}"' in events
        assert f"MESSAGE_ID={identity}" in events
    assert "<!--" not in first + toml + events


def test_every_field_of_an_event_is_told(made: Path) -> None:
    """Each key of the schema stands in the page, and says what it means."""
    page = (made / "oom-watchdog.events.7").read_text()
    schema = json.loads((TOP / "docs" / "events.schema.json").read_text())
    make = maker()
    for kind in catalog.KINDS:
        for path, what in make.fields(schema, kind):
            assert f"\\fB{make.field_name(path)}\\fR" in page
            assert ": " in what, f"{kind}: {path} has no description in docs/events.schema.json"


@pytest.mark.skipif(not shutil.which("man"), reason="man is not installed")
@pytest.mark.parametrize("name", ["oom-watchdog.1", "oom-watchdog.toml.5", "oom-watchdog.events.7"])
def test_man_has_nothing_to_complain_of(name: str, made: Path) -> None:
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(made / name)],
        capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"},
    )  # fmt: skip
    assert done.stderr == ""


# ---- completions ---------------------------------------------------------------------------


def bash(made: Path, *typed: str) -> list[str]:
    """What bash offers for the last word."""
    script = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _oom_watchdog;'
        ' printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "-", str(made / "bash" / "oom-watchdog"), *typed],
        capture_output=True, text=True, check=True, cwd=TOP,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes(made: Path) -> None:
    assert set(available()) <= set(bash(made, "oom-watchdog", ""))
    assert bash(made, "oom-watchdog", "sta") == ["status"]
    assert bash(made, "oom-watchdog", "events", "--fo") == ["--follow"]
    assert bash(made, "oom-watchdog", "events", "--kind", "oom.k") == ["oom.kill"]
    assert bash(made, "oom-watchdog", "check", "--config", "pypro") == ["pyproject.toml"]
    assert bash(made, "oom-watchdog", "check", "pypro") == ["pyproject.toml"]
    assert bash(made, "oom-watchdog", "status", "--state", "conf") == ["config"]
    assert bash(made, "oom-watchdog", "events", "--since", "") == []
    for name in available():
        assert "--json" in bash(made, "oom-watchdog", name, "--j"), name


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
@pytest.mark.parametrize(
    ("typed", "becomes"),
    [
        ("oom-watchdog repl", "oom-watchdog replay "),
        ("oom-watchdog events --fol", "oom-watchdog events --follow "),
        ("oom-watchdog events --kind oom.k", "oom-watchdog events --kind oom.kill "),
    ],
)
def test_zsh_completes(made: Path, typed: str, becomes: str) -> None:
    """A real zsh on a terminal of its own, with the key that everybody presses."""
    pid, terminal = pty.fork()
    if pid == 0:
        env = {"PATH": "/usr/bin:/bin", "TERM": "dumb", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
        os.execve(shutil.which("zsh") or "", ["zsh", "-f", "-i"], env)
    said = b""

    def until(mark: bytes) -> None:
        nonlocal said
        end = time.monotonic() + 30
        while mark not in said and time.monotonic() < end:
            if select.select([terminal], [], [], 0.5)[0]:
                said += os.read(terminal, 4096)
        assert mark in said, (mark, said)
        said = said[said.index(mark) + len(mark) :]

    try:
        for line in (
            f"fpath=({made} $fpath); autoload -Uz compinit; compinit -u -D",
            "show() { print -r -- \"<$BUFFER>\" }; zle -N show; bindkey '^X' show",
            "print READ''Y",
        ):
            os.write(terminal, line.encode() + b"\n")
        until(b"READY")
        os.write(terminal, typed.encode() + b"\t\x18")
        until(f"<{becomes}>".encode())
    finally:
        os.kill(pid, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(pid, 0)


def test_the_maker_is_a_program(tmp_path: Path) -> None:
    argv = [sys.executable, "-I", str(TOP / "docs" / "man" / "make.py"), str(tmp_path / "x")]
    subprocess.run(argv, check=True, cwd="/")
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == [
        "_oom-watchdog", "bash", "oom-watchdog.1", "oom-watchdog.events.7", "oom-watchdog.toml.5",
    ]  # fmt: skip


# ---- the page of faults --------------------------------------------------------------------


def test_the_page_of_faults_keeps_what_the_other_release_has_shown() -> None:
    place = TOP / "tests" / "vm" / "faults_page.py"
    spec = importlib.util.spec_from_file_location("faults_page", place)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    empty = f"# When\n\n{module.BEGIN}\n{module.END}\n\nafter\n"
    head = "chatter | of | tests\nfault | promised | seen\n"
    one = module.page(empty, f"{head}a fault | holds | 3 of 3, a | b\n", "bookworm")
    both = module.page(one, f"{head}a fault | holds | 2 of 2\nnew | too | so\n", "trixie")
    assert one.splitlines()[5] == "| a fault | holds | 3 of 3, a \\| b | not run |"
    assert both.splitlines()[5:7] == [
        "| a fault | holds | 3 of 3, a \\| b | 2 of 2 |",
        "| new | too | not run | so |",
    ]
    assert both.endswith("\n\nafter\n")
    assert module.page(both, f"{head}new | too | again\n", "bookworm").count("a fault") == 0
    with pytest.raises(SystemExit):
        module.page(empty, "nothing ran\n", "trixie")

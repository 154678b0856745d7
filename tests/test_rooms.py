"""The house's import rule, read from the source; and what each process may load, by loading it."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
PACKAGE = TOP / "watchdog"

# A pure room may import the rooms before it.
PURE = (
    "guard_facts", "answers", "facts", "words", "measures", "procfs", "parts", "memory",
    "host_memory", "oom_report", "history", "judge", "policy", "trace", "engine", "overview",
)  # fmt: skip
EFFECT = ("sense", "store", "act", "tell", "child", "spawn")
GROUND = frozenset(
    {
        "guard_facts",
        "answers",
        "facts",
        "words",
        "measures",
        "procfs",
        "parts",
        "memory",
        "host_memory",
        "clock",
        "spawn",
        "child",
        "wire",
    }
)

IMPURE = frozenset({
    "os", "time", "signal", "open", "sqlite3", "psutil", "systemd", "subprocess", "socket",
    "select", "threading", "asyncio", "random", "pathlib", "logging", "dataclasses", "pydantic",
})  # fmt: skip
# Programs of their own; `shape` is a part of `load`.
PROGRAMS = frozenset({
    "policy/load.py", "policy/shape.py", "sense/claims.py", "sense/journal.py", "tell/send.py",
})  # fmt: skip
ONLY_IN = {
    "pydantic": {"policy/shape.py"},
    "systemd": {"sense/claims.py", "sense/journal.py"},
    "psutil": {"doctor/machine.py"},
    "sqlite3": {"store"},
    "orjson": {"cli/replay.py"},
    "subprocess": set[str](),
    "asyncio": set[str](),
    "logging": set[str](),
    "apprise": {"tell/send.py"},
}
NOT_IN_GUARD = (
    "sqlite3", "json", "psutil", "pydantic", "systemd", "argparse", "logging", "dataclasses",
)  # fmt: skip
NOT_IN_WATCHER = (
    "psutil",
    "subprocess",
    "socket",
    "pydantic",
    "argparse",
    "dataclasses",
    "logging",
    "hashlib",
    "asyncio",
)  # fmt: skip

FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def room_of(name: str) -> str:
    """The room of a file ("judge/leak.py") or a module ("watchdog.judge.leak")."""
    return name.removeprefix("watchdog.").replace(".py", "").replace("/", ".").split(".")[0]


# Every other file is the guard, the watcher, a command, or a part of one of these.
TOP_ROOMS = frozenset(map(room_of, FILES)) - {*PURE, *EFFECT, *GROUND, "__init__"}


def imports(file: str) -> set[str]:
    """Every module that a file imports, anywhere in it; of a type only used in hints too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / file).read_text(encoding="utf-8"), file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            assert node.module
            if node.module == "watchdog":
                found |= {f"watchdog.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return found


def ours(file: str) -> set[str]:
    """The rooms that a file imports; `watchdog.__version__` is no room."""
    rooms = {room_of(name) for name in imports(file) if name.split(".")[0] == "watchdog"}
    return rooms - {"watchdog", "__version__"}


@pytest.mark.parametrize("file", FILES)
def test_rooms_import_only_what_they_may(file: str) -> None:
    room = room_of(file)
    if file in PROGRAMS or room in TOP_ROOMS or room == "__init__":
        return
    if room in PURE:
        allowed = set(PURE[: PURE.index(room) + 1])
    elif room in EFFECT:
        allowed = GROUND | {room}
    else:
        allowed = set(GROUND)
    assert ours(file) <= allowed, f"{file} imports {sorted(ours(file) - allowed)}"


@pytest.mark.parametrize("file", FILES)
def test_nothing_imports_the_processes(file: str) -> None:
    if room_of(file) not in TOP_ROOMS:
        assert not ours(file) & TOP_ROOMS


@pytest.mark.parametrize("file", [file for file in FILES if room_of(file) in PURE])
def test_pure_rooms_touch_nothing(file: str) -> None:
    if file in PROGRAMS:
        return
    roots = {name.split(".")[0] for name in imports(file)}
    assert not roots & IMPURE
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"open", "print", "input", "exec", "eval", "__import__"}


@pytest.mark.parametrize("module", ONLY_IN)
def test_heavy_modules_have_one_home(module: str) -> None:
    homes = {file for file in FILES if module in {name.split(".")[0] for name in imports(file)}}
    homes = {file for file in homes if room_of(file) not in {"cli"}}
    assert all(file in ONLY_IN[module] or room_of(file) in ONLY_IN[module] for file in homes), homes


def loaded_by(module: str) -> set[str]:
    """What is in sys.modules after importing one of ours in a fresh interpreter."""
    code = f"import sys, {module}; print('\\n'.join(sys.modules))"
    argv = [sys.executable, "-I", "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd="/")
    return set(done.stdout.split())


def test_the_guard_loads_nothing_heavy() -> None:
    loaded = loaded_by("watchdog.guard")
    assert sorted(loaded & set(NOT_IN_GUARD)) == []
    # Of both it needs a part, which stands in a file of its own.
    assert not loaded & {"watchdog.facts", "watchdog.answers", "watchdog.child"}


def test_the_watcher_loads_nothing_heavy() -> None:
    loaded = loaded_by("watchdog.watcher")
    assert sorted(loaded & set(NOT_IN_WATCHER)) == []
    reports = {name for name in loaded if name.startswith("watchdog.oom_report.")}
    assert reports == {"watchdog.oom_report.stream"}  # the rest comes with the first report


@pytest.mark.parametrize("process", ["watcher.py", "guard/loop.py"])
def test_the_processes_need_nothing_of_site_packages(process: str) -> None:
    """They are started without: see `spawn.ours`. A late import, too, would find nothing there."""
    found, new = set[str](), {process}
    while new:
        found |= new
        named = {name for file in new for name in imports(file)}
        own = {name for name in named if name.split(".")[0] == "watchdog"}
        roots = {name.split(".")[0] for name in named - own}
        assert roots <= sys.stdlib_module_names, roots - sys.stdlib_module_names
        paths = {name.removeprefix("watchdog.").replace(".", "/") for name in own}
        files = {f"{path}{end}" for path in paths for end in (".py", "/__init__.py")}
        new = files & {*FILES} - found
    assert "policy/guard_when.py" in found


def test_only_the_child_room_starts_programs_and_only_one_file_signals() -> None:
    starters, killers = set(), set()
    for file in FILES:
        for node in ast.walk(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                full = f"{node.value.id}.{node.attr}"
                if full in {"os.posix_spawn", "os.posix_spawnp", "os.fork", "os.forkpty"}:
                    starters.add(file)
                assert full not in {"os.system", "os.popen"}, file
                if full in {"os.kill", "os.killpg", "signal.pidfd_send_signal"}:
                    killers.add(file)
    assert starters == {"spawn.py"}
    # The children's room ends what it itself started.
    assert killers == {"act/kill.py", "child.py", "spawn.py"}


def test_what_we_start_is_ours_wherever_it_lies(tmp_path: Path) -> None:
    """In a private folder no interpreter knows us, and another `watchdog` may be where all look."""
    shutil.copytree(PACKAGE, tmp_path / "private" / "watchdog")
    (tmp_path / "others" / "watchdog").mkdir(parents=True)
    (tmp_path / "others" / "watchdog" / "__init__.py").write_text("raise SystemExit('foreign')")
    program = (
        f"import sys; sys.path[:] = [{str(tmp_path / 'private')!r}, {str(tmp_path / 'others')!r},"
        " *[part for part in sys.path if 'site-packages' not in part]];"
        "from watchdog.child import ours; print('\\n'.join(ours('watchdog.cli.main')))"
    )
    argv = [sys.executable, "-S", "-I", "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd="/")
    started = done.stdout.split("\n")[:-1]
    # -S: as on a machine whose Python has never heard of us
    argv = [started[0], "-S", *started[1:], "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.startswith("usage: oom-watchdog")


def test_names_that_would_shadow_others() -> None:
    """`systemd` and `tests` as packages would hide systemd-python and other projects' tests."""
    assert not list((TOP / "systemd").rglob("__init__.py"))
    assert not list((TOP / "tests").rglob("__init__.py"))


def test_this_is_the_watchdog_that_runs() -> None:
    """PyPI's distribution of that import name would hide ours without a word."""
    argv = [sys.executable, "-I", "-c", "import watchdog; print(watchdog.__file__)"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd="/")
    assert Path(done.stdout.strip()).parent == PACKAGE

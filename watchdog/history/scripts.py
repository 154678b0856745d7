"""Pure: what an interpreter runs, as its command line tells it.

python and java are whatever they were asked to run: without the script their lives belong to many
programs. The command line comes without the borders of its words; what is taken from it is the
same in each life, and that is enough. Sources: the manuals of the interpreters.
"""

from typing import NamedTuple

from watchdog.guard_facts import SHARED_UNITS

SCRIPT_MAX = 128  # characters; of a longer one its end, which tells more than its beginning
TITLE_MAX = 32
# How CPython starts the workers of a pool that are not forked: they are their parent's.
_WORKER = " -c from multiprocessing."


class _Options(NamedTuple):
    """Letters: with a value, with code as their value, that name what runs, with a rest."""

    values: str = ""
    code: str = ""
    names: str = ""
    rest: str = ""


_SHELL = _Options("oO", "c")
_PYTHON = _Options("WX", "c", "m")
_NODE = _Options("rC", "ep")
_JAVA = _Options()  # its options are words
# By the name of the executable, cut before its version.
_INTERPRETERS = {
    "python": _PYTHON, "pypy": _PYTHON, "perl": _Options("I", "eE", "", "MmilxFCdDV0"),
    "ruby": _Options("IrCE", "e", "", "KWxFTi0"), "php": _Options("cdztS", "rBRE", "fF"),
    "node": _NODE, "nodejs": _NODE, "java": _JAVA, "lua": _Options("l", "e"),
    "luajit": _Options("l", "e"), "tclsh": _Options(), "mono": _Options(), "dotnet": _Options(),
    "sh": _SHELL, "bash": _SHELL, "dash": _SHELL, "ksh": _SHELL, "zsh": _SHELL,
}  # fmt: skip
_NAMED = frozenset({"-jar", "-m", "--module"})  # java
_CLASSES = frozenset({"-cp", "-classpath", "--class-path"})
_WITH_VALUE = _CLASSES | {
    "-p", "--module-path", "--add-modules", "--add-opens", "--add-exports", "--add-reads",
    "--patch-module", "--upgrade-module-path", "--limit-modules", "--enable-native-access",
    "--check-hash-based-pycs", "--rcfile", "--init-file", "--require", "--import", "--loader",
    "--experimental-loader", "--conditions", "--depsfile", "--runtimeconfig",
}  # fmt: skip
_CODE = frozenset({"--eval", "--print"})


def vague(unit: str | None, name: str) -> bool:
    """Whether that names no program: a bare interpreter, and no unit of its own says which."""
    return not _own(unit) and _options(name) is not None and not parts(name)[1]


def program(unit: str | None, exe: str, script: str | None) -> str:
    """What is run, as lives are told apart. A unit of its own is one program already."""
    return exe if script is None or _own(unit) else f"{exe} {script}"


def parts(name: str) -> tuple[str, str]:
    """The executable of a program, and the script that it runs or ""."""
    at = name.find(" ")
    while at >= 0:
        if _options(name[:at]) is not None:
            return name[:at], name[at + 1 :]
        at = name.find(" ", at + 1)
    return name, ""


def script(
    exe: str | None, cmdline: str | None, before: str | None, parent: str | None
) -> str | None:
    """What runs in that executable; None where it is no interpreter, or nothing tells.

    `before` is what was known of this process, as long as it runs the same executable, and
    `parent` what its parent runs, if it is of the same. Who sets a title stays who it was.
    """
    options = _options(exe or "")
    words = (cmdline or "").split()
    if options is None:
        return None
    if not words:
        return before
    if _options(words[0].lstrip("-")) is None:
        return before or _title(" ".join(words))
    if options is _PYTHON and cmdline is not None and _WORKER in cmdline:
        return parent
    found = (_java if options is _JAVA else _script)(options, words[1:])
    return found[-SCRIPT_MAX:] if found else None


def _own(unit: str | None) -> bool:
    return bool(unit) and not (unit or "").startswith(SHARED_UNITS)


def _options(name: str) -> _Options | None:
    return _INTERPRETERS.get(name.rpartition("/")[2].rstrip("0123456789."))


def _title(text: str) -> str | None:
    """The beginning of a title, before the number of a worker or what it does just now."""
    text = text.lstrip("[(- ")[:TITLE_MAX]
    end = next((i for i, char in enumerate(text) if char in "0123456789[("), len(text))
    return text[:end].strip() if end > 2 else None


def _script(options: _Options, words: list[str]) -> str | None:
    rest = iter(words)
    for word in rest:
        if word == "--":
            return next(rest, None)
        if word in _CODE or word == "-":
            return None
        if word.startswith("--"):
            if word in _WITH_VALUE:
                next(rest, None)
            continue
        if not word.startswith("-"):
            if word.isdigit() or (options is _INTERPRETERS["dotnet"] and word == "exec"):
                continue
            return word
        for at, letter in enumerate(word[1:], 2):
            if letter in options.code:
                return None
            if letter in options.names:
                return f"-{letter} {word[at:] or next(rest, '')}"
            if letter in options.values and not word[at:]:
                next(rest, None)
            if letter in options.values + options.rest:
                break
    return None


def _java(_: _Options, words: list[str]) -> str | None:
    """The archive, module or class; where the line is cut before it, where its classes lie."""
    rest, classes = iter(words), None
    for word in rest:
        if word in _NAMED:
            return f"{word} {next(rest, '')}"
        if word in _WITH_VALUE:
            value = next(rest, None)
            classes = value[:SCRIPT_MAX] if value and word in _CLASSES else classes
        elif word.startswith("@"):
            classes = word
        elif not word.startswith("-"):
            return word
    return classes

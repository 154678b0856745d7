"""A program: read the configuration, validate it, print the rules as JSON.

    python -I -m watchdog.policy.load [--config FILE] [--root DIR]

It is started afresh at start and at reload alike, and then it is gone: pydantic costs more memory
than the daemon. Exit status 0 with {"rules", "origins", "warnings", "removed", "written"} on
standard output, or 78 with one line a problem on standard error: FILE: KEY: what was expected.
`--root DIR` reads DIR/etc/oom-watchdog and so on, for tests.
"""

import ast
import importlib.util
import json
import os
import pwd
import re
import stat
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from watchdog import words
from watchdog.policy import merge, quantity
from watchdog.policy.compose import compose
from watchdog.policy.rules import DEFAULTS, Rules, to_plain

try:
    from watchdog.policy.shape import validate
except ImportError as error:  # pydantic is not there, or version 1
    need = "it needs pydantic 2 (apt install python3-pydantic, or pip install 'pydantic>=2')"
    print(f"the configuration cannot be read: {error}; {need}", file=sys.stderr)
    sys.exit(78)

CONFIGURATION = 78
FILE_MAX = 1 << 20
UID_MAX = (1 << 32) - 2  # the one above means "nobody is meant" to the kernel
FOLDER = "oom-watchdog"
DROP_IN_FOLDERS = ("usr/lib", "run", "etc")  # the later masks the earlier
# what tomllib calls a table
_TUPLE = re.compile(r"""\((?:(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"),? ?)+\)""")
_WHERE = re.compile(r" \(at (?:line (\d+), column (\d+)|(end of document))\)$")


# ---- files ---------------------------------------------------------------------------------


class ConfigError(Exception):
    """The configuration is refused; ``lines`` say why, one a problem."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Loaded(NamedTuple):
    """What the program prints."""

    rules: dict[str, Any]
    origins: dict[str, str]
    warnings: list[str]
    removed: dict[str, str]
    written: dict[str, Any]


def load(config: str | None = None, root: str = "/", euid: int | None = None) -> Loaded:
    """Read, merge, validate. Raises ConfigError."""
    euid = os.geteuid() if euid is None else euid
    lines: list[str] = []
    warnings: list[str] = []
    files: list[tuple[str, Mapping[str, Any]]] = [(merge.BUILT_IN, DEFAULTS)]
    paths = [config] if config is not None else list(_system_files(root, lines))
    for path in paths:
        name = "standard input" if path == "-" else words.safe(path)
        flaw = None if path == "-" else _file_flaw(path, root, euid)
        if flaw and config is not None and not os.path.realpath(path).startswith("/etc/"):
            warnings.append(f"{name}: {flaw}")
        elif flaw and euid == 0:
            lines.append(f"{name}: {flaw}; root does not read it")
            continue
        try:
            raw = _read(path)
        except ValueError as error:
            lines.append(f"{name}: {error}")
            continue
        problems = validate(raw)[1]
        lines += [f"{name}: {key}: {what}" for key, what in problems]
        files.append((name, raw))
    if lines:
        raise ConfigError(lines)
    merged = merge.merge(files)
    values, problems = validate(merged.values)
    rules, more, cautions = compose(values, _uid, _program_flaw(euid), _user_flaw)
    for key, what in problems or more:
        lines.append(f"{_origin(merged.origins, key)}: {key}: {what}")
    if lines:
        raise ConfigError(lines)
    for key, what, entry in cautions:
        label = f"{key} {entry}" if f"{key} {entry}" in merged.origins else key
        warnings.append(f"{_origin(merged.origins, label)}: {key}: {what}")
    warnings += _of_notifiers(rules, merged.origins)
    for mute in rules.mutes:
        if mute.until < time.time():
            at = f"mute.{mute.name}.until"
            warnings.append(f"{_origin(merged.origins, at)}: {at}: is over; take the table out")
    for label, name in merged.unneeded.items():
        key, _, entry = label.partition(" ")
        there = values.get("protect", {}).get(key.partition(".")[2], ())
        hint = words.nearest(entry, there)
        warnings.append(f'{name}: un{key}: nothing to take away: no entry "{entry}"{hint}')
    return Loaded(to_plain(rules), merged.origins, warnings, merged.removed, merged.values)


def _of_notifiers(rules: Rules, origins: Mapping[str, str]) -> Iterator[str]:
    """What a notifier with a URL wants and has not."""
    urls = [name for name, one in rules.notify.items() if one.argv is None]
    if urls and importlib.util.find_spec("apprise") is None:
        yield (f"{_origin(origins, f'notify.{urls[0]}')}: notify.{urls[0]}: needs apprise, which "
               "is not installed (Debian: apt install apprise)")  # fmt: skip
    for name in urls:
        path = _origin(origins, f"notify.{name}.url")
        if rules.notify[name].url and os.path.isfile(path) and os.stat(path).st_mode & 0o004:
            yield (f"{path}: notify.{name}.url: everybody can read this file; if the URL holds a "
                   "password, chmod 640 it or use url_credential")  # fmt: skip


def _system_files(root: str, lines: list[str]) -> Iterator[str]:
    main = os.path.join(root, "etc", FOLDER, "config.toml")
    if os.path.lexists(main):
        yield main
    found: dict[str, str] = {}
    for base in DROP_IN_FOLDERS:
        folder = os.path.join(root, base, FOLDER, "config.d")
        try:
            names = os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            lines.append(f"{words.safe(folder)}: cannot be read: {_reason(error)}")
            continue
        found |= {name: os.path.join(folder, name) for name in names if name.endswith(".toml")}
    for name in sorted(found):
        # A link to /dev/null takes the file of that name in another folder out of the count.
        if os.path.realpath(found[name]) != "/dev/null":
            yield found[name]


def _read(path: str) -> dict[str, Any]:
    """The TOML in a file. Raises ValueError with what is wrong with it."""
    try:
        if path == "-":
            raw = sys.stdin.buffer.read(FILE_MAX + 1)
        else:
            with open(path, "rb", opener=_opened) as file:
                raw = file.read(FILE_MAX + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {_reason(error)}") from None
    if len(raw) > FILE_MAX:
        raise ValueError("larger than 1 MiB: not a configuration")
    raw = raw.removeprefix(b"\xef\xbb\xbf")  # a byte order mark, as some editors begin a file
    if b"\0" in raw:
        raise ValueError("a binary file, not TOML")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        at = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {at}: not UTF-8 text (byte 0x{raw[error.start]:02x})") from None
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        where = _WHERE.search(said)
        line = "" if where is None else f"line {where[1] or text.rstrip().count(chr(10)) + 1}: "
        said = _TUPLE.sub(_header, said[: where.start()] if where else said)
        raise ValueError(f"{line}not TOML: {words.safe(said[:1].lower() + said[1:])}") from None
    except ValueError:
        raise ValueError("a number of thousands of figures") from None


def _opened(path: str, flags: int) -> int:
    """Open it without waiting: a FIFO may never have a writer. Raises ValueError for what waits.

    A pipe that somebody handed us, as /dev/stdin, is read to its end, and /dev/null is empty.
    """
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
    mode = os.fstat(fd).st_mode
    plain = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
    if plain or os.readlink(f"/proc/self/fd/{fd}").startswith(("/dev/null", "pipe:")):
        os.set_blocking(fd, True)
        return fd
    os.close(fd)
    raise ValueError('not a plain file ("-" is standard input)')


def _header(found: re.Match[str]) -> str:
    return f"[{'.'.join(ast.literal_eval(found[0]))}]"


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _origin(origins: Mapping[str, str], key: str) -> str:
    """The file that said a key, or the table that it misses from."""
    while key and key not in origins:
        entries = [name for label, name in origins.items() if label.startswith(f"{key} ")]
        if entries:
            return entries[-1]
        key = key.rpartition(".")[0]
    return origins.get(key, merge.BUILT_IN)


# ---- who may write what root reads or runs ---------------------------------------------------


def _flaw(path: str, owners: set[int], stop: str = "/", sticky: bool = False) -> str | None:
    """Who else than `owners` could write the file, or a folder above it up to `stop`."""
    seen: set[str] = set()
    for place in (os.path.abspath(path), os.path.realpath(path)):
        while place not in seen:
            seen.add(place)
            try:
                found = os.stat(place)
            except OSError as error:
                return f"{words.safe(place)}: {_reason(error)}"
            whose = "it" if place == os.path.abspath(path) else f"{words.safe(place)}"
            if found.st_uid not in owners:
                return f"{whose} belongs to uid {found.st_uid}"
            safe = sticky and stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
            if found.st_mode & 0o022 and not safe:
                return f"{whose} can be written by others (mode {stat.S_IMODE(found.st_mode):o})"
            if place == stop or os.path.dirname(place) == os.path.realpath(stop) != "/":
                break
            place = os.path.dirname(place)
    return None


def _file_flaw(path: str, root: str, euid: int) -> str | None:
    """As `_flaw` for a configuration; one that is not there is told when it is read."""
    if not os.path.exists(path) or stat.S_ISFIFO(os.stat(path).st_mode):
        return None
    return _flaw(path, {0, euid}, root, sticky=True)


def _program_flaw(euid: int) -> Callable[[str], str | None]:
    """For argv[0]: must stand with its whole path, be there, and (for root) be nobody else's.

    Not even a sticky folder will do. The daemon asks the same again each time it runs one.
    """

    def flaw(path: str) -> str | None:
        if not path.startswith("/"):
            return f"expected an absolute path first, found {quantity.shown(path)}"
        if os.path.exists(path) and not os.path.isfile(path):
            what = "a folder" if os.path.isdir(path) else "no plain file"
            return f"not a program: {words.safe(path)} is {what}"
        if not os.path.isfile(path):
            return f"no such program: {words.safe(path)}"
        found = _flaw(path, {0}) if euid == 0 else None
        if found:
            return f"{words.safe(path)} is not for root alone to change: {found}"
        return None if os.access(path, os.X_OK) else f"{words.safe(path)} cannot be executed"

    return flaw


def _user_flaw(name: str) -> str | None:
    try:
        pwd.getpwnam(name)
    except (KeyError, ValueError):
        hint = words.nearest(name, (one.pw_name for one in pwd.getpwall()))
        return f"no such user: {quantity.shown(name)}{hint}"
    return None


def _uid(name: str) -> int | str:
    """The uid of a user by name or number, or what is wrong."""
    if name.isascii() and name.isdigit() and len(name) < 11 and int(name) <= UID_MAX:
        return int(name)
    return _user_flaw(name) or pwd.getpwnam(name).pw_uid


def main(argv: list[str]) -> int:
    """The program; its exit status."""
    config, root = None, "/"
    rest = list(argv)
    while rest:
        option = rest.pop(0)
        if option not in ("--config", "--root") or not rest:
            print(f"load: unexpected {words.safe(option)}", file=sys.stderr)
            return 2
        config, root = (rest.pop(0), root) if option == "--config" else (config, rest.pop(0))
    try:
        loaded = load(config, root)
    except ConfigError as error:
        print("\n".join(error.lines), file=sys.stderr)
        return CONFIGURATION
    json.dump(loaded._asdict(), sys.stdout, default=str)  # a date of TOML
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

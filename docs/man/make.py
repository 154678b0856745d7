"""Make the manual pages and the completions of bash and zsh: make.py FOLDER.

One source for each thing: commands and options come from the commands' own --help, keys of the
configuration from docs/configuration.md, events from docs/events.schema.json and the catalog; the
rest stands in the .md files beside this one. Needs nothing but Python.
"""

import contextlib
import datetime
import importlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path.insert(0, str(TOP))

from watchdog import __version__  # noqa: E402
from watchdog.cli.main import COMMANDS, available  # noqa: E402
from watchdog.tell import catalog  # noqa: E402

# Told of once, for all events.
COMMON = frozenset({
    "event", "id", "cause", "t", "up", "boot_id", "host", "because",
    "pid", "start", "comm", "exe", "uid", "unit", "inner", "container",
})  # fmt: skip
PAGES = {"oom-watchdog": 1, "oom-watchdog.toml": 5, "oom-watchdog.events": 7}
_OPTION = re.compile(r"  (-\S+(?:, -\S+)*(?: [A-Z…]+)?|[A-Z]+)(?:  +(.*))?")


class Option(NamedTuple):
    """One option as --help tells it; `value` is the name of what follows it, or ""."""

    names: tuple[str, ...]
    value: str
    text: str


class Command(NamedTuple):
    name: str
    usage: str
    text: str
    options: list[Option]
    example: str


# ---- the commands --------------------------------------------------------------------------


def commands() -> list[Command]:
    return [command(name) for name in available()]


def command(name: str) -> Command:
    said = io.StringIO()
    module = importlib.import_module(f"watchdog.cli.{name}")
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        module.main(["--help"])
    return read_help(name, said.getvalue())


def read_help(name: str, said: str) -> Command:
    """What argparse printed, in its parts."""
    head, _, rest = said.partition("\n\n")
    usage = " ".join(head.removeprefix("usage: ").split())
    text: list[str] = []
    options: list[Option] = []
    example = ""
    for block in rest.split("\n\n"):
        lines = block.strip("\n").splitlines()
        if not lines:
            continue
        if re.fullmatch(r"(positional arguments|options|[a-z ]+):", lines[0]):
            options += read_options(lines[1:])
        elif lines[0].startswith("example: "):
            example = lines[0].removeprefix("example: ")
        else:
            text.append(" ".join(" ".join(lines).split()))
    return Command(name, usage, "\n\n".join(text), options, example)


def read_options(lines: list[str]) -> list[Option]:
    found: list[Option] = []
    for line in lines:
        fit = _OPTION.fullmatch(line)
        if fit:
            *names, last = fit[1].split(", ")
            word, _, value = last.partition(" ")
            found.append(Option((*names, word), value, (fit[2] or "").strip()))
        elif found:
            more = f"{found[-1].text} {line.strip()}".strip()
            found[-1] = found[-1]._replace(text=more)
    return found


def command_pages() -> Iterator[str]:
    for one in commands():
        yield f"## {one.name}"
        yield f"`{one.usage}`\n\n{one.text}"
        rows = [
            f"| `{', '.join(option.names)}`{f' *{option.value}*' if option.value else ''} "
            f"| {option.text} |"
            for option in one.options
            if option.names[0] not in ("-h", "--config", "--state", "--json")
        ]
        if rows:
            yield "\n".join(["| | |", "|---|---|", *rows])
        if one.example:
            yield f"Example: `{one.example}`"


# ---- the events ----------------------------------------------------------------------------


def event_pages() -> Iterator[str]:
    schema = json.loads((TOP / "docs" / "events.schema.json").read_text(encoding="utf-8"))
    subjects = catalog_texts()
    for name, kind in catalog.KINDS.items():
        text = subjects.get(kind.message_id, "")
        yield f"## {name}"
        yield f"{text}\n\nMESSAGE_ID={kind.message_id}, PRIORITY={kind.priority}."
        rows = [f"| `{field_name(path)}` | {what} |" for path, what in fields(schema, name)]
        if rows:
            yield "\n".join(["| | |", "|---|---|", *rows])


def catalog_texts() -> dict[str, str]:
    """MESSAGE_ID -> the first paragraph of the catalog's entry."""
    found = {}
    text = (TOP / "systemd" / "oom-watchdog.catalog").read_text(encoding="utf-8")
    for entry in re.split(r"^-- ", text, flags=re.MULTILINE)[1:]:
        identity, _, rest = entry.partition("\n")
        body = rest.partition("\n\n")[2]
        found[identity] = " ".join(body.partition("\n\n")[0].split())
    return found


def field_name(path: str) -> str:
    return "OOM_WATCHDOG_" + path.upper().replace(".", "_")


def fields(schema: Mapping[str, Any], kind: str) -> list[tuple[str, str]]:
    """(path, type and meaning) of what an event of this kind holds beyond what all hold."""
    found: dict[str, str] = {}
    for rule in schema["allOf"]:
        if "if" in rule and kind in kinds_of(rule["if"]["properties"]["event"]):
            walk(schema, rule["then"], "", found)
    return [(path, what) for path, what in found.items() if "." not in path or what]


def kinds_of(test: Mapping[str, Any]) -> list[str]:
    if "const" in test:
        return [test["const"]]
    if "pattern" in test:
        return [name for name in catalog.KINDS if re.search(test["pattern"], name)]
    return list(test.get("enum", ()))


Node = Mapping[str, Any]


def walk(schema: Node, node: Node, at: str, found: dict[str, str]) -> None:
    for part in node.get("allOf", ()):
        walk(schema, resolved(schema, part), at, found)
    for key, value in node.get("properties", {}).items():
        if not at and key in COMMON:
            continue
        inner = resolved(schema, value)
        what = told(inner)
        if value.get("description"):
            what = f"{what}: {value['description']}" if what else value["description"]
        if "properties" in inner and not at:
            walk(schema, inner, f"{key}.", found)
        else:
            found.setdefault(at + key, what)


def resolved(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    """The node itself, a $ref followed, and of `null or X` the X."""
    while True:
        if "$ref" in node:
            target: Any = schema
            for step in node["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            node = target
        elif "anyOf" in node:
            node = next(one for one in node["anyOf"] if one.get("type") != "null")
        elif len(node.get("allOf", ())) == 1 and "properties" not in node:
            node = node["allOf"][0]
        else:
            return node


def told(node: Node) -> str:
    if "enum" in node:
        return "one of " + ", ".join(f"`{one}`" for one in node["enum"] if one is not None)
    if "const" in node:
        return f"`{node['const']}`"
    kinds = node.get("type", "")
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    names = {"string": "text", "integer": "whole number", "number": "number",
             "boolean": "true or false", "array": "a list, as JSON",
             "object": "an object"}  # fmt: skip
    return " or ".join(names[one] for one in kinds if one in names)


# ---- a page --------------------------------------------------------------------------------


def page(name: str, section: int, text: str) -> str:
    """The manual page of a text in (a little) Markdown; its first line is `name - purpose`."""
    date = datetime.datetime.fromtimestamp(
        int(os.environ.get("SOURCE_DATE_EPOCH", "0")) or (HERE / "make.py").stat().st_mtime,
        datetime.UTC,
    )
    first, _, rest = text.partition("\n")
    lines = [
        '.\\" made by docs/man/make.py',
        f'.TH "{roff(name.upper())}" {section} "{date:%Y-%m-%d}" "oom\\-watchdog {__version__}"',
        ".ad l",
        ".SH NAME",
        inline(first),
    ]
    return "\n".join([*lines, *blocks(rest)]) + "\n"


def blocks(text: str) -> Iterator[str]:
    lines = text.split("\n")
    while lines:
        line = lines.pop(0)
        if not line.strip():
            continue
        if line.startswith("```"):
            yield from (".PP", ".RS 4", ".EX")
            while not (line := lines.pop(0)).startswith("```"):
                yield dotless(roff(line))
            yield from (".EE", ".RE")
        elif line.startswith("#"):
            level, _, title = line.partition(" ")
            heading = inline(title.upper() if len(level) == 1 else title, plain=True)
            yield f'.{"SH" if len(level) == 1 else "SS"} "{heading}"'
        elif line.startswith("|"):
            rows = [line, *take(lines, lambda one: one.startswith("|"))]
            yield from table(rows)
        elif re.match(r"(- |\d+\. )", line):
            mark, _, item = line.partition(" ")
            more = take(lines, lambda one: one.startswith("  "))
            mark = "\\(bu" if mark == "-" else mark
            yield f'.IP "{mark}" 3'
            yield dotless(inline(" ".join([item, *(one.strip() for one in more)])))
        else:
            more = take(lines, lambda one: one.strip() and not one.startswith(("#", "|", "```")))
            yield ".PP"
            yield dotless(inline(" ".join([line, *more])))


def take(lines: list[str], fits: Any) -> list[str]:
    found = []
    while lines and fits(lines[0]):
        found.append(lines.pop(0))
    return found


def table(rows: list[str]) -> Iterator[str]:
    """Each row as a term and what it means; a middle column is the default."""
    head, body = cells(rows[0]), [cells(row) for row in rows[2:]]
    for row in body:
        term = inline(row[0])
        middle = [f"{name}: {inline(cell)}" if name and name != "default" else inline(cell)
                  for name, cell in zip(head[1:-1], row[1:-1], strict=True) if cell]  # fmt: skip
        yield from (".TP", dotless(" ".join([term, *(f"({one})" for one in middle)])))
        yield dotless(inline(row[-1]) or "\\&")


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]


def inline(text: str, plain: bool = False) -> str:
    """`code` and **this** bold, *this* slanted, links by their text."""
    text = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text.replace("\\|", "|"))
    out = []
    for part in re.split(r"(`[^`]+`|\*\*[^*]+\*\*|\*[^*\s][^*]*\*)", text):
        if part.startswith("`") and len(part) > 1:
            out.append(roff(part[1:-1]) if plain else f"\\fB{roff(part[1:-1])}\\fR")
        elif part.startswith("**") and len(part) > 4:
            out.append(roff(part[2:-2]) if plain else f"\\fB{roff(part[2:-2])}\\fR")
        elif part.startswith("*") and len(part) > 2:
            out.append(roff(part[1:-1]) if plain else f"\\fI{roff(part[1:-1])}\\fR")
        else:
            out.append(roff(part))
    return "".join(out)


_ROFF = (("\\", "\\e"), ("-", "\\-"), ("~", "\\(ti"), ("^", "\\(ha"), ('"', "\\(dq"),
         ("'", "\\(aq"), ("`", "\\(ga"))  # fmt: skip


def roff(text: str) -> str:
    for plain, escaped in _ROFF:
        text = text.replace(plain, escaped)
    return text


def dotless(line: str) -> str:
    return f"\\&{line}" if line.startswith((".", "'")) else line


# ---- completions ---------------------------------------------------------------------------

FILES = ("FILE", "TRACE")
FOLDERS = ("DIR",)


def kinds_list() -> str:
    families = dict.fromkeys(kind.split(".")[0] for kind in catalog.KINDS)
    return " ".join([*catalog.KINDS, *families])


def bash(found: list[Command]) -> str:
    cases = []
    for one in found:
        words = " ".join(name for option in one.options for name in option.names if name[0] == "-")
        files = any(option.names[0] in FILES for option in one.options)
        cases.append(f'        {one.name}) words="{words}" files={"yes" if files else ""} ;;')
    valued = {key: sorted({name for one in found for option in one.options if option.value in key
                           for name in option.names}) for key in (FILES, FOLDERS)}  # fmt: skip
    takes = sorted({name for one in found for option in one.options if option.value
                    and option.value not in (*FILES, *FOLDERS) for name in option.names}
                   - {"--unit", "--kind", "--explain"})  # fmt: skip
    text = (HERE / "completion.bash").read_text(encoding="utf-8")
    filled = {
        "COMMANDS": " ".join(one.name for one in found),
        "CASES": "\n".join(cases),
        "FILES": " | ".join(valued[FILES]),
        "FOLDERS": " | ".join(valued[FOLDERS]),
        "TAKES": " | ".join(takes),
        "KINDS": kinds_list(),
    }
    return re.sub(r"@([A-Z]+)@", lambda fit: filled[fit[1]], text)


def zsh(found: list[Command]) -> str:
    quoted = [f"        '{one.name}:{shell(COMMANDS[one.name])}'" for one in found]
    cases = []
    for one in found:
        specs = " \\\n".join(f"            {zsh_option(option)}" for option in one.options)
        cases.append(f"        {one.name}) _arguments -s -S \\\n{specs} ;;")
    text = (HERE / "completion.zsh").read_text(encoding="utf-8")
    filled = {"COMMANDS": "\n".join(quoted), "CASES": "\n".join(cases), "KINDS": kinds_list()}
    return re.sub(r"@([A-Z]+)@", lambda fit: filled[fit[1]], text)


def zsh_option(option: Option) -> str:
    text = shell(re.sub(r"[][:]", " ", option.text))
    if not option.names[0].startswith("-"):
        return f"'*:{option.names[0].lower()}:_files'"
    after = ""
    if option.value:
        action = " "
        if option.value in (*FILES, *FOLDERS):
            action = "_files" if option.value in FILES else "_files -/"
        action = {"--unit": "_oom_watchdog_units", "--explain": "_oom_watchdog_units",
                  "--kind": "_oom_watchdog_kinds"}.get(option.names[-1], action)  # fmt: skip
        after = f":{option.value.lower()}:{action}"
    if len(option.names) == 1:
        return f"'{option.names[0]}[{text}]{after}'"
    return f"'({' '.join(option.names)})'{{{','.join(option.names)}}}'[{text}]{after}'"


def shell(text: str) -> str:
    return text.replace("'", "'\\''")


def main(folder: str) -> int:
    into = Path(folder)
    (into / "bash").mkdir(parents=True, exist_ok=True)
    os.environ["COLUMNS"] = "80"
    parts = {
        "commands": "\n\n".join(command_pages()),
        "configuration": configuration(),
        "events": "\n\n".join(event_pages()),
    }
    for name, section in PAGES.items():
        text = (HERE / f"{name}.{section}.md").read_text(encoding="utf-8")
        text = re.sub(r"^<!-- (\w+) -->$", lambda fit: parts[fit[1]], text, flags=re.MULTILINE)
        (into / f"{name}.{section}").write_text(page(name, section, text), encoding="utf-8")
    found = commands()
    (into / "bash" / "oom-watchdog").write_text(bash(found), encoding="utf-8")
    (into / "_oom-watchdog").write_text(zsh(found), encoding="utf-8")
    return 0


def configuration() -> str:
    """docs/configuration.md with its headings one step up, and without its title."""
    text = (TOP / "docs" / "configuration.md").read_text(encoding="utf-8")
    return re.sub(r"^##(#?) ", r"#\1 ", text.partition("\n")[2], flags=re.MULTILINE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

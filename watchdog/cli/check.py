"""`oom-watchdog check`: is the configuration right, what counts, and what it means for somebody.

The loader runs as a child of its own, the same program as at start and at reload; this is its
pretty face.
"""

import json
import re
import subprocess
import sys
from typing import Any

from watchdog import words
from watchdog.child import ours
from watchdog.cli import args as common
from watchdog.cli import explain_rules
from watchdog.policy.merge import BUILT_IN
from watchdog.policy.rules import Rules, from_plain

_BARE = re.compile(r"[A-Za-z0-9_-]+")
# What a policy and a run hook are where their tables do not say so; `rules` has the same as values.
_UNSAID = {
    "policies": {"for": "0s", "mode": "observe", "cooldown": "10min", "budget": "6 per 1h"},
    "run": {"timeout": "30s"},
}
_PROGRAM = tuple(ours("watchdog.policy.load"))


def main(argv: list[str]) -> int:
    """Run the command; its exit status."""
    return common.quietly(_main, argv)


def _main(argv: list[str]) -> int:
    parser = common.parser(
        "check",
        "Validate the configuration: that of this machine, or one FILE alone. Exit status 0: it "
        "is fine; 78: it is not, with one line a problem.",
        "oom-watchdog check --explain nginx.service",
    )
    parser.add_argument("--show", action="store_true",
                        help="print what counts, and which file says so")  # fmt: skip
    parser.add_argument("--explain", metavar="WHO",
                        help="a PID, a NAME or a UNIT: which policies match, what each waits "
                        "for, why it is or is not protected")  # fmt: skip
    parser.add_argument("--root", metavar="DIR", help="read DIR/etc/oom-watchdog and so on")
    parser.add_argument("file", nargs="?", metavar="FILE", help='this file alone ("-": stdin)')
    options = parser.parse_args(argv)
    if options.file is not None and options.config is not None:
        parser.error("give the file once: FILE or --config FILE")
    config = options.file if options.file is not None else options.config
    status, found, lines = load(config, options.root)
    if found is None:
        _refused(lines, status, options.json)
        return status
    rules = from_plain(found["rules"])
    found = masked(found)
    if options.json and options.explain is None:
        print(json.dumps(found | {"ok": True}))
        return 0
    for line in found["warnings"]:
        print(f"warning: {line}", file=sys.stderr)
    if options.explain is not None:
        return explain_rules.explain(rules, options.explain, options.state, options.json)
    if options.show:
        print("\n".join(show(found)))
    print(summary(rules))
    return 0


def load(config: str | None, root: str | None) -> tuple[int, dict[str, Any] | None, list[str]]:
    """(exit status, what the loader printed, its complaints)."""
    argv = [*_PROGRAM]
    argv += ["--config", config] if config is not None else []
    argv += ["--root", root] if root is not None else []
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace",
                          stdin=None, check=False)  # fmt: skip
    lines = done.stderr.splitlines()
    if done.returncode in (common.CONFIGURATION, common.USAGE):
        return done.returncode, None, lines
    try:
        found = json.loads(done.stdout)
    except ValueError:
        # a broken installation: pydantic is missing or too old
        last = lines[-1] if lines else f"exit status {done.returncode}"
        return common.CONFIGURATION, None, [f"the loader does not run here: {last}"]
    return 0, dict(found), lines


def _refused(lines: list[str], status: int, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"ok": False, "problems": lines}))
        return
    for line in lines:
        print(words.safe(line), file=sys.stderr)
    if status == common.CONFIGURATION:
        many = words.count(len(lines), "problem")
        print(f"configuration is refused: {many}", file=sys.stderr)


def summary(rules: Rules) -> str:
    """ "configuration is fine: 3 policies (all observe), guard observe, ..." """
    modes = [policy.mode for policy in rules.policies]
    said = "no policies"
    if modes:
        number = f"{len(modes)} policies" if len(modes) > 1 else "1 policy"
        enforced = modes.count("enforce")
        if enforced in (0, len(modes)):
            what = f"{'all ' if len(modes) > 1 else ''}{modes[0]}"
        else:
            what = f"{enforced} enforce, {len(modes) - enforced} observe"
        said = f"{number} ({what})"
    parts = [said, f"guard {rules.guard.mode}"]
    parts += [words.count(len(rules.notify), "notifier")] if rules.notify else []
    parts += [words.count(len(rules.run), "run hook")] if rules.run else []
    acting = rules.guard.mode == "enforce" or "enforce" in modes
    end = "" if acting else "; nothing will be killed"
    return f"configuration is fine: {', '.join(parts)}{end}"


def masked(found: dict[str, Any]) -> dict[str, Any]:
    """What the loader printed, without the secrets in it: a URL mostly holds a password."""
    out = dict(found)
    for part in ("rules", "written"):
        if "notify" in found[part]:
            shown = {
                name: {key: _mask(value) if key == "url" else value for key, value in one.items()}
                for name, one in found[part]["notify"].items()
            }
            out[part] = found[part] | {"notify": shown}
    return out


def _mask(url: Any) -> Any:
    return f"{url.partition('://')[0]}://***" if isinstance(url, str) else url


def header(*names: str) -> str:
    """The head of a table in TOML: `[policies."a.b"]`."""
    return "[" + ".".join(one if _BARE.fullmatch(one) else _toml(one) for one in names) + "]"


def show(found: dict[str, Any]) -> list[str]:
    """The merged configuration as TOML, each value with its file, and what was taken away."""
    origins = found["origins"]
    lines: list[str] = []
    for section, table in _whole(found).items():
        _table(lines, (section,), table, origins)
    if found["removed"]:
        lines += ["# taken away by [unprotect]"]
        lines += [f"#   {words.safe(label)}    # {name}" for label, name in
                  found["removed"].items()]  # fmt: skip
        lines += [""]
    return lines


def _whole(found: dict[str, Any]) -> dict[str, Any]:
    """What the files say, and for each policy and run hook what counts without a word of theirs."""
    whole = dict(found["written"])
    for section, unsaid in _UNSAID.items():
        if section in whole:
            tables = whole[section].items()
            # what is said comes first, in its own order
            whole[section] = {name: table | unsaid | table for name, table in tables}
    for policy in found["rules"]["policies"]:
        table = whole["policies"][policy["name"]]
        whole["policies"][policy["name"]] = table | {"per": policy["per"]}
    return whole


def _table(
    lines: list[str], names: tuple[str, ...], table: dict[str, Any], origins: dict[str, str]
) -> None:
    rows: list[tuple[str, str]] = []
    below = []
    for key, value in table.items():
        label = ".".join((*names, key))
        if isinstance(value, dict):
            below.append((key, value))
        elif label in origins or not isinstance(value, list):
            rows.append((f"{key} = {_toml(value)}", origins.get(label, BUILT_IN)))
        else:  # a list that unites: each entry has its own file
            rows.append((f"{key} = [", ""))
            rows += [(f"    {_toml(one)},", origins.get(f"{label} {one}", BUILT_IN))
                     for one in value]  # fmt: skip
            rows.append(("]", ""))
    if rows or not below:
        lines.append(header(*names))
        width = min(48, max((len(text) for text, _ in rows), default=0))
        lines += [f"{text:<{width}}  # {name}" if name else text for text, name in rows]
        lines.append("")
    for key, value in below:
        _table(lines, (*names, key), value, origins)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    # A JSON string is a TOML string, but for DEL
    return words.safe(json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f"))

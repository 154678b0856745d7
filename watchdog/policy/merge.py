"""Pure: several configuration files -> one, and where each value came from.

Tables keyed by name are amended. [protect], [prefer] and [avoid] unite over all files; [unprotect]
takes entries away from [protect], wherever they stand. Every other list is replaced by a later
file.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

UNITING = ("protect", "prefer", "avoid")
BUILT_IN = "built-in"


class Merged(NamedTuple):
    """``origins`` maps a dotted key to its file; of a uniting list, to its files by entry."""

    values: dict[str, Any]
    origins: dict[str, str]
    removed: dict[str, str]  # "protect.unit x" -> the file whose [unprotect] took it away
    unneeded: dict[str, str]  # the same for entries that were never there


def merge(files: list[tuple[str, Mapping[str, Any]]]) -> Merged:
    """Files in the order in which they count, the built-in defaults first."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    away: list[tuple[str, str, Any]] = []
    for name, data in files:
        for section, table in data.items():
            if section == "unprotect":
                away += [(name, key, one) for key, one in _entries(table)]
            elif section in UNITING:
                for key, one in _entries(table):
                    entries = values.setdefault(section, {}).setdefault(key, [])
                    if one not in entries:
                        entries.append(one)
                        origins[f"{section}.{key} {one}"] = name
            else:
                _amend(values, section, table, section, name, origins)
    removed: dict[str, str] = {}
    unneeded: dict[str, str] = {}
    for name, key, one in away:
        label = f"protect.{key} {one}"
        entries = values.get("protect", {}).get(key, [])
        if one in entries:
            entries.remove(one)
            removed[label] = name
            del origins[label]
        elif label not in removed:
            unneeded[label] = name
    if "protect" in values:
        values["protect"] = {key: found for key, found in values["protect"].items() if found}
    return Merged(values, origins, removed, unneeded)


def _entries(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        for one in value if isinstance(value, list) else [value]:
            yield key, one


def _amend(
    into: dict[str, Any], key: str, value: Any, path: str, name: str, origins: dict[str, str]
) -> None:
    if not isinstance(value, Mapping):
        into[key] = value
        origins[path] = name
        return
    # A table that stands empty in a file is there, too: [policies.x] is a policy to be completed.
    below = into.setdefault(key, {})
    origins.setdefault(path, name)
    for inner, one in value.items():
        _amend(below, inner, one, f"{path}.{inner}", name, origins)

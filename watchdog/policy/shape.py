"""The shape of a configuration file, key by key, for `policy.load` alone: the only pydantic.

`validate` says what is wrong in it, by key; what the keys mean together is `compose`'s.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from watchdog import words
from watchdog.policy import quantity
from watchdog.policy.compose import Problem
from watchdog.policy.rules import GUARD_MODES, LEAKS, MODES, SOURCES

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

# None: not in this file (TOML has no null).
Duration = Annotated[float | None, PlainValidator(quantity.duration())]
Size = Annotated[int | None, PlainValidator(quantity.size())]
Mark = Annotated[Any, PlainValidator(quantity.mark)]
Budget = Annotated[Any, PlainValidator(quantity.budget)]
Text = Annotated[str | None, PlainValidator(quantity.text)]
Secret = Annotated[str | None, PlainValidator(quantity.secret)]
Texts = Annotated[tuple[str, ...] | None, PlainValidator(quantity.texts)]
Patterns = Annotated[tuple[str, ...] | None, PlainValidator(quantity.patterns)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Watch(_Table):
    interval: Annotated[Any, PlainValidator(quantity.duration(0.1, 3600))] = None


class _KernelLog(_Table):
    source: Annotated[Any, PlainValidator(quantity.one_of(*SOURCES))] = None


class _Guard(_Table):
    mode: Annotated[Any, PlainValidator(quantity.one_of(*GUARD_MODES))] = None
    available_below: Mark = None
    swap_free_below: Mark = None
    stalled_above: Annotated[Any, PlainValidator(quantity.stall)] = None
    victim: Annotated[Any, PlainValidator(quantity.one_of("blame", "size"))] = None
    kill: Annotated[Any, PlainValidator(quantity.one_of("process", "unit"))] = None
    budget: Budget = None
    revive: Annotated[Any, PlainValidator(quantity.switch)] = None


class _Protect(_Table):
    unit: Patterns = None
    name: Patterns = None
    name_unverified: Patterns = None
    exe: Patterns = None
    user: Texts = None


class _Weigh(_Table):
    unit: Patterns = None
    name: Patterns = None
    exe: Patterns = None
    cgroup: Patterns = None
    container: Patterns = None
    user: Texts = None


class _Match(_Table):
    name: Patterns = None
    cmdline: Annotated[Any, PlainValidator(quantity.cmdlines)] = None
    exe: Patterns = None
    user: Texts = None
    unit: Patterns = None
    cgroup: Patterns = None
    container: Patterns = None
    min_age: Duration = None
    min_resident: Size = None


class _When(_Table):
    leak: Annotated[Any, PlainValidator(quantity.one_of(*LEAKS))] = None
    exhausts_within: Duration = None
    resident_above: Size = None
    growth_above: Annotated[Any, PlainValidator(quantity.rate)] = None
    pressure: Annotated[Any, PlainValidator(quantity.switch)] = None
    limit_above: Annotated[Any, PlainValidator(quantity.share)] = None
    oom_kill: Annotated[Any, PlainValidator(quantity.only_true)] = None
    limit_pressed: Annotated[Any, PlainValidator(quantity.only_true)] = None
    commit_short: Annotated[Any, PlainValidator(quantity.only_true)] = None
    alloc_failed: Annotated[Any, PlainValidator(quantity.only_true)] = None


class _Policy(_Table):
    match: _Match | None = None
    when: _When | None = None
    for_: Duration = Field(None, alias="for")
    do: Annotated[Any, PlainValidator(quantity.actions)] = None
    mode: Annotated[Any, PlainValidator(quantity.one_of(*MODES))] = None
    cooldown: Duration = None
    budget: Budget = None
    per: Annotated[Any, PlainValidator(quantity.one_of("unit", "process"))] = None


class _Notify(_Table):
    argv: Texts = None
    url: Secret = None
    url_credential: Secret = None


class _Run(_Table):
    argv: Texts = None
    user: Text = None
    timeout: Annotated[Any, PlainValidator(quantity.duration(0.1, 3600))] = None
    at_most: Budget = None


class _Mute(_Table):
    match: _Match | None = None
    until: Annotated[Any, PlainValidator(quantity.moment)] = None


class _Store(_Table):
    size: Annotated[Any, PlainValidator(quantity.size(1 << 20, 1 << 40))] = None


class _File(_Table):
    watch: _Watch | None = None
    kernel_log: _KernelLog | None = None
    guard: _Guard | None = None
    protect: _Protect | None = None
    unprotect: _Protect | None = None
    prefer: _Weigh | None = None
    avoid: _Weigh | None = None
    policies: dict[str, _Policy] | None = None
    notify: dict[str, _Notify] | None = None
    run: dict[str, _Run] | None = None
    store: _Store | None = None
    mute: dict[str, _Mute] | None = None


def validate(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """What one file (or all, merged) says as plain values, and what is wrong with it."""
    problems = [
        Problem(f"{section}.{words.safe(name)}",
                "expected a name of letters, figures, and _ . - (64 at the most)")
        for section in ("policies", "notify", "run", "mute")
        for name in _names(raw.get(section))
        if not _NAME.fullmatch(name)
    ]  # fmt: skip
    if "guard" in _names(raw.get("policies")):
        what = "the guard has a table of its own, [guard]; a policy needs another name"
        problems.append(Problem("policies.guard", what))
    try:
        return dict(_plain(_File.model_validate(dict(raw)))), problems
    except ValidationError as error:
        return {}, problems + [_problem(one) for one in error.errors(include_url=False)]


def _names(section: Any) -> list[str]:
    return list(section) if isinstance(section, dict) else []


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {fields[key].alias or key: _plain(getattr(value, key))
                for key in fields if key in value.model_fields_set}  # fmt: skip
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return value


def _problem(error: Any) -> Problem:
    where = [str(part) for part in error["loc"]]
    key = ".".join(words.safe(part) for part in where)
    if error["type"] == "extra_forbidden":
        return Problem(key, f"unknown key{words.nearest(where[-1], _known(where[:-1]))}")
    if error["type"] == "value_error":
        return Problem(key, str(error["ctx"]["error"]))
    # where the URL of a notifier may have got into the wrong place it is not shown
    found = "" if where[0] == "notify" else f", found {quantity.shown(error['input'])}"
    return Problem(key, f"expected a table{found}")


def _known(where: list[str]) -> list[str]:
    """The keys that the table at this place may hold."""
    model: type[BaseModel] = _File
    named = False
    for part in where:
        if named:
            named = False
            continue
        inner = get_args(model.model_fields[part].annotation)[0]
        named = not (isinstance(inner, type) and issubclass(inner, BaseModel))
        model = get_args(inner)[1] if named else inner
    return [field.alias or key for key, field in model.model_fields.items()]

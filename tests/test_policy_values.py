"""What a configuration may hold, and how several files become one."""

import contextlib
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.policy import merge, quantity
from watchdog.policy.guard_when import Mark


@pytest.mark.parametrize(
    ("check", "value", "found"),
    [
        (quantity.duration(), "2min", 120.0),
        (quantity.size(), "400MiB", 400 << 20),
        (quantity.size(), 4096, 4096),
        (quantity.rate, "60K/min", 1024.0),
        (quantity.share, "90%", 0.9),
        (quantity.mark, "5%", Mark(0.05)),
        (quantity.mark, "400M", Mark(None, 400 << 20)),
        (quantity.mark, 52428800, Mark(None, 52428800)),
        (quantity.mark, ["5%", "400M"], Mark(0.05, 400 << 20)),
        (quantity.stall, "40% for 2s", (0.4, 2.0)),
        (quantity.stall, "off", None),
        (quantity.budget, "3 per 1d", (3, 86400.0)),
        (quantity.budget, "3 per h", (3, 3600.0)),
        (quantity.switch, False, False),
        (quantity.only_true, True, True),
        (quantity.text, "x", "x"),
        (quantity.texts, "x", ("x",)),
        (quantity.patterns, ["a*", "b"], ("a*", "b")),
        (quantity.cmdlines, ["~a+b", "x"], ("~a+b", "x")),
        (quantity.actions, ["log", "notify:a", "kill"], ("log", "notify:a", "kill")),
        (quantity.one_of("a", "b"), "a", "a"),
    ],
)
def test_what_is_taken(check: Callable[[Any], Any], value: Any, found: Any) -> None:
    assert check(value) == found


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (quantity.duration(), 10, 'expected a time such as "10s" or "2min", found 10'),
        (quantity.duration(1), "0s", 'expected a time from 1 s to 366 d, found "0s"'),
        (quantity.size(), True, 'expected a size such as "400MiB", found true'),
        (quantity.size(1024), 5, "expected a size from 1.0 KiB to 1048576 TiB, found 5"),
        (quantity.size(), "9" * 400 + "T", "expected less, found"),
        (quantity.rate, 5, 'expected a rate such as "1MiB/min", found 5'),
        (quantity.rate, "1M", 'expected a rate such as "1MiB/s", found "1M"'),
        (quantity.rate, "1M/0s", "expected a rate"),
        (quantity.share, 0.5, 'expected a share such as "90%", found 0.5'),
        (quantity.mark, "0%", 'expected a share above 0% and up to 50 %, found "0%"'),
        (quantity.mark, ["5%", "6%"], "or one of each in a list"),
        (quantity.mark, ["5M", 6], "or one of each in a list"),
        (quantity.mark, [], "or one of each in a list"),
        (quantity.mark, {}, "found a table"),
        (quantity.stall, "40%", 'expected a stall such as "40% for 2s", or "off", found "40%"'),
        (quantity.stall, "0% for 2s", "above 0%"),
        (quantity.stall, "10% for 5min", "for 500ms to 60s"),
        (quantity.stall, 7, 'or "off", found 7'),
        (quantity.budget, 3, 'expected a budget such as "3 per 1d", found 3'),
        (quantity.budget, "0 per 1d", '(1 to 9999 times, in 1s to 366d), found "0 per 1d"'),
        (quantity.budget, "3", 'found "3"'),
        (quantity.budget, "² per 1d", "expected a budget"),
        (quantity.budget, "3 per 1ms", "expected a budget"),
        (quantity.switch, "yes", 'expected true or false, found "yes"'),
        (quantity.only_true, False, "expected true, or no such key, found false"),
        (quantity.text, " ", 'expected some text, found " "'),
        (quantity.texts, [], "expected a list of 1 to 1000 texts, found []"),
        (quantity.texts, [1], "expected some text, found 1"),
        (quantity.patterns, "~a", 'a regex ("~") works for cmdline only, found "~a"'),
        (quantity.cmdlines, "~(a+)+", '"~(a+)+": a repeat around a repeat'),
        (quantity.actions, ["kil"], '"kil" (did you mean "kill"?); known: log, notify,'),
        (quantity.actions, ["notify"], 'expected "notify:NAME", found "notify"'),
        (quantity.actions, ["run:"], 'expected "run:NAME", found "run:"'),
        (quantity.actions, ["log:x"], 'expected "log", found "log:x"'),
        (quantity.actions, ["log", "log"], "expected each action once"),
        (quantity.one_of("a", "b"), 1, 'expected "a" or "b", found 1'),
        (quantity.one_of("ab", "b", "c"), "abc", 'expected "ab", "b" or "c", found "abc" (did'),
        (quantity.text, "\x1b[2J\0", r'found "\x1b[2J\x00"'),
        (quantity.text, "\0" + "x" * 100, "..."),
    ],
)  # fmt: skip
def test_what_is_refused(check: Callable[[Any], Any], value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        check(value)
    assert "\n" not in str(caught.value)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
CHECKS = (
    quantity.duration(), quantity.size(), quantity.rate, quantity.share, quantity.mark,
    quantity.stall, quantity.budget, quantity.switch, quantity.texts, quantity.patterns,
    quantity.cmdlines, quantity.actions, quantity.one_of("a", "b"),
)  # fmt: skip


@given(anything, st.sampled_from(CHECKS))
def test_anything_else_is_one_sentence(value: Any, check: Callable[[Any], Any]) -> None:
    with contextlib.suppress(ValueError):
        check(value)


# ---- merging ----------------------------------------------------------------------------------


def test_tables_are_amended_and_lists_are_replaced() -> None:
    merged = merge.merge([
        ("a", {"watch": {"interval": "10s"},
               "policies": {"p": {"do": ["log"], "match": {"unit": ["x"], "name": "n"}}}}),
        ("b", {"policies": {"p": {"do": ["kill"], "match": {"unit": ["y"]}}, "q": {}}}),
    ])  # fmt: skip
    assert merged.values == {
        "watch": {"interval": "10s"},
        "policies": {"p": {"do": ["kill"], "match": {"unit": ["y"], "name": "n"}}, "q": {}},
    }
    assert merged.origins["policies.p.do"] == "b"
    assert merged.origins["policies.p.match.name"] == "a"
    assert merged.origins["policies.q"] == "b"


def test_protection_unites_and_unprotect_takes_an_exact_entry_away() -> None:
    merged = merge.merge([
        ("a", {"protect": {"unit": ["x*", "y"]}, "unprotect": {"unit": "z"}}),
        ("b", {"protect": {"unit": ["y", "z"], "name": "n"}}),
        ("c", {"unprotect": {"unit": ["x1", "y"], "name": ["n"]}}),
        ("d", {"unprotect": {"unit": ["y"]}}),
    ])  # fmt: skip
    assert merged.values == {"protect": {"unit": ["x*"]}}
    assert merged.removed == {
        "protect.unit z": "a", "protect.unit y": "c", "protect.name n": "c",
    }  # fmt: skip
    assert merged.unneeded == {"protect.unit x1": "c"}
    assert merged.origins == {"protect.unit x*": "a"}
    assert merge.merge([("a", {"unprotect": {"unit": "z"}})]).unneeded


words_of_three = st.lists(st.sampled_from("abc"), max_size=3)


@given(st.lists(words_of_three, max_size=4), words_of_three)
def test_what_protects_does_not_depend_on_the_order_of_files(
    files: list[list[str]], away: list[str]
) -> None:
    given_files = [
        *((str(i), {"protect": {"unit": one}}) for i, one in enumerate(files)),
        ("z", {"unprotect": {"unit": away}}),
    ]
    expected = {one for file in files for one in file} - set(away)
    for order in (given_files, given_files[::-1]):
        found = merge.merge(list(order)).values.get("protect", {}).get("unit", [])
        assert set(found) == expected
        assert len(found) == len(expected)

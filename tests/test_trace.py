"""The trace: every fact comes back as it went, and a broken line is one sentence."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog import trace
from watchdog.facts import Group, Host, KernelLine, Outcome, Said, Sweep, Tick, Who

ROW = (7, 70, "a", 5, 1, None, "x.service", 3)
FACTS = [
    Host(1.5, 2.5, "boot", 1.0, 10, 5, 0, 0, 1, 2, 3),
    Host(1.5),
    Sweep(1.0, 2.0, (ROW,), census=True),
    Sweep(1.0, None, (), census=False),
    Sweep(1.0, None, (), census=False, inputs=True),
    Who(1.0, 2.0, 7, 70, 1, 0, "/bin/a", "/x", None, "c", -5, "a --b", True),
    Who(1.0, None, 7, 70),
    Group(1.0, 2.0, None, "/x", anon=5, events={"oom_kill": 1}, oomd="omit"),
    KernelLine(1.0, 2.0, "6,1,2,-;text \x1b", "other"),
    Tick(1.0, 2.0),
    Outcome(1.0, 2.0, "id", "done", ""),
    Outcome(1.0, 2.0, "id", "done", "it stays down", restarts=False),
    Said(1.0, 2.0, "guard.action", "1", ("because",), {"victim": {"pid": 1}}),
]


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: type(fact).__name__)
def test_every_fact_comes_back_as_it_went(fact):
    assert trace.fact(trace.line(fact)) == fact


def test_a_trace_of_seven_columns_is_read():
    found = trace.fact('{"type":"procs","t":1,"rows":[[1,2,"a",3,4,null,null]],"new_key":1}')
    assert found == Sweep(1, None, ((1, 2, "a", 3, 4, None, None, None),), census=True)


def test_the_header_says_whose_it_is():
    assert trace.fact(trace.header_line("box", acted=True)) == trace.Header("box", True)
    assert trace.fact('{"type":"trace","host":5}') == trace.Header(None, False)


def test_types_of_later_versions_are_passed_over():
    assert trace.fact('{"type":"weather","t":1}') is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"\x00\xff\x80", "not JSON"),
        ("[1]", "object"),
        ('{"type":5}', "type"),
        ('{"type":"host"}', '"t"'),
        ('{"type":"host","t":true}', '"t"'),
        ('{"type":"host","t":1,"mem_total":"a"}', '"mem_total"'),
        ('{"type":"who","t":1,"pid":1}', '"start"'),
        ('{"type":"who","t":1,"pid":1,"start":2,"exe":5}', '"exe"'),
        ('{"type":"kmsg","t":1}', '"line"'),
        ('{"type":"procs","t":1}', '"rows"'),
        ('{"type":"procs","t":1,"rows":[5]}', "rows of"),
        ('{"type":"procs","t":1,"rows":[[1,2]]}', "rows of"),
        ('{"type":"procs","t":1,"rows":[["1",2,"a",3,4,null,null]]}', "rows of"),
        ('{"type":"said","t":1}', '"kind"'),
        ("[" * 100000, "not JSON"),
    ],
)
def test_a_broken_line_says_what_was_expected(text, why):
    with pytest.raises(trace.TraceError, match=why):
        trace.fact(text)


def test_names_in_a_foreign_trace_are_made_safe():
    raw = json.dumps({"type": "procs", "t": 1, "rows": [[1, 2, "a\x1b", 3, 4, 5, "u\n", 6]]})
    assert trace.fact(raw).rows[0][2] == "a\\x1b"
    assert trace.fact(raw).rows[0][6] == "u\\x0a"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ),
    st.sampled_from(["host", "procs", "sweep", "who", "group", "kmsg", "tick", "outcome", "said"]),
    st.sampled_from(
        ["rows", "pid", "start", "line", "because", "body", "mem_total", "events", "up"]
    ),
)
def test_no_line_can_do_more_than_be_refused(value, kind, key):
    with contextlib.suppress(trace.TraceError):
        trace.fact(json.dumps({"type": kind, "t": 1.0, "pid": 1, "start": 1, key: value}))


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"procs","t":NaN,"rows":[]}',
        '{"type":"sweep","t":1e999,"rows":[]}',
        '{"type":"tick","t":1,"up":-Infinity}',
        '{"type":"procs","t":%s,"rows":[]}' % ("9" * 400),
        '{"type":"procs","t":1,"rows":[[1,%s,"a",1,1]]}' % ("9" * 30),
        '{"type":"procs","t":1,"rows":[[1,2,"a",1,1,%s]]}' % ("9" * 30),
        '{"type":"procs","t":1,"rows":[[1,2,"a",1,1,-5000,null,null]]}',
        '{"type":"procs","t":1,"rows":[[1,2,"a",-1,1,null,null,null]]}',
        '{"type":"procs","t":1,"rows":[[1,2,"a",1,1,null,null,%s]]}' % ("9" * 30),
        '{"type":"group","t":1,"cgroup":"/x","anon":1.5}',
        '{"type":"host","t":1,"mem_available":NaN}',
    ],
)
def test_numbers_that_no_machine_has_are_refused(text):
    with pytest.raises(trace.TraceError):
        trace.fact(text)


def test_rows_of_every_length_and_with_nulls_are_read():
    rows = [[1, 2, "a", 3, 4], [1, 2, "a", 3, 4, 5], [1, 2, "a", 3, 4, None, "", None],
            [1, 2, "a", 3, 4, 5, "u", 6], [1, 2, "a", 3, 4, 5, "u", 6, "later"]]  # fmt: skip
    found = trace.fact(json.dumps({"type": "sweep", "t": 1, "rows": rows})).rows
    assert found == (
        (1, 2, "a", 3, 4, None, None, None),
        (1, 2, "a", 3, 4, 5, None, None),
        (1, 2, "a", 3, 4, None, None, None),
        (1, 2, "a", 3, 4, 5, "u", 6),
        (1, 2, "a", 3, 4, 5, "u", 6),
    )


_CELL = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)


@given(st.lists(_CELL, min_size=8, max_size=8))
def test_the_quick_way_through_a_row_refuses_what_the_long_way_does(cells):
    raw = json.loads(json.dumps(cells))
    try:
        long_way = trace._row(raw)
    except trace.TraceError:
        long_way = None
    try:
        quick = trace.fact(json.dumps({"type": "sweep", "t": 1, "rows": [raw]})).rows[0]
    except trace.TraceError:
        quick = None
    assert quick == long_way

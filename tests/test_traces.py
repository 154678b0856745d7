"""Real programs, recorded here: each leak is confirmed in time, and nothing else ever."""

import gzip
import json

import pytest

from bench.real import judged
from bench.real.cut import cut
from bench.real.judged import TRACES, index, judge, right, table
from bench.real.programs import PROGRAMS

ROWS = index()


@pytest.mark.parametrize("told", ROWS, ids=lambda told: told.name)
def test_real_programs_are_judged_as_they_are(told):
    said = judge(told)
    if told.known_wrong:
        # an improvement makes this fail: then the row's known_wrong is to be emptied
        assert said.verdict == told.known_wrong and not right(told, said)
    else:
        assert right(told, said), said
    if said.first is not None:
        assert told.name.startswith(said.first.body["unit"].removesuffix(".service"))
        assert said.first.because


def test_there_are_ten_leaks_and_ten_that_only_grow():
    leaks = [told for told in ROWS if told.leak]
    assert len(leaks) >= 10 and len(ROWS) - len(leaks) >= 10
    names = tuple(program.name for program in PROGRAMS)
    assert all(told.name.startswith(names) for told in ROWS)
    ended = [told for told in leaks if told.end == "oom kill"]
    assert len(ended) >= 10
    assert sum(bool(told.known_wrong) for told in ROWS) <= len(ROWS) // 8


def test_traces_are_small_and_about_their_own_unit():
    files = sorted(TRACES.glob("*.jsonl.gz"))
    assert {path.name for path in files} == {f"{told.name}.jsonl.gz" for told in ROWS}
    assert sum(path.stat().st_size for path in files) < 1_500_000
    for path in files:
        assert path.stat().st_size < 100_000
        for raw in gzip.decompress(path.read_bytes()).splitlines():
            fact = json.loads(raw)
            if fact["type"] in ("procs", "sweep"):
                units = {row[6].removesuffix(".service") for row in fact["rows"]}
                assert len(units) <= 1 and all(path.name.startswith(unit) for unit in units)
            assert "oom_kill" not in fact


def test_an_oom_kill_that_ended_a_leak_is_in_its_trace():
    for told in ROWS:
        if told.end == "oom kill":
            text = gzip.decompress((TRACES / f"{told.name}.jsonl.gz").read_bytes())
            kills = [line for line in text.splitlines() if b"Killed process" in line]
            assert kills, told.name


def lines(*facts):
    return [json.dumps(fact) for fact in facts]


def test_a_cut_holds_one_unit_and_the_report_of_its_end():
    ours = {"type": "who", "t": 2, "pid": 7, "start": 1, "cgroup": "/s/a.service/below"}
    other = {"type": "who", "t": 2, "pid": 8, "start": 1, "cgroup": "/s/a.servicex"}
    rows = {
        "type": "procs",
        "t": 3,
        "rows": [[7, 1, "a", 1, 1], [8, 1, "b", 1, 1], [7, 2, "c", 1, 1]],
    }
    report = [
        {"type": "kmsg", "t": 4, "line": f"6,1,1,-;{text}"} for text in (
            "a invoked oom-killer: x", "oom-kill:constraint=x,oom_memcg=/s/a.service,task=a",
            "Killed process 7 (a)", "b invoked oom-killer: x", "oom_memcg=/s/b,",
            "Killed process 9 (b)",
            "Killed process 7 (again)",
        )
    ]  # fmt: skip
    host = {"type": "host", "t": 20, "mem_total": 5, "oom_kill": 9}
    late = {"type": "who", "t": 99, "pid": 9, "start": 1, "cgroup": "/s/a.service"}
    head = {"type": "trace", "version": 1, "host": "h", "acted": True}
    told = lines(head, host, ours, other, rows, *report, late)
    kept = [json.loads(line) for line in cut(told, "/s/a.service", 1, 50)]
    assert kept == [
        head | {"acted": False}, {"type": "host", "t": 20, "mem_total": 5}, ours,
        rows | {"rows": [[7, 1, "a", 1, 1]]}, *report[:3], report[6],
    ]  # fmt: skip


def test_the_table_has_a_row_each_and_marks_what_is_wrong():
    leak = ROWS[0]
    missed = judged.Judged("not confirmed", None, None, suspected=True)
    text = table([(leak, missed), (leak._replace(leak=False, what="a|b"), missed)])
    assert "1 leaks, found: 0." in text and "1 well-behaved, not called leaks: 1." in text
    assert "**not confirmed**" in text and text.count("suspected") == 2


def test_an_index_is_read_as_it_was_written(tmp_path):
    judged.write_index(ROWS, tmp_path / "INDEX.tsv")
    assert index(tmp_path / "INDEX.tsv") == ROWS
    assert index(tmp_path / "none") == []

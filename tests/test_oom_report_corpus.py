"""Every killed process of the shared corpus of real reports, by name, scope and cgroup."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from watchdog.facts import KernelLine
from watchdog.oom_report.assemble import Assembler, Report

CORPUS = Path(__file__).parents[2] / "shared" / "oom_corpus"
SCOPES = {"NONE": "global", "MEMCG": "memcg", "CPUSET": "cpuset", "MEMORY_POLICY": "mempolicy"}
# Two lines before the machine dies, or a tail without its message: the text does not tell.
UNTOLD = ("039-", "095-", "097-")


def rows() -> Iterator[dict[str, str]]:
    if not CORPUS.is_dir():
        return
    with (CORPUS / "INDEX.tsv").open(encoding="utf-8") as file:
        yield from csv.DictReader(file, delimiter="\t")


ROWS = list(rows())
needs_corpus = pytest.mark.skipif(not ROWS, reason="the shared corpus of OOM reports is not here")


def reports(name: str) -> list[Report]:
    assembler, out = Assembler(), []
    text = (CORPUS / name).read_text("utf-8", "surrogateescape")
    for line in text.split("\n"):
        out += assembler.feed(KernelLine(0.0, None, line))
    return out + assembler.flush()


def dead(found: list[Report]) -> list[str]:
    out = []
    for report in found:
        if report.victim:
            out.append(f"{report.victim.pid}:{report.victim.comm}")
        out += [f"{one.pid}:{one.comm}" for one in report.also_killed if not one.again]
    return out


def truth(row: dict[str, str]) -> list[str]:
    told = row["all_kill_lines(pid:comm)"]
    if told.startswith("see file"):
        # the index refers to the text: its kill lines, unwrapped by hand-made means
        text = (CORPUS / row["file"]).read_text("utf-8")
        found = re.findall(r"Killed process\s(\d+)\s\((\w+)\)", text)
        return list(dict.fromkeys(f"{pid}:{comm}" for pid, comm in found))
    if not told and row["victim_pid"] != "-":
        return [f"{row['victim_pid']}:{row['victim_comm']}"]  # known from the reaper alone
    return [one for one in told.split(",") if one]


@needs_corpus
@pytest.mark.parametrize("row", ROWS, ids=[row["file"][:32] for row in ROWS])
def test_all_the_dead_and_no_other(row: dict[str, str]) -> None:
    found = reports(row["file"])
    assert dead(found) == truth(row)
    word = re.match(r"[A-Z_]+", row["constraint"])
    if word and not row["file"].startswith(UNTOLD):
        assert SCOPES[word[0]] in {report.scope for report in found}
    if word and row["file"].startswith(UNTOLD):
        assert {report.scope for report in found} <= {None, SCOPES[word[0]]}
    assert found, "a report is told even where nobody is seen to die"


@needs_corpus
@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if re.match(r"(oom |task )?/", row["memcg"])],
    ids=lambda row: row["file"][:32],
)
def test_the_cgroups(row: dict[str, str]) -> None:
    told = row["memcg"]
    paths = re.findall(r"(?:^|oom |limit |task )((?:/|\.\.\.)\S*)", told)
    found = reports(row["file"])
    have = {path for report in found for path in (report.cgroup, report.task_cgroup) if path}
    for path in paths:
        end = path.removeprefix("...").rstrip(";")
        assert any(one.endswith(end) for one in have), (path, have)
    if "task" not in told:
        assert any(report.cgroup == paths[0] for report in found)

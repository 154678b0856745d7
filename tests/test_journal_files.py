"""The journal's reader on real journal files: rotated, vacuumed, cut, of several boots."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from watchdog.facts import KernelLine
from watchdog.judge.diagnosis import oom_kill_event
from watchdog.oom_report.assemble import Assembler, Forged, Report
from watchdog.sense import journal
from watchdog.sense.mark import Mark, crc_of

FIXTURES = Path(__file__).parent / "fixtures"
try:
    from systemd import journal as _real
except ImportError as _error:
    pytest.skip(f"systemd: {_error}", allow_module_level=True)
assert _real

BOOTS = [f"{digit * 8}-{digit * 4}-{digit * 4}-{digit * 4}-{digit * 12}" for digit in "123"]
PIDS = {
    "1": ["memcg-plain", "memcg-newline-comm"],
    "2": ["memcg-hostile-comm", "memcg-hostile-cgroup"],
    "3": ["memcg-volunteer", "memcg-storm"],
}
Told = list[dict[str, Any]]


def unpack(folder: Path, boots: str) -> Path:
    folder.mkdir(exist_ok=True)
    for boot in boots:
        packed = FIXTURES / "journal" / f"system@{boot}.journal.gz"
        (folder / f"system@{boot}.journal").write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("journal"), "123")


def ask(capsys: pytest.CaptureFixture[str], folder: Path, *argv: str, status: int = 0) -> Told:
    assert journal.main([*argv, "--directory", str(folder)]) == status
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def reports(found: Told) -> tuple[list[Report], list[Forged]]:
    assembler, out = Assembler(), []
    for one in found:
        if "line" in one:
            up = one["usec"] / 1e6
            out += assembler.feed(KernelLine(one["t"], up, one["line"], one["boot_id"]))
    return out + assembler.flush(), assembler.forged()


def of_records(name: str) -> list[Report]:
    assembler, out = Assembler(), []
    for line in (FIXTURES / "kmsg" / f"{name}.kmsg").read_text("utf-8").splitlines():
        out += assembler.feed(KernelLine(1.0, int(line.split(",")[2]) / 1e6, line))
    return out + assembler.flush()


def test_the_journal_tells_what_the_ring_told(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, forged = reports(ask(capsys, whole))
    want = [report for names in PIDS.values() for name in names for report in of_records(name)]
    assert len(found) == len(want) > 12
    for mine, theirs in zip(found, want, strict=True):
        body, _, identity = oom_kill_event(mine)
        other, _, _ = oom_kill_event(theirs)
        same = body | {"kernel_time_s": 0} == other | {"kernel_time_s": 0}
        assert same, (body["comm"], body["cgroup"])
        assert identity.startswith(f"{mine.usec}-")
    assert [report.boot_id for report in found] == sorted(str(one.boot_id) for one in found)
    assert [one.why for one in forged] == ["facility"]


def test_only_what_matters_gives_the_same_reports(
    whole: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "WHOLE", 0)
    every, some = ask(capsys, whole), ask(capsys, whole, "--relevant")
    lines = [one for one in some if "line" in one]
    assert reports(lines)[0] == [
        one._replace(lines=found.lines)
        for one, found in zip(reports(every)[0], reports(lines)[0], strict=True)
    ]
    assert len(lines) < len([one for one in every if "line" in one]) - 100
    assert {"missed": 7} in some


def mark_of(one: dict[str, Any], *, cursor: bool) -> str:
    usec = one["usec"]
    return Mark(one["boot_id"], one["t"], usec / 1e6, usec, crc_of(one["line"]), 5,
                one["cursor"] if cursor else None).text()  # fmt: skip


def test_after_a_cursor_comes_exactly_the_rest(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = [one for one in ask(capsys, whole) if "line" in one]
    for at in range(0, len(every), 197):
        found = ask(capsys, whole, "--after", mark_of(every[at], cursor=True))
        assert found[0] == {"cursor": every[at]["cursor"]}
        assert [one for one in found if "line" in one] == every[at + 1 :]


def test_after_a_mark_of_the_ring_comes_what_may_be_new(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = [one for one in ask(capsys, whole) if "line" in one]
    for at in (50, 400, 900):
        found = ask(capsys, whole, "--after", mark_of(every[at], cursor=False))
        rest = [one for one in found if "line" in one]
        assert rest[-len(every[at + 1 :]) :] == every[at + 1 :]
        before = rest[: -len(every[at + 1 :])]
        assert every[at] in before and all(one["boot_id"] == every[at]["boot_id"] for one in before)
        assert not [one for one in found if "gap" in one]


def test_after_rotation_and_vacuum_it_is_said_what_is_gone(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = [one for one in ask(capsys, whole) if "line" in one]
    vacuumed = unpack(tmp_path / "vacuumed", "23")
    for cursor in (True, False):
        found = ask(capsys, vacuumed, "--after", mark_of(every[100], cursor=cursor))
        later = [one for one in every if one["boot_id"] != BOOTS[0]]
        assert found[0] == {"gap": [every[100]["t"], round(later[0]["t"], 3)]}
        assert [one for one in found if "line" in one] == later
    empty = tmp_path / "empty"
    empty.mkdir()
    found = ask(capsys, empty, "--after", mark_of(every[100], cursor=True))
    assert found == [{"gap": [every[100]["t"], None]}]


def test_boots_are_counted_as_journalctl_counts(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, boot in ((0, 2), (-1, 1), (-2, 0), (1, 0), (3, 2)):
        found = ask(capsys, whole, "--boot", str(number))
        assert {one["boot_id"] for one in found if "line" in one} == {BOOTS[boot]}
    assert ask(capsys, whole, "--boot", "-3", status=journal.NOTHING) == []
    found = ask(capsys, whole, "--boot", BOOTS[1])
    assert {one["boot_id"] for one in found if "line" in one} == {BOOTS[1]}


def test_files_that_were_cut_or_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = unpack(tmp_path / "damaged", "123")
    cut = folder / "system@1.journal"
    cut.write_bytes(cut.read_bytes()[:300_000])
    hurt = bytearray((folder / "system@2.journal").read_bytes())
    hurt[200_000:201_000] = bytes(1000)
    (folder / "system@2.journal").write_bytes(hurt)
    (folder / "system@4.journal").write_bytes(b"LPKSHHRH" + bytes(100))
    (folder / "system@5.journal").write_bytes(b"no journal at all")
    status = journal.main(["--directory", str(folder)])
    said = capsys.readouterr()
    found = [json.loads(line) for line in said.out.splitlines()]
    assert status in (0, 2) and len(said.err.splitlines()) == (status == 2)
    assert BOOTS[2] in {one.get("boot_id") for one in found} or status == 2

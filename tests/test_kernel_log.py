"""The kernel log live, from a pipe, and out of the journal by a program that need not be there."""

import contextlib
import datetime
import errno
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from watchdog.facts import KernelLine
from watchdog.oom_report.assemble import Assembler, Report
from watchdog.sense import journal, mark
from watchdog.sense.kernel_log import BATCH, PATH, KernelLog, KernelLogError

KMSG = Path(__file__).parent / "fixtures" / "kmsg"
CGROUP = Path("/sys/fs/cgroup/memory")


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[tuple[str, int]]:
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    yield str(path), end
    os.close(end)


def test_records_of_a_pipe(pipe: tuple[str, int]) -> None:
    path, end = pipe
    log = KernelLog(path)
    assert log.read() == []
    os.write(end, b"6,10,123,-;one\n SUBSYSTEM=usb\n4,11,124,-,caller=T1;two\\x0a\n6,12,125,-;th")
    first, second = log.read()
    assert first == (10, 123, 6, "6,10,123,-;one", 0)
    assert (second.seq, second.prio, second.line) == (11, 4, "4,11,124,-,caller=T1;two\\x0a")
    os.write(end, b"ree\nno record at all\n")
    (third,) = log.read()
    assert third.line == "6,12,125,-;three"
    assert (second.lost, third.lost) == (0, 0)
    log.close()
    log.close()


def test_a_gap_in_the_numbers_is_what_was_lost(pipe: tuple[str, int]) -> None:
    path, end = pipe
    log = KernelLog(path, after_seq=4)
    os.write(end, b"6,3,1,-;old\n6,4,1,-;known\n6,5,1,-;new\n6,9,1,-;later\n")
    assert [(record.seq, record.lost) for record in log.read()] == [(5, 0), (9, 3)]
    os.write(end, b"12,11,1,-;user\n6,13,1,-;x\n")  # one before the user's, one after it
    assert [(record.seq, record.lost) for record in log.read()] == [(13, 2)]
    log.close()


def test_what_user_space_wrote_stays_behind_unless_it_claims_a_kill(pipe: tuple[str, int]) -> None:
    path, end = pipe
    log = KernelLog(path)
    os.write(end, b"12,1,1,-;hello\n12,2,1,-;Killed process 1 (a) total-vm:1kB\n6,3,1,-;x\n")
    assert [(record.seq, record.prio) for record in log.read()] == [(2, 12), (3, 6)]
    assert log.foreign == 2
    log.close()


def test_a_storm_comes_in_batches(pipe: tuple[str, int]) -> None:
    path, end = pipe
    log = KernelLog(path)
    count = 0
    for seq in range(3 * BATCH):
        os.write(end, f"6,{seq},1,-;x\n".encode())
        if seq % 1000 == 999:
            count += len(log.read())
    while found := log.read():
        count += len(found)
    assert count == 3 * BATCH
    log.close()


def test_overruns_and_refusals(
    pipe: tuple[str, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, end = pipe
    log = KernelLog(path, after_seq=1)
    os.write(end, b"6,9,1,-;x\n")
    real, errors = os.read, [errno.EPIPE, errno.EINVAL, errno.EINTR]

    def read(fd: int, size: int) -> bytes:
        if errors:
            raise OSError(errors.pop(0), "told")
        return real(fd, size)

    monkeypatch.setattr(os, "read", read)
    (record,) = log.read()
    assert (record.seq, record.lost) == (9, 7)
    errors.append(errno.EIO)
    with pytest.raises(KernelLogError, match=r"kmsg: told$"):
        log.read()
    log.close()
    with pytest.raises(KernelLogError, match="no such file"):
        KernelLog(str(tmp_path / "none"))

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(KernelLogError, match="needs root, or CAP_SYSLOG") as told:
        KernelLog()
    assert "\n" not in str(told.value)


def test_what_stands_in_the_place_of_the_kernels_log(monkeypatch: pytest.MonkeyPatch) -> None:
    from watchdog.sense import kernel_log

    # containers have /dev/null there, which is always ready and never says anything
    monkeypatch.setattr(kernel_log, "PATH", "/dev/null")
    with pytest.raises(KernelLogError, match="another file stands in its place"):
        KernelLog("/dev/null")


def test_a_log_that_cannot_be_sought(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "kmsg").write_bytes(b"6,1,1,-;x\n")

    def refuse(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    log = KernelLog(str(tmp_path / "kmsg"), after_seq=-1)
    assert [record.seq for record in log.read()] == [1]
    log.close()
    monkeypatch.setattr(os, "lseek", refuse)
    with pytest.raises(KernelLogError, match="input/output error"):
        KernelLog(str(tmp_path / "kmsg"))


# -- a real kill ----------------------------------------------------------------------------------


def _can_kill() -> bool:
    return os.geteuid() == 0 and os.access(PATH, os.R_OK) and (CGROUP / "cgroup.procs").exists()


@pytest.mark.skipif(not _can_kill(), reason="needs root, /dev/kmsg and a v1 memory hierarchy")
def test_a_real_kill_is_a_report_within_two_seconds() -> None:
    group = CGROUP / f"oomtest-report-{os.getpid()}"
    group.mkdir()
    log = KernelLog()
    assembler = Assembler()
    child: subprocess.Popen[bytes] | None = None
    try:
        (group / "memory.limit_in_bytes").write_text("24M")
        program = "open('/proc/self/comm','w').write('x) total-vm:0kB');input();b'x'*(64<<20)"
        child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
        (group / "cgroup.procs").write_text(str(child.pid))
        child.communicate(b"\n", timeout=20)
        died = time.monotonic()
        found: list[Report] = []
        while time.monotonic() < died + 2 and not found:
            now = time.monotonic()
            for record in log.read():
                found += assembler.feed(KernelLine(0.0, now, record.line))
            found += assembler.tick(0.0, time.monotonic())
            found = [one for one in found if one.cgroup == f"/{group.name}"]
            time.sleep(0.02)
        (report,) = found
        assert report.victim is not None
        assert (report.victim.pid, report.victim.comm) == (child.pid, "x) total-vm:0kB")
        assert report.limits["memory"].limit == 24 << 20
    finally:
        log.close()
        if child is not None and child.poll() is None:
            child.kill()
            child.wait()
        for _ in range(100):
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.02)


# -- the journal ----------------------------------------------------------------------------------

BOOTS = [uuid.UUID(int=1), uuid.UUID(int=2)]


class Reader:
    """A journal of a few entries, as systemd-python shows one."""

    entries: list[dict[str, Any]] = []  # noqa: RUF012

    def __init__(self, path: str | None = None) -> None:
        if path == "/nowhere":
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        self.at = 0
        self.boot: str | None = None

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add_match(self, **match: str) -> None:
        self.boot = match.get("_BOOT_ID", self.boot)

    def add_disjunction(self) -> None:
        pass

    add_conjunction = add_disjunction

    def flush_matches(self) -> None:
        self.boot = None

    def query_unique(self, _field: str) -> set[uuid.UUID]:
        return set(BOOTS)

    def _shown(self) -> list[dict[str, Any]]:
        return [e for e in self.entries if self.boot in (None, e["_BOOT_ID"].hex)]

    def seek_head(self) -> None:
        self.at = 0

    def seek_tail(self) -> None:
        self.at = len(self._shown())

    def seek_realtime(self, t: float) -> None:
        shown = self._shown()
        later = [i for i, e in enumerate(shown) if e["__REALTIME_TIMESTAMP"].timestamp() >= t]
        self.at = later[0] if later else len(shown)

    def seek_monotonic(self, seconds: float, boot: uuid.UUID) -> None:
        self.at = next(
            n for n, e in enumerate(self._shown())
            if e["_BOOT_ID"] == boot and e["_SOURCE_MONOTONIC_TIMESTAMP"].total_seconds() >= seconds
        )  # fmt: skip

    def seek_cursor(self, cursor: str) -> None:
        if not cursor.startswith("c"):
            raise OSError(errno.EINVAL, "Invalid argument")
        cursors = [entry["__CURSOR"] for entry in self._shown()]
        self.at = cursors.index(cursor) if cursor in cursors else 0

    def test_cursor(self, cursor: str) -> bool:
        return bool(self._shown()[self.at - 1]["__CURSOR"] == cursor)

    def get_next(self) -> dict[str, Any]:
        shown = self._shown()
        self.at += 1
        return shown[self.at - 1] if self.at <= len(shown) else {}

    def get_previous(self) -> dict[str, Any]:
        self.at = max(0, self.at - 1)
        shown = self._shown()
        return shown[self.at] if self.at < len(shown) else {}


def entry(number: int, text: object, **more: object) -> dict[str, Any]:
    return {
        "_TRANSPORT": "kernel", "SYSLOG_FACILITY": 0, "SYSLOG_IDENTIFIER": "kernel",
        "PRIORITY": 3, "MESSAGE": text, "_BOOT_ID": BOOTS[1], "__CURSOR": f"c{number}",
        "_SOURCE_MONOTONIC_TIMESTAMP": datetime.timedelta(microseconds=number),
        "__REALTIME_TIMESTAMP": datetime.datetime.fromtimestamp(1000 + number, datetime.UTC),
    } | more  # fmt: skip


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Reader]:
    package, module = ModuleType("systemd"), ModuleType("systemd.journal")
    module.Reader = package.journal = Reader  # type: ignore[attr-defined]
    package.journal = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "systemd", package)
    monkeypatch.setitem(sys.modules, "systemd.journal", module)
    monkeypatch.setattr(Reader, "entries", [])
    return Reader


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_journal_gives_the_same_report_as_the_ring(
    fake: type[Reader], capsys: pytest.CaptureFixture[str]
) -> None:
    from watchdog.oom_report import lines

    raw = (KMSG / "memcg-newline-comm.kmsg").read_text("utf-8").splitlines()
    for number, record in enumerate(raw):
        line = lines.read(record)
        text: object = line.text
        if "\udcff" in line.text:  # journald gives bytes where a message is no UTF-8
            text = line.text.encode("utf-8", "surrogateescape")
        stamp = datetime.timedelta(microseconds=line.usec or 0)
        fake.entries.append(entry(number, text, _SOURCE_MONOTONIC_TIMESTAMP=stamp))
    assert journal.main(["--boot", str(BOOTS[1])]) == 0
    found = told(capsys)
    assembler = Assembler()
    out: list[Report] = []
    for one in found:
        assert one["boot_id"] == str(BOOTS[1])
        out += assembler.feed(KernelLine(0.0, one["usec"] / 1e6, one["line"]))
    (mine,) = out + assembler.flush()
    assembler, out = Assembler(), []
    for record in raw:
        out += assembler.feed(KernelLine(0.0, None, record))
    (want,) = out + assembler.flush()
    assert mine._replace(up=None) == want


def test_only_the_kernels_own_words(fake: type[Reader], capsys: pytest.CaptureFixture[str]) -> None:
    fake.entries += [
        entry(1, "mine", SYSLOG_FACILITY=1), entry(2, "yours", SYSLOG_IDENTIFIER="app"),
        entry(3, "a\nb", PRIORITY=9, _SOURCE_MONOTONIC_TIMESTAMP="x"), entry(4, None),
        entry(5, ["c", "d"], _SOURCE_MONOTONIC_TIMESTAMP="77", __REALTIME_TIMESTAMP=None),
        entry(6, b"\x1b\xff"), entry(7, "Killed process 1 (a)", SYSLOG_FACILITY=1),
        entry(8, "Missed 12 kernel messages", _TRANSPORT="driver"),
        entry(9, "Missed 13 kernel messages", _TRANSPORT="stdout"), entry(10, [], PRIORITY=4),
    ]  # fmt: skip
    assert journal.main([]) == 0
    first, second, third, forged, missed, last = told(capsys)
    assert (first["line"], first["usec"], first["t"]) == ("6,0,0,-;a\\x0ab", None, 1003.0)
    assert (second["line"], second["usec"], second["t"]) == ("3,0,77,-;c", 77, 0.0)
    assert third["line"] == "3,0,6,-;\\x1b\\xff"
    assert forged["line"].startswith("11,0,7,-;Killed")  # refused by whoever reads it, and told
    assert (missed, last) == ({"missed": 12}, {"cursor": "c10"})


def after(number: int, cursor: str | None, boot: int = 1) -> list[str]:
    return [
        "--after",
        mark.Mark(str(BOOTS[boot]), 1000.0 + number, 60.0, number, 0, 5, cursor).text(),
    ]


def test_going_on_after_a_mark(fake: type[Reader], capsys: pytest.CaptureFixture[str]) -> None:
    fake.entries += [entry(number, f"line {number}") for number in range(5)]
    assert journal.main(after(2, "c2")) == 0  # exactly there
    assert told(capsys)[0] == {"cursor": "c2"}
    assert journal.main(after(2, "c2")) == 0
    assert [one["cursor"] for one in told(capsys)] == ["c2", "c3", "c4"]
    assert journal.main(after(4, "c4")) == 0
    assert told(capsys) == [{"cursor": "c4"}]
    for cursor in ("c99", "broken", None):  # rotated away, none, not known
        assert journal.main(after(2, cursor)) == 0  # a little before it; the parent has the mark
        assert [one["cursor"] for one in told(capsys)] == ["c0", "c1", "c2", "c3", "c4"]
    first = fake.entries.pop(0), fake.entries.pop(0)
    assert journal.main(after(1, None)) == 0  # what came before was vacuumed
    assert told(capsys)[0] == {"gap": [1001.0, 1002.0]}
    fake.entries[:0] = first
    assert journal.main(after(2, None, boot=0)) == 0  # that boot is not there at all
    assert told(capsys)[0] == {"gap": [1002.0, 1002.0]}
    assert journal.main(["--most", "2"]) == 0
    assert [one["cursor"] for one in told(capsys)] == ["c0", "c1"]
    assert journal.main(["--since", "1003"]) == 0
    assert len(told(capsys)) == 2
    found = mark.Mark(str(BOOTS[1]), 1003.0, 60.0)  # nothing was read yet: by the clock
    assert journal.main(["--after", found.text()]) == 0
    assert [one["cursor"] for one in told(capsys)] == ["c3", "c4"]


def test_only_what_can_matter_is_handed_on(
    fake: type[Reader], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "WHOLE", 2)
    monkeypatch.setattr(journal, "HEARTBEAT", 10)
    raw = (KMSG / "memcg-plain.kmsg").read_text("utf-8").splitlines()
    words = [f"usb 1-1: {n}" for n in range(40)] + [line.partition(";")[2] for line in raw]
    fake.entries += [entry(number, text) for number, text in enumerate(words)]
    assert journal.main(["--relevant"]) == 0
    found = told(capsys)
    assert [one["line"].partition(";")[2] for one in found[:2]] == words[:2]
    assert [one["cursor"] for one in found[2:5]] == ["c10", "c20", "c30"]  # how far it is
    assert [one["line"].partition(";")[2] for one in found[5:]] == [
        line.partition(";")[2] for line in raw
    ]


def test_boots(fake: type[Reader], capsys: pytest.CaptureFixture[str]) -> None:
    fake.entries += [entry(1, "old", _BOOT_ID=BOOTS[0]), entry(2, "new")]
    assert journal.main(["--boot", "-1"]) == 0
    assert told(capsys)[0]["line"].endswith(";old")
    assert journal.main(["--boot", "2"]) == 0
    assert told(capsys)[0]["line"].endswith(";new")
    assert journal.main(["--boot", "-9"]) == journal.NOTHING
    assert journal.main(["--boot", "current"]) == journal.NOTHING
    assert journal.main(["--boot", "0", "--directory", "/somewhere"]) == 0


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["--probe"], 0), (["--what"], 2), (["--since"], 2), (["--since", "x"], 2),
        (["--most", "x"], 2), (["--after", "x"], 2), (["--boot", "nonsense"], 2),
        (["--directory", "/nowhere"], 2), ([], 1)
    ],
)  # fmt: skip
def test_statuses(
    fake: type[Reader], argv: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fake.entries == []
    assert journal.main(argv) == status
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == (status == 2)
    assert said.out == ""


def test_without_systemd_python(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # a folder that is called systemd is not it
    monkeypatch.setitem(sys.modules, "systemd", ModuleType("systemd"))
    monkeypatch.delitem(sys.modules, "systemd.journal", raising=False)
    assert journal.main(["--probe"]) == journal.NO_SYSTEMD
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("the journal cannot be read: ")

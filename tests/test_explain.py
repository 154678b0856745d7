"""`oom-watchdog explain`: on any text, with the exit statuses that are documented."""

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from watchdog.cli import explain
from watchdog.facts import Entity, Event, KernelLine
from watchdog.history import records
from watchdog.history.entities import Trend
from watchdog.judge.diagnosis import oom_kill_event
from watchdog.judge.past import Kill, Leak, Past
from watchdog.oom_report.assemble import Assembler
from watchdog.sense.kernel_log import KernelLogError
from watchdog.store.db import Store

KMSG = Path(__file__).parent / "fixtures" / "kmsg"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def do(*argv: object) -> tuple[int, str, str]:
        status = explain.main([str(word) for word in argv])
        said = capsys.readouterr()
        return status, said.out, said.err

    return do


def test_one_screen(run: Run) -> None:
    status, out, err = run(KMSG / "memcg-plain.kmsg")
    assert (status, err) == (0, "")
    assert out.startswith("OOM kill · 2098.377504 s after boot · kernel 6.18.44-fc-v657\n")
    for word in ("leaker (pid 5359) was killed", "the limit of", "32.0 MiB", "why it", "why now",
                 "asked", "memory", "largest", "verdict", "next"):  # fmt: skip
        assert word in out
    assert len(out.splitlines()) <= 24
    assert max(map(len, out.splitlines())) <= 79


@pytest.mark.parametrize("path", sorted(KMSG.glob("*.kmsg")), ids=lambda path: path.stem)
def test_each_screen_fits_and_moves_no_cursor(path: Path, run: Run) -> None:
    status, out, _ = run(path)
    assert status == 0
    for screen in out.split("\nOOM "):
        assert len(screen.splitlines()) <= 24
    assert out.replace("\n", "").isprintable()
    assert run(path, "--full")[1].replace("\n", "").isprintable()


def test_many_are_numbered_and_summed_up(run: Run) -> None:
    status, out, _ = run(KMSG / "memcg-volunteer.kmsg", KMSG / "memcg-storm.kmsg")
    assert status == 0
    assert "OOM kill 1 of 10 ·" in out
    assert "OOM kill 10 of 10 ·" in out
    assert "10 reports: 10 processes killed" in out
    assert "who       stormer ×8, volunteer, web worker: 1" in out
    assert "limits    /oomtest-report-c ×8, " in out
    assert out.splitlines()[-1] == (
        "again     the same again and again: /oomtest-report-c, 8 of 10 reports"
    )
    assert run(KMSG / "memcg-storm.kmsg", "--last")[1].count("OOM kill") == 1


def test_very_many_are_one_line_each(run: Run, tmp_path: Path) -> None:
    lines = [
        f"[{n:5}.000000] Memory cgroup out of memory: Killed process {n} (a{n % 11}) "
        "total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB"
        for n in range(1, 40)
    ]
    lines.append("[   50.000000] Kernel panic - not syncing: System is deadlocked on memory")
    log = tmp_path / "log"
    log.write_text("\n".join(lines))
    status, out, _ = run(log)
    assert status == 0
    assert len(out.splitlines()) < 50
    assert "--full shows each" in out
    assert "1 report without a kill" in out
    assert "and 3 more" in out
    assert run(log, "--full")[1].count("OOM kill ") == 39


def test_the_same_report_in_two_files_is_one(run: Run, tmp_path: Path) -> None:
    text = (KMSG / "memcg-plain.kmsg").read_text()
    copy = tmp_path / "dmesg"
    copy.write_text(
        "\n".join(
            f"[{int(line.split(',')[2]) // 1000000:5}.{int(line.split(',')[2]) % 1000000:06}] "
            + line.partition(";")[2]
            for line in text.splitlines()
        )
    )
    assert run(KMSG / "memcg-plain.kmsg", copy)[1].count("verdict") == 1


def test_full_shows_memory_and_all_tasks(run: Run) -> None:
    out = run(KMSG / "memcg-plain.kmsg", "--full")[1]
    assert "failed 72 times" in out
    assert "in no counter" in out
    assert "\n5358    0  10.1 MiB   0 B    0      -  bystander\n" in out
    assert "lines     1 to 98" in out


GLOBAL = """\
2026-11-23T05:31:08.5+01:00 host kernel: a invoked oom-killer: gfp_mask=0x1(GFP_NOFS), order=0, oom_score_adj=0
2026-11-23T05:31:08.5+01:00 host kernel: active_anon:100 inactive_anon:20 isolated_anon:0
2026-11-23T05:31:08.5+01:00 host kernel:  free:50 slab_reclaimable:5 slab_unreclaimable:6
2026-11-23T05:31:08.5+01:00 host kernel: Node 0 DMA free:200kB min:64kB low:80kB high:96kB
2026-11-23T05:31:08.5+01:00 host kernel: Node 0 DMA: 5*4kB 17*8kB = 200kB
2026-11-23T05:31:08.5+01:00 host kernel: Total swap = 8kB
2026-11-23T05:31:08.5+01:00 host kernel: 300 pages RAM
2026-11-23T05:31:08.5+01:00 host kernel: [ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name
2026-11-23T05:31:08.5+01:00 host kernel: [   10]     0    10      100       20     1        0             0 b
2026-11-23T05:31:08.5+01:00 host kernel: Out of memory: Killed process 10 (b) total-vm:400kB, anon-rss:80kB, file-rss:0kB, shmem-rss:0kB
2026-11-23T05:31:08.5+01:00 host kernel: Kill process 11 (c) sharing same memory
"""  # noqa: E501


def test_a_global_report_with_a_date(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "kern.log"
    log.write_text(GLOBAL)
    status, out, _ = run(log, "--full")
    assert status == 0
    assert "the whole machine was out of memory" in out
    assert "zone DMA of node 0: free 200 KiB, min 64.0 KiB, low 80.0 KiB" in out
    assert "swap 8.0 KiB, ? free" in out
    assert "also      c (pid 11)" in out
    assert "in no counter" in out
    event = json.loads(run(log, "--json")[1])
    assert event["t"] == 1795408268.5
    assert event["scope"] == "global"
    assert run(log, "--since", "@1795408269")[0] == 1
    assert run(log, "--since", "@1795408268")[0] == 0


def test_json_is_the_event(run: Run, valid_event: Callable[[Any], None]) -> None:
    status, out, err = run(KMSG / "memcg-storm.kmsg", "--json")
    assert (status, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    assert len(events) == 8
    assert len({event["id"] for event in events}) == 8
    for event in events:
        assert (event["event"], event["t"]) == ("oom.kill", None)
        valid_event(event | {"t": 0})
        assert event["because"]


def test_standard_input_and_gzip(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress((KMSG / "memcg-plain.kmsg").read_bytes())
    log = tmp_path / "no-ending"
    log.write_bytes(packed)
    assert run(log)[0] == 0
    for data in (packed, (KMSG / "memcg-plain.kmsg").read_bytes()):
        stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(data)))  # type: ignore[arg-type]
        monkeypatch.setattr(sys, "stdin", stdin)
        assert "leaker (pid 5359)" in run("-")[1]
    log.write_bytes(packed[:-200])
    status, _, err = run(log)
    assert status in (0, 1)
    assert "compressed data end in the middle" in err


def saved(name: str) -> list[str]:
    """A recording as a syslog would hold it."""
    out = []
    for record in (KMSG / name).read_text("utf-8", "surrogateescape").splitlines():
        head, _, said = record.partition(";")
        usec = int(head.split(",")[2])
        stamp = f"Nov 23 05:31:08 host-7 kernel: [{usec // 1000000:5}.{usec % 1000000:06}] "
        out += [stamp + line for line in said.split("\\x0a")]
    return out


def told(out: str) -> list[dict[str, Any]]:
    """The events, without what depends on the order of the lines."""
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_other_codings(coding: str, run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(saved("memcg-plain.kmsg")))
    want = told(run("--json", log)[1])
    log.write_bytes("\r\n".join(saved("memcg-plain.kmsg")).encode(coding))
    status, out, err = run("--json", log)
    assert (status, err) == (0, "")
    assert told(out) == want
    assert want[0]["host"] == "host-7"
    assert "host-7" in run(log)[1].splitlines()[0]


@pytest.mark.parametrize("pack", [lzma.compress, bz2.compress])
def test_other_ways_to_pack(pack: Callable[[bytes], bytes], run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(pack((KMSG / "memcg-plain.kmsg").read_bytes()))
    assert "leaker (pid 5359)" in run(log)[1]


@pytest.mark.parametrize("name", ["memcg-plain.kmsg", "memcg-volunteer.kmsg", "memcg-storm.kmsg"])
def test_the_newest_line_first(name: str, run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    boot = [f"Nov 23 05:30:01 host-7 kernel: [    1.{n:06}] a line of the boot" for n in range(99)]
    log.write_text("\n".join(boot + saved(name)))
    want = told(run("--json", log)[1])
    log.write_text("\n".join(reversed(boot + saved(name))))
    status, out, err = run("--json", log)
    assert (status, err) == (0, "")
    assert told(out) == want


@pytest.mark.parametrize(
    ("data", "status", "word"),
    [
        (b"", 1, "no OOM report in 0 lines"),
        (b"hello\nworld\n", 1, "no OOM report in 2 lines"),
        (bytes(range(256)) * 20, 2, "binary data"),
        (b"\x7fELF\x02\x01\x01" + bytes(100), 2, "binary data"),
        (b"LPKSHHRH" + bytes(100), 2, "--directory"),
        (b"\x1f\x8b nonsense", 2, "compressed"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    run: Run, tmp_path: Path, data: bytes, status: int, word: str
) -> None:
    log = tmp_path / "log"
    log.write_bytes(data)
    found, out, err = run(log)
    assert out == ""
    assert word in err
    assert len(err.splitlines()) <= 2
    assert found in (status, 1) if data[:1] == b"\x1f" else found == status


def test_several_files_without_a_report(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("hello\nworld\n")
    assert run(tmp_path / "a", tmp_path / "b") == (
        1, "", "oom-watchdog: no OOM report in 4 lines of 2 files\n"
    )  # fmt: skip


def test_files_that_are_none(run: Run, tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        status, out, err = run(path)
        assert (status, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert str(path) in err
    assert run(tmp_path, "--boot", "0")[0] == 2
    with pytest.raises(SystemExit) as ended:
        run("--since", "5m")
    assert ended.value.code == 2


def test_a_crash_left_zeros_in_the_log(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    text = (KMSG / "memcg-plain.kmsg").read_bytes()
    log.write_bytes(text[:3000] + b"\0" * 500 + b"\n" + text[3000:])
    assert run(log)[0] == 0


def test_a_line_that_is_forged_again_and_again_is_refused_in_one_line(
    run: Run, tmp_path: Path
) -> None:
    log, long = tmp_path / "log", "total-vm:1kB, anon-rss:1kB" + ", x" * 40
    text = "".join(f"12,{n},{n},-;Killed process 1 (a) {long}\n" for n in range(1, 8))
    log.write_text(text + "12,9,9,-;Killed process 2 (b) total-vm:1kB, anon-rss:1kB\n")
    said = run(log)[2].splitlines()
    assert [line.partition("refused: ")[2] for line in said[:2]] == [
        f"{f'Killed process 1 (a) {long}'[:119]}… (7 times)",
        "Killed process 2 (b) total-vm:1kB, anon-rss:1kB",
    ]  # fmt: skip
    assert len(run(log, log)[2].splitlines()) == len(said) == 3


def test_unreadable_and_forged_lines_are_said(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "Killed process x (a) total-vm:1kB\n"
        "12,1,1,-;Killed process 1 (a) total-vm:1kB, anon-rss:1kB\n"
    )
    status, _, err = run(log)
    assert status == 1
    assert "1 kill line could not be read (line 1)" in err
    assert "not the kernel's own, refused: Killed process 1" in err


def test_json_can_hold_what_is_no_text(run: Run, tmp_path: Path) -> None:
    """Half of a surrogate pair, escaped: a name of other bytes, and no traceback."""
    log = tmp_path / "log"
    log.write_text(
        '{"MESSAGE":"Memory cgroup out of memory: Killed process 7 (a\\ud800b) total-vm:8kB, '
        'anon-rss:4kB, file-rss:0kB, shmem-rss:0kB","_TRANSPORT":"kernel",'
        '"SYSLOG_IDENTIFIER":"kernel"}\n'
    )
    status, out, err = run(log)
    assert (status, err) == (0, "")
    assert "a\\xed\\xa0\\x80b (pid 7, 4.0 KiB) was killed" in out


def test_dates_that_are_not_full_are_shown_with_since(run: Run) -> None:
    status, out, err = run(KMSG / "memcg-plain.kmsg", "--since", "1h")
    assert status == 0
    assert "without a full date" in err
    assert out


@pytest.mark.parametrize("pipe", [False, True])
def test_what_comes_in_is_read_without_being_asked_for(tmp_path: Path, pipe: bool) -> None:
    """A file or a pipe as standard input; /dev/null is neither."""
    argv = [sys.executable, "-I", "-m", "watchdog", "explain"]
    with (KMSG / "memcg-plain.kmsg").open("rb") as file:
        if pipe:
            done = subprocess.run(argv, input=file.read(), capture_output=True, check=False)
        else:
            done = subprocess.run(argv, stdin=file, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"leaker (pid 5359, 36.0 MiB) was killed" in done.stdout


def test_a_silent_pipe_is_said(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(explain, "SILENT_S", 0.01)
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        threading.Timer(0.1, os.close, [writing]).start()
        status, _, err = run()
    assert status == 1
    assert "waiting for standard input" in err
    assert "no OOM report in 0 lines of standard input" in err


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The store of a daemon that has seen the report of memcg-plain, and two kills before it."""
    assembler, made = Assembler(), []
    for line in (KMSG / "memcg-plain.kmsg").read_text().splitlines():
        made += assembler.feed(KernelLine(5000.0, 6.0, line))
    (report,) = made + assembler.flush()
    known = Entity(5359, 77, "leaker", "/usr/bin/leaker", 0, "shop.service")
    earlier = tuple(Kill(5000.0 - 7200 * n, 9, "leaker", 30 << 20, 32 << 20) for n in (2, 1))
    past = Past(known, leak=Leak("confirmed", 1e6, 900.0), kills=earlier)
    body, because, name = oom_kill_event(report, past)
    boot = "f00dface-0000-0000-0000-000000000000"
    events = [
        Event("oom.kill", f"oom.kill-f00dface-{name}", None, 5000.0, 6.0, boot, "h", because, body)
    ]
    folder = tmp_path / "state"
    folder.mkdir()
    store = Store(str(folder / "history.db"))
    store.put_events(events)
    store.close()
    return folder


def test_what_the_daemon_knew_is_told_again(run: Run, state: Path) -> None:
    alone = run(KMSG / "memcg-plain.kmsg")[1]
    assert "perhaps its limit is too low" in alone
    status, out, err = run(KMSG / "memcg-plain.kmsg", "--state", state)
    assert (status, err) == (0, "")
    assert "leaker (pid 5359, shop.service, 36.0 MiB) was killed" in out
    assert "it leaks." in out
    assert "2 earlier OOM kills of it, at 30.0 MiB, 30.0 MiB" in out
    assert "systemctl restart shop.service" in out
    event = json.loads(run(KMSG / "memcg-plain.kmsg", "--state", state, "--json")[1])
    assert event["id"].startswith("oom.kill-f00dface-2098377504-5359")
    assert (event["verdict"], event["unit"], event["t"]) == ("leak", "shop.service", 5000.0)
    # another log of which the store knows nothing stays as it is
    assert (
        run(KMSG / "memcg-volunteer.kmsg", "--state", state)[1]
        == (run(KMSG / "memcg-volunteer.kmsg")[1])
    )


def test_a_neighbour_in_the_same_log_is_of_the_same_machine(
    run: Run, state: Path, tmp_path: Path
) -> None:
    """It is joined with the earlier kills of the store, though the daemon did not see it."""
    text = (KMSG / "memcg-plain.kmsg").read_text()
    later = (
        "2026-11-23T05:31:08.5+00:00 host kernel: [ 2999.000000] Memory cgroup out of memory: "
        "Killed process 77 (leaker) total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB"
    )
    log = tmp_path / "log"
    log.write_text(text + later + "\n")
    out = run(log, "--state", state, "--json")[1].splitlines()
    event = json.loads(out[1])
    assert event["kills_before"] == []  # the limit is not named there: nothing is claimed
    log.write_text(text + text.replace("5359", "5360").replace(",2098", ",3098"))
    events = [json.loads(line) for line in run(log, "--state", state, "--json")[1].splitlines()]
    assert [event["pid"] for event in events] == [5359, 5360]


def test_a_store_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    status, out, err = run(KMSG / "memcg-plain.kmsg", "--state", tmp_path / "none")
    assert (status, out) == (2, "")
    assert f"there is no folder {tmp_path / 'none'} " in err
    assert run(KMSG / "memcg-plain.kmsg", "--state", tmp_path)[0] == 1  # nothing was kept yet
    (tmp_path / "history.db").write_bytes(b"nothing of the kind" * 100)
    status, out, err = run(KMSG / "memcg-plain.kmsg", "--state", tmp_path)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1


def storm(count: int, every_s: float = 1.5) -> str:
    return "\n".join(
        f"[{1000 + n * every_s:12.6f}] Memory cgroup out of memory: Killed process {n + 1} "
        "(worker) total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB"
        for n in range(count)
    )


def test_a_storm_is_a_summary(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(storm(200))
    status, out, _ = run(log)
    assert status == 0
    assert len(out.splitlines()) <= 24
    assert "1-200" in out
    assert "200 reports: 200 processes killed" in out
    told = " ".join(out.split())
    assert "first 1000.000000 s after boot, last 1298.500000 s after boot (4 min 58 s)" in told
    assert "1.5 s apart" in told
    assert "the same again and again: a cgroup that is not named, 200 of 200" in told


class FakeLog:
    """The ring of the kernel, recorded."""

    def __init__(self, after_seq: int | None = None) -> None:
        from watchdog.sense.kernel_log import KernelLog

        assert after_seq == -1
        self.log = KernelLog(str(KMSG / "memcg-plain.kmsg"), after_seq)

    def read(self) -> Any:
        return self.log.read()

    def close(self) -> None:
        self.log.close()


def test_this_machine(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "KernelLog", FakeLog)
    status, out, _ = run("--last", "--json")
    assert status == 0
    event = json.loads(out)
    assert event["boot_id"]
    assert event["t"] > 1_600_000_000
    assert event["id"].startswith(f"oom.kill-{event['boot_id'][:8]}-2098377504-5359")
    monkeypatch.setattr(explain, "_boot_id", lambda: None)
    assert run()[0] == 0


def test_this_machines_report_is_joined_with_its_trend(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A kill that the daemon did not see (it was stopped) has a past in the store all the same."""
    monkeypatch.setattr(explain, "KernelLog", FakeLog)
    told = json.loads(run("--last", "--json")[1])
    t, boot = told["t"], told["boot_id"]
    trend = Trend(t - 900, 100.0)
    for second in range(0, 900, 5):
        trend.add(t - 900 + second, 100.0 + second, 33 << 10)
    gone = Trend(t - 90000, 1.0)
    gone.add(t - 80000, 2.0, 1 << 10)
    body = told | {"t": t - 7200}
    before = Event("oom.kill", "oom.kill-x-1", None, t - 7200, 6.0, boot, "h", ("x",), {
        key: value for key, value in body.items() if key not in Event._fields and key != "event"
    } | {"kernel_time_s": 1.0})  # fmt: skip
    folder = tmp_path / "state"
    folder.mkdir()
    store = Store(str(folder / "history.db"))
    store.put_events([before])
    store.put_entities([
        records.dump(trend, "5359:77", boot, "leaker", "shop.service"),
        records.dump(gone, "5359:12", boot, "cron", "cron.service"),
    ])  # fmt: skip
    store.close()
    event = json.loads(run("--last", "--json", "--state", folder)[1])
    assert (event["verdict"], event["confidence"]) == ("limit-too-low", 0.75)
    assert event["unit"] == "shop.service"
    assert "steady at 33.0 MiB" in event["verdict_because"]
    assert event["kills_before"] == []  # that one was of no unit
    assert event["growth"]["watched_s"] == 895.0
    # without the trend the name and the limit tell who died before
    trend.first_t = trend.last_t = 5.0
    other = tmp_path / "other"
    other.mkdir()
    store = Store(str(other / "history.db"))
    store.put_events([before])
    store.put_entities([records.dump(trend, "5359:77", boot, "leaker", "shop.service")])
    store.close()
    event = json.loads(run("--last", "--json", "--state", other)[1])
    assert [kill["t"] for kill in event["kills_before"]] == [t - 7200]
    assert "2nd OOM kill of this program in 2 h" in " ".join(event["verdict_reasons"])


def _refuse(after_seq: int | None = None) -> None:
    raise KernelLogError("/dev/kmsg: refused")


def test_the_journal_where_the_ring_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "KernelLog", _refuse)
    entries = [
        json.dumps({"t": 7.0, "usec": int(line.split(",")[2]), "boot_id": "b", "line": line})
        for line in (KMSG / "memcg-plain.kmsg").read_text().splitlines()
    ]
    program = f'import sys\nprint({chr(10).join(entries)!r})\nprint(\'{{"cursor":"c"}}\')'
    monkeypatch.setattr(explain, "_program", lambda: [sys.executable, "-c", program])
    status, out, err = run("--json")
    assert (status, err) == (0, "oom-watchdog: /dev/kmsg: refused; read the journal instead\n")
    assert json.loads(out)["boot_id"] == "b"
    assert json.loads(out)["t"] == 7.0
    assert run("--boot", "-1")[0] == 0
    fails = "import sys; sys.exit('one\\nno journal here')"
    monkeypatch.setattr(explain, "_program", lambda: [sys.executable, "-c", fails])
    assert run()[0] == 1  # status 1: nothing there
    fails = "import sys; print('no journal here', file=sys.stderr); sys.exit(2)"
    monkeypatch.setattr(explain, "_program", lambda: [sys.executable, "-c", fails])
    status, _, err = run()
    assert status == 2
    assert err == "oom-watchdog: /dev/kmsg: refused; no journal here\n"


def test_the_program_is_the_journals() -> None:
    launcher, module = explain._program()[-2:]
    assert Path(launcher).is_relative_to(Path(__file__).parents[1])
    assert module == "watchdog.sense.journal"


def test_help_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        explain.main(["--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "example: oom-watchdog explain < dmesg.txt" in lines

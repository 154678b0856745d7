"""pstore after a panic: folders as backends and systemd leave them, and what is told of them."""

import os
from pathlib import Path
from typing import Any

import pytest

from watchdog.crashes import Crashes
from watchdog.engine import Engine
from watchdog.facts import Event, KernelLine, PastKill, Tick
from watchdog.policy.rules import default_rules
from watchdog.sense import pstore

PLAIN = Path(__file__).parent / "fixtures" / "kmsg" / "memcg-plain.kmsg"
CRASHED = 1_700_000_000
PANIC = "Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled"


def stamped(text: str, usec: int, prio: int = 4) -> str:
    return f"<{prio}>[{usec // 1_000_000:5d}.{usec % 1_000_000:06d}] {text}"


def dump(*, panic: bool = True) -> list[str]:
    """The end of a kernel log: an OOM kill, and later a panic of an OOM report without a victim."""
    out = []
    for line in PLAIN.read_text("utf-8").splitlines():
        head, _, text = line.partition(";")
        prio, _, usec, _ = head.split(",")
        out.append(stamped(text, int(usec), int(prio)))
    if panic:
        usec = 2_200_000_000
        for text in (
            "java invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
            "CPU: 0 UID: 0 PID: 77 Comm: java Not tainted 6.18.0 #1",
            "Mem-Info:",
            "active_anon:1 inactive_anon:2 isolated_anon:0",
            PANIC,
        ):
            usec += 10
            out.append(stamped(text, usec))
    return out


def parts(lines: list[str], size: int = 2000, why: str = "Panic#1") -> list[str]:
    """As kmsg_dump cuts them: the first part is the newest."""
    found: list[list[str]] = [[]]
    for line in reversed(lines):
        if sum(map(len, found[-1])) > size:
            found.append([])
        found[-1].append(line)
    return [
        f"{why} Part{number}\n" + "".join(f"{line}\n" for line in reversed(chunk))
        for number, chunk in enumerate(found, 1)
    ]


def put(path: Path, text: str | bytes, at: float = CRASHED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    os.utime(path, (at, at))
    return path


class Told:
    """An engine, and what it is told of a tree."""

    def __init__(self, *roots: Path) -> None:
        self.roots = tuple(map(str, roots))
        self.kept: dict[str, str] = {}
        self.notes: list[str] = []
        self.past: list[PastKill] = []
        self.engine = Engine(default_rules(), "host")
        self.engine.boot_id = "the boot that runs"

    def say(self, kind: str, because: Any, body: dict[str, Any]) -> None:
        assert (kind, body["what"]) == ("watchdog.degraded", "pstore")
        self.notes += because

    def look(self) -> list[Event]:
        crashes = Crashes(self.kept, self.say, self.roots)
        out: list[Event] = []
        for fact in crashes.facts(lambda: self.past):
            assert isinstance(fact, KernelLine | Tick)
            out += [one for one in self.engine.feed(fact) if isinstance(one, Event)]
        assert self.engine.idle
        self.kept = crashes.kept()
        return out


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "pstore").mkdir()
    return tmp_path / "pstore"


def expect(events: list[Event]) -> None:
    kill, panic = [one for one in events if one.kind == "oom.kill"]
    assert (kill.body["victim"]["pid"], kill.body["victim"]["comm"]) == (5359, "leaker")
    assert kill.body["complete"] and kill.body["unit"] is None
    assert (kill.boot_id, panic.boot_id) == ("unknown", "unknown")
    assert panic.body["victim"] is None and panic.body["panic"] in PANIC
    assert panic.t == pytest.approx(CRASHED, abs=1)
    assert kill.t == pytest.approx(CRASHED - 101.6, abs=1)  # by the kernel's clock
    assert kill.id == "oom.kill-unknown-2098377504-5359"


def test_parts_of_efi_variables_are_put_in_order(tree: Path) -> None:
    for number, text in enumerate(parts(dump()), 1):
        put(tree / f"dmesg-efi_pstore-1700000000{number:02d}001", text, CRASHED + number % 2)
    told = Told(tree)
    expect(told.look())
    assert told.notes == []
    assert told.look() == []  # each once
    assert len(list(tree.iterdir())) == len(parts(dump()))


def test_what_systemd_has_joined_is_read_alone(tree: Path) -> None:
    folder = tree / "1700000000" / "001"
    made = parts(dump())
    for number, text in enumerate(made, 1):
        put(folder / f"dmesg-efi-1700000000{number:02d}001", text)
    put(folder / "dmesg.txt", "".join(reversed(made)))
    put(tree / "console-ramoops-0", dump()[0])  # no dump
    expect(Told(tree).look())


def test_ramoops_and_erst(tree: Path) -> None:
    (whole,) = parts(dump(), 1 << 20)
    put(tree / "dmesg-ramoops-0", f"===={CRASHED}.000001-D\n{whole}", CRASHED + 3600)
    told = Told(tree)
    expect(told.look())
    again = Told(tree)
    again.kept = told.kept
    for number, text in enumerate(parts(dump()), 1):
        put(tree / f"dmesg-erst-70000000000000{number:02d}", text)
    # the same crash out of another backend: the same ids, which the store knows already
    expect(again.look())


def test_two_crashes_are_told_apart(tree: Path) -> None:
    for hour, pid in ((0, "5359"), (1, "6464")):
        for number, text in enumerate(parts(dump(panic=False)), 1):
            put(tree / f"dmesg-erst-{hour}{number:03d}", text.replace("5359", pid),
                CRASHED + 3600 * hour)  # fmt: skip
    events = Told(tree).look()
    assert [one.body["victim"]["pid"] for one in events] == [5359, 6464]


def test_a_dump_with_a_kill_that_was_told_is_of_that_boot(tree: Path) -> None:
    put(tree / "dmesg-efi-17000000000100100", parts(dump(), 1 << 20)[0])
    told = Told(tree)
    told.past = [PastKill(1.0, "boot-a", "2098377504-5359", 1), PastKill(1.0, "b", "7-7", 1)]
    kill, panic = told.look()
    assert (kill.id, kill.boot_id) == ("oom.kill-boot-a-2098377504-5359", "boot-a")
    assert (panic.boot_id, panic.body["panic"] in PANIC) == ("boot-a", True)


def test_an_ordinary_panic_is_no_oom_report(tree: Path) -> None:
    put(tree / "dmesg-efi-1", "Panic#1 Part1\n" + stamped("Kernel panic - not syncing: VFS", 9))
    assert Told(tree).look() == []


def test_what_cannot_be_read_is_said_once(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tree / "dmesg-efi-1.enc.z", b"\x78\x9c\x00")
    put(tree / "dmesg-efi-2", os.urandom(2000))
    put(tree / "dmesg-efi-3", "")
    (tree / "dmesg-efi-4").symlink_to("/etc/passwd")
    monkeypatch.setattr(pstore, "FILE_MAX", 5000)
    put(tree / "dmesg-efi-5", "Panic#1 Part1\n" + "x" * 5000)
    told = Told(tree, tree.parent / "none")
    assert told.look() == []
    assert [note.rpartition("/")[2] for note in told.notes] == [
        "dmesg-efi-1.enc.z: compressed, not read",
        "dmesg-efi-2: no dump of the kernel log",
        "dmesg-efi-5: 4.9 KiB, too large to be read",
    ]
    told.notes = []
    assert told.look() == [] and told.notes == []


def test_it_is_bounded(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pstore, "FILES_MAX", 3)
    for number in range(9):
        put(tree / f"dmesg-efi-{number}", f"Oops#{number} Part1\n<4>[    1.000000] x\n",
            CRASHED + number)  # fmt: skip
    found = pstore.read((), (str(tree),))
    assert [crash.why for crash in found.crashes] == ["Oops"] * 3
    assert found.notes == ("6 files too many, not read",)
    monkeypatch.setattr(pstore, "TOTAL_MAX", 60)
    assert len(pstore.read((), (str(tree),)).crashes) == 1


def test_a_file_that_vanishes_and_a_folder_that_is_refused(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tree / "dmesg-efi-1", parts(dump(), 1 << 20)[0])

    def gone(*_: object) -> int:
        path.unlink(missing_ok=True)
        raise FileNotFoundError(2, "No such file or directory")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", gone)
        assert pstore.read((), (str(tree),)).crashes == ()

    def refuse(_: str) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    told = Told(tree)
    assert told.look() == [] and told.notes == [f"{tree}: permission denied"]


def test_marks_that_are_none(tree: Path) -> None:
    told = Told(tree)
    told.kept = {"pstore": "{no"}
    put(tree / "dmesg-efi-1", parts(dump(), 1 << 20)[0])
    expect(told.look())

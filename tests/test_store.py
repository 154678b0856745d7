"""The store keeps what it has answered for, stays small, and never stops the watcher."""

import contextlib
import json
import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from watchdog.facts import EntityRecord, Event
from watchdog.store import backlog, db, entities, events, file
from watchdog.store.db import Store
from watchdog.store.events import Wanted, follow_events, read_events

BOOT = "11112222333344445555666677778888"
NOW = 1_700_000_000.0
ROOT = Path(__file__).parent.parent


def event(number: int, kind: str = "watchdog.degraded", **body: Any) -> Event:
    one = f"{kind}-{BOOT[:8]}-{number}"
    return Event(kind, one, None, 1000.0 + number, 5.0, BOOT, "here", ("a test",), body)


def record(number: int, size: int = 2000, boot: str = BOOT, t: float = 1000.0) -> EntityRecord:
    return EntityRecord(f"{number}:1", boot, 1.0, t, size, b"x" * size)


def answers(store: Store) -> list[list[str]]:
    """All that was answered so far: the new ids of each batch."""
    assert store.flush()
    return [new for _, new in store.answers()]


def on_disk(folder: Path) -> int:
    return sum(one.stat().st_size for one in folder.glob("history.db*"))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "history.db")


def test_an_event_is_new_once_and_the_answer_wakes_a_poll(path: str) -> None:
    store = Store(path)
    assert store.failed is None
    poll = select.poll()
    poll.register(store.answers_fd, select.POLLIN)
    assert not poll.poll(0)
    store.put_events([event(1), event(2), event(1)], {"cursor": "7"})
    assert poll.poll(2000)
    assert answers(store) == [[event(1).id, event(2).id]]
    assert not poll.poll(0)
    store.put_events([event(2)])
    store.put_events([event(2), event(3)])
    assert answers(store) == [[], [event(3).id]]
    assert store.close()

    again = Store(path)
    assert again.load_kept() == {"cursor": "7"}
    again.put_events([event(3), event(4)])
    assert answers(again) == [[event(4).id]]
    again.close()


def test_what_was_stored_and_not_told_is_told_after_a_restart_once(path: str) -> None:
    store = Store(path)
    store.put_events([event(1), event(2)])
    assert answers(store)
    store.mark_told([event(1).id])
    store.close()
    store = Store(path)
    assert [one["id"] for one in store.untold()] == [event(2).id]
    store.mark_told([event(2).id])
    store.close()
    store = Store(path)
    assert store.untold() == []
    store.close()


def test_trends_are_kept_by_key_and_boot_and_the_dead_are_left_behind(path: str) -> None:
    store = Store(path)
    now = 100_000.0
    store.put_entities([record(n, t=now) for n in range(450)])
    store.put_entities([record(1, boot="another", t=now), record(7, size=9, t=now + 1)])
    store.put_entities([record(500, t=now - 86400)])
    loaded = store.load_entities(BOOT, NOW)
    assert len(loaded) == 450
    assert loaded[0] == record(7, size=9, t=now + 1)
    assert store.load_entities("nobody's", NOW) == []
    store.close()


def test_who_lived_when_the_clock_was_set_back_goes_on(path: str) -> None:
    hour = 3600.0
    store = Store(path)
    before = [record(1, t=NOW + 5 * hour), record(2, t=NOW + 5 * hour)]
    store.put_entities([record(3, t=NOW - 9 * hour), *before])
    found = [one.key for one in store.load_entities(BOOT, NOW)]
    assert found[-2:] == ["1:1", "2:1"], "a restart before anything was written by the new clock"
    store.put_entities([record(1, t=NOW - 60), record(4, t=NOW)])
    assert [one.key for one in store.load_entities(BOOT, NOW)] == ["4:1", "1:1", "2:1"]
    assert [one.key for one in store.load_entities(BOOT, NOW + 4.9 * hour)][:2] == ["4:1", "1:1"]
    store.close()


def test_the_latest_boot_is_the_one_that_wrote_last_whatever_its_clock_says(path: str) -> None:
    store = Store(path, 1 << 19)
    store.put_entities([record(n, boot="ahead", t=NOW + 9e6) for n in range(60)])
    store.put_entities([record(n, t=NOW) for n in range(60)])
    assert store.flush()
    assert store.load_entities("ahead", NOW) == []
    assert len(store.load_entities(BOOT, NOW)) == 60
    with contextlib.closing(events.open_reader(path)) as reader:
        assert {one.boot_id for one in entities.read_entities(reader)} == {BOOT}
    store.close()


def test_of_trends_that_all_lie_in_the_future_none_is_left_out(path: str) -> None:
    store = Store(path)
    store.put_entities([record(1, t=NOW + 60), record(2, t=NOW + 9e6)])
    assert len(store.load_entities(BOOT, NOW)) == 2
    store.close()


def test_the_file_is_private_and_its_folder_is_made(path: str) -> None:
    store = Store(path)
    store.put_kept({"a": "b"})
    store.flush()
    assert {os.stat(path + end).st_mode & 0o777 for end in ("", "-wal", "-shm")} == {0o640}
    store.close()
    assert os.listdir(os.path.dirname(path)) == ["history.db"]


def test_values_that_json_or_sqlite_cannot_hold_lose_nothing_else(path: str) -> None:
    store = Store(path)
    odd = {"inf": float("inf"), "list": [float("nan"), {1, 2}], "bytes": b"\xff", "s": "\udc80"}
    store.put_events([event(1, odd=odd)])
    store.put_events([event(2, pid=1 << 70)])  # no integer of SQLite's
    store.put_events([event(3)])
    assert answers(store) == [[event(1).id], [event(2).id], [event(3).id]]
    store.close()
    stored = {one["id"]: one for one in read_events(path)}
    assert set(stored) == {event(1).id, event(3).id}
    assert stored[event(1).id]["odd"]["inf"] is None
    assert store.dropped == 1
    assert store.failed is None


test_values_that_json_or_sqlite_cannot_hold_lose_nothing_else = pytest.mark.strange_events(
    test_values_that_json_or_sqlite_cannot_hold_lose_nothing_else
)


@pytest.mark.parametrize(
    "content", [b"\x00\xff binary garbage " * 500, b"SQLite format 3\x00" * 99]
)
def test_garbage_is_refused_in_one_line_and_not_touched(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path))
    Path(path).write_bytes(content)
    store = Store(path)
    assert store.failed
    assert "\n" not in store.failed
    assert path in store.failed
    assert "move it away" in store.failed
    store.close()
    assert Path(path).read_bytes() == content


def test_a_newer_schema_is_refused_and_not_touched(path: str) -> None:
    Store(path).close()
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version = 99")
    raw.close()
    before = Path(path).read_bytes()
    store = Store(path)
    assert store.failed
    assert "schema 99" in store.failed
    assert "newer" in store.failed
    store.put_events([event(1)])
    assert answers(store) == [[event(1).id]]
    store.close()
    assert Path(path).read_bytes() == before


def test_another_programs_database_is_refused(path: str) -> None:
    os.makedirs(os.path.dirname(path))
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE theirs (x)")
    raw.close()
    with pytest.raises(db.StoreError, match="another program"):
        file.open_database(path, 1 << 20)


def test_migrations_run_in_order_and_a_broken_one_leaves_the_old_schema(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(path)
    store.put_events([event(1)])
    store.close()
    old = file.MIGRATIONS
    monkeypatch.setattr(file, "MIGRATIONS", (*old, ("CREATE TABLE more (x)", "CREATE NONSENSE")))
    with pytest.raises(db.StoreError, match="NONSENSE"):
        file.open_database(path, 1 << 20)
    monkeypatch.setattr(file, "MIGRATIONS", (*old, ("CREATE TABLE more (x)",)))
    store = Store(path)
    assert store.failed is None
    store.put_events([event(1), event(2)])
    assert answers(store) == [[event(2).id]]
    store.close()
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA user_version").fetchone() == (len(old) + 1,)
    raw.close()


@pytest.mark.parametrize("where", ["file/history.db", "taken/history.db"])
def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "taken" / "history.db").mkdir(parents=True)
    store = Store(str(tmp_path / where))
    assert store.failed
    assert "\n" not in store.failed
    store.put_events([event(1)], {"cursor": "1"})
    store.mark_told([event(1).id])
    assert answers(store) == [[event(1).id]]
    assert (store.untold(), store.load_kept(), store.load_entities(BOOT, NOW)) == ([], {}, [])
    store.close()


def test_a_store_that_works_again_gets_the_backlog(path: str, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    store = Store(path)
    assert store.failed
    store.put_events([event(1), event(2)], {"cursor": "9"})
    store.put_events([event(2), event(3)])
    store.put_entities([record(1)])
    assert answers(store) == [[event(1).id, event(2).id], [event(3).id]]
    store.mark_told([event(1).id])
    assert store.flush()
    assert store.backlog == 4
    store.retry()
    assert store.flush()
    assert store.failed
    (tmp_path / "state").unlink()
    store.retry()
    assert store.flush()
    assert store.failed is None
    assert store.backlog == 0
    assert store.dropped == 0
    assert store.load_kept() == {"cursor": "9"}
    assert [one["id"] for one in store.untold()] == [event(2).id, event(3).id]
    store.put_events([event(3), event(4)])
    assert answers(store) == [[event(4).id]]
    store.close()


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The file cannot be opened until this is set, and nobody waits long for it."""
    gate = threading.Event()
    true = file.open_database

    def open_database(path: str, max_bytes: int) -> sqlite3.Connection:
        assert gate.wait(60)
        return true(path, max_bytes)

    monkeypatch.setattr(file, "open_database", open_database)
    monkeypatch.setattr(db, "ASK_S", 1.0)
    return gate


def ask_all(store: Store) -> list[Any]:
    """What a start asks."""
    kills, again = store.load_past_kills(BOOT)
    return [*store.untold(), *store.load_entities(BOOT, NOW), *kills, *again, *store.load_outbox(),
            *store.load_kept()]  # fmt: skip


def test_a_disk_that_hangs_at_the_start_is_no_empty_store(
    path: str, hung: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung.set()
    store = Store(path)
    store.put_kept({"cursor": "7", "decider": "[5]"})
    store.put_entities([record(1)])
    assert store.close()
    hung.clear()
    waited: list[float] = []
    true = threading.Event.wait

    def wait(event: threading.Event, timeout: float | None = None) -> bool:
        if event is not hung and timeout is not None:
            waited.append(timeout)
        return true(event, timeout)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Event, "wait", wait)
        store = Store(path)
        assert ask_all(store) == []
    assert waited[0] == 1.0
    assert len(waited) == 6
    assert max(waited[1:]) < 0.1, "all that a start asks has one deadline, of a second here"
    store.started()
    assert store.failed == f"the store {path} did not answer within 1 s"
    store.put_events([event(1)], {"cursor": "98", "mutes": "[1]"})
    store.put_kept({"cursor": "99", "decider": "[6]"})
    store.put_entities([record(1, size=9)])
    assert not store.flush(0.1)
    hung.set()
    assert answers(store) == [[event(1).id]]
    assert store.failed
    monkeypatch.setattr(db, "SLOW_S", -1.0)
    store.retry()
    assert store.flush()
    assert store.failed, "who starts anew now would have to wait as long"
    monkeypatch.setattr(db, "SLOW_S", 60.0)
    load, ticks = entities.load, [0.0]

    def slow(*asked: Any) -> list[EntityRecord]:
        ticks[0] += 61.0
        return load(*asked)

    with monkeypatch.context() as patched:
        patched.setattr(db.time, "monotonic", lambda: ticks[0])
        patched.setattr(entities, "load", slow)
        store.retry()
        assert store.flush()
    assert store.failed, "nor would it if only what it asks took so long"
    store.retry()
    assert store.flush()
    assert (store.failed, store.again) == (None, True)
    assert store.late(("decider", "spent")) == {"decider": "[5]"}
    assert store.late(("decider",)) == {}, "it is joined once"
    store.put_events([event(2)], {"cursor": "100", "decider": "[5, 6]"})
    store.put_kept({"spent": "[8]"})
    store.put_entities([record(1, size=9)])
    assert answers(store) == [[event(2).id]]
    assert store.close()
    store = Store(path)
    assert store.load_kept() == {
        "cursor": "7", "mutes": "[1]", "decider": "[5, 6]", "spent": "[8]",
    }  # fmt: skip
    assert store.load_entities(BOOT, NOW) == [record(1)]
    assert [one["id"] for one in store.untold()] == [event(1).id, event(2).id]
    assert (store.failed, store.again) == (None, False)
    store.close()


def test_a_disk_that_hangs_before_the_first_run_has_nothing_to_begin_anew_with(
    path: str, hung: threading.Event
) -> None:
    store = Store(path)
    store.started()
    store.put_kept({"cursor": "1"})
    hung.set()
    store.retry()
    assert store.flush()
    store.put_kept({"cursor": "2"})
    assert (store.load_kept(), store.failed, store.again) == ({"cursor": "2"}, None, False)
    store.close()


def test_what_the_start_did_read_is_neither_joined_again_nor_held_back(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(path)
    store.put_kept({"cursor": "7", "decider": "[5]"})
    assert store.close()
    gate, load = threading.Event(), entities.load

    def slow(*asked: Any) -> list[EntityRecord]:
        assert gate.wait(60)
        return load(*asked)

    monkeypatch.setattr(entities, "load", slow)
    monkeypatch.setattr(db, "ASK_S", 1.0)
    store = Store(path)
    assert store.load_kept() == {"cursor": "7", "decider": "[5]"}
    assert store.load_entities(BOOT, NOW) == []
    store.started()
    gate.set()
    store.put_kept({"cursor": "8"})
    store.retry()
    assert store.flush()
    assert (store.failed, store.again) == (None, True)
    assert store.late(("decider",)) == {}
    assert store.load_kept() == {"cursor": "8", "decider": "[5]"}
    store.close()


def test_what_no_earlier_run_kept_is_written_over_though_that_was_not_read(
    path: str, hung: threading.Event
) -> None:
    hung.set()
    store = Store(path)
    store.put_kept({"cursor": "7"})
    assert store.close()
    hung.clear()
    store = Store(path)
    store.started()
    hung.set()
    store.put_kept({"mutes": "[1]"})
    assert store.flush()
    store.put_kept({"mutes": "[]", "cursor": "8"})
    assert store.flush()
    assert store.load_kept() == {"cursor": "7", "mutes": "[]"}
    store.close()


def test_a_first_run_whose_disk_was_slow_is_well_again_once_it_answers(
    path: str, hung: threading.Event
) -> None:
    store = Store(path)
    hung.set()
    while store._earlier is None:
        time.sleep(0.01)
    store.load_kept()  # the start has no time left for it
    store.started()
    assert store.failed
    store.retry()
    assert store.flush()
    assert (store.failed, store.again) == (None, False)
    store.close()


def test_a_watcher_goes_on_from_what_it_can_read_late(tmp_path: Path) -> None:
    """What was decided, asked for and spent meanwhile is kept together with what was before."""
    from types import SimpleNamespace

    from watchdog.engine import Engine
    from watchdog.policy.rules import default_rules
    from watchdog.watcher import Watcher

    kept = {"decider": "{}", "mutes": "[1]", "guard_spent": "[5]", "throttled": '{"former": {}}'}
    found: list[Any] = []
    rules = default_rules()
    watcher: Any = SimpleNamespace(
        _checked=lambda: None,
        store=SimpleNamespace(late=lambda keys: {key: kept.pop(key) for key in keys if key in kept},
                              put_kept=lambda values: found.append(list(values))),
        engine=Engine(rules, "box"), rules=rules,
        keeping=SimpleNamespace(policies=lambda: {"decider": "{}"}),
        people=SimpleNamespace(join=found.append),
        guard=SimpleNamespace(join=found.append, send=found.append),
        deeds=SimpleNamespace(throttles=SimpleNamespace(recall=found.append)),
    )  # fmt: skip
    Watcher._late(watcher)
    Watcher._late(watcher)
    assert found == [["decider"], "[1]", "[5]", {"former": {}}, "again", "again"]


def test_the_backlog_is_bounded_and_what_falls_out_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "BACKLOG_EVENTS", 10)
    (tmp_path / "f").write_text("")
    store = Store(str(tmp_path / "f" / "history.db"))
    for number in range(25):
        store.put_events([event(number)])
    assert store.flush()
    assert (store.backlog, store.dropped) == (10, 15)
    store.close()


def test_a_full_queue_drops_counts_and_still_answers(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "QUEUE_MAX", 20)
    store = Store(path)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")  # the writer now waits, as on a disk that hangs
    begun = time.monotonic()
    for number in range(30):
        store.put_events([event(number)])
        store.put_entities([record(number)])
    assert time.monotonic() - begun < 0.5
    assert store.dropped > 20
    blocker.execute("ROLLBACK")
    blocker.close()
    told = [one for new in answers(store) for one in new]
    assert told == [event(number).id for number in range(30)]
    store.close()


FULL = textwrap.dedent("""
    import json, resource, sys
    sys.path.insert(0, sys.argv[1])
    from watchdog.facts import Event
    from watchdog.store.db import Store
    def event(n):
        return Event("watchdog.degraded", f"e{n}", None, 1.0, 1.0, "b", "h", ("x" * 5000,), {})
    store = Store(sys.argv[2])
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    for n in range(100):
        store.put_events([event(n)])
        store.flush()
    told = [one for _, new in store.answers() for one in new]
    failed, backlog = store.failed, store.backlog
    store.retry()
    store.flush()
    still = store.failed
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    store.retry()
    store.flush()
    print(json.dumps([told, failed, backlog, still, store.failed, store.backlog, store.dropped]))
    store.close()
""")


def test_a_full_disk_fails_in_one_line_and_nothing_is_lost_when_it_is_free(path: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(ROOT), path], capture_output=True, text=True, check=True
    )
    told, failed, backlog, still, after, left, dropped = json.loads(done.stdout)
    everything = [f"e{n}" for n in range(100)]
    assert told == everything
    assert failed
    assert "\n" not in failed
    assert path in failed
    assert still
    assert 0 < backlog < 100
    assert (after, left, dropped) == (None, 0, 0)
    assert sorted(one["id"] for one in read_events(path)) == sorted(everything)


WRITER = textwrap.dedent("""
    import os, sys
    sys.path.insert(0, sys.argv[1])
    from watchdog.facts import EntityRecord, Event
    from watchdog.store.db import Store
    start, n = int(sys.argv[3]), 0
    store = Store(sys.argv[2], 1 << 20)
    assert store.failed is None, store.failed
    out = 1
    def event(n):
        return Event("watchdog.degraded", f"e{start}-{n}", None, 1.0, 1.0, "b", "h", ("x",), {})
    while True:
        store.put_events([event(n), event(n + 1)], {"cursor": str(n)})
        store.put_entities([EntityRecord(f"{n % 40}:1", "b", 1.0, n, 9, b"y" * 2000)])
        n += 2
        if n % 8 == 0:
            for _, new in store.answers():
                store.mark_told(new)
                os.write(out, ("".join(one + "\\n" for one in new)).encode())
        if n % 64 == 0:
            store.flush()
""")


def test_kill_9_at_any_moment_loses_no_event_that_was_answered(path: str) -> None:
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    said: set[str] = set()
    for turn in range(20):
        with subprocess.Popen(
            [sys.executable, "-I", "-c", WRITER, str(ROOT), path, str(turn)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout
            said.add(child.stdout.readline().decode().strip())
            time.sleep(rng.uniform(0, 0.06))
            child.send_signal(signal.SIGKILL)
            lines = child.stdout.read().decode().split("\n")
        said |= set(lines[:-1])  # the last one may be cut off
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)], seed
    # The file is small: the oldest events may have been thinned away, and only they.
    kept = [one for (one,) in raw.execute("SELECT id FROM event ORDER BY seq")]
    raw.close()
    turn, number = map(int, kept[0][1:].split("-"))
    younger = {one for one in said if tuple(map(int, one[1:].split("-"))) >= (turn, number)}
    assert len(said) > 100
    assert younger
    assert younger <= set(kept), seed


def test_of_more_than_a_start_reads_back_the_largest_come_and_the_machine_itself(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entities, "LOAD_MAX", 20)
    store = Store(path)
    whose = [record(0)._replace(key=key, size_bytes=0) for key in ("exhaustion:", "unit:a.service")]
    small = [record(n)._replace(key=f"{n}:7", size_bytes=n) for n in range(100, 150)]
    store.put_entities([*whose, *reversed(small)])
    found = {one.key for one in store.load_entities(BOOT, NOW)}
    assert found == {one.key for one in (*whose, *small[-18:])}
    store.close()


def test_the_file_stays_small_and_the_oldest_goes_first(tmp_path: Path) -> None:
    limit = 1 << 20
    store = Store(str(tmp_path / "history.db"), limit)
    store.put_entities([record(n, boot="before", t=n) for n in range(60)])
    largest = 0
    for number in range(400):
        store.put_events([event(number, text="x" * 2000)])
        if number % 4 == 0:
            store.put_entities([record(number, 900, t=1e5 + number)])
        store.flush()
        largest = max(largest, on_disk(tmp_path))
    assert largest <= limit
    assert store.load_entities("before", NOW) == []
    assert len(store.load_entities(BOOT, NOW)) == 100
    ids = [one["id"] for one in read_events(store.path)]
    assert ids == [event(number).id for number in range(400 - len(ids), 400)]
    assert ids
    # now entities push: the newest hundred events stay until they are all that is left
    for number in range(1000, 1600):
        store.put_entities([record(number, t=2e5)])
    store.flush()
    assert on_disk(tmp_path) <= limit
    assert len(list(read_events(store.path))) >= 50
    store.close()


def test_readers_see_what_they_ask_for(path: str) -> None:
    store = Store(path)
    shop = {"pid": 7, "unit": "shop-1.service"}
    store.put_events([
        event(1), event(2, kind="watchdog.started"),
        event(3, kind="made.up", **shop), event(4, kind="made.up", victim={"pid": 8, "unit": "x"}),
        event(10, kind="made.up", target={"unit": "shop-1.service"}),
    ])  # fmt: skip
    store.flush()

    def numbers(last: int | None = None, **wanted: Any) -> list[int]:
        return [int(e["t"]) - 1000 for e in read_events(path, Wanted(**wanted), last)]

    assert numbers() == [1, 2, 3, 4, 10]
    assert numbers(last=2) == [4, 10]
    assert numbers(since=1002, until=1003) == [2, 3]
    assert numbers(unit="shop-1.service") == numbers(unit="shop-1") == [3, 10]
    assert numbers(unit="shop-*") == [3, 10]
    assert numbers(kind="watchdog") == numbers(kind="watchdog.*") == [1, 2]
    assert numbers(kind="watchdog.started") == [2]
    assert numbers(pid=8) == [4]
    assert numbers(id=event(1, kind="made.up").id) == [10]  # a beginning
    assert numbers(id=event(3, kind="made.up").id) == [3]

    following = follow_events(path, last=1)
    assert next(following)["t"] == 1010.0  # type: ignore[index]
    assert next(following) is None
    store.put_events([event(11)])
    store.flush()
    assert next(following)["t"] == 1011.0  # type: ignore[index]
    assert next(following) is None
    store.close()


test_readers_see_what_they_ask_for = pytest.mark.strange_events(test_readers_see_what_they_ask_for)


def test_a_reader_needs_no_right_to_write(tmp_path: Path) -> None:
    folder = tmp_path / "a?b#c%20d"
    store = Store(str(folder / "history.db"))
    store.put_events([event(1)])
    store.close()
    if os.geteuid() == 0:
        for one in (folder, tmp_path, *tmp_path.parents):
            if one.is_relative_to("/tmp") and one != Path("/tmp"):
                one.chmod(0o755)
        (folder / "history.db").chmod(0o644)
    reader = textwrap.dedent(f"""
        import os, sys
        sys.path.insert(0, {str(ROOT)!r})
        from watchdog.store.events import read_events
        if os.geteuid() == 0:
            os.setuid(65534)
        print(len(list(read_events({store.path!r}))))
    """)
    folder.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", reader], capture_output=True, text=True, check=False
    )
    assert done.stdout + done.stderr == "1\n"


def test_a_reader_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(read_events(str(tmp_path / "none.db")))
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"\x01 no database")
    with pytest.raises(db.StoreError, match="cannot be read") as found:
        list(read_events(str(broken)))
    assert "\n" not in str(found.value)


def test_a_signal_never_lands_in_the_writers_thread(path: str) -> None:
    store = Store(path)
    threads = [one for one in os.listdir("/proc/self/task") if int(one) != os.getpid()]
    blocked = [
        int(line.split()[1], 16)
        for one in threads
        for line in Path(f"/proc/self/task/{one}/status").read_text().splitlines()
        if line.startswith("SigBlk")
    ]
    assert any(mask >> (signal.SIGTERM - 1) & 1 for mask in blocked)
    store.close()


def test_encode_takes_the_first_unit_and_pid_that_are_told() -> None:
    row = events.encode(event(1, victim={"pid": 3, "unit": "a.service"}, unit=None))
    assert (row.unit, row.pid) == ("a.service", 3)


def test_small_values_are_written_only_when_they_change(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "history.db"))
    log = tmp_path / "history.db-wal"
    store.put_kept({"cursor": "1"})
    store.flush()
    size = log.stat().st_size
    store.put_kept({"cursor": "1"})
    store.flush()
    assert log.stat().st_size == size
    store.put_kept({"cursor": "2"})
    store.flush()
    assert log.stat().st_size > size and store.load_kept() == {"cursor": "2"}
    store.close()


def test_a_folder_that_may_not_be_entered_is_no_missing_history(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as held:
        held.setattr(os, "stat", refuse)
        with pytest.raises(db.StoreError, match="permission denied"):
            events.open_reader(str(tmp_path / "history.db"))

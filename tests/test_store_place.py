"""Which folder, whose lock, how old now.json is."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from watchdog.store import now, place


def test_the_state_folder_by_its_order() -> None:
    assert place.state_dir("x", {"STATE_DIRECTORY": "/s"}, 0) == os.path.abspath("x")
    assert place.state_dir(None, {"STATE_DIRECTORY": "/s:/t"}, 1000) == "/s"
    assert place.state_dir(None, {}, 0) == "/var/lib/oom-watchdog"
    assert place.state_dir(None, {"XDG_STATE_HOME": "/x"}, 1000) == "/x/oom-watchdog"
    home = {"HOME": "/home/ada", "XDG_STATE_HOME": "relative"}
    assert place.state_dir(None, home, 1000) == "/home/ada/.local/state/oom-watchdog"


def test_now_json_lies_in_the_runtime_folder_where_there_is_one() -> None:
    assert place.now_dir("/s", {"RUNTIME_DIRECTORY": "/run/x"}) == "/run/x"
    assert place.now_dir("/s", {}) == "/s"
    assert place.now_dirs("/given", {"RUNTIME_DIRECTORY": "/run/x"}) == ["/given"]
    assert place.now_dirs("/var/lib/oom-watchdog", {})[1:] == ["/run/oom-watchdog"]
    assert place.now_dirs(None, {}, 0) == ["/var/lib/oom-watchdog", "/run/oom-watchdog"]


def test_a_reader_prefers_its_own_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, system = tmp_path / "own", tmp_path / "system"
    env = {"STATE_DIRECTORY": str(own)}
    monkeypatch.setattr(place, "SYSTEM_STATE", str(system))
    assert place.reading_dir(None, env) == str(own)
    system.mkdir()
    assert place.reading_dir(None, env) == str(system)
    own.mkdir()
    (own / "history.db").touch()
    assert place.reading_dir(None, env) == str(own)
    assert place.reading_dir("/given", env) == "/given"


def test_a_lock_is_held_by_one_and_says_by_whom(tmp_path: Path) -> None:
    folder = str(tmp_path / "state")
    fd = place.lock_state(folder)
    assert stat.S_IMODE(os.stat(folder).st_mode) & 0o027 == 0
    assert not os.get_inheritable(fd)
    with pytest.raises(place.LockHeldError, match=f"held by pid {os.getpid()}"):
        place.lock_state(folder)
    os.close(fd)
    os.close(place.lock_state(folder))  # left behind by somebody who is gone: free


def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    root = Path(__file__).parent.parent
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from watchdog.store.place import take_lock\n"
        "take_lock(sys.argv[2]); print('held', flush=True); time.sleep(60)"
    )
    argv = [sys.executable, "-c", program, str(root), path]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(place.LockHeldError, match=f"pid {child.pid}"):
            place.take_lock(path)
        child.kill()
    os.close(place.take_lock(path))


def test_a_lock_follows_no_link_and_a_bad_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(place.StoreError, match="cannot be made"):
        place.take_lock(str(tmp_path / "lock"))
    assert (tmp_path / "victim").read_text() == "precious"
    with pytest.raises(place.StoreError, match="cannot be used") as found:
        place.lock_state(str(tmp_path / "victim"))
    assert "\n" not in str(found.value)


def test_now_is_replaced_as_a_whole_and_its_age_is_known(tmp_path: Path) -> None:
    folder = str(tmp_path)
    now.write_now(folder, {"up": 100.0, "boot_id": "a-b", "interval_s": 10})
    now.write_now(folder, {"up": 110.0, "boot_id": "a-b", "interval_s": 10})
    assert os.listdir(folder) == ["now.json"]
    assert stat.S_IMODE(os.stat(tmp_path / "now.json").st_mode) == 0o640
    found = now.read_now([folder], "ab", 115.0)
    assert found
    assert (found.age_s, found.old, found.path) == (5.0, False, str(tmp_path / "now.json"))
    late = now.read_now([folder], "ab", 141.0)
    assert late
    assert late.old
    other_boot = now.read_now([folder], "cd", 141.0)
    assert other_boot
    assert other_boot.age_s == float("inf")
    assert other_boot.old


def test_the_freshest_now_wins_and_a_broken_one_matters_only_alone(tmp_path: Path) -> None:
    folders = [str(tmp_path / name) for name in "abcd"]
    assert now.read_now(folders, "x", 10.0) is None
    for folder in folders[:3]:
        os.mkdir(folder)
    Path(folders[0], "now.json").write_bytes(b'{"up": 1')
    with pytest.raises(now.StoreError, match="not what a daemon writes"):
        now.read_now(folders, "x", 10.0)
    now.write_now(folders[1], {"up": 5.0})
    now.write_now(folders[2], {"up": 7.0})
    found = now.read_now(folders, "x", 10.0)
    assert found
    assert found.path == str(tmp_path / "c" / "now.json")
    Path(folders[0], "now.json").write_text(json.dumps([1]))
    assert now.read_now(folders, "x", 10.0) == found


def test_now_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(now.StoreError, match="cannot be written") as found:
        now.write_now(str(tmp_path / "nowhere"), {})
    assert "\n" not in str(found.value)

"""The folder in which commands ask the daemon: only who owns it is heard."""

import json
import os

import pytest

from watchdog.requests import AT_ONCE, SIZE_MAX, Requests


@pytest.fixture
def asked(tmp_path):
    return Requests(str(tmp_path))


def put(requests, name, text, mode=0o600):
    path = os.path.join(requests.path, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)
    return path


def test_a_request_is_taken_once(asked):
    put(asked, "1.json", '{"do": "silence"}')
    put(asked, "2.json.new", '{"do": "half"}')
    (one,) = asked.take()
    assert one.asked == {"do": "silence"}
    assert one.problem is None
    assert asked.take() == []
    assert os.listdir(asked.path) == ["2.json.new"]


def test_a_folder_that_is_there_is_not_made_again(tmp_path, monkeypatch):
    """A disk that hangs would hold up whoever asks for it, and this is at each start."""
    Requests(str(tmp_path))
    monkeypatch.setattr(os, "mkdir", lambda *_: pytest.fail("it is there"))
    assert Requests(str(tmp_path)).problem is None


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "[" * 9000, " " * (SIZE_MAX + 1)])
def test_nonsense_is_refused_and_removed(asked, text):
    put(asked, "1.json", text)
    (one,) = asked.take()
    assert one.problem
    assert one.asked == {}
    assert asked.refused == 1
    assert os.listdir(asked.path) == []


def test_what_others_could_have_written_is_refused(asked, tmp_path):
    put(asked, "1.json", '{"do": "silence"}', 0o666)
    (tmp_path / "target.json").write_text('{"do": "silence"}')
    os.symlink(tmp_path / "target.json", os.path.join(asked.path, "2.json"))
    os.mkfifo(os.path.join(asked.path, "3.json"))
    found = asked.take()
    assert [one.asked for one in found] == [{}, {}, {}]
    assert all(one.problem for one in found)
    assert (tmp_path / "target.json").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_a_stranger_is_refused(asked):
    os.chown(put(asked, "1.json", '{"do": "silence"}'), 65534, 65534)
    (one,) = asked.take()
    assert "somebody else's" in one.problem


def test_a_folder_that_others_can_write_is_not_read(tmp_path):
    os.mkdir(tmp_path / "requests")
    os.chmod(tmp_path / "requests", 0o777)
    asked = Requests(str(tmp_path))
    put(asked, "1.json", '{"do": "silence"}')
    assert asked.take() == []
    assert "written by others" in asked.problem
    os.chmod(tmp_path / "requests", 0o700)
    assert len(asked.take()) == 1


def test_many_are_taken_in_turns(asked):
    for number in range(AT_ONCE + 3):
        put(asked, f"{number:03}.json", json.dumps({"n": number}))
    assert [one.asked["n"] for one in asked.take()] == list(range(AT_ONCE))
    assert [one.asked["n"] for one in asked.take()] == [AT_ONCE, AT_ONCE + 1, AT_ONCE + 2]

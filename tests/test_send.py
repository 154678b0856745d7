"""Notifications through a real SMTP server and a real HTTP server of this machine."""

import importlib.util
import json
import os
import time
from pathlib import Path

import pytest

from watchdog.child import Children
from watchdog.clock import JumpClock
from watchdog.couriers import Hooks, Post
from watchdog.facts import Event, Notice
from watchdog.outbox import Outbox
from watchdog.policy.rules import Notifier
from watchdog.store.db import Store
from watchdog.tell import send

pytestmark = pytest.mark.filterwarnings("ignore")  # of apprise and what it loads
pytest.importorskip("apprise", reason="apprise is not installed")

_spec = importlib.util.spec_from_file_location(
    "receivers", Path(__file__).parent / "fixtures" / "receivers.py"
)
receivers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(receivers)


def note(one, notifier, t=1000.0):
    return Notice(one, t, json.dumps({
        "id": one, "notifier": notifier, "t": t, "level": "failure", "title": f"box: {one} leaks",
        "text": f"{one} leaks\nId: {one}", "event": {},
    }))  # fmt: skip


class Daemon:
    """What of the daemon sends; `killed` leaves everything where it lies."""

    def __init__(self, folder, clock, notifiers):
        self.clock, self.children = clock, Children()
        self.store = Store(str(folder / "history.db"))
        self.post = Post(clock, self.children, str(folder), None)
        self.box = Outbox(clock, notifiers, Hooks(self.children), self.post,
                          lambda: False, self.store.notices_over)  # fmt: skip
        self.box.take(self.store.load_outbox())

    def tell(self, *notices):
        event = Event(
            "watchdog.degraded",
            f"e{notices[0].id}",
            None,
            1.0,
            1.0,
            "b" * 32,
            "box",
            ("x",),
            {"what": "x"},
        )
        self.store.put_events([event], {}, notices)
        self.store.flush()
        self.box.take(notices)

    def batch(self):
        """One try, of all that is due now."""
        self.box.turn()
        end = time.monotonic() + 60
        while self.post.waiting and time.monotonic() < end:
            time.sleep(0.05)
            self.children.turn()
            self.box.turn()
        assert not self.post.waiting
        self.box.turn()

    def killed(self):
        self.children.close()
        self.store.close()


def test_once_after_two_minutes_without_receivers_and_kill_9_in_between(tmp_path):
    smtp_port, http_port = receivers.free_port(), receivers.free_port()
    clock = JumpClock()
    notifiers = {
        "mail": Notifier(url=f"mailto://127.0.0.1:{smtp_port}?from=a@example.org&to=b@example.org"),
        "hook": Notifier(url=f"json://bob:sesame@127.0.0.1:{http_port}/tok3n"),
    }
    first = Daemon(tmp_path, clock, notifiers)
    first.tell(note("n1", "mail"), note("n2", "hook"))
    first.batch()
    problems = first.box.problems()
    assert set(problems) == {"mail", "hook"}
    assert not [word for word in ("sesame", "bob", "tok3n") if word in str(problems)]
    first.killed()
    clock.jump(120)
    with (
        receivers.receiver("smtp", smtp_port) as smtp,
        receivers.receiver("http", http_port) as web,
    ):
        second = Daemon(tmp_path, clock, notifiers)
        assert len(second.box.rows) == 2
        second.batch()
        assert len(smtp.got) == len(web.got) == 1
        assert "Subject: box: n1 leaks" in smtp.got[0]
        assert web.got[0]["message"] == "n2 leaks\nId: n2"
        assert web.got[0]["type"] == "failure"
        second.store.flush()
        assert second.store.load_outbox() == []
        second.killed()
        # killed after it was sent and before we knew: the receipt knows
        third = Daemon(tmp_path, clock, notifiers)
        third.box.take([note("n1", "mail"), note("n2", "hook")])
        third.batch()
        assert not third.box.rows
        assert len(smtp.got) == len(web.got) == 1
        third.killed()
    assert sorted(os.listdir(tmp_path / "outbox")) == []


def test_a_server_that_refuses_is_a_failure_without_the_secret():
    with receivers.receiver("http") as web:
        web.status = 503
        why = send.deliver(f"json://bob:sesame@127.0.0.1:{web.server_address[1]}/tok3n", "t", "x",
                           "warning")  # fmt: skip
    assert "503" in why
    assert "sesame" not in why
    assert "tok3n" not in why
    assert send.deliver("nosuch://bob:sesame@h", "t", "x", "warning") == (
        "its URL is none that apprise understands"
    )


@pytest.mark.parametrize("url", [
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general",
    "mailto://me%40x:p%20ss%2Fword@mail.example.org?to=a@b.c",
    "json://u:päss@h/a?token=abc123",
])  # fmt: skip
def test_no_part_of_a_url_is_in_a_complaint(url):
    import urllib.parse

    plain = urllib.parse.unquote(url)
    said = send.hidden(url, f"cannot reach {url} ({plain}) as A1BRTD4JD p ss/word päss abc123")
    for secret in ("A1BRTD4JD", "TIiajkdnlazkcOXrIdevi7FQ", "word", "päss", "abc123"):
        assert secret not in url or secret not in said.replace(url, "")
        if secret in plain:
            assert secret not in said


def test_a_storm_is_one_message_that_names_each():
    messages = [
        {"id": f"i{number}", "t": 1000.0 + number, "level": "warning" if number else "success",
         "title": "box: x", "text": f"alert {number}\nmore"}
        for number in range(25)
    ]  # fmt: skip
    title, text, level = send.compose(messages)
    assert title == "box: 25 alerts"
    assert level == "warning"
    assert "alert 0" in text
    assert "Id: i19" in text
    assert "and 5 more" in text


def places(folder, credentials=None):
    for name in ("out", "got"):
        (folder / name).mkdir(exist_ok=True)
    return send.Places(str(folder / "out"), "", str(folder / "got"), credentials)


def test_a_credential_is_read_where_systemd_puts_it(tmp_path):
    (tmp_path / "secret_ops").write_text("json://h\n")
    where = places(tmp_path, str(tmp_path))
    assert send._url(where, {"url_credential": "ops"}) == "json://h"
    for wrong in ({"url_credential": "../ops"}, {"url_credential": "none"}, {}):
        with pytest.raises(send.SecretError):
            send._url(where, wrong)


def test_a_credential_that_others_can_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(send, "SECRETS", str(tmp_path))
    (tmp_path / "ops").write_text("json://u:sesame@h")
    (tmp_path / "ops").chmod(0o644)
    with pytest.raises(send.SecretError, match="read by others"):
        send._url(places(tmp_path), {"url_credential": "ops"})
    (tmp_path / "ops").chmod(0o600)
    assert send._url(places(tmp_path), {"url_credential": "ops"}) == "json://u:sesame@h"


def test_what_systemd_hands_over_is_read_and_answered(tmp_path, monkeypatch, capsys):
    """As oom-watchdog-notify.service starts it; strange files are passed over."""
    (tmp_path / "cred").mkdir()
    (tmp_path / "run").mkdir()
    message = {"id": "n1", "try": 1.0, "notifier": "ops", "t": 1.0, "level": "info",
               "title": "t", "text": "x"}  # fmt: skip
    with receivers.receiver("http") as web:
        url = f"json://127.0.0.1:{web.server_address[1]}"
        for name, text in {
            "outbox_notifiers": json.dumps({"ops": {"url_credential": "page"}}),
            "outbox_3e8-0000abcd": json.dumps(message), "outbox_wake": "1", "secret_page": url,
            "outbox_3e8-0000abce": "{", "outbox_x": "{}",
        }.items():  # fmt: skip
            (tmp_path / "cred" / name).write_text(text)
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "cred"))
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
        assert send.main([]) == 0
        assert send.main([]) == 0  # started again: it has been sent
        assert len(web.got) == 1
    receipt = json.loads((tmp_path / "run" / "3e8-0000abcd").read_text())
    assert receipt == {"id": "n1", "try": 1.0, "outcome": "sent", "why": None}
    assert "ops: 1 message sent" in capsys.readouterr().out


def test_receipts_of_a_stranger_are_no_answer(tmp_path):
    clock, children = JumpClock(), Children()
    post = Post(clock, children, str(tmp_path), str(tmp_path / "runtime"))
    post.receipts = str(tmp_path / "receipts")
    os.makedirs(post.receipts)
    row = json.loads(note("n1", "ops").json)
    post.start([row], {"ops": Notifier(url="json://u:sesame@h")})
    name = post.waiting["n1"]
    folder = tmp_path / "runtime" / "outbox"
    assert sorted(os.listdir(folder)) == sorted([name, "notifiers", "wake"])
    assert {(folder / one).stat().st_mode & 0o777 for one in os.listdir(folder)} == {0o600}
    receipt = tmp_path / "receipts" / name
    for text in ("", "[]", "{" * 5000, '{"id": "other", "outcome": "sent"}',
                 '{"id": "n1", "try": 7, "outcome": "failed"}'):  # fmt: skip
        receipt.write_text(text)
        assert post.results() == []
    receipt.write_text(json.dumps({"id": "n1", "try": post.began, "outcome": "failed",
                                   "why": "no\x1b[31mroute\n" + "x" * 2000}))  # fmt: skip
    (answer,) = post.results()
    assert "\x1b" not in answer.why
    assert len(answer.why) <= 300
    assert os.listdir(folder) == ["wake"]


def test_a_service_that_does_not_answer_is_woken_again_and_then_a_failure(tmp_path):
    clock = JumpClock()
    post = Post(clock, Children(), str(tmp_path), str(tmp_path))
    post.receipts = str(tmp_path / "none")
    post.start([json.loads(note("n1", "ops").json)], {"ops": Notifier(url="json://h")})
    wake = tmp_path / "outbox" / "wake"
    wake.unlink()
    clock.jump(21)
    assert post.results() == []
    assert wake.exists()
    clock.jump(100)
    (answer,) = post.results()
    assert "no answer within 2 min" in answer.why

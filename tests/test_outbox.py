"""The outbox: what is stored arrives once, a storm is one batch, nothing waits without bound."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.clock import JumpClock
from watchdog.facts import Entity, Event, Notice, Order, Subject
from watchdog.notices import KEPT, Notices
from watchdog.outbox import AGE_MAX_S, BACK_OFF_S, GAP_S, HOLD_MOST_S, ROWS_MAX, Outbox, Result
from watchdog.policy.rules import Notifier
from watchdog.store.db import Store

OPS = {"ops": Notifier(url="json://h"), "page": Notifier(argv=("/bin/true",))}


class Answering:
    """A courier that answers at once, as `down` says."""

    def __init__(self):
        self.sent, self.answers, self.down, self.mute = [], [], None, False

    def start(self, rows, notifiers):
        self.sent.append([row["id"] for row in rows])
        if not self.mute:
            self.answers = [Result(row["id"], self.down) for row in rows]

    def results(self):
        found, self.answers = self.answers, []
        return found

    def close(self):
        pass


class Box:
    """An outbox on a clock that jumps."""

    def __init__(self):
        self.clock, self.hooks, self.post = JumpClock(), Answering(), Answering()
        self.short, self.over = False, []
        self.box = Outbox(
            self.clock, dict(OPS), self.hooks, self.post, lambda: self.short, self.over.extend
        )

    def take(self, *names, to="ops"):
        t = self.clock.wall()
        self.box.take(
            [Notice(name, t, json.dumps({"id": name, "notifier": to, "t": t})) for name in names]
        )

    def run(self, seconds):
        end = self.clock.boottime() + seconds
        self.box.turn()
        while (due := self.box.due()) is not None and due <= end:
            self.clock.jump(max(0.0, due - self.clock.boottime()))
            self.box.turn()
        self.clock.jump(max(0.0, end - self.clock.boottime()))
        self.box.turn()


def test_one_message_goes_at_once_and_leaves_the_store():
    one = Box()
    one.take("a")
    one.run(1)
    assert one.post.sent == [["a"]]
    assert one.over == ["a"]
    assert one.box.due() is None


def test_a_storm_is_one_message_after_the_first():
    one = Box()
    one.take("a")
    one.run(1)
    one.take(*(f"s{number}" for number in range(30)))
    one.run(GAP_S + 2)
    assert [len(batch) for batch in one.post.sent] == [1, 30]
    assert len(one.over) == 31


def test_a_program_gets_each_event_by_itself():
    one = Box()
    one.take("a", "b", "c", to="page")
    one.run(5)
    assert one.hooks.sent == [["a"], ["b"], ["c"]]


def test_a_failure_is_tried_again_ever_later_and_told_until_it_works():
    one = Box()
    one.post.down = "refused"
    one.take("a")
    began, tries = one.clock.boottime(), []
    for _ in range(3000):
        before = len(one.post.sent)
        one.run(1)
        if len(one.post.sent) > before:
            tries.append(round(one.clock.boottime() - began))
    gaps = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert gaps == sorted(gaps)
    assert all(abs(gap - wanted) <= 3 for gap, wanted in zip(gaps, BACK_OFF_S, strict=False))
    assert one.box.problems() == {"ops": "refused"}
    assert not one.over
    one.box.notifiers = {}
    assert one.box.problems() == {}  # who is no longer there is no trouble
    one.box.notifiers = dict(OPS)
    one.post.down = None
    one.run(BACK_OFF_S[-1])
    assert one.over == ["a"]
    assert one.box.problems() == {}


def test_what_never_arrives_is_given_up_and_counted():
    one = Box()
    one.post.down = "refused"
    one.take("a", "b")
    one.run(AGE_MAX_S + BACK_OFF_S[-1] + 10)
    assert sorted(one.over) == ["a", "b"]
    assert one.box.dropped == 2
    assert "within 24 h" in one.box.why_dropped or "within 1 d" in one.box.why_dropped


def test_only_so_many_wait_and_the_oldest_go_first():
    one = Box()
    one.short = True
    for number in range(ROWS_MAX + 5):
        one.take(f"{number:04}")
        one.clock.jump(0.01)
    assert len(one.box.rows) == ROWS_MAX
    assert one.over == [f"{number:04}" for number in range(5)]
    assert one.box.dropped == 5


def test_while_memory_is_short_it_waits_but_not_for_ever():
    one = Box()
    one.short = True
    one.take("a")
    one.run(HOLD_MOST_S - 5)
    assert one.post.sent == []
    assert one.box.state()["held"]
    one.run(10)
    assert one.post.sent == [["a"]]
    two = Box()
    two.short = True
    two.take("b")
    two.run(20)
    two.short = False
    two.run(2)
    assert two.post.sent == [["b"]]


def test_a_notifier_that_left_the_configuration_holds_nothing_up():
    one = Box()
    one.take("a", to="gone")
    one.run(1)
    assert one.over == ["a"]
    assert one.box.dropped == 1


def test_a_wall_clock_that_steps_gives_nothing_up():
    one = Box()
    one.post.down = "refused"
    one.take("a")
    one.run(60)
    one.clock.step_wall(86400 * 3)
    one.run(60)
    one.clock.step_wall(-86400 * 6)
    one.run(60)
    assert one.over == []


@given(st.lists(st.tuples(st.sampled_from("adu"), st.integers(1, 400)), max_size=30))
def test_nothing_is_lost_and_nothing_is_settled_twice(steps):
    """a: another one, d: the receiver goes down, u: it is up again; with seconds between."""
    one, taken = Box(), []
    for what, seconds in steps:
        if what == "a":
            taken.append(f"n{len(taken)}")
            one.take(taken[-1])
        else:
            one.post.down = "refused" if what == "d" else None
        one.run(seconds)
    one.post.down = None
    one.run(BACK_OFF_S[-1] + GAP_S + 10)
    assert sorted(one.over) == sorted(taken)


# ---- which events become notifications ---------------------------------------------------------

LEAK = "leak.confirmed-11112222-42-7-1"
BOOT = "1111222233334444"


def order(do="notify:ops", cause=LEAK, policy="shop"):
    subject = Subject(
        "42:7", Entity(42, 7, "py", unit="shop.service"), False, leak="confirmed",
        resident_bytes=170 << 20, growth_bytes_per_s=2.0 * (1 << 20), exhausts_in_s=46.0,
    )  # fmt: skip
    return Order("shop-42:7-1-notify:ops", policy, do, "observe", subject, "shop-42:7-1", cause,
                 ("unit shop.service matches shop-*", "a leak is confirmed"), None)  # fmt: skip


def event(kind, one, **body):
    return Event(kind, one, None, 1000.0, 5.0, BOOT, "box", ("because",), body)


def made(notices, one=None, kind="policy.action", **body):
    one = one or order()
    notices.order = one
    return notices.rows(action(one, kind, **body))


def action(one, kind="policy.action", **body):
    who = one.subject.entity._asdict()
    said = {"policy": one.policy, "do": one.do, "mode": one.mode, "target": who,
            "incident": one.incident, "outcome": "done", "killed_by": None}  # fmt: skip
    return event(kind, f"policy.action-{one.id}", **(who | said | body))


def notices(kept=None, muted=False, by_pressure=False):
    return Notices(kept, lambda _: muted, lambda _: by_pressure)


def cleared():
    gone = Entity(42, 7, "py", unit="shop.service")
    return event("leak.cleared", "leak.cleared-11112222-42-7-1", **gone._asdict(), scope="process",
                 rate_bytes_per_s=None, confidence=None, resident_bytes=None, since=900.0,
                 exhausts_in_s=None, exhausts_in_low_s=None, exhausts_in_high_s=None)  # fmt: skip


def test_a_notification_says_who_and_why_and_its_id():
    rows, _ = made(notices())
    said = json.loads(rows[0].json)
    assert said["title"] == "box: py (pid 42, shop.service) leaks"
    assert said["text"].splitlines()[0] == (
        "py (pid 42, shop.service) leaks: 170 MiB now, grows 2.0 MiB/s, memory ends in 46 s "
        "(policy shop)"
    )
    assert said["text"].splitlines()[-1] == f"Id: {rows[0].id}"
    assert said["event"]["policy"] == "shop"


def test_a_program_gets_the_event_as_it_is_told_everywhere_and_how_its_subject_stands():
    told = action(order())
    rows, _ = made(notices())
    got = json.loads(rows[0].json)["event"]
    assert told.flat() == {key: got.get(key) for key in told.flat()}  # its id, host and time
    assert got["leak"] == "confirmed" and got["growth_bytes_per_s"] == 2 << 20


def test_the_end_is_told_once_to_whom_the_beginning_was_told():
    first = notices()
    assert first.rows(cleared()) == ([], {})
    _, kept = made(first)
    again = notices(kept[KEPT])  # after a restart
    rows, kept = again.rows(cleared())
    assert [json.loads(row.json)["notifier"] for row in rows] == ["ops"]
    assert json.loads(rows[0].json)["level"] == "success"
    assert again.rows(cleared()) == ([], {})
    assert notices(kept[KEPT]).rows(cleared()) == ([], {})


def test_the_end_of_pressure_is_told_to_whom_pressure_was_told():
    one = notices(by_pressure=True)
    made(one, order(cause=None))
    assert one.rows(event("pressure.ended", "x", scope="unit")) == ([], {})
    assert len(one.rows(event("pressure.ended", "y", scope="host"))[0]) == 1


def test_the_end_of_what_is_muted_is_not_told():
    one = notices(muted=True)
    made(one)
    assert one.rows(cleared())[0] == []


def test_an_action_that_was_not_done_notifies_nobody():
    one = notices()
    one.order = order()
    assert one.rows(event("policy.action", "a", outcome="failed")) == ([], {})
    assert one.rows(event("policy.action", "b", outcome="done")) == ([], {})  # somebody else's


@pytest.mark.parametrize("kept", ["", "[]", "{", '{"a": 1}', "null"])
def test_what_is_kept_may_be_anything(kept):
    assert notices(kept).open == {}


# ---- in the store ------------------------------------------------------------------------------


def test_the_outbox_is_written_with_its_event_and_only_with_a_new_one(tmp_path):
    path, note = str(tmp_path / "history.db"), Notice("n1", 1.0, "{}")
    store = Store(path)
    store.put_events([event("watchdog.degraded", "e1", what="x")], {}, [note])
    store.flush()
    store.put_events([event("watchdog.degraded", "e1", what="x")], {}, [Notice("n2", 2.0, "{}")])
    store.flush()
    assert store.load_outbox() == [note]
    store.close()
    again = Store(path)
    assert again.load_outbox() == [note]
    again.notices_over(["n1"])
    again.flush()
    assert again.load_outbox() == []
    again.close()


def test_a_store_that_failed_gets_the_outbox_later(tmp_path):
    folder = tmp_path / "gone"
    folder.write_text("a file")
    store = Store(str(folder / "history.db"))
    assert store.failed
    for number in range(2):
        note = Notice(f"n{number}", float(number), "{}")
        store.put_events([event("watchdog.degraded", f"e{number}", what="x")], {}, [note])
    store.notices_over(["n0"])
    store.flush()
    folder.unlink()
    store.retry()
    store.flush()
    assert not store.failed
    assert [one.id for one in store.load_outbox()] == ["n1"]
    store.close()


def test_a_test_of_a_notifier_that_is_not_there_is_answered():
    one = Box()
    one.box.refuse("nobody", "t1", "no such notifier")
    assert one.box.state()["last"]["nobody"] == {"id": "t1", "why": "no such notifier"}

"""Silence and ack: policies are quiet about whom they are about, until then and no longer."""

import json
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog import trace
from watchdog.cli import ack, silence, status
from watchdog.clock import JumpClock
from watchdog.engine import Engine
from watchdog.facts import Entity, Event, Mute, Muted, Subject
from watchdog.mutes import Mutes
from watchdog.policy.decide import Decider
from watchdog.policy.load import load
from watchdog.policy.mute import muted
from watchdog.policy.rules import (
    Match,
    MuteRule,
    Policy,
    Rules,
    Selector,
    When,
    default_rules,
    from_plain,
    to_plain,
)
from watchdog.requests import Requests
from watchdog.store import now
from watchdog.store.db import Store

T0 = 1.7e9
LEAK = "leak.confirmed-11112222-7-1-1"
SHOP = Subject("7:1", Entity(7, 1, "py", "/opt/py", 33, "shop-1.service"), False,
               leak="confirmed", cause=LEAK)  # fmt: skip
UNIT = Subject("unit:shop-1.service", Entity(unit="shop-1.service"), True, leak="confirmed",
               cause=LEAK)  # fmt: skip


def silenced(match, **more):
    return Mute("silence-1", "silence", match, T0 + 100, "because I say so", "root", **more)


ACK = Mute("ack-1", "ack", "py (pid 7)", T0 + 100, "", "me", ("7:1",), "11112222-7-1-1")


@pytest.mark.parametrize(("match", "process", "unit"), [
    ("shop-1.service", True, True), ("shop-*", True, True), ("shop-1", True, True),
    ("py", True, False), ("/opt/*", True, False), ("postgresql*", False, False),
    ("7", False, False),
])  # fmt: skip
def test_whom_a_silence_is_about(match, process, unit):
    assert bool(muted((), [silenced(match)], SHOP, T0)) is process
    assert bool(muted((), [silenced(match)], UNIT, T0)) is unit


def test_a_silence_ends():
    assert "for another 1 min 40 s: because I say so" in muted((), [silenced("py")], SHOP, T0)
    assert muted((), [silenced("py")], SHOP, T0 + 100) is None


def test_an_ack_is_about_the_leak_and_the_process_and_nobody_else():
    assert "acknowledged by me" in muted((), [ACK], SHOP, T0)
    assert muted((), [ACK], UNIT, T0)  # its unit's policy goes by the same leak
    assert muted((), [ACK], UNIT._replace(cause="leak.confirmed-11112222-8-1-1"), T0) is None
    assert muted((), [ACK], SHOP._replace(key="7:2", cause=None), T0) is None


def test_a_rule_of_the_configuration():
    rule = MuteRule("deploy", Match(unit=("shop-*",)), T0 + 60)
    assert muted((rule,), (), SHOP, T0) == "mute.deploy holds for another 1 min"
    assert muted((rule,), (), SHOP, T0 + 61) is None
    # what cannot be judged is not muted
    assert muted((rule._replace(match=Match(user=(5,))),), (), UNIT, T0) is None


# ---- in the decision ---------------------------------------------------------------------------


def deciding(*do, mutes=(), rule=()):
    policy = Policy("p", Match(unit=("shop-*",)), When(leak="confirmed"), do=do, mode="enforce",
                    cooldown_s=0.0)  # fmt: skip
    decider = Decider(Rules(policies=(policy,), protect=Selector(), mutes=rule))
    decider.mutes = mutes
    return decider


def see(decider, after, subject=SHOP):
    orders = decider.step(T0 + after, 1000.0 + after, "b", None, [subject])
    return [(one.do, one.outcome) for one in orders]


def test_it_is_said_once_and_decided_when_it_is_over():
    decider = deciding("log", "notify:ops", "terminate", mutes=(silenced("shop-*"),))
    assert see(decider, 0) == [("terminate", "muted")]
    assert see(decider, 10) == []
    assert see(decider, 99) == []
    assert see(decider, 101) == [("log", None), ("notify:ops", None), ("terminate", None)]


def test_what_only_logs_is_not_muted():
    assert see(deciding("log", mutes=(silenced("shop-*"),)), 0) == [("log", None)]


def test_the_muted_order_says_who_and_why_and_has_its_own_id():
    decider = deciding("notify:ops", mutes=(silenced("shop-*"),))
    (order,) = decider.step(T0, 1000.0, "b", None, [SHOP])
    assert order.because[-1].startswith("silenced (shop-*) by root for another 1 min 40 s")
    assert order.id.endswith("-muted")


def test_mutes_outlive_a_reload_of_the_rules():
    engine = Engine(default_rules(), "box")
    engine.feed(Muted(T0, 1.0, (silenced("py"),)))
    engine.set_rules(default_rules())
    assert engine.decider.mutes == (silenced("py"),)
    assert engine.is_muted(SHOP.entity)
    assert not engine.is_muted(Entity(8, 1, "other"))


def test_they_are_in_a_recording():
    fact = Muted(T0, 1.0, (silenced("py"), ACK))
    assert trace.fact(trace.line(fact)) == fact
    for rows in ('[["a"]]', "[1]", '[["a","b","c","d"]]', "{}"):
        with pytest.raises(trace.TraceError):
            trace.fact(f'{{"type":"muted","t":1,"rows":{rows}}}')


# ---- as the daemon keeps them ------------------------------------------------------------------


class Kept:
    def __init__(self, clock=None, kept="[]", boot="b1"):
        self.clock, self.said = clock or JumpClock(), []
        self.mutes = Mutes(self.clock, boot, kept, lambda *one: self.said.append(one))

    def ask(self, **more):
        asked = {"do": "silence", "id": "silence-1", "match": "shop-*", "for_s": 3600.0,
                 "until": self.clock.wall() + 3600.0, "reason": "tonight", "by": "alice",
                 "keys": [], "tail": ""}  # fmt: skip
        self.mutes.ask(asked | more)
        return self

    def again(self, boot="b1"):
        return Kept(self.clock, self.mutes.kept()["mutes"], boot)


def test_a_silence_is_told_when_it_begins_and_when_it_ends():
    one = Kept().ask()
    assert one.said[0] == ("watchdog.muted", ["shop-*, for 1 h, by alice", "tonight"],
                           {"mute": "silence-1", "match": "shop-*"})  # fmt: skip
    one.clock.jump(3599)
    one.mutes.turn()
    assert len(one.mutes.fact().rows) == 1
    one.clock.jump(2)
    one.mutes.turn()
    assert one.mutes.fact().rows == ()
    assert one.said[1][:2] == ("watchdog.unmuted", ["shop-*: its time is over"])


@given(st.lists(st.one_of(st.integers(-200000, 200000), st.just("restart")), max_size=8))
def test_it_lasts_as_long_as_was_asked_whatever_the_wall_clock_does(steps):
    one = Kept().ask()
    for step in steps:
        if step == "restart":
            one = one.again()
        else:
            one.clock.step_wall(step)
        one.clock.jump(300)
        one.mutes.turn()
        (mute,) = one.mutes.fact().rows
        assert mute.until > one.clock.wall()
    one.clock.jump(3600 - 300 * len(steps) + 1)
    one.mutes.turn()
    assert one.mutes.fact().rows == ()


def test_what_was_kept_can_be_learned_later():
    earlier, one = Kept().ask().ask(id="silence-2", match="other"), Kept()
    one.ask(id="silence-3", match="py").ask(id="silence-2", match="another")
    one.mutes.changed = False
    one.mutes.join(earlier.mutes.kept()["mutes"])
    assert [mute.match for mute in one.mutes.fact().rows] == ["shop-*", "py", "another"]
    assert one.mutes.changed, "the engine has to hear of it"
    one.clock.jump(3601)
    one.mutes.turn()
    assert one.mutes.fact().rows == ()


def test_after_a_reboot_the_wall_clock_counts():
    one = Kept().ask()
    one.clock.up = 5.0
    one.clock.offset += 995.0  # the same time of day on a clock that began anew
    other = one.again("b2")
    other.mutes.turn()
    assert len(other.mutes.fact().rows) == 1
    other.clock.jump(3601)
    other.mutes.turn()
    assert other.mutes.fact().rows == ()


def test_it_can_be_lifted_by_its_match_or_its_id():
    one = Kept().ask().ask(id="silence-2", match="other")
    one.mutes.lift("nobody", "bob")
    one.mutes.lift("shop-*", "bob")
    one.mutes.lift("silence-2", "bob")
    assert one.mutes.fact().rows == ()
    assert [kind for kind, *_ in one.said].count("watchdog.unmuted") == 2


def test_an_ack_ends_with_its_leak():
    one = Kept().ask(do="ack", id="ack-1", keys=["7:1"], tail="11112222-7-1-1")
    other = Event("leak.cleared", "leak.cleared-11112222-8-1-1", None, 1.0, 1.0, "b", "h", (), {})
    one.mutes.heard(other)
    assert one.mutes.fact().rows
    one.mutes.heard(other._replace(id="leak.cleared-11112222-7-1-1"))
    assert one.mutes.fact().rows == ()


@pytest.mark.parametrize("more", [
    {"until": "x"}, {"for_s": None}, {"until": 5.0}, {"match": 7}, {"id": ""}, {"keys": 5},
    {"until": float("nan")},
])  # fmt: skip
def test_nonsense_mutes_nobody(more):
    assert Kept().ask(**more).mutes.fact().rows == ()


def test_what_was_asked_long_ago_counts_from_then():
    one = Kept()
    one.ask(until=one.clock.wall() + 60.0)
    one.clock.jump(61)
    one.mutes.turn()
    assert one.mutes.fact().rows == ()


@pytest.mark.parametrize("kept", ["", "{", "[1]", '[["a"]]', "{}", "null"])
def test_what_is_kept_may_be_anything(kept):
    assert Kept(kept=kept).mutes.fact().rows == ()


def test_what_strangers_write_reaches_no_terminal():
    one = Kept().ask(match="a\x1b[31m", reason="x\ny" * 1000)
    (mute,) = one.mutes.fact().rows
    assert "\x1b" not in mute.match
    assert "\n" not in mute.reason
    assert len(mute.reason) <= 400


# ---- the configuration -------------------------------------------------------------------------

TABLE = '[mute.deploy]\nmatch = { unit = "shop-*" }\n'


@pytest.mark.parametrize("until", [
    "2099-12-01", "2099-12-01 08:00:00", "2099-12-01T08:00:00+02:00", '"2099-12-01 08:00"',
])  # fmt: skip
def test_a_mute_rule_is_read(tmp_path, until):
    path = tmp_path / "c.toml"
    path.write_text(TABLE + f"until = {until}\n")
    loaded = load(str(path))
    (rule,) = from_plain(loaded.rules).mutes
    assert rule.match == Match(unit=("shop-*",))
    assert rule.until > 4e9
    assert json.dumps(loaded._asdict(), default=str)
    assert from_plain(json.loads(json.dumps(to_plain(from_plain(loaded.rules))))).mutes == (rule,)


@pytest.mark.parametrize(("text", "said"), [
    (TABLE, "mute.deploy.until: missing"),
    ("[mute.x]\nuntil = 2099-12-01", "mute.x.match: missing"),
    (TABLE + "until = 5", "mute.deploy.until: expected a date"),
    (TABLE + 'until = "soon"', "mute.deploy.until: expected a date"),
    (TABLE + "until = 08:00:00", "mute.deploy.until: expected a date"),
])  # fmt: skip
def test_a_mute_rule_without_an_end_is_refused(tmp_path, text, said):
    from watchdog.policy.load import ConfigError

    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        load(str(tmp_path / "c.toml"))


def test_a_mute_rule_that_is_over_is_warned_about(tmp_path):
    (tmp_path / "c.toml").write_text(TABLE + "until = 2001-01-01\n")
    assert "mute.deploy.until: is over" in load(str(tmp_path / "c.toml")).warnings[0]


# ---- the commands ------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path):
    """A state folder whose daemon is said to run, with one leak in its store."""
    store = Store(str(tmp_path / "history.db"))
    body = {**SHOP.entity._asdict(), "scope": "process", "rate_bytes_per_s": 1, "confidence": 0.9,
            "resident_bytes": 1, "since": 1.0, "exhausts_in_s": None, "exhausts_in_low_s": None,
            "exhausts_in_high_s": None}  # fmt: skip
    store.put_events([Event("leak.confirmed", LEAK, None, 1.0, 1.0, "b" * 32, "box", ("x",), body)])
    store.flush()
    store.close()
    return tmp_path


def taken(state):
    return [one.asked for one in Requests(str(state)).take()]


def test_silence_asks_the_daemon(state, capsys):
    argv = ["shop-*", "--for", "4h", "--reason", "migration", "--state", str(state)]
    assert silence.main(argv) == 0
    assert "no daemon runs" in capsys.readouterr().err
    (asked,) = taken(state)
    assert (asked["do"], asked["match"], asked["reason"]) == ("silence", "shop-*", "migration")
    assert abs(asked["until"] - time.time() - 4 * 3600) < 60
    one = Kept()
    one.clock.step_wall(time.time() - one.clock.wall())
    one.mutes.ask(asked)
    assert len(one.mutes.fact().rows) == 1


def test_a_state_folder_that_is_not_there_is_not_made(tmp_path, capsys):
    """A slip of the hand in --state would silence nobody, and end well."""
    missing = tmp_path / "stat"
    assert silence.main(["x", "--for", "1h", "--reason", "y", "--state", str(missing)]) == 2
    assert f"there is no folder {missing}" in capsys.readouterr().err
    assert not missing.exists()


def test_silence_of_a_process_goes_by_its_start_too(state):
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    argv = [str(sleeper.pid), "--for", "1h", "--reason", "x", "--state", str(state)]
    assert silence.main(argv) == 0
    sleeper.kill()
    sleeper.wait()
    (asked,) = taken(state)
    assert asked["keys"][0].startswith(f"{sleeper.pid}:")
    assert silence.main(argv) == 1


def test_what_silence_needs(state, capsys):
    for argv, missing in ((["x", "--for", "1h"], "--reason"), (["x", "--reason", "y"], "--for"),
                          (["--for", "1h", "--reason", "y"], "MATCH")):  # fmt: skip
        with pytest.raises(SystemExit) as end:
            silence.main([*argv, "--state", str(state)])
        assert end.value.code == 2
        assert missing in capsys.readouterr().err


def test_silence_is_lifted_and_listed(state, capsys):
    assert silence.main(["--lift", "shop-*", "--state", str(state)]) == 0
    (asked,) = taken(state)
    assert (asked["do"], asked["what"]) == ("lift", "shop-*")
    assert silence.main(["--list", "--state", str(state)]) == 1
    mutes = Kept().ask().mutes.plain()
    up = time.clock_gettime(time.CLOCK_BOOTTIME)
    now.write_now(str(state), {"t": time.time(), "up": up, "mutes": mutes, "interval_s": 10.0,
                               "notify": {"waiting": 2, "held": True}})  # fmt: skip
    capsys.readouterr()
    assert silence.main(["--list", "--state", str(state)]) == 0
    said = capsys.readouterr().out
    assert said == "silenced: shop-*, for another 1 h, by alice: tonight [silence-1]\n"
    status.main(["--state", str(state)])
    shown = capsys.readouterr().out
    assert said in shown
    now.write_now(str(state), {"t": time.time(), "up": up - 60, "mutes": mutes, "interval_s": 10.0})
    for argv, out in (([], ""), (["--json"], "[]\n")):  # what a daemon that is gone had muted
        assert silence.main(["--list", "--state", str(state), *argv]) == 1
        told = capsys.readouterr()
        assert told.out == out
        assert ("no daemon runs" in told.err) == (not argv)
    assert "2 notifications to be sent, held back while memory is short" in shown


def test_ack_finds_the_event(state, capsys):
    assert ack.main(["leak.confirmed-1111", "--reason", "known", "--state", str(state)]) == 0
    (asked,) = taken(state)
    assert (asked["do"], asked["keys"], asked["tail"]) == ("ack", ["7:1"], "11112222-7-1-1")
    assert asked["match"] == "py (pid 7, shop-1.service)"
    assert ack.main(["nothing", "--state", str(state)]) == 1
    assert ack.main(["x", "--state", str(state / "none")]) == 2
    capsys.readouterr()
    store = Store(str(state / "history.db"))
    store.put_events([Event("watchdog.stopped", f"leak.{name}", None, 2.0, 2.0, "b" * 32, "box",
                            ("x",), {}) for name in "ab"])  # fmt: skip
    store.flush()
    store.close()
    assert ack.main(["leak", "--state", str(state)]) == 2
    assert capsys.readouterr().err.endswith(f"3 events begin so: leak.a, leak.b, {LEAK}\n")


def test_a_leak_that_is_over_is_not_acknowledged(state, capsys):
    """Nothing would end that note before its time."""
    who = SHOP.entity._asdict()
    body = dict(who, scope="process", rate_bytes_per_s=None, confidence=None, resident_bytes=None,
                since=1.0, exhausts_in_s=None, exhausts_in_low_s=None,
                exhausts_in_high_s=None)  # fmt: skip
    ended = Event("leak.cleared", LEAK.replace("confirmed", "cleared"), None, 2.0, 2.0, "b" * 32,
                  "box", ("x",), body)  # fmt: skip
    acted = Event("policy.action", "policy.action-1", LEAK, 2.0, 2.0, "b" * 32, "box", ("x",),
                  dict(who, target=who, policy="p", do="log", mode="enforce", incident="i",
                       outcome="done", killed_by=None))  # fmt: skip
    store = Store(str(state / "history.db"))
    store.put_events([ended._replace(id=f"{ended.id}2"), acted])  # another one's
    store.flush()
    assert ack.main([LEAK, "--state", str(state)]) == 0
    assert len(taken(state)) == 1
    store.put_events([ended])
    store.close()
    capsys.readouterr()
    for one in (LEAK, ended.id):
        assert ack.main([one, "--state", str(state)]) == 1
        assert f"that leak is over ({ended.id})" in capsys.readouterr().err
    assert taken(state) == []
    assert ack.main([acted.id, "--state", str(state)]) == 0, "a policy may go on for other reasons"
    [asked] = taken(state)
    assert (asked["keys"], asked["tail"]) == (["7:1"], "")


@pytest.mark.parametrize(("event", "keys"), [
    ({"event": "oom.kill", "pid": 7, "start": 1, "unit": "a.service"}, ["7:1", "unit:a.service"]),
    ({"event": "leak.confirmed", "unit": "a.service"}, ["unit:a.service"]),
    ({"event": "leak.confirmed", "pid": 7, "start": 1, "unit": "a.service"}, ["7:1"]),
    ({"event": "policy.action", "target": {"pid": 9, "start": 2}}, ["9:2"]),
    ({"event": "pressure.begun"}, []), ({}, []),
])  # fmt: skip
def test_whom_an_event_is_about(event, keys):
    assert ack.subjects(event) == keys


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be another user")
def test_who_may_not_ask_is_told(state, capsys):
    state.chmod(0o755)
    pid = os.fork()
    if pid == 0:
        os.setresuid(65534, 65534, 65534)
        os._exit(silence.main(["x", "--for", "1h", "--reason", "y", "--state", str(state)]))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
    capsys.readouterr()

"""Blame: the excess over what was proven, as a strict total order that explains itself."""

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog.judge import blame
from watchdog.judge.blame import BySize, Fallback, Rank, rank
from watchdog.judge.candidates import Candidate, Loss

MIB = 1 << 20


def process(pid: int, use: int, proven: int = 0, **more: Any) -> Candidate:
    """Sizes in MiB."""
    given_ = {"frees": use * MIB, "unit": f"u{pid}.service", "start": 1000 + pid, **more}
    return Candidate(pid=pid, comm=f"p{pid}", uid=0, use=use * MIB, proven=proven * MIB, **given_)


DATABASE = process(10, 480, 470)
LEAK = process(11, 120, 20, grew=30 * MIB)
LOSS = Loss(35 * MIB, 10.0)
FILES = "a tmpfs fills", "a tmpfs has filled"


def chosen(*candidates: Candidate, need: int = 25, **more: Any) -> int | None:
    found = rank(candidates, need * MIB, **more).chosen
    return found.candidate.pid if found else None


def test_the_leak_and_not_the_big_healthy_database() -> None:
    assert chosen(DATABASE, LEAK, loss=LOSS) == 11
    assert chosen(DATABASE, LEAK, loss=LOSS, by="size") == 10


def test_a_warm_up_beside_an_old_leak_is_weighed_by_excess() -> None:
    newcomer = process(12, 40, 0, grew=30 * MIB)
    old_leak = process(13, 400, 100, grew=5 * MIB, leak=0.9)
    assert chosen(DATABASE, newcomer, old_leak, loss=LOSS) == 13


def test_a_restarted_database_has_the_level_of_its_last_life() -> None:
    restarted = process(14, 300, 300, grew=300 * MIB)
    leak = process(15, 200, 20, grew=10 * MIB)
    assert chosen(restarted, leak, loss=Loss(310 * MIB, 10.0)) == 15


def test_the_class_is_what_the_head_of_the_file_says() -> None:
    confirmed = process(1, 300, 100, leak=0.8)
    quick = process(2, 300, 100, grew=20 * MIB)
    middling = process(3, 160, 100)
    found = rank([confirmed, quick, middling], 60 * MIB, loss=Loss(30 * MIB, 10.0))
    classes = {one.candidate.pid: one.rank.blame for one in found.ranked
               if isinstance(one.rank, Rank)}  # fmt: skip
    assert classes == {1: 3, 2: 2, 3: 0}
    third = process(3, 200, 100)
    found = rank([confirmed, quick, third], 60 * MIB, loss=Loss(30 * MIB, 10.0))
    assert {one.candidate.pid: one.rank[0] for one in found.ranked}[3] == 1


@pytest.mark.parametrize(("lost", "first"), [(13, 1), (130, 2)])
def test_a_little_that_was_lost_says_nothing_against_a_confirmed_leak(
    lost: int, first: int
) -> None:
    """The database caches a little just now; or it has begun to take everything."""
    leak = process(1, 1500, 100, leak=0.9)
    database = process(2, 2200, 500, grew=lost * 12 // 13 * MIB)
    assert chosen(leak, database, need=200, loss=Loss(lost * MIB, 10.0)) == first


def test_a_small_confirmed_leak_counts_if_it_holds_all_that_is_needed() -> None:
    small = process(1, 60, 20, leak=0.8)
    others = [process(pid, 500, 100) for pid in (2, 3, 4)]
    assert chosen(small, *others, need=30) == 1
    assert chosen(small, *others, need=60) != 1


def test_what_forks_share_is_not_taken_off_a_newcomer() -> None:
    """A unit that replaces its worker: the word about the old one says nothing of the new one."""
    shop = process(10, 480, unit="shop.service", entity="shop.service")
    of_it = {"unit": "hog.service", "entity": "hog.service"}
    parent = process(11, 8, 0, real=500, **of_it)
    worker = process(12, 250, grew=240 * MIB, known=False, real=500, **of_it)
    old = process(9, 60, 60)  # there is a history
    assert chosen(shop, parent, worker, old, loss=Loss(40 * MIB, 8.0)) == 12
    found = rank([shop, parent, worker, old], 25 * MIB, loss=Loss(40 * MIB, 8.0)).ranked[0]
    assert found.rank[5] == 254 * MIB  # use: half of the parent, all of the worker


def test_a_unit_holds_no_less_than_the_largest_of_its_processes() -> None:
    """Its cgroup and its processes are not read at the same instant."""
    of_it = {"unit": "hog.service", "entity": "hog.service", "real": 400}
    found = rank([process(11, 8, **of_it), process(12, 250, **of_it)], 25 * MIB).ranked[0]
    assert found.rank[5] == 250 * MIB


@pytest.mark.parametrize("reason", ["unit db.service is protected", "PID 1 and 2"])
def test_the_protected_are_never_chosen(reason: str) -> None:
    hog = LEAK._replace(protected=reason)
    assert chosen(DATABASE, hog, loss=LOSS) == 10
    found = rank([hog, hog._replace(pid=99)], 25 * MIB)
    assert (found.chosen, found.how) == (None, "nobody")
    assert "2 protected" in found.because[0]


def test_nobody_is_taken_for_what_is_of_no_help() -> None:
    assert rank([process(1, 15)], 0).how == "nobody"
    assert rank([process(1, 30)], 200 * MIB).how == "nobody"
    assert rank([], 0).because == ("no process could be read",)


def test_a_units_processes_are_judged_together_and_the_worst_of_them_goes() -> None:
    workers = [process(pid, 30 + pid, 10, unit="web.service", grew=MIB) for pid in range(20, 32)]
    found = rank([DATABASE, *workers], 25 * MIB, loss=Loss(12 * MIB, 5.0))
    assert found.chosen is not None
    assert found.chosen.candidate.pid == 31
    assert found.chosen.rank[0] == 2
    assert any("web.service holds" in text for text in found.chosen.because)
    assert any("the first of its 12 processes to go" in text for text in found.chosen.because)


@pytest.mark.parametrize("unit", [None, "user@1000.service", "session-4.scope", "init.scope"])
def test_programs_that_share_a_login_are_not_one(unit: str | None) -> None:
    shell = process(1, 20, 5, unit=unit)
    hog = process(2, 200, 5, unit=unit)
    found = rank([shell, hog], 20 * MIB)
    assert [one.candidate.pid for one in found.ranked] == [2, 1]


def test_a_loss_that_no_process_took_is_said_and_nobody_pays_for_it_at_first() -> None:
    loss = Loss(200 * MIB, 10.0)
    found = rank([DATABASE, LEAK], 25 * MIB, loss=loss)
    assert (found.chosen, found.how) == (None, "held")
    assert "tmpfs" in found.because[0]
    found = rank([DATABASE, LEAK], 25 * MIB, loss=loss, deep=True)
    assert found.chosen is not None
    assert found.chosen.rank[0] == 0
    assert found.chosen.candidate.pid == 11


def test_a_loss_without_an_owner_leaves_the_confirmed_leak_the_first() -> None:
    fresh = process(20, 900)
    leak = process(11, 420, 20, leak=0.9)
    found = rank([DATABASE, leak, fresh], 25 * MIB, loss=Loss(200 * MIB, 10.0), deep=True)
    assert [(one.candidate.pid, one.rank[0]) for one in found.ranked][:2] == [(11, 3), (20, 0)]


@pytest.mark.parametrize(("owned", "how"), [(20, "held"), (99, "held"), (100, "blame")])
def test_what_all_processes_took_is_half_of_what_was_lost_or_nobody_is_taken(
    owned: int, how: str
) -> None:
    loss = Loss(200 * MIB, 10.0, owned=owned * MIB)
    assert rank([DATABASE, LEAK], 25 * MIB, loss=loss).how == how


def test_files_in_memory_cost_nobody_his_life_but_a_confirmed_leak() -> None:
    fresh = process(20, 900)
    found = rank([DATABASE, LEAK, fresh], 25 * MIB, loss=LOSS, deep=True, files=FILES)
    assert (found.chosen, found.how) == (None, "held")
    leak = process(11, 120, 20, leak=0.9)
    for deep in (False, True):
        found = rank([DATABASE, leak, fresh], 25 * MIB, loss=LOSS, deep=deep, files=FILES)
        assert found.chosen is None or found.chosen.candidate.pid == 11
    assert found.chosen is not None


def test_files_that_took_most_in_all_count_where_no_process_took_what_was_lost_since() -> None:
    loss, fresh = Loss(40 * MIB, 10.0, owned=MIB), process(20, 900)
    for earlier, pid in (("", 20), ("a tmpfs has filled", None)):
        found = rank([DATABASE, fresh], 25 * MIB, loss=loss, deep=True, files=("", earlier))
        assert (found.chosen.candidate.pid if found.chosen else None) == pid
    hog = rank([DATABASE, LEAK], 25 * MIB, loss=LOSS, deep=True, files=("", "a tmpfs has filled"))
    assert hog.chosen is not None
    leak = process(11, 120, 20, leak=0.9)
    found = rank([DATABASE, leak, fresh], 25 * MIB, loss=loss, deep=True, files=("", "filled"))
    assert found.chosen is not None and found.chosen.candidate.pid == 11


@pytest.mark.parametrize(("need", "stalled"), [(0, False), (0, True), (1, True), (10, True)])
def test_a_stall_is_not_ended_by_a_small_leak_that_holds_all_that_is_needed(
    need: int, stalled: bool
) -> None:
    """Above the mark little or nothing is needed: everybody holds that."""
    leak = process(1, 300, 266, leak=0.9)
    thrasher = process(2, 7000, 800)
    found = rank([leak, thrasher], need * MIB, stalled=stalled)
    assert [(one.candidate.pid, one.rank[0]) for one in found.ranked] == [(2, 1), (1, 0)]
    held = rank([leak, thrasher], need * MIB, stalled=stalled, files=FILES)
    assert (held.chosen, held.how) == (None, "held")
    large = process(1, 3000, 266, leak=0.9)
    for files in (("", ""), FILES):
        assert chosen(large, thrasher, need=need, stalled=stalled, files=files) == 1
    assert not any("needed" in text for one in rank([leak], 0).ranked for text in one.because)


def test_in_a_stall_in_the_first_minutes_a_little_that_was_lost_decides_nothing() -> None:
    database, service = process(10, 250), process(12, 172, grew=3 * MIB)
    for need, stalled in ((0, False), (4, True)):
        assert chosen(database, service, need=need, stalled=stalled, history=False,
                      loss=Loss(4 * MIB, 6.0)) == 10  # fmt: skip


def test_nobody_stands_out_is_said_and_the_least_proven_that_suffices_is_taken() -> None:
    growers = [process(pid, 60, 50 + pid % 3) for pid in range(1, 30)]
    least = process(40, 70, 50)
    large = process(41, 900, 880)
    found = rank([*growers, least, large], 65 * MIB, loss=LOSS._replace(bytes=0))
    assert found.how == "fallback"
    assert "fallback" in found.because[-1]
    assert found.chosen is not None
    assert isinstance(found.chosen.rank, Fallback)
    assert found.chosen.candidate.pid == 40
    spared = least._replace(weight=-1)
    assert rank([*growers, spared, large], 65 * MIB).chosen.candidate.pid == 41  # type: ignore[union-attr]


def test_where_nobody_who_stands_out_suffices_the_largest_is_taken() -> None:
    """A newcomer has proven nothing, and holds next to nothing: its end would win nothing."""
    growers = [process(pid, 60, 50) for pid in range(1, 30)]
    newcomer, large = process(40, 20), process(41, 400, 395)
    found = rank([*growers, newcomer, large], 1000 * MIB // 13)
    assert found.chosen is not None
    assert found.chosen.candidate.pid == 41, "it meets the need alone"
    found = rank([*growers, newcomer, process(41, 70, 65)], 80 * MIB)
    assert found.how == "fallback"
    assert [one.candidate.pid for one in found.ranked][:2] == [41, 29]
    first = found.ranked[0]
    assert isinstance(first.rank, Fallback)
    assert (first.rank.meets_need, first.rank.unproven) == (0, 0)
    avoided = process(41, 70, 65, weight=-1)
    assert chosen(*growers, newcomer, avoided, need=80) == 29


def test_without_history_growth_decides_and_the_confidence_is_low() -> None:
    still = process(1, 500, 0)
    growing = process(2, 100, 0, grew=30 * MIB)
    found = rank([still, growing], 25 * MIB, loss=LOSS)
    assert found.chosen is not None
    assert found.chosen.candidate.pid == 2
    assert "low confidence" in found.because[0]
    assert chosen(still, growing) == 1  # nothing is known of the loss either: by size


@pytest.mark.parametrize(
    ("lost", "need", "first"), [(12, 50, 11), (13, 50, 12), (31, 500, 11), (32, 500, 12)]
)
def test_in_the_first_minutes_a_little_that_was_lost_decides_nothing(
    lost: int, need: int, first: int
) -> None:
    """Who filled the machine pauses, and a small service takes a little just now."""
    database, hog = process(10, 250, 250), process(11, 500)
    service = process(12, 172, grew=lost * MIB)
    loss = Loss(lost * MIB, 6.0)
    found = rank([database, hog, service], need * MIB, loss=loss, history=False)
    assert found.chosen is not None
    assert found.chosen.candidate.pid == first
    assert {one.rank[0] for one in found.ranked} == ({0} if first == 11 else {0, 2})


def test_in_the_first_minutes_a_slow_leak_is_not_hidden_by_who_is_large() -> None:
    """2 MiB/s on a machine of 1 GiB: a look back over 8 s, beside a service that is new, too."""
    found = rank([process(10, 480), process(11, 140, grew=16 * MIB)], 26 * MIB,
                 loss=Loss(16 * MIB, 8.0), history=False)  # fmt: skip
    assert found.chosen is not None
    assert found.chosen.candidate.pid == 11


@pytest.mark.parametrize(("history", "first"), [(False, 11), (True, 10)])
def test_what_one_service_has_proven_says_nothing_of_the_others(history: bool, first: int) -> None:
    """The journal has been there for minutes, the shop for 100 s, and the leak takes everything."""
    journal = process(9, 8, 8)
    shop, leak = process(10, 480), process(11, 140, grew=60 * MIB)
    of_all = {"loss": Loss(60 * MIB, 10.0), "history": history}
    assert chosen(journal, shop, leak, **of_all) == first
    # Who has proven what he holds is no worse off for taking the most of it back just now.
    database = process(12, 300, 300, grew=55 * MIB)
    found = rank([journal, database, leak._replace(grew=5 * MIB)], 25 * MIB, **of_all)
    assert found.chosen is not None
    assert found.chosen.candidate.pid == 11


def test_a_wish_weighs_but_never_changes_the_class() -> None:
    preferred = process(1, 300, 100, weight=1)
    other = process(2, 300, 100)
    assert chosen(preferred, other) == 1
    assert chosen(preferred._replace(weight=-1), other) == 2
    confirmed = process(3, 300, 100, weight=-1, leak=0.9)
    assert chosen(preferred, confirmed) == 3


def test_what_is_new_is_called_new() -> None:
    new = process(1, 300, 0, known=False, grew=300 * MIB, unit=None)
    found = rank([DATABASE, new], 25 * MIB, loss=Loss(300 * MIB, 3.0))
    assert found.chosen is not None
    assert "so new" in found.chosen.because[0]
    quiet = process(1, 300, 0)
    told = [text for one in rank([DATABASE, quiet], 25 * MIB).ranked for text in one.because]
    assert any("has not proven yet" in text for text in told)


def test_the_avoided_and_the_excessless_are_told_as_such() -> None:
    calm = process(1, 300, 300, weight=-1)
    found = rank([calm, LEAK], 25 * MIB)
    told = {one.candidate.pid: one.because for one in found.ranked}
    assert any("to be avoided" in text for text in told[1])
    assert any("no more than" in text for text in told[1])
    assert any("preferred" in text for one in rank([LEAK._replace(weight=1)], 0).ranked
               for text in one.because)  # fmt: skip


SIZES = st.integers(0, 300).map(lambda n: n * MIB)
CANDIDATES = st.builds(
    Candidate,
    pid=st.integers(3, 60), start=st.integers(1, 4), comm=st.just("x"), uid=st.none(),
    unit=st.sampled_from([None, "a.service", "b.service", "user@1.service"]),
    use=SIZES, frees=SIZES, proven=SIZES, grew=st.integers(-50, 200).map(lambda n: n * MIB),
    leak=st.sampled_from([0.0, 0.0, 0.4, 0.9]), protected=st.sampled_from([None, None, "no"]),
    weight=st.integers(-1, 1), known=st.booleans(), real=st.integers(0, 1000),
    entity_read=st.booleans(),
)  # fmt: skip
WORLDS = st.lists(CANDIDATES, max_size=7, unique_by=lambda one: (one.pid, one.start))


@given(WORLDS, st.integers(0, 400), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_only_a_need_below_the_mark_makes_a_small_leak_the_first(
    world: list[Candidate], need: int, stalled: bool, files: bool
) -> None:
    found = rank(world, need * MIB, stalled=stalled, files=FILES if files else ("", ""))
    for one in found.ranked:
        if isinstance(one.rank, Rank) and (stalled or not need) and (files or one.rank.blame == 3):
            assert one.rank.share >= 2, "in tenths, rounded down"


@given(WORLDS, st.integers(0, 400), st.integers(-50, 400), st.booleans(),
       st.sampled_from(["blame", "size"]))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_laws(world: list[Candidate], need: int, lost: int, deep: bool, by: str) -> None:
    loss = Loss(lost * MIB, 10.0)
    found = rank(world, need * MIB, loss=loss, deep=deep, by=by)
    # A strict total order: the order in which they come makes no difference, and no two are equal.
    for other in list(permutations(world))[:: max(1, len(world) ** 3)]:
        assert rank(other, need * MIB, loss=loss, deep=deep, by=by) == found
    ranks = [one.rank for one in found.ranked]
    assert ranks == sorted(set(ranks), reverse=True)
    assert len({type(one) for one in ranks}) <= 1
    # Nothing protected is ever ranked, and every answer has its reasons.
    assert all(one.candidate.protected is None and one.because for one in found.ranked)
    assert found.chosen == (found.ranked[0] if found.ranked else None)
    assert (found.chosen is None) == (found.how in ("held", "nobody"))
    assert found.chosen is not None or found.because
    assert len(found.ranked) <= blame.TOLD
    for one in found.ranked:
        assert all(isinstance(value, int) for value in one.rank)
        if isinstance(one.rank, Rank):
            assert 0 <= one.rank.blame <= 3
            assert 0 <= one.rank.share <= 10
            assert 0 <= one.rank.relief <= 4
            assert 0 <= one.rank.rate <= 100
        elif isinstance(one.rank, BySize):
            assert by == "size"

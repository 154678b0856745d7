"""Blame beside the protected: an innocent does not pay for them, and they are named."""

from typing import Any

import pytest
from guard_world import row
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog.guard.entities import whole
from watchdog.judge.blame import Rank, rank
from watchdog.judge.candidates import Candidate, Loss

MIB = 1 << 20
EXE = "executable /srv/server is protected (protect.exe /srv/server)"


def process(pid: int, use: int, proven: int = 0, **more: Any) -> Candidate:
    """Sizes in MiB."""
    given_ = {"frees": use * MIB, "unit": f"u{pid}.service", "start": 1000 + pid, **more}
    return Candidate(pid=pid, comm=f"p{pid}", uid=0, use=use * MIB, proven=proven * MIB, **given_)


def shop(*, proven: int, leak: float = 0.0, use: int | None = None, grew: int | None = None,
         ) -> dict[str, Any]:  # fmt: skip
    """Of the unit as a whole, in MiB."""
    return {"unit": "shop.service", "entity": "shop.service", "entity_proven": proven * MIB,
            "entity_leak": leak, "entity_use": None if use is None else use * MIB,
            "entity_grew": None if grew is None else grew * MIB}  # fmt: skip


def classes(*found: Candidate, need: int = 37, **more: Any) -> dict[int, int]:
    """The class of each that is ranked, in their order."""
    ranked = rank(found, need * MIB, **more).ranked
    return {one.candidate.pid: one.rank.blame for one in ranked if isinstance(one.rank, Rank)}


@pytest.mark.parametrize("leak", [0.0, 0.9])
def test_a_sidecar_does_not_pay_for_the_leak_of_its_protected_server(leak: float) -> None:
    whole = shop(proven=160, leak=leak, use=760, grew=30)
    server = process(10, 700, 100, protected=EXE, leak=0.9, grew=30 * MIB, **whole)
    sidecar = process(11, 60, 60, **whole)
    other = process(12, 300, 100)
    loss = Loss(32 * MIB, 10.0)
    assert classes(server, sidecar, other, loss=loss) == {12: 1, 11: 0}
    # Nor for its size, where it has proven nothing for itself yet: the unit has.
    fresh = sidecar._replace(proven=0, start=9000)
    assert classes(server, fresh, other, loss=loss) == {12: 1, 11: 0}
    found = rank([server, fresh, other], 37 * MIB, loss=loss).ranked
    assert found[1].rank[1:6] == (0, 4, 0, 0, 60 * MIB)


def test_a_restarted_sidecar_has_part_in_what_its_unit_has_proven() -> None:
    whole = shop(proven=400)
    server = process(10, 700, 100, protected=EXE, leak=0.9, **whole)
    sidecar = process(11, 300, 0, **whole)
    assert classes(server, sidecar, process(12, 350, 100)) == {12: 1, 11: 1}


def test_a_sidecar_that_leaks_is_to_blame_beside_a_protected_server() -> None:
    whole = shop(proven=160, leak=0.9)
    server = process(10, 100, 100, protected=EXE, **whole)
    assert classes(server, process(11, 600, 60, **whole), process(12, 300, 100)) == {11: 3, 12: 1}


def test_workers_that_are_not_all_read_answer_for_what_their_unit_holds() -> None:
    """A protected master of 20 MiB, and 300 workers of 2 MiB each that follow their own leak."""
    whole = shop(proven=120, leak=0.9, use=620, grew=40)
    master = process(10, 20, 20, protected="its oom_score_adj is -900", **whole)
    workers = [process(pid, 2, 2, grew=MIB // 8, **whole) for pid in range(20, 90)]
    loss = Loss(60 * MIB, 10.0, owned=45 * MIB)
    found = rank([master, *workers, process(12, 300, 250)], 37 * MIB, loss=loss)
    assert found.chosen is not None
    assert found.chosen.rank[:2] == (3, 7)
    assert 0.6 < found.chosen.rank[4] / 100 < 0.7
    told = found.chosen.because
    assert told[0].startswith("shop.service, without what is protected in it, holds 54")
    assert any("the first of its 70 processes" in text for text in told)
    assert found.chosen.spread


def test_a_crowd_that_is_protected_is_not_counted_to_its_sidecar() -> None:
    whole = shop(proven=100, leak=0.9, use=860, grew=80)
    crowd = [process(pid, 4, 1, protected=EXE, grew=MIB, **whole) for pid in range(20, 84)]
    sidecar = process(11, 60, 60, **whole)
    loss = Loss(90 * MIB, 10.0)
    assert classes(*crowd, sidecar, process(12, 300, 100), loss=loss) == {12: 1, 11: 0}


def test_nor_is_one_of_which_most_are_not_read() -> None:
    """600 backends of 6 MiB and what they share are the unit's 4000; 64 of them are read."""
    whole_ = shop(proven=2000)
    crowd = [process(pid, 6, 3, protected=EXE, start=500, **whole_) for pid in range(20, 84)]
    sidecar = process(11, 130, 130, start=500, **whole_)
    rows = [
        row(pid, "shop.service", 2000, protected=None if pid == 11 else EXE, use=4000, own=own)
        for pid, own in [(11, 130), *((pid, 6) for pid in range(20, 520))]
    ]
    sizes = {found[0]: found[15] for found in rows}
    # Its part of what all took since would be large as well.
    grown = [*crowd[:-1], crowd[-1]._replace(grew=MIB), sidecar._replace(grew=MIB)]
    read = whole(grown, rows, sizes, dict.fromkeys(sizes, 5 * MIB), lambda *_: False)
    assert all(one.entity_read for one in read)
    found = rank([*read, process(12, 900, 100)], 37 * MIB, loss=Loss(90 * MIB, 10.0, 80 * MIB))
    assert found.chosen is not None
    assert found.chosen.candidate.pid == 12
    (told,) = [one for one in found.ranked if one.candidate.pid == 11]
    assert told.rank[:2] == (0, 0)
    assert "holds 130 MiB" in told.because[0]
    assert isinstance(told.rank, Rank)
    assert told.rank.rate <= 2
    # Nobody says that of workers who may be taken and were not all read.
    workers = [*rows, row(900, "shop.service", 2000, use=4000, own=5)]
    read = whole(grown, workers, {**sizes, 900: 5 * MIB}, None, lambda *_: False)
    assert not any(one.entity_read for one in read)
    young = [*rows, row(900, "shop.service", 2000, use=4000, own=0)]
    read = whole(grown, young, sizes, None, lambda *_: False)
    assert all(one.entity_read for one in read), "one that has next to nothing makes no difference"
    read = whole(grown, workers, sizes, None, lambda pid, _: pid == 900)
    assert all(one.entity_read for one in read), "it has ended"


SIZES = st.integers(0, 900)


@given(SIZES, SIZES, SIZES, SIZES, st.sampled_from([0.0, 0.9]), st.sampled_from([0.0, 0.9]),
       st.booleans(), st.booleans(), st.integers(0, 400))  # fmt: skip
@settings(max_examples=200)
def test_whoever_is_level_answers_for_nothing_that_protected_ones_beside_it_do(
    use: int, proven: int, more: int, grew: int, leak: float, whole_leak: float, told: bool,
    history: bool, need: int,
) -> None:  # fmt: skip
    whole = shop(proven=60 + more, leak=whole_leak, use=use + 60 if told else None,
                 grew=grew if told else None)  # fmt: skip
    server = process(10, use, proven, protected=EXE, leak=leak, grew=grew * MIB, **whole)
    sidecar = process(11, 60, 60, **whole)
    found = rank([server, sidecar, process(12, 300, 300)], need * MIB,
                 loss=Loss(grew * MIB, 10.0), history=history, deep=True)  # fmt: skip
    for one in found.ranked:
        if one.candidate.pid == 11 and isinstance(one.rank, Rank):
            assert one.rank[:2] == (0, 0)
            assert (one.rank.rate, one.rank.size) == (0, 60 * MIB)


# ---- a protected one is named -------------------------------------------------------------------


def test_a_protected_culprit_is_named_and_the_machine_is_not_called_too_small() -> None:
    culprit = process(10, 1000, 100, leak=0.9, protected="unit u10.service is protected")
    others = [process(pid, 60, 40) for pid in range(20, 26)]
    found = rank([culprit, *others], 25 * MIB)
    assert found.how == "fallback"
    assert found.because[0] == (
        "p10 (PID 10) of u10.service has 895 MiB above what is proven, 89 % of all that is, and "
        "may not be taken: unit u10.service is protected"
    )
    assert "fallback" in found.because[-1]
    assert not any("too small" in text for text in found.because)
    alone = rank([culprit], 25 * MIB)
    assert alone.how == "nobody"
    assert any("p10 (PID 10) of u10.service has" in text for text in alone.because)


def test_what_is_protected_of_a_unit_is_named_beside_its_sidecar() -> None:
    whole = shop(proven=160)
    servers = [process(pid, 350, 50, protected=EXE, **whole) for pid in (10, 13)]
    others = [process(pid, 60, 40) for pid in range(20, 26)]
    found = rank([*servers, process(11, 60, 60, **whole), *others], 25 * MIB)
    assert found.how == "fallback"
    assert found.because[0].startswith("p13 (PID 13) and 1 more of shop.service have 59")
    assert found.because[0].endswith(EXE)


def test_who_is_protected_and_has_proven_himself_is_not_named() -> None:
    healthy = process(10, 900, 900, protected="unit u10.service is protected")
    others = [process(pid, 60, 40) for pid in range(20, 30)]
    found = rank([healthy, *others], 25 * MIB)
    assert found.how == "fallback"
    assert "too small" in found.because[-1]
    assert not any("u10.service" in text for text in found.because)

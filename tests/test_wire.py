"""The wire: what is packed comes back, garbage is refused, and nothing ever waits."""

import marshal
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog import wire

ITEMS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)


@given(st.text(max_size=10), st.lists(ITEMS, max_size=5))
def test_what_is_packed_comes_back(kind: str, items: list[object]) -> None:
    assert wire.unpack(wire.pack((kind, *items))) == (kind, *items)


@given(st.binary(max_size=300))
def test_garbage_is_refused(raw: bytes) -> None:
    assert wire.unpack(raw) is None


@given(st.integers(0, 200))
def test_a_torn_packet_is_refused(length: int) -> None:
    raw = wire.pack(("report", 1.0, "x" * 200))
    assert wire.unpack(raw[:length]) is None


@pytest.mark.parametrize("value", [[], (), (1, "stop"), "stop", None])
def test_only_tuples_with_a_kind_are_messages(value: object) -> None:
    body = marshal.dumps(value)
    assert wire.unpack(b"omw1" + len(body).to_bytes(4, "little") + body) is None


def test_a_frame_with_a_length_that_lies_is_refused() -> None:
    # marshal itself would try to make a tuple of 2 GiB of these
    body = b"(\xff\xff\xff\x7f"
    assert wire.unpack(b"omw1" + (99).to_bytes(4, "little") + body) is None


def test_a_dossier_that_does_not_fit_is_cut_from_its_end() -> None:
    rows = [(pid, 7, "x" * 15, f"{pid}" + "u" * 250, 1 << 40, 1, 0.5, f"{pid}" + "r" * 90, 0)
            for pid in range(512)]  # fmt: skip
    raw = wire.pack(("dossier", 12.5, rows))
    assert len(raw) <= wire.MESSAGE_MAX
    message = wire.unpack(raw)
    assert message is not None
    kept = message[2]
    assert message[:2] == ("dossier", 12.5)
    assert 100 < len(kept) < 512
    assert kept == rows[: len(kept)]


def test_anything_else_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(wire.TooLargeError):
        wire.pack(("report", "x" * wire.MESSAGE_MAX))


def test_the_largest_dossier_goes_through_the_socket() -> None:
    left, right = wire.pair()
    rows = [(pid, 7, "c", "u" * 150, 1, 1, 0.5, None, 0) for pid in range(512)]
    assert wire.send(left, ("dossier", 1.0, rows))
    (message,) = wire.receive(right)
    assert message[0] == "dossier"
    os.close(left)
    os.close(right)


def test_a_reader_that_does_not_read_never_holds_us() -> None:
    left, right = wire.pair()
    sent = 0
    while wire.send(left, ("beat", sent)):
        sent += 1
        assert sent < 100_000
    assert wire.receive(right, most=3) == [("beat", 0), ("beat", 1), ("beat", 2)]
    assert not wire.send(left, ("report", "x" * wire.MESSAGE_MAX))
    os.close(left)
    os.close(right)


def test_the_end_is_told_after_what_came_before_it() -> None:
    left, right = wire.pair()
    wire.send(left, ("stop",))
    os.write(left, b"garbage")
    os.close(left)
    assert wire.receive(right) == [("stop",)]
    with pytest.raises(wire.ClosedError):
        wire.receive(right)
    with pytest.raises(wire.ClosedError):
        wire.send(right, ("beat", 1))
    os.close(right)

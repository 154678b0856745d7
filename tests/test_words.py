"""Quantities, tables, and names that cannot harm a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog import measures, words


@pytest.mark.parametrize(
    ("text", "count"),
    [("0B", 0), ("512MiB", 512 << 20), ("1.5G", 3 << 29), ("100 KB", 102400), ("2t", 2 << 40)],
)
def test_sizes_are_powers_of_1024(text, count):
    assert measures.parse_size(text) == count


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("10s", 10), ("2 min", 120), ("1h", 3600), ("1.5d", 129600), ("2w", 1209600)],
)
def test_times_have_a_unit(text, seconds):
    assert measures.parse_duration(text) == seconds


def test_a_bare_number_is_seconds_only_where_it_is_allowed():
    assert measures.parse_duration("90", bare=True) == 90
    with pytest.raises(measures.WordError, match="expected a time"):
        measures.parse_duration("90")


@pytest.mark.parametrize("text", ["5m", "5 M"])
def test_m_is_refused_with_a_hint(text):
    with pytest.raises(measures.WordError, match='write "min"'):
        measures.parse_duration(text)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (measures.parse_size, "12"), (measures.parse_size, "12 parsecs"),
        (measures.parse_size, ""), (measures.parse_duration, "soon"),
        (measures.parse_share, "5"), (measures.parse_share, "101%"),
        (measures.parse_rate, "5MiB"), (measures.parse_rate, "5MiB/fortnight"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_what_was_expected(parse, text):
    with pytest.raises(measures.WordError, match="expected"):
        parse(text)


def test_shares_and_rates():
    assert measures.parse_share("5%") == 0.05
    assert measures.parse_rate("1MiB/s") == 1 << 20
    assert measures.parse_rate("60M/min") == 1 << 20
    assert measures.parse_rate("10M/10s") == 1 << 20


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 20, "1.0 MiB"),
     (212.44 * (1 << 20), "212 MiB"),
     (99.9 * (1 << 20), "99.9 MiB"), (5 << 40, "5.0 TiB"), (-2048, "-2.0 KiB")],
)  # fmt: skip
def test_sizes_in_three_figures(count, text):
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.25, "250 ms"), (5, "5 s"), (5.5, "5.5 s"), (65, "1 min 5 s"), (3600, "1 h"),
     (7500, "2 h 5 min"), (3605, "1 h"), (90061, "1 d 1 h"), (40 * 86400 + 60, "40 d")],
)  # fmt: skip
def test_durations_in_two_units(seconds, text):
    assert words.duration(seconds) == text


def test_rates_by_second_hour_or_day():
    assert words.rate(2 << 20) == "2.0 MiB/s"
    assert words.rate(31 * (1 << 20) / 3600) == "31.0 MiB/h"
    assert words.rate((1 << 20) / 86400) == "1.0 MiB/d"


def test_shares_in_words():
    assert [words.share(part) for part in (0, 0.005, 0.05, 0.5)] == [
        "0 %",
        "0.5 %",
        "5.0 %",
        "50 %",
    ]


def test_counts_have_their_plural():
    assert words.count(1, "process") == "1 process"
    assert words.count(2000, "process") == "2,000 processes"
    assert words.count(0, "unit") == "0 units"
    assert words.count(2, "policy") == "2 policies"


@given(st.binary(max_size=40))
def test_names_are_printable_and_stay_so(raw):
    text = words.name(raw)
    assert text.isprintable()
    assert words.safe(text) == text


def test_names_keep_what_is_fine_and_show_the_rest():
    assert words.name(b"caf\xc3\xa9 \\x2d") == "caf\xe9 \\x2d"
    assert words.name(b"a\x1b[31m\n\xff") == "a\\x1b[31m\\x0a\\xff"
    assert words.name("\u202e".encode()) == "\\xe2\\x80\\xae"


@given(st.text(st.characters()))
def test_any_text_is_made_safe(text):
    safe = words.safe(text)
    assert safe.isprintable()
    assert words.safe(safe) == safe


def test_half_a_character_that_stands_for_no_byte_is_shown():
    assert words.safe("a\ud800\udc80\udfff") == "a\\xed\\xa0\\x80\\x80\\xed\\xbf\\xbf"


def test_the_nearest_word_is_named():
    assert words.nearest("notifi", ["notify", "run"]) == ' (did you mean "notify"?)'
    assert words.nearest("zzz", ["notify", "run"]) == ""


def test_a_table_has_no_trailing_blanks():
    text = words.table(["PID", "NAME"], [["1", "init"], ["4242", "x"]], right=[0])
    assert text.splitlines() == [" PID  NAME", "   1  init", "4242  x"]

"""The suite of leaks and its detectors: the truth it claims, and that they see what they should."""

import math
import random
from array import array

import pytest

from bench.leaks import fit, holdout, kinds, others, ours, picture, run, score, tables, training
from bench.leaks.series import DAY_S, Kind, Series, make, thinned
from watchdog.engine import Engine
from watchdog.facts import Group
from watchdog.judge import leak
from watchdog.policy.rules import default_rules

ALL = kinds.KINDS + holdout.KINDS + training.KINDS
LINEAR = kinds.KINDS[0]
FLAT = next(kind for kind in kinds.KINDS if kind.code == "B01")


def straight(slope_mib_h, hours=24.0, base=400.0, limit=4096.0, leak=True):
    times = array("d", (60.0 * i for i in range(int(hours * 60))))
    sizes = array("d", (base + slope_mib_h * t / 3600 for t in times))
    ends = (limit - base) / slope_mib_h * 3600 if leak else None
    kind = LINEAR if leak else FLAT
    return Series(kind, "x", 60.0, 30 * DAY_S, 0.0, ends, ((0.0, limit),), times, sizes)


def only(series, name, factor=1.0):
    return others.scan(series, (factor,))[0][name]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.code)
def test_every_kind_keeps_its_word(kind):
    series = make(kind, "test", 0)
    assert series == make(kind, "test", 0) != make(kind, "test", 1)
    assert list(series.t) == sorted(set(series.t)) and len(series.t) == len(series.mib)
    assert all(0 < size < 1e6 for size in series.mib)
    if kind.leak:
        assert series.ends_s is not None and 0 <= series.onset_s < series.ends_s
        assert series.t[-1] < series.ends_s
        assert all(v < series.limit_at(t) for t, v in zip(series.t, series.mib, strict=True))
        assert series.mib[-1] > series.mib[0]
    else:
        assert series.ends_s is None and series.days > 2.9
        assert max(series.mib) < series.limits[0][1]


def test_the_kinds_of_the_suite_and_those_held_out_are_distinct():
    codes = [kind.code for kind in ALL]
    assert len(codes) == len(set(codes))
    assert sum(kind.leak for kind in kinds.KINDS) >= 16
    assert sum(not kind.leak for kind in kinds.KINDS) == 16


def test_fast_leaks_end_within_four_hours():
    fast = next(kind for kind in kinds.KINDS if kind.code == "L02")
    assert all(make(fast, "test", i).ends_s < 4.1 * 3600 for i in range(12))


def test_missing_samples_are_missing_and_uneven():
    series = make(FLAT, "test", 0)
    thin = thinned(series)
    assert 0.5 < len(thin.t) / len(series.t) < 0.75
    assert list(thin.t) == sorted(thin.t)
    assert len({round(b - a, 3) for a, b in zip(thin.t, thin.t[1:], strict=False)}) > 100


def test_the_judge_is_fed_as_the_engine_feeds_it():
    """The same series as a unit of the engine: the same alarms at the same times."""
    series = next(
        one for one in (make(kinds.KINDS[0], "test", i) for i in range(20)) if one.age_s == 0
    )
    alarms = [one.t for one in ours.judge(series, whole=True).confirmed]
    assert alarms
    engine, told = Engine(default_rules(), "host"), []
    limit = int(series.limits[0][1]) << 20
    up0 = random.Random("up:" + series.seed).uniform(1e5, 2e6)
    for t, mib in zip(series.t, series.mib, strict=True):
        up = up0 + t
        size = int(mib * 1024) * 1024
        engine.feed(Group(up, up, "a.service", "/a.service", anon=size, limit=limit))
        told += [(event, t) for event in engine.leaks.units() if event.kind == "leak.confirmed"]
    assert [t for _, t in told] == alarms


def test_outcomes():
    leak = straight(100)
    late = leak._replace(onset_s=10 * 3600.0)
    assert score.outcome(leak, []).found is False
    found = score.outcome(leak, [0.5 * leak.ends_s])
    assert found.found and found.delay == pytest.approx(0.5)
    assert not score.outcome(leak, [0.96 * leak.ends_s]).found
    early = score.outcome(late, [3600.0, 12 * 3600.0])
    assert (early.found, early.false, early.false_episodes) == (False, True, 1)
    benign = score.outcome(straight(1e-9, leak=False), [1.0, 2.0])
    assert benign.false and benign.false_episodes == 2
    whole = score.score([found, benign])
    assert (whole.precision, whole.recall) == (0.5, 1.0)
    assert whole.false_a_day == pytest.approx(2 / benign.clean_days)
    assert score.score([]).f1 == 0


def test_coverage_and_reliability():
    alarm = ours.Alarm(0.0, 0.95, 50.0, 100.0, 150.0, 60.0, 60)
    told = [score.Forecast("L01", alarm, truth) for truth in (60.0, 140.0, 160.0)]
    told.append(score.Forecast("B01", alarm, None))
    number, share, width = score.coverage(told)
    assert (number, share) == (3, pytest.approx(2 / 3)) and width == pytest.approx(100 / 140)
    (row,) = score.reliability(told, leaks=3, benign=10)
    assert (row.alarms, row.leaks) == (4, 0.75)
    # One leak in 500, all of which alarm; one benign in ten alarms as well.
    assert row.rare == pytest.approx(0.002 / (0.002 + 0.998 * 0.1))
    assert score.coverage([]) == (0, 0.0, 0.0)


def test_episodes_need_their_time_and_end_after_an_hour():
    minute = [(60.0 * i, 10 <= i < 30 or 40 <= i < 60 or i >= 200) for i in range(240)]
    assert others.episodes(minute, 300) == [900.0, 200 * 60 + 300.0]


def test_predict_linear_says_when_the_line_meets_the_limit():
    series = straight(100, hours=36.5)  # ends after 36.96 h
    (said,) = only(series, "predict_1h")
    assert said / 3600 == pytest.approx(32.96 + 0.25, abs=0.2)
    assert only(series, "predict_1h", factor=4.0) == []
    (day_ahead,) = only(series, "predict_6h_24h")
    assert day_ahead / 3600 == pytest.approx(12.96 + 0.25, abs=0.2)


def test_the_other_rules_on_a_straight_line_and_on_none():
    steep, level = straight(400, hours=9), straight(1e-6, hours=72, leak=False)
    said = others.scan(steep, (1.0,))[0]
    assert all(said[name] for name in ("deriv", "coroot", "mk", "threshold", "lbr")), said
    quiet = make(FLAT, "test", 3)
    silent = others.scan(quiet, (1.0,))[0]
    assert not any(silent[n] for n in ("predict_6h", "coroot", "precog", "threshold")), silent
    assert others.scan(level, (1.0,))[0]["coroot"] == []


def test_precog_waits_for_six_hours_and_two_fifths_of_the_limit():
    series = straight(100, hours=36)
    (said,) = only(series, "precog")
    reached = (0.4 * 4096 - 400) / 100
    assert reached <= said / 3600 <= reached + 1.5
    (trained,) = only(series, "precog_mf")
    assert trained / 3600 == pytest.approx(30.2, abs=1.2)  # a day of training and six hours


def test_hamed_rao_asks_more_of_what_is_correlated():
    order = random.Random(5)
    walk = [0.0]
    for _ in range(71):
        walk.append(0.95 * walk[-1] + order.gauss(0, 1))
    white = [order.gauss(0, 1) for _ in range(72)]
    assert others._hamed_rao(walk) > 1.5
    assert others._hamed_rao(white) < 1.5


def test_change_points_part_a_step_from_a_line():
    values = [10.0 + 0.001 * math.sin(i) for i in range(100)]
    values += [50.0 + 0.001 * math.sin(i) for i in range(100)]
    assert 100 in others._change_points(values, 0, 200)


def test_the_command_prints_its_tables(capsys):
    assert run.main(["--kinds", "L02,B01", "--seeds", "1", "--more", "2", "--jobs", "1",
                     "--misses"]) == 0  # fmt: skip
    text = capsys.readouterr().out
    assert "L02 fast" in text and "Precog, untrained" in text and "limit x4" in text
    assert "the 80 % interval held" in text


def test_a_kind_that_is_not_there_is_one_line(capsys):
    with pytest.raises(SystemExit):
        run.main(["--kinds", "L99"])
    assert "no such kind: L99" in capsys.readouterr().err


def test_the_table_finds_its_place(tmp_path):
    path = tmp_path / "leaks.md"
    path.write_text("a\n<!-- suite: made by ./dev bench leaks -->\nold\n<!-- end of suite -->\nb\n")
    tables.write(path, "suite", "new")
    assert path.read_text().split("\n")[2] == "new" and path.read_text().endswith("\nb\n")
    with pytest.raises(SystemExit):
        tables.write(path, "holdout", "new")


def test_the_picture_is_drawn():
    text = picture.draw((LINEAR, FLAT), "test")
    assert text.startswith("<svg") and text.count('class="memory"') == 2
    assert 'class="confirmed"' in text


def test_misses_are_named():
    wrong = score.Outcome("B01", False, False, True, None, 1, 3.0)
    task = run.Task(Kind("B01", "flat", False, kinds.flat), "test", 4, True, False)
    lines = run.misses([run.Result(task, {"plain": {"ours": wrong}}, None, [7200.0])])
    assert lines == ["false plain: test:B01:4 alarms at h: 2.0"]


def test_the_fit_finds_weights_again_and_its_rows_are_what_the_judge_weighs():
    chance = random.Random(5)
    truth = (0.5, 2.0, -1.5)
    rows = []
    for _ in range(3000):
        seen = (1.0, chance.gauss(0, 1), chance.gauss(0, 1))
        odds = sum(a * b for a, b in zip(truth, seen, strict=True))
        rows.append(fit.Row(seen, chance.random() < 1 / (1 + math.exp(-odds)), 1.0))
    assert fit.fit(rows) == pytest.approx(truth, abs=0.25)
    found, none = fit.rows_of(("L01", 1)), fit.rows_of(("B01", 1))
    assert found and not none and all(row.leak for row in found)
    assert sum(row.weight for row in found) == pytest.approx(1)
    assert len(found[0].evidence) == len(leak.WEIGHTS) == len(fit.NAMES)

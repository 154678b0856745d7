"""For every test: how hypothesis behaves, and that CI takes no skip that stands in no list."""

import os
import re
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("here", deadline=None)
# CI judges a commit, so the same commit must always give the same answer.
settings.register_profile("ci", deadline=None, derandomize=True)
IN_CI = os.environ.get("CI") == "true"
settings.load_profile("ci" if IN_CI else "here")


def known_skips() -> list[re.Pattern[str]]:
    """The reasons of .ci/skips that hold where this runs."""
    place = os.environ.get("OOM_WATCHDOG_PLACE", "here")
    text = Path(__file__).with_name(".ci").joinpath("skips").read_text(encoding="utf-8")
    lines = (line.split(None, 1) for line in text.splitlines() if line and line[0] != "#")
    return [re.compile(reason) for where, reason in lines if where in ("any", place)]


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """With CI=true an unknown skip is a failure: it would otherwise hide for ever."""
    if not IN_CI or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if not any(pattern.search(reason) for pattern in known_skips()):
        report.outcome = "failed"
        report.longrepr = f"{reason}\nNot in .ci/skips, so in CI this skip is a failure."


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """For skips of one test."""
    report = yield
    refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """For skips of a whole file."""
    report = yield
    refuse_skip(report)
    return report

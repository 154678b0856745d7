"""Why this process: the kernel's score by version, computed by hand here, and what is said."""

from typing import Any

import pytest

from watchdog.judge import badness, choice
from watchdog.oom_report.mem_info import Limit
from watchdog.oom_report.report import Report, Victim
from watchdog.oom_report.tasks import Row

GIB_PAGES = 1 << 18
NONE: Any = None


def row(pid: int, rss: int, adj: int | None = 0, name: str = "x", **more: Any) -> Row:
    told = {"uid": 1000, "swap": 0, "pagetables": 0, "tgid": pid} | more
    return Row(pid, told["uid"], told["tgid"], rss * 2, rss, None, None, None,
               told["pagetables"], told["swap"], adj, name)  # fmt: skip


def report(rows: list[Row], victim: int | None = 1, **more: Any) -> Report:
    told = dict.fromkeys(Report._fields) | {
        "t": 0.0, "lines": (1, 9), "outcome": "killed", "scope": "global", "also_killed": (),
        "manual": False, "allocating": False, "kill_lines": 1, "limits": {}, "page_size": 4096,
        "rows": tuple(rows), "tasks_count": len(rows), "pagetables_are_bytes": True,
        "zones": (), "total_pages": GIB_PAGES, "slabs": (), "allocations": (),
        "stuck": False, "suppressed": 0, "unread": 0, "missing": (),
        "victim": Victim(victim, "x") if victim is not None else None,
    }  # fmt: skip
    return Report(**(told | more))


def points(rows: list[Row], victim: int = 1, **more: Any) -> list[int | None]:
    ranked = badness.rank(report(rows, victim, **more))
    assert ranked is not None
    return [c.points for c in sorted(ranked.candidates, key=lambda c: c.row.pid)]


def why(rows: list[Row], victim: int | None = 1, **more: Any) -> str | None:
    told = report(rows, victim, **more)
    return choice.why(told, badness.rank(told))


# -- the score by version --------------------------------------------------------------------------


def test_from_5_9_on_scores_may_be_negative() -> None:
    rows = [row(1, 1000, 0, pagetables=8192, swap=50), row(2, 5000, -500)]
    assert points(rows, kernel_version="6.1.0") == [1000 + 2 + 50, 5000 - GIB_PAGES // 2]


def test_from_4_17_on_there_is_a_floor_and_no_bonus_for_root() -> None:
    rows = [row(1, 1000, 0, uid=0), row(2, 5000, -500)]
    assert points(rows, kernel_version="5.4.0") == [1000, 1]


def test_in_4_15_root_still_has_three_percent_less() -> None:
    rows = [row(1, 1000, uid=0, pagetables=40960), row(2, 500)]
    assert points(rows, kernel_version="4.15.0") == [1010 - 30, 500]


def test_from_3_10_on_root_has_three_percent_of_its_own_less() -> None:
    old = {"pagetables_are_bytes": False}
    rows = [row(1, 1000, uid=0, pagetables=10), row(2, 900, -1000)]
    assert points(rows, kernel_version="3.10.0-957.el7", **old) == [980, None]
    assert points(rows, **old) == [980, None]  # the same table without its version


def test_before_3_10_root_has_thirty_thousandths_of_all_less() -> None:
    rows = [row(1, 50000, uid=0, pagetables=10), row(2, 900, 0)]
    told = points(rows, kernel_version="3.8.0", pagetables_are_bytes=False)
    assert told == [50010 - 30 * GIB_PAGES // 1000 - 1, 900]  # floor division of a negative


def test_a_table_without_swap_and_page_tables_is_followed_only_without_swap() -> None:
    rows = [row(1, 5000, 0, swap=None, pagetables=None), row(2, 900, 0, swap=None, pagetables=None)]
    told = report(rows, pagetables_are_bytes=False, swap_total=0)
    ranked = badness.rank(told)
    assert ranked is not None
    assert (ranked.place, ranked.exact) == (1, False)
    assert badness.rank(told._replace(swap_total=1 << 30)) is None


def test_what_cannot_be_followed_is_not_claimed() -> None:
    rows = [row(1, 10, 5), row(2, 5)]
    assert badness.rank(report([])) is None
    assert badness.rank(report(rows, page_size=None)) is None
    assert badness.rank(report(rows, total_pages=None)) is None  # adjusted, of an unknown total
    assert badness.rank(report([row(1, 10), row(2, 5)], total_pages=None)) is not None
    assert badness.rank(report([row(1, 10, None), row(2, 5, None)])) is None  # up to 2.6.35
    assert badness.rank(report(rows, tasks_count=9000)) is None  # the table was cut
    # an estimate that does not lead to the kernel's choice is worth nothing
    guessed = [row(1, 10, uid=0, pagetables=1), row(2, 50, pagetables=1)]
    assert badness.rank(report(guessed, pagetables_are_bytes=False)) is None


def test_a_cgroup_that_may_swap_without_limit_has_no_known_total() -> None:
    limits = {"memory": Limit(1, 1 << 20, 3), "swap": Limit(0, None, 0)}
    ranked = badness.rank(report([row(1, 100), row(2, 10)], scope="memcg", limits=limits))
    assert ranked is not None
    assert (ranked.place, ranked.total_pages, ranked.exact) == (1, None, False)
    assert ranked.thousandths(100) is None


def test_thousandths_are_those_of_the_kernel() -> None:
    ranked = badness.rank(report([row(1, GIB_PAGES // 2), row(2, 10)]))
    assert ranked is not None
    assert ranked.thousandths(ranked.candidates[0].points) == 500
    assert ranked.thousandths(None) is None


# -- what is said ----------------------------------------------------------------------------------


def test_the_largest_and_who_came_next() -> None:
    rows = [row(1, GIB_PAGES // 2), row(2, GIB_PAGES // 10 + 1, name="java")]
    assert why(rows) == (
        "it was the largest of 2 processes, the kernel's score 500 (next: java, 100)"
    )
    assert why(rows, selected=(1, "x", 512)) == (
        "it was the largest of 2 processes, the kernel's score 512 (next: java, 100)"
    )


def test_a_protected_one_was_larger() -> None:
    big = row(2, 3 * GIB_PAGES, -900, "postgres")
    said = why([row(1, 1000), big], total_pages=4 * GIB_PAGES)
    assert said is not None
    assert said.startswith(
        "not the biggest: postgres (pid 2) held 3.0 GiB and was protected by -900"
    )
    said = why([row(1, 1000), big._replace(oom_score_adj=-1000)], total_pages=4 * GIB_PAGES)
    assert said is not None
    assert "may not be killed (oom_score_adj -1000)" in said
    assert said.endswith("1 process with 3.0 GiB may not be killed (-1000)")


def test_one_that_was_put_forward() -> None:
    said = why([row(1, 1000, 500), row(2, 5000, name="web")])
    assert said is not None
    assert "but oom_score_adj 500 put this one forward" in said
    said = why([row(1, 1000, 500), row(2, 5000, 100, name="web")])
    assert said is not None
    assert "forward, 100 there" in said
    assert "put it forward besides" in (why([row(1, 5000, 500), row(2, 100)]) or "")
    assert "not enough to save it" in (why([row(1, 200000, -100), row(2, 100)]) or "")
    same = why([row(1, 5000, 500), row(2, 100, 500)]) or ""
    assert "oom_score_adj" not in same


def test_equals_die_in_the_order_of_the_list() -> None:
    rows = [row(1, 1, -998, "pause"), row(2, 50000, -998, "big")]
    said = why(rows, kernel_version="4.18.0")
    assert said == (
        "not the biggest: big (pid 2) held 195 MiB, but oom_score_adj -998 put all 2 at the lowest "
        "score, and among equals the first in the list dies"
    )
    assert why(rows, kernel_version=None) == said  # told by the choice itself
    # from 5.9 on the larger would have died: so it was passed over
    assert "scored higher and was passed over" in (why(rows, kernel_version="5.15.0") or "")
    mixed = [row(1, 1, -997), row(2, 50000, -998, "big")]
    assert "oom_score_adj -998 to -997 put" in (why(mixed, kernel_version="5.4.0") or "")


def test_swap_and_page_tables_count() -> None:
    said = why([row(1, 100, swap=9000), row(2, 5000, name="big")]) or ""
    assert "with swap added this one scored higher" in said
    said = why([row(1, 4000, pagetables=4096 * 9000), row(2, 5000, name="big")]) or ""
    assert "with page tables added this one scored higher" in said


def test_who_was_passed_over() -> None:
    rows = [row(1, 100, -900), row(2, 250000, 0, "hog"), row(3, 90, -900)]
    assert why(rows) == (
        "not the biggest: hog (pid 2) held 977 MiB; it scored higher and was passed over, as one "
        "that is dying already"
    )
    rows = [row(1, 5000, -900), row(2, 10, 0, "small")]
    assert "small (pid 2) scored higher and was passed over" in (why(rows) or "")


def test_chosen_and_killed_are_two() -> None:
    rows = [row(1, 100), row(9, 5000, name="parent")]
    said = why(rows, selected=(9, "parent", 90))
    assert said is not None
    assert said.startswith(
        "the kernel chose parent (pid 9) and sacrificed this child of it, as kernels up to 5.0 do"
    )
    assert (why([row(1, 100), row(2, 50)], selected=(7, "x", 90)) or "").startswith(
        "the kernel chose its thread 7"
    )
    assert why([], selected=(7, "y", 90)) == (
        "the kernel chose y (pid 7) and killed this thread or child of it"
    )
    assert why([], selected=(7, "x", None)) == "the kernel chose its thread 7"


def test_who_asks_dies() -> None:
    said = why([row(1, 5), row(2, 5000)], allocating=True)
    assert said == "vm.oom_kill_allocating_task is set: it asked, so it died"
    said = why([], allocating=True, selected=(7, "y", 0))
    assert said is not None
    assert "killed this thread or child" in said


def test_nobody_to_kill() -> None:
    none = {"victim": None, "outcome": "no-victim"}
    assert why([row(1, 10, -1000), row(2, 10, -1000)], **none) == (
        "every process that was left is protected by oom_score_adj -1000"
    )
    assert why([], None, outcome="panic") == "there was no process that it could have killed"
    assert why([], None, outcome="panic", missing=("tasks",)) is None
    assert why([row(1, 10)], None, outcome="cut-off") is None


def test_little_is_said_of_little() -> None:
    assert why([]) is None
    assert why([row(2, 10)], 1) is None
    assert why([row(1, 10)], scope="memcg") == "it was the only process there"
    assert why([row(1, 10)]) is None
    assert why([row(1, 10)], selected=(1, "x", 853)) == "the kernel gave it a score of 853"
    old = [row(1, 10, None), row(2, 20, None, "big")]
    assert "2.6.35" in (why(old) or "")
    assert (why([row(1, 10), row(2, 20, name="big")], page_size=None) or "").endswith(
        "was larger and lived"
    )


@pytest.mark.parametrize("pid", [1, None])
def test_the_same_for_machines(pid: int | None) -> None:
    told = report([row(1, 500), row(2, 100, -1000), row(3, 90, name="next")], pid)
    facts = choice.facts(told, badness.rank(told))
    if pid is None:
        assert facts is None
        return
    assert facts is not None
    assert (facts["rank"], facts["of"], facts["ties"], facts["exact"]) == (1, 3, 0, True)
    assert facts["points_bytes"] == 500 * 4096
    assert (facts["protected_count"], facts["protected_bytes"]) == (1, 100 * 4096)
    assert facts["next"] == {
        "pid": 3, "comm": "next", "resident_bytes": 90 * 4096, "oom_score_adj": 0, "score": 0,
    }  # fmt: skip
    alone = report([row(1, 500)])
    facts = choice.facts(alone, badness.rank(alone))
    assert facts is not None
    assert facts["next"] is None

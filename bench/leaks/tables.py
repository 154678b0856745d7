"""The results as Markdown, and their place in docs/leaks.md."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.leaks import others
from bench.leaks.score import ONE_IN, Outcome, coverage, reliability, score
from bench.leaks.series import Kind

if TYPE_CHECKING:
    from bench.leaks.run import Result

NAMES = {
    "ours": "**oom-watchdog, confirmed**",
    "ours_suspected": "oom-watchdog, suspected",
    **others.NAMES,
}
SHORT = {
    "ours": "**ours**", "ours_suspected": "susp.", "precog": "Precog", "precog_mf": "P. MF",
    "mk": "MK", "mk_hr": "MK HR", "lbr": "LBR", "predict_1h": "pl 1h", "predict_6h": "pl 6h",
    "predict_6h_24h": "pl 6h/24h", "deriv": "deriv", "coroot": "Coroot", "threshold": "90 %",
}  # fmt: skip


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def render(results: Sequence["Result"], kinds: Sequence[Kind], seeds: int, which: str) -> str:
    """All tables of one run."""
    whole = [result for result in results if not result.task.alone]
    names = [name for name in NAMES if name in whole[0].outcomes["plain"]]
    plain = {name: [r.outcomes["plain"][name] for r in whole] for name in names}
    leaks = sum(kind.leak for kind in kinds)
    title = (
        f"Seeds `{which}:KIND:0` to `{which}:KIND:{seeds - 1}`: {leaks * seeds} leaks of {leaks} "
        f"kinds, {(len(kinds) - leaks) * seeds} benign series of {len(kinds) - leaks}."
    )
    parts = [title, overall(plain), conditions(whole, names), by_kind(plain, kinds, seeds)]
    return "\n\n".join([*parts, forecasts(results)])


def overall(plain: dict[str, list[Outcome]]) -> str:
    rows = []
    for name, outcomes in plain.items():
        one = score(outcomes)
        fast = [o for o in outcomes if o.code == "L02"]
        rows.append([
            NAMES[name], f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}",
            "-" if one.delay is None else f"{one.delay:.2f}", f"{one.false_a_day:.4f}",
            f"{sum(o.found for o in fast)} of {len(fast)}" if fast else "-",
        ])  # fmt: skip
    days = score(next(iter(plain.values()))).clean_days
    head = ["detector", "precision", "recall", "F1", "delay", "false alarms a process-day",
            "fast leaks"]  # fmt: skip
    return table(head, rows) + f"\n\n{days:.0f} process-days without a leak."


def conditions(whole: Sequence["Result"], names: Sequence[str]) -> str:
    head, rows = ["detector"], []
    for condition in list(whole[0].outcomes)[1:]:
        head += [f"{condition}: precision", "recall", "F1", "delay"]
    for name in names:
        row = [NAMES[name]]
        for condition in list(whole[0].outcomes)[1:]:
            one = score(r.outcomes[condition][name] for r in whole)
            row += [f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}",
                    "-" if one.delay is None else f"{one.delay:.2f}"]  # fmt: skip
        rows.append(row)
    return table(head, rows)


def by_kind(plain: dict[str, list[Outcome]], kinds: Sequence[Kind], seeds: int) -> str:
    rows = []
    for kind in kinds:
        row = [f"{kind.code} {kind.name}"]
        for outcomes in plain.values():
            those = [one for one in outcomes if one.code == kind.code]
            row.append(str(sum(one.found if kind.leak else one.false for one in those)))
        ours = score(one for one in plain["ours"] if one.code == kind.code)
        row.append("" if ours.delay is None else f"{ours.delay:.2f}")
        rows.append(row)
    head = [f"of {seeds}: leaks found, benign called leaks"]
    return table([*head, *(SHORT[name] for name in plain), "our delay"], rows)


def forecasts(results: Sequence["Result"]) -> str:
    """Of our own alarms: does the end lie within the interval, and is the confidence true?"""
    said = [result.forecast for result in results if result.forecast is not None]
    number, share, width = coverage(said)
    leaks = sum(result.task.kind.leak for result in results)
    rows = [
        [f"{one.low:.1f} to {min(1.0, one.high):.1f}", str(one.alarms), f"{one.stated:.2f}",
         f"{one.leaks:.2f}", f"{one.rare:.3f}"]
        for one in reliability(said, leaks, len(results) - leaks)
    ]  # fmt: skip
    return (
        f"Time to exhaustion at the first alarm, {number} leaks: the 80 % interval held "
        f"{share:.0%} of the ends; half of the intervals are narrower than {width:.2f} of the "
        f"true time.\n\nConfidence of the first alarm of each of {len(results)} series "
        f"({leaks} leaks: the prior is {leaks / len(results):.2f}), and weighed as if one entity "
        f"in {ONE_IN} leaked and all others were of the benign kinds here:\n\n"
        + table(["confidence", "alarms", "stated", "leaks", f"leaks at 1 in {ONE_IN}"], rows)
    )


def write(path: Path, name: str, text: str, command: str = "bench leaks") -> None:
    """Between the two marks of that name; everything else of the file stays."""
    begin, end = f"<!-- {name}: made by ./dev {command} -->", f"<!-- end of {name} -->"
    before, found, rest = path.read_text("utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{path}: the marks of {name!r} are missing")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", "utf-8")

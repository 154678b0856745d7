"""Write what ./dev vm faults has seen into docs/faults.md: faults_page.py LOG SUITE.

LOG ends with the table that faults.py prints. A row is known by its fault; the column of the other
release stays as it is, and a row that faults.py no longer has goes.
"""

import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- faults: made by ./dev vm faults -->", "<!-- end of faults -->"
COLUMNS = {"bookworm": "Debian 12", "trixie": "Debian 13"}


def seen(log: str) -> dict[str, tuple[str, str]]:
    """Fault -> (what is promised, what was seen), of the last table in the log."""
    lines = log.rpartition("fault | promised | seen\n")[2].splitlines()
    rows = [line.split(" | ", 2) for line in lines if line.count(" | ") >= 2]
    return {fault: (promised, found) for fault, promised, found in rows}


def written(text: str) -> dict[str, dict[str, str]]:
    """Fault -> column -> what stands in the page's table now."""
    rows = [
        [cell.strip().replace("\\|", "|") for cell in line.strip("|").split(" | ")]
        for line in text.strip().splitlines()
    ]
    head = rows[0] if rows else []
    return {row[0]: dict(zip(head, row, strict=False)) for row in rows[2:]}


def page(text: str, log: str, suite: str) -> str:
    """The page with the column of this release as the log has it."""
    before, found, rest = text.partition(BEGIN)
    old, closed, after = rest.partition(END)
    rows = seen(log)
    if not found or not closed or not rows:
        raise SystemExit("faults_page: no table in the log, or no marks in the page")
    known = written(old)
    lines = [f"| fault | promised | {' | '.join(COLUMNS.values())} |", "|---|---|---|---|"]
    for fault, (promised, what) in rows.items():
        cells = {**known.get(fault, {}), COLUMNS[suite]: what}
        told = [cells.get(name, "not run") for name in COLUMNS.values()]
        lines.append(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in (fault, promised, *told)) + " |"
        )
    table = "\n".join(lines)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main(log: str, suite: str) -> None:
    text = PAGE.read_text("utf-8")
    PAGE.write_text(page(text, Path(log).read_text("utf-8"), suite), "utf-8")
    print(f"written: {PAGE}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Hold the branch coverage of the pure rooms: what decides must have been seen deciding both ways.

Reads .coverage of the run just made, prints one line a room, and exits 1 below the mark.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

MARK = 95.0  # per cent of the branches of all pure rooms together
ROOMS = (
    "facts.py", "words.py", "measures.py", "procfs.py", "oom_report", "history", "judge", "policy",
    "trace.py", "engine",
)  # fmt: skip
NOT_PURE = "policy/load.py"  # a program: runs in a process of its own


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "coverage.json")
        command = [sys.executable, "-m", "coverage", "json", "--quiet", "-o", str(out)]
        if subprocess.run(command, check=False).returncode:
            return 1
        files = json.loads(out.read_text())["files"]
    seen = {room: [0, 0] for room in ROOMS}
    gaps: list[str] = []
    for path, entry in files.items():
        inner = path.partition("watchdog/")[2]
        room = inner.partition("/")[0]
        if room not in seen or inner == NOT_PURE:
            continue
        summary = entry["summary"]
        seen[room][0] += summary["covered_branches"]
        seen[room][1] += summary["num_branches"]
        # A line never reached counts too: straight code has no branches to miss.
        lines = sorted({abs(a) for a, _ in entry["missing_branches"]} | set(entry["missing_lines"]))
        if lines:
            gaps.append(f"  {path}: {', '.join(map(str, lines[:20]))}")
    covered = sum(hit for hit, _ in seen.values())
    total = sum(count for _, count in seen.values())
    share = 100.0 * covered / total if total else 100.0
    print(f"branches of the pure rooms: {covered} of {total}, {share:.1f} % (mark {MARK:.0f} %)")
    for room, (hit, count) in seen.items():
        if count:
            print(
                f"  {room.removesuffix('.py'):<12}{hit:>5} of {count:<5}{100 * hit / count:6.1f} %"
            )
    if share < MARK:
        print("Not covered, or one way only (line numbers):", *gaps, sep="\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

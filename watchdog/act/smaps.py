"""A program of its own (`python -I -m watchdog.act.smaps PID START`): prints smaps_rollup.

Beside a process that forks it can take 300 ms under the process's own lock, so somebody else than
the daemon waits for it. Nothing is printed of a process that is not the one that was meant.
"""

import sys

from watchdog import procfs


def main(argv: list[str]) -> int:
    """Exit status 1 where it cannot be read."""
    pid, start = int(argv[0]), int(argv[1])
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            # Opened first: what is read through it is of one process for ever.
            with open(f"/proc/{pid}/stat", "rb") as stat:
                found = procfs.parse_stat(stat.read())
            if found is None or found.start_ticks != start:
                return 1
            sys.stdout.buffer.write(file.read())
    except OSError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

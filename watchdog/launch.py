"""A script: runs one of our own programs, `python -I FOLDER/watchdog/launch.py MODULE ARG…`.

Not `-m MODULE`: the daemon may lie in a folder of its own that no interpreter knows, and two other
packages of the import name `watchdog` may lie where every interpreter looks. Here whoever was
started by one of us runs what lies beside it. `child.ours` makes the argument vector.
"""

import os
import sys


def main(argv: list[str]) -> int:
    """Run `argv[0]`.main with the rest; its exit status."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if root not in sys.path:
        sys.path.insert(0, root)
    # A package for a release whose pydantic is too old carries its own, for this program alone.
    bundled = os.path.join(root, "bundled")
    if argv[0] == "watchdog.policy.load" and os.path.isdir(bundled):
        sys.path.insert(0, bundled)
    status: int = __import__(argv[0], fromlist=["main"]).main(argv[1:])
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

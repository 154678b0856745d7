"""`python -I -m watchdog.guard`: started by `oom-watchdog run`, by exec, under the same PID."""

import sys

from watchdog.guard import main

sys.exit(main(sys.argv[1:]))

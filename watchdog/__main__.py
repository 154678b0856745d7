"""`python -I -m watchdog` is the command `oom-watchdog`."""

import sys

from watchdog.cli.main import main

sys.exit(main(sys.argv[1:]))

"""The fast process, of three parts: loop (its life), incident (what it does), keeper (the watcher).

`python -I -m watchdog.guard` runs it; nothing else imports it.
"""

from watchdog.guard.loop import main

__all__ = ["main"]

"""oom-watchdog: keeps Linux servers from dying of memory."""

__version__ = "0.1.0"

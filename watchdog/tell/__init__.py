"""Telling: the journal, the terminal, systemd. Nothing here ever waits."""

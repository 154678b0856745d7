"""Proves, where the daemon runs and with what it may do, that its eyes and hands work."""

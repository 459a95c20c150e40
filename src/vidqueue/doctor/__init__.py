"""Examinations: whether this machine can run a daemon, and whether vidqueue has kept its promises."""

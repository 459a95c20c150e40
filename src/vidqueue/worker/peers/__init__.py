"""Managed peers: servers of other programs that the daemon starts, monitors and stops for a lane."""

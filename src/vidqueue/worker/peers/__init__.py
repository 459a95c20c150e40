"""Managed peers: servers of other programs that the daemon starts for a lane, watches and stops."""

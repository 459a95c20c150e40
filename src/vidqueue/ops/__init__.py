"""Process operation, independent of jobs: supervision, watchdog, systemd, processes, logs, failpoints."""

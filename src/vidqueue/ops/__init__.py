"""What keeps a process honest and knows no job: supervision, watchdog, systemd, processes, logs, failpoints."""

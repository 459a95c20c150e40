"""The queues that are measured side by side, each filled at rest, drained, and asked how soon it picks a job up."""

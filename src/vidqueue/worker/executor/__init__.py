"""Parent and child of a lane: the long-lived process that does the work, and the pipe to it."""

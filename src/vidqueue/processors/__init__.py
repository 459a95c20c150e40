"""One file a kind of work; the registry that finds them, and the base that they share."""

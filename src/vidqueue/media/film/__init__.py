"""Making one film of many clips: the timeline, its pieces, its sound, and the file that joins them."""

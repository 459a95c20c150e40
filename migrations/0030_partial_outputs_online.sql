-- concurrently
-- The events from before 0030_partial_outputs, which are of the kinds that there were.
ALTER TABLE vidqueue.events VALIDATE CONSTRAINT events_kind_check;

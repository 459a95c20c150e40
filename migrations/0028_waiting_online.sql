-- concurrently
-- The attempts from before 0028_waiting, none of which has an outcome that it added.
ALTER TABLE vidqueue.attempts VALIDATE CONSTRAINT attempts_outcome_check;
ALTER TABLE vidqueue.attempts VALIDATE CONSTRAINT waiting_has_reason;

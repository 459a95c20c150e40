-- concurrently
-- Events of the machine and of schedules have no job, so they are removed by their age alone.
CREATE INDEX CONCURRENTLY IF NOT EXISTS events_of_no_job ON vidqueue.events (at) WHERE job_id IS NULL;

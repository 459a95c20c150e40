-- name: suspend
-- Ask the lanes of running jobs to suspend them. What a window suspended, a person may keep suspended.
UPDATE vidqueue.jobs SET suspended_at = coalesce(suspended_at, clock_timestamp()), suspended_by = 'person'
WHERE id = ANY (%(ids)s) AND (%(owner)s::text IS NULL OR owner = %(owner)s)
  AND state = 'running' AND cancel_requested_at IS NULL AND suspended_by IS DISTINCT FROM 'person'

-- name: resume
-- Let suspended jobs go on.
UPDATE vidqueue.jobs SET suspended_at = NULL, suspended_by = NULL
WHERE id = ANY (%(ids)s) AND (%(owner)s::text IS NULL OR owner = %(owner)s) AND suspended_at IS NOT NULL

-- name: suspend_lane
-- Suspend the job that runs on a lane because its window has ended; not one that a person has resumed since, and
-- one that a person had suspended before counts as suspended.
WITH suspended AS (
    UPDATE vidqueue.jobs j SET suspended_at = clock_timestamp(), suspended_by = 'window'
    FROM vidqueue.attempts a
    WHERE a.lane_id = %(lane)s AND a.ended_at IS NULL AND a.fence <> ALL (%(but)s) AND j.id = a.job_id AND j.fence = a.fence
      AND j.state = 'running' AND j.suspended_at IS NULL AND j.cancel_requested_at IS NULL
    RETURNING j.fence
)
SELECT fence FROM suspended
UNION ALL
SELECT j.fence FROM vidqueue.attempts a JOIN vidqueue.jobs j ON j.id = a.job_id AND j.fence = a.fence
WHERE a.lane_id = %(lane)s AND a.ended_at IS NULL AND j.suspended_at IS NOT NULL

-- name: resume_lane
-- Let the job go on that was suspended when the window of its lane ended.
UPDATE vidqueue.jobs j SET suspended_at = NULL, suspended_by = NULL
FROM vidqueue.attempts a
WHERE a.lane_id = %(lane)s AND a.ended_at IS NULL AND j.id = a.job_id AND j.suspended_by = 'window'

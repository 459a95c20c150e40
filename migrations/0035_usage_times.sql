-- How long an attempt was expected to take, so that the estimates can be judged.
ALTER TABLE vidqueue.attempt_usage ADD COLUMN expected_s double precision;
COMMENT ON COLUMN vidqueue.attempt_usage.expected_s IS 'What an attempt was expected to take, from those that had ended before it.';

CREATE VIEW vidqueue_report.eta_calibration AS
SELECT e.hour, e.processor, count(*) AS attempts,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY e.error)::numeric(12,4) AS median_error,
       (count(*) FILTER (WHERE e.error <= 0.25)::numeric / count(*))::numeric(5,4) AS within_a_quarter
FROM (SELECT vidqueue.hour_of(a.ended_at) AS hour, j.processor,
             abs(u.expected_s - extract(epoch FROM a.ended_at - a.started_at)::float8)
                 / greatest(0.001, extract(epoch FROM a.ended_at - a.started_at)::float8) AS error
      FROM vidqueue.attempts a JOIN vidqueue.jobs j ON j.id = a.job_id
      JOIN vidqueue.attempt_usage u ON u.job_id = a.job_id AND u.attempt = a.number
      WHERE a.ended_at IS NOT NULL AND a.outcome = 'succeeded' AND a.started_at IS NOT NULL AND u.expected_s IS NOT NULL) e
GROUP BY 1, 2;
COMMENT ON VIEW vidqueue_report.eta_calibration IS
    'How far the expected time of attempts was off, as a share of what they took: median, and how many were within a quarter.';

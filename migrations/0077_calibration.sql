-- As in 0035, without the time in which an attempt was suspended: nobody expected that, and estimates do not learn from it.
CREATE OR REPLACE VIEW vidqueue_report.eta_calibration AS
SELECT e.hour, e.processor, count(*) AS attempts,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY e.error)::numeric(12,4) AS median_error,
       (count(*) FILTER (WHERE e.error <= 0.25)::numeric / count(*))::numeric(5,4) AS within_a_quarter
FROM (SELECT r.hour, r.processor, abs(r.expected_s - r.run_s) / greatest(0.001, r.run_s) AS error
      FROM (SELECT vidqueue.hour_of(a.ended_at) AS hour, j.processor, u.expected_s,
                   extract(epoch FROM a.ended_at - a.started_at)::float8 - a.suspended_s AS run_s
            FROM vidqueue.attempts a JOIN vidqueue.jobs j ON j.id = a.job_id
            JOIN vidqueue.attempt_usage u ON u.job_id = a.job_id AND u.attempt = a.number
            WHERE a.ended_at IS NOT NULL AND a.outcome = 'succeeded' AND a.started_at IS NOT NULL AND u.expected_s IS NOT NULL) r) e
GROUP BY 1, 2;

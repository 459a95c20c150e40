-- Labels of lanes, and labels that a job requires of its lane.
-- Expand only: an older program goes on with this schema while it drains; its lanes have no labels until it is replaced.

ALTER TABLE vidqueue.lanes ADD COLUMN labels text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN vidqueue.lanes.labels IS 'Labels of the lane from the configuration, which jobs may require.';
ALTER TABLE vidqueue.jobs ADD COLUMN labels text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN vidqueue.jobs.labels IS 'Labels that its lane must have, all of them; sorted.';

CREATE FUNCTION vidqueue.require_labels(job uuid, labels text[]) RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    UPDATE vidqueue.jobs j SET labels = ARRAY(SELECT DISTINCT unnest(require_labels.labels) ORDER BY 1)
    WHERE j.id = job AND cardinality(require_labels.labels) > 0;
    RETURN job;
END $$;
COMMENT ON FUNCTION vidqueue.require_labels IS 'Make a job run only on lanes that have all of these labels; returns its id.';

-- As in 0011, with labels: true if a lane can do what a job demands, whether or not the lane is free.
CREATE OR REPLACE FUNCTION vidqueue.fits(l vidqueue.lanes, j vidqueue.jobs) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT j.device = ANY (l.takes)
       AND (j.wanted_lane IS NULL OR j.wanted_lane = l.name)
       AND (l.device = 'cpu' OR j.vram_mb <= l.vram_mb)
       AND l.processors ? j.processor
       AND l.labels @> j.labels
       AND (j.node IS NULL OR j.node = l.node)
$$;

-- As in 0035, with labels, and whether the outputs are those of an earlier job.
CREATE OR REPLACE VIEW vidqueue_report.jobs AS
SELECT j.id, j.processor, j.state, j.owner, j.title, j.tags, j.priority, j.device, j.lane, j.progress, j.stage,
       j.attempt AS attempts, j.failures, j.error_code, j.error_message,
       j.created_at, j.started_at, j.finished_at,
       extract(epoch FROM coalesce(j.started_at, j.finished_at, now()) - j.created_at)::numeric(12,3) AS waited_s,
       extract(epoch FROM coalesce(j.finished_at, now()) - j.started_at)::numeric(12,3) AS ran_s,
       (SELECT sum(f.size) FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id WHERE o.job_id = j.id) AS output_bytes,
       j.source, u.input_bytes, u.video_s, u.cpu_s, u.lane_s, u.gpu_s,
       EXISTS (SELECT FROM vidqueue.results r WHERE r.job_id = j.id AND r.source_id IS NOT NULL) AS cached, j.labels
FROM vidqueue.jobs j
LEFT JOIN LATERAL (
    SELECT max(a.input_bytes) AS input_bytes, max(a.video_s) AS video_s, sum(a.cpu_s) AS cpu_s, sum(a.lane_s) AS lane_s, sum(a.gpu_s) AS gpu_s
    FROM vidqueue_report.attempts a WHERE a.job_id = j.id) u ON true;
COMMENT ON VIEW vidqueue_report.jobs IS
    'Every job: input_bytes and video_s are of its inputs, cpu_s, lane_s and gpu_s of all its attempts together.';

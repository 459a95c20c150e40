-- What jobs were made of, and what their attempts have used.
-- Expand only: an older program goes on with this schema while it drains, and writes no usage.

ALTER TABLE vidqueue.jobs ADD COLUMN source text CHECK (length(source) <= 255);
COMMENT ON COLUMN vidqueue.jobs.source IS 'Name of the file that the job reads first: that of `video` in its input, else of the first reference.';

-- The name of a file that a reference stands for; NULL if the text is no reference.
CREATE FUNCTION vidqueue.name_of_reference(reference text, owner text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT left(NULLIF(CASE
        WHEN reference ~ '^vq:files/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
            (SELECT f.name FROM vidqueue.files f WHERE f.id = substr(reference, 10)::uuid AND f.owner = name_of_reference.owner)
        WHEN reference ~ '^vq:jobs/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/' THEN
            (SELECT j.source FROM vidqueue.jobs j WHERE j.id = substr(reference, 9, 36)::uuid AND j.owner = name_of_reference.owner)
        -- Without its query, which may have a signature in it.
        WHEN reference ~* '^https?://' THEN substring(split_part(split_part(reference, '#', 1), '?', 1) FROM '^[^:]+://[^/]+/(?:.*/)?([^/]+)/?$')
        WHEN reference ~ '^/' THEN substring(reference FROM '([^/]+)/*$')
    END, ''), 255)
$$;

CREATE FUNCTION vidqueue.name_source() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.source := (
        SELECT name FROM (
            SELECT place, vidqueue.name_of_reference(reference, NEW.owner) AS name
            FROM (SELECT 0 AS place, NEW.input ->> 'video' AS reference
                  UNION ALL
                  SELECT place, leaf #>> '{}' FROM jsonb_path_query(NEW.input,
                      'strict $.** ? (@ like_regex "^(/|vq:|https?://)" flag "i")') WITH ORDINALITY AS l (leaf, place)) found
            WHERE length(reference) <= 4096 ORDER BY place LIMIT 20) named
        WHERE name IS NOT NULL ORDER BY place LIMIT 1);
    RETURN NEW;
END $$;
CREATE TRIGGER name_source BEFORE INSERT ON vidqueue.jobs FOR EACH ROW WHEN (NEW.source IS NULL) EXECUTE FUNCTION vidqueue.name_source();

CREATE TABLE vidqueue.attempt_usage (
    job_id       uuid NOT NULL,
    attempt      integer NOT NULL,
    cpu_s        real CHECK (cpu_s >= 0),
    input_bytes  bigint CHECK (input_bytes >= 0),
    video_s      double precision CHECK (video_s >= 0),
    PRIMARY KEY (job_id, attempt),
    FOREIGN KEY (job_id, attempt) REFERENCES vidqueue.attempts ON DELETE CASCADE
);
COMMENT ON TABLE vidqueue.attempt_usage IS 'What an attempt has used, as far as its lane could measure it.';
COMMENT ON COLUMN vidqueue.attempt_usage.cpu_s IS 'CPU time of the executor and of everything it started, in seconds.';
COMMENT ON COLUMN vidqueue.attempt_usage.video_s IS 'Length of the inputs that the processor probed, in seconds.';

CREATE OR REPLACE VIEW vidqueue_report.attempts AS
SELECT a.job_id, j.processor, j.owner, a.number, a.host, a.lane, l.device, l.gpu_name, a.outcome, a.reason,
       a.error_code, a.error_message, a.dispatched_at, a.started_at, a.ended_at,
       extract(epoch FROM coalesce(a.ended_at, now()) - a.started_at)::numeric(12,3) AS lane_s,
       CASE l.device WHEN 'gpu' THEN extract(epoch FROM coalesce(a.ended_at, now()) - a.started_at)::numeric(12,3) ELSE 0 END AS gpu_s,
       u.cpu_s::numeric(12,2) AS cpu_s, u.input_bytes, u.video_s::numeric(12,3) AS video_s, j.source
FROM vidqueue.attempts a
JOIN vidqueue.jobs j ON j.id = a.job_id
JOIN vidqueue.lanes l ON l.id = a.lane_id
LEFT JOIN vidqueue.attempt_usage u ON u.job_id = a.job_id AND u.attempt = a.number;

CREATE OR REPLACE VIEW vidqueue_report.jobs AS
SELECT j.id, j.processor, j.state, j.owner, j.title, j.tags, j.priority, j.device, j.lane, j.progress, j.stage,
       j.attempt AS attempts, j.failures, j.error_code, j.error_message,
       j.created_at, j.started_at, j.finished_at,
       extract(epoch FROM coalesce(j.started_at, j.finished_at, now()) - j.created_at)::numeric(12,3) AS waited_s,
       extract(epoch FROM coalesce(j.finished_at, now()) - j.started_at)::numeric(12,3) AS ran_s,
       (SELECT sum(f.size) FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id WHERE o.job_id = j.id) AS output_bytes,
       j.source, u.input_bytes, u.video_s, u.cpu_s, u.lane_s, u.gpu_s
FROM vidqueue.jobs j
LEFT JOIN LATERAL (
    SELECT max(a.input_bytes) AS input_bytes, max(a.video_s) AS video_s, sum(a.cpu_s) AS cpu_s, sum(a.lane_s) AS lane_s, sum(a.gpu_s) AS gpu_s
    FROM vidqueue_report.attempts a WHERE a.job_id = j.id) u ON true;
COMMENT ON VIEW vidqueue_report.jobs IS
    'Every job: input_bytes and video_s are of its inputs, cpu_s, lane_s and gpu_s of all its attempts together.';

-- name: get
-- The file that a job has downloaded from a URL.
SELECT f.id, f.owner, f.name, f.media_type, f.size, f.sha256, f.blake3, f.facts, f.created_at, f.node, f.missing_at
FROM vidqueue.fetches t JOIN vidqueue.files f ON f.id = t.file_id
WHERE t.job_id = %(job_id)s AND t.url_sha256 = %(url_sha256)s

-- name: done
-- The job reads the file from now on, as if it had been uploaded for it.
WITH fetched AS (
    INSERT INTO vidqueue.fetches AS t (job_id, url_sha256, file_id) VALUES (%(job_id)s, %(url_sha256)s, %(file_id)s)
    ON CONFLICT (job_id, url_sha256) DO UPDATE SET file_id = excluded.file_id, tries = 0, failing_since = NULL)
INSERT INTO vidqueue.job_files (job_id, file_id) VALUES (%(job_id)s, %(file_id)s) ON CONFLICT DO NOTHING

-- name: failed
-- Count a failed try; one that brought new bytes is the first of a new series.
INSERT INTO vidqueue.fetches AS t (job_id, url_sha256, tries, failing_since)
VALUES (%(job_id)s, %(url_sha256)s, 1, clock_timestamp())
ON CONFLICT (job_id, url_sha256) DO UPDATE SET
    tries = CASE WHEN %(advanced)s OR t.failing_since IS NULL THEN 1 ELSE least(t.tries + 1, 1000) END,
    failing_since = CASE WHEN %(advanced)s OR t.failing_since IS NULL THEN clock_timestamp() ELSE t.failing_since END
RETURNING tries, extract(epoch FROM clock_timestamp() - failing_since)::double precision AS failing_s

-- name: forget
-- A person who retries the job begins a new series.
DELETE FROM vidqueue.fetches WHERE job_id = %(job_id)s AND url_sha256 = %(url_sha256)s AND file_id IS NULL

-- Watch folders: files that become jobs. Expand only: an older program goes on with this schema while it drains.

-- What was done with each content that a folder has had, so that no content becomes a job twice.
CREATE TABLE vidqueue.watched_files (
    folder        text NOT NULL CHECK (length(folder) BETWEEN 1 AND 64),
    sha256        text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    path          text NOT NULL,
    size          bigint NOT NULL,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    job_id        uuid REFERENCES vidqueue.jobs ON DELETE SET NULL,
    error         text,
    delivered_at  timestamptz,
    PRIMARY KEY (folder, sha256)
);
CREATE INDEX watched_files_newest ON vidqueue.watched_files (folder, at);
CREATE INDEX watched_files_by_job ON vidqueue.watched_files (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX watched_files_to_deliver ON vidqueue.watched_files (folder, job_id) WHERE job_id IS NOT NULL AND delivered_at IS NULL;
COMMENT ON TABLE vidqueue.watched_files IS 'Each content that was seen in a watch folder, under the name that it had first, and its job.';
COMMENT ON COLUMN vidqueue.watched_files.error IS 'Why no job could be submitted.';

-- The files that were read to find their content, so that they are not read again while they stay as they are.
CREATE TABLE vidqueue.watched_paths (
    folder      text NOT NULL,
    path        text NOT NULL,
    size        bigint NOT NULL,
    changed_ns  bigint NOT NULL,
    sha256      text NOT NULL,
    PRIMARY KEY (folder, path)
);

CREATE VIEW vidqueue_report.watched_files AS
SELECT w.folder, w.path, w.size, w.sha256, w.at, w.job_id, j.state, w.error, w.delivered_at
FROM vidqueue.watched_files w LEFT JOIN vidqueue.jobs j ON j.id = w.job_id;
COMMENT ON VIEW vidqueue_report.watched_files IS 'What became of each file of a watch folder: its job, or why there is none, and when its outputs were delivered.';

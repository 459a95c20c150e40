-- What is finished may go, and what is still needed may not: which files a job names, and where the bytes of a file lie.

-- Files that a job's input names as vq:files/<id>, anywhere in it. Asking the inputs of all waiting jobs would cost as
-- many looks as there are jobs, for each file.
CREATE TABLE vidqueue.job_files (
    file_id  uuid NOT NULL REFERENCES vidqueue.files ON DELETE CASCADE,
    job_id   uuid NOT NULL REFERENCES vidqueue.jobs ON DELETE CASCADE,
    PRIMARY KEY (file_id, job_id)
);
CREATE INDEX job_files_of_job ON vidqueue.job_files (job_id);

-- A trigger, so that no door can forget it. The lock makes whoever removes the file wait, or be waited for.
CREATE FUNCTION vidqueue.note_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO vidqueue.job_files (file_id, job_id)
    SELECT f.id, NEW.id FROM vidqueue.files f WHERE f.id IN (
        SELECT substring(leaf #>> '{}' FROM 10)::uuid FROM jsonb_path_query(NEW.input,
            'strict $.** ? (@ like_regex "^vq:files/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")') AS leaf)
    FOR KEY SHARE;
    RETURN NULL;
END $$;
CREATE TRIGGER note_files AFTER INSERT ON vidqueue.jobs
    FOR EACH ROW WHEN (NEW.input::text LIKE '%"vq:files/%') EXECUTE FUNCTION vidqueue.note_files();

INSERT INTO vidqueue.job_files (file_id, job_id)
SELECT DISTINCT f.id, j.id
FROM vidqueue.jobs j
CROSS JOIN LATERAL jsonb_path_query(j.input,
    'strict $.** ? (@ like_regex "^vq:files/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")') AS leaf
JOIN vidqueue.files f ON f.id = substring(leaf #>> '{}' FROM 10)::uuid
WHERE j.input::text LIKE '%"vq:files/%';

ALTER TABLE vidqueue.files
    ADD COLUMN node uuid,
    ADD COLUMN missing_at timestamptz,
    ADD COLUMN published boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN vidqueue.files.node IS 'The data folder that holds the bytes; NULL until the daemon of that folder has looked.';
COMMENT ON COLUMN vidqueue.files.missing_at IS 'When the daemon of that folder found the bytes gone; NULL again once they are back.';
COMMENT ON COLUMN vidqueue.files.published IS 'A hint for the index of uploads; the table outputs has the truth.';
UPDATE vidqueue.files f SET published = true WHERE EXISTS (SELECT FROM vidqueue.outputs o WHERE o.file_id = f.id);

CREATE INDEX files_of_node ON vidqueue.files (node, id);
CREATE INDEX files_missing ON vidqueue.files (node) WHERE missing_at IS NOT NULL;
CREATE INDEX files_uploaded ON vidqueue.files (created_at, id) WHERE NOT published;

-- Compared with the end, so that a job which is retried has a history to prune again.
ALTER TABLE vidqueue.jobs
    ADD COLUMN logs_pruned_at timestamptz,
    ADD COLUMN events_pruned_at timestamptz;
CREATE INDEX jobs_with_logs ON vidqueue.jobs (finished_at)
    WHERE finished_at IS NOT NULL AND (logs_pruned_at IS NULL OR logs_pruned_at < finished_at);
CREATE INDEX jobs_with_events ON vidqueue.jobs (finished_at)
    WHERE finished_at IS NOT NULL AND (events_pruned_at IS NULL OR events_pruned_at < finished_at);

-- What is finished may go, and what is still needed may not: which files a job names, and where the bytes of a file lie.

-- Notes which files a job names, from triggers, so that no door can forget it. The lock makes whoever removes the file
-- wait, or be waited for.
CREATE FUNCTION vidqueue.note_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO vidqueue.job_files (file_id, job_id)
    SELECT f.id, NEW.id FROM vidqueue.files f WHERE f.id IN (
        SELECT substring(leaf #>> '{}' FROM 10)::uuid FROM jsonb_path_query(NEW.input,
            'strict $.** ? (@ like_regex "^vq:files/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")') AS leaf)
    FOR KEY SHARE
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

-- Everything from here on waits for tables that others write, and keeps them waiting until the end: only what is done in
-- no time, however many rows there are. What looks at rows stands in 0009 and 0010.
ALTER TABLE vidqueue.files
    ADD COLUMN node uuid,
    ADD COLUMN missing_at timestamptz,
    ADD COLUMN published boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN vidqueue.files.node IS 'The data folder that holds the bytes; NULL until the daemon of that folder has looked.';
COMMENT ON COLUMN vidqueue.files.missing_at IS 'When the daemon of that folder found the bytes gone; NULL again once they are back.';
COMMENT ON COLUMN vidqueue.files.published IS 'A hint for the index of uploads; the table outputs has the truth.';

-- Files that a job's input names as vq:files/<id>, anywhere in it. Asking the inputs of all waiting jobs would cost as
-- many looks as there are jobs, for each file.
CREATE TABLE vidqueue.job_files (
    file_id  uuid NOT NULL REFERENCES vidqueue.files ON DELETE CASCADE,
    job_id   uuid NOT NULL REFERENCES vidqueue.jobs ON DELETE CASCADE,
    PRIMARY KEY (file_id, job_id)
);
CREATE INDEX job_files_of_job ON vidqueue.job_files (job_id);

-- Compared with the end, so that a job which is retried has a history to prune again.
ALTER TABLE vidqueue.jobs
    ADD COLUMN logs_pruned_at timestamptz,
    ADD COLUMN events_pruned_at timestamptz;
CREATE TRIGGER note_files AFTER INSERT ON vidqueue.jobs
    FOR EACH ROW WHEN (NEW.input::text LIKE '%"vq:files/%') EXECUTE FUNCTION vidqueue.note_files();
-- What ended before this migration is noted only if it is retried.
CREATE TRIGGER note_files_again AFTER UPDATE ON vidqueue.jobs
    FOR EACH ROW WHEN (OLD.finished_at IS NOT NULL AND NEW.finished_at IS NULL) EXECUTE FUNCTION vidqueue.note_files();

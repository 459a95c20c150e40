-- Downloads: the file that a job has fetched from a URL, so that its next attempt does not fetch it again.

CREATE TABLE vidqueue.fetches (
    job_id         uuid NOT NULL REFERENCES vidqueue.jobs ON DELETE CASCADE,
    url_sha256     text NOT NULL CHECK (url_sha256 ~ '^[0-9a-f]{64}$'),
    file_id        uuid REFERENCES vidqueue.files ON DELETE CASCADE,
    tries          integer NOT NULL DEFAULT 0,
    failing_since  timestamptz,
    PRIMARY KEY (job_id, url_sha256)
);
CREATE INDEX fetches_by_file ON vidqueue.fetches (file_id) WHERE file_id IS NOT NULL;
COMMENT ON TABLE vidqueue.fetches IS 'URLs that jobs fetch, by their hash because a URL may have a signature in it.';
COMMENT ON COLUMN vidqueue.fetches.failing_since IS 'Since when every try has failed without bringing a new byte.';

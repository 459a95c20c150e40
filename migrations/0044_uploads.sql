-- Resumable uploads (tus 1.0), and the BLAKE3 of files, which clients of the Comfy API use.
-- Expand only: an older program goes on with this schema while it drains.

ALTER TABLE vidqueue.files ADD COLUMN blake3 text;
COMMENT ON COLUMN vidqueue.files.blake3 IS 'BLAKE3 of uploads, in hex; NULL for outputs, and for what was stored before this column.';

CREATE TABLE vidqueue.uploads (
    id           uuid PRIMARY KEY,
    owner        text NOT NULL CHECK (length(owner) BETWEEN 1 AND 200),
    length       bigint NOT NULL CHECK (length > 0),
    received     bigint NOT NULL DEFAULT 0 CHECK (received BETWEEN 0 AND length),
    name         text NOT NULL,
    media_type   text NOT NULL,
    metadata     text NOT NULL DEFAULT '' CHECK (length(metadata) <= 8192),
    sha256       text CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    node         uuid NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    finished_at  timestamptz
);
CREATE INDEX uploads_of_owner ON vidqueue.uploads (owner, id) WHERE finished_at IS NULL;
CREATE INDEX uploads_by_expiry ON vidqueue.uploads (node, expires_at);
COMMENT ON TABLE vidqueue.uploads IS 'Resumable uploads. A complete one becomes the file of the same id; its row stays until it expires, for a client that missed the response.';
COMMENT ON COLUMN vidqueue.uploads.received IS 'Bytes that are synced to disk.';
COMMENT ON COLUMN vidqueue.uploads.metadata IS 'Upload-Metadata as the client sent it.';
COMMENT ON COLUMN vidqueue.uploads.sha256 IS 'The sha256 of the whole file as the client announced it, in hex.';

-- As in 0026, with what has arrived of unfinished uploads.
CREATE OR REPLACE FUNCTION vidqueue.stored_bytes(owner text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT (coalesce((SELECT sum(f.size) FROM vidqueue.files f WHERE f.owner = stored_bytes.owner), 0)
          + coalesce((SELECT sum(u.received) FROM vidqueue.uploads u
                      WHERE u.owner = stored_bytes.owner AND u.finished_at IS NULL), 0))::bigint
$$;

CREATE VIEW vidqueue_report.uploads AS
SELECT id, owner, name, media_type, length, received, created_at, expires_at FROM vidqueue.uploads WHERE finished_at IS NULL;
COMMENT ON VIEW vidqueue_report.uploads IS 'Unfinished resumable uploads.';

-- Audit: who changed what over HTTP (the command line and the dashboard included). Expand only.

CREATE TABLE vidqueue.audit (
    number  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    owner   text NOT NULL,
    role    text NOT NULL,
    key_id  uuid,
    act     text NOT NULL CHECK (length(act) <= 100),
    target  text CHECK (length(target) <= 500),
    detail  jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_by_age ON vidqueue.audit (at);
COMMENT ON TABLE vidqueue.audit IS 'The audit log: each accepted change over HTTP, except submits and uploads, which are jobs and files themselves.';
COMMENT ON COLUMN vidqueue.audit.key_id IS 'The API key; NULL where none was needed. It has no foreign key: the row outlives the key.';

CREATE VIEW vidqueue_report.audit AS
SELECT a.number, a.at, a.owner, a.role, k.prefix AS key_prefix, k.name AS key_name, a.act, a.target, a.detail
FROM vidqueue.audit a LEFT JOIN vidqueue.api_keys k ON k.id = a.key_id;
COMMENT ON VIEW vidqueue_report.audit IS 'The audit log: every accepted change over HTTP, with the key of the request.';

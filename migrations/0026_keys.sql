-- API keys: who may ask over HTTP, as which owner and in which role; and what an owner may have at most.

CREATE TABLE vidqueue.api_keys (
    id          uuid PRIMARY KEY DEFAULT vidqueue.new_id(),
    owner       text NOT NULL CHECK (length(owner) BETWEEN 1 AND 200),
    role        text NOT NULL CHECK (role IN ('read', 'submit', 'operate', 'admin')),
    name        text NOT NULL DEFAULT '' CHECK (length(name) <= 200),
    prefix      text NOT NULL,
    hash        bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz,
    used_at     timestamptz,
    revoked_at  timestamptz
);
COMMENT ON TABLE vidqueue.api_keys IS
    'While there is a row, every request needs a key. Revoked keys keep their row, so that revoking the last one opens nothing.';
COMMENT ON COLUMN vidqueue.api_keys.hash IS 'SHA-256 of the key. A key is 256 random bits, so a slow hash would add nothing.';
COMMENT ON COLUMN vidqueue.api_keys.prefix IS 'The first characters of the key, by which people recognise it.';
COMMENT ON COLUMN vidqueue.api_keys.used_at IS 'When a request last used it, to the minute.';

CREATE VIEW vidqueue_report.api_keys AS
SELECT id, owner, role, name, prefix, created_at, expires_at, used_at, revoked_at FROM vidqueue.api_keys;
COMMENT ON VIEW vidqueue_report.api_keys IS 'API keys without their hashes.';

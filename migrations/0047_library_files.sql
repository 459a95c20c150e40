-- Files of an owner by name, which clients of MoneyPrinterTurbo use instead of an id. Expand only.
CREATE TABLE vidqueue.library_files (
    owner    text NOT NULL,
    kind     text NOT NULL CHECK (kind IN ('music', 'material')),
    name     text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    file_id  uuid NOT NULL REFERENCES vidqueue.files ON DELETE CASCADE,
    PRIMARY KEY (owner, kind, name)
);
CREATE INDEX library_files_by_file ON vidqueue.library_files (file_id);
COMMENT ON TABLE vidqueue.library_files IS 'Uploads that requests may refer to by name: music and materials for films. A name refers to its newest upload.';

-- concurrently
-- Lists of uploads are walks along an index, as lists of jobs are; outputs belong to their jobs and are not in them.
CREATE INDEX CONCURRENTLY IF NOT EXISTS files_uploads ON vidqueue.files (id) WHERE NOT published;
CREATE INDEX CONCURRENTLY IF NOT EXISTS files_uploads_of_owner ON vidqueue.files (owner, id) WHERE NOT published;

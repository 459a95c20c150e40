-- The managed peers of each lane (servers of other programs that its daemon starts), as their daemon describes them:
-- [{"name", "state", "since", "starts", "problem"}]. Only lists of lanes show it.
ALTER TABLE vidqueue.lanes ADD COLUMN peers jsonb NOT NULL DEFAULT '[]';

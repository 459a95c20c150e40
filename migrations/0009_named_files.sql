-- The files that unfinished jobs name: nothing they need may be pruned. Of what has ended already no use is known, so an
-- upload that only such jobs have read counts from its own time.
-- Nobody waits for this: it takes no table from anybody, and of rows only that they are there.
INSERT INTO vidqueue.job_files (file_id, job_id)
SELECT f.id, j.id
FROM vidqueue.jobs j
CROSS JOIN LATERAL jsonb_path_query(j.input,
    'strict $.** ? (@ like_regex "^vq:files/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")') AS leaf
JOIN vidqueue.files f ON f.id = substring(leaf #>> '{}' FROM 10)::uuid
WHERE j.state IN ('queued', 'running') AND j.input::text LIKE '%"vq:files/%'
FOR KEY SHARE OF j, f
ON CONFLICT DO NOTHING;

-- The files that a job names are looked up by their ids, however many files there are. Where the ids were a subquery, PostgreSQL read
-- all files and compared them: until there were some ten thousand files that seemed cheaper.
-- Expand only: an older program goes on with this schema while it drains.

-- As in 0110.
CREATE OR REPLACE FUNCTION vidqueue.note_files(job vidqueue.jobs) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    place uuid;
BEGIN
    INSERT INTO vidqueue.job_files (file_id, job_id)
    SELECT f.id, job.id FROM vidqueue.files f WHERE f.id = ANY (ARRAY(
        SELECT substring(leaf #>> '{}' FROM 10)::uuid FROM jsonb_path_query(job.input,
            'strict $.** ? (@ like_regex "^vq:files/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")') AS leaf))
    FOR KEY SHARE
    ON CONFLICT DO NOTHING;
    place := vidqueue.node_of_inputs(job.id);
    IF place IS DISTINCT FROM job.node THEN
        UPDATE vidqueue.jobs SET node = place WHERE id = job.id;
    END IF;
END $$;

-- As in 0038.
CREATE OR REPLACE FUNCTION vidqueue.node_of_inputs(job uuid) RETURNS uuid LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT CASE count(DISTINCT f.node) WHEN 0 THEN NULL WHEN 1 THEN min(f.node::text)::uuid
               ELSE '00000000-0000-0000-0000-000000000000' END
        FROM vidqueue.files f WHERE f.node IS NOT NULL AND f.id = ANY (ARRAY(
            SELECT u.file_id FROM vidqueue.job_files u WHERE u.job_id = job
            UNION ALL
            SELECT o.file_id FROM vidqueue.job_dependencies d JOIN vidqueue.outputs o ON o.job_id = d.depends_on
            WHERE d.job_id = job AND d.reads)));
END $$;

-- As in 0080.
CREATE OR REPLACE FUNCTION vidqueue.expected_memory(j vidqueue.jobs) RETURNS integer LANGUAGE plpgsql STABLE AS $$
DECLARE
    kind   text;
    need   integer;
    bytes  bigint;
BEGIN
    IF j.device <> 'gpu' OR j.vram_mb > 0 OR NOT EXISTS (SELECT FROM vidqueue.device_memory m WHERE m.processor = j.processor) THEN
        RETURN NULL;
    END IF;
    kind := vidqueue.memory_model(j.input);
    SELECT sum(f.size) INTO bytes FROM vidqueue.files f WHERE f.id = ANY (ARRAY(
        SELECT substring(leaf #>> '{}' FROM 10)::uuid FROM jsonb_path_query(j.input,
            'strict $.** ? (@ like_regex "^vq:files/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")') AS leaf));
    SELECT vidqueue.need_of(m.samples_mb) INTO need FROM vidqueue.device_memory m
    WHERE m.processor = j.processor AND m.model = kind
      AND (m.size_class = -1 OR abs(m.size_class - vidqueue.size_class(bytes)) <= 1) AND vidqueue.need_of(m.samples_mb) IS NOT NULL
    ORDER BY m.size_class = -1, abs(m.size_class - vidqueue.size_class(bytes)), m.size_class DESC LIMIT 1;
    RETURN CASE WHEN need IS NOT NULL THEN
        least(need, (SELECT max(l.vram_mb) * 9 / 10 FROM vidqueue.lanes l
                     WHERE l.state = 'online' AND l.device = 'gpu' AND vidqueue.fits(l, j))) END;
END $$;

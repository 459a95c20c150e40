-- Pauses and their ends are events of the machine: they concern no job, and everybody may know of them.
ALTER TABLE vidqueue.events ALTER COLUMN job_id DROP NOT NULL;
ALTER TABLE vidqueue.events DROP CONSTRAINT events_kind_check;
ALTER TABLE vidqueue.events ADD CONSTRAINT events_kind_check CHECK (kind IN (
    'queued', 'running', 'progress', 'interrupted', 'cancel_requested', 'updated', 'succeeded', 'failed', 'canceled',
    'paused', 'resumed')) NOT VALID;
COMMENT ON COLUMN vidqueue.events.owner IS 'Who owned the job; empty for an event of the machine, which everybody may read.';

CREATE FUNCTION vidqueue.tell_machine(kind text, data jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(30321, 1);
    UPDATE vidqueue.event_epoch SET server_started = pg_postmaster_start_time()
        WHERE server_started <> pg_postmaster_start_time();
    IF FOUND THEN
        PERFORM setval('vidqueue.events_number_seq', nextval('vidqueue.events_number_seq') + 10000);
    END IF;
    INSERT INTO vidqueue.events (owner, kind, data) VALUES ('', tell_machine.kind, jsonb_strip_nulls(tell_machine.data));
    PERFORM pg_notify('vidqueue', tell_machine.kind);
END $$;

-- Begin no more jobs: of a processor, or of all where none is named. Running jobs go on. A second pause replaces the first.
CREATE FUNCTION vidqueue.pause(processor text DEFAULT NULL, for_s double precision DEFAULT NULL, reason text DEFAULT NULL)
    RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    until  timestamptz := clock_timestamp() + make_interval(secs => for_s);
BEGIN
    INSERT INTO vidqueue.pauses AS p (processor, until, reason) VALUES (coalesce(pause.processor, ''), until, pause.reason)
    ON CONFLICT ON CONSTRAINT pauses_pkey DO UPDATE SET until = excluded.until, reason = excluded.reason, since = excluded.since;
    PERFORM vidqueue.tell_machine('paused', jsonb_build_object('processor', pause.processor, 'until', until, 'reason', pause.reason));
END $$;
COMMENT ON FUNCTION vidqueue.pause IS 'No job of the processor begins, or none at all where no processor is named; for some seconds, or until vidqueue.resume().';

-- End the pause of a processor, or that of everything where none is named; false if there was none.
CREATE FUNCTION vidqueue.resume(processor text DEFAULT NULL) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM vidqueue.pauses p WHERE p.processor = coalesce(resume.processor, '');
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM vidqueue.tell_machine('resumed', jsonb_build_object('processor', resume.processor));
    RETURN true;
END $$;
COMMENT ON FUNCTION vidqueue.resume IS 'Ends what vidqueue.pause() with the same processor began.';

CREATE FUNCTION vidqueue.pause_lane(lane uuid, for_s double precision DEFAULT NULL, reason text DEFAULT NULL, drain boolean DEFAULT false)
    RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    paused  vidqueue.lanes;
BEGIN
    UPDATE vidqueue.lanes l SET
        paused = true, draining = drain, pause_reason = reason, paused_until = clock_timestamp() + make_interval(secs => for_s)
    WHERE l.id = lane RETURNING l.* INTO paused;
    PERFORM vidqueue.tell_machine('paused', jsonb_build_object('lane', paused.name, 'host', paused.host,
        'until', paused.paused_until, 'reason', reason, 'draining', NULLIF(drain, false)));
END $$;

CREATE FUNCTION vidqueue.resume_lane(lane uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    resumed  vidqueue.lanes;
BEGIN
    UPDATE vidqueue.lanes l SET paused = false, draining = false, pause_reason = NULL, paused_until = NULL
    WHERE l.id = lane AND l.paused RETURNING l.* INTO resumed;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM vidqueue.tell_machine('resumed', jsonb_build_object('lane', resumed.name, 'host', resumed.host));
    RETURN true;
END $$;

-- What does not begin at present, and until when.
CREATE VIEW vidqueue_report.pauses AS
SELECT CASE processor WHEN '' THEN 'everything' ELSE 'processor' END AS scope, NULLIF(processor, '') AS name,
       NULL::text AS host, since, until, reason, false AS draining
FROM vidqueue.pauses WHERE until IS NULL OR until > clock_timestamp()
UNION ALL
SELECT 'lane', l.name, l.host, NULL, l.paused_until, l.pause_reason, l.draining
FROM vidqueue.lanes l WHERE vidqueue.is_paused(l);
COMMENT ON VIEW vidqueue_report.pauses IS 'What does not begin at present (everything, a processor, a lane), until when, and why.';

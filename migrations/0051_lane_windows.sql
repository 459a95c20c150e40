-- Time windows of lanes, and lanes whose GPU is shared with other programs.
-- Expand only: an older program goes on with this schema while it drains.

ALTER TABLE vidqueue.lanes
    ADD COLUMN others_mb integer NOT NULL DEFAULT 0 CHECK (others_mb >= 0),
    ADD COLUMN free_requested_at timestamptz,
    ADD COLUMN windows text[] NOT NULL DEFAULT '{}',
    ADD COLUMN windows_zone text NOT NULL DEFAULT 'UTC',
    ADD COLUMN windows_end text NOT NULL DEFAULT 'finish' CHECK (windows_end IN ('finish', 'suspend')),
    ADD COLUMN windows_by text CHECK (windows_by IN ('config', 'person')),
    ADD COLUMN opens_at timestamptz;
COMMENT ON COLUMN vidqueue.lanes.others_mb IS 'Memory of its GPU that other programs hold, in MiB.';
COMMENT ON COLUMN vidqueue.lanes.free_requested_at IS 'When a user requested that its executor frees its memory; NULL once that is done.';
COMMENT ON COLUMN vidqueue.lanes.windows IS 'Its time windows, such as {mon-fri 22:00-07:00,sat-sun}; without any it is always open.';
COMMENT ON COLUMN vidqueue.lanes.windows_end IS 'What happens to a running job at the end of a window: finish, or suspend until the next one.';
COMMENT ON COLUMN vidqueue.lanes.opens_at IS 'When its next window begins; NULL while it is open.';
ALTER TABLE vidqueue.lanes DROP CONSTRAINT lanes_blocked_by_check;
ALTER TABLE vidqueue.lanes ADD CONSTRAINT lanes_blocked_by_check
    CHECK (blocked_by IN ('no_space', 'gpu_lost', 'gpu_busy', 'program_runs', 'outside_window')) NOT VALID;

-- Set the time windows of a lane; without any it is always open.
CREATE FUNCTION vidqueue.set_windows(lane uuid, windows text[], zone text, at_end text, by_whom text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    changed  vidqueue.lanes;
BEGIN
    UPDATE vidqueue.lanes l SET
        windows = set_windows.windows, windows_zone = zone, windows_end = at_end,
        windows_by = CASE WHEN cardinality(set_windows.windows) > 0 THEN by_whom END
    WHERE l.id = lane RETURNING l.* INTO changed;
    PERFORM vidqueue.tell_machine('windows', jsonb_build_object('lane', changed.name, 'host', changed.host, 'windows', changed.windows,
        'timezone', changed.windows_zone, 'at_end', changed.windows_end));
END $$;

-- Request that the daemon of a lane frees the memory of its executor.
CREATE FUNCTION vidqueue.free_lane(lane uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    asked  vidqueue.lanes;
BEGIN
    UPDATE vidqueue.lanes l SET free_requested_at = clock_timestamp() WHERE l.id = lane RETURNING l.* INTO asked;
    PERFORM vidqueue.tell_machine('free_requested', jsonb_build_object('lane', asked.name, 'host', asked.host));
END $$;

-- What /metrics tells of a lane and only the lane's daemon knows. Any daemon on this database answers for all of them.
CREATE TABLE vidqueue.lane_gauges (
    lane_id             uuid PRIMARY KEY REFERENCES vidqueue.lanes ON DELETE CASCADE,
    at                  timestamptz NOT NULL DEFAULT clock_timestamp(),
    executor_starts     bigint NOT NULL,
    gpu_memory_used_mb  integer,
    gpu_utilization     integer,
    gpu_temperature_c   integer,
    gpu_power_w         real
) WITH (fillfactor = 50);
COMMENT ON TABLE vidqueue.lane_gauges IS 'How busy the GPU of a lane is, written when it changes; of use while the lane is online.';
COMMENT ON COLUMN vidqueue.lane_gauges.executor_starts IS 'How often the lane''s executor was started since its daemon was.';

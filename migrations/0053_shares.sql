-- Shares of the lanes by weight, and GPU time that an owner may use a day.
-- Expand only: an older program goes on with this schema while it drains.

ALTER TABLE vidqueue.owner_limits
    ADD COLUMN weight double precision CHECK (weight BETWEEN 0.001 AND 1000),
    ADD COLUMN max_gpu_s_per_day bigint CHECK (max_gpu_s_per_day >= 0);
COMMENT ON COLUMN vidqueue.owner_limits.weight IS 'Weight of the owner when lanes are shared with other owners; NULL is 1.';
COMMENT ON COLUMN vidqueue.owner_limits.max_gpu_s_per_day IS 'Seconds on GPU lanes within 24 hours: jobs beyond it wait, with owner_limit as their reason.';
CREATE OR REPLACE VIEW vidqueue_report.owner_limits AS
SELECT owner, max_queued, max_running, max_per_minute, max_stored_bytes, changed_at, weight, max_gpu_s_per_day FROM vidqueue.owner_limits;
COMMENT ON VIEW vidqueue_report.owner_limits IS 'Limits and weights of owners; * applies to owners without a row.';

ALTER TABLE vidqueue.owners
    ADD COLUMN charged_s double precision NOT NULL DEFAULT 0,
    ADD COLUMN charged_at timestamptz NOT NULL DEFAULT now();
COMMENT ON COLUMN vidqueue.owners.charged_s IS 'Lane time of the owner in seconds, decaying by half every hour; maintained only while there are weights.';

CREATE TABLE vidqueue.owner_gpu_hours (
    owner  text NOT NULL,
    hour   timestamptz NOT NULL,
    gpu_s  double precision NOT NULL,
    PRIMARY KEY (owner, hour)
);
COMMENT ON TABLE vidqueue.owner_gpu_hours IS 'Seconds on GPU lanes by the hour in which the attempt ended; only of owners with max_gpu_s_per_day.';

CREATE FUNCTION vidqueue.weight_of(owner text) RETURNS double precision LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT weight FROM vidqueue.limits_of(owner)), 1)
$$;

-- The seconds of lanes that an owner has had lately, with those of the jobs that run.
CREATE FUNCTION vidqueue.had_s(o vidqueue.owners) RETURNS double precision LANGUAGE sql STABLE AS $$
    SELECT o.charged_s * 0.5 ^ (greatest(0, extract(epoch FROM now() - o.charged_at)) / 3600)
         + coalesce((SELECT sum(greatest(0, extract(epoch FROM now() - j.started_at))) FROM vidqueue.jobs j
                     WHERE j.owner = o.name AND j.state = 'running'), 0)
$$;

CREATE FUNCTION vidqueue.has_used_up_gpu(owner text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM vidqueue.limits_of(has_used_up_gpu.owner) l WHERE l.max_gpu_s_per_day <= (
        SELECT coalesce(sum(h.gpu_s), 0) FROM vidqueue.owner_gpu_hours h
        WHERE h.owner = has_used_up_gpu.owner AND h.hour > now() - interval '24 hours'))
$$;

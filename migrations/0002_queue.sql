-- The queue: who asked (owners), where work runs (lanes), what was asked (jobs), each try (attempts), its log.

CREATE TABLE vidqueue.owners (
    name       text PRIMARY KEY,
    served_at  timestamptz NOT NULL DEFAULT '-infinity'
);
COMMENT ON COLUMN vidqueue.owners.served_at IS 'When a job of this owner was last dispatched; fair share looks at it.';
INSERT INTO vidqueue.owners (name) VALUES ('local');

CREATE TABLE vidqueue.processors (
    name         text PRIMARY KEY,
    device       text NOT NULL CHECK (device IN ('cpu', 'gpu')),
    description  text NOT NULL,
    seen_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE vidqueue.processors IS 'What the daemons on this database can do; each writes its catalogue at start.';

CREATE TABLE vidqueue.lanes (
    id         uuid PRIMARY KEY DEFAULT vidqueue.new_id(),
    node       uuid NOT NULL,
    host       text NOT NULL,
    name       text NOT NULL,
    device     text NOT NULL CHECK (device IN ('cpu', 'gpu')),
    takes      text[] NOT NULL CHECK (takes <@ ARRAY['cpu', 'gpu']),
    gpu_uuid   text,
    gpu_name   text,
    vram_mb    integer NOT NULL DEFAULT 0 CHECK (vram_mb >= 0),
    queue      text NOT NULL UNIQUE CHECK (length(queue) <= 40),
    state      text NOT NULL DEFAULT 'offline' CHECK (state IN ('online', 'offline')),
    paused     boolean NOT NULL DEFAULT false,
    warm       text[] NOT NULL DEFAULT '{}',
    seen_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (node, name)
);
COMMENT ON COLUMN vidqueue.lanes.node IS 'Identity of a data folder: the next daemon on it owns these lanes.';
COMMENT ON COLUMN vidqueue.lanes.warm IS 'Processors this lane ran since its executor started; dispatch prefers them a little.';

CREATE TABLE vidqueue.jobs (
    id                   uuid PRIMARY KEY DEFAULT vidqueue.new_id(),
    parent_id            uuid REFERENCES vidqueue.jobs ON DELETE CASCADE,
    batch_id             uuid,
    owner                text NOT NULL DEFAULT 'local',
    processor            text NOT NULL,
    input                jsonb NOT NULL CHECK (jsonb_typeof(input) = 'object'),
    title                text CHECK (length(title) <= 500),
    tags                 text[] NOT NULL DEFAULT '{}' CHECK (array_position(tags, NULL) IS NULL),
    priority             integer NOT NULL DEFAULT 0 CHECK (priority BETWEEN -1000 AND 1000),
    device               text NOT NULL CHECK (device IN ('cpu', 'gpu')),
    vram_mb              integer NOT NULL DEFAULT 0 CHECK (vram_mb >= 0),
    wanted_lane          text,
    run_at               timestamptz NOT NULL DEFAULT now()
                         CHECK (run_at BETWEEN '1970-01-01 UTC' AND '9000-01-01 UTC'),
    max_attempts         integer NOT NULL DEFAULT 3 CHECK (max_attempts BETWEEN 1 AND 100),
    timeout_s            double precision NOT NULL DEFAULT 86400 CHECK (timeout_s > 0 AND timeout_s <= 31536000),
    stall_timeout_s      double precision NOT NULL DEFAULT 300 CHECK (stall_timeout_s > 0 AND stall_timeout_s <= 31536000),
    idempotency_key      text CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    request_hash         text,

    state                text NOT NULL DEFAULT 'queued'
                         CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'canceled')),
    rank                 double precision NOT NULL DEFAULT 0,
    attempt              integer NOT NULL DEFAULT 0,
    failures             integer NOT NULL DEFAULT 0,
    crashes              integer NOT NULL DEFAULT 0,
    fence                bigint,
    lane                 text,
    progress             real NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    stage                text,
    message              text,
    fps                  real,
    speed                real,
    eta_s                real,
    error_code           text,
    error_message        text,
    error_hint           text,
    cancel_requested_at  timestamptz,
    version              integer NOT NULL DEFAULT 1,
    created_at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    queued_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at           timestamptz,
    finished_at          timestamptz,

    CONSTRAINT finished_iff_final CHECK ((state IN ('succeeded', 'failed', 'canceled')) = (finished_at IS NOT NULL)),
    CONSTRAINT running_iff_fenced CHECK ((state = 'running') = (fence IS NOT NULL)),
    CONSTRAINT failed_has_reason CHECK (state <> 'failed' OR (error_code IS NOT NULL AND error_message IS NOT NULL)),
    CONSTRAINT attempts_within_bounds CHECK (failures <= max_attempts AND failures <= attempt AND crashes <= failures)
);
CREATE UNIQUE INDEX jobs_idempotency ON vidqueue.jobs (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_waiting ON vidqueue.jobs (owner, rank, id) WHERE state = 'queued';
CREATE INDEX jobs_running ON vidqueue.jobs (owner) WHERE state = 'running';
CREATE INDEX jobs_by_state ON vidqueue.jobs (state, id);
CREATE INDEX jobs_by_owner ON vidqueue.jobs (owner, id);
CREATE INDEX jobs_by_parent ON vidqueue.jobs (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX jobs_by_tag ON vidqueue.jobs USING gin (tags);
CREATE INDEX jobs_by_end ON vidqueue.jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_by_creation ON vidqueue.jobs (created_at);
COMMENT ON COLUMN vidqueue.jobs.rank IS 'Order of waiting inside one owner, lowest first: one point of priority is worth a minute of waiting.';
COMMENT ON COLUMN vidqueue.jobs.failures IS 'Attempts that burned; interrupted ones do not count.';
COMMENT ON COLUMN vidqueue.jobs.fence IS 'Token of the running attempt; a write that carries another one is too late.';

CREATE TABLE vidqueue.job_dependencies (
    job_id      uuid NOT NULL REFERENCES vidqueue.jobs ON DELETE CASCADE,
    depends_on  uuid NOT NULL REFERENCES vidqueue.jobs ON DELETE CASCADE,
    PRIMARY KEY (job_id, depends_on),
    CHECK (job_id <> depends_on)
);
CREATE INDEX dependents ON vidqueue.job_dependencies (depends_on);

CREATE SEQUENCE vidqueue.fences;

CREATE TABLE vidqueue.attempts (
    job_id            uuid NOT NULL REFERENCES vidqueue.jobs ON DELETE CASCADE,
    number            integer NOT NULL CHECK (number >= 1),
    fence             bigint NOT NULL UNIQUE,
    lane_id           uuid NOT NULL REFERENCES vidqueue.lanes,
    lane              text NOT NULL,
    host              text NOT NULL,
    dispatched_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at        timestamptz,
    ended_at          timestamptz,
    lease_expires_at  timestamptz NOT NULL,
    outcome           text CHECK (outcome IN ('succeeded', 'failed', 'canceled', 'interrupted')),
    reason            text,
    error_code        text,
    error_message     text,
    error_hint        text,
    error_detail      text,
    metrics           jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (job_id, number),
    CONSTRAINT ended_iff_outcome CHECK ((ended_at IS NULL) = (outcome IS NULL)),
    CONSTRAINT failed_iff_code CHECK ((outcome IS NOT DISTINCT FROM 'failed') = (error_code IS NOT NULL)),
    CONSTRAINT interrupted_has_reason CHECK (outcome IS DISTINCT FROM 'interrupted' OR reason IS NOT NULL)
);
CREATE UNIQUE INDEX one_open_attempt_per_job ON vidqueue.attempts (job_id) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX one_open_attempt_per_lane ON vidqueue.attempts (lane_id) WHERE ended_at IS NULL;
CREATE INDEX attempts_ended ON vidqueue.attempts (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE vidqueue.attempt_logs (
    job_id   uuid NOT NULL,
    attempt  integer NOT NULL,
    number   bigint GENERATED ALWAYS AS IDENTITY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    level    text NOT NULL CHECK (level IN ('debug', 'info', 'warning', 'error')),
    text     text NOT NULL,
    PRIMARY KEY (job_id, attempt, number),
    FOREIGN KEY (job_id, attempt) REFERENCES vidqueue.attempts ON DELETE CASCADE
);

CREATE TABLE vidqueue.files (
    id          uuid PRIMARY KEY DEFAULT vidqueue.new_id(),
    owner       text NOT NULL DEFAULT 'local',
    name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    media_type  text NOT NULL,
    size        bigint NOT NULL CHECK (size >= 0),
    sha256      text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    facts       jsonb,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX files_by_owner ON vidqueue.files (owner, id);
COMMENT ON COLUMN vidqueue.files.name IS 'A label for people; the bytes lie under the id.';

CREATE TABLE vidqueue.outputs (
    job_id   uuid NOT NULL,
    name     text NOT NULL CHECK (name ~ '^[a-z][a-z0-9_.-]{0,63}$'),
    attempt  integer NOT NULL,
    file_id  uuid NOT NULL REFERENCES vidqueue.files,
    PRIMARY KEY (job_id, name),
    FOREIGN KEY (job_id, attempt) REFERENCES vidqueue.attempts ON DELETE CASCADE
);
CREATE INDEX outputs_by_file ON vidqueue.outputs (file_id);

-- Order of waiting, and a version for ETags. Rank is a number, so the index serves it without arithmetic.
CREATE FUNCTION vidqueue.stamp_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.rank := extract(epoch FROM NEW.queued_at) - 60 * NEW.priority;
    IF TG_OP = 'UPDATE' THEN
        -- Progress is no change that anyone could overwrite.
        IF (NEW.state, NEW.priority, NEW.title, NEW.tags, NEW.cancel_requested_at, NEW.attempt)
           IS DISTINCT FROM (OLD.state, OLD.priority, OLD.title, OLD.tags, OLD.cancel_requested_at, OLD.attempt) THEN
            NEW.version := OLD.version + 1;
        END IF;
        -- What is final stays so, unless a person asks for the job once more.
        IF OLD.state = 'succeeded' AND NEW.state <> OLD.state
           OR OLD.state IN ('failed', 'canceled') AND NEW.state NOT IN (OLD.state, 'queued')
           OR OLD.state = 'queued' AND NEW.state = 'succeeded' THEN
            RAISE EXCEPTION 'job % cannot go from % to %', OLD.id, OLD.state, NEW.state
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON vidqueue.jobs
    FOR EACH ROW EXECUTE FUNCTION vidqueue.stamp_job();

-- Every change of state tells itself: no code can move a job without an event. Deferred, because an event must be
-- numbered at commit: a caller may hold its own transaction open around vidqueue.submit() for as long as it likes.
CREATE FUNCTION vidqueue.tell_job_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    what text;
BEGIN
    what := CASE
        WHEN TG_OP = 'INSERT' THEN 'queued'
        WHEN NEW.state <> OLD.state AND OLD.state = 'running' AND NEW.state = 'queued' THEN 'interrupted'
        WHEN NEW.state <> OLD.state THEN NEW.state
        WHEN NEW.cancel_requested_at IS DISTINCT FROM OLD.cancel_requested_at THEN 'cancel_requested'
        ELSE 'updated'
    END;
    PERFORM vidqueue.record_event(NEW.id, NEW.owner, what, jsonb_strip_nulls(jsonb_build_object(
        'state', NEW.state, 'processor', NEW.processor, 'title', NEW.title, 'priority', NEW.priority,
        'attempt', NULLIF(NEW.attempt, 0), 'lane', NEW.lane, 'progress', NEW.progress,
        'message', NEW.message,
        'error', CASE WHEN NEW.error_code IS NOT NULL THEN jsonb_build_object(
            'code', NEW.error_code, 'message', NEW.error_message, 'hint', NEW.error_hint) END)));
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER tell_insert AFTER INSERT ON vidqueue.jobs
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION vidqueue.tell_job_change();
CREATE CONSTRAINT TRIGGER tell_update AFTER UPDATE OF state, cancel_requested_at, priority, title, tags ON vidqueue.jobs
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.state <> OLD.state OR NEW.cancel_requested_at IS DISTINCT FROM OLD.cancel_requested_at
          OR NEW.priority <> OLD.priority OR NEW.title IS DISTINCT FROM OLD.title OR NEW.tags <> OLD.tags)
    EXECUTE FUNCTION vidqueue.tell_job_change();

-- A job that waits for an output which will never come fails at once, and so does everything that waits for it: one
-- statement for a chain of any length, because a trigger that calls itself ends at the depth of the stack.
CREATE FUNCTION vidqueue.fail_dependents() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH RECURSIVE doomed (id) AS (
        SELECT job_id FROM vidqueue.job_dependencies WHERE depends_on = NEW.id
        UNION
        SELECT d.job_id FROM doomed JOIN vidqueue.job_dependencies d ON d.depends_on = doomed.id
    )
    UPDATE vidqueue.jobs j SET
        state = 'failed', finished_at = clock_timestamp(), error_code = 'dependency_failed',
        error_message = format('The job %s, whose output this job or one before it needs, ended as %s.', NEW.id, NEW.state),
        error_hint = 'Retry that job first, then this one.'
    FROM doomed WHERE j.id = doomed.id AND j.state = 'queued';
    RETURN NULL;
END $$;
CREATE TRIGGER fail_dependents AFTER UPDATE OF state ON vidqueue.jobs
    FOR EACH ROW WHEN (NEW.state IN ('failed', 'canceled') AND OLD.state <> NEW.state AND pg_trigger_depth() = 0)
    EXECUTE FUNCTION vidqueue.fail_dependents();

-- Bulk actions: a change of all jobs that match a filter, as a row with its progress. Expand only.

CREATE TABLE vidqueue.bulk_actions (
    id          uuid PRIMARY KEY DEFAULT vidqueue.new_id(),
    owner       text NOT NULL CHECK (length(owner) BETWEEN 1 AND 200),
    scope       text,
    verb        text NOT NULL CHECK (verb IN ('cancel', 'retry', 'priority', 'delete')),
    priority    integer CHECK (priority BETWEEN -1000 AND 1000),
    selection   jsonb NOT NULL,
    states      text[] NOT NULL,
    matched     bigint,
    looked      bigint NOT NULL DEFAULT 0,
    changed     bigint NOT NULL DEFAULT 0,
    reached     uuid,
    begins_at   timestamptz NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at    timestamptz,
    undone      boolean NOT NULL DEFAULT false,
    error       text,
    CHECK ((verb = 'priority') = (priority IS NOT NULL))
);
CREATE INDEX bulk_actions_open ON vidqueue.bulk_actions (begins_at) WHERE ended_at IS NULL;
CREATE INDEX bulk_actions_by_owner ON vidqueue.bulk_actions (owner, id);
COMMENT ON TABLE vidqueue.bulk_actions IS
    'A change of all jobs that match a filter. It begins at begins_at, so that it can be undone before, and runs in short transactions.';
COMMENT ON COLUMN vidqueue.bulk_actions.owner IS 'The owner who requested it.';
COMMENT ON COLUMN vidqueue.bulk_actions.scope IS 'The owner whose jobs it may change; NULL for those of everybody.';
COMMENT ON COLUMN vidqueue.bulk_actions.matched IS 'How many jobs matched when they were counted; NULL if that took too long.';
COMMENT ON COLUMN vidqueue.bulk_actions.reached IS 'The last job that it has looked at; it goes from the newest to the oldest.';
COMMENT ON COLUMN vidqueue.bulk_actions.undone IS 'True if a user ended it; before it began if it has looked at no job.';

CREATE VIEW vidqueue_report.bulk_actions AS
SELECT id, owner, verb, priority, selection, states,
       CASE WHEN ended_at IS NULL AND begins_at > clock_timestamp() THEN 'pending'
            WHEN ended_at IS NULL THEN 'running'
            WHEN error IS NOT NULL THEN 'failed'
            WHEN undone AND looked = 0 THEN 'undone'
            WHEN undone THEN 'stopped'
            ELSE 'done' END AS state,
       matched, looked, changed, begins_at, created_at, ended_at, error
FROM vidqueue.bulk_actions;
COMMENT ON VIEW vidqueue_report.bulk_actions IS 'Bulk actions with their owner, the number of jobs, and the progress.';

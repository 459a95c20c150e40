-- name: fitness
SELECT current_setting('server_version_num')::integer AS version, pg_is_in_recovery() AS standby, pg_backend_pid() AS pid

-- name: violations
SELECT id, invariant, job_id, detail FROM vidqueue_report.invariant_violations LIMIT 100

-- name: invariants
SELECT id, invariant FROM vidqueue_report.invariants

-- name: installation
SELECT id FROM vidqueue.installation

-- name: ping
SELECT 1 AS alive

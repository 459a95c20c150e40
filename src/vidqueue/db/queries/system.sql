-- name: fitness
SELECT current_setting('server_version_num')::integer AS version, pg_is_in_recovery() AS standby, pg_backend_pid() AS pid

-- name: violations
-- Some of each, and how many there are.
SELECT id, invariant, job_id, detail, broken
FROM (SELECT v.*, count(*) OVER each AS broken, row_number() OVER each AS place
      FROM vidqueue_report.invariant_violations v WINDOW each AS (PARTITION BY v.id)) v
WHERE place <= 5 ORDER BY id, place

-- name: invariants
SELECT id, invariant FROM vidqueue_report.invariants

-- name: installation
SELECT id FROM vidqueue.installation

-- name: ping
SELECT 1 AS alive

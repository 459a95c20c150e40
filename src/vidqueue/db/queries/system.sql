-- name: fitness
SELECT current_setting('server_version_num')::integer AS version, pg_is_in_recovery() AS standby, pg_backend_pid() AS pid

-- name: rights
-- Whether the role has these schemas, or may create them.
SELECT current_user AS role, current_database() AS database,
       has_database_privilege(current_database(), 'CREATE')
           OR (SELECT count(*) = cardinality(%(schemas)s::text[]) FROM pg_namespace WHERE nspname = ANY (%(schemas)s)) AS may_create

-- name: violations_of_jobs
-- Violations among the jobs in a range of ids: the first of each invariant, and their number.
SELECT id, invariant, job_id, detail, broken
FROM (SELECT v.*, count(*) OVER each AS broken, row_number() OVER each AS place
      FROM vidqueue_report.invariant_violations v
      WHERE v.job_id > %(after)s AND v.job_id <= %(upto)s AND v.id NOT IN ('I5', 'I13')
      WINDOW each AS (PARTITION BY v.id)) v
WHERE place = 1 ORDER BY id

-- name: violations_between_jobs
-- Violations of invariants that concern all jobs together.
SELECT id, invariant, job_id, detail, broken
FROM (SELECT v.*, count(*) OVER each AS broken, row_number() OVER each AS place
      FROM vidqueue_report.invariant_violations v
      WHERE v.id IN ('I5', 'I13')
      WINDOW each AS (PARTITION BY v.id)) v
WHERE place = 1 ORDER BY id

-- name: last_of_next
-- The last of the next jobs by id; no row if there are fewer.
SELECT id FROM vidqueue.jobs WHERE id > %(after)s ORDER BY id OFFSET %(jobs)s - 1 LIMIT 1

-- name: newest
-- The id above which there are only so many jobs.
SELECT id FROM vidqueue.jobs ORDER BY id DESC OFFSET %(jobs)s LIMIT 1

-- name: miscounted
-- Which counters are wrong, and by how much.
SELECT format('%%s %%s jobs of %%s on %%s lanes: off by %%s', m.state, m.processor, m.owner, m.device, -m.jobs) AS detail
FROM vidqueue.jobs_miscounted m
UNION ALL
SELECT format('%%s %%s jobs of %%s that ended in the hour from %%s: off by %%s', m.state, m.processor, m.owner, m.hour, -m.jobs)
FROM vidqueue.hours_miscounted m

-- name: invariants
SELECT id, invariant FROM vidqueue_report.invariants

-- name: installation
SELECT id FROM vidqueue.installation

-- name: export_snapshot
SELECT pg_export_snapshot() AS name

-- name: schemas
-- Which of these schemas exist.
SELECT nspname AS name FROM pg_namespace WHERE nspname = ANY (%(names)s) ORDER BY nspname

-- name: facts_of_backup
SELECT i.id AS installation, current_setting('server_version_num')::integer / 10000 AS postgresql,
       pg_database_size(current_database()) AS size
FROM vidqueue.installation i

-- name: add
INSERT INTO vidqueue.audit (owner, role, key_id, act, target, detail)
VALUES (%(owner)s, %(role)s, %(key_id)s, %(act)s, %(target)s, %(detail)s)

-- name: page
-- Newest first, by keyset.
SELECT number, at, owner, role, key_prefix, key_name, act, target, detail
FROM vidqueue_report.audit WHERE number < %(number)s ORDER BY number DESC LIMIT %(limit)s

-- name: of_lanes
-- What people want of these lanes: their windows, and whether somebody asked for what their executors hold.
SELECT id, windows, windows_zone, windows_end, free_requested_at IS NOT NULL AS free_requested FROM vidqueue.lanes WHERE id = ANY (%(ids)s)

-- name: note
-- Write what others hold of each GPU, and when each lane opens.
UPDATE vidqueue.lanes l SET others_mb = seen.others_mb, opens_at = seen.opens_at
FROM unnest(%(ids)s::uuid[], %(others_mb)s::integer[], %(opens_at)s::timestamptz[]) AS seen (id, others_mb, opens_at)
WHERE l.id = seen.id AND (l.others_mb, l.opens_at) IS DISTINCT FROM (seen.others_mb, seen.opens_at)

-- name: set_windows
SELECT vidqueue.set_windows(%(id)s, %(windows)s, %(zone)s, %(at_end)s, %(by)s)

-- name: configure_windows
-- Write the windows that the configuration gives a lane; without any, those of an earlier configuration go.
SELECT vidqueue.set_windows(l.id, %(windows)s, %(zone)s, %(at_end)s, 'config') FROM vidqueue.lanes l
WHERE l.id = %(id)s AND (cardinality(%(windows)s::text[]) > 0 OR l.windows_by = 'config')
  AND (l.windows, l.windows_zone, l.windows_end, l.windows_by)
      IS DISTINCT FROM (%(windows)s::text[], %(zone)s::text, %(at_end)s::text, 'config')

-- name: free
SELECT vidqueue.free_lane(%(id)s)

-- name: freed
-- What the executor of a lane held is free.
UPDATE vidqueue.lanes SET free_requested_at = NULL, warm = '{}' WHERE id = %(id)s

-- Jobs from before 0141 whose input is too deeply nested to be written as JSON no longer break the lists that have them.

-- No processor could be given such an input either: a job that still waits fails with `invalid_params`. A path that goes on to the
-- last level instead of the first forbidden one ends with an error where that is ten thousand levels down.
UPDATE vidqueue.jobs SET input = '{"replaced": "The input was nested in more than 100 levels."}'
WHERE pg_column_size(input) > 100 AND jsonb_path_exists(input, 'strict $.**{101}');

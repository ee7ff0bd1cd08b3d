-- What `doctor` asks. Each query is headed by its name; all may be asked by any role, and change nothing.

-- name: server
SELECT current_setting('max_prepared_transactions')::int AS prepared_max,
       current_setting('synchronous_commit') AS synchronous_commit, current_setting('fsync')::bool AS fsync,
       current_setting('autovacuum')::bool AS autovacuum, current_setting('track_counts')::bool AS track_counts,
       current_user::text AS role, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us,
       coalesce((SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = 'syncline'), true)
         AS may_enter;

-- name: triggers
-- (to_regclass fails where the role may not enter the schema.) Of every captured table ($1: its quoted name) and its partitions the triggers of ours that are not on.
WITH captured AS (
  SELECT c.oid, c.oid AS root FROM unnest($1::text[]) AS wanted(name) CROSS JOIN parse_ident(wanted.name) AS place
  JOIN pg_namespace s ON s.nspname = place[1] JOIN pg_class c ON c.relnamespace = s.oid AND c.relname = place[2]
), parts AS (
  SELECT oid, root FROM captured
  UNION
  SELECT t.relid, captured.root FROM captured, pg_partition_tree(captured.oid) AS t
)
SELECT parts.oid::regclass::text AS part, parts.root::regclass::text AS "table", wanted.name AS trigger,
       g.oid IS NULL AS is_missing, parts.oid <> parts.root AS is_partition
FROM parts JOIN pg_class c ON c.oid = parts.oid AND c.relkind IN ('r', 'p')
CROSS JOIN LATERAL (
  SELECT unnest(ARRAY['syncline_insert', 'syncline_update', 'syncline_delete', 'syncline_truncate'])
  UNION ALL SELECT 'syncline_row' WHERE c.relkind = 'r' AND EXISTS (SELECT FROM pg_subscription_rel s
    WHERE s.srrelid = c.oid OR s.srrelid IN (SELECT relid FROM pg_partition_ancestors(c.oid)))
) AS wanted(name)
LEFT JOIN pg_trigger g ON g.tgrelid = parts.oid AND g.tgname = wanted.name AND NOT g.tgisinternal
WHERE g.oid IS NULL OR g.tgenabled <> 'A'
ORDER BY 2, 1, 3;

-- name: rights
-- $1 tables by quoted name, $2 privileges that each needs.
SELECT needed.name AS "table", n.nspname::text AS schema, privilege,
       has_schema_privilege(n.oid, 'USAGE') AS may_enter
FROM unnest($1::text[], $2::text[]) AS needed(name, privilege) CROSS JOIN parse_ident(needed.name) AS place
JOIN pg_namespace n ON n.nspname = place[1] JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = place[2]
WHERE NOT has_schema_privilege(n.oid, 'USAGE') OR NOT CASE privilege
  WHEN 'SELECT' THEN has_table_privilege(c.oid, 'SELECT')  -- rights on columns do not let one LOCK
  WHEN 'DELETE' THEN has_table_privilege(c.oid, 'DELETE')
  ELSE has_any_column_privilege(c.oid, privilege) END;

-- name: our_rights
SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'syncline' AND c.relkind = 'r'
  AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
    AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))
ORDER BY 1;

-- name: lacks_what_all_need
-- Whether this role lacks a right without which no table at all can be followed.
SELECT NOT has_database_privilege(current_database(), 'TEMPORARY') OR EXISTS (
  SELECT FROM pg_class c WHERE c.relnamespace = to_regnamespace('syncline') AND c.relkind = 'r'
    AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
      AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')));

-- name: strangers
-- Who else than the owner, this role and the one that serves has rights on what is ours.
SELECT CASE WHEN r.grantee = 0 THEN 'PUBLIC' ELSE r.grantee::regrole::text END AS role
FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) AS r
WHERE c.relnamespace = to_regnamespace('syncline') AND c.relkind IN ('r', 'S') AND r.grantee <> c.relowner
  AND r.grantee <> (SELECT oid FROM pg_roles WHERE rolname = current_user)
  AND coalesce((SELECT rolname FROM pg_roles WHERE oid = r.grantee), '')::text <> ALL ($1::text[])
GROUP BY r.grantee ORDER BY 1;

-- name: row_security
SELECT wanted.name AS "table" FROM unnest($1::text[]) AS wanted(name) CROSS JOIN parse_ident(wanted.name) AS place
JOIN pg_namespace n ON n.nspname = place[1] JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = place[2]
WHERE row_security_active(c.oid) ORDER BY 1;

-- name: sequencer
SELECT EXISTS(
  SELECT FROM pg_locks
  WHERE locktype = 'advisory' AND granted AND classid::bigint = $1::int AND objid::bigint = $2::int AND objsubid = 2
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()));

-- name: changelogs
SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'syncline' AND c.relkind = 'r' AND c.relname LIKE 'changelog\_%' ORDER BY 1;

-- name: vacuum
-- Our tables that are not vacuumed: switched off, or with more dead rows than a vacuum lets lie.
SELECT c.relname::text AS name, s.n_dead_tup AS dead,
       coalesce('autovacuum_enabled=false' = ANY (c.reloptions) OR 'autovacuum_enabled=off' = ANY (c.reloptions), false)
         AS is_off
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE n.nspname = 'syncline' AND c.relkind = 'r'
ORDER BY 1;

-- name: holders
-- Who keeps vacuum from removing what is gone: sessions for longer than $1 seconds, slots, prepared transactions.
SELECT 'session' AS kind, pid::text AS name, coalesce(usename::text, '') AS owner,
       coalesce(application_name, '') AS application, extract(epoch FROM now() - xact_start)::float8 AS seconds
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND xact_start < now() - make_interval(secs => $1)
UNION ALL
SELECT 'slot', slot_name::text, '', coalesce(plugin::text, 'physical'), NULL
FROM pg_replication_slots WHERE xmin IS NOT NULL AND NOT active
UNION ALL
SELECT 'prepared', gid, owner::text, '', extract(epoch FROM now() - prepared)::float8
FROM pg_prepared_xacts WHERE database = current_database() AND prepared < now() - make_interval(secs => $1)
ORDER BY 1, 2;

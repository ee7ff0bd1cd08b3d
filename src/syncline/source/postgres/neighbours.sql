-- Each query is headed by its name; any role may ask it, and it changes nothing.

-- name: owners
-- Who owns one of the tables $1 (quoted names), may sign in, and may not read all that is ours.
SELECT r.rolname::text AS owner
FROM pg_roles r
WHERE r.rolcanlogin AND r.oid IN (
    SELECT c.relowner FROM unnest($1::text[]) AS wanted(name) CROSS JOIN parse_ident(wanted.name) AS place
    JOIN pg_namespace s ON s.nspname = place[1] JOIN pg_class c ON c.relnamespace = s.oid AND c.relname = place[2])
  AND EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = 'syncline' AND (NOT has_schema_privilege(r.oid, n.oid, 'USAGE')
    OR EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'S') AND NOT CASE c.relkind
      WHEN 'S' THEN has_sequence_privilege(r.oid, c.oid, 'SELECT') ELSE has_table_privilege(r.oid, c.oid, 'SELECT') END)))
ORDER BY 1;

-- name: publications
-- `is_stuck`: it publishes deletes of a table of ours that could not be told.
SELECT p.pubname::text AS name, bool_or(p.pubdelete AND c.relreplident <> 'f'
    AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)) AS is_stuck
FROM pg_publication p JOIN pg_publication_tables t ON t.pubname = p.pubname AND t.schemaname = 'syncline'
JOIN pg_namespace n ON n.nspname = t.schemaname JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
GROUP BY p.pubname ORDER BY 1;

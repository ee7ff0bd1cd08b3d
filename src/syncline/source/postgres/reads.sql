-- Each query is headed by its name.

-- name: rules
-- What a view, and every view under it, says: the oids of functions and operators are in the tree of its query.
WITH RECURSIVE viewed(oid) AS (
  SELECT 'pg_temp.syncline_reads'::regclass::oid
  UNION
  SELECT d.refobjid FROM viewed JOIN pg_rewrite r ON r.ev_class = viewed.oid
  JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
  JOIN pg_class c ON c.oid = d.refobjid AND c.relkind = 'v'
)
SELECT viewed.oid, n.nspname AS schema, c.relname AS name, current_schema() AS home, r.ev_action::text AS tree
FROM viewed JOIN pg_class c ON c.oid = viewed.oid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_rewrite r ON r.ev_class = viewed.oid AND r.ev_type = '1';

-- name: columns
-- $1: the oids of views. What their queries read of each relation; a column is NULL where it is read as such.
SELECT DISTINCT d.refobjid AS relation, a.attname AS name
FROM pg_rewrite r
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND a.attnum > 0
WHERE r.ev_class = ANY ($1::oid[]) AND d.refobjid <> r.ev_class;

-- name: relations
-- $1: the oids of relations. A partition is told by its root.
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind, c.relpersistence::text AS persistence,
       root.relname AS root, rootn.nspname AS root_schema, current_schema() AS home,
       c.relkind = 'r' AND EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhparent = c.oid) AS has_children
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_class root ON c.relispartition AND root.oid = pg_partition_root(c.oid)
LEFT JOIN pg_namespace rootn ON rootn.oid = root.relnamespace
WHERE c.oid = ANY ($1::oid[]);

-- name: every_column
SELECT attrelid AS relation, attname AS name FROM pg_attribute
WHERE attrelid = ANY ($1::oid[]) AND attnum > 0 AND NOT attisdropped;

-- name: functions
-- $1: the oids of functions; $2: those of operators.
SELECT DISTINCT p.oid, p.proname AS name, o.oprname AS operator, p.provolatile::text AS volatility, p.proleakproof AS leakproof,
       n.nspname = 'pg_catalog' AS builtin, l.lanname IN ('c', 'internal') AS compiled
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
LEFT JOIN pg_operator o ON o.oprcode = p.oid AND o.oid = ANY ($2::oid[])
WHERE p.oid = ANY ($1::oid[]) OR o.oid IS NOT NULL
ORDER BY p.proname;

-- name: parameter_types
SELECT format_type(t.oid, NULL) FROM unnest($1::oid[]) WITH ORDINALITY AS t(oid, place) ORDER BY t.place;

-- name: table_place
-- $1: a table's local name.
SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'syncline')
  AND (n.nspname = current_schema() AND c.relname = $1 OR n.nspname || '.' || c.relname = $1)
ORDER BY n.nspname <> current_schema() LIMIT 1;

-- name: virtual
-- Of relation $1, quoted: columns that are computed whenever they are read.
SELECT attname::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attgenerated = 'v' ORDER BY attnum;

-- name: names
SELECT CASE WHEN n.nspname = current_schema() THEN '' ELSE n.nspname || '.' END || c.relname AS relation,
       a.attname AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'syncline');

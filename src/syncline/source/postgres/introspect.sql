-- Each query is headed by its name. Relations: $1 is a list of their oids.

-- name: server
SELECT current_setting('server_version_num')::int4 AS version, current_setting('server_version') AS version_text,
       current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS standby, coalesce(nullif(current_setting('syncline.home', true), ''), current_schema()) AS home;

-- name: relations
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind, c.relpersistence::text AS persistence,
       EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhparent = c.oid) AS has_children,
       EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhrelid = c.oid) AS has_parents,
       c.relkind = 'p' AND EXISTS (
         SELECT 1 FROM pg_partition_tree(c.oid) t JOIN pg_class f ON f.oid = t.relid WHERE f.relkind = 'f'
       ) AS has_foreign
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'syncline')
  AND NOT EXISTS (
    SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
  )
ORDER BY n.nspname, c.relname;

-- name: columns
SELECT a.attrelid AS relation, a.attnum AS number, a.attname AS name, a.atttypid AS type_id, a.atttypmod AS modifier,
       format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null, a.attgenerated::text AS generated,
       a.attidentity::text AS identity, pg_get_expr(d.adbin, d.adrelid) AS default_text,
       a.attcollation AS collation_id, l.collname AS collation, ln.nspname AS collation_schema,
       coalesce(NOT l.collisdeterministic, false) AS is_loose,
       CASE WHEN a.attgenerated = 'v' THEN ARRAY(
         SELECT b.attname::text FROM pg_depend p
         JOIN pg_attribute b ON b.attrelid = p.refobjid AND b.attnum = p.refobjsubid
         WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass
           AND p.refobjid = a.attrelid AND p.refobjsubid > 0 AND p.refobjsubid <> a.attnum ORDER BY b.attnum
       ) END AS computed_from
FROM pg_attribute a
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_namespace ln ON ln.oid = l.collnamespace
WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum;

-- name: types
WITH RECURSIVE used(oid) AS (
  SELECT DISTINCT atttypid FROM pg_attribute WHERE attrelid = ANY ($1::oid[]) AND attnum > 0 AND NOT attisdropped
  UNION
  SELECT further.oid FROM used JOIN pg_type t ON t.oid = used.oid
  CROSS JOIN LATERAL (VALUES (t.typbasetype), (t.typelem)) AS further(oid) WHERE further.oid <> 0
)
SELECT t.oid, t.typname AS name, n.nspname AS schema, t.typtype::text AS sort, t.typbasetype AS base,
       t.typtypmod AS modifier, t.typelem AS element, t.typarray AS array_id, t.typnotnull AS not_null,
       t.typdefault AS default_text, t.typcollation AS collation_id
FROM used JOIN pg_type t ON t.oid = used.oid JOIN pg_namespace n ON n.oid = t.typnamespace;

-- name: indexes
SELECT i.indrelid AS relation, c.relname AS name, i.indisprimary AS is_primary, i.indisunique AS is_unique,
       (i.indkey::int2[])[0:i.indnkeyatts - 1] AS columns
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
WHERE i.indrelid = ANY ($1::oid[]) AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
  AND m.amname IN ('btree', 'hash')
ORDER BY i.indrelid, i.indisprimary DESC, c.relname;

-- name: foreign_keys
SELECT conrelid AS relation, confrelid AS parent, conkey AS columns, confkey AS "references"
FROM pg_constraint
WHERE contype = 'f' AND conparentid = 0 AND conrelid = ANY ($1::oid[]) AND confrelid = ANY ($1::oid[])
ORDER BY conrelid, conname;

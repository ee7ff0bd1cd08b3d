-- Each query is headed by its name.

-- name: contents
-- Of the captured tables $1, called $3 in schema $2, what `Contents` holds.
WITH RECURSIVE root AS (
  SELECT w.name, c.oid
  FROM unnest($1::text[], $2::text[], $3::text[]) AS w(name, schema_name, relation)
  JOIN pg_namespace s ON s.nspname = w.schema_name
  JOIN pg_class c ON c.relnamespace = s.oid AND c.relname = w.relation
), member(name, oid) AS (
  SELECT r.name, r.oid FROM root r
  UNION ALL SELECT m.name, i.inhrelid FROM member m JOIN pg_inherits i ON i.inhparent = m.oid
), used(name, type_id) AS (  -- what is not PostgreSQL's own
  SELECT r.name, a.atttypid FROM root r JOIN pg_attribute a ON a.attrelid = r.oid
  WHERE a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384
  UNION
  SELECT u.name, d.refobjid FROM used u JOIN pg_type t ON t.oid = u.type_id
  JOIN pg_depend d ON (d.classid, d.objid) IN (('pg_type'::regclass, t.oid), ('pg_class'::regclass, t.typrelid))
  WHERE d.refclassid = 'pg_type'::regclass
), columns AS (
  SELECT r.name, json_object_agg(a.attname, json_build_array(a.xmin::text,
      concat_ws(':', a.attnum, a.atttypid, a.atttypmod, a.attcollation, a.attgenerated),
      concat_ws(' ', format_type(a.atttypid, a.atttypmod), l.collname,
        CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END))) AS found
  FROM root r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_collation l ON l.oid = a.attcollation
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  GROUP BY r.name
), files AS (
  SELECT m.name, json_object_agg(c.oid::text, c.relfilenode::int8) AS found
  FROM member m JOIN pg_class c ON c.oid = m.oid GROUP BY m.name
), computed AS (
  SELECT m.name, json_object_agg(concat_ws(':', m.oid, a.attnum), d.oid::int8) AS found
  FROM member m JOIN pg_attribute a ON a.attrelid = m.oid AND a.attgenerated <> ''
  JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum GROUP BY m.name
), labels AS (
  SELECT u.name, json_object_agg(concat_ws(':', t.oid, e.oid), e.enumlabel) AS found
  FROM used u JOIN pg_type t ON t.oid = u.type_id AND t.typtype = 'e' LEFT JOIN pg_enum e ON e.enumtypid = t.oid
  GROUP BY u.name
), composites AS (
  SELECT u.name, json_object_agg(t.typrelid::text, (
      SELECT string_agg(concat_ws(':', a.attnum, a.attname, a.atttypid, a.atttypmod), ' ' ORDER BY a.attnum)
      FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)) AS found
  FROM used u JOIN pg_type t ON t.oid = u.type_id AND t.typtype = 'c' GROUP BY u.name
)
SELECT r.name, json_build_object('columns', c.found, 'files', f.found, 'computed', g.found, 'labels', l.found,
  'composites', t.found)::text AS contents
FROM root r LEFT JOIN columns c USING (name) LEFT JOIN files f USING (name) LEFT JOIN computed g USING (name)
LEFT JOIN labels l USING (name) LEFT JOIN composites t USING (name);

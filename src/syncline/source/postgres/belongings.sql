-- Each query is headed by its name.

-- name: state
-- Of the captured tables $1, called $3 in schema $2, with our changelogs $4 and functions $5: `host` what each looks
-- like, `members` it and its partitions, `subscribed` those of them that a subscription fills, `triggers` ours on them,
-- `capture` the changelog and the function; `is_hidden`: policies would hide rows of it from this role; `is_readable`:
-- this role may lock and read it; `may_note`: the function's owner may do all that the function does.
WITH RECURSIVE wanted AS (
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
    AS w(name, schema_name, relation, changelog, function)
), root AS (
  SELECT w.*, c.oid, c.relkind, c.relrowsecurity, c.relforcerowsecurity, c.relowner,
    CASE WHEN c.relrowsecurity THEN row_security_active(c.oid) ELSE false END AS is_hidden,
    has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(s.oid, 'USAGE') AS is_readable
  FROM wanted w JOIN pg_namespace s ON s.nspname = w.schema_name
  JOIN pg_class c ON c.relnamespace = s.oid AND c.relname = w.relation
), member(name, oid) AS (
  SELECT r.name, r.oid FROM root r
  UNION ALL SELECT m.name, i.inhrelid FROM member m JOIN pg_inherits i ON i.inhparent = m.oid
), subscribed AS (
  SELECT m.name, json_agg(quote_ident(n.nspname) || '.' || quote_ident(c.relname) ORDER BY n.nspname, c.relname) AS members
  FROM member m JOIN pg_class c ON c.oid = m.oid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND EXISTS (SELECT FROM pg_subscription_rel s
    WHERE s.srrelid = c.oid OR s.srrelid IN (SELECT relid FROM pg_partition_ancestors(c.oid)))
  GROUP BY m.name
), ours AS (
  SELECT n.oid, (SELECT c.oid FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'gap') AS gap,
    (SELECT c.oid FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'pulse') AS pulse,
    (SELECT p.oid FROM pg_proc p WHERE p.pronamespace = n.oid AND p.proname = 'now_us') AS clock
  FROM pg_namespace n WHERE n.nspname = 'syncline'
), members AS (
  SELECT m.name,
    json_object_agg(quote_ident(n.nspname) || '.' || quote_ident(c.relname), m.oid::int8
      ORDER BY n.nspname, c.relname) AS members,
    json_agg(json_build_array(quote_ident(n.nspname) || '.' || quote_ident(c.relname), t.tgname, t.oid::int8,
      t.xmin::text, t.tgenabled, t.tgtype, p.proname) ORDER BY n.nspname, c.relname, t.tgname) FILTER (WHERE t.oid IS NOT NULL) AS triggers
  FROM member m JOIN pg_class c ON c.oid = m.oid JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN (pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN ours o ON o.oid = p.pronamespace)
    ON t.tgrelid = m.oid
  GROUP BY m.name
)
SELECT w.name, m.members::text AS members, coalesce(u.members, '[]')::text AS subscribed, coalesce(m.triggers, '[]')::text AS triggers,
  coalesce(r.is_hidden, false) AS is_hidden, coalesce(r.is_readable, true) AS is_readable,
  concat_ws(' ', r.oid, r.relkind, r.relrowsecurity, r.relforcerowsecurity, r.is_hidden, r.relowner,
    (SELECT string_agg(concat_ws(':', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attcollation,
       a.attgenerated, a.attidentity, d.oid), ' ' ORDER BY a.attnum)
     FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped),
    (SELECT string_agg(concat_ws(':', k.oid, k.convalidated), ' ' ORDER BY k.oid) FROM pg_constraint k
     WHERE k.conrelid = r.oid),
    (SELECT string_agg(concat_ws(':', i.indexrelid, i.indisvalid), ' ' ORDER BY i.indexrelid) FROM pg_index i
     WHERE i.indrelid = r.oid AND i.indisunique)) AS host,
  concat_ws(' ', l.oid,
    (SELECT string_agg(concat_ws(':', a.attname, a.atttypid, a.attcollation, a.attnotnull), ' ' ORDER BY a.attnum)
     FROM pg_attribute a WHERE a.attrelid = l.oid AND a.attnum > 0 AND NOT a.attisdropped),
    f.oid, f.prosecdef, f.proconfig, f.proowner) AS capture,
  l.oid AS changelog_oid, f.oid AS function_oid, obj_description(l.oid, 'pg_class') AS changelog,
  md5(convert_to(f.prosrc, 'UTF8')) AS function, pg_get_userbyid(l.relowner)::text AS queue_owner,
  pg_get_userbyid(f.proowner)::text AS function_owner,
  coalesce(has_schema_privilege(f.proowner, o.oid, 'USAGE') AND has_table_privilege(f.proowner, l.oid, 'INSERT')
    AND has_table_privilege(f.proowner, o.gap, 'INSERT') AND has_table_privilege(f.proowner, o.pulse, 'SELECT')
    AND has_function_privilege(f.proowner, o.clock, 'EXECUTE'), false) AS may_note
FROM wanted w LEFT JOIN root r ON r.name = w.name LEFT JOIN members m ON m.name = w.name
LEFT JOIN subscribed u ON u.name = w.name CROSS JOIN ours o
LEFT JOIN pg_class l ON l.relnamespace = o.oid AND l.relname = w.changelog
LEFT JOIN pg_proc f ON f.pronamespace = o.oid AND f.proname = w.function;

-- name: shared
-- What every capture leans on (our tables $2), and the rules of views $1.
SELECT
  (SELECT array_agg(c.oid ORDER BY c.relname) FROM pg_class c
   WHERE c.relnamespace = to_regnamespace('syncline') AND c.relkind = 'r'
     AND c.relname = ANY($2::text[])) AS base,
  (SELECT string_agg(concat_ws(':', r.oid, r.xmin), ' ' ORDER BY r.oid) FROM pg_rewrite r
   WHERE r.ev_class = ANY($1::oid[])) AS views;

-- name: versions
-- Whether lines of the catalogue stand as they were: of relations $1, our triggers $2, and the rules of views $3; and of
-- which relations policies would hide rows from this role, and which it may not read; and what the owners of our
-- functions $4 may do.
SELECT
  (SELECT string_agg(c.oid::text, ' ' ORDER BY c.oid) FROM pg_class c
   WHERE c.oid = ANY($1::oid[])
     AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(c.relnamespace, 'USAGE'))),
  (SELECT string_agg(c.oid::text, ' ' ORDER BY c.oid) FROM pg_class c
   WHERE c.oid = ANY($1::oid[]) AND CASE WHEN c.relrowsecurity THEN row_security_active(c.oid) ELSE false END),
  (SELECT string_agg(concat_ws(':', c.oid, c.xmin), ' ' ORDER BY c.oid) FROM pg_class c WHERE c.oid = ANY($1::oid[])),
  (SELECT string_agg(concat_ws(':', t.oid, t.xmin), ' ' ORDER BY t.oid) FROM pg_trigger t WHERE t.oid = ANY($2::oid[])),
  (SELECT string_agg(concat_ws(':', r.oid, r.xmin), ' ' ORDER BY r.oid) FROM pg_rewrite r
   WHERE r.ev_class = ANY($3::oid[])),
  (SELECT string_agg(concat_ws(':', k.owner, has_schema_privilege(k.owner, n.oid, 'USAGE'),
     (SELECT string_agg(has_table_privilege(k.owner, c.oid, CASE c.relname WHEN 'gap' THEN 'INSERT' ELSE 'SELECT' END)::text,
        ',' ORDER BY c.oid) FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname IN ('gap', 'pulse')),
     (SELECT has_function_privilege(k.owner, p.oid, 'EXECUTE') FROM pg_proc p
      WHERE p.pronamespace = n.oid AND p.proname = 'now_us')), ' ' ORDER BY k.owner)
   FROM (SELECT DISTINCT f.proowner AS owner FROM pg_proc f WHERE f.oid = ANY($4::oid[])) AS k
   JOIN pg_namespace n ON n.nspname = 'syncline');

-- name: details
-- As `versions`, of what else belongs to relations $1, of our functions $2, and of the enum types $3; and of which tables
-- capture was found to be deaf.
SELECT
  (SELECT string_agg(m.name, ' ' ORDER BY m.name) FROM syncline.meta m WHERE starts_with(m.name, 'deaf:')),
  (SELECT string_agg(concat_ws(':', a.attrelid, a.attnum, a.xmin), ' ' ORDER BY a.attrelid, a.attnum)
   FROM pg_attribute a WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0),
  (SELECT string_agg(concat_ws(':', i.inhrelid, i.xmin), ' ' ORDER BY i.inhrelid)
   FROM pg_inherits i WHERE i.inhparent = ANY($1::oid[])),
  (SELECT string_agg(concat_ws(':', k.oid, k.xmin), ' ' ORDER BY k.oid)
   FROM pg_constraint k WHERE k.conrelid = ANY($1::oid[])),
  (SELECT string_agg(concat_ws(':', i.indexrelid, i.xmin), ' ' ORDER BY i.indexrelid)
   FROM pg_index i WHERE i.indrelid = ANY($1::oid[]) AND i.indisunique),
  (SELECT string_agg(concat_ws(':', f.oid, f.xmin), ' ' ORDER BY f.oid) FROM pg_proc f WHERE f.oid = ANY($2::oid[])),
  (SELECT string_agg(concat_ws(':', d.oid, d.xmin), ' ' ORDER BY d.oid)
   FROM pg_attrdef d WHERE d.adrelid = ANY($1::oid[])),
  (SELECT string_agg(s.srrelid::text, ' ' ORDER BY s.srrelid)
   FROM pg_subscription_rel s WHERE s.srrelid = ANY($1::oid[])),
  (SELECT string_agg(concat_ws(':', e.oid, e.xmin), ' ' ORDER BY e.oid) FROM pg_enum e
   WHERE e.enumtypid = ANY($3::oid[]));

-- name: ours
-- Relations with triggers of ours, and those triggers: all, or those that call the function $1.
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS relation, t.tgname::text AS name
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'syncline') AND NOT t.tgisinternal
  AND ($1::text IS NULL OR p.proname = $1)
ORDER BY 1, 2;

-- name: unidentified
-- Tables of ours without a key that could not be deleted from if they were published.
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'syncline' AND c.relkind = 'r' AND c.relreplident <> 'f'
  AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
ORDER BY 1;

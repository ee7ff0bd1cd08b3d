-- What a transaction of ours has made belongs to its owner alone, whatever default privileges the company has set.
DO $$
DECLARE
  made record; other oid;
BEGIN
  FOR made IN
    SELECT 'SCHEMA' AS kind, n.nspname::text AS name, n.nspacl AS rights, n.nspowner AS owner
    FROM pg_catalog.pg_namespace n WHERE n.nspname = 'syncline' AND n.xmin = pg_catalog.pg_current_xact_id()::xid
    UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass::text, c.relacl, c.relowner
    FROM pg_catalog.pg_class c
    WHERE c.relnamespace = 'syncline'::regnamespace AND c.relkind IN ('r', 'S')
      AND c.xmin = pg_catalog.pg_current_xact_id()::xid
    UNION ALL
    SELECT 'FUNCTION', p.oid::regprocedure::text, p.proacl, p.proowner FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = 'syncline'::regnamespace AND p.xmin = pg_catalog.pg_current_xact_id()::xid
  LOOP
    FOR other IN
      SELECT DISTINCT r.grantee FROM pg_catalog.aclexplode(made.rights) r WHERE r.grantee <> made.owner
    LOOP
      EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s CASCADE', made.kind, made.name,
        CASE WHEN other = 0 THEN 'PUBLIC' ELSE other::regrole::text END);
    END LOOP;
  END LOOP;
END $$;

-- What provisioning adds to the source, besides one changelog, one function and four triggers per captured table.
-- Every statement may be run again.

CREATE SCHEMA IF NOT EXISTS syncline;

-- Version, installation, seal, fingerprint of the capture that was put in, signatures, a migration that is under way.
CREATE TABLE IF NOT EXISTS syncline.meta(name text PRIMARY KEY, value text);

-- Column layouts of images: devices and the feed name them by number.
CREATE TABLE IF NOT EXISTS syncline.layout(
  table_name text, layout integer, columns text NOT NULL, PRIMARY KEY(table_name, layout));

-- ---------------------------------------------------------------- written by the sequencer alone
-- Every capturing statement reads `pulse`: it is written only where something in it changes, so that it stays one line
-- of one page also while a long reader keeps vacuum from it. `asleep_until`: so long it wants to be rung for, unless it
-- says otherwise. `secret`: only who may read it can say in a setting whose change it is, and of when.
CREATE TABLE IF NOT EXISTS syncline.pulse(
  one boolean PRIMARY KEY CHECK(one), asleep_until timestamptz NOT NULL, floor_us bigint NOT NULL,
  secret uuid NOT NULL) WITH (fillfactor = 10);
INSERT INTO syncline.pulse VALUES(true, '-infinity', 0, gen_random_uuid()) ON CONFLICT DO NOTHING;

-- `cut_xmin`: the xmin of the last cut's snapshot (a column cannot be called xmin). Every row that waits in a queue has a txid at or above it.
CREATE TABLE IF NOT EXISTS syncline.checkpoint(
  one boolean PRIMARY KEY CHECK(one), term text NOT NULL, head bigint NOT NULL, time_us bigint NOT NULL,
  cut_xmin xid8 NOT NULL) WITH (fillfactor = 10);
CREATE TABLE IF NOT EXISTS syncline.term(term text PRIMARY KEY, first bigint NOT NULL, last bigint);
-- The checkpoint from which on a table is sent whole to every device that stands below it.
CREATE TABLE IF NOT EXISTS syncline.generation(table_name text PRIMARY KEY, checkpoint bigint NOT NULL);
-- The newest checkpoint that touched a table which grants read.
CREATE TABLE IF NOT EXISTS syncline.grant_touch(table_name text PRIMARY KEY, checkpoint bigint NOT NULL);
-- Which checkpoint was the newest at which time, noted now and then, by retention.
CREATE TABLE IF NOT EXISTS syncline.moment(checkpoint bigint PRIMARY KEY, time_us bigint NOT NULL);
CREATE TABLE IF NOT EXISTS syncline.entry(
  bucket text COLLATE "C", table_name text COLLATE "C", key text COLLATE "C", op "char" NOT NULL,
  checkpoint bigint NOT NULL, PRIMARY KEY(bucket, table_name, key));
CREATE INDEX IF NOT EXISTS entry_by_checkpoint ON syncline.entry(bucket, checkpoint);
CREATE INDEX IF NOT EXISTS entry_newest ON syncline.entry(checkpoint);
CREATE TABLE IF NOT EXISTS syncline.row_state(
  table_name text COLLATE "C", key text COLLATE "C", layout integer, image text, stamps text,
  checkpoint bigint NOT NULL, PRIMARY KEY(table_name, key)) WITH (fillfactor = 80);
-- Which buckets held a touched row at a checkpoint: what the true state in an outcome frame rests on.
CREATE TABLE IF NOT EXISTS syncline.truth(
  table_name text COLLATE "C", key text COLLATE "C", buckets text NOT NULL, checkpoint bigint NOT NULL,
  PRIMARY KEY(table_name, key));
CREATE TABLE IF NOT EXISTS syncline.included(device text PRIMARY KEY, number bigint NOT NULL, checkpoint bigint NOT NULL);
CREATE INDEX IF NOT EXISTS included_newest ON syncline.included(checkpoint);

-- ---------------------------------------------------------------- queues: others put in, the sequencer takes out
-- Vacuumed early, for they fill and empty all day; never cut short, for that would take a lock that the host waits for.
-- "Snapshot S was read": what must be placed exactly in the order of cuts.
CREATE TABLE IF NOT EXISTS syncline.marker(id bigint NOT NULL, txid xid8 NOT NULL DEFAULT pg_current_xact_id()) WITH (
  vacuum_truncate = false, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX IF NOT EXISTS marker_txid ON syncline.marker(txid);
-- An upload of this device was committed.
CREATE TABLE IF NOT EXISTS syncline.upload(
  device text NOT NULL, txid xid8 NOT NULL DEFAULT pg_current_xact_id()) WITH (
  vacuum_truncate = false, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX IF NOT EXISTS upload_txid ON syncline.upload(txid);
-- Changes of a table may have been missed, or devices are to hold something else of it; `mark` says why.
CREATE TABLE IF NOT EXISTS syncline.gap(
  table_name text NOT NULL, mark text, txid xid8 NOT NULL DEFAULT pg_current_xact_id()) WITH (
  vacuum_truncate = false, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX IF NOT EXISTS gap_txid ON syncline.gap(txid);

-- ---------------------------------------------------------------- written by uploads and hello
CREATE TABLE IF NOT EXISTS syncline.device(
  device text PRIMARY KEY, number bigint UNIQUE, owner text NOT NULL, nonce_used text, nonce_issued text,
  last bigint NOT NULL DEFAULT 0, last_stamp bigint NOT NULL DEFAULT 0, floor bigint NOT NULL DEFAULT 0,
  created_us bigint, seen_us bigint, replaces text, details text);
CREATE TABLE IF NOT EXISTS syncline.outcome(
  device text, number bigint, id bytea, kind text, code text, reason text, table_name text, op text, key text,
  conflicts text, at_us bigint, PRIMARY KEY(device, number));
CREATE UNIQUE INDEX IF NOT EXISTS outcome_by_id ON syncline.outcome(id);
CREATE INDEX IF NOT EXISTS outcome_refused_inserts ON syncline.outcome(device) WHERE kind = 'rejected' AND op = 'I';
CREATE TABLE IF NOT EXISTS syncline.conflict(
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, device text, number bigint, owner text, table_name text, key text,
  column_name text, kind text, rule text, base text, server text, device_value text, row_values text, at_us bigint);
CREATE TABLE IF NOT EXISTS syncline.rejection(
  device text, number bigint, owner text, table_name text, key text, op text, code text, reason text,
  row_values text, at_us bigint, PRIMARY KEY(device, number));

-- The source's clock, µs since 1970, for capture's stamps. One that stands there already stays.
DO $$ BEGIN
  IF pg_catalog.to_regprocedure('syncline.now_us()') IS NULL THEN
    CREATE FUNCTION syncline.now_us() RETURNS bigint LANGUAGE sql VOLATILE AS
      'SELECT (pg_catalog.date_part(''epoch'', pg_catalog.clock_timestamp()) * 1000000)::bigint';
    REVOKE ALL ON FUNCTION syncline.now_us() FROM PUBLIC;
  END IF;
END $$;

-- A publication FOR ALL TABLES takes ours in, and what is published without a key cannot be deleted from otherwise.
DO $$ DECLARE queue regclass; BEGIN
  FOR queue IN SELECT c.oid FROM pg_catalog.pg_class c
    WHERE c.relnamespace = 'syncline'::regnamespace AND c.relname IN ('marker', 'upload', 'gap') AND c.relreplident <> 'f'
  LOOP
    EXECUTE pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY FULL', queue);
  END LOOP;
END $$;

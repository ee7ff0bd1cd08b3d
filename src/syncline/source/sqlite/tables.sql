-- What provisioning adds to the source, besides one changelog table and the capture triggers per table.
-- No AUTOINCREMENT: it would leave the table sqlite_sequence behind.

CREATE TABLE IF NOT EXISTS syncline_meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;

-- Column layouts of images: devices and the feed name them by number.
CREATE TABLE IF NOT EXISTS syncline_layout(
  table_name TEXT, layout INTEGER, columns TEXT, PRIMARY KEY(table_name, layout)) WITHOUT ROWID;

-- Who writes, and with which stamp, inside an upload's transaction; NULL otherwise.
-- floor: the newest stamp ever accepted, so that the source's own stamps never fall behind it.
CREATE TABLE IF NOT EXISTS syncline_context(one INTEGER PRIMARY KEY CHECK(one = 1), stamp, writer, floor INTEGER NOT NULL);
INSERT OR IGNORE INTO syncline_context VALUES(1, NULL, NULL, 0);

-- "Snapshot S was read": what must be placed exactly in the order of cuts. Written by sessions, consumed by the sequencer.
CREATE TABLE IF NOT EXISTS syncline_marker(id INTEGER PRIMARY KEY);

-- Written by the sequencer alone.
CREATE TABLE IF NOT EXISTS syncline_checkpoint(
  one INTEGER PRIMARY KEY CHECK(one = 1), term TEXT NOT NULL, head INTEGER NOT NULL, time_us INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS syncline_term(term TEXT PRIMARY KEY, first INTEGER NOT NULL, last INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS syncline_row_state(
  table_name TEXT, key TEXT, layout INTEGER, image TEXT, stamps TEXT, checkpoint INTEGER,
  PRIMARY KEY(table_name, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS syncline_entry(
  bucket TEXT, table_name TEXT, key TEXT, op TEXT, checkpoint INTEGER,
  PRIMARY KEY(bucket, table_name, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS syncline_entry_by_checkpoint ON syncline_entry(bucket, checkpoint);
CREATE INDEX IF NOT EXISTS syncline_entry_newest ON syncline_entry(checkpoint);
-- Which buckets held a touched row at a checkpoint: what the true state in an outcome frame rests on.
CREATE TABLE IF NOT EXISTS syncline_truth(
  table_name TEXT, key TEXT, buckets TEXT, checkpoint INTEGER, PRIMARY KEY(table_name, key)) WITHOUT ROWID;
-- The checkpoint from which on a table is sent whole to every device that stands below it.
CREATE TABLE IF NOT EXISTS syncline_generation(table_name TEXT PRIMARY KEY, checkpoint INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS syncline_included(device TEXT PRIMARY KEY, number INTEGER, checkpoint INTEGER) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS syncline_included_newest ON syncline_included(checkpoint);

-- Written by retention: which checkpoint was the newest at which time, noted now and then. The horizon is in syncline_meta.
CREATE TABLE IF NOT EXISTS syncline_moment(checkpoint INTEGER PRIMARY KEY, time_us INTEGER NOT NULL);

-- Written by uploads and hello.
CREATE TABLE IF NOT EXISTS syncline_device(
  device TEXT PRIMARY KEY, number INTEGER UNIQUE, user TEXT NOT NULL, nonce_used TEXT, nonce_issued TEXT,
  last INTEGER NOT NULL DEFAULT 0, last_stamp INTEGER NOT NULL DEFAULT 0, floor INTEGER NOT NULL DEFAULT 0,
  created_us INTEGER, seen_us INTEGER, replaces TEXT, details TEXT) WITHOUT ROWID;
-- In which order devices last sent mutations; written by uploads alone.
CREATE TABLE IF NOT EXISTS syncline_turn(turn INTEGER PRIMARY KEY, device TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS syncline_outcome(
  device TEXT, number INTEGER, id BLOB, kind TEXT, code TEXT, reason TEXT, table_name TEXT, op TEXT, key TEXT,
  conflicts TEXT, at_us INTEGER, PRIMARY KEY(device, number)) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS syncline_outcome_by_id ON syncline_outcome(id);
CREATE INDEX IF NOT EXISTS syncline_outcome_refused_inserts ON syncline_outcome(device)
  WHERE kind = 'rejected' AND op = 'I';
CREATE TABLE IF NOT EXISTS syncline_conflict(
  id INTEGER PRIMARY KEY, device TEXT, number INTEGER, user TEXT, table_name TEXT, key TEXT, column_name TEXT,
  kind TEXT, rule TEXT, base TEXT, server TEXT, device_value TEXT, row_values TEXT, at_us INTEGER);
CREATE TABLE IF NOT EXISTS syncline_rejection(
  device TEXT, number INTEGER, user TEXT, table_name TEXT, key TEXT, op TEXT, code TEXT, reason TEXT,
  row_values TEXT, at_us INTEGER, PRIMARY KEY(device, number)) WITHOUT ROWID;

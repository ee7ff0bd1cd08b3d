"""What a PostgreSQL source may meet, and what `syncline doctor` finds in one."""

from __future__ import annotations

from syncline.error_catalogue.shape import Entry, Section


def _source(code: str, meaning: str, remedy: str, *, again: bool = False) -> Entry:
    return Entry(code, meaning, remedy, again=again, http=(503,))


POSTGRES: tuple[Section, ...] = (
    Section(
        "A PostgreSQL source",
        "who runs the server: on standard error, in its log, `/readyz` and `syncline doctor`; devices wait meanwhile",
        (
            _source(
                "source_unreachable",
                "The PostgreSQL server cannot be reached, or has ended the session.",
                "Nothing: it is tried again. If it lasts, look at [source] url, the network and the server.",
                again=True,
            ),
            _source(
                "source_starting",
                "The PostgreSQL server is starting, stopping or recovering.",
                "Nothing: it is waited for.",
                again=True,
            ),
            _source(
                "source_login",
                "The PostgreSQL server does not let the role in.",
                "Check role and password: [source] url, PGPASSWORD, ~/.pgpass; and the server's pg_hba.conf.",
            ),
            _source(
                "source_rights",
                "The role lacks a right, or row security would hide rows from it.",
                "Run: syncline doctor, which names the GRANT to type.",
            ),
            _source(
                "source_connections",
                "The PostgreSQL server, or the role, has no connection left.",
                "Raise max_connections or the role's CONNECTION LIMIT; it goes on by itself.",
                again=True,
            ),
            _source(
                "grant_fails",
                "A grant's SQL fails for one user: for what the company's data hold, or what it makes of a claim; or "
                "for everybody: the database does not take it any more.",
                "Mend the grant or the data; the user's devices keep what they have, and go on by themselves.",
                again=True,
            ),
            _source(
                "source_pooler",
                "A pooler in transaction mode stands where a session is needed.",
                "Name the database itself in [source] direct_url.",
            ),
            _source(
                "capture_lost",
                "Triggers of ours are gone from a captured table, or a table of ours, or a right that capture needs to "
                "write into it.",
                "Run: syncline provision, with --owner-url where the service may not; what was missed is sent anew.",
            ),
            _source(
                "table_fails",
                "No checkpoint can be computed of a table: the database refuses a statement that only it needs. "
                "Nothing new of it reaches devices; all else goes on.",
                "Mend what the database says; it is tried again by itself, and devices fetch the table anew.",
            ),
            Entry(
                "capture_disabled",
                "A trigger of ours is disabled, or does not fire for replicated writes.",
                "Type the ALTER TABLE that is named, or run: syncline provision",
            ),
            Entry(
                "partition_uncaptured",
                "A partition was attached, and nothing notices what is written to it directly.",
                "Run: syncline provision, or restart the server where it may put capture on.",
            ),
            Entry(
                "service_rights",
                "The service's role lacks a right that serving needs.",
                "Type the GRANT that is named.",
            ),
            Entry(
                "foreign_rights",
                "Other roles than the owner and the service's have rights on what capture has noted.",
                "Type the REVOKE that is named.",
            ),
            Entry(
                "capture_owner",
                "Capture runs with the rights of a role that may do more than own it. A note where that is an ordinary "
                "role.",
                "Run: syncline provision, as a role that may create roles, or after one has typed what is named.",
            ),
            Entry(
                "schema_published",
                "A note: a publication of the company's, such as one FOR ALL TABLES, ships what we write, too. A fault "
                "where a table of ours has no replica identity: then no checkpoint is taken.",
                "Publish tables, or schemas without ours; where it is a fault, run: syncline provision",
            ),
            Entry(
                "backup_rights",
                "A note: who owns captured tables may not read the schema syncline, so a pg_dump of theirs fails.",
                "Type the GRANT that is named, or dump with --exclude-schema=syncline.",
            ),
            Entry(
                "row_security",
                "Row security would hide rows from the service, so that it refuses to read the table.",
                "Give the role BYPASSRLS, or make it a member of the table's owner.",
            ),
            Entry(
                "queue_waits",
                "Captured changes wait for a minute or more though a server is there.",
                "Its /readyz and log say why no checkpoint is taken.",
            ),
            Entry("autovacuum_off", "Nothing vacuums our tables.", "Switch autovacuum on."),
            Entry(
                "queue_bloated",
                "One of our tables holds more than a million dead rows.",
                "Find what holds vacuum back (long_transaction, slot_holds_rows), then VACUUM the table.",
            ),
            Entry(
                "long_transaction",
                "A transaction has been open for more than half an hour, and holds vacuum back.",
                "Have it end, or end it with the statement that is named.",
            ),
            Entry(
                "slot_holds_rows",
                "A replication slot that nobody reads holds vacuum back.",
                "Start its reader, or drop it with the statement that is named.",
            ),
            Entry(
                "prepared_transaction",
                "A prepared transaction was neither committed nor rolled back for half an hour.",
                "Ask its owner; then COMMIT PREPARED or ROLLBACK PREPARED.",
            ),
            Entry(
                "commits_not_durable",
                "fsync or synchronous_commit is off: a crash of the database may take back what devices were told.",
                "Switch it on.",
            ),
            Entry(
                "clock_apart",
                "The clocks of the database and of the server differ by more than two seconds.",
                "Have both follow a time server.",
            ),
            Entry(
                "doorbell_off",
                "A note: max_prepared_transactions is above 0, so a database at rest is looked at four times a second.",
                "Nothing; or set it to 0 where nobody uses PREPARE TRANSACTION.",
            ),
            Entry(
                "index_missing",
                "A note: a join of a scope has no index, and every checkpoint scans the table.",
                "Type the CREATE INDEX that is named.",
            ),
        ),
    ),
)

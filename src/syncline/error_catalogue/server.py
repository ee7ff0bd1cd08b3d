"""What the server, its database and `[auth]` may meet."""

from __future__ import annotations

from syncline.error_catalogue.shape import Entry, Section


def _source(code: str, meaning: str, remedy: str, *, again: bool = False) -> Entry:
    return Entry(code, meaning, remedy, again=again, http=(503,))


SERVER: tuple[Section, ...] = (
    Section(
        "The source",
        "who runs the server: on standard error, in its log, `/readyz` and `syncline doctor`; devices wait meanwhile",
        (
            _source("source", "The company's database refused something.", "The message has its own words."),
            _source("source_missing", "There is no database file at [source] url.", "Correct the path."),
            _source(
                "source_unreadable",
                "The source's file cannot be opened as a SQLite database.",
                "Is it one, and may the server's user read and write it and its folder?",
            ),
            _source(
                "source_is_replica",
                "The source is a device's file.",
                "Name the company's own database in [source] url.",
            ),
            _source(
                "source_read_only",
                "The source can be read and not written: its file, its folder or the whole disk is read-only.",
                "Give the server's user the right to write both; it goes on by itself.",
                again=True,
            ),
            _source(
                "source_disk_full", "The disk of the source is full.", "Make room; it goes on by itself.", again=True
            ),
            _source(
                "source_corrupt",
                "The source's file is damaged: SQLite reads what cannot be.",
                "Stop the server, keep a copy, and restore a backup or use .recover of the sqlite3 command.",
            ),
            _source(
                "source_sync_failed",
                "The disk failed to write the source's log: what was committed may not be on it.",
                "Check the disk, then restart the server. Devices keep what they sent until it is told durable.",
            ),
            _source("source_busy", "Another program holds the source.", "Nothing: it is tried again.", again=True),
            _source(
                "source_replaced",
                "Another file stands at the source's path.",
                "Nothing: it is opened, a new term begins, devices resynchronise.",
                again=True,
            ),
            _source("not_provisioned", "Capture is not installed in the source.", "Run: syncline provision"),
            _source(
                "name_taken",
                "The company has a table, index, view or trigger under a name that capture needs.",
                "Rename it; Syncline takes nothing that it did not make.",
            ),
            _source(
                "other_configuration",
                "Capture was installed for another configuration.",
                "Run: syncline provision, or restart the server.",
            ),
            _source("schema_changed", "A captured table is other than capture knows.", "Run: syncline provision"),
            _source(
                "schema_moving",
                "The company's schema is being changed.",
                "Nothing: it is tried again. If it lasts: syncline doctor",
                again=True,
            ),
            _source(
                "migration_running",
                "`syncline migrate` is running, or one begun with --before was not ended.",
                "Wait until it has ended, or run the script of --after.",
                again=True,
            ),
            Entry(
                "migration_died",
                "A migration ended before it could put capture back: nothing syncs.",
                "A running server mends it once the configuration fits. Without one: syncline provision",
            ),
            _source("server_running", "A server works on this database.", "Stop it first.", again=True),
            _source("term_lost", "Another process takes the checkpoints now.", "Nothing: it follows that one."),
            _source("not_sequencer", "A checkpoint was asked of a process that takes none.", "Report it."),
            Entry("not_served", "Captured changes wait, and no server takes checkpoints.", "Run: syncline serve"),
            Entry(
                "capture_gap",
                "Changes may have been missed; the next checkpoint has devices fetch those tables anew.",
                "Run: syncline serve, where it does not run already.",
            ),
        ),
    ),
    Section(
        "Tokens and users",
        "the app: `status.state` is `signed_out`, or `sync()` raises it; nothing on the device is deleted",
        (
            Entry("auth", "The server does not take this token.", "Sign in again.", http=(401,)),
            Entry(
                "token_missing",
                "There is no token: none was sent, or its file or variable is empty.",
                "Sign in; on the command line give --token, @file or $VARIABLE.",
                http=(401,),
                exit=(1, 2),
            ),
            Entry("token_expired", "The token has expired.", "Sign in again.", http=(401,)),
            Entry(
                "token_invalid",
                "The token is no JWT, is not valid yet, or was signed or issued by or for somebody else.",
                "The message says which. Compare [auth] with the identity provider, and the clocks.",
                http=(401,),
            ),
            Entry(
                "claim_missing",
                "The token lacks a claim that names the user or that a grant needs.",
                "Have the identity provider add it.",
                http=(403,),
            ),
            Entry("not_authenticated", "The application around Syncline knows nobody.", "Sign in.", http=(401, 403)),
            Entry(
                "keys_unreachable",
                "The identity provider's keys cannot be fetched.",
                "Nothing: it is tried again. If it lasts, look at [auth] jwks_url.",
                again=True,
                http=(503,),
            ),
            Entry(
                "other_user",
                "The file, or the device, belongs to another user.",
                "Use another file, or replace_user=True once nothing is pending.",
                http=(403,),
            ),
            Entry("device_unknown", "The server does not know the device.", "Nothing: it says hello.", http=(409,)),
            Entry(
                "device_cloned",
                "Another copy of this file has spoken for the device.",
                "Nothing: this one gets an identity of its own, and loses nothing.",
                again=True,
                http=(409,),
            ),
        ),
    ),
    Section(
        "Too much, and faults",
        "the app, in `status.reason`",
        (
            Entry("not_ready", "The service is starting or stopping.", "Nothing.", again=True, http=(503,)),
            Entry("overloaded", "The server has too much to do.", "Nothing.", again=True, http=(503,)),
            Entry("too_many_requests", "This user asks too often.", "Nothing.", again=True, http=(429,)),
            Entry(
                "internal",
                "The server met a fault of its own.",
                "Its log has the details.",
                again=True,
                http=(500, 503),
            ),
            Entry("server", "The server answered with an error.", "The message has its words.", again=True),
        ),
    ),
)

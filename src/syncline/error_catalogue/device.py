"""What the file on a device, and whoever calls the replica, may meet."""

from __future__ import annotations

from syncline.error_catalogue.configuration import wrong
from syncline.error_catalogue.shape import Entry, Section

DEVICE: tuple[Section, ...] = (
    Section(
        "The file on the device",
        "the app: raised by `Replica(…)`, `sync()` and `start()`, and in `status.reason` while the agent runs",
        (
            Entry("replica", "Something is wrong with the file on the device.", "As the message says."),
            Entry(
                "open_failed",
                "The file cannot be opened or set up.",
                "Does its folder exist, and may this program write there?",
            ),
            Entry("no_file", "There is no file of this name.", "Sync once, or check the name."),
            Entry("not_a_database", "The file is not a SQLite database, or its head is damaged.", "Name another file."),
            Entry(
                "not_a_replica",
                "The file is a database, but not a device's: for example one that Syncline serves from.",
                "Name another file; a new one is made.",
            ),
            Entry(
                "replica_newer",
                "The file was written by a later Syncline.",
                "Update Syncline; the file is as it was.",
            ),
            Entry(
                "replica_busy",
                "Another sync agent has the file.",
                "Stop it first; reading and writing need no agent.",
                again=True,
            ),
            Entry(
                "replica_storage",
                "The device's disk fails to read or write the file.",
                "Look at the disk; it goes on by itself.",
                again=True,
            ),
            Entry(
                "replica_disk_full",
                "The device's disk is full.",
                "Make room; it goes on by itself, and what was written before is kept.",
                again=True,
            ),
            Entry(
                "replica_read_only",
                "The file, its folder or its disk cannot be written.",
                "Give this program the right to write; it goes on by itself.",
                again=True,
            ),
            Entry(
                "replica_corrupt",
                "The file is damaged: SQLite reads what cannot be.",
                "Keep it, and begin with a new one; .recover of the sqlite3 command may find what was not sent.",
            ),
            Entry(
                "replica_replaced",
                "Another file stands at the replica's path than the agent has open.",
                "Stop the replica and start it again, if the new file is the one that is meant.",
            ),
            Entry(
                "row_refused",
                "The file does not take a row that the server sent; everything stays as it was before that download.",
                "Look for a trigger or an index of the app's own on the table that refuses it.",
            ),
            Entry("wiped", "The office had this file emptied.", "Sign in again with a new file."),
            Entry("pending_changes", "Changes wait that would be lost.", "Sync once more as who made them."),
            Entry("table_exists", "The app has a table of its own by that name.", "Rename it, or use another file."),
            Entry("sqlite_too_old", "The program needs a newer SQLite.", "Update the app, or its SQLite."),
            Entry(
                "bundled_program",
                "The program that the app brings along is not one.",
                "Write it anew: syncline program > program.json",
            ),
        ),
    ),
    Section(
        "Calls of the replica",
        "who writes the app",
        (
            wrong("path", "This names no file of its own.", 'Give a path, for example "nurse.db".'),
            wrong("timeout", "This is no time-out.", "Give seconds, or None for ever."),
            wrong("schema_version", "This is no schema version.", "Give a number from 0 on."),
            wrong("verify_hours", "This is no number of hours.", "Give one above 0, or None for never."),
            Entry("cannot_verify", "The server, or what carries the messages, knows of no verification.", "Update it."),
            Entry("bad_query", "A live query cannot be run.", "The message has SQLite's words."),
            Entry("query_writes", "A live query would write.", "Write through connect() or transaction()."),
            Entry("in_callback", "A callback called what waits for its own thread.", "Call it from another thread."),
            Entry("transaction_nested", "A transaction is under way in this thread.", "Use its connection."),
            Entry("transaction_ended", "The block ended its transaction itself.", "Leave COMMIT to the block."),
            Entry("key_not_generated", "A key of this type cannot be drawn.", "The app has to choose it."),
            Entry("no_free_key", "No free key was found.", "Try again."),
            Entry("not_a_rejection", "This is no rejection.", "Give what rejections() gives, or its id."),
            Entry("rejection_gone", "The rejection is not there any more.", "It was dismissed or tried again."),
            Entry("values_gone", "The rejection has no values to try again.", "Write the change anew."),
            Entry("row_gone", "The row is not there any more, or has another key now.", "Dismiss the rejection."),
            Entry("row_exists", "A row of this key is there by now.", "Change that one, or give another key."),
            Entry("retry_failed", "The file refused the change.", "Correct the values."),
            Entry("error", "An error of no narrower kind.", "As the message says."),
        ),
    ),
)

"""What is wrong with a scope, seen alone or against the database."""

from __future__ import annotations

from syncline.error_catalogue.configuration import wrong
from syncline.error_catalogue.shape import Section

SCOPES: tuple[Section, ...] = (
    Section(
        "Scopes",
        "who runs the server, at its start and in `syncline check`",
        (
            wrong("scope_name", "This cannot be the name of a scope.", "Use letters without accents, digits, _ and -."),
            wrong("empty_scope", "The scope names no table.", 'Add root = "…" or tables = [...].'),
            wrong("no_root", "An option or a path needs a root, and the scope has none.", 'Add root = "…".'),
            wrong("no_grant", "The scope has a root and no grant: nobody would get anything.", "Add grant = …."),
            wrong("no_path", "A table of the scope has no path to the root.", 'Add parent = "…" or referenced_by.'),
            wrong("no_foreign_key", "No foreign key says how two tables belong together.", "Say it with on = {…}."),
            wrong(
                "ambiguous_path",
                "Several foreign keys lead to the parent.",
                "Say which one is meant with on = {…}, as the message writes it.",
            ),
            wrong("bad_path", "A path has both directions, or on without one.", "Write two paths, or say which table."),
            wrong("root_path", "The root of the scope has a path.", "Take it away: its rows are found by their key."),
            wrong("path_circle", "The paths go in a circle.", "Choose another parent for one of them."),
            wrong("path_outside_scope", "A path leads over a table outside the scope.", "Add that table to the scope."),
            wrong("two_filters", "A table has two filters in one scope.", "Join them with AND in one where."),
            wrong("two_read_only", "A table is read_only by one path and not by another.", "Say it once."),
            wrong("grant_parameter", "The grant has a parameter that is no claim.", "Write claims as :sub."),
            wrong("grant_columns", "The grant answers another number of columns than the key has.", "Select the key."),
            wrong(
                "grant_volatile",
                "The grant uses what changes by itself, for example the time.",
                'Add refresh = "60s" to the scope.',
            ),
            wrong(
                "query_fails",
                "A grant or filter does not work on this database.",
                "Use the name that the message proposes, or try the query in the database's own shell.",
            ),
            wrong("virtual_table", "A query reads a virtual table.", "Read the tables that its content comes from."),
            wrong("filter_query", "A filter holds a query.", "A filter may look at the row alone."),
            wrong(
                "filter_function",
                "A filter calls a function that can fail on a value.",
                "Compare columns, or have the database keep the result in a column.",
            ),
            wrong("filter_reads_other_table", "A filter reads another table.", "It may look at the row alone."),
            wrong("filter_volatile", "A filter uses what changes by itself.", "Compare columns with fixed values."),
            wrong("view_cannot_sync", "A view is named as a table to sync.", "Name the tables behind it."),
            wrong("no_key", "A table cannot sync: it has no key, or is virtual.", "Give it a primary key."),
            wrong("collation", "Rows are joined by a column whose collation is not BINARY.", "Join by another one."),
            wrong(
                "join_type",
                "Rows are joined, or buckets named, by a column of a type in which equal values may be written in "
                "several ways.",
                "Join by another one.",
            ),
            wrong("reserved_name", "A table's name begins with ours.", "Leave it out of the scope."),
            wrong(
                "too_many_columns",
                "A table has more columns than a replica's statements can carry.",
                "Name those that devices need in [columns] keep.",
            ),
        ),
    ),
)

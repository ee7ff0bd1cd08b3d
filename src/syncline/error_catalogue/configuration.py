"""What is wrong with `syncline.toml`, the environment or a command line."""

from __future__ import annotations

from syncline.error_catalogue.shape import Entry, Section


def wrong(code: str, meaning: str, remedy: str) -> Entry:
    """Nothing was tried; the command ends with 2."""
    return Entry(code, meaning, remedy, exit=(2,))


CONFIGURATION: tuple[Section, ...] = (
    Section(
        "The configuration file",
        "who runs the server, at its start and in `syncline check`",
        (
            wrong(
                "config",
                "The configuration is wrong; of several mistakes each stands on a line with its own code.",
                "Correct the lines that are named; nothing was started.",
            ),
            wrong(
                "config_missing",
                "The configuration is not there, or cannot be read.",
                "Name it with --config, look at its rights, or write one: syncline init SOURCE_URL.",
            ),
            wrong("config_syntax", "The file is not TOML, or not UTF-8.", "Correct the line that is named."),
            wrong(
                "config_exists",
                "`syncline init` would overwrite a file.",
                "Name another file with --config, or overwrite it with --force.",
            ),
            wrong("unknown_section", "There is no section of this name.", "Use the name that the message proposes."),
            wrong("unknown_option", "The section has no such option.", "Use the name that the message proposes."),
            wrong(
                "unknown_variable",
                "An environment variable SYNCLINE_… overrides nothing.",
                "Use the name that the message proposes; docs/cli.md has the table.",
            ),
            wrong("missing_option", "A value that is needed is not there.", "Add it, in the file or as a variable."),
            wrong("wrong_type", "A value is of another type, for example text for a number.", "Write it as told."),
            wrong("wrong_value", "A value is none of those that are allowed.", "Use one of those that are named."),
            wrong("not_yet", "A later version will have this.", "Remove the line, or use what the message names."),
            wrong(
                "source_url",
                "The source's URL is not one.",
                'Write "sqlite:///clinic.db" (an absolute path has four slashes) or "postgresql://user@host/database".',
            ),
            wrong(
                "source_version",
                "The database's server is older than Syncline can stand beside.",
                "Upgrade it; the message names the least version.",
            ),
            wrong(
                "source_standby",
                "The database is a standby, which cannot be written to.",
                "Name its primary in [source] url.",
            ),
            wrong(
                "source_search_path",
                "The role of [source] url is called like Syncline's schema, and finds that before your tables.",
                "ALTER ROLE … SET search_path = public (or your schema), or take a role of another name.",
            ),
            wrong(
                "source_encoding",
                "The database's encoding does not say which characters its text holds.",
                "Move the data into a database with the encoding UTF8.",
            ),
            wrong(
                "source_kind",
                "There is no adapter for sources of this kind.",
                "Use a SQLite file or a PostgreSQL database.",
            ),
            wrong("source_option", "An option of [source] is for another kind of database.", "Remove it."),
            wrong(
                "session_setting",
                "[source.session] names a setting that is PostgreSQL's own.",
                'Use a name with a dot, for example "app.user_id".',
            ),
            Entry(
                "unknown_table",
                "There is no table of this name, or it does not sync (any more).",
                "Use the name that the message proposes. A rejected change: keep its values and tell the operator.",
                exit=(1, 2),
            ),
            Entry(
                "unknown_column",
                "The table has no column of this name, or it is not one that can be given here.",
                "Use a name that the message proposes.",
                exit=(1, 2),
            ),
            wrong("secret_missing", "Neither a secret nor a provider's keys are configured.", "Set [auth] secret."),
            wrong("secret_short", "The secret is too short to sign with.", "Take 32 random bytes or more."),
            wrong(
                "auth_two_ways",
                "A secret and a provider's keys are both configured.",
                "Remove one of them; is SYNCLINE_AUTH_SECRET set?",
            ),
            wrong("jwks_url", "The address of the provider's keys is none, or not https.", "Correct the address."),
            wrong("mount_path", "`install` was given what is no path.", 'For example install(app, "/sync").'),
            wrong("unknown_policy", "There is no merge policy of this name.", "Use one of those that are named."),
            wrong(
                "policy_does_not_fit",
                "A merge policy cannot work on a column of this type.",
                "Choose another policy.",
            ),
            wrong("merge_key", "A merge policy is given for a column of the key.", "Keys are not merged."),
            wrong("hidden_key", "A column of the key is hidden.", "Take it out of hide, or put it into keep."),
            wrong("table_not_synced", "A section is about a table that no scope has.", "Add it to a scope."),
        ),
    ),
    Section(
        "The command line",
        "whoever runs the command",
        (
            wrong("usage", "A command, an option or a value of one is wrong.", "See the command's --help."),
            wrong("not_confirmed", "A command that removes something was not confirmed.", "Add --yes."),
            wrong("unknown_record", "There is no conflict or rejection of this id.", "The list has the ids."),
            wrong("file_unwritable", "A file cannot be written.", "Name another one, or look at its folder's rights."),
            wrong(
                "extra_missing",
                "This command needs packages that a device does not have.",
                'Install them: pip install "syncline[server]".',
            ),
            wrong("server_url", "The server's address is none.", "Write https://host or http://host:port."),
            Entry(
                "address_in_use",
                "Nothing can listen on this port: another program does, or it needs a right.",
                "Take another port with --port; --port 0 takes a free one.",
            ),
            Entry("bad_address", "This machine has no such address.", "Use 127.0.0.1, 0.0.0.0 or one of its own."),
            Entry(
                "worker_ended",
                "A worker process of `syncline serve --workers` ended while it started.",
                "Its lines above say why; with --workers 1 they are easier to read.",
            ),
        ),
    ),
)

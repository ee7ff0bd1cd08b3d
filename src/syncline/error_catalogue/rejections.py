"""Why a change that a device made was refused: kept on the device until a person has seen it."""

from __future__ import annotations

from syncline.error_catalogue.shape import Entry, Section


def _refused(code: str, meaning: str, remedy: str) -> Entry:
    return Entry(code, meaning, remedy, exit=())


REJECTIONS: tuple[Section, ...] = (
    Section(
        "Rejections",
        "the person at the device, in `replica.rejections()`, and the office, in `syncline rejections`",
        (
            _refused("invalid", "The key is incomplete.", "Mend the app: every row needs its whole key."),
            _refused("read_only", "Only the office may change this table or row.", "Ask the office; hide the button."),
            _refused(
                "column",
                "A column is hidden, unknown, computed by the source, or not that of the table's key any more.",
                "Write the change anew, as the table is now; mend the app.",
            ),
            _refused(
                "scope",
                "The row is not, or would not be, among those that the user may change; or its parent is not there.",
                "Ask the office; or allow it with own_edit_may_leave = true in the scope.",
            ),
            _refused("key_exists", "An insert, and the key is taken.", "Use keys that nobody else makes: UUIDs."),
            _refused(
                "generated_key",
                "The source makes up the keys of this table.",
                "Try it again with a key from replica.new_key.",
            ),
            _refused("depends", "It stands on a row that was refused.", "Correct that one, then write this again."),
            _refused(
                "group", "Another change of the same transaction was refused.", "Look at the one with its own code."
            ),
            _refused("out_of_range", "The sum does not fit into 64 bits.", "Correct the number."),
            _refused("unique", "Another row has this value already.", "Choose another value."),
            _refused("not_null", "The source wants a value.", "Fill it in."),
            _refused("check", "A CHECK of the source refuses the value.", "Correct the value."),
            _refused(
                "foreign_key",
                "A row that it refers to does not exist, or others still refer to it.",
                "Write that row first, or those last.",
            ),
            _refused("type", "The value is not of the column's type.", "Correct the value."),
            _refused("rls", "The source's row security refuses it to its write_role.", "Ask the office."),
            _refused("refused", "A trigger of the company's refused it; its own words are the reason.", "As it says."),
        ),
    ),
)

"""`syncline conflicts`"""

from __future__ import annotations

from syncline.cli.office import office_app

COLUMNS = ("id", "at", "user", "table", "key", "column", "kind", "rule", "server", "device_value")

app = office_app(
    noun="conflict",
    help_text="List what two people changed at once.",
    columns=COLUMNS,
    read=lambda source, wanted: source.conflicts(wanted),
    example="Example: syncline conflicts --user nurse-17 --json",
)

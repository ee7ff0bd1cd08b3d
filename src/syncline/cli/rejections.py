"""`syncline rejections`"""

from __future__ import annotations

from syncline.cli.office import office_app

COLUMNS = ("id", "at", "user", "table", "key", "operation", "code", "reason")

app = office_app(
    noun="rejection",
    help_text="List changes that the server refused.",
    columns=COLUMNS,
    read=lambda source, wanted: source.rejections(wanted),
    example="Example: syncline rejections --device 7f… --json",
)

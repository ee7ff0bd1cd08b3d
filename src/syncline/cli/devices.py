"""`syncline devices`"""

from __future__ import annotations

from syncline.cli.options import CONFIG_DEFAULT, Config, Json
from syncline.cli.output import print_json, print_table
from syncline.cli.records import read_records

COLUMNS = ("device", "user", "seen_at", "last", "included", "rejected", "conflicts")


def devices(config: Config = CONFIG_DEFAULT, json: Json = False) -> None:
    """List the devices and their users.

    Per device: when it was last seen, its last change that arrived and the last one included in a checkpoint.
    """
    found = read_records(config, lambda source: source.devices())
    if json:
        print_json(found)
    else:
        print_table(found, COLUMNS, "No device has said hello yet.")

"""`syncline devices`"""

from __future__ import annotations

from syncline.cli.options import CONFIG_DEFAULT, Config, Json
from syncline.cli.output import print_json, print_table
from syncline.cli.records import read_records

COLUMNS = ("device", "user", "schema_version", "seen_at", "last", "included", "rejected", "conflicts", "replaces")


def devices(config: Config = CONFIG_DEFAULT, json: Json = False) -> None:
    """List the devices and their users.

    Per device: the schema version that its app declares, when it was last seen, its last change that arrived and the
    last one included in a checkpoint; and the device whose file it was, before that was restored or copied.
    """
    found = read_records(config, lambda source: source.devices())
    if json:
        print_json(found)
    else:
        for record in found:
            record["schema_version"] = record["details"].get("schema_version")
        print_table(found, COLUMNS, "No device has said hello yet.")

"""`syncline device rejections`"""

from __future__ import annotations

from syncline.cli.options import Json, ReplicaFile
from syncline.cli.output import print_json, print_table
from syncline.replica.status import read_rejections

COLUMNS = ("id", "at", "table", "key", "operation", "code")


def rejections(db: ReplicaFile, json: Json = False) -> None:
    """List changes that the server refused.

    With the reason; works offline.
    """
    found = read_rejections(db)
    if json:
        print_json(found)
    else:
        print_table(found, COLUMNS, "Nothing was refused.", below="reason")

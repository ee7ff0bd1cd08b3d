"""`syncline device status`"""

from __future__ import annotations

from syncline.cli.options import Json, ReplicaFile
from syncline.cli.output import print_json, print_line
from syncline.cli.receipt_text import receipt_line
from syncline.replica.receipt import Receipt
from syncline.replica.status import read_status


def status(db: ReplicaFile, json: Json = False) -> None:
    """Show where the replica stands.

    State, pending and refused changes, checkpoint, last sync, the agent that has it, and the receipt; works offline.
    """
    found = read_status(db)
    if json:
        print_json(found)
        return
    receipt = found.pop("receipt", None)
    for name, value in found.items():
        print_line(f"{name.replace('_', ' ')}: {value if value is not None else '-'}")
    if receipt is not None:
        print_line(f"receipt: {receipt_line(Receipt(**receipt))}")

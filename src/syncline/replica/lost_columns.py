"""What waiting changes wrote into columns that a new program no longer has: renamed, dropped, or hidden meanwhile."""

from __future__ import annotations

from syncline.model.program import ProgramTable
from syncline.replica.outbox import Waiting, load_waiting
from syncline.replica.store import Store
from syncline.values import Value


def find_lost(store: Store, old: ProgramTable, new: ProgramTable) -> list[tuple[Waiting, dict[str, Value]]]:
    """Each change that loses something by the new program, with the values that it wrote there.

    Deletions lose nothing; nor do inserts of NULL, or of what the office's database would not have taken from them.
    """
    gone = set(old.values) - set(new.values)
    if not gone:
        return []
    waiting = [load_waiting(old, row) for row in store.fetch(old, "read_outbox", (0,))]
    lost = [(mine, {column: mine.mutation.changes[column][0] for column in _written(mine, gone)}) for mine in waiting]
    return [(mine, values) for mine, values in lost if values]


def _written(mine: Waiting, gone: set[str]) -> list[str]:
    mutation, table = mine.mutation, mine.table
    named = [column for column in mutation.changes if column in gone]
    if mutation.operation == "U":
        return named
    left_out = {column for column in named if column in table.generated or table.policies[column] == "server"}
    return [column for column in named if column not in left_out and mutation.changes[column][0] is not None]

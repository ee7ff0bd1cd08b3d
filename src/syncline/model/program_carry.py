"""From one program to the next: what is carried over where a table's columns changed.

Rows, memberships, the outbox and what was sent are copied by the columns that both know, and masks are translated. The
office sends the table anew afterwards; until it comes the app sees the rows it had. What waiting changes wrote into
columns that are gone is the caller's to keep, before.
"""

from __future__ import annotations

from collections.abc import Sequence

from syncline.model.identifiers import PREFIX, quote, quote_list
from syncline.model.program import ProgramTable
from syncline.model.program_shape import MASK_BITS, joined
from syncline.model.program_statements import RECORD

OURS = ("held", "outbox", "sent")


def is_same_layout(old: ProgramTable, new: ProgramTable) -> bool:
    """Nothing of the table itself or of ours beside it changes."""
    return all(old.ddl[part] == new.ddl[part] for part in ("table", "ours")) and old.columns == new.columns


def can_carry(old: ProgramTable, new: ProgramTable) -> bool:
    """A table with another key is another table."""
    return old.key == new.key


def carry_name(kind: str, table: str) -> str:
    """Where contents wait while their table is made anew."""
    return quote(f"{PREFIX}carry_{kind}_{table}")


def build_set_aside(old: ProgramTable) -> list[str]:
    """Copies everything out of the old tables and drops them."""
    places = {"rows": quote(old.name), **{kind: quote(f"{PREFIX}{kind}_{old.name}") for kind in OURS}}
    statements = []
    for kind, place in places.items():
        statements.append(f"CREATE TABLE {carry_name(kind, old.name)} AS SELECT * FROM {place}")
        statements.append(f"DROP TABLE {place}")
    return [*statements, f"DROP TABLE {quote(f'{PREFIX}replaced_{old.name}')}"]


def build_take_back(old: ProgramTable, new: ProgramTable, own: Sequence[str] = ()) -> list[str]:
    """Copies it into the new tables, by the columns that both know. `own`: columns of the app's that both have."""
    shared = [*(column for column in new.columns if column in old.columns), *own]
    keys = [f"k{index}" for index in range(len(new.key))]
    held = ", ".join([*keys, "bucket"])
    name = new.name
    return [
        f"INSERT INTO {quote(name)} ({quote_list(shared)}) SELECT {quote_list(shared)} FROM {carry_name('rows', name)}",
        f"INSERT INTO {quote(f'{PREFIX}held_{name}')} ({held}) SELECT {held} FROM {carry_name('held', name)}",
        _mutations(old, new, "outbox", ["seq"]),
        _mutations(old, new, "sent", ["n", "epoch", "seq", "sent_at"]),
        *(f"DROP TABLE {carry_name(kind, name)}" for kind in ("rows", *OURS)),
    ]


def _mutations(old: ProgramTable, new: ProgramTable, kind: str, leading: list[str]) -> str:
    targets = [*leading, *RECORD, *(f"k{index}" for index in range(len(new.key)))]
    expressions = list(targets)
    words: list[list[str]] = [[] for _ in range(new.words)]
    for index, column in enumerate(new.values):
        if column not in old.values:
            continue
        before = old.values.index(column)
        targets += [f"o{index}", f"n{index}"]
        expressions += [f"o{before}", f"n{before}"]
        bit = f"((m{before // MASK_BITS} >> {before % MASK_BITS}) & 1)"
        words[index // MASK_BITS].append(f"{bit} * {1 << index % MASK_BITS}")
    targets += [f"m{number}" for number in range(new.words)]
    expressions += [joined("+", word) or "0" for word in words]
    into, place = quote(f"{PREFIX}{kind}_{new.name}"), carry_name(kind, new.name)
    return f"INSERT INTO {into} ({', '.join(targets)}) SELECT {', '.join(expressions)} FROM {place}"

"""Capture: the triggers that write every local change into the outbox, whoever makes it (PROTOCOL_MODEL rules 3 to 5).

An update stores a mask of the columns that really changed, with their old and new values; a changed key is a delete and
an insert; an insert carries all writable columns; a delete the whole old row. Numbers come from `syncline_state`, so a
rollback gives them back.

`INSERT OR REPLACE` deletes the row that is in its way without firing a delete trigger. So before each insert (and each
update of a key) the row that already has the new key is copied to `syncline_replaced_<table>`; the trigger after it
finds the copy only if the statement went through, and records an update. `INSERT OR IGNORE`, and an upsert that
turned into an update, leave a copy behind that nobody reads: the next insert of that key makes a new one first.
"""

from __future__ import annotations

from syncline import limits
from syncline.clock import NOW_US_SQL
from syncline.model.identifiers import PREFIX, literal, quote, quote_list
from syncline.model.program_shape import Shape, affinity, joined

_IDLE = "(SELECT applying FROM syncline_state) = 0"


def capture_triggers(shape: Shape) -> list[str]:
    """CREATE TRIGGER statements."""
    found = [_before_insert(shape), _after_insert(shape), _after_replace(shape), _after_delete(shape)]
    if shape.values:
        found.append(_after_update(shape))
    return [*found, _before_key_update(shape), _after_key_update(shape)]


def _trigger(shape: Shape, name: str, event: str, when: list[str], body: list[str]) -> str:
    title = quote(f"{PREFIX}{name}_{shape.name}")
    condition = " AND ".join(f"({part})" for part in [_IDLE, *when])
    statements = " ".join(f"{statement};" for statement in body)
    return f"CREATE TRIGGER {title} {event} ON {shape.table} WHEN {condition} BEGIN {statements} END"


# ---------------------------------------------------------------- what was replaced
def _stash(shape: Shape) -> list[str]:
    """Forget an older copy, and copy the row that has NEW's key now, if there is one."""
    replaced = shape.ours("replaced")
    mine = _key_is(shape, "NEW.")
    if shape.rowid_key:
        mine = f"{mine} OR NEW.{quote(shape.key[0])} < 0"  # -1 stands for a key that is still to be given
    copied = ", ".join((*shape.key_names, *shape.shadow("o")))
    return [
        f"DELETE FROM {replaced} WHERE {mine}",
        f"INSERT INTO {replaced} ({copied}) SELECT {quote_list((*shape.key, *shape.values), 't.')} "
        f"FROM {shape.table} AS t WHERE {_row_is(shape, 't.', 'NEW.')}",
    ]


def _occupied(shape: Shape) -> str:
    return (
        f"EXISTS (SELECT 1 FROM {shape.table} AS t WHERE {_row_is(shape, 't.', 'NEW.')}) "
        f"OR EXISTS (SELECT 1 FROM {shape.ours('replaced')})"
    )


def _before_insert(shape: Shape) -> str:
    return _trigger(shape, "probe_insert", "BEFORE INSERT", [_occupied(shape)], _stash(shape))


def _before_key_update(shape: Shape) -> str:
    event = f"BEFORE UPDATE{_of_key(shape)}"
    moved = f"NOT ({_same_row_key(shape)})"
    return _trigger(shape, "probe_update", event, [moved, _occupied(shape)], _stash(shape))


def _of_key(shape: Shape) -> str:
    """A key that is the rowid has other names too (`SET rowid = …`), which SQLite does not take for the column's."""
    return "" if shape.rowid_key else f" OF {quote_list(shape.key)}"


def _key_is(shape: Shape, row: str, prefix: str = "") -> str:
    """One of our tables' keys equals that of NEW or OLD."""
    return " AND ".join(
        f"{prefix}{name} = {row}{quote(column)}" for name, column in zip(shape.key_names, shape.key, strict=True)
    )


def _row_is(shape: Shape, left: str, right: str) -> str:
    return " AND ".join(f"{left}{quote(column)} = {right}{quote(column)}" for column in shape.key)


def _same_row_key(shape: Shape) -> str:
    differs = [shape.differs(column, f"OLD.{quote(column)}", f"NEW.{quote(column)}") for column in shape.key]
    return f"NOT ({' OR '.join(differs)})"


# ---------------------------------------------------------------- what is written down
def _number(condition: str = "") -> str:
    return f"UPDATE syncline_state SET seq = seq + 1{' WHERE ' + condition if condition else ''}"


def _record(
    shape: Shape,
    operation: str,
    row: str,
    masks: tuple[str, ...],
    values: dict[str, str],
    *,
    stands_on_insert: bool,
    source: str = "",
    condition: str = "",
    half: int = 0,
) -> str:
    """INSERT INTO the outbox. `row` is the prefix of the key; `values` maps a shadow column to its expression.

    `half`: 1 or 2 where a changed key is written as two mutations. They are one group, or a server that refuses the new
    key would have deleted the old row; and the insert names the delete that it stands for.
    """
    own_insert = f"SELECT max(seq) FROM {shape.ours('outbox')} WHERE op = 'I' AND {_key_is(shape, row)}"
    stands_on = f"coalesce(({own_insert}), 0)" if stands_on_insert else "0"
    if half == 2 and operation == "I":
        stands_on = "s.seq - 1"
    group = f"CASE WHEN s.grp = 0 THEN s.seq - {half - 1} ELSE s.grp END" if half else "s.grp"
    columns = ["seq", "op", "wall", "seen", "base", "included_then", "grp", "ins"]
    columns += [*shape.mask_names, *shape.key_names, *values]
    number = "s.seq" if row == "OLD." else _checked(shape, "s.seq")
    expressions = [number, f"'{operation}'", NOW_US_SQL, "s.seen", "s.base", "s.included", group, stands_on]
    expressions += [*masks, *(row + quote(column) for column in shape.key), *values.values()]
    where = f" WHERE {condition}" if condition else ""
    return (
        f"INSERT INTO {shape.ours('outbox')} ({', '.join(columns)}) "
        f"SELECT {', '.join(expressions)} FROM syncline_state AS s{source}{where}"
    )


def _insert(shape: Shape, condition: str = "", half: int = 0) -> list[str]:
    def term(index: int, column: str) -> str | None:
        if column in shape.generated:
            return None
        return f"NEW.{quote(column)} IS NOT NULL" if column in shape.partial else "1"

    values = {name: f"NEW.{quote(column)}" for name, column in zip(shape.shadow("n"), shape.values, strict=True)}
    record = _record(
        shape, "I", "NEW.", shape.masks(term), values, stands_on_insert=False, condition=condition, half=half
    )
    return [_number(condition), record]


def _delete(shape: Shape, half: int = 0) -> list[str]:
    def term(index: int, column: str) -> str | None:
        return None if column in shape.generated else "1"

    values = {name: f"OLD.{quote(column)}" for name, column in zip(shape.shadow("o"), shape.values, strict=True)}
    return [_number(), _record(shape, "D", "OLD.", shape.masks(term), values, stands_on_insert=True, half=half)]


def _changes(shape: Shape, old: dict[str, str]) -> tuple[tuple[str, ...], dict[str, str], str]:
    """Masks, shadow values and the condition "something changed", for old values given as expressions by column."""
    differs = {
        column: shape.differs(column, old[column], f"NEW.{quote(column)}")
        for column in shape.values
        if column not in shape.generated
    }
    values: dict[str, str] = {}
    for letter, side in (("o", old), ("n", {column: f"NEW.{quote(column)}" for column in shape.values})):
        for name, column in zip(shape.shadow(letter), shape.values, strict=True):
            if column in differs:
                values[name] = f"CASE WHEN {differs[column]} THEN {side[column]} END"
    masks = shape.masks(lambda index, column: differs.get(column))
    return masks, values, joined("OR", list(differs.values())) or "0"


def _update_of_replaced(shape: Shape, half: int = 0) -> list[str]:
    """The row that had NEW's key before became NEW: an update of the columns that differ."""
    old = {column: f"r.{name}" for name, column in zip(shape.shadow("o"), shape.values, strict=True)}
    masks, values, changed = _changes(shape, old)
    replaced = shape.ours("replaced")
    mine = _key_is(shape, "NEW.", "r.")
    somewhere = f"EXISTS (SELECT 1 FROM {replaced} AS r WHERE {mine} AND ({changed}))"
    record = _record(
        shape,
        "U",
        "NEW.",
        masks,
        values,
        stands_on_insert=True,
        source=f" JOIN {replaced} AS r ON {mine}",
        condition=changed,
        half=half,
    )
    return [*_keep_generated(shape, mine), _number(somewhere), record]


def _keep_generated(shape: Shape, mine: str) -> list[str]:
    """A replaced row keeps the values that only the source computes, until the source sends others."""
    if not shape.generated:
        return []
    copy = f"FROM {shape.ours('replaced')} AS r WHERE {mine}"
    sets = [
        f"{quote(column)} = (SELECT r.{name} {copy})"
        for name, column in zip(shape.shadow("o"), shape.values, strict=True)
        if column in shape.generated
    ]
    own_row = f"{_row_is(shape, '', 'NEW.')} AND EXISTS (SELECT 1 {copy})"
    return [
        "UPDATE syncline_state SET applying = 1",
        f"UPDATE {shape.table} SET {', '.join(sets)} WHERE {own_row}",
        "UPDATE syncline_state SET applying = 0",
    ]


def _was_replaced(shape: Shape) -> str:
    return f"EXISTS (SELECT 1 FROM {shape.ours('replaced')} AS r WHERE {_key_is(shape, 'NEW.', 'r.')})"


def _after_insert(shape: Shape) -> str:
    return _trigger(shape, "capture_insert", "AFTER INSERT", [f"NOT {_was_replaced(shape)}"], _insert(shape))


def _after_replace(shape: Shape) -> str:
    """Leaves the copy where it is: in whatever order the two run, exactly one of them sees its condition hold."""
    return _trigger(shape, "capture_replace", "AFTER INSERT", [_was_replaced(shape)], _update_of_replaced(shape))


def _after_update(shape: Shape) -> str:
    old = {column: f"OLD.{quote(column)}" for column in shape.values}
    masks, values, changed = _changes(shape, old)
    computed = [shape.differs(column, f"OLD.{quote(column)}", f"NEW.{quote(column)}") for column in shape.generated]
    body = _refuse_generated(shape, computed)
    if computed:
        changed = f"({changed}) OR ({joined('OR', computed)})"
    body += [_number(), _record(shape, "U", "NEW.", masks, values, stands_on_insert=True)]
    return _trigger(shape, "capture_update", "AFTER UPDATE", [_same_row_key(shape), changed], body)


def _after_key_update(shape: Shape) -> str:
    event = f"AFTER UPDATE{_of_key(shape)}"
    arrival = [*_insert(shape, f"NOT {_was_replaced(shape)}", half=2), *_update_of_replaced(shape, half=2)]
    body = [*_delete(shape, half=1), *arrival]
    return _trigger(shape, "capture_key", event, [f"NOT ({_same_row_key(shape)})"], body)


def _after_delete(shape: Shape) -> str:
    forget = f"DELETE FROM {shape.ours('replaced')} WHERE {_key_is(shape, 'OLD.')}"
    return _trigger(shape, "capture_delete", "AFTER DELETE", [], [*_delete(shape), forget])


# ---------------------------------------------------------------- what cannot be written down
def _checked(shape: Shape, value: str) -> str:
    """SQL: the value; or an error where NEW is a row without a key, which could never be found again, or one too large
    to be sent, which would hold up everything behind it."""
    cases = []
    if not shape.rowid_key:
        null = " OR ".join(f"NEW.{quote(column)} IS NULL" for column in shape.key)
        text = f"syncline: a row of {shape.name} needs a value in its key ({', '.join(shape.key)})"
        cases.append(f"WHEN {null} THEN RAISE(ABORT, {literal(text)})")
    long = [c for c in shape.columns if affinity(shape.types[c]) in ("TEXT", "BLOB", "NUMERIC")]
    if long:
        # A character has four bytes at most: only where one value could matter are the bytes of all of them counted.
        suspect = limits.VALUE_BYTES_MAX // (4 * len(long))
        some = joined("OR", [f"length(NEW.{quote(column)}) > {suspect}" for column in long])
        size = joined("+", [f"coalesce(length(CAST(NEW.{quote(column)} AS BLOB)), 0)" for column in long])
        text = f"syncline: a row of {shape.name} is above the limit of {limits.VALUE_BYTES_MAX} bytes"
        too_large = f"({some}) AND ({size}) > {limits.VALUE_BYTES_MAX}"
        cases.append(f"WHEN {too_large} THEN RAISE(ABORT, {literal(text)})")
    return f"CASE {' '.join(cases)} ELSE {value} END" if cases else value


def _refuse_generated(shape: Shape, computed: list[str]) -> list[str]:
    if not computed:
        return []
    text = f"syncline: {', '.join(sorted(shape.generated))} of {shape.name}: the source computes it, it cannot be set"
    return [f"SELECT RAISE(ABORT, {literal(text)}) WHERE {joined('OR', computed)}"]

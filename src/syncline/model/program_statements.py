"""The named statements of one table: everything that a client does to rows, as SQL.

Parameters are numbered. A row is bound in layout order, a key in the order of the key's columns; `n` stands for the
parameter after them.
"""

from __future__ import annotations

from syncline.model.identifiers import quote, quote_list
from syncline.model.program_shape import Shape, joined

RECORD = ("id", "op", "wall", "seen", "base", "included_then", "grp", "ins")
"""What an outbox row says besides its number, mask, key and values."""


def table_statements(shape: Shape) -> dict[str, str]:
    """name -> SQL; the names are the contract with clients."""
    parts = (_rows, _memberships, _looked_at, _replay, _outbox, _sent)
    return {name: sql for part in parts for name, sql in part(shape).items()}


def _marks(count: int, first: int = 1) -> str:
    return ", ".join(f"?{number}" for number in range(first, first + count))


def _key_marks(shape: Shape, names: tuple[str, ...]) -> str:
    return " AND ".join(f"{name} = ?{number}" for number, name in enumerate(names, 1))


def _ours(shape: Shape) -> str:
    return ", ".join(shape.key_names)


def _same(shape: Shape, left: str, right: str) -> str:
    """Keys of two of our tables."""
    return " AND ".join(f"{left}.{name} = {right}.{name}" for name in shape.key_names)


def _rows(shape: Shape) -> dict[str, str]:
    own_key = _key_marks(shape, tuple(quote(column) for column in shape.key))
    sets = ", ".join(f"{quote(column)} = excluded.{quote(column)}" for column in shape.values)
    upsert = f"DO UPDATE SET {sets}" if sets else "DO NOTHING"
    return {
        "upsert": f"INSERT INTO {shape.table} ({quote_list(shape.columns)}) VALUES ({_marks(len(shape.columns))}) "
        f"ON CONFLICT ({quote_list(shape.key)}) {upsert}",
        "delete": f"DELETE FROM {shape.table} WHERE {own_key}",
        "any_row": f"SELECT EXISTS (SELECT 1 FROM {shape.table})",
        "empty": f"DELETE FROM {shape.table}",
        "empty_replaced": f"DELETE FROM {shape.ours('replaced')}",
    }


def _memberships(shape: Shape) -> dict[str, str]:
    held, keys = shape.ours("held"), _key_marks(shape, shape.key_names)
    bucket = len(shape.key) + 1
    return {
        "hold": f"INSERT OR IGNORE INTO {held} ({_ours(shape)}, bucket) VALUES ({_marks(bucket)})",
        "let_go": f"DELETE FROM {held} WHERE {keys} AND bucket = ?{bucket}",
        "let_go_key": f"DELETE FROM {held} WHERE {keys}",
        "let_go_bucket": f"DELETE FROM {held} WHERE bucket = ?1",
        "let_go_all": f"DELETE FROM {held}",
        "is_held": f"SELECT EXISTS (SELECT 1 FROM {held} WHERE {keys})",
        "held_rows": f"SELECT h.bucket, {quote_list(shape.columns, 't.')} FROM {shape.table} AS t "
        f"LEFT JOIN {held} AS h ON {shape.same_key('t.', 'h.')}",
        "any_missing": f"SELECT EXISTS (SELECT 1 FROM {held} AS h WHERE NOT EXISTS (SELECT 1 FROM {shape.table} AS t "
        f"WHERE {shape.same_key('t.', 'h.')}) AND NOT EXISTS (SELECT 1 FROM {shape.ours('outbox')} AS o "
        f"WHERE {_same(shape, 'o', 'h')}))",
    }


def _looked_at(shape: Shape) -> dict[str, str]:
    """Keys that one apply must look at once more, when all memberships are known."""
    look, held, outbox = shape.ours("look"), shape.ours("held"), shape.ours("outbox")
    into = f"INSERT OR IGNORE INTO temp.{look} ({_ours(shape)})"
    lost = (
        f"SELECT {', '.join(f'l.{name}' for name in shape.key_names)} FROM temp.{look} AS l "
        f"WHERE NOT EXISTS (SELECT 1 FROM {held} AS h WHERE {_same(shape, 'h', 'l')})"
    )
    return {
        "look_key": f"{into} VALUES ({_marks(len(shape.key))})",
        "look_bucket": f"{into} SELECT {_ours(shape)} FROM {held} WHERE bucket = ?1",
        "look_all": f"{into} SELECT {quote_list(shape.key)} FROM {shape.table}",
        "look_unheld": f"{into} SELECT {quote_list(shape.key, 't.')} FROM {shape.table} AS t "
        f"WHERE NOT EXISTS (SELECT 1 FROM {held} AS h WHERE {shape.same_key('t.', 'h.')})",
        "look_included": f"{into} SELECT {_ours(shape)} FROM {outbox} WHERE seq <= ?1",
        "any_looked": f"SELECT EXISTS (SELECT 1 FROM temp.{look})",
        "looked_pending": f"SELECT DISTINCT {', '.join(f'o.{name}' for name in shape.key_names)} FROM {outbox} AS o "
        f"CROSS JOIN temp.{look} AS l WHERE {_same(shape, 'o', 'l')} AND o.seq > ?1",
        "lost": lost,
        "delete_lost": f"DELETE FROM {shape.table} WHERE ({quote_list(shape.key)}) IN ({lost} "
        f"AND ({', '.join(f'l.{name}' for name in shape.key_names)}) NOT IN "
        f"(SELECT {_ours(shape)} FROM {outbox} WHERE seq > ?1))",
        "erase_lost_sent": f"DELETE FROM {shape.ours('sent')} WHERE ({_ours(shape)}) IN ({lost})",
        "look_clear": f"DELETE FROM temp.{look}",
    }


def _replay(shape: Shape) -> dict[str, str]:
    """?1 is the number of the mutation that is made again on top of what the server sent."""
    outbox = shape.ours("outbox")
    columns = quote_list((*shape.key, *shape.values))
    new = ", ".join(f"o.{name}" for name in (*shape.key_names, *shape.shadow("n")))
    put, kept = [], []
    for index, column in enumerate(shape.values):
        own = quote(column)
        rebased = f"{_number(f't.{own}')} + ({_number(f'o.n{index}')} - {_number(f'o.o{index}')})"
        value = rebased if column in shape.adds else f"o.n{index}"
        put.append(f"CASE WHEN {shape.has_bit(index, 'o.')} THEN {value} ELSE t.{own} END")
        kept.append(f"CASE WHEN {shape.has_bit(index, 'o.')} THEN o.n{index} ELSE t.{own} END")
    sets = ", ".join(f"{quote(column)} = excluded.{quote(column)}" for column in shape.values)
    upsert = f"ON CONFLICT ({quote_list(shape.key)}) " + (f"DO UPDATE SET {sets}" if sets else "DO NOTHING")
    keys = ", ".join(f"o.{name}" for name in shape.key_names)
    joined = f"FROM {outbox} AS o JOIN {shape.table} AS t ON {shape.same_key('t.', 'o.')} WHERE o.seq = ?1"
    into = f"INSERT INTO {shape.table} ({columns})"
    return {
        "replay_insert": f"{into} SELECT {new} FROM {outbox} AS o WHERE o.seq = ?1 "
        f"AND NOT EXISTS (SELECT 1 FROM {shape.table} AS t WHERE {shape.same_key('t.', 'o.')})",
        "replay_insert_over": f"{into} SELECT {', '.join([keys, *kept])} {joined} {upsert}",
        "replay_update": f"{into} SELECT {', '.join([keys, *put])} {joined} {upsert}",
        "replay_delete": f"DELETE FROM {shape.table} WHERE ({quote_list(shape.key)}) IN "
        f"(SELECT {_ours(shape)} FROM {outbox} WHERE seq = ?1)",
    }


def _number(value: str) -> str:
    """What the merge policy `add` counts with: anything but a number is 0."""
    return f"CASE WHEN typeof({value}) IN ('integer', 'real') THEN {value} ELSE 0 END"


def _mutation_columns(shape: Shape) -> str:
    return ", ".join((*RECORD, *shape.mask_names, *shape.key_names, *shape.shadow("o"), *shape.shadow("n")))


def _outbox(shape: Shape) -> dict[str, str]:
    outbox = shape.ours("outbox")
    columns = _mutation_columns(shape)
    values = (*shape.shadow("o"), *shape.shadow("n"))
    size = joined("+", [f"coalesce(length(CAST({name} AS BLOB)), 0)" for name in values])
    return {
        "read_outbox": f"SELECT seq, {columns} FROM {outbox} WHERE seq > ?1 ORDER BY seq",
        "read_mutation": f"SELECT seq, {columns} FROM {outbox} WHERE seq = ?1",
        "any_pending": f"SELECT EXISTS (SELECT 1 FROM {outbox})",
        "count_pending": f"SELECT count(*), min(included_then) FROM {outbox} WHERE seq > ?1",
        "pending": f"SELECT seq, op, {_ours(shape)} FROM {outbox} WHERE seq > ?1 ORDER BY seq",
        "group_size": f"SELECT count(*), coalesce(sum({size or '0'}), 0) FROM {outbox} WHERE seq > ?1",
        "forget": f"DELETE FROM {outbox} WHERE seq <= ?1",
        "forget_one": f"DELETE FROM {outbox} WHERE seq = ?1",
        "empty_outbox": f"DELETE FROM {outbox}",
    }


def _sent(shape: Shape) -> dict[str, str]:
    """Acknowledged mutations, kept for a server that is restored from a backup; and giving everything new numbers."""
    outbox, sent, held = shape.ours("outbox"), shape.ours("sent"), shape.ours("held")
    columns = _mutation_columns(shape)
    kept = ", ".join(f"o.{name}" for name in columns.split(", "))
    fresh = {"included_then": "0", "grp": _group("o"), "ins": _stands_on("o")}
    moved = ", ".join(fresh.get(name, f"o.{name}") for name in columns.split(", "))
    return {
        "move_to_sent": f"INSERT INTO {sent} (epoch, seq, sent_at, {columns}) SELECT ?2, o.seq, ?3, {kept} "
        f"FROM {outbox} AS o WHERE o.seq <= ?1 AND EXISTS (SELECT 1 FROM {held} AS h WHERE {_same(shape, 'h', 'o')})",
        "purge_sent": f"DELETE FROM {sent} WHERE sent_at < ?1",
        "empty_sent": f"DELETE FROM {sent}",
        "sent_numbers": f"SELECT epoch, seq FROM {sent}",
        "outbox_numbers": f"SELECT seq FROM {outbox}",
        "reoffer_sent": f"INSERT INTO {outbox} (seq, {columns}) SELECT r.number, {moved} FROM {sent} AS o "
        "JOIN temp.syncline_renumber AS r ON r.epoch = o.epoch AND r.seq = o.seq",
        # By way of negative numbers: a new number may still be another row's old one.
        "renumber": f"UPDATE {outbox} SET included_then = 0, grp = {_group(outbox, '?1')}, "
        f"ins = {_stands_on(outbox, '?1')}, "
        f"seq = -(SELECT r.number FROM temp.syncline_renumber AS r WHERE r.epoch = ?1 AND r.seq = {outbox}.seq)",
        "renumber_done": f"UPDATE {outbox} SET seq = -seq WHERE seq < 0",
    }


def _group(row: str, epoch: str = "") -> str:
    """A marked group bears the new number of its first mutation that is still here."""
    return (
        f"CASE WHEN {row}.grp = 0 THEN 0 ELSE (SELECT g.number FROM temp.syncline_renumber AS g "
        f"WHERE g.epoch = {epoch or row + '.epoch'} AND g.seq >= {row}.grp ORDER BY g.seq LIMIT 1) END"
    )


def _stands_on(row: str, epoch: str = "") -> str:
    return (
        f"coalesce((SELECT i.number FROM temp.syncline_renumber AS i "
        f"WHERE i.epoch = {epoch or row + '.epoch'} AND i.seq = {row}.ins), 0)"
    )


RENUMBER_TABLE = (
    "CREATE TEMP TABLE syncline_renumber (number INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, "
    "UNIQUE (epoch, seq))"
)

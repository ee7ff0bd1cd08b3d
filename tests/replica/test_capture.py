"""Capture on the device (rules 3 to 5): whatever an app does in SQL, the outbox replayed over the old rows gives the new."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.replica.messages import Bench, put

from syncline.model.schema import Column, Table
from syncline.replica.file import ReplicaFile

SERVER = (1, "p-1", "planned", 5, "n")


def test_an_update_names_the_columns_that_really_changed(bench: Bench, app: sqlite3.Connection) -> None:
    bench.cut(put("visits", SERVER))
    app.execute("UPDATE visits SET status = 'done', patient = 'p-1', note = 'n'")
    app.execute("UPDATE visits SET status = 'done'")
    assert bench.brief() == [(1, "U", 1, {"status": ("done", "planned")})]


def test_equal_for_sqlite_is_not_equal_for_us(bench: Bench, app: sqlite3.Connection) -> None:
    """P16: 1 and 1.0 in a column without a type are two values."""
    bench.cut(put("visits", (1, "p", "s", 0, 1)))
    app.execute("UPDATE visits SET note = 1.0")
    app.execute("UPDATE visits SET note = '1.0'")
    app.execute("UPDATE visits SET note = x'312e30'")
    changes = [each[-1]["note"] for each in bench.brief()]
    assert changes == [(["f", "1.0"], 1), ("1.0", ["f", "1.0"]), (["b", "MS4w"], "1.0")]


def test_insert_and_delete_carry_the_whole_row(bench: Bench, app: sqlite3.Connection) -> None:
    app.execute("INSERT INTO visits (id, patient) VALUES (7, 'p')")
    app.execute("DELETE FROM visits")
    row = {"patient": "p", "status": "new", "count": None, "note": None}
    assert bench.brief() == [
        (1, "I", 7, {column: (value, None) for column, value in row.items()}),
        (2, "D", 7, {column: (None, value) for column, value in row.items()}),
    ]
    assert [each["insert"] for each in bench.mutations()] == [0, 1]


def test_a_changed_key_is_a_delete_and_an_insert(bench: Bench, app: sqlite3.Connection) -> None:
    bench.cut(put("lines", ("a", 1, "x")))
    app.execute("UPDATE lines SET b = 2, label = 'y'")
    assert bench.brief() == [(1, "D", "a", 1, {"label": (None, "x")}), (2, "I", "a", 2, {"label": ("y", None)})]


def test_changes_of_an_own_insert_say_what_they_stand_on(bench: Bench, app: sqlite3.Connection) -> None:
    app.execute("INSERT INTO visits (id) VALUES (1)")
    app.execute("UPDATE visits SET count = 1")
    app.execute("INSERT OR REPLACE INTO visits (id, count) VALUES (1, 2)")
    assert [each["insert"] for each in bench.mutations()] == [0, 1, 1]


def test_a_rollback_gives_its_numbers_back(bench: Bench, app: sqlite3.Connection) -> None:
    """P4: a row and its outbox entry, or neither."""
    app.execute("BEGIN")
    app.execute("INSERT INTO visits (id) VALUES (1)")
    app.execute("ROLLBACK")
    app.execute("INSERT INTO lines VALUES ('a', 1, 'x')")
    assert [each[:3] for each in bench.brief()] == [(1, "I", "a")]


def test_replace_is_an_update_of_what_differs(bench: Bench, app: sqlite3.Connection) -> None:
    bench.cut(put("visits", SERVER))
    app.execute("REPLACE INTO visits VALUES (1, 'p-1', 'done', 5, 'n')")
    app.execute("REPLACE INTO visits VALUES (1, 'p-1', 'done', 5, 'n')")
    assert bench.brief() == [(1, "U", 1, {"status": ("done", "planned")})]


def test_replace_with_recursive_triggers_is_a_delete_and_an_insert(bench: Bench, app: sqlite3.Connection) -> None:
    app.execute("PRAGMA recursive_triggers = ON")
    bench.cut(put("visits", SERVER))
    app.execute("REPLACE INTO visits VALUES (1, 'p-1', 'done', 5, 'n')")
    assert [each[1] for each in bench.brief()] == ["D", "I"]


def test_ignored_and_upserted_rows_leave_nothing_wrong_behind(bench: Bench, app: sqlite3.Connection) -> None:
    """The copy that a probe makes is not taken for a replaced row later."""
    bench.cut(put("visits", SERVER))
    app.execute("INSERT OR IGNORE INTO visits (id, patient) VALUES (1, 'other')")
    app.execute("INSERT INTO visits (id, count) VALUES (1, 6) ON CONFLICT DO UPDATE SET count = excluded.count")
    app.execute("DELETE FROM visits")
    app.execute("INSERT INTO visits (id, patient) VALUES (1, 'again')")
    assert [each[1] for each in bench.brief()] == ["U", "D", "I"]
    app.execute("DELETE FROM visits")
    app.execute("INSERT INTO visits (patient) VALUES ('a key of its own')")
    assert [each[1] for each in bench.brief()][3:] == ["D", "I"]


def test_update_or_replace_takes_another_rows_key(bench: Bench, app: sqlite3.Connection) -> None:
    bench.cut(put("visits", SERVER, (2, "p-2", "planned", 5, "n")))
    app.execute("UPDATE OR REPLACE visits SET id = 2 WHERE id = 1")
    assert [each[:3] for each in bench.brief()] == [(1, "D", 1), (2, "U", 2)]
    assert bench.brief()[1][3] == {"patient": ("p-1", "p-2")}


def test_the_key_by_its_other_name(bench: Bench, app: sqlite3.Connection) -> None:
    bench.cut(put("visits", SERVER, (3, "p-3", "planned", 5, "n")))
    app.execute("UPDATE visits SET rowid = 2 WHERE id = 1")
    app.execute(
        "INSERT OR REPLACE INTO visits (_rowid_, patient, status, count, note) VALUES (3, 'x', 'planned', 5, 'n')"
    )
    assert [each[:3] for each in bench.brief()] == [(1, "D", 1), (2, "I", 2), (3, "U", 3)]


def test_a_row_without_a_key_is_refused(bench: Bench, app: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="needs a value in its key"):
        app.execute("INSERT INTO lines VALUES ('a', NULL, 'x')")
    assert bench.file.state().seq == 0


def test_a_row_above_the_limit_is_refused(bench: Bench, app: sqlite3.Connection) -> None:
    """It could never be sent, and nothing behind it."""
    with pytest.raises(sqlite3.IntegrityError, match="above the limit"):
        app.execute("INSERT INTO visits (id, note) VALUES (1, zeroblob(5000000))")


GENERATED = Table(
    "orders",
    (Column("id", "INTEGER"), Column("price", "REAL"), Column("total", "REAL", generated=True)),
    ("id",),
    generated_key=True,
)


def test_computed_columns_cannot_be_set_and_survive_replace(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(GENERATED)
    bench.cut(put("orders", (1, 2.0, 4.0)))
    with closing(sqlite3.connect(bench.file.path, isolation_level=None)) as app:
        with pytest.raises(sqlite3.IntegrityError, match="cannot be set"):
            app.execute("UPDATE orders SET total = 5")
        app.execute("REPLACE INTO orders (id, price) VALUES (1, 2.0)")
        app.execute("UPDATE orders SET price = 3")
    assert bench.brief() == [(1, "U", 1, {"price": (["f", "3.0"], ["f", "2.0"])})]
    assert bench.rows("orders") == [(1, 3.0, 4.0)]


@pytest.mark.parametrize("name", ["START", 'odd "name"', "it's; DROP", "émoji 🩺", "select", "rowid", "a.b[c]"])
def test_any_legal_name(name: str, make_bench: Callable[..., Bench]) -> None:
    table = Table(name, (Column(name, "TEXT"), Column(f"{name} value", name)), (name,))
    bench = make_bench(table)
    quoted = '"' + name.replace('"', '""') + '"'
    value = '"' + f"{name} value".replace('"', '""') + '"'
    bench.cut(put(name, ("k", "v")))
    with closing(sqlite3.connect(bench.file.path, isolation_level=None)) as app:
        app.execute(f"UPDATE {quoted} SET {value} = 'w'")
        app.execute(f"REPLACE INTO {quoted} VALUES ('k', 'z'), ('l', 'm')")
        app.execute(f"DELETE FROM {quoted} WHERE {quoted}.{quoted} = 'l'")
        assert app.execute("SELECT table_name FROM syncline_pending").fetchall() == [(name,)] * 4
    assert [each[1] for each in bench.brief()] == ["U", "U", "I", "D"]


def test_wide_tables(make_bench: Callable[..., Bench]) -> None:
    """Masks of several words."""
    table = Table("wide", tuple(Column(f"c{number}", "INTEGER") for number in range(900)), ("c0",))
    bench = make_bench(table, wide={"c200": "add"})
    bench.cut(put("wide", tuple(range(900))))
    with closing(sqlite3.connect(bench.file.path, isolation_level=None)) as app:
        app.execute("UPDATE wide SET c1 = -1, c60 = -60, c61 = -61, c200 = 201, c300 = -300")
    changes = bench.brief()[0][-1]
    assert changes == {"c1": (-1, 1), "c60": (-60, 60), "c61": (-61, 61), "c200": (201, 200), "c300": (-300, 300)}
    bench.cut(put("wide", tuple(number * 10 for number in range(900))))
    row = bench.rows("wide")[0]
    assert (row[1], row[2], row[60], row[61], row[200], row[300]) == (-1, 20, -60, -61, 2001, -300)


# ---------------------------------------------------------------- any sequence of statements
VALUES = st.one_of(
    st.none(),
    st.integers(-3, 3),
    st.sampled_from([2**63 - 1, -(2**63), 1.0, 0.1 + 0.2, 1e300, -2.5]),
    st.sampled_from(["", "a", "A", "é🩺", "1", "1.0", "a\0b"]),
    st.sampled_from([b"", b"a", b"\0\xff"]),
)
KEYS = st.integers(1, 4)
STATEMENTS = st.one_of(
    st.tuples(st.just("INSERT INTO t (id, a, b) VALUES (?1, ?2, ?3)"), KEYS, VALUES, VALUES),
    st.tuples(st.just("INSERT INTO t (a, b) VALUES (?2, ?3)"), KEYS, VALUES, VALUES),
    st.tuples(st.just("INSERT OR IGNORE INTO t (id, a, b) VALUES (?1, ?2, ?3)"), KEYS, VALUES, VALUES),
    st.tuples(st.just("INSERT OR FAIL INTO t (id, a) VALUES (?1 + 1, ?2), (?1, ?3)"), KEYS, VALUES, VALUES),
    st.tuples(st.just("REPLACE INTO t (id, a, b) VALUES (?1, ?2, ?3), (?1, ?3, ?2)"), KEYS, VALUES, VALUES),
    st.tuples(
        st.just("INSERT INTO t (id, a) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET a = excluded.a, b = ?3"),
        *(KEYS, VALUES, VALUES),
    ),
    st.tuples(st.just("INSERT INTO t (id, a) VALUES (?1, ?2) ON CONFLICT DO NOTHING"), KEYS, VALUES, VALUES),
    st.tuples(st.just("INSERT OR REPLACE INTO t SELECT id + 1, b, a, c FROM t WHERE id >= ?1"), KEYS, VALUES, VALUES),
    st.tuples(st.just("UPDATE t SET a = ?2 WHERE id = ?1"), KEYS, VALUES, VALUES),
    st.tuples(st.just("UPDATE t SET a = ?2, b = ?3, c = c + 1"), KEYS, VALUES, VALUES),
    st.tuples(st.just("UPDATE t SET id = id + 10 WHERE id = ?1"), KEYS, VALUES, VALUES),
    st.tuples(st.just("UPDATE OR REPLACE t SET id = ?1, a = ?2 WHERE id = ?1 + 1"), KEYS, VALUES, VALUES),
    st.tuples(st.just("UPDATE OR REPLACE t SET id = ?1 WHERE id > ?1"), KEYS, VALUES, VALUES),
    st.tuples(st.just("UPDATE OR IGNORE t SET id = ?1, b = ?3"), KEYS, VALUES, VALUES),
    st.tuples(st.just("DELETE FROM t WHERE id = ?1"), KEYS, VALUES, VALUES),
    st.tuples(st.just("BEGIN"), KEYS, VALUES, VALUES),
    st.tuples(st.just("ROLLBACK"), KEYS, VALUES, VALUES),
    st.tuples(st.just("COMMIT"), KEYS, VALUES, VALUES),
)
ANY = Table(
    "t",
    (Column("id", "INTEGER"), Column("a", ""), Column("b", "TEXT"), Column("c", "INTEGER", default="0")),
    ("id",),
    generated_key=True,
)


def replayed(before: list[tuple[Any, ...]], bench: Bench) -> list[tuple[Any, ...]]:
    """The old rows with the outbox made again on top, checking what each mutation says was there before."""
    rows = {row[0]: dict(zip("abc", row[1:], strict=True)) for row in before}
    bench.file.offer_again()
    from syncline.replica.outbox import build_upload

    upload = build_upload(bench.file.store, 0, 0, None)
    numbers = []
    for mutation in (each for group in upload.groups for each in group.mutations) if upload else ():
        (key,) = mutation.key
        numbers.append(mutation.number)
        was = {column: before for column, (_, before) in mutation.changes.items()}
        new = {column: after for column, (after, _) in mutation.changes.items()}
        if mutation.operation == "I":
            assert key not in rows and set(new) == {"a", "b", "c"}
            rows[key] = new
        elif mutation.operation == "D":
            assert identical(rows.pop(key), was)
        else:
            assert new and identical({column: rows[key][column] for column in was}, was)
            assert not any(identical({"x": new[column]}, {"x": was[column]}) for column in new)
            rows[key].update(new)
    assert numbers == list(range(1, len(numbers) + 1))
    return [(key, *rows[key].values()) for key in sorted(rows)]


def identical(one: Any, other: Any) -> bool:
    """The same values of the same types."""
    return repr(one) == repr(other)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STATEMENTS, max_size=14), st.booleans())
def test_the_outbox_replayed_gives_the_rows(
    tmp_path_factory: pytest.TempPathFactory, statements: list[tuple[Any, ...]], recursive: bool
) -> None:
    """P4, over any SQL."""
    from tests.replica.messages import plan_of

    from syncline.model.program import build_program

    file = ReplicaFile(tmp_path_factory.mktemp("capture") / "replica.db")
    try:
        bench = Bench(file, build_program(plan_of(ANY)))
        bench.hello()
        before = [(1, "x", "y", 0), (2, 1, None, 1), (3, b"z", "", 2)]
        bench.cut(put("t", *before))
        with closing(sqlite3.connect(file.path, isolation_level=None)) as app:
            app.execute(f"PRAGMA recursive_triggers = {int(recursive)}")
            for sql, *parameters in statements:
                try:
                    used = max([int(word) for word in "123" if f"?{word}" in sql], default=0)
                    app.execute(sql, parameters[:used])
                except (sqlite3.IntegrityError, sqlite3.OperationalError):
                    pass
            if app.in_transaction:
                app.execute("COMMIT")
        assert identical(replayed(before, bench), bench.rows("t"))
    finally:
        file.close()

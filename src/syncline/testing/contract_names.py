"""Any legal name of a table or column, all the way from the company's SQL to a device's rows and back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.testing.contract_lab import Company, ContractFixtures
from syncline.testing.dialect import Dialect

LONG = "a column of the ward's own system, " * 5
ODD_NAMES = (
    "MixedCase",
    "two words",
    "it's",
    'so "called"',
    "[bracketed]",
    "`back`tick`",
    "semi;colon -- /* not a comment",
    "new\nline\ttab",
    "SELECT",
    "ORDER",
    "GROUP",
    "INDEX",
    "Überweisung",
    "診療",
    "🩺",
    "?1",
    ":sub",
    "100%_",
    "back\\slash",
    "k_1",
    "o_1",
    "m_0",
    "j_1",
    "id",
    "op",
    "stamp",
    "writer",
    "place",
    "bucket",
    "rowid",
    "oid",
    "_rowid_",
    "new",
    "old",
    "t",
    "c",
    "main",
    "temp",
    "key",
    "seq",
    "n",
    "txid",
    "stamp_us",
    "old_rows",
    "own",
    "news",
    "list_1",
    "places",
)
"""What looks like ours, like SQL, or like nothing at all."""


class Odd:
    """Three tables, a root, its children and the assignments, all of whose names are `name` or nearly so."""

    def __init__(self, dialect: Dialect, name: str) -> None:
        q = dialect.quote
        self.name = name
        self.root, self.child, self.grants = name, f"{name}2", f"{name}_3"
        self.key, self.site, self.join, self.room, self.note = name, f"{name}x", f"{name}_2", f"{name}3", f"{name}."
        key, site, join, room, note = map(q, (self.key, self.site, self.join, self.room, self.note))
        self.key_sql, self.site_sql, self.join_sql, self.room_sql, self.note_sql = key, site, join, room, note
        self.root_sql, self.child_sql, self.grants_sql = q(self.root), q(self.child), q(self.grants)
        self.statements = (
            f"CREATE TABLE {self.root_sql}({key} VARCHAR(20) PRIMARY KEY, {note} VARCHAR(80))",
            f"CREATE TABLE {self.child_sql}({key} INTEGER, {site} VARCHAR(20), {join} VARCHAR(20), {room} VARCHAR(20), "
            f"{note} VARCHAR(80), PRIMARY KEY({key}, {site}), UNIQUE({room}))",
            f"CREATE INDEX {q(name + ' by join')} ON {self.child_sql}({join})",
            f"CREATE TABLE {self.grants_sql}({key} VARCHAR(20), {join} VARCHAR(20))",
            f"INSERT INTO {self.root_sql} VALUES('ada', 'Ada'), ('bo', 'Bo')",
            f"INSERT INTO {self.child_sql} VALUES(1, 'x', 'ada', 'r1', 'a'), (2, 'x', 'bo', 'r2', 'b')",
            f"INSERT INTO {self.grants_sql} VALUES('ann', 'ada'), ('ben', 'bo')",
        )
        self.config = PlanConfig(
            (
                ScopeConfig(
                    "caseload",
                    {
                        self.child: TableConfig(
                            (LinkConfig(parent=self.root, on={self.join: self.key}),), where=f"{room} <> 'secret'"
                        )
                    },
                    root=self.root,
                    key=(self.key,),
                    grant=f"SELECT {join} FROM {self.grants_sql} WHERE {key} = :sub",
                ),
            )
        )

    def of(self, patient: str) -> dict[str, str]:
        """Which rows a nurse of that patient is to hold."""
        return {
            self.root: f"{self.key_sql} = '{patient}'",
            self.child: f"{self.join_sql} = '{patient}' AND {self.room_sql} <> 'secret'",
        }


class NamesContract(ContractFixtures):
    """A part of `SourceContract`."""

    @pytest.mark.parametrize("name", [*ODD_NAMES, LONG], ids=lambda name: repr(name)[1:30])
    def test_any_name_travels(self, make_company: Callable[..., Company], dialect: Dialect, name: str) -> None:
        """Tables, keys, join columns, filter columns, bucket keys and grants of that name."""
        odd = Odd(dialect, name[: dialect.name_characters_max - 8])
        company = make_company(odd.statements, odd.config)
        ann, ben = company.phone("ann"), company.phone("ben")
        company.agrees(ann, odd.of("ada"))
        company.execute(
            f"INSERT INTO {odd.child_sql} VALUES(3, 'x', 'ada', 'r3', 'c')",
            f"UPDATE {odd.child_sql} SET {odd.note_sql} = 'new' WHERE {odd.key_sql} = 1",
            f"UPDATE {odd.child_sql} SET {odd.key_sql} = 9 WHERE {odd.key_sql} = 3",
        )
        company.agrees(ann, odd.of("ada"))
        company.execute(f"UPDATE {odd.child_sql} SET {odd.join_sql} = 'bo' WHERE {odd.key_sql} = 1")
        company.agrees(ann, odd.of("ada"))
        company.agrees(ben, odd.of("bo"))
        company.execute(f"UPDATE {odd.child_sql} SET {odd.room_sql} = 'secret' WHERE {odd.key_sql} = 9")
        company.agrees(ann, odd.of("ada"))
        company.execute(f"INSERT INTO {odd.grants_sql} VALUES('ann', 'bo')")
        company.execute(f"DELETE FROM {odd.grants_sql} WHERE {odd.join_sql} = 'ada'")
        company.agrees(ann, odd.of("bo"))

        ann.execute(f"UPDATE {odd.child_sql} SET {odd.note_sql} = 'by Ann' WHERE {odd.key_sql} = 2")
        ann.execute(f"INSERT INTO {odd.child_sql} VALUES(7, 'x', 'bo', 'r7', 'd')")
        ann.execute(f"DELETE FROM {odd.child_sql} WHERE {odd.key_sql} = 1")
        company.agrees(ann, odd.of("bo"))
        company.agrees(ben, odd.of("bo"))
        assert not ann.rejections()
        assert company.lab.execute(
            f"SELECT {odd.key_sql}, {odd.note_sql} FROM {odd.child_sql} WHERE {odd.join_sql} = 'bo' ORDER BY 1"
        ) == [(2, "by Ann"), (7, "d")]

    def test_names_that_begin_alike_are_not_mixed_up(
        self, make_company: Callable[..., Company], dialect: Dialect
    ) -> None:
        """`a`, `a_1`, `a_1_1`, and tables named like our own things of a neighbour."""
        names = ("a", "a_1", "a_1_1", "1_a", "changelog_a", "replace1_a", "by_checkpoint", "meta")
        company = make_company(
            [f"CREATE TABLE {dialect.quote(name)}(id INTEGER PRIMARY KEY, v VARCHAR(20) UNIQUE)" for name in names],
            PlanConfig((ScopeConfig("all", {name: TableConfig() for name in names}),)),
        )
        ann = company.phone("ann")
        for number, name in enumerate(names):
            company.execute(f"INSERT INTO {dialect.quote(name)} VALUES({number}, '{name}')")
        company.agrees(ann, dict.fromkeys(names, "1 = 1"))
        ann.execute("UPDATE a_1 SET v = 'by Ann'")
        ann.sync()
        assert [company.rows(name) for name in ("a", "a_1", "a_1_1")] == [
            ["(0, 'a')"],
            ["(1, 'by Ann')"],
            ["(2, 'a_1_1')"],
        ]

"""How the tests speak to a kind of database: what it has, and the words for it."""

from __future__ import annotations

from dataclasses import dataclass

from syncline.model.identifiers import quote


@dataclass(frozen=True)
class Dialect:
    """How this database is spoken to. Tests of what it does not have are skipped; the flags say what that is."""

    name: str
    name_characters_max: int = 200
    has_replace: bool = False
    """INSERT OR REPLACE, UPDATE OR REPLACE: other rows vanish without a delete."""
    has_without_rowid: bool = False
    has_strict: bool = False
    has_typeless_columns: bool = False
    has_null_keys: bool = False
    """A primary key may hold NULL."""
    has_virtual_tables: bool = False
    has_attach: bool = False
    has_expression_indexes: bool = True
    has_generated_columns: bool = True
    has_virtual_columns: bool = True
    """Generated columns that are computed when they are read, and may be indexed."""
    has_update_from: bool = True
    has_returning: bool = True
    has_loose_types: bool = False
    """A column takes values that are not of its declared type."""
    has_text_that_is_not_utf8: bool = False
    enforces_foreign_keys: bool = False
    """Always, whatever the session says."""
    generated_key: str = "INTEGER PRIMARY KEY"
    """What is written behind the name of a key column that the database fills."""
    wide_integer: str = "INTEGER"
    """A column of 64 bits."""

    def quote(self, name: str) -> str:
        return quote(name)

    def own_table(self, name: str) -> str:
        """How a query names a table of ours, as "outcome"."""
        return f"syncline_{name}"

    def trigger(self, name: str, when: str, table: str, condition: str, action: str) -> tuple[str, ...]:
        """Statements that make a row trigger of the company's; `when`: as "BEFORE UPDATE OF status". `old` and `new`
        are the row; `condition` may be empty; `action` is a statement, or what `refusal` and the like gave."""
        when_true = f" WHEN {condition}" if condition else ""
        return (f"CREATE TRIGGER {name} {when} ON {table} FOR EACH ROW{when_true} BEGIN {action}; END",)

    def put(self, table: str, key: str, values: str, *others: str) -> str:
        """A statement that inserts a row of all columns, in the place of one with this key; `others`: the columns
        that are not of the key."""
        return f"INSERT OR REPLACE INTO {table} VALUES({values})"

    def rewriting(self, table: str, column: str, value: str) -> str:
        """The action of a trigger BEFORE UPDATE that writes another value into the row; its key is `id`."""
        return f"UPDATE {table} SET {column} = {value} WHERE id = old.id"

    def refusal(self, reason: str) -> str:
        """A trigger's action that refuses the write and says why."""
        return f"SELECT raise(ABORT, '{reason}')"

    def json_parsing(self, column: str) -> str:
        """A trigger's action that fails, in the database's own words, where the column is not JSON."""
        return f"SELECT json_extract({column}, '$.x')"

    def drop_own_trigger(self, operation: str, table: str) -> str:
        """A statement that drops our capture of a table's inserts, updates or deletes."""
        return f"DROP TRIGGER syncline_{operation}_{table}"

    def drop_referenced(self, table: str, child: str, column: str) -> tuple[str, ...]:
        """Statements that drop a table to which a child's foreign key refers, as a rebuild does."""
        return (f"DROP TABLE {table}",)

    def refer_again(self, table: str, child: str, column: str) -> tuple[str, ...]:
        """Statements that give the child its foreign key back where it had to go."""
        return ()

    def columns_of(self, table: str) -> str:
        """A query for the names of a table's columns in their order; it finds none where there is no such table."""
        return f"SELECT name FROM pragma_table_info('{table}') ORDER BY cid"

    def own_triggers(self) -> str:
        """A query for statements, each of which drops one trigger of ours."""
        return (
            "SELECT 'DROP TRIGGER \"' || name || '\"' FROM sqlite_schema "
            "WHERE type = 'trigger' AND name LIKE 'syncline%' ORDER BY name"
        )

    def differ(self, left: str, right: str) -> str:
        """Whether two values differ, NULL being a value like any other."""
        return f"{left} IS NOT {right}"


SQLITE = Dialect(
    "sqlite",
    has_replace=True,
    has_without_rowid=True,
    has_strict=True,
    has_typeless_columns=True,
    has_null_keys=True,
    has_virtual_tables=True,
    has_attach=True,
    has_loose_types=True,
    has_text_that_is_not_utf8=True,
)

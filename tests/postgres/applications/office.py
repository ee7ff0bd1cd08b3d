"""A company's PostgreSQL, a real server and real devices, each in a process of its own; compared by plain SQL.

The commands run as a person runs them, every edit is another program's, and what a device should hold is said by SELECTs
that a test writes by hand. PostgreSQL's side of each comparison goes through another driver.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from psycopg.types.string import TextLoader
from tests.acceptance.lab import SECRET as SECRET
from tests.acceptance.lab import Device, Lab, Rows, differences, tables_of
from tests.postgres.conftest import HostDatabase
from tests.postgres.ways import TEXTS, as_replica

BPCHAR = 1042
"""The type of char(n), whose blanks at the end mean nothing."""


@dataclass
class Office(Lab):
    """`execute` is another program's transaction in the database; `url_of_source` is what the configuration names."""

    database: HostDatabase = field(kw_only=True)

    def configure(self, scopes: str, source: Mapping[str, str] | None = None) -> None:
        """`source`: options of [source]; by default the database's own URL."""
        options = {"url": self.database.tcp_url, **(source or {})}
        lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in options.items())
        text = f'[source]\n{lines}\n\n[auth]\nsecret = "{SECRET}"\n\n{scopes}'
        (self.folder / "syncline.toml").write_text(text, encoding="utf-8")

    def write(self, *statements: str) -> list[int]:
        """One transaction of the company's; how many rows each statement concerned."""
        with self.database.connect() as session, session.transaction():
            return [session.execute(statement.encode()).rowcount for statement in statements]

    def ask(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        return self.select(query, parameters)[1]

    def select(self, query: str, parameters: Mapping[str, Any] | None = None) -> tuple[tuple[str, ...], list[Any]]:
        """Names and rows, values as a replica shows them."""
        with self.database.connect() as session:
            for name in TEXTS:
                session.adapters.register_loader(name, TextLoader)
            session.execute("SET timezone = 'UTC'")
            cursor = session.execute(query.encode(), parameters)
            described = cursor.description or ()
            blanked = [column.type_code == BPCHAR for column in described]
            return tuple(column.name for column in described), [
                tuple(
                    value.rstrip(" ") if blanks and value is not None else as_replica(value)
                    for value, blanks in zip(row, blanked, strict=True)
                )
                for row in cursor.fetchall()
            ]

    def schema_dump(self) -> list[str]:
        """pg_dump's, without what it draws by lot."""
        told = self.database.server.run("pg_dump", "--schema-only", self.database.url).stdout
        return [line for line in told.splitlines() if not line.startswith(("\\restrict", "\\unrestrict", "--"))]

    def load(self, script: Iterable[str]) -> None:
        self.database.execute("".join(script))

    def in_step(self, selects: Mapping[str, str], *devices: Device) -> None:
        """P1, P8, P16: each device holds exactly what the SELECTs give for its user, value for value."""
        for device in devices:
            found = self.differences(selects, device)
            assert not found, found

    def differences(self, selects: Mapping[str, str], device: Device) -> list[str]:
        found: list[str] = []
        if (tables := tables_of(device.path)) != sorted(selects):
            found.append(f"tables: {tables} instead of {sorted(selects)}")
        for table in selects.keys() & set(tables):
            names, rows = self.select(selects[table], {"sub": device.user})
            expected = Rows(names, Counter(map(typed, rows)))
            with closing(sqlite3.connect(device.path, timeout=30)) as db:
                cursor = db.execute(f'SELECT * FROM "{table}"')
                actual = Rows(tuple(c[0] for c in cursor.description), Counter(map(typed, cursor.fetchall())))
            found += [f"{table}: {line}" for line in differences(expected, actual)[:10]]
        return found


def typed(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """1 and 1.0 are not the same."""
    return tuple((type(value).__name__, value) for value in row)
